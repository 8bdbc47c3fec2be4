// The loss from hidden states and an unembedding, whose logits are computed in chunks of rows and never in memory as a whole: the
// log-probs and entropies of all rows, the policy loss over them, and each chunk's logits again, overwritten by their gradient.
// The caller supplies the matrix products (LinearProducts): a device here, TensorFlow.js in the trainer.

import type { Device, LinearPlan, LogitsPlan, LossScalars, TokenPlan } from './plan.js';

/**
 * The gradient with respect to the unembedding is summed over blocks of this many rows with a gradient, and a chunk is a whole
 * number of blocks, so no bit of it depends on the chunk size.
 */
export const linearBlockRows = 128;

/** Bytes of logits that are in memory at once, unless the caller says otherwise: of a chunk of rows, or of all rows that fit. */
export const maxLogitBytes = 2 ** 28;

/** The rows of a chunk: as many as fit in `maxLogitBytes`, or the requested number, rounded up to whole blocks. */
export function chunkRowsFor(vocab: number, wanted?: number): number {
  if (wanted !== undefined) return Math.ceil(wanted / linearBlockRows) * linearBlockRows;
  return Math.max(1, Math.floor(maxLogitBytes / (4 * vocab * linearBlockRows))) * linearBlockRows;
}

/** The matrix products of a chunk. `rows`: indices of tokens, ascending; at most a chunk of them. */
export interface LinearProducts {
  /** Array type of gradients with respect to log-probs and entropies. */
  readonly floats: typeof Float32Array | typeof Float64Array;
  /** Logits of these rows, [rows, V]; a row's bits must not depend on the other rows. They will be overwritten. */
  logits(rows: Int32Array): Float32Array;
  /**
   * Writes the gradient with respect to these rows' hidden states, and adds to that with respect to the unembedding, block by
   * block of `linearBlockRows`. Called after `logits` of the same rows, which `gradLogits` overwrites.
   */
  backward(rows: Int32Array, gradLogits: Float32Array): void;
}

/** Inputs of a loss over log-probs, and what log-probs are computed from besides logits. */
export interface LinearTokens
  extends TokenPlan,
    Pick<LogitsPlan, 'vocab' | 'tokens' | 'temperature' | 'logProbs' | 'entropies'> {
  /** A multiple of `linearBlockRows`. */
  chunkRows: number;
}

