// bfloat16: the upper half of a float32, kept in a Uint16Array.

const bits = new Uint32Array(1);
const float = new Float32Array(bits.buffer);

/** Exact. */
export function fromBfloat16(half: number): number {
  bits[0] = half << 16;
  return float[0];
}

/** Rounds to nearest, ties to even; NaN stays NaN (rounding its bits could carry it over into an infinity). */
export function toBfloat16(value: number): number {
  if (Number.isNaN(value)) return 0x7fc0;
  float[0] = value;
  const lastBitKept = (bits[0] >>> 16) & 1;
  return ((bits[0] + 0x7fff + lastBitKept) >>> 16) & 0xffff;
}
