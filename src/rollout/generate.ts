// Completions and log-probs from a policy, outside of a task.

import * as tf from '@tensorflow/tfjs-core';
import { checkKeys, checkNumber, checkObject, describe, isTypedArray, rangeError, typeError } from '../base/check.js';
import { NumericFault } from '../base/numeric-fault.js';
import { yieldToEventLoop } from '../base/yield.js';
import { maxLogitBytes } from '../devices/linear.js';
import { presets } from '../loss/presets.js';
import { checkLogits } from '../model/check-logits.js';
import { checkPolicy } from '../model/define.js';
import { hiddenInPlaceOfLogits, linearReport } from '../model/linear-loss.js';
import type { Policy } from '../model/policy.js';
import type { ChatMessage } from '../text/chat-template.js';
import { completionText, encodeOne, type Tokenizer } from '../text/tokenizer.js';
import { checkSamplingSettings } from './engine.js';
import type { Generated, GenerateOptions, Prompt } from './generate-api.js';
import { logProbsOf } from './log-probs.js';
import { sequencesPerPass } from './pass-size.js';
import { policySampler } from './sample.js';
import { usualMaxTokens } from './token-task.js';

/** See `generate` of the package's entry. */
export async function generateFrom(
  given: unknown,
  prompts: readonly Prompt[],
  options: GenerateOptions = {},
): Promise<Generated[]> {
  const policy = checkPolicy(given);
  const { samples = 1, maxTokens = usualMaxTokens, temperature = 1, seed = 0, ...others } = checkOptions(options);
  const ids = await encodeAll(policy, prompts);
  const requests = ids.flatMap((prompt, promptIndex) =>
    Array.from({ length: samples }, (_, sample) => ({ prompt, promptIndex, sample })),
  );
  const settings = { ...others, maxTokens, temperature, seed, step: 0 };
  checkSamplingSettings('', settings);
  const completions = await policySampler(policy).complete(requests, settings);
  return completions.map(({ tokens, logProbs, truncated }, i) => ({
    text: completionText(policy.tokenizer, tokens, others.stopTokens),
    tokens,
    logProbs,
    truncated,
    prompt: requests[i].prompt,
  }));
}

/** See `tokenLogProbs` of the package's entry. Each pass runs `within`, which may give the policy other weights for that long. */
export async function tokenLogProbsOf(
  given: unknown,
  sequences: readonly Int32Array[],
  temperature = 1,
  most = maxLogitBytes,
  within: <T>(compute: () => T) => T = (compute) => compute(),
): Promise<Float32Array[]> {
  const policy = checkPolicy(given);
  if (!Array.isArray(sequences)) throw typeError('sequences', 'an array of Int32Array', sequences);
  for (const [i, ids] of sequences.entries()) checkIds(`sequences[${i}]`, ids, policy.logitsSize);
  const results: Float32Array[] = sequences.map(({ length }) => new Float32Array(length - 1));
  // Sequences of the same length need no padding, so the result of one does not depend on the others.
  const lengths = new Set(results.map((row) => row.length + 1));
  for (const length of lengths) {
    if (length < 2) continue;
    const indices = [...sequences.keys()].filter((i) => sequences[i].length === length);
    const atOnce = sequencesPerPass(policy, length, 'forward');
    for (let first = 0; first < indices.length; first += atOnce) {
      const some = indices.slice(first, first + atOnce);
      const own = some.map((i) => sequences[i]);
      const logProbs = within(() => passLogProbs(policy, own, temperature, most));
      some.forEach((index, b) => {
        results[index].set(logProbs.subarray(b * length, b * length + length - 1));
      });
      await yieldToEventLoop();
    }
  }
  return results;
}

