// Random requests to libgroupgrad with small sizes, over all of its options, for compute-sanitizer: every array has a
// separate allocation of device memory and ends with its last value. `sanitize [requests] [seed]`. Even without a
// sanitizer it checks that the gradient of masked tokens is zero, that that of a row adds up to about zero, and that a
// second call gives the same bits. Results are not initialised, so that initcheck detects one that was not written.
// Gradients of logits are NaN first instead, because initcheck does not see what bulk copies write.
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <vector>

#include "groupgrad.h"

namespace {

uint64_t currentRequest = 0;

[[noreturn]] void fail(const char* what, const char* detail = "") {
  std::printf("FAILED, request %llu: %s %s\n", static_cast<unsigned long long>(currentRequest), what, detail);
  std::exit(1);
}
void check(cudaError_t error) {
  if (error != cudaSuccess) fail("CUDA", cudaGetErrorString(error));
}
void check(int status) {
  if (status != GROUPGRAD_OK) fail("groupgrad", groupgrad_error());
}

// splitmix64
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t bits() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  double uniform(double low, double high) { return low + (high - low) * double(bits() >> 11) * 0x1p-53; }
  int64_t integer(int64_t low, int64_t high) { return low + int64_t(bits() % uint64_t(high - low + 1)); }
  bool chance(double probability) { return uniform(0, 1) < probability; }
  template <class T>
  T pick(std::initializer_list<T> choices) {
    return choices.begin()[integer(0, int64_t(choices.size()) - 1)];
  }

 private:
  uint64_t state_;
};

template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(int64_t size) : size_(size) { check(cudaMalloc(reinterpret_cast<void**>(&data_), bytes())); }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(int64_t(values.size())) {
    check(cudaMemcpyAsync(data_, values.data(), bytes(), cudaMemcpyHostToDevice, nullptr));
    check(cudaDeviceSynchronize());
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* get() const { return data_; }
  std::vector<T> read() const {
    std::vector<T> values(static_cast<std::size_t>(size_));
    check(cudaMemcpyAsync(values.data(), data_, bytes(), cudaMemcpyDeviceToHost, nullptr));
    check(cudaDeviceSynchronize());
    return values;
  }
  void fill(int byte) const { check(cudaMemsetAsync(data_, byte, bytes(), nullptr)); }
  void clear() { fill(0); }

 private:
  std::size_t bytes() const { return static_cast<std::size_t>(size_) * sizeof(T); }
  T* data_ = nullptr;
  int64_t size_;
};

template <class T, class F>
std::vector<T> generate(int64_t count, F value) {
  std::vector<T> values(static_cast<std::size_t>(count));
  for (T& v : values) v = static_cast<T>(value());
  return values;
}

template <class T>
bool sameBits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

// Logits of any type as bytes, and one of their values.
std::vector<unsigned char> encode(const std::vector<float>& values, int32_t dtype) {
  const std::size_t size = dtype == GROUPGRAD_FLOAT32 ? 4 : 2;
  std::vector<unsigned char> bytes(values.size() * size);
  for (std::size_t i = 0; i < values.size(); ++i) {
    uint32_t bits;
    std::memcpy(&bits, &values[i], 4);
    uint16_t half = static_cast<uint16_t>(bits >> 16);
    if (dtype == GROUPGRAD_FLOAT16) {  // normal numbers only, truncated
      const int exponent = static_cast<int>(bits >> 23 & 255) - 127 + 15;
      const uint32_t sign = bits >> 16 & 0x8000u, fraction = bits >> 13 & 1023u;
      half = exponent < 1 ? 0 : static_cast<uint16_t>(sign | unsigned(exponent) << 10 | fraction);
    }
    std::memcpy(&bytes[i * size], size == 4 ? static_cast<const void*>(&values[i]) : &half, size);
  }
  return bytes;
}
double decode(const std::vector<unsigned char>& bytes, int64_t i, int32_t dtype) {
  if (dtype == GROUPGRAD_FLOAT32) {
    float value;
    std::memcpy(&value, &bytes[static_cast<std::size_t>(i) * 4], 4);
    return value;
  }
  uint16_t half;
  std::memcpy(&half, &bytes[static_cast<std::size_t>(i) * 2], 2);
  if (dtype == GROUPGRAD_BFLOAT16) {
    const uint32_t bits = uint32_t(half) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
  }
  const int exponent = half >> 10 & 31, fraction = half & 1023;
  const double size = exponent ? std::ldexp(1024 + fraction, exponent - 25) : std::ldexp(fraction, -24);
  if (exponent == 31) return NAN;
  return half & 0x8000 ? -size : size;
}

