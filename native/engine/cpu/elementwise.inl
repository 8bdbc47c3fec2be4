// Elementwise operations. A result does not depend on the value's position: the remainder of an array that does not
// fill a vector is computed as a vector too.
#pragma once

// a where a condition holds, else b; NaN in `x` propagates through min and max as in JavaScript.
GROUPGRAD_INLINE Floats maximumOf(Floats a, Floats b) { return (a > b) | (a != a) ? a : b; }
GROUPGRAD_INLINE Floats minimumOf(Floats a, Floats b) { return (a < b) | (a != a) ? a : b; }
GROUPGRAD_INLINE Floats absolute(Floats x) {
  return __builtin_bit_cast(Floats, __builtin_bit_cast(Ints, x) & 0x7fffffff);
}
GROUPGRAD_INLINE Floats signOf(Floats x, Floats sign) {
  constexpr int32_t bit = int32_t(0x80000000u);
  return __builtin_bit_cast(Floats, (__builtin_bit_cast(Ints, x) & ~bit) | (__builtin_bit_cast(Ints, sign) & bit));
}

template <class F>
GROUPGRAD_INLINE Floats eachLane(Floats x, F f) {
  Floats y = {};
  for (int i = 0; i < kWidth; ++i) y[i] = f(x[i]);
  return y;
}

GROUPGRAD_INLINE Floats squareRoot(Floats x) {
  return eachLane(x, [](float v) { return __builtin_sqrtf(v); });
}

GROUPGRAD_INLINE Floats exponential(Floats x) {
  const Floats low = splat(kExpLow), high = splat(kExpHigh);
  x = x < low ? low : x;
  x = x > high ? high : x;
  return expInRange<Floats, Ints>(x);
}

// exp(x) - 1, accurate near 0.
GROUPGRAD_INLINE Floats exponentialMinusOne(Floats x) {
  const Floats near = expMinusOneNear(x);
  return absolute(x) <= splat(0.34657359f) ? near : exponential(x) - 1.0f;
}

// log(x) after Cephes' logf: x = m 2^e with m in [sqrt(1/2), sqrt(2)), a polynomial in m - 1; within 2 ulp.
GROUPGRAD_INLINE Floats logarithm(Floats x) {
  const Ints tiny = x < splat(1.17549435e-38f);  // subnormal: scaled into the normal range
  const Floats scaled = tiny ? x * 8388608.0f : x;
  const Ints bits = __builtin_bit_cast(Ints, scaled);
  // The exponent is chosen so that m is in [sqrt(1/2), sqrt(2)).
  const Ints shifted = bits - 0x3f3504f3;
  const Ints exponent = (shifted >> 23) - (tiny & 23);
  const Floats m = __builtin_bit_cast(Floats, (shifted & 0x007fffff) + 0x3f3504f3) - 1.0f;
  const Floats e = __builtin_convertvector(exponent, Floats);
  const Floats z = m * m;
  Floats p = m * 7.0376836292e-2f - 1.1514610310e-1f;
  p = p * m + 1.1676998740e-1f;
  p = p * m - 1.2420140846e-1f;
  p = p * m + 1.4249322787e-1f;
  p = p * m - 1.6668057665e-1f;
  p = p * m + 2.0000714765e-1f;
  p = p * m - 2.4999993993e-1f;
  p = p * m + 3.3333331174e-1f;
  Floats y = p * m * z;
  y = y + e * -2.12194440e-4f;
  y = y - z * 0.5f;
  y = m + y;
  y = y + e * 0.693359375f;
  y = x == splat(0) ? splat(-kInfinity) : y;
  y = x < splat(0) ? splat(__builtin_nanf("")) : y;
  return (x == splat(kInfinity)) | (x != x) ? x : y;
}

// log(1 + x), accurate near 0: what 1 + x loses of x is added back.
GROUPGRAD_INLINE Floats logarithmOfOnePlus(Floats x) {
  const Floats u = x + 1.0f;
  const Floats y = logarithm(u);
  const Ints plain = (u == splat(0)) | (u == splat(kInfinity));
  return plain ? y : y + (x - (u - 1.0f)) / u;
}

GROUPGRAD_INLINE Floats sigmoid(Floats x) { return 1.0f / (1.0f + exponential(-x)); }

// tanh |x| = m / (m + 2) with m = exp(2 |x|) - 1; it is 1 in float32 from 10 on.
GROUPGRAD_INLINE Floats hyperbolicTangent(Floats x) {
  Floats a = absolute(x);
  a = a > splat(10) ? splat(10) : a;
  const Floats m = exponentialMinusOne(a * 2.0f);
  return signOf(m / (m + 2.0f), x);
}

