// Groups of binary rewards in exact arithmetic: the oracle of the bias's closed forms.

/** A fraction with a positive denominator. */
export type Fraction = readonly [numerator: bigint, denominator: bigint];

/** The exact value of a number in (0, 1). */
export function exactly(value: number): Fraction {
  let [numerator, bits] = [value, 0];
  while (!Number.isInteger(numerator)) {
    numerator *= 2;
    bits++;
  }
  return [BigInt(numerator), 1n << BigInt(bits)];
}

/** The nearest number, up to one bit. */
export function toNumber([numerator, denominator]: Fraction): number {
  if (numerator < 0n) return -toNumber([-numerator, denominator]);
  if (numerator === 0n) return 0;
  const length = (value: bigint) => value.toString(2).length;
  const shift = 64 - (length(numerator) - length(denominator));
  const scaled = shift >= 0 ? (numerator << BigInt(shift)) / denominator : numerator / (denominator << BigInt(-shift));
  // In two steps: 2 ** -shift by itself may be below the smallest number.
  return Number(scaled) * 2 ** -Math.min(shift, 600) * 2 ** -Math.max(0, shift - 600);
}

/** p as a fraction, and for each number k of right responses C(G, k) a^k (N − a)^(G − k): N^G times its probability. */
export function weights([a, n]: Fraction, groupSize: number): bigint[] {
  const all: bigint[] = [];
  let choices = 1n;
  for (let k = 0; k <= groupSize; k++) {
    all.push(choices * a ** BigInt(k) * (n - a) ** BigInt(groupSize - k));
    choices = (choices * BigInt(groupSize - k)) / BigInt(k + 1);
  }
  return all;
}

export function sum(values: readonly bigint[]): bigint {
  return values.reduce((total, value) => total + value, 0n);
}

/** P(S), E[p̂ | S] and E[p̂ | S] − p. */
export function exactBias(p: Fraction, groupSize: number): { share: Fraction; baseline: Fraction; bias: Fraction } {
  const all = weights(p, groupSize);
  const inside = sum(all.slice(1, -1));
  const right = sum(all.slice(1, -1).map((weight, i) => weight * BigInt(i + 1)));
  const size = BigInt(groupSize) * inside;
  return {
    share: [inside, p[1] ** BigInt(groupSize)],
    baseline: [right, size],
    bias: [right * p[1] - p[0] * size, size * p[1]],
  };
}

/** P(Σr = k for a counted k | S). */
export function exactChance(p: Fraction, groupSize: number, isCounted: (k: number) => boolean): Fraction {
  const inside = weights(p, groupSize).map((weight, k) => (k > 0 && k < groupSize ? weight : 0n));
  return [sum(inside.filter((_, k) => isCounted(k))), sum(inside)];
}

const one = 10n ** 40n;

/**
 * The mean over p uniform on (0, limit) of P(Σr > G p | S), to about 20 digits: Romberg's method over midpoints, with 40
 * decimals, on each interval between two k / G.
 */
export function exactAverage([a, n]: Fraction, groupSize: number): number {
  let total = 0n;
  for (let k = 0; BigInt(k) * n < a * BigInt(groupSize); k++) {
    // From k / G to the smaller of (k + 1) / G and the limit, over the common denominator G n.
    const from = BigInt(k) * n;
    const to = BigInt(k + 1) * n < a * BigInt(groupSize) ? BigInt(k + 1) * n : a * BigInt(groupSize);
    const tail = (p: Fraction) => {
      const [some, all] = exactChance(p, groupSize, (right) => right > k);
      return (some * one) / all;
    };
    const rows: bigint[][] = [];
    for (let level = 0; level < 9; level++) {
      const count = 2n ** BigInt(level);
      let height = 0n;
      for (let i = 0n; i < count; i++) {
        height += tail([2n * count * from + (2n * i + 1n) * (to - from), 2n * count * n * BigInt(groupSize)]);
      }
      const row = [(height * (to - from)) / (count * n * BigInt(groupSize))];
      for (let m = 1; m <= level; m++) {
        const power = 4n ** BigInt(m);
        row.push((power * row[m - 1] - rows[level - 1][m - 1]) / (power - 1n));
      }
      rows.push(row);
    }
    total += rows.at(-1)!.at(-1)!;
  }
  return toNumber([total * n, one * a]);
}
