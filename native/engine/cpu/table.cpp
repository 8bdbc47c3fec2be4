// The table of the CPU's operations, and the choice of an instruction set.
#include "engine.hpp"

#include "state.hpp"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace groupgrad::engine::cpu {

namespace {

#if defined(__x86_64__) && defined(__linux__)
// On Linux a process must request the use of AMX.
bool requestAmx() {
  unsigned eax, ebx, ecx, edx;
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return false;
  constexpr unsigned kBfloat16 = 1u << 22, kTiles = 1u << 24;
  if ((edx & kBfloat16) == 0 || (edx & kTiles) == 0) return false;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#endif

// Those that this processor supports, the best last.
const std::vector<InstructionSet>& sets() {
  static const std::vector<InstructionSet> found = [] {
    std::vector<InstructionSet> result = {{"baseline", &kBaselineKernels, &kBaselineKernels.rounded}};
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
      result.push_back({"AVX2", &kAvx2Kernels, &kAvx2Kernels.rounded});
    }
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl")) {
      result.push_back({"AVX-512", &kAvx512Kernels, &kAvx512Kernels.rounded});
      if (__builtin_cpu_supports("avx512bf16")) {
        result.push_back({"AVX512-BF16", &kAvx512Kernels, &kAvx512Bf16Product});
      }
#if defined(__linux__)
      if (requestAmx()) result.push_back({"AMX-BF16", &kAvx512Kernels, &kAmxProduct});
#endif
    }
#endif
    return result;
  }();
  return found;
}

}  // namespace

State::State() : set(sets().back()) { setThreads(groupgrad::cpu::availableProcessors()); }

std::unique_ptr<State, StateDeleter> createState() { return std::unique_ptr<State, StateDeleter>(new State); }
void StateDeleter::operator()(State* state) const { delete state; }

std::span<const char* const> instructionSets() {
  static const std::vector<const char*> names = [] {
    std::vector<const char*> result;
    for (const InstructionSet& set : sets()) result.push_back(set.name);
    return result;
  }();
  return names;
}

const char* instructionSet(const State& state) { return state.set.name; }

bool setInstructionSet(State& state, std::string_view name) {
  for (const InstructionSet& set : sets()) {
    if (name != set.name) continue;
    state.set = set;
    return true;
  }
  return false;
}

int threadCount(const State& state) { return state.threads(); }
void setThreadCount(State& state, int threads) { state.setThreads(std::max(1, threads)); }

const Operations kOperations = {unary,
                                binary,
                                select,
                                cast,
                                copy,
                                fill,
                                reduce,
                                arg,
                                softmax,
                                gather,
                                scatterAdd,
                                addN,
                                rmsNorm,
                                rmsNormBackward,
                                rotary,
                                gatedUnit,
                                gatedUnitBackward,
                                attention,
                                decodeAttention,
                                attentionBackward,
                                adamW,
                                sumOfSquares,
                                sample,
                                matMul,
                                pack,
                                packedBytes,
                                freePacked};

}  // namespace groupgrad::engine::cpu
