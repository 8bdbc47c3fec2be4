// The C interface: checks, and the conversion from C's structs to native/core's.
#include "groupgrad.h"

#include <cmath>
#include <cstdio>
#include <exception>
#include <map>
#include <mutex>
#include <string>
#include <tuple>

#include "../core/surrogate.hpp"
#include "../cuda/operations.hpp"
#include "defaults.hpp"

using namespace groupgrad;

static_assert(GROUPGRAD_SURROGATE_COUNT == std::tuple_size_v<Surrogates>);
static_assert(sizeof(groupgrad_loss_metrics) == sizeof(LossMetrics));
static_assert(sizeof(groupgrad_advantage_metrics) == sizeof(AdvantageMetrics));

namespace {

thread_local std::string lastError;

struct Invalid {
  std::string message;
};

void require(bool holds, const char* field, const char* expected) {
  if (!holds) throw Invalid{std::string(field) + ": expected " + expected};
}

template <class T>
T choice(int32_t value, T last, const char* field) {
  require(value >= 0 && value <= int32_t(last), field, "one of the values of its enum");
  return T(value);
}

// And at most the largest float32.
void requireAtLeast(double value, double bound, const char* field) {
  if (value >= bound && value <= double(kFloatMax)) return;
  char expected[64];
  std::snprintf(expected, sizeof expected, "a number of at least %g that is finite in float32", bound);
  require(false, field, expected);
}

// `length`: of a sequence.
LossConfig convert(const groupgrad_loss_config& c, int64_t length) {
  LossConfig out;
  out.ratio = choice(c.ratio, Ratio::sequenceToken, "config.ratio");
  require(c.surrogate >= 0 && c.surrogate < int32_t(std::tuple_size_v<Surrogates>), "config.surrogate",
          "one of the values of its enum");
  out.surrogate = c.surrogate;
  for (int i = 0; i < kMaxSurrogateParameters; ++i) out.surrogateParameters[i] = c.surrogate_parameters[i];
  out.aggregation = choice(c.aggregation, Aggregation::constant, "config.aggregation");
  out.dropEmptySequences = c.drop_empty_sequences != 0;
  require(!(c.max_length <= 0), "config.max_length", "a number above 0, or NaN");
  out.maxLength = c.max_length == c.max_length ? c.max_length : double(length);
  require(c.log_ratio_clamp > 0, "config.log_ratio_clamp", "a number above 0");
  out.logRatioClamp = c.log_ratio_clamp;
  require(c.off_policy_threshold == c.off_policy_threshold, "config.off_policy_threshold", "a number");
  out.offPolicyThreshold = c.off_policy_threshold;
  require(std::isfinite(c.kl_beta), "config.kl_beta", "a finite number");
  out.klBeta = c.kl_beta;
  out.klEstimator = choice(c.kl_estimator, KlEstimator::k3, "config.kl_estimator");
  out.klImportanceWeighted = c.kl_importance_weighted != 0;
  require(c.kl_log_ratio_clamp > 0, "config.kl_log_ratio_clamp", "a number above 0");
  out.klLogRatioClamp = c.kl_log_ratio_clamp;
  require(std::isfinite(c.entropy_coefficient), "config.entropy_coefficient", "a finite number");
  out.entropyCoefficient = c.entropy_coefficient;
  require(c.top_quantile > 0 && c.top_quantile <= 1, "config.top_quantile", "a number above 0 and at most 1");
  out.topQuantile = c.top_quantile;
  out.entropyTokens = c.entropy_tokens;
  out.entropyThreshold = c.entropy_threshold;
  return out;
}

cuda::DeviceRewards convert(const groupgrad_advantage_request& r) {
  cuda::DeviceRewards out;
  require((r.rewards == nullptr) != (r.rewards_float32 == nullptr), "rewards", "one of rewards and rewards_float32");
  require(r.reward_count > 0 && r.groups > 0, "reward_count, groups", "numbers above 0");
  require((r.group_size > 0) != (r.offsets != nullptr), "group_size", "one of group_size and offsets");
  require(r.reward_count <= 0x7fffffff && r.groups <= r.reward_count, "reward_count, groups",
          "at most 2^31 - 1 rewards, and no more groups than rewards");
  require(r.offsets || (r.group_size <= r.reward_count && r.group_size * r.groups == r.reward_count), "group_size",
          "groups of equal size that hold reward_count rewards");
  require(r.advantages && r.weights && r.group_mean && r.group_std && r.active, "advantages",
          "an array for each of the outputs");
  out.request.rewards = r.rewards;
  out.rewards32 = r.rewards_float32;
  out.rewards = r.reward_count;
  out.groupSize = r.group_size;
  out.anchor = r.anchor_pointer;
  AdvantageRequest& q = out.request;
  q.offsets = r.offsets;
  q.groups = r.groups;
  q.center = choice(r.center, Center::none, "center");
  q.scale = choice(r.scale, Scale::groupMad, "scale");
  q.ddof = r.ddof;
  q.epsilon = r.epsilon;
  q.hadw = r.hadw != 0;
  q.anchor = r.anchor;
  q.hadwScale = r.hadw_scale;
  require(r.dqw_temperature >= 0, "dqw_temperature", "a number above 0, or 0 for none");
  require(r.dqw_temperature == 0 || !q.hadw, "dqw_temperature", "0 with hadw: each weights by difficulty");
  q.dqwTemperature = r.dqw_temperature;
  q.advantages = r.advantages;
  q.weights = r.weights;
  q.groupMean = r.group_mean;
  q.groupStd = r.group_std;
  q.active = r.active;
  return out;
}

constexpr int64_t kMost = 0x7fffffff;

double checkLossScale(double scale) {
  requireAtLeast(scale, defaults::kMinLossScale, "loss_scale");
  return scale;
}

PolicyRequest convert(const groupgrad_policy_request& r) {
  PolicyRequest out;
  require(r.sequences > 0 && r.sequences <= kMost, "sequences", "a number from 1 to 2^31 - 1");
  require(r.length > 0 && r.length <= kMost, "length", "a number from 1 to 2^31 - 1");
  out.sequences = r.sequences;
  out.length = r.length;
  out.config = convert(r.config, r.length);
  require(out.config.klBeta == 0 || r.ref_log_probs, "ref_log_probs", "an array, because config.kl_beta is not 0");
  out.logProbs = r.log_probs;
  out.entropies = r.entropies;
  out.oldLogProbs = r.old_log_probs;
  out.refLogProbs = r.ref_log_probs;
  out.mask = r.mask;
  out.advantages = r.advantages;
  out.advantagesPerToken = r.advantages_per_token != 0;
  require(!(r.normalizer <= 0) && !(r.global_sequences <= 0), "normalizer, global_sequences",
          "numbers above 0, or NaN");
  out.tokenWeights = r.token_weights;
  out.normalizer = r.normalizer;
  out.globalSequences = r.global_sequences;
  out.metrics = r.metrics != 0;
  out.lossScale = checkLossScale(r.loss_scale);
  out.gradLogProbs = r.grad_log_probs;
  out.gradEntropies = r.grad_entropies;
  return out;
}

// Common to requests over logits.
template <class Request>
void convertLogits(const Request& r, LogitsRequest& out) {
  require(r.vocab > 0 && r.vocab <= kMost, "vocab", "a number from 1 to 2^31 - 1");
  require(r.row_stride >= r.vocab && r.row_stride <= kMost, "row_stride", "from vocab to 2^31 - 1");
  requireAtLeast(r.temperature, defaults::kMinTemperature, "temperature");
  out.vocab = r.vocab;
  out.rowStride = r.row_stride;
  out.dtype = choice(r.dtype, Dtype::float16, "dtype");
  out.logits = r.logits;
  out.tokens = r.tokens;
  out.temperature = r.temperature;
  out.gradLogits = r.grad_logits;
  out.zeroed = r.zeroed != 0 && r.grad_logits != r.logits;
}

void requireAligned(const LogitsRequest& r) {
  const uintptr_t bytes = r.dtype == Dtype::float32 ? 4 : 2;
  require(reinterpret_cast<uintptr_t>(r.logits) % bytes == 0, "logits", "an address aligned to its type");
  require(reinterpret_cast<uintptr_t>(r.gradLogits) % bytes == 0, "grad_logits", "an address aligned to its type");
}

LogitsRequest convert(const groupgrad_logits_request& r) {
  LogitsRequest out;
  out.policy = convert(r.policy);
  out.policy.logProbs = out.policy.entropies = nullptr;
  out.policy.gradLogProbs = out.policy.gradEntropies = nullptr;
  convertLogits(r, out);
  out.logProbs = r.log_probs;
  out.entropies = r.entropies;
  return out;
}

LogitsBackwardRequest convert(const groupgrad_logits_backward_request& r) {
  LogitsBackwardRequest out;
  require(r.rows > 0 && r.rows <= kMost, "rows", "a number from 1 to 2^31 - 1");
  out.logits.policy.sequences = 1;
  out.logits.policy.length = r.rows;
  out.logits.policy.mask = r.mask;
  out.logits.policy.lossScale = checkLossScale(r.loss_scale);
  convertLogits(r, out.logits);
  out.gradLogProbs = r.grad_log_probs;
  out.gradEntropies = r.grad_entropies;
  return out;
}

// Runs `body`, which returns a cudaError_t, and turns errors into a status.
template <class Body>
int guarded(const char* operation, const Body& body) {
  try {
    const cudaError_t error = body();
    if (error == cudaSuccess) return GROUPGRAD_OK;
    lastError = std::string(operation) + ": " + cudaGetErrorName(error) + " (" + cudaGetErrorString(error) + ")";
    return GROUPGRAD_CUDA_ERROR;
  } catch (const Invalid& invalid) {
    lastError = invalid.message;
  } catch (const std::exception&) {
    return GROUPGRAD_CUDA_ERROR;  // no memory for an error's words
  }
  return GROUPGRAD_INVALID;
}

// Of the current device; read once.
cudaError_t currentTraits(cuda::DeviceTraits& traits) {
  // Never destroyed: threads may call while the process ends.
  static std::mutex& mutex = *new std::mutex();
  static auto& known = *new std::map<int, cuda::DeviceTraits>();
  int device = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error != cudaSuccess) return error;
  const std::lock_guard lock(mutex);
  if (const auto found = known.find(device); found != known.end()) {
    traits = found->second;
    return cudaSuccess;
  }
  error = cuda::readTraits(device, traits);
  if (error == cudaSuccess) known.emplace(device, traits);
  return error;
}

