// Inference from a few independent values, of seeds or of problems: bootstrap intervals for a mean, and the exact test of paired
// differences.

import { integer, uniform } from '../base/random.js';
import { mean as meanOf } from '../base/statistics.js';

/** A mean over seeds or problems. */
export interface Estimate {
  /** null if there are no values. */
  mean: number | null;
  /** The ends of the 95 % interval; null for fewer than two values. */
  low: number | null;
  high: number | null;
}

const level = 0.95;
const usualResamples = 10_000;
/** Maximum values drawn for resamples: more would cost seconds and change no digit that is shown. */
const maxDrawn = 4e6;
const fewestResamples = 1_000;

/**
 * The mean of independent values, of seeds or problems, with its bootstrap interval: the quantiles of the means of resamples,
 * each of n values drawn with replacement. Plain quantiles are too narrow for few values, as a standard deviation with the
 * denominator n is; they are moved outwards so that, for normal values, the interval is Student's (Hesterberg: "What teachers
 * should know about the bootstrap", The American Statistician 69, 2015, section 5.2: the expanded percentile interval). No
 * resample's mean is outside the values, so for n values with a symmetric distribution no such interval covers more than 1 − 2^(1
 * − n). The same values in the same order give the same interval.
 */
export function estimate(values: readonly number[]): Estimate {
  const n = values.length;
  if (n === 0) return { mean: null, low: null, high: null };
  const mean = meanOf(values);
  if (n === 1) return { mean, low: null, high: null };
  const means = resampledMeans(values, resamplesOf(n)).sort();
  const tail = expandedTail(n);
  return { mean, low: quantile(means, tail), high: quantile(means, 1 - tail) };
}

/**
 * The mean of the means of several lists of independent values, each of which counts the same, as of benchmarks of different
 * sizes. Each list is resampled separately; the interval is expanded as for the shortest list. Null without a list or with an empty
 * one.
 */
export function estimateMeanOfMeans(lists: readonly (readonly number[])[]): Estimate {
  const sizes = lists.map(({ length }) => length);
  const least = Math.min(...sizes);
  if (lists.length === 0 || least === 0) return { mean: null, low: null, high: null };
  const mean = lists.reduce((sum, values) => sum + meanOf(values), 0) / lists.length;
  if (least === 1) return { mean, low: null, high: null };
  const resamples = resamplesOf(Math.max(...sizes));
  const sums = new Float64Array(resamples);
  lists.forEach((values, list) => {
    const means = resampledMeans(values, resamples, list);
    for (let r = 0; r < resamples; r++) sums[r] += means[r] / lists.length;
  });
  sums.sort();
  const tail = expandedTail(least);
  return { mean, low: quantile(sums, tail), high: quantile(sums, 1 - tail) };
}

function resamplesOf(n: number): number {
  return Math.max(fewestResamples, Math.min(usualResamples, Math.floor(maxDrawn / n)));
}

/** Means of resamples. Those of different lists are independent of each other. */
function resampledMeans(values: readonly number[], resamples: number, list = 0): Float64Array {
  const n = values.length;
  const indices = resampleIndices(n, resamples, list);
  const means = new Float64Array(resamples);
  for (let r = 0; r < resamples; r++) {
    let sum = 0;
    for (let i = r * n; i < (r + 1) * n; i++) sum += values[indices[i]];
    means[r] = sum / n;
  }
  return means;
}

const drawn = new Map<string, Uint32Array>();
const maxHeld = 8;

/** Which of n values each resample contains: drawn once for each n and list, with a cache of the last few. */
function resampleIndices(n: number, resamples: number, list: number): Uint32Array {
  const key = `${n}/${resamples}/${list}`;
  let indices = drawn.get(key);
  if (!indices) {
    const stream = { seed: 0, purpose: 'bootstrap', index: n } as const;
    indices = Uint32Array.from({ length: resamples * n }, (_, i) => integer(stream, n, i, list));
    if (drawn.size === maxHeld) drawn.delete(drawn.keys().next().value!);
    drawn.set(key, indices);
  }
  return indices;
}

