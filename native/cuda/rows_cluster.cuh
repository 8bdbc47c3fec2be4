// The row kernels (K3) for compute capability 9.0 and above: a row is read once and its gradient written once. A
// cluster of blocks holds the row in shared memory, one slice per block; bulk copies load slices in chunks whose
// maximum is found as they arrive, and store the gradient. Which thread handles which logit depends only on the
// vocabulary, never on where a row starts.
#pragma once

#include "row.cuh"

namespace groupgrad::cuda {

constexpr int kClusterThreads = 256;
constexpr int kClusterWarps = kClusterThreads / kWarp;
constexpr int kPortableRanks = 8;  // the largest cluster that every such device has
constexpr int kMaxRanks = 16;      // the largest that any has
constexpr int kChunks = 2;

// y = (x - maximum) scale as one multiply-add, x scale - scaled, unless the product is large. It is off by the rounding
// of `scaled`, the same for every x: y is (x - maximum) scale + rest.
struct Frame {
  float scaled, rest;
  bool fused;

  __device__ Frame(float maximum, float scale) {
    scaled = multiply(maximum, scale);
    rest = multiplyAdd(maximum, scale, -scaled);
    fused = fabsf(scaled) <= 256;
  }
};

// A row's gradient in the form that takes the fewest instructions.
struct ClusterGradient {
  enum Form : int32_t {
    general,   // `row` as it is
    sloped,    // exp2(y) (constant + slope y) with y = x scale - row.maximum: the maximum is a frame's `scaled`
    constant,  // the same without a slope
  };
  RowGradient row;
  Form form;
  bool mayOverflow;
};

struct ClusterShared {
  alignas(16) uint64_t barriers[kChunks];
  // The sums of every warp of the block; and of every block of the cluster, in every block.
  float warpMaxima[kClusterWarps];
  float maxima[kMaxRanks];
  double warpSums[kClusterWarps], warpMoments[kClusterWarps];
  double sums[kMaxRanks], moments[kMaxRanks];
  RowInputs inputs;
  ClusterGradient gradient;
  bool countOffending;
};
// The slice follows, with the same alignment modulo 16 as the row in global memory.
constexpr int64_t kClusterHeader = (sizeof(ClusterShared) + 15) / 16 * 16;

// Three blocks share a multiprocessor, so that some compute while others load and store. The largest slice for that;
// the system reserves 1 KiB per block. Larger slices justify a cluster that not every device supports.
constexpr int kClusterBlocks = 3;
constexpr int64_t goodSlice(int64_t sharedMemoryPerBlock) {
  constexpr int64_t kReserved = 1024;
  return (sharedMemoryPerBlock + kReserved) / kClusterBlocks / 16 * 16 - kReserved - kClusterHeader - 16;
}
static_assert(151936 / 8 * 4 <= goodSlice(227 * 1024), "Qwen's vocabulary in float32, on an H100");

// A whole number of 16-byte vectors.
inline int64_t logitsPerSlice(int64_t vocab, int ranks, int elementBytes) {
  const int64_t vector = 16 / elementBytes;
  const int64_t even = (vocab + ranks - 1) / ranks;
  return (even + vector - 1) / vector * vector;
}
inline int64_t clusterSharedBytes(int64_t vocab, int ranks, int elementBytes) {
  return kClusterHeader + logitsPerSlice(vocab, ranks, elementBytes) * elementBytes + 16;
}

// Words that a thread takes at once.
constexpr int kClusterUnroll = 8;

// A multiple of what all threads handle at once, so that only the last chunk has a remainder.
template <class Element>
int32_t logitsPerChunk(int64_t sliceLogits) {
  constexpr int64_t kStep = kClusterThreads * Element::kPerWord * kClusterUnroll;
  return int32_t((sliceLogits + kChunks * kStep - 1) / (kChunks * kStep) * kStep);
}

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900

// A block's part of a row. Offsets are in bytes from the slice's start in shared memory.
template <class Element>
struct Slice {
  static constexpr int kBytes = kElementBytes<Element>;
  int64_t first;     // logit of the row
  int count;         // of logits
  int chunk;         // logits a chunk, a multiple of what all threads handle at once
  int misalignment;  // of the row's address: where the first logit is
  int low, high;     // the whole 16-byte vectors within; bulk copies move these
  const unsigned char* from;

