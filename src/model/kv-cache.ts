// The key-value cache of one layer: blocks of columns counted from each row's own first token, so that what a row sums, and in
// which order, depends only on the row.
//
// Where the backend has the kernel `groupgrad.decodeAttention`, it writes a new position into its block in place. tfjs operations
// cannot write in place, so with them a block to which any row writes is copied; therefore the block that each row is filling is
// stored separately, in one tensor for all rows, and moved to its place when the row has filled it.

import * as tf from '@tensorflow/tfjs-core';
import {
  type AttentionShape,
  attention,
  attentionProbabilities,
  blockColumns,
  groupQueries,
  joinHeads,
  type KeysAndValues,
  mixValues,
  splitHeads,
  ungroupQueries,
  type Visibility,
} from './attention.js';
import type { AttentionCache } from './block.js';
import { takeParts } from './matrix-products.js';
import { forget, fusedKernel } from './part.js';

/** Inputs for one new position per row, the same in every layer. */
export interface DecodeStep {
  /** Tokens of each row before this one; −1 for a row that takes none. */
  lengths: Int32Array;
  /** The same as a tensor, int32 [rows]. */
  lengthsTensor: tf.Tensor1D;
  /** [rows * K, blockColumns, 1]: 1 in the column of the new position within its block. Composed attention only. */
  place?: tf.Tensor3D;
}

/** The fused kernel that computes attention in decoding and writes the cache in place:
 *
 * `groupgrad.decodeAttention` ({ query, key, value, lengths, keys0, values0, keys1, values1, … }, { heads, keyValueHeads, scale,
 * softCap, window }) → mixed
 *
 * - `query` [R, H * size], `key` and `value` [R, K * size]: those of one new position in each of the R rows, already rotated.
 * - `lengths`, int32 [R]: the number p of positions of a row that the cache holds: the new one is number p. −1: the row takes
 *   none; nothing of it is written, and its output is 0.
 * - `keysI`, `valuesI` [R * K, 48, size], I = 0 … n − 1 without gaps: head k of row r, positions 48 I … 48 I + 47, at
 *   [r * K + k]. Positions from p on hold arbitrary finite values and must not be read. There is always a block for position p.
 * - In place: `key` and `value` are written to position p of the row, into block ⌊p / 48⌋, column p mod 48, in the memory of
 *   `keysI` and `valuesI`. The cache owns those tensors, no other tensor shares their memory, and no gradient is recorded. The
 *   other inputs are not modified.
 * - `mixed` [R, H * size]: softmax over positions max(0, p − window + 1) … p (window 0: from 0) of softCap tanh(s / softCap) with
 *   s = query · key × scale (softCap 0: of s), times the values; query head h reads the keys of head ⌊h K / H⌋.
 * - Sums must be in the same order as `groupgrad.attention`'s for the same row, so that sampler and trainer agree.
 */
const kernelName = 'groupgrad.decodeAttention';

/** Whether the current backend has the kernel for attention in decoding. */
export function hasDecodeAttention(): boolean {
  return fusedKernel(kernelName) !== undefined;
}

/** Attention over the columns of prompts; `filled` receives their keys and values. */
export class PromptAttention implements AttentionCache {
  constructor(private readonly filled: (own: KeysAndValues) => void) {}

  attend(query: tf.Tensor2D, key: tf.Tensor2D, value: tf.Tensor2D, visible: Visibility, shape: AttentionShape) {
    const { sequences, keyValueHeads } = shape;
    this.filled([splitHeads(key, sequences, keyValueHeads), splitHeads(value, sequences, keyValueHeads)]);
    return attention(query, key, value, visible, shape, forget).value;
  }
}

/** Its tensors are freed by `dispose`, not by tidy. */
export class KvCache {
  /** Full blocks, [R * K, blockColumns, size] each; columns that a row has not reached are finite and unread. */
  private readonly blocks: KeysAndValues[] = [];
  /** Composed attention only: the block that each row is filling, with zeros in the columns it has not reached. */
  private newest: KeysAndValues | undefined;

  private constructor(private readonly rows: number) {}

