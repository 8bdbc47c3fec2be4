// All kernels, compiled once for each instruction set: kernels_baseline.cpp, kernels_avx2.cpp and kernels_avx512.cpp
// include this file inside an unnamed namespace, after they have set kWidth.
#include "../../cpu/simd.inl"
#include "elementwise.inl"
#include "matmul.inl"
#include "pack.inl"
#include "reduce.inl"
#include "transformer.inl"

constexpr Kernels kernelsNamed(const char* name) {
  return {name,
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
}
