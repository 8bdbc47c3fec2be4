// The public host API: advantages and losses over typed arrays.

import { DeviceArray } from '../devices/device-array.js';
import { type DeviceChoice, pickDevice } from '../devices/devices.js';
import type { AdvantageOutput, LossScalars, Metrics } from '../devices/plan.js';
import type { AdvantageConfig, LossConfig } from './option-types.js';
import {
  checkOptions,
  checkThreads,
  freeingOnError,
  type LinearInput,
  type LinearOptions,
  type LogitsBackwardInput,
  type LogitsBackwardOptions,
  type LogitsInput,
  type LogitsOptions,
  type PolicyInput,
  type PolicyOptions,
  planAdvantages,
  planLinear,
  planLogits,
  planLogitsBackward,
  planPolicy,
  type Rewards,
  type RunOptions,
} from './request.js';

/** `A`: the type of the caller's array. Results are placed where it is. */
type Beside<A> = A extends DeviceArray ? DeviceArray : Float32Array;

/** `R`: the type of the rewards. */
export interface AdvantageResult<R = Rewards> {
  /** One per reward, with HA-DW applied; 0 for a NaN reward. */
  advantages: Beside<R>;
  /** Weights of HA-DW (Φ) or DGPO, one per reward; all 1 without `hadw` and `dqw`. */
  weights: Beside<R>;
  /** Mean of each group's rewards; NaN for a group without a verdict. */
  groupMean: Beside<R>;
  groupStd: Beside<R>;
  /** 1 for each group with a non-zero advantage, else 0. */
  active: R extends DeviceArray ? DeviceArray : Uint8Array;
  /** Mean of all rewards with a verdict (the input of `DifficultyAnchor.observe`); NaN if there is none. */
  accuracy: number;
  /** docs/metrics.md, "Rewards and advantages"; and `nonFinite`. */
  metrics: Metrics;
}

/** If all results are on a GPU, the call does not wait for them; reading `loss`, `metrics` or an accuracy does. */
export interface LossResult<D = never> {
  loss: number;
  /** Names and definitions: docs/metrics.md, "Losses". */
  metrics: Metrics;
  /** The advantages of a call that was given `rewards`. */
  advantage?: AdvantageResult<Rewards | D>;
}

export interface PolicyResult<L = Float32Array> extends LossResult<L extends DeviceArray ? DeviceArray : never> {
  /** ∂loss/∂logProbs, B*T; 0 at masked tokens. Omitted with `gradient: false`. */
  gradLogProbs?: Beside<L>;
  /** ∂loss/∂entropies, B*T, if there is an entropy term; 0 at tokens that are masked out or not kept. */
  gradEntropies?: Beside<L>;
}

export interface LogitsResult<L = LogitsInput['logits']>
  extends LossResult<L extends DeviceArray ? DeviceArray : never> {
  /** ∂loss/∂logits in the layout and type of `logits`. Left out with `gradient: false`. */
  gradLogits?: L;
  /** Log-probs of the tokens, B*T; 0 at masked tokens. */
  logProbs: Beside<L>;
  /** Entropies of softmax(logits / temperature) in nats, B*T; 0 at masked tokens. */
  entropies: Beside<L>;
}

/**
 * Group-relative advantages with optional HA-DW weights (docs/losses.md, "Advantages").
 * @param rewards P*G values (or ragged groups); NaN means "no verdict", infinities are an error.
 * @throws TypeError or RangeError that names the field, what was expected and what was given.
 */
export function computeAdvantages<R extends Rewards | DeviceArray>(
  rewards: R,
  config: AdvantageConfig,
  options: RunOptions = {},
): AdvantageResult<R> {
  const { device: choice, threads } = checkOptions(options, ['device', 'threads']);
  checkThreads(threads);
  const { device, isCuda } = pickDevice(choice as DeviceChoice, rewards instanceof DeviceArray);
  return freeingOnError(() => {
    const { plan, output } = planAdvantages(rewards, config, isCuda);
    return advantageResult(output, device.computeAdvantages(plan, output)) as AdvantageResult<R>;
  });
}

/**
 * The loss and its gradient from token log-probs, and from entropies if the configuration has an entropy term.
 * @throws TypeError or RangeError that names the field, what was expected and what was given.
 */
