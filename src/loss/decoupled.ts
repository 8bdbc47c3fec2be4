// Advantages of several rewards, each normalised separately: GDPO (docs/losses.md, "Several rewards").

import { checkKeys, checkNumber, checkObject, rangeError, typeError } from '../base/check.js';
import { hasSpread, isRoundingOfZero } from '../base/spread.js';
import { pickDevice } from '../devices/devices.js';
import type { AdvantageOutput } from '../devices/plan.js';
import {
  anchorOf,
  countBeyondFloat32,
  hadwWeight,
  questionWeights,
  scaled,
  statistics,
  weightMetrics,
} from '../devices/reference/advantages.js';
import { type AdvantageResult, advantageResult } from './losses.js';
import type { AdvantageConfig } from './option-types.js';
import { checkOptions, checkThreads, planAdvantages, type Rewards, type RunOptions } from './request.js';

/** One reward of several. */
export interface WeightedRewards {
  /** One per completion, in the same order for every reward; NaN where it does not apply. */
  rewards: Rewards;
  /** Factor of its advantages in the sum. 0 leaves the reward out. Default 1. */
  weight?: number;
}

/**
 * Advantages by GDPO (arXiv 2601.05242): each reward is centred and scaled within its groups, the results are added up with their
 * weights, and the sums are divided by their standard deviation over the batch. A group whose rewards differ keeps its gradient
 * even if their sum is the same for every completion. `reward`, `reward_std`, `accuracy`, `groupMean`, `groupStd` and the means in
 * the weights of HA-DW and DGPO are those of the weighted sums of the rewards; `frac_reward_zero_std` is the share of groups in
 * which no reward differs.
 * @param rewards at least one with a weight other than 0; all of the same number
 * @param config as for `computeAdvantages`; `center` 'none' is refused, because nothing would be normalised
 * @throws TypeError or RangeError that names the field, what was expected and what was given.
 * @example
 * const right = { rewards: [1, 0, 1, 0] };
 * const short = { rewards: [0, 1, 0, 1], weight: 0.5 };
 * const { advantages } = computeDecoupledAdvantages([right, short], { groupSize: 4 });
 */
export function computeDecoupledAdvantages(
  rewards: readonly WeightedRewards[],
  config: AdvantageConfig,
  options: RunOptions = {},
): AdvantageResult {
  const { device: choice, threads } = checkOptions(options, ['device', 'threads']);
  checkThreads(threads);
  const { device } = pickDevice(choice as RunOptions['device'], false);
  const parts = checkParts(rewards);
  const { hadw: _hadw, dqw: _dqw, ...plain } = checkObject('config', config);
  if (plain.center === 'none') throw rangeError('config.center', `'mean' or 'leave-one-out'`, `'none'`);

  const normalized = parts.map(({ values, field, weight }) => {
    const { plan, output } = planAdvantages(values, plain, false, { rewards: field, config: 'config' });
    device.computeAdvantages(plan, output);
    return { weight, plan, advantages: output.advantages };
  });
  const count = normalized[0].plan.rewards.length;
  for (const [k, { plan }] of normalized.entries()) {
    if (plan.rewards.length === count) continue;
    throw rangeError(parts[k].field, `${count} rewards, as many as ${parts[0].field} has`, String(plan.rewards.length));
  }

  const totals = new Float64Array(count);
  const sums = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    const applying = normalized.filter(({ plan }) => !Number.isNaN(plan.rewards[i]));
    const add = (terms: readonly number[]) => terms.reduce((a, b) => a + b, 0);
    const total = add(applying.map(({ weight, plan }) => weight * plan.rewards[i]));
    if (!Number.isFinite(total)) throw rangeError('rewards', 'finite weighted sums', `${total} for completion ${i}`);
    totals[i] = applying.length === 0 ? NaN : total;
    const terms = applying.map(({ weight, advantages }) => weight * advantages[i]);
    const sum = applying.length === 0 ? NaN : add(terms);
    // What is left where advantages cancel would be divided by a standard deviation of the same size.
    sums[i] = isRoundingOfZero(sum, add(terms.map(Math.abs)), 'float32') ? 0 : sum;
  }
  // Groups, statistics and C of the totals; their advantages are overwritten.
  const { plan, output } = planAdvantages(totals, config);
  const { accuracy, metrics } = device.computeAdvantages(plan, output);
  const { offsets, settings } = plan;
  // Centred groups have a mean of 0, and so has the batch: there is nothing to subtract, and groups without spread keep exactly 0.
  const std = statistics(sums, 'float32').std(settings.ddof);
  const { hadw } = settings;
  const anchor = hadw && anchorOf(hadw, accuracy);
  const groups = Array.from({ length: offsets.length - 1 }, (_, g) => {
    const [start, end] = [offsets[g], offsets[g + 1]];
    const spread = normalized.some(({ plan: { rewards: own, singlePrecision } }) =>
      hasSpread([...own.subarray(start, end)], singlePrecision ? 'float32' : 'float64'),
    );
    return { start, end, spread, mean: statistics(totals.subarray(start, end), 'float64').mean };
  });
  const questions = questionWeights(groups, settings.dqw);
  const weights: number[] = [];
  let groupsWithoutSpread = 0;
  let nonFinite = 0;
  for (const [g, { start, end, spread, mean: groupMean }] of groups.entries()) {
    if (!spread) groupsWithoutSpread += 1;
    if (!Number.isNaN(groupMean)) nonFinite += countBeyondFloat32(output.groupMean[g], output.groupStd[g]);
    output.active[g] = 0;
    for (let i = start; i < end; i++) {
      const hasVerdict = !Number.isNaN(totals[i]);
      const advantage = hasVerdict ? scaled(sums[i], std, settings.epsilon) : 0;
      const weight = hadw === null ? questions[g] : hadwWeight(advantage, groupMean, anchor as number, hadw.scale);
      if (hasVerdict) weights.push(weight);
      else nonFinite += 1;
      write(output, i, advantage, weight);
      if (output.advantages[i] !== 0) output.active[g] = 1;
      nonFinite += countBeyondFloat32(output.advantages[i], weight);
    }
  }
  const own = { frac_reward_zero_std: groupsWithoutSpread / (offsets.length - 1), nonFinite };
  const { reward, reward_std } = metrics;
  const ofWeights = weightMetrics(settings, accuracy, weights);
  return advantageResult(output, { accuracy, metrics: { reward, reward_std, ...own, ...ofWeights } });
}

function write({ advantages, weights }: AdvantageOutput, i: number, advantage: number, weight: number): void {
  weights[i] = weight;
  advantages[i] = advantage * weight;
}

/** The rewards that count. */
function checkParts(rewards: unknown): { values: unknown; field: string; weight: number }[] {
  if (!Array.isArray(rewards) || rewards.length === 0) throw typeError('rewards', 'at least one reward', rewards);
  const parts = rewards.map((part: unknown, k) => {
    const field = `rewards[${k}]`;
    const given = checkObject(field, part);
    checkKeys(field, given, ['rewards', 'weight']);
    const weight = given.weight === undefined ? 1 : checkNumber(`${field}.weight`, given.weight);
    return { values: given.rewards, field: `${field}.rewards`, weight };
  });
  const counting = parts.filter(({ weight }) => weight !== 0);
  if (counting.length === 0) throw rangeError('rewards', 'at least one with a weight other than 0', 'none');
  return counting;
}
