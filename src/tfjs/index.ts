// The fused loss as a differentiable TensorFlow.js operation, on any backend: values go through typed arrays, and the
// gradient that the same call computes is handed to TensorFlow.js's tape.

import * as tf from '@tensorflow/tfjs-core';
import { checkObject, rangeError, typeError } from '../loss/check.js';
import type { LossConfig } from '../loss/config.js';
import { policyLoss as hostPolicyLoss, type LogitsResult, logitsLoss, type PolicyResult } from '../loss/losses.js';
import { checkOptions, type LogitsInput, type RunOptions, type TokenInput } from '../loss/request.js';

export { definePolicy, type PolicyDefinition } from '../policy/define.js';
export type { Decoder, Policy, SequenceBatch } from '../policy/policy.js';

type Floats = Float32Array | tf.Tensor;
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

export interface LossOptions<Report> extends RunOptions {
  /** Called once a forward pass, before the loss is returned, with metrics and, from logits, log-probs and entropies. */
  onResult?: (report: Report) => void;
}

/**
 * The loss from logits.
 * @param logits float32, [B, T, V], or [B*T, V] with `batch.shape`.
 * @returns A scalar that `tf.variableGrads`, `tf.valueAndGrads` and optimisers differentiate with respect to `logits`;
 *   nothing else in `batch` gets a gradient. Second derivatives are not supported.
 * @throws TypeError or RangeError that names the field, what was expected and what came.
 */
export function grpoLoss(
  logits: tf.Tensor,
  batch: GrpoBatch,
  config: LossConfig,
  options: LossOptions<GrpoReport> = {},
): tf.Scalar {
  checkObject('batch', batch);
  const { onResult, ...run } = checkReporting(options);
  const shape = logitsShape(logits, batch.shape);
  const input = {
    ...hostInput(batch),
    shape,
    tokens: toInts('tokens', batch.tokens),
  };
  return differentiable(logits, (values) => {
    const inPlace = readsCopies();
    const { gradLogits, ...report } = logitsLoss({ ...input, logits: values }, config, { ...run, inPlace });
    onResult?.(report);
    return { loss: report.loss, gradient: gradLogits };
  });
}

/**
 * The loss from token log-probs.
 * @param logProbs float32, [B, T], or any shape of B*T values with `batch.shape`.
 * @returns A scalar, differentiable with respect to `logProbs`.
 * @throws TypeError or RangeError that names the field, what was expected and what came.
 */
export function policyLoss(
  logProbs: tf.Tensor,
  batch: PolicyBatch,
  config: LossConfig,
  options: LossOptions<PolicyReport> = {},
): tf.Scalar {
  checkObject('batch', batch);
  const { onResult, ...run } = checkReporting(options);
  requireFloat('logProbs', logProbs);
  const shape = batch.shape ?? tokensShape(logProbs);
  const input = { ...hostInput(batch), shape };
  return differentiable(logProbs, (values) => {
    const { gradLogProbs, ...report } = hostPolicyLoss({ ...input, logProbs: values }, config, run);
    onResult?.(report);
    return { loss: report.loss, gradient: gradLogProbs };
  });
}

/** A scalar whose gradient with respect to `x` was computed together with its value. */
function differentiable(
  x: tf.Tensor,
  compute: (values: Float32Array) => { loss: number; gradient: Float32Array },
): tf.Scalar {
  const operation = tf.customGrad((...inputs) => {
    const [tensor, save] = inputs as unknown as [tf.Tensor, (tensors: tf.Tensor[]) => void];
    const { loss, gradient } = compute(tensor.dataSync() as Float32Array);
    save([tf.tensor(gradient, tensor.shape, 'float32')]);
    const gradFunc = (dy: tf.Tensor, [saved]: tf.Tensor[]) => {
      // Nearly always 1: reading one number is cheaper than another pass over the gradient.
      const upstream = dy.dataSync()[0];
      return upstream === 1 ? tf.clone(saved) : tf.mul(saved, upstream);
    };
    return { value: tf.scalar(loss), gradFunc: gradFunc as (dy: tf.Tensor, saved: tf.Tensor[]) => tf.Tensor };
  });
  return operation(x) as tf.Scalar;
}

/**
 * Whether `dataSync` always gives a copy that may be written to. The cpu backend hands out its own memory, and tfjs-node that
 * of the typed array from which a tensor was made.
 */
function readsCopies(): boolean {
  return tf.getBackend() === 'wasm';
}

function checkReporting<Report>(options: unknown): LossOptions<Report> {
  const o = checkOptions(options, ['device', 'threads', 'onResult']);
  if (o.onResult !== undefined && typeof o.onResult !== 'function') {
    throw typeError('options.onResult', 'a function', o.onResult);
  }
  return o;
}

function requireFloat(field: string, tensor: tf.Tensor): void {
  if (!(tensor instanceof tf.Tensor)) throw typeError(field, 'a tensor', tensor);
  if (tensor.dtype !== 'float32') throw rangeError(field, 'a float32 tensor', `dtype ${tensor.dtype}`);
}

function logitsShape(logits: tf.Tensor, given: GrpoBatch['shape']): LogitsInput['shape'] {
  requireFloat('logits', logits);
  const dimensions: number[] = logits.shape;
  const came = `[${dimensions.join(', ')}]`;
  if (logits.rank === 3) {
    const [sequences, length, vocab] = dimensions;
    if (given && (given.sequences !== sequences || given.length !== length)) {
      throw rangeError('logits', `the shape [${given.sequences}, ${given.length}, V] of batch.shape`, came);
    }
    return { sequences, length, vocab };
  }
  if (logits.rank !== 2) throw rangeError('logits', 'shape [B, T, V] or [B*T, V]', came);
  if (!given) throw typeError('shape', 'B and T, because logits of rank 2 do not tell', given);
  return { sequences: given.sequences, length: given.length, vocab: dimensions[1] };
}

function tokensShape(logProbs: tf.Tensor): { sequences: number; length: number } {
  if (logProbs.rank !== 2) {
    throw rangeError('logProbs', 'shape [B, T], or batch.shape beside it', `[${logProbs.shape.join(', ')}]`);
  }
  const [sequences, length]: number[] = logProbs.shape;
  return { sequences, length };
}

/** The fields that every loss reads, with tensors read into typed arrays. */
function hostInput(batch: PolicyBatch): Omit<TokenInput, 'shape'> {
  const { mask, oldLogProbs, refLogProbs, advantages, tokenWeights, ...rest } = batch;
  return {
    ...rest,
    mask: mask instanceof tf.Tensor ? Uint8Array.from(mask.dataSync(), (m) => (m ? 1 : 0)) : mask,
    oldLogProbs: toFloats('oldLogProbs', oldLogProbs),
    refLogProbs: toFloats('refLogProbs', refLogProbs),
    advantages: toFloats('advantages', advantages),
    tokenWeights: toFloats('tokenWeights', tokenWeights),
  };
}

function toFloats(field: string, value: Floats | undefined): Float32Array | undefined {
  if (!(value instanceof tf.Tensor)) return value;
  requireFloat(field, value);
  return value.dataSync() as Float32Array;
}

function toInts(field: string, value: Int32Array | tf.Tensor): Int32Array {
  if (!(value instanceof tf.Tensor)) return value;
  if (value.dtype !== 'int32') throw rangeError(field, 'an int32 tensor', `dtype ${value.dtype}`);
  return value.dataSync() as Int32Array;
}
