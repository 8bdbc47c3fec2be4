// The data that passes between the kernels of an operation, and its layout in a workspace.
#pragma once

#include "fields.cuh"
#include "grid.cuh"
#include "operations.hpp"
#include "token.cuh"

namespace groupgrad::cuda {

// Kept between calls; all zero between launches.
struct Header {
  GridCounters grid;
  unsigned long long offending;  // logits, beyond the one that each log-prob shows
  double overflows;              // values of the gradient with respect to logits
};

// Written and read within one call.
struct Batch {
  double entropyTokens;   // the entropy term's denominator
  float entropyGradient;  // the loss's derivative with respect to a kept token's entropy
  float entropyThreshold;

  // `tokens`: of this batch.
  __device__ static Batch of(const LossConfig& config, double tokens, float threshold) {
    const double given = config.entropyTokens;
    const double denominator = given == given ? given : tokens > 1 ? tokens : 1;
    return {denominator, float(0 - config.entropyCoefficient / denominator), threshold};
  }
};

// The policy loss processes sequences in units; results depend on their size. Large units keep a sequence's sums
// within one block; without such sums, small units let more blocks share a short batch.
constexpr int64_t kLargeUnit = 1024;
constexpr int64_t kSmallUnit = 256;
// Sequences up to this length are processed by a warp, longer ones by a block.
constexpr int64_t kWarpTokens = 128;

int64_t unitTokens(const PolicyRequest&);
inline int64_t unitsPerSequence(const PolicyRequest& r) { return (r.length + unitTokens(r) - 1) / unitTokens(r); }

namespace quantity {
enum : int { tokens, logRatio, contribution, kSums };
}
// Sums over a unit, from which its sequence's state is computed.
using Quantities = Fields<quantity::kSums, 0>;

namespace sums {
enum : int {
  loss,
  kl,
  logRatio,
  ratio,
  phi,
  dLogRatio,
  dSequence,
  tokens,
  reads,
  clippedLow,
  clippedHigh,
  nonFinite,  // NonFinite, packed
  entropy,
  keptEntropy,
  kSums,
  minusRatioMin = kSums,
  ratioMax,
  kCount
};
}
using UnitSums = Fields<sums::kSums, sums::kCount - sums::kSums>;

namespace kl {
enum : int { exponential, rest, kSums };
}
// Sums of KlParts over a unit.
using UnitKl = Fields<kl::kSums, 0>;

// A row of logits between its two visits.
struct RowRecord {
  float maximum;  // untempered
  float sum;      // of exp((x - maximum) / T)
  float meanZ;    // of (x - maximum) / T under softmax
};

// Divides a workspace into arrays; with a null base it only adds up their sizes.
class Cutter {
 public:
  explicit Cutter(void* base) : base_(static_cast<char*>(base)) {}
  template <class T>
  T* take(int64_t count) {
    T* array = base_ ? reinterpret_cast<T*>(base_ + used_) : nullptr;
    used_ += (std::size_t(count) * sizeof(T) + 255) / 256 * 256;
    return array;
  }
  std::size_t used() const { return used_; }

 private:
  char* base_;
  std::size_t used_ = 0;
};

struct PolicyScratch {
  Header* header;
  Batch* batch;
  SequenceState* sequences;
  Quantities* quantities;
  UnitSums* sums;
  UnitKl* kl;  // where the KL term shares its ratio

  PolicyScratch(Cutter& cutter, const PolicyRequest& r) {
    const int64_t units = r.sequences * unitsPerSequence(r);
    header = cutter.take<Header>(1);
    batch = cutter.take<Batch>(1);
    sequences = cutter.take<SequenceState>(r.sequences);
    quantities = cutter.take<Quantities>(units);
    sums = cutter.take<UnitSums>(units);
    kl = cutter.take<UnitKl>(klSharesRatio(r.config) ? units : 0);
  }
};

}  // namespace groupgrad::cuda
