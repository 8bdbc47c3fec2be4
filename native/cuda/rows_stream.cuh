// The row kernels (K3) for any device, and for vocabularies too small for a cluster or too large for its shared
// memory: one warp or block per row. A block keeps as much of the row in shared memory as fits; the rest is read
// again in reverse order, starting with what was read last and is most likely still in the second-level cache.
#pragma once

#include "row.cuh"

namespace groupgrad::cuda {

constexpr int kStreamThreads = 1024;
constexpr int kSmallRowThreads = 256;
// Rows of at most this many logits are processed by one warp.
constexpr int64_t kWarpLogits = 2048;

struct StreamShared {
  float maxima[kStreamThreads / kWarp];
  double sums[kStreamThreads / kWarp];
  double moments[kStreamThreads / kWarp];
  RowInputs inputs;
  RowGradient gradient;
  bool countOffending;
};
constexpr int64_t kStreamHeader = (sizeof(StreamShared) + 127) / 128 * 128;

// The row's totals, from every thread's sums. Every lane of a warp team, or of a block's first warp, gets them.
template <class Team>
__device__ RowTotals gather(const OnlineSums& own, StreamShared& shared, float scale) {
  const RowTotals warp = warpTotals(own, scale);
  if constexpr (!Team::kIsBlock) {
    return warp;
  } else {
    const int lane = int(threadIdx.x) % kWarp, index = int(threadIdx.x) / kWarp;
    if (lane == 0) {
      shared.maxima[index] = warp.maximum;
      shared.sums[index] = warp.sum;
      shared.moments[index] = warp.moment;
    }
    __syncthreads();
    RowTotals totals;
    if (index == 0) {
      if (lane < Team::kWarps) totals.add({shared.maxima[lane], shared.sums[lane], shared.moments[lane]}, scale);
      totals = warpTotals(totals, scale);
    }
    return totals;
  }
}

// Vectors are split into as many accesses as the alignment requires; which thread handles which logit does not depend
// on it. `kAlignment`: of the row, in bytes: 16, 4 or 2.
template <int kAlignment>
__device__ __forceinline__ uint4 loadVector(const unsigned char* row, int vector) {
  const unsigned char* at = row + int64_t(vector) * Vector::kBytes;
  if constexpr (kAlignment == Vector::kBytes) return *reinterpret_cast<const uint4*>(at);
  constexpr bool kOdd = kAlignment == 2;
  return make_uint4(loadWord<kOdd>(at, 0), loadWord<kOdd>(at, 1), loadWord<kOdd>(at, 2), loadWord<kOdd>(at, 3));
}
template <int kAlignment>
__device__ __forceinline__ void storeVector(unsigned char* row, int vector, const uint4& v) {
  unsigned char* at = row + int64_t(vector) * Vector::kBytes;
  if constexpr (kAlignment == Vector::kBytes) {
    __stcs(reinterpret_cast<uint4*>(at), v);
  } else {
    const unsigned words[Vector::kWords] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < Vector::kWords; ++i) {
      if constexpr (kAlignment == 2) {
        storeWord<true>(at, i, words[i]);
      } else {
        __stcs(reinterpret_cast<unsigned*>(at) + i, words[i]);
      }
    }
  }
}

// fn(the common alignment of these addresses).
template <class Element, class F>
__device__ __forceinline__ void withVectors(uintptr_t addresses, const F& fn) {
  if (addresses % Vector::kBytes == 0) {
    fn(std::integral_constant<int, Vector::kBytes>());
  } else if (Element::kPerWord == 1 || addresses % 4 == 0) {
    fn(std::integral_constant<int, 4>());
  } else if constexpr (Element::kPerWord > 1) {
    fn(std::integral_constant<int, 2>());
  }
}

template <class Element>
__device__ __forceinline__ void unpackVector(const uint4& v, float* x) {
  Element::unpack(v.x, x);
  Element::unpack(v.y, x + Element::kPerWord);
  Element::unpack(v.z, x + 2 * Element::kPerWord);
  Element::unpack(v.w, x + 3 * Element::kPerWord);
}

