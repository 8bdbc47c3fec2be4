// What a row's gradient depends on, which determines the order in which a device visits rows and computes the
// policy loss. Devices that disagreed here would give different results.
#pragma once

#include <type_traits>

#include "config.hpp"
#include "kl.hpp"
#include "surrogate.hpp"

namespace groupgrad {

inline bool surrogateNeedsSequence(const LossConfig& config) {
  bool needs = false;
  withSurrogate(config, [&](const auto& s) { needs = std::decay_t<decltype(s)>::kSequence; });
  return needs;
}

// Whether a quantity of the whole sequence enters each token's term.
inline bool needsSequence(const LossConfig& config) {
  return config.ratio != Ratio::token || surrogateNeedsSequence(config);
}

// Whether tokens may be dropped because of their whole sequence.
GROUPGRAD_INLINE bool dropsOffPolicy(const LossConfig& config) { return config.offPolicyThreshold < double(kInfinity); }

// Whether a token's term is independent of its sequence.
inline bool isTokenLocal(const LossConfig& config) { return !needsSequence(config) && !dropsOffPolicy(config); }

// Whether a row's gradient depends only on the row and on what is known of its sequence beforehand; then one visit
// of the row is enough.
inline bool isRowLocal(const LogitsRequest& r) {
  const LossConfig& config = r.policy.config;
  const bool quantile = config.topQuantile < 1;
  // Without old log-probs every ratio is 1.
  const bool knownSequences = !r.policy.oldLogProbs && !klSharesRatio(config) && !quantile;
  const bool knownBatch =
      config.entropyThreshold == config.entropyThreshold && config.entropyTokens == config.entropyTokens;
  return (isTokenLocal(config) || knownSequences) && (!quantile || knownBatch);
}

// Whether rows without an advantage may be skipped: without metrics they are not needed.
inline bool skipsInactive(const LogitsRequest& r) {
  const LossConfig& config = r.policy.config;
  return !r.policy.metrics && config.klBeta == 0 && config.entropyCoefficient == 0 && config.topQuantile == 1 &&
         (!r.policy.advantagesPerToken || isTokenLocal(config));
}

}  // namespace groupgrad
