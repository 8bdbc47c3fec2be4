// Attention: causal, multi-head, grouped-query (arXiv 2305.13245), with sliding windows and soft-capped scores.

import * as tf from '@tensorflow/tfjs-core';
import { type Computed, fusedKernel, type Keep } from './part.js';
import type { SequenceBatch } from './policy.js';

export interface AttentionShape {
  /** B, H and K: each of the K heads of keys and values serves H / K heads of queries. */
  sequences: number;
  heads: number;
  keyValueHeads: number;
  /** Scores are queries · keys × scale, then softCap × tanh(scores / softCap) if there is a cap. */
  scale: number;
  softCap: number | null;
}

/** Which positions each position may attend to. */
export interface Visibility {
  /** Added to the scores: [B, 1, queries, keys]. Omitted if a fused kernel computes attention. */
  bias?: tf.Tensor4D;
  /** The first position of each sequence that is not padding, int32 [B], and the window (0 for none): as fused kernels take them. */
  starts: tf.Tensor1D;
  window: number;
}

/** Keys and values, [B * K, positions, head size] each. */
export type KeysAndValues = [keys: tf.Tensor3D, values: tf.Tensor3D];

/**
 * Weighted values are summed over blocks of this many positions, counted from the first column, and the sums of blocks added in
 * order, here and in the key-value cache (kv-cache.ts), which consists of such blocks. So a row gets the same numbers from the
 * cache as from a full forward pass. 48, because the batched products of tfjs's WebAssembly and plain backends split their own
 * sums there: on WebAssembly, the sum over blocks is bit-identical to the product over all columns.
 */
export const blockColumns = 48;

/**
 * Sequences that begin at column 0 get the same numbers in every batch whose length is a multiple of this: the softmax of
 * the WebAssembly backend sums four columns at a time, and the columns after the last full four in another order.
 */
export const columnStep = 4;

/** Added to a masked score: finite, but so far below any score that its probability is exactly 0. */
export const maskedScore = -1e9;

/**
 * [B, 1, T, T]: 0 where a position may attend to another (itself, and earlier positions that are not padding, within the
 * window).
 */
export function causalBias({ sequences, length, starts }: SequenceBatch, window: number | null): tf.Tensor4D {
  const bias = new Float32Array(sequences * length * length).fill(maskedScore);
  for (let b = 0; b < sequences; b++) {
    for (let t = starts[b]; t < length; t++) {
      const row = (b * length + t) * length;
      bias.fill(0, row + Math.max(starts[b], window === null ? 0 : t - window + 1), row + t + 1);
    }
  }
  return tf.tensor4d(bias, [sequences, 1, length, length]);
}

/** Bytes of scores above which sequences are processed in groups. */
const scoreBytes = 64 * 2 ** 20;

/**
 * Attention of queries [B * T, H * size] over keys and values [B * T, K * size], to [B * T, H * size]. Gradients: `query`,
 * `key`, `value`.
 *
 * Fused kernels: `groupgrad.attention` ({ query, key, value, starts }, { sequences, heads, keyValueHeads, scale, softCap,
 * window }) → value, logSumExp [B * T, H]; `groupgrad.attentionBackward` ({ dy, query, key, value, mixed, logSumExp, starts },
 * the same) → dQuery, dKey, dValue. 0 means no cap and no window.
 */
export function attention(
  query: tf.Tensor2D,
  key: tf.Tensor2D,
  value: tf.Tensor2D,
  visible: Visibility,
  shape: AttentionShape,
  keep: Keep,
): Computed {
  const [forward, backward] = fusedAttention();
  const { bias } = visible;
  if (!bias) return fused({ query, key, value }, visible, shape, keep, forward!, backward!);
  return composed({ query, key, value }, bias, shape, keep);
}

function fusedAttention() {
  return [fusedKernel('groupgrad.attention'), fusedKernel('groupgrad.attentionBackward')] as const;
}

/** Whether the current backend computes attention by fused kernels, which take starts and window instead of a bias. */
export function hasFusedAttention(): boolean {
  return fusedAttention().every((kernel) => kernel !== undefined);
}

type Kernel = NonNullable<ReturnType<typeof fusedKernel>>;
type Projections = Record<'query' | 'key' | 'value', tf.Tensor2D>;

