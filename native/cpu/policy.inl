// The policy loss over token log-probs, a sequence at a time in chunks that stay in the first-level cache: each step is
// a plain loop over arrays of a chunk, which the compiler vectorises; the formulas are native/core's.

#include "simd.inl"

constexpr int kChunk = 512;

// One value per token, padded to a whole number of vectors; the tail counts as masked out.
struct Chunk {
  int size;                               // tokens
  int padded;                             // up to a multiple of 16
  alignas(64) int32_t in[kChunk];         // all bits: masked in; 0: masked out
  alignas(64) float logProb[kChunk];      // 0 where masked out
  alignas(64) float rawLogRatio[kChunk];  // likewise
  alignas(64) float logRatio[kChunk];     // likewise; clamped
  alignas(64) float advantages[kChunk];   // space for `advantage`
  alignas(64) float weights[kChunk];      // space for `weight`
  alignas(64) float spare[2][kChunk];     // space for tails
  const float* advantage;                 // anything where masked out
  const float* weight;                    // likewise
};

static int64_t countTokens(const uint8_t* mask, int64_t n) {
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) count += mask[i] != 0;
  return count;
}

// The chunk's part of an array: in place if it consists of whole vectors, else copied so that the tail can be read.
GROUPGRAD_INLINE const float* wholeVectors(const float* values, float* space, const Chunk& chunk) {
  if (chunk.size == chunk.padded) return values;
  std::memcpy(space, values, std::size_t(chunk.size) * sizeof(float));
  for (int i = chunk.size; i < chunk.padded; ++i) space[i] = 0;
  return space;
}

// The value, or 0 where it is masked out: on its bits, because masked-out values may be NaN, and without a branch.
GROUPGRAD_INLINE float masked(float value, int32_t in) {
  return __builtin_bit_cast(float, __builtin_bit_cast(int32_t, value) & in);
}

GROUPGRAD_INLINE int32_t notFinite(float value) { return isFinite(value) ? 0 : 1; }

GROUPGRAD_INLINE int64_t countNonFinite(const float* values, const Chunk& chunk) {
  int32_t count = 0;
  for (int i = 0; i < chunk.padded; ++i) count += notFinite(masked(values[i], chunk.in[i]));
  return count;
}

// A chunk's sum, in float32 lanes of at most kChunk / kWidth values each; chunks are added up in float64.
struct Sum {
  Floats lanes{};
  GROUPGRAD_INLINE void add(Floats x) { lanes += x; }
  GROUPGRAD_INLINE double total() const { return sumLanes(lanes); }
  GROUPGRAD_INLINE void addTo(Lanes& out, double factor = 1) const {
    for (int i = 0; i < kWidth; ++i) out.value[i] += factor * double(lanes[i]);
  }
};

GROUPGRAD_INLINE double sum(const float* values, const Chunk& chunk) {
  Sum sum;
  for (int i = 0; i < chunk.padded; i += kWidth) sum.add(load<Floats>(values + i));
  return sum.total();
}

GROUPGRAD_INLINE void fill(float* values, float value, const Chunk& chunk) {
  for (int i = 0; i < chunk.padded; ++i) values[i] = value;
}

