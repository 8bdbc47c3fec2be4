// Prompts and their completions as one batch for a policy and for a loss.

import type * as tf from '@tensorflow/tfjs-core';
import { checkLogits } from '../model/check-logits.js';
import type { Policy, SequenceBatch } from '../model/policy.js';
import { padPrompts } from '../rollout/sample.js';

/**
 * Completions behind their prompts. The policy reads `input`; its logits from column `from` on predict `targets`, and
 * the loss counts the targets where `mask` is 1.
 */
export interface CompletionBatch {
  input: SequenceBatch;
  from: number;
  /** B and T of targets and mask, [B * T] each: T is the length to which completions are padded. */
  shape: { sequences: number; length: number };
  targets: Int32Array;
  mask: Uint8Array;
}

/**
 * Pads prompts on the left to `promptLength`, completions on the right to `length` tokens, with the token `padding`.
 * The tokens of a pair that is `masked` are read and do not count.
 */
export function completionBatch(
  pairs: readonly { prompt: Int32Array; completion: Int32Array; masked?: boolean }[],
  { promptLength, length, padding }: { promptLength: number; length: number; padding: number },
): CompletionBatch {
  const sequences = pairs.length;
  const prompts = padPrompts(
    pairs.map((pair) => pair.prompt),
    promptLength,
    padding,
  );
  const targets = new Int32Array(sequences * length).fill(padding);
  const mask = new Uint8Array(sequences * length);
  // The last target is never read: nothing comes after it.
  const columns = promptLength + length - 1;
  const tokens = new Int32Array(sequences * columns).fill(padding);
  pairs.forEach(({ completion, masked }, b) => {
    targets.set(completion, b * length);
    if (!masked) mask.fill(1, b * length, b * length + completion.length);
    tokens.set(prompts.tokens.subarray(b * promptLength, (b + 1) * promptLength), b * columns);
    tokens.set(completion.subarray(0, length - 1), b * columns + promptLength);
  });
  return {
    input: { sequences, length: columns, tokens, starts: prompts.starts },
    from: promptLength - 1,
    shape: { sequences, length },
    targets,
    mask,
  };
}

/** A policy's logits [B * T, V] for the targets of a batch. */
export function logitsOf(policy: Policy, { input, from, shape }: CompletionBatch): tf.Tensor2D {
  return checkLogits(policy.logits(input, from), shape.sequences * shape.length, policy.logitsSize);
}

/** Values of each completion's tokens in the layout of a batch's targets; 0 behind a completion's end. */
export function spread(values: readonly Float32Array[], length: number): Float32Array {
  const result = new Float32Array(values.length * length);
  values.forEach((row, b) => {
    result.set(row, b * length);
  });
  return result;
}
