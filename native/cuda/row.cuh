// Shared by all ways to visit a row of logits: the storage of logits as words of 4 bytes, the online softmax sums,
// and the step from a row's sums to its gradient.
#pragma once

#include "../core/row.hpp"
#include "rows.hpp"
#include "team.cuh"
#include "token.cuh"

namespace groupgrad::cuda {

// Logits are read and written in words of 4 bytes: kPerWord logits. A row of 16-bit logits may be misaligned by
// half a word; a word is then assembled from its halves.
struct Float32 {
  static constexpr int kPerWord = 1;
  static constexpr float kLargest = kFloatMax;
  __device__ static void unpack(uint32_t word, float* x) { x[0] = __uint_as_float(word); }
  __device__ static uint32_t pack(const float* x) { return __float_as_uint(x[0]); }
};
struct Bfloat16 {
  static constexpr int kPerWord = 2;
  static constexpr float kLargest = 0x1.fep127f;
  __device__ static void unpack(uint32_t word, float* x) {
    x[0] = __uint_as_float(word << 16);
    x[1] = __uint_as_float(word & 0xffff0000u);
  }
  __device__ static uint32_t pack(const float* x) { return packBfloat16(x[0], x[1]); }
};
struct Float16 {
  static constexpr int kPerWord = 2;
  static constexpr float kLargest = 65504;
  __device__ static void unpack(uint32_t word, float* x) {
    x[0] = unpackFloat16(word);
    x[1] = unpackFloat16(word >> 16);
  }
  __device__ static uint32_t pack(const float* x) { return packFloat16(x[0], x[1]); }
};

template <class Element>
constexpr int kElementBytes = 4 / Element::kPerWord;

// One logit at a byte address.
template <class Element>
__device__ __forceinline__ float loadElement(const unsigned char* address) {
  if constexpr (Element::kPerWord == 1) return *reinterpret_cast<const float*>(address);
  float x[2];
  Element::unpack(*reinterpret_cast<const uint16_t*>(address), x);
  return x[0];
}
template <class Element>
__device__ __forceinline__ void storeElement(unsigned char* address, float value) {
  const float x[2] = {value, 0};
  if constexpr (Element::kPerWord == 1) {
    *reinterpret_cast<float*>(address) = value;
  } else {
    *reinterpret_cast<uint16_t*>(address) = uint16_t(Element::pack(x));
  }
}
template <class Element>
__device__ __forceinline__ void copyElement(unsigned char* to, const unsigned char* from) {
  if constexpr (Element::kPerWord == 1) {
    *reinterpret_cast<uint32_t*>(to) = *reinterpret_cast<const uint32_t*>(from);
  } else {
    *reinterpret_cast<uint16_t*>(to) = *reinterpret_cast<const uint16_t*>(from);
  }
}

template <bool kOdd>
__device__ __forceinline__ uint32_t loadWord(const unsigned char* data, int64_t word) {
  if constexpr (kOdd) {
    const auto* halves = reinterpret_cast<const uint16_t*>(data) + 2 * word;
    return uint32_t(halves[0]) | uint32_t(halves[1]) << 16;
  }
  return reinterpret_cast<const uint32_t*>(data)[word];
}
template <bool kOdd>
__device__ __forceinline__ void storeWord(unsigned char* data, int64_t word, uint32_t value) {
  if constexpr (kOdd) {
    auto* halves = reinterpret_cast<uint16_t*>(data) + 2 * word;
    halves[0] = uint16_t(value);
    halves[1] = uint16_t(value >> 16);
  } else {
    reinterpret_cast<uint32_t*>(data)[word] = value;
  }
}

// What threads read and write at once where the alignment allows it.
struct Vector {
  static constexpr int kBytes = 16, kWords = 4;
};
template <class Element>
constexpr int kPerVector = Vector::kWords* Element::kPerWord;

// Below this 2^y is 0; clamping y there makes 2^y y 0 rather than 0 * -inf.
constexpr float kExp2Low = -150;
constexpr float kLn2 = 0.693147180559945309f;
constexpr float kLog2e = 1.44269504088896341f;

// Sums of 2^y and 2^y y over logits x, y = (x - maximum) scale with scale = log2(e) / T; of one thread.
struct OnlineSums {
  float maximum = -kFloatMax;  // not -inf, so that x - maximum is never NaN because of it
  float sum = 0;
  float moment = 0;

