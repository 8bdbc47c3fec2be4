// Random requests for fuzz.cpp over all options of the CPU device. Every array is on the heap and ends with its last
// value, so that the address sanitizer detects the first access beyond it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <memory>
#include <vector>

#include "../../native/core/config.hpp"
#include "../../native/core/surrogate.hpp"

namespace groupgrad::test {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

// splitmix64
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t bits() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  double uniform(double low = 0, double high = 1) { return low + (high - low) * double(bits() >> 11) * 0x1p-53; }
  int64_t integer(int64_t low, int64_t high) { return low + int64_t(bits() % uint64_t(high - low + 1)); }
  double normal() { return std::sqrt(-2 * std::log(1 - uniform())) * std::cos(6.283185307179586 * uniform()); }
  bool chance(double probability) { return uniform() < probability; }
  template <class T>
  T pick(std::initializer_list<T> choices) {
    return choices.begin()[integer(0, int64_t(choices.size()) - 1)];
  }

 private:
  uint64_t state_;
};

// Values on the heap, at an address that is no more aligned than a JavaScript array's may be.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t size, int64_t shift = 1)
      : size_(size), shift_(shift), memory_(new T[std::size_t(size + shift)]) {
    // Unwritten values stay recognisable, and are no plausible result.
    std::memset(static_cast<void*>(memory_.get()), 0xa5, std::size_t(size + shift) * sizeof(T));
  }
  explicit Buffer(const std::vector<T>& values, int64_t shift = 1) : Buffer(int64_t(values.size()), shift) {
    std::copy(values.begin(), values.end(), data());
  }

  T* data() { return memory_ ? memory_.get() + shift_ : nullptr; }
  const T* data() const { return memory_ ? memory_.get() + shift_ : nullptr; }
  int64_t size() const { return size_; }
  T& operator[](int64_t i) { return data()[i]; }
  const T& operator[](int64_t i) const { return data()[i]; }
  std::vector<T> copy() const { return {data(), data() + size_}; }

 private:
  int64_t size_ = 0, shift_ = 0;
  std::unique_ptr<T[]> memory_;
};

inline uint16_t toBfloat16(float x) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, x);
  return uint16_t(x == x ? (bits + 0x7fff + ((bits >> 16) & 1)) >> 16 : 0x7fc0);
}
inline uint16_t toFloat16(float x) { return __builtin_bit_cast(uint16_t, _Float16(x)); }
inline float fromFloat16(uint16_t x) { return float(__builtin_bit_cast(_Float16, x)); }
inline float fromBfloat16(uint16_t x) { return __builtin_bit_cast(float, uint32_t(x) << 16); }
inline float fromHalf(Dtype dtype, uint16_t x) { return dtype == Dtype::float16 ? fromFloat16(x) : fromBfloat16(x); }

// Common to the losses from log-probs and from logits.
struct TokenDraw {
  bool wild = false;  // NaN, infinities, huge and tiny values; otherwise all values read are of order 1
  int64_t sequences = 1, length = 1;
  Buffer<uint8_t> mask;
  Buffer<float> logProbs;  // of a policy-loss draw
  Buffer<float> oldLogProbs, refLogProbs, tokenWeights, advantages;
  PolicyRequest request;  // points at them; no output yet

  int64_t tokens() const { return sequences * length; }
  bool isIn(int64_t at) const { return !mask.data() || mask[at] != 0; }
};

inline float wildFloat(Random& random) {
  return random.pick<float>(
      {kNan, -kNan, kInf, -kInf, 3e38f, -3e38f, 1e-40f, -1e-40f, 0.0f, -0.0f, 1e4f, -1e4f, 88.0f, -88.0f, -105.0f});
}

