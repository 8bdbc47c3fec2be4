// The policy loss over token log-probs, a sequence at a time in chunks that stay in the first-level cache: each step is
// a plain loop over arrays of a chunk, which the compiler vectorises; the formulas are native/core's.

#include "simd.inl"

constexpr int kChunk = 512;

// One value a token. Tokens that are masked out hold zeros; the arrays' tails up to a whole vector too.
struct Chunk {
  int size;                        // tokens
  int padded;                      // up to a multiple of 16
  alignas(64) int32_t in[kChunk];  // 1: masked in
  alignas(64) float logProb[kChunk];
  alignas(64) float rawLogRatio[kChunk];
  alignas(64) float logRatio[kChunk];  // clamped
  alignas(64) float advantage[kChunk];
  alignas(64) float weight[kChunk];
};

static int64_t countTokens(const uint8_t* mask, int64_t n) {
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) count += mask[i] != 0;
  return count;
}

// Copies the chunk's floats and zeroes the tail; with null, fills in `fallback`.
GROUPGRAD_INLINE void loadFloats(float* out, const float* in, float fallback, const Chunk& chunk) {
  if (!in) {
    for (int i = 0; i < chunk.padded; ++i) out[i] = fallback;
    return;
  }
  std::memcpy(out, in, std::size_t(chunk.size) * sizeof(float));
  for (int i = chunk.size; i < chunk.padded; ++i) out[i] = 0;
}

// Zeroes what is masked out, by selection: the value may be NaN.
GROUPGRAD_INLINE void dropMasked(float* values, const Chunk& chunk) {
  for (int i = 0; i < chunk.padded; ++i) values[i] = chunk.in[i] ? values[i] : 0.0f;
}

GROUPGRAD_INLINE int64_t countNonFinite(const float* values, const Chunk& chunk) {
  int32_t count = 0;
  for (int i = 0; i < chunk.padded; ++i) count += isFinite(values[i]) ? 0 : 1;
  return count;
}

GROUPGRAD_INLINE double sum(const float* values, const Chunk& chunk) {
  Doubles even{}, odd{};
  for (int i = 0; i < chunk.padded; i += kWidth) {
    even += __builtin_convertvector(load<HalfFloats>(values + i), Doubles);
    odd += __builtin_convertvector(load<HalfFloats>(values + i + kWidth / 2), Doubles);
  }
  return sumLanes(even + odd);
}

// Loads tokens [begin, end) of a sequence. Returns how many values that were read are not finite.
static int64_t loadChunk(const PolicyContext& context, int64_t sequence, int64_t begin, int64_t end, Chunk& chunk) {
  const PolicyRequest& r = *context.request;
  const int64_t at = sequence * r.length + begin;
  chunk.size = int(end - begin);
  chunk.padded = (chunk.size + 15) / 16 * 16;

  if (r.mask) {
    for (int i = 0; i < chunk.size; ++i) chunk.in[i] = r.mask[at + i] != 0;
  } else {
    for (int i = 0; i < chunk.size; ++i) chunk.in[i] = 1;
  }
  for (int i = chunk.size; i < chunk.padded; ++i) chunk.in[i] = 0;

  loadFloats(chunk.logProb, context.logProbs + at, 0, chunk);
  dropMasked(chunk.logProb, chunk);
  int64_t nonFinite = countNonFinite(chunk.logProb, chunk);

  if (r.oldLogProbs) {
    float* old = chunk.logRatio;
    loadFloats(old, r.oldLogProbs + at, 0, chunk);
    dropMasked(old, chunk);
    nonFinite += countNonFinite(old, chunk);
    for (int i = 0; i < chunk.padded; ++i) chunk.rawLogRatio[i] = chunk.logProb[i] - old[i];
    const float bound = float(r.config.logRatioClamp);
    for (int i = 0; i < chunk.padded; ++i) chunk.logRatio[i] = clamp(chunk.rawLogRatio[i], -bound, bound);
  } else {
    // The old log-probs are these very ones: 0, or NaN where a log-prob is not finite.
    for (int i = 0; i < chunk.padded; ++i) chunk.rawLogRatio[i] = chunk.logProb[i] - chunk.logProb[i];
    for (int i = 0; i < chunk.padded; ++i) chunk.logRatio[i] = chunk.rawLogRatio[i];
  }

  const float* perToken = r.advantagesPerToken ? context.advantages + at : nullptr;
  loadFloats(chunk.advantage, perToken, context.advantages[r.advantagesPerToken ? 0 : sequence], chunk);
  dropMasked(chunk.advantage, chunk);
  if (perToken) nonFinite += countNonFinite(chunk.advantage, chunk);

  loadFloats(chunk.weight, r.tokenWeights ? r.tokenWeights + at : nullptr, 1, chunk);
  if (r.tokenWeights) {
    dropMasked(chunk.weight, chunk);
    nonFinite += countNonFinite(chunk.weight, chunk);
  }
  return nonFinite;
}

