// Gradients of tfjs operations that have none: on Node, tfjs-core by itself registers no gradients (tfjs, tfjs-layers and
// tfjs-node do), and its modules that define them are written for bundlers. This file defines those of every operation on real
// numbers, except convolutions, pooling and images, which are left to the packages above. If an operation broadcasts, its
// gradient is summed back, also for squaredDifference, maximum, minimum and batched matMul, where tfjs's own gradient is not; the
// gradient of gather needs only kernels that the WebAssembly backend has.

import * as tf from '@tensorflow/tfjs-core';

type Attributes = Record<string, unknown>;
type Lazy = () => tf.Tensor;

/** dx of y = f(x), given dy and what was saved: the input, or the output. */
type Unary = (dy: tf.Tensor, saved: tf.Tensor, attributes: Attributes) => tf.Tensor;
/** da and db of y = f(a, b) in the shape of y; `y` itself is saved only for the operations in `needOutput`. */
type Binary = (dy: tf.Tensor, a: tf.Tensor, b: tf.Tensor, y: tf.Tensor) => [Lazy, Lazy];

const { add, cast, cos, div, exp, log, mul, neg, pow, reshape, sqrt, square, sub, sum, where } = tf;

const one = (x: tf.Tensor): tf.Tensor => tf.onesLike(x);
const where01 = (condition: tf.Tensor): tf.Tensor => cast(condition, 'float32');
const zero: Unary = (_, x) => tf.zeros(x.shape);

const fromInput: Record<string, Unary> = {
  Abs: (dy, x) => mul(dy, tf.sign(x)),
  Acos: (dy, x) => neg(div(dy, sqrt(sub(1, square(x))))),
  Acosh: (dy, x) => div(dy, sqrt(sub(square(x), 1))),
  ArgMax: zero,
  ArgMin: zero,
  Asin: (dy, x) => div(dy, sqrt(sub(1, square(x)))),
  Asinh: (dy, x) => div(dy, sqrt(add(1, square(x)))),
  Atan: (dy, x) => div(dy, add(1, square(x))),
  Atanh: (dy, x) => div(dy, sub(1, square(x))),
  Ceil: zero,
  ClipByValue: (dy, x, { clipValueMin, clipValueMax }) =>
    mul(
      dy,
      where01(tf.logicalAnd(tf.greaterEqual(x, clipValueMin as number), tf.lessEqual(x, clipValueMax as number))),
    ),
  Cos: (dy, x) => neg(mul(dy, tf.sin(x))),
  Cosh: (dy, x) => mul(dy, tf.sinh(x)),
  Erf: (dy, x) => mul(dy, mul(exp(neg(square(x))), 2 / Math.sqrt(Math.PI))),
  Expm1: (dy, x) => mul(dy, exp(x)),
  Floor: zero,
  IsFinite: zero,
  IsInf: zero,
  IsNan: zero,
  LeakyRelu: (dy, x, { alpha }) => where(tf.greater(x, 0), dy, mul(dy, alpha as number)),
  Log: (dy, x) => div(dy, x),
  Log1p: (dy, x) => div(dy, add(1, x)),
  OnesLike: zero,
  Reciprocal: (dy, x) => neg(div(dy, square(x))),
  Relu: (dy, x) => mul(dy, where01(tf.greater(x, 0))),
  Relu6: (dy, x) => mul(dy, where01(tf.logicalAnd(tf.greater(x, 0), tf.lessEqual(x, 6)))),
  Round: zero,
  Rsqrt: (dy, x) => mul(-0.5, div(dy, mul(x, sqrt(x)))),
  Selu: (dy, x) => {
    const { SELU_SCALE: scale, SELU_SCALEALPHA: scaleAlpha } = tf.backend_util;
    return mul(dy, where(tf.greater(x, 0), mul(one(x), scale), mul(exp(x), scaleAlpha)));
  },
  Sign: zero,
  Sin: (dy, x) => mul(dy, cos(x)),
  Sinh: (dy, x) => mul(dy, tf.cosh(x)),
  Softplus: (dy, x) => mul(dy, tf.sigmoid(x)),
  Sqrt: (dy, x) => div(dy, mul(2, sqrt(x))),
  Square: (dy, x) => mul(dy, mul(2, x)),
  Step: zero,
  Tan: (dy, x) => div(dy, square(cos(x))),
  ZerosLike: zero,

  Cumsum: (dy, _, { axis, exclusive, reverse }) => tf.cumsum(dy, axis as number, exclusive as boolean, !reverse),
  Max: (dy, x, { reductionIndices, keepDims }) =>
    extremum(dy, x, tf.max(x, axesOf(reductionIndices, x), keepDims as boolean), reductionIndices),
  Mean: (dy, x, { axis }) => div(spread(dy, x, axis), x.size / dy.size),
  Min: (dy, x, { axis, keepDims }) => extremum(dy, x, tf.min(x, axesOf(axis, x), keepDims as boolean), axis),
  PadV2: (dy, x, { paddings }) =>
    tf.slice(
      dy,
      (paddings as [number, number][]).map(([before]) => before),
      x.shape,
    ),
  Prod: product,
  Reshape: (dy, x) => reshape(dy, x.shape),
  Slice: (dy, x, { begin, size }) => {
    const [from, sizes] = tf.slice_util.parseSliceParams(x, begin as number[], size as number[]);
    return tf.pad(
      dy,
      x.shape.map((length, axis): [number, number] => [from[axis], length - from[axis] - sizes[axis]]),
    );
  },
  Sum: (dy, x, { axis }) => spread(dy, x, axis),
  Tile: (dy, x, { reps }) =>
    (reps as number[]).reduce((tiled: tf.Tensor, repeats, axis) => {
      if (repeats === 1) return tiled;
      const outer = tiled.shape.slice(0, axis);
      const inner = tiled.shape.slice(axis + 1);
      const copies = reshape(tiled, [
        tf.util.sizeFromShape(outer),
        repeats,
        x.shape[axis],
        tf.util.sizeFromShape(inner),
      ]);
      return reshape(sum(copies, 1), [...outer, x.shape[axis], ...inner]);
    }, dy),
};

