// Advantages (K1) and policy loss (K2) in one launch. Sequences are processed in units. If a token's term needs a
// sum over more than one unit, all units are summed first, followed by a grid-wide barrier; if it needs only the
// number of tokens, each block counts a share of the mask and waits for the total. The last block to finish adds up the
// units' partial sums in a fixed order, so that results do not depend on scheduling; meanwhile another block writes the
// metrics of the advantages.
//
// Such a launch takes 12 to 19 microseconds on an H100, most of them to fetch instructions and to wait. So the common
// losses, whose terms are local to tokens, have a kernel without the other code, in which one warp waits for the total
// while another computes the advantage.
#include <algorithm>

#include "../core/metrics.hpp"
#include "../core/visits.hpp"
#include "advantages.cuh"
#include "fields.cuh"
#include "launch.hpp"
#include "policy.hpp"

namespace groupgrad::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kBlocksAtOnce = 2;  // that a multiprocessor must have the registers for
using Block = BlockTeam<kThreads>;
constexpr int kSequencesThreads = 512;  // of the block that computes the states of a token-local loss
// In the kernel of token-local losses: waits for the total. Of another warp than the one that computes a block's
// advantage.
constexpr int kCountingThread = kWarp;

// Properties of the launch that are known in advance. The grid has only the necessary barriers.
struct Plan {
  int64_t unitTokens, unitsPerSequence, units;
  bool needsSequence;      // a quantity of the sequence enters the terms
  bool surrogateSequence;  // one of the surrogate's own
  bool needsBatch;         // so do numbers of the whole batch that must be counted
  bool countsMask;         // they are in the mask alone, of which every block counts a share
  bool meetBefore;         // terms need what other units hold
  bool meetAfter;          // gradients need what other units' terms add up to
  bool flows;              // gradients flow through quantities of the sequence
  bool sharesKl;           // so does the gradient of the KL term
  bool tokenLocal;         // the kernel for token-local losses can compute it
};

Plan planOf(const PolicyLaunch& p) {
  const PolicyRequest& r = p.request;
  const LossConfig& config = r.config;
  Plan plan;
  plan.unitTokens = unitTokens(r);
  plan.unitsPerSequence = unitsPerSequence(r);
  plan.units = r.sequences * plan.unitsPerSequence;
  plan.needsSequence = !isTokenLocal(config);
  plan.surrogateSequence = surrogateNeedsSequence(config);
  const bool countsTokens = config.aggregation == Aggregation::tokenMean && r.normalizer != r.normalizer;
  const bool countsSequences = config.aggregation != Aggregation::tokenMean && config.dropEmptySequences &&
                               r.globalSequences != r.globalSequences;
  const bool known = p.hasStates && !plan.needsSequence;
  plan.needsBatch = r.mask && !known && (countsTokens || countsSequences || p.purpose == PolicyPurpose::sequences);
  const bool split = plan.unitsPerSequence > 1;
  const bool splitSequences = split && !known && needsSequenceSums(r);
  plan.countsMask =
      plan.needsBatch && !countsSequences && !splitSequences && r.sequences * r.length < int64_t(1) << kTotalBits;
  plan.meetBefore = (plan.needsBatch && !plan.countsMask) || splitSequences;
  plan.flows = (config.ratio == Ratio::sequence || plan.surrogateSequence) &&
               (r.gradLogProbs || p.purpose == PolicyPurpose::sequences);
  plan.sharesKl = klSharesRatio(config) && r.gradLogProbs;
  plan.meetAfter = plan.flows && split;
  plan.tokenLocal = !plan.needsSequence && !plan.meetBefore;
  return plan;
}

// Whether a token's factor depends on its sequence's mask.
__host__ __device__ bool needsSequenceTokens(const PolicyRequest& r) {
  return r.mask && r.config.aggregation == Aggregation::sequenceMean;
}

// A unit: tokens [begin, end) of sequence b.
struct Unit {
  int64_t b, part, begin, end;
};

__device__ Unit unitAt(const Plan& plan, const PolicyRequest& r, int64_t unit) {
  const int64_t b = unit / plan.unitsPerSequence, part = unit % plan.unitsPerSequence;
  const int64_t begin = part * plan.unitTokens;
  const int64_t end = begin + plan.unitTokens;
  return {b, part, begin, end < r.length ? end : r.length};
}

__device__ bool isIn(const PolicyRequest& r, int64_t at) { return !r.mask || r.mask[at] != 0; }

__device__ float logProbAt(const PolicyLaunch& p, int64_t at) { return p.logProbs ? p.logProbs[at] : 0; }

