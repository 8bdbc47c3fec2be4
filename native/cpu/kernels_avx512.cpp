// The CPU kernels for AVX-512.
#if defined(__x86_64__)

// Everything that other files may share must be compiled before the target changes.
#include "kernels.hpp"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")
#endif

namespace groupgrad::cpu {
namespace {

constexpr int kWidth = 16;

#include "policy.inl"
#include "rows.inl"

}  // namespace

const Kernels kAvx512Kernels = {"AVX-512",      countTokens, prepareSequence, tokenTerms,
                                spreadSequence, forwardRow,  backwardRow};

}  // namespace groupgrad::cpu

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
