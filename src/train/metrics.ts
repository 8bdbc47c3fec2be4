// Metrics of a loss over the micro-batches of an update, and over the updates of a step.

import type { Metrics } from '../devices/plan.js';
import type { LossConfig } from '../loss/config.js';

/** What of a loss tells what its metrics are means of. */
export interface MeasuredLoss extends Pick<LossConfig, 'ratio' | 'surrogate'> {
  /** Whether advantages are of tokens, not of completions. */
  advantagesPerToken: boolean;
}

/** Metrics of a part, and of how much they are: tokens that count, sequences, and sequences with such a token. */
export interface MetricsPart {
  metrics: Metrics;
  tokens: number;
  sequences: number;
  present: number;
}

/**
 * Metrics of the parts together. Minima and maxima are those of all parts with a token; `sums` add up; everything else is a
 * mean, weighted by what it is a mean of (docs/losses.md, "Metrics").
 */
export function combineMetrics(
  parts: readonly MetricsPart[],
  loss: MeasuredLoss,
  sums: readonly string[] = [],
): Metrics {
  if (parts.length === 1) return { ...parts[0].metrics };
  const names = [...new Set(parts.flatMap(({ metrics }) => Object.keys(metrics)))];
  const entries = names.map((name) => {
    const all = parts.filter(({ metrics }) => name in metrics);
    const some = all.filter(({ tokens }) => tokens > 0);
    const valuesOf = (of: readonly MetricsPart[]) => of.map(({ metrics }) => metrics[name]);
    if (sums.includes(name)) return [name, valuesOf(all).reduce((a, b) => a + b, 0)];
    if (some.length === 0) return [name, all[0].metrics[name]];
    if (/[/_]min$/.test(name)) return [name, Math.min(...valuesOf(some))];
    if (/[/_]max$/.test(name)) return [name, Math.max(...valuesOf(some))];
    const unit = unitOf(name, loss);
    const weightOf = (part: MetricsPart) => (unit === 'updates' ? 1 : part[unit]);
    const total = all.reduce((sum, part) => sum + weightOf(part), 0);
    return [name, all.reduce((sum, part) => sum + (weightOf(part) * part.metrics[name]) / total, 0)];
  });
  return Object.fromEntries(entries);
}

/** What a metric is a mean of. */
function unitOf(
  name: string,
  { ratio = 'token', surrogate, advantagesPerToken }: MeasuredLoss,
): 'updates' | 'tokens' | 'sequences' | 'present' {
  if (name === 'grad_norm' || name === 'learning_rate') return 'updates';
  if (name.startsWith('vespo/')) return 'sequences';
  if (ratio === 'token') return 'tokens';
  if (name.startsWith('ratio/')) return 'present';
  // GMPO clips tokens whatever the ratio is, and so does every surrogate where tokens have advantages of their own.
  const clipsSequences = surrogate.kind !== 'gmpo' && !advantagesPerToken;
  return /^(clip_ratio|cispo)/.test(name) && clipsSequences ? 'sequences' : 'tokens';
}

/** What adds up over the micro-batches of one update, whose denominators are those of the whole. */
export const summedOverMicroBatches: readonly string[] = ['loss', 'tokens', 'nonFinite'];
