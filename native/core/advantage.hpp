// Group-relative advantages and HA-DW weights (docs/losses.md, "Advantages"). Float64: there are few rewards.
#pragma once

#include <cmath>

#include "config.hpp"
#include "platform.hpp"

namespace groupgrad {

struct GroupStatistics {
  int64_t count = 0;  // rewards with a verdict
  double mean = NAN;  // NaN without one
  double std = 0;     // exactly 0 when all are equal
  bool allEqual = true;
};

// Two passes; NaN rewards are left out. Equality is found by comparing, because sum / count of equal values need not
// give the value back, and the residue divided by a small epsilon would become an advantage.
GROUPGRAD_INLINE GroupStatistics groupStatistics(const double* rewards, int64_t size, double ddof) {
  GroupStatistics s;
  double sum = 0, first = 0;
  for (int64_t i = 0; i < size; ++i) {
    const double r = rewards[i];
    if (r != r) continue;
    if (s.count == 0) first = r;
    if (r != first) s.allEqual = false;
    sum += r;
    ++s.count;
  }
  if (s.count == 0) return s;
  if (s.allEqual) {
    s.mean = first;
    return s;
  }
  s.mean = sum / double(s.count);
  double squares = 0;
  for (int64_t i = 0; i < size; ++i) {
    const double d = rewards[i] - s.mean;
    if (d == d) squares += d * d;
  }
  s.std = std::sqrt(squares / (double(s.count) - ddof));
  return s;
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