/** `differentiated`: whether `products.backward` is called. */
export function linearLoss(
  plan: LinearTokens,
  device: Pick<Device, 'policyLoss' | 'logitsLoss' | 'logitsBackward'>,
  products: LinearProducts,
  differentiated: boolean,
): LossScalars & { accuracy?: number } {
  const { mask, vocab, temperature, threads, tokens, logProbs, entropies } = plan;
  const at = (values: Float32Array | Float64Array, rows: Int32Array) => {
    const some = values.slice(0, rows.length) as Float32Array;
    rows.forEach((row, i) => {
      some[i] = values[row];
    });
    return some;
  };
  const layout = {
    vocab,
    rowStride: vocab,
    dtype: 'float32',
    temperature,
    threads,
    lossScale: 1,
    zeroed: false,
  } as const;

  logProbs.fill(0);
  entropies.fill(0);
  let offending = 0; // logits, beyond the one that each log-prob shows
  const read = rowsWhere(tokens.length, (row) => mask === null || mask[row] !== 0);
  for (const rows of chunks(read, plan.chunkRows)) {
    const own = { logProbs: logProbs.slice(0, rows.length), entropies: entropies.slice(0, rows.length) };
    const { metrics } = device.logitsLoss({
      ...noLoss(plan, rows.length),
      ...layout,
      ...own,
      logits: products.logits(rows),
      tokens: tokensAt(tokens, rows),
      gradLogits: null,
    });
    rows.forEach((row, i) => {
      logProbs[row] = own.logProbs[i];
      entropies[row] = own.entropies[i];
    });
    offending += metrics.nonFinite - own.logProbs.filter((x) => !Number.isFinite(x)).length;
  }

  const gradient = (wanted: boolean) => (wanted ? new products.floats(tokens.length) : null);
  const gradLogProbs = gradient(differentiated);
  const gradEntropies = gradient(differentiated && plan.loss.entropy.coefficient !== 0);
  const policy = device.policyLoss({
    ...plan,
    lossScale: 1,
    logProbs: logProbs as Float32Array,
    entropies: entropies as Float32Array,
    gradLogProbs,
    gradEntropies,
  });
  let overflows = 0;
  if (gradLogProbs !== null) {
    const entropyAt = (row: number) => gradEntropies?.[row] ?? 0;
    const flowing = rowsWhere(tokens.length, (row) => gradLogProbs[row] !== 0 || entropyAt(row) !== 0);
    for (const rows of chunks(flowing, plan.chunkRows)) {
      // Non-finite values here were counted above.
      const isNumber = (row: number) =>
        Number.isFinite(gradLogProbs[row]) && Number.isFinite(entropyAt(row)) && !Number.isNaN(entropies[row]);
      const numbers = Uint8Array.from(rows, (row) => Number(isNumber(row)));
      const logits = products.logits(rows);
      const { metrics } = device.logitsBackward({
        ...layout,
        rows: rows.length,
        logits,
        gradLogits: logits,
        tokens: tokensAt(tokens, rows),
        mask: numbers,
        gradLogProbs: at(gradLogProbs, rows),
        gradEntropies: gradEntropies && at(gradEntropies, rows),
      });
      overflows += metrics.nonFinite;
      numbers.forEach((ok, i) => {
        if (!ok) logits.fill(NaN, i * vocab, (i + 1) * vocab);
      });
      products.backward(rows, logits);
    }
  }
  const { loss, accuracy, metrics } = policy;
  return { loss, accuracy, metrics: { ...metrics, nonFinite: metrics.nonFinite + offending + overflows } };
}

/** Adds the gradient's non-finite values, if none of its inputs was counted. */
export function withGradients<R extends LossScalars>({ gradHidden, gradUnembedding }: LinearPlan, result: R): R {
  if (result.metrics.nonFinite > 0) return result;
  let nonFinite = 0;
  for (const gradient of [gradHidden, gradUnembedding]) {
    const size = gradient?.length ?? 0;
    for (let i = 0; i < size; i++) if (!Number.isFinite(Math.fround(gradient![i]))) nonFinite++;
  }
  return { ...result, metrics: { ...result.metrics, nonFinite } };
}

function rowsWhere(count: number, holds: (row: number) => boolean): Int32Array {
  const rows = new Int32Array(count);
  let found = 0;
  for (let row = 0; row < count; row++) if (holds(row)) rows[found++] = row;
  return rows.subarray(0, found);
}

function* chunks(rows: Int32Array, size: number): Generator<Int32Array> {
  for (let begin = 0; begin < rows.length; begin += size) yield rows.subarray(begin, begin + size);
}

function tokensAt(tokens: Int32Array, rows: Int32Array): Int32Array {
  return rows.map((row) => tokens[row]);
}

/** A plan that only computes log-probs and entropies, without any loss term. */
function noLoss({ loss, threads }: TokenPlan, rows: number): TokenPlan {
  return {
    sequences: 1,
    length: rows,
    oldLogProbs: null,
    refLogProbs: null,
    mask: null,
    advantages: new Float32Array(1),
    advantagesPerToken: false,
    advantage: null,
    tokenWeights: null,
    normalizer: NaN,
    globalSequences: NaN,
    loss: {
      ...loss,
      kl: { ...loss.kl, beta: 0 },
      entropy: { coefficient: 0, topQuantile: 1, tokens: NaN, threshold: NaN },
    },
    metrics: true,
    lossScale: 1,
    threads,
  };
}
