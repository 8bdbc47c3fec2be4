// A task as a policy sees it: its characters as tokens, and the sizes that batches are padded to.

import { characterVocabulary, type Vocabulary } from '../policy/vocabulary.js';
import type { Task } from '../tasks/task.js';

/** Sizes are constants of the task, so that a result does not depend on which examples share a batch. */
export interface TokenTask {
  task: Task;
  vocabulary: Vocabulary;
  /** Columns of a prompt. */
  promptLength: number;
  /** Tokens of a completion at most: the longest solution and the end token. */
  maxTokens: number;
}

export function tokenTask(task: Task): TokenTask {
  return {
    task,
    vocabulary: characterVocabulary(task.characters),
    promptLength: task.maxPromptLength,
    maxTokens: task.maxSolutionLength + 1,
  };
}
