// Converts plans of src/devices/plan.ts to requests of native/core, and metrics back to JavaScript.
#pragma once

#include <napi.h>

#include "../core/config.hpp"
#include "../tensorflow/packing.hpp"

namespace groupgrad::binding {

// `device` below: the owner of device memory that may hold arrays, or null.
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
LogitsBackwardRequest readLogitsBackward(const Napi::Object& plan, const void* device);

// The same without the tensors, which TensorFlow holds.
tensorflow::Call readAdvantageCall(const Napi::Object& plan);
tensorflow::Call readPolicyCall(const Napi::Object& plan);
tensorflow::Call readLogitsCall(const Napi::Object& plan);

// The destinations of advantages, for given numbers of rewards and groups.
AdvantageRequest readOutput(const Napi::Object& output, int64_t rewards, int64_t groups);

// { accuracy, metrics }.
Napi::Object advantageResult(Napi::Env, const AdvantageRequest&, const AdvantageMetrics&);
// { metrics } of a call that computes no loss.
Napi::Object backwardResult(Napi::Env, double nonFinite);
// { loss, metrics }, and `accuracy` if there is a request for fused advantages. `entropy`: from logits.
Napi::Object lossResult(Napi::Env, const PolicyRequest&, LossMetrics, const AdvantageRequest* advantage,
                        const AdvantageMetrics&, bool entropy);

}  // namespace groupgrad::binding
