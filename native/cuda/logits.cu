// The loss from logits: in which order rows are visited and the policy loss is taken.
#include <algorithm>
#include <cmath>

#include "../core/visits.hpp"
#include "launch.hpp"
#include "policy.hpp"
#include "rows.hpp"

namespace groupgrad::cuda {

namespace {

constexpr int kThreads = 1024;
using Block = BlockTeam<kThreads>;

// Bits in the order of the floats. Not for NaN.
__device__ uint32_t orderedBits(float x) {
  const uint32_t bits = __float_as_uint(x);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
__device__ float floatOf(uint32_t ordered) {
  return __uint_as_float(ordered & 0x80000000u ? ordered & 0x7fffffffu : ~ordered);
}

// What the entropy term takes from the batch: the threshold below which tokens are dropped (the k-th smallest entropy,
// k = ceil((1 - q) (N - 1) - 1e-9), found a digit at a time) and its denominator. By one block.
__global__ void __launch_bounds__(kThreads, 1) entropyBatch(const __grid_constant__ LogitsRequest r, Batch* batch) {
  struct Digits {
    unsigned count[256];
    unsigned chosen;
    long long left;  // values below the one looked for, among those that share its first digits
  };
  Digits& digits = blockShared<Digits, Digits>();
  const LossConfig& config = r.policy.config;
  const uint8_t* mask = r.policy.mask;
  const int64_t rows = r.policy.sequences * r.policy.length;
  const auto isIn = [&](int64_t row) { return !mask || mask[row] != 0; };

  long long in = 0, valued = 0;
  for (int64_t row = threadIdx.x; row < rows; row += kThreads) {
    if (!isIn(row)) continue;
    ++in;
    valued += r.entropies[row] == r.entropies[row];
  }
  in = sum<Block>(in);
  valued = sum<Block>(valued);

  const bool quantile = config.topQuantile < 1;
  float threshold = float(config.entropyThreshold);
  if (quantile && threshold != threshold) {
    threshold = -kInfinity;
    if (valued > 0) {
      const double rank = ceil((1 - config.topQuantile) * double(valued - 1) - 1e-9);
      if (threadIdx.x == 0) digits.left = rank > 0 ? static_cast<long long>(rank) : 0;
      uint32_t prefix = 0;
      for (int shift = 24; shift >= 0; shift -= 8) {
        if (threadIdx.x < 256) digits.count[threadIdx.x] = 0;
        __syncthreads();
        for (int64_t row = threadIdx.x; row < rows; row += kThreads) {
          const float entropy = r.entropies[row];
          if (!isIn(row) || entropy != entropy) continue;
          const uint32_t bits = orderedBits(entropy);
          if (shift == 24 || bits >> (shift + 8) == prefix) atomicAdd(&digits.count[(bits >> shift) & 255], 1u);
        }
        __syncthreads();
        if (threadIdx.x == 0) {
          unsigned digit = 0;
          while (digits.left >= digits.count[digit]) digits.left -= digits.count[digit++];
          digits.chosen = digit;
        }
        __syncthreads();
        prefix = prefix << 8 | digits.chosen;
      }
      threshold = floatOf(prefix);
    }
  }

  long long kept = in;
  if (quantile && config.entropyTokens != config.entropyTokens) {
    kept = 0;
    for (int64_t row = threadIdx.x; row < rows; row += kThreads) kept += isIn(row) && r.entropies[row] >= threshold;
    kept = sum<Block>(kept);
  }
  if (threadIdx.x == 0) *batch = Batch::of(config, double(kept), threshold);
}

struct LogitsScratch {
  float* gradient;
  RowRecord* records;

  LogitsScratch(Cutter& cutter, const LogitsRequest& r) {
    const int64_t rows = r.policy.sequences * r.policy.length;
    gradient = cutter.take<float>(rows);
    records = cutter.take<RowRecord>(rows);
  }
};

}  // namespace

std::size_t logitsWorkspace(const LogitsRequest& r) {
  Cutter cutter(nullptr);
  PolicyScratch policy(cutter, r.policy);
  LogitsScratch logits(cutter, r);
  return cutter.used();
}

cudaError_t logitsLoss(const DeviceTraits& traits, const Stream& s, const LogitsRequest& request,
                       const DeviceRewards* rewards, LossMetrics* metrics, AdvantageMetrics* advantageMetrics) {
  LogitsRequest r = request;
  Cutter cutter(s.workspace);
  const PolicyScratch policyScratch(cutter, r.policy);
  const LogitsScratch scratch(cutter, r);

  if (rewards) {
    const cudaError_t error = advantages(s, *rewards, advantageMetrics);
    if (error != cudaSuccess) return error;
    r.policy.advantages = rewards->request.advantages;
    r.policy.advantagesPerToken = false;
  }

  RowsLaunch rows{r};
  rows.header = policyScratch.header;
  rows.batch = policyScratch.batch;
  rows.sequences = policyScratch.sequences;
  rows.records = scratch.records;
  rows.gradient = scratch.gradient;
  rows.skipInactive = skipsInactive(r);
  rows.quantile = r.policy.config.topQuantile < 1;

  PolicyLaunch policy{r.policy, policyScratch};
  policy.quantile = rows.quantile;
  policy.skipInactive = rows.skipInactive;
  policy.request.gradLogProbs = nullptr;
  policy.request.lossScale = 1;  // the rows apply it
  policy.metrics = metrics;

  if (r.gradLogits && isRowLocal(r)) {
    policy.purpose = PolicyPurpose::sequences;
    rows.overflows = &policyScratch.header->overflows;
    cudaError_t error = launchPolicy(traits, s.stream, policy);
    if (error == cudaSuccess) error = launchRows(traits, s.stream, RowVisit::both, rows);
    if (error != cudaSuccess) return error;
    policy.purpose = PolicyPurpose::loss;
    policy.logProbs = r.logProbs;
    policy.entropies = r.entropies;
    policy.gradient = scratch.gradient;
    return launchPolicy(traits, s.stream, policy);
  }

  cudaError_t error = launchRows(traits, s.stream, RowVisit::forward, rows);
  if (error == cudaSuccess && (rows.quantile || r.policy.config.entropyCoefficient != 0)) {
    error = launch(entropyBatch, {.threads = kThreads}, s.stream, r, policyScratch.batch);
  }
  if (error != cudaSuccess) return error;
  policy.logProbs = r.logProbs;
  policy.entropies = r.entropies;
  if (r.gradLogits) policy.request.gradLogProbs = scratch.gradient;
  rows.overflows = &metrics->nonFinite;  // the policy loss has written it by then
  error = launchPolicy(traits, s.stream, policy);
  if (error != cudaSuccess || !r.gradLogits) return error;
  return launchRows(traits, s.stream, RowVisit::backward, rows);
}

}  // namespace groupgrad::cuda