  __device__ Slice(const RowsLaunch& p, int64_t row, uint32_t rank) {
    const LogitsRequest& r = p.request;
    first = int64_t(rank) * p.sliceLogits;
    const int64_t left = r.vocab - first;
    count = int(left < 0 ? 0 : left < p.sliceLogits ? left : p.sliceLogits);
    chunk = p.chunkLogits;
    from = rowAddress(r.logits, r, row, kBytes) + first * kBytes;
    misalignment = int(reinterpret_cast<uintptr_t>(from) % 16);
    low = misalignment == 0 ? 0 : 16;
    high = (misalignment + count * kBytes) / 16 * 16;
    if (high < low) high = low;
  }
  __device__ int end() const { return misalignment + count * kBytes; }
  __device__ int chunkEnd(int q) const { return (q + 1) * chunk < count ? (q + 1) * chunk : count; }  // in logits
  // Where chunk q's bulk copy ends: all of its logits have arrived by then.
  __device__ int bulkEnd(int q) const {
    if (q == kChunks - 1) return high;
    const int bytes = (misalignment + chunkEnd(q) * kBytes + 15) / 16 * 16;
    return bytes < low ? low : bytes > high ? high : bytes;
  }

  // fn(offset) for the logits outside of whole vectors, by all threads.
  template <class F>
  __device__ void forEachEdge(const F& fn) const {
    const int headEnd = low < end() ? low : end();
    const int head = headEnd > misalignment ? (headEnd - misalignment) / kBytes : 0;
    const int tailBegin = high > headEnd ? high : headEnd;
    const int tail = (end() - tailBegin) / kBytes;
    const int t = int(threadIdx.x);
    if (t < head) fn(misalignment + t * kBytes);
    if (t < tail) fn(tailBegin + t * kBytes);
  }
};

// Starts loading the slice into shared memory. By all threads.
template <class Element>
__device__ void startLoad(const Slice<Element>& slice, ClusterShared& shared, unsigned char* data) {
  if (threadIdx.x == 0) {
    for (int q = 0; q < kChunks; ++q) barrierInit(&shared.barriers[q]);
    barrierInitFence();
    int begin = slice.low;
    for (int q = 0; q < kChunks; ++q) {
      const int end = slice.bulkEnd(q);
      barrierExpect(&shared.barriers[q], uint32_t(end - begin));
      if (end > begin) {
        bulkLoad(data + begin, slice.from + (begin - slice.misalignment), uint32_t(end - begin), &shared.barriers[q]);
      }
      begin = end;
    }
  }
  slice.forEachEdge([&](int at) { copyElement<Element>(data + at, slice.from + (at - slice.misalignment)); });
  __syncthreads();  // barriers are initialised, edges are there
}

// The larger ones of the logits of two words.
template <class Element>
__device__ __forceinline__ uint32_t largerWord(uint32_t a, uint32_t b) {
  if constexpr (std::is_same_v<Element, Bfloat16>) return maxBfloat16(a, b);
  if constexpr (std::is_same_v<Element, Float16>) return maxFloat16(a, b);
  return __float_as_uint(fmaxf(__uint_as_float(a), __uint_as_float(b)));
}

// How threads access a row in shared memory: in turns of a vector of 16 bytes, or of a word where the vocabulary has no
// whole number of vectors and rows begin anywhere: words are read without bank conflicts. `kWhole`: at once; the row's
// alignment may not allow it.
template <class Element, bool kVectors, bool kWhole>
struct Access {
  static constexpr int kWords = kVectors ? Vector::kWords : 1;
  static constexpr int kLogits = kWords * Element::kPerWord;
  static constexpr bool kHalves = Element::kPerWord > 1 && !kWhole;
  struct Turn {
    uint32_t words[kWords];
  };

