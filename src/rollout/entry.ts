// `generate` and `tokenLogProbs` as exported by the package's root: TensorFlow.js is loaded when they are called.

import { withTfjs } from '../base/missing-tfjs.js';
import type { PolicyLike } from '../model/policy-like.js';
import type { Generated, GenerateOptions, Prompt } from './generate-api.js';

/**
 * Completions of prompts, prompt by prompt, with `options.samples` samples each.
 *
 * @param prompts strings, to which the tokenizer adds its special tokens; chats, which need a policy with a chat template; or
 *   token ids, which are used as they are
 * @throws TypeError or RangeError that names the prompt or option; the reason of `options.signal` when it aborts
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
 * Log-probs of given tokens: for a sequence of T ids, T − 1 numbers, log p(token i + 1 | tokens 0 … i) in nats at temperature 1.
 * Logits of more than 256 MiB are computed in chunks if the policy gives its final states, as pretrained ones do.
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
