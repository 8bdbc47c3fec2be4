// From sums over tokens and sequences to the metrics of a loss (docs/metrics.md).
#pragma once

#include "config.hpp"
#include "platform.hpp"

namespace groupgrad {

// Whether a sequence is clipped as a whole: a sequence-level ratio with one advantage. Surrogates with their own
// quantity over the sequence clip tokens.
GROUPGRAD_INLINE bool clipsSequences(const PolicyRequest& r, bool surrogateNeedsSequence) {
  return r.config.ratio != Ratio::token && !r.advantagesPerToken && !surrogateNeedsSequence;
}

// Non-finite values of a sequence, by where they first occur. Later ones follow from earlier ones: one NaN input
// may make every gradient of its sequence NaN.
struct NonFinite {
  int64_t inputs = 0;     // values that were read
  int64_t terms = 0;      // tokens whose part in the loss or its derivatives are not finite
  int64_t gradients = 0;  // values of the gradient with respect to log-probs

  // The three packed into one number that can be summed: of up to 2^10 tokens here, with up to 2^3 inputs each.
  static constexpr double kTerms = 0x1p16, kGradients = 0x1p32;
  GROUPGRAD_INLINE double packed() const {
    return double(inputs) + kTerms * double(terms) + kGradients * double(gradients);
  }
  GROUPGRAD_INLINE void add(double packed) {
    const int64_t bits = int64_t(packed);
    inputs += bits & 0xffff;
    terms += bits >> 16 & 0xffff;
    gradients += bits >> 32;
  }

  GROUPGRAD_INLINE int64_t count() const { return inputs > 0 ? inputs : terms > 0 ? terms : gradients; }
};

// Sums over masked-in tokens and over sequences. Parts can be merged.
struct PolicyTotals {
  double loss = 0;  // surrogate + beta KL, times the aggregation's factor
  double kl = 0;
  double logRatio = 0;                               // raw, of the tokens that were read
  double ratio = 0, ratios = 0;                      // of the ratios that the loss used: their sum and number
  double ratioMin = INFINITY, ratioMax = -INFINITY;  // of them; NaN is passed over
  double tokens = 0, reads = 0;
  double phi = 0;  // vespo
  double nonFinite = 0;
  double clippedLow = 0, clippedHigh = 0;                 // tokens, or sequences where they are clipped as a whole
  double lowFractionMin = INFINITY, highFractionMax = 0;  // over sequences with a masked-in token

  // Adds a sequence with a masked-in token, of which `low` and `high` tokens are clipped.
  GROUPGRAD_INLINE void addClipped(double low, double high, double sequenceTokens, bool wholeSequence) {
    const double lowFraction = low / sequenceTokens, highFraction = high / sequenceTokens;
    clippedLow += wholeSequence ? lowFraction : low;
    clippedHigh += wholeSequence ? highFraction : high;
    lowFractionMin = lowFraction < lowFractionMin ? lowFraction : lowFractionMin;
    highFractionMax = highFraction > highFractionMax ? highFraction : highFractionMax;
  }
  GROUPGRAD_INLINE void addRatioRange(double low, double high) {
    ratioMin = low < ratioMin ? low : ratioMin;
    ratioMax = high > ratioMax ? high : ratioMax;
  }
};

GROUPGRAD_INLINE LossMetrics lossMetrics(const PolicyRequest& r, const PolicyTotals& t, bool surrogateNeedsSequence) {
  const double tokens = t.tokens > 1 ? t.tokens : 1;
  LossMetrics m;
  m.loss = t.loss;
  m.tokens = t.tokens;
  m.nonFinite = t.nonFinite;
  m.approxKl = t.reads > 0 ? 0 - t.logRatio / t.reads : 0;
  m.kl = t.kl / tokens;
  if (t.ratios > 0) {
    m.ratioMean = t.ratio / t.ratios;
    // Comparisons ignore NaN; the mean does not.
    m.ratioMin = m.ratioMean == m.ratioMean ? t.ratioMin : double(NAN);
    m.ratioMax = m.ratioMean == m.ratioMean ? t.ratioMax : double(NAN);
  }
  const double clipped = clipsSequences(r, surrogateNeedsSequence) ? double(r.sequences) : tokens;
  m.clipLowMean = t.clippedLow / clipped;
  m.clipHighMean = t.clippedHigh / clipped;
  m.clipRegionMean = (t.clippedLow + t.clippedHigh) / clipped;
  m.clipLowMin = t.lowFractionMin == double(INFINITY) ? 0 : t.lowFractionMin;
  m.clipHighMax = t.highFractionMax;
  m.phiMean = t.phi / (r.advantagesPerToken ? tokens : double(r.sequences));
  return m;
}

// A loss that is not finite in float32 counts if none of its terms does.
GROUPGRAD_INLINE void countLoss(LossMetrics& m) { m.nonFinite += m.nonFinite == 0 && !isFinite(float(m.loss)); }

}  // namespace groupgrad
