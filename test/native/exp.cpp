// Compares native/core/exp.hpp with the correctly rounded exponential: expOf for one float, expInRange for vectors,
// in each instruction set that this processor has. `exp [stride]` tries every stride-th float of the range; 1 tries
// them all. Prints the largest error of each; exits with 1 if a guarantee of exp.hpp is broken. The same for scaledExp
// at a million values of every size.
#include "../../native/core/exp.hpp"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <limits>

namespace {

using groupgrad::expInRange;
using groupgrad::expOf;
using groupgrad::kExpHigh;
using groupgrad::kExpLow;

constexpr int kBatch = 256;
int failures = 0;

typedef float Floats4 __attribute__((vector_size(16)));
typedef int32_t Ints4 __attribute__((vector_size(16)));
typedef float Floats8 __attribute__((vector_size(32)));
typedef int32_t Ints8 __attribute__((vector_size(32)));
typedef float Floats16 __attribute__((vector_size(64)));
typedef int32_t Ints16 __attribute__((vector_size(64)));

void check(bool holds, const char* form, const char* promise, float x, float got) {
  if (holds) return;
  if (++failures < 50) std::printf("FAILED %s: %s: exp(%.9g) gave %.9g\n", form, promise, double(x), double(got));
}

// Floats in the order of their values as consecutive integers; -0 and 0 are one.
int64_t ordinal(float x) {
  const int32_t bits = __builtin_bit_cast(int32_t, x);
  return bits < 0 ? -int64_t(bits & 0x7fffffff) : bits;
}
float fromOrdinal(int64_t n) {
  return n < 0 ? -__builtin_bit_cast(float, int32_t(-n)) : __builtin_bit_cast(float, int32_t(n));
}

// In units in the last place of float32. Rounding exp's float64 result again could misplace a value that is
// within 2^-28 ulp of the midpoint of two floats: such a value is computed in a longer format.
int64_t ulps(float x, float got) {
  const int64_t error = std::llabs(ordinal(got) - ordinal(float(std::exp(double(x)))));
  return error <= 1 ? error : std::llabs(ordinal(got) - ordinal(float(std::exp((long double)(x)))));
}

// The same loop in each form: writes exp of kBatch values to `out`.
using Form = void (*)(const float* in, float* out);

GROUPGRAD_INLINE void scalars(const float* in, float* out) {
  for (int i = 0; i < kBatch; ++i) out[i] = expOf(in[i]);
}

// Clamped one by one, because the kernels only use expInRange on vectors.
template <class Floats, class Ints>
GROUPGRAD_INLINE void vectors(const float* in, float* out) {
  constexpr int width = sizeof(Floats) / sizeof(float);
  for (int i = 0; i < kBatch; i += width) {
    Floats x;
    for (int lane = 0; lane < width; ++lane) x[lane] = groupgrad::clamp(in[i + lane], kExpLow, kExpHigh);
    const Floats y = expInRange<Floats, Ints>(x);
    std::memcpy(out + i, &y, sizeof y);
  }
}

void plainScalars(const float* in, float* out) { scalars(in, out); }
void plainVectors(const float* in, float* out) { vectors<Floats4, Ints4>(in, out); }
#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) void avx2Scalars(const float* in, float* out) { scalars(in, out); }
__attribute__((target("avx2,fma"))) void avx2Vectors(const float* in, float* out) { vectors<Floats8, Ints8>(in, out); }
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
AVX512 void avx512Scalars(const float* in, float* out) { scalars(in, out); }
AVX512 void avx512Vectors(const float* in, float* out) { vectors<Floats16, Ints16>(in, out); }
#endif

float one(Form form, float x) {
  float in[kBatch], out[kBatch];
  for (float& value : in) value = x;
  form(in, out);
  return out[0];
}

void special(const char* name, Form form) {
  const float inf = std::numeric_limits<float>::infinity();
  const auto expect = [&](float x, float expected, const char* promise) {
    const float got = one(form, x);
    check(std::memcmp(&got, &expected, sizeof got) == 0, name, promise, x, got);
  };
  expect(0.0f, 1.0f, "exp(0) is exactly 1");
  expect(-0.0f, 1.0f, "exp(-0) is exactly 1");
  for (const float x : {kExpLow, -87.0f, -100.0f, -1e10f, -std::numeric_limits<float>::max(), -inf}) {
    expect(x, 0.0f, "exactly 0 from kExpLow down");
  }
  for (const float x : {88.7229f, kExpHigh, 89.0f, 1e10f, std::numeric_limits<float>::max(), inf}) {
    expect(x, inf, "infinity above");
  }
  for (const float x : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::quiet_NaN()}) {
    const float got = one(form, x);
    check(got != got, name, "NaN stays NaN", x, got);
  }
}