// fn(index into the arrays) for this thread's tokens of a unit.
template <class Team, class F>
__device__ void forEachToken(const PolicyRequest& r, const Unit& unit, const F& fn) {
  for (int64_t t = unit.begin + Team::rank(); t < unit.end; t += Team::kSize) fn(unit.b * r.length + t);
}

template <class Team>
__device__ Quantities quantitiesOf(const PolicyLaunch& p, const Plan& plan, const Unit& unit, float advantage) {
  const PolicyRequest& r = p.request;
  SequenceState state;
  state.advantage = advantage;
  Quantities q;
  forEachToken<Team>(r, unit, [&](int64_t at) {
    if (!isIn(r, at)) return;
    q[quantity::tokens] += 1;
    if (!plan.needsSequence) return;
    const float logProb = logProbAt(p, at);
    const TokenInput t = readToken(r, at, state);
    q[quantity::logRatio] += double(logRatioOf(r, t, logProb).raw);
    if (plan.surrogateSequence) q[quantity::contribution] += double(contributionOf(r, t, logProb));
  });
  reduceFields<Team>(q);
  return q;
}

// The sums of a sequence, from those of its units.
template <class Team, class Sums>
__device__ Sums gatherUnits(const Sums* units, const Plan& plan, int64_t b) {
  Sums sums;
  for (int64_t part = Team::rank(); part < plan.unitsPerSequence; part += Team::kSize) {
    const Sums& unit = units[b * plan.unitsPerSequence + part];
    for (int i = 0; i < Sums::kCount; ++i) sums.value[i] += __ldcg(&unit.value[i]);
  }
  reduceFields<Team>(sums);
  return sums;
}

// How many bytes of mask[0 .. count) are not 0, of those that thread `rank` of `size` reads: 16 at a time if alignment
// allows, kUnrolled times before it waits.
template <int kUnrolled>
__device__ unsigned countMaskedIn(const uint8_t* mask, int64_t count, int64_t rank, int64_t size) {
  const int64_t toAligned = int64_t(-reinterpret_cast<uintptr_t>(mask) & 15);
  const int64_t head = toAligned < count ? toAligned : count, vectors = (count - head) / 16;
  const auto* middle = reinterpret_cast<const uint4*>(mask + head);
  unsigned counted = 0;
#pragma unroll kUnrolled
  for (int64_t i = rank; i < vectors; i += size) {
    const uint4 v = middle[i];
    // In each byte, how many of four are not 0: the sum sets a byte's top bit where one below it is set.
    unsigned ones = 0;
    for (const unsigned word : {v.x, v.y, v.z, v.w}) {
      ones += ((((word & 0x7f7f7f7fu) + 0x7f7f7f7fu) | word) & 0x80808080u) >> 7;
    }
    counted += ones * 0x01010101u >> 24;  // the four bytes added up
  }
  // Fewer than 16 before the vectors and as many after them.
  const int64_t tail = head + 16 * vectors;
#pragma unroll 1
  for (int64_t i = rank; i < head + count - tail; i += size) counted += mask[i < head ? i : tail + i - head] != 0;
  return counted;
}

// Adds the masked-in tokens of the block's share of the batch to the grid's total.
__device__ void countMask(const PolicyRequest& r, GridCounters& grid) {
  struct Parts {
    unsigned value[Block::kWarps];
  };
  Parts& parts = blockShared<Parts, Parts>();
  const unsigned own = sum<WarpTeam>(countMaskedIn<1>(
      r.mask, r.sequences * r.length, int64_t(blockIdx.x) * kThreads + threadIdx.x, int64_t(gridDim.x) * kThreads));
  if (WarpTeam::rank() == 0) parts.value[WarpTeam::index()] = own;
  __syncthreads();
  if (threadIdx.x != kCountingThread) return;
  unsigned long long total = 0;
  for (const unsigned part : parts.value) total += part;
  addToTotal(grid, total);
}

struct Counts {
  double tokens, nonEmpty;
};

__device__ Counts countBatch(const PolicyLaunch& p, const Plan& plan) {
  Fields<2, 0> counts;
  for (int64_t b = threadIdx.x; b < p.request.sequences; b += kThreads) {
    double tokens = 0;
    for (int64_t part = 0; part < plan.unitsPerSequence; ++part) {
      tokens += __ldcg(&p.scratch.quantities[b * plan.unitsPerSequence + part].value[quantity::tokens]);
    }
    counts[0] += tokens;
    counts[1] += tokens > 0;
  }
  reduceFields<Block>(counts);
  return {counts[0], counts[1]};
}

