// exp without branches, so that loops over it vectorise: in float32 for one float or a vector of them, and in float64.
#pragma once

#include "platform.hpp"

namespace groupgrad {

// Where exp() starts to return 0 and where it returns infinity. kExpLow is the largest float under -125.5 ln 2: there n
// (below) becomes -126, whose exponent field is 0.
constexpr float kExpLow = -86.989975f;
constexpr float kExpHigh = 88.8f;

// exp(r) - 1 for |r| <= ln(2) / 2, as r + r^2 q(r) with q minimax of degree 4 (relative error 3.1e-9 of exp).
template <class F>
GROUPGRAD_INLINE F expMinusOneNear(F r) {
  F q = r * 0.0013814539877906355f + 0.008368745127154992f;
  q = q * r + 0.041668390789674326f;
  q = q * r + 0.16666520398846246f;
  q = q * r + 0.4999999343209918f;
  return (r * r) * q + r;
}

// exp(x) for x within [kExpLow, kExpHigh] or NaN; exactly 0 at kExpLow. F is float or a vector of floats, I the
// integers of the same width. x = n ln 2 + r with |r| <= ln(2) / 2, exp(x) = 2^n exp(r). Within 1 ulp of the correctly
// rounded result (test/native/exp.cpp tries every float).
template <class F, class I>
GROUPGRAD_INLINE F expInRange(F x) {
  constexpr float kLog2e = 1.44269504088896341f;
  constexpr float kLn2High = 0.693359375f;  // 10 bits: n times this is exact
  constexpr float kLn2Low = -2.12194440054690583e-4f;
  // Adding 1.5 * 2^23 leaves round(x / ln 2) in the low bits of the sum; 126 more make it the exponent field of 2^(n -
  // 1). 2^(n - 1) rather than 2^n keeps n = 128 in range; the factor 2 sits in the polynomial.
  constexpr float kRound = 12582912.0f + 126.0f;
  const F shifted = x * kLog2e + kRound;
  const F n = shifted - kRound;
  F r = x - n * kLn2High;
  r = r - n * kLn2Low;
  const F p = expMinusOneNear(r);
  const F halfScale = __builtin_bit_cast(F, __builtin_bit_cast(I, shifted) << 23);
  return (p * 2.0f + 2.0f) * halfScale;
}

// exp(x) for any x. NaN stays NaN.
GROUPGRAD_INLINE float expOf(float x) { return expInRange<float, int32_t>(clamp(x, kExpLow, kExpHigh)); }

// exp(x) = scale (1 + p), so that exp(x) - 1 = scale p + (scale - 1) keeps its precision where x is small.
struct ScaledExp {
  double scale, p;
  GROUPGRAD_INLINE double exp() const { return scale + scale * p; }
  GROUPGRAD_INLINE double minusOne() const { return scale * p + (scale - 1); }
};

// For any x; below -708 as for -708, above 709 as for 709. The same steps as in float32, with exp(r) - 1 from its
// Taylor series up to r^11: relative error of exp(x) 1e-14, of exp(x) - 1 4e-14 (test/native/exp.cpp).
GROUPGRAD_INLINE ScaledExp scaledExp(double x) {
  constexpr double kLog2e = 1.4426950408889634;
  constexpr double kLn2High = 6.93147180369123816490e-01;  // 32 bits: n times this is exact
  constexpr double kLn2Low = 1.90821492927058770002e-10;
  constexpr double kRound = 6755399441055744.0 + 1023;  // 1.5 * 2^52, and the exponent's bias
  x = x < -708 ? -708 : x > 709 ? 709 : x;
  const double shifted = x * kLog2e + kRound;
  const double n = shifted - kRound;
  double r = x - n * kLn2High;
  r = r - n * kLn2Low;
  double q = r * (1.0 / 39916800) + 1.0 / 3628800;
  q = q * r + 1.0 / 362880;
  q = q * r + 1.0 / 40320;
  q = q * r + 1.0 / 5040;
  q = q * r + 1.0 / 720;
  q = q * r + 1.0 / 120;
  q = q * r + 1.0 / 24;
  q = q * r + 1.0 / 6;
  q = q * r + 0.5;
  return {__builtin_bit_cast(double, __builtin_bit_cast(int64_t, shifted) << 52), (r * r) * q + r};
}

}  // namespace groupgrad
