// From a caller's arguments to a device's plan: every check, every default, every conversion of an input. Anything that may run
// the caller's code (getters, proxies, elements of an array of rewards) is read before any typed array is checked, so that no
// array can be detached between its check and its use.

import {
  type ArrayTypes,
  checkArray,
  checkChoice,
  checkKeys,
  checkLength,
  checkNumber,
  checkObject,
  describe,
  isTypedArray,
  typeError,
} from '../base/check.js';
import { DeviceArray, type DeviceDtype } from '../devices/device-array.js';
import type { DeviceChoice } from '../devices/devices.js';
import { chunkRowsFor } from '../devices/linear.js';
import {
  type AdvantageOutput,
  type AdvantagePlan,
  type LinearPlan,
  type LogitsBackwardPlan,
  type LogitsDtype,
  type LogitsPlan,
  type LogitsSettings,
  logitsDtypes,
  type PolicyPlan,
  type TokenFields,
  type TokenPlan,
  type TokenSettings,
} from '../devices/plan.js';
import type { LossPlan } from '../devices/settings.js';
import { callFields, dimension, maxDimension, resolveAdvantage, resolveLoss } from './config.js';
import type { AdvantageConfig, CallOptions } from './option-types.js';

/**
 * The inputs of a loss besides log-probs or logits. Per-token arrays hold B*T values, row-major. With `D` DeviceArray, any array
 * may be a DeviceArray of the same type, for device 'cuda'; results are placed where `logProbs` or `logits` are, group statistics
 * where `rewards` are.
 */
export interface TokenInput<D = never> {
  /** B and T. */
  shape: { sequences: number; length: number };
  /** Log-probs under the behaviour policy. Default: those of this call (ratio 1, gradient kept). */
  oldLogProbs?: Float32Array | D | undefined;
  /** Log-probs under the reference policy; required if kl.beta is not 0. */
  refLogProbs?: Float32Array | D | undefined;
  /** Non-zero: the token counts. Default: all do. The other values of a masked token do not matter. */
  mask?: Uint8Array | D | undefined;
  /** B values (one per sequence) or B*T (one per token). Exactly one of `advantages` and `rewards`. */
  advantages?: Float32Array | D | undefined;
  /** One per sequence: advantages are computed from them in the same call. */
  rewards?: Rewards | D | undefined;
  /** How advantages are computed from `rewards`. */
  advantage?: AdvantageConfig | undefined;
  /** Sampler-mismatch weights that multiply the surrogate. */
  tokenWeights?: Float32Array | D | undefined;
  /** Aggregation `token-mean`: the token count of the whole accumulation window over all processes; default: this batch's. */
  normalizer?: number;
  /** The number of sequences of the whole accumulation window over all processes; default: this batch's. */
  sequences?: number;
}

export interface PolicyInput<D = never> extends TokenInput<D> {
  /** Log-probs of the tokens under the policy: B*T. */
  logProbs: Float32Array | D;
  /**
   * Entropies of the distributions that the tokens were drawn from, in nats, B*T: required for an entropy term or
   * `topQuantile`.
   */
  entropies?: Float32Array | D | undefined;
}

export interface LogitsInput<D = never> extends TokenInput<D>, Pick<CallOptions, 'temperature'> {
  /** B, T, V, and the distance between two rows where the vocabulary is padded (default V). */
  shape: { sequences: number; length: number; vocab: number; rowStride?: number };
  /** B*T*rowStride values: Float32Array, or Uint16Array with dtype 'bfloat16' or 'float16', or a DeviceArray. */
  logits: Float32Array | Uint16Array | D;
  /** Default: the DeviceArray's, else 'float32'. */
  dtype?: LogitsDtype;
  /** The chosen token of each row: B*T ids below `vocab`. In a DeviceArray an invalid id makes the loss NaN. */
  tokens: Int32Array | D;
}

/** Rows of logits, and the gradient with respect to each row's log-prob and entropy. Per-row arrays hold N values. */
export interface LogitsBackwardInput<D = never> extends Pick<CallOptions, 'temperature'> {
  /** N, V, and the distance between two rows where the vocabulary is padded (default V). */
  shape: { rows: number; vocab: number; rowStride?: number };
  /** N*rowStride values: Float32Array, or Uint16Array with dtype 'bfloat16' or 'float16', or a DeviceArray. */
  logits: Float32Array | Uint16Array | D;
  /** Default: the DeviceArray's, else 'float32'. */
  dtype?: LogitsDtype;
  /** The chosen token of each row: ids below `vocab`. In a DeviceArray an invalid id makes its row NaN. */
  tokens: Int32Array | D;
  /** Non-zero: the row counts; the gradient of other rows is 0. Default: all do. */
  mask?: Uint8Array | D | undefined;
  /** ∂loss/∂ℓ of each row's token. */
  gradLogProbs: Float32Array | D;
  /** ∂loss/∂H of each row's entropy. Default: 0. */
  gradEntropies?: Float32Array | D | undefined;
}

