// Lets the formulas compile as both C++ and CUDA.
#pragma once

#include <cmath>
#include <cstdint>

#if defined(__CUDACC__)
#define GROUPGRAD_INLINE __host__ __device__ __forceinline__
#else
// Always inlined, so that a caller compiled for AVX-512 gets the formula in AVX-512.
#define GROUPGRAD_INLINE inline __attribute__((always_inline))
#endif

namespace groupgrad {

constexpr float kInfinity = __builtin_huge_valf();
constexpr float kFloatMax = 3.402823466e+38f;

// Comparisons are ordered so that a NaN in `x` propagates.
GROUPGRAD_INLINE float clampAbove(float x, float high) { return x > high ? high : x; }
GROUPGRAD_INLINE float clampBelow(float x, float low) { return x < low ? low : x; }
GROUPGRAD_INLINE float clamp(float x, float low, float high) { return clampAbove(clampBelow(x, low), high); }

GROUPGRAD_INLINE bool isFinite(float x) { return __builtin_fabsf(x) <= kFloatMax; }

}  // namespace groupgrad
