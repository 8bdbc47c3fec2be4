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

// The fields after a warp's reduction: each of kLanes neighbouring lanes holds the same one.
template <int kCount>
struct WarpTotal {
  static constexpr int kWidth = kCount <= 2 ? 2 : kCount <= 4 ? 4 : kCount <= 8 ? 8 : kCount <= 16 ? 16 : 32;
  static constexpr int kLanes = kWarp / kWidth;
  static_assert(kCount <= kWidth);
  double value;
  int field;

  // Whether this lane is the one to write it.
  __device__ bool writes() const { return threadIdx.x % kLanes == 0 && field < kCount; }
};

// The lanes of a warp divide the fields among them, which takes a few shuffles per field instead of five; a field's
// values are combined in the order of warpReduce.
template <int kSums, int kLargest>
__device__ WarpTotal<kSums + kLargest> reduceInWarp(const Fields<kSums, kLargest>& fields) {
  using F = Fields<kSums, kLargest>;
  constexpr int kWidth = WarpTotal<F::kCount>::kWidth;
  double held[kWidth];
#pragma unroll
  for (int i = 0; i < kWidth; ++i) held[i] = i < F::kCount ? fields.value[i < F::kCount ? i : 0] : 0;
  int first = 0;  // the field of held[0]
  shareOut<F, kWidth, kWarp / 2>(held, first);
  return {held[0], first};
}

// One field's total over rows of partial results.
template <class F>
__device__ double addUpRows(const double (*rows)[F::kCount], int count, int field) {
  double total = rows[0][field];
#pragma unroll 4
  for (int row = 1; row < count; ++row) total = F::combine(field, total, rows[row][field]);
  return total;
}

// Every thread gets the totals.
template <class Team, int kSums, int kLargest>
__device__ void reduceFields(Fields<kSums, kLargest>& fields) {
  using F = Fields<kSums, kLargest>;
  const auto own = reduceInWarp(fields);
  if constexpr (Team::kIsBlock) {
    struct Parts {
      double value[Team::kWarps][F::kCount];
      double total[F::kCount];
    };
    Parts& parts = blockShared<Parts, Parts>();
    __syncthreads();  // an earlier reduction has been read
    if (own.writes()) parts.value[threadIdx.x / kWarp][own.field] = own.value;
    __syncthreads();
    if (threadIdx.x < F::kCount) parts.total[threadIdx.x] = addUpRows<F>(parts.value, Team::kWarps, int(threadIdx.x));
    __syncthreads();
#pragma unroll
    for (int i = 0; i < F::kCount; ++i) fields.value[i] = parts.total[i];
  } else {
#pragma unroll
    for (int i = 0; i < F::kCount; ++i) fields.value[i] = __shfl_sync(kAllLanes, own.value, i * own.kLanes);
  }
}

// Writes the totals, by the team's first warp. A block's threads must meet at a barrier between two calls.
template <class Team, int kSums, int kLargest>
__device__ void reduceInto(Fields<kSums, kLargest>& to, const Fields<kSums, kLargest>& fields) {
  using F = Fields<kSums, kLargest>;
  const auto own = reduceInWarp(fields);
  if constexpr (Team::kIsBlock) {
    struct Parts {
      double value[Team::kWarps][F::kCount];
    };
    Parts& parts = blockShared<Parts, Parts>();
    if (own.writes()) parts.value[threadIdx.x / kWarp][own.field] = own.value;
    __syncthreads();
    if (threadIdx.x < F::kCount) to.value[threadIdx.x] = addUpRows<F>(parts.value, Team::kWarps, int(threadIdx.x));
  } else {
    if (own.writes()) to.value[own.field] = own.value;
  }
}

// Totals of two kinds by one block, once: `all` of an array's elements, which other blocks of this launch wrote, and
// `own` of every thread's fields. The block's first warp gets them. A thread takes one field of strided elements, so
// that a warp's loads are coalesced.
template <class Team, class Element, class Own>
__device__ void addUp(const Element* elements, int64_t count, Element& all, Own& own) {
  constexpr int kRows = Team::kSize / Element::kCount, kTotals = Element::kCount + Own::kCount;
  static_assert(kTotals <= kWarp);
  struct Parts {
    double elements[kRows][Element::kCount];
    double own[Team::kWarps][Own::kCount];
    double total[kTotals];
  };
  Parts& parts = blockShared<Parts, Parts>();
  const int field = int(threadIdx.x) % Element::kCount, row = int(threadIdx.x) / Element::kCount;
  if (row < kRows) {
    double sum = Element::empty(field);
#pragma unroll 8
    for (int64_t i = row; i < count; i += kRows) sum = Element::combine(field, sum, __ldcg(&elements[i].value[field]));
    parts.elements[row][field] = sum;
  }
  const auto ofWarp = reduceInWarp(own);
  if (ofWarp.writes()) parts.own[threadIdx.x / kWarp][ofWarp.field] = ofWarp.value;
  __syncthreads();
  if (threadIdx.x >= kWarp) return;
  if (threadIdx.x < Element::kCount) {
    parts.total[threadIdx.x] = addUpRows<Element>(parts.elements, kRows, int(threadIdx.x));
  } else if (threadIdx.x < kTotals) {
    parts.total[threadIdx.x] = addUpRows<Own>(parts.own, Team::kWarps, int(threadIdx.x) - Element::kCount);
  }
  __syncwarp();
#pragma unroll
  for (int i = 0; i < Element::kCount; ++i) all.value[i] = parts.total[i];
#pragma unroll
  for (int i = 0; i < Own::kCount; ++i) own.value[i] = parts.total[Element::kCount + i];
}

}  // namespace groupgrad::cuda
