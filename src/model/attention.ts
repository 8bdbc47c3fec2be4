// The attention block: x + attention(norm(x)), causal, many heads, rotary positions, heads of queries that share their keys
// and values (grouped-query attention, arXiv 2305.13245).

import * as tf from '@tensorflow/tfjs-core';
import { rmsNorm, rmsNormBackward } from './norm.js';
import type { Part } from './part.js';
import type { SequenceBatch } from './policy.js';
import { times, timesTransposed, transposedTimes } from './products.js';
import { type Rotation, rotate, rotateBackward } from './rotary.js';

/** States x [B * T, D], gain [D], query and output [D, D], key and value [D, K D / H] of one block. */
export interface AttentionInputs {
  x: tf.Tensor2D;
  norm: tf.Tensor1D;
  query: tf.Tensor2D;
  key: tf.Tensor2D;
  value: tf.Tensor2D;
  output: tf.Tensor2D;
}

/** Keys and values, [B * K, T, D / H] each. */
export type KeysAndValues = [keys: tf.Tensor3D, values: tf.Tensor3D];

interface HeadShape {
  /** B, H and K. */
  sequences: number;
  heads: number;
  keyValueHeads: number;
}

export interface AttentionContext extends HeadShape {
  /** Added to the scores, [B, 1, columns at hand, columns seen]. */
  bias: tf.Tensor4D;
  rotation: Rotation;
}

/** Added to a score that is not to be seen: so far below any score that its probability is exactly 0, and yet finite. */
export const unseen = -1e9;

/** [B, 1, T, T]: 0 where a column may see another (itself and earlier ones that are not padding), else `unseen`. */
export function causalBias({ sequences, length, starts }: SequenceBatch): tf.Tensor4D {
  const bias = new Float32Array(sequences * length * length).fill(unseen);
  for (let b = 0; b < sequences; b++) {
    for (let t = starts[b]; t < length; t++) {
      const row = (b * length + t) * length;
      bias.fill(0, row + starts[b], row + t + 1);
    }
  }
  return tf.tensor4d(bias, [sequences, 1, length, length]);
}

interface Saved {
  /** norm(x) and what its backward pass reads. */
  normed: tf.Tensor2D;
  unit: tf.Tensor2D;
  scale: tf.Tensor2D;
  /** By the heads of keys and values that they are held against, see `shared`. */
  queries: tf.Tensor3D;
  keys: tf.Tensor3D;
  values: tf.Tensor3D;
  probabilities: tf.Tensor3D;
  /** The values as attention mixed them, [B * T, D]. */
  mixed: tf.Tensor2D;
  cos: tf.Tensor2D;
  sin: tf.Tensor2D;
  turn: tf.Tensor2D;
}

/**
 * x + attention(norm(x)), [B * T, D]. `memory` turns the keys and values of the columns at hand into all that attention
 * sees: a cache stores them here. The backward function is for attention without a cache.
 */
export function attentionBlock(
  inputs: AttentionInputs,
  context: AttentionContext,
  memory: (own: KeysAndValues) => KeysAndValues = (own) => own,
): Part<AttentionInputs, Saved> {
  const { value: normed, unit, scale } = rmsNorm(inputs.x, inputs.norm);
  const { sequences, heads, keyValueHeads, rotation } = context;
  const project = (matrix: tf.Tensor2D, count: number) => splitHeads(times(normed, matrix), sequences, count);
  const queries = shared(rotate(project(inputs.query, heads), rotation), context);
  const [keys, values] = memory([
    rotate(project(inputs.key, keyValueHeads), rotation),
    project(inputs.value, keyValueHeads),
  ]);
  const probabilities = attentionProbabilities(queries, keys, context);
  const mixed = joinHeads(unshared(tf.matMul(probabilities, values), context), sequences);
  return {
    value: tf.add(inputs.x, times(mixed, inputs.output)),
    saved: { normed, unit, scale, queries, keys, values, probabilities, mixed, ...context.rotation },
    backward: (dy, saved) => attentionBackward(dy, saved, inputs, context),
  };
}

