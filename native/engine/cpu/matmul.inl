// The inner loops of matrix products. Every element of a tile is one chain of multiply-adds over k, in ascending order,
// in all of these kernels: that is the contract of MatMulRequest. With fused multiply-adds (AVX2 and AVX-512) the
// chains give the same bits; the baseline, without, rounds twice per step.
#pragma once

typedef float Quad __attribute__((vector_size(16)));
typedef uint32_t WordQuad __attribute__((vector_size(16)));

constexpr int kStripColumns = 2 * kWidth;
// As many rows as keep the sums of a tile, and what is multiplied, in registers: 32 of them with AVX-512, else 16.
constexpr int kTileRows = kWidth == 16 ? 14 : 6;
constexpr int kMixedTileRows = kWidth == 16 ? 12 : 4;

// Writes 4 x 4 words to rows `stride` words apart, transposed.
GROUPGRAD_INLINE void storeTransposed(WordQuad a, WordQuad b, WordQuad c, WordQuad d, uint32_t* y, int64_t stride) {
  const WordQuad ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab2 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const WordQuad cd = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd2 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  store(y, __builtin_shufflevector(ab, cd, 0, 1, 4, 5));
  store(y + stride, __builtin_shufflevector(ab, cd, 2, 3, 6, 7));
  store(y + 2 * stride, __builtin_shufflevector(ab2, cd2, 0, 1, 4, 5));
  store(y + 3 * stride, __builtin_shufflevector(ab2, cd2, 2, 3, 6, 7));
}

// Copies rows x columns words from source(row, column) on, where a row's words are contiguous, to y, where a
// column's are. `quad(row, column)` gives four words of a row, `word(row, column)` one.
template <class ReadQuad, class ReadWord>
GROUPGRAD_INLINE void transposeWords(int64_t rows, int64_t columns, uint32_t* y, int64_t stride, ReadQuad quad,
                                     ReadWord word) {
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4) {
    int64_t c = 0;
    for (; c + 4 <= columns; c += 4) {
      storeTransposed(quad(r, c), quad(r + 1, c), quad(r + 2, c), quad(r + 3, c), y + c * stride + r, stride);
    }
    for (; c < columns; ++c) {
      for (int64_t i = 0; i < 4; ++i) y[c * stride + r + i] = word(r + i, c);
    }
  }
  for (; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) y[c * stride + r] = word(r, c);
  }
}

GROUPGRAD_INLINE uint32_t bitsOf(float x) { return __builtin_bit_cast(uint32_t, x); }

// A block of A, row by row.
void packRows(const float* a, int64_t strideM, int64_t strideK, int64_t rows, int64_t k, void* panel) {
  char* y = static_cast<char*>(panel);
  if (strideK == 1) {
    for (int64_t r = 0; r < rows; ++r) std::memcpy(y + r * kPanelStride, a + r * strideM, size_t(k) * sizeof(float));
  } else if (strideM == 1) {
    transposeWords(
        k, rows, static_cast<uint32_t*>(panel), kPanelStride / 4,
        [=](int64_t r, int64_t c) { return load<WordQuad>(a + r * strideK + c); },
        [=](int64_t r, int64_t c) { return bitsOf(a[r * strideK + c]); });
  } else {
    for (int64_t r = 0; r < rows; ++r) {
      float* to = reinterpret_cast<float*>(y + r * kPanelStride);
      for (int64_t i = 0; i < k; ++i) to[i] = a[r * strideM + i * strideK];
    }
  }
}

// The same, each value rounded to bfloat16 and widened again.
void packRowsRounded(const float* a, int64_t strideM, int64_t strideK, int64_t rows, int64_t k, void* panel) {
  packRows(a, strideM, strideK, rows, k, panel);
  for (int64_t r = 0; r < rows; ++r) {
    float* row = reinterpret_cast<float*>(static_cast<char*>(panel) + r * kPanelStride);
    int64_t i = 0;
    for (; i + kWidth <= k; i += kWidth) store(row + i, toBfloat16<Words>(load<Floats>(row + i)) << 16);
    for (; i < k; ++i) row[i] = __builtin_bit_cast(float, toBfloat16<uint32_t>(row[i]) << 16);
  }
}

template <int R>
GROUPGRAD_INLINE void finishTile(Floats (&sums)[R][2], float* c, int64_t strideC, int64_t n, bool accumulate) {
  if (n == kStripColumns) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      float* y = c + r * strideC;
      store(y, accumulate ? load<Floats>(y) + sums[r][0] : sums[r][0]);
      store(y + kWidth, accumulate ? load<Floats>(y + kWidth) + sums[r][1] : sums[r][1]);
    }
    return;
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    float row[kStripColumns];
    store(row, sums[r][0]);
    store(row + kWidth, sums[r][1]);
    float* y = c + r * strideC;
    for (int64_t j = 0; j < n; ++j) y[j] = accumulate ? y[j] + row[j] : row[j];
  }
}

