// The results of `groupgrad bias`: each quantity of the paper's theory, and the same in simulated groups.

import {
  advantageBias,
  averageUnderestimation,
  baselineDeviation,
  expectedBaseline,
  gradientShare,
  overestimation,
  underestimation,
} from './bernoulli.js';
import { boundedBias } from './bounded.js';
import { betaDistribution, type Distribution, quantileOf, truncatedGaussian } from './distribution.js';
import { type Observed, simulate, simulateAverage } from './simulation.js';

export interface BiasSettings {
  groupSizes: readonly number[];
  /** Groups simulated per point; prompts per average. */
  samples: number;
  seed: number;
  /** The margin ε of theorem 2, shown in addition to ε = 0. */
  epsilon: number;
}

export const biasDefaults: BiasSettings = { groupSizes: [2, 4, 6, 8], samples: 10_000, seed: 0, epsilon: 0.1 };

/** The distribution of rewards: 0 or 1, or those of theorem 4. */
export type RewardKind = 'bernoulli' | 'beta' | 'truncated-gaussian';

export type Quantity =
  /** P(S), for continuous rewards P(S_σ). */
  | 'gradient_share'
  /** E[p̂ | S]. */
  | 'baseline'
  /** A − E[Â | S]. */
  | 'bias'
  /** P(Â < A − ε | S) and P(Â > A + ε | S). */
  | 'underestimated'
  | 'overestimated'
  /** The mean of `underestimated` with ε = 0 over p uniform on (0, p). */
  | 'average_underestimated';

/** A theoretical value and its simulation. */
export interface Comparison {
  quantity: Quantity;
  rewards: RewardKind;
  groupSize: number;
  /** The expectation of a reward; for an average the upper end of its interval. */
  p: number;
  /** The interval of an average: one of {@link averageLimits}. */
  interval?: string;
  epsilon?: number;
  theory: number;
  /** NaN if none of the groups counts. */
  simulated: number;
  /** Standard error of `simulated`: the theoretical one or, for the mean of continuous rewards, that of the sample. */
  standardError: number;
  /** (simulated − theory) / standardError; 0 if both agree and nothing varies. */
  deviation: number;
  /** Number of groups that `simulated` averages. */
  groups: number;
}

/** The success probabilities that are simulated. */
export const simulatedP = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95] as const;

/** The upper ends of p in the averages of tables 4 to 6. */
export const averageLimits: readonly { name: string; limit: (groupSize: number) => number }[] = [
  { name: 'p < 0.25', limit: () => 0.25 },
  { name: 'p < 0.5', limit: () => 0.5 },
  { name: 'p < 2/G', limit: (groupSize) => Math.min(0.5, 2 / groupSize) },
];

/** S_σ of theorem 4: groups whose rewards differ by more than this. */
export const sigma = 0.3;

/** a + b of the Beta distributions; 2 includes the uniform distribution. */
const concentration = 2;
const scale = 0.2;

/** Continuous rewards: a family with one parameter, which moves the mean from near 0 to near 1. */
export interface Family {
  rewards: Exclude<RewardKind, 'bernoulli'>;
  /** A description in words. */
  description: string;
  at(parameter: number): Distribution;
  /** The parameter range over which the theory is drawn. */
  range: readonly [number, number];
  /** The parameters that are simulated. */
  simulated: readonly number[];
}

export const families: readonly Family[] = [
  {
    rewards: 'beta',
    description: `Beta(a, b) with a + b = ${concentration}`,
    at: (mean) => betaDistribution(concentration * mean, concentration * (1 - mean)),
    range: [0.04, 0.96],
    simulated: [0.1, 0.3, 0.5, 0.7, 0.9],
  },
  {
    rewards: 'truncated-gaussian',
    description: `a Gaussian of standard deviation ${scale}, cut off outside [0, 1]`,
    at: (location) => truncatedGaussian(location, scale),
    range: [-0.3, 1.3],
    simulated: [0, 0.25, 0.5, 0.75, 1],
  },
];

/** All comparisons; the same settings give the same numbers. */
export function biasStudy(settings: BiasSettings): Comparison[] {
  return settings.groupSizes.flatMap((groupSize) => [
    ...simulatedP.flatMap((p, point) => compareBernoulli(p, groupSize, point, settings)),
    ...averageLimits.map(({ name, limit }, point) =>
      compareAverage(name, limit(groupSize), groupSize, point, settings),
    ),
    ...families.flatMap((family, i) =>
      family.simulated.flatMap((parameter, j) =>
        compareBounded(family, parameter, groupSize, 100 * (i + 1) + j, settings),
      ),
    ),
  ]);
}