/** Hidden states of a model's last layer, and the unembedding matrix that turns them into logits. */
export interface LinearInput extends TokenInput, Pick<CallOptions, 'temperature' | 'softCap'> {
  /** B, T, D and V. */
  shape: { sequences: number; length: number; hiddenSize: number; vocab: number };
  /** [B, T, D]: row b * T + t gives the logits of token t of sequence b. */
  hidden: Float32Array;
  /** [V, D]: the logits of a row are its dot products with these rows. */
  unembedding: Float32Array;
  /** The chosen token of each row: B*T ids below `vocab`. */
  tokens: Int32Array;
}

/** Rewards in any of these forms; NaN means "no verdict". */
export type Rewards = Float32Array | Float64Array | readonly number[];

export interface RunOptions extends Pick<CallOptions, 'threads'> {
  /** Default 'auto': 'cuda' for a DeviceArray, and 'cpu' ('reference' without an addon) for typed arrays. */
  device?: DeviceChoice;
}

interface GradientOptions extends RunOptions, Pick<CallOptions, 'lossScale'> {}

interface LossOptions extends GradientOptions, Pick<CallOptions, 'gradient' | 'metrics'> {}

export interface LinearOptions extends Omit<LossOptions, 'gradient' | 'lossScale'>, Pick<CallOptions, 'chunkRows'> {
  /** Default 'auto': 'cpu', or 'reference' without an addon. 'cuda' is rejected: it has no matrix products. */
  device?: DeviceChoice;
  /** Default true: with respect to both. False: only the loss and its metrics. */
  gradient?: boolean | 'hidden' | 'unembedding';
}

export interface PolicyOptions<D = never> extends LossOptions {
  /** Where to write the gradient (B*T values) instead of into a new array. */
  gradLogProbs?: Float32Array | D;
}

/** Where the gradient with respect to logits is written. */
interface LogitsGradientOptions<D> extends Pick<CallOptions, 'inPlace' | 'zeroed'> {
  /** Where to write the gradient (layout and type of `logits`) instead of into a new array. */
  gradLogits?: Float32Array | Uint16Array | D;
}

export interface LogitsOptions<D = never> extends LossOptions, LogitsGradientOptions<D> {}

export interface LogitsBackwardOptions<D = never> extends GradientOptions, LogitsGradientOptions<D> {}

const deviceDtype = {
  Float32Array: ['float32'],
  Float64Array: ['float64'],
  Int32Array: ['int32'],
  Uint8Array: ['uint8'],
  Uint16Array: ['bfloat16', 'float16'],
} as const satisfies Record<keyof ArrayTypes, readonly DeviceDtype[]>;

/**
 * A typed array of one kind or, on the CUDA device, a DeviceArray of the same type, which a plan holds in its place: only that
 * device's own functions read it.
 */
function checkPlaced<K extends keyof ArrayTypes>(
  field: string,
  value: unknown,
  kind: K,
  onCuda: boolean,
  length?: number,
  shape?: string,
): ArrayTypes[K] {
  if (!(value instanceof DeviceArray)) return checkArray(field, value, kind, length, shape);
  if (!onCuda) throw typeError(field, `a ${kind} (a DeviceArray needs options.device 'cuda' or 'auto')`, value);
  const dtypes: readonly string[] = deviceDtype[kind];
  if (!dtypes.includes(value.dtype)) {
    throw new TypeError(`${field}: expected a DeviceArray of ${dtypes.join(' or ')}, got one of ${value.dtype}`);
  }
  if (value.freed) throw new TypeError(`${field}: expected a DeviceArray that holds memory, got one that was freed`);
  if (length !== undefined) checkLength(field, value.length, length, shape);
  return value as unknown as ArrayTypes[K];
}

/** The DeviceArrays that `place` has made in the current call. */
let placed: DeviceArray[] = [];

/** Runs a call; if it fails, the memory allocated for its results is freed at once. */
export function freeingOnError<T>(call: () => T): T {
  placed = [];
  try {
    return call();
  } catch (error) {
    for (const array of placed) array.free();
    throw error;
  } finally {
    placed = [];
  }
}