  __device__ static __forceinline__ Turn load(const unsigned char* row, int turn) {
    if constexpr (kVectors && kWhole) {
      const uint4 v = reinterpret_cast<const uint4*>(row)[turn];
      return {{v.x, v.y, v.z, v.w}};
    } else {
      Turn loaded;
#pragma unroll
      for (int i = 0; i < kWords; ++i) loaded.words[i] = loadWord<kHalves>(row, turn * kWords + i);
      return loaded;
    }
  }
  __device__ static __forceinline__ void store(unsigned char* row, int turn, const Turn& t) {
    if constexpr (kVectors && kWhole) {
      reinterpret_cast<uint4*>(row)[turn] = make_uint4(t.words[0], t.words[1], t.words[2], t.words[3]);
    } else {
#pragma unroll
      for (int i = 0; i < kWords; ++i) storeWord<kHalves>(row, turn * kWords + i, t.words[i]);
    }
  }
  // fn(number, turn) for this thread's turns among those that begin in logits [from, end) of the row.
  template <class F>
  __device__ static __forceinline__ void forEach(const unsigned char* row, int from, int end, const F& fn) {
    constexpr int kUnroll = kClusterUnroll / kWords;
    int turn = from / kLogits + int(threadIdx.x);
    end /= kLogits;
#pragma unroll 1
    for (; turn + (kUnroll - 1) * kClusterThreads < end; turn += kUnroll * kClusterThreads) {
      Turn loaded[kUnroll];
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) loaded[u] = load(row, turn + u * kClusterThreads);
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) fn(turn + u * kClusterThreads, loaded[u]);
    }
#pragma unroll 1
    for (; turn < end; turn += kClusterThreads) fn(turn, load(row, turn));
  }
  // Which thread handles a logit of a whole turn.
  __device__ static int owner(int logit) { return logit / kLogits % kClusterThreads; }
};

// fn(the access to a row).
template <class Element, class F>
__device__ __forceinline__ void withAccess(int64_t vocab, int misalignment, const F& fn) {
  if (vocab % kPerVector<Element> == 0) {
    if (misalignment % Vector::kBytes == 0) {
      fn(Access<Element, true, true>());
    } else {
      fn(Access<Element, true, false>());
    }
  } else if (misalignment % 4 == 0) {
    fn(Access<Element, false, true>());
  } else if constexpr (Element::kPerWord > 1) {
    fn(Access<Element, false, false>());
  }
}

// Whether the slice ends with a logit that is not part of a whole word, and this thread handles it.
template <class Element>
__device__ __forceinline__ bool ownsLast(const Slice<Element>& slice) {
  return slice.count % Element::kPerWord != 0 && Access<Element, false, true>::owner(slice.count) == int(threadIdx.x);
}
template <class Element>
__device__ __forceinline__ float logitAt(const Slice<Element>& slice, const unsigned char* data, int logit) {
  return loadElement<Element>(data + slice.misalignment + logit * slice.kBytes);
}

// The largest logit of the slice, found as its chunks arrive. By all threads; each gets it.
template <class Element>
__device__ float maximumOf(const Slice<Element>& slice, ClusterShared& shared, const unsigned char* data) {
  const auto larger = [](float a, float b) { return fmaxf(a, b); };
  const float lowest[2] = {-Element::kLargest, -Element::kLargest};
  uint32_t words[Vector::kWords];
#pragma unroll
  for (uint32_t& word : words) word = Element::pack(lowest);
  using Vectors = Access<Element, true, true>;
  int begin = slice.low / slice.kBytes;
#pragma unroll 1
  for (int q = 0; q < kChunks; ++q) {
    const int end = slice.bulkEnd(q) / slice.kBytes;
    barrierWait(&shared.barriers[q]);
    Vectors::forEach(data, begin, end, [&](int, const auto& vector) {
#pragma unroll
      for (int i = 0; i < Vector::kWords; ++i) words[i] = largerWord<Element>(words[i], vector.words[i]);
    });
    begin = end;
  }
  const uint32_t word =
      largerWord<Element>(largerWord<Element>(words[0], words[1]), largerWord<Element>(words[2], words[3]));
  float x[2] = {-kFloatMax, -kFloatMax};
  Element::unpack(word, x);
  float own = fmaxf(x[0], x[1]);
  slice.forEachEdge([&](int at) { own = fmaxf(own, loadElement<Element>(data + at)); });
  own = warpReduce(own, larger);
  if (threadIdx.x % kWarp == 0) shared.warpMaxima[threadIdx.x / kWarp] = own;
  __syncthreads();
  float maximum = shared.warpMaxima[0];
#pragma unroll
  for (int warp = 1; warp < kClusterWarps; ++warp) maximum = fmaxf(maximum, shared.warpMaxima[warp]);
  return maximum;
}

