// The clipped policy-gradient loss in ordinary TensorFlow.js operations, as one would write it without this package: the
// baseline of our benchmark. It materialises no more than it has to, and uses the faster of two ways where there are two.
//
// tfjs-core by itself registers no gradients on Node; tfjs-node does, and so does `registerGradients` here.

import { createRequire } from 'node:module';
import * as tf from '@tensorflow/tfjs-core';
import type { LossConfig } from '../../src/index.js';

type Values = Float32Array | Uint8Array | tf.Tensor;

export interface TfjsPolicyBatch {
  /** Log-probs of the behaviour policy, [B, T]; default: the policy's own, without a gradient. */
  oldLogProbs?: Values;
  /** Log-probs of the reference policy, [B, T]; required with a KL term. */
  refLogProbs?: Values;
  /** 1 where a token counts, [B, T]; default: everywhere. */
  mask?: Values;
  /** One per sequence, [B]. */
  advantages: Float32Array | tf.Tensor;
}

export interface TfjsLogitsBatch extends TfjsPolicyBatch {
  /** Chosen tokens, [B, T]. */
  tokens: Int32Array | tf.Tensor;
  /** Default 1. */
  temperature?: number;
}

/** Registers tfjs-core's gradients if no package has (its own module for that is ES syntax that only tsx can load). */
export function registerGradients(): void {
  if (tf.getGradient('Exp') === undefined) {
    createRequire(import.meta.url)('@tensorflow/tfjs-core/dist/register_all_gradients');
  }
}

registerGradients();

/**
 * Loss from logits [B, T, V]. Covers surrogate `clip` with `low` and `high`, ratios `token` and `sequence`, every
 * aggregation, KL k3 and the entropy bonus without quantile. Error for other configurations. `onEntropy` receives the mean
 * entropy as a metric, without a gradient.
 */
export function tfjsLogitsLoss(
  logits: tf.Tensor3D,
  batch: TfjsLogitsBatch,
  config: LossConfig,
  onEntropy?: (entropy: number) => void,
): tf.Scalar {
  const [sequences, length, vocab] = logits.shape;
  return tf.tidy(() => {
    const rows = tf.reshape(logits, [sequences * length, vocab]) as tf.Tensor2D;
    const scaled = batch.temperature === undefined ? rows : tf.div<tf.Tensor2D>(rows, batch.temperature);
    const all = tf.logSoftmax(scaled);
    const tokens = tf.reshape(asTensor(batch.tokens, [sequences, length]), [sequences * length]) as tf.Tensor1D;
    const logProbs = tf.reshape(chosen(all, tokens), [sequences, length]) as tf.Tensor2D;
    const loss = tfjsPolicyLoss(logProbs, batch, config);
    const meanEntropy = (values: tf.Tensor2D) => {
      const entropies = tf.reshape(tf.neg(tf.sum(tf.mul(tf.exp(values), values), 1)), [sequences, length]);
      return tokenMean(entropies as tf.Tensor2D, maskOf(batch, logProbs.shape));
    };
    if (onEntropy) onEntropy(meanEntropy(held(all)).dataSync()[0]);
    if (!config.entropy?.coefficient) return loss;
    return tf.sub(loss, tf.mul(config.entropy.coefficient, meanEntropy(all))) as tf.Scalar;
  });
}

/** Loss from token log-probs [B, T]; the same configurations, without entropy. */
export function tfjsPolicyLoss(logProbs: tf.Tensor2D, batch: TfjsPolicyBatch, config: LossConfig): tf.Scalar {
  const { surrogate, ratio = 'token', aggregation = 'token-mean', kl } = config;
  if (surrogate.kind !== 'clip' || ratio === 'sequence-token' || (kl && (kl.estimator ?? 'k3') !== 'k3')) {
    throw new Error('tfjs baseline: only clip, token and sequence ratios, and k3');
  }
  const shape = logProbs.shape;
  return tf.tidy(() => {
    const mask = maskOf(batch, shape);
    const old = batch.oldLogProbs ? asTensor(batch.oldLogProbs, shape) : held(logProbs);
    const logRatio = tf.mul(tf.sub(logProbs, old), mask);
    const ratios = tf.exp(ratio === 'token' ? logRatio : perSequenceMean(logRatio as tf.Tensor2D, mask));
    const advantages = asTensor(batch.advantages, [shape[0], 1]);
    const clipped = tf.clipByValue(ratios, 1 - surrogate.low, 1 + surrogate.high);
    // [B, 1] for a sequence ratio: it broadcasts over the tokens below.
    let losses: tf.Tensor = tf.neg(tf.minimum(tf.mul(ratios, advantages), tf.mul(clipped, advantages)));
    if (kl?.beta) {
      if (!batch.refLogProbs) throw new Error('tfjs baseline: refLogProbs are missing');
      const difference = tf.sub(asTensor(batch.refLogProbs, shape), logProbs);
      losses = tf.add(losses, tf.mul(kl.beta, tf.sub(tf.sub(tf.exp(difference), difference), 1)));
    }
    return aggregate(losses, mask, aggregation, config.maxLength);
  });
}

