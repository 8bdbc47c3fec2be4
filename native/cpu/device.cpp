// Orchestrates the kernels: denominators, work units for threads, the order of passes, metrics. Partial results are
// kept per sequence and added in order, so that results do not depend on the number of threads.
#include "device.hpp"

#include <algorithm>
#include <atomic>
#include <new>
#include <vector>

#include "../core/entropy.hpp"
#include "../core/metrics.hpp"
#include "../core/visits.hpp"
#include "kernels.hpp"
#include "thread_pool.hpp"

namespace groupgrad::cpu {

const Kernels& bestKernels() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    return kAvx512Kernels;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return kAvx2Kernels;
#endif
  return kBaselineKernels;
}

namespace {

// A run of sequences with at most this many tokens is one unit of work with its own sums; results depend on it.
constexpr int64_t kTokensPerRun = 8192;
// A unit of work on rows: small enough to distribute, large enough to be worth waking a thread; large units keep
// prefetches of the next row useful. Results do not depend on it.
constexpr int64_t kLogitsPerUnitLeast = 32768;
constexpr int64_t kLogitsPerUnitMost = 262144;
constexpr int64_t kUnitsPerThread = 8;
// Rows are evaluated together up to this size: enough to amortise a call of the policy kernels.
constexpr int64_t kLogitsPerBlock = 16384;
// A separate gradient of at least this size leaves the caches before it is read, so it is written with streaming
// stores: that avoids reading its memory first, a third of the traffic. Smaller ones are still cached when they are
// read next.
constexpr int64_t kStreamedBytes = int64_t(64) << 20;

}  // namespace

class State {
 public:
  State(const Kernels& chosen, int threads, int64_t streamed)
      : kernels(chosen), streamedBytes(streamed), pool(threads) {}

  const Kernels& kernels;
  const int64_t streamedBytes;
  ThreadPool pool;

  std::vector<SequenceState> sequences;
  std::vector<RunSums> runs;
  std::vector<float> gradient;
  std::vector<RowStatistics> rows;
  std::vector<float> kept;

  int threadsFor(int32_t wanted, int64_t units) const {
    const int most = wanted > 0 ? std::min(wanted, pool.size()) : pool.size();
    return int(std::min<int64_t>(most, units));
  }
};

double Lanes::total() const {
  double sum = 0;
  for (const double lane : value) sum += lane;
  return sum;
}

RunSums::RunSums() {
  std::fill(std::begin(ratioMin), std::end(ratioMin), kInfinity);
  std::fill(std::begin(ratioMax), std::end(ratioMax), -kInfinity);
}

void StateDeleter::operator()(State* state) const { delete state; }
std::unique_ptr<State, StateDeleter> createState() {
  return createState(bestKernels(), availableProcessors(), kStreamedBytes);
}
std::unique_ptr<State, StateDeleter> createState(const Kernels& kernels, int threads, int64_t streamedBytes) {
  return std::unique_ptr<State, StateDeleter>(new State(kernels, threads, streamedBytes));
}
const char* instructionSet(const State& state) { return state.kernels.name; }
int threadCount(const State& state) { return state.pool.size(); }

