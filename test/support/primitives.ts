// The model's primitives in float64, term by term as documented in src/model: the expected results of kernels with their names.

export type Attributes = Record<string, number | boolean>;
type Arrays = Record<string, ArrayLike<number>>;
type Shapes = Record<string, readonly number[]>;
/** Values with their shape. */
export type Result = [values: Float64Array, shape: readonly number[]];
export type Primitive = (inputs: Arrays, shapes: Shapes, attributes: Attributes) => Result[];

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
const geluScale = Math.sqrt(2 / Math.PI);
const geluTanh = (x: number) => Math.tanh(geluScale * (x + 0.044715 * x ** 3));

const activation = (gelu: boolean, x: number) => (gelu ? 0.5 * x * (1 + geluTanh(x)) : x * sigmoid(x));
function activationSlope(gelu: boolean, x: number): number {
  if (!gelu) return sigmoid(x) * (1 + x * (1 - sigmoid(x)));
  const t = geluTanh(x);
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * geluScale * (1 + 3 * 0.044715 * x * x);
}

const map = (x: ArrayLike<number>, f: (value: number, i: number) => number) => Float64Array.from(x, f);

type Visit = (pair: {
  row: number;
  head: number;
  other: number;
  sharedHead: number;
  probability: number;
  logSumExp: number;
  /** Gradient of the score with respect to the product of query and key. */
  slope: number;
}) => void;

/** Visits every pair of positions that may attend to each other, with its probability. */
function visitScores({ query, key, starts }: Arrays, shapes: Shapes, attributes: Attributes, visit: Visit): void {
  const [sequences, heads, keyValueHeads, scale, softCap, window] = (
    ['sequences', 'heads', 'keyValueHeads', 'scale', 'softCap', 'window'] as const
  ).map((name) => Number(attributes[name]));
  const [rows, width] = shapes.query;
  const [headSize, length] = [width / heads, rows / sequences];
  for (let row = 0; row < rows; row++) {
    const [b, t] = [Math.floor(row / length), row % length];
    for (let head = 0; head < heads; head++) {
      const sharedHead = Math.floor((head * keyValueHeads) / heads);
      const all: { other: number; score: number; slope: number }[] = [];
      for (let s = Math.max(starts[b], window === 0 ? 0 : t - window + 1); s <= t; s++) {
        const other = b * length + s;
        let score = 0;
        for (let d = 0; d < headSize; d++) {
          score += query[row * width + head * headSize + d] * key[other * shapes.key[1] + sharedHead * headSize + d];
        }
        score *= scale;
        const tanh = softCap === 0 ? 0 : Math.tanh(score / softCap);
        all.push({ other, score: softCap === 0 ? score : softCap * tanh, slope: scale * (1 - tanh * tanh) });
      }
      const largest = all.reduce((most, { score }) => Math.max(most, score), -Infinity);
      const logSumExp = largest + Math.log(all.reduce((sum, { score }) => sum + Math.exp(score - largest), 0));
      for (const { other, score, slope } of all) {
        visit({ row, head, other, sharedHead, probability: Math.exp(score - logSumExp), logSumExp, slope });
      }
    }
  }
}

/** By the names of the kernels. */
type Matrix = { values: ArrayLike<number>; rows: number; columns: number };
const matrix = (values: ArrayLike<number>, [rows, columns]: readonly number[]): Matrix => ({ values, rows, columns });
const transposed = ({ values, rows, columns }: Matrix): Matrix => ({
  values: Float64Array.from({ length: rows * columns }, (_, i) => values[(i % rows) * columns + Math.floor(i / rows)]),
  rows: columns,
  columns: rows,
});
/** scale a b. */
function product(a: Matrix, b: Matrix, scale = 1): Matrix & { values: Float64Array } {
  const values = Float64Array.from({ length: a.rows * b.columns }, (_, i) => {
    const [row, column] = [Math.floor(i / b.columns), i % b.columns];
    let sum = 0;
    for (let k = 0; k < a.columns; k++) sum += a.values[row * a.columns + k] * b.values[k * b.columns + column];
    return scale * sum;
  });
  return { values, rows: a.rows, columns: b.columns };
}

