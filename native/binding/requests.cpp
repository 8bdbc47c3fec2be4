#include "requests.hpp"

#include <cmath>

#include "../core/surrogate.hpp"
#include "arguments.hpp"

namespace groupgrad::binding {

namespace {

void writeMetrics(Napi::Object& out, const AdvantageRequest&, const AdvantageMetrics&);
void writeMetrics(Napi::Object& out, const PolicyRequest&, const LossMetrics&);

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
  const double* values = nullptr;
  Arrays arrays(loss.Env());
  arrays.read(values, surrogate, "parameters", parameters);
  arrays.take();
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
  c.klLogRatioClamp = getNumber(kl, "logRatioClamp");
  const Napi::Object entropy = getObject(loss, "entropy");
  c.entropyCoefficient = getNumber(entropy, "coefficient");
  c.topQuantile = getNumber(entropy, "topQuantile");
  if (!(c.topQuantile > 0 && c.topQuantile <= 1)) {  // it becomes an index
    throw Napi::RangeError::New(loss.Env(), "entropy.topQuantile: expected a number above 0 and at most 1, got " +
                                                std::to_string(c.topQuantile));
  }
  c.entropyTokens = getNumber(entropy, "tokens");
  c.entropyThreshold = getNumber(entropy, "threshold");
  return c;
}

// Everything but the destinations of results.
void noteRewards(const Napi::Object& plan, AdvantageInputs& in, Arrays& arrays) {
  AdvantageRequest& r = in.request;
  const Napi::Value rewards = get(plan, "rewards");
  const DeviceMemory* memory = arrays.allowsDevice() ? deviceMemory(rewards) : nullptr;
  in.onDevice = memory != nullptr;
  in.rewards = getLength(plan, "rewards");
  r.groups = getLength(plan, "offsets") - 1;
  if (r.groups < 1) throw Napi::RangeError::New(plan.Env(), "offsets: expected at least 2 values");
  if (memory && memory->type == napi_float32_array) {
    arrays.read(in.rewards32, plan, "rewards", in.rewards);
  } else {
    arrays.read(r.rewards, plan, "rewards", in.rewards);
  }
  arrays.readHere(r.offsets, plan, "offsets", r.groups + 1);
  r.singlePrecision = getBoolean(plan, "singlePrecision");

  const Napi::Object settings = getObject(plan, "settings");
  r.center = Center(getChoice(settings, "center", {"mean", "leave-one-out", "none"}));
  r.scale = Scale(getChoice(settings, "scale", {"group-std", "batch-std", "none", "group-mad"}));
  r.ddof = getNumber(settings, "ddof");
  r.epsilon = getNumber(settings, "epsilon");
  r.hadw = !get(settings, "hadw").IsNull();
  if (r.hadw) {
    const Napi::Object hadw = getObject(settings, "hadw");
    if (in.onDevice && deviceMemory(get(hadw, "anchor"))) {
      arrays.read(in.anchor, hadw, "anchor", 1);
    } else {
      r.anchor = getNumber(hadw, "anchor");
    }
    r.hadwScale = getNumber(hadw, "scale");
  }
  if (!get(settings, "dqw").IsNull()) r.dqwTemperature = getNumber(getObject(settings, "dqw"), "temperature");
}

void noteOutput(const Napi::Object& output, AdvantageRequest& r, int64_t rewards, Arrays& arrays) {
  arrays.write(r.advantages, output, "advantages", rewards);
  arrays.write(r.weights, output, "weights", rewards);
  arrays.write(r.groupMean, output, "groupMean", r.groups);
  arrays.write(r.groupStd, output, "groupStd", r.groups);
  arrays.write(r.active, output, "active", r.groups);
}

void noteAdvantage(const Napi::Object& plan, const Napi::Object& output, AdvantageInputs& in, Arrays& arrays) {
  noteRewards(plan, in, arrays);
  noteOutput(output, in.request, in.rewards, arrays);
}

// Checks that need the arrays' memory.
void checkOffsets(Napi::Env env, const AdvantageInputs& in) {
  const AdvantageRequest& r = in.request;
  bool rising = r.offsets[0] == 0 && r.offsets[r.groups] == in.rewards;
  for (int64_t g = 0; rising && g < r.groups; ++g) rising = r.offsets[g] < r.offsets[g + 1];
  if (!rising) {
    throw Napi::RangeError::New(env, "offsets: expected group boundaries that rise from 0 to the number of rewards");
  }
}

// The same, with the locations of the arrays.
void checkAdvantage(Napi::Env env, AdvantageInputs& in, const Arrays& arrays) {
  checkOffsets(env, in);
  const AdvantageRequest& r = in.request;
  in.groupSize = r.offsets[1];
  for (int64_t g = 1; g < r.groups; ++g) {
    if (r.offsets[g + 1] - r.offsets[g] != in.groupSize) in.groupSize = 0;
  }
  for (const char* field : {"rewards", "advantages", "weights", "groupMean", "groupStd", "active"}) {
    if (arrays.isOnDevice(field) == in.onDevice) continue;
    throw Napi::TypeError::New(env, std::string(field) + ": expected it where the rewards are (" +
                                        (in.onDevice ? "on the device)" : "on the host)"));
  }
  if ((in.anchor != nullptr) != arrays.isOnDevice("anchor")) {
    throw Napi::TypeError::New(env, "hadw.anchor: expected the same value each time it is read");
  }
}

// Sizes, configuration and options. Returns the number of tokens.
int64_t readTokenSettings(const Napi::Object& plan, PolicyRequest& r) {
  r.sequences = getInteger(plan, "sequences", 1, kMaxDimension);
  r.length = getInteger(plan, "length", 1, kMaxDimension);
  const int64_t tokens = product(plan.Env(), "shape", {r.sequences, r.length});
  r.normalizer = getNumber(plan, "normalizer");
  r.globalSequences = getNumber(plan, "globalSequences");
  r.metrics = getBoolean(plan, "metrics");
  r.lossScale = getNumber(plan, "lossScale");
  r.threads = int32_t(getInteger(plan, "threads", 0, 1024));
  r.config = readLoss(getObject(plan, "loss"));
  r.advantagesPerToken = getBoolean(plan, "advantagesPerToken");
  return tokens;
}

void readLogitsSettings(const Napi::Object& plan, LogitsRequest& r) {
  r.vocab = getInteger(plan, "vocab", 1, kMaxDimension);
  r.rowStride = getInteger(plan, "rowStride", r.vocab, kMaxDimension);
  r.dtype = Dtype(getChoice(plan, "dtype", {"float32", "bfloat16", "float16"}));
  r.temperature = getNumber(plan, "temperature");
}

void checkRewards(Napi::Env env, const PolicyRequest& r, int64_t rewards) {
  if (rewards == r.sequences) return;
  throw Napi::RangeError::New(
      env, "rewards: expected " + std::to_string(r.sequences) + " values, got " + std::to_string(rewards));
}

// All of a PolicyRequest except log-probs and their gradient.
void noteTokens(const Napi::Object& plan, LossInputs& inputs, Arrays& arrays) {
  PolicyRequest& r = inputs.policy;
  const int64_t tokens = readTokenSettings(plan, r);
  arrays.read(r.oldLogProbs, plan, "oldLogProbs", tokens, true);
  arrays.read(r.refLogProbs, plan, "refLogProbs", tokens, true);
  arrays.read(r.mask, plan, "mask", tokens, true);
  arrays.read(r.tokenWeights, plan, "tokenWeights", tokens, true);
  inputs.fused = !get(plan, "advantage").IsNull();
  if (inputs.fused) {
    const Napi::Object fused = getObject(plan, "advantage");
    noteAdvantage(getObject(fused, "plan"), getObject(fused, "output"), inputs.advantage, arrays);
    checkRewards(plan.Env(), r, inputs.advantage.rewards);
    r.advantagesPerToken = false;
  } else {
    arrays.read(r.advantages, plan, "advantages", r.advantagesPerToken ? tokens : r.sequences);
  }
}

void checkTokens(Napi::Env env, LossInputs& inputs, const Arrays& arrays) {
  PolicyRequest& r = inputs.policy;
  if (r.config.klBeta != 0 && !r.refLogProbs) {
    throw Napi::TypeError::New(env, "refLogProbs: expected a Float32Array because kl.beta is not 0, got null");
  }
  if (inputs.fused) {
    checkAdvantage(env, inputs.advantage, arrays);
    r.advantages = inputs.advantage.request.advantages;
  }
}

void checkIds(Napi::Env env, const LogitsRequest& r) {
  const uint8_t* mask = r.policy.mask;
  for (int64_t i = 0; i < r.policy.sequences * r.policy.length; ++i) {
    if ((!mask || mask[i]) && (r.tokens[i] < 0 || r.tokens[i] >= r.vocab)) {
      throw Napi::RangeError::New(env, "tokens[" + std::to_string(i) + "]: expected an id from 0 to " +
                                           std::to_string(r.vocab - 1) + ", got " + std::to_string(r.tokens[i]));
    }
  }
}

// Takes the arrays, including logits and their gradient, which may share memory.
void takeWithLogits(const Napi::Object& plan, LogitsRequest& r, int64_t values, bool optional, Arrays& arrays) {
  const auto take = [&]<class T>(const T* logits, T* gradient) {
    arrays.read(logits, plan, "logits", values);
    arrays.write(gradient, plan, "gradLogits", values, optional);
    arrays.take("gradLogits", "logits");
    r.logits = logits;
    r.gradLogits = gradient;
  };
  if (r.dtype == Dtype::float32) {
    take(static_cast<const float*>(nullptr), static_cast<float*>(nullptr));
  } else {
    take(static_cast<const uint16_t*>(nullptr), static_cast<uint16_t*>(nullptr));
  }
}

}  // namespace

