// Finds and loads the addon. Tries every place, collects every reason, and says what to do when none works.

import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { packageFolder, thisFile } from '../base/package-folder.js';
import { packageVersion } from '../base/version.js';
import type { AdvantagePlan, Device, LogitsSettings, LossScalars, Metrics, TokenSettings } from './plan.js';

/** What the addon exports: the typed mirror of native/binding/addon.cpp. */
export interface Addon {
  /** Version of the package that the addon was built from. */
  version: string;
  cpu: Device & { instructionSet: string; threads: number };
  cuda: CudaAddon | { built: false };
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

const require = createRequire(thisFile);

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
  const root = packageFolder();
  if (root === undefined) return [];
  return [
    join(root, 'build', 'Release', 'groupgrad.node'),
    join(root, 'prebuilds', `${process.platform}-${process.arch}`, 'groupgrad.node'),
  ];
}

function load(): LoadResult {
  const version = packageVersion();
  const paths = candidates();
  if (paths.length === 0) {
    const reason =
      `no folder of the package groupgrad was found from ${thisFile}; in a bundle, mark groupgrad as external and install ` +
      'it where the bundle runs, or set GROUPGRAD_ADDON to the path of groupgrad.node';
    return { addon: null, reason: `the native addon could not be loaded: ${reason}` };
  }
  const reasons: string[] = [];
  for (const path of paths) {
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
