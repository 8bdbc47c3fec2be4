// Means over seeds and their confidence intervals.

export interface Mean {
  mean: number;
  /** Standard error. */
  error: number;
}

/** A mean with the ends of its 95 % confidence interval. */
export interface Interval extends Mean {
  low: number;
  high: number;
}

export function sum<T>(values: readonly T[], of: (value: T, index: number) => number): number {
  return values.reduce((total, value, i) => total + of(value, i), 0);
}

export function meanOf(values: readonly number[]): Mean {
  const mean = sum(values, (v) => v) / values.length;
  const squares = sum(values, (v) => (v - mean) ** 2);
  return { mean, error: Math.sqrt(squares / (values.length - 1) / values.length) };
}

/** Student's interval of a mean of normal values, also of paired differences. */
export function intervalOf(values: readonly number[]): Interval {
  const { mean, error } = meanOf(values);
  const reach = studentQuantile(values.length - 1) * error;
  return { mean, error, low: mean - reach, high: mean + reach };
}

/**
 * The 97.5 % quantile of Student's distribution, expanded in 1 / freedom around the normal one (Abramowitz and Stegun
 * 26.7.5). Within 0.001 from 5 degrees of freedom on.
 */
export function studentQuantile(freedom: number): number {
  const z = 1.959963984540054;
  const terms = [
    z,
    (z ** 3 + z) / 4,
    (5 * z ** 5 + 16 * z ** 3 + 3 * z) / 96,
    (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / 384,
    (79 * z ** 9 + 776 * z ** 7 + 1482 * z ** 5 - 1920 * z ** 3 - 945 * z) / 92160,
  ];
  return sum(terms, (term, i) => term / freedom ** i);
}

/** The median of values in any order; the lower of two. */
export function medianOf(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor((values.length - 1) / 2)];
}
