// Sampling completions. The choice of a token depends on its row alone: the random number of each position is addressed
// by (seed, step, prompt, sample, position), so a result does not depend on how the batch was cut.

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
  const weights = new Float64Array(size);
  const drafts = rows.map((row) => ({ row, tokens: [] as number[], logProbs: [] as number[], ended: false }));
  const decoder = startDecoder(policy, rows, options);
  try {
    for (let position = 0; position < maxTokens && !drafts.every((draft) => draft.ended); position++) {
      // A row that has ended repeats its end token, unread, while others go on.
      if (position > 0) decoder.append(Int32Array.from(drafts, (draft) => draft.tokens.at(-1)!));
      const logits = decoder.logits.dataSync<'float32'>();
      drafts.forEach((draft, b) => {
        if (draft.ended) return;
        const own = logits.subarray(b * size, (b + 1) * size);
        const { token, logProb } = choose(own, weights, draft.row, position, options);
        draft.tokens.push(token);
        draft.logProbs.push(logProb);
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

/** A token for one row of logits, with its log-probability; in float64. `weights` is scratch of the row's length. */
function choose(
  logits: Float32Array,
  weights: Float64Array,
  { prompt, sample }: SampleRow,
  position: number,
  { temperature, seed, step }: SampleOptions,
) {
  const scale = 1 / (temperature || 1);
  // Plain loops: with a vocabulary of tens of thousands this is what sampling takes its time for.
  let best = 0;
  for (let token = 1; token < logits.length; token++) if (logits[token] > logits[best]) best = token;
  const highest = logits[best];
  let total = 0;
  for (let token = 0; token < logits.length; token++) {
    weights[token] = Math.exp((logits[token] - highest) * scale);
    total += weights[token];
  }
  if (!Number.isFinite(total)) {
    throw new NumericFault(`logits: expected finite values, got others at position ${position} of prompt ${prompt}`);
  }
  const stream = { seed, purpose: 'sampling', index: step } as const;
  const token = temperature === 0 ? best : draw(weights, total * uniform(stream, prompt, sample, position));
  return { token, logProb: (logits[token] - highest) * scale - Math.log(total) };
}

/** The index in whose share of the weights' sum `point` falls. */
function draw(weights: Float64Array, point: number): number {
  let remaining = point;
  let last = 0;
  for (let token = 0; token < weights.length; token++) {
    remaining -= weights[token];
    if (remaining < 0) return token;
    if (weights[token] > 0) last = token;
  }
  // Rounding can leave a sliver behind the last weight.
  return last;
}
