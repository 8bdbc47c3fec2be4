// The range of float32. This device computes in float64 and counts values that overflow on the others, in float32.

export function isFiniteFloat32(x: number): boolean {
  return Number.isFinite(Math.fround(x));
}

/** Keeps a number's float64 precision, but overflows where float32 does. */
export type Limit = (x: number) => number;

export const float64: Limit = (x) => x;
export const float32: Limit = (x) => (isFiniteFloat32(x) ? x : x * Infinity);
