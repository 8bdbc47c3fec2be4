// Many reductions at once: each thread holds an array of values; the first are summed over the team, and for the
// others the maximum is taken (a minimum is the maximum of negated values).
#pragma once

#include "team.cuh"

namespace groupgrad::cuda {

template <int kSums, int kLargest>
struct Fields {
  static constexpr int kSumCount = kSums, kCount = kSums + kLargest;
  double value[kCount];

  __device__ Fields() {
    for (int i = 0; i < kCount; ++i) value[i] = empty(i);
  }
  // A field's identity element.
  __device__ static double empty(int field) { return field < kSums ? 0 : -double(INFINITY); }
  __device__ double& operator[](int i) { return value[i]; }
  __device__ double operator[](int i) const { return value[i]; }
  __device__ static double combine(int field, double a, double b) { return field < kSums ? a + b : (b > a ? b : a); }
  __device__ void add(int field, double x) { value[field] = combine(field, value[field], x); }
};

// One step of a warp's reduction, and those after it: a lane keeps half of its kHeld fields, from `first` on, and
// passes the others to the lane at kDistance, which keeps those. Both keep the last field.
template <class F, int kHeld, int kDistance, int kWidth>
__device__ __forceinline__ void shareOut(double (&held)[kWidth], int& first) {
  constexpr int kKept = kHeld > 1 ? kHeld / 2 : 1;
  const bool upper = kHeld > 1 && (threadIdx.x & kDistance) != 0;
  if (upper) first += kKept;
#pragma unroll
  for (int i = 0; i < kKept; ++i) {
    const double keep = upper ? held[i + kHeld - kKept] : held[i];
    const double pass = upper ? held[i] : held[i + kHeld - kKept];
    const double other = __shfl_xor_sync(kAllLanes, pass, kDistance);
    // There can be no field beyond i + kWidth - kKept here.
    held[i] = i + kWidth - kKept < F::kSumCount ? keep + other : F::combine(first + i, keep, other);
  }
  if constexpr (kDistance > 1) shareOut<F, kKept, kDistance / 2>(held, first);
}

// Every thread gets the totals. The lanes of a warp divide the fields among them, which takes a few shuffles per
// field instead of five; a field's values are combined in the order of warpReduce.
template <class Team, int kSums, int kLargest>
__device__ void reduceFields(Fields<kSums, kLargest>& fields) {
  using F = Fields<kSums, kLargest>;
  constexpr int kWidth = F::kCount <= 2 ? 2 : F::kCount <= 4 ? 4 : F::kCount <= 8 ? 8 : F::kCount <= 16 ? 16 : 32;
  static_assert(F::kCount <= kWidth);
  constexpr int kLanes = kWarp / kWidth;  // that end with the same field
  double held[kWidth];
#pragma unroll
  for (int i = 0; i < kWidth; ++i) held[i] = i < F::kCount ? fields.value[i < F::kCount ? i : 0] : 0;
  int first = 0;  // the field of held[0]
  shareOut<F, kWidth, kWarp / 2>(held, first);
  if constexpr (Team::kIsBlock) {
    struct Parts {
      double value[Team::kWarps][F::kCount];
      double total[F::kCount];
    };
    Parts& parts = blockShared<Parts, Parts>();
    __syncthreads();  // an earlier reduction has been read
    if (threadIdx.x % kLanes == 0 && first < F::kCount) parts.value[threadIdx.x / kWarp][first] = held[0];
    __syncthreads();
    if (threadIdx.x < F::kCount) {
      double total = parts.value[0][threadIdx.x];
      for (int w = 1; w < Team::kWarps; ++w) total = F::combine(threadIdx.x, total, parts.value[w][threadIdx.x]);
      parts.total[threadIdx.x] = total;
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < F::kCount; ++i) fields.value[i] = parts.total[i];
  } else {
#pragma unroll
    for (int i = 0; i < F::kCount; ++i) fields.value[i] = __shfl_sync(kAllLanes, held[0], i * kLanes);
  }
}

// Sums all of an array's fields, by one block; every thread gets the totals. A thread takes one field of strided
// elements, so that a warp's loads are coalesced. The array was written by other blocks of this launch.
template <class Team, int kSums, int kLargest>
__device__ Fields<kSums, kLargest> addUp(const Fields<kSums, kLargest>* elements, int64_t count) {
  using F = Fields<kSums, kLargest>;
  constexpr int kRows = Team::kSize / F::kCount;
  struct Parts {
    double value[kRows][F::kCount];
    double total[F::kCount];
  };
  Parts& parts = blockShared<Parts, Parts>();
  const int field = int(threadIdx.x) % F::kCount, row = int(threadIdx.x) / F::kCount;
  __syncthreads();  // an earlier sum has been read
  if (row < kRows) {
    double own = F::empty(field);
#pragma unroll 8
    for (int64_t i = row; i < count; i += kRows) own = F::combine(field, own, __ldcg(&elements[i].value[field]));
    parts.value[row][field] = own;
  }
  __syncthreads();
  if (row == 0) {
    double total = parts.value[0][field];
    for (int r = 1; r < kRows; ++r) total = F::combine(field, total, parts.value[r][field]);
    parts.total[field] = total;
  }
  __syncthreads();
  F all;
#pragma unroll
  for (int i = 0; i < F::kCount; ++i) all.value[i] = parts.total[i];
  return all;
}

}  // namespace groupgrad::cuda