export function policyLoss<I extends PolicyInput<DeviceArray>>(
  input: I,
  config: LossConfig,
  options?: PolicyOptions<DeviceArray> & { gradient?: true },
): PolicyResult<I['logProbs']> & { gradLogProbs: Beside<I['logProbs']> };
export function policyLoss<I extends PolicyInput<DeviceArray>>(
  input: I,
  config: LossConfig,
  options?: PolicyOptions<DeviceArray>,
): PolicyResult<I['logProbs']>;
export function policyLoss(
  input: PolicyInput<DeviceArray>,
  config: LossConfig,
  options: PolicyOptions<DeviceArray> = {},
): PolicyResult<PolicyInput<DeviceArray>['logProbs']> {
  const { device, isCuda } = pickDevice(options?.device, holdsDeviceArray(input));
  return freeingOnError(() => {
    const plan = planPolicy(input, config, options, isCuda);
    return lossResult(device.policyLoss(plan), plan.advantage?.output, {
      ...(plan.gradLogProbs && { gradLogProbs: plan.gradLogProbs as Float32Array }),
      ...(plan.gradEntropies && { gradEntropies: plan.gradEntropies as Float32Array }),
    });
  });
}

/**
 * The loss from logits: log-probs, entropies, loss, and the gradient with respect to the logits, in one call.
 * With `inPlace` the gradient overwrites the logits, and no second [B*T, V] array is allocated.
 * @example
 * // float16 logits of 50,257 columns: most of an unscaled gradient would flush to zero.
 * const { gradLogits, metrics } = logitsLoss({ ...batch, dtype: 'float16' }, presets.dapo, { lossScale: 2 ** 24 });
 * if (metrics.nonFinite > 0) throw new Error('halve the scale'); // else divide 2 ** 24 out of the weights' gradients in float32
 * @throws TypeError or RangeError that names the field, what was expected and what was given.
 */
export function logitsLoss<I extends LogitsInput<DeviceArray>>(
  input: I,
  config: LossConfig,
  options?: LogitsOptions<DeviceArray> & { gradient?: true },
): LogitsResult<I['logits']> & { gradLogits: I['logits'] };
export function logitsLoss<I extends LogitsInput<DeviceArray>>(
  input: I,
  config: LossConfig,
  options?: LogitsOptions<DeviceArray>,
): LogitsResult<I['logits']>;
export function logitsLoss(
  input: LogitsInput<DeviceArray>,
  config: LossConfig,
  options: LogitsOptions<DeviceArray> = {},
): LogitsResult {
  const { device, isCuda } = pickDevice(options?.device, holdsDeviceArray(input));
  return freeingOnError(() => {
    const plan = planLogits(input, config, options, isCuda);
    return lossResult(device.logitsLoss(plan), plan.advantage?.output, {
      ...(plan.gradLogits && { gradLogits: plan.gradLogits as LogitsInput['logits'] }),
      logProbs: plan.logProbs as Float32Array,
      entropies: plan.entropies as Float32Array,
    });
  });
}

export interface LogitsBackwardResult<L = LogitsBackwardInput['logits']> {
  /** ∂loss/∂logits in the layout and type of `logits`. */
  gradLogits: L;
  /** `nonFinite` counts logits, given gradients, and values of the gradient beyond the range of their type. */
  metrics: Metrics;
}

/**
 * The backward pass from log-probs and entropies to logits, for given gradients. `logitsLoss` is equivalent to computing the
 * log-probs and entropies of its rows, then `policyLoss`, then this. Rows are independent, so they can be processed in chunks and
 * the logits need never be in memory as a whole. Rows that are masked out or whose gradients are 0 are not read.
 * @throws TypeError or RangeError that names the field, what was expected and what was given.
 * @example
 * const { logProbs, entropies } = logitsLoss({ ...batch, logits, tokens }, config, { gradient: false });
 * const { gradLogProbs, gradEntropies } = policyLoss({ ...batch, logProbs, entropies }, config);
 * const shape = { rows: tokens.length, vocab };
 * const { gradLogits } = logitsBackward({ shape, logits, tokens, gradLogProbs, gradEntropies }, { inPlace: true });
 */
