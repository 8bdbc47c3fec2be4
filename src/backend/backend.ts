// Which TensorFlow.js backend to train on: the fastest that is installed.

import { createRequire } from 'node:module';
import { dirname, sep } from 'node:path';
import util from 'node:util';
import * as tf from '@tensorflow/tfjs-core';
import { checkChoice } from '../base/check.js';
import { thisFile } from '../base/package-folder.js';

export const backends = ['tensorflow', 'wasm', 'cpu'] as const;
/** A tfjs backend by its name there. */
export type Backend = (typeof backends)[number];

export interface StartedBackend {
  backend: Backend;
  /** The package that it comes from. */
  package: string;
}

/** The packages that hold a backend, best first. All are optional: what is not installed is passed over. */
const packages: readonly { backend: Backend; name: string; load: (name: string) => Promise<void> }[] = [
  { backend: 'tensorflow', name: '@tensorflow/tfjs-node-gpu', load: loadTensorflow },
  { backend: 'tensorflow', name: '@tensorflow/tfjs-node', load: loadTensorflow },
  { backend: 'wasm', name: '@tensorflow/tfjs-backend-wasm', load: loadWasm },
  { backend: 'cpu', name: '@tensorflow/tfjs-backend-cpu', load: async (name) => void (await import(name)) },
];

/**
 * Loads the best TensorFlow.js backend present, or the one asked for, and makes it tfjs's current one.
 * Error, with what was tried and why it failed, when none starts.
 */
export async function startBackend(wanted: Backend | 'auto' = 'auto'): Promise<StartedBackend> {
  checkChoice('backend', wanted, ['auto', ...backends]);
  const failures: string[] = [];
  for (const { backend, name, load } of packages) {
    if (wanted !== 'auto' && wanted !== backend) continue;
    try {
      await load(name);
      if (!(await setBackend(backend))) throw new Error('it did not start');
      return { backend, package: name };
    } catch (error) {
      failures.push(`  ${name}: ${(error as Error).message.split('\n')[0]}`);
    }
  }
  throw new Error(`no TensorFlow.js backend started; install one of these packages\n${failures.join('\n')}`);
}

async function loadTensorflow(name: string): Promise<void> {
  // tfjs-node 4.22 calls two functions that Node 23 removed.
  const legacy = util as unknown as Record<string, unknown>;
  legacy.isNullOrUndefined ??= (value: unknown) => value === undefined || value === null;
  legacy.isArray ??= Array.isArray;
  // Errors only: TensorFlow tells at its start, in some lines of its own, what the processor could do.
  process.env.TF_CPP_MIN_LOG_LEVEL ??= '2';
  await import(name);
}

/** tfjs picks SIMD by itself; on Node it runs WebAssembly on one thread whatever it is told. */
async function loadWasm(name: string): Promise<void> {
  const wasm = (await import(name)) as typeof import('@tensorflow/tfjs-backend-wasm');
  // A backend that has started already has its binary, and refuses to be told where it is.
  if ('wasm' in tf.engine().registry) return;
  wasm.setWasmPaths(dirname(createRequire(thisFile).resolve(name)) + sep);
}

/**
 * Starts a backend. The WebAssembly module installs handlers that throw uncaught errors again, whereupon Node prints the
 * module's source, a single line of 100 KB, in place of the error: they are taken off.
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

/** The backend asked for; else the one that runs already; else the fastest that is installed. Returns its name. */
export async function ensureBackend(wanted?: Backend): Promise<string> {
  const running = currentBackend();
  if (wanted === undefined && running !== undefined) return running;
  return running !== undefined && running === wanted ? running : (await startBackend(wanted)).backend;
}

/** The name of tfjs's current backend; undefined before one was chosen. */
export function currentBackend(): string | undefined {
  return tf.engine().backendName || undefined;
}
