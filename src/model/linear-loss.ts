// The loss of a policy from its final states, without its logits in memory: the products are TensorFlow.js's, on whatever
// backend, the loss is the host API's (src/devices/linear.ts).

import * as tf from '@tensorflow/tfjs-core';
import { currentPrecision, inPrecision } from '../backend/bfloat16.js';
import type { Precision } from '../backend/precision.js';
import { rangeError } from '../base/check.js';
import { type DeviceChoice, pickDevice } from '../devices/devices.js';
import { linearLoss as computeLoss, type LinearProducts, linearBlockRows, maxLogitBytes } from '../devices/linear.js';
import { advantageResult } from '../loss/losses.js';
import type { LossConfig } from '../loss/option-types.js';
import { type LinearInput, planLinearTokens } from '../loss/request.js';
import { differentiableInAll } from '../tfjs/differentiable.js';
import type { GrpoReport } from '../tfjs/index.js';
import { maskedScore } from './attention.js';
import {
  matMul,
  multipliesInto,
  multiplyInto,
  type SharedFactor,
  shareTransposed,
  transposedMatMul,
} from './matrix-products.js';
import type { HiddenStates, Policy, SequenceBatch } from './policy.js';

/**
 * The final states of a batch, `rows` of them, where its logits would take more than `most` bytes and the policy gives states;
 * otherwise undefined: logits as a whole take one product less. RangeError if their shape is wrong.
 */
export function hiddenInPlaceOfLogits(
  policy: Policy,
  batch: SequenceBatch,
  rows: number,
  from?: number,
  most = maxLogitBytes,
): HiddenStates | undefined {
  if (!policy.hidden || 4 * rows * policy.logitsSize <= most) return undefined;
  const hidden = policy.hidden(batch, from);
  checkFactors('policy', hidden, 'D');
  if (hidden.adapter) checkFactors('policy, adapter', hidden.adapter, 'R');
  return hidden;

  function checkFactors(field: string, given: Pick<HiddenStates, 'states' | 'unembedding'>, width: string): void {
    const [states, matrix] = [given.states.shape, given.unembedding.shape];
    if (states[0] === rows && matrix[0] === policy.logitsSize && states[1] === matrix[1]) return;
    const expected = `hidden states [${rows}, ${width}] and an unembedding [${policy.logitsSize}, ${width}]`;
    throw rangeError(field, expected, `[${states.join(', ')}] and [${matrix.join(', ')}]`);
  }
}

/** What the loss reads besides hidden states, in typed arrays. */
export interface LinearBatch extends Omit<LinearInput, 'shape' | 'hidden' | 'unembedding' | 'softCap'> {
  shape: { sequences: number; length: number };
}

export interface LinearLossOptions {
  device?: DeviceChoice;
  threads?: number;
  /** As in the host API's `linearLoss`, but for the default: the fewest, `linearBlockRows`. */
  chunkRows?: number;
  /** For each of the B * T places, the ids that its token was drawn from; undefined where those are all. Left out: all. */
  kept?: readonly (Int32Array | undefined)[];
  /** Called once, before the loss is returned. */
  onResult?: (report: GrpoReport) => void;
}

/**
 * `grpoLoss` of the logits that `hidden` stands for. A scalar that tfjs differentiates with respect to the states and, where
 * they are trained, the unembedding and its adapter; all gradients are computed with it. All products are of `linearBlockRows` rows: so the chunk
 * changes no bit on any backend.
 */
