// Processes that train together, all in this one: what each gives waits in memory until all have given something.

import type { Communicator } from '../../src/index.js';

type Operation = 'allGather' | 'broadcast' | 'allReduceSum';

interface Round {
  operation: Operation;
  given: (Uint8Array | Float32Array)[];
  /** Of broadcasts. */
  root: number;
  finish: (all: readonly (Uint8Array | Float32Array)[]) => void;
  done: Promise<readonly (Uint8Array | Float32Array)[]>;
}

/** What the communicators of one group have been called with, in order. */
export interface Group {
  communicators: Communicator[];
  /** Number of operations of each kind. */
  calls: Record<Operation, number>;
}

/** A communicator for each of `size` processes. Sums are made in the order of the processes, as float32. */
export function communicators(size: number): Group {
  const calls = { allGather: 0, broadcast: 0, allReduceSum: 0 };
  const rounds: Round[] = [];
  const places = new Array<number>(size).fill(0);

  function take(rank: number, operation: Operation, values: Uint8Array | Float32Array, root = 0): Round['done'] {
    const place = places[rank]++;
    if (rounds[place] === undefined) {
      let finish!: Round['finish'];
      const done = new Promise<readonly (Uint8Array | Float32Array)[]>((resolve) => {
        finish = resolve;
      });
      rounds[place] = { operation, given: [], root, finish, done };
      calls[operation]++;
    }
    const round = rounds[place];
    if (round.operation !== operation || round.root !== root) {
      throw new Error(`process ${rank} calls ${operation} where another calls ${round.operation}`);
    }
    round.given[rank] = values.slice();
    if (Object.keys(round.given).length === size) {
      round.finish(round.given);
      // Whoever waits has the promise.
      delete rounds[place];
    }
    return round.done;
  }

  const made = Array.from(
    { length: size },
    (_, rank): Communicator => ({
      name: 'memory',
      rank,
      size,
      async allGather(bytes) {
        return (await take(rank, 'allGather', bytes)).map((each) => Uint8Array.from(each));
      },
      async broadcast(values, root) {
        values.set((await take(rank, 'broadcast', values, root))[root]);
      },
      async allReduceSum(values) {
        const [first, ...others] = await take(rank, 'allReduceSum', values);
        values.set(first);
        for (const other of others) for (let i = 0; i < values.length; i++) values[i] += other[i];
      },
    }),
  );
  return { communicators: made, calls };
}
