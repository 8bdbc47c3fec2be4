// Summarises the runs of a comparison: means over seeds for each variant and bucket, and differences for each pair.

import { passes } from '../evaluation/estimators.js';
import { type Estimate, estimate, type SignFlipTest, signFlipTest } from '../evaluation/statistics.js';
import { everything } from './buckets.js';
import type { Pair, Plan } from './plan.js';
import type { Results, RunResult } from './results.js';

/**
 * Values of one run and bucket. `/mean`: over the run, weighted by tokens. `train/…` exists only for all buckets together, because
 * training prompts are in no bucket.
 */
export type Quantity = 'pass@1' | 'pass@8' | 'pass@1/mean' | 'frac_reward_zero_std/mean' | 'train/frac_reward_zero_std';
/** Quantities that pairs are compared by; the last is taken at the end of the run with fewer tokens. */
export type PairQuantity = Quantity | 'pass@1/equal_tokens';

/** One value per seed, null if there is none, and their estimate. */
export interface SeedValues extends Estimate {
  values: (number | null)[];
}

/** The first evaluation in which pass@1 is at least a half. Runs that never reach it are counted, but have no value. */
export interface TimeToHalf {
  /** Number of runs with such an evaluation, and of all runs. */
  reached: number;
  runs: number;
  /** Median over all runs, where runs that never reach it count as the latest; null if the median run never does. */
  median_steps: number | null;
  median_tokens: number | null;
  /** One per seed: null for a run that did not reach it, or is missing. */
  steps: (number | null)[];
  tokens: (number | null)[];
}

export interface VariantSummary {
  variant: string;
  bucket: string;
  quantities: Record<Quantity, SeedValues>;
  half: TimeToHalf;
}

export interface PairSummary extends Pair {
  bucket: string;
  /** Differences: variant − baseline, paired by seed. */
  quantities: Record<PairQuantity, SeedValues & SignFlipTest>;
  /** Number of seeds in which the variant reached a pass@1 of a half at an earlier step, and so on. */
  half: { earlier: number; same: number; later: number; neither: number };
}

export interface Summary {
  /** The seeds, in the order of values. */
  seeds: number[];
  variants: VariantSummary[];
  pairs: PairSummary[];
}

/** Only finished runs count. */
export function summarize(plan: Plan, { runs }: Results): Summary {
  const buckets = [...Object.keys(plan.buckets), everything];
  const finished = (variant: string) =>
    plan.seeds.map((seed) =>
      runs.find((run) => run.state === 'finished' && run.variant === variant && run.seed === seed),
    );
  return {
    seeds: plan.seeds,
    variants: plan.variants.flatMap((variant) => {
      const own = finished(variant);
      return buckets.map((bucket) => ({
        variant,
        bucket,
        quantities: mapQuantities(quantities, (name) =>
          overSeeds(own.map((run) => run && quantityOf(run, bucket, name))),
        ),
        half: timeToHalf(own.map((run) => run && half(run, bucket))),
      }));
    }),
    pairs: plan.pairs.flatMap(({ variant, baseline }) => {
      const [own, other] = [finished(variant), finished(baseline)];
      return buckets.map((bucket) => ({
        variant,
        baseline,
        bucket,
        quantities: mapQuantities(pairQuantities, (name) => {
          const all = overSeeds(own.map((run, i) => difference(run, other[i], bucket, name)));
          return { ...all, ...signFlipTest(all.values.filter((value) => value !== null)) };
        }),
        half: compareHalves(
          own.map((run) => run && half(run, bucket)),
          other.map((run) => run && half(run, bucket)),
        ),
      }));
    }),
  };
}

const quantities: readonly Quantity[] = [
  'pass@1',
  `pass@${passes}`,
  'pass@1/mean',
  'frac_reward_zero_std/mean',
  'train/frac_reward_zero_std',
];
const pairQuantities: readonly PairQuantity[] = [...quantities, 'pass@1/equal_tokens'];

function mapQuantities<K extends string, T>(names: readonly K[], make: (name: K) => T): Record<K, T> {
  return Object.fromEntries(names.map((name) => [name, make(name)])) as Record<K, T>;
}

function overSeeds(values: readonly (number | null | undefined)[]): SeedValues {
  const all = values.map((value) => value ?? null);
  return { ...estimate(all.filter((value) => value !== null)), values: all };
}

