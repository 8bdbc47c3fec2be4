// Rotary position embedding (arXiv 2104.09864), with the dimensions of a head paired in halves as Llama does:
// x cos + rotateHalf(x) sin, where rotateHalf takes two halves (a, b) to (−b, a).

import * as tf from '@tensorflow/tfjs-core';
import { type Computed, fusedKernel, type Gradients, type Keep } from './part.js';

/** The rotations of some positions. */
export interface Rotation {
  /**
   * [positions, head size] each, shared by all sequences of a batch. Dimensions that are not rotated have cosine 1 and sine
   * 0.
   */
  cos: tf.Tensor2D;
  sin: tf.Tensor2D;
  /** rotateHalf as a matrix [head size, head size]: one small product costs less than slices and a concatenation. */
  rotateHalf: tf.Tensor2D;
  /** Number of dimensions of a head that are rotated; the others are unchanged. */
  width: number;
}

export interface Frequencies {
  /** In radians per position. Angles have the precision of the array: float32, as in transformers, or float64. */
  frequencies: Float32Array | Float64Array;
  /** cos and sin are multiplied by it. */
  attentionFactor: number;
}

/** Rotations of positions for heads of `size` dimensions. */
export function rotation(
  { frequencies, attentionFactor }: Frequencies,
  size: number,
  positions: ArrayLike<number>,
): Rotation {
  const half = frequencies.length;
  const round = frequencies instanceof Float32Array ? Math.fround : (angle: number) => angle;
  const table = (f: (angle: number) => number, fixed: number) =>
    tf.tensor2d(
      Float32Array.from({ length: positions.length * size }, (_, i) => {
        const place = i % size;
        if (place >= 2 * half) return fixed;
        return f(round(positions[Math.floor(i / size)] * frequencies[place % half])) * attentionFactor;
      }),
      [positions.length, size],
    );
  const matrix = new Float32Array(size * size);
  for (let i = 0; i < half; i++) {
    matrix[(half + i) * size + i] = -1;
    matrix[i * size + half + i] = 1;
  }
  return {
    cos: table(Math.cos, 1),
    sin: table(Math.sin, 0),
    rotateHalf: tf.tensor2d(matrix, [size, size]),
    width: 2 * half,
  };
}

/**
 * Rotates the heads of x [sequences * positions, heads * size]. Gradient: `x`.
 *
 * Fused kernel: `groupgrad.rotary` ({ x, cos, sin }, { width, inverse }) → value; `inverse` rotates back.
 */
export function rotary(x: tf.Tensor2D, rotation: Rotation, keep: Keep): Computed {
  const [cos, sin, rotateHalf] = [keep(rotation.cos), keep(rotation.sin), keep(rotation.rotateHalf)];
  return {
    value: rotate(x, rotation, false),
    backward: (dy, wanted): Gradients => {
      const kept = { ...rotation, cos: cos(), sin: sin(), rotateHalf: rotateHalf() };
      return wanted('x') ? { x: rotate(dy, kept, true) } : {};
    },
  };
}

/** Rotating back is the transpose of rotating, and so its derivative too. */
function rotate(x: tf.Tensor2D, { cos, sin, rotateHalf, width }: Rotation, inverse: boolean): tf.Tensor2D {
  const fused = fusedKernel('groupgrad.rotary');
  if (fused) return fused({ x, cos, sin }, { width, inverse })[0] as tf.Tensor2D;
  const [count, size] = cos.shape;
  const heads = x.shape[1] / size;
  return tf.tidy(() => {
    const split = tf.reshape(x, [x.shape[0] / count, count, heads, size]);
    const turned = tf.reshape(tf.matMul(tf.reshape(x, [x.shape[0] * heads, size]), rotateHalf), split.shape);
    const [c, s] = [cos, sin].map((table) => tf.reshape(table, [count, 1, size]));
    const combine = inverse ? tf.sub : tf.add;
    return tf.reshape(combine(tf.mul(split, c), tf.mul(turned, s)), x.shape);
  });
}