__device__ SequenceState stateOf(const PolicyRequest& r, const Plan& plan, const Denominators& d, const Quantities& q,
                                 float advantage) {
  const LossConfig& config = r.config;
  SequenceState state;
  state.advantage = advantage;
  state.tokens = int32_t(q[quantity::tokens]);
  state.factor = float(aggregationFactor(config, d, state.tokens));
  if (!plan.needsSequence || state.tokens == 0) return state;
  const double mean = q[quantity::logRatio] / q[quantity::tokens];
  state.offPolicy = -mean > config.offPolicyThreshold;
  state.sequence = sequenceQuantity(config, q[quantity::contribution], q[quantity::tokens]);
  if (config.ratio != Ratio::token) {
    const float bound = float(config.logRatioClamp);
    const float raw = float(mean), clamped = clamp(raw, -bound, bound);
    state.ratioFlat = clamped < raw || clamped > raw;
    state.logRatio = clamped;
    state.ratio = expOf(clamped);
  }
  return state;
}

// dLogRatio, dSequence: the gradients with respect to the sequence's log-ratio and the surrogate's mean contribution,
// summed over its tokens.
__device__ void setFlow(const PolicyRequest& r, SequenceState& state, double dLogRatio, double dSequence) {
  if (state.tokens == 0) return;
  const double share = double(state.factor) * r.lossScale / double(state.tokens);
  state.fromRatio = float(share * dLogRatio);
  state.fromSequence = float(share * dSequence);
}

// What is read of a token. Also if it is masked out, so that nothing waits for the mask; but it is not used then.
struct Token {
  bool isIn = false;
  float logProb = 0, entropy = 0, gradient = 0;
  TokenInput input{};  // its advantage only if advantages are per token
};

__device__ Token readToken(const PolicyLaunch& p, int64_t at) {
  Token token;
  token.isIn = isIn(p.request, at);
  token.logProb = logProbAt(p, at);
  token.input = readToken(p.request, at, SequenceState());
  if (p.entropies) token.entropy = p.entropies[at];
  if (p.gradient) token.gradient = p.gradient[at];
  return token;
}

// kTokenLocal: it is known that isTokenLocal().
template <bool kTokenLocal>
__device__ void addToken(const PolicyLaunch& p, const Plan& plan, const SequenceState& state, int64_t at,
                         const Token& token, UnitSums& s) {
  const PolicyRequest& r = p.request;
  if (!token.isIn) {
    if (r.gradLogProbs) r.gradLogProbs[at] = 0;
    if (r.gradEntropies) r.gradEntropies[at] = 0;
    return;
  }
  const float logProb = token.logProb, entropy = token.entropy;
  TokenInput t = token.input;
  if (!r.advantagesPerToken) t.advantage = state.advantage;
  const bool kept = !p.quantile || entropy >= p.scratch.batch->entropyThreshold;
  const TokenTerms terms = termsOf<kTokenLocal>(r, state, t, logProb, kept);
  const float gradient = state.factor * float(r.lossScale) * terms.gradient;
  if (r.gradLogProbs) r.gradLogProbs[at] = gradient;

  NonFinite nonFinite;
  nonFinite.inputs = nonFiniteOf(r, t, logProb);
  // A row without a distribution has neither log-prob nor entropy: it counts once.
  if (p.entropies) nonFinite.inputs += !isFinite(entropy) && isFinite(logProb);
  nonFinite.terms = !areFinite(terms);
  // If addFlow() adds more, it does the counting.
  if (p.gradient) nonFinite.gradients = !isFinite(token.gradient);
  if (r.gradLogProbs && (kTokenLocal || !plan.flows)) nonFinite.gradients = !isFinite(gradient);
  if (r.gradEntropies) {
    const float slope = kept ? float(r.lossScale) * p.scratch.batch->entropyGradient : 0;
    r.gradEntropies[at] = slope;
    nonFinite.gradients += !isFinite(slope);
  }

  s[sums::tokens] += 1;
  s[sums::loss] += double(state.factor) * double(terms.loss);
  s[sums::kl] += double(terms.kl);
  s[sums::nonFinite] += nonFinite.packed();
  s[sums::clippedLow] += terms.clippedLow;
  s[sums::clippedHigh] += terms.clippedHigh;
  if constexpr (!kTokenLocal) {
    s[sums::dLogRatio] += double(terms.dLogRatio);
    s[sums::dSequence] += double(terms.dSequence);
    // One value per sequence with per-sequence advantages, else one per token.
    s[sums::phi] += double(terms.phi) / (r.advantagesPerToken ? 1 : state.tokens);
  }
  if (!p.skipInactive || t.advantage != 0) {
    s[sums::reads] += 1;
    s[sums::logRatio] += double(logRatioOf(r, t, logProb).raw);
    s[sums::ratio] += double(terms.ratio);
    s.add(sums::minusRatioMin, -double(terms.ratio));
    s.add(sums::ratioMax, double(terms.ratio));
  }
  if (p.entropies) {
    s[sums::entropy] += double(entropy);
    if (kept) s[sums::keptEntropy] += double(entropy);
  }
}

