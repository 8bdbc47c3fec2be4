// The functions that a device implements. No exception crosses them.
#pragma once

#include <cstdio>

#include "config.hpp"

namespace groupgrad {

enum class StatusCode : int32_t { ok, outOfMemory, failed };

struct Status {
  StatusCode code = StatusCode::ok;
  char message[256] = "";  // here, because memory may be what is missing

  bool ok() const { return code == StatusCode::ok; }
  template <class... Arguments>
  static Status make(StatusCode code, const char* format, Arguments... arguments) {
    Status status{code};
    std::snprintf(status.message, sizeof status.message, format, arguments...);
    return status;
  }
};

// `state` is what the device keeps between calls (threads, scratch memory), per environment.
struct Device {
  void* state = nullptr;
  Status (*advantages)(void* state, const AdvantageRequest&, AdvantageMetrics&) = nullptr;
  Status (*policyLoss)(void* state, const PolicyRequest&, LossMetrics&) = nullptr;
  Status (*logitsLoss)(void* state, const LogitsRequest&, LossMetrics&) = nullptr;
  // nonFinite: non-finite inputs, and values that overflowed.
  Status (*logitsBackward)(void* state, const LogitsBackwardRequest&, double& nonFinite) = nullptr;
};

}  // namespace groupgrad
