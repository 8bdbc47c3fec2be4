// The entropy term's batch-wide values.
#include "../core/entropy.hpp"
#include "launch.hpp"
#include "policy.hpp"
#include "team.cuh"

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

// The entropy term's batch-wide values: the threshold below which tokens are dropped, by radix selection, and its
// denominator. By one block.
__global__ void __launch_bounds__(kThreads, 1)
    entropyBatch(const __grid_constant__ PolicyRequest r, const float* entropies, Batch* batch) {
  struct Digits {
    unsigned count[256];
    unsigned chosen;
    long long left;  // values below the one looked for, among those that share its first digits
  };
  Digits& digits = blockShared<Digits, Digits>();
  const LossConfig& config = r.config;
  const uint8_t* mask = r.mask;
  const int64_t rows = r.sequences * r.length;
  const auto isIn = [&](int64_t row) { return !mask || mask[row] != 0; };

  long long in = 0, valued = 0;
  for (int64_t row = threadIdx.x; row < rows; row += kThreads) {
    if (!isIn(row)) continue;
    ++in;
    valued += entropies[row] == entropies[row];
  }
  in = sum<Block>(in);
  valued = sum<Block>(valued);

  const bool quantile = config.topQuantile < 1;
  float threshold = float(config.entropyThreshold);
  if (quantile && threshold != threshold) {
    threshold = -kInfinity;
    if (valued > 0) {
      if (threadIdx.x == 0) digits.left = quantileRank(config.topQuantile, valued);
      uint32_t prefix = 0;
      for (int shift = 24; shift >= 0; shift -= 8) {
        if (threadIdx.x < 256) digits.count[threadIdx.x] = 0;
        __syncthreads();
        for (int64_t row = threadIdx.x; row < rows; row += kThreads) {
          const float entropy = entropies[row];
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
    for (int64_t row = threadIdx.x; row < rows; row += kThreads) kept += isIn(row) && entropies[row] >= threshold;
    kept = sum<Block>(kept);
  }
  if (threadIdx.x == 0) *batch = Batch::of(config, double(kept), threshold);
}

}  // namespace

cudaError_t settleEntropies(cudaStream_t stream, const PolicyRequest& request, const float* entropies, Batch* batch) {
  return launch(entropyBatch, {.threads = kThreads}, stream, request, entropies, batch);
}

}  // namespace groupgrad::cuda
