// Decoding with a key-value cache: earlier columns are not recomputed.

import * as tf from '@tensorflow/tfjs-core';
import { rangeError } from '../base/check.js';
import { blockColumns, columnStep, maskedScore, type Visibility } from './attention.js';
import { type DecodeStep, hasDecodeAttention, KvCache, PromptAttention, placeParts } from './kv-cache.js';
import { type SharedFactor, shareTransposed, takeParts } from './matrix-products.js';
import { batchContext, forward, logitsOf, rotationsOf, unembeddingName } from './model.js';
import type { ModelWeights } from './parameters.js';
import type { RefillableDecoder, SequenceBatch } from './policy.js';

/** The state of a decoder's rows. */
interface Rows {
  /** One per layer. */
  caches: KvCache[];
  /** Tokens of each row, its prompt included, and how many more it may take. */
  lengths: Int32Array;
  room: Int32Array;
  /** The argument for `frequencies`. */
  contextLength: number;
}

/**
 * The transformer's decoder. Rows are stored from their own first token on, at position 0, without the padding before it in the
 * batch of prompts. So a row's numbers do not depend on other rows, on padding or on the length of the cache, and equal those of
 * a full forward pass in which it begins in column 0, provided that the backend's products compute each row independently.
 */
export class CachedDecoder implements RefillableDecoder {
  private constructor(
    private readonly model: ModelWeights,
    public logits: tf.Tensor2D,
    private readonly rows: Rows,
    private readonly unembedding: Shared,
  ) {}

  /** See `Policy.decode`. */
  static start(model: ModelWeights, prompts: SequenceBatch, promptOfRow: Int32Array, tokens: number): CachedDecoder {
    const unembedding = new Shared(shareTransposed(model.weights[unembeddingName(model.shape)] as tf.Tensor2D));
    const caches: KvCache[] = [];
    try {
      const { batch, lengths } = fromColumnZero(prompts, prompts.contextLength ?? prompts.length + tokens);
      const logits = tf.tidy(() => {
        const cache = () => new PromptAttention((own) => caches.push(KvCache.ofPrompts(own, lengths, promptOfRow)));
        const states = forward(model, batch.tokens, { ...batchContext(model, batch), cache });
        const last = lengths.map((length, prompt) => prompt * batch.length + length - 1);
        return takeParts(logitsOf(model, states, { rows: last }, unembedding.factor), lengths.length, promptOfRow);
      });
      const rows = {
        caches,
        lengths: promptOfRow.map((prompt) => lengths[prompt]),
        room: promptOfRow.map(() => tokens),
        contextLength: batch.contextLength!,
      };
      return new CachedDecoder(model, logits, rows, unembedding);
    } catch (error) {
      for (const cache of caches) cache.dispose();
      unembedding.release();
      throw error;
    }
  }

  append(tokens: Int32Array): void {
    const { model, rows } = this;
    const appended = Array.from(tokens, (token) => token >= 0);
    const full = appended.findIndex((takes, row) => takes && rows.room[row] === 0);
    if (full >= 0)
      throw rangeError(
        `tokens[${full}]`,
        `none in a row of ${rows.lengths[full]} tokens, which is full`,
        String(tokens[full]),
      );
    const logits = tf.tidy(() => {
      const step = this.step(appended);
      // A row that takes no token is computed with token 0, so that its numbers are finite.
      const states = forward(
        model,
        tokens.map((token) => Math.max(token, 0)),
        {
          sequences: tokens.length,
          rotations: rotationsOf(model.shape, (rotary) => model.frequencies(rotary, rows.contextLength), rows.lengths),
          visible: this.visibility(step),
          cache: (layer) => ({ attend: (...given) => rows.caches[layer].attend(...given, step) }),
        },
      );
      return logitsOf(model, states, { sequences: tokens.length, from: 0 }, this.unembedding.factor);
    });
    this.exchangeLogits(logits);
    appended.forEach((takes, row) => {
      rows.lengths[row] += Number(takes);
      rows.room[row] -= Number(takes);
    });
    for (const cache of rows.caches) cache.settle(rows.lengths, appended);
  }

  select(selected: Int32Array): CachedDecoder {
    const { caches, lengths, room, contextLength } = this.rows;
    const copies: KvCache[] = [];
    try {
      for (const cache of caches) copies.push(cache.select(selected));
      const rows = {
        caches: copies,
        lengths: selected.map((row) => lengths[row]),
        room: selected.map((row) => room[row]),
        contextLength,
      };
      const logits = tf.tidy(() => takeParts(this.logits, lengths.length, selected));
      return new CachedDecoder(this.model, logits, rows, this.unembedding.share());
    } catch (error) {
      for (const cache of copies) cache.dispose();
      throw error;
    }
  }

