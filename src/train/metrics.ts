// Metrics of a loss over the micro-batches of an update, and over the updates of a step.

import { type Combination, findMetric, type MeanOver } from '../base/metrics.js';
import type { Metrics } from '../devices/plan.js';
import { clipsSequences } from '../devices/settings.js';
import { lossDefaults } from '../loss/config.js';
import type { LossConfig } from '../loss/option-types.js';

/** The settings of a loss that decide what its metrics are means of. */
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
 * Metrics of the parts together, each combined as the table of metrics says. Minima and maxima are those of the parts with a token.
 * @param of what the parts are
 */
export function combineMetrics(
  parts: readonly MetricsPart[],
  loss: MeasuredLoss,
  of: 'microBatches' | 'updates',
): Metrics {
  if (parts.length === 1) return { ...parts[0].metrics };
  const names = [...new Set(parts.flatMap(({ metrics }) => Object.keys(metrics)))];
  return Object.fromEntries(
    names.map((name) => {
      const combination = findMetric(name)?.metric.combine?.[of];
      if (combination === undefined)
        throw new Error(`${name}: the table of metrics does not say how it combines over ${of}`);
      const having = parts.filter(({ metrics }) => name in metrics);
      return [name, combine(having, name, combination, loss)];
    }),
  );
}

function combine(parts: readonly MetricsPart[], name: string, combination: Combination, loss: MeasuredLoss): number {
  const valuesOf = (some: readonly MetricsPart[]) => some.map(({ metrics }) => metrics[name]);
  if (combination === 'sum') return valuesOf(parts).reduce((a, b) => a + b, 0);
  const present = parts.filter(({ tokens }) => tokens > 0);
  if (present.length === 0) return parts[0].metrics[name];
  if (combination === 'min') return Math.min(...valuesOf(present));
  if (combination === 'max') return Math.max(...valuesOf(present));
  const total = parts.reduce((sum, part) => sum + weightOf(part, combination, loss), 0);
  return parts.reduce((sum, part) => sum + (weightOf(part, combination, loss) * part.metrics[name]) / total, 0);
}

/** How many values the mean of a part is taken over. */
function weightOf(
  { tokens, sequences, present }: MetricsPart,
  over: MeanOver,
  { ratio = lossDefaults.ratio, surrogate, advantagesPerToken }: MeasuredLoss,
): number {
  switch (over) {
    case 'updates':
      return 1;
    case 'tokens':
      return tokens;
    case 'ratios':
      return ratio === 'token' ? tokens : present;
    case 'clips':
      return clipsSequences({ ratio, surrogate }, advantagesPerToken) ? sequences : tokens;
    case 'weights':
      return advantagesPerToken ? tokens : sequences;
  }
}