inline LossConfig drawConfig(Random& random, bool wild, int64_t length) {
  LossConfig c;
  c.ratio = random.pick({Ratio::token, Ratio::sequence, Ratio::sequenceToken});
  c.surrogate = int32_t(random.integer(0, int64_t(std::tuple_size_v<Surrogates>) - 1));
  const double infinity = std::numeric_limits<double>::infinity();
  const double low = random.uniform(0.1, 0.4), high = random.uniform(0.1, 0.4);
  const auto set = [&](std::initializer_list<double> values) {
    for (std::size_t i = 0; i < values.size(); ++i) c.surrogateParameters[i] = values.begin()[i];
  };
  switch (c.surrogate) {
    case 0:
      set({low, high, random.chance(0.7) ? infinity : random.uniform(0.9, 2),
           random.chance(0.7) ? infinity : random.uniform(1.1, 3)});
      break;
    case 1: set({1 + high, random.chance(0.5) ? low : infinity}); break;
    case 2: set({random.uniform(0.5, 2), random.uniform(0.5, 2)}); break;
    case 3: set({low, high}); break;
    case 4: set({2, 3, 3, 2}); break;
  }
  if (wild && random.chance(0.2)) {
    for (double& p : c.surrogateParameters) p = random.pick({0.0, 1e-300, 1e-30, 1.0, 1e30, 3e38});
  }
  c.aggregation =
      random.pick({Aggregation::sequenceMean, Aggregation::tokenMean, Aggregation::sequenceSum, Aggregation::constant});
  c.dropEmptySequences = random.chance(0.3);
  c.maxLength = double(length + random.integer(0, 3));
  if (random.chance(0.3)) c.logRatioClamp = wild ? random.pick({1e-300, 0.3, 3e38}) : random.uniform(0.1, 1);
  if (random.chance(0.3)) c.offPolicyThreshold = random.uniform(-0.2, 0.3);
  if (random.chance(0.5)) {
    c.klBeta = wild && random.chance(0.1) ? random.pick({1e-300, 1e30}) : random.uniform(0.01, 0.5);
    c.klEstimator = random.pick({KlEstimator::k1, KlEstimator::k2, KlEstimator::k3});
    c.klImportanceWeighted = random.chance(0.5);
    if (random.chance(0.3)) c.klLogRatioClamp = wild ? random.pick({1e-300, 0.3, 20.0, 3e38}) : random.uniform(0.1, 1);
  }
  return c;
}

// Sequences, most of which end early. 2 and 255 count like 1.
inline void drawMask(Random& random, TokenDraw& d) {
  if (random.chance(0.2)) return;
  d.mask = Buffer<uint8_t>(d.tokens(), random.integer(0, 3));
  const bool none = random.chance(0.03);
  for (int64_t b = 0; b < d.sequences; ++b) {
    const int64_t end = none || random.chance(0.15) ? 0 : random.integer(0, d.length);
    for (int64_t t = 0; t < d.length; ++t) {
      d.mask[b * d.length + t] = t < end && random.chance(0.9) ? random.pick<uint8_t>({1, 1, 2, 255}) : 0;
    }
  }
}

// Everything except the log-probs, for a policy with these. Masked tokens contain garbage.
inline void drawTokens(Random& random, TokenDraw& d, const std::vector<float>& logProbs) {
  const int64_t tokens = d.tokens(), shift = random.integer(0, 3);
  const auto fill = [&](Buffer<float>& buffer, const auto& draw) {
    buffer = Buffer<float>(tokens, shift);
    for (int64_t at = 0; at < tokens; ++at) {
      buffer[at] = !d.isIn(at) || (d.wild && random.chance(0.03)) ? wildFloat(random) : float(draw(at));
    }
  };
  const auto center = [&](int64_t at) {
    const float l = logProbs[std::size_t(at)];
    return std::isfinite(l) ? double(l) : -1.0;
  };
  const double spread = random.pick({0.05, 0.4});
  if (random.chance(0.8)) {
    fill(d.oldLogProbs, [&](int64_t at) { return center(at) + spread * random.normal(); });
  }
  fill(d.refLogProbs, [&](int64_t at) { return center(at) + 0.3 * random.normal(); });
  if (random.chance(0.3)) {
    fill(d.tokenWeights, [&](int64_t) { return random.chance(0.1) ? 0 : random.uniform(0.3, 2); });
  }
  const auto advantage = [&](int64_t) { return random.chance(0.15) ? 0 : random.normal(); };
  PolicyRequest& r = d.request;
  r.advantagesPerToken = random.chance(0.4);
  if (r.advantagesPerToken) {
    fill(d.advantages, advantage);
  } else {
    d.advantages = Buffer<float>(d.sequences, shift);
    for (int64_t b = 0; b < d.sequences; ++b) {
      d.advantages[b] = d.wild && random.chance(0.03) ? wildFloat(random) : float(advantage(b));
    }
  }

  r.sequences = d.sequences;
  r.length = d.length;
  r.oldLogProbs = d.oldLogProbs.data();
  r.mask = d.mask.data();
  r.advantages = d.advantages.data();
  r.tokenWeights = d.tokenWeights.data();
  if (random.chance(0.3)) r.normalizer = random.uniform(1, 60);
  if (random.chance(0.3)) r.globalSequences = double(random.integer(1, 12));
  r.config = drawConfig(random, d.wild, d.length);
  if (r.config.klBeta != 0 || random.chance(0.3)) r.refLogProbs = d.refLogProbs.data();
  r.metrics = random.chance(0.8);
  r.threads = 1;
}

