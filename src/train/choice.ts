// Chooses the groups that a step learns from: those that dynamic sampling accepts, and of them those that have a gradient.

import { rangeError } from '../base/check.js';
import { hasSpread } from '../base/spread.js';
import { mean } from '../base/statistics.js';
import type { Group } from '../rollout/api.js';
import type { Settings } from './options.js';
import type { RewardWeights } from './reward-weights.js';

/** RangeError if the metric of dynamic sampling does not exist. */
export function checkSamplingMetric({ metric }: Settings['dynamicSampling'], { whole, steps }: RewardWeights): void {
  const known = ['reward', 'accuracy', ...[...whole, ...steps].map(({ name }) => `rewards/${name}`)];
  if (metric === null || known.includes(metric)) return;
  throw rangeError('dynamicSampling.metric', known.map((name) => `'${name}'`).join(', '), `'${metric}'`);
}

export class GroupChoice {
  constructor(
    private readonly settings: Pick<Settings, 'promptsPerStep' | 'dynamicSampling' | 'zeroStdGroups' | 'advantage'>,
    private readonly weights: RewardWeights,
  ) {}

  /** Whether dynamic sampling has enough groups. */
  areEnough(groups: readonly Group[]): boolean {
    return groups.filter((group) => this.isWanted(group)).length >= this.settings.promptsPerStep;
  }

  /**
   * The groups that the step learns from: first those that dynamic sampling accepts, then others whose rewards differ, then any;
   * each kind in order.
   */
  ofStep(groups: readonly Group[]): Group[] {
    const rank = (group: Group) => (this.isWanted(group) ? 0 : this.isInformative(group) ? 1 : 2);
    const ranks = new Map(groups.map((group) => [group, rank(group)]));
    return [...groups].sort((a, b) => ranks.get(a)! - ranks.get(b)!).slice(0, this.settings.promptsPerStep);
  }

  /** The groups of a step that its loss is computed from: all of them if no group's rewards differ, since a loss needs some. */
  ofLoss(chosen: readonly Group[]): readonly Group[] {
    if (this.settings.zeroStdGroups !== 'drop') return chosen;
    const informative = chosen.filter((group) => this.isInformative(group));
    return informative.length > 0 ? informative : chosen;
  }

  shareWithoutSpread(groups: readonly Group[]): number {
    return groups.filter((group) => !this.isInformative(group)).length / groups.length;
  }

  private isWanted(group: Group): boolean {
    const { metric, min, max } = this.settings.dynamicSampling;
    const values = this.valuesOf(group, metric ?? 'reward');
    const differs = metric === null || metric === 'reward' ? this.isInformative(group) : hasSpread(values, 'float64');
    const level = mean(values.filter((value) => !Number.isNaN(value)));
    return differs && level >= (min ?? -Infinity) && level <= (max ?? Infinity);
  }

  /**
   * Whether a group's rewards differ by more than rounding; otherwise every centred advantage is 0. If rewards are normalised
   * separately, it is enough that one reward with a weight differs; the same holds for step rewards.
   */
  private isInformative(group: Group): boolean {
    const { multiObjective } = this.settings.advantage;
    const counting = (some: RewardWeights['whole']) =>
      some.filter(({ weight }) => weight !== 0).map(({ name }) => name);
    const weighted = counting(this.weights.whole).map((name) => `rewards/${name}`);
    const metrics = multiObjective === 'normalize-then-sum' ? weighted : ['reward'];
    return (
      metrics.some((metric) => hasSpread(this.valuesOf(group, metric), 'float64')) ||
      counting(this.weights.steps).some((name) => hasSpread(stepRewardsOf(group, name), 'float64'))
    );
  }

  /** One value per completion; NaN if there is none. */
  private valuesOf({ completions }: Group, metric: string): number[] {
    if (metric === 'reward') return completions.map(({ reward }) => reward);
    if (metric === 'accuracy') return completions.map(({ score }) => score);
    const name = metric.slice('rewards/'.length);
    return completions.map(({ rewards }) => rewards[name] ?? Number.NaN);
  }
}

/** The rewards of all steps of a group's completions. */
export function stepRewardsOf({ completions }: Group, name: string): number[] {
  return completions.flatMap(({ steps }) => (steps?.[name] ?? []).map(({ reward }) => reward));
}
