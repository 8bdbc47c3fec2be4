// Drawing tokens where the logits are: a kernel of our own backend. Callers need not load that backend.

import type * as tf from '@tensorflow/tfjs-core';
import { engineBackend } from './current.js';

export interface RowSampling {
  temperature: number;
  /** Ids from here on are not drawn. */
  allowed: number;
  /** A divisor of the vocabulary: the total of this many probabilities is drawn first, then one of them. */
  block: number;
  /** Not 0 for rows that are wanted. */
  wanted: Uint8Array;
  /** A number in [0, 1) for each row; null: the most likely token. */
  uniforms: Float64Array | null;
  /** What tokens are drawn from, where that is not all. It needs uniforms. */
  cut?: { topK?: number; topP?: number; minP?: number };
  /** The logit of what a cut has left out. */
  masked: number;
}

export interface SampledRows {
  /** −1 in rows that are not wanted, and in those without probabilities because a logit is not finite. */
  tokens: Int32Array;
  /** As the loss on the CPU computes them. */
  logProbs: Float32Array;
  /** What the cut left of each row, ascending. */
  kept?: Int32Array[];
}

/** One token for each row of logits [rows, V], without a copy of them; undefined on other backends. */
export function sampleRows(logits: tf.Tensor2D, sampling: RowSampling): SampledRows | undefined {
  const backend = engineBackend();
  if (!backend) return undefined;
  const [rows, vocabulary] = logits.shape;
  const { temperature, allowed, block, wanted, uniforms, cut, masked } = sampling;
  const tokens = new Int32Array(rows);
  const logProbs = new Float32Array(rows);
  // More than all of them is all of them.
  const topK = Math.min(cut?.topK ?? 0, vocabulary);
  const settings = [Number(cut !== undefined), topK, cut?.topP ?? 1, cut?.minP ?? 0, masked];
  const values = backend.floats(logits);
  const numbers = backend.numbers.of(rows, vocabulary, Math.min(allowed, vocabulary), block, temperature, ...settings);
  const kept = backend.engine.sample(numbers, values, uniforms, wanted, tokens, logProbs);
  return { tokens, logProbs, ...(cut && { kept }) };
}
