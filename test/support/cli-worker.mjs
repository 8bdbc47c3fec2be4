// A thread that makes the calls of cli.ts: it answers with the exit code and everything that was written.

import { parentPort, workerData } from 'node:worker_threads';

const { main, state } = workerData;
let calls = 0;

async function call(args) {
  const written = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr']) {
    process[name].write = (text, ...rest) => {
      written[name] += text;
      if (typeof rest.at(-1) === 'function') rest.at(-1)();
      return true;
    };
  }
  process.argv = [process.execPath, main, ...args];
  process.exitCode = 0;
  const ended = new Promise((resolve) => {
    process.exit = resolve;
  });
  // Evaluated anew each time; what it imports is not.
  await import(`${main}?call=${calls++}`);
  await ended;
  process.stdout.removeAllListeners('error');
  return { status: process.exitCode, ...written };
}

parentPort.on('message', async ({ args, port }) => {
  port.postMessage(await call(args).catch((error) => ({ status: null, stdout: '', stderr: error.stack })));
  Atomics.store(state, 0, 1);
  Atomics.notify(state, 0);
});
