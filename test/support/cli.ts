// Calls of the command line in a thread, whose modules stay loaded from one call to the next: a process for each takes most of
// its time to start. What has to be a process (its signals, its memory, what is left when it is gone) starts dist/cli/main.js.

import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { MessageChannel, receiveMessageOnPort, Worker } from 'node:worker_threads';
import { root } from './native.js';

export interface Call {
  status: number;
  stdout: string;
  stderr: string;
}

/** Seconds. */
const timeLimit = 300;
let thread: { worker: Worker; state: Int32Array } | undefined;

/** Calls the command line in the working directory of this process and waits for its end. */
export function callInThread(...args: string[]): Call {
  thread ??= startThread();
  const { worker, state } = thread;
  const { port1, port2 } = new MessageChannel();
  Atomics.store(state, 0, 0);
  worker.postMessage({ args, port: port2 }, [port2]);
  if (Atomics.wait(state, 0, 0, 1000 * timeLimit) === 'timed-out') {
    throw new Error(`groupgrad ${args.join(' ')} did not end within ${timeLimit} s`);
  }
  const { message } = receiveMessageOnPort(port1)!;
  port1.close();
  return message;
}

function startThread() {
  const state = new Int32Array(new SharedArrayBuffer(4));
  const main = pathToFileURL(join(root, 'dist', 'cli', 'main.js')).href;
  const worker = new Worker(new URL('./cli-worker.mjs', import.meta.url), {
    workerData: { main, state },
    execArgv: [],
  });
  worker.unref();
  return { worker, state };
}