/** [B * T] for B sequences of T tokens; the last value of each row has no meaning. */
function passLogProbs(
  policy: Policy,
  sequences: readonly Int32Array[],
  temperature: number,
  most: number,
): Float32Array {
  const [count, length] = [sequences.length, sequences[0].length];
  const tokens = new Int32Array(count * length);
  const targets = new Int32Array(count * length);
  sequences.forEach((ids, b) => {
    tokens.set(ids, b * length);
    targets.set(ids.subarray(1), b * length);
  });
  const batch = { sequences: count, length, tokens, starts: new Int32Array(count) };
  let logProbs: Float32Array = new Float32Array();
  tf.tidy(() => {
    const hidden = hiddenInPlaceOfLogits(policy, batch, count * length, undefined, most);
    if (hidden) {
      const input = {
        shape: { sequences: count, length },
        tokens: targets,
        temperature,
        advantages: new Float32Array(count),
      };
      logProbs = linearReport(hidden, input, presets.reinforce, { device: 'auto' }).logProbs;
    } else {
      const logits = checkLogits(policy.logits(batch), count * length, policy.logitsSize);
      logProbs = logProbsOf(logits.dataSync<'float32'>(), targets, temperature, 'auto');
    }
  });
  const faulty = logProbs.filter((value) => !Number.isFinite(value)).length;
  if (faulty > 0) throw new NumericFault(`logits: expected finite values, got ${faulty} log-probs that are not finite`);
  return logProbs;
}

/** Encodes prompts: strings with the tokenizer's special tokens, chats by their template. */
async function encodeAll({ tokenizer, logitsSize }: Policy, prompts: readonly Prompt[]): Promise<Int32Array[]> {
  if (!Array.isArray(prompts)) throw typeError('prompts', 'an array of strings, chats or Int32Array', prompts);
  const chats = prompts.filter(isChat);
  if (chats.length > 0 && !tokenizer.chat) {
    const first = prompts.findIndex(isChat);
    throw rangeError(`prompts[${first}]`, 'no chat: the policy has no chat template', 'one');
  }
  const rendered = chats.length > 0 ? await tokenizer.chat!.render(chats) : [];
  return Promise.all(
    prompts.map(async (prompt, i) => {
      const field = `prompts[${i}]`;
      const ids = isChat(prompt)
        ? encodeOne(tokenizer, rendered.shift()!, { addSpecialTokens: false })
        : readPrompt(tokenizer, prompt, field);
      return checkIds(field, await ids, logitsSize);
    }),
  );
}

function isChat(prompt: Prompt): prompt is readonly ChatMessage[] {
  return Array.isArray(prompt);
}

async function readPrompt(tokenizer: Tokenizer, prompt: string | Int32Array, field: string): Promise<Int32Array> {
  if (typeof prompt === 'string') return encodeOne(tokenizer, prompt);
  if (isTypedArray(prompt, 'Int32Array')) return prompt;
  throw typeError(field, 'a string, an array of messages or an Int32Array', prompt);
}

function checkIds(field: string, ids: unknown, size: number): Int32Array {
  if (!isTypedArray(ids, 'Int32Array')) throw typeError(field, 'an Int32Array', ids);
  const own = ids as Int32Array;
  if (own.length === 0) throw rangeError(field, 'at least one token', describe(own));
  const outside = own.find((id) => id < 0 || id >= size);
  if (outside !== undefined) throw rangeError(field, `token ids from 0 to ${size - 1}`, String(outside));
  return own;
}

const optionNames = [
  'maxTokens',
  'temperature',
  'topP',
  'topK',
  'minP',
  'stopTokens',
  'stopTexts',
  'seed',
  'samples',
  'signal',
] as const;

/** The sampler checks the other options. */
function checkOptions(options: GenerateOptions): GenerateOptions {
  const { samples, signal } = checkObject('options', options);
  checkKeys('', options as Record<string, unknown>, optionNames);
  if (samples !== undefined) checkNumber('samples', samples, { min: 1, integer: true });
  if (signal !== undefined && !(signal instanceof AbortSignal)) throw typeError('signal', 'an AbortSignal', signal);
  return options;
}
