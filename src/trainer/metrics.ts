// Metrics of a loss over the micro-batches of an update, and over the updates of a step.

import type { Ratio } from '../loss/config.js';
import type { Metrics } from '../loss/plan.js';

/** Metrics of a part, and of how many tokens and sequences that count. */
export interface MetricsPart {
  metrics: Metrics;
  tokens: number;
  sequences: number;
}

/**
 * Metrics of the parts together. Minima and maxima are those of all; `sums` add up; everything else is a mean, weighted as
 * docs/losses.md says what each is a mean of.
 */
export function combineMetrics(
  parts: readonly MetricsPart[],
  ratio: Ratio = 'token',
  sums: readonly string[] = [],
): Metrics {
  const names = [...new Set(parts.flatMap(({ metrics }) => Object.keys(metrics)))];
  const entries = names.map((name) => {
    const own = parts.filter(({ metrics }) => name in metrics);
    const values = own.map(({ metrics }) => metrics[name]);
    if (sums.includes(name)) return [name, values.reduce((a, b) => a + b, 0)];
    if (/[/_]min$/.test(name)) return [name, Math.min(...values)];
    if (/[/_]max$/.test(name)) return [name, Math.max(...values)];
    const countsSequences = name.startsWith('vespo/') || (ratio !== 'token' && /^(ratio|clip_ratio|cispo)/.test(name));
    const weights = own.map(({ tokens, sequences }) => (countsSequences ? sequences : tokens));
    const total = weights.reduce((a, b) => a + b, 0);
    // A single part is what it is: weighing could round it.
    if (values.length === 1 || total === 0) return [name, values[0]];
    return [name, values.reduce((sum, value, i) => sum + (weights[i] * value) / total, 0)];
  });
  return Object.fromEntries(entries);
}

/** What adds up over the micro-batches of one update, whose denominators are those of the whole. */
export const summedOverMicroBatches: readonly string[] = ['loss', 'tokens', 'nonFinite'];
