// Group-relative advantages, and HA-DW's or DGPO's weights (docs/losses.md, "Advantages"). Float64: there are few
// rewards.
#pragma once

#include <cmath>

#include "config.hpp"
#include "platform.hpp"

namespace groupgrad {

// Rewards that are equal up to rounding have no spread. A weighted sum of K rewards in floating point, with half a
// unit in the last place u, is off by at most K u times the sum of its terms' sizes, so two such sums of equal
// value differ by at most 2 K u times that: here K = 64 in float64 (u = 2^-53) and K = 4 in float32 (u = 2^-24),
// for rewards given in float32. The same rule as in src/base/spread.ts.
constexpr double kFloat64Rounding = 0x1p-46;
constexpr double kFloat32Rounding = 0x1p-21;

// Sums over rewards with a verdict (not NaN). Sums over parts can be merged.
struct RewardSums {
  int64_t count = 0;
  double sum = 0;
  double low = INFINITY, high = -INFINITY;

  GROUPGRAD_INLINE void add(double reward) {
    if (reward != reward) return;
    ++count;
    sum += reward;
    low = reward < low ? reward : low;
    high = reward > high ? reward : high;
  }
  GROUPGRAD_INLINE void merge(const RewardSums& other) {
    count += other.count;
    sum += other.sum;
    low = other.low < low ? other.low : low;
    high = other.high > high ? other.high : high;
  }
};

struct GroupStatistics {
  int64_t count = 0;    // rewards with a verdict
  bool spread = false;  // whether they differ by more than rounding
  double mean = NAN;    // NaN without a verdict
  double unit = 1;      // of deviations from the mean: a power of two near the largest, so that squares are in range
  double std = 0;       // standard deviation; exactly 0 without spread
  double mad = 0;       // mean absolute deviation from the mean; exactly 0 without spread
};

// The largest power of two that is at most x, within the range of normal numbers; x is above 0.
GROUPGRAD_INLINE double powerOfTwo(double x) {
  const double power = __builtin_bit_cast(double, __builtin_bit_cast(uint64_t, x) & 0x7ff0000000000000u);
  return power < 0x1p-1022 ? 0x1p-1022 : power;
}

// All but the deviations, which need another pass.
GROUPGRAD_INLINE GroupStatistics groupStatistics(const RewardSums& sums, double rounding) {
  GroupStatistics s;
  s.count = sums.count;
  if (sums.count == 0) return s;
  const double largest = std::fmax(std::fabs(sums.low), std::fabs(sums.high));
  s.spread = sums.high - sums.low > rounding * largest;
  // For equal rewards exactly their value: ten times 0.1 is not 1, and the residue divided by a small epsilon would
  // become an advantage.
  s.mean = s.spread ? sums.sum / double(sums.count) : sums.low;
  if (s.spread) s.unit = powerOfTwo(std::fmax(sums.high - s.mean, s.mean - sums.low));
  return s;
}

// (reward - mean) / unit, 0 without a verdict.
GROUPGRAD_INLINE double deviation(double reward, const GroupStatistics& s) {
  return reward == reward ? (reward - s.mean) / s.unit : 0;
}

// From the sums of the deviations' squares and magnitudes.
GROUPGRAD_INLINE void setDeviations(GroupStatistics& s, double squares, double magnitudes, double ddof) {
  if (!s.spread) return;
  s.std = s.unit * std::sqrt(squares / (double(s.count) - ddof));
  s.mad = s.unit * (magnitudes / double(s.count));
}

// Two passes over the rewards, in order.
GROUPGRAD_INLINE GroupStatistics groupStatistics(const double* rewards, int64_t size, double ddof, double rounding) {
  RewardSums sums;
  for (int64_t i = 0; i < size; ++i) sums.add(rewards[i]);
  GroupStatistics s = groupStatistics(sums, rounding);
  double squares = 0, magnitudes = 0;
  for (int64_t i = 0; i < size; ++i) {
    const double d = deviation(rewards[i], s);
    squares += d * d;
    magnitudes += std::fabs(d);
  }
  setDeviations(s, squares, magnitudes, ddof);
  return s;
}

// The standard deviation as it is stored: 0 means no spread.
GROUPGRAD_INLINE float writtenStd(const GroupStatistics& s) {
  constexpr double kSmallest = 0x1p-149;  // of float32
  return float(s.spread && s.std < kSmallest ? kSmallest : s.std);
}

// The advantage before weights. `batchStd` is the standard deviation of all rewards of the batch.
GROUPGRAD_INLINE double groupAdvantage(double reward, const GroupStatistics& s, double batchStd, Center center,
                                       Scale scale, double epsilon) {
  if (reward != reward) return 0;
  double a = reward;
  if (center != Center::none) {
    if (!s.spread) return 0;
    a = reward - s.mean;
    if (center == Center::leaveOneOut) a *= double(s.count) / double(s.count - 1);
  }
  const double divisor = scale == Scale::groupStd ? s.std : scale == Scale::groupMad ? s.mad : batchStd;
  // Without spread there is nothing to divide by: epsilon by itself is not a scale.
  if (scale == Scale::none || divisor == 0 || a == 0) return a;
  return divisor < double(INFINITY) ? a / (divisor + epsilon) : double(NAN);
}

// HA-DW weight: lambda exp(-sgn(A) (mean_g - C)) (arXiv 2601.08521, eq. 16).
GROUPGRAD_INLINE double hadwWeight(double advantage, double groupMean, double anchor, double lambda) {
  if (advantage == 0) return lambda;
  const double easier = groupMean - anchor;
  return lambda * std::exp(advantage > 0 ? -easier : easier);
}

// DGPO's weights of questions (arXiv 2601.20614, eq. 11): a softmax of -mean / temperature over the groups with spread,
// times their number; 1 for the others.
struct QuestionWeights {
  double lowest = INFINITY;  // mean of a group with spread: relative to it no exponential overflows
  double factor = 1;         // number of groups with spread / sum of their shares

  GROUPGRAD_INLINE double share(double groupMean, double temperature) const {
    return std::exp((lowest - groupMean) / temperature);
  }
  GROUPGRAD_INLINE double weight(const GroupStatistics& group, double temperature) const {
    return group.spread ? factor * share(group.mean, temperature) : 1;
  }
};

// DQW's temperature is 0 where questions have no weights.
GROUPGRAD_INLINE double completionWeight(const AdvantageRequest& r, double advantage, const GroupStatistics& group,
                                         double anchor, const QuestionWeights& questions) {
  if (r.hadw) return hadwWeight(advantage, group.mean, anchor, r.hadwScale);
  return r.dqwTemperature > 0 ? questions.weight(group, r.dqwTemperature) : 1;
}

}  // namespace groupgrad