export function linearLoss(
  hidden: HiddenStates,
  batch: LinearBatch,
  config: LossConfig,
  options: LinearLossOptions = {},
): tf.Scalar {
  const inputs = factorsOf(hidden).flatMap(({ states, matrix, isTrained }) =>
    isTrained ? [states, matrix] : [states],
  );
  return differentiableInAll(inputs, () =>
    compute(hidden, batch, config, options, (report, products) => {
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
  { device: choice, onResult: _, kept, chunkRows = linearBlockRows, ...options }: LinearLossOptions,
  use: (report: GrpoReport, products: TensorProducts) => R,
  differentiated = true,
): R {
  const { softCap, unembedding } = hidden;
  const [vocab, hiddenSize] = unembedding.shape;
  const sizes = { ...shape, hiddenSize, vocab };
  const input = { ...batch, shape: sizes, ...(softCap !== undefined && { softCap }) };
  const plan = planLinearTokens(input, config, { ...options, chunkRows });
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

/** The factors of logits, which are the sum of their products states · matrixᵀ. */
interface Factors {
  /** [rows, D]. */
  states: tf.Tensor2D;
  /** [V, D]. */
  matrix: tf.Tensor2D;
  /** Whether the gradient of the matrix is wanted. */
  isTrained: boolean;
}

function factorsOf({ states, unembedding, trainsUnembedding, adapter }: HiddenStates): Factors[] {
  const own = { states, matrix: unembedding, isTrained: trainsUnembedding };
  return adapter ? [own, { states: adapter.states, matrix: adapter.unembedding, isTrained: true }] : [own];
}

class TensorProducts implements LinearProducts {
  readonly floats = Float32Array;
  private readonly terms: readonly Term[];
  private readonly vocab: number;
  private readonly precision: Precision;
  private readonly chunk: Float32Array;
  /** Logits as they were before the gradient, where their soft cap has a slope. */
  private readonly capped: Float32Array | undefined;

  constructor(
    hidden: HiddenStates,
    private readonly softCap: number,
    chunkRows: number,
    private readonly kept: LinearLossOptions['kept'],
  ) {
    const { states, unembedding, precision = currentPrecision() } = hidden;
    this.vocab = unembedding.shape[0];
    this.precision = precision;
    const rows = Math.min(chunkRows, states.shape[0]);
    this.chunk = new Float32Array(rows * this.vocab);
    if (softCap < Infinity) this.capped = new Float32Array(this.chunk.length);
    this.terms = factorsOf(hidden).map((factors) => new Term(factors));
  }

  logits(rows: Int32Array): Float32Array {
    const { softCap, chunk, vocab } = this;
    this.forEachBlock(rows, (block, begin) => {
      const own = chunk.subarray(begin * vocab, (begin + block.length) * vocab);
      const product = this.product(block, own);
      if (softCap < Infinity) own.set(tf.mul(tf.tanh(tf.div(product, softCap)), softCap).dataSync());
      else if (!multipliesInto()) own.set(product.dataSync());
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
    const { softCap, capped, terms, vocab } = this;
    this.forEachBlock(rows, (block, begin) => {
      // Over this memory without a copy: what is computed from it is there before it changes.
      const matrix = (values: Float32Array) =>
        tf.tensor2d(values.subarray(begin * vocab, (begin + block.length) * vocab), [block.length, vocab]);
      const slope = capped && tf.sub(1, tf.square(tf.div(matrix(capped), softCap)));
      const gradient = slope ? tf.mul<tf.Tensor2D>(matrix(gradLogits), slope) : matrix(gradLogits);
      for (const term of terms) term.backward(block, gradient);
    });
  }

  /** Of each term's states and, where it is trained, its matrix. */
  gradients(): (tf.Tensor | Float32Array)[] {
    return this.terms.flatMap((term) => term.gradients());
  }

  dispose(): void {
    for (const term of this.terms) term.dispose();
  }

  /** The sum of the terms' products, in the memory given if the backend can write there. */
  private product(block: Int32Array, memory: Float32Array): tf.Tensor2D {
    const { terms, vocab } = this;
    if (!multipliesInto()) return terms.map((term) => term.product(block)).reduce((sum, next) => tf.add(sum, next));
    const y = tf.tensor2d(memory, [block.length, vocab]);
    terms.forEach((term, i) => {
      term.productInto(y, block, i > 0);
    });
    return y;
  }

  private forEachBlock(rows: Int32Array, run: (block: Int32Array, begin: number) => void): void {
    for (let begin = 0; begin < rows.length; begin += linearBlockRows) {
      const block = rows.subarray(begin, begin + linearBlockRows);
      tf.tidy(() => inPrecision(this.precision, () => run(block, begin)));
    }
  }
}

/** A product of states and a matrix, block by block of rows, and its gradients. */
class Term {
  private readonly shared: SharedFactor;
  private readonly gradStates: Float32Array;
  private gradMatrix: tf.Tensor2D | undefined;

  constructor(private readonly factors: Factors) {
    this.shared = shareTransposed(factors.matrix);
    this.gradStates = new Float32Array(factors.states.size);
  }

  product(block: Int32Array): tf.Tensor2D {
    return this.shared.product(this.select(block));
  }

  /** Writes the product to the memory of y, or adds it to what is there, on backends that can. */
  productInto(y: tf.Tensor2D, block: Int32Array, adds: boolean): void {
    multiplyInto(y, this.select(block), this.factors.matrix, { transposeB: true, adds });
  }

  backward(block: Int32Array, gradient: tf.Tensor2D): void {
    const { matrix, isTrained } = this.factors;
    const width = matrix.shape[1];
    const byState = matMul(gradient, matrix).dataSync();
    block.forEach((row, i) => {
      this.gradStates.set(byState.subarray(i * width, (i + 1) * width), row * width);
    });
    if (isTrained) this.addGradient(gradient, this.select(block));
  }

  gradients(): (tf.Tensor | Float32Array)[] {
    const { gradStates, gradMatrix } = this;
    const { matrix, isTrained } = this.factors;
    if (!isTrained) return [gradStates];
    return [gradStates, gradMatrix ? tf.clone(gradMatrix) : tf.zeros(matrix.shape)];
  }

  dispose(): void {
    this.shared.dispose();
    this.gradMatrix?.dispose();
  }

  private select(rows: Int32Array): tf.Tensor2D {
    const { states } = this.factors;
    const [first, last] = [rows[0], rows[rows.length - 1]];
    if (last - first === rows.length - 1) return tf.slice(states, [first, 0], [rows.length, states.shape[1]]);
    return tf.gather(states, tf.tensor1d(rows.slice(), 'int32'));
  }

  private addGradient(dy: tf.Tensor2D, states: tf.Tensor2D): void {
    const before = this.gradMatrix;
    if (before && multipliesInto()) {
      multiplyInto(before, dy, states, { transposeA: true, adds: true });
      return;
    }
    const gradient = transposedMatMul(dy, states);
    this.gradMatrix = tf.keep(before ? tf.add(before, gradient) : tf.clone(gradient));
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
