// The engine's kernels for the processor family's common instruction set.
#include "kernels.hpp"

namespace groupgrad::engine::cpu {
namespace {

constexpr int kWidth = 4;

#include "kernels.inl"

}  // namespace

constinit const Kernels kBaselineKernels = kernelsNamed("baseline");

}  // namespace groupgrad::engine::cpu
