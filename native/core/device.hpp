// The functions that a device implements. No exception crosses them.
#pragma once

#include "config.hpp"

namespace groupgrad {

enum class StatusCode : int32_t { ok, outOfMemory };

struct Status {
  StatusCode code = StatusCode::ok;
  const char* message = "";  // static storage
};

// `state` is what the device keeps between calls (threads, scratch memory); one an environment.
struct Device {
  void* state = nullptr;
  Status (*advantages)(void* state, const AdvantageRequest&, AdvantageMetrics&) = nullptr;
  Status (*policyLoss)(void* state, const PolicyRequest&, LossMetrics&) = nullptr;
  Status (*logitsLoss)(void* state, const LogitsRequest&, LossMetrics&) = nullptr;
};

}  // namespace groupgrad
