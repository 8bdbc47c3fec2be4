// A task as a policy sees it: its prompts as tokens, and the sizes that batches are padded to.

import { describe, rangeError, typeError } from '../base/check.js';
import type { PolicyLike } from '../model/policy-like.js';
import type { Example, Task } from '../tasks/task.js';
import { type EncodeOptions, encodeOne, type Tokenizer } from '../text/tokenizer.js';

/** Sizes are constants of the task, so that a result does not depend on which examples share a batch. */
export interface TokenTask<E extends Example = Example> {
  task: Task<E>;
  tokenizer: Tokenizer;
  /** Tokens of a prompt at most. */
  promptLength: number;
  /** Tokens of a completion at most, the end token included. */
  maxTokens: number;
  /** What ends a completion besides the end tokens: see `SamplingSettings`. */
  stopTokens?: readonly number[];
  stopTexts?: readonly string[];
}

/** Tokens of a prompt at most, and of a completion, where neither the options nor the task say how many. */
export const usualPromptLength = 512;
export const usualMaxTokens = 256;

/**
 * Sizes that are null come from the task. Completions are bounded by one token a character, and the end token; prompts for a
 * policy of characters alone: other tokenizers put tokens around a text, and chat templates text.
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
 * The ids of prompts. RangeError or TypeError, naming the task and the prompt, for one that the tokenizer cannot encode, that is
 * empty or too long, and for chat messages where the policy has no chat template.
 */
export async function encodePrompts(task: TokenTask, examples: readonly Example[]): Promise<Int32Array[]> {
  const texts = await promptTexts(task, examples);
  return Promise.all(texts.map((text, i) => encodePrompt(task, examples[i].prompt, text)));
}

interface PromptText extends EncodeOptions {
  text: string;
}

/** What is encoded: a prompt, or its chat as the template writes it, which has its special tokens already. */
async function promptTexts({ task, tokenizer }: TokenTask, examples: readonly Example[]): Promise<PromptText[]> {
  for (const { prompt } of examples) {
    if (typeof prompt !== 'string') throw typeError(`${task.name}, prompt`, 'a text', prompt);
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
