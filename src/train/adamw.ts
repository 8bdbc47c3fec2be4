// AdamW (arXiv 1711.05101): Adam with decoupled weight decay.
// Implemented here because tfjs has no AdamW and its Adam cannot be resumed exactly: here all state is float32 tensors and one
// count of updates, which determines the bias corrections and the learning rate.

import * as tf from '@tensorflow/tfjs-core';
import { fusedKernel } from '../model/part.js';
import type { OptimizerSettings } from './options.js';
import { learningRateAt } from './schedule.js';

export type Variables = Readonly<Record<string, tf.Variable>>;

/** Updates variables in place. Owns two tensors per variable: `dispose` frees those, not the variables. */
export class AdamW {
  /** Updates made so far. */
  updates = 0;
  /** Running means of the gradient and of its square, under the variables' names. */
  readonly means: Variables;
  readonly squares: Variables;

  constructor(
    private readonly variables: Variables,
    readonly settings: OptimizerSettings,
  ) {
    const zeros = (): Variables =>
      Object.fromEntries(
        Object.entries(variables).map(([name, { shape }]) => [
          name,
          tf.tidy(() => tf.variable(tf.zeros(shape as number[]), false)),
        ]),
      );
    this.means = zeros();
    this.squares = zeros();
  }

  /** The learning rate of the next update. */
  get learningRate(): number {
    return learningRateAt(this.updates + 1, this.settings);
  }

  /**
   * One update by gradients under the variables' names, each multiplied by `scale`. A variable without a gradient stays as it is.
   *
   * Fused kernel: `groupgrad.adamW` ({ variable, mean, square, gradient }, { scale, beta1, beta2, epsilon, rate, decay,
   * correction }) → the next variable, mean and square; `rate` holds the bias correction of the mean, `correction` is that
   * of the square, and `decay` the fraction of the variable that is subtracted.
   */
  update(gradients: Readonly<Record<string, tf.Tensor>>, scale = 1): void {
    const rate = this.learningRate;
    this.updates++;
    for (const [name, gradient] of Object.entries(gradients)) {
      tf.tidy(() => this.updateOne(name, gradient, scale, rate));
    }
  }

  dispose(): void {
    tf.dispose([...Object.values(this.means), ...Object.values(this.squares)]);
  }

  private updateOne(name: string, gradient: tf.Tensor, scale: number, learningRate: number): void {
    const { betas, epsilon, weightDecay } = this.settings;
    const [variable, mean, square] = [this.variables[name], this.means[name], this.squares[name]];
    // The running means start at 0; dividing by 1 − βᵗ removes the bias towards it.
    const rate = learningRate / (1 - betas[0] ** this.updates);
    const correction = 1 - betas[1] ** this.updates;
    const decay = variable.rank > 1 ? learningRate * weightDecay : 0;
    const fused = fusedKernel('groupgrad.adamW');
    if (fused) {
      const settings = { scale, beta1: betas[0], beta2: betas[1], epsilon, rate, decay, correction };
      const next = fused({ variable, mean, square, gradient }, settings);
      [variable, mean, square].forEach((tensor, i) => {
        tensor.assign(next[i]);
      });
      return;
    }
    const scaled = tf.mul(gradient, scale);
    mean.assign(blend(mean, scaled, betas[0]));
    square.assign(blend(square, tf.square(scaled), betas[1]));
    const direction = tf.div(mean, tf.add(tf.sqrt(tf.div(square, correction)), epsilon));
    const step = tf.mul(direction, rate);
    variable.assign(tf.sub(decay > 0 ? tf.mul(variable, 1 - decay) : variable, step));
  }
}

/** β old + (1 − β) new. */
function blend(old: tf.Tensor, now: tf.Tensor, beta: number): tf.Tensor {
  return tf.add(tf.mul(old, beta), tf.mul(now, 1 - beta));
}
