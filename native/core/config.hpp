// A request to a device as plain structs: the configuration of a loss with every default filled in (defaults are
// defined only in src/loss/config.ts), its inputs, and the destinations of its results. Pointers are not owned. What
// may be absent begins so: null, infinity for a bound, NaN for what the batch decides, 0 for a term. All else begins as
// 0, which is no default: who makes a request sets it.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

namespace groupgrad {

enum class Center : int32_t { mean, leaveOneOut, none };
enum class Scale : int32_t { groupStd, batchStd, none, groupMad };
enum class Ratio : int32_t { token, sequence, sequenceToken };
enum class Aggregation : int32_t { sequenceMean, tokenMean, sequenceSum, constant };
enum class KlEstimator : int32_t { k1, k2, k3 };
enum class Dtype : int32_t { float32, bfloat16, float16 };

constexpr int kMaxSurrogateParameters = 4;

struct LossConfig {
  Ratio ratio = {};
  int32_t surrogate = 0;  // index into Surrogates (surrogate.hpp)
  double surrogateParameters[kMaxSurrogateParameters] = {};
  Aggregation aggregation = {};
  bool dropEmptySequences = false;
  double maxLength = 0;
  double logRatioClamp = std::numeric_limits<double>::infinity();
  double offPolicyThreshold = std::numeric_limits<double>::infinity();
  double klBeta = 0;  // 0: no KL term
  KlEstimator klEstimator = {};
  bool klImportanceWeighted = false;
  double klLogRatioClamp = std::numeric_limits<double>::infinity();
  double entropyCoefficient = 0;
  double topQuantile = 1;         // 1: every token is kept
  double entropyTokens = NAN;     // NaN: this batch's
  double entropyThreshold = NAN;  // NaN: this batch's quantile
};

// Rewards and their groups: group g holds rewards[offsets[g] .. offsets[g + 1]). A NaN reward is "no verdict".
struct AdvantageRequest {
  const double* rewards = nullptr;
  const int32_t* offsets = nullptr;
  int64_t groups = 0;
  bool singlePrecision = false;  // they have been rounded to float32
  Center center = {};
  Scale scale = {};
  double ddof = 0;
  double epsilon = 0;
  bool hadw = false;
  double anchor = NAN;  // NaN: the batch's own mean
  double hadwScale = 0;
  double dqwTemperature = 0;  // 0: no difficulty-aware question weights
  float* advantages = nullptr;
  float* weights = nullptr;
  float* groupMean = nullptr;
  float* groupStd = nullptr;
  uint8_t* active = nullptr;
};

struct AdvantageMetrics {
  double accuracy = NAN;
  double rewardStd = 0;
  double zeroStdFraction = 0;
  double anchor = NAN;
  double weightMean = 0, weightMin = 0, weightMax = 0;
  int64_t nonFinite = 0;
};

// Per-token arrays hold sequences * length values; a null array is absent.
struct PolicyRequest {
  int64_t sequences = 0;
  int64_t length = 0;
  const float* logProbs = nullptr;
  const float* entropies = nullptr;  // needed for an entropy term or a quantile
  const float* oldLogProbs = nullptr;
  const float* refLogProbs = nullptr;
  const uint8_t* mask = nullptr;
  const float* advantages = nullptr;
  bool advantagesPerToken = false;
  const float* tokenWeights = nullptr;
  double normalizer = NAN;       // NaN: this batch's
  double globalSequences = NAN;  // NaN: this batch's
  LossConfig config;
  bool metrics = false;
  int32_t threads = 0;   // 0: one per core
  double lossScale = 1;  // of the gradient that leaves the call, and of nothing else
  float* gradLogProbs = nullptr;
  float* gradEntropies = nullptr;
};

struct LogitsRequest {
  PolicyRequest policy;  // its log-probs and entropies, and the gradients with respect to them, are not used
  int64_t vocab = 0;
  int64_t rowStride = 0;
  Dtype dtype = {};
  const void* logits = nullptr;
  const int32_t* tokens = nullptr;
  double temperature = 0;
  void* gradLogits = nullptr;  // null: no gradient; may be `logits`
  bool zeroed = false;         // gradLogits holds zeros already: rows without a gradient need not be written
  float* logProbs = nullptr;
  float* entropies = nullptr;
};

// From the gradient with respect to log-probs and entropies to that with respect to logits, without a loss. Of
// `logits.policy` only sequences, length, mask, lossScale and threads are used; its log-probs and entropies are not
// written.
struct LogitsBackwardRequest {
  LogitsRequest logits;
  const float* gradLogProbs = nullptr;   // one per row
  const float* gradEntropies = nullptr;  // likewise; null: 0
};

struct LossMetrics {
  double loss = 0;
  double tokens = 0;
  double nonFinite = 0;
  double ratioMean = 1, ratioMin = 1, ratioMax = 1;
  double approxKl = 0;
  double kl = 0;
  double entropy = 0;
  double clipLowMean = 0, clipLowMin = 0, clipHighMean = 0, clipHighMax = 0, clipRegionMean = 0;
  double phiMean = 0;  // vespo
};

}  // namespace groupgrad
