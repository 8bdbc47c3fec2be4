// Random requests to the CPU device, meant to be built with sanitizers (GROUPGRAD_SANITIZE). `fuzz [runs] [seed]`: run
// i draws from seed + i, so that `fuzz 1 <seed>` repeats a failure. For any request:
//  - masked rows and padding columns are not read (poisoned under the address sanitizer), their gradient is zero;
//  - the bits do not depend on the number of threads, or on whether the gradient overwrites the logits;
//  - a row's log-prob and entropy have the same bits wherever the row is;
// and if all inputs are of order 1:
//  - every kernel agrees with float64 in each row, within the error of its float32 operations (see checkRow);
//  - all kernels agree on the whole request, within twice that error (see tolerance).
#include <cstdio>
#include <cstdlib>

#include "../../native/core/aggregation.hpp"
#include "../../native/cpu/device.hpp"
#include "../../native/cpu/kernels.hpp"
#if defined(GROUPGRAD_CUDA_EMULATED)
#include "../../native/cuda/device.hpp"
#endif
#include "draw.hpp"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace groupgrad::test {
namespace {

constexpr double kUnit = 0x1p-24;  // half a unit in the last place of float32 around 1
constexpr double kDenormal = 1e-36;

uint64_t currentSeed = 0;
double currentLarge = 0;
std::string currentKernels;
double worstRow = 0, worstAgreement = 0;  // largest error as a share of its bound

[[noreturn]] void fail(const char* what) {
  std::printf("FAILED %s (kernels %s): repeat with `fuzz 1 %llu %g`\n", what, currentKernels.c_str(),
              (unsigned long long)currentSeed, currentLarge);
  std::exit(1);
}
void require(bool holds, const char* what) {
  if (!holds) fail(what);
}
void requireWithin(double error, double bound, double& worst, const char* what) {
  if (!(error <= bound)) {
    std::printf("error %g, allowed %g\n", error, bound);
    fail(what);
  }
  if (bound > 0 && error / bound > worst) worst = error / bound;
}

template <class T>
bool sameBits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}
bool sameMetrics(const LossMetrics& a, const LossMetrics& b) { return std::memcmp(&a, &b, sizeof a) == 0; }

// The devices to compare: every kernel that this processor has, with more threads than it may have processors; and,
// with GROUPGRAD_CUDA=EMULATED, the CUDA device as different GPUs.
struct Candidate {
  std::string name;
  const cpu::Kernels* kernels;  // null: not the CPU device
  std::shared_ptr<void> state;
  Device device;
};
std::vector<Candidate> candidates() {
  std::vector<const cpu::Kernels*> kernels;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    kernels.push_back(&cpu::kAvx512Kernels);
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) kernels.push_back(&cpu::kAvx2Kernels);
#endif
  kernels.push_back(&cpu::kBaselineKernels);
  std::vector<Candidate> result;
  for (const cpu::Kernels* k : kernels) {
    // Gradients in memory of their own are written past the caches.
    std::shared_ptr<cpu::State> state(cpu::createState(*k, 3, 0));
    result.push_back({k->name, k, state, cpu::device(*state)});
  }
#if defined(GROUPGRAD_CUDA_EMULATED)
  // Clusters; clusters of 16; blocks that keep a row, and blocks that keep little of it.
  int index = 0;
  for (const auto& [capability, sharedKib] :
       {std::pair("90", "227"), std::pair("90", "12"), std::pair("80", "163"), std::pair("75", "7")}) {
    setenv("SIMT_CAPABILITY", capability, 1);
    setenv("SIMT_SHARED_KIB", sharedKib, 1);
    cudaSetDevice(index++);
    cuda::StatePointer created;
    const Status status = cuda::createState(created);
    if (!status.ok()) fail(status.message);
    std::shared_ptr<cuda::State> state(std::move(created));
    result.push_back(
        {std::string("cuda ") + capability + " with " + sharedKib + " KiB", nullptr, state, cuda::device(*state)});
  }
#endif
  return result;
}

