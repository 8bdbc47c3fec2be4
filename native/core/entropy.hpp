// Which tokens an entropy quantile keeps (docs/losses.md, "Entropy term").
#pragma once

#include <cmath>
#include <cstdint>

#include "platform.hpp"

namespace groupgrad {

// The rank of the threshold among `count` > 0 ascending entropies, counted from 0: tokens from there on are kept. A
// product that is an integer up to rounding is not rounded up.
GROUPGRAD_INLINE int64_t quantileRank(double topQuantile, int64_t count) {
  const double rank = std::ceil((1 - topQuantile) * double(count - 1) - 1e-9);
  return rank > 0 ? int64_t(rank) : 0;
}

}  // namespace groupgrad
