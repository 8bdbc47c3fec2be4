// Plans of src/loss/plan.ts to requests of native/core, and metrics back to JavaScript.
#pragma once

#include <napi.h>

#include "../core/config.hpp"

namespace groupgrad::binding {

// `device` below: the owner of device memory in which arrays may lie, or null.
struct AdvantageInputs {
  AdvantageRequest request;
  int64_t rewards = 0;
  int64_t groupSize = 0;             // 0: ragged groups
  bool onDevice = false;             // rewards and results
  const float* rewards32 = nullptr;  // on the device, instead of request.rewards
  const double* anchor = nullptr;    // on the device, instead of request.anchor
};
AdvantageInputs readAdvantage(const Napi::Object& plan, const Napi::Object& output, const void* device);

// A policy loss, whose advantages come from the caller or, `fused`, from rewards: then `advantage` is filled in and the
// policy request points at its output.
struct LossInputs {
  explicit LossInputs(const void* device) : device(device) {}

  const void* device;
  PolicyRequest policy;
  bool fused = false;
  AdvantageInputs advantage;
};
void readPolicy(const Napi::Object& plan, LossInputs& inputs);
// `inputs.policy` becomes the policy part of the request that is returned.
LogitsRequest readLogits(const Napi::Object& plan, LossInputs& inputs);

void writeMetrics(Napi::Object& out, const AdvantageRequest&, const AdvantageMetrics&);
void writeMetrics(Napi::Object& out, const PolicyRequest&, const LossMetrics&);

}  // namespace groupgrad::binding
