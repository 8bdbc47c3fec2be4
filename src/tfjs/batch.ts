// The inputs of the losses besides logits or log-probs, as arrays or tensors.

import * as tf from '@tensorflow/tfjs-core';
import { rangeError, typeError } from '../base/check.js';
import type { Metrics } from '../devices/plan.js';
import type { LogitsResult, PolicyResult } from '../loss/losses.js';
import type { AdvantageConfig, LossConfig } from '../loss/option-types.js';
import type { LogitsInput, Rewards, RunOptions, TokenInput } from '../loss/request.js';

export type Floats = Float32Array | tf.Tensor;
/**
 * Typed arrays are row-major and checked by their length. A tensor is checked by its shape: per-token values have shape [B, T] or
 * [B*T], per-sequence values [B], each optionally with a trailing dimension of 1. Any other layout, such as [T, B], is a
 * RangeError.
 */
type Tensors<T> = Omit<T, 'shape' | 'mask' | 'oldLogProbs' | 'refLogProbs' | 'advantages' | 'tokenWeights'> & {
  /** B and T. Required if the tensor's shape does not imply them: logits of shape [B*T, V], log-probs of shape [B*T]. */
  shape?: { sequences: number; length: number };
  /** One value per token; a tensor may have dtype bool, int32 or float32. */
  mask?: Uint8Array | tf.Tensor | undefined;
  /** One value per token; a float32 tensor. */
  oldLogProbs?: Floats | undefined;
  /** One value per token; a float32 tensor. */
  refLogProbs?: Floats | undefined;
  /** One value per sequence or per token; a float32 tensor. */
  advantages?: Floats | undefined;
  /** One value per token; a float32 tensor. */
  tokenWeights?: Floats | undefined;
};

/** Inputs of `policyLoss` besides the log-probs: the fields of the host API, as typed arrays or tensors. */
export type PolicyBatch = Tensors<TokenInput>;

/** Inputs of `grpoLoss` besides the logits: the fields of the host API, as typed arrays or tensors. */
export type GrpoBatch = Tensors<Omit<LogitsInput, 'logits' | 'dtype' | 'tokens'>> & {
  /** The chosen token of each row of logits; a tensor must be int32. Row t holds the logits that token t was drawn from. */
  tokens: Int32Array | tf.Tensor;
};

/** What a call computes besides the loss and its gradient. */
export type GrpoReport = Omit<LogitsResult, 'gradLogits'>;
export type PolicyReport = Omit<PolicyResult, 'gradLogProbs'>;

/** A loss and its gradient: a tensor of the input's shape, or its values. */
export interface Differentiated {
  loss: tf.Scalar;
  gradient: tf.Tensor | Float32Array;
}

/** A batch whose shape is known. */
export type Shaped<Batch, Shape> = Omit<Batch, 'shape'> & { shape: Shape };

/** How a loss is computed from a tensor; implemented in arrays.ts and operations.ts. */
export type Compute<Input, Options extends RunOptions, Report> = (
  x: tf.Tensor,
  input: Input,
  config: LossConfig,
  options: Options,
  onResult: ((report: Report) => void) | undefined,
) => Differentiated;

export type LogitsCompute = Compute<
  Shaped<GrpoBatch, LogitsInput['shape']>,
  RunOptions & { inPlace?: boolean },
  GrpoReport
>;
export type PolicyCompute = Compute<Shaped<PolicyBatch, TokenInput['shape']>, RunOptions, PolicyReport>;

/** One value per reward or group, as in the host API; tensors of rank 1. */
export interface AdvantageTensors {
  advantages: tf.Tensor1D;
  weights: tf.Tensor1D;
  groupMean: tf.Tensor1D;
  groupStd: tf.Tensor1D;
  /** dtype bool. */
  active: tf.Tensor1D;
}

export type AdvantageCompute = (
  rewards: Rewards,
  config: AdvantageConfig,
  options: RunOptions,
) => { tensors: AdvantageTensors; accuracy: number; metrics: Metrics };

export function requireFloat(field: string, tensor: tf.Tensor): void {
  if (!(tensor instanceof tf.Tensor)) throw typeError(field, 'a tensor', tensor);
  if (tensor.dtype !== 'float32') throw rangeError(field, 'a float32 tensor', `dtype ${tensor.dtype}`);
}

const perToken = ['tokens', 'mask', 'oldLogProbs', 'refLogProbs', 'tokenWeights'] as const;

/**
 * Rejects tensors with the expected number of values in another layout, such as [T, B] instead of [B, T]. A wrong number of
 * values is reported later, as for typed arrays.
 */
export function checkLayouts(
  batch: Partial<Record<string, unknown>>,
  { sequences, length }: TokenInput['shape'],
): void {
  const tokens = [[sequences, length], [sequences * length]];
  for (const field of perToken) checkLayout(field, batch[field], tokens);
  checkLayout('advantages', batch.advantages, [[sequences], ...tokens]);
}

/** A tensor must have one of the shapes, optionally with a trailing dimension of 1, as produced by a gather. */
export function checkLayout(field: string, value: unknown, shapes: readonly number[][]): void {
  if (!(value instanceof tf.Tensor)) return;
  const dimensions: number[] = value.shape;
  const accepted = shapes.some(
    (shape) =>
      shape.every((size, axis) => size === dimensions[axis]) &&
      (dimensions.length === shape.length || (dimensions.length === shape.length + 1 && dimensions.at(-1) === 1)),
  );
  const sizes = shapes.map((shape) => shape.reduce((product, size) => product * size, 1));
  if (accepted || !sizes.includes(value.size)) return;
  const expected = shapes.filter((_, i) => sizes[i] === value.size).map(shapeText);
  throw rangeError(field, `a tensor of shape ${[...new Set(expected)].join(' or ')}`, shapeText(dimensions));
}

export function shapeText(shape: readonly number[]): string {
  return `[${shape.join(', ')}]`;
}

/** Ids as an array, which must not be modified. */
export function readInts(field: string, value: Int32Array | tf.Tensor): Int32Array {
  if (!(value instanceof tf.Tensor)) return value;
  if (value.dtype !== 'int32') throw rangeError(field, 'an int32 tensor', `dtype ${value.dtype}`);
  return value.dataSync() as Int32Array;
}

/** The mask as an array, which must not be modified: non-zero where a token counts. */
export function readMask(mask: Uint8Array | tf.Tensor | undefined): Uint8Array | undefined {
  if (!(mask instanceof tf.Tensor)) return mask;
  const values = mask.dataSync();
  if (values instanceof Uint8Array) return values;
  const bytes = new Uint8Array(values.length);
  for (let i = 0; i < values.length; i++) bytes[i] = values[i] === 0 ? 0 : 1;
  return bytes;
}