template <class Element>
__device__ __forceinline__ uint4 gradientVector(const RowGradient& g, const uint4& v, float scale) {
  return make_uint4(gradientWord<Element>(g, v.x, scale), gradientWord<Element>(g, v.y, scale),
                    gradientWord<Element>(g, v.z, scale), gradientWord<Element>(g, v.w, scale));
}

// Vectors that a thread loads at once: 32 KiB in flight per block.
constexpr int kStreamUnroll = 2;

// Vectors [0, resident) are kept in `kept`.
template <class Element, class Team>
__device__ OnlineSums sumRow(const unsigned char* from, int vectors, int resident, int64_t vocab, uint4* kept,
                             float scale) {
  constexpr int kUnroll = kStreamUnroll, kLogits = kPerVector<Element>;
  OnlineSums sums;
  withVectors<Element>(reinterpret_cast<uintptr_t>(from), [&](auto alignment) {
    int vector = Team::rank();
    for (; vector + (kUnroll - 1) * Team::kSize < vectors; vector += kUnroll * Team::kSize) {
      uint4 loaded[kUnroll];
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) loaded[u] = loadVector<alignment>(from, vector + u * Team::kSize);
      float x[kUnroll * kLogits];
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        const int at = vector + u * Team::kSize;
        if (at < resident) kept[at] = loaded[u];
        unpackVector<Element>(loaded[u], x + u * kLogits);
      }
      sums.add(x, scale);
    }
    for (; vector < vectors; vector += Team::kSize) {
      const uint4 loaded = loadVector<alignment>(from, vector);
      if (vector < resident) kept[vector] = loaded;
      float x[kLogits];
      unpackVector<Element>(loaded, x);
      sums.add(x, scale);
    }
  });
  // Behind the last whole vector.
  const int64_t at = int64_t(vectors) * kLogits + Team::rank();
  if (at < vocab) {
    const float x[1] = {loadElement<Element>(from + at * kElementBytes<Element>)};
    sums.add(x, scale);
  }
  return sums;
}

// `to` may be `from`: a thread only writes what no other thread reads.
template <class Element, class Team>
__device__ void differentiateRow(const RowGradient& g, const unsigned char* from, unsigned char* to, int vectors,
                                 int resident, int64_t vocab, const uint4* kept, float scale, int64_t token) {
  constexpr int kUnroll = kStreamUnroll, kLogits = kPerVector<Element>;
  constexpr int kBytes = kElementBytes<Element>;
  withVectors<Element>(reinterpret_cast<uintptr_t>(from) | reinterpret_cast<uintptr_t>(to), [&](auto alignment) {
    const auto write = [&](int vector, const uint4& logits) {
      storeVector<alignment>(to, vector, gradientVector<Element>(g, logits, scale));
    };
    // From the last vector that this thread owns back to the first that is not kept.
    int vector = vectors - 1 - (vectors - 1 - Team::rank()) % Team::kSize;
    if (vectors <= Team::rank()) vector = -1;
    for (; vector - (kUnroll - 1) * Team::kSize >= resident; vector -= kUnroll * Team::kSize) {
      uint4 loaded[kUnroll];
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) loaded[u] = loadVector<alignment>(from, vector - u * Team::kSize);
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) write(vector - u * Team::kSize, loaded[u]);
    }
    for (; vector >= resident; vector -= Team::kSize) write(vector, loadVector<alignment>(from, vector));
    for (; vector >= 0; vector -= Team::kSize) write(vector, kept[vector]);
  });
  // Behind the last whole vector.
  const int64_t at = int64_t(vectors) * kLogits + Team::rank();
  if (at < vocab) {
    float x[2] = {loadElement<Element>(from + at * kBytes), 0};
    Element::unpack(gradientWord<Element>(g, Element::pack(x), scale), x);
    storeElement<Element>(to + at * kBytes, x[0]);
  }
  // The thread that wrote the token's gradient with the others overwrites it.
  const int64_t vector = token / kLogits;
  const int64_t owner = vector < vectors ? vector % Team::kSize : token - int64_t(vectors) * kLogits;
  if (token >= 0 && token < vocab && owner == Team::rank()) storeElement<Element>(to + token * kBytes, g.atToken);
}

