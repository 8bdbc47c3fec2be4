// The ends of the transformer: token ids to states, and states to logits, with the same matrix.

import * as tf from '@tensorflow/tfjs-core';
import { rmsNorm, rmsNormBackward } from './norm.js';
import type { Part } from './part.js';
import { oneHotRows, times, timesTransposed, transposedTimes } from './products.js';

/**
 * Vocabularies from which the embedding is gathered where the backend can: below, the product with one-hot rows costs
 * little and adds in the same order on every device.
 */
const gatheredFrom = 1024;

/** Rows of the embedding [V, D], one for each token id: [N, D]. */
export function embed({ embedding }: { embedding: tf.Tensor2D }, tokens: Int32Array): Part<{ embedding: tf.Tensor2D }> {
  const [vocabulary] = embedding.shape;
  // The gradient of gathering, a scattered sum, has no kernel on the WebAssembly backend and a slow one on the cpu one.
  if (vocabulary >= gatheredFrom && tf.getBackend() === 'tensorflow') {
    const ids = tf.tensor1d(tokens, 'int32');
    return {
      value: tf.gather(embedding, ids),
      saved: { ids },
      backward: (dy, saved) => ({ embedding: tf.unsortedSegmentSum(dy, saved.ids as tf.Tensor1D, vocabulary) }),
    };
  }
  const hot = oneHotRows(tokens, vocabulary);
  return {
    value: times(hot, embedding),
    saved: { hot },
    backward: (dy, saved) => ({ embedding: transposedTimes(saved.hot as tf.Tensor2D, dy) }),
  };
}

/** States x [B * T, D], gain [D] and embedding [V, D]. */
export interface UnembedInputs {
  x: tf.Tensor2D;
  norm: tf.Tensor1D;
  embedding: tf.Tensor2D;
}

/** Logits norm(x) embeddingᵀ of columns from … T − 1 of `sequences` sequences, [B * (T − from), V]. */
export function unembed(
  { x, norm, embedding }: UnembedInputs,
  sequences: number,
  from: number,
): Part<UnembedInputs, Record<'normed' | 'unit' | 'scale', tf.Tensor2D>> {
  const [rows, width] = x.shape;
  const length = rows / sequences;
  const columns = tf.slice(tf.reshape(x, [sequences, length, width]), [0, from, 0]);
  const { value: normed, unit, scale } = rmsNorm(tf.reshape(columns, [sequences * (length - from), width]), norm);
  return {
    value: timesTransposed(normed, embedding),
    saved: { normed, unit, scale },
    backward: (dy, saved) => {
      const { dx, dGain } = rmsNormBackward(times(dy, embedding), norm, saved);
      const dColumns = tf.reshape(dx, [sequences, length - from, width]);
      const before = tf.zeros([sequences, from, width]);
      const dAll = from === 0 ? dColumns : tf.concat([before, dColumns], 1);
      return { x: tf.reshape(dAll, [rows, width]), norm: dGain, embedding: transposedTimes(dy, saved.normed) };
    },
  };
}
