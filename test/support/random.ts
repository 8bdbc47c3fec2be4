// A small seeded generator for test inputs (mulberry32), so that a failing draw can be repeated.

export interface Random {
  /** Uniform in [low, high). */
  uniform(low?: number, high?: number): number;
  normal(): number;
  /** Uniform integer in [low, high]. */
  integer(low: number, high: number): number;
  pick<T>(choices: readonly T[]): T;
  chance(probability: number): boolean;
}

export function seeded(seed: number): Random {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = state;
    x = Math.imul(x ^ (x >>> 15), x | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
  const random: Random = {
    uniform: (low = 0, high = 1) => low + (high - low) * next(),
    normal: () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next()),
    integer: (low, high) => low + Math.floor((high - low + 1) * next()),
    pick: (choices) => choices[random.integer(0, choices.length - 1)],
    chance: (probability) => next() < probability,
  };
  return random;
}

export function fill(count: number, draw: () => number): Float32Array {
  const values = new Float32Array(count);
  for (let i = 0; i < count; i++) values[i] = draw();
  return values;
}
