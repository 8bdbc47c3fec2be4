// A row of logits: log-prob, entropy, and the gradient with respect to the logits (docs/losses.md, "Entropy").
// The row is processed in blocks that stay in the first-level cache: a block's maximum first, then its sums of
// exp(z) and exp(z) z with z = (x - maximum) / T; sums of earlier blocks are rescaled when the maximum rises. The
// reduction tree depends only on the vocabulary, so the same row gives the same bits wherever it is.

#include "simd.inl"

constexpr int kUnroll = 4;
constexpr int64_t kStep = kUnroll * kWidth;
constexpr int64_t kBlock = 4096;

template <Dtype dtype>
struct Storage;
template <>
struct Storage<Dtype::float32> {
  using Element = float;
  GROUPGRAD_INLINE static Floats read(const float* p) { return load<Floats>(p); }
  GROUPGRAD_INLINE static void write(float* p, Floats v) { store(p, v); }
  GROUPGRAD_INLINE static float widen(float x) { return x; }
  GROUPGRAD_INLINE static float narrow(float x) { return x; }
  static constexpr float kLowest = -kInfinity;
  static constexpr float kLargest = kFloatMax;
};
template <>
struct Storage<Dtype::bfloat16> {
  using Element = uint16_t;
  GROUPGRAD_INLINE static Floats read(const uint16_t* p) {
    return __builtin_bit_cast(Floats, __builtin_convertvector(load<Halves>(p), Words) << 16);
  }
  // Rounds to nearest even. Not for NaN.
  GROUPGRAD_INLINE static void write(uint16_t* p, Floats v) {
    const Words bits = __builtin_bit_cast(Words, v);
    store(p, __builtin_convertvector(roundToBfloat16(bits), Halves));
  }
  GROUPGRAD_INLINE static float widen(uint16_t x) { return __builtin_bit_cast(float, uint32_t(x) << 16); }
  GROUPGRAD_INLINE static uint16_t narrow(float x) { return uint16_t(toBfloat16<uint32_t>(x)); }
  static constexpr uint16_t kLowest = 0xff80;  // -inf
  static constexpr float kLargest = 0x1.fep127f;
};

template <>
struct Storage<Dtype::float16> {
  using Element = uint16_t;
  // float16's exponent and significand 13 bits higher are a float32 2^-112 times as large, subnormals included.
  GROUPGRAD_INLINE static Floats read(const uint16_t* p) {
    const Words half = __builtin_convertvector(load<Halves>(p), Words);
    const Words magnitude = (half & 0x7fff) << 13;
    const Words scaled = __builtin_bit_cast(Words, __builtin_bit_cast(Floats, magnitude) * 0x1p112f);
    const Words finite = magnitude >= 0x0f800000 ? magnitude | 0x7f800000 : scaled;
    return __builtin_bit_cast(Floats, finite | ((half & 0x8000) << 16));
  }
  // Rounds to nearest even. Not for NaN.
  GROUPGRAD_INLINE static void write(uint16_t* p, Floats v) {
    const Words bits = __builtin_bit_cast(Words, v);
    const Words magnitude = bits & 0x7fffffff;
    // Below 2^-14 the spacing is 2^-24: that of float32 just above 0.5.
    const Words small = __builtin_bit_cast(Words, __builtin_bit_cast(Floats, magnitude) + 0.5f) - 0x3f000000;
    const Words rounded = (magnitude - (112u << 23) + 0xfff + ((magnitude >> 13) & 1)) >> 13;
    const Words large = rounded > 0x7c00 ? Words{} + 0x7c00 : rounded;
    const Words half = magnitude < 0x38800000 ? small : large;
    store(p, __builtin_convertvector(half | ((bits >> 16) & 0x8000), Halves));
  }
  GROUPGRAD_INLINE static float widen(uint16_t x) {
    const uint32_t magnitude = uint32_t(x & 0x7fff) << 13, sign = uint32_t(x & 0x8000) << 16;
    const uint32_t scaled = __builtin_bit_cast(uint32_t, __builtin_bit_cast(float, magnitude) * 0x1p112f);
    return __builtin_bit_cast(float, (magnitude >= 0x0f800000 ? magnitude | 0x7f800000 : scaled) | sign);
  }
  GROUPGRAD_INLINE static uint16_t narrow(float x) {
    if (x != x) return 0x7e00;
    uint16_t halves[kWidth];
    write(halves, splat(x));
    return halves[0];
  }
  static constexpr uint16_t kLowest = 0xfc00;  // -inf
  static constexpr float kLargest = 65504;
};

template <Dtype dtype>
GROUPGRAD_INLINE const typename Storage<dtype>::Element* rowOf(const LogitsRequest& r, int64_t row) {
  return static_cast<const typename Storage<dtype>::Element*>(r.logits) + row * r.rowStride;
}

