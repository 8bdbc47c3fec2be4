// Decoding with a key-value cache: columns that were read are not computed again.

import * as tf from '@tensorflow/tfjs-core';
import { causalBias, type KeysAndValues, type KeyValueStore, maskedScore } from './attention.js';
import { matMul, oneHotRows, type SharedFactor, shareTransposed } from './matrix-products.js';
import { forward, logitsOf, rotationsOf, unembeddingName } from './model.js';
import type { ModelWeights } from './parameters.js';
import type { Decoder, SequenceBatch } from './policy.js';

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
  private readonly unembedding: SharedFactor;

  /** See `Policy.decode`. */
  constructor(
    private readonly model: ModelWeights,
    prompts: SequenceBatch,
    rows: Int32Array,
    tokens: number,
  ) {
    this.column = prompts.length;
    this.capacity = prompts.length + tokens;
    this.starts = rows.map((prompt) => prompts.starts[prompt]);
    this.unembedding = shareTransposed(model.weights[unembeddingName(model.shape)] as tf.Tensor2D);
    try {
      this.logits = tf.tidy(() => {
        const bias = (window: number | null) => causalBias(prompts, window);
        const logits = this.read(prompts.tokens, prompts.length, 0, bias, (layer) => (own) => {
          this.cache[layer] = keepBoth(mapBoth(own, (x) => takeParts(this.place(x, 0), prompts.sequences, rows)));
          return own;
        });
        return takeParts(logits, prompts.sequences, rows);
      });
    } catch (error) {
      tf.dispose(this.cache);
      this.unembedding.dispose();
      throw error;
    }
  }

  append(tokens: Int32Array): void {
    if (this.column === this.capacity) {
      throw new RangeError(`tokens: expected no more than ${this.capacity} columns, got one more`);
    }
    const before = this.logits;
    this.logits = tf.tidy(() =>
      this.read(
        tokens,
        1,
        this.column,
        (window) => this.bias(window),
        (layer) => (own) => {
          const [keys, values] = this.cache[layer];
          const placed = mapBoth(own, (x) => this.place(x, this.column));
          this.cache[layer] = keepBoth([tf.add(keys, placed[0]), tf.add(values, placed[1])]);
          tf.dispose([keys, values]);
          return this.cache[layer];
        },
      ),
    );
    before.dispose();
    this.column++;
  }

  dispose(): void {
    tf.dispose([this.logits, this.cache]);
    this.unembedding.dispose();
  }

  /** Logits of the last of `columns` columns, of which the first is number `from`. */
  private read(
    tokens: Int32Array,
    columns: number,
    from: number,
    bias: (window: number | null) => tf.Tensor4D,
    store: (layer: number) => KeyValueStore,
  ): tf.Tensor2D {
    const { model } = this;
    const sequences = tokens.length / columns;
    const starts = tf.tensor1d(this.starts, 'int32');
    const biases = new Map<number | null, tf.Tensor4D>();
    const visible = (window: number | null) => {
      const own = biases.get(window) ?? bias(window);
      biases.set(window, own);
      return { bias: own, starts, window: window ?? 0 };
    };
    const context = {
      sequences,
      rotations: rotationsOf(model.shape, (rotary) => model.frequencies(rotary, this.capacity), from, columns),
      visible,
      store,
    };
    const selection = { sequences, from: columns - 1 };
    return logitsOf(model, forward(model, tokens, context), selection, this.unembedding);
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
  private bias(window: number | null): tf.Tensor4D {
    const { starts, capacity } = this;
    const bias = new Float32Array(starts.length * capacity).fill(maskedScore);
    starts.forEach((start, row) => {
      const first = window === null ? start : Math.max(start, this.column - window + 1);
      bias.fill(0, row * capacity + first, row * capacity + this.column + 1);
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
  const parts = matMul(oneHotRows(indices, count), tf.reshape(x, [count, x.size / count]));
  return tf.reshape(parts, [(first / count) * indices.length, ...rest]) as T;
}