struct Shape {
  int64_t sequences, length;
  int64_t tokens() const { return sequences * length; }
};

groupgrad_loss_config drawConfig(Random& random, groupgrad_loss_config config, bool logits) {
  const double inf = INFINITY;
  config.ratio = int32_t(random.integer(GROUPGRAD_RATIO_TOKEN, GROUPGRAD_RATIO_SEQUENCE_TOKEN));
  config.surrogate = int32_t(random.integer(0, GROUPGRAD_SURROGATE_COUNT - 1));
  const double parameters[][4] = {{0.2, 0.28, inf, 3}, {5, 1, 0, 0}, {1, 1.05, 0, 0},
                                  {0.4, 0.4, 0, 0},    {2, 3, 3, 2}, {}};
  std::memcpy(config.surrogate_parameters, parameters[config.surrogate], sizeof config.surrogate_parameters);
  config.aggregation = int32_t(random.integer(GROUPGRAD_SEQUENCE_MEAN, GROUPGRAD_CONSTANT));
  config.drop_empty_sequences = random.chance(0.3);
  config.max_length = 7;
  if (random.chance(0.2)) config.log_ratio_clamp = 2;
  if (random.chance(0.2)) config.off_policy_threshold = 0.1;
  if (random.chance(0.4)) {
    config.kl_beta = 0.1;
    config.kl_estimator = int32_t(random.integer(GROUPGRAD_KL_K1, GROUPGRAD_KL_K3));
    config.kl_importance_weighted = random.chance(0.3);
  }
  if (logits && random.chance(0.4)) config.entropy_coefficient = 0.01;
  if (logits && random.chance(0.3)) config.top_quantile = 0.5;
  return config;
}

// Inputs of both losses besides log-probs or logits.
struct TokenInputs {
  TokenInputs(Random& random, const Shape& shape)
      : maskValues(generate<uint8_t>(shape.tokens(), [&] { return random.chance(0.7); })),
        mask(maskValues),
        oldLogProbs(generate<float>(shape.tokens(), [&] { return random.uniform(-3, -1); })),
        refLogProbs(generate<float>(shape.tokens(), [&] { return random.uniform(-3, -1); })),
        tokenWeights(generate<float>(shape.tokens(), [&] { return random.uniform(0.5, 1.5); })),
        advantages(generate<float>(shape.tokens(), [&] { return random.chance(0.2) ? 0 : random.uniform(-1, 1); })),
        rewards(generate<float>(shape.sequences, [&] { return random.chance(0.1) ? NAN : random.integer(0, 1); })),
        perSequence(shape.sequences * 2),
        perGroup(shape.sequences * 2),
        active(shape.sequences) {}

