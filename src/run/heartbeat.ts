// The heartbeat of a lock: rewrites the lock file, so that the file system updates its modification time by its own clock.
// It runs in a thread because a training step can block the main thread for minutes.

import { Worker } from 'node:worker_threads';

/**
 * The program of the thread. A string rather than a file because a bundled program has no second file, and because Node 20
 * cannot start a thread from TypeScript. It retries when the file system fails, and leaves another owner's lock alone.
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

/** Rewrites the file at `path` every `interval` milliseconds while it holds `text`. Returns a function that stops it. */
export function startHeartbeat(path: string, text: string, interval: number): () => void {
  const workerData = { path, text, interval };
  const worker = new Worker(program, { eval: true, execArgv: [], env: {}, workerData });
  // Without a heartbeat another machine may take the lock, which the owner notices before it writes. The run continues.
  worker.on('error', () => {});
  worker.unref();
  return () => void worker.terminate();
}
