// Matrix products with AVX512-BF16: both factors in bfloat16, two steps of k per instruction. It adds the products
// of a pair without rounding between them, and flushes subnormal numbers to 0, so its bits differ from those of the
// other kernels.
#if defined(__x86_64__)

#include <immintrin.h>

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
#pragma clang attribute push(__attribute__((target("avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")
#endif

#include "kernels.hpp"

namespace groupgrad::engine::cpu {
namespace {

constexpr int kWidth = 16;

#include "../../cpu/simd.inl"
#include "matmul.inl"
#include "rows_bfloat16.inl"

template <int R>
void multiplyBfloat16(const char* panel, const void* strip, int64_t k, float* c, int64_t strideC, int64_t n,
                      bool accumulate, const std::byte* ahead, int64_t step) {
  const uint32_t* b = static_cast<const uint32_t*>(strip);
  Floats sums[R][2];
  clear(sums);
  const int64_t pairs = (k + 1) / 2;
  for (int64_t i = 0; i < pairs; ++i, b += kStripColumns, ahead += 2 * step) {
    __builtin_prefetch(ahead, 0, 2);
    const __m512bh b0 = (__m512bh)_mm512_loadu_si512(b), b1 = (__m512bh)_mm512_loadu_si512(b + kWidth);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const int pair = reinterpret_cast<const int*>(panel + r * kPanelStride)[i];
      const __m512bh a = (__m512bh)_mm512_set1_epi32(pair);
      sums[r][0] = (Floats)_mm512_dpbf16_ps((__m512)sums[r][0], a, b0);
      sums[r][1] = (Floats)_mm512_dpbf16_ps((__m512)sums[r][1], a, b1);
    }
  }
  finishTile<R>(sums, c, strideC, n, accumulate);
}

void multiplyBfloat16Rows(int rows, const void* panel, const void* strip, int64_t k, float* c, int64_t strideC,
                          int64_t n, bool accumulate, const std::byte* ahead, int64_t step) {
  static constexpr auto tiles = []<size_t... R>(std::index_sequence<R...>) {
    return std::array<Tile, sizeof...(R)>{multiplyBfloat16<int(R) + 1>...};
  }
  (std::make_index_sequence<kTileRows>());
  tiles[size_t(rows - 1)](static_cast<const char*>(panel), strip, k, c, strideC, n, accumulate, ahead, step);
}

}  // namespace

const ProductKernel kAvx512Bf16Product = {kTileRows, kStripColumns, packRowsBfloat16, multiplyBfloat16Rows};

}  // namespace groupgrad::engine::cpu

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
