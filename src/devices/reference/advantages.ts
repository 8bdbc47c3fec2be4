// From rewards to advantages: group statistics, centring, scaling, HA-DW weights. Formulas: docs/losses.md, "Advantages".

import type { AdvantageOutput, AdvantagePlan, Metrics } from '../plan.js';

/** Fills `output`. `accuracy` is the mean of all rewards with a verdict, NaN when there is none. */
export function computeAdvantages(
  plan: AdvantagePlan,
  output: AdvantageOutput,
): { accuracy: number; metrics: Metrics } {
  const { rewards, offsets, settings } = plan;
  const { center, scale, ddof, epsilon, hadw } = settings;
  const groups = offsets.length - 1;

  const batch = withVerdict(rewards);
  const accuracy = mean(batch);
  const batchStd = standardDeviation(batch, ddof);
  // The batch's own mean stands in for an anchor that has seen nothing yet, as in the HA-DW authors' code.
  const anchor = hadw && (Number.isNaN(hadw.anchor) ? accuracy : hadw.anchor);

  const verdictWeights: number[] = [];
  let groupsWithoutSpread = 0;
  for (let g = 0; g < groups; g++) {
    const start = offsets[g];
    const end = offsets[g + 1];
    const group = withVerdict(rewards.subarray(start, end));
    const groupMean = mean(group);
    const groupStd = standardDeviation(group, ddof);
    output.groupMean[g] = groupMean;
    output.groupStd[g] = groupStd;
    output.active[g] = 0;
    if (groupStd === 0) groupsWithoutSpread += 1;

    for (let i = start; i < end; i++) {
      const verdict = !Number.isNaN(rewards[i]);
      let advantage = 0;
      if (verdict) {
        advantage = centred(rewards[i], groupMean, group.length, center);
        if (scale === 'group-std') advantage = divided(advantage, groupStd + epsilon);
        if (scale === 'batch-std') advantage = divided(advantage, batchStd + epsilon);
      }
      const weight = hadw === null ? 1 : hadwWeight(advantage, groupMean, anchor as number, hadw.scale);
      if (verdict) verdictWeights.push(weight);
      output.weights[i] = weight;
      output.advantages[i] = advantage * weight; // HA-DW, eq. 17
      if (output.advantages[i] !== 0) output.active[g] = 1;
    }
  }

  const metrics: Metrics = {
    reward: accuracy,
    reward_std: standardDeviation(batch, 1),
    frac_reward_zero_std: groups > 0 ? groupsWithoutSpread / groups : 0,
    nonFinite: rewards.length - batch.length,
  };
  if (hadw !== null) {
    metrics['hadw/anchor'] = anchor as number;
    metrics['hadw/weight_mean'] = verdictWeights.length > 0 ? mean(verdictWeights) : 0;
    metrics['hadw/weight_min'] = verdictWeights.length > 0 ? verdictWeights.reduce((a, b) => Math.min(a, b)) : 0;
    metrics['hadw/weight_max'] = verdictWeights.length > 0 ? verdictWeights.reduce((a, b) => Math.max(a, b)) : 0;
  }
  return { accuracy, metrics };
}

function withVerdict(rewards: Float64Array): number[] {
  return Array.from(rewards).filter((reward) => !Number.isNaN(reward));
}

function allEqual(values: readonly number[]): boolean {
  return values.every((value) => value === values[0]);
}

/**
 * Of equal values exactly that value: ten times 0.1 add up to 0.9999999999999999, and the residue of r − mean, divided
 * by a small epsilon, would become an advantage.
 */
function mean(values: readonly number[]): number {
  if (values.length === 0) return NaN;
  if (allEqual(values)) return values[0];
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** sqrt(Σ (r − mean)² / (n − ddof)) in two passes; 0 for equal values, for one value and for none. */
function standardDeviation(values: readonly number[], ddof: number): number {
  if (allEqual(values)) return 0;
  const center = mean(values);
  const squares = values.reduce((sum, value) => sum + (value - center) ** 2, 0);
  return Math.sqrt(squares / (values.length - ddof));
}

function centred(reward: number, groupMean: number, count: number, center: 'mean' | 'leave-one-out' | 'none'): number {
  if (center === 'none') return reward;
  if (center === 'mean' || count === 1) return reward - groupMean;
  // r − (Σ r − r) / (n − 1), RLOO (arXiv 2402.14740)
  return ((reward - groupMean) * count) / (count - 1);
}

/** 0 stays 0 even when epsilon and the standard deviation are both 0. */
function divided(advantage: number, divisor: number): number {
  return advantage === 0 ? 0 : advantage / divisor;
}

/** Φ = λ exp(−sgn(A) (p̂ − C)) (HA-DW, arXiv 2601.08521, eq. 13–16); λ for a zero advantage. */
function hadwWeight(advantage: number, groupMean: number, anchor: number, scale: number): number {
  if (advantage === 0) return scale;
  return scale * Math.exp(-Math.sign(advantage) * (groupMean - anchor));
}