// The 4096 floats around `around`.
void monotone(const char* name, Form form, float around) {
  float in[kBatch], out[kBatch];
  float previous = 0;
  for (int64_t n = ordinal(around) - 2048; n < ordinal(around) + 2048; n += kBatch) {
    for (int i = 0; i < kBatch; ++i) in[i] = fromOrdinal(n + i);
    form(in, out);
    for (int i = 0; i < kBatch; ++i) {
      check(out[i] >= previous, name, "monotone around the edges of the range", in[i], out[i]);
      previous = out[i];
    }
  }
}

void sweep(const char* name, Form form, int64_t stride) {
  float in[kBatch], out[kBatch];
  int64_t worst = 0, tried = 0, off = 0;
  float worstAt = 0;
  const int64_t first = ordinal(kExpLow) + 1, last = ordinal(kExpHigh);
  for (int64_t n = first; n <= last; n += stride * kBatch) {
    for (int i = 0; i < kBatch; ++i) {
      const int64_t at = n + i * stride;
      in[i] = fromOrdinal(at < last ? at : last);
    }
    form(in, out);
    for (int i = 0; i < kBatch; ++i) {
      const int64_t error = ulps(in[i], out[i]);
      off += error != 0;
      if (error > worst) {
        worst = error;
        worstAt = in[i];
      }
    }
    tried += kBatch;
  }
  std::printf("%s: %lld floats, largest error %lld ulp (at %.9g), %.3f %% not correctly rounded\n", name,
              (long long)tried, (long long)worst, double(worstAt), 100.0 * double(off) / double(tried));
  check(worst <= 1, name, "within 1 ulp of the correctly rounded result", worstAt, one(form, worstAt));
}

void all(const char* name, Form form, int64_t stride) {
  special(name, form);
  for (const float around : {kExpLow, 0.0f, 88.7228f, kExpHigh}) monotone(name, form, around);
  sweep(name, form, stride);
}

// Compares scaledExp with a longer format: exp(x) and exp(x) - 1, relatively.
void float64() {
  double worst = 0, worstMinusOne = 0;
  const auto relative = [](double got, long double expected) {
    return expected == 0 ? std::abs(got) : double(std::abs((got - expected) / expected));
  };
  for (int i = 0; i < 1000000; ++i) {
    const double size = std::pow(10.0, -12 + 14.85 * i / 1e6);
    const double x = size > 708 ? 708 : size;
    for (const double y : {x, -x}) {
      const groupgrad::ScaledExp e = groupgrad::scaledExp(y);
      worst = std::fmax(worst, relative(e.exp(), std::exp((long double)(y))));
      worstMinusOne = std::fmax(worstMinusOne, relative(e.minusOne(), std::expm1((long double)(y))));
    }
  }
  std::printf("float64: largest relative error of exp %.2g, of exp - 1 %.2g\n", worst, worstMinusOne);
  check(worst < 1e-14, "float64", "exp within 1e-14", 0, float(worst));
  check(worstMinusOne < 4e-14, "float64", "exp - 1 within 4e-14", 0, float(worstMinusOne));
  const double inf = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  const auto value = [](double x) { return groupgrad::scaledExp(x).exp(); };
  check(value(0) == 1 && groupgrad::scaledExp(0).minusOne() == 0, "float64", "exact at 0", 0, float(value(0)));
  check(value(inf) == value(709) && value(-inf) == value(-708), "float64", "finite everywhere", 0, float(value(inf)));
  check(value(nan) != value(nan), "float64", "NaN stays NaN", 0, float(value(nan)));
}

}  // namespace

int main(int count, char** arguments) {
  const int64_t stride = count > 1 ? std::atoll(arguments[1]) : 67;
  if (stride < 1) {
    std::printf("exp: expected a stride of at least 1\n");
    return 2;
  }
  all("baseline, one float", plainScalars, stride);
  all("baseline, vectors of 4", plainVectors, stride);
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    all("AVX2, one float", avx2Scalars, stride);
    all("AVX2, vectors of 8", avx2Vectors, stride);
  } else {
    std::printf("AVX2: not tried, this processor does not have it\n");
  }
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    all("AVX-512, one float", avx512Scalars, stride);
    all("AVX-512, vectors of 16", avx512Vectors, stride);
  } else {
    std::printf("AVX-512: not tried, this processor does not have it\n");
  }
#endif
  float64();
  if (failures > 0) std::printf("%d failures\n", failures);
  return failures > 0 ? 1 : 0;
}