// The KL term's part of the gradient if it flows through the sequence's ratio (core/kl.hpp).
struct KlFlow {
  bool flows = false;
  KlMeans means;  // the shift is the first masked-in token's exponential
};

template <class Team>
__device__ KlFlow klFlowOf(const PolicyLaunch& p, const Plan& plan, const SequenceState& state, int64_t b) {
  const PolicyRequest& r = p.request;
  KlFlow flow;
  flow.flows = plan.sharesKl && state.tokens > 0 && spreadsKl(r.config, state);
  if (!flow.flows) return flow;
  long long first = r.length;
  for (long long t = Team::rank(); t < first; t += Team::kSize) {
    if (isIn(r, b * r.length + t)) first = t;
  }
  const int64_t at = b * r.length + Team::reduce(first, Smaller());
  flow.means.shift = klPartsOf(r.config, state, readToken(r, at, state), logProbAt(p, at)).exponential;
  return flow;
}

template <class Team>
__device__ UnitKl unitKlOf(const PolicyLaunch& p, const SequenceState& state, double shift, const Unit& unit) {
  const PolicyRequest& r = p.request;
  UnitKl sums;
  forEachToken<Team>(r, unit, [&](int64_t at) {
    if (!isIn(r, at)) return;
    const KlParts parts = klPartsOf(r.config, state, readToken(r, at, state), logProbAt(p, at));
    sums[kl::exponential] += parts.exponential - shift;
    sums[kl::rest] += parts.rest;
  });
  reduceFields<Team>(sums);
  return sums;
}

__device__ void setMeans(KlFlow& flow, const UnitKl& sums, double tokens) {
  flow.means.exponential = sums[kl::exponential] / tokens;
  flow.means.rest = sums[kl::rest] / tokens;
}

// Adds the part through the sequence's quantities to the gradient of unit `u`, and counts non-finite values.
template <class Team>
__device__ void addFlow(const PolicyLaunch& p, const SequenceState& state, const KlFlow& flow, int64_t u,
                        const Unit& unit) {
  const PolicyRequest& r = p.request;
  NonFinite nonFinite;
  const double beta = double(state.factor) * r.lossScale * r.config.klBeta;
  forEachToken<Team>(r, unit, [&](int64_t at) {
    if (!isIn(r, at)) return;
    const TokenInput t = readToken(r, at, state);
    const float logProb = logProbAt(p, at);
    r.gradLogProbs[at] += sequenceFlow(r, state, t, logProb);
    if (flow.flows) {
      const KlParts parts = klPartsOf(r.config, state, t, logProb);
      r.gradLogProbs[at] += float(beta * flow.means.total(parts.own));
    }
    nonFinite.gradients += !isFinite(r.gradLogProbs[at]);
  });
  const double bad = sum<Team>(nonFinite.packed());
  if (bad > 0 && Team::rank() == 0) p.scratch.sums[u].value[sums::nonFinite] += bad;
}

