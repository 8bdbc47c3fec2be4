// From rewards to advantages: group statistics, centring, scaling, HA-DW's or DGPO's weights. Formulas: docs/losses.md, "Advantages".

import { hasSpread } from '../../base/spread.js';
import { mean } from '../../base/statistics.js';
import type { AdvantageOutput, AdvantagePlan, Metrics } from '../plan.js';
import type { AdvantageSettings } from '../settings.js';
import { isFiniteFloat32 } from './float32.js';

/** Fills `output`. `accuracy` is the mean of all rewards with a verdict, NaN if there is none. */
export function computeAdvantages(
  plan: AdvantagePlan,
  output: AdvantageOutput,
): { accuracy: number; metrics: Metrics } {
  const { rewards, offsets, settings } = plan;
  const precision = plan.singlePrecision ? 'float32' : 'float64';
  const { center, scale, ddof, epsilon, hadw, dqw } = settings;
  const groups = offsets.length - 1;

  const batch = statistics(rewards, precision);
  const accuracy = batch.mean;
  const batchStd = batch.std(ddof);
  const anchor = hadw && anchorOf(hadw, accuracy);

  const statisticsOfGroups = Array.from({ length: groups }, (_, g) =>
    statistics(rewards.subarray(offsets[g], offsets[g + 1]), precision),
  );
  const questions = questionWeights(statisticsOfGroups, dqw);

  const verdictWeights: number[] = [];
  let groupsWithoutSpread = 0;
  let nonFinite = rewards.length - batch.count;
  for (let g = 0; g < groups; g++) {
    const start = offsets[g];
    const end = offsets[g + 1];
    const group = statisticsOfGroups[g];
    const groupStd = group.std(ddof);
    output.groupMean[g] = group.mean;
    // 0 means no spread: a value that would round to 0 becomes the smallest float32.
    output.groupStd[g] = group.spread ? Math.max(groupStd, 2 ** -149) : 0;
    output.active[g] = 0;
    if (!group.spread) groupsWithoutSpread += 1;
    if (group.count > 0) nonFinite += countBeyondFloat32(group.mean, groupStd);

    const divisor = { 'group-std': groupStd, 'group-mad': group.mad(), 'batch-std': batchStd, none: 0 }[scale];
    for (let i = start; i < end; i++) {
      const verdict = !Number.isNaN(rewards[i]);
      const advantage = verdict ? scaled(centred(rewards[i], group, center), divisor, epsilon) : 0;
      const weight = hadw === null ? questions[g] : hadwWeight(advantage, group.mean, anchor as number, hadw.scale);
      if (verdict) verdictWeights.push(weight);
      output.weights[i] = weight;
      output.advantages[i] = advantage * weight; // HA-DW, eq. 17; DGPO, eq. 3
      if (output.advantages[i] !== 0) output.active[g] = 1;
      nonFinite += countBeyondFloat32(output.advantages[i], weight);
    }
  }

  const metrics: Metrics = {
    reward: accuracy,
    reward_std: batch.std(1),
    frac_reward_zero_std: groups > 0 ? groupsWithoutSpread / groups : 0,
    nonFinite,
  };
  return { accuracy, metrics: { ...metrics, ...weightMetrics(settings, accuracy, verdictWeights) } };
}

/** The metrics of HA-DW or of DGPO's weights, if there are any. `weights`: of the completions with a verdict. */
export function weightMetrics(
  { hadw, dqw }: Pick<AdvantageSettings, 'hadw' | 'dqw'>,
  accuracy: number,
  weights: readonly number[],
): Metrics {
  if (!hadw && !dqw) return {};
  const name = hadw ? 'hadw' : 'dqw';
  const some = weights.length > 0 ? weights : [0];
  return {
    ...(hadw && { 'hadw/anchor': anchorOf(hadw, accuracy) }),
    [`${name}/weight_mean`]: mean(some),
    [`${name}/weight_min`]: some.reduce((a, b) => Math.min(a, b)),
    [`${name}/weight_max`]: some.reduce((a, b) => Math.max(a, b)),
  };
}

export function countBeyondFloat32(...values: number[]): number {
  return values.filter((value) => !isFiniteFloat32(value)).length;
}

