// Where float32 ends. This device computes in float64; it counts what the others, in float32, cannot hold.

export function isFiniteFloat32(x: number): boolean {
  return Number.isFinite(Math.fround(x));
}

/** What becomes of a number on the way: it stays as it is in float64, and overflows where float32 does. */
export type Limit = (x: number) => number;

export const float64: Limit = (x) => x;
export const float32: Limit = (x) => (isFiniteFloat32(x) ? x : x * Infinity);