// From the partial sums of all units. By one block.
template <bool kTokenLocal>
__device__ void finishLoss(const PolicyLaunch& p, const Plan& plan) {
  const PolicyRequest& r = p.request;
  const auto offending = static_cast<long long>(__ldcg(&p.scratch.header->offending));
  const double overflows = __ldcg(&p.scratch.header->overflows);

  // A sequence-level ratio counts a sequence once.
  const bool sequenceRatio = !kTokenLocal && r.config.ratio != Ratio::token;
  const bool whole = !kTokenLocal && clipsSequences(r, plan.surrogateSequence);
  PolicyTotals own;
  for (int64_t b = threadIdx.x; b < r.sequences; b += kThreads) {
    double tokens = 0, low = 0, high = 0;
    NonFinite nonFinite;
    for (int64_t part = 0; part < plan.unitsPerSequence; ++part) {
      const UnitSums& unit = p.scratch.sums[b * plan.unitsPerSequence + part];
      tokens += __ldcg(&unit.value[sums::tokens]);
      low += __ldcg(&unit.value[sums::clippedLow]);
      high += __ldcg(&unit.value[sums::clippedHigh]);
      nonFinite.add(__ldcg(&unit.value[sums::nonFinite]));
    }
    if (tokens == 0) {
      own.phi += r.advantagesPerToken ? 0 : 1;
      continue;
    }
    if (!r.advantagesPerToken) {
      const float advantage = __ldcg(&p.scratch.sequences[b].advantage);
      nonFinite.inputs += !isFinite(advantage);
      if (sequenceRatio && !(p.skipInactive && advantage == 0)) {
        own.ratio += double(__ldcg(&p.scratch.sequences[b].ratio));
        own.ratios += 1;
      }
    } else if (sequenceRatio) {
      own.ratio += double(__ldcg(&p.scratch.sequences[b].ratio));
      own.ratios += 1;
    }
    own.nonFinite += double(nonFinite.count());
    own.addClipped(low, high, tokens, whole);
  }
  Fields<6, 2> perSequence;
  perSequence[0] = own.phi;
  perSequence[1] = own.nonFinite;
  perSequence[2] = own.ratio;
  perSequence[3] = own.ratios;
  perSequence[4] = own.clippedLow;
  perSequence[5] = own.clippedHigh;
  perSequence[6] = -own.lowFractionMin;
  perSequence[7] = own.highFractionMax;
  UnitSums all;
  addUp<Block>(p.scratch.sums, plan.units, all, perSequence);
  if (threadIdx.x != 0) return;

  PolicyTotals t;
  t.loss = all[sums::loss];
  t.kl = all[sums::kl];
  t.logRatio = all[sums::logRatio];
  t.tokens = all[sums::tokens];
  t.reads = all[sums::reads];
  t.ratio = sequenceRatio ? perSequence[2] : all[sums::ratio];
  t.ratios = sequenceRatio ? perSequence[3] : t.reads;
  t.addRatioRange(-all[sums::minusRatioMin], all[sums::ratioMax]);
  t.phi = all[sums::phi] + perSequence[0];
  t.nonFinite = perSequence[1] + double(offending);
  t.clippedLow = perSequence[4];
  t.clippedHigh = perSequence[5];
  t.lowFractionMin = -perSequence[6];
  t.highFractionMax = perSequence[7];
  p.scratch.header->offending = 0;

  LossMetrics m = lossMetrics(r, t, plan.surrogateSequence);
  if (p.entropies) {
    m.entropy = all[sums::entropy] / (t.tokens > 1 ? t.tokens : 1);
    const double coefficient = r.config.entropyCoefficient;
    if (coefficient != 0) m.loss -= coefficient * all[sums::keptEntropy] / p.scratch.batch->entropyTokens;
  }
  countLoss(m);
  m.nonFinite += overflows;
  p.scratch.header->overflows = 0;
  *p.metrics = m;
}

// The advantage of a sequence, by one warp; with `write`, its group's first sequence also writes the group's requested
// results.
__device__ float advantageFrom(const DeviceRewards& r, const BatchStatistics& batch, int64_t b, bool write) {
  const int64_t g = groupOf(r, b);
  const Group group = groupAt(r, g);
  const GroupStatistics s = statisticsOf<WarpTeam>(r, group.begin, group.end, r.request.ddof);
  return groupAdvantages(r, g, s, batch, b, write && b == group.begin);
}

// The end of a launch for a loss: `finish` by its last block, and the metrics of the advantages by another.
template <class Finish>
__device__ void finishLaunch(const PolicyLaunch& p, const BatchStatistics& rewards, const Finish& finish) {
  GridCounters& grid = p.scratch.header->grid;
  const bool last = isLastBlock(grid);
  if (last) finish();
  // The block with the highest index is seldom the last to finish: others have groups to write.
  const bool writesAdvantages = p.hasRewards && blockIdx.x == gridDim.x - 1;
  if (writesAdvantages) {
    const GroupStatistics all = rewardStatistics<Block>(p.rewards);
    awaitLastBlock(grid);
    writeAdvantageMetrics<Block>(p.rewards, all, rewards, p.advantageMetrics);
  }
  if (p.hasRewards ? writesAdvantages : last) clearCounters(grid);
}

