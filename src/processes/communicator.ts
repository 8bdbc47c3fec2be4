// What processes that train one policy exchange their numbers by: the interface, which `mpi` and tests implement.

import { checkNumber, checkObject, rangeError, typeError } from '../base/check.js';

/**
 * Joins the processes that train one policy: `mpi()`, or any object with these methods. Its operations are collective: every process
 * calls the same ones in the same order, and each waits for all. The trainer has one under way at a time.
 */
export interface Communicator {
  /** For messages. */
  readonly name: string;
  /** The number of this process, from 0. */
  readonly rank: number;
  /** The number of processes. */
  readonly size: number;
  /** The bytes of every process, by rank. Their lengths may differ. */
  allGather(bytes: Uint8Array): Promise<Uint8Array[]>;
  /** Replaces values by those of the process `root`. All give arrays of equal length. */
  broadcast(values: Float32Array, root: number): Promise<void>;
  /** Replaces values by their sums over all processes, which all give arrays of equal length. */
  allReduceSum(values: Float32Array): Promise<void>;
}

/** Communicator of a process that trains alone. */
export const alone: Communicator = {
  name: 'alone',
  rank: 0,
  size: 1,
  allGather: async (bytes) => [bytes],
  broadcast: async () => {},
  allReduceSum: async () => {},
};

/** TypeError or RangeError that names the field. */
export function checkCommunicator(field: string, value: unknown): Communicator {
  const communicator = checkObject(field, value) as unknown as Communicator;
  const { name, rank, size } = communicator;
  if (typeof name !== 'string' || name === '') throw typeError(`${field}.name`, 'a string', name);
  checkNumber(`${field}.size`, size, { min: 1, integer: true });
  checkNumber(`${field}.rank`, rank, { min: 0, integer: true });
  if (rank >= size) throw rangeError(`${field}.rank`, `a number below its size, ${size}`, String(rank));
  for (const method of ['allGather', 'broadcast', 'allReduceSum'] as const) {
    if (typeof communicator[method] !== 'function') {
      throw typeError(`${field}.${method}`, 'a function', communicator[method]);
    }
  }
  return communicator;
}