/** A new array for results, placed where `beside` is. */
function place<K extends keyof ArrayTypes>(beside: unknown, kind: K, length: number): ArrayTypes[K] {
  if (beside instanceof DeviceArray) {
    const dtype = kind === 'Uint16Array' ? beside.dtype : deviceDtype[kind][0];
    const array = DeviceArray.allocate(dtype, length);
    placed.push(array);
    return array as unknown as ArrayTypes[K];
  }
  return new { Float32Array, Float64Array, Int32Array, Uint8Array, Uint16Array }[kind](length) as ArrayTypes[K];
}

/** Rewards as float64, checked to be finite or NaN. Those on the device stay there. */
function checkRewards(field: string, value: unknown, onCuda: boolean): Float64Array {
  if (value instanceof DeviceArray && value.dtype === 'float32') {
    return checkPlaced(field, value, 'Float32Array', onCuda) as unknown as Float64Array;
  }
  if (value instanceof DeviceArray) return checkPlaced(field, value, 'Float64Array', onCuda);
  let rewards: Float64Array;
  if (Array.isArray(value)) {
    const numbers: number[] = [];
    for (let i = 0; i < value.length; i++) {
      const reward: unknown = value[i];
      if (typeof reward !== 'number') throw typeError(`${field}[${i}]`, 'a number', reward);
      numbers.push(reward);
    }
    rewards = new Float64Array(numbers);
  } else if (isTypedArray(value, 'Float32Array')) {
    rewards = new Float64Array(checkArray(field, value, 'Float32Array'));
  } else if (isTypedArray(value, 'Float64Array')) {
    rewards = new Float64Array(checkArray(field, value, 'Float64Array'));
  } else {
    throw typeError(field, 'a Float32Array, a Float64Array or an array of numbers', value);
  }
  if (rewards.length === 0) throw new RangeError(`${field}: expected at least one reward, got none`);
  const infinite = rewards.findIndex((r) => r === Infinity || r === -Infinity);
  if (infinite >= 0) {
    throw new RangeError(
      `${field}[${infinite}]: expected a finite reward, or NaN for no verdict, got ${rewards[infinite]}`,
    );
  }
  return rewards;
}

function isFloat32(rewards: unknown): boolean {
  return rewards instanceof DeviceArray ? rewards.dtype === 'float32' : isTypedArray(rewards, 'Float32Array');
}

function groupOffsets(
  field: string,
  { groupSize, groupSizes }: { groupSize: number | undefined; groupSizes: unknown },
  rewards: number,
): Int32Array {
  if ((groupSize === undefined) === (groupSizes === undefined)) {
    throw new TypeError(
      `${field}: expected exactly one of groupSize and groupSizes, got ${groupSize === undefined ? 'neither' : 'both'}`,
    );
  }
  if (groupSize !== undefined) {
    if (rewards % groupSize !== 0) {
      throw new RangeError(`${field}.groupSize: expected a divisor of the ${rewards} rewards, got ${groupSize}`);
    }
    return Int32Array.from({ length: rewards / groupSize + 1 }, (_, g) => g * groupSize);
  }
  const sizes = checkArray(`${field}.groupSizes`, groupSizes, 'Int32Array');
  const offsets = new Int32Array(sizes.length + 1);
  let end = 0;
  for (let g = 0; g < sizes.length; g++) {
    dimension.resolve(`${field}.groupSizes[${g}]`, sizes[g]);
    end += sizes[g];
    if (end > rewards) break;
    offsets[g + 1] = end;
  }
  if (end !== rewards) {
    throw new RangeError(
      `${field}.groupSizes: expected sizes that add up to the ${rewards} rewards, got ${end > rewards ? 'more' : end}`,
    );
  }
  return offsets;
}

/** `onCuda`: whether arrays may be DeviceArrays. `fields`: the arguments' names in messages. */
export function planAdvantages(
  rewards: unknown,
  config: unknown,
  onCuda = false,
  fields = { rewards: 'rewards', config: 'config' },
): { plan: AdvantagePlan; output: AdvantageOutput } {
  const settings = resolveAdvantage(fields.config, config);
  const values = checkRewards(fields.rewards, rewards, onCuda);
  const anchor: unknown = settings.hadw?.anchor;
  if (anchor instanceof DeviceArray) {
    checkPlaced(`${fields.config}.hadw.anchor`, anchor, 'Float64Array', onCuda, 1);
    if (!(rewards instanceof DeviceArray)) {
      throw typeError(`${fields.config}.hadw.anchor`, 'a number, because the rewards are on the host', anchor);
    }
  }
  const offsets = groupOffsets(fields.config, settings, values.length);
  const groups = offsets.length - 1;
  return {
    plan: { rewards: values, offsets, singlePrecision: isFloat32(rewards), settings },
    output: {
      advantages: place(rewards, 'Float32Array', values.length),
      weights: place(rewards, 'Float32Array', values.length),
      groupMean: place(rewards, 'Float32Array', groups),
      groupStd: place(rewards, 'Float32Array', groups),
      active: place(rewards, 'Uint8Array', groups),
    },
  };
}

