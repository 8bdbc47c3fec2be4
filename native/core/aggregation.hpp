// How token losses become one number: the factor of a token's loss (docs/losses.md, "Aggregation").
#pragma once

#include "config.hpp"
#include "platform.hpp"

namespace groupgrad {

// The denominators of the whole batch.
struct Denominators {
  double tokens;     // N, at least 1
  double sequences;  // B, at least 1
};

GROUPGRAD_INLINE Denominators denominators(const PolicyRequest& r, int64_t tokens, int64_t nonEmpty) {
  const int64_t counted = r.config.dropEmptySequences ? nonEmpty : r.sequences;
  return {r.normalizer == r.normalizer ? r.normalizer : double(tokens > 1 ? tokens : 1),
          r.globalSequences == r.globalSequences ? r.globalSequences : double(counted > 1 ? counted : 1)};
}

// The factor of every token of a sequence with `tokens` masked-in tokens.
GROUPGRAD_INLINE double aggregationFactor(const LossConfig& config, const Denominators& d, int64_t tokens) {
  switch (config.aggregation) {
    case Aggregation::sequenceMean: return 1 / (d.sequences * double(tokens > 1 ? tokens : 1));
    case Aggregation::sequenceSum: return 1 / d.sequences;
    case Aggregation::constant: return 1 / (d.sequences * config.maxLength);
    case Aggregation::tokenMean: break;
  }
  return 1 / d.tokens;
}

}  // namespace groupgrad
