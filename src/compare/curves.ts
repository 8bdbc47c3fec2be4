// Curves of a variant over its seeds, for charts: means with their intervals against steps or tokens.

import { estimate } from '../evaluation/statistics.js';
import type { Chart, Point, Series } from '../report/chart.js';
import { everything } from './buckets.js';
import type { ComparisonResult } from './result.js';
import type { Measure, RunResult } from './results.js';
import { interpolate } from './summary.js';

/** Maximum number of points of a curve. */
const maxPoints = 40;
/** Number of points of a curve against tokens, which are interpolated between the evaluations of the runs. */
const tokenPoints = 20;

type Curve = (run: RunResult) => readonly (number | null)[];

/** At the steps in which all runs were evaluated. */
function againstSteps(runs: readonly RunResult[], curve: Curve): Point[] {
  if (runs.length === 0) return [];
  const common = runs[0].curve.steps.filter((step) => runs.every((run) => run.curve.steps.includes(step)));
  return thin(common).map((step) =>
    pointOf(
      step,
      runs.map((run) => curve(run)[run.curve.steps.indexOf(step)]),
    ),
  );
}

/** Up to the end of the shortest run. */
function againstTokens(runs: readonly RunResult[], curve: Curve): Point[] {
  const most = Math.min(...runs.map(({ tokens }) => tokens));
  if (runs.length === 0 || most === 0) return [];
  return Array.from({ length: tokenPoints + 1 }, (_, i) => {
    const tokens = (most * i) / tokenPoints;
    return pointOf(
      tokens,
      runs.map((run) => interpolate(run.curve.tokens, curve(run), tokens)),
    );
  });
}

function pointOf(x: number, values: readonly (number | null)[]): Point {
  const { mean, low, high } = estimate(values.filter((value) => value !== null));
  return { x, y: mean ?? Number.NaN, ...(low !== null && high !== null && { low, high }) };
}

function thin<T>(list: readonly T[]): T[] {
  if (list.length <= maxPoints) return [...list];
  return Array.from({ length: maxPoints }, (_, i) => list[Math.round((i * (list.length - 1)) / (maxPoints - 1))]);
}

/** Number of colours in a chart: further variants are dashed. */
const colors = 8;

export interface CurveCharts {
  bucket: string;
  /** With all variants. */
  charts: Chart[];
  /** One for each pair. */
  pairs: Chart[];
}

const band = 'Mean over seeds; band: 95 % interval';

/** Charts of each bucket that has prompts; only finished runs count. */
export function curveCharts({ configuration: plan, runs }: ComparisonResult): CurveCharts[] {
  const finished = (variant: string) => runs.filter((run) => run.state === 'finished' && run.variant === variant);
  const style = (variant: string): Omit<Series, 'points'> => {
    const place = plan.variants.indexOf(variant);
    return { name: variant, color: place % colors, dashed: place >= colors };
  };
  const series = (make: typeof againstSteps, curve: Curve): Series[] =>
    plan.variants.map((variant) => ({ ...style(variant), points: make(finished(variant), curve) }));
  const chart = (title: string, xLabel: string, all: readonly Series[], note?: string): Chart => ({
    title,
    subtitle: band,
    note,
    xLabel,
    series: all.filter(({ points }) => points.some(({ y }) => Number.isFinite(y))),
    yIncludes: [0, 1],
  });
  const measure =
    (bucket: string, name: Measure): Curve =>
    (run) =>
      run.curve.buckets[bucket][name];
  return [...Object.keys(plan.buckets), everything]
    .map((bucket) => {
      const byTokens = series(againstTokens, measure(bucket, 'pass@1'));
      const charts = [
        chart('pass@1', 'step', series(againstSteps, measure(bucket, 'pass@1'))),
        chart('pass@1 by tokens sampled', 'tokens', byTokens),
        chart('pass@8 by tokens sampled', 'tokens', series(againstTokens, measure(bucket, 'pass@8'))),
        chart(
          'Groups without a gradient',
          'step',
          series(againstSteps, measure(bucket, 'frac_reward_zero_std')),
          'The share of groups whose completions are all right or all wrong: they have no gradient.',
        ),
        ...(bucket === everything
          ? [chart('Groups without a gradient, in training', 'step', series(againstSteps, trainingShare))]
          : []),
      ];
      const pairs = plan.pairs.map(({ variant, baseline }) => {
        const both = [variant, baseline].map((name) => byTokens[plan.variants.indexOf(name)]);
        return chart(`${variant} and ${baseline}: pass@1`, 'tokens', both);
      });
      const isDrawn = ({ series: all }: Chart) => all.length > 0;
      return { bucket, charts: charts.filter(isDrawn), pairs: pairs.filter(isDrawn) };
    })
    .filter(({ charts }) => charts.length > 0);
}

function trainingShare({ curve }: RunResult): readonly (number | null)[] {
  return curve.frac_reward_zero_std;
}