// Makes the address sanitizer report reads of memory that must stay unread; its granularity is 8 bytes.
class Poison {
 public:
  Poison(const LogitsDraw& d, bool unread) {
    if (!unread) return;
#if defined(__SANITIZE_ADDRESS__)
    const int64_t size = d.dtype == Dtype::float32 ? 4 : 2;
    const char* base = d.dtype == Dtype::float32 ? (const char*)(d.logits.data()) : (const char*)(d.halfLogits.data());
    for (int64_t row = 0; row < d.tokens(); ++row) {
      const char* begin = base + (row * d.rowStride + (d.isIn(row) ? d.vocab : 0)) * size;
      const char* end = base + (row + 1) * d.rowStride * size;
      begin = (const char*)((uintptr_t(begin) + 7) / 8 * 8);
      end = (const char*)(uintptr_t(end) / 8 * 8);
      if (begin >= end) continue;
      __asan_poison_memory_region(begin, std::size_t(end - begin));
      regions_.push_back({begin, std::size_t(end - begin)});
    }
#else
    (void)d;
#endif
  }
  ~Poison() {
#if defined(__SANITIZE_ADDRESS__)
    for (const auto& [begin, size] : regions_) __asan_unpoison_memory_region(begin, size);
#endif
  }
  Poison(const Poison&) = delete;
  Poison& operator=(const Poison&) = delete;

 private:
  std::vector<std::pair<const char*, std::size_t>> regions_;
};

enum class Gradient { none, apart, inPlace };

struct LogitsResult {
  std::vector<float> logProbs, entropies;
  std::vector<float> gradient;         // float32, or
  std::vector<uint16_t> halfGradient;  // bfloat16 or float16
  Dtype dtype = Dtype::float32;
  LossMetrics metrics;

  double at(int64_t i) const {
    return gradient.empty() ? fromHalf(dtype, halfGradient[std::size_t(i)]) : gradient[std::size_t(i)];
  }
  bool operator==(const LogitsResult& o) const {
    return sameBits(logProbs, o.logProbs) && sameBits(entropies, o.entropies) && sameBits(gradient, o.gradient) &&
           sameBits(halfGradient, o.halfGradient) && sameMetrics(metrics, o.metrics);
  }
};

// `unread`: memory that need not be read must not be (a device with its own memory copies everything).
LogitsResult runLogits(const Device& device, const LogitsDraw& d, int32_t threads, Gradient mode, bool unread = false) {
  LogitsRequest r;
  r.policy = d.request;
  r.policy.threads = threads;
  r.vocab = d.vocab;
  r.rowStride = d.rowStride;
  r.dtype = d.dtype;
  r.tokens = d.tokenIds.data();
  r.temperature = d.temperature;
  Buffer<float> logProbs(d.tokens(), 0), entropies(d.tokens(), 0);
  r.logProbs = logProbs.data();
  r.entropies = entropies.data();
  LogitsResult result;
  result.dtype = d.dtype;
  const auto run = [&](const auto& logits, auto& gradient) {
    using T = std::decay_t<decltype(logits[0])>;
    const auto call = [&] {
      require(device.logitsLoss(device.state, r, result.metrics).code == StatusCode::ok, "logitsLoss succeeds");
    };
    if (mode == Gradient::inPlace) {
      Buffer<T> both(logits.copy(), 0);
      r.logits = r.gradLogits = both.data();
      call();
      gradient = both.copy();
      return;
    }
    r.logits = logits.data();
    Buffer<T> out(mode == Gradient::none ? 0 : logits.size(), 0);
    r.gradLogits = mode == Gradient::none ? nullptr : out.data();
    const std::vector<T> before = logits.copy();
    {
      const Poison poison(d, unread);
      call();
    }
    require(sameBits(before, logits.copy()), "the logits stay as they are");
    if (mode == Gradient::apart) gradient = out.copy();
  };
  if (d.dtype == Dtype::float32) {
    run(d.logits, result.gradient);
  } else {
    run(d.halfLogits, result.halfGradient);
  }
  result.logProbs = logProbs.copy();
  result.entropies = entropies.copy();
  return result;
}

void checkUnread(const LogitsDraw& d, const LogitsResult& result) {
  for (int64_t row = 0; row < d.tokens(); ++row) {
    const bool in = d.isIn(row);
    for (int64_t j = in ? d.vocab : 0; j < d.rowStride; ++j) {
      require(result.at(row * d.rowStride + j) == 0, "the gradient of masked rows and padding is zero");
    }
    const auto at = std::size_t(row);
    require(in || (result.logProbs[at] == 0 && result.entropies[at] == 0), "masked tokens have log-prob and entropy 0");
  }
}

