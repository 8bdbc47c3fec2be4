// AdamW (arXiv 1711.05101): Adam with decoupled weight decay and a linear warm-up of the learning rate.
// Our own, because tfjs has no AdamW and its Adam cannot be resumed exactly: here all state is float32 tensors and one
// count of steps, from which the bias corrections follow.

import * as tf from '@tensorflow/tfjs-core';
import { checkNumber } from '../loss/check.js';

export interface AdamWOptions {
  learningRate: number;
  /** Steps over which the learning rate rises linearly to its full value. Default 0: full from the first step. */
  warmupSteps?: number;
  /** After its warm-up the learning rate falls linearly, to 0 after this many steps. Default: it does not fall. */
  totalSteps?: number;
  /** Decay rates of the running means of the gradient and of its square. Default [0.9, 0.999]. */
  betas?: readonly [number, number];
  /** Added to the root of the mean square. Default 1e-8. */
  epsilon?: number;
  /** Share of a weight that decays a step, times the learning rate. Gains (rank 1) do not decay. Default 0. */
  weightDecay?: number;
}

interface Moments {
  mean: tf.Variable;
  square: tf.Variable;
}

/** Updates variables in place. Owns two tensors for each of them: `dispose` frees those, not the variables. */
export class AdamW {
  /** Updates made so far. */
  steps = 0;
  private readonly options: Required<AdamWOptions>;
  private readonly moments: Record<string, Moments>;

  /** RangeError for an option out of range. */
  constructor(
    private readonly variables: Readonly<Record<string, tf.Variable>>,
    {
      learningRate,
      warmupSteps = 0,
      totalSteps = Infinity,
      betas = [0.9, 0.999],
      epsilon = 1e-8,
      weightDecay = 0,
    }: AdamWOptions,
  ) {
    this.options = {
      learningRate: checkNumber('learningRate', learningRate, { min: 0 }),
      warmupSteps: checkNumber('warmupSteps', warmupSteps, { min: 0, integer: true }),
      totalSteps:
        totalSteps === Infinity
          ? totalSteps
          : checkNumber('totalSteps', totalSteps, { min: warmupSteps, integer: true }),
      betas: [checkBeta('betas[0]', betas[0]), checkBeta('betas[1]', betas[1])],
      epsilon: checkNumber('epsilon', epsilon, { above: 0 }),
      weightDecay: checkNumber('weightDecay', weightDecay, { min: 0 }),
    };
    const zeros = (shape: number[]) => tf.tidy(() => tf.variable(tf.zeros(shape), false));
    this.moments = Object.fromEntries(
      Object.entries(variables).map(([name, { shape }]) => [name, { mean: zeros(shape), square: zeros(shape) }]),
    );
  }

  /** The learning rate of the next update. */
  get learningRate(): number {
    const { learningRate, warmupSteps, totalSteps } = this.options;
    const rise = (this.steps + 1) / Math.max(1, warmupSteps);
    const fall = totalSteps === Infinity ? 1 : (totalSteps - this.steps) / (totalSteps - warmupSteps + 1);
    return learningRate * Math.max(0, Math.min(1, rise, fall));
  }

  /** One update by gradients under the variables' names, each multiplied by `scale`. Without one, a variable stays. */
  update(gradients: Readonly<Record<string, tf.Tensor>>, scale = 1): void {
    const rate = this.learningRate;
    this.steps++;
    for (const [name, gradient] of Object.entries(gradients)) {
      tf.tidy(() => this.updateOne(this.variables[name], this.moments[name], tf.mul(gradient, scale), rate));
    }
  }

  dispose(): void {
    tf.dispose(Object.values(this.moments).flatMap(({ mean, square }) => [mean, square]));
  }

  private updateOne(variable: tf.Variable, { mean, square }: Moments, gradient: tf.Tensor, rate: number): void {
    const { betas, epsilon, weightDecay } = this.options;
    mean.assign(blend(mean, gradient, betas[0]));
    square.assign(blend(square, tf.square(gradient), betas[1]));
    // The running means start at 0; dividing by 1 − βᵗ makes them averages of what they have seen.
    const root = tf.sqrt(tf.div(square, 1 - betas[1] ** this.steps));
    const direction = tf.div(mean, tf.add(root, epsilon));
    const step = tf.mul(direction, rate / (1 - betas[0] ** this.steps));
    const decay = variable.rank > 1 ? rate * weightDecay : 0;
    variable.assign(tf.sub(decay > 0 ? tf.mul(variable, 1 - decay) : variable, step));
  }
}

function checkBeta(field: string, value: unknown): number {
  const beta = checkNumber(field, value, { min: 0 });
  if (beta >= 1) throw new RangeError(`${field}: expected a number below 1, got ${beta}`);
  return beta;
}

/** β old + (1 − β) new. */
function blend(old: tf.Tensor, now: tf.Tensor, beta: number): tf.Tensor {
  return tf.add(tf.mul(old, beta), tf.mul(now, 1 - beta));
}
