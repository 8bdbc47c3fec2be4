// How often a policy is right: one completion a problem, always the most likely token.

import type { Metrics } from '../devices/plan.js';
import type { Policy } from '../model/policy.js';
import type { Example } from '../tasks/task.js';
import type { Evaluation } from './api.js';
import { accuracyByDifficulty, sampleGroups } from './rollout.js';
import type { TokenTask } from './token-task.js';

/** Greedy generation on every example. The signal's reason is thrown where it aborts. */
export async function evaluate<E extends Example>(
  policy: Policy,
  task: TokenTask<E>,
  examples: readonly E[],
  signal?: AbortSignal,
): Promise<Evaluation> {
  const sampling = { groupSize: 1, temperature: 0, seed: 0, step: 0, signal };
  const groups = await sampleGroups(policy, task, examples, sampling);
  const scored = groups.map(({ example, completions: [{ score }] }) => ({ difficulty: example.difficulty, score }));
  const correct = scored.reduce((sum, { score }) => sum + score, 0);
  const count = examples.length;
  return { correct, count, accuracy: correct / count, byDifficulty: accuracyByDifficulty(scored) };
}

/** `eval/<name>/accuracy` and `eval/<name>/accuracy/<difficulty>`. */
export function evaluationMetrics(name: string, { accuracy, byDifficulty }: Evaluation): Metrics {
  const parts = byDifficulty.map((part) => [`eval/${name}/accuracy/${part.difficulty}`, part.accuracy]);
  return { [`eval/${name}/accuracy`]: accuracy, ...Object.fromEntries(parts) };
}
