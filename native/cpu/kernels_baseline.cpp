// The CPU kernels for the processor family's common instruction set.
#include "kernels.hpp"

namespace groupgrad::cpu {
namespace {

constexpr int kWidth = 4;

#include "policy.inl"
#include "rows.inl"

}  // namespace

const Kernels kBaselineKernels = {"baseline",     countTokens, prepareSequence, tokenTerms,
                                  spreadSequence, forwardRow,  backwardRow};

}  // namespace groupgrad::cpu
