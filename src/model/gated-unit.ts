// The gated unit between the projections of a feed-forward block (arXiv 2002.05202): activation(gate) × up.

import * as tf from '@tensorflow/tfjs-core';
import type { Activation } from './architecture.js';
import { type Computed, fusedKernel, type Keep } from './part.js';

/** activation(gate) × up, of gate and up [N, D] each. Gradients: `gate` and `up`.
 *
 * Fused kernels: `groupgrad.gatedUnit` ({ gate, up }, { gelu }) → value, and `groupgrad.gatedUnitBackward`
 * ({ dy, gate, up }, { gelu }) → dGate, dUp; with `gelu` false the activation is SiLU.
 */
export function gatedUnit(gate: tf.Tensor2D, up: tf.Tensor2D, activation: Activation, keep: Keep): Computed {
  const [keptGate, keptUp] = [keep(gate), keep(up)];
  const forward = fusedKernel('groupgrad.gatedUnit');
  const backward = fusedKernel('groupgrad.gatedUnitBackward');
  if (forward && backward) {
    const attributes = { gelu: activation !== 'silu' };
    return {
      value: forward({ gate, up }, attributes)[0] as tf.Tensor2D,
      backward: (dy) => {
        const [dGate, dUp] = backward({ dy, gate: keptGate(), up: keptUp() }, attributes);
        return { gate: dGate, up: dUp };
      },
    };
  }
  const { value, slope } = activations[activation];
  return {
    value: tf.tidy(() => tf.mul<tf.Tensor2D>(value(gate), up)),
    backward: (dy) =>
      tf.tidy(() => ({
        gate: tf.mul(tf.mul(dy, keptUp()), slope(keptGate())),
        up: tf.mul(dy, value(keptGate())),
      })),
  };
}

type Elementwise = (x: tf.Tensor2D) => tf.Tensor2D;

const silu: Elementwise = (x) => tf.mul(x, tf.sigmoid(x));

/** silu'(x) = σ(x) + silu(x) (1 − σ(x)). */
const siluSlope: Elementwise = (x) => {
  const sigmoid = tf.sigmoid(x);
  return tf.add(sigmoid, tf.mul(tf.mul(x, sigmoid), tf.sub(1, sigmoid)));
};

const geluScale = Math.sqrt(2 / Math.PI);
const geluCubic = 0.044715;

/** tanh(√(2/π) (x + 0.044715 x³)), of GELU's approximation (arXiv 1606.08415). */
const geluTanh: Elementwise = (x) => tf.tanh(tf.mul(tf.add(x, tf.mul(tf.mul(tf.square(x), x), geluCubic)), geluScale));

const gelu: Elementwise = (x) => tf.mul(tf.mul(x, 0.5), tf.add(geluTanh(x), 1));

/** gelu'(x) = ½ (1 + t) + ½ x (1 − t²) √(2/π) (1 + 3 · 0.044715 x²), with t the tanh. */
const geluSlope: Elementwise = (x) => {
  const t = geluTanh(x);
  const inner = tf.mul(tf.add(tf.mul(tf.square(x), 3 * geluCubic), 1), geluScale);
  return tf.mul(tf.add(tf.add(t, 1), tf.mul(tf.mul(x, tf.sub(1, tf.square(t))), inner)), 0.5);
};

const activations: Readonly<Record<Activation, { value: Elementwise; slope: Elementwise }>> = {
  silu: { value: silu, slope: siluSlope },
  gelu_pytorch_tanh: { value: gelu, slope: geluSlope },
};
