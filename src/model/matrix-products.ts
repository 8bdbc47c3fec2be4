// Matrix products: with transposed factors, as backward passes need them, and with one-hot rows.

import * as tf from '@tensorflow/tfjs-core';
import { rangeError } from '../base/check.js';
import { fusedKernel } from './part.js';

// The WebAssembly backend has a fast kernel only for untransposed matrices: with its transposing kernel the backward pass takes
// an order of magnitude longer than with an explicit transpose. Other backends transpose at no cost.
const transposesFirst = () => tf.getBackend() === 'wasm';

/** a b, for a [N, K] and b [K, M]. */
export function matMul(a: tf.Tensor2D, b: tf.Tensor2D): tf.Tensor2D {
  return tf.matMul(a, b);
}

/** a bᵀ, for a [N, K] and b [M, K]. */
export function matMulTransposed(a: tf.Tensor2D, b: tf.Tensor2D): tf.Tensor2D {
  return transposesFirst() ? tf.matMul(a, tf.transpose(b)) : tf.matMul(a, b, false, true);
}

/** aᵀ b, for a [K, N] and b [K, M]. */
export function transposedMatMul(a: tf.Tensor2D, b: tf.Tensor2D): tf.Tensor2D {
  return transposesFirst() ? tf.matMul(tf.transpose(a), b) : tf.matMul(a, b, true, false);
}

/** How the product of a and b gets into memory that is there already. */
export interface Into {
  transposeA?: boolean;
  transposeB?: boolean;
  /** The product is added to what is there. */
  adds: boolean;
}

const intoKernel = 'groupgrad.multiplyInto';

/** Whether the current backend has `multiplyInto`. */
export const multipliesInto = () => fusedKernel(intoKernel) !== undefined;

/**
 * Writes a product to the memory of y, on backends that can. y is a tensor that nothing else uses, or one over memory of the
 * caller.
 *
 * Fused kernel: `groupgrad.multiplyInto` ({ y, a, b }, { transposeA, transposeB, adds }) → nothing. It is for backends that keep tensors
 * in the memory that they are given.
 */
export function multiplyInto(
  y: tf.Tensor2D,
  a: tf.Tensor2D,
  b: tf.Tensor2D,
  { transposeA = false, transposeB = false, adds }: Into,
): void {
  fusedKernel(intoKernel)!({ y, a, b }, { transposeA, transposeB, adds });
}

/** y + a bᵀ, for y [N, M], a [N, K] and b [M, K], in the memory of y where the backend can: y must not be used any more. */
export function plusMatMulTransposed(y: tf.Tensor2D, a: tf.Tensor2D, b: tf.Tensor2D): tf.Tensor2D {
  if (!multipliesInto()) return tf.add(y, matMulTransposed(a, b));
  multiplyInto(y, a, b, { transposeB: true, adds: true });
  return y;
}

/** A matrix b shared by many products a bᵀ: transposed once on backends that would transpose it each time. */
export interface SharedFactor {
  /** a bᵀ, for a [N, K] and the shared b [M, K]. */
  product(a: tf.Tensor2D): tf.Tensor2D;
  dispose(): void;
}

export function shareTransposed(b: tf.Tensor2D): SharedFactor {
  if (!transposesFirst()) return { product: (a) => matMulTransposed(a, b), dispose: () => {} };
  const transposed = tf.keep(tf.transpose(b)) as tf.Tensor2D;
  return { product: (a) => matMul(a, transposed), dispose: () => transposed.dispose() };
}

/**
 * [N, size] with a 1 in column indices[n] of row n. Computed here, because tf.oneHot writes the bits of integers on the
 * WebAssembly backend and rejects a size of 1. RangeError for an index out of range.
 */
export function oneHotRows(indices: Int32Array, size: number): tf.Tensor2D {
  const outside = indices.findIndex((index) => index < 0 || index >= size);
  if (outside >= 0) throw rangeError(`indices[${outside}]`, `an index below ${size}`, String(indices[outside]));
  return markedRows(indices, size);
}

/**
 * Selects parts of x, whose first dimension holds `count` equal parts, by `indices`; zeros for an index of −1. Exact for finite
 * x. The WebAssembly gather kernel copies value by value, so there a product with one-hot rows is used; elsewhere a product may
 * round its factors.
 */
export function takeParts<T extends tf.Tensor>(x: T, count: number, indices: Int32Array): T {
  const [first, ...rest] = x.shape;
  const rows: tf.Tensor2D = tf.reshape(x, [count, x.size / count]);
  const parts = tf.getBackend() === 'wasm' ? matMul(markedRows(indices, count), rows) : gatherRows(rows, indices);
  return tf.reshape(parts, [(first / count) * indices.length, ...rest]) as T;
}

/** Rows of x [N, D] by index; zeros for −1. */
function gatherRows(x: tf.Tensor2D, indices: Int32Array): tf.Tensor2D {
  const own = tf.tensor1d(
    indices.map((index) => Math.max(index, 0)),
    'int32',
  );
  const rows = tf.gather(x, own);
  if (!indices.includes(-1)) return rows;
  return tf.mul(
    rows,
    tf.tensor2d(
      Float32Array.from(indices, (index) => Number(index >= 0)),
      [indices.length, 1],
    ),
  );
}

/** [N, size] with a 1 in column indices[n] of row n; a row of zeros for −1. */
function markedRows(indices: Int32Array, size: number): tf.Tensor2D {
  const rows = new Float32Array(indices.length * size);
  indices.forEach((index, n) => {
    if (index >= 0) rows[n * size + index] = 1;
  });
  return tf.tensor2d(rows, [indices.length, size]);
}