AdvantageInputs readAdvantage(const Napi::Object& plan, const Napi::Object& output, const void* device) {
  AdvantageInputs inputs;
  Arrays arrays(plan.Env(), device);
  noteAdvantage(plan, output, inputs, arrays);
  arrays.take();
  checkAdvantage(plan.Env(), inputs, arrays);
  return inputs;
}

void readPolicy(const Napi::Object& plan, LossInputs& inputs) {
  Arrays arrays(plan.Env(), inputs.device);
  noteTokens(plan, inputs, arrays);
  const int64_t tokens = inputs.policy.sequences * inputs.policy.length;
  arrays.read(inputs.policy.logProbs, plan, "logProbs", tokens);
  arrays.read(inputs.policy.entropies, plan, "entropies", tokens, true);
  arrays.write(inputs.policy.gradLogProbs, plan, "gradLogProbs", tokens, true);
  arrays.write(inputs.policy.gradEntropies, plan, "gradEntropies", tokens, true);
  arrays.take();
  checkTokens(plan.Env(), inputs, arrays);
  const LossConfig& config = inputs.policy.config;
  if (!inputs.policy.entropies &&
      (config.entropyCoefficient != 0 || config.topQuantile != 1 || inputs.policy.gradEntropies)) {
    throw Napi::TypeError::New(plan.Env(), "entropies: expected a Float32Array because of the entropy term, got null");
  }
}

