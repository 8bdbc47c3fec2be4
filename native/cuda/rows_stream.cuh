// K3 for any device, and for vocabularies too small for a cluster or too large for its shared memory: a warp or a block
// a row. A block keeps as much of the row in shared memory as fits; the rest is read again in reverse order, so that
// what was read last, and is most likely still in the second-level cache, comes first.
#pragma once

#include "row.cuh"

namespace groupgrad::cuda {

constexpr int kStreamThreads = 1024;
constexpr int kSmallRowThreads = 256;
// Rows of at most this many logits are a warp's work.
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

// Words [0, resident) are kept in `kept`.
template <class Element, class Team>
__device__ OnlineSums sumRow(const unsigned char* from, int64_t words, int64_t resident, int64_t vocab, uint32_t* kept,
                             float scale) {
  constexpr int kPerWord = Element::kPerWord, kUnroll = 4;
  OnlineSums sums;
  withAlignment<Element>(from, [&](auto odd) {
    int64_t word = Team::rank();
    for (; word + (kUnroll - 1) * Team::kSize < words; word += kUnroll * Team::kSize) {
      uint32_t loaded[kUnroll];
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) loaded[u] = loadWord<odd>(from, word + u * Team::kSize);
      float x[kUnroll * kPerWord];
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        const int64_t at = word + u * Team::kSize;
        if (at < resident) kept[at] = loaded[u];
        Element::unpack(loaded[u], x + u * kPerWord);
      }
      sums.add(x, scale);
    }
    for (; word < words; word += Team::kSize) {
      const uint32_t loaded = loadWord<odd>(from, word);
      if (word < resident) kept[word] = loaded;
      float x[kPerWord];
      Element::unpack(loaded, x);
      sums.add(x, scale);
    }
    if (vocab % kPerWord != 0 && words % Team::kSize == Team::rank()) {
      const float x[1] = {loadElement<Element>(from + (vocab - 1) * kElementBytes<Element>)};
      sums.add(x, scale);
    }
  });
  return sums;
}

template <bool kOdd>
__device__ __forceinline__ void storeWordStreaming(unsigned char* data, int64_t word, uint32_t value) {
  if constexpr (kOdd) {
    storeWord<true>(data, word, value);
  } else {
    __stcs(reinterpret_cast<unsigned*>(data) + word, value);
  }
}

// `to` may be `from`: a thread writes what it alone reads.
template <class Element, class Team>
__device__ void differentiateRow(const RowGradient& g, const unsigned char* from, unsigned char* to, int64_t words,
                                 int64_t resident, int64_t vocab, const uint32_t* kept, float scale, int64_t token) {
  constexpr int kPerWord = Element::kPerWord, kUnroll = 4;
  constexpr int kBytes = kElementBytes<Element>;
  const auto differentiate = [&](auto odd, auto toOdd) {
    const auto write = [&](int64_t word, uint32_t value) { storeWordStreaming<toOdd>(to, word, value); };
    // From the last word that this thread owns back to the first that is not kept.
    int64_t word = words - 1 - (words - 1 - Team::rank()) % Team::kSize;
    if (words <= Team::rank()) word = -1;
    for (; word - (kUnroll - 1) * Team::kSize >= resident; word -= kUnroll * Team::kSize) {
      uint32_t loaded[kUnroll];
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) loaded[u] = loadWord<odd>(from, word - u * Team::kSize);
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        write(word - u * Team::kSize, gradientWord<Element, true>(g, loaded[u], scale));
      }
    }
    for (; word >= resident; word -= Team::kSize) {
      write(word, gradientWord<Element, true>(g, loadWord<odd>(from, word), scale));
    }
    for (; word >= 0; word -= Team::kSize) write(word, gradientWord<Element, true>(g, kept[word], scale));
  };
  withAlignment<Element>(from,
                         [&](auto odd) { withAlignment<Element>(to, [&](auto toOdd) { differentiate(odd, toOdd); }); });
  if (vocab % kPerWord != 0 && words % Team::kSize == Team::rank()) {
    float x[2] = {loadElement<Element>(from + (vocab - 1) * kBytes), 0};
    Element::unpack(gradientWord<Element, true>(g, Element::pack(x), scale), x);
    storeElement<Element>(to + (vocab - 1) * kBytes, x[0]);
  }
  // The thread that wrote the token's word writes over it.
  if (token >= 0 && token < vocab && token / kPerWord % Team::kSize == Team::rank()) {
    storeElement<Element>(to + token * kBytes, g.atToken);
  }
}

// `keptWords`: how many words of a row fit into shared memory. Teams take rows in turn.
template <class Element, RowVisit visit, class Team>
__global__ void __launch_bounds__(Team::kIsBlock ? kStreamThreads : kSmallRowThreads, 1)
    streamRows(const __grid_constant__ RowsLaunch p, const int64_t keptWords) {
  StreamShared& shared = *reinterpret_cast<StreamShared*>(sharedMemory());
  uint32_t* kept = reinterpret_cast<uint32_t*>(sharedMemory() + kStreamHeader);
  const LogitsRequest& r = p.request;
  const int64_t rows = r.policy.sequences * r.policy.length;
  constexpr int64_t kTeams = Team::kIsBlock ? 1 : kSmallRowThreads / kWarp;
  constexpr int kBytes = kElementBytes<Element>;
  const int64_t words = r.vocab / Element::kPerWord;
  const int64_t resident = keptWords < words ? keptWords : words;
  const float scale = p.scale;

  for (int64_t row = int64_t(blockIdx.x) * kTeams + Team::index(); row < rows; row += int64_t(gridDim.x) * kTeams) {
    const bool read = isRead(p, row);
    const unsigned char* from = rowAddress(r.logits, r, row, kBytes);
    RowGradient gradient{};
    int64_t residentNow = 0;
    if (read && visit != RowVisit::backward) {
      RowInputs inputs{};
      if (Team::rank() == 0) {
        inputs = readInputs<Element>(visit, p, row);
        if (Team::kIsBlock) shared.inputs = inputs;
      }
      residentNow = resident;
      const OnlineSums own = sumRow<Element, Team>(from, words, resident, r.vocab, kept, scale);
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
        differentiateRow<Element, Team>(gradient, from, to, words, residentNow, r.vocab, kept, scale, r.tokens[row]);
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