// Loads tokens [begin, end) of a sequence. Returns the number of non-finite inputs.
static int64_t loadChunk(const PolicyContext& context, int64_t sequence, int64_t begin, int64_t end, Chunk& chunk) {
  const PolicyRequest& r = *context.request;
  const int64_t at = sequence * r.length + begin;
  chunk.size = int(end - begin);
  chunk.padded = (chunk.size + 15) / 16 * 16;

  if (r.mask) {
    for (int i = 0; i < chunk.size; ++i) chunk.in[i] = r.mask[at + i] != 0 ? -1 : 0;
  } else {
    for (int i = 0; i < chunk.size; ++i) chunk.in[i] = -1;
  }
  for (int i = chunk.size; i < chunk.padded; ++i) chunk.in[i] = 0;

  int32_t bad = 0;
  const float* logProbs = wholeVectors(context.logProbs + at, chunk.spare[0], chunk);
  if (r.oldLogProbs) {
    const float* old = wholeVectors(r.oldLogProbs + at, chunk.spare[1], chunk);
    const float bound = float(r.config.logRatioClamp);
    for (int i = 0; i < chunk.padded; ++i) {
      const float l = masked(logProbs[i], chunk.in[i]), o = masked(old[i], chunk.in[i]);
      bad += notFinite(l) + notFinite(o);
      chunk.logProb[i] = l;
      chunk.rawLogRatio[i] = l - o;
      chunk.logRatio[i] = clamp(l - o, -bound, bound);
    }
  } else {
    // The old log-probs are the log-probs themselves: a log-ratio of 0, or NaN where a log-prob is not finite.
    for (int i = 0; i < chunk.padded; ++i) {
      const float l = masked(logProbs[i], chunk.in[i]);
      bad += notFinite(l);
      chunk.logProb[i] = l;
      chunk.rawLogRatio[i] = chunk.logRatio[i] = l - l;
    }
  }
  int64_t nonFinite = bad;

  chunk.advantage = chunk.advantages;
  if (r.advantagesPerToken) {
    chunk.advantage = wholeVectors(context.advantages + at, chunk.advantages, chunk);
    nonFinite += countNonFinite(chunk.advantage, chunk);
  } else {
    fill(chunk.advantages, context.advantages[sequence], chunk);
  }
  chunk.weight = chunk.weights;
  if (r.tokenWeights) {
    chunk.weight = wholeVectors(r.tokenWeights + at, chunk.weights, chunk);
    nonFinite += countNonFinite(chunk.weight, chunk);
  } else {
    fill(chunk.weights, 1, chunk);
  }
  return nonFinite;
}

// Whether the clamp of the token's log-ratio is active. Not for NaN.
GROUPGRAD_INLINE bool isClamped(const Chunk& chunk, int i) {
  return (chunk.logRatio[i] < chunk.rawLogRatio[i]) | (chunk.logRatio[i] > chunk.rawLogRatio[i]);
}

GROUPGRAD_INLINE TokenState tokenState(const SequenceState& state, const Chunk& chunk, int i, float ratio) {
  return {chunk.logProb[i], chunk.logRatio[i], ratio, chunk.advantage[i], chunk.weight[i], state.sequence};
}

static void prepareSequence(const PolicyContext& context, int64_t sequence, SequenceState& state) {
  const PolicyRequest& r = *context.request;
  const LossConfig& config = r.config;
  const int64_t tokens = state.tokens;
  state = SequenceState{};
  state.tokens = tokens;
  state.factor = aggregationFactor(config, context.denominators, state.tokens);
  if (state.tokens == 0) return;
  if (!context.needsSequence && !dropsOffPolicy(config)) return;

  withSurrogate(config, [&](const auto& surrogate) {
    using Surrogate = std::decay_t<decltype(surrogate)>;
    double logRatios = 0, contributions = 0;
    Chunk chunk;
    for (int64_t begin = 0; begin < r.length; begin += kChunk) {
      const int64_t end = begin + kChunk < r.length ? begin + kChunk : r.length;
      loadChunk(context, sequence, begin, end, chunk);
      logRatios += sum(chunk.rawLogRatio, chunk);
      if constexpr (Surrogate::kSequence) {
        alignas(64) float contribution[kChunk];
        for (int i = 0; i < chunk.padded; ++i) {
          contribution[i] = masked(surrogate.contribution(tokenState(state, chunk, i, 1)), chunk.in[i]);
        }
        contributions += sum(contribution, chunk);
      }
    }
    const double n = double(state.tokens);
    const double mean = logRatios / n;
    state.offPolicy = -mean > config.offPolicyThreshold;
    state.sequence = float(Surrogate::finish(contributions, n));
    if (config.ratio != Ratio::token) {
      const float bound = float(config.logRatioClamp);
      const float raw = float(mean);
      state.logRatio = clamp(raw, -bound, bound);
      state.ratioFlat = state.logRatio < raw || state.logRatio > raw;
      state.ratio = expOf(state.logRatio);
    }
  });
}

// What a chunk's tokens contribute, before the aggregation's factor. 0 where masked out.
struct Terms {
  alignas(64) float ratio[kChunk];
  alignas(64) float loss[kChunk];
  alignas(64) float kl[kChunk];
  alignas(64) float gradient[kChunk];   // with respect to the log-prob itself
  alignas(64) float dLogRatio[kChunk];  // with respect to the log of the ratio
  alignas(64) float dSequence[kChunk];  // with respect to the surrogate's mean contribution
};