// `large`: the share of draws that are large enough for several threads.
inline TokenDraw drawPolicy(Random& random, double large) {
  TokenDraw d;
  d.wild = random.chance(0.5);
  if (random.chance(large)) {
    d.sequences = random.integer(16, 40);
    d.length = random.integer(500, 1100);
  } else if (random.chance(0.15)) {  // the edges of a chunk
    d.sequences = random.integer(1, 3);
    d.length = random.pick<int64_t>({511, 512, 513, 1023, 1024, 1025});
  } else {
    d.sequences = random.integer(1, 6);
    d.length = random.integer(1, 70);
  }
  drawMask(random, d);
  std::vector<float> logProbs(std::size_t(d.tokens()));
  for (int64_t at = 0; at < d.tokens(); ++at) {
    const bool odd = !d.isIn(at) || (d.wild && random.chance(0.03));
    logProbs[std::size_t(at)] = odd ? wildFloat(random) : float(-random.uniform(0.01, 5));
  }
  drawTokens(random, d, logProbs);
  d.logProbs = Buffer<float>(logProbs, random.integer(0, 3));
  d.request.logProbs = d.logProbs.data();
  return d;
}

struct LogitsDraw : TokenDraw {
  int64_t vocab = 1, rowStride = 1;
  Dtype dtype = Dtype::float32;
  double temperature = 1;
  Buffer<float> logits;  // one of them, by dtype
  Buffer<uint16_t> halfLogits;
  Buffer<int32_t> tokenIds;

  float logit(int64_t row, int64_t j) const {
    const int64_t at = row * rowStride + j;
    return dtype == Dtype::float32 ? logits[at] : fromHalf(dtype, halfLogits[at]);
  }
};

// A row in float64. Its result for a row without a distribution is meaningless.
struct SoftmaxRow {
  std::vector<double> z;  // (x - maximum) / T
  double logSum = 0;      // log of the sum of exp(z)
  double logProb = 0;     // of the row's token
  double entropy = 0;

  double probability(int64_t j) const { return std::exp(z[std::size_t(j)] - logSum); }
  template <class F>
  double mean(const F& f) const {
    double sum = 0;
    for (int64_t j = 0; j < int64_t(z.size()); ++j) {
      const double p = probability(j);
      if (p > 0) sum += p * f(z[std::size_t(j)]);
    }
    return sum;
  }
};

inline SoftmaxRow softmaxRow(const LogitsDraw& d, int64_t row) {
  SoftmaxRow s;
  double maximum = -double(kInf), sum = 0;
  for (int64_t j = 0; j < d.vocab; ++j) maximum = std::max(maximum, double(d.logit(row, j)));
  for (int64_t j = 0; j < d.vocab; ++j) {
    s.z.push_back((d.logit(row, j) - maximum) / d.temperature);
    sum += std::exp(s.z.back());
  }
  s.logSum = std::log(sum);
  s.logProb = s.z[std::size_t(d.tokenIds[row])] - s.logSum;
  s.entropy = s.mean([&](double z) { return s.logSum - z; });
  return s;
}

inline int64_t drawVocab(Random& random) {
  if (random.chance(0.05)) return random.pick<int64_t>({20479, 20480, 20481, 50257});
  switch (random.integer(0, 5)) {
    case 0: return random.integer(1, 4);
    case 1: return random.pick<int64_t>({4, 8, 16, 32, 64, 128, 256}) + random.integer(-1, 1);
    case 2: return random.pick<int64_t>({4095, 4096, 4097, 8191, 8193});
    default: return random.integer(1, 70);
  }
}

