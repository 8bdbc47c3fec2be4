// Importance ratios and their gradient (docs/losses.md, "Ratio").

import { mean } from '../../base/statistics.js';
import type { TokenPlan } from '../plan.js';
import type { Ratio } from '../settings.js';

/** Log-ratios of the masked-in tokens of one sequence; every array has one entry per token. */
export interface SequenceRatios {
  /** δ = ℓ − ℓ°, unclamped. */
  raw: number[];
  /** δ clamped to ±logRatioClamp, and the slope of that clamp: 1 inside, 0 outside. */
  delta: number[];
  deltaSlope: number[];
  /** The log-ratio that the configuration chooses, clamped, and the slope of its clamp. */
  log: number[];
  logSlope: number[];
}

export function sequenceRatios(
  plan: TokenPlan,
  logProbs: ArrayLike<number>,
  sequence: readonly number[],
): SequenceRatios {
  const { ratio, logRatioClamp } = plan.loss;
  // Without ℓ° it is sg(ℓ): the difference is 0 and has a gradient (and is NaN if ℓ is not finite).
  const old = plan.oldLogProbs ?? logProbs;
  const raw = sequence.map((i) => logProbs[i] - old[i]);
  const delta = raw.map((value) => clampLog(value, logRatioClamp));
  const deltaSlope = raw.map((value) => clampSlope(value, logRatioClamp));
  if (ratio === 'token') return { raw, delta, deltaSlope, log: delta, logSlope: deltaSlope };

  // GSPO (arXiv 2507.18071, eq. 7): the length-normalised ratio of the sequence.
  const sequenceLog = meanOrZero(raw);
  const log = raw.map(() => clampLog(sequenceLog, logRatioClamp));
  const logSlope = raw.map(() => clampSlope(sequenceLog, logRatioClamp));
  return { raw, delta, deltaSlope, log, logSlope };
}

function clampLog(value: number, bound: number): number {
  return Math.min(Math.max(value, -bound), bound);
}

function clampSlope(value: number, bound: number): number {
  return Math.abs(value) > bound ? 0 : 1;
}

export function meanOrZero(values: readonly number[]): number {
  return values.length === 0 ? 0 : mean(values);
}

/**
 * From ∂loss/∂(log-ratio of token t) to ∂loss/∂ℓ_t. Token ratios and GSPO-token's (arXiv 2507.18071, eq. 13–14) depend on their
 * own token only; GSPO's depends on every token of the sequence, with weight 1/n each (eq. 10).
 */
export function ratioGradient(ratio: Ratio, byLogRatio: readonly number[]): readonly number[] {
  if (ratio !== 'sequence') return byLogRatio;
  const shared = meanOrZero(byLogRatio);
  return byLogRatio.map(() => shared);
}