template <Unary op>
GROUPGRAD_INLINE Floats unaryOf(Floats x, Floats alpha) {
  const Floats zero = splat(0), one = splat(1);
  if constexpr (op == Unary::abs) return absolute(x);
  if constexpr (op == Unary::ceil) return eachLane(x, [](float v) { return __builtin_ceilf(v); });
  if constexpr (op == Unary::elu) return x >= zero ? x : exponentialMinusOne(x);
  if constexpr (op == Unary::exp) return exponential(x);
  if constexpr (op == Unary::expm1) return exponentialMinusOne(x);
  if constexpr (op == Unary::floor) return eachLane(x, [](float v) { return __builtin_floorf(v); });
  if constexpr (op == Unary::leakyRelu) return x < zero ? x * alpha : x;
  if constexpr (op == Unary::log) return logarithm(x);
  if constexpr (op == Unary::log1p) return logarithmOfOnePlus(x);
  if constexpr (op == Unary::neg) return -x;
  if constexpr (op == Unary::reciprocal) return one / x;
  if constexpr (op == Unary::relu) return maximumOf(x, zero);
  if constexpr (op == Unary::relu6) return minimumOf(maximumOf(x, zero), splat(6));
  if constexpr (op == Unary::rsqrt) return one / squareRoot(x);
  if constexpr (op == Unary::sigmoid) return sigmoid(x);
  if constexpr (op == Unary::softplus) return maximumOf(x, zero) + logarithmOfOnePlus(exponential(-absolute(x)));
  if constexpr (op == Unary::sqrt) return squareRoot(x);
  if constexpr (op == Unary::square) return x * x;
  if constexpr (op == Unary::step) return x != x ? x : (x > zero ? one : alpha);
  if constexpr (op == Unary::tanh) return hyperbolicTangent(x);
}

// The first n values, the others 1.
GROUPGRAD_INLINE Floats loadSome(const float* p, int64_t n) {
  Floats v = splat(1);
  std::memcpy(&v, p, size_t(n) * sizeof(float));
  return v;
}

template <Unary op>
void unaryLoop(const float* x, float* y, int64_t n, float alpha) {
  const Floats a = splat(alpha);
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) store(y + i, unaryOf<op>(load<Floats>(x + i), a));
  if (i < n) {
    const Floats v = unaryOf<op>(loadSome(x + i, n - i), a);
    std::memcpy(y + i, &v, size_t(n - i) * sizeof(float));
  }
}

void unary(Unary op, const float* x, float* y, int64_t n, float alpha) {
#define GROUPGRAD_CASE(name) \
  case Unary::name: return unaryLoop<Unary::name>(x, y, n, alpha);
  switch (op) {
    GROUPGRAD_CASE(abs)
    GROUPGRAD_CASE(ceil)
    GROUPGRAD_CASE(elu)
    GROUPGRAD_CASE(exp)
    GROUPGRAD_CASE(expm1)
    GROUPGRAD_CASE(floor)
    GROUPGRAD_CASE(leakyRelu)
    GROUPGRAD_CASE(log)
    GROUPGRAD_CASE(log1p)
    GROUPGRAD_CASE(neg)
    GROUPGRAD_CASE(reciprocal)
    GROUPGRAD_CASE(relu)
    GROUPGRAD_CASE(relu6)
    GROUPGRAD_CASE(rsqrt)
    GROUPGRAD_CASE(sigmoid)
    GROUPGRAD_CASE(softplus)
    GROUPGRAD_CASE(sqrt)
    GROUPGRAD_CASE(square)
    GROUPGRAD_CASE(step)
    GROUPGRAD_CASE(tanh)
  }
#undef GROUPGRAD_CASE
}

// Floats, or for comparisons a mask.
template <Binary op>
GROUPGRAD_INLINE auto binaryOf(Floats a, Floats b) {
  if constexpr (op == Binary::add) return a + b;
  if constexpr (op == Binary::sub) return a - b;
  if constexpr (op == Binary::multiply) return a * b;
  if constexpr (op == Binary::realDiv) return a / b;
  if constexpr (op == Binary::maximum) return maximumOf(a, b);
  if constexpr (op == Binary::minimum) return minimumOf(a, b);
  if constexpr (op == Binary::squaredDifference) return (a - b) * (a - b);
  if constexpr (op == Binary::eluGrad) return b >= splat(0) ? a : a * (b + 1.0f);  // of dy and y
  if constexpr (op == Binary::prelu) return a < splat(0) ? a * b : a;              // of x and its slope
  if constexpr (op == Binary::equal) return a == b;
  if constexpr (op == Binary::notEqual) return a != b;
  if constexpr (op == Binary::greater) return a > b;
  if constexpr (op == Binary::greaterEqual) return a >= b;
  if constexpr (op == Binary::less) return a < b;
  if constexpr (op == Binary::lessEqual) return a <= b;
}

typedef uint8_t Bytes __attribute__((vector_size(kWidth)));

