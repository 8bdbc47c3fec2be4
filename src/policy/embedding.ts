// The ends of the transformer: token ids to states, and states to logits, with the same matrix.

import * as tf from '@tensorflow/tfjs-core';
import { rmsNorm, rmsNormBackward } from './norm.js';
import type { Part } from './part.js';
import { oneHotRows, times, timesTransposed, transposedTimes } from './products.js';

/**
 * Rows of the embedding [V, D], one for each token id: [N, D]. By a product with one-hot rows, because the gradient of
 * gathering (a scattered sum) has no kernel on the WebAssembly backend; vocabularies here are small.
 */
export function embed(
  { embedding }: { embedding: tf.Tensor2D },
  tokens: Int32Array,
): Part<{ embedding: tf.Tensor2D }, { hot: tf.Tensor2D }> {
  const hot = oneHotRows(tokens, embedding.shape[0]);
  return {
    value: times(hot, embedding),
    saved: { hot },
    backward: (dy, saved) => ({ embedding: transposedTimes(saved.hot, dy) }),
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