const fromOutput: Record<string, Unary> = {
  Elu: (dy, y) => mul(dy, where(tf.greater(y, 0), one(y), add(y, 1))),
  Exp: (dy, y) => mul(dy, y),
  Sigmoid: (dy, y) => mul(dy, mul(y, sub(1, y))),
  Tanh: (dy, y) => mul(dy, sub(1, square(y))),
};

/** Gradients that need only dy. */
const fromNothing: Record<string, (dy: tf.Tensor, attributes: Attributes) => tf.Tensor> = {
  Cast: (dy) => tf.clone(dy),
  Identity: (dy) => tf.clone(dy),
  Neg: (dy) => neg(dy),
  Reverse: (dy, { dims }) => tf.reverse(dy, dims as number[]),
  Transpose: (dy, { perm }) => tf.transpose(dy, tf.backend_util.getUndoAxesPermutation(perm as number[])),
};

const binary: Record<string, Binary> = {
  Add: (dy) => [() => dy, () => dy],
  Atan2: (dy, a, b) => {
    const scaled = () => div(dy, add(square(a), square(b)));
    return [() => mul(scaled(), b), () => neg(mul(scaled(), a))];
  },
  FloorDiv: (dy) => [() => tf.zerosLike(dy), () => tf.zerosLike(dy)],
  GreaterEqual: (dy) => [() => tf.zerosLike(dy), () => tf.zerosLike(dy)],
  Maximum: (dy, a, b) => [() => mul(dy, where01(tf.greaterEqual(a, b))), () => mul(dy, where01(tf.less(a, b)))],
  Minimum: (dy, a, b) => [() => mul(dy, where01(tf.lessEqual(a, b))), () => mul(dy, where01(tf.greater(a, b)))],
  Mod: (dy, a, b) => [() => dy, () => neg(mul(dy, tf.floor(div(a, b))))],
  Multiply: (dy, a, b) => [() => mul(dy, b), () => mul(dy, a)],
  Pow: (dy, a, b, y) => [
    () => mul(dy, mul(b, pow(a, sub(b, 1)))),
    // A power of a non-positive base has no derivative with respect to its exponent.
    () => mul(dy, mul(y, log(where(tf.greater(a, 0), a, one(a))))),
  ],
  RealDiv: (dy, a, b) => [() => div(dy, b), () => neg(div(mul(dy, a), square(b)))],
  SquaredDifference: (dy, a, b) => [() => mul(dy, mul(2, sub(a, b))), () => mul(dy, mul(2, sub(b, a)))],
  Sub: (dy) => [() => dy, () => neg(dy)],
};

