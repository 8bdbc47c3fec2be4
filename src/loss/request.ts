// From what a caller passes to what a device receives: every check, every default, every conversion of an input.
// What may run the caller's code (getters, proxies, elements of an array of rewards) is read before any typed array is
// looked at, so that no array can be detached between its check and its use.

import {
  checkArray,
  checkBoolean,
  checkChoice,
  checkKeys,
  checkLength,
  checkNumber,
  checkObject,
  isTypedArray,
  typeError,
} from './check.js';
import { type AdvantageConfig, type LossPlan, resolveAdvantage, resolveLoss } from './config.js';
import type {
  AdvantageOutput,
  AdvantagePlan,
  LogitsDtype,
  LogitsPlan,
  LogitsSettings,
  PolicyPlan,
  TokenFields,
  TokenPlan,
  TokenSettings,
} from './plan.js';

/** What a loss reads besides log-probs or logits. Per-token arrays hold B*T values, row-major. */
export interface TokenInput {
  /** B and T. */
  shape: { sequences: number; length: number };
  /** Log-probs under the behaviour policy; left out: those of this very call (ratio 1, gradient kept). */
  oldLogProbs?: Float32Array;
  /** Log-probs under the reference policy; needed when kl.beta is not 0. */
  refLogProbs?: Float32Array;
  /** Non-zero: the token counts. Left out: all do. What a masked token's other values are does not matter. */
  mask?: Uint8Array;
  /** B values (one a sequence) or B*T (one a token). Exactly one of `advantages` and `rewards`. */
  advantages?: Float32Array;
  /** One a sequence: advantages are computed from them in the same call. */
  rewards?: Rewards;
  /** How, when `rewards` are given. */
  advantage?: AdvantageConfig;
  /** Sampler-mismatch weights that multiply the surrogate. */
  tokenWeights?: Float32Array;
  /** Aggregation `token-mean`: the token count of the whole accumulation window over all processes; default: this batch's. */
  normalizer?: number;
  /** The number of sequences of the whole accumulation window over all processes; default: this batch's. */
  sequences?: number;
}

export interface PolicyInput extends TokenInput {
  /** Log-probs of the tokens under the policy: B*T. */
  logProbs: Float32Array;
}

export interface LogitsInput extends TokenInput {
  /** B, T, V, and the distance between two rows where the vocabulary is padded (default V). */
  shape: { sequences: number; length: number; vocab: number; rowStride?: number };
  /** B*T*rowStride values: Float32Array, or Uint16Array with dtype 'bfloat16'. */
  logits: Float32Array | Uint16Array;
  /** Default 'float32'. */
  dtype?: LogitsDtype;
  /** The chosen token of each row: B*T ids below `vocab`. */
  tokens: Int32Array;
  /** Logits are divided by it; at least 1e-6. Default 1. */
  temperature?: number;
}

/** Rewards in any of these forms; NaN means "no verdict". */
export type Rewards = Float32Array | Float64Array | readonly number[];

export const deviceChoices = ['auto', 'cuda', 'cpu', 'reference'] as const;
export type DeviceChoice = (typeof deviceChoices)[number];

export interface RunOptions {
  /** Default 'auto': the fastest that is there. */
  device?: DeviceChoice;
  /** Threads at most; default: one a core. Results do not depend on it. */
  threads?: number;
}

interface LossOptions extends RunOptions {
  /** Default true. False: the loss and its metrics alone. */
  gradient?: boolean;
  /** Default true. False: rows that can carry no gradient may stay unread; the metrics `kl` and `entropy` are left out. */
  metrics?: boolean;
}

export interface PolicyOptions extends LossOptions {
  /** Where to write the gradient (B*T values) instead of into a new array. */
  gradLogProbs?: Float32Array;
}

export interface LogitsOptions extends LossOptions {
  /** Default false. True: the gradient overwrites the logits and is returned in the same array. */
  inPlace?: boolean;
  /** Where to write the gradient (layout and type of `logits`) instead of into a new array. */
  gradLogits?: Float32Array | Uint16Array;
}

/** 2^31 − 1: the most sequences, tokens a sequence, and vocabulary entries; their products are only bounded by memory. */
const maxDimension = 0x7fffffff;

function checkDimension(field: string, value: unknown): number {
  return checkNumber(field, value, { min: 1, max: maxDimension, integer: true });
}