// The exponents s + c of importance-weighted k3 (core/kl.hpp): l_ref - l_old if no clamp is active, which is more
// accurate than the sum of two rounded differences.
GROUPGRAD_INLINE void klExponents(const PolicyContext& context, int64_t at, const SequenceState& state,
                                  const float* reference, const float* d, const float* clamped, Chunk& chunk,
                                  float* exponent) {
  const PolicyRequest& r = *context.request;
  if (r.config.ratio != Ratio::token || !r.oldLogProbs) {
    for (int i = 0; i < chunk.padded; ++i) exponent[i] = state.logRatio + clamped[i];
    return;
  }
  const float* old = wholeVectors(r.oldLogProbs + at, chunk.spare[1], chunk);
  for (int i = 0; i < chunk.padded; ++i) {
    const bool cut = isClamped(chunk, i) | (clamped[i] < d[i]) | (clamped[i] > d[i]);
    const float direct = masked(reference[i], chunk.in[i]) - masked(old[i], chunk.in[i]);
    exponent[i] = cut ? chunk.logRatio[i] + clamped[i] : direct;
  }
}

// Adds the KL term. Returns the number of non-finite reference log-probs. Separate from its callers, one per
// surrogate, because it does not depend on the surrogate.
template <KlEstimator estimator, bool weighted, bool bounded>
static int64_t addKl(const PolicyContext& context, int64_t at, const SequenceState& state, Chunk& chunk, Terms& terms) {
  const LossConfig& config = context.request->config;
  alignas(64) float d[kChunk];  // of the reference to the policy
  alignas(64) float boundedD[kChunk];
  alignas(64) float exponential[kChunk];
  alignas(64) int32_t moves[kChunk];  // whether the ratio moves with the token's log-prob
  const float* reference = wholeVectors(context.request->refLogProbs + at, chunk.spare[0], chunk);
  const float bound = float(config.klLogRatioClamp), beta = float(config.klBeta);
  int32_t bad = 0;
  for (int i = 0; i < chunk.padded; ++i) {
    const float l = masked(reference[i], chunk.in[i]);
    bad += notFinite(l);
    d[i] = l - chunk.logProb[i];
  }
  if (bounded) {
    for (int i = 0; i < chunk.padded; ++i) boundedD[i] = clamp(d[i], -bound, bound);
  }
  const float* clamped = bounded ? boundedD : d;
  if constexpr (estimator == KlEstimator::k3) {
    if constexpr (weighted) {
      klExponents(context, at, state, reference, d, clamped, chunk, exponential);
      for (int i = 0; i < chunk.padded; ++i) exponential[i] = expOf(exponential[i]);
    } else {
      for (int i = 0; i < chunk.padded; ++i) exponential[i] = expOf(clamped[i]);
    }
  }
  const int32_t here = spreadsKl(config, state) ? 0 : -1;
  if constexpr (weighted) {
    for (int i = 0; i < chunk.padded; ++i) moves[i] = state.ratioFlat ? 0 : -1;
    if (config.ratio == Ratio::token) {
      for (int i = 0; i < chunk.padded; ++i) moves[i] = isClamped(chunk, i) ? 0 : -1;
    }
  }
  for (int i = 0; i < chunk.padded; ++i) {
    const float ratio = weighted ? terms.ratio[i] : 1.0f;
    const KlTerm term = klTerm<estimator, weighted>(d[i], bounded ? boundedD[i] : d[i], ratio, exponential[i]);
    const float kl = masked(term.value, chunk.in[i]);
    terms.kl[i] = kl;
    terms.loss[i] += beta * kl;
    const float slope = weighted && moves[i] != 0 ? term.total : term.own;
    terms.gradient[i] += masked(beta * slope, chunk.in[i] & here);
  }
  return bad;
}

GROUPGRAD_INLINE int64_t addKlOf(const PolicyContext& context, int64_t at, const SequenceState& state, Chunk& chunk,
                                 Terms& terms) {
  const LossConfig& config = context.request->config;
  int64_t bad = 0;
  withEstimator(config, [&](auto estimator) {
    constexpr KlEstimator e = decltype(estimator)::value;
    const bool bounded = config.klLogRatioClamp < double(kInfinity);
    const auto add = config.klImportanceWeighted ? (bounded ? addKl<e, true, true> : addKl<e, true, false>)
                                                 : (bounded ? addKl<e, false, true> : addKl<e, false, false>);
    bad = add(context, at, state, chunk, terms);
  });
  return bad;
}