/** The gradients of operations with other input names or other numbers of inputs. */
const others: readonly tf.GradConfig[] = [
  {
    kernelName: 'AddN',
    saveAllInputs: true,
    gradFunc: (dy, inputs) => numbered(inputs.map(() => () => tf.clone(dy as tf.Tensor))),
  },
  {
    kernelName: 'BatchMatMul',
    inputsToSave: ['a', 'b'],
    gradFunc: (dys, [a, b], { transposeA, transposeB }) => {
      const dy = dys as tf.Tensor;
      return {
        a: () =>
          sumTo(transposeA ? tf.matMul(b, dy, !!transposeB, true) : tf.matMul(dy, b, false, !transposeB), a.shape),
        b: () =>
          sumTo(transposeB ? tf.matMul(dy, a, true, !!transposeA) : tf.matMul(a, dy, !transposeA, false), b.shape),
      };
    },
  },
  {
    kernelName: 'Concat',
    saveAllInputs: true,
    gradFunc: (dy, inputs, { axis }) => {
      const [along] = tf.util.parseAxisParam(axis as number, inputs[0].shape);
      const sizes = inputs.map(({ shape }) => shape[along]);
      return numbered(tf.split(dy as tf.Tensor, sizes, along).map((part) => () => part));
    },
  },
  {
    kernelName: 'ExpandDims',
    inputsToSave: ['input'],
    gradFunc: (dy, [input]) => ({ input: () => reshape(dy as tf.Tensor, input.shape) }),
  },
  {
    kernelName: 'GatherV2',
    inputsToSave: ['x', 'indices'],
    gradFunc: (dy, [x, indices], { axis, batchDims }) => ({
      x: () => scatteredSum(dy as tf.Tensor, x, indices, axis as number, (batchDims as number | undefined) ?? 0),
      indices: () => tf.zeros(indices.shape),
    }),
  },
  {
    kernelName: 'OneHot',
    inputsToSave: ['indices'],
    gradFunc: (_, [indices]) => ({ indices: () => tf.zeros(indices.shape) }),
  },
  {
    kernelName: 'Pack',
    saveAllInputs: true,
    gradFunc: (dy, _, { axis }) => numbered(tf.unstack(dy as tf.Tensor, axis as number).map((part) => () => part)),
  },
  {
    kernelName: 'Prelu',
    inputsToSave: ['x', 'alpha'],
    gradFunc: (dys, [x, alpha]) => {
      const dy = dys as tf.Tensor;
      const positive = () => tf.greater(x, 0);
      return {
        x: () => where(positive(), dy, mul(dy, alpha)),
        alpha: () => sumTo(where(positive(), tf.zerosLike(dy), mul(dy, x)), alpha.shape),
      };
    },
  },
  {
    kernelName: 'Select',
    inputsToSave: ['condition'],
    gradFunc: (dy, [condition]) => ({
      condition: () => tf.zeros(condition.shape),
      t: () => mul(dy as tf.Tensor, where01(condition)),
      e: () => mul(dy as tf.Tensor, where01(tf.logicalNot(condition))),
    }),
  },
  {
    kernelName: 'Softmax',
    outputsToSave: [true],
    gradFunc: (dy, [y], { dim }) => ({
      logits: () => {
        const weighted = mul(dy as tf.Tensor, y);
        return sub(weighted, mul(sum(weighted, dim as number, true), y));
      },
    }),
  },
  {
    kernelName: 'SplitV',
    gradFunc: (dys, _, { axis }) => ({ x: () => tf.concat(dys as tf.Tensor[], axis as number) }),
  },
  {
    kernelName: 'Unpack',
    gradFunc: (dys, _, { axis }) => ({ value: () => tf.stack(dys as tf.Tensor[], axis as number) }),
  },
  {
    kernelName: 'UnsortedSegmentSum',
    inputsToSave: ['segmentIds'],
    gradFunc: (dy, [segmentIds]) => ({
      x: () => {
        const rows = tf.gather(dy as tf.Tensor, tf.maximum(segmentIds, tf.scalar(0, 'int32')) as tf.Tensor1D);
        const counts = where01(tf.greaterEqual(segmentIds, tf.scalar(0, 'int32')));
        const inner = rows.shape.slice(segmentIds.rank).map(() => 1);
        return mul(rows, reshape(counts, [...segmentIds.shape, ...inner]));
      },
    }),
  },
];

const single = (
  table: Record<string, Unary>,
  save: Pick<tf.GradConfig, 'inputsToSave' | 'outputsToSave'>,
): tf.GradConfig[] =>
  Object.entries(table).map(([kernelName, gradient]) => ({
    kernelName,
    ...save,
    gradFunc: (dy, [saved], attributes) => ({ x: () => gradient(dy as tf.Tensor, saved, attributes as Attributes) }),
  }));

