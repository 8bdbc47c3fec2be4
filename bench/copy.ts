// The upper bound: a plain memory copy of the same bytes on the same number of threads (one read and one write of each).

import { Worker } from 'node:worker_threads';

const worker = `
  const { workerData } = require('node:worker_threads');
  const { control, from, to, begin, end } = workerData;
  const source = new Float32Array(from).subarray(begin, end);
  const target = new Float32Array(to).subarray(begin, end);
  for (let round = 0; ; round++) {
    Atomics.wait(control, 0, round);
    if (Atomics.load(control, 1)) break;
    target.set(source);
    Atomics.add(control, 2, 1);
    Atomics.notify(control, 2);
  }
`;

export interface ParallelCopy {
  run(): void;
  close(): Promise<void>;
}

/** Copies `values` floats; the caller copies one part, workers the others. */
export async function parallelCopy(values: number, threads: number): Promise<ParallelCopy> {
  const control = new Int32Array(new SharedArrayBuffer(12));
  const from = new SharedArrayBuffer(values * 4);
  const to = new SharedArrayBuffer(values * 4);
  new Float32Array(from).fill(1);
  new Float32Array(to).fill(2);
  const part = Math.ceil(values / threads);
  const source = new Float32Array(from).subarray(0, part);
  const target = new Float32Array(to).subarray(0, part);
  const workers = Array.from({ length: threads - 1 }, (_, i) => {
    const begin = (i + 1) * part;
    const end = Math.min(values, begin + part);
    return new Worker(worker, { eval: true, workerData: { control, from, to, begin, end } });
  });
  await Promise.all(workers.map((w) => new Promise((resolve) => w.once('online', resolve))));
  await new Promise((resolve) => setTimeout(resolve, 100));

  let round = 0;
  return {
    run() {
      round++;
      Atomics.store(control, 2, 0);
      Atomics.store(control, 0, round);
      Atomics.notify(control, 0);
      target.set(source);
      while (Atomics.load(control, 2) < workers.length) {
        // The others finish at about the same time: spinning keeps the wake-up of this thread out of the measurement.
      }
    },
    async close() {
      Atomics.store(control, 1, 1);
      Atomics.store(control, 0, round + 1);
      Atomics.notify(control, 0);
      await Promise.all(workers.map((w) => new Promise((resolve) => w.once('exit', resolve))));
    },
  };
}