// A value of A in all lanes. Subtracting 0 changes no value and costs nothing; adding to 0 would lose the sign of
// -0.
GROUPGRAD_INLINE Floats panelValue(const char* panel, int row, int64_t k) {
  return reinterpret_cast<const float*>(panel + row * kPanelStride)[k] - Floats{};
}

template <int R>
GROUPGRAD_INLINE void clear(Floats (&sums)[R][2]) {
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) sums[r][0] = sums[r][1] = Floats{};
}

template <int R>
void multiplyFloat32(const char* panel, const void* strip, int64_t k, float* c, int64_t strideC, int64_t n,
                     bool accumulate, const std::byte* ahead, int64_t step) {
  const float* b = static_cast<const float*>(strip);
  Floats sums[R][2];
  clear(sums);
  for (int64_t i = 0; i < k; ++i, b += kStripColumns, ahead += step) {
    __builtin_prefetch(ahead, 0, 2);
    const Floats b0 = load<Floats>(b), b1 = load<Floats>(b + kWidth);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Floats a = panelValue(panel, r, i);
      sums[r][0] += a * b0;
      sums[r][1] += a * b1;
    }
  }
  finishTile<R>(sums, c, strideC, n, accumulate);
}

template <int R>
void multiplyMixed(const char* panel, const void* strip, int64_t k, float* c, int64_t strideC, int64_t n,
                   bool accumulate, const std::byte* ahead, int64_t step) {
  const uint32_t* b = static_cast<const uint32_t*>(strip);
  Floats sums[R][2];
  clear(sums);
  const auto add = [&](Words w0, Words w1, int64_t i) __attribute__((always_inline)) {
    const Floats b0 = __builtin_bit_cast(Floats, w0), b1 = __builtin_bit_cast(Floats, w1);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Floats a = panelValue(panel, r, i);
      sums[r][0] += a * b0;
      sums[r][1] += a * b1;
    }
  };
  int64_t i = 0;
  for (; i + 2 <= k; i += 2, b += kStripColumns, ahead += 2 * step) {
    __builtin_prefetch(ahead, 0, 2);
    const Words w0 = load<Words>(b), w1 = load<Words>(b + kWidth);
    add(w0 << 16, w1 << 16, i);
    add(w0 & 0xffff0000u, w1 & 0xffff0000u, i + 1);
  }
  if (i < k) add(load<Words>(b) << 16, load<Words>(b + kWidth) << 16, i);
  finishTile<R>(sums, c, strideC, n, accumulate);
}

using Tile = void (*)(const char* panel, const void* strip, int64_t k, float* c, int64_t strideC, int64_t n,
                      bool accumulate, const std::byte* ahead, int64_t step);

void multiplyFloat32Rows(int rows, const void* panel, const void* strip, int64_t k, float* c, int64_t strideC,
                         int64_t n, bool accumulate, const std::byte* ahead, int64_t step) {
  static constexpr auto tiles = []<size_t... R>(std::index_sequence<R...>) {
    return std::array<Tile, sizeof...(R)>{multiplyFloat32<int(R) + 1>...};
  }
  (std::make_index_sequence<kTileRows>());
  tiles[size_t(rows - 1)](static_cast<const char*>(panel), strip, k, c, strideC, n, accumulate, ahead, step);
}

void multiplyMixedRows(int rows, const void* panel, const void* strip, int64_t k, float* c, int64_t strideC, int64_t n,
                       bool accumulate, const std::byte* ahead, int64_t step) {
  static constexpr auto tiles = []<size_t... R>(std::index_sequence<R...>) {
    return std::array<Tile, sizeof...(R)>{multiplyMixed<int(R) + 1>...};
  }
  (std::make_index_sequence<kMixedTileRows>());
  tiles[size_t(rows - 1)](static_cast<const char*>(panel), strip, k, c, strideC, n, accumulate, ahead, step);
}

constexpr ProductKernel kFloat32Product = {kTileRows, kStripColumns, packRows, multiplyFloat32Rows};
constexpr ProductKernel kMixedProduct = {kMixedTileRows, kStripColumns, packRows, multiplyMixedRows};
constexpr ProductKernel kRoundedProduct = {kMixedTileRows, kStripColumns, packRowsRounded, multiplyMixedRows};
