// Numbers with 1800 bits after the binary point, stored in a BigInt: sums and products of float64 numbers up to e^±1000 without
// rounding that a test could notice, and their exponential.

const bits = 1800n;
export const one = 1n << bits;

/** Exact for a finite number of at least 2^-1800. */
export function exact(x: number): bigint {
  let shift = 0n;
  let scaled = x;
  while (!Number.isInteger(scaled)) {
    scaled *= 2;
    shift += 1n;
  }
  return BigInt(scaled) << (bits - shift);
}

export function times(a: bigint, b: bigint): bigint {
  return (a * b) >> bits;
}

export function magnitude(a: bigint): bigint {
  return a < 0n ? -a : a;
}

/** Rounded to float64; infinity beyond its range. */
export function toNumber(a: bigint): number {
  const size = magnitude(a);
  const drop = BigInt(Math.max(0, size.toString(2).length - 64));
  const value = Number(size >> drop) * 2 ** (Number(drop) - Number(bits));
  return a < 0n ? -value : value;
}

/** Σ x^k / k! for |x| at most 1. */
function series(x: bigint): bigint {
  let sum = one;
  let term = one;
  for (let k = 1n; term !== 0n && term !== -1n; k++) {
    term = times(term, x) / k;
    sum += term;
  }
  return sum;
}

/** ln 2 = Σ 1 / (k 2^k). */
const ln2 = (() => {
  let sum = 0n;
  let term = one;
  for (let k = 1n; term > 0n; k++) {
    term >>= 1n;
    sum += term / k;
  }
  return sum;
})();

/** e^x: x = k ln 2 + r, and e^r = (e^(r / 2^24))^(2^24). */
export function exp(x: bigint): bigint {
  const k = (x + ln2 / 2n) / ln2 - (x + ln2 / 2n < 0n ? 1n : 0n);
  let result = series((x - k * ln2) >> 24n);
  for (let i = 0; i < 24; i++) result = times(result, result);
  return k >= 0n ? result << k : result >> -k;
}