/** Group advantages of rewards [P, G], normalised by the group's standard deviation, optionally with HA-DW weights. */
export function tfjsAdvantages(
  rewards: tf.Tensor2D,
  { epsilon, hadw }: { epsilon: number; hadw?: { anchor: number; scale: number } },
): tf.Tensor2D {
  return tf.tidy(() => {
    const mean = tf.mean(rewards, 1, true);
    const centred = tf.sub(rewards, mean);
    const variance = tf.div(tf.sum(tf.square(centred), 1, true), rewards.shape[1] - 1);
    const advantages = tf.div<tf.Tensor2D>(centred, tf.add(tf.sqrt(variance), epsilon));
    if (!hadw) return advantages;
    const exponent = tf.mul(tf.sign(advantages), tf.sub(hadw.anchor, mean));
    return tf.mul<tf.Tensor2D>(advantages, tf.mul(hadw.scale, tf.exp(exponent)));
  });
}

/** Values of the chosen tokens, [N], from [N, V]. */
function chosen(all: tf.Tensor2D, tokens: tf.Tensor1D): tf.Tensor1D {
  const [rows, vocab] = all.shape;
  // Gathering avoids a one-hot matrix and a product of the logits' size, but its gradient, a scattered sum, has no kernel
  // in WebAssembly and a quadratic one on the cpu backend; and indices are int32.
  if (tf.getBackend() === 'tensorflow' && rows * vocab < 2 ** 31) {
    const indices = tf.add(tf.mul(tf.range(0, rows, 1, 'int32'), tf.scalar(vocab, 'int32')), tokens);
    return tf.gather(tf.reshape(all, [rows * vocab]), tf.cast(indices, 'int32')) as tf.Tensor1D;
  }
  return tf.sum(tf.mul(all, tf.cast(tf.oneHot(tokens, vocab), 'float32')), 1);
}

function aggregate(losses: tf.Tensor, mask: tf.Tensor2D, aggregation: LossConfig['aggregation'], maxLength?: number) {
  const [sequences, length] = mask.shape;
  const masked = tf.mul<tf.Tensor2D>(losses, mask);
  switch (aggregation) {
    case 'sequence-mean':
      return tf.mean(tf.div(tf.sum(masked, 1, true), counts(mask))) as tf.Scalar;
    case 'sequence-sum':
      return tf.div<tf.Scalar>(tf.sum(masked), sequences);
    case 'constant':
      return tf.div<tf.Scalar>(tf.sum(masked), sequences * (maxLength ?? length));
    default:
      return tf.div<tf.Scalar>(tf.sum(masked), tf.maximum(tf.sum(mask), 1));
  }
}

function tokenMean(values: tf.Tensor2D, mask: tf.Tensor2D): tf.Tensor {
  return tf.div(tf.sum(tf.mul(values, mask)), tf.maximum(tf.sum(mask), 1));
}

/** [B, 1]; `masked` is 0 at masked tokens. */
function perSequenceMean(masked: tf.Tensor2D, mask: tf.Tensor2D): tf.Tensor2D {
  return tf.div(tf.sum(masked, 1, true), counts(mask));
}

/** Tokens of each sequence, at least 1: [B, 1]. */
function counts(mask: tf.Tensor2D): tf.Tensor2D {
  return tf.maximum(tf.sum(mask, 1, true), 1);
}

function maskOf({ mask }: TfjsPolicyBatch, shape: [number, number]): tf.Tensor2D {
  return mask ? (tf.cast(asTensor(mask, shape), 'float32') as tf.Tensor2D) : tf.ones(shape);
}

function asTensor(values: Values | Int32Array, shape: number[]): tf.Tensor {
  if (values instanceof tf.Tensor) return tf.reshape(values, shape);
  return tf.tensor(values, shape, values instanceof Float32Array ? 'float32' : 'int32');
}

/** x without its gradient. */
function held<T extends tf.Tensor>(x: T): T {
  return tf.customGrad((given) => ({ value: tf.clone(given as T), gradFunc: (dy) => tf.zerosLike(dy) }))(x) as T;
}
