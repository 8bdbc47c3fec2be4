// RMSNorm (arXiv 1910.07467): x / rms(x) * gain over the last dimension.

import * as tf from '@tensorflow/tfjs-core';

const epsilon = 1e-5;

export interface Normed {
  /** x / rms(x) * gain, [N, D]. */
  value: tf.Tensor2D;
  /** x / rms(x), [N, D], and 1 / rms(x), [N, 1]: what the backward pass reads. */
  unit: tf.Tensor2D;
  scale: tf.Tensor2D;
}

/** RMSNorm of x [N, D] with gain [D]. */
export function rmsNorm(x: tf.Tensor2D, gain: tf.Tensor1D): Normed {
  const scale = tf.rsqrt(tf.add(tf.mean(tf.square(x), 1, true), epsilon)) as tf.Tensor2D;
  const unit = tf.mul<tf.Tensor2D>(x, scale);
  return { value: tf.mul(unit, gain), unit, scale };
}

/** Gradients of x and of the gain, given that of the value. */
export function rmsNormBackward(
  dy: tf.Tensor2D,
  gain: tf.Tensor,
  { unit, scale }: Pick<Normed, 'unit' | 'scale'>,
): { dx: tf.Tensor2D; dGain: tf.Tensor } {
  const dUnit = tf.mul(dy, gain);
  const along = tf.mean(tf.mul(dUnit, unit), 1, true);
  const dx = tf.mul<tf.Tensor2D>(tf.sub(dUnit, tf.mul(unit, along)), scale);
  return { dx, dGain: tf.sum(tf.mul(dy, unit), 0) };
}