function fused(
  { query, key, value }: Projections,
  { starts, window }: Visibility,
  { softCap, ...shape }: AttentionShape,
  keep: Keep,
  forward: Kernel,
  backward: Kernel,
): Computed {
  const attributes = { ...shape, softCap: softCap ?? 0, window };
  const [mixed, logSumExp] = forward({ query, key, value, starts }, attributes);
  const kept = {
    query: keep(query),
    key: keep(key),
    value: keep(value),
    mixed: keep(mixed),
    logSumExp: keep(logSumExp),
    starts: keep(starts),
  };
  return {
    value: mixed as tf.Tensor2D,
    backward: (dy) => {
      const tensors = Object.fromEntries(Object.entries(kept).map(([name, tensor]) => [name, tensor()]));
      const [dQuery, dKey, dValue] = backward({ dy, ...tensors }, attributes);
      return { query: dQuery, key: dKey, value: dValue };
    },
  };
}

/** Groups of sequences, so that the scores of all of them are never in memory at once. */
function composed(inputs: Projections, bias: tf.Tensor4D, shape: AttentionShape, keep: Keep): Computed {
  const { sequences, heads } = shape;
  const length = inputs.query.shape[0] / sequences;
  const atOnce = Math.max(1, Math.floor(scoreBytes / (4 * heads * length * length)));
  if (atOnce >= sequences) return attentionGroup(inputs, bias, shape, keep);
  const kept = { query: keep(inputs.query), key: keep(inputs.key), value: keep(inputs.value) };
  const keptBias = keep(bias);
  const groups = Array.from({ length: Math.ceil(sequences / atOnce) }, (_, i) => {
    const count = Math.min(atOnce, sequences - i * atOnce);
    return { from: i * atOnce, count };
  });
  const part = (x: tf.Tensor2D, { from, count }: { from: number; count: number }) =>
    tf.slice(x, [from * length, 0], [count * length, x.shape[1]]);
  const run = (all: Projections, allBias: tf.Tensor4D, group: { from: number; count: number }) =>
    attentionGroup(
      { query: part(all.query, group), key: part(all.key, group), value: part(all.value, group) },
      tf.slice(allBias, [group.from, 0, 0, 0], [group.count, 1, length, length]),
      { ...shape, sequences: group.count },
      (tensor) => () => tensor,
    );
  return {
    value: tf.concat(groups.map((group) => tf.tidy(() => run(inputs, bias, group).value))),
    backward: (dy, wanted) => {
      const all = { query: kept.query(), key: kept.key(), value: kept.value() };
      const gradients = groups.map((group) =>
        tf.tidy(() => run(all, keptBias(), group).backward(part(dy, group), wanted)),
      );
      const names = ['query', 'key', 'value'] as const;
      return Object.fromEntries(names.map((name) => [name, tf.concat(gradients.map((own) => own[name]))]));
    },
  };
}

function attentionGroup(
  { query, key, value }: Projections,
  bias: tf.Tensor4D,
  shape: AttentionShape,
  keep: Keep,
): Computed {
  const { sequences, heads, keyValueHeads, scale } = shape;
  const queries = groupQueries(splitHeads(query, sequences, heads), shape);
  const keys = splitHeads(key, sequences, keyValueHeads);
  const values = splitHeads(value, sequences, keyValueHeads);
  const { probabilities, tanh } = attentionProbabilities(tf.matMul(queries, keys, false, true), bias, shape);
  const kept = { queries: keep(queries), keys: keep(keys), values: keep(values), probabilities: keep(probabilities) };
  const keptTanh = tanh && keep(tanh);
  return {
    value: joinHeads(ungroupQueries(mixValues(probabilities, inBlocks(values)), shape), sequences),
    backward: (dy) =>
      tf.tidy(() => {
        const dMixed = groupQueries(splitHeads(dy, sequences, heads), shape);
        const dScores = tf.tidy(() => {
          const dProbabilities = tf.matMul(dMixed, kept.values(), false, true);
          const weighted = tf.mul(kept.probabilities(), dProbabilities);
          const dCapped = tf.sub(weighted, tf.mul(kept.probabilities(), tf.sum(weighted, 2, true)));
          // The derivative of softCap tanh(s / softCap) is 1 − tanh².
          const dBiased = keptTanh ? tf.mul(dCapped, tf.sub(1, tf.square(keptTanh()))) : dCapped;
          return tf.mul<tf.Tensor3D>(dBiased, scale);
        });
        return {
          query: joinHeads(ungroupQueries(tf.matMul(dScores, kept.keys()), shape), sequences),
          key: joinHeads(tf.matMul(dScores, kept.queries(), true, false), sequences),
          value: joinHeads(tf.matMul(kept.probabilities(), dMixed, true, false), sequences),
        };
      }),
  };
}