// Sums of exp2(y) and exp2(y) y over this thread's logits.
struct SliceSums {
  float sum = 0, moment = 0;
};

// `kClamped`: y may be -inf.
template <bool kFused, bool kClamped, class Element, class Turns>
__device__ SliceSums sumTurns(const Slice<Element>& slice, Turns, const unsigned char* data, float maximum,
                              float scaled, float scale) {
  SliceSums s;
  const auto add = [&](float x) {
    const float y = kFused ? multiplyAdd(x, scale, -scaled) : multiply(x - maximum, scale);
    const float e = exp2Fast(y);
    s.sum += e;  // NaN and +inf come through
    s.moment = multiplyAdd(e, kClamped ? fmaxf(y, kExp2Low) : y, s.moment);
  };
  Turns::forEach(data + slice.misalignment, 0, slice.count, [&](int, const auto& turn) {
#pragma unroll
    for (const uint32_t word : turn.words) {
      float x[Element::kPerWord];
      Element::unpack(word, x);
#pragma unroll
      for (const float logit : x) add(logit);
    }
  });
  if (ownsLast(slice)) add(logitAt(slice, data, slice.count - 1));
  return s;
}

template <class Element>
__device__ SliceSums sumSlice(const Slice<Element>& slice, int64_t vocab, const unsigned char* data, float maximum,
                              const Frame& frame, float scale) {
  SliceSums s;
  withAccess<Element>(vocab, slice.misalignment, [&](auto turns) {
    if (frame.fused) {
      s = sumTurns<true, false>(slice, turns, data, maximum, frame.scaled, scale);
      if (s.moment != s.moment) s = sumTurns<true, true>(slice, turns, data, maximum, frame.scaled, scale);
    } else {
      s = sumTurns<false, true>(slice, turns, data, maximum, frame.scaled, scale);
    }
  });
  return s;
}

// fn(the gradient's form).
template <class F>
__device__ __forceinline__ void withForm(const ClusterGradient& g, const F& fn) {
  using Form = ClusterGradient::Form;
  if (g.form == Form::general) {
    fn(std::integral_constant<Form, Form::general>());
  } else if (g.form == Form::sloped) {
    fn(std::integral_constant<Form, Form::sloped>());
  } else {
    fn(std::integral_constant<Form, Form::constant>());
  }
}

// The gradient over a word's logits.
template <class Element, ClusterGradient::Form form>
__device__ __forceinline__ uint32_t differentiated(const RowGradient& g, uint32_t word, float scale) {
  using Form = ClusterGradient::Form;
  if constexpr (form == Form::general) {
    return gradientWord<Element>(g, word, scale);
  } else {
    float x[Element::kPerWord];
    Element::unpack(word, x);
#pragma unroll
    for (float& value : x) {
      const float y = multiplyAdd(value, scale, -g.maximum);
      if constexpr (form == Form::sloped) {
        const float clamped = fmaxf(y, kExp2Low);
        value = exp2Fast(clamped) * (g.constant + g.slope * clamped);
      } else {
        value = exp2Fast(y) * g.constant;
      }
    }
    return Element::pack(x);
  }
}