// Every unmasked row again, in reverse order, each as a separate sequence, at another address.
void checkRowsElsewhere(const Device& device, const LogitsDraw& d, const LogitsResult& expected) {
  LogitsDraw moved;
  std::vector<int64_t> rows;
  for (int64_t row = d.tokens() - 1; row >= 0; --row) {
    if (d.isIn(row)) rows.push_back(row);
  }
  if (rows.empty()) return;
  moved.sequences = int64_t(rows.size());
  moved.vocab = d.vocab;
  moved.rowStride = d.vocab + 3;
  moved.dtype = d.dtype;
  moved.temperature = d.temperature;
  moved.tokenIds = Buffer<int32_t>(moved.sequences, 1);
  moved.advantages = Buffer<float>(std::vector<float>(rows.size(), 1), 1);
  moved.request.sequences = moved.sequences;
  moved.request.length = 1;
  moved.request.advantages = moved.advantages.data();
  moved.request.config.surrogate = 5;
  const auto copy = [&](const auto& from, auto& to) {
    to = std::decay_t<decltype(to)>(moved.sequences * moved.rowStride, 2);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      std::memcpy(to.data() + int64_t(i) * moved.rowStride, from.data() + rows[i] * d.rowStride,
                  std::size_t(d.vocab) * sizeof(from[0]));
    }
  };
  if (d.dtype == Dtype::float32) {
    copy(d.logits, moved.logits);
  } else {
    copy(d.halfLogits, moved.halfLogits);
  }
  for (std::size_t i = 0; i < rows.size(); ++i) moved.tokenIds[int64_t(i)] = d.tokenIds[rows[i]];
  const LogitsResult result = runLogits(device, moved, 1, Gradient::none);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto at = std::size_t(rows[i]);
    require(std::memcmp(&result.logProbs[i], &expected.logProbs[at], 4) == 0 &&
                std::memcmp(&result.entropies[i], &expected.entropies[at], 4) == 0,
            "a row's log-prob and entropy do not depend on where it stands");
  }
}

// The error of rounding to nearest: bfloat16 has 8 significant bits, float16 has 11 down to its spacing of 2^-24.
double roundingOf(Dtype dtype, double value) {
  switch (dtype) {
    case Dtype::float32: break;
    case Dtype::bfloat16: return value * 0x1p-8;
    case Dtype::float16: return std::max(value * 0x1p-11, 0x1p-25);
  }
  return value * 2 * kUnit;
}

// One row of one kernel compared with float64. u = kUnit. z has error 3u|z| (subtraction, multiplication, the float32
// temperature), so p = exp(z) has 3u|z| + 2u relatively, a sum of positive terms that plus one u for each addition
// of a lane. Results computed from these are rounded once or twice more.
void checkRow(const cpu::Kernels& kernels, const LogitsDraw& d, int64_t row, double g, double c) {
  LogitsRequest r;
  r.policy = d.request;
  r.vocab = d.vocab;
  r.rowStride = d.rowStride;
  r.dtype = d.dtype;
  r.tokens = d.tokenIds.data();
  r.temperature = d.temperature;
  Buffer<float> gradient(d.tokens() * d.rowStride, 0);
  Buffer<uint16_t> halfGradient(d.tokens() * d.rowStride, 0);
  const bool half = d.dtype != Dtype::float32;
  r.logits = half ? (const void*)d.halfLogits.data() : d.logits.data();
  r.gradLogits = half ? (void*)halfGradient.data() : gradient.data();
  const cpu::RowContext context(r);
  const cpu::RowStatistics got = kernels.forwardRow(context, row);
  kernels.backwardRow(context, row, got, float(g), float(c));

  const SoftmaxRow exact = softmaxRow(d, row);
  const double meanZ = exact.mean([](double z) { return -z; });
  const double meanZ2 = exact.mean([](double z) { return z * z; });
  const double additions = double(std::min<int64_t>(d.vocab, 4096)) / 16 + 3;  // the narrowest kernels have 16 lanes
  const double sumError = kUnit * (3 * meanZ + 2 + additions);
  const double tokenZ = -exact.z[std::size_t(d.tokenIds[row])];
  const double logProbError = kUnit * 2 * tokenZ + sumError;
  const double entropyError =
      sumError * (1 + meanZ) + kUnit * (3 * meanZ2 + (3 + additions) * meanZ + 2 * exact.entropy);
  requireWithin(std::abs(got.logProb - exact.logProb), logProbError, worstRow, "log-prob of a row");
  requireWithin(std::abs(double(got.entropy) - exact.entropy), entropyError, worstRow, "entropy of a row");

  for (int64_t j = 0; j < d.vocab; ++j) {
    const bool token = j == d.tokenIds[row];
    const double p = exact.probability(j), logP = exact.z[std::size_t(j)] - exact.logSum;
    const double z = -exact.z[std::size_t(j)];
    const double expected = (g * (double(token) - p) - c * p * (logP + exact.entropy)) / d.temperature;
    const double pError = token ? logProbError : kUnit * (3 * z + 2) + sumError;
    const double size = std::abs(g) + std::abs(c) * (z + exact.logSum + exact.entropy);
    double bound = (p * (size * (pError + 8 * kUnit) + std::abs(c) * (entropyError + sumError + 3 * kUnit * z)) +
                    kDenormal * (1 + size)) /
                   d.temperature;
    bound += roundingOf(d.dtype, std::abs(expected));
    const int64_t at = row * d.rowStride + j;
    const double value = half ? fromHalf(d.dtype, halfGradient[at]) : gradient[at];
    requireWithin(std::abs(value - expected), bound, worstRow, "gradient of a row");
  }
}

