// Finds and loads the addon (docs/install.md). If none works, explains why and how to fix it.

import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { packageFolder, thisFile } from '../base/package-folder.js';
import { runCommand } from '../base/package-manager.js';
import { type MemberNames, misfit, missingExports } from './exports.js';
import { addonPlaces, isCheckout, type Place, platform, usesMusl } from './places.js';
import type { AdvantagePlan, Device, LogitsSettings, LossScalars, Metrics, TokenSettings } from './plan.js';
import { missingTools } from './tools.js';

/** What the addon exports: the typed mirror of native/binding/addon.cpp. */
export interface Addon {
  /** Version of the package that the addon was built from. */
  version: string;
  cpu: Omit<Device, 'linearLoss'> & { instructionSet: string; threads: number };
  cuda: CudaAddon | { built: false };
  engine: EngineAddon;
  tensorflow: TensorflowAddon;
}

/** What the addon exports: the typed mirror of native/binding/cuda.cpp. Plans hold memory in place of DeviceArrays. */
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
  logitsBackward(...args: Parameters<Device['logitsBackward']>): Pending<Device['logitsBackward']>;
}

/** Values of tensors in memory: float32, int32, bool. */
export type TensorValues = Float32Array | Int32Array | Uint8Array;

/** A matrix in the engine's own layout. */
export interface PackedMatrix {
  /** Size of its memory. */
  bytes: number;
}

export interface EngineSettings {
  /** One of `instructionSets()`. */
  instructionSet: string;
  /** Threads that an operation may use, including the caller's. */
  threads: number;
}

/**
 * What the addon exports: the typed mirror of native/binding/engine.cpp, operations on tensors in memory. An operation takes its
 * numbers first (native/engine/operations.hpp documents their meaning, the binding their order), then arrays; it overwrites `y`.
 * RangeError if memory is insufficient or arrays are too short.
 */
export interface EngineAddon {
  /** Names of tfjs kernels; an operation is given by its index. */
  unaryOperations: readonly string[];
  binaryOperations: readonly string[];
  reductions: readonly string[];
  /** Maximum number of axes for `copy` and `binary`. */
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
  rmsNorm(numbers: Float64Array, x: Float32Array, weight: Float32Array, y: Float32Array, scale: Float32Array): void;
  rmsNormBackward(
    numbers: Float64Array,
    dy: Float32Array,
    x: Float32Array,
    weight: Float32Array,
    scale: Float32Array,
    dx: Float32Array,
    dWeight: Float32Array | null,
  ): void;
  rotary(numbers: Float64Array, x: Float32Array, cos: Float32Array, sin: Float32Array, y: Float32Array): void;
  gatedUnit(numbers: Float64Array, gate: Float32Array, up: Float32Array, y: Float32Array): void;
  gatedUnitBackward(
    numbers: Float64Array,
    dy: Float32Array,
    gate: Float32Array,
    up: Float32Array,
    dGate: Float32Array,
    dUp: Float32Array,
  ): void;
  attention(
    numbers: Float64Array,
    query: Float32Array,
    key: Float32Array,
    value: Float32Array,
    starts: Int32Array,
    y: Float32Array,
    logSumExp: Float32Array,
  ): void;
  attentionBackward(
    numbers: Float64Array,
    dy: Float32Array,
    query: Float32Array,
    key: Float32Array,
    value: Float32Array,
    mixed: Float32Array,
    logSumExp: Float32Array,
    starts: Int32Array,
    dQuery: Float32Array,
    dKey: Float32Array,
    dValue: Float32Array,
  ): void;
  /** `blocks`: keys and values of each block in turn; the new position is written into them. */
  decodeAttention(
    numbers: Float64Array,
    query: Float32Array,
    key: Float32Array,
    value: Float32Array,
    lengths: Int32Array,
    y: Float32Array,
    ...blocks: readonly Float32Array[]
  ): void;
  adamW(
    numbers: Float64Array,
    variable: Float32Array,
    mean: Float32Array,
    square: Float32Array,
    gradient: Float32Array,
    newVariable: Float32Array,
    newMean: Float32Array,
    newSquare: Float32Array,
  ): void;
  sumOfSquares(numbers: Float64Array, y: Float64Array, ...x: readonly Float32Array[]): void;
  /** `uniforms`: null for the most likely tokens. Returns the ids that a cut left, for each row; nothing without a cut. */
  sample(
    numbers: Float64Array,
    logits: Float32Array,
    uniforms: Float64Array | null,
    wanted: Uint8Array,
    tokens: Int32Array,
    logProbs: Float32Array,
  ): Int32Array[];
  matMul(
    numbers: Float64Array,
    a: Float32Array,
    b: Float32Array | Uint16Array | PackedMatrix,
    bias: Float32Array | null,
    y: Float32Array,
  ): void;
  pack(numbers: Float64Array, b: Float32Array | Uint16Array): PackedMatrix;
  freePacked(packed: PackedMatrix): void;
  /** Those that this processor supports, the best last. */
  instructionSets(): string[];
  settings(): EngineSettings;
  configure(settings: EngineSettings): void;
}

