// Plans of src/loss/plan.ts to requests of native/core, and metrics back to JavaScript.
#pragma once

#include <napi.h>

#include "../core/config.hpp"

namespace groupgrad::binding {

AdvantageRequest readAdvantage(const Napi::Object& plan, const Napi::Object& output);

// A policy loss, whose advantages come from the caller or, `fused`, from rewards: then `advantage` is filled in and the
// policy request points at its output.
struct LossInputs {
  PolicyRequest policy;
  bool fused = false;
  AdvantageRequest advantage;
};
void readPolicy(const Napi::Object& plan, LossInputs& inputs);
// `inputs.policy` becomes the policy part of the request that is returned.
LogitsRequest readLogits(const Napi::Object& plan, LossInputs& inputs);

void writeMetrics(Napi::Object& out, const AdvantageRequest&, const AdvantageMetrics&);
void writeMetrics(Napi::Object& out, const PolicyRequest&, const LossMetrics&);

}  // namespace groupgrad::binding
