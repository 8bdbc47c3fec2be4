// The figures of the bias study: theory as lines, simulation as dots with their standard errors.

import type { Chart, Point, Series } from '../../report/chart.js';
import { advantageBias, expectedBaseline, gradientShare, underestimation } from '../bernoulli.js';
import { type BiasSettings, type Comparison, type Family, families, sigma } from '../bias-study.js';
import { boundedBias } from '../bounded.js';

export interface Figure {
  /** Its file name, without the extension. */
  name: string;
  chart: Chart;
}

/** Points of a line. */
const resolution = 200;

const unit = [0, 1] as const;

export function biasFigures(comparisons: readonly Comparison[], { groupSizes }: BiasSettings): Figure[] {
  const dots = (quantity: Comparison['quantity'], rewards: Comparison['rewards'], isIn = (_: Comparison) => true) =>
    groupSizes.map(
      (groupSize, color): Series => ({
        name: `G = ${groupSize}, simulated`,
        kind: 'points',
        color,
        unlisted: true,
        points: comparisons
          .filter((one) => one.quantity === quantity && one.rewards === rewards && one.groupSize === groupSize)
          .filter(isIn)
          .map(({ p, simulated, standardError }) => ({
            x: p,
            y: simulated,
            low: simulated - standardError,
            high: simulated + standardError,
          })),
      }),
    );
  const lines = (pointsOf: (groupSize: number) => Point[]) =>
    groupSizes.map((groupSize, color): Series => ({ name: `G = ${groupSize}`, color, points: pointsOf(groupSize) }));
  const lineOver = (theory: (p: number, groupSize: number) => number) =>
    lines((groupSize) => inside(unit).map((p) => ({ x: p, y: theory(p, groupSize) })));
  const key = 'Lines: theory. Dots: simulation, ± one standard error';
  const axis = { xLabel: 'p', xRange: unit, subtitle: key };
  return [
    {
      name: 'bias',
      chart: {
        ...axis,
        title: 'Bias of the advantage, A − E[Â | S]',
        series: [...lineOver(advantageBias), ...dots('bias', 'bernoulli')],
      },
    },
    {
      name: 'bias-baseline',
      chart: {
        ...axis,
        title: 'Expected group baseline, E[p̂ | S]',
        yIncludes: unit,
        series: [
          ...lineOver(expectedBaseline),
          ...dots('baseline', 'bernoulli'),
          { name: 'unbiased', color: 6, dashed: true, points: inside(unit).map((p) => ({ x: p, y: p })) },
        ],
      },
    },
    {
      name: 'bias-gradient-share',
      chart: {
        ...axis,
        title: 'Share of groups with a gradient, P(S)',
        yIncludes: unit,
        series: [...lineOver(gradientShare), ...dots('gradient_share', 'bernoulli')],
      },
    },
    {
      name: 'bias-underestimated',
      chart: {
        ...axis,
        title: 'Hard prompts underestimated, P(Â < A | S)',
        xRange: [0, 0.5],
        yIncludes: unit,
        series: [...lines(steps), ...dots('underestimated', 'bernoulli', ({ p, epsilon }) => epsilon === 0 && p < 0.5)],
      },
    },
    ...families.map((family) => ({
      name: `bias-${family.rewards}`,
      chart: {
        ...axis,
        xLabel: 'mean',
        title: `Bias for ${family.rewards === 'beta' ? 'Beta' : 'truncated Gaussian'} rewards, spread above ${sigma}`,
        series: [...lines((groupSize) => boundedLine(family, groupSize)), ...dots('bias', family.rewards)],
      },
    })),
  ];
}

/** Points inside an interval, including the simulated ones. */
function inside([from, to]: readonly [number, number]): number[] {
  return Array.from({ length: resolution - 1 }, (_, i) => {
    const x = from + ((to - from) * (i + 1)) / resolution;
    return Number(x.toPrecision(12));
  });
}

/** {@link underestimation} for p up to 0.5, with a gap at each k / G, where it jumps. */
function steps(groupSize: number): Point[] {
  const points = inside([0, 0.5]).map((p) => ({ x: p, y: underestimation(p, groupSize) }));
  for (let k = 1; k / groupSize < 0.5; k++) {
    const x = k / groupSize;
    const beside = 1e-9;
    points.push(
      { x: x - beside, y: underestimation(x - beside, groupSize) },
      { x, y: Number.NaN },
      { x: x + beside, y: underestimation(x + beside, groupSize) },
    );
  }
  const isJump = (x: number) => Number.isNaN(points.findLast((point) => point.x === x)!.y);
  return points.filter(({ x, y }) => Number.isNaN(y) || !isJump(x)).sort((a, b) => a.x - b.x);
}

function boundedLine({ at, range: [from, to] }: Family, groupSize: number): Point[] {
  return [from, ...inside([from, to]), to].map((parameter) => {
    const distribution = at(parameter);
    return { x: distribution.mean, y: boundedBias(distribution, groupSize, sigma).bias };
  });
}