// Turns the slice into its gradient in shared memory and stores it to global memory, by chunks. By all threads.
template <class Element>
__device__ void storeGradient(const Slice<Element>& slice, const ClusterGradient& g, unsigned char* data,
                              unsigned char* to, float scale, int64_t vocab, int64_t token) {
  constexpr int kBytes = Slice<Element>::kBytes;
  unsigned char* row = data + slice.misalignment;
  const bool bulk = int(reinterpret_cast<uintptr_t>(to) % 16) == slice.misalignment;
  const int64_t local = token - slice.first;
  const int tokenChunk = local >= 0 && local < slice.count ? int(local) / slice.chunk : -1;
  int stored = slice.low;  // of thread 0
#pragma unroll 1
  for (int q = 0; q < kChunks; ++q) {
    const int from = q * slice.chunk, count = slice.chunkEnd(q);
    withForm(g, [&](auto form) {
      const auto of = [&](uint32_t word) { return differentiated<Element, form>(g.row, word, scale); };
      withAccess<Element>(vocab, slice.misalignment, [&](auto turns) {
        turns.forEach(row, from, count, [&](int number, auto turn) {
#pragma unroll
          for (uint32_t& word : turn.words) word = of(word);
          turns.store(row, number, turn);
        });
        // The thread that wrote the token's gradient with the others overwrites it.
        if (q == tokenChunk && turns.owner(int(local)) == int(threadIdx.x)) {
          storeElement<Element>(row + local * kBytes, g.row.atToken);
        }
      });
      if (count == slice.count && from < count && ownsLast(slice)) {
        float x[2] = {logitAt(slice, data, count - 1), 0};
        Element::unpack(of(Element::pack(x)), x);
        storeElement<Element>(row + (count - 1) * kBytes, local == count - 1 ? g.row.atToken : x[0]);
      }
    });
    bulkFence();
    __syncthreads();
    if (threadIdx.x == 0 && bulk) {
      // A vector that the next chunk shares is left to that chunk.
      const int whole = (slice.misalignment + count * kBytes) / 16 * 16;
      const int ready = q == kChunks - 1 ? slice.high : whole;
      if (ready > stored) {
        bulkStore(to + (stored - slice.misalignment), data + stored, uint32_t(ready - stored));
        bulkCommit();
        stored = ready;
      }
    }
  }
  if (bulk) {
    slice.forEachEdge([&](int at) { copyElement<Element>(to + (at - slice.misalignment), data + at); });
    if (threadIdx.x == 0) bulkStoresRead();
  } else {
    // Logits and gradient have different alignment modulo 16: rare, so without bulk copies.
    for (int i = int(threadIdx.x); i < slice.count; i += kClusterThreads) {
      copyElement<Element>(to + i * kBytes, row + i * kBytes);
    }
  }
}

// The block's sums with its own maximum, from those in a frame. The largest logit adds exactly 1.
__device__ inline RowTotals outOfFrame(float maximum, const Frame& frame, double sum, double moment) {
  if (!frame.fused || sum == 0) return {maximum, sum, moment};
  const double factor = exp2f(-frame.rest);
  const double shifted = multiply(factor, multiplyAdd(-double(frame.rest), sum, moment));
  return {maximum, multiplyAdd(factor, sum - double(exp2Fast(frame.rest)), 1.0), shifted > 0 ? 0 : shifted};
}

// The sums of the whole row, from those of every thread of the cluster. By all threads; the first warp gets them.
__device__ inline RowTotals exchange(float maximum, const Frame& frame, const SliceSums& own, ClusterShared& shared,
                                     uint32_t rank, uint32_t ranks, float scale) {
  const double warpSum = warpReduce(double(own.sum), Plus()), warpMoment = warpReduce(double(own.moment), Plus());
  const uint32_t lane = threadIdx.x % kWarp, index = threadIdx.x / kWarp;
  if (lane == 0) {
    shared.warpSums[index] = warpSum;
    shared.warpMoments[index] = warpMoment;
  }
  __syncthreads();
  RowTotals totals;
  if (index == 0) {
    const double sum = warpReduce(lane < kClusterWarps ? shared.warpSums[lane] : 0, Plus());
    const double moment = warpReduce(lane < kClusterWarps ? shared.warpMoments[lane] : 0, Plus());
    totals = outOfFrame(maximum, frame, sum, moment);
  }
  clusterWait();  // every block has started: its shared memory may be written
  if (index == 0 && lane < ranks) {
    storeToPeer(&shared.maxima[rank], lane, totals.maximum);
    storeToPeer(&shared.sums[rank], lane, totals.sum);
    storeToPeer(&shared.moments[rank], lane, totals.moment);
  }
  clusterArrive();
  clusterWait();
  totals = {};
  if (index == 0) {
    if (lane < ranks) totals.add({shared.maxima[lane], shared.sums[lane], shared.moments[lane]}, scale);
    totals = warpTotals(totals, scale);
  }
  return totals;
}

// By one thread.
template <class Element>
__device__ ClusterGradient formOf(const RowGradient& g, float scale) {
  using Form = ClusterGradient::Form;
  ClusterGradient out{g, Form::general, mayOverflow<Element>(g)};
  const Frame frame(g.maximum, scale);
  if (g.kind != RowGradient::values || !frame.fused) return out;
  out.form = g.slope != 0 ? Form::sloped : Form::constant;
  const float factor = exp2f(-frame.rest);
  out.row.maximum = frame.scaled;
  out.row.constant = factor * (g.constant - g.slope * frame.rest);
  out.row.slope = factor * g.slope;
  return out;
}

