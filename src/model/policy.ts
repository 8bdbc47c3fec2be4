// What the trainer needs of a policy. The transformer of this folder is one; a user's own tfjs model can be another.

import type * as tf from '@tensorflow/tfjs-core';
import type { Vocabulary } from '../text/vocabulary.js';
import type { PolicyLike } from './policy-like.js';

/**
 * Sequences padded to one length: row b holds its tokens from column starts[b] on; what stands before them is not read. Prompts
 * that are to be continued end in the last column (`starts` differ). Sequences that are learned from begin in column 0
 * (`starts` are 0), and shorter ones have padding behind them, whose logits nobody reads.
 */
export interface SequenceBatch {
  sequences: number;
  length: number;
  /** sequences * length token ids, row-major; also the columns of padding hold valid ids. */
  tokens: Int32Array;
  /** The first column of each row that is not padding before it. */
  starts: Int32Array;
  /**
   * The most tokens that a sequence of this kind may come to have; default: `length`. Read by models whose positions depend on
   * it (LongRoPE), so that a sequence gets the same logits in batches of different lengths.
   */
  contextLength?: number;
}

/** Final states of some rows and the matrix that makes logits of them. */
export interface HiddenStates {
  /** [rows, D]; differentiable with respect to the variables. */
  states: tf.Tensor2D;
  /** [logitsSize, D], the policy's own: a row's logits are its products with these rows. */
  unembedding: tf.Tensor2D;
  /** Whether the unembedding is one of the variables, so that its gradient is wanted. */
  trainsUnembedding: boolean;
  /** Logits are softCap · tanh(x / softCap) of the products x. Left out: x. */
  softCap?: number;
}

/** A distribution over token sequences with trainable parameters. Does not dispose of what it is given. */
export interface Policy extends PolicyLike {
  /** Columns of the logits, at least `tokenizer.vocabularySize`: ids from there on stand for nothing and are never sampled. */
  readonly logitsSize: number;
  /** The trainable parameters, by name, always in the same order. */
  readonly variables: Readonly<Record<string, tf.Variable>>;
  /**
   * Logits [sequences * (length − from), logitsSize]: row (b, i) predicts the token that follows column from + i.
   * Differentiable with respect to the variables. `from` defaults to 0; rows of padding are finite and meaningless.
   */
  logits(batch: SequenceBatch, from?: number): tf.Tensor2D;
  /**
   * What `logits` of the same arguments are made of, so that they need not be in memory as a whole. Left out by policies whose
   * logits are no such product.
   */
  hidden?(batch: SequenceBatch, from?: number): HiddenStates;
  /** Whether the loss may write its gradient over the logits: `inPlace` of `GrpoOptions` says when it may. */
  readonly inPlace: boolean;
  /**
   * Starts decoding one sequence for each element of `rows`, the index of its prompt: several rows of a prompt share the
   * reading of it. Keeps room for `tokens` further tokens in each row.
   */
  decode(prompts: SequenceBatch, rows: Int32Array, tokens: number): Decoder;
  /**
   * Whether `decode` computes what `logits` computes of the same row, in the same order: on the backend groupgrad, which computes
   * each row by itself, their logits are then equal to the last bit, and the trainer insists on it. Default false.
   */
  readonly decodesExactly?: boolean;
  /** Number of weights, trained or frozen: a pass is sized by it. Left out: those of `variables`. */
  readonly weightCount?: number;
  /**
   * Runs `compute` as the policy that it was before anything was trained, without a second copy of its weights: with its adapter
   * off. Left out by policies that change the weights they started with.
   */
  reference?<T>(compute: () => T): T;
  /** Files for each checkpoint that others can use as they stand, by name: an adapter as PEFT reads it. */
  checkpointFiles?(): Readonly<Record<string, Iterable<Uint8Array>>>;
}

/** A policy whose tokenizer was made of a vocabulary. */
export type VocabularyPolicy = Policy & { readonly vocabulary: Vocabulary };

/** A batch of sequences that grows by one token a call. */
export interface Decoder {
  /** Logits [rows, logitsSize] of the next token. Replaced, and the old ones freed, by each method that changes rows. */
  readonly logits: tf.Tensor2D;
  /** Appends one token to every row. RangeError when there is no room left. */
  append(tokens: Int32Array): void;
  /** Frees the logits and the cache. */
  dispose(): void;
}

/** A decoder whose rows come and go. What a row computes does not depend on the others. */
export interface RefillableDecoder extends Decoder {
  /** As of `Decoder`; −1 for a row that takes no token, whose logits are then finite and meaningless. */
  append(tokens: Int32Array): void;
  /** A decoder of its own that goes on from copies of rows, which may repeat. */
  select(rows: Int32Array): RefillableDecoder;
  /** Row at[i] goes on from a copy of row rows[i] of another decoder of the same policy; the one before is forgotten. */
  replace(at: Int32Array, source: RefillableDecoder, rows: Int32Array): void;
}
