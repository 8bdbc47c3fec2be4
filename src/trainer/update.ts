// One update of a policy: the gradient of a loss, clipped to a global norm, and a step of the optimiser.

import * as tf from '@tensorflow/tfjs-core';
import type { Policy } from '../policy/policy.js';
import type { AdamW } from './adamw.js';

export interface UpdateResult {
  loss: number;
  /** Norm of the gradient of all variables together, before clipping. */
  gradientNorm: number;
}

/**
 * Differentiates a scalar loss with respect to the policy's variables and updates them.
 * The gradient is scaled down to `maxNorm` where its norm is larger. Error, and no update, when the loss or a gradient
 * is not finite.
 */
export function updatePolicy(policy: Policy, optimizer: AdamW, loss: () => tf.Scalar, maxNorm: number): UpdateResult {
  const names = Object.keys(policy.variables);
  const { value, grads } = tf.variableGrads(loss, Object.values(policy.variables));
  // tfjs names gradients by its own names of the variables.
  const gradients = Object.fromEntries(names.map((name) => [name, grads[policy.variables[name].name]]));
  const norm = tf.tidy(() => tf.sqrt(tf.addN(Object.values(gradients).map((g) => tf.sum(tf.square(g))))));
  try {
    const [lossValue, gradientNorm] = [value.dataSync()[0], norm.dataSync()[0]];
    if (!Number.isFinite(lossValue) || !Number.isFinite(gradientNorm)) {
      throw new Error(`expected a finite loss and gradient, got a loss of ${lossValue} and a norm of ${gradientNorm}`);
    }
    optimizer.update(gradients, gradientNorm > maxNorm ? maxNorm / gradientNorm : 1);
    return { loss: lossValue, gradientNorm };
  } finally {
    tf.dispose([value, norm, grads]);
  }
}