namespace {

QuestionWeights questionWeights(const AdvantageRequest& r, double rounding) {
  QuestionWeights questions;
  if (r.dqwTemperature == 0) return questions;
  std::vector<double> means;
  for (int64_t g = 0; g < r.groups; ++g) {
    const int64_t begin = r.offsets[g], end = r.offsets[g + 1];
    const GroupStatistics group = groupStatistics(r.rewards + begin, end - begin, r.ddof, rounding);
    if (group.spread) means.push_back(group.mean);
  }
  for (const double mean : means) questions.lowest = std::min(questions.lowest, mean);
  double total = 0;
  for (const double mean : means) total += questions.share(mean, r.dqwTemperature);
  questions.factor = double(means.size()) / total;
  return questions;
}

Status computeAdvantages(void*, const AdvantageRequest& r, AdvantageMetrics& m) {
  const int64_t total = r.offsets[r.groups];
  const double rounding = r.singlePrecision ? kFloat32Rounding : kFloat64Rounding;
  const GroupStatistics batch = groupStatistics(r.rewards, total, r.ddof, rounding);
  m = AdvantageMetrics{};
  m.accuracy = batch.mean;
  m.rewardStd = groupStatistics(r.rewards, total, 1, rounding).std;
  m.nonFinite = total - batch.count;
  m.anchor = r.anchor == r.anchor ? r.anchor : batch.mean;

  const QuestionWeights questions = questionWeights(r, rounding);
  int64_t withoutSpread = 0;
  double weightSum = 0, weightMin = kInfinity, weightMax = -kInfinity;
  for (int64_t g = 0; g < r.groups; ++g) {
    const int64_t begin = r.offsets[g], end = r.offsets[g + 1];
    const GroupStatistics group = groupStatistics(r.rewards + begin, end - begin, r.ddof, rounding);
    r.groupMean[g] = float(group.mean);
    r.groupStd[g] = writtenStd(group);
    r.active[g] = 0;
    withoutSpread += !group.spread;
    if (group.count > 0) m.nonFinite += !isFinite(r.groupMean[g]) + !isFinite(r.groupStd[g]);
    for (int64_t i = begin; i < end; ++i) {
      const double reward = r.rewards[i];
      const double plain = groupAdvantage(reward, group, batch.std, r.center, r.scale, r.epsilon);
      const double weight = completionWeight(r, plain, group, m.anchor, questions);
      r.advantages[i] = float(plain * weight);
      r.weights[i] = float(weight);
      r.active[g] |= r.advantages[i] != 0;
      m.nonFinite += !isFinite(r.advantages[i]) + !isFinite(r.weights[i]);
      if (reward == reward) {
        weightSum += weight;
        weightMin = std::min(weightMin, weight);
        weightMax = std::max(weightMax, weight);
      }
    }
  }
  m.zeroStdFraction = double(withoutSpread) / double(r.groups);
  if (batch.count > 0) {
    m.weightMean = weightSum / double(batch.count);
    m.weightMin = weightMin;
    m.weightMax = weightMax;
  }
  return {};
}

// One policy-loss call, with advantages already computed.
class PolicyCall {
 public:
  PolicyCall(State& state, const PolicyRequest& request) : state_(state), r_(request) {
    context.request = &request;
    context.logProbs = request.logProbs;
    context.advantages = request.advantages;
    context.gradient = request.gradLogProbs;
    context.needsSequence = needsSequence(r_.config);
    countTokens();
    const LossConfig& config = r_.config;
    if (config.topQuantile < 1) {
      context.entropies = request.entropies;
      context.entropyThreshold = float(config.entropyThreshold);
    }
    entropyTokens_ = hasEntropyTokens() ? config.entropyTokens : double(std::max<int64_t>(1, tokens_));
  }

  PolicyContext context;

  int64_t tokens() const { return tokens_; }
  bool isIn(int64_t at) const { return !r_.mask || r_.mask[at] != 0; }
  bool isKept(int64_t at) const { return !context.entropies || r_.entropies[at] >= context.entropyThreshold; }
  // Of the loss with respect to the token's entropy.
  float entropyGradient(int64_t at) const {
    return isIn(at) && isKept(at) ? float(0 - r_.config.entropyCoefficient / entropyTokens_) : 0.0f;
  }
  const SequenceState& sequence(int64_t b) const { return state_.sequences[std::size_t(b)]; }

  // A sequence's factor, ratio and surrogate quantity.
  void prepare(int64_t b) { state_.kernels.prepareSequence(context, b, state_.sequences[std::size_t(b)]); }

