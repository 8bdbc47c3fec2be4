// The forward pass of the transformer: token ids to logits, from its parts. One definition serves training (all columns
// at once) and sampling (one column a call): they differ in the keys and values that attention sees, see `Memory`.

import type * as tf from '@tensorflow/tfjs-core';
import { type AttentionContext, type AttentionInputs, attentionBlock, type KeysAndValues } from './attention.js';
import { embed, unembed } from './embedding.js';
import { type FeedforwardInputs, feedforwardBlock } from './feedforward.js';
import { differentiable } from './part.js';

/** The size of a transformer; every field a positive integer. */
export interface TransformerSize {
  layers: number;
  /** Width of the residual stream, D: a multiple of twice the number of heads. */
  width: number;
  heads: number;
  /** Heads of keys and values, K, a divisor of `heads`: each serves as many heads of queries. */
  keyValueHeads: number;
  /** Width of the feed-forward blocks. */
  hidden: number;
}

export interface TransformerConfig extends TransformerSize {
  /** Number of token ids, V. */
  vocabulary: number;
}

/** Weights by name. */
export type Weights = Readonly<Record<string, tf.Tensor>>;

/** What decoding keeps from one column to the next. */
export interface Memory {
  /** All keys and values that the attention of one layer sees, given those of the columns at hand. */
  attention(layer: number, own: KeysAndValues): KeysAndValues;
  /** The embedding as `readyForProducts` gives it. */
  unembedding: tf.Tensor2D;
}

/**
 * Logits [B * (T − from), V] of token ids [B * T]: those of columns from … T − 1.
 * Differentiable with respect to the weights when there is no memory.
 */
export function forward(
  config: TransformerConfig,
  weights: Weights,
  tokens: Int32Array,
  context: AttentionContext,
  from: number,
  memory?: Memory,
): tf.Tensor2D {
  const embedding = weights.embedding as tf.Tensor2D;
  let x = differentiable({ embedding }, (inputs) => embed(inputs, tokens));
  for (let layer = 0; layer < config.layers; layer++) {
    const attention = { x, ...partWeights<AttentionInputs>(weights, `layers.${layer}.attention`) };
    x = differentiable(attention, (inputs) =>
      attentionBlock(inputs, context, memory && ((own) => memory.attention(layer, own))),
    );
    const feedforward = { x, ...partWeights<FeedforwardInputs>(weights, `layers.${layer}.feedforward`) };
    x = differentiable(feedforward, feedforwardBlock);
  }
  const output = { x, norm: weights.norm as tf.Tensor1D, embedding };
  return differentiable(output, (inputs) => unembed(inputs, context.sequences, from, memory?.unembedding));
}

/** The weights whose names begin with a part's name, by the rest of their names. */
function partWeights<I>(weights: Weights, part: string): Omit<I, 'x'> {
  const names = Object.keys(weights).filter((name) => name.startsWith(`${part}.`));
  return Object.fromEntries(names.map((name) => [name.slice(part.length + 1), weights[name]])) as Omit<I, 'x'>;
}
