// Random operations of tfjs, each with inputs drawn as plain numbers, so that the same operation runs on any backend.

import * as tf from '@tensorflow/tfjs-core';
import type { Random } from './random.js';

export interface Drawn {
  name: string;
  /** Creates its inputs and runs it. */
  run(): tf.Tensor | tf.Tensor[];
}

/** `large`: sizes that are divided among several threads. */
export interface Sizes {
  large: boolean;
}

function shapeOf(random: Random, { large }: Sizes, least = 0, most = 5): number[] {
  const rank = random.integer(least, most);
  const shape = Array.from({ length: rank }, () =>
    random.pick([0, 1, 1, 2, 3, 5, 7, 17].slice(random.chance(0.05) ? 0 : 1)),
  );
  // With several axes of length 17 the CPU backend would take a second.
  for (let axis = 0; size(shape) > 4000; axis++) shape[axis] = 1;
  if (large && rank > 0) {
    const axis = random.integer(0, rank - 1);
    const rest = size(shape) / Math.max(1, shape[axis]);
    shape[axis] = Math.ceil(random.integer(70_000, 100_000) / Math.max(1, rest));
  }
  return shape;
}

const size = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);

function draw(random: Random, shape: readonly number[], special = true): Float32Array {
  const values = Float32Array.from({ length: size(shape) }, () => 3 * random.normal());
  if (special && values.length > 0 && random.chance(0.2)) {
    values[random.integer(0, values.length - 1)] = random.pick([NaN, Infinity, -Infinity, -0, 1e30, 1e-30]);
  }
  return values;
}

const unaries: Record<string, (x: tf.Tensor) => tf.Tensor> = {
  abs: tf.abs,
  ceil: tf.ceil,
  clip: (x) => tf.clipByValue(x, -1, 2),
  elu: tf.elu,
  exp: tf.exp,
  expm1: tf.expm1,
  floor: tf.floor,
  leakyRelu: (x) => tf.leakyRelu(x, 0.3),
  log: tf.log,
  log1p: tf.log1p,
  neg: tf.neg,
  reciprocal: tf.reciprocal,
  relu: tf.relu,
  relu6: tf.relu6,
  rsqrt: tf.rsqrt,
  sigmoid: tf.sigmoid,
  softplus: tf.softplus,
  sqrt: tf.sqrt,
  square: tf.square,
  step: (x) => tf.step(x, 0.5),
  tanh: tf.tanh,
  toBool: (x) => tf.cast(x, 'bool'),
  toInt: (x) => tf.cast(x, 'int32'),
  zerosLike: tf.zerosLike,
  onesLike: tf.onesLike,
};

const binaries: Record<string, (a: tf.Tensor, b: tf.Tensor) => tf.Tensor> = {
  add: tf.add,
  sub: tf.sub,
  mul: tf.mul,
  div: tf.div,
  maximum: tf.maximum,
  minimum: tf.minimum,
  squaredDifference: tf.squaredDifference,
  prelu: tf.prelu,
  equal: tf.equal,
  notEqual: tf.notEqual,
  greater: tf.greater,
  greaterEqual: tf.greaterEqual,
  less: tf.less,
  lessEqual: tf.lessEqual,
};

const reductions = { sum: tf.sum, mean: tf.mean, max: tf.max, min: tf.min };
const args = { argMax: tf.argMax, argMin: tf.argMin };

