// RMSNorm (arXiv 1910.07467): x / sqrt(mean(x²) + ε) × (weight + offset) over the last dimension.

import * as tf from '@tensorflow/tfjs-core';
import { type Computed, fusedKernel, type Gradients, type Keep } from './part.js';

export interface Norm {
  /** [D]. */
  weight: tf.Tensor1D;
  epsilon: number;
  /** 1 in the Gemma families, whose weights are differences from 1; else 0. */
  offset: 0 | 1;
}

/** RMSNorm of x [N, D]. Gradients: `x` and `weight`.
 *
 * Fused kernels: `groupgrad.rmsNorm` ({ x, weight }, { epsilon, offset }) → value, scale = 1 / sqrt(mean(x²) + ε) [N, 1];
 * `groupgrad.rmsNormBackward` ({ dy, x, weight, scale }, { offset, wantsWeight }) → dx, and dWeight if it is wanted.
 */
export function rmsNorm(x: tf.Tensor2D, norm: Norm, keep: Keep): Computed {
  const forward = fusedKernel('groupgrad.rmsNorm');
  const backward = fusedKernel('groupgrad.rmsNormBackward');
  return forward && backward ? fused(x, norm, keep, forward, backward) : composed(x, norm, keep);
}

type Kernel = NonNullable<ReturnType<typeof fusedKernel>>;

function fused(x: tf.Tensor2D, { weight, epsilon, offset }: Norm, keep: Keep, forward: Kernel, backward: Kernel) {
  const [value, scale] = forward({ x, weight }, { epsilon, offset });
  const [keptX, keptScale] = [keep(x), keep(scale)];
  return {
    value: value as tf.Tensor2D,
    backward: (dy: tf.Tensor2D, wanted: (name: string) => boolean) => {
      const wantsWeight = wanted('weight');
      const [dx, dWeight] = backward({ dy, x: keptX(), weight, scale: keptScale() }, { offset, wantsWeight });
      return { x: dx, ...(wantsWeight && { weight: dWeight }) };
    },
  };
}

function composed(x: tf.Tensor2D, { weight, epsilon, offset }: Norm, keep: Keep): Computed {
  const gain = () => (offset === 0 ? weight : tf.add<tf.Tensor1D>(weight, offset));
  const scale = tf.tidy(() => tf.rsqrt(tf.add(tf.mean(tf.square(x), 1, true), epsilon))) as tf.Tensor2D;
  const unit = tf.mul<tf.Tensor2D>(x, scale);
  const [keptUnit, keptScale] = [keep(unit), keep(scale)];
  return {
    value: tf.mul(unit, gain()),
    backward: (dy, wanted) => {
      const gradients: Gradients = {};
      if (wanted('x')) {
        const dUnit = tf.mul(dy, gain());
        const along = tf.mean(tf.mul(dUnit, keptUnit()), 1, true);
        gradients.x = tf.mul(tf.sub(dUnit, tf.mul(keptUnit(), along)), keptScale());
      }
      if (wanted('weight')) gradients.weight = tf.sum(tf.mul(dy, keptUnit()), 0);
      return gradients;
    },
  };
}