export const primitives: Readonly<Record<string, Primitive>> = {
  'groupgrad.rmsNorm': ({ x, weight }, { x: [rows, width] }, { epsilon, offset }) => {
    const scale = Float64Array.from({ length: rows }, (_, n) => {
      let sum = 0;
      for (let d = 0; d < width; d++) sum += x[n * width + d] ** 2;
      return 1 / Math.sqrt(sum / width + Number(epsilon));
    });
    return [
      [map(x, (v, i) => v * scale[Math.floor(i / width)] * (weight[i % width] + Number(offset))), [rows, width]],
      [scale, [rows, 1]],
    ];
  },
  'groupgrad.rmsNormBackward': ({ dy, x, weight, scale }, { x: [rows, width] }, { offset, wantsWeight }) => {
    const dx = new Float64Array(rows * width);
    const dWeight = new Float64Array(width);
    for (let n = 0; n < rows; n++) {
      const unit = (d: number) => x[n * width + d] * scale[n];
      const dUnit = (d: number) => dy[n * width + d] * (weight[d] + Number(offset));
      let along = 0;
      for (let d = 0; d < width; d++) along += (dUnit(d) * unit(d)) / width;
      for (let d = 0; d < width; d++) {
        dx[n * width + d] = (dUnit(d) - unit(d) * along) * scale[n];
        dWeight[d] += dy[n * width + d] * unit(d);
      }
    }
    return [[dx, [rows, width]], ...(wantsWeight ? [[dWeight, [width]] as Result] : [])];
  },
  'groupgrad.rotary': ({ x, cos, sin }, { x: shape, cos: [count, headSize] }, { width, inverse }) => {
    const half = Number(width) / 2;
    const value = map(x, (v, i) => {
      const place = i % headSize;
      if (place >= Number(width)) return v;
      const row = (Math.floor(i / shape[1]) % count) * headSize + place;
      const other = place < half ? -x[i + half] : x[i - half];
      return v * cos[row] + (inverse ? -1 : 1) * other * sin[row];
    });
    return [[value, shape]];
  },
  'groupgrad.gatedUnit': ({ gate, up }, { gate: shape }, { gelu }) => [
    [map(gate, (g, i) => activation(Boolean(gelu), g) * up[i]), shape],
  ],
  'groupgrad.gatedUnitBackward': ({ dy, gate, up }, { gate: shape }, { gelu }) => [
    [map(dy, (d, i) => d * up[i] * activationSlope(Boolean(gelu), gate[i])), shape],
    [map(dy, (d, i) => d * activation(Boolean(gelu), gate[i])), shape],
  ],
  'groupgrad.attention': (inputs, shapes, attributes) => {
    const [rows, width] = shapes.query;
    const heads = Number(attributes.heads);
    const headSize = width / heads;
    const mixed = new Float64Array(rows * width);
    const all = new Float64Array(rows * heads);
    visitScores(inputs, shapes, attributes, ({ row, head, other, sharedHead, probability, logSumExp }) => {
      all[row * heads + head] = logSumExp;
      const from = other * shapes.value[1] + sharedHead * headSize;
      for (let d = 0; d < headSize; d++) {
        mixed[row * width + head * headSize + d] += probability * inputs.value[from + d];
      }
    });
    return [
      [mixed, [rows, width]],
      [all, [rows, heads]],
    ];
  },
  'groupgrad.attentionBackward': (inputs, shapes, attributes) => {
    const { dy, query, key, value, mixed } = inputs;
    const [rows, width] = shapes.query;
    const headSize = width / Number(attributes.heads);
    const d = {
      query: new Float64Array(query.length),
      key: new Float64Array(key.length),
      value: new Float64Array(value.length),
    };
    visitScores(inputs, shapes, attributes, ({ row, head, other, sharedHead, probability, slope }) => {
      const [at, from] = [row * width + head * headSize, other * shapes.key[1] + sharedHead * headSize];
      let along = 0;
      for (let i = 0; i < headSize; i++) along += dy[at + i] * (value[from + i] - mixed[at + i]);
      for (let i = 0; i < headSize; i++) {
        d.value[from + i] += probability * dy[at + i];
        d.query[at + i] += probability * along * slope * key[from + i];
        d.key[from + i] += probability * along * slope * query[at + i];
      }
    });
    return [
      [d.query, [rows, width]],
      [d.key, shapes.key],
      [d.value, shapes.value],
    ];
  },
  'groupgrad.adapterStates': ({ x, a }, shapes, { scale }) => {
    const low = product(matrix(x, shapes.x), transposed(matrix(a, shapes.a)), Number(scale));
    return [[low.values, [low.rows, low.columns]]];
  },
  'groupgrad.linear': ({ x, weight, bias, low, b }, shapes, { inputsFirst }) => {
    const right = matrix(weight, shapes.weight);
    const y = product(matrix(x, shapes.x), inputsFirst ? right : transposed(right));
    const adapted = low && product(matrix(low, shapes.low), transposed(matrix(b, shapes.b)));
    const sum = map(y.values, (v, i) => v + (bias?.[i % y.columns] ?? 0) + (adapted?.values[i] ?? 0));
    return [[sum, [y.rows, y.columns]]];
  },
  'groupgrad.linearBackward': ({ dy, x, weight, low, a, b }, shapes, attributes) => {
    const { inputsFirst, scale, wantsX, wantsA, wantsB } = attributes;
    const [gradient, right] = [matrix(dy, shapes.dy), matrix(weight, shapes.weight)];
    const dLow = product(gradient, matrix(b, shapes.b), Number(scale));
    const results: Result[] = [];
    if (wantsX) {
      const byWeight = product(gradient, inputsFirst ? transposed(right) : right);
      const byAdapter = product(dLow, matrix(a, shapes.a));
      results.push([map(byWeight.values, (v, i) => v + byAdapter.values[i]), shapes.x]);
    }
    if (wantsA) results.push([product(transposed(dLow), matrix(x, shapes.x)).values, shapes.a]);
    if (wantsB) results.push([product(transposed(gradient), matrix(low, shapes.low)).values, shapes.b]);
    return results;
  },
  'groupgrad.embeddingBackward': ({ dy, tokens }, { dy: [, width] }, attributes) => {
    const sums = new Float64Array(Number(attributes.vocabulary) * width);
    for (let i = 0; i < dy.length; i++) sums[tokens[Math.floor(i / width)] * width + (i % width)] += dy[i];
    return [[sums, [Number(attributes.vocabulary), width]]];
  },
  'groupgrad.adamW': ({ variable, mean, square, gradient }, { variable: shape }, attributes) => {
    const [scale, beta1, beta2, epsilon, rate, decay, correction] = (
      ['scale', 'beta1', 'beta2', 'epsilon', 'rate', 'decay', 'correction'] as const
    ).map((name) => Number(attributes[name]));
    const newMean = map(mean, (m, i) => beta1 * m + (1 - beta1) * scale * gradient[i]);
    const newSquare = map(square, (s, i) => beta2 * s + (1 - beta2) * (scale * gradient[i]) ** 2);
    const step = (i: number) => (rate * newMean[i]) / (Math.sqrt(newSquare[i] / correction) + epsilon);
    return [
      [map(variable, (v, i) => v * (1 - decay) - step(i)), shape],
      [newMean, shape],
      [newSquare, shape],
    ];
  },
  'groupgrad.globalNorm': (inputs) => {
    const squares = Object.values(inputs).map((x) => Array.from(x).reduce((sum, v) => sum + v * v, 0));
    return [[Float64Array.of(Math.sqrt(squares.reduce((a, b) => a + b, 0))), []]];
  },
};
