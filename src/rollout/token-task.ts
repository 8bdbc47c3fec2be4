// A task as a policy sees it: its texts as tokens, and the sizes that batches are padded to.

import { rangeError, typeError } from '../base/check.js';
import type { Example, Task } from '../tasks/task.js';
import { encodeText, type Vocabulary } from '../text/vocabulary.js';

/** Sizes are constants of the task, so that a result does not depend on which examples share a batch. */
export interface TokenTask<E extends Example = Example> {
  task: Task<E>;
  vocabulary: Vocabulary;
  /** Columns of a prompt. */
  promptLength: number;
  /** Tokens of a completion at most, the end token included. */
  maxTokens: number;
}

/** Sizes that are null come from the task: one token a character, and the end token. */
export function tokenTask<E extends Example>(
  task: Task<E>,
  vocabulary: Vocabulary,
  sizes: { promptLength: number | null; maxTokens: number | null },
): TokenTask<E> {
  return {
    task,
    vocabulary,
    promptLength: sizes.promptLength ?? task.maxPromptLength,
    maxTokens: sizes.maxTokens ?? task.maxSolutionLength + 1,
  };
}

/** RangeError or TypeError, naming the task, for a prompt that the vocabulary cannot encode or that is empty or too long. */
export function encodePrompt({ task, vocabulary, promptLength }: TokenTask, prompt: string): Int32Array {
  if (typeof prompt !== 'string') throw typeError(`${task.name}, prompt`, 'a text', prompt);
  let tokens: Int32Array;
  try {
    tokens = encodeText(vocabulary, prompt);
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