const tokenFields = [
  'shape',
  'oldLogProbs',
  'refLogProbs',
  'mask',
  'advantages',
  'rewards',
  'advantage',
  'tokenWeights',
  'normalizer',
  'sequences',
] as const;

/** Fields of a loss from log-probs, without `entropies`. */
export const policyFields = [...tokenFields, 'logProbs'] as const;

/** How a per-token field is checked, and what the plan then holds: arrays here, tensors in src/tfjs. */
export interface FieldKind<Floats, Bytes> {
  /** `shape` explains the length: "4 sequences x 32". */
  floats(field: string, value: unknown, length?: number, shape?: string): Floats;
  bytes(field: string, value: unknown, length: number, shape: string): Bytes;
  lengthOf(values: Floats): number;
  /** Whether rewards may be a DeviceArray. */
  onCuda: boolean;
}

const arrays = (onCuda: boolean): FieldKind<Float32Array, Uint8Array> => ({
  floats: (field, value, length, shape) => checkPlaced(field, value, 'Float32Array', onCuda, length, shape),
  bytes: (field, value, length, shape) => checkPlaced(field, value, 'Uint8Array', onCuda, length, shape),
  lengthOf: ({ length }) => length,
  onCuda,
});

function planTokens<Floats, Bytes>(
  input: Record<string, unknown>,
  loss: LossPlan,
  options: Record<string, unknown>,
  sequences: number,
  length: number,
  kind: FieldKind<Floats, Bytes>,
): TokenSettings & TokenFields<Floats, Bytes> {
  const signal = planSignal(input, sequences, length, kind);
  const tokens = sequences * length;
  const shape = `${sequences} sequences x ${length}`;
  const floats = (field: (typeof tokenFields)[number]) => {
    const value = input[field];
    return value === undefined || value === null ? null : kind.floats(field, value, tokens, shape);
  };
  const { mask, normalizer, sequences: globalSequences } = input;

  const refLogProbs = floats('refLogProbs');
  if (loss.kl.beta !== 0 && refLogProbs === null) {
    throw new TypeError(`refLogProbs: expected a Float32Array because config.kl.beta is ${loss.kl.beta}, got nothing`);
  }
  return {
    sequences,
    length,
    oldLogProbs: floats('oldLogProbs'),
    refLogProbs,
    mask: mask === undefined || mask === null ? null : kind.bytes('mask', mask, tokens, shape),
    ...signal,
    tokenWeights: floats('tokenWeights'),
    normalizer: checkDenominator('normalizer', normalizer),
    globalSequences: checkDenominator('sequences', globalSequences),
    loss,
    metrics: callFields.metrics.resolve('options.metrics', options.metrics),
    lossScale: checkLossScale(options),
    threads: checkThreads(options.threads),
  };
}

function checkLossScale({ lossScale, gradient }: Record<string, unknown>): number {
  if (lossScale !== undefined && gradient === false) {
    throw new TypeError('options.lossScale: expected it only without gradient: false');
  }
  return callFields.lossScale.resolve('options.lossScale', lossScale);
}

/** A count over a whole accumulation window; an empty window divides by 1. NaN: this batch decides. */
function checkDenominator(field: string, value: unknown): number {
  return value === undefined ? NaN : Math.max(1, checkNumber(field, value, { min: 0 }));
}

export function checkThreads(value: unknown): number {
  return callFields.threads.resolve('options.threads', value);
}

