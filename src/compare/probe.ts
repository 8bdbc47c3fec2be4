// Measures a policy on the prompts of a probe: how many of each prompt's samples are right.

import type { Policy } from '../model/policy.js';
import { sampleGroups } from '../rollout/rollout.js';
import type { TokenTask } from '../rollout/token-task.js';
import type { Example } from '../tasks/task.js';

/** First address of a probe's random numbers; training's prompts never have such high indices. */
const firstPrompts = { measurement: 2 ** 29, evaluation: 2 ** 30 } as const;

export interface ProbeSampling {
  /** Completions per prompt. */
  samples: number;
  temperature: number;
  seed: number;
  step: number;
  /** The random numbers that decide a prompt's bucket are independent of those that evaluate policies. */
  purpose: keyof typeof firstPrompts;
  signal: AbortSignal;
}

/** Maximum number of completions in memory at once, except for those of the last prompt. */
const completionsAtOnce = 4096;

/** For each example, the number of completions with a score of 1. Throws the signal's reason if it aborts. */
export async function countRight(
  policy: Policy,
  task: TokenTask,
  examples: readonly Example[],
  { samples, purpose, signal, ...sampling }: ProbeSampling,
): Promise<number[]> {
  const right: number[] = [];
  const some = Math.max(1, Math.floor(completionsAtOnce / samples));
  for (let first = 0; first < examples.length; first += some) {
    const groups = await sampleGroups(policy, task, examples.slice(first, first + some), {
      ...sampling,
      signal,
      groupSize: samples,
      firstPrompt: firstPrompts[purpose] + first,
    });
    for (const { completions } of groups) right.push(completions.filter(({ score }) => score === 1).length);
  }
  return right;
}
