// The surrogates: a token's contribution to the loss, and its derivatives (docs/losses.md, "Surrogate").
//
// A surrogate is a struct with
//   name          as in src/loss/config.ts (surrogateFields), whose order of parameters its constructor follows;
//   kSequence     whether it needs a quantity summed over the sequence; then also
//                   contribution(s)   what a token adds to that sum
//                   finish(sum, n)    the quantity itself, from the sum and the number of tokens
//                   slope(s)          d contribution / d log-ratio of that token
//   kWeighted     whether the token's weight multiplies its term (else it enters through contribution());
//   kClip         which clip metrics it has;
//   term(s)       value and derivatives for one token;
//   clippedLow(s), clippedHigh(s)
// Formulas select rather than branch (?: over values, & and | over conditions), so that loops over them vectorise.
// To add one: write its struct, append it to Surrogates, and follow CONTRIBUTING.md.
#pragma once

#include <cmath>
#include <string_view>
#include <tuple>

#include "config.hpp"
#include "exp.hpp"
#include "platform.hpp"

namespace groupgrad {

// A surrogate's inputs for a token. Unused fields cost nothing: everything is inlined.
struct TokenState {
  float logProb;        // policy
  float tokenLogRatio;  // log-prob minus old log-prob of this token, clamped
  float ratio;          // as the configuration's `ratio` says
  float advantage;      // not 0
  float weight;         // sampler-mismatch weight
  float sequence;       // finish()'s quantity
};

// The value and its derivatives. A surrogate fills the one that its value depends on.
struct Term {
  float loss;
  float dLogRatio;  // with respect to the log of `ratio`
  float dLogProb;   // with respect to logProb itself
  float dSequence;  // with respect to the mean contribution, sum / n
};

enum class ClipMetric : int32_t { none, region, upper };

struct SurrogateBase {
  static constexpr bool kSequence = false;
  static constexpr bool kWeighted = true;
  static constexpr ClipMetric kClip = ClipMetric::none;
  GROUPGRAD_INLINE static float contribution(const TokenState&) { return 0; }
  GROUPGRAD_INLINE static float slope(const TokenState&) { return 0; }
  GROUPGRAD_INLINE static double finish(double, double) { return 0; }
  GROUPGRAD_INLINE static bool clippedLow(const TokenState&) { return false; }
  GROUPGRAD_INLINE static bool clippedHigh(const TokenState&) { return false; }
};

// PPO's clip, arXiv 1707.06347 eq. 7: -min(min(rho, max) A, clip(rho, 1 - low, 1 + high) A), at most -dual A for A < 0
// (arXiv 1912.09729 eq. 5).
struct Clip : SurrogateBase {
  static constexpr std::string_view name = "clip";
  static constexpr ClipMetric kClip = ClipMetric::region;
  float low, high, max, dual;
  GROUPGRAD_INLINE explicit Clip(const double* p)
      : low(float(1 - p[0])), high(float(1 + p[1])), max(float(p[2])), dual(float(p[3])) {}

  GROUPGRAD_INLINE Term term(const TokenState& s) const {
    const float A = s.advantage;
    const float free = clampAbove(s.ratio, max) * A;
    const float clipped = clamp(s.ratio, low, high) * A;
    const float chosen = clipped < free ? clipped : free;
    const float dualBound = dual * A;
    const float bound = A < 0 ? dualBound : -kInfinity;
    const bool bounded = chosen < bound;
    // The gradient is that of the chosen branch; a tie has both branches inside the range or both flat. A flat
    // branch is 0 by selection, never by multiplication: rho may be inf. NaN compares false, so it is never flat.
    const float slope = -s.ratio * A;
    const float slopeFree = s.ratio > max ? 0.0f : slope;
    const float slopeBelow = s.ratio < low ? 0.0f : slope;
    const float slopeClipped = s.ratio > high ? 0.0f : slopeBelow;
    const float slopeChosen = clipped < free ? slopeClipped : slopeFree;
    return {bounded ? -bound : -chosen, bounded ? 0.0f : slopeChosen, 0, 0};
  }
  GROUPGRAD_INLINE bool clippedLow(const TokenState& s) const {
    return (clampAbove(s.ratio, max) < low) & (s.advantage < 0);
  }
  GROUPGRAD_INLINE bool clippedHigh(const TokenState& s) const {
    return (clampAbove(s.ratio, max) > high) & (s.advantage > 0);
  }
};

// CISPO, arXiv 2506.13585 eq. 4: -sg(clip(rho, 1 - low, high)) A l.
struct Cispo : SurrogateBase {
  static constexpr std::string_view name = "cispo";
  static constexpr ClipMetric kClip = ClipMetric::upper;
  float high, low;
  GROUPGRAD_INLINE explicit Cispo(const double* p) : high(float(p[0])), low(float(1 - p[1])) {}

  GROUPGRAD_INLINE Term term(const TokenState& s) const {
    const float slope = -clamp(s.ratio, low, high) * s.advantage;
    return {slope * s.logProb, 0, slope, 0};
  }
  GROUPGRAD_INLINE bool clippedHigh(const TokenState& s) const { return (s.ratio > high) & (s.advantage > 0); }
};

// SAPO, arXiv 2511.20347: -(4 / tau) sigmoid(tau (rho - 1)) A.
struct Sapo : SurrogateBase {
  static constexpr std::string_view name = "sapo";
  float tauPositive, tauNegative;
  GROUPGRAD_INLINE explicit Sapo(const double* p) : tauPositive(float(p[0])), tauNegative(float(p[1])) {}