  void terms(int64_t b, SequenceState& s, RunSums& sums, int64_t begin, int64_t end) const {
    state_.kernels.tokenTerms(context, b, s, sums, begin, end);
  }
  void spread(int64_t b, SequenceState& s, int64_t begin, int64_t end) const {
    if (context.needsSequence) state_.kernels.spreadSequence(context, b, s, begin, end);
  }

  // fn(run, sequence) for each sequence, in runs of sequences that are long enough for a thread.
  template <class F>
  void forEachSequence(const F& fn) {
    const int64_t perRun = std::max<int64_t>(1, kTokensPerRun / r_.length);
    const int64_t runs = (r_.sequences + perRun - 1) / perRun;
    state_.runs.assign(std::size_t(runs), RunSums());
    state_.pool.forEach(runs, state_.threadsFor(r_.threads, runs), [&](int64_t run) {
      const int64_t end = std::min(r_.sequences, (run + 1) * perRun);
      for (int64_t b = run * perRun; b < end; ++b) fn(state_.runs[std::size_t(run)], b);
    });
  }

  // The whole policy loss, from complete log-probs and entropies.
  void run() {
    if (context.entropies) keepHighEntropy();
    forEachSequence([&](RunSums& sums, int64_t b) {
      SequenceState& s = state_.sequences[std::size_t(b)];
      prepare(b);
      terms(b, s, sums, 0, r_.length);
      spread(b, s, 0, r_.length);
    });
  }

  void finishEntropies();
  void metrics(LossMetrics& m);

 private:
  // Counts tokens whose term or derivative is not finite. The existing sums show whether there may be any: a sum
  // that includes such a value is not finite either.
  void countTerms() {
    double sum = 0;
    for (const RunSums& run : state_.runs) sum += run.loss.total() + run.gradient.total();
    for (int64_t b = 0; b < r_.sequences; ++b) sum += sequence(b).dLogRatio + sequence(b).dSequence;
    if (std::isfinite(sum)) return;
    PolicyCall counting = *this;
    counting.context.gradient = nullptr;
    counting.context.countsTerms = true;
    forEachSequence([&](RunSums& sums, int64_t b) {
      SequenceState scratch = sequence(b);
      if (scratch.nonFinite.inputs > 0) return;
      counting.terms(b, scratch, sums, 0, r_.length);
      state_.sequences[std::size_t(b)].nonFinite.terms = scratch.nonFinite.terms;
    });
  }

  void countTokens() {
    state_.sequences.resize(std::size_t(r_.sequences));
    int64_t nonEmpty = 0;
    tokens_ = 0;
    for (int64_t b = 0; b < r_.sequences; ++b) {
      SequenceState& s = state_.sequences[std::size_t(b)];
      s.tokens = r_.mask ? state_.kernels.countTokens(r_.mask + b * r_.length, r_.length) : r_.length;
      tokens_ += s.tokens;
      nonEmpty += s.tokens > 0;
    }
    context.denominators = denominators(r_, tokens_, nonEmpty);
  }

  bool hasEntropyTokens() const { return r_.config.entropyTokens == r_.config.entropyTokens; }
  void keepHighEntropy();
  void addEntropy(LossMetrics& m) const;

