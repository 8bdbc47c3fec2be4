// What the native kernels share.

import { type Attribute, type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { EngineBackend } from '../backend.js';

export interface Arguments {
  inputs: Record<string, TensorInfo>;
  backend: EngineBackend;
  attrs: Record<string, Attribute>;
}

/**
 * A native kernel by its tfjs name. Returns undefined if it does not support the given types or shapes; then the CPU backend's
 * kernel runs.
 */
export type Kernel = (args: Arguments) => TensorInfo | TensorInfo[] | undefined;
export type Kernels = Readonly<Record<string, Kernel>>;

/** Inputs of a kernel that takes a list. */
export function listOf(inputs: Record<string, TensorInfo>): TensorInfo[] {
  return Object.values(inputs);
}

export const sizeOf = (shape: readonly number[]): number => util.sizeFromShape([...shape]);

/** Strides of a dense tensor, one per axis. */
export function stridesOf(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  for (let axis = shape.length - 1, stride = 1; axis >= 0; stride *= shape[axis--]) strides[axis] = stride;
  return strides;
}

/**
 * A box with the strides of its operands; axes that are contiguous in all of them are merged, and axes of size 1 dropped; at
 * least one axis remains.
 */
export function mergeAxes(shape: readonly number[], operands: readonly (readonly number[])[]) {
  const merged: number[] = [];
  const strides = operands.map((): number[] => []);
  for (let axis = 0; axis < shape.length; axis++) {
    if (shape[axis] === 1) continue;
    const last = merged.length - 1;
    const together = last >= 0 && operands.every((of, i) => strides[i][last] === of[axis] * shape[axis]);
    if (together) merged[last] *= shape[axis];
    else merged.push(shape[axis]);
    strides.forEach((of, i) => {
      if (together) of[last] = operands[i][axis];
      else of.push(operands[i][axis]);
    });
  }
  if (merged.length === 0) {
    merged.push(1);
    for (const of of strides) of.push(0);
  }
  return { shape: merged, strides };
}

export const isFloat = (...tensors: readonly TensorInfo[]): boolean => tensors.every((t) => t.dtype === 'float32');
