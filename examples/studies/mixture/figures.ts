// The mixture study's figures.

import type { ComparisonResult } from '../../../src/compare/result.js';
import { estimate } from '../../../src/evaluation/statistics.js';
import { type Chart, chartFile, type Point, type Series } from '../../../src/report/chart.js';

export function figuresOf(result: ComparisonResult): { name: string; svg: string }[] {
  const charts: Record<string, Chart> = {
    hard: hardChart(result),
    difference: differenceChart(result),
  };
  return Object.entries(charts).map(([name, chart]) => ({ name, svg: chartFile(chart) }));
}

/** Every run is evaluated at the same steps. */
function curves({ runs }: ComparisonResult, variant: string, bucket: string): { steps: number[]; values: number[][] } {
  const own = runs.filter((run) => run.variant === variant);
  return {
    steps: [...own[0].curve.steps],
    values: own.map((run) => run.curve.buckets[bucket]['pass@1'].map(Number)),
  };
}

function hardChart(result: ComparisonResult): Chart {
  const line = (variant: string, color: number, dashed = false): Series => {
    const { steps, values } = curves(result, variant, 'hard');
    const points = steps.map((x, i) => ({ x, y: estimate(values.map((run) => run[i])).mean! }));
    return { name: variant, points, color, dashed };
  };
  return {
    title: 'How hard prompts are learned',
    subtitle: `pass@1 on held-out prompts that start at .02 to .15; mean of ${result.seeds.length} seeds`,
    xLabel: 'step',
    xInteger: true,
    yIncludes: [0],
    series: [
      line('grpo', 0),
      line('grpo+hadw', 0, true),
      line('grpo-g4', 1),
      line('grpo-g4+hadw', 1, true),
      line('grpo-g16', 2),
      line('grpo-g16+hadw', 2, true),
    ],
  };
}

/** What HA-DW adds to GRPO, by bucket. */
function differenceChart(result: ComparisonResult): Chart {
  const series = ['hard', 'medium', 'easy'].map((bucket): Series => {
    const [own, other] = ['grpo+hadw', 'grpo'].map((variant) => curves(result, variant, bucket));
    const points = own.steps.map((x, i): Point => {
      const { mean, low, high } = estimate(own.values.map((run, r) => run[i] - other.values[r][i]));
      return { x, y: mean!, low: low!, high: high! };
    });
    return { name: bucket, points };
  });
  return {
    title: 'What HA-DW adds to GRPO',
    subtitle: `pass@1, grpo+hadw − grpo, paired over ${result.seeds.length} seeds; bands: 95 % intervals`,
    xLabel: 'step',
    xInteger: true,
    yIncludes: [0],
    series,
  };
}
