// One token's part of the loss, composed of the formulas of native/core.
#pragma once

#include <type_traits>

#include "../core/aggregation.hpp"
#include "../core/kl.hpp"
#include "../core/surrogate.hpp"
#include "primitives.cuh"

namespace groupgrad::cuda {

// A sequence's state before its tokens' gradients are computed.
struct SequenceState {
  float factor = 0;        // of each token's loss
  float fromRatio = 0;     // what each token's gradient gets through the sequence's ratio
  float fromSequence = 0;  // and, times its slope, through the surrogate's quantity
  float logRatio = 0;      // of the sequence, clamped
  float ratio = 1;
  float sequence = 0;      // the surrogate's sequence quantity
  float advantage = 0;     // unless advantages are per token
  int32_t tokens = 0;      // masked in
  bool ratioFlat = false;  // the clamp holds: no gradient through the ratio
  bool offPolicy = false;  // tokens with A < 0 are dropped
};

struct TokenInput {
  float old;        // unless there are no old log-probs
  float reference;  // if there is a KL term
  float advantage;
  float weight;
};

// A masked-in token. `state.advantage` is set unless advantages are per token.
__device__ inline TokenInput readToken(const PolicyRequest& r, int64_t at, const SequenceState& state) {
  TokenInput t;
  t.old = r.oldLogProbs ? r.oldLogProbs[at] : 0;
  t.reference = r.config.klBeta != 0 ? r.refLogProbs[at] : 0;
  t.advantage = r.advantagesPerToken ? r.advantages[at] : state.advantage;
  t.weight = r.tokenWeights ? r.tokenWeights[at] : 1;
  return t;
}

// Number of non-finite values among the token's own inputs.
__device__ inline int nonFiniteOf(const PolicyRequest& r, const TokenInput& t, float logProb) {
  return int(!isFinite(logProb)) + int(!isFinite(t.old)) + int(!isFinite(t.reference)) +
         int(r.advantagesPerToken && !isFinite(t.advantage)) + int(!isFinite(t.weight));
}

struct LogRatio {
  float raw, clamped;
  // Not for NaN.
  __device__ bool isClamped() const { return clamped < raw || clamped > raw; }
};

// Without old log-probs they are the log-probs themselves: 0, or NaN if the log-prob is not finite.
__device__ inline LogRatio logRatioOf(const PolicyRequest& r, const TokenInput& t, float logProb) {
  const float raw = r.oldLogProbs ? logProb - t.old : logProb - logProb;
  const float bound = float(r.config.logRatioClamp);
  return {raw, clamp(raw, -bound, bound)};
}

struct TokenTerms {
  float ratio = 1;
  float loss = 0;  // before the aggregation's factor
  float kl = 0;
  float gradient = 0;   // with respect to the log-prob, but for what flows through the sequence's quantities
  float dLogRatio = 0;  // with respect to the sequence's log-ratio
  float dSequence = 0;  // with respect to the surrogate's mean contribution
  float phi = 0;        // vespo
  bool clippedLow = false, clippedHigh = false;
};

// Adds the KL term. kTokenLocal: see termsOf.
template <KlEstimator estimator, bool kTokenLocal>
__device__ inline void addKl(const PolicyRequest& r, const SequenceState& state, const TokenInput& t, float logProb,
                             const LogRatio& logRatio, TokenTerms& terms) {
  const LossConfig& config = r.config;
  const bool weighted = config.klImportanceWeighted, token = kTokenLocal || config.ratio == Ratio::token;
  const float d = t.reference - logProb, bound = float(config.klLogRatioClamp), c = clamp(d, -bound, bound);
  const bool cut = c < d || c > d;
  // If no gradient flows through the ratio, because it is not the token's own or its clamp is active.
  const bool flat = !weighted || (token ? logRatio.isClamped() : state.ratioFlat);
  float exponential = 0;
  if constexpr (estimator == KlEstimator::k3) {
    const float s = weighted ? (token ? logRatio.clamped : state.logRatio) : 0;
    // l_ref - l_old is more accurate than the sum of two rounded differences.
    const bool direct = weighted && token && r.oldLogProbs && !flat && !cut;
    exponential = expOf(direct ? t.reference - t.old : s + c);
  }
  const KlTerm term = klTerm<estimator, true>(d, c, weighted ? terms.ratio : 1, exponential);
  const float beta = float(config.klBeta);
  terms.kl = term.value;
  terms.loss += beta * term.value;
  if (kTokenLocal || !spreadsKl(config, state)) terms.gradient += beta * (flat ? term.own : term.total);
}

// For a token of a configuration with spreadsKl().
__device__ inline KlParts klPartsOf(const LossConfig& config, const SequenceState& state, const TokenInput& t,
                                    float logProb) {
  KlParts parts{};
  withEstimator(config, [&](auto estimator) {
    parts = klParts<decltype(estimator)::value>(double(t.reference) - double(logProb), float(config.klLogRatioClamp),
                                                state.logRatio, klRatio(state.logRatio));
  });
  return parts;
}

// Whether a token's part of the loss and its derivatives are finite.
__device__ inline bool areFinite(const TokenTerms& t) {
  return isFinite(t.loss) && isFinite(t.gradient) && isFinite(t.dLogRatio) && isFinite(t.dSequence);
}

// What a token adds to the surrogate's sum over its sequence.
__device__ inline float contributionOf(const PolicyRequest& r, const TokenInput& t, float logProb) {
  float contribution = 0;
  withSurrogate(r.config, [&](const auto& surrogate) {
    contribution = surrogate.contribution({logProb, logRatioOf(r, t, logProb).clamped, 1, t.advantage, t.weight, 0});
  });
  return contribution;
}

// The surrogate's sequence quantity.
__device__ inline float sequenceQuantity(const LossConfig& config, double contributions, double tokens) {
  float quantity = 0;
  withSurrogate(config, [&](const auto& surrogate) { quantity = float(surrogate.finish(contributions, tokens)); });
  return quantity;
}

// `kept`: whether the entropy quantile keeps the token. kTokenLocal: it is known that isTokenLocal().
template <bool kTokenLocal = false>
__device__ inline TokenTerms termsOf(const PolicyRequest& r, const SequenceState& state, const TokenInput& t,
                                     float logProb, bool kept) {
  const LossConfig& config = r.config;
  const LogRatio logRatio = logRatioOf(r, t, logProb);
  const bool tokenRatio = kTokenLocal || config.ratio == Ratio::token;
  TokenTerms terms;
  terms.ratio = tokenRatio ? expOf(logRatio.clamped) : state.ratio;
  float dLogRatio = 0;
  withSurrogate(config, [&](const auto& surrogate) {
    using Surrogate = std::decay_t<decltype(surrogate)>;
    if constexpr (kTokenLocal && Surrogate::kSequence) return;
    const TokenState token{logProb, logRatio.clamped, terms.ratio, t.advantage, t.weight, state.sequence};
    if constexpr (Surrogate::kClip != ClipMetric::none) {
      terms.clippedLow = surrogate.clippedLow(token);
      terms.clippedHigh = surrogate.clippedHigh(token);
    }
    if constexpr (std::is_same_v<Surrogate, Vespo>) terms.phi = surrogate.phi(t.advantage, state.sequence);
    const bool none = t.advantage == 0 || (!kTokenLocal && state.offPolicy && t.advantage < 0) ||
                      (Surrogate::kWeighted && t.weight == 0) || !kept;
    if (none) return;
    const Term term = surrogate.term(token);
    const float weight = Surrogate::kWeighted ? t.weight : 1;
    terms.loss = weight * term.loss;
    terms.gradient = weight * term.dLogProb;
    dLogRatio = weight * term.dLogRatio;
    if constexpr (Surrogate::kSequence) terms.dSequence = weight * term.dSequence;
  });
  if (config.klBeta != 0) {
    withEstimator(config, [&](auto estimator) {
      addKl<decltype(estimator)::value, kTokenLocal>(r, state, t, logProb, logRatio, terms);
    });
  }
  // Where the clamp of the log-ratio is active, no gradient flows through the ratio.
  const bool flat = tokenRatio ? logRatio.isClamped() : state.ratioFlat;
  if (!flat) (!kTokenLocal && config.ratio == Ratio::sequence ? terms.dLogRatio : terms.gradient) += dLogRatio;
  return terms;
}

// The gradient that reaches a token through its sequence's quantities, factor included.
__device__ inline float sequenceFlow(const PolicyRequest& r, const SequenceState& state, const TokenInput& t,
                                     float logProb) {
  const LogRatio logRatio = logRatioOf(r, t, logProb);
  float slope = 0;
  withSurrogate(r.config, [&](const auto& surrogate) {
    slope = surrogate.slope({logProb, logRatio.clamped, 1, t.advantage, t.weight, state.sequence});
  });
  return slope == 0 || logRatio.isClamped() ? state.fromRatio : state.fromRatio + state.fromSequence * slope;
}

}  // namespace groupgrad::cuda