template <class Team>
__global__ void __launch_bounds__(kThreads, kBlocksAtOnce)
    policyKernel(const __grid_constant__ PolicyLaunch p, const __grid_constant__ Plan plan) {
  const PolicyRequest& r = p.request;
  constexpr int kTeams = kThreads / Team::kSize;
  const int64_t firstUnit = int64_t(blockIdx.x) * kTeams + Team::index();
  const int64_t step = int64_t(gridDim.x) * kTeams;
  GridCounters& grid = p.scratch.header->grid;

  if (plan.countsMask) countMask(r, grid);
  BatchStatistics rewards;
  if (p.hasRewards) rewards = batchStatistics<Block>(p.rewards);
  const auto advantageOf = [&](int64_t b, bool write) -> float {
    if (r.advantagesPerToken) return 0;
    if (!p.hasRewards) return r.advantages[b];
    return Team::broadcast(Team::rank() < kWarp ? advantageFrom(p.rewards, rewards, b, write) : 0);
  };

  Denominators d{1, 1};
  double batchTokens = double(r.sequences) * double(r.length);
  if (plan.meetBefore) {
    for (int64_t u = firstUnit; u < plan.units; u += step) {
      const Unit unit = unitAt(plan, r, u);
      const float advantage = plan.surrogateSequence ? advantageOf(unit.b, false) : 0;
      const Quantities q = quantitiesOf<Team>(p, plan, unit, advantage);
      if (Team::rank() == 0) p.scratch.quantities[u] = q;
    }
    gridBarrier(grid);
  }
  if (plan.needsBatch && !plan.countsMask) {
    const Counts counts = countBatch(p, plan);
    batchTokens = counts.tokens;
    d = denominators(r, int64_t(counts.tokens), int64_t(counts.nonEmpty));
  } else if (plan.countsMask) {
    const auto tokens = int64_t(Block::broadcast(threadIdx.x == 0 ? awaitTotal(grid) : 0));
    batchTokens = double(tokens);
    d = denominators(r, tokens, r.sequences);
  } else {
    d = denominators(r, r.sequences * r.length, r.sequences);
  }

  for (int64_t u = firstUnit; u < plan.units; u += step) {
    const Unit unit = unitAt(plan, r, u);
    const float advantage = advantageOf(unit.b, unit.part == 0);
    Quantities q;
    if (plan.meetBefore) {
      q = gatherUnits<Team>(p.scratch.quantities, plan, unit.b);
    } else if (plan.unitsPerSequence == 1 && (r.mask || plan.needsSequence)) {
      q = quantitiesOf<Team>(p, plan, unit, advantage);
    } else {
      q[quantity::tokens] = double(r.length);
    }
    SequenceState state = stateOf(r, plan, d, q, advantage);

    UnitSums s;
    if (p.purpose == PolicyPurpose::loss || plan.flows) {
      forEachToken<Team>(r, unit, [&](int64_t at) { addToken<false>(p, plan, state, at, readToken(p, at), s); });
      reduceFields<Team>(s);
      if (Team::rank() == 0) p.scratch.sums[u] = s;
    }
    KlFlow klFlow = klFlowOf<Team>(p, plan, state, unit.b);
    if (klFlow.flows) {
      const UnitKl own = unitKlOf<Team>(p, state, klFlow.means.shift, unit);
      if (plan.meetAfter && Team::rank() == 0) p.scratch.kl[u] = own;
      setMeans(klFlow, own, state.tokens);
    }
    if (plan.flows && !plan.meetAfter) {
      setFlow(r, state, s[sums::dLogRatio], s[sums::dSequence]);
      if (r.gradLogProbs && state.tokens > 0) addFlow<Team>(p, state, klFlow, u, unit);
    }
    if (unit.part == 0 && Team::rank() == 0) p.scratch.sequences[unit.b] = state;
  }

  if (plan.meetAfter) {
    gridBarrier(grid);
    for (int64_t u = firstUnit; u < plan.units; u += step) {
      const Unit unit = unitAt(plan, r, u);
      Fields<2, 0> gradients;
      for (int64_t part = Team::rank(); part < plan.unitsPerSequence; part += Team::kSize) {
        const UnitSums& other = p.scratch.sums[unit.b * plan.unitsPerSequence + part];
        gradients[0] += __ldcg(&other.value[sums::dLogRatio]);
        gradients[1] += __ldcg(&other.value[sums::dSequence]);
      }
      reduceFields<Team>(gradients);
      const float advantage = advantageOf(unit.b, false);
      SequenceState state = stateOf(r, plan, d, gatherUnits<Team>(p.scratch.quantities, plan, unit.b), advantage);
      setFlow(r, state, gradients[0], gradients[1]);
      KlFlow klFlow = klFlowOf<Team>(p, plan, state, unit.b);
      if (klFlow.flows) setMeans(klFlow, gatherUnits<Team>(p.scratch.kl, plan, unit.b), state.tokens);
      if (r.gradLogProbs && state.tokens > 0) addFlow<Team>(p, state, klFlow, u, unit);
      if (unit.part == 0 && Team::rank() == 0) p.scratch.sequences[unit.b] = state;
    }
  }

  if (p.purpose == PolicyPurpose::sequences && blockIdx.x == 0 && threadIdx.x == 0) {
    *p.scratch.batch = Batch::of(r.config, batchTokens, float(r.config.entropyThreshold));
  }
  finishLaunch(p, rewards, [&] {
    if (p.purpose == PolicyPurpose::loss) finishLoss<false>(p, plan);
  });
}

