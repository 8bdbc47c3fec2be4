// The names and weights of a run's rewards: those of whole completions, and step rewards.

import { rangeError } from '../base/check.js';
import type { AnyReward, RewardSettings } from '../rollout/api.js';
import { klRewardName } from './kl-reward.js';
import type { Settings } from './options.js';

export type NamedWeight = Pick<RewardSettings, 'name' | 'weight'>;

export interface RewardWeights {
  /** Rewards that add up to the reward of a completion. The KL reward, if there is one, has the weight −beta. */
  whole: readonly NamedWeight[];
  steps: readonly NamedWeight[];
}

/** RangeError if a reward has the name of the KL reward. */
export function rewardWeights(
  rewards: readonly AnyReward<never>[],
  { klReward }: Pick<Settings, 'klReward'>,
): RewardWeights {
  const taken = rewards.findIndex(({ name }) => name === klRewardName);
  if (klReward && taken >= 0) {
    throw rangeError(`rewards[${taken}].name`, `a name other than that of klReward`, `'${klRewardName}'`);
  }
  const named = (some: readonly AnyReward<never>[]) => some.map(({ name, weight }) => ({ name, weight }));
  const whole = named(rewards.filter((reward) => !('judgeSteps' in reward)));
  return {
    whole: klReward ? [...whole, { name: klRewardName, weight: -klReward.beta }] : whole,
    steps: named(rewards.filter((reward) => 'judgeSteps' in reward)),
  };
}