  /** The cache of rows that begin with prompts, whose keys and values are [P * K, T, size] from column 0 on. */
  static ofPrompts(own: KeysAndValues, lengths: Int32Array, promptOfRow: Int32Array): KvCache {
    const cache = new KvCache(promptOfRow.length);
    const prompts = lengths.length;
    const rows = (x: tf.Tensor3D) => takeParts(x, prompts, promptOfRow);
    return cache.building(() => {
      const isComposed = !hasDecodeAttention();
      const longest = lengths.reduce((a, b) => Math.max(a, b));
      const count = isComposed ? Math.floor(longest / blockColumns) : Math.ceil(longest / blockColumns);
      for (let i = 0; i < count; i++) cache.blocks.push(kept(both(own, (x) => rows(blockOf(x, i)))));
      if (!isComposed) return;
      cache.newest = kept(
        both(own, (x) => {
          const parts = Array.from({ length: Math.floor(longest / blockColumns) + 1 }, (_, i) => i)
            .filter((i) => lengths.some((length) => Math.floor(length / blockColumns) === i))
            .map((i) => masked(blockOf(x, i), filling(lengths, i)));
          return rows(parts.length === 1 ? parts[0] : tf.addN(parts));
        }),
      );
    });
  }

  /** Adds one new position per row. */
  attend(
    query: tf.Tensor2D,
    key: tf.Tensor2D,
    value: tf.Tensor2D,
    visible: Visibility,
    shape: AttentionShape,
    step: DecodeStep,
  ) {
    const fused = fusedKernel(kernelName);
    if (!fused) return this.composed(query, key, value, visible.bias!, shape, step);
    this.reach(step.lengths.reduce((a, b) => Math.max(a, b)) + 1);
    const blocks = this.blocks.flatMap(([keys, values], i) => [
      [`keys${i}`, keys] as const,
      [`values${i}`, values] as const,
    ]);
    const { heads, keyValueHeads, scale, softCap } = shape;
    return fused(
      { query, key, value, lengths: step.lengthsTensor, ...Object.fromEntries(blocks) },
      { heads, keyValueHeads, scale, softCap: softCap ?? 0, window: visible.window },
    )[0] as tf.Tensor2D;
  }

  /** Call after the last layer of a step, with the number of tokens that each row then has: moves full blocks. */
  settle(lengths: Int32Array, appended: readonly boolean[]): void {
    const { newest } = this;
    if (!newest) return;
    const full = Array.from(lengths, (length, row) => appended[row] && length % blockColumns === 0);
    if (!full.includes(true)) return;
    const places = new Set([...lengths].filter((_, row) => full[row]).map((length) => length / blockColumns - 1));
    for (const place of places) {
      const rows = full.map((own, row) => own && lengths[row] / blockColumns - 1 === place);
      this.reach((place + 1) * blockColumns);
      this.exchange(place, (x, which) =>
        tf.add(masked(x, rowMask(rows, false)), masked(newest[which], rowMask(rows, true))),
      );
    }
    this.exchangeNewest((x) => masked(x, rowMask(full, false)));
  }

  /** A separate cache with copies of rows. */
  select(rows: Int32Array): KvCache {
    const copy = new KvCache(rows.length);
    const take = (own: KeysAndValues) => kept(both(own, (x) => takeParts(x, this.rows, rows)));
    return copy.building(() => {
      for (const block of this.blocks) copy.blocks.push(take(block));
      if (this.newest) copy.newest = take(this.newest);
    });
  }

  /** Row at[i] becomes a copy of row rows[i] of another cache, of which the first `longest` columns are read. */
  replace(at: Int32Array, source: KvCache, rows: Int32Array, longest: number): void {
    const replaced = Array.from({ length: this.rows }, (_, row) => at.includes(row));
    const merge = (x: tf.Tensor3D, other: tf.Tensor3D) =>
      tf.add<tf.Tensor3D>(masked(x, rowMask(replaced, false)), placeParts(other, source.rows, rows, at, this.rows));
    tf.tidy(() => {
      const count = Math.min(source.blocks.length, Math.ceil(longest / blockColumns));
      this.reach(count * blockColumns);
      for (let i = 0; i < count; i++) this.exchange(i, (x, which) => merge(x, source.blocks[i][which]));
      if (source.newest) this.exchangeNewest((x, which) => merge(x, source.newest![which]));
    });
  }

  dispose(): void {
    tf.dispose([this.blocks, this.newest ?? []]);
  }