cuda::Stream streamOf(void* stream, void* workspace, size_t bytes, size_t needed) {
  require(workspace && bytes >= needed, "workspace", "as many bytes as the operation's _workspace function says");
  return {static_cast<cudaStream_t>(stream), workspace};
}

template <class Request>
size_t workspaceOf(const Request* request, size_t (*needed)(const decltype(convert(*request))&)) {
  try {
    return needed(convert(*request));
  } catch (const Invalid& invalid) {
    lastError = invalid.message;
    return 0;
  }
}

}  // namespace

extern "C" {

const char* groupgrad_version(void) { return GROUPGRAD_VERSION; }
const char* groupgrad_error(void) { return lastError.c_str(); }

void groupgrad_advantage_request_init(groupgrad_advantage_request* request) {
  *request = groupgrad_advantage_request{};
  request->center = int32_t(defaults::kCenter);
  request->scale = int32_t(defaults::kScale);
  request->ddof = defaults::kDdof;
  request->epsilon = defaults::kEpsilon;
  request->hadw_scale = defaults::kHadwScale;
  request->anchor = defaults::kHadwAnchor;
}

void groupgrad_policy_request_init(groupgrad_policy_request* request) {
  *request = groupgrad_policy_request{};
  request->normalizer = request->global_sequences = NAN;
  request->metrics = defaults::kMetrics;
  request->loss_scale = defaults::kLossScale;
  groupgrad_loss_config& config = request->config;
  config.ratio = int32_t(defaults::kRatio);
  config.aggregation = int32_t(defaults::kAggregation);
  config.drop_empty_sequences = defaults::kDropEmptySequences;
  config.max_length = defaults::kMaxLength;
  config.log_ratio_clamp = defaults::kLogRatioClamp;
  config.off_policy_threshold = defaults::kOffPolicyThreshold;
  config.kl_beta = defaults::kKlBeta;
  config.kl_estimator = int32_t(defaults::kKlEstimator);
  config.kl_importance_weighted = defaults::kKlImportanceWeighted;
  config.kl_log_ratio_clamp = defaults::kKlLogRatioClamp;
  config.entropy_coefficient = defaults::kEntropyCoefficient;
  config.top_quantile = defaults::kEntropyTopQuantile;
  config.entropy_tokens = defaults::kEntropyTokens;
  config.entropy_threshold = defaults::kEntropyThreshold;
}

void groupgrad_logits_request_init(groupgrad_logits_request* request) {
  *request = groupgrad_logits_request{};
  groupgrad_policy_request_init(&request->policy);
  request->temperature = defaults::kTemperature;
}

void groupgrad_logits_backward_request_init(groupgrad_logits_backward_request* request) {
  *request = groupgrad_logits_backward_request{};
  request->temperature = defaults::kTemperature;
  request->loss_scale = defaults::kLossScale;
}

size_t groupgrad_advantages_workspace(const groupgrad_advantage_request*) { return cuda::advantagesWorkspace(); }
size_t groupgrad_policy_workspace(const groupgrad_policy_request* request) {
  return workspaceOf(request, cuda::policyWorkspace);
}
size_t groupgrad_logits_workspace(const groupgrad_logits_request* request) {
  return workspaceOf(request, cuda::logitsWorkspace);
}

size_t groupgrad_logits_backward_workspace(const groupgrad_logits_backward_request*) {
  return cuda::logitsBackwardWorkspace();
}

int groupgrad_advantages(const groupgrad_advantage_request* request, groupgrad_advantage_metrics* metrics,
                         void* workspace, size_t workspace_bytes, void* stream) {
  return guarded("groupgrad_advantages", [&] {
    require(request && metrics, "request, metrics", "not null");
    const cuda::DeviceRewards rewards = convert(*request);
    const cuda::Stream where = streamOf(stream, workspace, workspace_bytes, cuda::advantagesWorkspace());
    return cuda::advantages(where, rewards, reinterpret_cast<AdvantageMetrics*>(metrics));
  });
}

int groupgrad_policy_loss(const groupgrad_policy_request* request, const groupgrad_advantage_request* rewards,
                          groupgrad_loss_metrics* metrics, groupgrad_advantage_metrics* advantage_metrics,
                          void* workspace, size_t workspace_bytes, void* stream) {
  return guarded("groupgrad_policy_loss", [&] {
    require(request && metrics, "request, metrics", "not null");
    const PolicyRequest r = convert(*request);
    cuda::DeviceRewards given;
    require(r.logProbs, "log_probs", "an array");
    const bool hasTerm = r.config.entropyCoefficient != 0 || r.config.topQuantile != 1;
    require(r.entropies || (!hasTerm && !r.gradEntropies), "entropies", "an array, because there is an entropy term");
    require(rewards || r.advantages, "advantages", "an array, or rewards");
    if (rewards) {
      given = convert(*rewards);
      require(given.rewards == r.sequences && !r.advantagesPerToken, "rewards", "one for each sequence");
      require(advantage_metrics, "advantage_metrics", "not null where rewards are given");
    }
    const cuda::Stream where = streamOf(stream, workspace, workspace_bytes, cuda::policyWorkspace(r));
    cuda::DeviceTraits traits;
    const cudaError_t error = currentTraits(traits);
    if (error != cudaSuccess) return error;
    return cuda::policyLoss(traits, where, r, rewards ? &given : nullptr, reinterpret_cast<LossMetrics*>(metrics),
                            reinterpret_cast<AdvantageMetrics*>(advantage_metrics));
  });
}

int groupgrad_logits_loss(const groupgrad_logits_request* request, const groupgrad_advantage_request* rewards,
                          groupgrad_loss_metrics* metrics, groupgrad_advantage_metrics* advantage_metrics,
                          void* workspace, size_t workspace_bytes, void* stream) {
  return guarded("groupgrad_logits_loss", [&] {
    require(request && metrics, "request, metrics", "not null");
    const LogitsRequest r = convert(*request);
    require(r.logits && r.tokens && r.logProbs && r.entropies, "logits",
            "an array for each of logits, tokens, log_probs, entropies");
    requireAligned(r);
    cuda::DeviceRewards given;
    require(rewards || r.policy.advantages, "advantages", "an array, or rewards");
    if (rewards) {
      given = convert(*rewards);
      require(given.rewards == r.policy.sequences && !r.policy.advantagesPerToken, "rewards", "one for each sequence");
      require(advantage_metrics, "advantage_metrics", "not null where rewards are given");
    }
    const cuda::Stream where = streamOf(stream, workspace, workspace_bytes, cuda::logitsWorkspace(r));
    cuda::DeviceTraits traits;
    const cudaError_t error = currentTraits(traits);
    if (error != cudaSuccess) return error;
    return cuda::logitsLoss(traits, where, r, rewards ? &given : nullptr, reinterpret_cast<LossMetrics*>(metrics),
                            reinterpret_cast<AdvantageMetrics*>(advantage_metrics));
  });
}

int groupgrad_logits_backward(const groupgrad_logits_backward_request* request, double* non_finite, void* workspace,
                              size_t workspace_bytes, void* stream) {
  return guarded("groupgrad_logits_backward", [&] {
    require(request && non_finite, "request, non_finite", "not null");
    const LogitsBackwardRequest r = convert(*request);
    require(r.logits.logits && r.logits.tokens && r.gradLogProbs && r.logits.gradLogits, "logits",
            "an array for each of logits, tokens, grad_log_probs, grad_logits");
    requireAligned(r.logits);
    const cuda::Stream where = streamOf(stream, workspace, workspace_bytes, cuda::logitsBackwardWorkspace());
    cuda::DeviceTraits traits;
    const cudaError_t error = currentTraits(traits);
    if (error != cudaSuccess) return error;
    return cuda::logitsBackward(traits, where, r, non_finite);
  });
}

}  // extern "C"
