// The linear layer, y = x Wᵀ + b, and LoRA on top of it (arXiv 2106.09685): y + scale (x Aᵀ) Bᵀ with A and B of low rank.

import * as tf from '@tensorflow/tfjs-core';
import { matMul, matMulTransposed, transposedMatMul } from './matrix-products.js';
import { type Computed, type Gradients, type Keep, sumGradients } from './part.js';

export interface Adapter {
  /** [rank, inputs]. */
  a: tf.Tensor2D;
  /** [outputs, rank]. */
  b: tf.Tensor2D;
  scale: number;
}

export interface Linear {
  /** [outputs, inputs], as in Hugging Face's files; [inputs, outputs] with `inputsFirst`. */
  weight: tf.Tensor2D;
  inputsFirst: boolean;
  /** [outputs]. */
  bias?: tf.Tensor1D;
  adapter?: Adapter;
}

/** scale (x Aᵀ), [N, rank], whose product with Bᵀ is the adapter's output. Gradients: `x`, and `a` of the adapter. */
export function adapterStates(x: tf.Tensor2D, { a, scale }: Adapter, keep: Keep): Computed {
  const keptX = keep(x);
  return {
    value: tf.mul(matMulTransposed(x, a), scale),
    backward: (dy, wanted) => {
      const scaled = tf.mul<tf.Tensor2D>(dy, scale);
      return {
        ...(wanted('x') && { x: matMul(scaled, a) }),
        ...(wanted('a') && { a: transposedMatMul(scaled, keptX()) }),
      };
    },
  };
}

/** x [N, inputs] to [N, outputs]. Gradients: `x`, `weight`, `bias`, and of the adapter `a` and `b`. */
export function linear(x: tf.Tensor2D, { weight, inputsFirst, bias, adapter }: Linear, keep: Keep): Computed {
  const keptX = keep(x);
  const low = adapter && matMulTransposed(x, adapter.a);
  const keptLow = low && keep(low);
  return {
    get value() {
      const mapped = inputsFirst ? matMul(x, weight) : matMulTransposed(x, weight);
      const based = bias ? tf.add<tf.Tensor2D>(mapped, bias) : mapped;
      return low ? tf.add<tf.Tensor2D>(based, tf.mul(matMulTransposed(low, adapter.b), adapter.scale)) : based;
    },
    backward: (dy, wanted) => {
      const gradients: Gradients = {};
      const parts: tf.Tensor2D[] = [];
      if (wanted('x')) parts.push(inputsFirst ? matMulTransposed(dy, weight) : matMul(dy, weight));
      if (wanted('weight')) {
        gradients.weight = inputsFirst ? transposedMatMul(keptX(), dy) : transposedMatMul(dy, keptX());
      }
      if (bias && wanted('bias')) gradients.bias = tf.sum(dy, 0);
      if (adapter) {
        const scaled = tf.mul<tf.Tensor2D>(dy, adapter.scale);
        if (wanted('b')) gradients.b = transposedMatMul(scaled, keptLow!());
        if (wanted('a') || wanted('x')) {
          const dLow = matMul(scaled, adapter.b);
          if (wanted('a')) gradients.a = transposedMatMul(dLow, keptX());
          if (wanted('x')) parts.push(matMul(dLow, adapter.a));
        }
      }
      if (parts.length > 0) gradients.x = sumGradients(parts)!;
      return gradients;
    },
  };
}