  State& state_;
  const PolicyRequest& r_;
  int64_t tokens_ = 0;
  double entropyTokens_ = 1;  // the entropy term's denominator
};

// The threshold below which tokens are dropped, and the number of remaining tokens.
void PolicyCall::keepHighEntropy() {
  const int64_t rows = r_.sequences * r_.length;
  if (r_.config.entropyThreshold != r_.config.entropyThreshold) {
    auto& kept = state_.kept;
    kept.clear();
    for (int64_t at = 0; at < rows; ++at) {
      if (isIn(at) && r_.entropies[at] == r_.entropies[at]) kept.push_back(r_.entropies[at]);
    }
    context.entropyThreshold = -kInfinity;
    if (!kept.empty()) {
      const auto nth = kept.begin() + quantileRank(r_.config.topQuantile, int64_t(kept.size()));
      std::nth_element(kept.begin(), nth, kept.end());
      context.entropyThreshold = *nth;
    }
  }
  if (!hasEntropyTokens()) {
    int64_t count = 0;
    for (int64_t at = 0; at < rows; ++at) count += isIn(at) && isKept(at);
    entropyTokens_ = double(std::max<int64_t>(1, count));
  }
}

void PolicyCall::addEntropy(LossMetrics& m) const {
  double sum = 0, kept = 0;
  for (int64_t at = 0; at < r_.sequences * r_.length; ++at) {
    if (!isIn(at)) continue;
    sum += double(r_.entropies[at]);
    kept += isKept(at) ? double(r_.entropies[at]) : 0.0;
  }
  m.entropy = sum / double(std::max<int64_t>(1, tokens_));
  const double coefficient = r_.config.entropyCoefficient;
  if (coefficient != 0) m.loss -= coefficient * kept / entropyTokens_;
}

// The gradient with respect to entropies, and the non-finite values of both. A row without a distribution has
// neither log-prob nor entropy: it counts once.
void PolicyCall::finishEntropies() {
  if (!r_.entropies) return;
  for (int64_t at = 0; at < r_.sequences * r_.length; ++at) {
    NonFinite& nonFinite = state_.sequences[std::size_t(at / r_.length)].nonFinite;
    if (isIn(at)) nonFinite.inputs += !isFinite(r_.entropies[at]) && isFinite(r_.logProbs[at]);
    if (!r_.gradEntropies) continue;
    r_.gradEntropies[at] = float(r_.lossScale * double(entropyGradient(at)));
    nonFinite.gradients += !isFinite(r_.gradEntropies[at]);
  }
}

void PolicyCall::metrics(LossMetrics& m) {
  PolicyTotals t;
  t.tokens = double(tokens_);
  for (const RunSums& run : state_.runs) {
    t.loss += run.loss.total();
    t.kl += run.kl.total();
    t.phi += run.phi;
    t.logRatio += run.logRatio.total();
    t.ratio += run.ratio.total();
    for (int lane = 0; lane < kLanes; ++lane) {
      t.reads += run.reads[lane];
      t.addRatioRange(run.ratioMin[lane], run.ratioMax[lane]);
    }
  }
  t.ratios = t.reads;
  countTerms();

  // A sequence-level ratio counts a sequence once.
  const bool surrogateSequence = surrogateNeedsSequence(r_.config);
  const bool sequenceRatio = r_.config.ratio != Ratio::token;
  const bool whole = clipsSequences(r_, surrogateSequence);
  if (sequenceRatio) t.ratio = t.ratios = 0;
  for (int64_t b = 0; b < r_.sequences; ++b) {
    const SequenceState& s = sequence(b);
    if (s.tokens == 0) {
      t.phi += r_.advantagesPerToken ? 0 : 1;
      continue;
    }
    NonFinite nonFinite = s.nonFinite;
    if (!r_.advantagesPerToken) nonFinite.inputs += !isFinite(context.advantages[b]);
    t.nonFinite += double(nonFinite.count());
    if (sequenceRatio && !(context.skipInactive && context.advantages[b] == 0)) {
      t.ratio += double(s.ratio);
      t.ratios += 1;
    }
    t.addClipped(double(s.clippedLow), double(s.clippedHigh), double(s.tokens), whole);
  }
  m = lossMetrics(r_, t, surrogateSequence);
  if (r_.entropies) addEntropy(m);
}

Status policyLoss(void* state, const PolicyRequest& request, LossMetrics& metrics) {
  try {
    PolicyCall call(*static_cast<State*>(state), request);
    call.run();
    call.finishEntropies();
    call.metrics(metrics);
    countLoss(metrics);
    return {};
  } catch (const std::bad_alloc&) {
    return Status::make(StatusCode::outOfMemory, "%s", "not enough memory for the policy loss's scratch space");
  }
}

RowContext rowsOf(const State& state, const LogitsRequest& request) {
  RowContext rows(request);
  const int64_t values = request.policy.sequences * request.policy.length * request.rowStride;
  rows.streams = request.gradLogits != request.logits && values * int64_t(sizeof(float)) >= state.streamedBytes;
  return rows;
}

// fn(sequence, begin, end) for blocks of tokens of one sequence, whose rows are evaluated together.
template <class F>
void forEachBlock(State& state, const PolicyRequest& r, int64_t vocab, const F& fn) {
  const int64_t block = std::clamp<int64_t>(kLogitsPerBlock / vocab, 1, r.length);
  const int64_t perSequence = (r.length + block - 1) / block;
  const int64_t blocks = r.sequences * perSequence;
  const int64_t logitsPerBlock = block * vocab;
  const int64_t share = blocks / (kUnitsPerThread * state.threadsFor(r.threads, blocks));
  const int64_t least = std::max<int64_t>(1, kLogitsPerUnitLeast / logitsPerBlock);
  const int64_t perUnit = std::clamp(share, least, std::max(least, kLogitsPerUnitMost / logitsPerBlock));
  const int64_t units = (blocks + perUnit - 1) / perUnit;
  state.pool.forEach(units, state.threadsFor(r.threads, units), [&](int64_t unit) {
    const int64_t last = std::min(blocks, (unit + 1) * perUnit);
    for (int64_t i = unit * perUnit; i < last; ++i) {
      const int64_t b = i / perSequence, begin = i % perSequence * block;
      fn(b, begin, std::min(r.length, begin + block));
    }
  });
}

// The loss from logits, in one of two ways: if a row's gradient depends only on the row, each block of rows is
// read, evaluated and overwritten while it is in the cache; otherwise all rows are read first, then the policy loss
// is computed, then all rows are read again.
class LogitsCall {
 public:
  LogitsCall(State& state, const LogitsRequest& request)
      : state_(state),
        r_(request),
        policy_(withScratch(state, request)),
        call_(state, policy_),
        rows_(rowsOf(state, request)) {
    skipInactive_ = skipsInactive(request);
    call_.context.skipInactive = skipInactive_;
    state.rows.resize(std::size_t(policy_.sequences * policy_.length));
  }

