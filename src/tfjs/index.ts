// The fused loss as a differentiable TensorFlow.js operation: inside TensorFlow where tfjs's backend is tfjs-node's
// (operations.ts), through typed arrays on any other (arrays.ts). The gradient that the same call computes is passed to
// TensorFlow.js's tape.

import * as tf from '@tensorflow/tfjs-core';

// The types of the methods that chained.ts adds.
export type {} from '@tensorflow/tfjs-core/dist/public/chained_ops/register_all_chained_ops.js';

import { checkBoolean, checkKeys, checkObject, rangeError, typeError } from '../base/check.js';
import type { DeviceChoice } from '../devices/devices.js';
import type { Metrics } from '../devices/plan.js';
import type { AdvantageConfig, LossConfig } from '../loss/option-types.js';
import {
  checkOptions,
  checkThreads,
  type LogitsInput,
  policyFields,
  type Rewards,
  type RunOptions,
} from '../loss/request.js';
import * as arrays from './arrays.js';
import {
  type AdvantageTensors,
  checkLayout,
  checkLayouts,
  type GrpoBatch,
  type GrpoReport,
  type PolicyBatch,
  type PolicyReport,
  requireFloat,
  shapeText,
} from './batch.js';
import { addChainedOperations } from './chained.js';
import { differentiable } from './differentiable.js';
import { registerGradients } from './gradients.js';
import * as operations from './operations.js';

// At import, because tfjs looks for an operation's gradient while the model runs, before the loss is called.
registerGradients();
addChainedOperations();

export type { AdvantageTensors, GrpoBatch, GrpoReport, PolicyBatch, PolicyReport } from './batch.js';
export { type TfjsBridge, tfjsBridge } from './operations.js';

export interface LossOptions<Report> extends RunOptions {
  /** Called once per forward pass, before the loss is returned, with metrics and, from logits, log-probs and entropies. */
  onResult?: (report: Report) => void;
}

export interface GrpoOptions extends LossOptions<GrpoReport> {
  /**
   * Default false. True: the gradient may overwrite the logits, which saves memory and time if the backend allows it. Nothing
   * may read the logits afterwards: no other term of the loss, no gradient that is computed from the output of the operation that
   * made them (tanh, relu and softmax have such gradients; matMul, add, gather and reshape do not), and no variable or array that
   * shares their memory.
   */
  inPlace?: boolean;
}

/**
 * The loss from logits.
 * @param logits float32, [B, T, V], or [B*T, V] with `batch.shape`. Rows are in the order of sequences: row b * T + t of
 *   [B*T, V] belongs to token t of sequence b.
 * @param batch Its tensors have shape [B, T] or [B*T] for per-token values (`tokens`, `mask`, `oldLogProbs`, `refLogProbs`,
 *   `tokenWeights`, `advantages`), or [B] for per-sequence advantages, optionally with a trailing dimension of 1. Any other shape,
 *   such as [T, B], is an error, whatever its size. Typed arrays are row-major and checked by length.
 * @returns A scalar that `tf.variableGrads`, `tf.valueAndGrads` and optimisers differentiate with respect to `logits`;
 *   nothing else in `batch` gets a gradient. Second derivatives are not supported.
 * @throws TypeError or RangeError that names the field, what was expected and what was given.
 */
export function grpoLoss(
  logits: tf.Tensor,
  batch: GrpoBatch,
  config: LossConfig,
  options: GrpoOptions = {},
): tf.Scalar {
  checkObject('batch', batch);
  const { onResult, inPlace, ...run } = checkReporting<GrpoOptions>(options, ['inPlace']);
  const settings = { ...run, inPlace: inPlace === undefined ? false : checkBoolean('options.inPlace', inPlace) };
  if (settings.inPlace && logits instanceof tf.Variable) {
    throw new TypeError('options.inPlace: expected false, because the logits are a variable, got true');
  }
  const input = { ...batch, shape: logitsShape(logits, batch.shape) };
  checkLayouts(input, input.shape);
  const way = operationsFor(run.device);
  const compute = way ? operations.logitsLoss(way) : arrays.logitsLoss;
  return differentiable(logits, (x) => compute(x, input, config, settings, onResult));
}

/**
 * The loss from token log-probs.
 * @param logProbs float32, [B, T]; with `batch.shape` also [B*T]; optionally with a trailing dimension of 1.
 * @param batch Its tensors have the shapes that `grpoLoss` takes.
 * @returns A scalar, differentiable with respect to `logProbs`.
 * @throws TypeError or RangeError that names the field, what was expected and what was given.
 */
