// Masks the logits of the tokens that truncation removed: they get a finite logit so low that their probability is 0.

import * as tf from '@tensorflow/tfjs-core';
import { maskedScore } from '../model/attention.js';

/** A copy of logits [rows, V] in which the tokens not kept in a row are masked. */
export function keepOnly(logits: Float32Array, vocabulary: number, kept: readonly Int32Array[]): Float32Array {
  const masked = new Float32Array(logits.length).fill(maskedScore);
  kept.forEach((ids, row) => {
    for (const id of ids) masked[row * vocabulary + id] = logits[row * vocabulary + id];
  });
  return masked;
}

/** Maximum size in bytes of the masks in memory at once. */
const maskBytes = 32 * 2 ** 20;

/**
 * Logits [rows, V] in which the tokens not kept in a row are masked; a row without a list keeps all tokens. The gradient passes
 * to the logits unchanged: for masked tokens it is 0, as their probability is.
 */
export function maskLogits(logits: tf.Tensor2D, kept: readonly (Int32Array | undefined)[]): tf.Tensor2D {
  const [rows, vocabulary] = logits.shape;
  const atOnce = Math.max(1, Math.floor(maskBytes / (4 * vocabulary)));
  const operation = tf.customGrad((given) => {
    const x = given as tf.Tensor2D;
    const parts = Array.from({ length: Math.ceil(rows / atOnce) }, (_, i) => {
      const first = i * atOnce;
      const count = Math.min(atOnce, rows - first);
      return tf.tidy(() => {
        const own = count === rows ? x : tf.slice(x, [first, 0], [count, vocabulary]);
        return tf.add<tf.Tensor2D>(own, maskOf(kept, first, count, vocabulary));
      });
    });
    return { value: parts.length === 1 ? parts[0] : tf.concat(parts), gradFunc: (dy) => tf.clone(dy) };
  });
  return operation(logits) as tf.Tensor2D;
}

/** [count, V]: the values to add to the rows from `first` on. */
function maskOf(
  kept: readonly (Int32Array | undefined)[],
  first: number,
  count: number,
  vocabulary: number,
): tf.Tensor2D {
  const mask = new Float32Array(count * vocabulary);
  for (let row = 0; row < count; row++) {
    const ids = kept[first + row];
    if (!ids) continue;
    mask.fill(maskedScore, row * vocabulary, (row + 1) * vocabulary);
    for (const id of ids) mask[row * vocabulary + id] = 0;
  }
  return tf.tensor2d(mask, [count, vocabulary]);
}
