// The loss of a policy from its final states, without its logits in memory: the products are TensorFlow.js's, on whatever
// backend, the loss is the host API's (src/devices/linear.ts).

import * as tf from '@tensorflow/tfjs-core';
import { currentPrecision, inPrecision } from '../backend/bfloat16.js';
import type { Precision } from '../backend/precision.js';
import { rangeError } from '../base/check.js';
import { type DeviceChoice, pickDevice } from '../devices/devices.js';
import { linearLoss as computeLoss, type LinearProducts, linearBlockRows } from '../devices/linear.js';
import type { LossConfig } from '../loss/config.js';
import { advantageResult } from '../loss/losses.js';
import { type LinearInput, planLinearTokens } from '../loss/request.js';
import { differentiableInAll } from '../tfjs/differentiable.js';
import type { GrpoReport } from '../tfjs/index.js';
import { maskedScore } from './attention.js';
import { matMul, type SharedFactor, shareTransposed, transposedMatMul } from './matrix-products.js';
import type { HiddenStates, Policy, SequenceBatch } from './policy.js';

/** Bytes of logits up to which a batch's are in memory as a whole, which takes one product less. */
export const mostLogitBytes = 2 ** 28;

/**
 * The final states of a batch, `rows` of them, where its logits would take more than `most` bytes and the policy gives states;
 * otherwise undefined. RangeError if their shape is wrong.
 */
export function hiddenInPlaceOfLogits(
  policy: Policy,
  batch: SequenceBatch,
  rows: number,
  from?: number,
  most = mostLogitBytes,
): HiddenStates | undefined {
  if (!policy.hidden || 4 * rows * policy.logitsSize <= most) return undefined;
  const hidden = policy.hidden(batch, from);
  const [states, matrix] = [hidden.states.shape, hidden.unembedding.shape];
  if (states[0] !== rows || matrix[0] !== policy.logitsSize || states[1] !== matrix[1]) {
    const expected = `hidden states [${rows}, D] and an unembedding [${policy.logitsSize}, D]`;
    throw rangeError('policy', expected, `[${states.join(', ')}] and [${matrix.join(', ')}]`);
  }
  return hidden;
}

/** What the loss reads besides hidden states, in typed arrays. */
export interface LinearBatch extends Omit<LinearInput, 'shape' | 'hidden' | 'unembedding' | 'softCap'> {
  shape: { sequences: number; length: number };
}

export interface LinearLossOptions {
  device?: DeviceChoice;
  threads?: number;
  /** As in the host API's `linearLoss`. */
  chunkRows?: number;
  /** For each of the B * T places, the ids that its token was drawn from; undefined where those are all. Left out: all. */
  kept?: readonly (Int32Array | undefined)[];
  /** Called once, before the loss is returned. */
  onResult?: (report: GrpoReport) => void;
}

/**
 * `grpoLoss` of the logits that `hidden` stands for. A scalar that tfjs differentiates with respect to the states and, where
 * it is trained, the unembedding; both gradients are computed with it. All products are of `linearBlockRows` rows: so the chunk
 * changes no bit on any backend.
 */
export function linearLoss(
  hidden: HiddenStates,
  batch: LinearBatch,
  config: LossConfig,
  options: LinearLossOptions = {},
): tf.Scalar {
  const { states, unembedding, trainsUnembedding } = hidden;
  const inputs = trainsUnembedding ? [states, unembedding] : [states];
  return differentiableInAll(inputs, (rows) =>
    compute({ ...hidden, states: rows as tf.Tensor2D }, batch, config, options, (report, products) => {
      options.onResult?.(report);
      return { loss: tf.scalar(report.loss), gradients: products.gradients() };
    }),
  );
}

/** The same without a gradient. */
export function linearReport(
  hidden: HiddenStates,
  batch: LinearBatch,
  config: LossConfig,
  options: LinearLossOptions = {},
): GrpoReport {
  return compute(hidden, batch, config, options, (report) => report, false);
}

function compute<R>(
  hidden: HiddenStates,
  { shape, ...batch }: LinearBatch,
  config: LossConfig,
  { device: choice, onResult: _, kept, ...options }: LinearLossOptions,
  use: (report: GrpoReport, products: TensorProducts) => R,
  differentiated = true,
): R {
  const { softCap, unembedding } = hidden;
  const [vocab, hiddenSize] = unembedding.shape;
  const sizes = { ...shape, hiddenSize, vocab };
  const plan = planLinearTokens({ ...batch, shape: sizes, ...(softCap !== undefined && { softCap }) }, config, options);
  const products = new TensorProducts(hidden, plan.softCap, plan.chunkRows, kept);
  try {
    const { accuracy, loss, metrics } = computeLoss(plan, pickDevice(choice).device, products, differentiated);
    const advantage = plan.advantage && advantageResult(plan.advantage.output, { accuracy: accuracy!, metrics });
    const [logProbs, entropies] = [plan.logProbs as Float32Array, plan.entropies as Float32Array];
    return use({ loss, metrics, logProbs, entropies, ...(advantage && { advantage }) }, products);
  } finally {
    products.dispose();
  }
}

class TensorProducts implements LinearProducts {
  readonly floats = Float32Array;
  private readonly states: tf.Tensor2D;
  private readonly unembedding: tf.Tensor2D;
  private readonly trainsUnembedding: boolean;
  private readonly precision: Precision;
  private readonly chunk: Float32Array;
  /** Logits as they were before the gradient, where their soft cap has a slope. */
  private readonly capped: Float32Array | undefined;
  private readonly factor: SharedFactor;
  private readonly gradStates: Float32Array;
  private gradUnembedding: tf.Tensor2D | undefined;

  constructor(
    { states, unembedding, trainsUnembedding, precision = currentPrecision() }: HiddenStates,
    private readonly softCap: number,
    chunkRows: number,
    private readonly kept: LinearLossOptions['kept'],
  ) {
    this.states = states;
    this.unembedding = unembedding;
    this.trainsUnembedding = trainsUnembedding;
    this.precision = precision;
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
    rows.forEach((row, i) => {
      const ids = this.kept?.[row];
      if (ids) keepIn(logits.subarray(i * vocab, (i + 1) * vocab), ids);
    });
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
      const block = rows.subarray(begin, begin + linearBlockRows);
      tf.tidy(() => inPrecision(this.precision, () => run(block, begin)));
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

/** What maskLogits (src/rollout/kept-tokens.ts) makes of a row, in place. The gradient is that of the logits. */
function keepIn(logits: Float32Array, ids: Int32Array): void {
  const kept = Float32Array.from(ids, (id) => logits[id]);
  for (let i = 0; i < logits.length; i++) logits[i] += maskedScore;
  ids.forEach((id, i) => {
    logits[id] = kept[i];
  });
}
