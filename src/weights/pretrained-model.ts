// The weights of a model folder, and of an adapter, as tfjs tensors: trained ones as variables, frozen ones as tensors that only
// `dispose` frees.

import * as tf from '@tensorflow/tfjs-core';
import { bfloat16Tensor, storesBfloat16 } from '../backend/bfloat16.js';
import type { Precision } from '../backend/precision.js';
import { checkNumber, rangeError } from '../base/check.js';
import { uniform } from '../base/random.js';
import type { Architecture } from '../model/architecture.js';
import type { Adapter } from '../model/linear.js';
import type { ModelWeights } from '../model/parameters.js';
import { rotaryParameterFrequencies } from '../model/rotary-frequencies.js';
import { AdapterFolder } from './adapter.js';
import { checkEveryTarget, selectTargets, type Target } from './adapter-targets.js';
import { decodeFloats, encodeFloats, type FloatType } from './floats.js';
import type { PretrainedFolder, StoredParameter } from './pretrained-folder.js';
import type { LoraOptions } from './pretrained-options.js';

/** A linear layer with an adapter. */
export interface AdapterPart extends Target {
  readonly rank: number;
  readonly scale: number;
}

/** A loaded model. */
export interface PretrainedModel {
  readonly architecture: Architecture;
  readonly model: ModelWeights;
  /** What is trained, by name: every weight, or A and B of the adapter. */
  readonly variables: Readonly<Record<string, tf.Variable>>;
  /** The adapted layers; empty without an adapter. */
  readonly adapted: readonly AdapterPart[];
  dispose(): void;
}

export interface LoadOptions {
  lora?: LoraOptions;
  /** A PEFT folder; `lora` must not contradict it. */
  adapter?: string;
  /** The type weights are rounded to. Default: each tensor's own type. */
  type?: FloatType;
  /** Seed of A's random values. */
  seed: number;
  recompute: boolean;
  /** Of its products. Default: the backend's setting. */
  precision?: Precision;
  /** Called with the number of weights read so far and the total. */
  onProgress?: (read: number, total: number) => void;
}

/** Weights between two reports of progress. */
const progressEvery = 50_000_000;

/** Reads the weights of an opened folder. If something fails, what was read is freed. */
export function loadModel(folder: PretrainedFolder, options: LoadOptions): PretrainedModel {
  const { architecture } = folder;
  const made: tf.Tensor[] = [];
  try {
    const adapters = options.adapter
      ? readAdapter(options.adapter, options.lora, folder, made)
      : createAdapter(options.lora, architecture, options.seed, made);
    const isAdapted = adapters.parts.length > 0;
    const weights = readWeights(folder, !isAdapted, made, options);
    const variables = isAdapted ? adapters.variables : (weights as Record<string, tf.Variable>);
    const model: ModelWeights = {
      shape: architecture,
      frequencies: (rotary, length) => rotaryParameterFrequencies(architecture.rotaries[rotary], length),
      inputsFirst: false,
      weights,
      adapters: adapters.byModule,
      trained: new Set(Object.keys(variables)),
      recompute: options.recompute,
      precision: options.precision,
    };
    return { architecture, model, variables, adapted: adapters.parts, dispose: () => tf.dispose(made) };
  } catch (error) {
    tf.dispose(made);
    throw error;
  }
}

function readWeights(
  folder: PretrainedFolder,
  isTrained: boolean,
  made: tf.Tensor[],
  { type, onProgress }: LoadOptions,
): Record<string, tf.Tensor> {
  const sizes = folder.parameters.map(({ shape }) => shape.reduce((a, b) => a * b, 1));
  const total = sizes.reduce((a, b) => a + b, 0);
  let [read, reported] = [0, 0];
  const entries = folder.parameters.map((parameter, i) => {
    const weight = isTrained
      ? asVariable(readWeight(folder, parameter, type))
      : tf.keep(readFrozen(folder, parameter, type));
    made.push(weight);
    read += sizes[i];
    if (read - reported >= progressEvery || read === total) {
      reported = read;
      onProgress?.(read, total);
    }
    return [parameter.name, weight] as const;
  });
  return Object.fromEntries(entries);
}

function readWeight({ files }: PretrainedFolder, { tensor, shape, type }: StoredParameter, wanted = type): tf.Tensor {
  const floats = files.readFloats(tensor);
  if (wanted !== type) round(wanted, floats);
  return tf.tensor(floats, [...shape]);
}

/** A matrix in bfloat16 stays so where the backend can: it is then read only by products and gathers. */
function readFrozen(folder: PretrainedFolder, parameter: StoredParameter, wanted = parameter.type): tf.Tensor {
  const { tensor, shape } = parameter;
  const isHalf = wanted === 'BF16' && shape.length === 2 && storesBfloat16();
  return isHalf ? bfloat16Tensor(folder.files.readBfloat16(tensor), shape) : readWeight(folder, parameter, wanted);
}