// A chunk's KL terms in float64, for a gradient that flows through the sequence's ratio. 0 where masked out.
struct KlChunk {
  alignas(64) double exponential[kChunk];
  alignas(64) double rest[kChunk];
  alignas(64) double own[kChunk];
};

template <KlEstimator estimator>
static void klPartsOf(const PolicyContext& context, int64_t at, const SequenceState& state, Chunk& chunk,
                      KlChunk& parts) {
  const float* reference = wholeVectors(context.request->refLogProbs + at, chunk.spare[0], chunk);
  const double bound = float(context.request->config.klLogRatioClamp);
  const double s = state.logRatio, ratio = klRatio(s);
  for (int i = 0; i < chunk.padded; ++i) {
    const double d = double(masked(reference[i], chunk.in[i])) - double(chunk.logProb[i]);
    const KlParts token = klParts<estimator>(d, bound, s, ratio);
    parts.exponential[i] = token.exponential;
    parts.rest[i] = token.rest;
    parts.own[i] = token.own;
  }
}

GROUPGRAD_INLINE double sum(const double* values, const Chunk& chunk) {
  double lanes[kLanes] = {};
  for (int i = 0; i < chunk.padded; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += values[i + lane];
  }
  double total = 0;
  for (const double lane : lanes) total += lane;
  return total;
}

static void sumKl(const PolicyContext& context, int64_t at, SequenceState& state, Chunk& chunk) {
  KlChunk parts;
  withEstimator(context.request->config,
                [&](auto estimator) { klPartsOf<decltype(estimator)::value>(context, at, state, chunk, parts); });
  for (int i = 0; i < chunk.size && state.klShift != state.klShift; ++i) {
    if (chunk.in[i] != 0) state.klShift = parts.exponential[i];
  }
  for (int i = 0; i < chunk.padded; ++i) {
    parts.exponential[i] = chunk.in[i] != 0 ? parts.exponential[i] - state.klShift : 0.0;
    parts.rest[i] = chunk.in[i] != 0 ? parts.rest[i] : 0.0;
  }
  state.klExponential += sum(parts.exponential, chunk);
  state.klRest += sum(parts.rest, chunk);
}

static void spreadKl(const PolicyContext& context, int64_t at, const SequenceState& state, Chunk& chunk) {
  KlChunk parts;
  withEstimator(context.request->config,
                [&](auto estimator) { klPartsOf<decltype(estimator)::value>(context, at, state, chunk, parts); });
  const double n = double(state.tokens),
               factor = state.factor * context.request->lossScale * context.request->config.klBeta;
  const KlMeans means{state.klExponential / n, state.klRest / n, state.klShift};
  float* gradient = context.gradient + at;
  for (int i = 0; i < chunk.size; ++i) gradient[i] += masked(float(factor * means.total(parts.own[i])), chunk.in[i]);
}

// The surrogate of each token, 0, whatever the ratio, where it has no advantage, no weight, or is dropped; and how many
// tokens are clipped.
template <class Surrogate>
GROUPGRAD_INLINE void surrogateTerms(const Surrogate& given, const PolicyContext& context, int64_t at,
                                     SequenceState& state, const Chunk& chunk, Terms& terms) {
  const Surrogate surrogate = given;  // in registers: a load that only one side of a selection needs would be a branch
  const int32_t* kept = chunk.in;
  alignas(64) int32_t highEntropy[kChunk];
  if (context.entropies) {
    for (int i = 0; i < chunk.size; ++i) {
      highEntropy[i] = context.entropies[at + i] >= context.entropyThreshold ? chunk.in[i] : 0;
    }
    for (int i = chunk.size; i < chunk.padded; ++i) highEntropy[i] = 0;
    kept = highEntropy;
  }
  const float dropBelow = state.offPolicy ? 0.0f : -kInfinity;  // advantages, because of an off-policy sequence
  int32_t low = 0, high = 0;
  for (int i = 0; i < chunk.padded; ++i) {
    const TokenState s = tokenState(state, chunk, i, terms.ratio[i]);
    const bool none = (s.advantage == 0) | (s.advantage < dropBelow) | (Surrogate::kWeighted & (s.weight == 0));
    const int32_t keep = none ? 0 : kept[i];
    const Term term = surrogate.term(s);
    const float weight = Surrogate::kWeighted ? s.weight : 1.0f;
    terms.loss[i] = masked(weight * term.loss, keep);
    terms.gradient[i] = masked(weight * term.dLogProb, keep);
    terms.dLogRatio[i] = masked(weight * term.dLogRatio, keep);
    if constexpr (Surrogate::kSequence) terms.dSequence[i] = masked(weight * term.dSequence, keep);
    if constexpr (Surrogate::kClip != ClipMetric::none) {
      low += chunk.in[i] & int32_t(surrogate.clippedLow(s));
      high += chunk.in[i] & int32_t(surrogate.clippedHigh(s));
    }
  }
  state.clippedLow += low;
  state.clippedHigh += high;
}

