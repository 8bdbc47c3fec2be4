// Operations as methods of tensors (x.matMul(w).relu()), which tfjs-core by itself does not have on Node, as it has no gradients.

import * as tf from '@tensorflow/tfjs-core';

/** tfjs functions that take the tensor first, followed by the method's arguments. */
const asNamed = `abs acos acosh add all any argMax argMin asin asinh atan atan2 atanh avgPool batchNorm batchToSpaceND
  broadcastTo ceil clipByValue conv1d conv2d conv2dTranspose cos cosh cumprod cumsum depthToSpace depthwiseConv2d dilation2d
  div divNoNan dot elu equal erf euclideanNorm exp expandDims expm1 fft floor floorDiv gather greater greaterEqual ifft irfft
  isFinite isInf isNaN leakyRelu less lessEqual localResponseNormalization log log1p logSigmoid logSoftmax logSumExp logicalAnd
  logicalNot logicalOr logicalXor matMul max maxPool maximum mean min minimum mirrorPad mod mul neg norm notEqual oneHot
  onesLike pad pool pow prelu prod reciprocal relu relu6 reshape reverse rfft round rsqrt selu separableConv2d sigmoid sign sin sinh
  slice softmax softplus spaceToBatchND split sqrt square squaredDifference squeeze stridedSlice sub sum tan tanh tile topk
  transpose unique unsortedSegmentSum unstack zerosLike`.split(/\s+/);

type Operation = (x: tf.Tensor, ...more: never[]) => unknown;

const list = (x: tf.Tensor, more: tf.Tensor | tf.Tensor[]): tf.Tensor[] => [
  x,
  ...(Array.isArray(more) ? more : [more]),
];
const shaped: Operation = (x, ...shape: number[]) => tf.reshape(x, shape);
const flat: Operation = (x) => tf.reshape(x, [x.size]);

/** Methods whose function has another name or argument order. */
const others: Record<string, Operation> = {
  as1D: flat,
  as2D: shaped,
  as3D: shaped,
  as4D: shaped,
  as5D: shaped,
  asScalar: (x) => tf.reshape(x, []),
  asType: (x, dtype: tf.DataType) => tf.cast(x, dtype),
  concat: (x, more: tf.Tensor | tf.Tensor[], axis?: number) => tf.concat(list(x, more), axis),
  flatten: flat,
  reshapeAs: (x, other: tf.Tensor) => tf.reshape(x, other.shape),
  resizeBilinear: (x, ...more: never[]) =>
    tf.image.resizeBilinear(x as tf.Tensor3D, ...(more as unknown as [[number, number]])),
  resizeNearestNeighbor: (x, ...more: never[]) =>
    tf.image.resizeNearestNeighbor(x as tf.Tensor3D, ...(more as unknown as [[number, number]])),
  stack: (x, more: tf.Tensor | tf.Tensor[], axis?: number) => tf.stack(list(x, more), axis),
  step: (x, alpha?: number) => tf.step(x, alpha),
  toBool: (x) => tf.cast(x, 'bool'),
  toFloat: (x) => tf.cast(x, 'float32'),
  toInt: (x) => tf.cast(x, 'int32'),
  where: (x, condition: tf.Tensor, otherwise: tf.Tensor) => tf.where(condition, x, otherwise),
};

/** Adds the methods that are missing; those that another package added are kept. */
export function addChainedOperations(): void {
  const functions = tf as unknown as Record<string, Operation>;
  const prototype = tf.Tensor.prototype as unknown as Record<string, unknown>;
  const methods = { ...Object.fromEntries(asNamed.map((name) => [name, functions[name]])), ...others };
  for (const [name, operation] of Object.entries(methods)) {
    if (name in prototype) continue;
    const method = function (this: tf.Tensor, ...more: never[]): unknown {
      this.throwIfDisposed();
      return operation(this, ...more);
    };
    Object.defineProperty(prototype, name, { value: method, configurable: true, writable: true });
  }
}