// Sizes of the terms of a token's gradient, over unmasked tokens of a request whose values are of order 1.
struct Sizes {
  double delta = 0, reference = 0, logProb = 0, advantage = 0, weight = 1, factor = 0;
  int64_t tokens = 0, longest = 0;

  Sizes(const TokenDraw& d, const float* logProbs) {
    const PolicyRequest& r = d.request;
    int64_t nonEmpty = 0;
    std::vector<int64_t> counts;
    for (int64_t b = 0; b < d.sequences; ++b) {
      int64_t n = 0;
      for (int64_t at = b * d.length; at < (b + 1) * d.length; ++at) {
        if (!d.isIn(at)) continue;
        ++n;
        const double l = logProbs[at];
        logProb = std::max(logProb, std::abs(l));
        if (r.oldLogProbs) delta = std::max(delta, std::abs(l - double(r.oldLogProbs[at])));
        if (r.refLogProbs) reference = std::max(reference, std::abs(l - double(r.refLogProbs[at])));
        if (r.tokenWeights) weight = std::max(weight, std::abs(double(r.tokenWeights[at])));
        advantage = std::max(advantage, std::abs(double(r.advantages[r.advantagesPerToken ? at : b])));
      }
      counts.push_back(n);
      tokens += n;
      longest = std::max(longest, n);
      nonEmpty += n > 0;
    }
    const Denominators denominator = denominators(r, tokens, nonEmpty);
    for (const int64_t n : counts) factor = std::max(factor, aggregationFactor(r.config, denominator, n));
  }

  // Upper bound of |dloss/dlog-prob|: the surrogates' slopes are at most 2 rho A w, the KL term's e^|d| (times rho).
  double gradient(const LossConfig& config) const {
    const double ratio = std::exp(delta);
    return factor *
           (2 * ratio * advantage * weight + config.klBeta * (ratio * (1 + reference) + 1) * std::exp(reference));
  }
  // The relative error of a gradient, given the absolute one of a log-prob.
  double relative(const LossConfig& config, double logProbError) const {
    const double ratioError = logProbError + kUnit * (delta + reference + 4);
    double amplification = 1;
    if (config.surrogate == 2) amplification = 1 + 2 * std::exp(delta);  // sapo: tau rho
    if (config.surrogate == 4) amplification = 12 * double(longest);     // vespo: log v is a sum, k + lambda v
    return ratioError * amplification + 8 * kUnit;
  }
};

// All non-finite results of a call are counted.
template <class Values>
void requireCounted(const LossMetrics& m, const Values& gradient) {
  bool finite = std::isfinite(m.loss);
  for (const auto value : gradient) finite &= std::isfinite(double(value));
  require(finite || m.nonFinite > 0, "what is not finite is counted");
}

