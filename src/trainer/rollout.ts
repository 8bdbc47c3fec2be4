// Rollouts: groups of completions sampled for each prompt, with their rewards.

import type { Policy } from '../policy/policy.js';
import { type Completion, sample } from '../policy/sample.js';
import type { Example } from '../tasks/task.js';
import type { TokenTask } from './token-task.js';

export interface RolloutOptions {
  /** Completions a prompt. */
  groupSize: number;
  /** Divides the logits; 0 takes the most likely token. */
  temperature: number;
  /** What addresses the random numbers, with the number of the prompt and of the sample. */
  seed: number;
  step: number;
  /** The number of the first prompt, where a step's prompts are sampled in several calls. Default 0. */
  firstPrompt?: number;
}

/** One prompt and what the policy made of it. */
export interface Group {
  example: Example;
  prompt: Int32Array;
  completions: Completion[];
  texts: string[];
  /** In [0, 1]; a truncated completion gets 0. */
  rewards: number[];
}

/** Samples a group for each example, in order. */
export function collectRollout(
  policy: Policy,
  { task, vocabulary, promptLength, maxTokens }: TokenTask,
  examples: readonly Example[],
  { groupSize, firstPrompt = 0, ...options }: RolloutOptions,
): Group[] {
  const prompts = examples.map((example) => vocabulary.encode(example.prompt));
  const rows = prompts.flatMap((tokens, i) =>
    Array.from({ length: groupSize }, (_, sample) => ({ tokens, prompt: firstPrompt + i, sample })),
  );
  const all = sample(policy, rows, { ...options, promptLength, maxTokens, endToken: vocabulary.end });
  return examples.map((example, i) => {
    const completions = all.slice(i * groupSize, (i + 1) * groupSize);
    const texts = completions.map(({ tokens }) => vocabulary.decode(tokens));
    const rewards = completions.map(({ truncated }, j) => (truncated ? 0 : task.score(texts[j], example)));
    return { example, prompt: prompts[i], completions, texts, rewards };
  });
}

/** Whether a group's rewards differ: where they do not, every advantage is 0. */
export function isInformative({ rewards }: Group): boolean {
  return rewards.some((reward) => reward !== rewards[0]);
}

/** The mean reward of some groups of one size. */
export function meanReward(groups: readonly Group[]): number {
  return mean(groups.flatMap(({ rewards }) => rewards));
}

/** `reward`, `frac_reward_zero_std`, `completions/mean_length` (tokens), `completions/clipped_ratio`. */
export function rolloutMetrics(groups: readonly Group[]): Record<string, number> {
  const completions = groups.flatMap((group) => group.completions);
  return {
    reward: meanReward(groups),
    frac_reward_zero_std: mean(groups.map((group) => (isInformative(group) ? 0 : 1))),
    'completions/mean_length': mean(completions.map(({ tokens }) => tokens.length)),
    'completions/clipped_ratio': mean(completions.map(({ truncated }) => Number(truncated))),
  };
}

function mean(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0) / values.length;
}