  template <int kCount>
  __device__ __forceinline__ void add(const float (&x)[kCount], float scale) {
    float next = maximum;
#pragma unroll
    for (int i = 0; i < kCount; ++i) next = fmaxf(next, x[i]);
    raise(next, scale);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const float y = multiply(x[i] - maximum, scale);
      const float e = exp2Fast(y);
      sum += e;  // NaN and +inf come through: inf - inf
      moment = multiplyAdd(e, fmaxf(y, kExp2Low), moment);
    }
  }
  __device__ __forceinline__ void raise(float next, float scale) {
    const float shift = fmaxf(multiply(maximum - next, scale), kExp2Low);
    const float factor = exp2Fast(shift);
    moment = multiply(factor, multiplyAdd(shift, sum, moment));
    sum = multiply(factor, sum);
    maximum = next;
  }
};

// Of many threads.
struct RowTotals {
  float maximum = -kFloatMax;
  double sum = 0;
  double moment = 0;

  __device__ void add(const RowTotals& other, float scale) {
    const float next = fmaxf(maximum, other.maximum);
    rescale(next, scale);
    RowTotals added = other;
    added.rescale(next, scale);
    sum += added.sum;
    moment += added.moment;
  }

 private:
  __device__ void rescale(float next, float scale) {
    const float shift = fmaxf(multiply(maximum - next, scale), kExp2Low);
    const double factor = exp2Fast(shift);
    moment = multiply(factor, multiplyAdd(double(shift), sum, moment));
    sum = multiply(factor, sum);
    maximum = next;
  }
};

// Every lane gets the totals of the warp.
__device__ inline RowTotals warpTotals(OnlineSums own, float scale) {
  own.raise(warpReduce(own.maximum, Larger()), scale);
  return {own.maximum, warpReduce(double(own.sum), Plus()), warpReduce(double(own.moment), Plus())};
}
__device__ inline RowTotals warpTotals(RowTotals own, float scale) {
  RowTotals all;
  all.maximum = warpReduce(own.maximum, Larger());
  own.add({all.maximum, 0, 0}, scale);
  return {all.maximum, warpReduce(own.sum, Plus()), warpReduce(own.moment, Plus())};
}

// A row's sums after its first visit.
struct RowValues {
  float maximum, sum, meanZ, logProb, entropy;
  bool bad;       // a value that is not finite, or nothing but -inf
  bool allMinus;  // the latter
};

// `logit` is the token's; NaN if its id is outside the vocabulary.
__device__ inline RowValues valuesOf(const RowTotals& totals, float logit, float inverseTemperature) {
  RowValues v;
  v.maximum = totals.maximum;
  v.sum = float(totals.sum);
  v.allMinus = totals.sum == 0;
  v.bad = !(totals.sum > 0);
  if (v.bad) {
    v.meanZ = v.logProb = v.entropy = NAN;
    return v;
  }
  // No cancellation: all terms of a log-prob have one sign, as have those of an entropy. 1 is a term of the sum.
  const float logSum = log1pf(float(totals.sum - 1));
  v.meanZ = multiply(kLn2, float(totals.moment) / v.sum);
  v.logProb = multiplyAdd(logit - v.maximum, inverseTemperature, -logSum);
  v.entropy = logSum - v.meanZ;
  return v;
}

// The gradient of a row: zeros, NaN everywhere, or exp2(y) (constant + slope y), with `atToken` at the token.
struct RowGradient {
  enum Kind : int32_t { zero, notANumber, values } kind;
  float maximum, constant, slope, atToken;
};