  void run(LossMetrics& m) {
    if (r_.gradLogits && isRowLocal(r_)) {
      runRowLocal();
    } else {
      forEachBlock([&](int64_t b, int64_t begin, int64_t end) { forward(b, begin, end); });
      call_.run();
      if (r_.gradLogits) {
        forEachBlock([&](int64_t b, int64_t begin, int64_t end) { backward(b, begin, end); });
      }
    }
    call_.metrics(m);
    m.nonFinite += double(offending_.load());
    countLoss(m);
    m.nonFinite += double(overflows_.load());
  }

 private:
  // Log-probs and entropies are read from where the rows write them; gradients with respect to them are in scratch
  // memory.
  static PolicyRequest withScratch(State& state, const LogitsRequest& request) {
    PolicyRequest policy = request.policy;
    policy.logProbs = request.logProbs;
    policy.entropies = request.entropies;
    if (request.gradLogits) {
      state.gradient.resize(std::size_t(policy.sequences * policy.length));
      policy.gradLogProbs = state.gradient.data();
      policy.lossScale = 1;  // the rows apply it
    }
    return policy;
  }

  bool isRead(int64_t b, int64_t at) const {
    return call_.isIn(at) && !(skipInactive_ && policy_.advantages[policy_.advantagesPerToken ? at : b] == 0);
  }

  template <class F>
  void forEachBlock(const F& fn) const {
    cpu::forEachBlock(state_, policy_, r_.vocab, fn);
  }