/** The quantile of ascending values, linearly interpolated. */
export function quantile(values: ArrayLike<number>, share: number): number {
  const place = share * (values.length - 1);
  const below = Math.floor(place);
  const above = Math.min(below + 1, values.length - 1);
  return values[below] + (place - below) * (values[above] - values[below]);
}

const tails = new Map<number, number>();

/** The share of resamples beyond each end: Φ(−t √(n / (n − 1))), t being Student's quantile with n − 1 degrees of freedom. */
export function expandedTail(n: number): number {
  let tail = tails.get(n);
  if (tail === undefined) {
    const t = studentQuantile(1 - (1 - level) / 2, n - 1);
    tail = normalTail(t * Math.sqrt(n / (n - 1)));
    tails.set(n, tail);
  }
  return tail;
}

/** Student's distribution: with x = √ν tan θ its density is proportional to cos^(ν − 1) θ. */
export function studentQuantile(share: number, degrees: number): number {
  const density = (angle: number) => Math.cos(angle) ** (degrees - 1);
  // Beyond this the density underflows in float64.
  const most = Math.min(Math.PI / 2, 12 / Math.sqrt(degrees));
  const half = simpson(density, 0, most);
  // Bisection of the angle for the probability between 0 and the quantile.
  let [low, high] = [0, most];
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (simpson(density, 0, middle) / (2 * half) < share - 0.5) low = middle;
    else high = middle;
  }
  return Math.sqrt(degrees) * Math.tan((low + high) / 2);
}

/** The probability that a standard normal number is larger than z ≥ 0. */
function normalTail(z: number): number {
  return simpson((x) => Math.exp((-x * x) / 2), z, z + 12) / Math.sqrt(2 * Math.PI);
}

/** Simpson's rule. */
function simpson(f: (x: number) => number, from: number, to: number): number {
  const intervals = 400;
  const h = (to - from) / intervals;
  let sum = f(from) + f(to);
  for (let i = 1; i < intervals; i++) sum += (i % 2 === 1 ? 4 : 2) * f(from + i * h);
  return (sum * h) / 3;
}

export interface SignFlipTest {
  /** Two-sided; null if there are no differences. */
  p: number | null;
  /** Whether all sign patterns were enumerated rather than sampled. */
  exact: boolean;
}

/** With more seeds than this, sign patterns are sampled. */
const maxExact = 16;
const maxSigns = 100_000;
const fewestSigns = 2_000;

/**
 * Tests whether paired differences are symmetric around 0: the share of all sign patterns whose mean is at least as far from 0 as
 * that of the differences (Fisher's randomization test). With n seeds p is at least 2^(1 − n).
 */
export function signFlipTest(differences: readonly number[]): SignFlipTest {
  const n = differences.length;
  if (n === 0) return { p: null, exact: true };
  const observed = Math.abs(differences.reduce((sum, value) => sum + value, 0));
  // Sums in a different order round differently.
  const least = observed - 1e-9 * differences.reduce((sum, value) => sum + Math.abs(value), 0);
  const isAsFar = (isFlipped: (i: number) => boolean) =>
    Math.abs(differences.reduce((sum, value, i) => sum + (isFlipped(i) ? -value : value), 0)) >= least;
  if (n <= maxExact) {
    let count = 0;
    for (let signs = 0; signs < 2 ** n; signs++) if (isAsFar((i) => ((signs >> i) & 1) === 1)) count++;
    return { p: count / 2 ** n, exact: true };
  }
  const stream = { seed: 0, purpose: 'sign-flips', index: n } as const;
  const drawnSigns = Math.max(fewestSigns, Math.min(maxSigns, Math.floor(maxDrawn / n)));
  let count = 1;
  for (let draw = 0; draw < drawnSigns; draw++) if (isAsFar((i) => uniform(stream, draw, i) < 0.5)) count++;
  return { p: count / (drawnSigns + 1), exact: false };
}