// The number of gradient values that overflowed when the factor was applied.
GROUPGRAD_INLINE int64_t countOverflow(const float* values, float factor, const Chunk& chunk) {
  int32_t count = 0;
  if (factor <= 1) return count;
  for (int i = 0; i < chunk.size; ++i) count += notFinite(values[i]);
  return count;
}

// The gradient with respect to the log-probs, without the part through the sequence's quantities, which is summed.
GROUPGRAD_INLINE void gradientOf(const PolicyContext& context, int64_t at, SequenceState& state, const Chunk& chunk,
                                 Terms& terms) {
  const LossConfig& config = context.request->config;
  // Where the clamp of the log-ratio is active, no gradient flows through the ratio.
  const bool flows = config.ratio == Ratio::token || !state.ratioFlat;
  if (config.ratio == Ratio::token && config.logRatioClamp < double(kInfinity)) {
    for (int i = 0; i < chunk.padded; ++i) terms.dLogRatio[i] = isClamped(chunk, i) ? 0.0f : terms.dLogRatio[i];
  }
  if (!flows) {
    fill(terms.dLogRatio, 0, chunk);
  } else if (config.ratio == Ratio::sequence) {
    state.dLogRatio += sum(terms.dLogRatio, chunk);
  } else {
    for (int i = 0; i < chunk.padded; ++i) terms.gradient[i] += terms.dLogRatio[i];
  }
  if (context.gradient) {
    const float factor = float(state.factor * context.request->lossScale);
    float* out = context.gradient + at;
    for (int i = 0; i < chunk.size; ++i) out[i] = factor * terms.gradient[i];
    // If spreadSequence() adds more, it does the counting.
    if (!context.needsSequence) state.nonFinite.gradients += countOverflow(out, factor, chunk);
  }
}

// The number of tokens with a non-finite term or derivative.
template <class Surrogate>
GROUPGRAD_INLINE int64_t countTerms(const Chunk& chunk, const Terms& terms) {
  int32_t count = 0;
  for (int i = 0; i < chunk.padded; ++i) {
    int32_t bad = notFinite(terms.loss[i]) | notFinite(terms.gradient[i]) | notFinite(terms.dLogRatio[i]);
    if constexpr (Surrogate::kSequence) bad |= notFinite(terms.dSequence[i]);
    count += bad;
  }
  return count;
}

