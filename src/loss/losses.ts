// The public host API: advantages and losses over typed arrays.

import type { AdvantageConfig, LossConfig } from './config.js';
import { pickDevice } from './devices.js';
import type { AdvantageOutput, Metrics } from './plan.js';
import {
  checkOptions,
  checkThreads,
  type DeviceChoice,
  type LogitsInput,
  type LogitsOptions,
  type PolicyInput,
  type PolicyOptions,
  planAdvantages,
  planLogits,
  planPolicy,
  type Rewards,
  type RunOptions,
} from './request.js';

export interface AdvantageResult {
  /** One for each reward, HA-DW applied; 0 for a NaN reward. */
  advantages: Float32Array;
  /** HA-DW weights Φ, one for each reward; all 1 without `hadw`. */
  weights: Float32Array;
  /** Mean of each group's rewards; NaN for a group without a verdict. */
  groupMean: Float32Array;
  groupStd: Float32Array;
  /** 1 for each group with a non-zero advantage, else 0. */
  active: Uint8Array;
  /** Mean of all rewards with a verdict (what `DifficultyAnchor.observe` takes); NaN when there is none. */
  accuracy: number;
  /** `reward`, `reward_std`, `frac_reward_zero_std`, `nonFinite`, and with HA-DW `hadw/anchor`, `hadw/weight_mean|min|max`. */
  metrics: Metrics;
}

export interface LossResult {
  loss: number;
  /** Names and definitions: docs/losses.md. */
  metrics: Metrics;
  /** The advantages of a call that was given `rewards`. */
  advantage?: AdvantageResult;
}

export interface PolicyResult extends LossResult {
  /** ∂loss/∂logProbs, B*T; 0 at masked tokens. Left out with `gradient: false`. */
  gradLogProbs?: Float32Array;
}

export interface LogitsResult<L extends Float32Array | Uint16Array = Float32Array | Uint16Array> extends LossResult {
  /** ∂loss/∂logits in the layout and type of `logits`. Left out with `gradient: false`. */
  gradLogits?: L;
  /** Log-probs of the tokens, B*T; 0 at masked tokens. */
  logProbs: Float32Array;
  /** Entropies of softmax(logits / temperature) in nats, B*T; 0 at masked tokens. */
  entropies: Float32Array;
}

/**
 * Group-relative advantages with optional HA-DW weights (docs/losses.md, "Advantages").
 * @param rewards P*G values (or ragged groups); NaN means "no verdict", infinities are an error.
 * @throws TypeError or RangeError that names the field, what was expected and what came.
 */
export function computeAdvantages(
  rewards: Rewards,
  config: AdvantageConfig,
  options: RunOptions = {},
): AdvantageResult {
  const { device: choice, threads } = checkOptions(options, ['device', 'threads']);
  checkThreads(threads);
  const device = pickDevice(choice as DeviceChoice);
  const { plan, output } = planAdvantages(rewards, config);
  const { accuracy, metrics } = device.computeAdvantages(plan, output);
  return advantageResult(output, accuracy, metrics);
}

/**
 * The loss and its gradient from token log-probs.
 * @throws TypeError or RangeError that names the field, what was expected and what came.
 */
export function policyLoss(
  input: PolicyInput,
  config: LossConfig,
  options?: PolicyOptions & { gradient?: true },
): PolicyResult & { gradLogProbs: Float32Array };
export function policyLoss(input: PolicyInput, config: LossConfig, options?: PolicyOptions): PolicyResult;
export function policyLoss(input: PolicyInput, config: LossConfig, options: PolicyOptions = {}): PolicyResult {
  const device = pickDevice(options?.device);
  const plan = planPolicy(input, config, options);
  const { loss, metrics, accuracy } = device.policyLoss(plan);
  return {
    loss,
    metrics,
    ...(plan.gradLogProbs && { gradLogProbs: plan.gradLogProbs as Float32Array }),
    ...(plan.advantage && { advantage: advantageResult(plan.advantage.output, accuracy!, metrics) }),
  };
}

/**
 * The loss from logits: log-probs, entropies, loss, and the gradient with respect to the logits, in one call.
 * With `inPlace` the gradient takes the place of the logits and no second [B*T, V] array is made.
 * @throws TypeError or RangeError that names the field, what was expected and what came.
 */
export function logitsLoss<I extends LogitsInput>(
  input: I,
  config: LossConfig,
  options?: LogitsOptions & { gradient?: true },
): LogitsResult<I['logits']> & { gradLogits: I['logits'] };
export function logitsLoss<I extends LogitsInput>(
  input: I,
  config: LossConfig,
  options?: LogitsOptions,
): LogitsResult<I['logits']>;
export function logitsLoss(input: LogitsInput, config: LossConfig, options: LogitsOptions = {}): LogitsResult {
  const device = pickDevice(options?.device);
  const plan = planLogits(input, config, options);
  const { loss, metrics, accuracy } = device.logitsLoss(plan);
  return {
    loss,
    metrics,
    ...(plan.gradLogits && { gradLogits: plan.gradLogits as Float32Array | Uint16Array }),
    logProbs: plan.logProbs as Float32Array,
    entropies: plan.entropies as Float32Array,
    ...(plan.advantage && { advantage: advantageResult(plan.advantage.output, accuracy!, metrics) }),
  };
}

/** What a device computed into the arrays of a plan. */
export function advantageResult(output: AdvantageOutput, accuracy: number, metrics: Metrics): AdvantageResult {
  return { ...(output as Omit<AdvantageResult, 'accuracy' | 'metrics'>), accuracy, metrics };
}