  replace(at: Int32Array, source: RefillableDecoder, selected: Int32Array): void {
    if (!(source instanceof CachedDecoder) || source.model !== this.model) {
      throw new TypeError('source: expected a decoder of the same policy, got another');
    }
    const { rows } = this;
    const others = source.rows;
    const longest = selected.reduce((most, row) => Math.max(most, others.lengths[row]), 0);
    rows.caches.forEach((cache, layer) => {
      cache.replace(at, others.caches[layer], selected, longest);
    });
    const isReplaced = Array.from(rows.lengths, (_, row) => at.includes(row));
    this.exchangeLogits(
      tf.tidy(() => {
        const kept = tf.tensor2d(
          isReplaced.map((replaced) => Number(!replaced)),
          [isReplaced.length, 1],
        );
        const placed = placeParts(source.logits, others.lengths.length, selected, at, isReplaced.length);
        return tf.add<tf.Tensor2D>(tf.mul(this.logits, kept), placed);
      }),
    );
    at.forEach((row, i) => {
      rows.lengths[row] = others.lengths[selected[i]];
      rows.room[row] = others.room[selected[i]];
    });
  }

  dispose(): void {
    this.logits.dispose();
    for (const cache of this.rows.caches) cache.dispose();
    this.unembedding.release();
  }

  private exchangeLogits(logits: tf.Tensor2D): void {
    this.logits.dispose();
    this.logits = logits;
  }

  private step(appended: readonly boolean[]): DecodeStep {
    const { lengths } = this.rows;
    const own = lengths.map((length, row) => (appended[row] ? length : -1));
    const step = { lengths: own, lengthsTensor: tf.tensor1d(own, 'int32') };
    if (hasDecodeAttention()) return step;
    const { keyValueHeads } = this.model.shape;
    const heads = own.length * keyValueHeads;
    const place = new Float32Array(heads * blockColumns);
    for (let head = 0; head < heads; head++) {
      const length = own[Math.floor(head / keyValueHeads)];
      if (length >= 0) place[head * blockColumns + (length % blockColumns)] = 1;
    }
    return { ...step, place: tf.tensor3d(place, [heads, blockColumns, 1]) };
  }

  /** The mask of the new positions, by window: once for all layers of a step. */
  private visibility({ lengths, lengthsTensor, place }: DecodeStep): (window: number | null) => Visibility {
    const known = new Map<number | null, Visibility>();
    const full = this.rows.caches[0].blockCount * blockColumns;
    return (window) => {
      const found = known.get(window) ?? {
        starts: lengthsTensor,
        window: window ?? 0,
        ...(place && { bias: biasOf(lengths, full, window) }),
      };
      known.set(window, found);
      return found;
    };
  }
}

/** [rows, 1, 1, full + blockColumns]: what a new position sees of full blocks, and of the block that its row is filling. */
function biasOf(lengths: Int32Array, full: number, window: number | null): tf.Tensor4D {
  const columns = full + blockColumns;
  const bias = new Float32Array(lengths.length * columns).fill(maskedScore);
  lengths.forEach((position, row) => {
    if (position < 0) return;
    const first = window === null ? 0 : Math.max(0, position - window + 1);
    const filling = position - (position % blockColumns);
    const at = row * columns;
    if (first < filling) bias.fill(0, at + first, at + filling);
    bias.fill(0, at + full + Math.max(first - filling, 0), at + full + (position % blockColumns) + 1);
  });
  return tf.tensor4d(bias, [lengths.length, 1, 1, columns]);
}

/** Prompts moved to column 0, in a batch as short as possible. */
function fromColumnZero(
  { sequences, length, tokens, starts }: SequenceBatch,
  contextLength: number,
): { batch: SequenceBatch; lengths: Int32Array } {
  const lengths = starts.map((start) => length - start);
  const longest = lengths.reduce((a, b) => Math.max(a, b));
  const columns = Math.ceil(longest / columnStep) * columnStep;
  const moved = new Int32Array(sequences * columns);
  starts.forEach((start, b) => {
    const own = tokens.subarray(b * length + start, (b + 1) * length);
    moved.set(own, b * columns);
    moved.fill(own[own.length - 1], b * columns + own.length, (b + 1) * columns);
  });
  const batch = { sequences, length: columns, tokens: moved, starts: new Int32Array(sequences), contextLength };
  return { batch, lengths };
}

/** A matrix that several decoders share; freed with the last of them. */
class Shared {
  private users = 1;

  constructor(readonly factor: SharedFactor) {}

  share(): this {
    this.users++;
    return this;
  }

  release(): void {
    this.users--;
    if (this.users === 0) this.factor.dispose();
  }
}
