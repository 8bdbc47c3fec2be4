// A block of A in bfloat16.
#pragma once

// Row by row, zero-padded to a multiple of kStepBfloat16.
void packRowsBfloat16(const float* a, int64_t strideM, int64_t strideK, int64_t rows, int64_t k, void* panel) {
  const auto row = [panel](int64_t r) {
    return reinterpret_cast<uint16_t*>(static_cast<char*>(panel) + r * kPanelStride);
  };
  if (strideK != 1) {
    // Along the rows of memory: A is transposed.
    for (int64_t i = 0; i < k; ++i) {
      for (int64_t r = 0; r < rows; ++r) row(r)[i] = uint16_t(toBfloat16<uint32_t>(a[r * strideM + i * strideK]));
    }
  }
  for (int64_t r = 0; r < rows; ++r) {
    uint16_t* y = row(r);
    const float* x = a + r * strideM;
    int64_t i = strideK == 1 ? 0 : k;
    for (; i + kWidth <= k; i += kWidth) {
      store(y + i, __builtin_convertvector(toBfloat16<Words>(load<Floats>(x + i)), Halves));
    }
    for (; i < k; ++i) y[i] = uint16_t(toBfloat16<uint32_t>(x[i]));
    std::fill(y + k, y + (k + kStepBfloat16 - 1) / kStepBfloat16 * kStepBfloat16, uint16_t(0));
  }
}