LogitsRequest readLogits(const Napi::Object& plan, LossInputs& inputs) {
  const Napi::Env env = plan.Env();
  LogitsRequest r;
  Arrays arrays(env, inputs.device);
  noteTokens(plan, inputs, arrays);
  const int64_t rows = inputs.policy.sequences * inputs.policy.length;
  readLogitsSettings(plan, r);
  r.zeroed = getBoolean(plan, "zeroed");
  const int64_t values = product(env, "shape", {rows, r.rowStride});
  arrays.read(r.tokens, plan, "tokens", rows);
  arrays.write(r.logProbs, plan, "logProbs", rows);
  arrays.write(r.entropies, plan, "entropies", rows);
  takeWithLogits(plan, r, values, true, arrays);
  checkTokens(env, inputs, arrays);
  r.policy = inputs.policy;
  // On a device the kernels check ids themselves.
  if (!arrays.isOnDevice("tokens") && !arrays.isOnDevice("mask")) checkIds(env, r);
  return r;
}

LogitsBackwardRequest readLogitsBackward(const Napi::Object& plan, const void* device) {
  const Napi::Env env = plan.Env();
  LogitsBackwardRequest request;
  LogitsRequest& r = request.logits;
  Arrays arrays(env, device);
  const int64_t rows = r.policy.length = getInteger(plan, "rows", 1, kMaxDimension);
  r.policy.sequences = 1;
  r.policy.lossScale = getNumber(plan, "lossScale");
  r.policy.threads = int32_t(getInteger(plan, "threads", 0, 1024));
  readLogitsSettings(plan, r);
  r.zeroed = getBoolean(plan, "zeroed");
  const int64_t values = product(env, "shape", {rows, r.rowStride});
  arrays.read(r.policy.mask, plan, "mask", rows, true);
  arrays.read(r.tokens, plan, "tokens", rows);
  arrays.read(request.gradLogProbs, plan, "gradLogProbs", rows);
  arrays.read(request.gradEntropies, plan, "gradEntropies", rows, true);
  takeWithLogits(plan, r, values, false, arrays);
  if (!arrays.isOnDevice("tokens") && !arrays.isOnDevice("mask")) checkIds(env, r);
  return request;
}

