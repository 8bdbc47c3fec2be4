// Exact rational numbers of bounded size, in lowest terms, and the budget that bounds the arithmetic of a verdict.

/** The answer cannot be judged within bounds, or has no value. */
export class Undecided extends Error {}

/**
 * Operations left for a verdict. One unit is on the order of a microsecond; counted rather than timed, to be the same
 * everywhere.
 */
export class Budget {
  private left: number;

  constructor(units: number) {
    this.left = units;
  }

  spend(units: number): void {
    this.left -= units;
    if (this.left < 0) throw new Undecided('too many operations');
  }
}

export interface Rational {
  n: bigint;
  /** Above 0. */
  d: bigint;
}

/** Maximum bits of a numerator or denominator. */
export const maxBits = 16_384;

export function bitLength(value: bigint): number {
  const hex = (value < 0n ? -value : value).toString(16);
  return hex === '0' ? 0 : hex.length * 4 - Math.clz32(Number.parseInt(hex[0], 16)) + 28;
}

function gcd(a: bigint, b: bigint): bigint {
  let x = a < 0n ? -a : a;
  let y = b;
  while (y > 0n) [x, y] = [y, x % y];
  return x;
}

export function rational(n: bigint, d: bigint, budget: Budget): Rational {
  if (d === 0n) throw new Undecided('division by zero');
  if (d === 1n) {
    checkSize(n, budget);
    return { n, d };
  }
  const size = Math.max(checkSize(n, budget), checkSize(d, budget));
  // Euclid's algorithm takes about as many rounds as there are bits, each linear in them.
  budget.spend(1 + (size * size) / 40_000);
  const common = gcd(n, d < 0n ? -d : d);
  return d < 0n ? { n: -n / common, d: -d / common } : { n: n / common, d: d / common };
}

function checkSize(value: bigint, budget: Budget): number {
  const bits = bitLength(value);
  budget.spend(1 + bits / 2_000);
  if (bits > maxBits) throw new Undecided('a number is too large');
  return bits;
}

export const integer = (n: bigint): Rational => ({ n, d: 1n });
export const equalRationals = (a: Rational, b: Rational): boolean => a.n === b.n && a.d === b.d;
export const negate = (a: Rational): Rational => ({ n: -a.n, d: a.d });

export function add(a: Rational, b: Rational, budget: Budget): Rational {
  return rational(a.n * b.d + b.n * a.d, a.d * b.d, budget);
}

export function multiply(a: Rational, b: Rational, budget: Budget): Rational {
  return rational(a.n * b.n, a.d * b.d, budget);
}

export function divide(a: Rational, b: Rational, budget: Budget): Rational {
  return rational(a.n * b.d, a.d * b.n, budget);
}

/** a ** exponent for an integer exponent; Undecided before a large result is computed. */
export function power(a: Rational, exponent: bigint, budget: Budget): Rational {
  const positive = exponent < 0n ? -exponent : exponent;
  const base = exponent < 0n ? rational(a.d, a.n, budget) : a;
  const bits = Math.max(bitLength(base.n), bitLength(base.d));
  if (bits > 1 && positive * BigInt(bits - 1) > maxBits) throw new Undecided('a power is too large');
  budget.spend(20 + (bits * Number(bits > 1 ? positive : 1n)) / 100);
  // Powers of 0, 1 and -1 may have any exponent.
  const reduced = bits > 1 ? positive : positive === 0n ? 0n : 2n - (positive % 2n);
  return { n: base.n ** reduced, d: base.d ** reduced };
}

/** The exact root, or undefined if it is irrational. Roots of negative numbers only for odd degrees. */
export function exactRoot(a: Rational, degree: number, budget: Budget): Rational | undefined {
  if (a.n < 0n) {
    const root = degree % 2 === 1 ? exactRoot(negate(a), degree, budget) : undefined;
    return root && negate(root);
  }
  const n = integerRoot(a.n, degree, budget);
  const d = integerRoot(a.d, degree, budget);
  return n ** BigInt(degree) === a.n && d ** BigInt(degree) === a.d ? { n, d } : undefined;
}

/** The largest integer whose power does not exceed `value`, by Newton's method from above. */
export function integerRoot(value: bigint, degree: number, budget: Budget): bigint {
  if (value < 2n) return value;
  const bits = bitLength(value);
  if (degree >= bits) return 1n;
  const k = BigInt(degree);
  let root = 1n << BigInt(Math.ceil(bits / degree));
  for (;;) {
    budget.spend(2 + (bits * bits) / 200_000);
    const next = ((k - 1n) * root + value / root ** (k - 1n)) / k;
    if (next >= root) return root;
    root = next;
  }
}

/** A decimal literal: digits with at most one point, and an exponent of ten. */
export function parseDecimal(digits: string, exponent: number, budget: Budget): Rational {
  const [whole, fraction = ''] = digits.split('.');
  if (whole.length + fraction.length > 4_000 || Math.abs(exponent) > 4_000) throw new Undecided('a number is too long');
  const shift = exponent - fraction.length;
  const value = BigInt(`${whole}${fraction}` || '0');
  return shift >= 0
    ? rational(value * 10n ** BigInt(shift), 1n, budget)
    : rational(value, 10n ** BigInt(-shift), budget);
}
