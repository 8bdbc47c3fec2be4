// Ball arithmetic for real numbers: a centre of about 256 bits and an error bound, in integer arithmetic only, so that every
// machine computes the same bits. Inequality can be proved; otherwise equality holds to about 75 digits.

import { type Budget, bitLength, integerRoot, type Rational, Undecided } from './rational.js';

export interface Ball {
  /** The centre is m · 2^e. */
  m: bigint;
  e: number;
  /** log2 of the bound of the absolute error; -Infinity if exact. */
  r: number;
}

/** Bits of a centre. */
const precision = 256;
/** Bits after the binary point in the elementary functions. */
const working = 384;
/** Largest binary exponent that is computed. */
const maxExponent = 2 ** 40;

/** log2 of the sum of two numbers given by their log2. */
function sumOfErrors(a: number, b: number): number {
  const [low, high] = a < b ? [a, b] : [b, a];
  return low === -Infinity ? high : high + Math.log2(1 + 2 ** (low - high));
}

function ball(m: bigint, e: number, r: number, budget: Budget): Ball {
  budget.spend(1);
  if (m === 0n) return { m, e: 0, r };
  const excess = bitLength(m) - precision;
  if (Math.abs(e + excess) > maxExponent || r > maxExponent) throw new Undecided('a number is too large');
  if (excess <= 0) return { m, e, r };
  return { m: m >> BigInt(excess), e: e + excess, r: sumOfErrors(r, e + excess) };
}

/** log2 of the magnitude, rounded up; -Infinity for 0. */
export const magnitude = (a: Ball): number => (a.m === 0n ? -Infinity : a.e + bitLength(a.m));

/** log2 of the largest number within the ball. */
const reach = (a: Ball): number => Math.max(magnitude(a), a.r) + 1;

export const containsZero = (a: Ball): boolean => a.m === 0n || magnitude(a) - 1 <= a.r;

export const zero: Ball = { m: 0n, e: 0, r: -Infinity };
export const one: Ball = { m: 1n, e: 0, r: -Infinity };

export function fromRational({ n, d }: Rational, budget: Budget): Ball {
  if (d === 1n) return ball(n, 0, -Infinity, budget);
  const shift = precision + 8 + Math.max(0, bitLength(d) - bitLength(n));
  return ball((n << BigInt(shift)) / d, -shift, -shift, budget);
}

export const negateBall = (a: Ball): Ball => ({ ...a, m: -a.m });

export function addBalls(a: Ball, b: Ball, budget: Budget): Ball {
  if (a.m === 0n) return { ...b, r: sumOfErrors(a.r, b.r) };
  if (b.m === 0n) return { ...a, r: sumOfErrors(a.r, b.r) };
  const [high, low] = a.e >= b.e ? [a, b] : [b, a];
  const r = sumOfErrors(a.r, b.r);
  // The smaller one is below the larger one's last bit.
  if (high.e - low.e > 4 * precision) return { ...high, r: sumOfErrors(r, magnitude(low)) };
  return ball((high.m << BigInt(high.e - low.e)) + low.m, low.e, r, budget);
}

export function multiplyBalls(a: Ball, b: Ball, budget: Budget): Ball {
  const r = sumOfErrors(sumOfErrors(magnitude(a) + b.r, magnitude(b) + a.r), a.r + b.r);
  return ball(a.m * b.m, a.e + b.e, Number.isNaN(r) ? -Infinity : r, budget);
}

export function divideBalls(a: Ball, b: Ball, budget: Budget): Ball {
  if (containsZero(b)) throw new Undecided('division by zero');
  const shift = precision + 8 + Math.max(0, bitLength(b.m) - bitLength(a.m));
  const size = magnitude(b) - 1;
  const r = sumOfErrors(a.r - size, reach(a) + b.r - 2 * size) + 1;
  const e = a.e - b.e - shift;
  return ball((a.m << BigInt(shift)) / b.m, e, sumOfErrors(Number.isNaN(r) ? -Infinity : r, e), budget);
}

/** Undecided for a negative number. */
export function sqrtBall(a: Ball, budget: Budget): Ball {
  if (a.m === 0n && a.r === -Infinity) return zero;
  if (a.m < 0n && !containsZero(a)) throw new Undecided('the root of a negative number');
  if (containsZero(a)) return { m: 0n, e: 0, r: reach(a) / 2 + 1 };
  const shift = 2 * precision + (Math.abs(a.e) % 2);
  const e = (a.e - shift) / 2;
  const m = integerRoot(a.m << BigInt(shift), 2, budget);
  return ball(m, e, sumOfErrors(e, a.r - (magnitude(a) - 1) / 2), budget);
}

/** The centre as an integer multiple of 2^-working. */
function fixed(a: Ball): bigint {
  const shift = a.e + working;
  if (shift > working + 64) throw new Undecided('a number is too large');
  return shift >= 0 ? a.m << BigInt(shift) : a.m >> BigInt(-shift);
}

const unit = 1n << BigInt(working);
const timesFixed = (a: bigint, b: bigint): bigint => (a * b) >> BigInt(working);

/** Σ ±t^(2k+1)/(2k+1) of a reciprocal: atan(1/x), or atanh(1/x). */
function seriesOfReciprocal(x: bigint, sign: bigint): bigint {
  let term = (unit << 128n) / x;
  let sum = 0n;
  for (let k = 1n, s = 1n; term !== 0n; k += 2n, s *= sign) {
    sum += (s * term) / k;
    term /= x * x;
  }
  return sum;
}

