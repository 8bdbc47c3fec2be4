// Plans of src/loss/plan.ts to requests of native/core, and metrics back to JavaScript.
#pragma once

#include <napi.h>

#include "../core/config.hpp"

namespace groupgrad::binding {

AdvantageRequest readAdvantage(const Napi::Object& plan, const Napi::Object& output);

// All of a PolicyRequest but log-probs and their gradient. Where advantages come from rewards, `advantage` is filled in
// and the request points at its output.
struct TokenInputs {
  PolicyRequest policy;
  bool fused = false;
  AdvantageRequest advantage;
};
TokenInputs readTokens(const Napi::Object& plan);
TokenInputs readPolicy(const Napi::Object& plan);
// A LogitsRequest; its policy part is in `tokens`.
LogitsRequest readLogits(const Napi::Object& plan, TokenInputs& tokens);

void writeMetrics(Napi::Object& out, const AdvantageRequest&, const AdvantageMetrics&);
void writeMetrics(Napi::Object& out, const PolicyRequest&, const LossMetrics&);

}  // namespace groupgrad::binding