template <class Element>
__device__ void countOffending(const Slice<Element>& slice, const unsigned char* data, Header& header) {
  int bad = 0;
  for (int i = int(threadIdx.x); i < slice.count; i += kClusterThreads) {
    bad += !(loadElement<Element>(data + slice.misalignment + i * slice.kBytes) <= kFloatMax);
  }
  if (bad != 0) atomicAdd(&header.offending, (unsigned long long)(bad));
}

#endif

// Blocks of a cluster take the slices of one row.
template <class Element, RowVisit visit>
__global__ void __launch_bounds__(kClusterThreads, kClusterBlocks) clusterRows(const __grid_constant__ RowsLaunch p) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  ClusterShared& shared = *reinterpret_cast<ClusterShared*>(sharedMemory());
  unsigned char* data = sharedMemory() + kClusterHeader;
  awaitEarlierKernels();
  const LogitsRequest& r = p.request;
  const uint32_t rank = clusterRank(), ranks = clusterSize();
  const int64_t row = int64_t(blockIdx.x >> (31 - __clz(int(ranks))));  // ranks is a power of two
  const Slice<Element> slice(p, row, rank);
  const bool read = isRead(visit, p, row);

  ClusterGradient gradient{};
  if (read && visit != RowVisit::backward) {
    startLoad(slice, shared, data);
    clusterArriveRelaxed();  // this block has started
    if (threadIdx.x == 0) shared.inputs = readInputs<Element>(visit, p, row);
    const float maximum = maximumOf(slice, shared, data);
    const Frame frame(maximum, p.scale);
    const SliceSums own = sumSlice(slice, r.vocab, data, maximum, frame, p.scale);
    const RowTotals totals = exchange(maximum, frame, own, shared, rank, ranks, p.scale);
    if (threadIdx.x == 0) {
      const RowValues v = valuesOf(totals, shared.inputs.logit, p.inverseTemperature);
      shared.countOffending = v.bad && !v.allMinus;
      shared.gradient = formOf<Element>(finishFirstVisit(visit, p, row, shared.inputs, v, rank == 0), p.scale);
    }
    __syncthreads();
    if (shared.countOffending) countOffending(slice, data, *p.header);
    gradient = shared.gradient;
  } else if (!read && visit != RowVisit::backward) {
    if (rank == 0 && threadIdx.x == 0) writeUnread(visit, p, row);
  } else if (read) {
    const bool loads = mayHaveGradient(p, row);
    if (loads) startLoad(slice, shared, data);
    if (threadIdx.x == 0) shared.gradient = formOf<Element>(recordedGradient(p, row), p.scale);
    __syncthreads();
    gradient = shared.gradient;
    if (loads) {
      for (int q = 0; q < kChunks; ++q) barrierWait(&shared.barriers[q]);
    }
  }
  if (visit == RowVisit::forward || !r.gradLogits) return;

  unsigned char* out = rowAddress(r.gradLogits, r, row, slice.kBytes);
  unsigned char* to = out + slice.first * slice.kBytes;
  if (gradient.row.kind == RowGradient::values) {
    storeGradient(slice, gradient, data, to, p.scale, r.vocab, r.tokens[row]);
    if (gradient.mayOverflow) {
      countOverflows<Element>(data + slice.misalignment, slice.count, p.overflows, int(threadIdx.x), kClusterThreads);
    }
  } else if (gradient.row.kind == RowGradient::notANumber || !r.zeroed) {
    const float value = gradient.row.kind == RowGradient::zero ? 0 : float(NAN);
    fillBytes<Element>(to, int64_t(slice.count) * slice.kBytes, value, int(threadIdx.x), kClusterThreads);
  }
  if (rank == 0 && !r.zeroed) {
    fillBytes<Element>(out + r.vocab * slice.kBytes, (r.rowStride - r.vocab) * slice.kBytes, 0, int(threadIdx.x),
                       kClusterThreads);
  }
#endif
}

}  // namespace groupgrad::cuda
