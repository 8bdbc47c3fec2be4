// Decoding with a key-value cache: columns that were read are not computed again.

import * as tf from '@tensorflow/tfjs-core';
import { causalBias, type KeysAndValues, unseen } from './attention.js';
import { forward, type Memory, type TransformerConfig, type Weights } from './forward.js';
import type { Decoder, SequenceBatch } from './policy.js';
import { oneHotRows, readyForProducts, times } from './products.js';
import { rotation } from './rotary.js';

/**
 * The transformer's decoder. Its cache has its full size from the start, with columns not yet written unseen: so every
 * call has the same shapes, and a row's sums have the same terms however long the other rows are.
 */
export class CachedDecoder implements Decoder {
  logits: tf.Tensor2D;
  private readonly capacity: number;
  /** The first column of each row that is not padding. */
  private readonly starts: Int32Array;
  /** The next column to be written. */
  private column: number;
  /** [rows * K, capacity, D / H] each, for each layer. */
  private readonly cache: KeysAndValues[] = [];
  private readonly unembedding: tf.Tensor2D;

  /** See `Policy.decode`. */
  constructor(
    private readonly config: TransformerConfig,
    private readonly weights: Weights,
    prompts: SequenceBatch,
    rows: Int32Array,
    tokens: number,
  ) {
    this.column = prompts.length;
    this.capacity = prompts.length + tokens;
    this.starts = rows.map((prompt) => prompts.starts[prompt]);
    this.unembedding = tf.tidy(() => tf.keep(tf.clone(readyForProducts(weights.embedding as tf.Tensor2D))));
    try {
      this.logits = tf.tidy(() => {
        const bias = causalBias(prompts);
        const logits = this.read(prompts.tokens, prompts.length, 0, bias, (layer, own) => {
          this.cache[layer] = keepBoth(mapBoth(own, (x) => takeParts(this.place(x, 0), prompts.sequences, rows)));
          return own;
        });
        return takeParts(logits, prompts.sequences, rows);
      });
    } catch (error) {
      tf.dispose([this.cache, this.unembedding]);
      throw error;
    }
  }

  append(tokens: Int32Array): void {
    if (this.column === this.capacity) {
      throw new RangeError(`tokens: expected no more than ${this.capacity} columns, got one more`);
    }
    const before = this.logits;
    this.logits = tf.tidy(() =>
      this.read(tokens, 1, this.column, this.bias(), (layer, own) => {
        const [keys, values] = this.cache[layer];
        const placed = mapBoth(own, (x) => this.place(x, this.column));
        this.cache[layer] = keepBoth([tf.add(keys, placed[0]), tf.add(values, placed[1])]);
        tf.dispose([keys, values]);
        return this.cache[layer];
      }),
    );
    before.dispose();
    this.column++;
  }

  dispose(): void {
    tf.dispose([this.logits, this.cache, this.unembedding]);
  }

  /** Logits of the last of `columns` columns, of which the first is number `from`. */
  private read(
    tokens: Int32Array,
    columns: number,
    from: number,
    bias: tf.Tensor4D,
    attention: Memory['attention'],
  ): tf.Tensor2D {
    const { width, heads, keyValueHeads } = this.config;
    const sequences = tokens.length / columns;
    const context = { sequences, heads, keyValueHeads, bias, rotation: rotation(width / heads, from, columns) };
    return forward(this.config, this.weights, tokens, context, columns - 1, {
      attention,
      unembedding: this.unembedding,
    });
  }

  /** x, the columns from number `from` on, in the midst of zeros: [rows * K, capacity, D / H]. */
  private place(x: tf.Tensor3D, from: number): tf.Tensor3D {
    const behind = this.capacity - from - x.shape[1];
    return tf.pad3d(x, [
      [0, 0],
      [from, behind],
      [0, 0],
    ]);
  }

  /** [rows, 1, 1, capacity]: what the column to be written may see. */
  private bias(): tf.Tensor4D {
    const { starts, capacity } = this;
    const bias = new Float32Array(starts.length * capacity).fill(unseen);
    starts.forEach((start, row) => {
      bias.fill(0, row * capacity + start, row * capacity + this.column + 1);
    });
    return tf.tensor4d(bias, [starts.length, 1, 1, capacity]);
  }
}

/** Once both are there, so that none is left behind where the second fails. */
function keepBoth(both: KeysAndValues): KeysAndValues {
  return mapBoth(both, (x) => tf.keep(x));
}

function mapBoth([keys, values]: KeysAndValues, f: (x: tf.Tensor3D) => tf.Tensor3D): KeysAndValues {
  return [f(keys), f(values)];
}

/**
 * x, whose first dimension holds `count` equal parts, with the parts that `indices` names in their place.
 * By a product with one-hot rows, exact for finite x: the WebAssembly kernel for gathering goes value by value.
 */
function takeParts<T extends tf.Tensor>(x: T, count: number, indices: Int32Array): T {
  const [first, ...rest] = x.shape;
  const parts = times(oneHotRows(indices, count), tf.reshape(x, [count, x.size / count]));
  return tf.reshape(parts, [(first / count) * indices.length, ...rest]) as T;
}
