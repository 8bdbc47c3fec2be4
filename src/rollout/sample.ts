// Sampling completions. The choice of a token depends on its row alone: the random number of each position is addressed
// by (seed, step, prompt, sample, position), so a result does not depend on how the batch was cut.

import { breathe } from '../base/breathe.js';
import { checkObject, typeError } from '../base/check.js';
import { NumericFault } from '../base/numeric-fault.js';
import { uniform } from '../base/random.js';
import { checkLogits } from '../model/check-logits.js';
import type { Decoder, Policy, SequenceBatch } from '../model/policy.js';
import { paddingOf } from '../text/tokenizer.js';
import { chooseTokens } from './choose.js';

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
  /** Interrupts the sampling: its reason is thrown. */
  signal?: AbortSignal;
}

export interface Completion {
  /** Token ids, the end token included unless truncated; their number is the completion's length. */
  tokens: Int32Array;
  /** Log-probability of each token under the distribution sampled from (under temperature 1 where that is 0). */
  logProbs: Float32Array;
  /** No end token within `maxTokens`. */
  truncated: boolean;
}

/** A completion at work. */
interface Draft {
  row: SampleRow;
  tokens: number[];
  logProbs: number[];
  ended: boolean;
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
  const { maxTokens, temperature, seed, step, signal } = options;
  const { endTokens, vocabularySize } = policy.tokenizer;
  const stream = { seed, purpose: 'sampling', index: step } as const;
  const drafts = rows.map((row): Draft => ({ row, tokens: [], logProbs: [], ended: false }));
  const decoder = startDecoder(policy, rows, options);
  try {
    for (let position = 0; position < maxTokens && !drafts.every((draft) => draft.ended); position++) {
      // A row that has ended repeats its end token, unread, while others go on.
      if (position > 0) decoder.append(Int32Array.from(drafts, (draft) => draft.tokens.at(-1)!));
      const point = ({ row, ended }: Draft) => (ended ? 0 : uniform(stream, row.prompt, row.sample, position));
      const points = temperature === 0 ? undefined : Float64Array.from(drafts, point);
      const logits = checkLogits(decoder.logits, rows.length, policy.logitsSize);
      const choices = chooseTokens(logits, temperature || 1, { points, allowed: vocabularySize });
      drafts.forEach((draft, b) => {
        if (draft.ended) return;
        const probability = choices.probabilities[b];
        if (Number.isNaN(probability)) {
          throw new NumericFault(
            `logits: expected finite values, got others at position ${position} of prompt ${draft.row.prompt}`,
          );
        }
        draft.tokens.push(choices.tokens[b]);
        draft.logProbs.push(Math.log(probability));
        draft.ended = endTokens.includes(choices.tokens[b]);
      });
      await breathe(signal);
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
  const batch = padPrompts([...prompts.values()], options.promptLength, paddingOf(policy.tokenizer));
  const promptOfRow = Int32Array.from(rows, ({ prompt }) => indices.get(prompt)!);
  const decoder = checkObject('policy.decode', policy.decode(batch, promptOfRow, options.maxTokens - 1));
  for (const method of ['append', 'dispose']) {
    if (typeof decoder[method] !== 'function') {
      throw typeError(`policy.decode(…).${method}`, 'a function', decoder[method]);
    }
  }
  return decoder as unknown as Decoder;
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