template <Binary op, bool spreadA, bool spreadB>
void binaryLoop(const float* a, const float* b, void* y, int64_t n) {
  const Floats wholeA = splat(*a), wholeB = splat(*b);
  const auto put = [y](int64_t i, auto v, int64_t count) {
    if constexpr (comparesValues(op)) {
      const Bytes bytes = __builtin_convertvector(v, Bytes) & 1;
      std::memcpy(static_cast<uint8_t*>(y) + i, &bytes, size_t(count));
    } else {
      std::memcpy(static_cast<float*>(y) + i, &v, size_t(count) * sizeof(float));
    }
  };
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    const Floats va = spreadA ? wholeA : load<Floats>(a + i), vb = spreadB ? wholeB : load<Floats>(b + i);
    put(i, binaryOf<op>(va, vb), kWidth);
  }
  if (i < n) {
    const Floats va = spreadA ? wholeA : loadSome(a + i, n - i), vb = spreadB ? wholeB : loadSome(b + i, n - i);
    put(i, binaryOf<op>(va, vb), n - i);
  }
}

template <Binary op>
void binaryLoop(const float* a, int64_t strideA, const float* b, int64_t strideB, void* y, int64_t n) {
  if (strideA == 0 && strideB == 0) return binaryLoop<op, true, true>(a, b, y, n);
  if (strideA == 0) return binaryLoop<op, true, false>(a, b, y, n);
  if (strideB == 0) return binaryLoop<op, false, true>(a, b, y, n);
  binaryLoop<op, false, false>(a, b, y, n);
}

void binary(Binary op, const float* a, int64_t strideA, const float* b, int64_t strideB, void* y, int64_t n) {
  if (n == 0) return;  // there may be no first value to spread
#define GROUPGRAD_CASE(name) \
  case Binary::name: return binaryLoop<Binary::name>(a, strideA, b, strideB, y, n);
  switch (op) {
    GROUPGRAD_CASE(add)
    GROUPGRAD_CASE(sub)
    GROUPGRAD_CASE(multiply)
    GROUPGRAD_CASE(realDiv)
    GROUPGRAD_CASE(maximum)
    GROUPGRAD_CASE(minimum)
    GROUPGRAD_CASE(squaredDifference)
    GROUPGRAD_CASE(eluGrad)
    GROUPGRAD_CASE(prelu)
    GROUPGRAD_CASE(equal)
    GROUPGRAD_CASE(notEqual)
    GROUPGRAD_CASE(greater)
    GROUPGRAD_CASE(greaterEqual)
    GROUPGRAD_CASE(less)
    GROUPGRAD_CASE(lessEqual)
  }
#undef GROUPGRAD_CASE
}

void select(const uint8_t* condition, const float* a, const float* b, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = condition[i] ? a[i] : b[i];
}

// Converts to int32 as JavaScript does: towards zero, modulo 2^32, non-finite values to 0.
GROUPGRAD_INLINE int32_t toInt32(float x) {
  if (x > -2147483648.0f && x < 2147483648.0f) return int32_t(x);
  if (!isFinite(x)) return 0;
  return int32_t(uint32_t(int64_t(std::fmod(double(x), 4294967296.0))));
}

template <class From, class To, class F>
GROUPGRAD_INLINE void castLoop(const void* x, void* y, int64_t n, F convert) {
  const From* from = static_cast<const From*>(x);
  To* to = static_cast<To*>(y);
  for (int64_t i = 0; i < n; ++i) to[i] = convert(from[i]);
}

template <class From>
void castFrom(Type to, const void* x, void* y, int64_t n) {
  switch (to) {
    case Type::float32: return castLoop<From, float>(x, y, n, [](From v) { return float(v); });
    case Type::int32:
      if constexpr (std::is_same_v<From, float>) {
        return castLoop<From, int32_t>(x, y, n, [](From v) { return toInt32(v); });
      } else {
        return castLoop<From, int32_t>(x, y, n, [](From v) { return int32_t(v); });
      }
    case Type::boolean: return castLoop<From, uint8_t>(x, y, n, [](From v) { return uint8_t(v != 0); });
    case Type::bfloat16:
      if constexpr (std::is_same_v<From, float>) {
        return castLoop<From, uint16_t>(x, y, n, [](From v) { return uint16_t(toBfloat16<uint32_t>(v)); });
      }
  }
}

void cast(Type from, Type to, const void* x, void* y, int64_t n) {
  switch (from) {
    case Type::float32: return castFrom<float>(to, x, y, n);
    case Type::int32: return castFrom<int32_t>(to, x, y, n);
    case Type::boolean: return castFrom<uint8_t>(to, x, y, n);
    case Type::bfloat16:
      return castLoop<uint16_t, float>(x, y, n,
                                       [](uint16_t v) { return __builtin_bit_cast(float, uint32_t(v) << 16); });
  }
}