function quantityOf({ frac_reward_zero_std, curve }: RunResult, bucket: string, name: Quantity): number | null {
  if (name === 'train/frac_reward_zero_std') return bucket === everything ? frac_reward_zero_std : null;
  const curves = curve.buckets[bucket];
  if (name === 'pass@1/mean') return meanOver(curve.tokens, curves['pass@1']);
  if (name === 'frac_reward_zero_std/mean') return meanOver(curve.tokens, curves.frac_reward_zero_std);
  return curves[name].at(-1) ?? null;
}

function difference(
  run: RunResult | undefined,
  other: RunResult | undefined,
  bucket: string,
  name: PairQuantity,
): number | null {
  if (!run || !other) return null;
  const atFewest = ({ curve }: RunResult) =>
    interpolate(curve.tokens, curve.buckets[bucket]['pass@1'], Math.min(run.tokens, other.tokens));
  const [value, from] =
    name === 'pass@1/equal_tokens'
      ? [atFewest(run), atFewest(other)]
      : [quantityOf(run, bucket, name), quantityOf(other, bucket, name)];
  return value === null || from === null ? null : value - from;
}

/** The mean of a curve over its range, linearly interpolated; null if a point has no value. */
export function meanOver(xs: readonly number[], ys: readonly (number | null)[]): number | null {
  const values = ys.filter((y) => y !== null);
  if (values.length < ys.length || values.length === 0) return null;
  const length = xs[xs.length - 1] - xs[0];
  if (length === 0) return values[values.length - 1];
  let area = 0;
  for (let i = 1; i < xs.length; i++) area += ((xs[i] - xs[i - 1]) * (values[i] + values[i - 1])) / 2;
  return area / length;
}

/** The value of a curve at x, linearly interpolated; null outside its range, and if a neighbouring point has no value. */
export function interpolate(xs: readonly number[], ys: readonly (number | null)[], x: number): number | null {
  const above = xs.findIndex((at) => at >= x);
  if (above < 0 || (above === 0 && x < xs[0])) return null;
  const upper = ys[above];
  if (xs[above] === x || upper === null) return upper;
  const lower = ys[above - 1];
  return lower === null ? null : lower + ((x - xs[above - 1]) / (xs[above] - xs[above - 1])) * (upper - lower);
}

/** The first evaluation with a pass@1 of at least a half: null if there is none, undefined for a bucket without prompts. */
function half({ curve }: RunResult, bucket: string): { steps: number; tokens: number } | null | undefined {
  const values = curve.buckets[bucket]['pass@1'];
  if (values.includes(null)) return undefined;
  const at = values.findIndex((value) => value! >= 0.5);
  return at < 0 ? null : { steps: curve.steps[at], tokens: curve.tokens[at] };
}

type Half = ReturnType<typeof half>;

function timeToHalf(halves: readonly Half[]): TimeToHalf {
  const runs = halves.filter((one) => one !== undefined);
  const median = (of: 'steps' | 'tokens') => censoredMedian(runs.map((one) => one?.[of] ?? null));
  return {
    reached: runs.filter((one) => one !== null).length,
    runs: runs.length,
    median_steps: median('steps'),
    median_tokens: median('tokens'),
    steps: halves.map((one) => one?.steps ?? null),
    tokens: halves.map((one) => one?.tokens ?? null),
  };
}

/** The median, where null is later than everything; null if the median is. */
export function censoredMedian(times: readonly (number | null)[]): number | null {
  if (times.length === 0) return null;
  const sorted = times.map((time) => time ?? Infinity).sort((a, b) => a - b);
  const middle = (sorted[Math.floor((sorted.length - 1) / 2)] + sorted[Math.floor(sorted.length / 2)]) / 2;
  return Number.isFinite(middle) ? middle : null;
}

function compareHalves(halves: readonly Half[], others: readonly Half[]): PairSummary['half'] {
  const counts = { earlier: 0, same: 0, later: 0, neither: 0 };
  halves.forEach((one, i) => {
    const other = others[i];
    if (one === undefined || other === undefined) return;
    if (one === null && other === null) counts.neither++;
    else {
      const [steps, from] = [one?.steps ?? Infinity, other?.steps ?? Infinity];
      counts[steps < from ? 'earlier' : steps > from ? 'later' : 'same']++;
    }
  });
  return counts;
}