/** One per kernel. */
export const gradients: readonly tf.GradConfig[] = [
  ...single(fromInput, { inputsToSave: ['x'] }),
  ...single(fromOutput, { outputsToSave: [true] }),
  ...Object.entries(fromNothing).map(
    ([kernelName, gradient]): tf.GradConfig => ({
      kernelName,
      gradFunc: (dy, _, attributes) => ({ x: () => gradient(dy as tf.Tensor, attributes as Attributes) }),
    }),
  ),
  ...Object.entries(binary).map(
    ([kernelName, gradient]): tf.GradConfig => ({
      kernelName,
      inputsToSave: ['a', 'b'],
      ...(kernelName === 'Pow' && { outputsToSave: [true] }),
      gradFunc: (dy, [a, b, y]) => {
        const [da, db] = gradient(dy as tf.Tensor, a, b, y);
        return { a: () => sumTo(da(), a.shape), b: () => sumTo(db(), b.shape) };
      },
    }),
  ),
  ...others,
];

/** Registers the gradients that are missing; those that another package registered are kept. */
export function registerGradients(): void {
  for (const gradient of gradients) {
    if (!tf.getGradient(gradient.kernelName)) tf.registerGradient(gradient);
  }
}

/** The sum over the axes along which an operand of this shape was broadcast. */
function sumTo(gradient: tf.Tensor, shape: number[]): tf.Tensor {
  const axes = tf.broadcast_util.getReductionAxes(shape, gradient.shape);
  return reshape(axes.length > 0 ? sum(gradient, axes) : gradient, shape);
}

function axesOf(axis: unknown, x: tf.Tensor): number[] {
  return tf.util.parseAxisParam(axis as number[], x.shape);
}

/** A reduction's dy with its reduced axes restored, to be broadcast against x. */
function expanded(dy: tf.Tensor, x: tf.Tensor, axis: unknown): tf.Tensor {
  return reshape(dy, tf.backend_util.expandShapeToKeepDim(keptShape(x, axis), axesOf(axis, x)));
}

function keptShape(x: tf.Tensor, axis: unknown): number[] {
  const axes = axesOf(axis, x);
  return x.shape.filter((_, i) => !axes.includes(i));
}

function spread(dy: tf.Tensor, x: tf.Tensor, axis: unknown): tf.Tensor {
  return mul(expanded(dy, x, axis), one(x));
}

function extremum(dy: tf.Tensor, x: tf.Tensor, y: tf.Tensor, axis: unknown): tf.Tensor {
  return mul(expanded(dy, x, axis), where01(tf.equal(x, expanded(y, x, axis))));
}

/** dy times the product of all other values, without a division, so zeros need no special case. */
function product(dy: tf.Tensor, x: tf.Tensor, { axis }: Attributes): tf.Tensor {
  const axes = axesOf(axis, x);
  const order = [...x.shape.keys()].filter((i) => !axes.includes(i)).concat(axes);
  const kept = keptShape(x, axis);
  const values = reshape(tf.transpose(x, order), [tf.util.sizeFromShape(kept), -1]);
  const rest = mul(tf.cumprod(values, 1, true, false), tf.cumprod(values, 1, true, true));
  const moved = mul(reshape(dy, [-1, 1]), rest);
  const shape = order.map((i) => x.shape[i]);
  return tf.transpose(reshape(moved, shape), tf.backend_util.getUndoAxesPermutation(order));
}

/** The gathered gradients, summed at the positions of x that they were gathered from. */
function scatteredSum(dy: tf.Tensor, x: tf.Tensor, indices: tf.Tensor, axis: number, batchDims: number): tf.Tensor {
  const [along] = tf.util.parseAxisParam(axis, x.shape);
  const size = tf.util.sizeFromShape;
  const batches = size(x.shape.slice(0, batchDims));
  const outer = size(x.shape.slice(batchDims, along));
  const inner = size(x.shape.slice(along + 1));
  const entries = x.shape[along];
  const gathered = indices.size / batches;

  const rows = tf.transpose(reshape(dy, [batches, outer, gathered, inner]), [0, 2, 1, 3]);
  const first = tf.range(0, batches * entries, entries, 'int32');
  const places = add(reshape(indices, [batches, gathered]), reshape(first, [batches, 1]));
  const summed = tf.scatterND(reshape(places, [-1, 1]), reshape(rows, [-1, outer * inner]), [
    batches * entries,
    outer * inner,
  ]);
  return reshape(tf.transpose(reshape(summed, [batches, entries, outer, inner]), [0, 2, 1, 3]), x.shape);
}

/** tfjs names the inputs of an operation on a list by their indices. */
function numbered(parts: readonly Lazy[]): Record<string, Lazy> {
  return Object.fromEntries(parts.map((part, i) => [i, part]));
}
