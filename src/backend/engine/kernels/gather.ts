// Rows by index: gathering and segment sums.

import { backend_util, type TensorInfo, util } from '@tensorflow/tfjs-core';
import { isNative } from '../backend.js';
import { type Arguments, isFloat, type Kernels, sizeOf } from './kernel.js';

function gather({ inputs: { x, indices }, backend, attrs }: Arguments): TensorInfo | undefined {
  if (!isNative(x.dtype) || indices.dtype !== 'int32') return undefined;
  const axis = util.parseAxisParam(attrs.axis as number, x.shape)[0];
  const batchDims = (attrs.batchDims as number | undefined) ?? 0;
  const info = backend_util.segment_util.collectGatherOpShapeInfo(x as never, indices as never, axis, batchDims);
  const perBatch = info.batchSize === 0 ? 0 : sizeOf(indices.shape) / info.batchSize;
  const numbers = backend.numbers.of(info.batchSize, info.outerSize, info.dimSize, info.sliceSize, perBatch);
  const size = sizeOf(info.outputShape);
  const at = backend.values(indices, 'int32');
  for (const index of at) {
    if (index < 0 || index >= info.dimSize) {
      throw new RangeError(`GatherV2: the index value ${index} is not in [0, ${info.dimSize - 1}]`);
    }
  }
  const { compressed } = backend.stored(x.dataId);
  if (compressed) {
    const bits = new Uint16Array(size);
    backend.engine.gather(numbers, compressed, at, bits);
    const y = backend.allocate('float32', size);
    backend.engine.cast(backend.numbers.of(size), bits, y);
    return backend.wrap(info.outputShape, 'float32', y);
  }
  const y = backend.allocate(x.dtype, size);
  backend.engine.gather(numbers, backend.values(x, x.dtype), at, y);
  return backend.wrap(info.outputShape, x.dtype, y);
}

/** Segments whose ids are out of range are skipped, as on the CPU backend. */
function unsortedSegmentSum({ inputs: { x, segmentIds }, backend, attrs }: Arguments): TensorInfo | undefined {
  if (!isFloat(x) || segmentIds.dtype !== 'int32') return undefined;
  const n = attrs.numSegments as number;
  const rank = segmentIds.shape.length;
  if (n === 0 || rank === 0) return undefined;
  // One id per row; with ids of several axes, the CPU backend sums only the first axis.
  if (rank > 1) return undefined;
  const slice = x.shape.slice(1);
  const inner = sizeOf(slice);
  const y = backend.allocate('float32', n * inner);
  const ids = backend.values(segmentIds, 'int32');
  backend.engine.scatterAdd(backend.numbers.of(x.shape[0], n, inner), backend.floats(x), ids, y);
  return backend.wrap([n, ...slice], 'float32', y);
}

function scatterNd({ inputs: { indices, updates }, backend, attrs }: Arguments): TensorInfo | undefined {
  if (!isFloat(updates) || indices.dtype !== 'int32') return undefined;
  const shape = attrs.shape as number[];
  const info = backend_util.calculateShapes(updates, indices, shape);
  const rows = info.sliceSize === 0 ? 0 : info.outputSize / info.sliceSize;
  const at = backend.values(indices, 'int32');
  const flat = new Int32Array(info.numUpdates);
  for (let i = 0; i < flat.length; i++) {
    let row = 0;
    for (let j = 0; j < info.sliceRank; j++) row += at[i * info.sliceRank + j] * info.strides[j];
    // The CPU backend reports the error.
    if (row < 0 || row >= rows) return undefined;
    flat[i] = row;
  }
  const y = backend.allocate('float32', info.outputSize);
  backend.engine.scatterAdd(backend.numbers.of(flat.length, rows, info.sliceSize), backend.floats(updates), flat, y);
  return backend.wrap(shape, 'float32', y);
}

function oneHot({ inputs: { indices }, backend, attrs }: Arguments): TensorInfo | undefined {
  const dtype = attrs.dtype as string;
  if (indices.dtype !== 'int32' || !isNative(dtype)) return undefined;
  const depth = attrs.depth as number;
  const at = backend.values(indices, 'int32');
  const y = backend.allocate(dtype, at.length * depth);
  y.fill(attrs.offValue as number);
  for (let i = 0; i < at.length; i++) {
    if (at[i] >= 0 && at[i] < depth) y[i * depth + at[i]] = attrs.onValue as number;
  }
  return backend.wrap([...indices.shape, depth], dtype, y);
}

export const gatherKernels: Kernels = {
  GatherV2: gather,
  OneHot: oneHot,
  ScatterNd: scatterNd,
  UnsortedSegmentSum: unsortedSegmentSum,
};