/** Rounds values to a type, in place. */
function round(type: FloatType, values: Float32Array): void {
  if (type !== 'F32') decodeFloats(type, encodeFloats(type, values), values);
}

interface Adapters {
  parts: AdapterPart[];
  variables: Record<string, tf.Variable>;
  byModule: Record<string, Adapter>;
}

function readAdapter(
  path: string,
  lora: LoraOptions | undefined,
  { architecture, parameters, files }: PretrainedFolder,
  made: tf.Tensor[],
): Adapters {
  const folder = new AdapterFolder(path, architecture);
  try {
    const parts = folder.modules.map(({ module, path: own, rank, scale }) => ({ module, path: own, rank, scale }));
    if (lora) checkAgreement(lora, parts, architecture);
    folder.checkBase((module) => files.floatPieces(parameters.find(({ name }) => name === module)!.tensor));
    return adaptersOf(parts, made, ({ module }) => ({ a: folder.readA(module.name), b: folder.readB(module.name) }));
  } finally {
    folder.close();
  }
}

/** RangeError if the options contradict the adapter that is read. */
function checkAgreement(lora: LoraOptions, parts: readonly AdapterPart[], architecture: Architecture): void {
  const other = (field: string, expected: string | number, got: string | number) =>
    rangeError(`lora.${field}`, `that of the adapter, ${expected}`, String(got));
  for (const { rank, scale, path } of parts) {
    if (lora.rank !== rank) throw other('rank', `${rank} at ${path}`, lora.rank);
    const alpha = scale * rank;
    if (lora.alpha !== undefined && Math.abs(lora.alpha - alpha) > 1e-6 * alpha) {
      throw other('alpha', `${alpha} at ${path}`, lora.alpha);
    }
  }
  if (lora.targets === undefined) return;
  const targets = selectTargets(architecture, { targets: lora.targets }, 'lora.targets').map(({ path }) => path);
  const own = parts.map(({ path }) => path);
  const missing = own.find((path) => !targets.includes(path));
  const extra = targets.find((path) => !own.includes(path));
  if (missing !== undefined) throw other('targets', `with ${missing}`, 'others');
  if (extra !== undefined) throw other('targets', `without ${extra}`, 'others');
}

/** B is zero, so that the model initially computes the same as without the adapter. */
function createAdapter(
  lora: LoraOptions | undefined,
  architecture: Architecture,
  seed: number,
  made: tf.Tensor[],
): Adapters {
  if (!lora) return { parts: [], variables: {}, byModule: {} };
  const rank = checkNumber('lora.rank', lora.rank, { min: 1, integer: true });
  const alpha = checkNumber('lora.alpha', lora.alpha ?? 2 * rank, { above: 0 });
  if (typeof lora.targets === 'object') checkEveryTarget(architecture, lora.targets, 'lora.targets');
  const targets = selectTargets(architecture, { targets: lora.targets ?? 'all-linear' }, 'lora.targets');
  const parts = targets.map((target) => ({ ...target, rank, scale: alpha / rank }));
  return adaptersOf(parts, made, ({ module: { shape } }, index) => ({
    a: initialA(rank, shape[1], seed, index),
    b: new Float32Array(shape[0] * rank),
  }));
}

/** Kaiming's uniform distribution with a = √5, as in PEFT: between −1 / √inputs and 1 / √inputs. */
function initialA(rank: number, inputs: number, seed: number, index: number): Float32Array {
  const bound = 1 / Math.sqrt(inputs);
  const key = { seed, purpose: 'weights', index } as const;
  return Float32Array.from({ length: rank * inputs }, (_, i) => bound * (2 * uniform(key, i) - 1));
}

function adaptersOf(
  parts: AdapterPart[],
  made: tf.Tensor[],
  values: (part: AdapterPart, index: number) => { a: Float32Array; b: Float32Array },
): Adapters {
  const variables: Adapters['variables'] = {};
  const byModule: Adapters['byModule'] = {};
  parts.forEach((part, index) => {
    const { name, shape } = part.module;
    const own = values(part, index);
    const a = asVariable(tf.tensor(own.a, [part.rank, shape[1]]));
    made.push(a);
    const b = asVariable(tf.tensor(own.b, [shape[0], part.rank]));
    made.push(b);
    variables[`${name}.lora_A`] = a;
    variables[`${name}.lora_B`] = b;
    byModule[name] = { a: a as unknown as tf.Tensor2D, b: b as unknown as tf.Tensor2D, scale: part.scale };
  });
  return { parts, variables, byModule };
}

function asVariable(values: tf.Tensor): tf.Variable {
  const variable = tf.variable(values);
  values.dispose();
  return variable;
}
