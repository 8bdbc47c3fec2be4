// Reductions, argmax and argmin, softmax.

import { backend_util, type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { EngineAddon } from '../../../devices/load.js';
import type { EngineBackend } from '../backend.js';
import { type Arguments, isFloat, type Kernel, type Kernels, sizeOf } from './kernel.js';
import { transposed } from './layout.js';

/** x as [outer, n, inner] with the axes to reduce in the middle, transposed if they are not contiguous. */
function arrange(backend: EngineBackend, x: TensorInfo, axes: readonly number[]) {
  const reduced = x.shape.map((_, axis) => axes.includes(axis));
  // Axes of size 1 can be merged with any neighbour.
  const kinds = x.shape.flatMap((size, axis) => (size === 1 ? [] : [reduced[axis]]));
  const first = kinds.indexOf(true);
  const last = kinds.lastIndexOf(true);
  if (first < 0 || kinds.slice(first, last + 1).every(Boolean)) {
    const sizes = x.shape.filter((size) => size !== 1);
    const product = (begin: number, end: number) => sizes.slice(begin, end).reduce((a, b) => a * b, 1);
    if (first < 0) return { tensor: x, outer: product(0, sizes.length), n: 1, inner: 1 };
    return { tensor: x, outer: product(0, first), n: product(first, last + 1), inner: product(last + 1, sizes.length) };
  }
  const kept = x.shape.flatMap((_, axis) => (reduced[axis] ? [] : [axis]));
  const tensor = transposed(backend, x, [...kept, ...axes]);
  return (
    tensor && { tensor, outer: sizeOf(kept.map((a) => x.shape[a])), n: sizeOf(axes.map((a) => x.shape[a])), inner: 1 }
  );
}

/** Disposes of arrange()'s intermediate tensor. */
function discard(backend: EngineBackend, tensor: TensorInfo, x: TensorInfo): void {
  if (tensor !== x) backend.disposeIntermediateTensorInfo(tensor);
}

/** `attribute`: the kernel's attribute that holds the axes. */
function reduceKernel(operation: number, attribute: string): Kernel {
  return ({ inputs: { x }, backend, attrs }) => {
    if (!isFloat(x) || sizeOf(x.shape) === 0) return undefined;
    const axes = util.parseAxisParam(attrs[attribute] as number[], x.shape);
    const arranged = arrange(backend, x, axes);
    if (!arranged) return undefined;
    const { tensor, outer, n, inner } = arranged;
    const y = backend.allocate('float32', outer * inner);
    backend.engine.reduce(backend.numbers.of(operation, outer, n, inner), backend.floats(tensor), y);
    discard(backend, tensor, x);
    const [shape] = backend_util.computeOutAndReduceShapes(x.shape, axes);
    return backend.wrap(attrs.keepDims ? backend_util.expandShapeToKeepDim(shape, axes) : shape, 'float32', y);
  };
}

function argKernel(smallest: boolean): Kernel {
  return ({ inputs: { x }, backend, attrs }) => {
    if (!isFloat(x) || sizeOf(x.shape) === 0) return undefined;
    const [axis] = util.parseAxisParam(attrs.axis as number, x.shape);
    const others = x.shape.map((_, i) => i).filter((i) => i !== axis);
    const tensor = transposed(backend, x, [...others, axis]);
    if (!tensor) return undefined;
    const shape = others.map((i) => x.shape[i]);
    const y = backend.allocate('int32', sizeOf(shape));
    backend.engine.arg(backend.numbers.of(smallest ? 1 : 0, y.length, x.shape[axis]), backend.floats(tensor), y);
    discard(backend, tensor, x);
    return backend.wrap(shape, 'int32', y);
  };
}

/** Over the last axis; others are left to the CPU backend, which rejects them. */
function softmaxKernel(log: boolean, attribute: string): Kernel {
  return ({ inputs: { logits }, backend, attrs }: Arguments) => {
    const rank = logits.shape.length;
    const axis = attrs[attribute] as number;
    if (!isFloat(logits) || (axis !== rank - 1 && axis !== -1) || sizeOf(logits.shape) === 0) return undefined;
    const values = backend.floats(logits);
    const n = rank === 0 ? 1 : logits.shape[rank - 1];
    const y = backend.allocate('float32', values.length);
    backend.engine.softmax(backend.numbers.of(log ? 1 : 0, values.length / n, n), values, y);
    return backend.wrap(logits.shape, 'float32', y);
  };
}

export function reduceKernels({ reductions }: EngineAddon): Kernels {
  return {
    ...Object.fromEntries(
      reductions.map((name, i) => [name, reduceKernel(i, name === 'Max' ? 'reductionIndices' : 'axis')]),
    ),
    ArgMax: argKernel(false),
    ArgMin: argKernel(true),
    Softmax: softmaxKernel(false, 'dim'),
    LogSoftmax: softmaxKernel(true, 'axis'),
  };
}
