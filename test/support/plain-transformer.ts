// The transformer in plain float64 loops, for one sequence without padding: the expected result of the policy's forward pass,
// and, by finite differences, its gradient.

import type { TransformerConfig } from '../../src/model/transformer.js';

export type PlainWeights = Record<string, Float64Array>;
type Matrix = number[][];

/** Logits of every position, [T][V]. */
export function plainLogits(config: TransformerConfig, weights: PlainWeights, tokens: readonly number[]): Matrix {
  const { layers, width } = config;
  let x: Matrix = tokens.map((token) => Array.from(weights.embedding.subarray(token * width, (token + 1) * width)));
  for (let layer = 0; layer < layers; layer++) {
    const part = (name: string) => weights[`layers.${layer}.${name}`];
    x = add(x, attention(config, part, norm(x, part('attention.norm'))));
    const n = norm(x, part('feedforward.norm'));
    const gate = product(n, part('feedforward.gate'));
    const up = product(n, part('feedforward.up'));
    const hidden = gate.map((row, t) => row.map((g, i) => (g / (1 + Math.exp(-g))) * up[t][i]));
    x = add(x, product(hidden, part('feedforward.down')));
  }
  return norm(x, weights.norm).map((row) =>
    Array.from({ length: config.vocabulary }, (_, v) =>
      dot(row, weights.embedding.subarray(v * width, (v + 1) * width)),
    ),
  );
}

function attention(
  { heads, keyValueHeads, width }: TransformerConfig,
  part: (name: string) => Float64Array,
  x: Matrix,
): Matrix {
  const size = width / heads;
  const [query, key, value] = ['query', 'key', 'value'].map((name) => product(x, part(`attention.${name}`)));
  const mixed = x.map(() => new Array<number>(width).fill(0));
  for (let head = 0; head < heads; head++) {
    const shared = Math.floor((head * keyValueHeads) / heads);
    const cut = (row: number[]) => row.slice(shared * size, (shared + 1) * size);
    x.forEach((_, t) => {
      const q = turned(query[t].slice(head * size, (head + 1) * size), t);
      const scores = x.slice(0, t + 1).map((_, s) => dot(q, turned(cut(key[s]), s)) / Math.sqrt(size));
      const weights = scores.map((score) => Math.exp(score - Math.max(...scores)));
      const total = weights.reduce((a, b) => a + b);
      weights.forEach((weight, s) => {
        cut(value[s]).forEach((v, i) => {
          mixed[t][head * size + i] += (weight / total) * v;
        });
      });
    });
  }
  return product(mixed, part('attention.output'));
}

/** Rotary embedding: dimensions i and i + size/2 form a plane, rotated by position * 10000^(−2i/size). */
function turned(vector: number[], position: number): number[] {
  const half = vector.length / 2;
  return vector.map((value, i) => {
    const angle = position * 10000 ** (-(i % half) / half);
    const other = i < half ? -vector[i + half] : vector[i - half];
    return value * Math.cos(angle) + other * Math.sin(angle);
  });
}

function norm(x: Matrix, gain: Float64Array): Matrix {
  return x.map((row) => {
    const scale = 1 / Math.sqrt(dot(row, row) / row.length + 1e-5);
    return row.map((value, i) => value * scale * gain[i]);
  });
}

function product(x: Matrix, matrix: Float64Array): Matrix {
  return x.map((row) => {
    const columns = matrix.length / row.length;
    return Array.from({ length: columns }, (_, c) => row.reduce((sum, v, r) => sum + v * matrix[r * columns + c], 0));
  });
}

function add(a: Matrix, b: Matrix): Matrix {
  return a.map((row, t) => row.map((value, i) => value + b[t][i]));
}

function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}