struct BackwardResult {
  std::vector<float> gradient;
  std::vector<uint16_t> halfGradient;
  double nonFinite = 0;
};

BackwardResult runBackward(const Device& device, const LogitsDraw& d, const Buffer<float>& g, const Buffer<float>& c,
                           double lossScale, int32_t threads, bool inPlace) {
  LogitsBackwardRequest request;
  LogitsRequest& r = request.logits;
  r.policy.sequences = 1;
  r.policy.length = d.tokens();
  r.policy.mask = d.request.mask;
  r.policy.threads = threads;
  r.policy.lossScale = lossScale;
  r.vocab = d.vocab;
  r.rowStride = d.rowStride;
  r.dtype = d.dtype;
  r.tokens = d.tokenIds.data();
  r.temperature = d.temperature;
  request.gradLogProbs = g.data();
  request.gradEntropies = c.data();
  BackwardResult result;
  const auto run = [&](const auto& logits, auto& gradient) {
    using T = std::decay_t<decltype(logits[0])>;
    Buffer<T> input(logits.copy(), 0), output(inPlace ? 0 : logits.size(), 0);
    r.logits = input.data();
    r.gradLogits = inPlace ? input.data() : output.data();
    require(device.logitsBackward(device.state, request, result.nonFinite).ok(), "logitsBackward succeeds");
    gradient = inPlace ? input.copy() : output.copy();
  };
  if (d.dtype == Dtype::float32) {
    run(d.logits, result.gradient);
  } else {
    run(d.halfLogits, result.halfGradient);
  }
  return result;
}

// The rows of a draw with separate gradients with respect to log-probs and entropies.
void fuzzBackward(Random& random, std::vector<Candidate>& devices, const LogitsDraw& d) {
  std::vector<float> g, c;
  for (int64_t row = 0; row < d.tokens(); ++row) {
    const bool in = d.isIn(row), wild = d.wild && random.chance(0.1);
    g.push_back(!in || wild ? wildFloat(random) : random.pick({0.0f, 0.0f, 1.0f, -0.3f}));
    c.push_back(!in ? wildFloat(random) : random.pick({0.0f, 0.0f, 0.01f, -0.5f}));
  }
  const Buffer<float> gradLogProbs(g, 0), gradEntropies(c, 0);
  const double lossScale = random.pick({1.0, 64.0});
  std::vector<BackwardResult> results;
  const bool half = d.dtype != Dtype::float32;
  const auto at = [&](const BackwardResult& r, int64_t i) {
    return half ? fromHalf(d.dtype, r.halfGradient[std::size_t(i)]) : double(r.gradient[std::size_t(i)]);
  };
  for (const Candidate& candidate : devices) {
    currentKernels = candidate.name;
    const auto run = [&](int32_t threads, bool inPlace) {
      return runBackward(candidate.device, d, gradLogProbs, gradEntropies, lossScale, threads, inPlace);
    };
    const BackwardResult result = run(1, false), again = run(2, true);
    require(sameBits(result.gradient, again.gradient) && sameBits(result.halfGradient, again.halfGradient) &&
                result.nonFinite == again.nonFinite,
            "backward in place, with 2 threads: the same bits");
    bool finite = true;
    for (int64_t i = 0; i < d.tokens() * d.rowStride; ++i) {
      const int64_t row = i / d.rowStride;
      const bool flows = d.isIn(row) && (g[std::size_t(row)] != 0 || c[std::size_t(row)] != 0);
      const double value = at(result, i);
      require((flows && i % d.rowStride < d.vocab) || value == 0, "no gradient, and padding: zeros");
      finite &= std::isfinite(value);
    }
    require(finite || result.nonFinite > 0, "what is not finite is counted");
    results.push_back(result);
  }
  if (d.wild) return;
  const double logV = std::log(double(d.vocab)), range = logV + 400;  // of z, whose error includes that of an offset
  const double additions = double(std::min<int64_t>(d.vocab, 4096)) / 16 + 3;
  const double relative = 4 * kUnit * (5 * range + additions);
  for (std::size_t i = 0; i < results.size(); ++i) {
    currentKernels = devices[i].name;
    require(results[i].nonFinite == 0, "finite values of order 1 are not counted");
    for (int64_t j = 0; j < d.tokens() * d.rowStride; ++j) {
      const double expected = at(results[0], j);
      const double bound = relative * lossScale * (1 + 2 * logV) / d.temperature +
                           (half ? 2 * roundingOf(d.dtype, std::abs(expected)) : 0);
      requireWithin(std::abs(expected - at(results[i], j)), bound, worstAgreement, "kernels agree on a given gradient");
    }
  }
}