  private composed(
    query: tf.Tensor2D,
    key: tf.Tensor2D,
    value: tf.Tensor2D,
    bias: tf.Tensor4D,
    shape: AttentionShape,
    { place }: DecodeStep,
  ): tf.Tensor2D {
    const { sequences, heads, keyValueHeads } = shape;
    const own = [key, value].map((x) => splitHeads(x, sequences, keyValueHeads));
    this.exchangeNewest((x, which) => tf.add(x, tf.mul(place!, own[which])));
    const all = [...this.blocks, this.newest!];
    return tf.tidy(() => {
      const queries = groupQueries(splitHeads(query, sequences, heads), shape);
      const products = all.map(([keys]): tf.Tensor3D => tf.matMul(queries, keys, false, true));
      const joined = products.length === 1 ? products[0] : tf.concat(products, 2);
      const { probabilities } = attentionProbabilities(joined, bias, shape);
      const mixed = mixValues(
        probabilities,
        all.map(([, values]) => values),
      );
      return joinHeads(ungroupQueries(mixed, shape), sequences);
    });
  }

  /** Full blocks that attention reads. */
  get blockCount(): number {
    return this.blocks.length;
  }

  /** Adds blocks of zeros until there are enough for `columns` columns. */
  private reach(columns: number): void {
    const like = (this.newest ?? this.blocks[0])[0];
    while (this.blocks.length * blockColumns < columns)
      this.blocks.push(kept([tf.zerosLike(like), tf.zerosLike(like)]));
  }

  private exchange(index: number, change: Change): void {
    this.blocks[index] = changed(this.blocks[index], change);
  }

  private exchangeNewest(change: Change): void {
    this.newest = changed(this.newest!, change);
  }

  /** Fills a new cache, which is freed if that fails. */
  private building(fill: () => void): KvCache {
    try {
      tf.tidy(fill);
      return this;
    } catch (error) {
      this.dispose();
      throw error;
    }
  }
}

/** Blocks of keys (0) or values (1). */
type Change = (x: tf.Tensor3D, which: 0 | 1) => tf.Tensor3D;

/** Replaces tensors; the old ones are freed once the new ones exist. */
function changed(before: KeysAndValues, change: Change): KeysAndValues {
  const after = tf.tidy(() => both(before, change));
  const result = kept(after);
  tf.dispose(before);
  return result;
}

function both([keys, values]: KeysAndValues, f: Change): KeysAndValues {
  return [f(keys, 0), f(values, 1)];
}

function kept([keys, values]: KeysAndValues): KeysAndValues {
  return [tf.keep(keys), tf.keep(values)];
}

/** Columns of block i of x [N, columns, size], padded with zeros. */
function blockOf(x: tf.Tensor3D, i: number): tf.Tensor3D {
  const [count, columns, size] = x.shape;
  const from = i * blockColumns;
  const own = Math.max(0, Math.min(blockColumns, columns - from));
  if (own === 0) return tf.zeros([count, blockColumns, size]);
  const part = tf.slice(x, [0, from, 0], [count, own, size]);
  return own === blockColumns
    ? part
    : tf.pad3d(part, [
        [0, 0],
        [0, blockColumns - own],
        [0, 0],
      ]);
}

/** [rows, 1, blockColumns, 1]: 1 in columns that a row has reached, in rows that are filling block i. */
function filling(lengths: Int32Array, i: number): tf.Tensor4D {
  const mask = new Float32Array(lengths.length * blockColumns);
  lengths.forEach((length, row) => {
    if (Math.floor(length / blockColumns) !== i) return;
    mask.fill(1, row * blockColumns, row * blockColumns + (length % blockColumns));
  });
  return tf.tensor4d(mask, [lengths.length, 1, blockColumns, 1]);
}

/** [rows, 1, 1, 1]: 1 where a row's mark is `value`. */
function rowMask(marks: readonly boolean[], value: boolean): tf.Tensor4D {
  return tf.tensor4d(
    Float32Array.from(marks, (mark) => Number(mark === value)),
    [marks.length, 1, 1, 1],
  );
}

/** x [rows * K, columns, size] times a mask [rows, 1, columns or 1, 1] of zeros and ones. */
function masked(x: tf.Tensor3D, mask: tf.Tensor4D): tf.Tensor3D {
  const [rows] = mask.shape;
  const [count, columns, size] = x.shape;
  return tf.reshape(tf.mul(tf.reshape(x, [rows, count / rows, columns, size]), mask), x.shape);
}

/** Moves parts rows[i] of x, which has `count`, to positions at[i] out of `places`; zeros elsewhere. */
export function placeParts<T extends tf.Tensor>(
  x: T,
  count: number,
  rows: Int32Array,
  at: Int32Array,
  places: number,
): T {
  const indices = new Int32Array(places).fill(-1);
  at.forEach((place, i) => {
    indices[place] = rows[i];
  });
  return takeParts(x, count, indices);
}
