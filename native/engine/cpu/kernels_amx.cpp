// Matrix products with AMX: both factors in bfloat16, tiles of 16 x 16 sums. Its bits differ from those of every
// other kernel: it adds the products of a pair in a different order, and flushes subnormal numbers to 0.
#if defined(__x86_64__) && defined(__linux__)

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
#pragma clang attribute push(__attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("amx-tile,amx-bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")
#endif

#include "kernels.hpp"

namespace groupgrad::engine::cpu {
namespace {

constexpr int kWidth = 16;

#include "../../cpu/simd.inl"
#include "matmul.inl"
#include "rows_bfloat16.inl"

constexpr int kTile = 16;                           // rows of every tile, and columns of float32
constexpr int64_t kStripBytes = kStripColumns * 4;  // of a pair of k

// Every tile is 16 rows of 64 bytes: 0 to 3 hold sums, 4 and 5 rows of A, 6 and 7 columns of B. Constant, because
// compilers do not know that all of it is read.
struct alignas(64) Configuration {
  uint8_t palette = 1, startRow = 0, reserved[14] = {};
  uint16_t bytesPerRow[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
constexpr Configuration kConfiguration;
void enter() { _tile_loadconfig(&kConfiguration); }
void leave() { _tile_release(); }

// Up to 32 rows: rows of the panel beyond `rows` are multiplied too, and their results dropped.
void multiplyAmx(int rows, const void* panel, const void* strip, int64_t k, float* c, int64_t strideC, int64_t n,
                 bool accumulate, const std::byte* ahead, int64_t step) {
  const char* a = static_cast<const char*>(panel);
  const char* b = static_cast<const char*>(strip);
  alignas(64) float sums[2 * kTile][kStripColumns];
  const bool both = rows > kTile;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t i = 0; i < k; i += kStepBfloat16, a += kStepBfloat16 * 2, b += kStepBfloat16 / 2 * kStripBytes) {
    for (int64_t line = 0; line < kStepBfloat16 * step; line += 64) __builtin_prefetch(ahead + line, 0, 2);
    ahead += kStepBfloat16 * step;
    _tile_loadd(4, a, kPanelStride);
    _tile_loadd(6, b, kStripBytes);
    _tile_loadd(7, b + kStripBytes / 2, kStripBytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    if (both) {
      _tile_loadd(5, a + kTile * kPanelStride, kPanelStride);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, &sums[0][0], sizeof sums[0]);
  _tile_stored(1, &sums[0][kTile], sizeof sums[0]);
  if (both) {
    _tile_stored(2, &sums[kTile][0], sizeof sums[0]);
    _tile_stored(3, &sums[kTile][kTile], sizeof sums[0]);
  }
  for (int r = 0; r < rows; ++r) {
    Floats row[1][2] = {{load<Floats>(sums[r]), load<Floats>(sums[r] + kWidth)}};
    finishTile<1>(row, c + r * strideC, strideC, n, accumulate);
  }
}

}  // namespace

const ProductKernel kAmxProduct = {2 * kTile, kStripColumns, packRowsBfloat16, multiplyAmx, enter, leave};

}  // namespace groupgrad::engine::cpu

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
