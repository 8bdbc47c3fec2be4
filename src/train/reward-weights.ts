// The rewards of a run by name and weight, once they have been asked: those of whole completions, and those of steps.

import { rangeError } from '../base/check.js';
import type { AnyReward, RewardSettings } from '../rollout/api.js';
import { klRewardName } from './kl-reward.js';
import type { Settings } from './options.js';

export type NamedWeight = Pick<RewardSettings, 'name' | 'weight'>;

export interface RewardWeights {
  /** What the reward of a completion is the sum of. The KL reward, where there is one, counts −beta times. */
  whole: readonly NamedWeight[];
  steps: readonly NamedWeight[];
}

/** RangeError where a reward has the name of the KL reward. */
export function rewardWeights(
  rewards: readonly AnyReward<never>[],
  { klReward }: Pick<Settings, 'klReward'>,
): RewardWeights {
  const taken = rewards.findIndex(({ name }) => name === klRewardName);
  if (klReward && taken >= 0) {
    throw rangeError(`rewards[${taken}].name`, `another name than klReward's`, `'${klRewardName}'`);
  }
  const named = (some: readonly AnyReward<never>[]) => some.map(({ name, weight }) => ({ name, weight }));
  const whole = named(rewards.filter((reward) => !('judgeSteps' in reward)));
  return {
    whole: klReward ? [...whole, { name: klRewardName, weight: -klReward.beta }] : whole,
    steps: named(rewards.filter((reward) => 'judgeSteps' in reward)),
  };
}