__device__ inline RowGradient gradientOf(const RowValues& v, float g, float c, float scale) {
  RowGradient out{RowGradient::zero, v.maximum, 0, 0, 0};
  if (g == 0 && c == 0) return out;
  out.kind = RowGradient::notANumber;
  if (v.bad || v.logProb != v.logProb || !isFinite(g) || !isFinite(c)) return out;
  out.kind = RowGradient::values;
  const RowFactors<float> f = rowFactors<float>({v.sum, v.meanZ, v.logProb, v.entropy}, g, c, scale);
  out.constant = f.constant;
  out.slope = kLn2 * f.slope;
  out.atToken = f.atToken;
  return out;
}

// Whether a value of the gradient may be beyond the range of its type: with y <= 0, |exp2(y) (constant + slope y)| is
// at most |constant| + |slope| / (e ln 2).
template <class Element>
__device__ inline bool mayOverflow(const RowGradient& g) {
  const float others = fabsf(g.constant) + fabsf(g.slope) * 0.6f;
  return g.kind == RowGradient::values && !(fmaxf(others, fabsf(g.atToken)) <= Element::kLargest);
}

// Counts those of `count` logits at `address`, by `threads` threads of which this is number `rank`.
template <class Element>
__device__ inline void countOverflows(const unsigned char* address, int64_t count, double* overflows, int rank,
                                      int threads) {
  int bad = 0;
  for (int64_t i = rank; i < count; i += threads) {
    bad += !isFinite(loadElement<Element>(address + i * kElementBytes<Element>));
  }
  if (bad != 0) atomicAdd(overflows, double(bad));
}

// A row's inputs besides its logits; read while the logits are loading.
struct RowInputs {
  TokenInput token;
  SequenceState state;
  Batch batch;
  float logit;  // of the token
};

__device__ inline bool isIn(const PolicyRequest& r, int64_t row) { return !r.mask || r.mask[row] != 0; }

__device__ inline float givenEntropyGradient(const RowsLaunch& p, int64_t row) {
  return p.gradEntropies ? p.gradEntropies[row] : 0;
}

__device__ inline bool isRead(RowVisit visit, const RowsLaunch& p, int64_t row) {
  const PolicyRequest& r = p.request.policy;
  if (visit == RowVisit::given) {
    return isIn(r, row) && (p.gradLogProbs[row] != 0 || givenEntropyGradient(p, row) != 0);
  }
  return isIn(r, row) && !(p.skipInactive && r.advantages[r.advantagesPerToken ? row : row / r.length] == 0);
}

__device__ inline unsigned char* rowAddress(const void* base, const LogitsRequest& r, int64_t row, int bytes) {
  return static_cast<unsigned char*>(const_cast<void*>(base)) + row * r.rowStride * bytes;
}

template <class Element>
__device__ inline RowInputs readInputs(RowVisit visit, const RowsLaunch& p, int64_t row) {
  const LogitsRequest& r = p.request;
  RowInputs in;
  const int32_t token = r.tokens[row];
  constexpr int kBytes = kElementBytes<Element>;
  in.logit = token >= 0 && token < r.vocab
                 ? loadElement<Element>(rowAddress(r.logits, r, row, kBytes) + int64_t(token) * kBytes)
                 : float(NAN);
  if (visit == RowVisit::both) {
    in.state = p.sequences[row / r.policy.length];
    in.token = readToken(r.policy, row, in.state);
    in.batch = *p.batch;
  }
  return in;
}

// By one thread, once, for `given`: the row's gradient, and the number of non-finite inputs.
__device__ inline RowGradient givenGradient(const RowsLaunch& p, int64_t row, const RowValues& v, bool count) {
  const float g = p.gradLogProbs[row], c = givenEntropyGradient(p, row);
  if (count) {
    // NaN and +inf are counted where they are found; an id outside the vocabulary only shows in the log-prob.
    const int64_t logits = v.allMinus ? p.request.vocab : !v.bad && v.logProb != v.logProb;
    const int64_t bad = logits + !isFinite(g) + !isFinite(c);
    if (bad != 0) atomicAdd(&p.header->offending, (unsigned long long)(bad));
  }
  return gradientOf(v, g, c, p.gradientScale);
}