/** Advantages, or the rewards to compute them from. */
function planSignal<Floats>(
  input: Record<string, unknown>,
  sequences: number,
  length: number,
  kind: FieldKind<Floats, unknown>,
): Pick<TokenSettings, 'advantagesPerToken' | 'advantage'> & Pick<TokenFields<Floats, unknown>, 'advantages'> {
  const { advantages, rewards, advantage } = input;
  if ((advantages === undefined) === (rewards === undefined)) {
    const came = rewards === undefined ? 'neither' : 'both';
    throw new TypeError(`advantages: expected exactly one of advantages and rewards, got ${came}`);
  }
  if (rewards !== undefined) {
    const fused = planAdvantages(rewards, advantage, kind.onCuda, { rewards: 'rewards', config: 'advantage' });
    checkLength('rewards', fused.plan.rewards.length, sequences, 'one per sequence');
    return { advantages: null, advantagesPerToken: false, advantage: fused };
  }
  if (advantage !== undefined) throw new TypeError('advantage: expected it only together with rewards, got advantages');
  const values = kind.floats('advantages', advantages);
  const perToken = kind.lengthOf(values) !== sequences;
  if (perToken) {
    checkLength(
      'advantages',
      kind.lengthOf(values),
      sequences * length,
      `${sequences} sequences, or ${sequences} x ${length}`,
    );
  }
  return { advantages: values, advantagesPerToken: perToken, advantage: null };
}

export function checkOptions(options: unknown, known: readonly string[]): Record<string, unknown> {
  const o = { ...checkObject('options', options) };
  checkKeys('options', o, known);
  return o;
}

/** The plan of a loss from log-probs, without the log-probs and entropies. Their length is B*T. */
export function planPolicyTokens<Floats, Bytes>(
  input: Record<string, unknown>,
  config: unknown,
  options: Record<string, unknown>,
  kind: FieldKind<Floats, Bytes>,
  hasEntropies = false,
): TokenSettings & TokenFields<Floats, Bytes> {
  checkKeys('', input, policyFields);
  const s = { ...checkObject('shape', input.shape) };
  checkKeys('shape', s, ['sequences', 'length']);
  const sequences = dimension.resolve('shape.sequences', s.sequences);
  const length = dimension.resolve('shape.length', s.length);
  const loss = resolveLoss(config, length);
  if (!hasEntropies && (loss.entropy.coefficient !== 0 || loss.entropy.topQuantile !== 1)) {
    throw new RangeError('config.entropy: expected no entropy term, because entropies need logits: use logitsLoss');
  }
  return planTokens(input, loss, options, sequences, length, kind);
}

/** `onCuda` here and below: whether arrays may be DeviceArrays. */
export function planPolicy(input: unknown, config: unknown, options: unknown = {}, onCuda = false): PolicyPlan {
  const { entropies: given, ...i } = checkObject('input', input);
  const o = checkOptions(options, ['device', 'threads', 'gradient', 'metrics', 'lossScale', 'gradLogProbs']);
  const hasEntropies = given !== undefined && given !== null;
  const plan = planPolicyTokens(i, config, o, arrays(onCuda), hasEntropies);
  const { sequences, length } = plan;
  const shape = `${sequences} sequences x ${length}`;
  const floats = (field: string, value: unknown) =>
    checkPlaced(field, value, 'Float32Array', onCuda, sequences * length, shape);
  const logProbs = floats('logProbs', i.logProbs);
  const entropies = hasEntropies ? floats('entropies', given) : null;
  const gradLogProbs = policyGradient(o, logProbs, onCuda);
  if (gradLogProbs !== null) {
    checkApart('options.gradLogProbs', gradLogProbs, { logProbs, entropies, ...tokenInputs(plan) });
  }
  const wantsEntropies = gradLogProbs !== null && plan.loss.entropy.coefficient !== 0;
  const gradEntropies = wantsEntropies ? place(logProbs, 'Float32Array', logProbs.length) : null;
  return { ...plan, logProbs, entropies, gradLogProbs, gradEntropies };
}

function policyGradient(
  options: Record<string, unknown>,
  logProbs: Float32Array,
  onCuda: boolean,
): Float32Array | null {
  const { gradient, gradLogProbs: given } = options;
  if (!callFields.gradient.resolve('options.gradient', gradient)) {
    if (given !== undefined) throw new TypeError('options.gradLogProbs: expected it only without gradient: false');
    return null;
  }
  if (given === undefined) return place(logProbs, 'Float32Array', logProbs.length);
  return checkPlaced('options.gradLogProbs', given, 'Float32Array', onCuda, logProbs.length);
}