export function logitsBackward<I extends LogitsBackwardInput<DeviceArray>>(
  input: I,
  options: LogitsBackwardOptions<DeviceArray> = {},
): LogitsBackwardResult<I['logits']> {
  const { device, isCuda } = pickDevice(options?.device, holdsDeviceArray(input));
  return freeingOnError(() => {
    const plan = planLogitsBackward(input, options, isCuda);
    const scalars = device.logitsBackward(plan);
    return {
      gradLogits: plan.gradLogits as I['logits'],
      get metrics() {
        return scalars.metrics;
      },
    };
  });
}

export interface LinearResult extends LossResult {
  /** ∂loss/∂hidden, [B, T, D]; 0 at masked tokens. With `gradient` true or 'hidden'. */
  gradHidden?: Float32Array;
  /** ∂loss/∂unembedding, [V, D]. With `gradient` true or 'unembedding'. */
  gradUnembedding?: Float32Array;
  /** Log-probs of the tokens, B*T; 0 at masked tokens. */
  logProbs: Float32Array;
  /** Entropies of softmax(logits / temperature) in nats, B*T; 0 at masked tokens. */
  entropies: Float32Array;
}

/**
 * The loss from the hidden states of a model's last layer and its unembedding, with both gradients: `logitsLoss` of
 * hidden · unembeddingᵀ, whose B*T*V logits and their gradient are never in memory as a whole. Logits are computed in chunks of
 * rows, twice: once for log-probs and entropies, and once, after the loss over all rows is known, for the gradient. That costs
 * one more matrix product than keeping the logits in memory. All ratios, KL terms, entropy terms, quantiles and metrics are
 * supported; rows that are masked out are not read, those without a gradient not read again. No bit depends on `chunkRows`. On
 * 'cpu' it computes in float32.
 * @throws TypeError or RangeError that names the field, what was expected and what was given; RangeError if `device` is 'cuda'.
 * @example
 * const { loss, gradHidden, gradUnembedding } = linearLoss(
 *   { shape: { sequences: 8, length: 512, hiddenSize: 896, vocab: 151936 }, hidden, unembedding, tokens, mask, oldLogProbs, advantages },
 *   presets.gspo,
 * );
 */
export function linearLoss(
  input: LinearInput,
  config: LossConfig,
  options?: LinearOptions & { gradient?: true },
): LinearResult & { gradHidden: Float32Array; gradUnembedding: Float32Array };
export function linearLoss(input: LinearInput, config: LossConfig, options?: LinearOptions): LinearResult;
export function linearLoss(input: LinearInput, config: LossConfig, options: LinearOptions = {}): LinearResult {
  const onCuda = options?.device === 'cuda' || holdsDeviceArray(input);
  const compute = onCuda ? null : pickDevice(options?.device).device.linearLoss;
  if (compute === null) {
    throw new RangeError(
      "options.device: expected 'cpu' or 'reference' and typed arrays, because groupgrad has no matrix products on CUDA: " +
        'call logitsLoss, policyLoss and logitsBackward on chunks of rows (docs/cuda.md)',
    );
  }
  const plan = planLinear(input, config, options);
  return lossResult(compute(plan), plan.advantage?.output, {
    ...(plan.gradHidden && { gradHidden: plan.gradHidden as Float32Array }),
    ...(plan.gradUnembedding && { gradUnembedding: plan.gradUnembedding as Float32Array }),
    logProbs: plan.logProbs as Float32Array,
    entropies: plan.entropies as Float32Array,
  });
}

function holdsDeviceArray(input: unknown): boolean {
  return typeof input === 'object' && input !== null && Object.values(input).some((v) => v instanceof DeviceArray);
}

/** Getters, because a device may still be computing the numbers. */
function lossResult<R extends object>(
  scalars: LossScalars & { accuracy?: number },
  advantage: AdvantageOutput | undefined,
  arrays: R,
): LossResult & R {
  return {
    get loss() {
      return scalars.loss;
    },
    get metrics() {
      return scalars.metrics;
    },
    ...arrays,
    ...(advantage && { advantage: advantageResult(advantage, scalars as { accuracy: number; metrics: Metrics }) }),
  };
}

/** The result from the arrays of a plan, which a device fills. */
export function advantageResult(
  output: AdvantageOutput,
  scalars: { accuracy: number; metrics: Metrics },
): AdvantageResult {
  return {
    ...(output as Omit<AdvantageResult, 'accuracy' | 'metrics'>),
    get accuracy() {
      return scalars.accuracy;
    },
    get metrics() {
      return scalars.metrics;
    },
  };
}