/** Statistics of rewards with a verdict. */
export interface Statistics {
  count: number;
  /** Whether they differ by more than rounding. */
  spread: boolean;
  /**
   * NaN if there are none; without spread exactly one of the rewards, because a rounding residue of r − mean, divided by a small
   * epsilon, would become an advantage.
   */
  mean: number;
  /** sqrt(Σ (r − mean)² / (n − ddof)); 0 without spread. */
  std(ddof: number): number;
  /** The mean absolute deviation Σ |r − mean| / n; 0 without spread. */
  mad(): number;
}

export function statistics(rewards: Float64Array, precision: 'float32' | 'float64'): Statistics {
  const values = Array.from(rewards).filter((reward) => !Number.isNaN(reward));
  const count = values.length;
  const spread = hasSpread(values, precision);
  const center = count === 0 ? NaN : spread ? mean(values) : values.reduce((a, b) => Math.min(a, b));
  return {
    count,
    spread,
    mean: center,
    std: (ddof) => (spread ? standardDeviation(values, center, ddof) : 0),
    mad: () => (spread ? meanAbsoluteDeviation(values, center) : 0),
  };
}

function standardDeviation(values: readonly number[], center: number, ddof: number): number {
  const unit = unitOfDeviations(values, center);
  const squares = values.reduce((sum, value) => sum + ((value - center) / unit) ** 2, 0);
  return unit * Math.sqrt(squares / (values.length - ddof));
}

function meanAbsoluteDeviation(values: readonly number[], center: number): number {
  const unit = unitOfDeviations(values, center);
  return unit * mean(values.map((value) => Math.abs(value - center) / unit));
}

/** A power of two near the largest deviation, so that sums and squares in this unit neither overflow nor underflow. */
function unitOfDeviations(values: readonly number[], center: number): number {
  const largest = values.reduce((max, value) => Math.max(max, Math.abs(value - center)), 0);
  return 2 ** Math.max(Math.floor(Math.log2(largest)), -1022);
}

function centred(reward: number, group: Statistics, center: 'mean' | 'leave-one-out' | 'none'): number {
  if (center === 'none') return reward;
  if (!group.spread) return 0;
  if (center === 'mean') return reward - group.mean;
  // r − (Σ r − r) / (n − 1), RLOO (arXiv 2402.14740)
  return ((reward - group.mean) * group.count) / (group.count - 1);
}

/** Without spread there is nothing to divide by: epsilon by itself is not a scale. NaN if the spread exceeds float64's range. */
export function scaled(advantage: number, divisor: number, epsilon: number): number {
  if (divisor === 0 || advantage === 0) return advantage;
  return divisor < Infinity ? advantage / (divisor + epsilon) : NaN;
}

/** The batch's own mean replaces an anchor without observations, as in the HA-DW authors' code. */
export function anchorOf({ anchor }: { anchor: number }, accuracy: number): number {
  return Number.isNaN(anchor) ? accuracy : anchor;
}

/** Φ = λ exp(−sgn(A) (p̂ − C)) (HA-DW, arXiv 2601.08521, eq. 13–16); λ for a zero advantage. */
export function hadwWeight(advantage: number, groupMean: number, anchor: number, scale: number): number {
  if (advantage === 0) return scale;
  return scale * Math.exp(-Math.sign(advantage) * (groupMean - anchor));
}

/**
 * DGPO's weight of each question: n · softmax(−mean / T) over the n groups with spread (arXiv 2601.20614, eq. 11), 1 for the
 * others.
 */
export function questionWeights(
  groups: readonly Pick<Statistics, 'spread' | 'mean'>[],
  dqw: AdvantageSettings['dqw'],
): number[] {
  const means = groups.filter(({ spread }) => spread).map((group) => group.mean);
  const lowest = means.reduce((a, b) => Math.min(a, b), Infinity);
  const share = (groupMean: number, temperature: number) => Math.exp((lowest - groupMean) / temperature);
  const total = dqw ? means.reduce((sum, groupMean) => sum + share(groupMean, dqw.temperature), 0) : 0;
  return groups.map((group) => (dqw && group.spread ? (means.length * share(group.mean, dqw.temperature)) / total : 1));
}
