// The metrics of a loss (docs/metrics.md): tallied sequence by sequence, named as TRL names them.

import type { Metrics, TokenPlan } from '../plan.js';
import { clipsSequences, type LossPlan } from '../settings.js';
import type { SequenceRatios } from './ratio.js';
import type { SequenceTokens } from './surrogate.js';

/** Inputs of the metrics. */
export interface Tally {
  emptySequences: number;
  tokens: number;
  ratioCount: number;
  ratioSum: number;
  ratioMin: number;
  ratioMax: number;
  rawSum: number;
  klSum: number;
  /** How many ratios were clipped, out of how many, and the smallest and largest share in a sequence. */
  clipItems: number;
  lowCount: number;
  highCount: number;
  lowMin: number;
  highMax: number;
  /** φ of each sequence, or of each token if the advantage varies along the sequence. */
  phiItems: number;
  phiSum: number;
}

export function newTally(): Tally {
  return {
    emptySequences: 0,
    tokens: 0,
    ratioCount: 0,
    ratioSum: 0,
    ratioMin: Infinity,
    ratioMax: -Infinity,
    rawSum: 0,
    klSum: 0,
    clipItems: 0,
    lowCount: 0,
    highCount: 0,
    lowMin: Infinity,
    highMax: -Infinity,
    phiItems: 0,
    phiSum: 0,
  };
}

export function tallySequence(
  tally: Tally,
  plan: TokenPlan,
  tokens: SequenceTokens,
  ratios: SequenceRatios,
  phi: readonly number[] | undefined,
  kl: readonly number[] | undefined,
): void {
  const n = tokens.ratio.length;
  tally.tokens += n;
  for (const delta of ratios.raw) tally.rawSum += delta;
  if (kl !== undefined) for (const k of kl) tally.klSum += k;
  for (const weight of plan.advantagesPerToken ? (phi ?? []) : (phi ?? []).slice(0, 1)) {
    tally.phiItems += 1;
    tally.phiSum += weight;
  }

  // A sequence's ratio is one ratio; its clipping is one event unless the advantage varies along the sequence.
  const usedRatios = plan.loss.ratio === 'token' ? tokens.ratio : tokens.ratio.slice(0, 1);
  for (const ratio of usedRatios) {
    tally.ratioCount += 1;
    tally.ratioSum += ratio;
    tally.ratioMin = Math.min(tally.ratioMin, ratio);
    tally.ratioMax = Math.max(tally.ratioMax, ratio);
  }
  const items = clipsSequences(plan.loss, plan.advantagesPerToken) ? 1 : n;
  let low = 0;
  let high = 0;
  for (let t = 0; t < items; t++) {
    const side = clippedSide(plan.loss, tokens, t);
    if (side === 'low') low += 1;
    if (side === 'high') high += 1;
  }
  tally.clipItems += items;
  tally.lowCount += low;
  tally.highCount += high;
  tally.lowMin = Math.min(tally.lowMin, low / items);
  tally.highMax = Math.max(tally.highMax, high / items);
}

/** On which side token t's ratio is clipped so that its gradient vanishes (or, for CISPO, is bounded). */
function clippedSide(config: LossPlan, tokens: SequenceTokens, t: number): 'low' | 'high' | null {
  const { kind, parameters } = config.surrogate;
  const advantage = tokens.advantage[t];
  if (kind === 'clip') {
    const [low, high, max] = parameters;
    const ratio = Math.min(tokens.ratio[t], max);
    if (ratio < 1 - low && advantage < 0) return 'low';
    if (ratio > 1 + high && advantage > 0) return 'high';
  }
  if (kind === 'gmpo') {
    const [low, high] = parameters;
    if (tokens.delta[t] < -low && advantage < 0) return 'low';
    if (tokens.delta[t] > high && advantage > 0) return 'high';
  }
  if (kind === 'cispo') {
    const [high] = parameters;
    if (tokens.ratio[t] > high && advantage > 0) return 'high';
  }
  return null;
}

export function tallyMetrics(tally: Tally, plan: TokenPlan): Metrics {
  const { surrogate, kl } = plan.loss;
  const over = (sum: number, items: number) => (items > 0 ? sum / items : 0);
  const metrics: Metrics = {
    tokens: tally.tokens,
    'ratio/mean': tally.ratioCount > 0 ? tally.ratioSum / tally.ratioCount : 1,
    'ratio/min': tally.ratioCount > 0 ? tally.ratioMin : 1,
    'ratio/max': tally.ratioCount > 0 ? tally.ratioMax : 1,
    // −mean(δ) estimates KL(behaviour ‖ policy); 0 (not −0, not NaN) without ℓ°.
    approx_kl: plan.oldLogProbs === null ? 0 : over(-tally.rawSum, tally.tokens),
  };
  if (kl.beta !== 0 && plan.metrics) metrics.kl = over(tally.klSum, tally.tokens);

  // As in TRL, an empty sequence counts as not clipped.
  const items = tally.clipItems + (clipsSequences(plan.loss, plan.advantagesPerToken) ? tally.emptySequences : 0);
  if (surrogate.kind === 'clip' || surrogate.kind === 'gmpo') {
    const present = tally.clipItems > 0;
    metrics['clip_ratio/low_mean'] = over(tally.lowCount, items);
    metrics['clip_ratio/high_mean'] = over(tally.highCount, items);
    metrics['clip_ratio/region_mean'] = over(tally.lowCount + tally.highCount, items);
    metrics['clip_ratio/low_min'] = present ? tally.lowMin : 0;
    metrics['clip_ratio/high_max'] = present ? tally.highMax : 0;
  }
  if (surrogate.kind === 'cispo') metrics.cispo_clip_ratio = over(tally.highCount, items);
  if (surrogate.kind === 'vespo') {
    // Without tokens v = 1, where φ = 1.
    const empty = plan.advantagesPerToken ? 0 : tally.emptySequences;
    metrics['vespo/phi_seq_mean'] = over(tally.phiSum + empty, tally.phiItems + empty);
  }
  return metrics;
}
