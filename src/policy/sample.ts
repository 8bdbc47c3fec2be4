// Sampling completions. The choice of a token depends on its row alone: the random number of each position is addressed
// by (seed, step, prompt, sample, position), so a result does not depend on how the batch was cut.

import * as tf from '@tensorflow/tfjs-core';
import { uniform } from '../random.js';
import { breathe } from './breathe.js';
import { NumericFault } from './numeric-fault.js';
import type { Decoder, Policy, SequenceBatch } from './policy.js';

/** One completion to be sampled: the tokens of its prompt, and its place in the step. */
export interface SampleRow {
  /** At least one token; the same for rows of the same prompt. */
  tokens: Int32Array;
  /** Which prompt of the step, and which of the prompt's samples: the address of its random numbers. */
  prompt: number;
  sample: number;
}

export interface SampleOptions {
  /** Prompts are padded to this many columns: a constant of the task rather than of the batch. */
  promptLength: number;
  /** Completions are cut off after this many tokens, the end token included. */
  maxTokens: number;
  /** Divides the logits. 0 takes the most likely token (the lowest id of equals). */
  temperature: number;
  seed: number;
  step: number;
}

export interface Completion {
  /** Token ids, the end token included unless truncated; their number is the completion's length. */
  tokens: Int32Array;
  /** Log-probability of each token under the distribution sampled from (under temperature 1 where that is 0). */
  logProbs: Float32Array;
  /** No end token within `maxTokens`. */
  truncated: boolean;
}

/**
 * Samples one completion a row, in order. Rows of the same prompt share the reading of it.
 * RangeError for an empty or too long prompt, NumericFault for logits that are not finite.
 */
export async function sample(
  policy: Policy,
  rows: readonly SampleRow[],
  options: SampleOptions,
): Promise<Completion[]> {
  if (rows.length === 0) return [];
  const { maxTokens } = options;
  const { size, end } = policy.vocabulary;
  const drafts = rows.map((row) => ({ row, tokens: [] as number[], logProbs: [] as number[], ended: false }));
  const decoder = startDecoder(policy, rows, options);
  try {
    for (let position = 0; position < maxTokens && !drafts.every((draft) => draft.ended); position++) {
      // A row that has ended repeats its end token, unread, while others go on.
      if (position > 0) decoder.append(Int32Array.from(drafts, (draft) => draft.tokens.at(-1)!));
      const probabilities = readProbabilities(decoder.logits, options.temperature || 1);
      drafts.forEach((draft, b) => {
        if (draft.ended) return;
        const own = probabilities.subarray(b * size, (b + 1) * size);
        const token = choose(own, draft.row, position, options);
        draft.tokens.push(token);
        draft.logProbs.push(Math.log(own[token]));
        draft.ended = token === end;
      });
      await breathe();
    }
  } finally {
    decoder.dispose();
  }
  return drafts.map(({ tokens, logProbs, ended }) => ({
    tokens: Int32Array.from(tokens),
    logProbs: Float32Array.from(logProbs),
    truncated: !ended,
  }));
}

function startDecoder(policy: Policy, rows: readonly SampleRow[], options: SampleOptions): Decoder {
  const prompts = new Map(rows.map(({ prompt, tokens }) => [prompt, tokens]));
  const numbers = [...prompts.keys()];
  const indices = new Map(numbers.map((prompt, index) => [prompt, index]));
  const batch = padPrompts([...prompts.values()], options.promptLength, policy.vocabulary.end);
  const promptOfRow = Int32Array.from(rows, ({ prompt }) => indices.get(prompt)!);
  return policy.decode(batch, promptOfRow, options.maxTokens - 1);
}

/** Left-pads prompts to `length` columns; `padding` is any token id. RangeError for an empty or too long prompt. */
export function padPrompts(prompts: readonly Int32Array[], length: number, padding: number): SequenceBatch {
  const tokens = new Int32Array(prompts.length * length).fill(padding);
  const starts = Int32Array.from(prompts, (prompt) => length - prompt.length);
  prompts.forEach((prompt, b) => {
    if (prompt.length === 0 || starts[b] < 0) {
      throw new RangeError(`prompts[${b}]: expected 1 to ${length} tokens, got ${prompt.length}`);
    }
    tokens.set(prompt, b * length + starts[b]);
  });
  return { sequences: prompts.length, length, tokens, starts };
}

/**
 * softmax(logits / temperature), computed by the backend: over a vocabulary of tens of thousands the exponentials are what
 * sampling takes its time for.
 */
function readProbabilities(logits: tf.Tensor2D, temperature: number): Float32Array {
  const probabilities = tf.tidy(() => tf.softmax(temperature === 1 ? logits : tf.div(logits, temperature)));
  const values = probabilities.dataSync<'float32'>();
  probabilities.dispose();
  return values;
}

/** A token for one row of probabilities, which are NaN throughout where a logit was not finite. */
function choose(
  probabilities: Float32Array,
  { prompt, sample }: SampleRow,
  position: number,
  { temperature, seed, step }: SampleOptions,
): number {
  if (Number.isNaN(probabilities[0])) {
    throw new NumericFault(`logits: expected finite values, got others at position ${position} of prompt ${prompt}`);
  }
  if (temperature === 0) return mostLikely(probabilities);
  const stream = { seed, purpose: 'sampling', index: step } as const;
  return draw(probabilities, uniform(stream, prompt, sample, position));
}

/** The lowest index of equals. */
function mostLikely(probabilities: Float32Array): number {
  let best = 0;
  for (let token = 1; token < probabilities.length; token++) {
    if (probabilities[token] > probabilities[best]) best = token;
  }
  return best;
}

/** The index in whose share of the probabilities `point` falls, in float64. */
function draw(probabilities: Float32Array, point: number): number {
  let remaining = point;
  let last = 0;
  for (let token = 0; token < probabilities.length; token++) {
    remaining -= probabilities[token];
    if (remaining < 0) return token;
    if (probabilities[token] > 0) last = token;
  }
  // The probabilities add up to 1 but for rounding, which can leave a sliver behind the last.
  return last;
}
