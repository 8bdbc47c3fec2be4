// Rotary position embedding (arXiv 2104.09864), with the dimensions paired in halves as Llama does.

import * as tf from '@tensorflow/tfjs-core';

const base = 10000;

/** Rotations of the columns at hand. */
export interface Rotation {
  /** [columns, size] each. */
  cos: tf.Tensor2D;
  sin: tf.Tensor2D;
  /** [size, size]: takes a vector of two halves (a, b) to (−b, a). */
  turn: tf.Tensor2D;
}

/**
 * Rotations of columns from … from + columns − 1 for heads of `size` dimensions. A row's padding shifts its positions;
 * attention depends only on differences of positions, so columns serve as the positions of every row.
 */
export function rotation(size: number, from: number, columns: number): Rotation {
  const half = size / 2;
  const angle = (i: number) => (from + Math.floor(i / size)) * base ** (-(i % half) / half);
  const table = (f: (angle: number) => number) =>
    tf.tensor2d(
      Float32Array.from({ length: columns * size }, (_, i) => f(angle(i))),
      [columns, size],
    );
  const turn = new Float32Array(size * size);
  for (let i = 0; i < half; i++) {
    turn[(half + i) * size + i] = -1;
    turn[i * size + half + i] = 1;
  }
  return { cos: table(Math.cos), sin: table(Math.sin), turn: tf.tensor2d(turn, [size, size]) };
}

/** x [rows, columns, size] rotated. */
export function rotate(x: tf.Tensor3D, { cos, sin, turn }: Rotation): tf.Tensor3D {
  return tf.add(tf.mul(x, cos), tf.mul(turnEach(x, turn), sin));
}

/** The gradient of x: dy rotated back. */
export function rotateBackward(dy: tf.Tensor3D, { cos, sin, turn }: Rotation): tf.Tensor3D {
  return tf.sub(tf.mul(dy, cos), tf.mul(turnEach(dy, turn), sin));
}

/** One small matrix product takes the place of two slices, a negation and a concatenation. */
function turnEach(x: tf.Tensor3D, turn: tf.Tensor2D): tf.Tensor3D {
  const [rows, columns, size] = x.shape;
  return tf.reshape(tf.matMul(tf.reshape(x, [rows * columns, size]), turn), x.shape);
}