void fuzzLogits(Random& random, std::vector<Candidate>& devices, double large) {
  const LogitsDraw d = drawLogits(random, large);
  fuzzBackward(random, devices, d);
  const LossConfig& config = d.request.config;
  const Gradient mode = random.chance(0.15) ? Gradient::none : Gradient::apart;
  std::vector<LogitsResult> results;
  for (const Candidate& candidate : devices) {
    currentKernels = candidate.name;
    const LogitsResult result = runLogits(candidate.device, d, 1, mode, candidate.kernels != nullptr);
    if (mode != Gradient::none) {
      checkUnread(d, result);
      require(result == runLogits(candidate.device, d, 2, Gradient::inPlace),
              "in place, with 2 threads: the same bits");
    }
    require(result == runLogits(candidate.device, d, 3, mode), "with 3 threads: the same bits");
    std::vector<double> gradient;
    for (int64_t i = 0; mode != Gradient::none && i < d.tokens() * d.rowStride; ++i) gradient.push_back(result.at(i));
    requireCounted(result.metrics, gradient);
    // Without metrics, rows without a gradient may stay unread: then they have no log-prob.
    if (d.request.metrics) checkRowsElsewhere(candidate.device, d, result);
    results.push_back(result);
  }
  if (d.wild) return;

  int64_t tries = 0;
  for (int64_t row = 0; row < d.tokens() && tries < 3; ++row) {
    if (!d.isIn(row)) continue;
    ++tries;
    const double g = random.pick({0.0, 1.0, -0.3}), c = float(random.pick({0.0, 0.01, -0.5}));
    for (const Candidate& candidate : devices) {
      if (!candidate.kernels) continue;
      currentKernels = candidate.name;
      checkRow(*candidate.kernels, d, row, float(g), c);
    }
  }

  const LogitsResult& first = results[0];
  require(first.metrics.nonFinite == 0 && std::isfinite(first.metrics.loss), "a request of order 1 has a finite loss");
  const Sizes sizes(d, first.logProbs.data());
  const double logV = std::log(double(d.vocab));
  const double range = sizes.logProb + logV + 60;  // of z
  const double additions = double(std::min<int64_t>(d.vocab, 4096)) / 16 + 3;
  const double logProbError = kUnit * (5 * range + additions);
  const double c = std::abs(config.entropyCoefficient) /
                   (config.entropyTokens == config.entropyTokens ? std::max(1.0, config.entropyTokens) : 1);
  const double relative = 2 * sizes.relative(config, logProbError) + 2 * logProbError;
  const double byLogit = (sizes.gradient(config) + c * (1 + 2 * logV)) / d.temperature;
  const bool half = d.dtype != Dtype::float32;
  for (std::size_t i = 1; i < results.size(); ++i) {
    currentKernels = devices[i].name;
    const LogitsResult& other = results[i];
    for (std::size_t at = 0; at < first.logProbs.size(); ++at) {
      requireWithin(std::abs(double(first.logProbs[at]) - double(other.logProbs[at])), 2 * logProbError, worstAgreement,
                    "kernels agree on log-probs");
      requireWithin(std::abs(double(first.entropies[at]) - double(other.entropies[at])),
                    2 * logProbError * (1 + logV + range / 10), worstAgreement, "kernels agree on entropies");
    }
    if (mode == Gradient::apart) {
      for (int64_t at = 0; at < d.tokens() * d.rowStride; ++at) {
        requireWithin(std::abs(first.at(at) - other.at(at)),
                      relative * byLogit + (half ? 2 * roundingOf(d.dtype, std::abs(first.at(at))) : 0), worstAgreement,
                      "kernels agree on gradients");
      }
    }
    const double lossSize = sizes.gradient(config) * double(sizes.tokens) * std::max(1.0, sizes.logProb) +
                            std::abs(config.entropyCoefficient) * logV * (c > 0 ? double(sizes.tokens) : 1);
    requireWithin(std::abs(first.metrics.loss - other.metrics.loss), relative * lossSize + 1e-12, worstAgreement,
                  "kernels agree on the loss");
    require(other.metrics.nonFinite == 0 && other.metrics.tokens == first.metrics.tokens, "kernels agree on counts");
  }
}

