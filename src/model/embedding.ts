// The model's input: token ids to states.

import * as tf from '@tensorflow/tfjs-core';
import { matMul, oneHotRows, transposedMatMul } from './matrix-products.js';
import { type Computed, fusedKernel, type Gradients, type Keep } from './part.js';

/**
 * Vocabulary size from which rows are gathered. Below it a product with one-hot rows is cheaper: it reads no values out of the
 * backend.
 */
const gatheredFrom = 1024;

/**
 * Rows of the embedding [V, D] times `scale`, one per token id: [N, D]. Gradient: `weight`.
 *
 * Fused kernel: `groupgrad.embeddingBackward` ({ dy, tokens }, { vocabulary }) → the gradient of gathering, [V, D].
 */
export function embedding(weight: tf.Tensor2D, scale: number, tokens: Int32Array, keep: Keep): Computed {
  const [vocabulary] = weight.shape;
  const scaled = (x: tf.Tensor2D): tf.Tensor2D => (scale === 1 ? x : tf.mul(x, scale));
  const fused = fusedKernel('groupgrad.embeddingBackward');
  if (fused || vocabulary >= gatheredFrom) {
    const ids = () => tf.tensor1d(tokens, 'int32');
    const scatter = (dy: tf.Tensor2D) =>
      fused ? fused({ dy, tokens: ids() }, { vocabulary })[0] : scatterSum(dy, tokens, vocabulary);
    return {
      value: scaled(tf.gather(weight, ids())),
      backward: (dy, wanted): Gradients => (wanted('weight') ? { weight: scatter(scaled(dy)) } : {}),
    };
  }
  const hot = keep(oneHotRows(tokens, vocabulary));
  return {
    value: scaled(matMul(hot(), weight)),
    backward: (dy, wanted): Gradients => (wanted('weight') ? { weight: transposedMatMul(hot(), scaled(dy)) } : {}),
  };
}

/**
 * The gradient of gathering, [V, D]: row v is the sum of the rows of dy [N, D] whose token is v. Summed here, in order, because
 * the WebAssembly backend has no kernel for it and GPU kernels sum in a nondeterministic order.
 */
function scatterSum(dy: tf.Tensor2D, tokens: Int32Array, vocabulary: number): tf.Tensor2D {
  const width = dy.shape[1];
  const rows = dy.dataSync<'float32'>();
  const sums = new Float32Array(vocabulary * width);
  tokens.forEach((token, n) => {
    for (let d = 0; d < width; d++) sums[token * width + d] += rows[n * width + d];
  });
  return tf.tensor2d(sums, [vocabulary, width]);
}
