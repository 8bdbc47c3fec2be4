// Group-relative advantages and HA-DW weights (docs/losses.md, "Advantages"). Float64: there are few rewards.
#pragma once

#include <cmath>

#include "config.hpp"
#include "platform.hpp"

namespace groupgrad {

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
  // Found by comparing, because sum / count of equal values need not give the value back, and the residue divided by a
  // small epsilon would become an advantage.
  GROUPGRAD_INLINE bool allEqual() const { return count == 0 || low == high; }
  // NaN without a verdict.
  GROUPGRAD_INLINE double mean() const { return count == 0 ? double(NAN) : allEqual() ? low : sum / double(count); }
};

// (reward - mean)^2, 0 without a verdict.
GROUPGRAD_INLINE double squaredDeviation(double reward, double mean) {
  const double d = reward - mean;
  return d == d ? d * d : 0;
}

struct GroupStatistics {
  int64_t count = 0;  // rewards with a verdict
  double mean = NAN;  // NaN without one
  double std = 0;     // exactly 0 when all are equal
  bool allEqual = true;
};

// From the sums and the sum of squared deviations from their mean.
GROUPGRAD_INLINE GroupStatistics groupStatistics(const RewardSums& sums, double squares, double ddof) {
  GroupStatistics s{sums.count, sums.mean(), 0, sums.allEqual()};
  if (!s.allEqual) s.std = std::sqrt(squares / (double(s.count) - ddof));
  return s;
}

// Two passes over the rewards, in order.
GROUPGRAD_INLINE GroupStatistics groupStatistics(const double* rewards, int64_t size, double ddof) {
  RewardSums sums;
  for (int64_t i = 0; i < size; ++i) sums.add(rewards[i]);
  const double mean = sums.mean();
  double squares = 0;
  for (int64_t i = 0; i < size; ++i) squares += squaredDeviation(rewards[i], mean);
  return groupStatistics(sums, squares, ddof);
}

// The advantage before HA-DW. `batchStd` is the standard deviation of all rewards of the batch.
GROUPGRAD_INLINE double groupAdvantage(double reward, const GroupStatistics& s, double batchStd, Center center,
                                       Scale scale, double epsilon) {
  if (reward != reward) return 0;
  double a = reward;
  if (center != Center::none) {
    if (s.allEqual) return 0;
    a = reward - s.mean;
    if (center == Center::leaveOneOut) a *= double(s.count) / double(s.count - 1);
  }
  if (a == 0) return 0;
  if (scale == Scale::groupStd) return a / (s.std + epsilon);
  if (scale == Scale::batchStd) return a / (batchStd + epsilon);
  return a;
}

// HA-DW weight: lambda exp(-sgn(A) (mean_g - C)) (arXiv 2601.08521, eq. 16).
GROUPGRAD_INLINE double hadwWeight(double advantage, double groupMean, double anchor, double lambda) {
  if (advantage == 0) return lambda;
  const double easier = groupMean - anchor;
  return lambda * std::exp(advantage > 0 ? -easier : easier);
}

}  // namespace groupgrad
