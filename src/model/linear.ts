// The linear layer, y = x Wᵀ + b, and LoRA on top of it (arXiv 2106.09685): y + scale (x Aᵀ) Bᵀ with A and B of low rank.

import * as tf from '@tensorflow/tfjs-core';
import { matMul, matMulTransposed, transposedMatMul } from './matrix-products.js';
import { type Computed, fusedKernel, type Gradients, type Keep, type Wanted } from './part.js';

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

/**
 * scale (x Aᵀ), [N, rank], whose product with Bᵀ is the adapter's output. Gradients: `x`, and `a` of the adapter.
 *
 * Fused kernel: `groupgrad.adapterStates` ({ x, a }, { scale }) → value.
 */
export function adapterStates(x: tf.Tensor2D, { a, scale }: Adapter, keep: Keep): Computed {
  const keptX = keep(x);
  const fused = fusedKernel('groupgrad.adapterStates');
  return {
    value: (fused?.({ x, a }, { scale })[0] as tf.Tensor2D | undefined) ?? tf.mul(matMulTransposed(x, a), scale),
    backward: (dy, wanted) => {
      const scaled = tf.mul<tf.Tensor2D>(dy, scale);
      return {
        ...(wanted('x') && { x: matMul(scaled, a) }),
        ...(wanted('a') && { a: transposedMatMul(scaled, keptX()) }),
      };
    },
  };
}

/**
 * x [N, inputs] to [N, outputs]. Gradients: `x`, `weight`, `bias`, and of the adapter `a` and `b`.
 *
 * Fused kernels: `groupgrad.linear` ({ x, weight, bias?, low?, b? }, { inputsFirst }) → value, with `low` the adapter's states;
 * and, of layers with an adapter, `groupgrad.linearBackward` ({ dy, x, weight, low, a, b }, { inputsFirst, scale, wantsX, wantsA,
 * wantsB }) → the wanted ones of dx, dA, dB, in this order. They add the adapter's terms in the memory of the others.
 */
export function linear(x: tf.Tensor2D, layer: Linear, keep: Keep): Computed {
  const { weight, inputsFirst, bias, adapter } = layer;
  const keptX = keep(x);
  const low = adapter && adapterStates(x, adapter, keep);
  const keptLow = low && keep(low.value);
  return {
    get value() {
      const fused = bias || low ? fusedKernel('groupgrad.linear') : undefined;
      if (fused) {
        const own = { x, weight, ...(bias && { bias }), ...(low && { low: low.value, b: adapter.b }) };
        return fused(own, { inputsFirst })[0] as tf.Tensor2D;
      }
      const mapped = inputsFirst ? matMul(x, weight) : matMulTransposed(x, weight);
      const based = bias ? tf.add<tf.Tensor2D>(mapped, bias) : mapped;
      return low ? tf.add<tf.Tensor2D>(based, matMulTransposed(low.value, adapter.b)) : based;
    },
    backward: (dy, wanted) => {
      const gradients: Gradients = {};
      if (wanted('weight')) {
        gradients.weight = inputsFirst ? transposedMatMul(keptX(), dy) : transposedMatMul(dy, keptX());
      }
      if (bias && wanted('bias')) gradients.bias = tf.sum(dy, 0);
      const rest = low
        ? adaptedBackward(dy, layer as AdaptedLinear, { x: keptX(), low: keptLow!() }, wanted)
        : wanted('x')
          ? { x: inputsFirst ? matMulTransposed(dy, weight) : matMul(dy, weight) }
          : {};
      return { ...gradients, ...rest };
    },
  };
}

type AdaptedLinear = Linear & { adapter: Adapter };

/** The gradients of x and of the adapter. */
function adaptedBackward(
  dy: tf.Tensor2D,
  { weight, inputsFirst, adapter: { a, b, scale } }: AdaptedLinear,
  { x, low }: { x: tf.Tensor2D; low: tf.Tensor2D },
  wanted: Wanted,
): Gradients {
  const fused = fusedKernel('groupgrad.linearBackward');
  if (fused) {
    const [wantsX, wantsA, wantsB] = [wanted('x'), wanted('a'), wanted('b')];
    const computed = fused({ dy, x, weight, low, a, b }, { inputsFirst, scale, wantsX, wantsA, wantsB });
    const names = [...(wantsX ? ['x'] : []), ...(wantsA ? ['a'] : []), ...(wantsB ? ['b'] : [])];
    return Object.fromEntries(names.map((name, i) => [name, computed[i]]));
  }
  const gradients: Gradients = {};
  if (wanted('b')) gradients.b = transposedMatMul(dy, low);
  if (wanted('a') || wanted('x')) {
    const dLow = tf.mul<tf.Tensor2D>(matMul(dy, b), scale);
    if (wanted('a')) gradients.a = transposedMatMul(dLow, x);
    if (wanted('x')) {
      const byWeight = inputsFirst ? matMulTransposed(dy, weight) : matMul(dy, weight);
      gradients.x = tf.add(byWeight, matMul(dLow, a));
    }
  }
  return gradients;
}
