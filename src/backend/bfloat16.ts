// What only our own backend can do: matrix products of factors rounded to bfloat16, and tensors stored in bfloat16. Callers need
// not load that backend.

import * as tf from '@tensorflow/tfjs-core';
import { rangeError } from '../base/check.js';
import { engineBackend } from './current.js';
import type { Precision } from './precision.js';

/** RangeError if the current backend has no products in this precision. */
export function checkPrecision(field: string, precision: Precision): void {
  if (precision === 'float32' || engineBackend()) return;
  throw rangeError(
    field,
    `'float32' on the backend ${tf.engine().backendName}`,
    `'${precision}', which needs the backend groupgrad (backend: 'groupgrad')`,
  );
}

/** The precision of products at present: that of `setPrecision` or, within `inPrecision`, the one given there. */
export function currentPrecision(): Precision {
  return engineBackend()?.precision ?? 'float32';
}

/** As descriptions of policies say it: nothing for float32, so that runs from before there was a choice go on. */
export function describePrecision(precision: Precision): { precision?: Precision } {
  return precision === 'float32' ? {} : { precision };
}

/** Runs `compute`, which must be synchronous, with products in a precision. RangeError if the current backend lacks it. */
export function inPrecision<T>(precision: Precision, compute: () => T): T {
  const backend = engineBackend();
  if (!backend) {
    checkPrecision('precision', precision);
    return compute();
  }
  const before = backend.precision;
  backend.precision = precision;
  try {
    return compute();
  } finally {
    backend.precision = before;
  }
}

/** Whether `bfloat16Tensor` works on the current backend. */
export function storesBfloat16(): boolean {
  return engineBackend() !== undefined;
}

/** A tensor over values in bfloat16, which it keeps; float32 to tfjs. Only where the backend `storesBfloat16`. */
export function bfloat16Tensor(bits: Uint16Array, shape: readonly number[]): tf.Tensor {
  const backend = engineBackend()!;
  return tf.engine().makeTensorFromTensorInfo(backend.fromBfloat16(bits, shape), backend);
}