// By one thread, once: the results of the row's first visit and, except for `forward`, its gradient.
__device__ inline RowGradient finishFirstVisit(RowVisit visit, const RowsLaunch& p, int64_t row, const RowInputs& in,
                                               const RowValues& v, bool write) {
  const LogitsRequest& r = p.request;
  if (visit == RowVisit::given) return givenGradient(p, row, v, write);
  if (write) {
    r.logProbs[row] = v.logProb;
    r.entropies[row] = v.entropy;
    if (visit == RowVisit::forward) p.records[row] = {v.maximum, v.sum, v.meanZ};
    // The policy loss counts the row's log-prob once; the row's values are counted where they are found.
    if (v.bad) atomicAdd(&p.header->offending, (unsigned long long)(v.allMinus ? r.vocab - 1 : -1));
  }
  if (visit == RowVisit::forward) return {};
  const bool kept = !p.quantile || v.entropy >= in.batch.entropyThreshold;
  const TokenTerms terms = termsOf(r.policy, in.state, in.token, v.logProb, kept);
  const float g = in.state.factor * terms.gradient + sequenceFlow(r.policy, in.state, in.token, v.logProb);
  if (write) p.gradient[row] = g;
  return gradientOf(v, g, kept ? in.batch.entropyGradient : 0, p.gradientScale);
}

// By one thread, once, for a row that is not read.
__device__ inline void writeUnread(RowVisit visit, const RowsLaunch& p, int64_t row) {
  if (visit == RowVisit::given) return;
  p.request.logProbs[row] = p.request.entropies[row] = 0;
  if (visit == RowVisit::both) p.gradient[row] = 0;
}

// For `backward`: false if the row's gradient is certainly 0.
__device__ inline bool mayHaveGradient(const RowsLaunch& p, int64_t row) {
  return p.gradient[row] != 0 || p.request.policy.config.entropyCoefficient != 0;
}

// By one thread, for `backward`.
__device__ inline RowGradient recordedGradient(const RowsLaunch& p, int64_t row) {
  const LogitsRequest& r = p.request;
  const RowRecord record = p.records[row];
  RowValues v;
  v.maximum = record.maximum;
  v.sum = record.sum;
  v.meanZ = record.meanZ;
  v.logProb = r.logProbs[row];
  v.entropy = r.entropies[row];
  v.bad = v.entropy != v.entropy;
  const bool kept = !p.quantile || v.entropy >= p.batch->entropyThreshold;
  const bool hasEntropy = r.policy.config.entropyCoefficient != 0;
  return gradientOf(v, p.gradient[row], hasEntropy && kept ? p.batch->entropyGradient : 0, p.gradientScale);
}

// The gradient over a word's logits.
template <class Element>
__device__ __forceinline__ uint32_t gradientWord(const RowGradient& g, uint32_t word, float scale) {
  float x[Element::kPerWord];
  Element::unpack(word, x);
#pragma unroll
  for (float& value : x) {
    const float y = fmaxf(multiply(value - g.maximum, scale), kExp2Low);
    value = exp2Fast(y) * (g.constant + g.slope * y);
  }
  return Element::pack(x);
}

// Fills `bytes` bytes, by `threads` threads of which this is number `rank`.
template <class Element>
__device__ inline void fillBytes(unsigned char* to, int64_t bytes, float value, int rank, int threads) {
  constexpr int kBytes = kElementBytes<Element>;
  const float pair[2] = {value, value};
  const uint32_t word = Element::pack(pair);
  int64_t head = (16 - int64_t(reinterpret_cast<uintptr_t>(to) % 16)) % 16;
  if (head > bytes) head = bytes;
  const int64_t middle = (bytes - head) / 16;
  for (int64_t i = rank; i < head / kBytes; i += threads) storeElement<Element>(to + i * kBytes, value);
  auto* vectors = reinterpret_cast<uint4*>(to + head);
  for (int64_t i = rank; i < middle; i += threads) __stcs(vectors + i, make_uint4(word, word, word, word));
  const int64_t done = head + 16 * middle;
  for (int64_t i = rank; i < (bytes - done) / kBytes; i += threads) {
    storeElement<Element>(to + done + i * kBytes, value);
  }
}

}  // namespace groupgrad::cuda