// The last n < kWidth values, the rest of the vector filled with -inf, whose exp is 0.
template <Dtype dtype>
GROUPGRAD_INLINE Floats readTail(const typename Storage<dtype>::Element* p, int64_t n) {
  typename Storage<dtype>::Element padded[kWidth];
  for (int i = 0; i < kWidth; ++i) padded[i] = i < n ? p[i] : Storage<dtype>::kLowest;
  return Storage<dtype>::read(padded);
}

template <Dtype dtype>
GROUPGRAD_INLINE float maximumOf(const typename Storage<dtype>::Element* x, int64_t n) {
  using S = Storage<dtype>;
  Floats best[kUnroll];
  for (auto& b : best) b = splat(-kInfinity);
  int64_t j = 0;
  for (; j + kStep <= n; j += kStep) {
    for (int u = 0; u < kUnroll; ++u) best[u] = larger(S::read(x + j + u * kWidth), best[u]);
  }
  for (; j + kWidth <= n; j += kWidth) best[0] = larger(S::read(x + j), best[0]);
  if (j < n) best[0] = larger(readTail<dtype>(x + j, n - j), best[0]);
  const Floats all = larger(larger(best[0], best[1]), larger(best[2], best[3]));
  float maximum = -kInfinity;
  for (int lane = 0; lane < kWidth; ++lane) maximum = all[lane] > maximum ? all[lane] : maximum;
  return maximum;
}

// z = (x - maximum) / T, not below where exp is 0, so that exp(z) z is 0 there too.
GROUPGRAD_INLINE Floats shifted(Floats x, Floats maximum, Floats inverseTemperature) {
  return larger(splat(kExpLow), (x - maximum) * inverseTemperature);
}

struct BlockSums {
  double exp, expTimesZ;
};

template <Dtype dtype>
GROUPGRAD_INLINE BlockSums sumsOf(const typename Storage<dtype>::Element* x, int64_t n, float maximum,
                                  float inverseTemperature) {
  using S = Storage<dtype>;
  const Floats m = splat(maximum), scale = splat(inverseTemperature);
  Floats e[kUnroll] = {}, ez[kUnroll] = {};
  const auto add = [&](Floats values, int u) __attribute__((always_inline)) {
    const Floats z = shifted(values, m, scale);
    const Floats p = expInRange<Floats, Ints>(z);
    e[u] += p;
    ez[u] += p * z;
  };
  int64_t j = 0;
  for (; j + kStep <= n; j += kStep) {
    for (int u = 0; u < kUnroll; ++u) {
      __builtin_prefetch(x + j + u * kWidth + n);
      add(S::read(x + j + u * kWidth), u);
    }
  }
  for (; j + kWidth <= n; j += kWidth) add(S::read(x + j), 0);
  if (j < n) add(readTail<dtype>(x + j, n - j), 1);
  return {sumLanes((e[0] + e[1]) + (e[2] + e[3])), sumLanes((ez[0] + ez[1]) + (ez[2] + ez[3]))};
}

// The number of values that make the row unusable: NaN and +inf; all of them if every one is -inf.
template <Dtype dtype>
static int64_t offendingValues(const typename Storage<dtype>::Element* x, int64_t n) {
  int64_t bad = 0, finite = 0;
  for (int64_t j = 0; j < n; ++j) {
    const float value = Storage<dtype>::widen(x[j]);
    bad += !(value <= kFloatMax);
    finite += isFinite(value);
  }
  return bad == 0 && finite == 0 ? n : bad;
}

template <Dtype dtype>
static RowStatistics forwardRowOf(const RowContext& context, int64_t row) {
  const LogitsRequest& r = *context.request;
  const auto* x = rowOf<dtype>(r, row);
  float maximum = -kInfinity;
  double sum = 0, sumZ = 0;
  for (int64_t j = 0; j < r.vocab; j += kBlock) {
    const int64_t n = j + kBlock < r.vocab ? kBlock : r.vocab - j;
    const float blockMaximum = maximumOf<dtype>(x + j, n);
    if (blockMaximum > maximum) {
      if (sum != 0) {
        const double shift = (double(maximum) - double(blockMaximum)) * double(context.inverseTemperature);
        const double rescale = std::exp(shift);
        sumZ = rescale * (sumZ + shift * sum);
        sum *= rescale;
      }
      maximum = blockMaximum;
    }
    // A block of only -inf adds nothing; NaN in it must still be found.
    const BlockSums block = sumsOf<dtype>(x + j, n, maximum == -kInfinity ? 0.0f : maximum, context.inverseTemperature);
    sum += block.exp;
    sumZ += block.expTimesZ;
  }
  RowStatistics s;
  s.maximum = maximum;
  s.sum = sum;
  if (!(maximum > -kInfinity && maximum < kInfinity && sum == sum)) {
    s.nonFinite = offendingValues<dtype>(x, r.vocab);
    s.logProb = s.entropy = NAN;
    return s;
  }
  const double logSum = std::log(sum);
  const double target = Storage<dtype>::widen(x[r.tokens[row]]);
  s.logProb = (target - double(maximum)) * double(context.inverseTemperature) - logSum;
  s.meanZ = sumZ / sum;
  s.entropy = float(logSum - s.meanZ);
  return s;
}

