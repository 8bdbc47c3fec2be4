// How often a policy is right: one completion a problem, always the most likely token.

import type { Policy } from '../policy/policy.js';
import type { Example } from '../tasks/task.js';
import { collectRollout } from './rollout.js';
import type { TokenTask } from './token-task.js';

export interface Evaluation {
  /** Sum of the rewards: the number of right answers where rewards are 0 or 1. */
  correct: number;
  count: number;
  /** correct / count. */
  accuracy: number;
}

/** Greedy generation on every example. */
export function evaluate(policy: Policy, task: TokenTask, examples: readonly Example[]): Evaluation {
  const groups = collectRollout(policy, task, examples, { groupSize: 1, temperature: 0, seed: 0, step: 0 });
  const correct = groups.reduce((sum, { rewards }) => sum + rewards[0], 0);
  return { correct, count: examples.length, accuracy: correct / examples.length };
}
