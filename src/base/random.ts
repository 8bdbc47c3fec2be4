// Random numbers addressed by their purpose, not by when they are drawn: an address gives the same number in every order, batch
// and process. The generator is Threefry-4x32-20 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC
// 2011): additions, rotations and xors of 32-bit words only.

const keyParity = 0x1bd11bda;

/** Four 32-bit words. */
export type Words = readonly [number, number, number, number];

/** Threefry-4x32-20: four independent uniform unsigned 32-bit words for a key and a counter of 32-bit words. */
export function threefry(key: Words, counter: Words): Words {
  // Local variables only, and the eight rounds that repeat written out: a loop over tables takes several times as long.
  let k0 = key[0] | 0;
  let k1 = key[1] | 0;
  let k2 = key[2] | 0;
  let k3 = key[3] | 0;
  let k4 = keyParity ^ k0 ^ k1 ^ k2 ^ k3;
  let a = (counter[0] + k0) | 0;
  let b = (counter[1] + k1) | 0;
  let c = (counter[2] + k2) | 0;
  let d = (counter[3] + k3) | 0;
  // Four rounds are followed by the next words of the key. In every other round b and d change places.
  for (let injection = 1; ; injection++) {
    a = (a + b) | 0;
    b = ((b << 10) | (b >>> 22)) ^ a;
    c = (c + d) | 0;
    d = ((d << 26) | (d >>> 6)) ^ c;
    a = (a + d) | 0;
    d = ((d << 11) | (d >>> 21)) ^ a;
    c = (c + b) | 0;
    b = ((b << 21) | (b >>> 11)) ^ c;
    a = (a + b) | 0;
    b = ((b << 13) | (b >>> 19)) ^ a;
    c = (c + d) | 0;
    d = ((d << 27) | (d >>> 5)) ^ c;
    a = (a + d) | 0;
    d = ((d << 23) | (d >>> 9)) ^ a;
    c = (c + b) | 0;
    b = ((b << 5) | (b >>> 27)) ^ c;
    a = (a + k1) | 0;
    b = (b + k2) | 0;
    c = (c + k3) | 0;
    d = (d + k4 + injection) | 0;
    if (injection === 5) return [a >>> 0, b >>> 0, c >>> 0, d >>> 0];
    injection++;
    a = (a + b) | 0;
    b = ((b << 6) | (b >>> 26)) ^ a;
    c = (c + d) | 0;
    d = ((d << 20) | (d >>> 12)) ^ c;
    a = (a + d) | 0;
    d = ((d << 17) | (d >>> 15)) ^ a;
    c = (c + b) | 0;
    b = ((b << 11) | (b >>> 21)) ^ c;
    a = (a + b) | 0;
    b = ((b << 25) | (b >>> 7)) ^ a;
    c = (c + d) | 0;
    d = ((d << 10) | (d >>> 22)) ^ c;
    a = (a + d) | 0;
    d = ((d << 18) | (d >>> 14)) ^ a;
    c = (c + b) | 0;
    b = ((b << 20) | (b >>> 12)) ^ c;
    a = (a + k2) | 0;
    b = (b + k3) | 0;
    c = (c + k4) | 0;
    d = (d + k0 + injection) | 0;
    const first = k0;
    const second = k1;
    k0 = k2;
    k1 = k3;
    k2 = k4;
    k3 = first;
    k4 = second;
  }
}

/** The purpose of a stream of random numbers. Streams of one seed are independent of each other. */
export const purposes = {
  weights: 1,
  sampling: 2,
  examples: 3,
  split: 4,
  order: 16,
  minibatches: 17,
  simulation: 32,
  study: 48,
  bootstrap: 49,
  'sign-flips': 50,
} as const;

/** A stream of random numbers: a seed (an integer of at most 53 bits), a purpose, and a step or other index. */
export interface Stream {
  seed: number;
  purpose: keyof typeof purposes;
  index?: number;
}

/** The uniform number in (0, 1), with 52 random bits, at address (a, b, c) of a stream. */
export function uniform(stream: Stream, a: number, b = 0, c = 0): number {
  const [high, low] = words(stream, a, b, c);
  return fraction(high, low);
}

/**
 * Fills an array with the uniform numbers in (0, 1), with 52 random bits each, of addresses (a, …, c) of a stream: two for each
 * middle index, at half the work of {@link uniform}.
 */
export function fillUniform(out: Float64Array, stream: Stream, a: number, c = 0): void {
  for (let i = 0; i < out.length; i += 2) {
    const [w, x, y, z] = words(stream, a, i / 2, c);
    out[i] = fraction(w, x);
    if (i + 1 < out.length) out[i + 1] = fraction(y, z);
  }
}

/** The integer in [0, below) at address (a, b, c) of a stream. */
export function integer(stream: Stream, below: number, a: number, b = 0, c = 0): number {
  return Math.floor(uniform(stream, a, b, c) * below);
}

/** The standard normal number at address (a, b, c) of a stream (Box and Muller). */
export function normal(stream: Stream, a: number, b = 0, c = 0): number {
  const [w, x, y, z] = words(stream, a, b, c);
  return Math.sqrt(-2 * Math.log(fraction(w, x))) * Math.cos(2 * Math.PI * fraction(y, z));
}

/** The numbers 0 … count − 1 in random order (Fisher and Yates), from the addresses (i, a) of a stream. */
export function permutation(stream: Stream, count: number, a = 0): Int32Array {
  const order = Int32Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const j = integer(stream, i + 1, i, a);
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

function words({ seed, purpose, index = 0 }: Stream, a: number, b: number, c: number): Words {
  const seedHigh = Math.floor(seed / 2 ** 32);
  return threefry([seed | 0, seedHigh | 0, index | 0, purposes[purpose]], [a | 0, b | 0, c | 0, 0]);
}

/** 52 bits as a number strictly between 0 and 1: with 53 the added half would round up to 1. */
function fraction(high: number, low: number): number {
  return ((high >>> 6) * 2 ** 26 + (low >>> 6) + 0.5) * 2 ** -52;
}
