// Elementwise operations, broadcasting, selection, casts.

import { backend_util, type TensorInfo } from '@tensorflow/tfjs-core';
import type { EngineAddon } from '../../../devices/load.js';
import { type EngineBackend, isNative } from '../backend.js';
import { type Arguments, isFloat, type Kernel, type Kernels, listOf, mergeAxes, sizeOf, stridesOf } from './kernel.js';

/** Activations with a slope below 0. */
const sloped = ['LeakyRelu', 'Step'];
const comparisons = ['Equal', 'NotEqual', 'Greater', 'GreaterEqual', 'Less', 'LessEqual'];
/** The names of a binary kernel's inputs if they are not `a` and `b`. */
const inputNames: Readonly<Record<string, readonly [string, string]>> = { EluGrad: ['dy', 'y'], Prelu: ['x', 'alpha'] };

function unaryKernel(operation: number, name: string): Kernel {
  const hasSlope = sloped.includes(name);
  return ({ inputs: { x }, backend, attrs }) => {
    if (!isFloat(x)) return undefined;
    const values = backend.floats(x);
    const y = backend.allocate('float32', values.length);
    backend.engine.unary(backend.numbers.of(operation, values.length, hasSlope ? Number(attrs.alpha) : 0), values, y);
    return backend.wrap(x.shape, 'float32', y);
  };
}

/** The strides of a tensor broadcast to `shape`. */
function broadcastStrides(tensor: TensorInfo, shape: readonly number[]): number[] {
  const own = stridesOf(tensor.shape);
  const missing = shape.length - tensor.shape.length;
  return shape.map((_, axis) => (axis < missing || tensor.shape[axis - missing] === 1 ? 0 : own[axis - missing]));
}

function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, axis) => size === b[axis]);
}

/** A binary operation by its index, on float32 tensors. Undefined if the shapes need too many axes. */
export function binary(
  backend: EngineBackend,
  operation: number,
  compares: boolean,
  a: TensorInfo,
  b: TensorInfo,
): TensorInfo | undefined {
  const shape = sameShape(a.shape, b.shape)
    ? a.shape
    : backend_util.assertAndGetBroadcastShape([...a.shape], [...b.shape]);
  const size = sizeOf(shape);
  let numbers: Float64Array;
  if (shape === a.shape) {
    numbers = backend.numbers.of(operation, 1, size, 1, 1);
  } else {
    const box = mergeAxes(shape, [broadcastStrides(a, shape), broadcastStrides(b, shape)]);
    const rank = box.shape.length;
    if (rank > backend.engine.maxRank) return undefined;
    numbers = backend.numbers.of(operation, rank, ...box.shape, ...box.strides[0], ...box.strides[1]);
  }
  const [x, z] = [backend.floats(a), backend.floats(b)];
  const dtype = compares ? 'bool' : 'float32';
  const y = backend.allocate(dtype, size);
  backend.engine.binary(numbers, x, z, y);
  return backend.wrap(shape, dtype, y);
}

function binaryKernel(operation: number, name: string): Kernel {
  const [first, second] = inputNames[name] ?? ['a', 'b'];
  const compares = comparisons.includes(name);
  return ({ inputs, backend }) => {
    const [a, b] = [inputs[first], inputs[second]];
    return isFloat(a, b) ? binary(backend, operation, compares, a, b) : undefined;
  };
}

function clip(clipMin: number, clipMax: number): Kernel {
  return ({ inputs: { x }, backend, attrs }) => {
    if (!isFloat(x)) return undefined;
    const values = backend.floats(x);
    const y = backend.allocate('float32', values.length);
    const bound = (operation: number, of: Float32Array, limit: number) =>
      backend.engine.binary(backend.numbers.of(operation, 1, values.length, 1, 0), of, Float32Array.of(limit), y);
    bound(clipMin, values, Number(attrs.clipValueMin));
    bound(clipMax, y, Number(attrs.clipValueMax));
    return backend.wrap(x.shape, 'float32', y);
  };
}

function select({ inputs: { condition, t, e }, backend }: Arguments): TensorInfo | undefined {
  if (!isFloat(t, e) || condition.dtype !== 'bool' || !sameShape(condition.shape, t.shape)) return undefined;
  const [where, a, b] = [backend.values(condition, 'bool'), backend.floats(t), backend.floats(e)];
  const y = backend.allocate('float32', a.length);
  backend.engine.select(backend.numbers.of(a.length), where, a, b, y);
  return backend.wrap(t.shape, 'float32', y);
}

function cast({ inputs: { x }, backend, attrs }: Arguments): TensorInfo | undefined {
  const dtype = String(attrs.dtype);
  if (!isNative(x.dtype) || !isNative(dtype)) return undefined;
  if (x.dtype === dtype) return backend.share(x, x.shape);
  const values = backend.values(x, x.dtype);
  const y = backend.allocate(dtype, values.length);
  backend.engine.cast(backend.numbers.of(values.length), values, y);
  return backend.wrap(x.shape, dtype, y);
}

function addN({ inputs, backend }: Arguments): TensorInfo | undefined {
  const tensors = listOf(inputs);
  if (!isFloat(...tensors)) return undefined;
  const values = tensors.map((tensor) => backend.floats(tensor));
  const y = backend.allocate('float32', values[0].length);
  backend.engine.addN(backend.numbers.of(y.length), y, ...values);
  return backend.wrap(tensors[0].shape, 'float32', y);
}

export function elementwiseKernels({ unaryOperations, binaryOperations }: EngineAddon): Kernels {
  return {
    ...Object.fromEntries(unaryOperations.map((name, i) => [name, unaryKernel(i, name)])),
    ...Object.fromEntries(binaryOperations.map((name, i) => [name, binaryKernel(i, name)])),
    ClipByValue: clip(binaryOperations.indexOf('Maximum'), binaryOperations.indexOf('Minimum')),
    Select: select,
    Cast: cast,
    AddN: addN,
  };
}