// Whether the clamp of the token's log-ratio holds. Not for NaN.
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

  const bool offPolicy = config.offPolicyThreshold < double(kInfinity);
  withSurrogate(config, [&](const auto& surrogate) {
    using Surrogate = std::decay_t<decltype(surrogate)>;
    if (config.ratio == Ratio::token && !Surrogate::kSequence && !offPolicy) return;
    double logRatios = 0, contributions = 0;
    Chunk chunk;
    for (int64_t begin = 0; begin < r.length; begin += kChunk) {
      const int64_t end = begin + kChunk < r.length ? begin + kChunk : r.length;
      loadChunk(context, sequence, begin, end, chunk);
      logRatios += sum(chunk.rawLogRatio, chunk);
      if constexpr (Surrogate::kSequence) {
        alignas(64) float contribution[kChunk];
        for (int i = 0; i < chunk.padded; ++i) {
          contribution[i] = chunk.in[i] ? surrogate.contribution(tokenState(state, chunk, i, 1)) : 0.0f;
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

// The KL term of a chunk: adds to loss, gradient and dLogRatio.
template <KlEstimator estimator>
GROUPGRAD_INLINE void addKl(const PolicyContext& context, int64_t at, const Chunk& chunk, const float* ratio,
                            float* loss, float* gradient, float* dLogRatio, LossSums& sums) {
  const LossConfig& config = context.request->config;
  alignas(64) float reference[kChunk], exponential[kChunk], kl[kChunk];
  loadFloats(reference, context.request->refLogProbs + at, 0, chunk);
  dropMasked(reference, chunk);
  sums.nonFinite += countNonFinite(reference, chunk);
  if constexpr (estimator == KlEstimator::k3) {
    for (int i = 0; i < chunk.padded; ++i) exponential[i] = expOf(reference[i] - chunk.logProb[i]);
  }
  const float beta = float(config.klBeta);
  if (config.klImportanceWeighted) {
    for (int i = 0; i < chunk.padded; ++i) {
      const KlTerm term = klTerm<estimator>(chunk.logProb[i] - reference[i], exponential[i]);
      kl[i] = chunk.in[i] ? ratio[i] * term.value : 0.0f;
      gradient[i] += chunk.in[i] ? beta * ratio[i] * term.dLogProb : 0.0f;
      dLogRatio[i] += beta * kl[i];
    }
  } else {
    for (int i = 0; i < chunk.padded; ++i) {
      const KlTerm term = klTerm<estimator>(chunk.logProb[i] - reference[i], exponential[i]);
      kl[i] = chunk.in[i] ? term.value : 0.0f;
      gradient[i] += chunk.in[i] ? beta * term.dLogProb : 0.0f;
    }
  }
  for (int i = 0; i < chunk.padded; ++i) loss[i] += beta * kl[i];
  sums.kl += sum(kl, chunk);
}

template <class Surrogate>
GROUPGRAD_INLINE void chunkTerms(const Surrogate& given, const PolicyContext& context, int64_t at, SequenceState& state,
                                 const Chunk& chunk) {
  const Surrogate surrogate = given;  // in registers: a load that only one side of a selection needs would be a branch
  const PolicyRequest& r = *context.request;
  const LossConfig& config = r.config;
  LossSums& sums = state.sums;
  const bool tokenRatio = config.ratio == Ratio::token;

  alignas(64) float ratio[kChunk];
  if (tokenRatio) {
    for (int i = 0; i < chunk.padded; ++i) ratio[i] = expOf(chunk.logRatio[i]);
  } else {
    for (int i = 0; i < chunk.padded; ++i) ratio[i] = state.ratio;
  }

  alignas(64) int32_t keep[kChunk];  // 1: has a surrogate
  const bool drop = state.offPolicy;
  for (int i = 0; i < chunk.padded; ++i) {
    const float a = chunk.advantage[i];
    const bool weightless = Surrogate::kWeighted && chunk.weight[i] == 0;
    keep[i] = (a != 0) & !weightless & !(drop & (a < 0)) & (chunk.in[i] != 0);
  }
  if (context.entropies) {
    for (int i = 0; i < chunk.size; ++i) keep[i] &= context.entropies[at + i] >= context.entropyThreshold;
  }

  alignas(64) float loss[kChunk], gradient[kChunk], dLogRatio[kChunk], dSequence[kChunk];
  for (int i = 0; i < chunk.padded; ++i) {
    const Term term = surrogate.term(tokenState(state, chunk, i, ratio[i]));
    const float weight = Surrogate::kWeighted ? chunk.weight[i] : 1.0f;
    loss[i] = keep[i] ? weight * term.loss : 0.0f;
    gradient[i] = keep[i] ? weight * term.dLogProb : 0.0f;
    dLogRatio[i] = keep[i] ? weight * term.dLogRatio : 0.0f;
    dSequence[i] = keep[i] ? weight * term.dSequence : 0.0f;
  }

  if (config.klBeta != 0) {
    switch (config.klEstimator) {
      case KlEstimator::k1: addKl<KlEstimator::k1>(context, at, chunk, ratio, loss, gradient, dLogRatio, sums); break;
      case KlEstimator::k2: addKl<KlEstimator::k2>(context, at, chunk, ratio, loss, gradient, dLogRatio, sums); break;
      case KlEstimator::k3: addKl<KlEstimator::k3>(context, at, chunk, ratio, loss, gradient, dLogRatio, sums); break;
    }
  }

  sums.loss += sum(loss, chunk);

  // Where the clamp of the log-ratio holds, nothing flows through the ratio.
  if (tokenRatio) {
    if (config.logRatioClamp < double(kInfinity)) {
      for (int i = 0; i < chunk.padded; ++i) {
        dLogRatio[i] = isClamped(chunk, i) ? 0.0f : dLogRatio[i];
      }
    }
    for (int i = 0; i < chunk.padded; ++i) gradient[i] += dLogRatio[i];
  } else if (!state.ratioFlat) {
    if (config.ratio == Ratio::sequence) {
      state.dLogRatio += sum(dLogRatio, chunk);
    } else {
      for (int i = 0; i < chunk.padded; ++i) gradient[i] += dLogRatio[i];
    }
  }
  if constexpr (Surrogate::kSequence) state.dSequence += sum(dSequence, chunk);

  if (context.gradient) {
    const float factor = float(state.factor);
    for (int i = 0; i < chunk.size; ++i) context.gradient[at + i] = factor * gradient[i];
  }

  // The ratio's metrics, over what was read.
  alignas(64) int32_t read[kChunk];
  alignas(64) float logRatio[kChunk];
  int32_t reads = 0;
  for (int i = 0; i < chunk.padded; ++i) {
    read[i] = chunk.in[i] & int32_t(!context.skipInactive | (chunk.advantage[i] != 0));
    logRatio[i] = read[i] ? chunk.rawLogRatio[i] : 0.0f;
    ratio[i] = read[i] ? ratio[i] : 0.0f;
    reads += read[i];
  }
  sums.ratios += reads;
  sums.logRatio += sum(logRatio, chunk);
  sums.ratio += sum(ratio, chunk);
  Floats lowest = splat(kInfinity), highest = splat(-kInfinity);
  for (int i = 0; i < chunk.padded; i += kWidth) {
    const Floats x = load<Floats>(ratio + i);
    const Ints counts = load<Ints>(read + i) != 0;
    lowest = (counts & (x < lowest)) ? x : lowest;
    highest = (counts & (x > highest)) ? x : highest;
  }
  for (int lane = 0; lane < kWidth; ++lane) {
    sums.ratioMin = lowest[lane] < sums.ratioMin ? lowest[lane] : sums.ratioMin;
    sums.ratioMax = highest[lane] > sums.ratioMax ? highest[lane] : sums.ratioMax;
  }
  if constexpr (Surrogate::kClip != ClipMetric::none) {
    int32_t low = 0, high = 0;
    for (int i = 0; i < chunk.padded; ++i) {
      const TokenState s = tokenState(state, chunk, i, ratio[i]);
      low += chunk.in[i] & int32_t(surrogate.clippedLow(s));
      high += chunk.in[i] & int32_t(surrogate.clippedHigh(s));
    }
    sums.clippedLow += low;
    sums.clippedHigh += high;
  }
  if constexpr (std::is_same_v<Surrogate, Vespo>) {
    for (int i = 0; i < chunk.padded; ++i) {
      loss[i] = chunk.in[i] ? surrogate.phi(chunk.advantage[i], state.sequence) : 0.0f;
    }
    sums.phi += sum(loss, chunk);
  }
}

static void tokenTerms(const PolicyContext& context, int64_t sequence, SequenceState& state, int64_t begin,
                       int64_t end) {
  const PolicyRequest& r = *context.request;
  Chunk chunk;
  withSurrogate(r.config, [&](const auto& surrogate) {
    for (int64_t from = begin; from < end; from += kChunk) {
      const int64_t to = from + kChunk < end ? from + kChunk : end;
      state.sums.nonFinite += loadChunk(context, sequence, from, to, chunk);
      chunkTerms(surrogate, context, sequence * r.length + from, state, chunk);
    }
  });
}

static void spreadSequence(const PolicyContext& context, int64_t sequence, const SequenceState& state, int64_t begin,
                           int64_t end) {
  const PolicyRequest& r = *context.request;
  if (!context.gradient || state.tokens == 0) return;
  const double factor = state.factor / double(state.tokens);
  const float fromRatio = float(factor * state.dLogRatio);
  const float fromSequence = float(factor * state.dSequence);
  Chunk chunk;
  withSurrogate(r.config, [&](const auto& surrogate) {
    for (int64_t from = begin; from < end; from += kChunk) {
      const int64_t to = from + kChunk < end ? from + kChunk : end;
      loadChunk(context, sequence, from, to, chunk);
      float* gradient = context.gradient + sequence * r.length + from;
      for (int i = 0; i < chunk.size; ++i) {
        const float slope = isClamped(chunk, i) ? 0.0f : surrogate.slope(tokenState(state, chunk, i, 1));
        const float flows = fromRatio + (slope != 0 ? fromSequence * slope : 0.0f);
        gradient[i] += chunk.in[i] ? flows : 0.0f;
      }
    }
  });
}