  GROUPGRAD_INLINE Term term(const TokenState& s) const {
    const float tau = s.advantage > 0 ? tauPositive : tauNegative;
    const float x = tau * (s.ratio - 1);
    const float e = expOf(-__builtin_fabsf(x));  // <= 1: no overflow on either side
    const float near = 1 / (1 + e), far = e / (1 + e);
    const float gate = x < 0 ? far : near;
    const float gateSlope = near * far;  // sigmoid' = sigmoid (1 - sigmoid)
    // At rho = inf the slope is 0 and the product 0 * inf; the limit is 0.
    const float dLogRatio = e == 0 ? 0.0f : -4 * gateSlope * s.ratio * s.advantage;
    return {-4 / tau * gate * s.advantage, dLogRatio, 0, 0};
  }
};

// GMPO, arXiv 2507.20673 eq. 4: -A exp(mean of c), c the log-ratio clipped to [-low, high] on the side that A
// pushes towards.
struct Gmpo : SurrogateBase {
  static constexpr std::string_view name = "gmpo";
  static constexpr bool kSequence = true;
  static constexpr ClipMetric kClip = ClipMetric::region;
  float low, high;
  GROUPGRAD_INLINE explicit Gmpo(const double* p) : low(float(-p[0])), high(float(p[1])) {}

  GROUPGRAD_INLINE float contribution(const TokenState& s) const {
    const float d = s.tokenLogRatio;
    const float clipped = s.advantage > 0 ? clampAbove(d, high) : clampBelow(d, low);
    return s.advantage == 0 ? 0.0f : clipped;
  }
  GROUPGRAD_INLINE float slope(const TokenState& s) const {
    const bool flat = int(clippedLow(s)) | int(clippedHigh(s)) | int(s.advantage == 0);
    return flat ? 0.0f : 1.0f;
  }
  GROUPGRAD_INLINE static double finish(double sum, double tokens) { return std::exp(sum / tokens); }

  GROUPGRAD_INLINE Term term(const TokenState& s) const {
    const float value = -s.advantage * s.sequence;
    return {value, 0, 0, value};
  }
  GROUPGRAD_INLINE bool clippedLow(const TokenState& s) const { return (s.tokenLogRatio < low) & (s.advantage < 0); }
  GROUPGRAD_INLINE bool clippedHigh(const TokenState& s) const { return (s.tokenLogRatio > high) & (s.advantage > 0); }
};

// VESPO, arXiv 2602.10693: -sg(phi) A l with phi = exp(lambda + k log v - lambda v), v the sequence's importance
// weight.
struct Vespo : SurrogateBase {
  static constexpr std::string_view name = "vespo";
  static constexpr bool kSequence = true;
  static constexpr bool kWeighted = false;
  static constexpr float kLogLow = -18.420680743952367f;  // log 1e-8
  static constexpr float kLogHigh = 20.0f;
  float kPositive, lambdaPositive, kNegative, lambdaNegative;
  GROUPGRAD_INLINE explicit Vespo(const double* p)
      : kPositive(float(p[0])), lambdaPositive(float(p[1])), kNegative(float(p[2])), lambdaNegative(float(p[3])) {}

  GROUPGRAD_INLINE float contribution(const TokenState& s) const {
    const float logWeight = s.weight == 1 ? 0.0f : std::log(s.weight);
    return clamp(s.tokenLogRatio, -20.0f, 20.0f) + clamp(logWeight, kLogLow, kLogHigh);
  }
  GROUPGRAD_INLINE static double finish(double sum, double) {
    return sum < double(kLogLow) ? double(kLogLow) : (sum > double(kLogHigh) ? double(kLogHigh) : sum);
  }
  // The weight phi of a token with this advantage, from log v.
  GROUPGRAD_INLINE float phi(float advantage, float logV) const {
    const float k = advantage >= 0 ? kPositive : kNegative;
    const float lambda = advantage >= 0 ? lambdaPositive : lambdaNegative;
    return expOf(k * logV + lambda * (1 - expOf(logV)));
  }
  GROUPGRAD_INLINE Term term(const TokenState& s) const {
    const float slope = -phi(s.advantage, s.sequence) * s.advantage;
    return {slope * s.logProb, 0, slope, 0};
  }
};

// REINFORCE (Williams 1992): -A l.
struct Reinforce : SurrogateBase {
  static constexpr std::string_view name = "reinforce";
  GROUPGRAD_INLINE explicit Reinforce(const double*) {}
  GROUPGRAD_INLINE Term term(const TokenState& s) const { return {-s.advantage * s.logProb, 0, -s.advantage, 0}; }
};

using Surrogates = std::tuple<Clip, Cispo, Sapo, Gmpo, Vespo, Reinforce>;

// The index of a surrogate by name, or -1.
template <std::size_t I = 0>
GROUPGRAD_INLINE int32_t surrogateIndex(std::string_view name) {
  if constexpr (I == std::tuple_size_v<Surrogates>) {
    return -1;
  } else {
    return name == std::tuple_element_t<I, Surrogates>::name ? int32_t(I) : surrogateIndex<I + 1>(name);
  }
}

// Calls `f` with the surrogate that a configuration names.
template <std::size_t I = 0, class F>
GROUPGRAD_INLINE void withSurrogate(const LossConfig& config, F&& f) {
  if constexpr (I < std::tuple_size_v<Surrogates>) {
    if (config.surrogate == int32_t(I)) {
      f(std::tuple_element_t<I, Surrogates>(config.surrogateParameters));
    } else {
      withSurrogate<I + 1>(config, f);
    }
  }
}

}  // namespace groupgrad
