// Finds and loads the addon. Tries every place, collects every reason, and says what to do when none works.

import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { AdvantagePlan, Device, LogitsSettings, LossScalars, Metrics, TokenSettings } from './plan.js';

/** What the addon exports: the typed mirror of native/binding/addon.cpp. */
export interface Addon {
  /** Version of the package that the addon was built from. */
  version: string;
  cpu: Device & { instructionSet: string; threads: number };
  cuda: CudaAddon | { built: false };
  engine: EngineAddon;
  tensorflow: TensorflowAddon;
}

/** What the addon exports: the typed mirror of native/binding/cuda.cpp. Plans hold memory where they hold DeviceArrays. */
export interface CudaAddon {
  built: true;
  probe(): { available: boolean; detail: string };
  allocate(options: { type: string; length: number }): object;
  write(memory: object, array: ArrayBufferView): void;
  read(memory: object, array: ArrayBufferView): void;
  free(memory: object): void;
  computeAdvantages(...args: Parameters<Device['computeAdvantages']>): Pending<Device['computeAdvantages']>;
  policyLoss(...args: Parameters<Device['policyLoss']>): Pending<Device['policyLoss']>;
  logitsLoss(...args: Parameters<Device['logitsLoss']>): Pending<Device['logitsLoss']>;
}

/** Values of tensors in memory: float32, int32, bool. */
export type TensorValues = Float32Array | Int32Array | Uint8Array;

/** A matrix in the engine's own layout. */
export interface PackedMatrix {
  /** Of its memory. */
  bytes: number;
}

export interface EngineSettings {
  /** One of `instructionSets()`. */
  instructionSet: string;
  /** That an operation may use, the caller's included. */
  threads: number;
}

/**
 * What the addon exports: the typed mirror of native/binding/engine.cpp, operations on tensors in memory. An operation takes
 * its numbers first (native/engine/operations.hpp says what they mean, the binding in which order they come), then arrays; it
 * writes to `y`, whose former values do not matter. RangeError where memory does not suffice or arrays are too short.
 */
export interface EngineAddon {
  /** Names of tfjs kernels; an operation is given by its index. */
  unaryOperations: readonly string[];
  binaryOperations: readonly string[];
  reductions: readonly string[];
  /** The most axes that `copy` and `binary` take. */
  maxRank: number;
  unary(numbers: Float64Array, x: Float32Array, y: Float32Array): void;
  binary(numbers: Float64Array, a: Float32Array, b: Float32Array, y: Float32Array | Uint8Array): void;
  select(numbers: Float64Array, condition: Uint8Array, a: Float32Array, b: Float32Array, y: Float32Array): void;
  cast(numbers: Float64Array, x: TensorValues | Uint16Array, y: TensorValues | Uint16Array): void;
  copy(numbers: Float64Array, x: TensorValues, y: TensorValues): void;
  fill(numbers: Float64Array, y: TensorValues): void;
  reduce(numbers: Float64Array, x: Float32Array, y: Float32Array): void;
  arg(numbers: Float64Array, x: Float32Array, y: Int32Array): void;
  softmax(numbers: Float64Array, x: Float32Array, y: Float32Array): void;
  gather<V extends TensorValues | Uint16Array>(numbers: Float64Array, x: V, indices: Int32Array, y: V): void;
  scatterAdd(numbers: Float64Array, x: Float32Array, indices: Int32Array, y: Float32Array): void;
  addN(numbers: Float64Array, y: Float32Array, ...x: readonly Float32Array[]): void;
  matMul(
    numbers: Float64Array,
    a: Float32Array,
    b: Float32Array | Uint16Array | PackedMatrix,
    bias: Float32Array | null,
    y: Float32Array,
  ): void;
  pack(numbers: Float64Array, b: Float32Array | Uint16Array): PackedMatrix;
  freePacked(packed: PackedMatrix): void;
  /** Those that this processor has, the best last. */
  instructionSets(): string[];
  settings(): EngineSettings;
  configure(settings: EngineSettings): void;
}

/** An operation on its way: `read` waits for its numbers. */
interface Pending<F extends (...args: never[]) => unknown> {
  read(): ReturnType<F>;
}

