// A task in the tokens of a policy: its encoded prompts, and the sizes that batches are padded to.

import { describe, rangeError, typeError } from '../base/check.js';
import type { PolicyLike } from '../model/policy-like.js';
import type { Example, Task } from '../tasks/task.js';
import { type EncodeOptions, encodeOne, type Tokenizer } from '../text/tokenizer.js';

/** The sizes are constants of the task, so that results do not depend on which examples share a batch. */
export interface TokenTask<E extends Example = Example> {
  task: Task<E>;
  tokenizer: Tokenizer;
  /** Maximum length of a prompt in tokens. */
  promptLength: number;
  /** Maximum length of a completion in tokens, the end token included. */
  maxTokens: number;
  /** Additional ends of a completion: see `SamplingSettings`. */
  stopTokens?: readonly number[];
  stopTexts?: readonly string[];
}

/** Default maximum lengths of a prompt and a completion, in tokens, if neither the options nor the task give one. */
export const usualPromptLength = 512;
export const usualMaxTokens = 256;

/**
 * Sizes that are null come from the task. A solution needs at most one token per character plus the end token. The bound of
 * prompts is used for character-level policies only: other tokenizers and chat templates add tokens.
 */
export function tokenTask<E extends Example>(
  task: Task<E>,
  { tokenizer, vocabulary }: PolicyLike,
  sizes: {
    promptLength: number | null;
    maxTokens: number | null;
    stopTokens?: readonly number[] | null;
    stopTexts?: readonly string[] | null;
  },
): TokenTask<E> {
  const { maxPromptLength, maxSolutionLength } = task;
  return {
    task,
    tokenizer,
    promptLength: sizes.promptLength ?? (vocabulary && maxPromptLength) ?? usualPromptLength,
    maxTokens: sizes.maxTokens ?? (maxSolutionLength === undefined ? usualMaxTokens : maxSolutionLength + 1),
    stopTokens: sizes.stopTokens ?? undefined,
    stopTexts: sizes.stopTexts ?? undefined,
  };
}

/**
 * The ids of prompts. RangeError or TypeError that names the task and the prompt, if the tokenizer cannot encode it, it is empty or
 * too long, or it has chat messages and the policy has no chat template.
 */
export async function encodePrompts(task: TokenTask, examples: readonly Example[]): Promise<Int32Array[]> {
  const texts = await promptTexts(task, examples);
  return Promise.all(texts.map((text, i) => encodePrompt(task, examples[i].prompt, text)));
}

interface PromptText extends EncodeOptions {
  text: string;
}

/** The text to encode: a prompt, or its chat rendered by the template, which already contains the special tokens. */
async function promptTexts({ task, tokenizer }: TokenTask, examples: readonly Example[]): Promise<PromptText[]> {
  for (const { prompt } of examples) {
    if (typeof prompt !== 'string') throw typeError(`${task.name}, prompt`, 'a string', prompt);
  }
  const chats = examples.flatMap(({ messages }) => (messages === undefined ? [] : [messages]));
  if (chats.length > 0 && !tokenizer.chat) {
    const { prompt } = examples.find(({ messages }) => messages !== undefined)!;
    throw rangeError(`${task.name}, messages of ${describe(prompt)}`, 'a policy with a chat template', 'one without');
  }
  const rendered = chats.length > 0 ? await tokenizer.chat!.render(chats) : [];
  return examples.map(({ prompt, messages }) =>
    messages === undefined ? { text: prompt } : { text: rendered.shift()!, addSpecialTokens: false },
  );
}

async function encodePrompt(
  { task, tokenizer, promptLength }: TokenTask,
  prompt: string,
  { text, ...options }: PromptText,
): Promise<Int32Array> {
  let tokens: Int32Array;
  try {
    tokens = await encodeOne(tokenizer, text, options);
  } catch (error) {
    const message = `${task.name}, prompt ${JSON.stringify(prompt)}: ${(error as Error).message}`;
    throw error instanceof TypeError ? new TypeError(message) : new RangeError(message);
  }
  if (tokens.length === 0 || tokens.length > promptLength) {
    const came = `${tokens.length} in ${JSON.stringify(prompt)}`;
    throw rangeError(`${task.name}, prompt`, `1 to ${promptLength} tokens (sampling.promptLength)`, came);
  }
  return tokens;
}