  void fill(Random& random, const Shape& shape, groupgrad_policy_request& request, bool withRewards) {
    request.sequences = shape.sequences;
    request.length = shape.length;
    masked = random.chance(0.6);
    if (masked) request.mask = mask.get();
    if (random.chance(0.7)) request.old_log_probs = oldLogProbs.get();
    request.ref_log_probs = refLogProbs.get();
    if (random.chance(0.3)) request.token_weights = tokenWeights.get();
    request.advantages = withRewards ? nullptr : advantages.get();
    request.advantages_per_token = !withRewards && random.chance(0.3);
    request.metrics = random.chance(0.7);
  }
  // Groups of one size, or ragged ones if `offsets` are given.
  groupgrad_advantage_request reward(Random& random, int64_t sequences, const int32_t* offsets, int64_t groups) const {
    groupgrad_advantage_request request;
    groupgrad_advantage_request_init(&request);
    request.rewards_float32 = rewards.get();
    request.reward_count = sequences;
    request.groups = offsets ? groups : 1;
    request.group_size = offsets ? 0 : sequences;
    request.offsets = offsets;
    request.center = int32_t(random.integer(GROUPGRAD_CENTER_MEAN, GROUPGRAD_CENTER_NONE));
    request.scale = int32_t(random.integer(GROUPGRAD_SCALE_GROUP_STD, GROUPGRAD_SCALE_NONE));
    request.hadw = random.chance(0.5);
    request.advantages = perSequence.get();
    request.weights = perSequence.get() + sequences;
    request.group_mean = perGroup.get();
    request.group_std = perGroup.get() + request.groups;
    request.active = active.get();
    return request;
  }
  bool isIn(int64_t token) const { return !masked || maskValues[static_cast<std::size_t>(token)] != 0; }

  std::vector<uint8_t> maskValues;
  bool masked = false;
  DeviceArray<uint8_t> mask;
  DeviceArray<float> oldLogProbs, refLogProbs, tokenWeights, advantages, rewards, perSequence, perGroup;
  DeviceArray<uint8_t> active;
};

// The metrics that an operation writes on the device.
struct Metrics {
  Metrics() : loss(1), advantages(1) {}
  DeviceArray<groupgrad_loss_metrics> loss;
  DeviceArray<groupgrad_advantage_metrics> advantages;
};

struct Rows {
  int64_t count, vocab, stride;
  int32_t dtype;
};

template <class IsIn>
void checkRows(const std::vector<unsigned char>& gradient, const Rows& rows, const IsIn& isIn) {
  const std::size_t bytes = rows.dtype == GROUPGRAD_FLOAT32 ? 4 : 2;
  for (std::size_t i = 0; i < gradient.size(); i += bytes) {
    // No kernel writes a NaN of these bits.
    if (std::all_of(&gradient[i], &gradient[i] + bytes, [](unsigned char byte) { return byte == 0xff; }))
      fail("a value of the gradient was not written");
  }
  for (int64_t row = 0; row < rows.count; ++row) {
    double sum = 0, size = 0;
    for (int64_t i = 0; i < rows.vocab; ++i) {
      const double value = decode(gradient, row * rows.stride + i, rows.dtype);
      sum += value;
      size += std::abs(value);
    }
    if (!isIn(row) && size != 0) fail("the gradient of a masked token is not zero");
    // A row's gradient adds up to 0 except for the rounding of its values; float16 flushes values below 2^-25.
    const double rounding = rows.dtype == GROUPGRAD_FLOAT32 ? 1e-4 : 1e-2;
    const double flushed = rows.dtype == GROUPGRAD_FLOAT16 ? double(rows.vocab) * 0x1p-25 : 0;
    if (size == size && std::abs(sum) > rounding * size + flushed)
      fail("the gradient of a row does not add up to zero");
  }
}

