// Measuring a policy on the prompts of a probe: how many of each prompt's samples are right.

import type { Policy } from '../model/policy.js';
import { sampleGroups } from '../rollout/rollout.js';
import type { TokenTask } from '../rollout/token-task.js';
import type { Example } from '../tasks/task.js';

/** Where random numbers of a probe are addressed: training's prompts are never numbered so high. */
const firstPrompts = { measurement: 2 ** 29, evaluation: 2 ** 30 } as const;

export interface ProbeSampling {
  /** Completions a prompt. */
  samples: number;
  temperature: number;
  seed: number;
  step: number;
  /** Those that decide a prompt's bucket are independent of those that judge a policy. */
  purpose: keyof typeof firstPrompts;
  signal: AbortSignal;
}

/** Completions that are held at once, but for the last prompt's. */
const completionsAtOnce = 4096;

/** Completions of each example that the task scores with 1. The signal's reason is thrown where it aborts. */
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
