// Batches of prompts with their completions, for a policy and for a loss.

import type * as tf from '@tensorflow/tfjs-core';
import { columnStep } from '../model/attention.js';
import { checkLogits } from '../model/check-logits.js';
import type { Policy, SequenceBatch } from '../model/policy.js';
import type { KeptTokens } from '../rollout/engine.js';
import { maskLogits } from '../rollout/kept-tokens.js';

/**
 * Prompts followed by their completions, each row from position 0 on. The policy reads `input`; its logits from position `from` on
 * predict `targets`, and the loss counts the targets whose `mask` is 1.
 */
export interface CompletionBatch {
  input: SequenceBatch;
  from: number;
  /** B and T of targets and mask, [B * T] each. */
  shape: { sequences: number; length: number };
  /** For each row, the index in 0 … T − 1 of its completion's first token: prompts differ in length. */
  offsets: Int32Array;
  targets: Int32Array;
  mask: Uint8Array;
  /** For each of the B * T targets, the ids that its token was drawn from; undefined if those are all. */
  kept?: (Int32Array | undefined)[];
}

export interface CompletionPair {
  prompt: Int32Array;
  completion: Int32Array;
  /** Its tokens are read but do not count in the loss. */
  masked?: boolean;
  kept?: KeptTokens;
}

/** Positions that a policy reads of a prompt and its completion: the last token is not read, because nothing follows it. */
export function positionsOf({ prompt, completion }: CompletionPair): number {
  return Math.ceil((prompt.length + completion.length - 1) / columnStep) * columnStep;
}

/**
 * Pads pairs on the right, with the token `padding`, to the longest of them. `contextLength` is the maximum length of a prompt
 * with its completion.
 */
export function completionBatch(
  pairs: readonly CompletionPair[],
  { padding, contextLength }: { padding: number; contextLength: number },
): CompletionBatch {
  const sequences = pairs.length;
  const positions = pairs.reduce((most, pair) => Math.max(most, positionsOf(pair)), 0);
  const from = pairs.reduce((least, { prompt }) => Math.min(least, prompt.length), Infinity) - 1;
  const length = positions - from;
  const offsets = Int32Array.from(pairs, ({ prompt }) => prompt.length - 1 - from);
  const tokens = new Int32Array(sequences * positions).fill(padding);
  const targets = new Int32Array(sequences * length).fill(padding);
  const mask = new Uint8Array(sequences * length);
  const kept = pairs.some((pair) => pair.kept) ? new Array<Int32Array | undefined>(sequences * length) : undefined;
  pairs.forEach(({ prompt, completion, masked, kept: own }, b) => {
    const first = b * length + offsets[b];
    targets.set(completion, first);
    if (!masked) mask.fill(1, first, first + completion.length);
    tokens.set(prompt, b * positions);
    tokens.set(completion.subarray(0, -1), b * positions + prompt.length);
    completion.forEach((_, t) => {
      if (own) kept![first + t] = own.ids.subarray(own.offsets[t], own.offsets[t + 1]);
    });
  });
  return {
    input: { sequences, length: positions, tokens, starts: new Int32Array(sequences), contextLength },
    from,
    shape: { sequences, length },
    offsets,
    targets,
    mask,
    ...(kept && { kept }),
  };
}

/** A policy's logits [B * T, V] for the targets of a batch, restricted to the tokens that were drawn from. */
export function logitsOf(policy: Policy, { input, from, shape, kept }: CompletionBatch): tf.Tensor2D {
  const logits = checkLogits(policy.logits(input, from), shape.sequences * shape.length, policy.logitsSize);
  return kept ? maskLogits(logits, kept) : logits;
}

/** Values of each completion's tokens in the layout of a batch's targets; 0 elsewhere. */
export function spread(
  values: readonly Float32Array[],
  { offsets, shape: { length } }: Pick<CompletionBatch, 'offsets' | 'shape'>,
): Float32Array {
  const result = new Float32Array(values.length * length);
  values.forEach((row, b) => {
    result.set(row, b * length + offsets[b]);
  });
  return result;
}