/** Of the loss from logits as an operation. */
export interface LogitsOperation extends LogitsSettings {
  /** The gradient takes the place of the logits. */
  inPlace: boolean;
  /** The report holds log-probs and entropies. */
  rows: boolean;
}

/** What runs the losses as operations of the TensorFlow that this process has loaded (native/tensorflow). */
export interface TensorflowAddon {
  /** Registers the operations, once a process; `error` says why it could not. */
  register(): TensorflowRegistration | { error: string };
  /** A call's settings as the operation's `request`. */
  packAdvantages(plan: AdvantagePlan): Int32Array;
  packPolicy(plan: TokenSettings): Int32Array;
  packLogits(plan: LogitsOperation): Int32Array;
  /** What the operation's `report` says; `plan.advantage.output` is filled. */
  advantageReport(plan: AdvantagePlan, report: Int32Array): { accuracy: number; metrics: Metrics };
  policyReport(plan: TokenSettings, report: Int32Array): LossScalars & { accuracy?: number };
  /** Fills `logProbs` and `entropies` too, where the plan has `rows`. */
  logitsReport(
    plan: LogitsOperation & { logProbs?: Float32Array; entropies?: Float32Array },
    report: Int32Array,
  ): LossScalars & { accuracy?: number };
}

export interface TensorflowRegistration {
  /** Names in TensorFlow. */
  operations: { logitsLoss: string; policyLoss: string; computeAdvantages: string };
  /** Its version. */
  tensorflow: string;
  /** "CPU", or "CPU and GPU". */
  devices: string;
}

export type LoadResult = { addon: Addon; path: string } | { addon: null; reason: string };

const require = createRequire(import.meta.url);
const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

let cached: LoadResult | undefined;

/** Loads the addon once an environment; a failure is remembered with its reasons. */
export function loadAddon(): LoadResult {
  cached ??= load();
  return cached;
}

/** The CUDA part of the addon where there is a GPU to work with, and what it is or why not. */
export interface CudaResult {
  addon: CudaAddon | null;
  detail: string;
}

let cachedCuda: CudaResult | undefined;

/** Asks the driver once an environment. Importing the package touches no GPU; this does. */
export function loadCuda(): CudaResult {
  cachedCuda ??= probeCuda(loadAddon());
  return cachedCuda;
}

function probeCuda(loaded: LoadResult): CudaResult {
  if (!loaded.addon) return { addon: null, detail: loaded.reason };
  const { cuda } = loaded.addon;
  if (!cuda.built) {
    const detail =
      'the addon was built without CUDA; install a CUDA toolkit (nvcc on PATH), then run `npm rebuild groupgrad` (in a checkout: `npm run build:native`)';
    return { addon: null, detail };
  }
  const { available, detail } = cuda.probe();
  return { addon: available ? cuda : null, detail };
}

function candidates(): string[] {
  const explicit = process.env.GROUPGRAD_ADDON;
  if (explicit) return [resolve(explicit)];
  return [
    join(root, 'build', 'Release', 'groupgrad.node'),
    join(root, 'prebuilds', `${process.platform}-${process.arch}`, 'groupgrad.node'),
  ];
}

function load(): LoadResult {
  const { version } = require('../../package.json') as { version: string };
  const reasons: string[] = [];
  for (const path of candidates()) {
    if (!existsSync(path)) {
      reasons.push(`${path}: no such file`);
      continue;
    }
    try {
      const addon = require(path) as Addon;
      if (addon.version === version) return { addon, path };
      reasons.push(`${path}: built for groupgrad ${addon.version}, this is ${version}`);
    } catch (error) {
      const [reason] = String(error instanceof Error ? error.message : error).split('\n'); // the rest is a require stack
      reasons.push(`${path}: ${reason}`);
    }
  }
  const remedy = process.env.GROUPGRAD_ADDON
    ? 'Correct or unset GROUPGRAD_ADDON.'
    : 'Install a C++20 compiler with CMake or make, then run `npm rebuild groupgrad` (in a checkout: `npm run build:native`).';
  return { addon: null, reason: `the native addon could not be loaded (${reasons.join('; ')}). ${remedy}` };
}
