// The CPU kernels' interface. The same source (policy.inl, rows.inl) is compiled once for each instruction set
// (kernels_*.cpp); device.cpp picks the best one that the processor supports.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <type_traits>

#include "../core/advantage.hpp"
#include "../core/aggregation.hpp"
#include "../core/bfloat16.hpp"
#include "../core/config.hpp"
#include "../core/exp.hpp"
#include "../core/kl.hpp"
#include "../core/metrics.hpp"
#include "../core/platform.hpp"
#include "../core/row.hpp"
#include "../core/surrogate.hpp"
#include "../core/visits.hpp"

namespace groupgrad::cpu {

// Sums over the masked-in tokens of a run of sequences, in as many lanes as the widest vector has; the lanes are
// summed at the end. Which tokens share a lane depends only on the shape, never on the number of threads.
constexpr int kLanes = 16;
struct Lanes {
  alignas(64) double value[kLanes] = {};
  double total() const;
};
struct RunSums {
  Lanes loss;      // surrogate + beta KL, times the aggregation's factor
  Lanes gradient;  // with respect to log-probs: finite where all of them are, or nearly so
  Lanes kl;
  Lanes logRatio;  // raw log-ratios, of the tokens that were read
  Lanes ratio;     // token ratios, likewise
  alignas(64) int32_t reads[kLanes] = {};
  alignas(64) float ratioMin[kLanes];
  alignas(64) float ratioMax[kLanes];
  double phi = 0;  // vespo
  RunSums();
};

// A sequence's values before and while its tokens are visited.
struct SequenceState {
  int64_t tokens = 0;  // masked in
  double factor = 0;   // of each token's loss
  float logRatio = 0;  // of the sequence, clamped
  float ratio = 1;
  bool ratioFlat = false;  // the clamp holds: no gradient through the ratio
  float sequence = 0;      // the surrogate's sequence quantity
  bool offPolicy = false;  // tokens with A < 0 are dropped
  double dLogRatio = 0;    // gradient with respect to logRatio, summed over tokens
  double dSequence = 0;    // gradient with respect to the surrogate's mean contribution
  // For the KL term, if its gradient flows through `ratio`: sums over tokens, and the first one's exponential.
  double klExponential = 0, klRest = 0, klShift = NAN;
  int64_t clippedLow = 0, clippedHigh = 0;  // tokens
  NonFinite nonFinite;
};

// One policy-loss call, shared by all threads. Arrays as in PolicyRequest; `logProbs` may be scratch memory.
struct PolicyContext {
  const PolicyRequest* request = nullptr;
  const float* logProbs = nullptr;
  const float* advantages = nullptr;  // B, or B*T
  const float* entropies = nullptr;   // null: no entropy threshold
  float entropyThreshold = -kInfinity;
  float* gradient = nullptr;  // B*T
  Denominators denominators{1, 1};

  // Whether tokens with a non-finite term are counted, because there are some.
  bool countsTerms = false;
  // Whether a quantity of the whole sequence enters each token's term: then spreadSequence() follows.
  bool needsSequence = false;
  // Tokens without an advantage were not read; exclude them from the ratio's metrics.
  bool skipInactive = false;
};

struct RowStatistics {
  float maximum = 0;  // of the row's logits, untempered
  double sum = 1;     // of exp((x - maximum) / T)
  double meanZ = 0;   // of (x - maximum) / T under softmax
  double logProb = 0;
  float entropy = 0;
  int64_t nonFinite = 0;  // offending values of the row
};

struct RowContext {
  explicit RowContext(const LogitsRequest& r)
      : request(&r),
        inverseTemperature(float(1 / r.temperature)),
        gradientScale(r.policy.lossScale * double(inverseTemperature)) {}

  const LogitsRequest* request;
  float inverseTemperature;
  double gradientScale;  // of what is written
  bool streams = false;  // float32 gradients are written past the caches; bfloat16's are bound by arithmetic
};

struct Kernels {
  const char* name;
  int64_t (*countTokens)(const uint8_t* mask, int64_t n);
  // Fills everything before the gradient sums, from `tokens`, which is set.
  void (*prepareSequence)(const PolicyContext&, int64_t sequence, SequenceState&);
  // Writes the gradient of tokens [begin, end) without the part through the sequence's quantities, which it sums.
  void (*tokenTerms)(const PolicyContext&, int64_t sequence, SequenceState&, RunSums&, int64_t begin, int64_t end);
  // Adds the part through the sequence's quantities. Counts the gradient's non-finite values.
  void (*spreadSequence)(const PolicyContext&, int64_t sequence, SequenceState&, int64_t begin, int64_t end);
  RowStatistics (*forwardRow)(const RowContext&, int64_t row);
  // gradient and entropyGradient: of the loss with respect to the row's log-prob and entropy.
  // Returns the number of values beyond the range of their type; a row of NaN has none.
  int64_t (*backwardRow)(const RowContext&, int64_t row, const RowStatistics&, float gradient, float entropyGradient);
};

// The best that this processor supports.
const Kernels& bestKernels();

extern const Kernels kBaselineKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#endif

}  // namespace groupgrad::cpu
