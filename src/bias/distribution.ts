// Distributions of rewards on [0, 1] with a density: Beta and truncated Gaussian, with the tails that theorem 4 needs, and their
// quantile functions, from which rewards are drawn.

import { checkNumber, rangeError } from '../base/check.js';
import { integrate } from './quadrature.js';

export interface Distribution {
  mean: number;
  /** Inside (0, 1); at the ends it may be infinite. */
  density(x: number): number;
  /** P(X > x) and E[X; X > x]. */
  above(x: number): Tail;
  /** P(X < x). */
  below(x: number): number;
}

export interface Tail {
  share: number;
  moment: number;
}

/** Beta(a, b), a and b from 0.05 to 400: within these bounds its terms do not underflow in double precision. */
export function betaDistribution(a: number, b: number): Distribution {
  for (const [name, value] of Object.entries({ a, b })) checkNumber(name, value, { min: 0.05, max: 400 });
  // B(a, b), integrated so that each singularity is at an end that is 0.
  const half = (c: number, d: number) => integrate((x) => x ** (c - 1) * (1 - x) ** (d - 1), 0, 0.5);
  const whole = Math.log(half(a, b) + half(b, a));
  const mean = a / (a + b);
  return {
    mean,
    density: (x) => betaPower(x, a - 1, b - 1, whole),
    // x · Beta(a, b) = mean · Beta(a + 1, b), and B(a + 1, b) = mean · B(a, b).
    above: (x) => ({
      share: betaShares(x, a, b, whole).above,
      moment: mean * betaShares(x, a + 1, b, whole + Math.log(mean)).above,
    }),
    below: (x) => betaShares(x, a, b, whole).below,
  };
}

/** x^a (1 − x)^b / e^whole, whose factors by themselves could underflow. */
function betaPower(x: number, a: number, b: number, whole: number): number {
  return Math.exp(a * Math.log(x) + b * Math.log1p(-x) - whole);
}

/** The regularised incomplete beta function and its complement, the smaller of both by a continued fraction; e^whole is B(a, b). */
function betaShares(x: number, a: number, b: number, whole: number): { below: number; above: number } {
  if (x <= 0) return { below: 0, above: 1 };
  if (x >= 1) return { below: 1, above: 0 };
  const power = betaPower(x, a, b, whole);
  if (x < (a + 1) / (a + b + 2)) {
    const below = power / a / betaFraction(x, a, b);
    return { below, above: 1 - below };
  }
  const above = power / b / betaFraction(1 - x, b, a);
  return { below: 1 - above, above };
}

/** The continued fraction 1 + d1 / (1 + d2 / (1 + …)) of DLMF 8.17.22, for x < (a + 1) / (a + b + 2). */
function betaFraction(x: number, a: number, b: number): number {
  return continuedFraction((i) => {
    const m = i >> 1;
    return i % 2 === 0
      ? (m * (b - m) * x) / ((a + i - 1) * (a + i))
      : (-(a + m) * (a + b + m) * x) / ((a + i - 1) * (a + i));
  });
}

/**
 * A Gaussian of some location and scale, cut off outside [0, 1]. A scale above 10 is rejected: the density is then nearly flat,
 * and its moments would cancel.
 * @throws RangeError, also if almost nothing of the Gaussian lies in [0, 1].
 */
export function truncatedGaussian(location: number, scale: number): Distribution {
  checkNumber('location', location);
  checkNumber('scale', scale, { above: 0, max: 10 });
  const standard = (x: number) => (x - location) / scale;
  const height = (x: number) => Math.exp(-0.5 * standard(x) ** 2) / (scale * Math.sqrt(2 * Math.PI));
  const whole = gaussianShare(standard(0), standard(1));
  if (!(whole > 1e-280)) throw rangeError('location', 'a Gaussian of which a part lies in [0, 1]', `${location}`);
  const density = (x: number) => height(x) / whole;
  const above = (x: number): Tail => {
    const share = gaussianShare(standard(x), standard(1)) / whole;
    return { share, moment: location * share + scale ** 2 * (density(x) - density(1)) };
  };
  return {
    mean: above(0).moment,
    density,
    above,
    below: (x) => gaussianShare(standard(0), standard(x)) / whole,
  };
}

/** The probability of a standard Gaussian between two points, from the tails on the side that holds most of it. */
function gaussianShare(from: number, to: number): number {
  return from + to > 0 ? gaussianAbove(from) - gaussianAbove(to) : gaussianAbove(-to) - gaussianAbove(-from);
}

/** The probability of a standard Gaussian above z. */
function gaussianAbove(z: number): number {
  if (z < 0) return 1 - gaussianAbove(-z);
  const height = Math.exp(-0.5 * z * z) / Math.sqrt(2 * Math.PI);
  // Laplace's continued fraction, where the series would lose more than half of its digits in 1/2 − ….
  if (z > 2.5) return height / z / continuedFraction((i) => i / (z * z));
  let term = z;
  let sum = z;
  for (let n = 3; term > sum * 2 ** -54; n += 2) {
    term *= (z * z) / n;
    sum += term;
  }
  return 0.5 - height * sum;
}

/** 1 + d(1) / (1 + d(2) / (1 + …)), by Lentz's method. */
function continuedFraction(d: (i: number) => number): number {
  let [value, c, b] = [1, 1, 0];
  for (let i = 1; i < 10_000; i++) {
    const numerator = d(i);
    b = 1 / (1 + numerator * b);
    c = 1 + numerator / c;
    const change = b * c;
    value *= change;
    if (Math.abs(change - 1) < 2 ** -51) break;
  }
  return value;
}

/**
 * The inverse of P(X < x), which turns a uniform number from (0, 1) into a draw. Computed by Newton's method from a table: to
 * about 1e-12 of the distance from the nearer end if the density varies on that scale, and never worse than 1e-15 or the spacing
 * of numbers near 1.
 */
export function quantileOf({ density, below }: Distribution): (share: number) => number {
  const count = 1024;
  const knots = Float64Array.from({ length: count + 1 }, (_, i) => i / count);
  const shares = knots.map((x) => below(x));
  return (share) => {
    let cell = 0;
    for (let width = count / 2; width >= 1; width /= 2) if (shares[cell + width] <= share) cell += width;
    let [low, high] = [knots[cell], knots[cell + 1]];
    let x = low + ((high - low) * (share - shares[cell])) / (shares[cell + 1] - shares[cell]);
    for (let i = 0; i < 200; i++) {
      if (!(x > low && x < high)) x = (low + high) / 2;
      const error = below(x) - share;
      if (error > 0) high = x;
      else low = x;
      const step = error / density(x);
      x -= step;
      // Newton's method squares the error relative to the nearer end, near which densities may be powers.
      if (Math.abs(step) <= 1e-6 * Math.min(x, 1 - x) || high - low <= 1e-15) break;
    }
    return Math.min(high, Math.max(low, x));
  };
}
