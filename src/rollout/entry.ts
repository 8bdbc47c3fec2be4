// `generate` and `tokenLogProbs` as the package's root exports them: TensorFlow.js is loaded when they are called.

import { withTfjs } from '../base/missing-tfjs.js';
import type { PolicyLike } from '../model/policy-like.js';
import type { Generated, GenerateOptions, Prompt } from './generate-api.js';

/**
 * Completions of prompts, prompt by prompt, each with as many samples as `options.samples`.
 *
 * @param prompts texts, which get the tokenizer's special tokens; chats, which need a policy with a chat template; or token ids,
 *   which are read as they are
 * @throws TypeError or RangeError that names the prompt or option; the reason of `options.signal` where it aborts
 *
 * @example
 * const [{ text, tokens, logProbs }] = await generate(policy, ['Once upon a time'], { maxTokens: 64, temperature: 0 });
 */
export async function generate(
  policy: PolicyLike,
  prompts: readonly Prompt[],
  options?: GenerateOptions,
): Promise<Generated[]> {
  const { generateFrom } = await withTfjs('generate', () => import('./generate.js'));
  return generateFrom(policy, prompts, options);
}

/**
 * Log-probs of given tokens: for a sequence of T ids, T − 1 numbers, log p(token i + 1 | tokens 0 … i) in nats under temperature 1.
 *
 * @throws TypeError or RangeError that names the sequence, for ids that the policy does not have
 *
 * @example
 * const [logProbs] = await tokenLogProbs(policy, [Int32Array.of(1, 403, 407)]);
 */
export async function tokenLogProbs(policy: PolicyLike, sequences: readonly Int32Array[]): Promise<Float32Array[]> {
  const { tokenLogProbsOf } = await withTfjs('tokenLogProbs', () => import('./generate.js'));
  return tokenLogProbsOf(policy, sequences);
}
