// Logits of which only the tokens that a cut left count.

import { maskedScore } from '../model/attention.js';

/** A copy of logits [rows, V] in which the logits of all tokens but the kept ones of each row are so low that they count nothing. */
export function keepOnly(logits: Float32Array, vocabulary: number, kept: readonly Int32Array[]): Float32Array {
  const masked = new Float32Array(logits.length).fill(maskedScore);
  kept.forEach((ids, row) => {
    for (const id of ids) masked[row * vocabulary + id] = logits[row * vocabulary + id];
  });
  return masked;
}
