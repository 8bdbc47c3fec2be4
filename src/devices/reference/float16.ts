// float16 (IEEE binary16), kept as bits in a Uint16Array: 10 bits of significand, exponents from 2^-14, subnormals below.

const bits = new Uint32Array(1);
const float = new Float32Array(bits.buffer);

/** Exact. */
export function fromFloat16(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 31;
  const fraction = half & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
}

/** Rounds to nearest, ties to even, after a rounding to float32; beyond 65504 to infinity. NaN stays NaN. */
export function toFloat16(value: number): number {
  if (Number.isNaN(value)) return 0x7e00;
  float[0] = value;
  const sign = (bits[0] >>> 16) & 0x8000;
  const magnitude = bits[0] & 0x7fffffff;
  if (magnitude < 0x38800000) {
    // Below 2^-14 the spacing is 2^-24: that of float32 just above 0.5.
    float[0] = Math.abs(float[0]) + 0.5;
    return sign | (bits[0] - 0x3f000000);
  }
  const rounded = magnitude - (112 << 23) + 0xfff + ((magnitude >>> 13) & 1);
  return sign | Math.min(rounded >>> 13, 0x7c00);
}
