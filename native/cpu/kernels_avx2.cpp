// The CPU kernels for AVX2 with FMA.
#if defined(__x86_64__)

// Everything that other files may share must be compiled before the target changes.
#include "kernels.hpp"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif

namespace groupgrad::cpu {
namespace {

constexpr int kWidth = 8;

#include "policy.inl"
#include "rows.inl"

}  // namespace

const Kernels kAvx2Kernels = {"AVX2",         countTokens, prepareSequence, tokenTerms,
                              spreadSequence, forwardRow,  backwardRow};

}  // namespace groupgrad::cpu

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
