// Signs of life of a lock's owner: the lock file is written over with what it holds, whereupon the file system sets its
// time by its own clock. From a thread of its own, since a step may keep the main thread busy for minutes.

import { Worker } from 'node:worker_threads';

/**
 * A text rather than a file: a program bundled into one file has no other beside it, and Node 20 starts no thread from
 * TypeScript. A file system that fails for a while is tried again; a lock that is another's is left alone.
 */
const program = `
  const { closeSync, fsyncSync, openSync, readFileSync, writeSync } = require('node:fs');
  const { path, text, interval } = require('node:worker_threads').workerData;
  setInterval(() => {
    let file;
    try {
      file = openSync(path, 'r+');
      if (readFileSync(file, 'utf8') === text) {
        writeSync(file, text.slice(0, 1), 0);
        fsyncSync(file);
      }
    } catch {
    } finally {
      if (file !== undefined) closeSync(file);
    }
  }, interval);
`;

/** Writes `text` over itself in the file at `path` every `interval` milliseconds. Returns what ends it. */
export function startHeartbeat(path: string, text: string, interval: number): () => void {
  const workerData = { path, text, interval };
  const worker = new Worker(program, { eval: true, execArgv: [], env: {}, workerData });
  // Without it the lock lapses for other machines, which the owner notices before it writes: no reason to lose the run now.
  worker.on('error', () => {});
  worker.unref();
  return () => void worker.terminate();
}
