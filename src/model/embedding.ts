// The ends of the transformer: token ids to states, and states to logits, with the same matrix.

import * as tf from '@tensorflow/tfjs-core';
import { rmsNorm, rmsNormBackward } from './norm.js';
import type { Part } from './part.js';
import { oneHotRows, readyForProducts, times, timesReady, transposedTimes } from './products.js';

/**
 * Vocabularies from which rows are gathered. Below, a product with one-hot rows costs less: it takes no values out of the
 * backend.
 */
const gatheredFrom = 1024;

/** Rows of the embedding [V, D], one for each token id: [N, D]. */
export function embed({ embedding }: { embedding: tf.Tensor2D }, tokens: Int32Array): Part<{ embedding: tf.Tensor2D }> {
  const [vocabulary] = embedding.shape;
  if (vocabulary >= gatheredFrom) {
    return {
      value: tf.gather(embedding, tf.tensor1d(tokens, 'int32')),
      saved: {},
      backward: (dy) => ({ embedding: scatteredSum(dy, tokens, vocabulary) }),
    };
  }
  const hot = oneHotRows(tokens, vocabulary);
  return {
    value: times(hot, embedding),
    saved: { hot },
    backward: (dy, saved) => ({ embedding: transposedTimes(saved.hot as tf.Tensor2D, dy) }),
  };
}

/**
 * The gradient of gathering, [V, D]: row v is the sum of the rows of dy [N, D] whose token is v. Added up here, in order,
 * because kernels for it are missing on the WebAssembly backend and add in an order of the moment on GPUs.
 */
function scatteredSum(dy: tf.Tensor2D, tokens: Int32Array, vocabulary: number): tf.Tensor2D {
  const width = dy.shape[1];
  const rows = dy.dataSync<'float32'>();
  const sums = new Float32Array(vocabulary * width);
  tokens.forEach((token, n) => {
    for (let d = 0; d < width; d++) sums[token * width + d] += rows[n * width + d];
  });
  return tf.tensor2d(sums, [vocabulary, width]);
}

/** States x [B * T, D], gain [D] and embedding [V, D]. */
export interface UnembedInputs {
  x: tf.Tensor2D;
  norm: tf.Tensor1D;
  embedding: tf.Tensor2D;
}

/**
 * Logits norm(x) embeddingᵀ of columns from … T − 1 of `sequences` sequences, [B * (T − from), V]. `ready` is the embedding made
 * ready by `readyForProducts`, where it serves many calls.
 */
export function unembed(
  { x, norm, embedding }: UnembedInputs,
  sequences: number,
  from: number,
  ready = readyForProducts(embedding),
): Part<UnembedInputs, Record<'normed' | 'unit' | 'scale', tf.Tensor2D>> {
  const [rows, width] = x.shape;
  const length = rows / sequences;
  const columns = tf.slice(tf.reshape(x, [sequences, length, width]), [0, from, 0]);
  const { value: normed, unit, scale } = rmsNorm(tf.reshape(columns, [sequences * (length - from), width]), norm);
  return {
    value: timesReady(normed, ready),
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