/** The plan of a loss from logits, without logits and tokens. */
export function planLogitsTokens<Floats, Bytes>(
  input: Record<string, unknown>,
  config: unknown,
  options: Record<string, unknown>,
  kind: FieldKind<Floats, Bytes>,
): LogitsSettings & TokenFields<Floats, Bytes> {
  checkKeys('', input, [...tokenFields, 'logits', 'dtype', 'tokens', 'temperature']);
  const s = { ...checkObject('shape', input.shape) };
  checkKeys('shape', s, ['sequences', 'length', 'vocab', 'rowStride']);
  const sequences = dimension.resolve('shape.sequences', s.sequences);
  const length = dimension.resolve('shape.length', s.length);
  const layout = planLayout(s, input);
  const plan = planTokens(input, resolveLoss(config, length), options, sequences, length, kind);
  return { ...plan, ...layout };
}

/** The settings common to rows of logits. */
function planLayout(
  shape: Record<string, unknown>,
  input: Record<string, unknown>,
): Pick<LogitsSettings, 'vocab' | 'rowStride' | 'dtype' | 'temperature'> {
  const vocab = dimension.resolve('shape.vocab', shape.vocab);
  const rowStride =
    shape.rowStride === undefined
      ? vocab
      : checkNumber('shape.rowStride', shape.rowStride, { min: vocab, max: maxDimension, integer: true });
  const dtype = logitsDtype(input.dtype, input.logits);
  return { vocab, rowStride, dtype, temperature: checkTemperature(input.temperature) };
}

export function checkTemperature(value: unknown): number {
  return callFields.temperature.resolve('temperature', value);
}

/** B*T ids, each within the vocabulary if its token is masked in. Ids on the device are checked there. */
export function checkTokens(
  value: unknown,
  mask: Uint8Array | null,
  { sequences, length, vocab }: Pick<LogitsSettings, 'sequences' | 'length' | 'vocab'>,
  onCuda = false,
): Int32Array {
  return checkIds(value, mask, vocab, sequences * length, `${sequences} sequences x ${length}`, onCuda);
}

function checkIds(
  value: unknown,
  mask: Uint8Array | null,
  vocab: number,
  rows: number,
  shape: string | undefined,
  onCuda: boolean,
): Int32Array {
  const tokens = checkPlaced('tokens', value, 'Int32Array', onCuda, rows, shape);
  if (isOnDevice(tokens) || isOnDevice(mask)) return tokens;
  for (let row = 0; row < tokens.length; row++) {
    if ((mask === null || mask[row] !== 0) && (tokens[row] < 0 || tokens[row] >= vocab)) {
      throw new RangeError(`tokens[${row}]: expected an id from 0 to ${vocab - 1}, got ${tokens[row]}`);
    }
  }
  return tokens;
}

export function planLogits(input: unknown, config: unknown, options: unknown = {}, onCuda = false): LogitsPlan {
  const i = { ...checkObject('input', input) };
  const o = checkOptions(options, [
    'device',
    'threads',
    'gradient',
    'metrics',
    'lossScale',
    'inPlace',
    'gradLogits',
    'zeroed',
  ]);
  const plan = planLogitsTokens(i, config, o, arrays(onCuda));
  const { sequences, length, rowStride } = plan;
  const rows = sequences * length;
  const shape = `${sequences} sequences x ${length} x ${rowStride}`;
  const logits = checkLogits(i.logits, plan, rows, shape, onCuda);
  const tokens = checkTokens(i.tokens, plan.mask, plan, onCuda);
  const gradient = planLogitsGradient(o, logits, shape, { tokens, ...tokenInputs(plan) }, onCuda);
  return {
    ...plan,
    logits,
    tokens,
    ...gradient,
    logProbs: place(logits, 'Float32Array', rows),
    entropies: place(logits, 'Float32Array', rows),
  };
}

export function planLogitsBackward(input: unknown, options: unknown = {}, onCuda = false): LogitsBackwardPlan {
  const i = { ...checkObject('input', input) };
  const o = checkOptions(options, ['device', 'threads', 'lossScale', 'inPlace', 'gradLogits', 'zeroed']);
  checkKeys('', i, ['shape', 'logits', 'dtype', 'tokens', 'temperature', 'mask', 'gradLogProbs', 'gradEntropies']);
  const s = { ...checkObject('shape', i.shape) };
  checkKeys('shape', s, ['rows', 'vocab', 'rowStride']);
  const rows = dimension.resolve('shape.rows', s.rows);
  const layout = planLayout(s, i);
  const settings = { lossScale: checkLossScale(o), threads: checkThreads(o.threads) };
  const optional = <K extends 'Uint8Array' | 'Float32Array'>(field: string, kind: K): ArrayTypes[K] | null => {
    const value = i[field];
    return value === undefined || value === null ? null : checkPlaced(field, value, kind, onCuda, rows);
  };
  const mask = optional('mask', 'Uint8Array');
  const gradLogProbs = checkPlaced('gradLogProbs', i.gradLogProbs, 'Float32Array', onCuda, rows);
  const gradEntropies = optional('gradEntropies', 'Float32Array');
  const shape = `${rows} rows x ${layout.rowStride}`;
  const logits = checkLogits(i.logits, layout, rows, shape, onCuda);
  const tokens = checkIds(i.tokens, mask, layout.vocab, rows, undefined, onCuda);
  const inputs = { tokens, mask, gradLogProbs, gradEntropies };
  const { gradLogits, zeroed } = planLogitsGradient(o, logits, shape, inputs, onCuda);
  if (gradLogits === null) throw new Error('gradLogits: expected an array, got null');
  return { rows, ...layout, ...settings, ...inputs, logits, gradLogits, zeroed };
}