  void forward(int64_t b, int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t at = b * policy_.length + t;
      if (!isRead(b, at)) {
        state_.rows[std::size_t(at)] = RowStatistics{};
        r_.logProbs[at] = 0;
        r_.entropies[at] = 0;
        continue;
      }
      const RowStatistics row = state_.kernels.forwardRow(rows_, at);
      state_.rows[std::size_t(at)] = row;
      r_.logProbs[at] = float(row.logProb);
      r_.entropies[at] = row.entropy;
      // The policy loss counts a log-prob that is not finite once; the row may hold more such values.
      if (row.nonFinite > 1) offending_ += row.nonFinite - 1;
    }
  }

  void backward(int64_t b, int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t at = b * policy_.length + t;
      const float g = call_.isIn(at) ? policy_.gradLogProbs[at] : 0;
      const int64_t overflows =
          state_.kernels.backwardRow(rows_, at, state_.rows[std::size_t(at)], g, call_.entropyGradient(at));
      if (overflows > 0) overflows_ += overflows;
    }
  }

  void runRowLocal() {
    // Sums over a sequence that do not depend on the rows: there are no old log-probs, so every ratio is 1.
    if (call_.context.needsSequence) {
      std::fill_n(r_.logProbs, policy_.sequences * policy_.length, 0.0f);
      call_.run();
    } else {
      call_.forEachSequence([&](RunSums&, int64_t b) { call_.prepare(b); });
    }
    forEachBlock([&](int64_t b, int64_t begin, int64_t end) {
      forward(b, begin, end);
      SequenceState scratch = call_.sequence(b);
      RunSums scratchSums;
      call_.terms(b, scratch, scratchSums, begin, end);
      SequenceState flows = call_.sequence(b);
      call_.spread(b, flows, begin, end);
      backward(b, begin, end);
    });
    call_.run();
  }

  State& state_;
  const LogitsRequest& r_;
  const PolicyRequest policy_;
  PolicyCall call_;
  RowContext rows_;
  bool skipInactive_ = false;
  std::atomic<int64_t> offending_{0};  // logits, beyond the one that each log-prob shows
  std::atomic<int64_t> overflows_{0};  // values of the gradient with respect to logits
};

Status logitsLoss(void* state, const LogitsRequest& request, LossMetrics& metrics) {
  try {
    LogitsCall(*static_cast<State*>(state), request).run(metrics);
    return {};
  } catch (const std::bad_alloc&) {
    return Status::make(StatusCode::outOfMemory, "%s", "not enough memory for the loss's scratch space");
  }
}

// Only the backward half of a loss from logits. A row is read, evaluated and overwritten while it is in the cache.
Status logitsBackward(void* opaque, const LogitsBackwardRequest& request, double& nonFinite) {
  try {
    State& state = *static_cast<State*>(opaque);
    const LogitsRequest& r = request.logits;
    const RowContext rows = rowsOf(state, r);
    std::atomic<int64_t> bad{0};
    forEachBlock(state, r.policy, r.vocab, [&](int64_t b, int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const int64_t at = b * r.policy.length + t;
        const bool in = !r.policy.mask || r.policy.mask[at] != 0;
        const float g = in ? request.gradLogProbs[at] : 0;
        const float c = in && request.gradEntropies ? request.gradEntropies[at] : 0;
        RowStatistics row;
        if (g != 0 || c != 0) row = state.kernels.forwardRow(rows, at);
        const int64_t overflows = state.kernels.backwardRow(rows, at, row, g, c);
        const int64_t own = row.nonFinite + !isFinite(g) + !isFinite(c) + overflows;
        if (own > 0) bad += own;
      }
    });
    nonFinite = double(bad.load());
    return {};
  } catch (const std::bad_alloc&) {
    return Status::make(StatusCode::outOfMemory, "%s", "not enough memory for the gradient's scratch space");
  }
}

}  // namespace

Device device(State& state) { return {&state, computeAdvantages, policyLoss, logitsLoss, logitsBackward}; }

}  // namespace groupgrad::cpu