struct PolicyResult {
  std::vector<float> gradient;
  LossMetrics metrics;
};

PolicyResult runPolicy(const Device& device, const TokenDraw& d, int32_t threads, bool withGradient) {
  PolicyRequest r = d.request;
  r.threads = threads;
  Buffer<float> gradient(withGradient ? d.tokens() : 0, 0);
  r.gradLogProbs = withGradient ? gradient.data() : nullptr;
  PolicyResult result;
  require(device.policyLoss(device.state, r, result.metrics).code == StatusCode::ok, "policyLoss succeeds");
  result.gradient = gradient.copy();
  return result;
}

void fuzzPolicy(Random& random, std::vector<Candidate>& devices, double large) {
  const TokenDraw d = drawPolicy(random, large);
  std::vector<PolicyResult> results;
  for (const Candidate& candidate : devices) {
    currentKernels = candidate.name;
    const PolicyResult result = runPolicy(candidate.device, d, 1, true);
    for (int64_t at = 0; at < d.tokens(); ++at) {
      require(d.isIn(at) || result.gradient[std::size_t(at)] == 0, "the gradient of masked tokens is zero");
    }
    for (const int32_t threads : {2, 3}) {
      const PolicyResult other = runPolicy(candidate.device, d, threads, true);
      require(sameBits(result.gradient, other.gradient) && sameMetrics(result.metrics, other.metrics),
              "with 2 and 3 threads: the same bits");
    }
    LossMetrics without = runPolicy(candidate.device, d, 1, false).metrics;
    require(without.nonFinite <= result.metrics.nonFinite, "without a gradient: none of it counts");
    without.nonFinite = result.metrics.nonFinite;
    require(sameMetrics(result.metrics, without), "without a gradient: the same loss and metrics");
    requireCounted(result.metrics, result.gradient);
    results.push_back(result);
  }
  if (d.wild) return;
  const PolicyResult& first = results[0];
  require(first.metrics.nonFinite == 0 && std::isfinite(first.metrics.loss), "a request of order 1 has a finite loss");
  const Sizes sizes(d, d.logProbs.data());
  const double relative = 2 * sizes.relative(d.request.config, 0);
  const double size = sizes.gradient(d.request.config);
  for (std::size_t i = 1; i < results.size(); ++i) {
    currentKernels = devices[i].name;
    for (std::size_t at = 0; at < first.gradient.size(); ++at) {
      requireWithin(std::abs(double(first.gradient[at]) - double(results[i].gradient[at])), relative * size,
                    worstAgreement, "kernels agree on gradients");
    }
    requireWithin(std::abs(first.metrics.loss - results[i].metrics.loss),
                  relative * size * double(sizes.tokens) * std::max(1.0, sizes.logProb) + 1e-12, worstAgreement,
                  "kernels agree on the loss");
    require(results[i].metrics.nonFinite == 0, "kernels agree on counts");
  }
}

// Properties of every group.
void checkAdvantages(const AdvantageDraw& d) {
  const AdvantageRequest& r = d.request;
  for (int64_t g = 0; g < r.groups; ++g) {
    bool any = false;
    double low = double(kInf), high = -double(kInf);
    int64_t verdicts = 0;
    for (int64_t i = d.offsets[g]; i < d.offsets[g + 1]; ++i) {
      const bool verdict = d.rewards[i] == d.rewards[i];
      require(verdict || r.advantages[i] == 0, "no verdict, no advantage");
      require(r.hadw || r.dqwTemperature > 0 || r.weights[i] == 1, "without HA-DW or DQW every weight is 1");
      any |= r.advantages[i] != 0;
      if (!verdict) continue;
      ++verdicts;
      low = std::min(low, d.rewards[i]);
      high = std::max(high, d.rewards[i]);
    }
    // Covers the 0.1 to 1e15 and the rounding of 2^-50 that are drawn.
    const bool equal = verdicts == 0 || high - low <= 0x1p-47 * std::max(std::abs(low), std::abs(high));
    require(r.active[g] == uint8_t(any), "active says whether the group has an advantage");
    require(verdicts > 0 ? r.groupMean[g] == r.groupMean[g] : r.groupMean[g] != r.groupMean[g], "mean of a group");
    if (equal) require(r.groupStd[g] == 0, "equal rewards have standard deviation 0");
    if (high - low > 0x1p-20 * std::max(std::abs(low), std::abs(high))) {
      require(r.groupStd[g] > 0, "rewards that differ have a standard deviation");
    }
    if (equal && r.center != Center::none) require(!any, "equal rewards have advantage 0");
  }
}

