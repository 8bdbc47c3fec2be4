// Advantages of a step's groups, with HA-DW and its anchor.

import type { Metrics } from '../devices/plan.js';
import type { DifficultyAnchor } from '../loss/anchor.js';
import type { AdvantageConfig } from '../loss/config.js';
import { computeDecoupledAdvantages } from '../loss/decoupled.js';
import { type AdvantageResult, computeAdvantages } from '../loss/losses.js';
import type { Group } from '../rollout/api.js';
import type { NamedWeight } from './kl-reward.js';
import type { Settings } from './options.js';

/**
 * Writes the advantages of all completions and lets the anchor observe them. `chosen` are the groups that the step learns
 * from; their advantages are computed among themselves. Returns `reward`, `reward_std`, `frac_reward_zero_std` of all
 * groups, and the metrics of HA-DW.
 */
export function assignAdvantages(
  groups: readonly Group[],
  chosen: readonly Group[],
  { groupSize, advantage, hadw, device }: Pick<Settings, 'groupSize' | 'advantage' | 'hadw' | 'device'>,
  anchor: DifficultyAnchor | undefined,
  rewards: readonly NamedWeight[],
): Metrics {
  const { multiObjective, ...plain } = advantage;
  const config: AdvantageConfig = { ...plain, groupSize };
  const compute = (some: readonly Group[], how: AdvantageConfig) =>
    multiObjective === 'normalize-then-sum'
      ? computeDecoupledAdvantages(
          rewards.map(({ name, weight }) => ({ rewards: verdictsOf(some, name), weight })),
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
  const result = compute(chosen, weighting ? { ...config, hadw: weighting } : config);
  if (anchor?.timing === 'prior') observe();
  write(groups, all, 1);
  write(chosen, result, hadw && !anchor ? hadw.scale : 1);
  const { reward, reward_std, frac_reward_zero_std } = all.metrics;
  const hadwMetrics = Object.entries(result.metrics).filter(([name]) => name.startsWith('hadw/'));
  return { reward, reward_std, frac_reward_zero_std, ...Object.fromEntries(hadwMetrics) };
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
