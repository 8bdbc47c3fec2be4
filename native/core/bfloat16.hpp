// bfloat16: the upper half of a float32. For one value or a vector of them.
#pragma once

#include "platform.hpp"

namespace groupgrad {

// The bfloat16 nearest to a float32 that is not NaN, ties to even, from bits to bits in the lower half of a word.
template <class W>
GROUPGRAD_INLINE W roundToBfloat16(W bits) {
  return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

// The same for any float32: NaN stays NaN. F is float or a vector of floats, W the words of the same width.
template <class W, class F>
GROUPGRAD_INLINE W toBfloat16(F x) {
  const W bits = __builtin_bit_cast(W, x);
  return x == x ? roundToBfloat16(bits) : (bits >> 16) | 0x40;
}

}  // namespace groupgrad