/** The plan of a loss from hidden states, without hidden states, unembedding and their gradients. `more`: names of these. */
export function planLinearTokens(
  input: Record<string, unknown>,
  config: unknown,
  options: Record<string, unknown>,
  more: readonly string[] = [],
): Omit<LinearPlan, 'hidden' | 'unembedding' | 'gradHidden' | 'gradUnembedding'> {
  checkKeys('', input, [...tokenFields, ...more, 'tokens', 'temperature', 'softCap']);
  const s = { ...checkObject('shape', input.shape) };
  checkKeys('shape', s, ['sequences', 'length', 'hiddenSize', 'vocab']);
  const sequences = dimension.resolve('shape.sequences', s.sequences);
  const length = dimension.resolve('shape.length', s.length);
  const hiddenSize = dimension.resolve('shape.hiddenSize', s.hiddenSize);
  const vocab = dimension.resolve('shape.vocab', s.vocab);
  const temperature = checkTemperature(input.temperature);
  const softCap = callFields.softCap.resolve('softCap', input.softCap);
  const chunkRows = callFields.chunkRows.resolve('options.chunkRows', options.chunkRows);
  const { metrics, threads } = options;
  const loss = resolveLoss(config, length);
  const plan = planTokens(input, loss, { metrics, threads }, sequences, length, arrays(false));
  return {
    ...plan,
    hiddenSize,
    vocab,
    temperature,
    softCap,
    tokens: checkTokens(input.tokens, plan.mask, { sequences, length, vocab }),
    chunkRows: chunkRowsFor(vocab, chunkRows),
    logProbs: new Float32Array(sequences * length),
    entropies: new Float32Array(sequences * length),
  };
}

export function planLinear(input: unknown, config: unknown, options: unknown = {}): LinearPlan {
  const i = { ...checkObject('input', input) };
  const o = checkOptions(options, ['device', 'threads', 'gradient', 'metrics', 'chunkRows']);
  const wanted = checkGradients(o.gradient);
  const plan = planLinearTokens(i, config, o, ['hidden', 'unembedding']);
  const { sequences, length, hiddenSize, vocab } = plan;
  const values = (field: 'hidden' | 'unembedding', rows: number, shape: string) =>
    checkArray(field, i[field], 'Float32Array', rows * hiddenSize, `${shape} x ${hiddenSize}`);
  const hidden = values('hidden', sequences * length, `${sequences} sequences x ${length}`);
  const unembedding = values('unembedding', vocab, String(vocab));
  return {
    ...plan,
    hidden,
    unembedding,
    gradHidden: wanted.hidden ? new Float32Array(hidden.length) : null,
    gradUnembedding: wanted.unembedding ? new Float32Array(unembedding.length) : null,
  };
}

function checkGradients(value: unknown): { hidden: boolean; unembedding: boolean } {
  if (value === undefined || typeof value === 'boolean') return { hidden: value ?? true, unembedding: value ?? true };
  if (typeof value !== 'string') {
    throw typeError('options.gradient', "a boolean, 'hidden' or 'unembedding'", value);
  }
  const one = checkChoice('options.gradient', value, ['hidden', 'unembedding']);
  return { hidden: one === 'hidden', unembedding: one === 'unembedding' };
}

const arrayOf = { float32: 'Float32Array', bfloat16: 'Uint16Array', float16: 'Uint16Array' } as const;

function checkLogits(
  value: unknown,
  { dtype, rowStride }: Pick<LogitsSettings, 'dtype' | 'rowStride'>,
  rows: number,
  shape: string,
  onCuda: boolean,
): Float32Array | Uint16Array {
  return checkPlaced('logits', value, arrayOf[dtype], onCuda, rows * rowStride, shape);
}

