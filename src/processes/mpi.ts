// MPI as a communicator: an addon of its own, which is compiled where it is used, because the libraries of MPI have no common
// binary interface.

import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { isMainThread } from 'node:worker_threads';
import { thisFile } from '../base/package-folder.js';
import { runCommand } from '../base/package-manager.js';
import { type MemberNames, misfit, missingExports } from '../devices/exports.js';
import { isCheckout, mpiAddon } from '../devices/places.js';
import type { Communicator } from './communicator.js';

/** What the addon exports: the typed mirror of native/mpi/addon.cpp. */
interface MpiAddon {
  version: string;
  /** Starts MPI, at most once per process. */
  start(): { rank: number; size: number; library: string };
  /** `all` receives the bytes of every process, which gives as many as the others. */
  allGather(bytes: Uint8Array, all: Uint8Array): Promise<void>;
  broadcast(values: Uint8Array | Float32Array, root: number): Promise<void>;
  allReduceSum(values: Float32Array): Promise<void>;
  finish(): void;
  /** Ends all processes, with this code, when this one exits. */
  abortAtExit(code: number): void;
}

const exportNames: MemberNames<MpiAddon> = {
  version: true,
  start: true,
  allGather: true,
  broadcast: true,
  allReduceSum: true,
  finish: true,
  abortAtExit: true,
};

const require = createRequire(thisFile);

let started: Communicator | undefined;

/**
 * The processes that `mpirun` has started, for the trainer's option `communicator`: each samples its share of a step's prompts, and
 * gradients are added up over all. Needs MPI (Open MPI or MPICH) and its addon, which `npx groupgrad build --mpi` compiles.
 * Docs: docs/rollout.md, "Several trainers".
 *
 * MPI is started with the first call and ended with the process. A process that exits with another code than 0 ends all others.
 *
 * @throws Error that says what is missing and how to get it
 *
 * @example
 * // mpirun -n 2 node train.mjs
 * const trainer = await GrpoTrainer.create({ policy, train, communicator: mpi(), runDir: 'runs/two' });
 */
export function mpi(): Communicator {
  started ??= start();
  return started;
}

function start(): Communicator {
  // MPI ends with the thread that has started it, which must be the main thread.
  if (!isMainThread) throw new Error('mpi: expected the main thread, got a worker');
  const addon = load();
  const { rank, size, library } = addon.start();
  process.once('exit', (code) => (code === 0 ? addon.finish() : addon.abortAtExit(code)));
  return {
    name: `mpi (${library})`,
    rank,
    size,
    broadcast: (values, root) => addon.broadcast(values, root),
    allReduceSum: (values) => addon.allReduceSum(values),
    async allGather(bytes) {
      const lengths = new Float64Array(size);
      await addon.allGather(new Uint8Array(Float64Array.of(bytes.length).buffer), new Uint8Array(lengths.buffer));
      const all = Array.from(lengths, (length) => new Uint8Array(length));
      all[rank].set(bytes);
      for (const [root, each] of all.entries()) if (each.length > 0) await addon.broadcast(each, root);
      return all;
    },
  };
}

function load(): MpiAddon {
  const path = mpiAddon();
  const command = isCheckout() ? 'npm run build:native -- --mpi' : runCommand('groupgrad build --mpi');
  const remedy = `Install MPI with its compiler mpicxx (Debian: libopenmpi-dev openmpi-bin), then type \`${command}\`.`;
  if (!existsSync(path)) throw new Error(`mpi: there is no addon for MPI at ${path}. ${remedy}`);
  let addon: MpiAddon;
  try {
    addon = require(path) as MpiAddon;
  } catch (error) {
    const [message] = String((error as Error).message).split('\n');
    throw new Error(`mpi: ${path} could not be loaded: ${message}. ${remedy}`);
  }
  const reason = misfit(addon.version, missingExports(addon, exportNames));
  if (reason === undefined) return addon;
  throw new Error(`mpi: ${path} ${reason}. ${remedy}`);
}