void logitsRequest(Random& random) {
  const Shape shape{random.integer(1, 4), random.chance(0.1) ? 1100 : random.integer(1, 5)};
  const int64_t vocab = shape.length > 5 ? 9 : random.pick<int64_t>({7, 300, 1025, 5000, 20000, 40007, 180001});
  const int64_t stride = vocab + (random.chance(0.3) ? random.integer(1, 9) : 0);
  const auto dtype = int32_t(random.integer(GROUPGRAD_FLOAT32, GROUPGRAD_FLOAT16));
  const bool withRewards = random.chance(0.3);
  const int64_t tokens = shape.tokens();
  TokenInputs inputs(random, shape);
  const std::vector<float> values = generate<float>(tokens * stride, [&] { return random.uniform(-4, 4); });
  const std::vector<unsigned char> logits = encode(values, dtype);
  const DeviceArray<int32_t> ids(generate<int32_t>(tokens, [&] { return random.integer(0, vocab - 1); }));
  const int64_t half = shape.sequences / 2;
  const bool ragged = half > 0 && random.chance(0.5);
  const DeviceArray<int32_t> offsets(std::vector<int32_t>{0, int32_t(half), int32_t(shape.sequences)});

  groupgrad_logits_request request;
  groupgrad_logits_request_init(&request);
  inputs.fill(random, shape, request.policy, withRewards);
  request.policy.config = drawConfig(random, request.policy.config, true);
  request.vocab = vocab;
  request.row_stride = stride;
  request.dtype = dtype;
  request.tokens = ids.get();
  request.temperature = random.pick({1.0, 0.7});
  const groupgrad_advantage_request rewards =
      inputs.reward(random, shape.sequences, ragged ? offsets.get() : nullptr, 2);

  const std::size_t bytes = groupgrad_logits_workspace(&request);
  DeviceArray<unsigned char> workspace(static_cast<int64_t>(bytes));
  workspace.clear();
  const auto run = [&](bool inPlace) {
    const DeviceArray<unsigned char> input(logits), output(int64_t(logits.size()));
    output.fill(0xff);
    const DeviceArray<float> logProbs(tokens), entropies(tokens);
    const Metrics metrics;
    request.logits = input.get();
    request.grad_logits = inPlace ? input.get() : output.get();
    request.log_probs = logProbs.get();
    request.entropies = entropies.get();
    check(groupgrad_logits_loss(&request, withRewards ? &rewards : nullptr, metrics.loss.get(),
                                metrics.advantages.get(), workspace.get(), bytes, nullptr));
    std::vector<unsigned char> gradient = (inPlace ? input : output).read();
    logProbs.read();
    entropies.read();
    metrics.loss.read();
    if (withRewards) metrics.advantages.read();
    return gradient;
  };
  const std::vector<unsigned char> gradient = run(false);
  if (!sameBits(gradient, run(true))) fail("in place the bits are others");
  checkRows(gradient, {tokens, vocab, stride, dtype}, [&](int64_t row) { return inputs.isIn(row); });
}

void logitsBackwardRequest(Random& random) {
  const int64_t vocab = random.pick<int64_t>({3, 300, 1025, 5000, 40007, 180001});
  const Rows rows{random.integer(1, 9), vocab, vocab + (random.chance(0.3) ? random.integer(1, 9) : 0),
                  int32_t(random.integer(GROUPGRAD_FLOAT32, GROUPGRAD_FLOAT16))};
  const std::vector<unsigned char> logits =
      encode(generate<float>(rows.count * rows.stride, [&] { return random.uniform(-4, 4); }), rows.dtype);
  const DeviceArray<int32_t> ids(generate<int32_t>(rows.count, [&] { return random.integer(0, vocab - 1); }));
  const std::vector<uint8_t> in = generate<uint8_t>(rows.count, [&] { return random.chance(0.8) ? 1 : 0; });
  const DeviceArray<uint8_t> mask(in);
  const auto gradients = [&] {
    return generate<float>(rows.count, [&] { return random.chance(0.2) ? 0 : random.uniform(-1, 1); });
  };
  const DeviceArray<float> byLogProb(gradients()), byEntropy(gradients());
  groupgrad_logits_backward_request request;
  groupgrad_logits_backward_request_init(&request);
  request.rows = rows.count;
  request.vocab = vocab;
  request.row_stride = rows.stride;
  request.dtype = rows.dtype;
  request.tokens = ids.get();
  request.temperature = random.pick({1.0, 0.7});
  request.mask = mask.get();
  request.grad_log_probs = byLogProb.get();
  if (random.chance(0.5)) request.grad_entropies = byEntropy.get();
  request.loss_scale = random.pick({1.0, 128.0});
  const std::size_t bytes = groupgrad_logits_backward_workspace(&request);
  DeviceArray<unsigned char> workspace(static_cast<int64_t>(bytes));
  workspace.clear();
  const auto run = [&](bool inPlace) {
    const DeviceArray<unsigned char> input(logits), output(int64_t(logits.size()));
    output.fill(0xff);
    const DeviceArray<double> nonFinite(1);
    request.logits = input.get();
    request.grad_logits = inPlace ? input.get() : output.get();
    check(groupgrad_logits_backward(&request, nonFinite.get(), workspace.get(), bytes, nullptr));
    if (nonFinite.read()[0] != 0) fail("finite values are counted as not finite");
    return (inPlace ? input : output).read();
  };
  const std::vector<unsigned char> gradient = run(false);
  if (!sameBits(gradient, run(true))) fail("in place the bits are others");
  checkRows(gradient, rows, [&](int64_t row) { return in[static_cast<std::size_t>(row)] != 0; });
}