namespace {

void readRewards(const Napi::Object& plan, tensorflow::Call& call) {
  Arrays arrays(plan.Env());
  AdvantageInputs in;
  noteRewards(plan, in, arrays);
  arrays.take();
  checkOffsets(plan.Env(), in);
  call.fused = true;
  call.advantage = in.request;
  call.rewards.assign(call.advantage.rewards, call.advantage.rewards + in.rewards);
  call.offsets.assign(call.advantage.offsets, call.advantage.offsets + call.advantage.groups + 1);
}

void readTokenCall(const Napi::Object& plan, tensorflow::Call& call) {
  PolicyRequest& r = call.logits.policy;
  readTokenSettings(plan, r);
  if (get(plan, "advantage").IsNull()) return;
  readRewards(getObject(getObject(plan, "advantage"), "plan"), call);
  checkRewards(plan.Env(), r, int64_t(call.rewards.size()));
  r.advantagesPerToken = false;
}

}  // namespace

tensorflow::Call readAdvantageCall(const Napi::Object& plan) {
  tensorflow::Call call;
  readRewards(plan, call);
  return call;
}

tensorflow::Call readPolicyCall(const Napi::Object& plan) {
  tensorflow::Call call;
  readTokenCall(plan, call);
  return call;
}

tensorflow::Call readLogitsCall(const Napi::Object& plan) {
  tensorflow::Call call;
  readTokenCall(plan, call);
  readLogitsSettings(plan, call.logits);
  call.inPlace = getBoolean(plan, "inPlace");
  call.rows = getBoolean(plan, "rows");
  return call;
}

AdvantageRequest readOutput(const Napi::Object& output, int64_t rewards, int64_t groups) {
  AdvantageRequest r;
  r.groups = groups;
  Arrays arrays(output.Env());
  noteOutput(output, r, rewards, arrays);
  arrays.take();
  return r;
}

Napi::Object lossResult(Napi::Env env, const PolicyRequest& policy, LossMetrics m, const AdvantageRequest* advantage,
                        const AdvantageMetrics& a, bool entropy) {
  Napi::Object result = Napi::Object::New(env), metrics = Napi::Object::New(env);
  if (advantage) {
    result.Set("accuracy", a.accuracy);
    writeMetrics(metrics, *advantage, a);
    m.nonFinite += double(a.nonFinite);
  }
  writeMetrics(metrics, policy, m);
  if (entropy && policy.metrics) metrics.Set("entropy", m.entropy);
  result.Set("loss", m.loss);
  result.Set("metrics", metrics);
  return result;
}

Napi::Object backwardResult(Napi::Env env, double nonFinite) {
  Napi::Object result = Napi::Object::New(env), metrics = Napi::Object::New(env);
  metrics.Set("nonFinite", nonFinite);
  result.Set("metrics", metrics);
  return result;
}

Napi::Object advantageResult(Napi::Env env, const AdvantageRequest& request, const AdvantageMetrics& m) {
  Napi::Object result = Napi::Object::New(env), metrics = Napi::Object::New(env);
  writeMetrics(metrics, request, m);
  result.Set("accuracy", m.accuracy);
  result.Set("metrics", metrics);
  return result;
}

namespace {

void writeMetrics(Napi::Object& out, const AdvantageRequest& r, const AdvantageMetrics& m) {
  out.Set("reward", m.accuracy);
  out.Set("reward_std", m.rewardStd);
  out.Set("frac_reward_zero_std", m.zeroStdFraction);
  out.Set("nonFinite", double(m.nonFinite));
  if (r.hadw) out.Set("hadw/anchor", m.anchor);
  if (!r.hadw && r.dqwTemperature == 0) return;
  const std::string name = r.hadw ? "hadw/weight_" : "dqw/weight_";
  out.Set(name + "mean", m.weightMean);
  out.Set(name + "min", m.weightMin);
  out.Set(name + "max", m.weightMax);
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

}  // namespace

}  // namespace groupgrad::binding
