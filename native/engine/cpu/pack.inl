// The right factor of a product in strips of columns, as the inner loops read it.
#pragma once

void packFloat32(const Matrix& b, int64_t column, int64_t n, int64_t columns, void* strip) {
  uint32_t* y = static_cast<uint32_t*>(strip);
  const float* x = b.float32 + column * b.strideN;
  if (n < columns) std::fill_n(y, b.k * columns, 0u);
  if (b.strideN == 1) {
    for (int64_t k = 0; k < b.k; ++k) std::memcpy(y + k * columns, x + k * b.strideK, size_t(n) * sizeof(float));
    return;
  }
  if (b.strideK == 1) {
    const int64_t stride = b.strideN;
    transposeWords(
        n, b.k, y, columns, [=](int64_t r, int64_t c) { return load<WordQuad>(x + r * stride + c); },
        [=](int64_t r, int64_t c) { return bitsOf(x[r * stride + c]); });
    return;
  }
  for (int64_t k = 0; k < b.k; ++k) {
    for (int64_t j = 0; j < n; ++j) y[k * columns + j] = bitsOf(x[k * b.strideK + j * b.strideN]);
  }
}

// A pair of bfloat16 in a word, the first in the lower half.
GROUPGRAD_INLINE WordQuad pairsOf(const float* x) {
  const WordQuad low = toBfloat16<WordQuad>(load<Quad>(x)), high = toBfloat16<WordQuad>(load<Quad>(x + 4));
  return __builtin_shufflevector(low, high, 0, 2, 4, 6) | (__builtin_shufflevector(low, high, 1, 3, 5, 7) << 16);
}
GROUPGRAD_INLINE uint32_t bitsOf(const Matrix& b, int64_t k, int64_t j) {
  const int64_t at = k * b.strideK + j * b.strideN;
  return b.bfloat16 ? b.bfloat16[at] : toBfloat16<uint32_t>(b.float32[at]);
}

void packBfloat16(const Matrix& b, int64_t column, int64_t n, int64_t columns, void* strip) {
  uint32_t* y = static_cast<uint32_t*>(strip);
  const int64_t pairs = b.k / 2;
  const auto pair = [&](int64_t p, int64_t j) {
    return bitsOf(b, 2 * p, column + j) | (2 * p + 1 < b.k ? bitsOf(b, 2 * p + 1, column + j) << 16 : 0);
  };
  const int64_t padded = (b.k + kStepBfloat16 - 1) / kStepBfloat16 * kStepBfloat16 / 2;
  const int64_t written = n < columns ? 0 : (b.k + 1) / 2;
  std::fill(y + written * columns, y + padded * columns, 0u);
  if (b.strideN == 1 && n == columns) {
    for (int64_t p = 0; p < pairs; ++p) {
      const int64_t at = 2 * p * b.strideK + column;
      for (int64_t j = 0; j < columns; j += kWidth) {
        Words low, high;
        if (b.bfloat16) {
          low = __builtin_convertvector(load<Halves>(b.bfloat16 + at + j), Words);
          high = __builtin_convertvector(load<Halves>(b.bfloat16 + at + b.strideK + j), Words);
        } else {
          low = toBfloat16<Words>(load<Floats>(b.float32 + at + j));
          high = toBfloat16<Words>(load<Floats>(b.float32 + at + b.strideK + j));
        }
        store(y + p * columns + j, low | (high << 16));
      }
    }
  } else if (b.strideK == 1) {
    const int64_t stride = b.strideN, begin = column * stride;
    const auto word = [&](int64_t r, int64_t c) { return pair(c, r); };
    if (b.bfloat16) {
      const uint16_t* x = b.bfloat16 + begin;
      transposeWords(
          n, pairs, y, columns, [=](int64_t r, int64_t c) { return load<WordQuad>(x + r * stride + 2 * c); }, word);
    } else {
      const float* x = b.float32 + begin;
      transposeWords(
          n, pairs, y, columns, [=](int64_t r, int64_t c) { return pairsOf(x + r * stride + 2 * c); }, word);
    }
  } else {
    for (int64_t p = 0; p < pairs; ++p) {
      for (int64_t j = 0; j < n; ++j) y[p * columns + j] = pair(p, j);
    }
  }
  if (b.k % 2 != 0) {
    for (int64_t j = 0; j < n; ++j) y[pairs * columns + j] = pair(pairs, j);
  }
}
