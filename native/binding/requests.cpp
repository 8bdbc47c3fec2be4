#include "requests.hpp"

#include <cmath>

#include "../core/surrogate.hpp"
#include "arguments.hpp"

namespace groupgrad::binding {

namespace {

constexpr int64_t kMaxDimension = 0x7fffffff;

LossConfig readLoss(const Napi::Object& loss) {
  LossConfig c;
  c.ratio = Ratio(getChoice(loss, "ratio", {"token", "sequence", "sequence-token"}));
  const Napi::Object surrogate = getObject(loss, "surrogate");
  const std::string kind = getString(surrogate, "kind");
  c.surrogate = surrogateIndex(kind);
  if (c.surrogate < 0) {
    throw Napi::RangeError::New(loss.Env(), "surrogate.kind: expected a surrogate of this addon, got '" + kind + "'");
  }
  const int64_t parameters = getLength(surrogate, "parameters");
  if (parameters > kMaxSurrogateParameters) {
    throw Napi::RangeError::New(loss.Env(), "surrogate.parameters: expected at most " +
                                                std::to_string(kMaxSurrogateParameters) + " values, got " +
                                                std::to_string(parameters));
  }
  const double* values = getArray<double>(surrogate, "parameters", parameters);
  for (int64_t i = 0; i < parameters; ++i) c.surrogateParameters[i] = values[i];
  c.aggregation =
      Aggregation(getChoice(loss, "aggregation", {"sequence-mean", "token-mean", "sequence-sum", "constant"}));
  c.dropEmptySequences = getChoice(loss, "emptySequences", {"count", "drop"}) == 1;
  c.maxLength = getNumber(loss, "maxLength");
  c.logRatioClamp = getNumber(loss, "logRatioClamp");
  c.offPolicyThreshold = getNumber(loss, "offPolicyThreshold");
  const Napi::Object kl = getObject(loss, "kl");
  c.klBeta = getNumber(kl, "beta");
  c.klEstimator = KlEstimator(getChoice(kl, "estimator", {"k1", "k2", "k3"}));
  c.klImportanceWeighted = getBoolean(kl, "importanceWeighted");
  const Napi::Object entropy = getObject(loss, "entropy");
  c.entropyCoefficient = getNumber(entropy, "coefficient");
  c.topQuantile = getNumber(entropy, "topQuantile");
  c.entropyTokens = getNumber(entropy, "tokens");
  c.entropyThreshold = getNumber(entropy, "threshold");
  return c;
}

}  // namespace

AdvantageRequest readAdvantage(const Napi::Object& plan, const Napi::Object& output) {
  const Napi::Env env = plan.Env();
  AdvantageRequest r;
  const int64_t rewards = getLength(plan, "rewards");
  const int64_t offsets = getLength(plan, "offsets");
  r.rewards = getArray<double>(plan, "rewards", rewards);
  r.offsets = getArray<int32_t>(plan, "offsets", offsets);
  r.groups = offsets - 1;
  bool increasing = offsets > 1 && r.offsets[0] == 0 && r.offsets[offsets - 1] == rewards;
  for (int64_t g = 0; increasing && g < r.groups; ++g) increasing = r.offsets[g] < r.offsets[g + 1];
  if (!increasing)
    throw Napi::RangeError::New(env, "offsets: expected group boundaries that rise from 0 to the number of rewards");

  const Napi::Object settings = getObject(plan, "settings");
  r.center = Center(getChoice(settings, "center", {"mean", "leave-one-out", "none"}));
  r.scale = Scale(getChoice(settings, "scale", {"group-std", "batch-std", "none"}));
  r.ddof = getNumber(settings, "ddof");
  r.epsilon = getNumber(settings, "epsilon");
  r.hadw = !get(settings, "hadw").IsNull();
  if (r.hadw) {
    const Napi::Object hadw = getObject(settings, "hadw");
    r.anchor = getNumber(hadw, "anchor");
    r.hadwScale = getNumber(hadw, "scale");
  }
  r.advantages = getArray<float>(output, "advantages", rewards);
  r.weights = getArray<float>(output, "weights", rewards);
  r.groupMean = getArray<float>(output, "groupMean", r.groups);
  r.groupStd = getArray<float>(output, "groupStd", r.groups);
  r.active = getArray<uint8_t>(output, "active", r.groups);
  return r;
}

TokenInputs readTokens(const Napi::Object& plan) {
  TokenInputs t;
  PolicyRequest& r = t.policy;
  r.sequences = getInteger(plan, "sequences", 1, kMaxDimension);
  r.length = getInteger(plan, "length", 1, kMaxDimension);
  const int64_t tokens = product(plan.Env(), "shape", {r.sequences, r.length});
  r.oldLogProbs = getOptionalArray<float>(plan, "oldLogProbs", tokens);
  r.refLogProbs = getOptionalArray<float>(plan, "refLogProbs", tokens);
  r.mask = getOptionalArray<uint8_t>(plan, "mask", tokens);
  r.tokenWeights = getOptionalArray<float>(plan, "tokenWeights", tokens);
  r.normalizer = getNumber(plan, "normalizer");
  r.globalSequences = getNumber(plan, "globalSequences");
  r.metrics = getBoolean(plan, "metrics");
  r.threads = int32_t(getInteger(plan, "threads", 0, 1024));
  r.config = readLoss(getObject(plan, "loss"));
  if (r.config.klBeta != 0 && !r.refLogProbs) {
    throw Napi::TypeError::New(plan.Env(), "refLogProbs: expected a Float32Array because kl.beta is not 0, got null");
  }
  const Napi::Value advantage = get(plan, "advantage");
  t.fused = !advantage.IsNull();
  if (t.fused) {
    const Napi::Object fused = getObject(plan, "advantage");
    const Napi::Object advantagePlan = getObject(fused, "plan");
    t.advantage = readAdvantage(advantagePlan, getObject(fused, "output"));
    getArray<double>(advantagePlan, "rewards", r.sequences);
    r.advantages = t.advantage.advantages;
  } else {
    r.advantagesPerToken = getBoolean(plan, "advantagesPerToken");
    r.advantages = getArray<float>(plan, "advantages", r.advantagesPerToken ? tokens : r.sequences);
  }
  return t;
}

TokenInputs readPolicy(const Napi::Object& plan) {
  TokenInputs t = readTokens(plan);
  const int64_t tokens = t.policy.sequences * t.policy.length;
  t.policy.logProbs = getArray<float>(plan, "logProbs", tokens);
  t.policy.gradLogProbs = getOptionalArray<float>(plan, "gradLogProbs", tokens);
  return t;
}

LogitsRequest readLogits(const Napi::Object& plan, TokenInputs& tokens) {
  const Napi::Env env = plan.Env();
  LogitsRequest r;
  tokens = readTokens(plan);
  const int64_t rows = tokens.policy.sequences * tokens.policy.length;
  r.vocab = getInteger(plan, "vocab", 1, kMaxDimension);
  r.rowStride = getInteger(plan, "rowStride", r.vocab, kMaxDimension);
  r.dtype = Dtype(getChoice(plan, "dtype", {"float32", "bfloat16"}));
  r.temperature = getNumber(plan, "temperature");
  const int64_t values = product(env, "shape", {rows, r.rowStride});
  const int64_t bytes = product(env, "shape", {values, r.dtype == Dtype::float32 ? 4 : 2});
  if (r.dtype == Dtype::float32) {
    r.logits = getArray<float>(plan, "logits", values);
    r.gradLogits = getOptionalArray<float>(plan, "gradLogits", values);
  } else {
    r.logits = getArray<uint16_t>(plan, "logits", values);
    r.gradLogits = getOptionalArray<uint16_t>(plan, "gradLogits", values);
  }
  const auto* in = static_cast<const char*>(r.logits);
  const auto* out = static_cast<const char*>(r.gradLogits);
  if (out && out != in && out < in + bytes && in < out + bytes) {
    throw Napi::RangeError::New(env,
                                "gradLogits: expected memory apart from logits, or the same, got an overlapping range");
  }
  r.tokens = getArray<int32_t>(plan, "tokens", rows);
  for (int64_t i = 0; i < rows; ++i) {
    if ((!tokens.policy.mask || tokens.policy.mask[i]) && (r.tokens[i] < 0 || r.tokens[i] >= r.vocab)) {
      throw Napi::RangeError::New(env, "tokens[" + std::to_string(i) + "]: expected an id from 0 to " +
                                           std::to_string(r.vocab - 1) + ", got " + std::to_string(r.tokens[i]));
    }
  }
  r.logProbs = getArray<float>(plan, "logProbs", rows);
  r.entropies = getArray<float>(plan, "entropies", rows);
  r.policy = tokens.policy;
  return r;
}

void writeMetrics(Napi::Object& out, const AdvantageRequest& r, const AdvantageMetrics& m) {
  out.Set("reward", m.accuracy);
  out.Set("reward_std", m.rewardStd);
  out.Set("frac_reward_zero_std", m.zeroStdFraction);
  out.Set("nonFinite", double(m.nonFinite));
  if (!r.hadw) return;
  out.Set("hadw/anchor", m.anchor);
  out.Set("hadw/weight_mean", m.weightMean);
  out.Set("hadw/weight_min", m.weightMin);
  out.Set("hadw/weight_max", m.weightMax);
}

void writeMetrics(Napi::Object& out, const PolicyRequest& r, const LossMetrics& m) {
  out.Set("loss", m.loss);
  out.Set("tokens", m.tokens);
  out.Set("nonFinite", m.nonFinite);
  out.Set("ratio/mean", m.ratioMean);
  out.Set("ratio/min", m.ratioMin);
  out.Set("ratio/max", m.ratioMax);
  out.Set("approx_kl", m.approxKl);
  if (r.config.klBeta != 0 && r.metrics) out.Set("kl", m.kl);
  withSurrogate(r.config, [&](const auto& surrogate) {
    using Surrogate = std::decay_t<decltype(surrogate)>;
    if constexpr (Surrogate::kClip == ClipMetric::region) {
      out.Set("clip_ratio/low_mean", m.clipLowMean);
      out.Set("clip_ratio/low_min", m.clipLowMin);
      out.Set("clip_ratio/high_mean", m.clipHighMean);
      out.Set("clip_ratio/high_max", m.clipHighMax);
      out.Set("clip_ratio/region_mean", m.clipRegionMean);
    }
    if constexpr (Surrogate::kClip == ClipMetric::upper) out.Set("cispo_clip_ratio", m.clipHighMean);
    if constexpr (std::is_same_v<Surrogate, Vespo>) out.Set("vespo/phi_seq_mean", m.phiMean);
  });
}

}  // namespace groupgrad::binding
