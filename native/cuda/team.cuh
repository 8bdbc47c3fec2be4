// Cooperating threads, a warp or a block, and reductions over them. Reduction trees are fixed: the same values in
// the same places give the same bits. Every thread of the team gets the result.
#pragma once

#include "primitives.cuh"

namespace groupgrad::cuda {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

template <class T, class Combine>
__device__ __forceinline__ T warpReduce(T value, const Combine& combine) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    value = combine(value, __shfl_xor_sync(kAllLanes, value, distance));
  }
  return value;
}

struct Plus {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Smaller {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return b < a ? b : a;
  }
};
struct Larger {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return b > a ? b : a;
  }
};

// A warp.
struct WarpTeam {
  static constexpr int kSize = kWarp;
  static constexpr bool kIsBlock = false;
  __device__ static int index() { return int(threadIdx.x) / kWarp; }
  __device__ static int rank() { return int(threadIdx.x) % kWarp; }
  __device__ static void sync() { __syncwarp(); }
  template <class T, class Combine>
  __device__ static T reduce(T value, const Combine& combine) {
    return warpReduce(value, combine);
  }
  // The first thread's value.
  template <class T>
  __device__ static T broadcast(T value) {
    return __shfl_sync(kAllLanes, value, 0);
  }
};

// All kThreads threads of a block.
template <int kThreads>
struct BlockTeam {
  static constexpr int kSize = kThreads;
  static constexpr bool kIsBlock = true;
  static constexpr int kWarps = kThreads / kWarp;
  __device__ static int index() { return 0; }
  __device__ static int rank() { return int(threadIdx.x); }
  __device__ static void sync() { __syncthreads(); }
  template <class T, class Combine>
  __device__ static T reduce(T value, const Combine& combine) {
    struct Parts {
      T value[kWarps];
    };
    T* parts = blockShared<Parts, Parts>().value;
    value = warpReduce(value, combine);
    __syncthreads();  // an earlier reduction has been read
    if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp] = value;
    __syncthreads();
    T total = parts[0];
    for (int warp = 1; warp < kWarps; ++warp) total = combine(total, parts[warp]);
    return total;
  }
  template <class T>
  __device__ static T broadcast(T value) {
    struct First {
      T value;
    };
    T& first = blockShared<First, First>().value;
    __syncthreads();  // an earlier value has been read
    if (threadIdx.x == 0) first = value;
    __syncthreads();
    return first;
  }
};

template <class Team, class T>
__device__ __forceinline__ T sum(T value) {
  return Team::reduce(value, Plus());
}

}  // namespace groupgrad::cuda