template <class Surrogate>
GROUPGRAD_INLINE void addMetrics(const Surrogate& surrogate, const PolicyContext& context, const SequenceState& state,
                                 const Chunk& chunk, const Terms& terms, RunSums& sums) {
  const bool kl = context.request->config.klBeta != 0;
  Sum loss, gradient, klSum, logRatio, ratio;
  Floats lowest = load<Floats>(sums.ratioMin), highest = load<Floats>(sums.ratioMax);
  Ints reads = load<Ints>(sums.reads);
  for (int i = 0; i < chunk.padded; i += kWidth) {
    loss.add(load<Floats>(terms.loss + i));
    gradient.add(load<Floats>(terms.gradient + i));
    if (kl) klSum.add(load<Floats>(terms.kl + i));
    const Ints in = load<Ints>(chunk.in + i);
    const Ints read = context.skipInactive ? in & (load<Floats>(chunk.advantage + i) != 0) : in;
    const Floats x = load<Floats>(terms.ratio + i);
    ratio.add(__builtin_bit_cast(Floats, __builtin_bit_cast(Ints, x) & read));
    logRatio.add(__builtin_bit_cast(Floats, load<Ints>(chunk.rawLogRatio + i) & read));
    lowest = (read & (x < lowest)) ? x : lowest;
    highest = (read & (x > highest)) ? x : highest;
    reads -= read;
  }
  loss.addTo(sums.loss, state.factor);
  gradient.addTo(sums.gradient);
  if (kl) klSum.addTo(sums.kl);
  ratio.addTo(sums.ratio);
  logRatio.addTo(sums.logRatio);
  store(sums.ratioMin, lowest);
  store(sums.ratioMax, highest);
  store(sums.reads, reads);

  if constexpr (std::is_same_v<Surrogate, Vespo>) {
    alignas(64) float phi[kChunk];
    for (int i = 0; i < chunk.padded; ++i) {
      phi[i] = masked(surrogate.phi(chunk.advantage[i], state.sequence), chunk.in[i]);
    }
    // One value per sequence with per-sequence advantages, else one per token.
    const double weight = context.request->advantagesPerToken ? 1 : 1 / double(state.tokens);
    sums.phi += weight * sum(phi, chunk);
  }
}

static void tokenTerms(const PolicyContext& context, int64_t sequence, SequenceState& state, RunSums& sums,
                       int64_t begin, int64_t end) {
  const PolicyRequest& r = *context.request;
  if (state.tokens == 0) {
    if (context.gradient) {
      std::memset(context.gradient + sequence * r.length + begin, 0, std::size_t(end - begin) * sizeof(float));
    }
    return;
  }
  Chunk chunk;
  Terms terms;
  withSurrogate(r.config, [&](const auto& surrogate) {
    for (int64_t from = begin; from < end; from += kChunk) {
      const int64_t to = from + kChunk < end ? from + kChunk : end;
      const int64_t at = sequence * r.length + from;
      state.nonFinite.inputs += loadChunk(context, sequence, from, to, chunk);
      if (r.config.ratio == Ratio::token) {
        for (int i = 0; i < chunk.padded; ++i) terms.ratio[i] = expOf(chunk.logRatio[i]);
      } else {
        fill(terms.ratio, state.ratio, chunk);
      }
      surrogateTerms(surrogate, context, at, state, chunk, terms);
      if (r.config.klBeta != 0) {
        state.nonFinite.inputs += addKlOf(context, at, state, chunk, terms);
        if (context.gradient && spreadsKl(r.config, state)) sumKl(context, at, state, chunk);
      }
      using Surrogate = std::decay_t<decltype(surrogate)>;
      gradientOf(context, at, state, chunk, terms);
      if constexpr (Surrogate::kSequence) state.dSequence += sum(terms.dSequence, chunk);
      addMetrics(surrogate, context, state, chunk, terms, sums);
      if (context.countsTerms) state.nonFinite.terms += countTerms<Surrogate>(chunk, terms);
    }
  });
}

static void spreadSequence(const PolicyContext& context, int64_t sequence, SequenceState& state, int64_t begin,
                           int64_t end) {
  const PolicyRequest& r = *context.request;
  if (!context.gradient || state.tokens == 0) return;
  const double factor = state.factor * r.lossScale / double(state.tokens);
  const float fromRatio = float(factor * state.dLogRatio);
  const float fromSequence = float(factor * state.dSequence);
  Chunk chunk;
  withSurrogate(r.config, [&](const auto& surrogate) {
    for (int64_t from = begin; from < end; from += kChunk) {
      const int64_t to = from + kChunk < end ? from + kChunk : end;
      loadChunk(context, sequence, from, to, chunk);
      if (spreadsKl(r.config, state)) spreadKl(context, sequence * r.length + from, state, chunk);
      float* gradient = context.gradient + sequence * r.length + from;
      int32_t bad = 0;
      for (int i = 0; i < chunk.size; ++i) {
        const float slope = isClamped(chunk, i) ? 0.0f : surrogate.slope(tokenState(state, chunk, i, 1));
        const float flows = fromRatio + (slope != 0 ? fromSequence * slope : 0.0f);
        const float sum = gradient[i] + masked(flows, chunk.in[i]);
        gradient[i] = sum;
        bad += notFinite(sum);
      }
      state.nonFinite.gradients += bad;
    }
  });
}
