// The feed-forward block: x + SwiGLU(norm(x)) (arXiv 2002.05202).

import * as tf from '@tensorflow/tfjs-core';
import { rmsNorm, rmsNormBackward } from './norm.js';
import type { Part } from './part.js';
import { times, timesTransposed, transposedTimes } from './products.js';

/** States x [N, D], gain [D], gate and up [D, hidden], down [hidden, D] of one block. */
export interface FeedforwardInputs {
  x: tf.Tensor2D;
  norm: tf.Tensor1D;
  gate: tf.Tensor2D;
  up: tf.Tensor2D;
  down: tf.Tensor2D;
}

type Saved = Record<'normed' | 'unit' | 'scale' | 'gated' | 'raised' | 'sigmoid' | 'activated', tf.Tensor2D>;

/** x + (silu(n gate) * (n up)) down, [N, D], with n = norm(x). */
export function feedforwardBlock(inputs: FeedforwardInputs): Part<FeedforwardInputs, Saved> {
  const { value: normed, unit, scale } = rmsNorm(inputs.x, inputs.norm);
  const gated = times(normed, inputs.gate);
  const raised = times(normed, inputs.up);
  const sigmoid = tf.sigmoid(gated);
  const activated = tf.mul<tf.Tensor2D>(tf.mul(gated, sigmoid), raised);
  return {
    value: tf.add(inputs.x, times(activated, inputs.down)),
    saved: { normed, unit, scale, gated, raised, sigmoid, activated },
    backward: (dy, saved) => feedforwardBackward(dy, saved, inputs),
  };
}

function feedforwardBackward(dy: tf.Tensor2D, saved: Saved, inputs: FeedforwardInputs) {
  const { normed, gated, raised, sigmoid, activated } = saved;
  const dActivated = timesTransposed(dy, inputs.down);
  const silu = tf.mul(gated, sigmoid);
  const dRaised = tf.mul<tf.Tensor2D>(dActivated, silu);
  // silu'(g) = σ(g) + silu(g) (1 − σ(g)).
  const slope = tf.add(sigmoid, tf.mul(silu, tf.sub(1, sigmoid)));
  const dGated = tf.mul<tf.Tensor2D>(tf.mul(dActivated, raised), slope);
  const dNormed = tf.add<tf.Tensor2D>(timesTransposed(dGated, inputs.gate), timesTransposed(dRaised, inputs.up));
  const { dx, dGain } = rmsNormBackward(dNormed, inputs.norm, saved);
  return {
    x: tf.add(dy, dx),
    norm: dGain,
    gate: transposedTimes(normed, dGated),
    up: transposedTimes(normed, dRaised),
    down: transposedTimes(activated, dy),
  };
}