// A loss with plan.tokenLocal.
template <class Team>
__global__ void __launch_bounds__(kThreads, kBlocksAtOnce)
    tokenLocalKernel(const __grid_constant__ PolicyLaunch p, const __grid_constant__ Plan plan) {
  struct Level {
    float advantage;
    unsigned long long tokens;
  };
  Level& level = blockShared<Level, Level>();
  awaitEarlierKernels();
  const PolicyRequest& r = p.request;
  constexpr int kTeams = kThreads / Team::kSize;
  GridCounters& grid = p.scratch.header->grid;
  BatchStatistics rewards;
  if (p.hasRewards) rewards = batchStatistics<Block>(p.rewards);
  Denominators d = denominators(r, r.sequences * r.length, r.sequences);

  const int64_t step = int64_t(gridDim.x) * kTeams, blockFirst = int64_t(blockIdx.x) * kTeams;
  for (int64_t first = blockFirst; first < plan.units; first += step) {
    const int64_t u = first + Team::index();
    const bool exists = u < plan.units;
    const Unit unit = exists ? unitAt(plan, r, u) : Unit{};
    const int64_t row = unit.b * r.length;
    int64_t t = unit.begin + Team::rank();
    Token token;
    if (t < unit.end) token = readToken(p, row + t);
    const bool counts = plan.countsMask && first == blockFirst;
    if (counts) countMask(r, grid);

    SequenceState state;
    if (p.hasRewards && exists && Team::rank() < kWarp) {
      state.advantage = advantageFrom(p.rewards, rewards, unit.b, unit.part == 0);
    }
    if (counts && threadIdx.x == kCountingThread) level.tokens = awaitTotal(grid);
    if (Team::kIsBlock && threadIdx.x == 0) level.advantage = state.advantage;
    __syncthreads();
    if (counts) d = denominators(r, int64_t(level.tokens), r.sequences);
    if (p.hasRewards) {
      if constexpr (Team::kIsBlock) state.advantage = level.advantage;
    } else if (!r.advantagesPerToken && exists) {
      state.advantage = r.advantages[unit.b];
    }
    if (p.hasStates) {
      if (exists) state.factor = p.scratch.sequences[unit.b].factor;
    } else {
      int64_t tokens = r.length;
      if (needsSequenceTokens(r)) {
        unsigned own = 0;
        forEachToken<Team>(r, unit, [&](int64_t at) { own += isIn(r, at); });
        tokens = sum<Team>(own);
      }
      state.factor = float(aggregationFactor(r.config, d, tokens));
      if (exists && unit.part == 0 && Team::rank() == 0) p.scratch.sequences[unit.b].advantage = state.advantage;
    }

    UnitSums s;
    while (t < unit.end) {
      addToken<true>(p, plan, state, row + t, token, s);
      t += Team::kSize;
      if (t < unit.end) token = readToken(p, row + t);
    }
    if (exists) reduceInto<Team>(p.scratch.sums[u], s);
  }
  finishLaunch(p, rewards, [&] { finishLoss<true>(p, plan); });
}

// The states of the sequences of a token-local loss, by one block, a warp per sequence.
__global__ void __launch_bounds__(kSequencesThreads) tokenLocalSequences(const __grid_constant__ PolicyLaunch p) {
  using Block = BlockTeam<kSequencesThreads>;
  const PolicyRequest& r = p.request;
  double tokens = double(r.sequences) * double(r.length), nonEmpty = double(r.sequences);
  if (r.mask) {
    Fields<2, 0> counts;
    for (int64_t b = WarpTeam::index(); b < r.sequences; b += Block::kWarps) {
      const unsigned own = countMaskedIn<4>(r.mask + b * r.length, r.length, WarpTeam::rank(), kWarp);
      const unsigned ofSequence = sum<WarpTeam>(own);
      counts[0] += own;
      if (WarpTeam::rank() == 0) {
        counts[1] += ofSequence > 0;
        p.scratch.sequences[b].tokens = int32_t(ofSequence);
      }
    }
    reduceFields<Block>(counts);
    tokens = counts[0];
    nonEmpty = counts[1];
  }
  const Denominators d = denominators(r, int64_t(tokens), int64_t(nonEmpty));
  for (int64_t b = threadIdx.x; b < r.sequences; b += kSequencesThreads) {
    SequenceState state;
    state.tokens = r.mask ? p.scratch.sequences[b].tokens : int32_t(r.length);
    state.factor = float(aggregationFactor(r.config, d, state.tokens));
    if (!r.advantagesPerToken) state.advantage = r.advantages[b];
    p.scratch.sequences[b] = state;
  }
  if (threadIdx.x == 0) *p.scratch.batch = Batch::of(r.config, tokens, float(r.config.entropyThreshold));
}

