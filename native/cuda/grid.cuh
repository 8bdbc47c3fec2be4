// What the blocks of a launch do together. The counters are 0 before and after every launch.
#pragma once

#include "team.cuh"

namespace groupgrad::cuda {

struct GridCounters {
  unsigned arrived;   // at barriers
  unsigned finished;  // blocks
};

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

// Whether this is the last block to get here: it sees what all others wrote before.
__device__ inline bool isLastBlock(GridCounters& counters) {
  struct Last {
    bool value;
  };
  bool& last = blockShared<Last, Last>().value;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    last = atomicAdd(&counters.finished, 1u) == gridDim.x - 1;
    if (last) counters.arrived = counters.finished = 0;
    __threadfence();
  }
  __syncthreads();
  return last;
}

}  // namespace groupgrad::cuda
