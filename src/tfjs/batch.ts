// What the losses read besides logits or log-probs, as TensorFlow.js users have it: arrays or tensors.

import * as tf from '@tensorflow/tfjs-core';
import { rangeError, typeError } from '../base/check.js';
import type { Metrics } from '../devices/plan.js';
import type { AdvantageConfig, LossConfig } from '../loss/config.js';
import type { LogitsResult, PolicyResult } from '../loss/losses.js';
import type { LogitsInput, Rewards, RunOptions, TokenInput } from '../loss/request.js';

export type Floats = Float32Array | tf.Tensor;
type Tensors<T> = Omit<T, 'shape' | 'mask' | 'oldLogProbs' | 'refLogProbs' | 'advantages' | 'tokenWeights'> & {
  /** B and T. Needed where the tensor does not tell: logits of shape [B*T, V]. */
  shape?: { sequences: number; length: number };
  mask?: Uint8Array | tf.Tensor;
  oldLogProbs?: Floats;
  refLogProbs?: Floats;
  advantages?: Floats;
  tokenWeights?: Floats;
};

/** What `policyLoss` reads besides the log-probs: as in the host API; arrays may be tensors. */
export type PolicyBatch = Tensors<TokenInput>;

/** What `grpoLoss` reads besides the logits: as in the host API; arrays may be tensors. */
export type GrpoBatch = Tensors<Omit<LogitsInput, 'logits' | 'dtype' | 'tokens'>> & {
  /** The chosen token of each row of logits: B*T ids. Row t holds the logits that token t was drawn from. */
  tokens: Int32Array | tf.Tensor;
};

/** What a call computed besides the loss and its gradient. */
export type GrpoReport = Omit<LogitsResult, 'gradLogits'>;
export type PolicyReport = Omit<PolicyResult, 'gradLogProbs'>;

/** A loss and its gradient: a tensor of the shape that the loss was taken of, or its values. */
export interface Differentiated {
  loss: tf.Scalar;
  gradient: tf.Tensor | Float32Array;
}

/** A batch whose shape is known. */
export type Shaped<Batch, Shape> = Omit<Batch, 'shape'> & { shape: Shape };

/** How one loss is computed from a tensor, on one of the ways: arrays.ts, operations.ts. */
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

/** One value for each reward or group: as in the host API, as tensors of rank 1. */
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

/** Ids as an array, whose values the caller may not change. */
export function readInts(field: string, value: Int32Array | tf.Tensor): Int32Array {
  if (!(value instanceof tf.Tensor)) return value;
  if (value.dtype !== 'int32') throw rangeError(field, 'an int32 tensor', `dtype ${value.dtype}`);
  return value.dataSync() as Int32Array;
}

/** The mask as an array, whose values the caller may not change: not 0 where a token counts. */
export function readMask(mask: Uint8Array | tf.Tensor | undefined): Uint8Array | undefined {
  if (!(mask instanceof tf.Tensor)) return mask;
  const values = mask.dataSync();
  if (values instanceof Uint8Array) return values;
  const bytes = new Uint8Array(values.length);
  for (let i = 0; i < values.length; i++) bytes[i] = values[i] === 0 ? 0 : 1;
  return bytes;
}
