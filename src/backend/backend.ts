// Chooses the TensorFlow.js backend to train on: the fastest that is installed.

import { createRequire } from 'node:module';
import { dirname, join, sep } from 'node:path';
import util from 'node:util';
import * as tf from '@tensorflow/tfjs-core';
import { checkChoice } from '../base/check.js';
import { isMissing } from '../base/missing-tfjs.js';
import { thisFile } from '../base/package-folder.js';
import { addCommand } from '../base/package-manager.js';
import { loadAddon } from '../devices/load.js';
import { isCheckout } from '../devices/places.js';
import { type Backend, backends } from './names.js';

export interface StartedBackend {
  backend: Backend;
  /** The package that provides it. */
  package: string;
}

const cpuPackage = '@tensorflow/tfjs-backend-cpu';

/**
 * The packages that provide a backend, best first. All but groupgrad itself are optional: those not installed are skipped.
 * `needs`: another package that a backend requires.
 */
const packages: readonly { backend: Backend; name: string; needs?: string; load: (name: string) => Promise<void> }[] = [
  { backend: 'tensorflow', name: '@tensorflow/tfjs-node-gpu', load: loadTensorflow },
  { backend: 'groupgrad', name: 'groupgrad', needs: cpuPackage, load: loadEngine },
  { backend: 'tensorflow', name: '@tensorflow/tfjs-node', load: loadTensorflow },
  { backend: 'wasm', name: '@tensorflow/tfjs-backend-wasm', load: loadWasm },
  { backend: 'cpu', name: cpuPackage, load: async (name) => void (await import(name)) },
];

/** A package whose backend did not start, and why. */
export interface BackendFailure {
  package: string;
  reason: string;
}

/**
 * Loads the best TensorFlow.js backend present, or the requested one, and makes it tfjs's current one. If none starts, throws an
 * Error with what was tried, why it failed and what to install.
 */
export async function startBackend(wanted: Backend | 'auto' = 'auto'): Promise<StartedBackend> {
  checkChoice('backend', wanted, ['auto', ...backends]);
  const result = await tryBackends(wanted);
  if (!Array.isArray(result)) return result;
  const tried = result.map(({ package: name, reason }) => `  ${name}: ${reason}`).join('\n');
  const what = wanted === 'auto' ? 'no TensorFlow.js backend has' : `the TensorFlow.js backend '${wanted}' has not`;
  throw new Error(`${what} started:\n${tried}\nTo get it: ${howToGet(wanted)}`);
}

/** Like `startBackend`, but returns the failures instead of throwing. */
export async function tryBackends(wanted: Backend | 'auto'): Promise<StartedBackend | BackendFailure[]> {
  const failures: BackendFailure[] = [];
  for (const { backend, name, needs = name, load } of packages) {
    if (wanted !== 'auto' && wanted !== backend) continue;
    try {
      await load(name);
      if (!(await setBackend(backend))) throw new Error('it did not start');
      return { backend, package: name };
    } catch (error) {
      failures.push({ package: name, reason: explain(error, needs, name) });
    }
  }
  return failures;
}

function explain(error: unknown, needs: string, name: string): string {
  if (isMissing(error, needs)) return needs === name ? 'not installed' : `${needs} is not installed`;
  const { message } = error as Error;
  if (message.includes('tfjs_binding.node'))
    return 'installed without its native part, which a script of the package fetches';
  return message.split('\n')[0];
}

/** The command that installs a backend. */
export function howToGet(backend: Backend | 'auto'): string {
  if (backend === 'tensorflow') {
    return isCheckout()
      ? 'npm run setup:tensorflow'
      : `node ${join('node_modules', 'groupgrad', 'scripts', 'setup-tensorflow.mjs')}`;
  }
  if (backend === 'groupgrad') {
    const loaded = loadAddon();
    if (!loaded.addon) return loaded.remedy;
  }
  return addCommand([backend === 'wasm' ? '@tensorflow/tfjs-backend-wasm' : cpuPackage]);
}

async function loadEngine(): Promise<void> {
  const { registerEngineBackend } = await import('./engine/register.js');
  registerEngineBackend();
}

async function loadTensorflow(name: string): Promise<void> {
  // tfjs-node 4.22 calls two functions that Node 23 removed.
  const legacy = util as unknown as Record<string, unknown>;
  legacy.isNullOrUndefined ??= (value: unknown) => value === undefined || value === null;
  legacy.isArray ??= Array.isArray;
  // Errors only: at its start TensorFlow logs several lines about the processor's features (docs/tensorflow.md, "Log lines").
  process.env.TF_CPP_MIN_LOG_LEVEL ??= '2';
  await import(name);
}

/** tfjs detects SIMD by itself; on Node it runs WebAssembly on one thread, whatever the settings. */
async function loadWasm(name: string): Promise<void> {
  const wasm = (await import(name)) as typeof import('@tensorflow/tfjs-backend-wasm');
  // A backend that has already started has its binary, and rejects a new path.
  if ('wasm' in tf.engine().registry) return;
  wasm.setWasmPaths(dirname(createRequire(thisFile).resolve(name)) + sep);
}

/**
 * Starts a backend. The WebAssembly module installs handlers that rethrow uncaught errors, which makes Node print the module's
 * source, a single line of 100 KB, instead of the error; they are removed.
 */
async function setBackend(backend: Backend): Promise<boolean> {
  const events = ['uncaughtException', 'unhandledRejection'] as const;
  const before = events.map((event) => process.rawListeners(event));
  const started = await tf.setBackend(backend);
  events.forEach((event, i) => {
    for (const listener of process.rawListeners(event)) {
      if (!before[i].includes(listener)) process.removeListener(event, listener as () => void);
    }
  });
  return started;
}

/** Starts the requested backend, else keeps the current one, else starts the fastest that is installed. Returns its name. */
export async function ensureBackend(wanted?: Backend): Promise<string> {
  const running = currentBackend();
  if (wanted === undefined && running !== undefined) return running;
  return running !== undefined && running === wanted ? running : (await startBackend(wanted)).backend;
}

/** The name of tfjs's current backend; undefined before one was chosen. */
export function currentBackend(): string | undefined {
  return tf.engine().backendName || undefined;
}