// `large`: the share of draws that are large enough for several threads.
inline LogitsDraw drawLogits(Random& random, double large) {
  LogitsDraw d;
  d.wild = random.chance(0.5);
  d.vocab = drawVocab(random);
  d.rowStride = random.chance(0.4) ? d.vocab + random.integer(1, 19) : d.vocab;
  d.dtype = random.pick({Dtype::float32, Dtype::float32, Dtype::float32, Dtype::bfloat16, Dtype::float16});
  d.temperature = random.pick({1.0, 1.0, 0.7, 1.3});
  if (d.wild && random.chance(0.05)) d.temperature = random.pick({1e-6, 1e30});
  if (random.chance(large)) {
    d.sequences = random.integer(1, 4);
    d.length = 500000 / d.vocab / d.sequences + 1;
  } else {
    const int64_t rows = 1 + 20000 / d.vocab;
    d.sequences = random.integer(1, std::min<int64_t>(rows, 5));
    d.length = random.integer(1, std::min<int64_t>(rows / d.sequences, 9));
  }
  drawMask(random, d);

  const int64_t rows = d.tokens();
  const double spread = random.pick({0.5, 2.0, 4.0});
  // Not for 16 bits: away from 0 they are so coarse that two rows would be permutations of each other, and their
  // entropies, equal except for rounding, would be on different sides of the quantile.
  const double offset = d.dtype == Dtype::float32 ? random.pick({0.0, 0.0, -300.0, 50.0}) : 0;
  std::vector<float> values(std::size_t(rows * d.rowStride), 0);
  for (int64_t row = 0; row < rows; ++row) {
    const bool read = d.isIn(row);
    const int kind = d.wild ? int(random.integer(0, 7)) : 7;
    for (int64_t j = 0; j < d.rowStride; ++j) {
      float& x = values[std::size_t(row * d.rowStride + j)];
      x = float(offset + spread * random.normal());
      if (!read || j >= d.vocab) x = wildFloat(random);
      if (kind == 0) x = -kInf;
      if (kind == 1 && random.chance(0.5)) x = -kInf;
      if (kind == 2 && random.chance(0.05)) x = wildFloat(random);
    }
  }
  const int64_t shift = random.integer(0, 3);
  if (d.dtype == Dtype::float32) {
    d.logits = Buffer<float>(values, shift);
  } else {
    std::vector<uint16_t> halves;
    for (const float x : values) halves.push_back(d.dtype == Dtype::float16 ? toFloat16(x) : toBfloat16(x));
    d.halfLogits = Buffer<uint16_t>(halves, shift);
  }
  d.tokenIds = Buffer<int32_t>(rows, shift);
  for (int64_t row = 0; row < rows; ++row) {
    d.tokenIds[row] = int32_t(d.isIn(row) ? random.integer(0, d.vocab - 1)
                                          : random.pick<int64_t>({-1, INT32_MIN, INT32_MAX, d.vocab}));
  }

  std::vector<float> logProbs(std::size_t(rows), 0);
  for (int64_t row = 0; row < rows; ++row) {
    if (d.isIn(row)) logProbs[std::size_t(row)] = float(softmaxRow(d, row).logProb);
  }
  drawTokens(random, d, logProbs);
  LossConfig& c = d.request.config;
  if (random.chance(0.6)) {
    c.entropyCoefficient = random.pick({0.0, 0.01, -0.3});
    if (random.chance(0.5)) c.topQuantile = random.uniform(0.05, 1);
    if (random.chance(0.3)) c.entropyTokens = double(random.integer(1, 40));
    if (random.chance(0.3)) c.entropyThreshold = random.uniform(0, std::log(double(d.vocab)) + 0.1);
  }
  return d;
}

// Rewards in ragged groups.
struct AdvantageDraw {
  Buffer<double> rewards;
  Buffer<int32_t> offsets;
  AdvantageRequest request;
};

inline AdvantageDraw drawAdvantages(Random& random) {
  std::vector<double> rewards;
  std::vector<int32_t> offsets{0};
  const int64_t groups = random.integer(1, 12);
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t size = random.integer(1, 9);
    const auto kind = random.integer(0, 8);
    const double constant = random.pick({0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1e15 + 1, 0.0});
    for (int64_t i = 0; i < size; ++i) {
      double r = random.normal();
      if (kind == 0) r = double(random.integer(0, 1));
      if (kind == 1 || kind == 2) r = constant;
      if (kind == 2 && random.chance(0.3)) r = double(kNan);
      if (kind == 3 && random.chance(0.3)) r = double(kNan);
      if (kind == 4) r = double(kNan);
      if (kind == 6) r = constant * (1 + 0x1p-50 * double(random.integer(-2, 2)));  // equal except for rounding
      if (kind == 7) r = std::ldexp(r, 990);
      if (kind == 8) r = std::ldexp(r, -990);
      rewards.push_back(r);
    }
    offsets.push_back(int32_t(rewards.size()));
  }
  AdvantageDraw d;
  d.rewards = Buffer<double>(rewards, 0);
  d.offsets = Buffer<int32_t>(offsets, random.integer(0, 3));
  AdvantageRequest& r = d.request;
  r.rewards = d.rewards.data();
  r.offsets = d.offsets.data();
  r.groups = groups;
  r.singlePrecision = random.chance(0.3);
  r.center = random.pick({Center::mean, Center::leaveOneOut, Center::none});
  r.scale = random.pick({Scale::groupStd, Scale::batchStd, Scale::none, Scale::groupMad});
  r.ddof = double(random.integer(0, 1));
  r.epsilon = random.pick({0.0, 1e-6, 1e-4, 0.1});
  r.hadw = random.chance(0.5);
  r.anchor = random.chance(0.5) ? random.uniform() : double(kNan);
  r.hadwScale = random.uniform(0.5, 2);
  if (!r.hadw && random.chance(0.5)) r.dqwTemperature = random.uniform(0.2, 5);
  return d;
}

}  // namespace groupgrad::test
