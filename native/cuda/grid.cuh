// Cooperation of the blocks of a launch. The counters are 0 before and after every launch.
#pragma once

#include "team.cuh"

namespace groupgrad::cuda {

struct GridCounters {
  unsigned arrived;          // at barriers
  unsigned finished;         // blocks
  unsigned long long total;  // how many blocks have added to it, and what they added: see addToTotal
};

// The lower bits of GridCounters::total hold the sum and the upper ones the number of blocks, so that one atomic
// operation adds to both and one load reads both.
constexpr int kTotalBits = 40;

// Waits for every block. The launch must be cooperative: a block that has not started never arrives.
__device__ inline void gridBarrier(GridCounters& counters) {
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    const unsigned before = atomicAdd(&counters.arrived, 1u);
    const unsigned target = (before / gridDim.x + 1) * gridDim.x;
    while (loadAcquire(&counters.arrived) < target) spinPause();
    __threadfence();
  }
  __syncthreads();
}

// Adds to a sum over the grid, without waiting. By one thread of every block, once per launch; the sum stays below
// 2^kTotalBits.
__device__ inline void addToTotal(GridCounters& counters, unsigned long long value) {
  atomicAdd(&counters.total, (1ull << kTotalBits) + value);
}

// That sum, once every block has added to it; for one thread. The launch must be cooperative.
__device__ inline unsigned long long awaitTotal(const GridCounters& counters) {
  unsigned long long seen;
  while ((seen = loadAcquire(&counters.total)) >> kTotalBits < gridDim.x) spinPause();
  return seen & ((1ull << kTotalBits) - 1);
}

// Whether this is the last block to arrive: it sees what all others wrote before.
__device__ inline bool isLastBlock(GridCounters& counters) {
  struct Last {
    bool value;
  };
  bool& last = blockShared<Last, Last>().value;
  // The barrier orders the block's writes before the count.
  __syncthreads();
  if (threadIdx.x == 0) last = addAcquireRelease(&counters.finished, 1u) == gridDim.x - 1;
  __syncthreads();
  return last;
}

// Waits until every block has called isLastBlock, this one too; it then sees what all others wrote before. The launch
// must be cooperative.
__device__ inline void awaitLastBlock(const GridCounters& counters) {
  if (threadIdx.x == 0) {
    while (loadAcquire(&counters.finished) < gridDim.x) spinPause();
  }
  __syncthreads();
}

// By one block, when no other reads the counters any more.
__device__ inline void clearCounters(GridCounters& counters) {
  if (threadIdx.x == 0) counters = {};
}

}  // namespace groupgrad::cuda