void fuzzAdvantages(Random& random, std::vector<Candidate>& devices) {
  AdvantageDraw d = drawAdvantages(random);
  AdvantageRequest& r = d.request;
  Buffer<float> advantages(d.rewards.size(), 0), weights(d.rewards.size(), 0);
  Buffer<float> groupMean(r.groups, 0), groupStd(r.groups, 0);
  Buffer<uint8_t> active(r.groups, 0);
  r.advantages = advantages.data();
  r.weights = weights.data();
  r.groupMean = groupMean.data();
  r.groupStd = groupStd.data();
  r.active = active.data();
  std::vector<float> expected;
  AdvantageMetrics expectedMetrics;
  for (const Candidate& candidate : devices) {
    currentKernels = candidate.name;
    AdvantageMetrics m;
    require(candidate.device.advantages(candidate.device.state, r, m).ok(), "computeAdvantages succeeds");
    for (int64_t i = 0; i < d.rewards.size(); ++i) {
      const bool finite = std::isfinite(advantages[i]) && std::isfinite(weights[i]);
      require(finite || m.nonFinite > 0, "what is not finite is counted");
    }
    checkAdvantages(d);
    if (candidate.kernels == devices[0].kernels) {
      expected = advantages.copy();
      expectedMetrics = m;
    }
    // Another order of additions, in float64, rounded once to float32.
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const double a = expected[i], b = advantages[int64_t(i)];
      if (a == b || (a != a && b != b)) continue;
      requireWithin(std::abs(a - b), 4 * kUnit * std::abs(a) + kDenormal, worstAgreement,
                    "devices agree on advantages");
    }
    require(m.nonFinite == expectedMetrics.nonFinite && m.zeroStdFraction == expectedMetrics.zeroStdFraction,
            "devices agree on counts");
    const auto same = [&](double a, double b, const char* what) {
      if (a == b || (a != a && b != b)) return;
      requireWithin(std::abs(a - b), 4 * kUnit * std::abs(a), worstAgreement, what);
    };
    same(expectedMetrics.accuracy, m.accuracy, "devices agree on the accuracy");
    same(expectedMetrics.rewardStd, m.rewardStd, "devices agree on the reward's deviation");
    same(expectedMetrics.anchor, m.anchor, "devices agree on the anchor");
    same(expectedMetrics.weightMean, m.weightMean, "devices agree on the mean weight");
    same(expectedMetrics.weightMin, m.weightMin, "devices agree on the smallest weight");
    same(expectedMetrics.weightMax, m.weightMax, "devices agree on the largest weight");
  }
}

}  // namespace

int run(int64_t runs, uint64_t seed, double large) {
  std::vector<Candidate> devices = candidates();
  currentLarge = large;
  for (int64_t i = 0; i < runs; ++i) {
    currentSeed = seed + uint64_t(i);
    Random random(currentSeed);
    fuzzLogits(random, devices, large);
    fuzzPolicy(random, devices, large);
    fuzzAdvantages(random, devices);
  }
  std::printf("%lld runs from seed %llu on", (long long)runs, (unsigned long long)seed);
  for (const Candidate& candidate : devices) std::printf(" [%s]", candidate.name.c_str());
  std::printf("; largest error as a share of its bound: rows %.3f, agreement %.3f\n", worstRow, worstAgreement);
  return 0;
}

}  // namespace groupgrad::test

int main(int count, char** arguments) {
  const int64_t runs = count > 1 ? std::atoll(arguments[1]) : 150;
  const uint64_t seed = count > 2 ? uint64_t(std::atoll(arguments[2])) : 1;
  const double large = count > 3 ? std::atof(arguments[3]) : 0.02;
  return groupgrad::test::run(runs, seed, large);
}