/** Rewards as float64, checked: finite or NaN. */
function checkRewards(field: string, value: unknown): Float64Array {
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

function groupOffsets(field: string, config: AdvantageConfig, rewards: number): Int32Array {
  const { groupSize, groupSizes } = config;
  if ((groupSize === undefined) === (groupSizes === undefined)) {
    throw new TypeError(
      `${field}: expected exactly one of groupSize and groupSizes, got ${groupSize === undefined ? 'neither' : 'both'}`,
    );
  }
  if (groupSizes === undefined) {
    const size = checkDimension(`${field}.groupSize`, groupSize);
    if (rewards % size !== 0) {
      throw new RangeError(`${field}.groupSize: expected a divisor of the ${rewards} rewards, got ${size}`);
    }
    return Int32Array.from({ length: rewards / size + 1 }, (_, g) => g * size);
  }
  const sizes = checkArray(`${field}.groupSizes`, groupSizes, 'Int32Array');
  const offsets = new Int32Array(sizes.length + 1);
  let end = 0;
  for (let g = 0; g < sizes.length; g++) {
    checkDimension(`${field}.groupSizes[${g}]`, sizes[g]);
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

/** `fields`: what the arguments are called in messages. */
export function planAdvantages(
  rewards: unknown,
  config: unknown,
  fields = { rewards: 'rewards', config: 'config' },
): { plan: AdvantagePlan; output: AdvantageOutput } {
  const settings = resolveAdvantage(fields.config, config);
  const values = checkRewards(fields.rewards, rewards);
  const offsets = groupOffsets(fields.config, config as AdvantageConfig, values.length);
  const groups = offsets.length - 1;
  return {
    plan: { rewards: values, offsets, settings },
    output: {
      advantages: new Float32Array(values.length),
      weights: new Float32Array(values.length),
      groupMean: new Float32Array(groups),
      groupStd: new Float32Array(groups),
      active: new Uint8Array(groups),
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

/** How a per-token field is checked, and what the plan then holds: typed arrays here, tensors in src/tfjs. */
export interface FieldKind<Floats, Bytes> {
  /** `shape` explains the length: "4 sequences x 32". */
  floats(field: string, value: unknown, length?: number, shape?: string): Floats;
  bytes(field: string, value: unknown, length: number, shape: string): Bytes;
  lengthOf(values: Floats): number;
}

const typedArrays: FieldKind<Float32Array, Uint8Array> = {
  floats: (field, value, length, shape) => checkArray(field, value, 'Float32Array', length, shape),
  bytes: (field, value, length, shape) => checkArray(field, value, 'Uint8Array', length, shape),
  lengthOf: ({ length }) => length,
};

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
    metrics: options.metrics === undefined ? true : checkBoolean('options.metrics', options.metrics),
    threads: checkThreads(options.threads),
  };
}

/** A count over a whole accumulation window; an empty window divides by 1. NaN where this batch decides. */
function checkDenominator(field: string, value: unknown): number {
  return value === undefined ? NaN : Math.max(1, checkNumber(field, value, { min: 0 }));
}

export function checkThreads(value: unknown): number {
  return value === undefined ? 0 : checkNumber('options.threads', value, { min: 1, max: 1024, integer: true });
}

/** Advantages, or the rewards that they are to be computed from. */
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
    const fused = planAdvantages(rewards, advantage, { rewards: 'rewards', config: 'advantage' });
    checkLength('rewards', fused.plan.rewards.length, sequences, 'one a sequence');
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

/** The plan of a loss from log-probs, but for the log-probs. Their length is B*T. */
export function planPolicyTokens<Floats, Bytes>(
  input: Record<string, unknown>,
  config: unknown,
  options: Record<string, unknown>,
  kind: FieldKind<Floats, Bytes>,
): TokenSettings & TokenFields<Floats, Bytes> {
  checkKeys('', input, [...tokenFields, 'logProbs']);
  const s = { ...checkObject('shape', input.shape) };
  checkKeys('shape', s, ['sequences', 'length']);
  const sequences = checkDimension('shape.sequences', s.sequences);
  const length = checkDimension('shape.length', s.length);
  const loss = resolveLoss(config, length);
  if (loss.entropy.coefficient !== 0 || loss.entropy.topQuantile !== 1) {
    throw new RangeError('config.entropy: expected no entropy term, because entropies need logits: use logitsLoss');
  }
  return planTokens(input, loss, options, sequences, length, kind);
}

export function planPolicy(input: unknown, config: unknown, options: unknown = {}): PolicyPlan {
  const i = { ...checkObject('input', input) };
  const o = checkOptions(options, ['device', 'threads', 'gradient', 'metrics', 'gradLogProbs']);
  const plan = planPolicyTokens(i, config, o, typedArrays);
  const { sequences, length } = plan;
  const tokens = sequences * length;
  const logProbs = checkArray('logProbs', i.logProbs, 'Float32Array', tokens, `${sequences} sequences x ${length}`);
  const gradLogProbs = policyGradient(o, tokens);
  if (gradLogProbs !== null) checkApart('options.gradLogProbs', gradLogProbs, { logProbs, ...tokenInputs(plan) });
  return { ...plan, logProbs, gradLogProbs };
}

function policyGradient(options: Record<string, unknown>, tokens: number): Float32Array | null {
  const { gradient = true, gradLogProbs: given } = options;
  if (!checkBoolean('options.gradient', gradient)) {
    if (given !== undefined) throw new TypeError('options.gradLogProbs: expected it only without gradient: false');
    return null;
  }
  if (given === undefined) return new Float32Array(tokens);
  return checkArray('options.gradLogProbs', given, 'Float32Array', tokens);
}

/** The plan of a loss from logits, but for logits and tokens. */
export function planLogitsTokens<Floats, Bytes>(
  input: Record<string, unknown>,
  config: unknown,
  options: Record<string, unknown>,
  kind: FieldKind<Floats, Bytes>,
): LogitsSettings & TokenFields<Floats, Bytes> {
  checkKeys('', input, [...tokenFields, 'logits', 'dtype', 'tokens', 'temperature']);
  const s = { ...checkObject('shape', input.shape) };
  checkKeys('shape', s, ['sequences', 'length', 'vocab', 'rowStride']);
  const sequences = checkDimension('shape.sequences', s.sequences);
  const length = checkDimension('shape.length', s.length);
  const vocab = checkDimension('shape.vocab', s.vocab);
  const rowStride =
    s.rowStride === undefined
      ? vocab
      : checkNumber('shape.rowStride', s.rowStride, { min: vocab, max: maxDimension, integer: true });
  const dtype = input.dtype === undefined ? 'float32' : checkChoice('dtype', input.dtype, ['float32', 'bfloat16']);
  const temperature =
    input.temperature === undefined ? 1 : checkNumber('temperature', input.temperature, { min: 1e-6 });
  const plan = planTokens(input, resolveLoss(config, length), options, sequences, length, kind);
  return { ...plan, vocab, rowStride, dtype, temperature };
}

/** B*T ids, each within the vocabulary where its token is masked in. */
export function checkTokens(value: unknown, mask: Uint8Array | null, settings: LogitsSettings): Int32Array {
  const { sequences, length, vocab } = settings;
  const tokens = checkArray('tokens', value, 'Int32Array', sequences * length, `${sequences} sequences x ${length}`);
  for (let row = 0; row < tokens.length; row++) {
    if ((mask === null || mask[row] !== 0) && (tokens[row] < 0 || tokens[row] >= vocab)) {
      throw new RangeError(`tokens[${row}]: expected an id from 0 to ${vocab - 1}, got ${tokens[row]}`);
    }
  }
  return tokens;
}

export function planLogits(input: unknown, config: unknown, options: unknown = {}): LogitsPlan {
  const i = { ...checkObject('input', input) };
  const o = checkOptions(options, ['device', 'threads', 'gradient', 'metrics', 'inPlace', 'gradLogits']);
  const plan = planLogitsTokens(i, config, o, typedArrays);
  const { sequences, length, rowStride, dtype } = plan;
  const rows = sequences * length;
  const kind = dtype === 'float32' ? 'Float32Array' : 'Uint16Array';
  const values = rows * rowStride;
  const shape = `${sequences} sequences x ${length} x ${rowStride}`;
  const logits = checkArray('logits', i.logits, kind, values, shape);
  const tokens = checkTokens(i.tokens, plan.mask, plan);

  const inPlace = o.inPlace === undefined ? false : checkBoolean('options.inPlace', o.inPlace);
  const gradient = o.gradient === undefined ? true : checkBoolean('options.gradient', o.gradient);
  if (o.gradLogits !== undefined && (inPlace || !gradient)) {
    throw new TypeError(`options.gradLogits: expected it only without ${inPlace ? 'inPlace' : 'gradient: false'}`);
  }
  if (inPlace && !gradient)
    throw new TypeError('options.inPlace: expected false together with gradient: false, got true');

  let gradLogits: LogitsPlan['gradLogits'] = null;
  if (inPlace) gradLogits = logits;
  else if (o.gradLogits !== undefined) {
    gradLogits = checkArray('options.gradLogits', o.gradLogits, kind, values, shape);
  } else if (gradient) gradLogits = dtype === 'float32' ? new Float32Array(values) : new Uint16Array(values);

  if (gradLogits !== null) {
    const over = gradLogits.buffer === logits.buffer && gradLogits.byteOffset === logits.byteOffset;
    const others = { tokens, ...tokenInputs(plan) };
    checkApart(inPlace ? 'logits' : 'options.gradLogits', gradLogits, over ? others : { logits, ...others });
  }

  return {
    ...plan,
    logits,
    tokens,
    gradLogits,
    logProbs: new Float32Array(rows),
    entropies: new Float32Array(rows),
  };
}

function tokenInputs(plan: TokenPlan): Readonly<Record<string, ArrayBufferView | null>> {
  const { mask, oldLogProbs, refLogProbs, tokenWeights, advantages } = plan;
  return { mask, oldLogProbs, refLogProbs, tokenWeights, advantages };
}

/** What is written must not be what is read: a token id that became a piece of a gradient would be no id any more. */
function checkApart(
  field: string,
  written: ArrayBufferView,
  others: Readonly<Record<string, ArrayBufferView | null>>,
): void {
  for (const [name, other] of Object.entries(others)) {
    if (
      other !== null &&
      other.buffer === written.buffer &&
      other.byteOffset < written.byteOffset + written.byteLength &&
      written.byteOffset < other.byteOffset + other.byteLength
    ) {
      throw new RangeError(`${field}: expected memory apart from ${name}, got an overlapping range`);
    }
  }
}
