// Schulman's estimators of KL(policy || reference), http://joschu.net/blog/kl-approx.html.
#pragma once

#include "exp.hpp"

namespace groupgrad {

struct KlTerm {
  float value;
  float dLogProb;
};

// exp(d) - d - 1 without the cancellation near 0: there its Taylor series, d^2 (1/2 + d/6 + ...).
// For |d| < 0.5 the first omitted term is d^10 / 10!, under 1e-9 of the sum.
GROUPGRAD_INLINE float expMinusLinear(float d, float exponential) {
  float series = d * (1.0f / 362880) + 1.0f / 40320;
  series = series * d + 1.0f / 5040;
  series = series * d + 1.0f / 720;
  series = series * d + 1.0f / 120;
  series = series * d + 1.0f / 24;
  series = series * d + 1.0f / 6;
  series = series * d + 1.0f / 2;
  return __builtin_fabsf(d) < 0.5f ? d * d * series : exponential - d - 1;
}

// The estimate of one token from the log-ratio l - l_ref. `exponential` is exp(l_ref - l), which k3 alone needs; it is
// the caller's, so that a loop over tokens computes it in a loop of its own.
template <KlEstimator estimator>
GROUPGRAD_INLINE KlTerm klTerm(float logRatio, float exponential) {
  if constexpr (estimator == KlEstimator::k1) {
    return {logRatio, 1};
  } else if constexpr (estimator == KlEstimator::k2) {
    return {0.5f * logRatio * logRatio, logRatio};
  } else {
    // The derivative 1 - exp(d) with d = l_ref - l is -(k3 + d), which keeps its precision near 0.
    const float value = expMinusLinear(-logRatio, exponential);
    return {value, logRatio - value};
  }
}

}  // namespace groupgrad
