// The inner loops of the engine's CPU operations. The same sources (*.inl) are compiled once for each instruction set
// (kernels_*.cpp); table.cpp picks the best one that the processor supports and distributes the work over threads.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <type_traits>
#include <utility>

#include "../../core/bfloat16.hpp"
#include "../../core/exp.hpp"
#include "../operations.hpp"

namespace groupgrad::engine::cpu {

// Products are summed in blocks of this many k: a block is one chain of multiply-adds from 0, k ascending, and the
// blocks are added up in ascending order. It is the same in every instruction set, and results depend on it.
constexpr int64_t kBlockK = 512;
// From one row of a packed block of A to the next, in bytes: a block of floats, or of bfloat16 in half of the space,
// and a cache line, to keep rows from mapping to the same cache sets.
constexpr int64_t kPanelStride = kBlockK * 4 + 64;

// Blocks of bfloat16 are zero-padded to a multiple of this many k, which AMX multiplies at a time.
constexpr int64_t kStepBfloat16 = 32;

// One way to multiply: a tile of up to `rows` rows of A by a strip of `columns` columns of B.
struct ProductKernel {
  int rows;
  int columns;
  // Copies rows of a block of A, `k` <= kBlockK wide, to a panel, rounded to bfloat16 if the kernel requires it.
  void (*packRows)(const float* a, int64_t strideM, int64_t strideK, int64_t rows, int64_t k, void* panel);
  // c[r][j] (+)= sum over k of panel[r][k] strip[k][j], for j < n <= columns. Along with each k, `ahead` is prefetched,
  // and moves on by `step` bytes. (Two values: a struct of them, passed in memory, made products 10 % slower.)
  void (*multiply)(int rows, const void* panel, const void* strip, int64_t k, float* c, int64_t strideC, int64_t n,
                   bool accumulate, const std::byte* ahead, int64_t step);
  // Called before a thread's first product and after its last, if needed.
  void (*enter)() = nullptr;
  void (*leave)() = nullptr;
};

// How a strip of B is packed, columns [0, n) of `b`, the others 0.
using PackStrip = void (*)(const Matrix& b, int64_t column, int64_t n, int64_t columns, void* strip);

// How scores become probabilities.
struct Scoring {
  float scale, softCap;
};

struct Kernels {
  const char* name;
  void (*unary)(Unary op, const float* x, float* y, int64_t n, float alpha);
  // Strides are 0 or 1.
  void (*binary)(Binary op, const float* a, int64_t strideA, const float* b, int64_t strideB, void* y, int64_t n);
  void (*select)(const uint8_t* condition, const float* a, const float* b, float* y, int64_t n);
  void (*cast)(Type from, Type to, const void* x, void* y, int64_t n);
  double (*sumRow)(const float* x, int64_t n);
  float (*extremeRow)(bool smallest, const float* x, int64_t n);
  int64_t (*argRow)(bool smallest, const float* x, int64_t n);
  // y[i] = the reduction over n rows, `stride` apart, of x[n, i].
  void (*reduceColumns)(Reduction op, const float* x, int64_t n, int64_t stride, float* y, int64_t width);
  void (*softmaxRow)(bool log, const float* x, float* y, int64_t n);
  // The scale of the row.
  float (*rmsNormRow)(const float* x, const float* weight, float* y, int64_t n, float epsilon, float offset);
  // Adds dy x scale to `dWeight` where it is not null.
  void (*rmsNormBackwardRow)(const float* dy, const float* x, const float* weight, float scale, float offset, float* dx,
                             float* dWeight, int64_t n);
  void (*rotateHead)(const float* x, const float* cos, const float* sin, float* y, int64_t width, int64_t size,
                     bool inverse);
  void (*gatedUnit)(bool gelu, const float* gate, const float* up, float* y, int64_t n);
  void (*gatedUnitBackward)(bool gelu, const float* dy, const float* gate, const float* up, float* dGate, float* dUp,
                            int64_t n);
  float (*dotRow)(const float* a, const float* b, int64_t n);
  // A block of products of a query with keys, of which it sees [low, high): they become exp(score - largest) and 0,
  // in whole vectors from the first on; `largest` and `total` carry over between blocks. Returns the factor for the
  // sums of earlier blocks.
  float (*softmaxBlock)(float* products, int64_t low, int64_t high, int64_t n, const Scoring&, float& largest,
                        float& total);
  // Products become probabilities, and their gradients those of the products; outside [low, high) 0. `stride` 0: the
  // same logSumExp and along (the product of the row's value with its gradient) for all.
  void (*softmaxBlockBackward)(float* products, float* gradients, int64_t low, int64_t high, int64_t n, const Scoring&,
                               const float* logSumExp, const float* along, int64_t stride);
  void (*adamW)(const AdamWRequest&, int64_t begin, int64_t end);
  double (*sumOfSquares)(const float* x, int64_t n);
  ProductKernel float32;   // A in float32, B in float32
  ProductKernel mixed;     // A in float32, B in bfloat16
  ProductKernel rounded;   // both in bfloat16
  PackStrip packFloat32;   // [k][columns]
  PackStrip packBfloat16;  // [k / 2][columns][2], filled up with 0 to a multiple of kStepBfloat16
};

extern const Kernels kBaselineKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
// Replaces kAvx512Kernels.rounded if the processor has AVX512-BF16.
extern const ProductKernel kAvx512Bf16Product;
#if defined(__linux__)
// Likewise if it has AMX, which a process must request from the system.
extern const ProductKernel kAmxProduct;
#endif
#endif

}  // namespace groupgrad::engine::cpu