/** A pending operation: `read` waits for its numbers. */
interface Pending<F extends (...args: never[]) => unknown> {
  read(): ReturnType<F>;
}

/** Settings of the loss from logits as an operation. */
export interface LogitsOperation extends LogitsSettings {
  /** The gradient overwrites the logits. */
  inPlace: boolean;
  /** The report holds log-probs and entropies. */
  rows: boolean;
}

/** Runs the losses as operations of the TensorFlow library that this process has loaded (native/tensorflow). */
export interface TensorflowAddon {
  /** Registers the operations, once per process; `error` says why it failed. */
  register(): TensorflowRegistration | { error: string };
  /** A call's settings as the operation's `request`. */
  packAdvantages(plan: AdvantagePlan): Int32Array;
  packPolicy(plan: TokenSettings): Int32Array;
  packLogits(plan: LogitsOperation): Int32Array;
  /** Decodes the operation's `report`; fills `plan.advantage.output`. */
  advantageReport(plan: AdvantagePlan, report: Int32Array): { accuracy: number; metrics: Metrics };
  policyReport(plan: TokenSettings, report: Int32Array): LossScalars & { accuracy?: number };
  /** Also fills `logProbs` and `entropies` if the plan has `rows`. */
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

/** The names of all exports: what an addon that has the version of this code can still lack. */
const deviceNames: MemberNames<Omit<Device, 'linearLoss'>> = {
  computeAdvantages: true,
  policyLoss: true,
  logitsLoss: true,
  logitsBackward: true,
};
const cpuNames: MemberNames<Addon['cpu']> = { ...deviceNames, instructionSet: true, threads: true };
const cudaNames: MemberNames<CudaAddon> = {
  ...deviceNames,
  built: true,
  probe: true,
  allocate: true,
  write: true,
  read: true,
  free: true,
};
const engineNames: MemberNames<EngineAddon> = {
  unaryOperations: true,
  binaryOperations: true,
  reductions: true,
  maxRank: true,
  unary: true,
  binary: true,
  select: true,
  cast: true,
  copy: true,
  fill: true,
  reduce: true,
  arg: true,
  softmax: true,
  gather: true,
  scatterAdd: true,
  addN: true,
  rmsNorm: true,
  rmsNormBackward: true,
  rotary: true,
  gatedUnit: true,
  gatedUnitBackward: true,
  attention: true,
  attentionBackward: true,
  decodeAttention: true,
  adamW: true,
  sumOfSquares: true,
  sample: true,
  matMul: true,
  pack: true,
  freePacked: true,
  instructionSets: true,
  settings: true,
  configure: true,
};
const tensorflowNames: MemberNames<TensorflowAddon> = {
  register: true,
  packAdvantages: true,
  packPolicy: true,
  packLogits: true,
  advantageReport: true,
  policyReport: true,
  logitsReport: true,
};

/** The exports that an addon lacks. */
export function missingFrom({ cpu, cuda, engine, tensorflow }: Partial<Addon>): string[] {
  return [
    ...missingExports(cpu, cpuNames, 'cpu.'),
    ...(cuda?.built === false ? [] : missingExports(cuda, cudaNames, 'cuda.')),
    ...missingExports(engine, engineNames, 'engine.'),
    ...missingExports(tensorflow, tensorflowNames, 'tensorflow.'),
  ];
}

export type LoadResult =
  | {
      addon: Addon;
      path: string;
      /** How it was built. */
      origin: Place['origin'];
      /** Why earlier candidates were skipped. */
      passedOver: string[];
    }
  | {
      addon: null;
      /** Why there is none and how to fix it: `cause` and `remedy` together. */
      reason: string;
      cause: string;
      remedy: string;
    };

const require = createRequire(thisFile);

let cached: LoadResult | undefined;

/** Loads the addon once per environment; a failure is remembered with its reasons. */
export function loadAddon(): LoadResult {
  cached ??= load();
  return cached;
}

/** The CUDA part of the addon if there is a usable GPU, with a description of it or the reason. */
export interface CudaResult {
  addon: CudaAddon | null;
  detail: string;
  /** What to do if the addon has no CUDA device. */
  remedy?: string;
}

let cachedCuda: CudaResult | undefined;

/** Queries the driver once per environment. Unlike importing the package, this touches the GPU. */
export function loadCuda(): CudaResult {
  cachedCuda ??= probeCuda(loadAddon());
  return cachedCuda;
}

function probeCuda(loaded: LoadResult): CudaResult {
  if (!loaded.addon) return { addon: null, detail: 'it is part of the native addon, which is not available' };
  const { cuda } = loaded.addon;
  if (!cuda.built) {
    const remedy = `Install a CUDA toolkit (nvcc on PATH) and CMake, then type \`${buildCommand('on')}\`.`;
    return { addon: null, detail: 'this addon was built without CUDA', remedy };
  }
  const { available, detail } = cuda.probe();
  return { addon: available ? cuda : null, detail };
}

/** The command that builds the addon from source. */
export function buildCommand(cuda?: 'on'): string {
  if (isCheckout()) return `${cuda ? 'GROUPGRAD_CUDA=ON ' : ''}npm run build:native`;
  return runCommand(`groupgrad build${cuda ? ` --cuda ${cuda}` : ''}`);
}

function load(): LoadResult {
  const reasons: string[] = [];
  for (const place of addonPlaces()) {
    const { path, origin } = place;
    const refused = refuse(place);
    if (refused !== undefined) {
      if (refused) reasons.push(refused);
      continue;
    }
    try {
      const addon = require(path) as Addon;
      const reason = misfit(addon.version, missingFrom(addon));
      if (reason === undefined) return { addon, path, origin, passedOver: reasons };
      reasons.push(`${path} ${reason}`);
    } catch (error) {
      reasons.push(`${path} could not be loaded: ${explain(error)}`);
    }
  }
  if (packageFolder() === undefined && !process.env.GROUPGRAD_ADDON)
    reasons.push(`no folder of the package groupgrad was found from ${thisFile}`);
  const [cause, todo] = [reasons.join('; '), remedy()];
  return { addon: null, reason: `there is no native addon: ${cause}. ${todo}`, cause, remedy: todo };
}

/** Why a location is not tried; empty if nothing is expected there. */
function refuse({ path, origin }: Place): string | undefined {
  if (origin === 'prebuilt' && usesMusl())
    return `the prebuilt addon for ${platform} needs glibc, and this Node.js uses musl`;
  if (existsSync(path)) return undefined;
  if (origin === 'GROUPGRAD_ADDON') return `GROUPGRAD_ADDON names ${path}, which does not exist`;
  if (origin === 'build of this checkout') return 'this checkout has not been built';
  if (origin === 'groupgrad build') return '';
  // In a checkout prebuilt addons are the exception; that the addon was not built is explanation enough.
  return isCheckout() ? '' : `groupgrad has no prebuilt addon for ${platform}`;
}

/** The system's message about a file that it cannot load, preceded by the reason if it is a known one. */
function explain(error: unknown): string {
  const [message] = String(error instanceof Error ? error.message : error).split('\n'); // the rest is a require stack
  const wanted = /version `GLIBC_([\d.]+)' not found/.exec(message)?.[1];
  if (wanted === undefined) return message;
  return `it needs glibc ${wanted}, and this system has an older one (${message})`;
}

function remedy(): string {
  if (process.env.GROUPGRAD_ADDON) return 'Correct or unset GROUPGRAD_ADDON.';
  if (packageFolder() === undefined) {
    return 'To have it in a bundle, mark groupgrad as external and install it where the bundle runs, or set GROUPGRAD_ADDON to the path of groupgrad.node.';
  }
  const missing = missingTools();
  return missing === undefined
    ? `To build it: \`${buildCommand()}\`.`
    : `To build it, install ${missing}, then type \`${buildCommand()}\`.`;
}
