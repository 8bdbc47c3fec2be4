// The losses on any tfjs backend: values are read into typed arrays, and the results become tensors again.

import * as tf from '@tensorflow/tfjs-core';
import {
  computeAdvantages as hostAdvantages,
  logitsLoss as hostLogitsLoss,
  policyLoss as hostPolicyLoss,
} from '../loss/losses.js';
import type { TokenInput } from '../loss/request.js';
import {
  type AdvantageCompute,
  type Floats,
  type LogitsCompute,
  type PolicyBatch,
  type PolicyCompute,
  readInts,
  readMask,
  requireFloat,
} from './batch.js';

export const logitsLoss: LogitsCompute = (x, batch, config, options, onResult) => {
  const { inPlace = false, ...run } = options;
  const input = {
    ...batch,
    ...tokenArrays(batch),
    logits: x.dataSync() as Float32Array,
    tokens: readInts('tokens', batch.tokens),
  };
  const { gradLogits, ...report } = hostLogitsLoss(input, config, { ...run, inPlace: inPlace || readsCopies() });
  onResult?.(report);
  return { loss: tf.scalar(report.loss), gradient: gradLogits as Float32Array };
};

export const policyLoss: PolicyCompute = (x, batch, config, options, onResult) => {
  const input = { ...batch, ...tokenArrays(batch), logProbs: x.dataSync() as Float32Array };
  const { gradLogProbs, ...report } = hostPolicyLoss(input, config, options);
  onResult?.(report);
  return { loss: tf.scalar(report.loss), gradient: gradLogProbs as Float32Array };
};

export const computeAdvantages: AdvantageCompute = (rewards, config, options) => {
  const { accuracy, metrics, advantages, weights, groupMean, groupStd, active } = hostAdvantages(
    rewards,
    config,
    options,
  );
  return {
    tensors: {
      advantages: tf.tensor1d(advantages),
      weights: tf.tensor1d(weights),
      groupMean: tf.tensor1d(groupMean),
      groupStd: tf.tensor1d(groupStd),
      active: tf.tensor1d(active, 'bool'),
    },
    accuracy,
    metrics,
  };
};

/**
 * Whether `dataSync` always returns a copy that may be overwritten. The cpu backend returns its own memory, and tfjs-node that
 * of the typed array that a tensor was created from.
 */
function readsCopies(): boolean {
  return tf.getBackend() === 'wasm';
}

type TensorField = 'mask' | 'oldLogProbs' | 'refLogProbs' | 'advantages' | 'tokenWeights';

/** The fields common to all losses, with tensors read into typed arrays. */
function tokenArrays(batch: Omit<PolicyBatch, 'shape'>): { [K in TensorField]: TokenInput[K] } {
  const { mask, oldLogProbs, refLogProbs, advantages, tokenWeights } = batch;
  return {
    mask: readMask(mask),
    oldLogProbs: readFloats('oldLogProbs', oldLogProbs),
    refLogProbs: readFloats('refLogProbs', refLogProbs),
    advantages: readFloats('advantages', advantages),
    tokenWeights: readFloats('tokenWeights', tokenWeights),
  };
}

function readFloats(field: string, value: Floats | undefined): Float32Array | undefined {
  if (!(value instanceof tf.Tensor)) return value;
  requireFloat(field, value);
  return value.dataSync() as Float32Array;
}
