// Advantages of a step's groups, with HA-DW and its anchor.

import type { Metrics } from '../devices/plan.js';
import type { DifficultyAnchor } from '../loss/anchor.js';
import { computeDecoupledAdvantages } from '../loss/decoupled.js';
import { type AdvantageResult, computeAdvantages } from '../loss/losses.js';
import type { AdvantageConfig } from '../loss/option-types.js';
import type { Group } from '../rollout/api.js';
import { stepRewardsOf } from './choice.js';
import type { Settings } from './options.js';
import type { NamedWeight, RewardWeights } from './reward-weights.js';

/**
 * Sets the advantages of all completions and lets the anchor observe them. `chosen` are the groups that the step learns
 * from; their advantages are computed among themselves. Returns `reward` and `reward_std` of all
 * groups, and the metrics of HA-DW's or DGPO's weights.
 */
export function assignAdvantages(
  groups: readonly Group[],
  chosen: readonly Group[],
  { groupSize, advantage, hadw, device }: Pick<Settings, 'groupSize' | 'advantage' | 'hadw' | 'device'>,
  anchor: DifficultyAnchor | undefined,
  { whole, steps }: RewardWeights,
): Metrics {
  const { multiObjective, dqw, ...plain } = advantage;
  const config: AdvantageConfig = { ...plain, groupSize };
  const compute = (some: readonly Group[], how: AdvantageConfig) =>
    multiObjective === 'normalize-then-sum'
      ? computeDecoupledAdvantages(
          whole.map(({ name, weight }) => ({ rewards: verdictsOf(some, name), weight })),
          how,
          { device },
        )
      : computeAdvantages(rewardsOf(some), how, { device });
  const all = compute(groups, config);
  const observe = () => {
    if (anchor && !Number.isNaN(all.accuracy)) anchor.observe(all.accuracy);
  };
  if (anchor?.timing === 'posterior') observe();
  const weighting = hadw && anchor && { scale: hadw.scale, anchor: anchor.value };
  const result = compute(chosen, { ...config, ...(weighting && { hadw: weighting }), ...(dqw && { dqw }) });
  if (anchor?.timing === 'prior') observe();
  write(groups, all, 1);
  write(chosen, result, hadw && !anchor ? hadw.scale : 1);
  addStepAdvantages(
    chosen,
    steps.filter(({ weight }) => weight !== 0),
    plain,
    device,
  );
  const { reward, reward_std } = all.metrics;
  const { frac_reward_zero_std: _, nonFinite: __, ...others } = result.metrics;
  return { ...others, reward, reward_std };
}

function rewardsOf(groups: readonly Group[]): number[] {
  return groups.flatMap(({ completions }) => completions.map(({ reward }) => reward));
}

/** NaN where the reward does not apply. */
function verdictsOf(groups: readonly Group[], name: string): number[] {
  return groups.flatMap(({ completions }) => completions.map(({ rewards }) => rewards[name] ?? Number.NaN));
}

function write(groups: readonly Group[], { advantages }: AdvantageResult, factor: number): void {
  groups
    .flatMap(({ completions }) => completions)
    .forEach((completion, i) => {
      completion.advantage = factor * advantages[i];
    });
}

/**
 * Process supervision (arXiv 2402.03300, section 4.1.3): the rewards of all steps of a group are centred and scaled together, and the
 * advantage of a step counts for all tokens up to its end.
 */
function addStepAdvantages(
  groups: readonly Group[],
  steps: readonly NamedWeight[],
  config: AdvantageConfig,
  device: Settings['device'],
): void {
  if (steps.length === 0) return;
  for (const completion of groups.flatMap(({ completions }) => completions)) {
    completion.tokenAdvantages = new Float32Array(completion.tokens.length).fill(completion.advantage);
  }
  for (const { name, weight } of steps) {
    const judged = groups.filter((group) => stepRewardsOf(group, name).length > 0);
    if (judged.length === 0) continue;
    const rewards = judged.map((group) => stepRewardsOf(group, name));
    const groupSizes = Int32Array.from(rewards, ({ length }) => length);
    const { advantages } = computeAdvantages(rewards.flat(), { ...config, groupSizes }, { device });
    let place = 0;
    for (const completion of judged.flatMap(({ completions }) => completions)) {
      for (const { end } of completion.steps?.[name] ?? []) {
        const earned = weight * advantages[place++];
        for (let t = 0; t < end; t++) completion.tokenAdvantages![t] += earned;
      }
    }
  }
}
