// Advantages on the device: the statistics of a group by one warp, the formulas from native/core/advantage.hpp.
#pragma once

#include "../core/advantage.hpp"
#include "fields.cuh"
#include "operations.hpp"

namespace groupgrad::cuda {

__device__ inline double rewardAt(const DeviceRewards& r, int64_t i) {
  return r.rewards32 ? double(r.rewards32[i]) : r.request.rewards[i];
}

__device__ inline bool isFloat32(const DeviceRewards& r) { return r.rewards32 || r.request.singlePrecision; }

// A warp's loops over a group are short: their code is kept short too.
template <class Team>
__device__ GroupStatistics statisticsOf(const DeviceRewards& r, int64_t begin, int64_t end, double ddof) {
  RewardSums own;
#pragma unroll(Team::kIsBlock ? 4 : 1)
  for (int64_t i = begin + Team::rank(); i < end; i += Team::kSize) own.add(rewardAt(r, i));
  Fields<2, 2> level;
  level[0] = double(own.count);
  level[1] = own.sum;
  level[2] = -own.low;
  level[3] = own.high;
  reduceFields<Team>(level);
  RewardSums all;
  all.count = int64_t(level[0]);
  all.sum = level[1];
  all.low = -level[2];
  all.high = level[3];
  GroupStatistics s = groupStatistics(all, isFloat32(r) ? kFloat32Rounding : kFloat64Rounding);
  Fields<2, 0> spread;  // squares, magnitudes
#pragma unroll(Team::kIsBlock ? 4 : 1)
  for (int64_t i = begin + Team::rank(); i < end; i += Team::kSize) {
    const double d = deviation(rewardAt(r, i), s);
    spread[0] += d * d;
    spread[1] += std::fabs(d);
  }
  reduceFields<Team>(spread);
  setDeviations(s, spread[0], spread[1], ddof);
  return s;
}

// Batch-wide inputs of an advantage; NaN if not used.
struct BatchStatistics {
  double std = NAN;
  double anchor = NAN;
  QuestionWeights questions;
};

struct Group {
  int64_t begin, end;
};

__device__ inline Group groupAt(const DeviceRewards& r, int64_t g) {
  if (r.groupSize > 0) return {g * r.groupSize, (g + 1) * r.groupSize};
  return {r.request.offsets[g], r.request.offsets[g + 1]};
}

// All but the deviations of a group, by one thread.
__device__ inline GroupStatistics levelOf(const DeviceRewards& r, int64_t g) {
  const auto [begin, end] = groupAt(r, g);
  RewardSums sums;
  for (int64_t i = begin; i < end; ++i) sums.add(rewardAt(r, i));
  return groupStatistics(sums, isFloat32(r) ? kFloat32Rounding : kFloat64Rounding);
}

template <class Team>
__device__ QuestionWeights questionWeights(const DeviceRewards& r) {
  QuestionWeights questions;
  double lowest = INFINITY;
  long long groups = 0;
  for (int64_t g = Team::rank(); g < r.request.groups; g += Team::kSize) {
    const GroupStatistics group = levelOf(r, g);
    if (!group.spread) continue;
    ++groups;
    lowest = group.mean < lowest ? group.mean : lowest;
  }
  questions.lowest = Team::reduce(lowest, Smaller());
  groups = sum<Team>(groups);
  double total = 0;
  for (int64_t g = Team::rank(); g < r.request.groups; g += Team::kSize) {
    const GroupStatistics group = levelOf(r, g);
    if (group.spread) total += questions.share(group.mean, r.request.dqwTemperature);
  }
  questions.factor = double(groups) / sum<Team>(total);
  return questions;
}

template <class Team>
__device__ BatchStatistics batchStatistics(const DeviceRewards& r) {
  const AdvantageRequest& q = r.request;
  BatchStatistics batch;
  batch.anchor = r.anchor ? *r.anchor : q.anchor;
  const bool ownAnchor = q.hadw && batch.anchor != batch.anchor;
  if (ownAnchor || q.scale == Scale::batchStd) {
    const GroupStatistics all = statisticsOf<Team>(r, 0, r.rewards, q.ddof);
    batch.std = all.std;
    if (ownAnchor) batch.anchor = all.mean;
  }
  if (q.dqwTemperature > 0) batch.questions = questionWeights<Team>(r);
  return batch;
}

// The group of reward i.
__device__ inline int64_t groupOf(const DeviceRewards& r, int64_t i) {
  if (r.groupSize > 0) return i / r.groupSize;
  int64_t low = 0, high = r.request.groups;
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    if (r.request.offsets[middle] <= i) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

struct Advantage {
  float advantage;
  float weight;
};

__device__ inline Advantage advantageAt(const DeviceRewards& r, int64_t i, const GroupStatistics& group,
                                        const BatchStatistics& batch) {
  const AdvantageRequest& q = r.request;
  const double plain = groupAdvantage(rewardAt(r, i), group, batch.std, q.center, q.scale, q.epsilon);
  // Question weights grow exponentially with differences of means, so all means must be summed in the same order.
  const GroupStatistics level = q.dqwTemperature > 0 ? levelOf(r, groupOf(r, i)) : group;
  const double weight = completionWeight(q, plain, level, batch.anchor, batch.questions);
  return {float(plain * weight), float(weight)};
}

// The advantage of reward `wanted` of a group, by one warp; with `write`, also all requested results of the group.
__device__ inline float groupAdvantages(const DeviceRewards& r, int64_t g, const GroupStatistics& group,
                                        const BatchStatistics& batch, int64_t wanted, bool write) {
  const AdvantageRequest& q = r.request;
  const auto [begin, end] = groupAt(r, g);
  int active = 0;
  float found = 0;
#pragma unroll 1
  for (int64_t i = begin + WarpTeam::rank(); i < end; i += WarpTeam::kSize) {
    if (!write && i != wanted) continue;
    const Advantage a = advantageAt(r, i, group, batch);
    if (i == wanted) found = a.advantage;
    active |= a.advantage != 0;
    if (!write) continue;
    q.advantages[i] = a.advantage;
    q.weights[i] = a.weight;
  }
  if (write) {
    active = WarpTeam::reduce(active, Larger());
    if (WarpTeam::rank() == 0) {
      q.groupMean[g] = float(group.mean);
      q.groupStd[g] = writtenStd(group);
      q.active[g] = uint8_t(active);
    }
  }
  return __shfl_sync(kAllLanes, found, int((wanted - begin) % WarpTeam::kSize));
}

// The statistics that the metrics need of all rewards.
template <class Team>
__device__ GroupStatistics rewardStatistics(const DeviceRewards& r) {
  return statisticsOf<Team>(r, 0, r.rewards, 1);
}

// From the results of all blocks; by one, with rewardStatistics() and batchStatistics().
template <class Team>
__device__ void writeAdvantageMetrics(const DeviceRewards& r, const GroupStatistics& all, const BatchStatistics& batch,
                                      AdvantageMetrics* out) {
  const AdvantageRequest& q = r.request;
  enum { zeroStd, weight, nonFinite, kSums, minusWeightMin = kSums, weightMax, kCount };
  Fields<kSums, kCount - kSums> f;
  for (int64_t g = Team::rank(); g < q.groups; g += Team::kSize) {
    const float mean = __ldcg(q.groupMean + g), std = __ldcg(q.groupStd + g);
    f[zeroStd] += std == 0;
    // A group without a verdict has no mean.
    f[nonFinite] += !isFinite(std) + (!isFinite(mean) && !(mean != mean && std == 0));
  }
  for (int64_t i = Team::rank(); i < r.rewards; i += Team::kSize) {
    const double reward = rewardAt(r, i);
    const double own = __ldcg(q.weights + i);
    f[nonFinite] += !isFinite(__ldcg(q.advantages + i)) + !isFinite(float(own)) + (reward != reward);
    if (reward != reward) continue;
    f[weight] += own;
    f.add(minusWeightMin, -own);
    f.add(weightMax, own);
  }
  reduceFields<Team>(f);
  if (Team::rank() != 0) return;
  AdvantageMetrics m;
  m.accuracy = all.mean;
  m.rewardStd = all.std;
  m.zeroStdFraction = f[zeroStd] / double(q.groups);
  m.nonFinite = int64_t(f[nonFinite]);
  m.anchor = batch.anchor == batch.anchor ? batch.anchor : all.mean;
  if (all.count > 0) {
    m.weightMean = f[weight] / double(all.count);
    m.weightMin = -f[minusWeightMin];
    m.weightMax = f[weightMax];
  }
  *out = m;
}

}  // namespace groupgrad::cuda
