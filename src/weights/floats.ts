// Numbers as safetensors files store them, to and from float32. Everything works on bits, never on JavaScript numbers, so that a
// NaN keeps its payload and values read as 16 bits are written as the same 16 bits.

import { endianness } from 'node:os';

/** The supported types of weights. */
export const floatTypes = ['F32', 'BF16', 'F16'] as const;
export type FloatType = (typeof floatTypes)[number];

export const bytesPerFloat: Readonly<Record<FloatType, number>> = { F32: 4, BF16: 2, F16: 2 };

const bigEndian = endianness() === 'BE';

/**
 * Little-endian values of a file as float32; exact.
 *
 * @param bytes `into.length` values; swapped in place on a big-endian machine
 */
export function decodeFloats(type: FloatType, bytes: Uint8Array, into: Float32Array): void {
  const bits = new Uint32Array(into.buffer, into.byteOffset, into.length);
  if (type === 'F32') {
    const target = new Uint8Array(into.buffer, into.byteOffset, into.byteLength);
    target.set(bytes);
    toMachineOrder(target, 4);
    return;
  }
  toMachineOrder(bytes, 2);
  const halves = aligned16(bytes);
  if (type === 'BF16') {
    for (let i = 0; i < bits.length; i++) bits[i] = halves[i] << 16;
  } else {
    const table = float16Table();
    for (let i = 0; i < bits.length; i++) bits[i] = table[halves[i]];
  }
}

/**
 * Little-endian values of a file as the bits of bfloat16: exact for BF16, the others rounded to nearest, ties to even.
 *
 * @param bytes `into.length` values; swapped in place on a big-endian machine
 */
export function decodeBfloat16(type: FloatType, bytes: Uint8Array, into: Uint16Array): void {
  if (type === 'BF16') {
    into.set(aligned16(toMachineOrder(bytes, 2)));
    return;
  }
  const values = new Float32Array(into.length);
  decodeFloats(type, bytes, values);
  into.set(rounded(values, bfloat16));
}

/**
 * float32 values in the bytes of a file: rounded to nearest, ties to even; a NaN stays NaN, with the part of its payload that
 * fits.
 */
export function encodeFloats(type: FloatType, values: Float32Array): Uint8Array {
  if (type === 'F32') {
    const own = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    return bigEndian ? toMachineOrder(own.slice(), 4) : own;
  }
  const halves = rounded(values, type === 'BF16' ? bfloat16 : float16);
  return toMachineOrder(new Uint8Array(halves.buffer), 2);
}

function rounded(values: Float32Array, round: (bits: number) => number): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const halves = new Uint16Array(values.length);
  for (let i = 0; i < bits.length; i++) halves[i] = round(bits[i]);
  return halves;
}

const exponentMask = 0x7f800000;

function isNaNBits(bits: number): boolean {
  return (bits & 0x7fffffff) > exponentMask;
}

/** The upper half of a float32. */
function bfloat16(bits: number): number {
  const upper = bits >>> 16;
  // A payload only in the lower half would leave an infinity.
  if (isNaNBits(bits)) return upper & 0x7f ? upper : upper | 0x40;
  return (bits + 0x7fff + (upper & 1)) >>> 16;
}

/** IEEE binary16. Magnitudes of 65,520 and more round to infinity. */
function float16(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (isNaNBits(bits)) {
    const payload = (magnitude >>> 13) & 0x3ff;
    return sign | 0x7c00 | (payload || 0x200);
  }
  if (magnitude < 0x38800000) return sign | subnormal16(magnitude);
  const rounded = magnitude - (112 << 23) + 0xfff + ((magnitude >>> 13) & 1);
  return sign | Math.min(rounded >>> 13, 0x7c00);
}

/** Below 2^-14 the spacing of binary16 is 2^-24. */
function subnormal16(magnitude: number): number {
  const exponent = magnitude >>> 23;
  const shift = 126 - exponent;
  // Less than half a step.
  if (shift > 24) return 0;
  const significand = (magnitude & 0x7fffff) | 0x800000;
  const kept = significand >>> shift;
  const rest = significand - kept * 2 ** shift;
  const half = 2 ** (shift - 1);
  return kept + (rest > half || (rest === half && kept & 1) ? 1 : 0);
}

let table16: Uint32Array | undefined;

/** The float32 bits of every binary16. */
function float16Table(): Uint32Array {
  table16 ??= Uint32Array.from({ length: 65536 }, (_, half) => {
    const sign = (half & 0x8000) << 16;
    const exponent = (half >> 10) & 31;
    const fraction = half & 1023;
    if (exponent === 31) return sign | exponentMask | (fraction << 13);
    if (exponent > 0) return sign | ((exponent + 112) << 23) | (fraction << 13);
    if (fraction === 0) return sign;
    // A subnormal half is a normal float32: its highest bit becomes the hidden one.
    const shift = Math.clz32(fraction) - 21;
    return sign | ((113 - shift) << 23) | (((fraction << shift) & 1023) << 13);
  });
  return table16;
}

function aligned16(bytes: Uint8Array): Uint16Array {
  const own = bytes.byteOffset % 2 === 0 ? bytes : bytes.slice();
  return new Uint16Array(own.buffer, own.byteOffset, own.length / 2);
}

/** From or to little-endian order, in place. */
function toMachineOrder(bytes: Uint8Array, width: 2 | 4): Uint8Array {
  if (bigEndian) {
    const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (width === 2) buffer.swap16();
    else buffer.swap32();
  }
  return bytes;
}
