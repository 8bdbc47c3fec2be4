// Operations that move values: all are copies of boxes with strides.

import { backend_util, slice_util, type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { TensorValues } from '../../../devices/load.js';
import { type EngineBackend, isNative, type NativeType } from '../backend.js';
import { type Arguments, type Kernels, listOf, mergeAxes, sizeOf, stridesOf } from './kernel.js';

interface Place {
  values: TensorValues;
  /** Offset of the box's first element. */
  offset?: number;
  strides: readonly number[];
}

/** Copies a box of elements. False if it needs too many axes. */
function copyBox(backend: EngineBackend, shape: readonly number[], from: Place, to: Place): boolean {
  if (shape.includes(0)) return true;
  const box = mergeAxes(shape, [from.strides, to.strides]);
  const rank = box.shape.length;
  if (rank > backend.engine.maxRank) return false;
  const offsets = [from.offset ?? 0, to.offset ?? 0];
  const numbers = backend.numbers.of(rank, ...offsets, ...box.shape, ...box.strides[0], ...box.strides[1]);
  backend.engine.copy(numbers, from.values, to.values);
  return true;
}

interface View {
  /** Shape of the result as it is copied. */
  box: readonly number[];
  /** Strides in x, one per axis of the box. */
  strides: readonly number[];
  offset?: number;
  /** Shape of the result; default: the box's. */
  shape?: readonly number[];
}

/** A new tensor of a box of x. */
function copyOf(
  backend: EngineBackend,
  x: TensorInfo,
  { box, strides, offset, shape = box }: View,
): TensorInfo | undefined {
  const dtype = x.dtype as NativeType;
  const y = backend.allocate(dtype, sizeOf(box));
  const from = { values: backend.values(x, dtype), offset, strides };
  const copied = copyBox(backend, box, from, { values: y, strides: stridesOf(box) });
  return copied ? backend.wrap(shape, dtype, y) : undefined;
}

/** x with its axes in the order of `perm`. */
export function transposed(backend: EngineBackend, x: TensorInfo, perm: readonly number[]): TensorInfo | undefined {
  const shape = perm.map((axis) => x.shape[axis]);
  const moved = perm.filter((axis) => x.shape[axis] !== 1);
  if (moved.every((axis, i) => i === 0 || axis > moved[i - 1])) return backend.share(x, shape);
  const own = stridesOf(x.shape);
  return copyOf(backend, x, { box: shape, strides: perm.map((axis) => own[axis]) });
}

function transpose({ inputs: { x }, backend, attrs }: Arguments) {
  return isNative(x.dtype) ? transposed(backend, x, attrs.perm as number[]) : undefined;
}

function box(backend: EngineBackend, x: TensorInfo, begin: readonly number[], size: readonly number[]) {
  const strides = stridesOf(x.shape);
  return copyOf(backend, x, { box: size, strides, offset: begin.reduce((sum, at, i) => sum + at * strides[i], 0) });
}

function slice({ inputs: { x }, backend, attrs }: Arguments) {
  if (!isNative(x.dtype)) return undefined;
  const [begin, size] = slice_util.parseSliceParams(x as never, attrs.begin as number[], attrs.size as number[]);
  slice_util.assertParamsValid(x, begin, size);
  return box(backend, x, begin, size);
}

function stridedSlice({ inputs: { x }, backend, attrs }: Arguments) {
  if (!isNative(x.dtype)) return undefined;
  const list = (name: string) => attrs[name] as number[];
  const mask = (name: string) => attrs[name] as number;
  const info = slice_util.sliceInfo(
    x.shape,
    list('begin'),
    list('end'),
    list('strides'),
    mask('beginMask'),
    mask('endMask'),
    mask('ellipsisMask'),
    mask('newAxisMask'),
    mask('shrinkAxisMask'),
  );
  if (info.isIdentity) return backend.share(x, info.finalShape);
  const own = stridesOf(x.shape);
  const sizes = slice_util.computeOutShape(info.begin, info.end, info.strides);
  return copyOf(backend, x, {
    box: sizes,
    strides: own.map((stride, axis) => stride * info.strides[axis]),
    offset: sizes.includes(0) ? 0 : own.reduce((sum, stride, axis) => sum + stride * info.begin[axis], 0),
    shape: info.finalShape,
  });
}

function pad({ inputs: { x }, backend, attrs }: Arguments) {
  if (!isNative(x.dtype)) return undefined;
  const paddings = attrs.paddings as [number, number][];
  const shape = x.shape.map((size, axis) => paddings[axis][0] + size + paddings[axis][1]);
  const strides = stridesOf(shape);
  const y = backend.allocate(x.dtype, sizeOf(shape));
  if (paddings.some(([before, after]) => before + after > 0)) {
    backend.engine.fill(backend.numbers.of(y.length, Number(attrs.constantValue)), y);
  }
  const offset = paddings.reduce((sum, [before], axis) => sum + before * strides[axis], 0);
  const from = { values: backend.values(x, x.dtype), strides: stridesOf(x.shape) };
  const copied = copyBox(backend, x.shape, from, { values: y, offset, strides });
  return copied ? backend.wrap(shape, x.dtype, y) : undefined;
}

function reverse({ inputs: { x }, backend, attrs }: Arguments) {
  if (!isNative(x.dtype)) return undefined;
  const axes = util.parseAxisParam(attrs.dims as number[], x.shape);
  const own = stridesOf(x.shape);
  const strides = own.map((stride, axis) => (axes.includes(axis) ? -stride : stride));
  const offset = sizeOf(x.shape) === 0 ? 0 : axes.reduce((sum, axis) => sum + own[axis] * (x.shape[axis] - 1), 0);
  return copyOf(backend, x, { box: x.shape, strides, offset });
}

function tile({ inputs: { x }, backend, attrs }: Arguments) {
  if (!isNative(x.dtype)) return undefined;
  const repetitions = attrs.reps as number[];
  const own = stridesOf(x.shape);
  const shape = x.shape.map((size, axis) => size * repetitions[axis]);
  return copyOf(backend, x, {
    box: x.shape.flatMap((size, axis) => [repetitions[axis], size]),
    strides: own.flatMap((stride) => [0, stride]),
    shape,
  });
}

/** Tensors side by side: each a matrix [outer, inner_i], the result [outer, sum of inner_i]. */
function sideBySide(
  backend: EngineBackend,
  tensors: readonly TensorInfo[],
  outer: number,
  shape: readonly number[],
): TensorInfo | undefined {
  const dtype = tensors[0].dtype;
  if (!isNative(dtype) || tensors.some((tensor) => tensor.dtype !== dtype)) return undefined;
  const y = backend.allocate(dtype, sizeOf(shape));
  const row = outer === 0 ? 0 : y.length / outer;
  let offset = 0;
  for (const tensor of tensors) {
    const inner = outer === 0 ? 0 : sizeOf(tensor.shape) / outer;
    const from = { values: backend.values(tensor, dtype), strides: [inner, 1] };
    copyBox(backend, [outer, inner], from, { values: y, offset, strides: [row, 1] });
    offset += inner;
  }
  return backend.wrap(shape, dtype, y);
}

function concat({ inputs, backend, attrs }: Arguments) {
  const tensors = listOf(inputs);
  const shapes = tensors.map((tensor) => tensor.shape);
  const axis = util.parseAxisParam(attrs.axis as number, shapes[0])[0];
  backend_util.assertParamsConsistent(shapes, axis);
  return sideBySide(backend, tensors, sizeOf(shapes[0].slice(0, axis)), backend_util.computeOutShape(shapes, axis));
}

function pack({ inputs, backend, attrs }: Arguments) {
  const tensors = listOf(inputs);
  const { shape } = tensors[0];
  for (const tensor of tensors) {
    util.assertShapesMatch(shape, tensor.shape, 'All tensors passed to stack must have matching shapes');
  }
  const axis = attrs.axis as number;
  const outer = shape.slice(0, axis);
  return sideBySide(backend, tensors, sizeOf(outer), [...outer, tensors.length, ...shape.slice(axis)]);
}

/** The pieces of x along an axis, of the given sizes. */
function pieces(backend: EngineBackend, x: TensorInfo, axis: number, sizes: readonly number[]): TensorInfo[] {
  let at = 0;
  return sizes.map((size) => {
    const begin = x.shape.map((_, i) => (i === axis ? at : 0));
    at += size;
    // At most two axes: those before, and those from this one on.
    return box(
      backend,
      x,
      begin,
      x.shape.map((whole, i) => (i === axis ? size : whole)),
    )!;
  });
}

function unpack({ inputs: { value }, backend, attrs }: Arguments) {
  if (!isNative(value.dtype)) return undefined;
  const axis = util.parseAxisParam(attrs.axis as number, value.shape)[0];
  const shape = value.shape.filter((_, i) => i !== axis);
  return pieces(backend, value, axis, new Array<number>(value.shape[axis]).fill(1)).map((piece) => ({
    ...piece,
    shape,
  }));
}

function split({ inputs: { x }, backend, attrs }: Arguments) {
  if (!isNative(x.dtype)) return undefined;
  const axis = util.parseAxisParam(attrs.axis as number, x.shape)[0];
  const sizes = backend_util.prepareSplitSize(x as never, attrs.numOrSizeSplits as number | number[], axis);
  return pieces(backend, x, axis, sizes);
}

function filled(backend: EngineBackend, shape: readonly number[], dtype: string, value: number) {
  if (!isNative(dtype)) return undefined;
  const y = backend.allocate(dtype, sizeOf(shape));
  if (dtype !== 'float32' && !Number.isInteger(value)) y.fill(value);
  else backend.engine.fill(backend.numbers.of(y.length, value), y);
  return backend.wrap(shape, dtype, y);
}

function fill({ backend, attrs }: Arguments) {
  const { shape, value } = attrs;
  if (typeof value !== 'number') return undefined;
  return filled(backend, shape as number[], (attrs.dtype as string) || util.inferDtype(value), value);
}

export const layoutKernels: Kernels = {
  Concat: concat,
  Fill: fill,
  OnesLike: ({ inputs: { x }, backend }) => filled(backend, x.shape, x.dtype, 1),
  Pack: pack,
  PadV2: pad,
  Reverse: reverse,
  Slice: slice,
  SplitV: split,
  StridedSlice: stridedSlice,
  Tile: tile,
  Transpose: transpose,
  Unpack: unpack,
  ZerosLike: ({ inputs: { x }, backend }) => filled(backend, x.shape, x.dtype, 0),
};