void policyRequest(Random& random) {
  const Shape shape{random.integer(1, 20), random.pick<int64_t>({1, 7, 128, 129, 1024, 1500})};
  const bool withRewards = random.chance(0.6);
  TokenInputs inputs(random, shape);
  const DeviceArray<float> logProbs(generate<float>(shape.tokens(), [&] { return random.uniform(-3, -1); }));
  groupgrad_policy_request request;
  groupgrad_policy_request_init(&request);
  inputs.fill(random, shape, request, withRewards);
  request.config = drawConfig(random, request.config, false);
  request.log_probs = logProbs.get();
  const groupgrad_advantage_request rewards = inputs.reward(random, shape.sequences, nullptr, 1);
  const std::size_t bytes = groupgrad_policy_workspace(&request);
  DeviceArray<unsigned char> workspace(static_cast<int64_t>(bytes));
  workspace.clear();
  const auto run = [&] {
    const DeviceArray<float> gradient(shape.tokens());
    const Metrics metrics;
    request.grad_log_probs = gradient.get();
    check(groupgrad_policy_loss(&request, withRewards ? &rewards : nullptr, metrics.loss.get(),
                                metrics.advantages.get(), workspace.get(), bytes, nullptr));
    metrics.loss.read();
    if (withRewards) metrics.advantages.read();
    return gradient.read();
  };
  const std::vector<float> gradient = run();
  if (!sameBits(gradient, run())) fail("a second call gives other bits");
  for (int64_t token = 0; token < shape.tokens(); ++token) {
    if (!inputs.isIn(token) && gradient[static_cast<std::size_t>(token)] != 0)
      fail("the gradient of a masked token is not zero");
  }

  // Without an entropy term entropies have no gradient, whatever a call before left in the workspace.
  const DeviceArray<float> entropies(generate<float>(shape.tokens(), [&] { return random.uniform(0, 3); }));
  const DeviceArray<float> gradEntropies(shape.tokens());
  request.entropies = entropies.get();
  request.grad_entropies = gradEntropies.get();
  request.config.top_quantile = 1;
  for (const double coefficient : {0.5, 0.0}) {
    request.config.entropy_coefficient = coefficient;
    run();
  }
  for (const float value : gradEntropies.read()) {
    if (value != 0) fail("entropies have a gradient without an entropy term");
  }
}

void advantageRequest(Random& random) {
  const int64_t sequences = random.integer(1, 200);
  TokenInputs inputs(random, {sequences, 1});
  const groupgrad_advantage_request request = inputs.reward(random, sequences, nullptr, 1);
  const std::size_t bytes = groupgrad_advantages_workspace(&request);
  DeviceArray<unsigned char> workspace(static_cast<int64_t>(bytes));
  workspace.clear();
  const Metrics metrics;
  check(groupgrad_advantages(&request, metrics.advantages.get(), workspace.get(), bytes, nullptr));
  metrics.advantages.read();
  inputs.perSequence.read();
}

}  // namespace

int main(int count, char** arguments) {
  const int64_t requests = count > 1 ? std::atoll(arguments[1]) : 60;
  const uint64_t seed = count > 2 ? uint64_t(std::atoll(arguments[2])) : 1;
  for (int64_t i = 0; i < requests; ++i) {
    currentRequest = seed + uint64_t(i);
    Random random(currentRequest);
    logitsRequest(random);
    logitsBackwardRequest(random);
    policyRequest(random);
    advantageRequest(random);
  }
  check(cudaDeviceSynchronize());
  std::printf("%lld requests of each operation\n", static_cast<long long>(requests));
  return 0;
}