/**
 * From products of queries and keys, [B * K, (H / K) * query positions, key positions], with queries from `groupQueries`:
 * probabilities of that shape, and tanh(s / softCap) with a cap.
 */
export function attentionProbabilities(
  products: tf.Tensor3D,
  bias: tf.Tensor4D,
  { sequences, heads, scale, softCap }: AttentionShape,
): { probabilities: tf.Tensor3D; tanh?: tf.Tensor3D } {
  const seen = products.shape[2];
  return tf.tidy(() => {
    const scaled = tf.mul<tf.Tensor3D>(products, scale);
    const tanh = softCap === null ? undefined : tf.tanh<tf.Tensor3D>(tf.div(scaled, softCap));
    const scores = tanh ? tf.mul<tf.Tensor3D>(tanh, softCap!) : scaled;
    const biased = tf.add(tf.reshape(scores, [sequences, heads, -1, seen]), bias);
    const probabilities: tf.Tensor3D = tf.reshape(tf.softmax(biased), scores.shape);
    return { probabilities, ...(tanh && { tanh }) };
  });
}

/** Sums of values [N, columns, size], which come in blocks, weighted by probabilities [N, M, columns]: [N, M, size]. */
export function mixValues(probabilities: tf.Tensor3D, blocks: readonly tf.Tensor3D[]): tf.Tensor3D {
  if (blocks.length === 1) return tf.matMul(probabilities, blocks[0]);
  const [count, rows] = probabilities.shape;
  let sum: tf.Tensor3D | undefined;
  let from = 0;
  for (const block of blocks) {
    const before = sum;
    sum = tf.tidy((): tf.Tensor3D => {
      const weights = tf.slice(probabilities, [0, 0, from], [count, rows, block.shape[1]]);
      const own: tf.Tensor3D = tf.matMul(weights, block);
      return before ? tf.add(before, own) : own;
    });
    before?.dispose();
    from += block.shape[1];
  }
  return sum!;
}

/** x [N, columns, size] split into blocks of `blockColumns`, the last of which may be shorter. */
function inBlocks(x: tf.Tensor3D): tf.Tensor3D[] {
  const [count, columns, size] = x.shape;
  if (columns <= blockColumns) return [x];
  return Array.from({ length: Math.ceil(columns / blockColumns) }, (_, i) => {
    const from = i * blockColumns;
    return tf.slice(x, [0, from, 0], [count, Math.min(blockColumns, columns - from), size]);
  });
}

/**
 * [B * H, T, size] to [B * K, (H / K) * T, size], without a copy: the heads that share keys and values are stacked, so that one
 * product multiplies them all with their keys, and in the backward pass sums their gradients.
 */
export function groupQueries(x: tf.Tensor3D, { heads, keyValueHeads }: AttentionShape): tf.Tensor3D {
  if (keyValueHeads === heads) return x;
  const [rows, positions, size] = x.shape;
  const sharing = heads / keyValueHeads;
  return tf.reshape(x, [rows / sharing, sharing * positions, size]);
}

/** The reverse of `groupQueries`. */
export function ungroupQueries(x: tf.Tensor3D, { heads, keyValueHeads }: AttentionShape): tf.Tensor3D {
  if (keyValueHeads === heads) return x;
  const [rows, positions, size] = x.shape;
  const sharing = heads / keyValueHeads;
  return tf.reshape(x, [rows * sharing, positions / sharing, size]);
}

/** [B * T, count * size] to [B * count, T, size]. A single position, as in decoding, already has that layout. */
export function splitHeads(x: tf.Tensor2D, sequences: number, count: number): tf.Tensor3D {
  const [rows, width] = x.shape;
  const positions = rows / sequences;
  const shape: [number, number, number] = [sequences * count, positions, width / count];
  if (positions === 1) return tf.reshape(x, shape);
  const split = tf.transpose(tf.reshape(x, [sequences, positions, count, width / count]), [0, 2, 1, 3]);
  return tf.reshape(split, shape);
}

/** The reverse of `splitHeads`. */
export function joinHeads(x: tf.Tensor3D, sequences: number): tf.Tensor2D {
  const [rows, positions, size] = x.shape;
  const count = rows / sequences;
  const shape: [number, number] = [sequences * positions, count * size];
  if (positions === 1) return tf.reshape(x, shape);
  const joined = tf.transpose(tf.reshape(x, [sequences, count, positions, size]), [0, 2, 1, 3]);
  return tf.reshape(joined, shape);
}
