// The bias of group-relative advantages for rewards of 0 or 1, exactly (arXiv 2601.08521, lemma 2 and theorem 2). A prompt's
// responses are right with probability p each; p̂ is the mean reward of a group of G, A = r − p the advantage, Â = r − p̂ its
// estimate. Only groups in the event S count, those with both a right and a wrong response: the others have no gradient.
//
// All results are sums of terms of the same sign, or functions that keep their relative precision, for every p in (0, 1).

import { checkNumber } from '../base/check.js';
import { integrate } from './quadrature.js';

/** The probability of S, 1 − (1 − p)^G − p^G (eq. 6): the share of groups that have a gradient. */
export function gradientShare(p: number, groupSize: number): number {
  checkGroup(p, groupSize);
  const rare = Math.min(p, 1 - p);
  return -Math.expm1(groupSize * Math.log1p(-rare)) - rare ** groupSize;
}

/** E[p̂ | S] = p (1 − p^(G − 1)) / P(S) (eq. 32). */
export function expectedBaseline(p: number, groupSize: number): number {
  return p + advantageBias(p, groupSize);
}

/**
 * The bias A − E[Â | S] = E[p̂ | S] − p (theorem 1): how much lower the estimated advantage is than the true one. Positive for
 * p < 0.5, 0 at 0.5, negative above.
 */
export function advantageBias(p: number, groupSize: number): number {
  checkGroup(p, groupSize);
  // Lemma 2 without its cancellations: p (1 − p) ((1 − p)^n − p^n) / P(S) with n = G − 1, and
  // (1 − p)^n − p^n = (1 − 2p) Σ (1 − p)^j p^(n − 1 − j).
  const rare = Math.min(p, 1 - p);
  const common = 1 - rare;
  const size = (rare * common * (1 - 2 * rare) * powerSum(common, rare, groupSize - 1)) / gradientShare(p, groupSize);
  return p <= 0.5 ? size : -size;
}

/** P(Σ r = k | S) for k from 0 to G: 0 at both ends. */
export function conditionalCounts(p: number, groupSize: number): Float64Array {
  checkGroup(p, groupSize);
  // From the most likely count outwards by ratios of neighbours, so that nothing overflows and only negligible terms underflow.
  const counts = new Float64Array(groupSize + 1);
  const odds = p / (1 - p);
  const likeliest = Math.min(groupSize - 1, Math.max(1, Math.floor((groupSize + 1) * p)));
  counts[likeliest] = 1;
  for (let k = likeliest + 1; k < groupSize; k++) counts[k] = counts[k - 1] * ((groupSize - k + 1) / k) * odds;
  for (let k = likeliest - 1; k > 0; k--) counts[k] = (counts[k + 1] * ((k + 1) / (groupSize - k))) / odds;
  const sum = total(counts);
  return counts.map((value) => value / sum);
}

/** The standard deviation of p̂ given S. */
export function baselineDeviation(p: number, groupSize: number): number {
  const mean = expectedBaseline(p, groupSize);
  return Math.sqrt(
    conditionalCounts(p, groupSize).reduce((sum, share, k) => sum + share * (k / groupSize - mean) ** 2, 0),
  );
}

/**
 * P(Â < A − ε | S), the probability of underestimating an advantage by more than ε ≥ 0 (theorem 2: more than G (p + ε) right
 * responses). 1 for ε = 0 and p < 1/G (corollary 3).
 */
export function underestimation(p: number, groupSize: number, epsilon = 0): number {
  checkEpsilon(epsilon);
  return sumFrom(conditionalCounts(p, groupSize), Math.floor(threshold(groupSize, p, epsilon)) + 1);
}

/** P(Â > A + ε | S), the probability of overestimating by more than ε ≥ 0: fewer than G (p − ε) right responses. */
export function overestimation(p: number, groupSize: number, epsilon = 0): number {
  checkEpsilon(epsilon);
  return sumTo(conditionalCounts(p, groupSize), Math.ceil(threshold(groupSize, p, -epsilon)) - 1);
}

/**
 * The mean of {@link underestimation} with ε → 0 over p uniform on (0, limit), limit ≤ 0.5 (tables 4 to 6). By symmetry that
 * of {@link overestimation} over (1 − limit, 1).
 */
export function averageUnderestimation(limit: number, groupSize: number): number {
  checkNumber('limit', limit, { above: 0, max: 0.5 });
  checkGroup(limit, groupSize);
  // The probability is 1 up to 1 / G, jumps at each k / G, and is analytic in between.
  let sum = Math.min(limit, 1 / groupSize);
  for (let k = 1; k / groupSize < limit; k++) {
    const tail = (p: number) => sumFrom(conditionalCounts(p, groupSize), k + 1);
    sum += integrate(tail, k / groupSize, Math.min(limit, (k + 1) / groupSize));
  }
  return sum / limit;
}

/** Σ_{j < n} a^j b^(n − 1 − j), which is (a^n − b^n) / (a − b). */
export function powerSum(a: number, b: number, n: number): number {
  let sum = 0;
  let power = 1;
  for (let j = 0; j < n; j++) {
    sum = sum * a + power;
    power *= b;
  }
  return sum;
}

function checkGroup(p: number, groupSize: number): void {
  checkNumber('p', p, { above: 0, below: 1 });
  checkGroupSize(groupSize);
}

/** A group of one response has no group-relative advantage. */
export function checkGroupSize(groupSize: number, field = 'groupSize'): number {
  return checkNumber(field, groupSize, { min: 2, max: 1e6, integer: true });
}

function checkEpsilon(epsilon: number): void {
  checkNumber('epsilon', epsilon, { min: 0 });
}

/**
 * G (p + ε) for the decimals that p and ε were written as: if it differs from an integer only by rounding (of these, of the sum
 * and of the product, 2^-53 each), it is that integer.
 */
function threshold(groupSize: number, p: number, epsilon: number): number {
  const value = groupSize * (p + epsilon);
  const nearest = Math.round(value);
  const rounding = 2 * Number.EPSILON * groupSize * (p + Math.abs(epsilon));
  return Math.abs(value - nearest) <= rounding ? nearest : value;
}

/** P(Σ r ≥ least | S): exactly 1 if nothing is excluded. */
function sumFrom(counts: Float64Array, least: number): number {
  return least <= 1 ? 1 : Math.min(1, total(counts.subarray(least)));
}

/** P(Σ r ≤ most | S). */
function sumTo(counts: Float64Array, most: number): number {
  return most >= counts.length - 2 ? 1 : Math.min(1, total(counts.subarray(0, Math.max(0, most + 1))));
}

function total(values: Float64Array): number {
  return values.reduce((sum, value) => sum + value, 0);
}