/** Where the gradient with respect to logits is written: over them, into a given array, or into a new one. */
function planLogitsGradient(
  options: Record<string, unknown>,
  logits: Float32Array | Uint16Array,
  shape: string,
  inputs: Readonly<Record<string, ArrayBufferView | null>>,
  onCuda: boolean,
): Pick<LogitsPlan, 'gradLogits' | 'zeroed'> {
  const { gradLogits: given } = options;
  const inPlace = callFields.inPlace.resolve('options.inPlace', options.inPlace);
  const gradient = callFields.gradient.resolve('options.gradient', options.gradient);
  if (given !== undefined && (inPlace || !gradient)) {
    throw new TypeError(`options.gradLogits: expected it only without ${inPlace ? 'inPlace' : 'gradient: false'}`);
  }
  if (inPlace && !gradient)
    throw new TypeError('options.inPlace: expected false together with gradient: false, got true');

  const kind =
    isTypedArray(logits, 'Float32Array') || (logits as unknown as DeviceArray).dtype === 'float32'
      ? 'Float32Array'
      : 'Uint16Array';
  let gradLogits: LogitsPlan['gradLogits'] = null;
  if (inPlace) gradLogits = logits;
  else if (given !== undefined) {
    gradLogits = checkPlaced('options.gradLogits', given, kind, onCuda, logits.length, shape);
    checkSameType(gradLogits, logits);
  } else if (gradient) gradLogits = place(logits, kind, logits.length);
  const zeroed = callFields.zeroed.resolve('options.zeroed', options.zeroed);
  if (zeroed && given === undefined) {
    throw new TypeError('options.zeroed: expected it only together with options.gradLogits, got true');
  }

  if (gradLogits !== null) {
    const same =
      gradLogits === logits ||
      (gradLogits.buffer === logits.buffer && gradLogits.byteOffset === logits.byteOffset && !isOnDevice(logits));
    if (same && zeroed)
      throw new TypeError('options.zeroed: expected false where the gradient overwrites the logits, got true');
    checkApart(inPlace ? 'logits' : 'options.gradLogits', gradLogits, same ? inputs : { logits, ...inputs });
  }
  const isNew = gradLogits !== null && !inPlace && given === undefined;
  return { gradLogits, zeroed: zeroed || (isNew && !isOnDevice(logits)) };
}

function isOnDevice(array: unknown): boolean {
  return array instanceof DeviceArray;
}

function logitsDtype(given: unknown, logits: unknown): LogitsDtype {
  const held = logits instanceof DeviceArray ? logits.dtype : undefined;
  if (given === undefined && held === undefined) return 'float32';
  const dtype = checkChoice(given === undefined ? 'logits.dtype' : 'dtype', given ?? held, logitsDtypes);
  if (held !== undefined && held !== dtype) {
    throw new RangeError(`dtype: expected the logits' own, ${describe(held)}, got ${describe(dtype)}`);
  }
  return dtype;
}

/** On the host float16 and bfloat16 are both Uint16Arrays. */
function checkSameType(gradient: unknown, logits: unknown): void {
  if (gradient instanceof DeviceArray && logits instanceof DeviceArray && gradient.dtype !== logits.dtype) {
    throw new TypeError(`options.gradLogits: expected a DeviceArray of ${logits.dtype}, got one of ${gradient.dtype}`);
  }
}

function tokenInputs(plan: TokenPlan): Readonly<Record<string, ArrayBufferView | null>> {
  const { mask, oldLogProbs, refLogProbs, tokenWeights, advantages } = plan;
  return { mask, oldLogProbs, refLogProbs, tokenWeights, advantages };
}

/** Output must not overlap input: a token id overwritten with a piece of a gradient would no longer be an id. */
function checkApart(
  field: string,
  written: ArrayBufferView,
  others: Readonly<Record<string, ArrayBufferView | null>>,
): void {
  for (const [name, other] of Object.entries(others)) {
    if (other !== null && isOnDevice(written) && other === written) {
      throw new RangeError(`${field}: expected memory apart from ${name}, got the same DeviceArray`);
    }
    if (
      other !== null &&
      !isOnDevice(written) &&
      !isOnDevice(other) &&
      other.buffer === written.buffer &&
      other.byteOffset < written.byteOffset + written.byteLength &&
      written.byteOffset < other.byteOffset + other.byteLength
    ) {
      throw new RangeError(`${field}: expected memory apart from ${name}, got an overlapping range`);
    }
  }
}
