// Random numbers addressed by their purpose, not by when they are drawn: an address gives the same number in every order, batch
// and process. The generator is Threefry-4x32-20 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC
// 2011): additions, rotations and xors of 32-bit words only.

const rotations = [
  [10, 26],
  [11, 21],
  [13, 27],
  [23, 5],
  [6, 20],
  [17, 11],
  [25, 10],
  [18, 20],
] as const;
const rounds = 20;
const keyParity = 0x1bd11bda;

/** Four 32-bit words. */
export type Words = readonly [number, number, number, number];

/** Threefry-4x32-20: four independent uniform unsigned 32-bit words for a key and a counter of 32-bit words. */
export function threefry(key: Words, counter: Words): Words {
  const schedule = [...key, keyParity ^ key[0] ^ key[1] ^ key[2] ^ key[3]];
  let [a, b, c, d] = counter;
  const inject = (n: number) => {
    a = (a + schedule[n % 5]) | 0;
    b = (b + schedule[(n + 1) % 5]) | 0;
    c = (c + schedule[(n + 2) % 5]) | 0;
    d = (d + schedule[(n + 3) % 5] + n) | 0;
  };
  inject(0);
  for (let round = 0; round < rounds; round++) {
    const [r, s] = rotations[round % 8];
    // Odd rounds mix with the two second words exchanged, which is the permutation between rounds.
    if (round % 2 === 0) {
      a = (a + b) | 0;
      b = rotate(b, r) ^ a;
      c = (c + d) | 0;
      d = rotate(d, s) ^ c;
    } else {
      a = (a + d) | 0;
      d = rotate(d, r) ^ a;
      c = (c + b) | 0;
      b = rotate(b, s) ^ c;
    }
    if (round % 4 === 3) inject((round + 1) / 4);
  }
  return [a >>> 0, b >>> 0, c >>> 0, d >>> 0];
}

function rotate(word: number, bits: number): number {
  return (word << bits) | (word >>> (32 - bits));
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