// `keptVectors`: number of a row's vectors that fit in shared memory. Teams take rows in turn.
template <class Element, RowVisit visit, class Team>
__global__ void __launch_bounds__(Team::kIsBlock ? kStreamThreads : kSmallRowThreads, 1)
    streamRows(const __grid_constant__ RowsLaunch p, const int keptVectors) {
  StreamShared& shared = *reinterpret_cast<StreamShared*>(sharedMemory());
  uint4* kept = reinterpret_cast<uint4*>(sharedMemory() + kStreamHeader);
  const LogitsRequest& r = p.request;
  const int64_t rows = r.policy.sequences * r.policy.length;
  constexpr int64_t kTeams = Team::kIsBlock ? 1 : kSmallRowThreads / kWarp;
  constexpr int kBytes = kElementBytes<Element>;
  const int vectors = int(r.vocab / kPerVector<Element>);
  const int resident = keptVectors < vectors ? keptVectors : vectors;
  const float scale = p.scale;

  for (int64_t row = int64_t(blockIdx.x) * kTeams + Team::index(); row < rows; row += int64_t(gridDim.x) * kTeams) {
    const bool read = isRead(visit, p, row);
    const unsigned char* from = rowAddress(r.logits, r, row, kBytes);
    RowGradient gradient{};
    int residentNow = 0;
    if (read && visit != RowVisit::backward) {
      RowInputs inputs{};
      if (Team::rank() == 0) {
        inputs = readInputs<Element>(visit, p, row);
        if (Team::kIsBlock) shared.inputs = inputs;
      }
      residentNow = resident;
      const OnlineSums own = sumRow<Element, Team>(from, vectors, resident, r.vocab, kept, scale);
      const RowTotals totals = gather<Team>(own, shared, scale);
      bool count = false;
      if (Team::rank() == 0) {
        if (Team::kIsBlock) inputs = shared.inputs;
        const RowValues v = valuesOf(totals, inputs.logit, p.inverseTemperature);
        count = v.bad && !v.allMinus;
        gradient = finishFirstVisit(visit, p, row, inputs, v, true);
      }
      if constexpr (Team::kIsBlock) {
        if (Team::rank() == 0) {
          shared.gradient = gradient;
          shared.countOffending = count;
        }
        Team::sync();
        gradient = shared.gradient;
        count = shared.countOffending;
      } else {
        gradient.kind = RowGradient::Kind(Team::broadcast(int(gradient.kind)));
        gradient.maximum = Team::broadcast(gradient.maximum);
        gradient.constant = Team::broadcast(gradient.constant);
        gradient.slope = Team::broadcast(gradient.slope);
        gradient.atToken = Team::broadcast(gradient.atToken);
        count = Team::broadcast(int(count)) != 0;
      }
      if (count) {
        int bad = 0;
        for (int64_t i = Team::rank(); i < r.vocab; i += Team::kSize) {
          bad += !(loadElement<Element>(from + i * kBytes) <= kFloatMax);
        }
        if (bad != 0) atomicAdd(&p.header->offending, (unsigned long long)(bad));
        Team::sync();  // counted before the gradient is written over
      }
    } else if (!read && visit != RowVisit::backward) {
      if (Team::rank() == 0) writeUnread(visit, p, row);
    } else if (read) {
      gradient = recordedGradient(p, row);
    }

    if (visit != RowVisit::forward && r.gradLogits) {
      unsigned char* to = rowAddress(r.gradLogits, r, row, kBytes);
      if (gradient.kind == RowGradient::values) {
        differentiateRow<Element, Team>(gradient, from, to, vectors, residentNow, r.vocab, kept, scale, r.tokens[row]);
        if (mayOverflow<Element>(gradient)) {
          Team::sync();
          countOverflows<Element>(to, r.vocab, p.overflows, Team::rank(), Team::kSize);
        }
      } else if (gradient.kind == RowGradient::notANumber || !r.zeroed) {
        const float value = gradient.kind == RowGradient::zero ? 0 : float(NAN);
        fillBytes<Element>(to, r.vocab * kBytes, value, Team::rank(), Team::kSize);
      }
      if (!r.zeroed)
        fillBytes<Element>(to + r.vocab * kBytes, (r.rowStride - r.vocab) * kBytes, 0, Team::rank(), Team::kSize);
    }
    Team::sync();  // shared memory and the row's inputs have been read
  }
}

}  // namespace groupgrad::cuda
