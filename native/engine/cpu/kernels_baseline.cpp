// The engine's kernels for the processor family's common instruction set.
#include "kernels.hpp"

namespace groupgrad::engine::cpu {
namespace {

constexpr int kWidth = 4;

#include "../../cpu/simd.inl"
#include "elementwise.inl"
#include "matmul.inl"
#include "pack.inl"
#include "reduce.inl"
#include "transformer.inl"

}  // namespace

const Kernels kBaselineKernels = {"baseline",
                                  unary,
                                  binary,
                                  select,
                                  cast,
                                  sumRow,
                                  extremeRow,
                                  argRow,
                                  reduceColumns,
                                  softmaxRow,
                                  rmsNormRow,
                                  rmsNormBackwardRow,
                                  rotateHead,
                                  gatedUnit,
                                  gatedUnitBackward,
                                  dotRow,
                                  softmaxBlock,
                                  softmaxBlockBackward,
                                  adamW,
                                  sumOfSquares,
                                  kFloat32Product,
                                  kMixedProduct,
                                  kRoundedProduct,
                                  packFloat32,
                                  packBfloat16};

}  // namespace groupgrad::engine::cpu