// Machin's formula, and its like for ln 2; 128 bits more than `working`, for the reduction of large arguments.
let constants: { pi: bigint; ln2: bigint } | undefined;
function getConstants(): { pi: bigint; ln2: bigint } {
  constants ??= {
    pi: 16n * seriesOfReciprocal(5n, -1n) - 4n * seriesOfReciprocal(239n, -1n),
    ln2: 18n * seriesOfReciprocal(26n, 1n) - 2n * seriesOfReciprocal(4801n, 1n) + 8n * seriesOfReciprocal(8749n, 1n),
  };
  return constants;
}

export const pi = (budget: Budget): Ball => ball(getConstants().pi, -working - 128, -working - 100, budget);
const ln2 = (budget: Budget): Ball => ball(getConstants().ln2, -working - 128, -working - 100, budget);

/** The elementary functions lose fewer bits than this of `working`. */
const lost = 40;

export function expBall(a: Ball, budget: Budget): Ball {
  budget.spend(60);
  if (reach(a) > 41) throw new Undecided('a power is too large');
  if (a.r > -8) throw new Undecided('a number is not known well enough');
  const x = fixed(a) << 128n;
  const { ln2: step } = getConstants();
  const k = x / step;
  // Sixteen halvings keep the series short.
  const t = (x - k * step) >> (128n + 16n);
  let sum = unit;
  let term = unit;
  for (let n = 1n; term !== 0n && term !== -1n; n++) {
    term = timesFixed(term, t) / n;
    sum += term;
  }
  for (let i = 0; i < 16; i++) sum = timesFixed(sum, sum);
  const e = Number(k) - working;
  // The argument's absolute error is a relative error of the result.
  const relative = sumOfErrors(a.r, -working + lost + Math.max(0, magnitude(a)));
  return ball(sum, e, relative + 2 + Number(k), budget);
}

/** Undecided unless the number is above 0. */
export function lnBall(a: Ball, budget: Budget): Ball {
  budget.spend(120);
  if (a.m <= 0n || containsZero(a)) throw new Undecided('the logarithm of no positive number');
  const bits = bitLength(a.m);
  const k = a.e + bits;
  let y = working >= bits ? a.m << BigInt(working - bits) : a.m >> BigInt(bits - working);
  for (let i = 0; i < 8; i++) y = integerRoot(y << BigInt(working), 2, budget);
  const t = ((y - unit) << BigInt(working)) / (y + unit);
  const square = timesFixed(t, t);
  let sum = 0n;
  for (let term = t, n = 1n; term !== 0n && term !== -1n; n += 2n) {
    sum += term / n;
    term = timesFixed(term, square);
  }
  const mantissa = ball(sum << 9n, -working, -working + lost, budget);
  const scaled = multiplyBalls(ball(BigInt(k), 0, -Infinity, budget), ln2(budget), budget);
  const sumOfBoth = addBalls(mantissa, scaled, budget);
  return { ...sumOfBoth, r: sumOfErrors(sumOfBoth.r, a.r - magnitude(a) + 2) };
}

/** [sine, cosine]. */
export function sinCosBall(a: Ball, budget: Budget): [Ball, Ball] {
  budget.spend(80);
  if (a.r > -8 || reach(a) > 64) throw new Undecided('a number is not known well enough');
  const x = fixed(a) << 128n;
  const quarter = getConstants().pi / 2n;
  const k = x / quarter;
  const t = (x - k * quarter) >> 128n;
  const square = timesFixed(t, t);
  let sine = 0n;
  let cosine = 0n;
  for (let term = unit, n = 1n; term !== 0n && term !== -1n; n += 2n) {
    cosine += term;
    const odd = timesFixed(term, t) / n;
    sine += odd;
    term = -timesFixed(term, square) / (n * (n + 1n));
  }
  const r = sumOfErrors(a.r, -working + lost + Math.max(0, magnitude(a)));
  const [s, c] = [ball(sine, -working, r, budget), ball(cosine, -working, r, budget)];
  const turned: [Ball, Ball][] = [
    [s, c],
    [c, negateBall(s)],
    [negateBall(s), negateBall(c)],
    [negateBall(c), s],
  ];
  return turned[Number(((k % 4n) + 4n) % 4n)];
}

export function atanBall(a: Ball, budget: Budget): Ball {
  budget.spend(80);
  if (a.m === 0n) return a;
  if (magnitude(a) > 1) {
    const half = { ...pi(budget), e: pi(budget).e - 1 };
    const rest = atanBall(divideBalls(one, a, budget), budget);
    return addBalls(a.m > 0n ? half : negateBall(half), negateBall(rest), budget);
  }
  let x = fixed(a);
  // tan(t/2) = tan t / (1 + sqrt(1 + tan² t))
  for (let i = 0; i < 4; i++) {
    const root = integerRoot((unit + timesFixed(x, x)) << BigInt(working), 2, budget);
    x = (x << BigInt(working)) / (unit + root);
  }
  const square = timesFixed(x, x);
  let sum = 0n;
  for (let term = x, n = 1n; term !== 0n && term !== -1n; n += 2n) {
    sum += term / n;
    term = -timesFixed(term, square);
  }
  return ball(sum << 4n, -working, sumOfErrors(a.r, -working + lost), budget);
}

/**
 * Whether two numbers are the same, as far as can be decided: false if their balls are disjoint. Undecided if the balls are too
 * wide.
 */
export function equalBalls(a: Ball, b: Ball, budget: Budget): boolean {
  const difference = addBalls(a, negateBall(b), budget);
  if (difference.m !== 0n && magnitude(difference) - 1 > difference.r) return false;
  const scale = Math.max(magnitude(a), magnitude(b));
  if (difference.r > Math.max(scale, 0) - 120) throw new Undecided('the values are not known well enough');
  return true;
}
