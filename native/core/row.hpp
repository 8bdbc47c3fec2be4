// The gradient of a row of logits, from the sums of its first pass (docs/losses.md, "Entropy").
#pragma once

#include <cmath>

#include "platform.hpp"

namespace groupgrad {

// Of one row, with z_j = (x_j - maximum) / T, sum = sum_j exp(z_j) and meanZ = sum_j softmax_j z_j. T is float or
// double.
template <class T>
struct RowSums {
  T sum;
  T meanZ;
  T logProb;  // of the row's token
  T entropy;
};

// dloss/dx_j = exp(z_j) (constant + slope z_j), but atToken at the row's token.
template <class T>
struct RowFactors {
  T constant;
  T slope;
  T atToken;
};

// g and c: the loss's derivatives with respect to the row's log-prob and entropy.
// dloss/dx_j = p_j / T (-g - c (z_j - log sum + H)) + [j = token] g / T with p_j = exp(z_j) / sum and
// H - log sum = -meanZ; `scale` is 1 / T times the loss scale. The token's own p - 1 is from its log-prob: no
// cancellation if p is near 1.
template <class T>
GROUPGRAD_INLINE RowFactors<T> rowFactors(const RowSums<T>& row, T g, T c, T scale) {
  const T scaled = scale / row.sum;
  const T p = std::exp(row.logProb);
  const T entropyPart = p > 0 ? c * p * (row.logProb + row.entropy) : T(0);
  return {scaled * (c * row.meanZ - g), -c * scaled, scale * (-g * std::expm1(row.logProb) - entropyPart)};
}

}  // namespace groupgrad
