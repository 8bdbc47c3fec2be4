// Chooses tokens from rows of logits. With a large vocabulary the probabilities stay in the backend: only the sums of blocks
// of them are read, and then, for each row, the one block that contains the chosen token.

import * as tf from '@tensorflow/tfjs-core';
import { keptTokens } from './cut.js';
import type { Cut } from './engine.js';

export interface Choices {
  /** One token id per row; arbitrary if the row has no probabilities. */
  tokens: Int32Array;
  /** The probability of each chosen token; NaN if a logit of its row was not finite (-Infinity is a probability of 0). */
  probabilities: Float32Array;
}

export interface ChoiceOptions {
  /** A uniform random number in [0, 1) for each row. Default: take the most likely token, the lowest id if several are. */
  uniforms?: Float64Array;
  /** Ids from here on are never chosen, but they count in the softmax that `probabilities` come from. */
  allowed?: number;
}

/**
 * One token per row of logits [rows, V], drawn from softmax(logits / temperature) by inverse transform sampling with
 * `uniforms[row]` over the allowed tokens.
 */
export function chooseTokens(
  logits: tf.Tensor2D,
  temperature: number,
  { uniforms, allowed = logits.shape[1] }: ChoiceOptions = {},
): Choices {
  const [rows, vocabulary] = logits.shape;
  const size = blockSize(vocabulary);
  const count = vocabulary / size;
  const remaining = Float64Array.from(uniforms ?? []);
  const pick = (values: Float32Array, row: number) => {
    if (!uniforms) return mostLikely(values);
    const { index, rest } = draw(values, remaining[row]);
    remaining[row] = rest;
    return index;
  };
  const blocks = tf.tidy(() => {
    const scaled = temperature === 1 ? logits : tf.div<tf.Tensor2D>(logits, temperature);
    const probabilities = tf.softmax(scaled);
    return tf.reshape(allowed < vocabulary ? withoutFrom(probabilities, allowed) : probabilities, [rows * count, size]);
  });
  try {
    if (uniforms && allowed < vocabulary) {
      const kept = read(() => tf.sum(tf.reshape(blocks, [rows, vocabulary]), 1));
      remaining.forEach((uniform, row) => {
        remaining[row] = uniform * kept[row];
      });
    }
    const chosen = new Int32Array(rows);
    if (count > 1) {
      const totals = read(() => (uniforms ? tf.sum(blocks, 1) : tf.max(blocks, 1)));
      for (let row = 0; row < rows; row++) chosen[row] = pick(part(totals, row, count), row);
    }
    const indices = chosen.map((block, row) => row * count + block);
    const values = count > 1 ? read(() => tf.gather(blocks, tf.tensor1d(indices, 'int32'))) : read(() => blocks);
    const places = chosen.map((_, row) => pick(part(values, row, size), row));
    return {
      tokens: chosen.map((block, row) => block * size + places[row]),
      probabilities: Float32Array.from(places, (place, row) => values[row * size + place]),
    };
  } finally {
    blocks.dispose();
  }
}

/**
 * One token per row of logits [rows, V], drawn from softmax(logits / temperature) after truncation to its most likely tokens below
 * `allowed`, by inverse transform sampling with `uniforms[row]` in [0, 1); and the ids that truncation kept, ascending, for each
 * row. Rows that are not `wanted` are skipped.
 */
export function chooseFromCut(
  logits: tf.Tensor2D,
  temperature: number,
  cut: Cut,
  { uniforms, allowed, wanted }: { uniforms: Float64Array; allowed: number; wanted: (row: number) => boolean },
): Choices & { kept: Int32Array[] } {
  const [rows, vocabulary] = logits.shape;
  const all = read(() => tf.softmax(tf.div<tf.Tensor2D>(logits, temperature)));
  const choices = { tokens: new Int32Array(rows), probabilities: new Float32Array(rows), kept: [] as Int32Array[] };
  for (let row = 0; row < rows; row++) {
    const own = part(all, row, vocabulary);
    choices.probabilities[row] = own[0];
    choices.kept.push(new Int32Array(0));
    // A logit that is not finite makes all of its row's probabilities NaN.
    if (!wanted(row) || Number.isNaN(own[0])) continue;
    const kept = keptTokens(own, allowed, cut);
    const values = Float32Array.from(kept, (id) => own[id]);
    const total = values.reduce((sum, value) => sum + value, 0);
    const { index } = draw(values, uniforms[row] * total);
    choices.tokens[row] = kept[index];
    choices.probabilities[row] = values[index] / total;
    choices.kept[row] = kept;
  }
  return choices;
}

/** Probabilities [rows, V] with 0 for the ids from `allowed` on. */
function withoutFrom(probabilities: tf.Tensor2D, allowed: number): tf.Tensor2D {
  const [rows, vocabulary] = probabilities.shape;
  return tf.pad(tf.slice(probabilities, [0, 0], [rows, allowed]), [
    [0, 0],
    [0, vocabulary - allowed],
  ]);
}

/** The smallest vocabulary for which reading blocks is worth the extra operations. */
const blocksFrom = 1024;

/** The divisor of the vocabulary with the fewest values to be read: near its root, or all of it where it has no other. */
export function blockSize(vocabulary: number): number {
  if (vocabulary < blocksFrom) return vocabulary;
  let size = Math.floor(Math.sqrt(vocabulary));
  while (vocabulary % size !== 0) size--;
  return vocabulary / size;
}

/** Computes a tensor and reads its values. Read outside of tidy, which would iterate over the returned array. */
function read(compute: () => tf.Tensor): Float32Array {
  const result = tf.tidy(compute);
  try {
    return result.dataSync<'float32'>();
  } finally {
    result.dispose();
  }
}

function part(values: Float32Array, row: number, size: number): Float32Array {
  return values.subarray(row * size, (row + 1) * size);
}

/** The index of the largest value, the lowest of several. */
function mostLikely(values: Float32Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) {
    if (values[i] > values[best]) best = i;
  }
  return best;
}

/** The index whose cumulative interval contains `point`, and the offset of `point` within that interval, in float64. */
function draw(values: Float32Array, point: number): { index: number; rest: number } {
  let rest = point;
  let last = 0;
  for (let index = 0; index < values.length; index++) {
    if (rest < values[index]) return { index, rest };
    rest -= values[index];
    if (values[index] > 0) last = index;
  }
  // Rounding can make the sum fall short of 1. A point beyond the sum counts as the end of the last non-empty interval.
  return { index: last, rest: values[last] };
}