export function policyLoss(
  logProbs: tf.Tensor,
  batch: PolicyBatch,
  config: LossConfig,
  options: LossOptions<PolicyReport> = {},
): tf.Scalar {
  checkKeys('', checkObject('batch', batch), policyFields);
  const { onResult, ...run } = checkReporting<LossOptions<PolicyReport>>(options, []);
  requireFloat('logProbs', logProbs);
  const input = { ...batch, shape: batch.shape ?? tokensShape(logProbs) };
  const { sequences, length } = checkObject('shape', input.shape) as typeof input.shape;
  checkLayout('logProbs', logProbs, [[sequences, length], [sequences * length]]);
  checkLayouts(input, { sequences, length });
  const way = operationsFor(run.device);
  const compute = way ? operations.policyLoss(way) : arrays.policyLoss;
  return differentiable(logProbs, (x) => compute(x, input, config, run, onResult));
}

/**
 * Group-relative advantages with optional HA-DW weights, as tensors: the host API's `computeAdvantages`.
 * @param rewards P*G values as an array, row-major (the G rewards of a prompt one after another), or a float32 tensor of shape
 *   [P*G] or [P, G], or of shape [N] with `groupSizes`, optionally with a trailing dimension of 1. NaN means "no verdict";
 *   infinities are an error.
 * @throws TypeError or RangeError that names the field, what was expected and what was given.
 */
export function computeAdvantages(
  rewards: Rewards | tf.Tensor,
  config: AdvantageConfig,
  options: RunOptions = {},
): AdvantageTensors & { accuracy: number; metrics: Metrics } {
  const run = checkOptions(options, ['device', 'threads']) as RunOptions;
  checkThreads(run.threads);
  if (rewards instanceof tf.Tensor) {
    requireFloat('rewards', rewards);
    checkLayout('rewards', rewards, rewardShapes(rewards.size, config));
  }
  const values = rewards instanceof tf.Tensor ? (rewards.dataSync() as Float32Array) : rewards;
  const way = operationsFor(run.device);
  const compute = way ? operations.computeAdvantages(way) : arrays.computeAdvantages;
  const scalars = { accuracy: NaN, metrics: {} as Metrics };
  const tensors = tf.tidy(() => {
    const { tensors, ...rest } = compute(values, config, run);
    Object.assign(scalars, rest);
    return tensors as AdvantageTensors & tf.NamedTensorMap;
  });
  return { ...tensors, ...scalars };
}

/** The operations on the current backend, if they compute on the requested device. */
function operationsFor(device: DeviceChoice = 'auto'): operations.Operations | null {
  const connection = operations.connect();
  return device === 'auto' || device === connection.operations?.device ? connection.operations : null;
}

function checkReporting<Options extends LossOptions<never>>(options: unknown, more: readonly string[]): Options {
  const o = checkOptions(options, ['device', 'threads', ...more, 'onResult']);
  if (o.onResult !== undefined && typeof o.onResult !== 'function') {
    throw typeError('options.onResult', 'a function', o.onResult);
  }
  return o as unknown as Options;
}

/** One group per row, or a flat list of rewards; groups of different sizes have no rows. A wrong config is rejected later. */
function rewardShapes(size: number, config: AdvantageConfig): number[][] {
  const groupSize: unknown = config?.groupSize;
  return typeof groupSize === 'number' ? [[size], [size / groupSize, groupSize]] : [[size]];
}

function logitsShape(logits: tf.Tensor, given: GrpoBatch['shape']): LogitsInput['shape'] {
  requireFloat('logits', logits);
  const dimensions: number[] = logits.shape;
  const came = shapeText(dimensions);
  if (logits.rank === 3) {
    const [sequences, length, vocab] = dimensions;
    if (given && (given.sequences !== sequences || given.length !== length)) {
      throw rangeError('logits', `the shape [${given.sequences}, ${given.length}, V] of batch.shape`, came);
    }
    return { sequences, length, vocab };
  }
  if (logits.rank !== 2) throw rangeError('logits', 'shape [B, T, V] or [B*T, V]', came);
  if (!given) throw typeError('shape', 'B and T, which logits of rank 2 do not determine', given);
  return { sequences: given.sequences, length: given.length, vocab: dimensions[1] };
}

function tokensShape(logProbs: tf.Tensor): { sequences: number; length: number } {
  if (logProbs.rank !== 2) {
    throw rangeError('logProbs', 'shape [B, T], or batch.shape to go with it', shapeText(logProbs.shape));
  }
  const [sequences, length]: number[] = logProbs.shape;
  return { sequences, length };
}
