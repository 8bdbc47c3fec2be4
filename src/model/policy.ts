// The interface that the trainer needs from a policy. The transformer in this folder implements it; a user's own tfjs model can
// too.

import type * as tf from '@tensorflow/tfjs-core';
import type { Precision } from '../backend/precision.js';
import type { Vocabulary } from '../text/vocabulary.js';
import type { PolicyLike } from './policy-like.js';

/**
 * Sequences padded to one length: row b holds its tokens from column starts[b] on; earlier columns are not read. Prompts to be
 * continued are left-padded: they end in the last column (`starts` differ). Training sequences are right-padded: they begin in
 * column 0 (`starts` are 0), and the logits of the padding after them are not read.
 */
export interface SequenceBatch {
  sequences: number;
  length: number;
  /** sequences * length token ids, row-major; columns of padding hold valid ids too. */
  tokens: Int32Array;
  /** The first column of each row that is not padding before it. */
  starts: Int32Array;
  /**
   * The maximum length that such a sequence may reach; default: `length`. Read by models whose positions depend on it
   * (LongRoPE), so that a sequence gets the same logits in batches of different lengths.
   */
  contextLength?: number;
}

/** Final states of some rows and the matrix that turns them into logits. */
export interface HiddenStates {
  /** [rows, D]; differentiable with respect to the variables. */
  states: tf.Tensor2D;
  /** [logitsSize, D], owned by the policy: a row's logits are its dot products with these rows. */
  unembedding: tf.Tensor2D;
  /** Whether the unembedding is one of the variables, so that its gradient is wanted. */
  trainsUnembedding: boolean;
  /**
   * The low-rank term of an adapter of the unembedding, whose products are added to those above: states [rows, R] and
   * B [logitsSize, R], a variable. Omitted without such an adapter.
   */
  adapter?: { states: tf.Tensor2D; unembedding: tf.Tensor2D };
  /** Logits are softCap · tanh(x / softCap) of the products x, summed. Default: x. */
  softCap?: number;
  /** Of the products of states and unembedding. Default: the backend's. */
  precision?: Precision;
}

/** A distribution over token sequences with trainable parameters. Does not dispose of its inputs. */
export interface Policy extends PolicyLike {
  /** Number of logits per position, at least `tokenizer.vocabularySize`: ids from there on are never sampled. */
  readonly logitsSize: number;
  /** The trainable parameters, by name, always in the same order. */
  readonly variables: Readonly<Record<string, tf.Variable>>;
  /**
   * Logits [sequences * (length − from), logitsSize]: row (b, i) predicts the token that follows column from + i.
   * Differentiable with respect to the variables. `from` defaults to 0; rows of padding are finite and meaningless.
   */
  logits(batch: SequenceBatch, from?: number): tf.Tensor2D;
  /**
   * The factors of `logits` of the same arguments, so that the logits need not be in memory as a whole. Omitted by policies
   * whose logits are not such a product.
   */
  hidden?(batch: SequenceBatch, from?: number): HiddenStates;
  /** Whether the loss may overwrite the logits with its gradient; see `inPlace` of `GrpoOptions`. */
  readonly inPlace: boolean;
  /**
   * Starts decoding one sequence for each element of `rows`, the index of its prompt. A prompt is prefilled once for all of its
   * rows. Reserves room for `tokens` more tokens in each row.
   */
  decode(prompts: SequenceBatch, rows: Int32Array, tokens: number): Decoder;
  /**
   * Whether `decode` does the same computation as `logits` for a row, in the same order. On the backend groupgrad, which
   * computes each row independently, their logits are then bit-identical, and the trainer enforces it. Default false.
   */
  readonly decodesExactly?: boolean;
  /** Number of weights, trained or frozen, which limits the size of a pass. Default: those of `variables`. */
  readonly weightCount?: number;
  /**
   * Runs `compute` with the policy as it was before training, without a second copy of its weights: with its adapter disabled.
   * Omitted by policies that train their initial weights.
   */
  reference?<T>(compute: () => T): T;
  /** Additional files for each checkpoint, by name, for other programs: an adapter in PEFT's format. */
  checkpointFiles?(): Readonly<Record<string, Iterable<Uint8Array>>>;
}

/** A policy whose tokenizer was created from a vocabulary. */
export type VocabularyPolicy = Policy & { readonly vocabulary: Vocabulary };

/** A batch of sequences that grows by one token per call. */
export interface Decoder {
  /** Logits [rows, logitsSize] of the next token. Each method that changes rows replaces them and frees the old ones. */
  readonly logits: tf.Tensor2D;
  /** Appends one token to every row. RangeError if there is no room left. */
  append(tokens: Int32Array): void;
  /** Frees the logits and the cache. */
  dispose(): void;
}

/** A decoder whose rows can be added and replaced. A row does not depend on the others. */
export interface RefillableDecoder extends Decoder {
  /** As in `Decoder`; −1 for a row that takes no token, whose logits are then finite and meaningless. */
  append(tokens: Int32Array): void;
  /** A separate decoder that continues from copies of rows, which may repeat. */
  select(rows: Int32Array): RefillableDecoder;
  /** Row at[i] is replaced with a copy of row rows[i] of another decoder of the same policy. */
  replace(at: Int32Array, source: RefillableDecoder, rows: Int32Array): void;
}
