// The loss of a policy from its final states, without its logits in memory: the products are TensorFlow.js's, on whatever
// backend, the loss is the host API's (src/devices/linear.ts).

import * as tf from '@tensorflow/tfjs-core';
import { type DeviceChoice, pickDevice } from '../devices/devices.js';
import { linearLoss as computeLoss, type LinearProducts, linearBlockRows } from '../devices/linear.js';
import type { LossConfig } from '../loss/config.js';
import { advantageResult } from '../loss/losses.js';
import { type LinearInput, planLinearTokens } from '../loss/request.js';
import { matMul, type SharedFactor, shareTransposed, transposedMatMul } from '../model/matrix-products.js';
import type { HiddenStates } from '../model/policy.js';
import { differentiableInAll } from '../tfjs/differentiable.js';
import type { GrpoReport } from '../tfjs/index.js';

/** What the loss reads besides hidden states, in typed arrays. */
export interface LinearBatch extends Omit<LinearInput, 'shape' | 'hidden' | 'unembedding' | 'softCap'> {
  shape: { sequences: number; length: number };
}

export interface LinearLossOptions {
  device?: DeviceChoice;
  threads?: number;
  /** As in the host API's `linearLoss`. */
  chunkRows?: number;
  /** Called once, before the loss is returned. */
  onResult?: (report: GrpoReport) => void;
}

/**
 * `grpoLoss` of the logits that `hidden` stands for. A scalar that tfjs differentiates with respect to the states and, where
 * it is trained, the unembedding; both gradients are computed with it. All products are of `linearBlockRows` rows: so the chunk
 * changes no bit on any backend.
 */
export function linearLoss(
  { states, unembedding, trainsUnembedding, softCap }: HiddenStates,
  { shape, ...batch }: LinearBatch,
  config: LossConfig,
  { device: choice, onResult, ...options }: LinearLossOptions = {},
): tf.Scalar {
  const [vocab, hiddenSize] = unembedding.shape;
  const sizes = { ...shape, hiddenSize, vocab };
  const plan = planLinearTokens({ ...batch, shape: sizes, ...(softCap !== undefined && { softCap }) }, config, options);
  const { device } = pickDevice(choice);
  const inputs = trainsUnembedding ? [states, unembedding] : [states];
  return differentiableInAll(inputs, (rows) => {
    const products = new TensorProducts(
      rows as tf.Tensor2D,
      unembedding,
      plan.softCap,
      plan.chunkRows,
      trainsUnembedding,
    );
    try {
      const { accuracy, loss, metrics } = computeLoss(plan, device, products, true);
      const advantage = plan.advantage && advantageResult(plan.advantage.output, { accuracy: accuracy!, metrics });
      const [logProbs, entropies] = [plan.logProbs as Float32Array, plan.entropies as Float32Array];
      onResult?.({ loss, metrics, logProbs, entropies, ...(advantage && { advantage }) });
      return { loss: tf.scalar(loss), gradients: products.gradients() };
    } finally {
      products.dispose();
    }
  });
}

class TensorProducts implements LinearProducts {
  readonly floats = Float32Array;
  private readonly chunk: Float32Array;
  /** Logits as they were before the gradient, where their soft cap has a slope. */
  private readonly capped: Float32Array | undefined;
  private readonly factor: SharedFactor;
  private readonly gradStates: Float32Array;
  private gradUnembedding: tf.Tensor2D | undefined;

  constructor(
    private readonly states: tf.Tensor2D,
    private readonly unembedding: tf.Tensor2D,
    private readonly softCap: number,
    chunkRows: number,
    private readonly trainsUnembedding: boolean,
  ) {
    const rows = Math.min(chunkRows, states.shape[0]);
    this.chunk = new Float32Array(rows * unembedding.shape[0]);
    if (softCap < Infinity) this.capped = new Float32Array(this.chunk.length);
    this.factor = shareTransposed(unembedding);
    this.gradStates = new Float32Array(states.size);
  }

  logits(rows: Int32Array): Float32Array {
    const { softCap, chunk } = this;
    const vocab = this.unembedding.shape[0];
    this.forEachBlock(rows, (block, begin) => {
      const product = this.factor.product(this.select(block));
      const logits = softCap === Infinity ? product : tf.mul(tf.tanh(tf.div(product, softCap)), softCap);
      chunk.set(logits.dataSync(), begin * vocab);
    });
    const logits = chunk.subarray(0, rows.length * vocab);
    this.capped?.set(logits);
    return logits;
  }

  backward(rows: Int32Array, gradLogits: Float32Array): void {
    const { softCap, capped } = this;
    const [vocab, hiddenSize] = this.unembedding.shape;
    this.forEachBlock(rows, (block, begin) => {
      const matrix = (values: Float32Array) =>
        tf.tensor2d(values.slice(begin * vocab, (begin + block.length) * vocab), [block.length, vocab]);
      const slope = capped && tf.sub(1, tf.square(tf.div(matrix(capped), softCap)));
      const gradient = slope ? tf.mul<tf.Tensor2D>(matrix(gradLogits), slope) : matrix(gradLogits);
      const byState = matMul(gradient, this.unembedding).dataSync();
      block.forEach((row, i) => {
        this.gradStates.set(byState.subarray(i * hiddenSize, (i + 1) * hiddenSize), row * hiddenSize);
      });
      if (this.trainsUnembedding) this.add(transposedMatMul(gradient, this.select(block)));
    });
  }

  /** Of the states and, where it is trained, of the unembedding. */
  gradients(): (tf.Tensor | Float32Array)[] {
    if (!this.trainsUnembedding) return [this.gradStates];
    const { gradUnembedding } = this;
    return [this.gradStates, gradUnembedding ? tf.clone(gradUnembedding) : tf.zeros(this.unembedding.shape)];
  }

  dispose(): void {
    this.factor.dispose();
    this.gradUnembedding?.dispose();
  }

  private forEachBlock(rows: Int32Array, run: (block: Int32Array, begin: number) => void): void {
    for (let begin = 0; begin < rows.length; begin += linearBlockRows) {
      tf.tidy(() => run(rows.subarray(begin, begin + linearBlockRows), begin));
    }
  }

  private select(rows: Int32Array): tf.Tensor2D {
    const [first, last] = [rows[0], rows[rows.length - 1]];
    if (last - first === rows.length - 1) return tf.slice(this.states, [first, 0], [rows.length, this.states.shape[1]]);
    return tf.gather(this.states, tf.tensor1d(rows.slice(), 'int32'));
  }

  private add(gradient: tf.Tensor2D): void {
    const before = this.gradUnembedding;
    this.gradUnembedding = tf.keep(before ? tf.add(before, gradient) : tf.clone(gradient));
    before?.dispose();
  }
}
