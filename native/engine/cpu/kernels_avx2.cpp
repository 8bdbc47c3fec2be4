// The engine's kernels for AVX2 with FMA.
#if defined(__x86_64__)

// The standard library's functions may be shared with files for other targets, so they come before the target changes;
// native/core's are always inlined.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <span>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif

#include "kernels.hpp"

namespace groupgrad::engine::cpu {
namespace {

constexpr int kWidth = 8;

#include "kernels.inl"

}  // namespace

constinit const Kernels kAvx2Kernels = kernelsNamed("AVX2");

}  // namespace groupgrad::engine::cpu

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
