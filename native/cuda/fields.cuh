// Many sums at once: each thread holds an array of values, of which the first are added up over the team and the
// others' largest is taken (a smallest is the largest of negated values).
#pragma once

#include "team.cuh"

namespace groupgrad::cuda {

template <int kSums, int kLargest>
struct Fields {
  static constexpr int kCount = kSums + kLargest;
  double value[kCount];

  __device__ Fields() {
    for (int i = 0; i < kCount; ++i) value[i] = i < kSums ? 0 : -double(INFINITY);
  }
  __device__ double& operator[](int i) { return value[i]; }
  __device__ double operator[](int i) const { return value[i]; }
  __device__ static double combine(int field, double a, double b) { return field < kSums ? a + b : (b > a ? b : a); }
  __device__ void add(int field, double x) { value[field] = combine(field, value[field], x); }
};

// Every thread gets the totals.
template <class Team, int kSums, int kLargest>
__device__ void reduceFields(Fields<kSums, kLargest>& fields) {
  using F = Fields<kSums, kLargest>;
#pragma unroll
  for (int i = 0; i < F::kCount; ++i) {
    fields.value[i] = warpReduce(fields.value[i], [i](double a, double b) { return F::combine(i, a, b); });
  }
  if constexpr (Team::kIsBlock) {
    struct Parts {
      double value[Team::kWarps][F::kCount];
    };
    auto& parts = blockShared<Parts, Parts>().value;
    const int warp = int(threadIdx.x) / kWarp;
    __syncthreads();  // an earlier reduction has been read
    if (threadIdx.x % kWarp == 0) {
#pragma unroll
      for (int i = 0; i < F::kCount; ++i) parts[warp][i] = fields.value[i];
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < F::kCount; ++i) {
      double total = parts[0][i];
      for (int w = 1; w < Team::kWarps; ++w) total = F::combine(i, total, parts[w][i]);
      fields.value[i] = total;
    }
  }
}

}  // namespace groupgrad::cuda