// The number of non-finite values of a gradient, if its factors show that there may be some: with z <= 0, |exp(z)
// (constant + slope z)| is at most |constant| + |slope| / e.
template <Dtype dtype>
static int64_t countOverflows(const typename Storage<dtype>::Element* values, int64_t n,
                              const RowFactors<double>& factors) {
  const double largest =
      std::max(std::fabs(factors.constant) + std::fabs(factors.slope) / 2, std::fabs(factors.atToken));
  int64_t count = 0;
  if (largest <= double(Storage<dtype>::kLargest)) return count;
  for (int64_t j = 0; j < n; ++j) count += !isFinite(Storage<dtype>::widen(values[j]));
  return count;
}

template <Dtype dtype>
static int64_t backwardRowOf(const RowContext& context, int64_t row, const RowStatistics& s, float gradient,
                             float entropyGradient) {
  using S = Storage<dtype>;
  using Element = typename S::Element;
  const LogitsRequest& r = *context.request;
  const auto* x = rowOf<dtype>(r, row);
  auto* out = static_cast<Element*>(r.gradLogits) + row * r.rowStride;
  if (!r.zeroed) std::memset(out + r.vocab, 0, std::size_t(r.rowStride - r.vocab) * sizeof(Element));
  if (gradient == 0 && entropyGradient == 0) {
    if (!r.zeroed) std::memset(out, 0, std::size_t(r.vocab) * sizeof(Element));
    return 0;
  }
  if (s.nonFinite != 0 || !isFinite(gradient) || !isFinite(entropyGradient)) {
    for (int64_t j = 0; j < r.vocab; ++j) out[j] = S::narrow(NAN);
    return 0;
  }

  const RowFactors<double> factors =
      rowFactors<double>({s.sum, s.meanZ, s.logProb, s.entropy}, gradient, entropyGradient, context.gradientScale);
  const Floats constant = splat(float(factors.constant)), slope = splat(float(factors.slope));
  const Floats m = splat(s.maximum), scale = splat(context.inverseTemperature);
  const auto term = [&](Floats values) __attribute__((always_inline)) {
    const Floats z = shifted(values, m, scale);
    return expInRange<Floats, Ints>(z) * (constant + slope * z);
  };

  const auto writePart = [&](int64_t begin, int64_t n) __attribute__((always_inline)) {
    Element part[kWidth];
    S::write(part, term(readTail<dtype>(x + begin, n)));
    std::memcpy(out + begin, part, std::size_t(n) * sizeof(Element));
  };
  int64_t j = 0;
  const auto writeSteps = [&](const auto& write) __attribute__((always_inline)) {
    for (; j + kStep <= r.vocab; j += kStep) {
      for (int u = 0; u < kUnroll; ++u) {
        __builtin_prefetch(x + r.rowStride + j + u * kWidth, 0, 2);
        write(out + j + u * kWidth, term(S::read(x + j + u * kWidth)));
      }
    }
  };
  if (context.streams && dtype == Dtype::float32) {
    const int64_t misaligned = int64_t(reinterpret_cast<uintptr_t>(out) / sizeof(float) % kWidth);
    if (misaligned != 0) writePart(0, j = std::min(r.vocab, kWidth - misaligned));
    writeSteps([](Element * p, Floats v) __attribute__((always_inline)) { stream(reinterpret_cast<float*>(p), v); });
    endStreams();
  } else {
    writeSteps([](Element * p, Floats v) __attribute__((always_inline)) { S::write(p, v); });
  }
  for (; j + kWidth <= r.vocab; j += kWidth) S::write(out + j, term(S::read(x + j)));
  if (j < r.vocab) writePart(j, r.vocab - j);
  out[r.tokens[row]] = S::narrow(float(factors.atToken));
  return countOverflows<dtype>(out, r.vocab, factors);
}

static RowStatistics forwardRow(const RowContext& context, int64_t row) {
  switch (context.request->dtype) {
    case Dtype::float32: return forwardRowOf<Dtype::float32>(context, row);
    case Dtype::bfloat16: return forwardRowOf<Dtype::bfloat16>(context, row);
    case Dtype::float16: break;
  }
  return forwardRowOf<Dtype::float16>(context, row);
}

static int64_t backwardRow(const RowContext& context, int64_t row, const RowStatistics& s, float gradient,
                           float entropyGradient) {
  switch (context.request->dtype) {
    case Dtype::float32: return backwardRowOf<Dtype::float32>(context, row, s, gradient, entropyGradient);
    case Dtype::bfloat16: return backwardRowOf<Dtype::bfloat16>(context, row, s, gradient, entropyGradient);
    case Dtype::float16: break;
  }
  return backwardRowOf<Dtype::float16>(context, row, s, gradient, entropyGradient);
}
