// Comparisons with a bound relative to the largest expected value, and messages with the position of a failure.

import assert from 'node:assert/strict';

/** Whether two numbers differ by at most `bound`; NaN equals NaN, an infinity itself. */
export function within(actual: number, expected: number, bound: number): boolean {
  return Object.is(actual, expected) || actual === expected || Math.abs(actual - expected) <= bound;
}

export function assertNumber(actual: number, expected: number, bound: number, label: string): void {
  if (within(actual, expected, bound)) return;
  assert.fail(`${label}: got ${actual}, expected ${expected}, off by ${Math.abs(actual - expected)}, allowed ${bound}`);
}

/** The largest finite absolute value. */
export function largest(values: ArrayLike<number>): number {
  let max = 0;
  for (let i = 0; i < values.length; i++) if (Number.isFinite(values[i])) max = Math.max(max, Math.abs(values[i]));
  return max;
}

export function sumOfAbsolutes(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) if (Number.isFinite(values[i])) sum += Math.abs(values[i]);
  return sum;
}

/** Every value within `bound` times the largest expected value. */
export function assertArray(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  bound: number,
  label: string,
): void {
  assert.equal(actual.length, expected.length, `${label}: length`);
  const allowed = bound * largest(expected);
  for (let i = 0; i < expected.length; i++) {
    // Labels of millions of values would take longer than to compare them.
    if (!within(actual[i], expected[i], allowed)) assertNumber(actual[i], expected[i], allowed, `${label}[${i}]`);
  }
}

/** A loss is a sum that may cancel: its scale is the larger of |loss| and Σ |gradient|. */
export function assertLoss(
  actual: number,
  expected: number,
  gradient: ArrayLike<number>,
  bound: number,
  label: string,
): void {
  assertNumber(actual, expected, bound * Math.max(Math.abs(expected), sumOfAbsolutes(gradient)), label);
}