function compareBernoulli(p: number, groupSize: number, point: number, settings: BiasSettings): Comparison[] {
  const epsilons = settings.epsilon === 0 ? [0] : [0, settings.epsilon];
  const { samples, seed } = settings;
  const reward = (share: number) => (share < p ? 1 : 0);
  const observed = simulate({ groupSize, samples, seed, point, mean: p, reward, epsilons });
  const base = { rewards: 'bernoulli', groupSize, p } as const;
  const spread = baselineDeviation(p, groupSize);
  return [
    shareComparison(
      { ...base, quantity: 'gradient_share' },
      gradientShare(p, groupSize),
      observed.inside / samples,
      samples,
    ),
    ...meanComparisons(base, expectedBaseline(p, groupSize), advantageBias(p, groupSize), observed, spread),
    ...epsilons.flatMap((epsilon, i) => [
      shareComparison(
        { ...base, quantity: 'underestimated', epsilon },
        underestimation(p, groupSize, epsilon),
        observed.underestimated[i],
        observed.inside,
      ),
      shareComparison(
        { ...base, quantity: 'overestimated', epsilon },
        overestimation(p, groupSize, epsilon),
        observed.overestimated[i],
        observed.inside,
      ),
    ]),
  ];
}

function compareAverage(
  interval: string,
  limit: number,
  groupSize: number,
  point: number,
  settings: BiasSettings,
): Comparison {
  const { samples, seed } = settings;
  return shareComparison(
    { quantity: 'average_underestimated', rewards: 'bernoulli', groupSize, p: limit, interval, epsilon: 0 },
    averageUnderestimation(limit, groupSize),
    simulateAverage({ groupSize, samples, seed, point, limit }),
    samples,
  );
}

function compareBounded(
  { rewards, at }: Family,
  parameter: number,
  groupSize: number,
  point: number,
  settings: BiasSettings,
): Comparison[] {
  const { samples, seed } = settings;
  const distribution = at(parameter);
  const { mean } = distribution;
  const { share, bias } = boundedBias(distribution, groupSize, sigma);
  const reward = quantileOf(distribution);
  const observed = simulate({ groupSize, samples, seed, point, mean, reward, sigma, epsilons: [] });
  const base = { rewards, groupSize, p: mean } as const;
  return [
    shareComparison({ ...base, quantity: 'gradient_share' }, share, observed.inside / samples, samples),
    ...meanComparisons(base, mean + bias, bias, observed),
  ];
}

type Base = Pick<Comparison, 'rewards' | 'groupSize' | 'p'>;
type Named = Base & Pick<Comparison, 'quantity' | 'epsilon' | 'interval'>;

/** `spread`: the standard deviation of p̂, if the theory gives it. */
function meanComparisons(
  base: Base,
  baseline: number,
  bias: number,
  { inside, ...observed }: Observed,
  spread?: number,
): Comparison[] {
  const root = Math.sqrt(inside);
  return [
    compare(
      { ...base, quantity: 'baseline' },
      baseline,
      observed.baseline.mean,
      (spread ?? observed.baseline.standardDeviation) / root,
      inside,
    ),
    compare(
      { ...base, quantity: 'bias' },
      bias,
      observed.bias.mean,
      (spread ?? observed.bias.standardDeviation) / root,
      inside,
    ),
  ];
}

function shareComparison(named: Named, theory: number, simulated: number, groups: number): Comparison {
  return compare(named, theory, simulated, Math.sqrt((theory * (1 - theory)) / groups), groups);
}

/** Rounding error of float32 advantages. */
const rounding = 1e-6;

function compare(named: Named, theory: number, simulated: number, standardError: number, groups: number): Comparison {
  const difference = simulated - theory;
  const deviation = Math.abs(difference) <= rounding ? 0 : difference / standardError;
  return { ...named, theory, simulated, standardError, deviation, groups };
}

/** The comparison with the largest deviation, among those with groups that count. */
export function largestDeviation(comparisons: readonly Comparison[]): Comparison {
  const size = ({ deviation }: Comparison) => (Number.isNaN(deviation) ? -1 : Math.abs(deviation));
  return comparisons.reduce((largest, one) => (size(one) > size(largest) ? one : largest));
}