__global__ void __launch_bounds__(kThreads)
    advantagesKernel(const __grid_constant__ DeviceRewards rewards, Header* header, AdvantageMetrics* metrics) {
  const BatchStatistics batch = batchStatistics<Block>(rewards);
  const int64_t step = int64_t(gridDim.x) * (kThreads / kWarp);
  for (int64_t g = int64_t(blockIdx.x) * (kThreads / kWarp) + WarpTeam::index(); g < rewards.request.groups;
       g += step) {
    const auto [begin, end] = groupAt(rewards, g);
    const GroupStatistics group = statisticsOf<WarpTeam>(rewards, begin, end, rewards.request.ddof);
    groupAdvantages(rewards, g, group, batch, begin, true);
  }
  if (!isLastBlock(header->grid)) return;
  writeAdvantageMetrics<Block>(rewards, rewardStatistics<Block>(rewards), batch, metrics);
  clearCounters(header->grid);
}

template <class Team>
cudaError_t launchAs(const DeviceTraits& traits, cudaStream_t stream, const PolicyLaunch& p, const Plan& plan) {
  const auto kernel = plan.tokenLocal ? tokenLocalKernel<Team> : policyKernel<Team>;
  constexpr int64_t kTeams = kThreads / Team::kSize;
  int64_t blocks = (plan.units + kTeams - 1) / kTeams;
  // Either every block waits for all others, or only the one that writes the advantages' metrics does.
  const bool cooperative = plan.countsMask || plan.meetBefore || plan.meetAfter || p.hasRewards;
  if (cooperative) {
    int resident = 0;
    const cudaError_t error = blocksAtOnce(kernel, traits.device, kThreads, resident);
    if (error != cudaSuccess) return error;
    blocks = std::min<int64_t>(blocks, int64_t(resident) * traits.multiprocessors);
  }
  const bool overlaps = p.hasStates && plan.tokenLocal && !cooperative && traits.overlaps;
  return launch(kernel, {.blocks = blocks, .threads = kThreads, .cooperative = cooperative, .overlaps = overlaps},
                stream, p, plan);
}

}  // namespace

int64_t unitTokens(const PolicyRequest& r) {
  const int64_t unit = needsSequenceSums(r) ? kLargeUnit : kSmallUnit;
  return r.length < unit ? r.length : unit;
}

bool needsSequenceSums(const PolicyRequest& r) {
  const LossConfig& config = r.config;
  return !isTokenLocal(config) || needsSequenceTokens(r);
}

cudaError_t launchPolicy(const DeviceTraits& traits, cudaStream_t stream, const PolicyLaunch& p) {
  if (p.purpose == PolicyPurpose::sequences && isTokenLocal(p.request.config)) {
    return launch(tokenLocalSequences, {.threads = kSequencesThreads}, stream, p);
  }
  const Plan plan = planOf(p);
  return p.request.length <= kWarpTokens ? launchAs<WarpTeam>(traits, stream, p, plan)
                                         : launchAs<Block>(traits, stream, p, plan);
}

std::size_t advantagesWorkspace() {
  Cutter cutter(nullptr);
  cutter.take<Header>(1);
  return cutter.used();
}

cudaError_t advantages(const Stream& s, const DeviceRewards& rewards, AdvantageMetrics* metrics) {
  Cutter cutter(s.workspace);
  const int64_t groupsPerBlock = kThreads / kWarp;
  const int64_t blocks = std::min<int64_t>((rewards.request.groups + groupsPerBlock - 1) / groupsPerBlock, 1024);
  return launch(advantagesKernel, {.blocks = blocks, .threads = kThreads}, s.stream, rewards, cutter.take<Header>(1),
                metrics);
}

std::size_t policyWorkspace(const PolicyRequest& r) {
  Cutter cutter(nullptr);
  PolicyScratch scratch(cutter, r);
  return cutter.used();
}

cudaError_t policyLoss(const DeviceTraits& traits, const Stream& s, const PolicyRequest& request,
                       const DeviceRewards* rewards, LossMetrics* metrics, AdvantageMetrics* advantageMetrics) {
  Cutter cutter(s.workspace);
  PolicyLaunch p{request, PolicyScratch(cutter, request)};
  p.logProbs = request.logProbs;
  p.entropies = request.entropies;
  p.quantile = request.entropies && request.config.topQuantile < 1;
  p.hasRewards = rewards != nullptr;
  if (rewards) p.rewards = *rewards;
  p.metrics = metrics;
  p.advantageMetrics = advantageMetrics;
  if (p.quantile || request.gradEntropies || (request.entropies && request.config.entropyCoefficient != 0)) {
    const cudaError_t error = settleEntropies(s.stream, request, request.entropies, p.scratch.batch);
    if (error != cudaSuccess) return error;
  }
  return launchPolicy(traits, s.stream, p);
}

}  // namespace groupgrad::cuda