const kinds: Record<string, (random: Random, sizes: Sizes) => Drawn> = {
  unary(random, sizes) {
    const name = random.pick(Object.keys(unaries));
    const shape = shapeOf(random, sizes);
    const x = draw(random, shape);
    return { name: `${name} ${shape}`, run: () => unaries[name](tf.tensor(x, shape)) };
  },
  binary(random, sizes) {
    const name = random.pick(Object.keys(binaries));
    const shape = shapeOf(random, sizes);
    const operand = () => {
      const own = shape.map((n) => (random.chance(0.3) ? 1 : n));
      return own.slice(random.chance(0.3) ? random.integer(0, own.length) : 0);
    };
    const [a, b] = [operand(), operand()];
    const [x, y] = [draw(random, a), draw(random, b)];
    if (name.includes('qual') && x.length > 0 && y.length > 0) y[0] = x[0];
    return { name: `${name} ${a} / ${b}`, run: () => binaries[name](tf.tensor(x, a), tf.tensor(y, b)) };
  },
  select(random, sizes) {
    const shape = shapeOf(random, sizes, 1);
    const [a, b] = [draw(random, shape), draw(random, shape)];
    const condition = Uint8Array.from(a, () => random.integer(0, 1));
    return {
      name: `select ${shape}`,
      run: () => tf.where(tf.tensor(condition, shape, 'bool'), tf.tensor(a, shape), tf.tensor(b, shape)),
    };
  },
  addN(random, sizes) {
    const shape = shapeOf(random, sizes);
    const all = Array.from({ length: random.integer(1, 4) }, () => draw(random, shape));
    return { name: `addN ${shape}`, run: () => tf.addN(all.map((x) => tf.tensor(x, shape))) };
  },
  reduction(random, sizes) {
    const name = random.pick(Object.keys(reductions) as (keyof typeof reductions)[]);
    const shape = shapeOf(random, sizes, 1).map((n) => Math.max(1, n));
    const axes = shape.map((_, axis) => axis).filter(() => random.chance(0.5));
    const keep = random.chance(0.5);
    const x = draw(random, shape);
    return { name: `${name} ${shape} over ${axes}`, run: () => reductions[name](tf.tensor(x, shape), axes, keep) };
  },
  arg(random, sizes) {
    const name = random.pick(Object.keys(args) as (keyof typeof args)[]);
    const shape = shapeOf(random, sizes, 1).map((n) => Math.max(1, n));
    const axis = random.integer(0, shape.length - 1);
    const x = draw(random, shape).map((v) => (random.chance(0.5) ? Math.round(v) : v));
    return { name: `${name} ${shape} over ${axis}`, run: () => args[name](tf.tensor(x, shape), axis) };
  },
  softmax(random, sizes) {
    const shape = shapeOf(random, sizes, 1).map((n) => Math.max(1, n));
    const x = draw(random, shape, false);
    const log = random.chance(0.5);
    return { name: `softmax ${shape}`, run: () => (log ? tf.logSoftmax : tf.softmax)(tf.tensor(x, shape)) };
  },
  layout(random, sizes) {
    const shape = shapeOf(random, sizes, 1);
    const dtype = random.pick(['float32', 'int32', 'bool'] as const);
    const values = draw(random, shape, false).map((v) => (dtype === 'bool' ? Number(v > 0) : Math.round(v)));
    const x = () => tf.cast(tf.tensor(values, shape), dtype);
    const axis = random.integer(0, shape.length - 1);
    const perm = shape.map((_, i) => [random.uniform(), i] as const).sort(([a], [b]) => a - b);
    const begin = shape.map((n) => random.integer(0, n));
    const counts = shape.map((n, i) => random.integer(0, n - begin[i]));
    const strides = shape.map(() => random.pick([1, 2, 3, -1, -2]));
    const paddings = shape.map(() => [random.integer(0, 2), random.integer(0, 2)] as [number, number]);
    const repetitions = shape.map(() => random.integer(1, 3));
    const constant = random.integer(0, 1);
    const forms: Record<string, () => tf.Tensor | tf.Tensor[]> = {
      transpose: () =>
        tf.transpose(
          x(),
          perm.map(([, i]) => i),
        ),
      slice: () => tf.slice(x(), begin, counts),
      stridedSlice: () =>
        tf.stridedSlice(
          x(),
          strides.map((s, i) => (s > 0 ? begin[i] : shape[i] - 1)),
          strides.map((s, i) => (s > 0 ? shape[i] : -shape[i] - 1)),
          strides,
        ),
      pad: () => tf.pad(x(), paddings, constant),
      reverse: () => tf.reverse(x(), axis),
      tile: () => tf.tile(x(), repetitions),
      concat: () =>
        tf.concat(
          [
            x(),
            x(),
            tf.slice(
              x(),
              begin.map(() => 0),
              shape,
            ),
          ],
          axis,
        ),
      stack: () => tf.stack([x(), x()], axis),
      unstack: () => tf.unstack(x(), axis),
      split: () => tf.split(x(), [begin[axis], shape[axis] - begin[axis]], axis),
    };
    // tfjs rejects stacking or splitting nothing.
    const name = random.pick(Object.keys(forms).filter((form) => !shape.includes(0) || !/stack|split/.test(form)));
    return { name: `${name} ${dtype} ${shape} [axis ${axis}, begin ${begin}, strides ${strides}]`, run: forms[name] };
  },
  gather(random, sizes) {
    const shape = shapeOf(random, sizes, 1).map((n) => Math.max(1, n));
    const axis = random.integer(0, shape.length - 1);
    const indices = Int32Array.from({ length: random.integer(1, 40) }, () => random.integer(0, shape[axis] - 1));
    const x = draw(random, shape);
    return {
      name: `gather ${shape} by ${indices.length} along ${axis}`,
      run: () => tf.gather(tf.tensor(x, shape), tf.tensor1d(indices, 'int32'), axis),
    };
  },
  segments(random, sizes) {
    const shape = shapeOf(random, sizes, 1, 3).map((n) => Math.max(1, n));
    const segments = random.integer(1, 20);
    const ids = Int32Array.from({ length: shape[0] }, () => random.integer(0, segments - 1));
    const x = draw(random, shape, false);
    return {
      name: `unsortedSegmentSum ${shape} to ${segments}`,
      run: () => tf.unsortedSegmentSum(tf.tensor(x, shape), tf.tensor1d(ids, 'int32'), segments),
    };
  },
  scatter(random, sizes) {
    const slice = shapeOf(random, sizes, 0, 2).map((n) => Math.max(1, n));
    const rows = random.integer(1, 30);
    const at = Int32Array.from({ length: random.integer(1, 40) }, () => random.integer(0, rows - 1));
    const updates = draw(random, [at.length, ...slice], false);
    return {
      name: `scatterND ${slice}`,
      run: () =>
        tf.scatterND(tf.tensor2d(at, [at.length, 1], 'int32'), tf.tensor(updates, [at.length, ...slice]), [
          rows,
          ...slice,
        ]),
    };
  },
  oneHot(random) {
    const at = Int32Array.from({ length: random.integer(1, 40) }, () => random.integer(-1, 8));
    return { name: 'oneHot', run: () => tf.oneHot(tf.tensor1d(at, 'int32'), 7, 2, -1) };
  },
  matMul(random, { large }) {
    const batch = random.pick([[], [1], [3], [2, 3], large ? [40] : [2]]);
    const [m, k, n] = [0, 1, 2].map(() => random.integer(1, large ? 90 : 40));
    const [transposeA, transposeB] = [random.chance(0.5), random.chance(0.5)];
    const shapeA = [...batch, ...(transposeA ? [k, m] : [m, k])];
    const shapeB = [...(random.chance(0.5) ? batch : []), ...(transposeB ? [n, k] : [k, n])];
    const [a, b] = [draw(random, shapeA, false), draw(random, shapeB, false)];
    const bias = draw(random, [n], false);
    const activation = random.pick(['linear', 'relu', 'relu6', 'elu', 'leakyrelu', 'sigmoid', 'prelu'] as const);
    const slope = draw(random, [n], false);
    const fused = random.chance(0.5);
    return {
      name: `matMul ${shapeA} ${transposeA} by ${shapeB} ${transposeB} ${fused ? activation : ''}`,
      run: () => {
        const [x, y] = [tf.tensor(a, shapeA), tf.tensor(b, shapeB)];
        if (!fused) return tf.matMul(x, y, transposeA, transposeB);
        return tf.fused.matMul({
          a: x,
          b: y,
          transposeA,
          transposeB,
          bias: tf.tensor1d(bias),
          activation,
          preluActivationWeights: activation === 'prelu' ? tf.tensor1d(slope) : undefined,
          leakyreluAlpha: 0.3,
        });
      },
    };
  },
};

export function drawOperation(random: Random, sizes: Sizes): Drawn {
  return kinds[random.pick(Object.keys(kinds))](random, sizes);
}
