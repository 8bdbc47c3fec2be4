// Calls rewards for given completions, as a step does.

import type { Verdict } from '../../src/index.js';
import type { AnyReward, GroupRewardInput, StepVerdict } from '../../src/rollout/api.js';
import { Judging } from '../../src/rollout/rewards.js';

/** The completions of a prompt, with their scores. */
export type RewardQuestion<E extends never> = Pick<GroupRewardInput<E>, 'completions' | 'example'>;

/** The verdicts of each reward on completions that were all sampled at once, in the order of the completions. */
export async function askRewards(
  rewards: AnyReward<never>[],
  questions: RewardQuestion<never>[],
): Promise<(Verdict | readonly StepVerdict[])[][]> {
  const all = questions.flatMap(({ example, completions }) => completions.map((own) => ({ ...own, example })));
  let scored = 0;
  const task = { name: 'given', score: () => all[scored++].score };
  const judging = new Judging<never>(task, rewards, { groupSize: questions[0].completions.length });
  for (const [i, completion] of all.entries()) judging.add(i, completion);
  await judging.finish();
  return rewards.map(({ name }) => judging.judgements.map(({ rewards, steps }) => steps?.[name] ?? rewards[name]));
}