function attentionBackward(dy: tf.Tensor2D, saved: Saved, inputs: AttentionInputs, shape: HeadShape) {
  const { normed, queries, keys, values, probabilities, mixed } = saved;
  const { sequences, heads } = shape;
  const dMixed = shared(splitHeads(timesTransposed(dy, inputs.output), sequences, heads), shape);
  const dProbabilities = tf.matMul(dMixed, values, false, true);
  const weighted = tf.mul(probabilities, dProbabilities);
  const dBiased = tf.sub(weighted, tf.mul(probabilities, tf.sum(weighted, 2, true)));
  const dScores = tf.mul<tf.Tensor3D>(dBiased, scoreScale(queries));

  const dQuery = joinHeads(rotateBackward(unshared(tf.matMul(dScores, keys), shape), saved), sequences);
  const dKey = joinHeads(rotateBackward(tf.matMul(dScores, queries, true, false), saved), sequences);
  const dValue = joinHeads(tf.matMul(probabilities, dMixed, true, false), sequences);
  const dNormed = tf.addN([
    timesTransposed(dQuery, inputs.query),
    timesTransposed(dKey, inputs.key),
    timesTransposed(dValue, inputs.value),
  ]);
  const { dx, dGain } = rmsNormBackward(dNormed, inputs.norm, saved);
  return {
    x: tf.add(dy, dx),
    norm: dGain,
    query: transposedTimes(normed, dQuery),
    key: transposedTimes(normed, dKey),
    value: transposedTimes(normed, dValue),
    output: transposedTimes(mixed, dy),
  };
}

/** [B * K, (H / K) * columns at hand, columns seen], of queries as `shared` gives them. */
function attentionProbabilities(queries: tf.Tensor3D, keys: tf.Tensor3D, context: AttentionContext): tf.Tensor3D {
  const { sequences, heads, bias } = context;
  const seen = keys.shape[1];
  const scores = tf.mul<tf.Tensor3D>(tf.matMul(queries, keys, false, true), scoreScale(queries));
  const biased = tf.add(tf.reshape(scores, [sequences, heads, -1, seen]), bias);
  return tf.reshape(tf.softmax(biased), scores.shape);
}

function scoreScale(queries: tf.Tensor3D): number {
  return 1 / Math.sqrt(queries.shape[2]);
}

/**
 * [B * H, T, D / H] to [B * K, (H / K) * T, D / H], as it lies: the heads that share keys and values one below the other, so
 * that one product holds them all against their keys, and in the backward pass adds up what they give back.
 */
function shared(x: tf.Tensor3D, { heads, keyValueHeads }: HeadShape): tf.Tensor3D {
  if (keyValueHeads === heads) return x;
  const [rows, columns, size] = x.shape;
  const sharing = heads / keyValueHeads;
  return tf.reshape(x, [rows / sharing, sharing * columns, size]);
}

/** The reverse of `shared`. */
function unshared(x: tf.Tensor3D, { heads, keyValueHeads }: HeadShape): tf.Tensor3D {
  if (keyValueHeads === heads) return x;
  const [rows, columns, size] = x.shape;
  const sharing = heads / keyValueHeads;
  return tf.reshape(x, [rows * sharing, columns / sharing, size]);
}

/** [B * T, count * size] to [B * count, T, size]. A single column, as in decoding, lies as it is to lie. */
function splitHeads(x: tf.Tensor2D, sequences: number, count: number): tf.Tensor3D {
  const [rows, width] = x.shape;
  const columns = rows / sequences;
  const shape: [number, number, number] = [sequences * count, columns, width / count];
  if (columns === 1) return tf.reshape(x, shape);
  const split = tf.transpose(tf.reshape(x, [sequences, columns, count, width / count]), [0, 2, 1, 3]);
  return tf.reshape(split, shape);
}

/** The reverse of `splitHeads`. */
function joinHeads(x: tf.Tensor3D, sequences: number): tf.Tensor2D {
  const [rows, columns, size] = x.shape;
  const count = rows / sequences;
  const shape: [number, number] = [sequences * columns, count * size];
  if (columns === 1) return tf.reshape(x, shape);
  const joined = tf.transpose(tf.reshape(x, [sequences, count, columns, size]), [0, 2, 1, 3]);
  return tf.reshape(joined, shape);
}
