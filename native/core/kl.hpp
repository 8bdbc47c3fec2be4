// Schulman's estimators of KL(policy || reference), http://joschu.net/blog/kl-approx.html, times the importance
// ratio if they are importance-weighted (docs/losses.md, "KL term").
//
// With d = l_ref - l, clamped to c = clamp(d, -bound, bound), and a ratio rho = e^s, which is 1 without importance
// weights:
//
//        value                      own                total
//   k1   -rho c                     rho                rho (1 - d)
//   k2   rho c^2 / 2                -rho d             rho d (d - 2) / 2
//   k3   e^(s + c) - rho (c + 1)    rho - e^(s + d)    -rho d
//
// `own` is the derivative with respect to l with rho held fixed. `total` = own + value is the derivative if rho
// depends only on this l: the terms that would cancel in own + value are left out. Where the clamp is active, own
// is 0 and total is the value. k3 cancels near 0 as well: for |c| < 1 the value is rho (e^c - c - 1) and own -rho
// (e^c - 1), from a polynomial.
#pragma once

#include <cmath>
#include <type_traits>

#include "config.hpp"
#include "exp.hpp"

namespace groupgrad {

struct KlTerm {
  float value, own, total;
};

// e^x - x - 1 for |x| <= 1: x^2 times a minimax polynomial of degree 7 (relative error 1.0e-8 with these coefficients).
GROUPGRAD_INLINE float expRemainder(float x) {
  float p = x * 2.77228332379309e-06f + 2.535482963139657e-05f;
  p = p * x + 0.0001984402333619073f;
  p = p * x + 0.001388545148074627f;
  p = p * x + 0.00833331048488617f;
  p = p * x + 0.04166673496365547f;
  p = p * x + 0.1666666716337204f;
  p = p * x + 0.5f;
  return x * x * p;
}

// ratio x, and 0 where x is 0 although the ratio has overflowed.
GROUPGRAD_INLINE float timesRatio(float ratio, float x) { return x * (x == 0 ? clampAbove(ratio, kFloatMax) : ratio); }

// For one token; `c` is the clamped d. Without importance weights ratio is 1 and `own` the derivative.
// `exponential`, which only k3 needs, is e^(s + c). The caller supplies it, so that it can be computed in a
// separate loop over tokens, and because s + c is more accurate there: if no clamp is active it is l_ref - l_old.
template <KlEstimator estimator, bool weighted>
GROUPGRAD_INLINE KlTerm klTerm(float d, float c, float ratio, float exponential) {
  KlTerm term;
  if constexpr (estimator == KlEstimator::k1) {
    term = {timesRatio(ratio, -c), ratio, timesRatio(ratio, 1 - d)};
  } else if constexpr (estimator == KlEstimator::k2) {
    term = {timesRatio(ratio, 0.5f * c * c), timesRatio(ratio, -d), timesRatio(ratio, 0.5f * d * (d - 2))};
  } else {
    const bool near = __builtin_fabsf(c) < 1;
    const float remainder = expRemainder(c);
    float far = exponential - timesRatio(ratio, c + 1), farOwn = ratio - exponential;
    if constexpr (weighted) {
      // If the larger term has overflowed it is the result: inf - inf would be NaN.
      const bool overflow = exponential > kFloatMax;
      const float larger = c > 0 ? -exponential : ratio;
      far = overflow ? exponential : far;
      farOwn = overflow ? larger : farOwn;
    }
    const float nonzero = c == 0 ? clampAbove(ratio, kFloatMax) : ratio;
    term.value = near ? nonzero * remainder : far;
    term.own = near ? -nonzero * (c + remainder) : farOwn;
    term.total = -nonzero * d;
  }
  const bool cut = (c < d) | (c > d);
  term.own = cut ? 0.0f : term.own;
  term.total = cut ? term.value : term.total;
  return term;
}

// The same in float64, for rho that n tokens of a sequence share: the derivative with respect to one token's l is own +
// the mean of all values. The exponentials of k3 may be far larger than their differences, so value = exponential +
// rest, and with any token's exponential as `shift` the derivative is (mean of (exponential - shift) + (shift +
// own)) + mean of rest, exact where all exponentials are equal.
struct KlParts {
  double exponential, rest, own;
};

// Over a sequence's tokens: means of (exponential - shift) and of rest.
struct KlMeans {
  double exponential = 0, rest = 0, shift = 0;

  // The derivative with respect to one token's l.
  GROUPGRAD_INLINE double total(double own) const { return (exponential + (shift + own)) + rest; }
};

// The sequence's ratio e^s. Finite, so that 0 times it is 0.
GROUPGRAD_INLINE double klRatio(double s) { return scaledExp(s).exp(); }

template <KlEstimator estimator>
GROUPGRAD_INLINE KlParts klParts(double d, double bound, double s, double ratio) {
  const double c = d < -bound ? -bound : d > bound ? bound : d;
  KlParts parts{0, -ratio * c, ratio};
  if constexpr (estimator == KlEstimator::k2) {
    parts.rest = ratio * c * c * 0.5;
    parts.own = -ratio * d;
  } else if constexpr (estimator == KlEstimator::k3) {
    // rho (e^c - 1): one form cancels near 0, the other overflows before the product does.
    const bool small = c < 1;
    const ScaledExp e = scaledExp(small ? c : s + c);
    const double product = ratio * e.minusOne(), difference = e.exp() - ratio;
    parts.exponential = small ? product : difference;
    parts.own = -parts.exponential;
  }
  parts.own = (c < d) | (c > d) ? 0.0 : parts.own;
  return parts;
}

// fn(std::integral_constant of the configuration's estimator).
template <class F>
GROUPGRAD_INLINE void withEstimator(const LossConfig& config, F&& fn) {
  switch (config.klEstimator) {
    case KlEstimator::k1: return fn(std::integral_constant<KlEstimator, KlEstimator::k1>());
    case KlEstimator::k2: return fn(std::integral_constant<KlEstimator, KlEstimator::k2>());
    case KlEstimator::k3: break;
  }
  fn(std::integral_constant<KlEstimator, KlEstimator::k3>());
}

// Whether the KL term's gradient flows through a ratio that the whole sequence shares.
GROUPGRAD_INLINE bool klSharesRatio(const LossConfig& config) {
  return config.klBeta != 0 && config.klImportanceWeighted && config.ratio == Ratio::sequence;
}

// The same for one sequence: nothing flows through a ratio that is clamped.
template <class Sequence>
GROUPGRAD_INLINE bool spreadsKl(const LossConfig& config, const Sequence& state) {
  return klSharesRatio(config) && !state.ratioFlat;
}

}  // namespace groupgrad
