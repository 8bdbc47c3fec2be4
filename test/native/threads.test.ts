// The addon in several threads of one process: state belongs to an environment, and ends with it.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import test, { describe } from 'node:test';
import { Worker } from 'node:worker_threads';
import { loadAddon } from '../../src/devices/load.js';
import { digestOf, type Series } from '../support/digest.js';
import { outputOf, root, run, typescript } from '../support/native.js';
import { repeats } from '../support/sets.js';

const loaded = loadAddon();

function start(series: Series | null): Worker {
  return new Worker(new URL('../support/worker.mjs', import.meta.url), { workerData: series, execArgv: typescript });
}

/** The worker's digest, once it has ended. */
async function answer(worker: Worker): Promise<string> {
  const [[digest], [code]] = await Promise.all([once(worker, 'message'), once(worker, 'exit')]);
  assert.equal(code, 0);
  return digest as string;
}

/** Runs `program` in a separate process, which must end on its own with exit code 0. */
function endsCleanly(program: string): string {
  const result = run(process.execPath, [...typescript, '--input-type=module', '-e', program], {
    cwd: root,
    timeout: 60,
  });
  assert.equal(result.status, 0, outputOf(result));
  assert.equal(result.stderr, '');
  return result.stdout.trim();
}

describe('worker threads', { skip: loaded.addon ? false : loaded.reason }, () => {
  test('four at once, and the main thread with them, give the same bits', async () => {
    const series: Series = { seed: 100, calls: 60 };
    const workers = [1, 2, 3, 4].map(() => answer(start(series)));
    const others = answer(start({ seed: 900, calls: 60 }));
    const own = digestOf(series);
    assert.deepEqual(await Promise.all(workers), [own, own, own, own]);
    assert.notEqual(await others, own);
  });

  test('one that starts after another has ended computes, and so does the main thread', async () => {
    const series: Series = { seed: 7, calls: 10 };
    const own = digestOf(series);
    for (let i = 0; i < 4; i++) assert.equal(await answer(start(series)), own);
    assert.equal(digestOf(series), own);
  });

  test('one that is terminated during its calls does not affect the others', async () => {
    const series: Series = { seed: 8, calls: 10 };
    const own = digestOf(series);
    for (let i = 0; i < repeats(2, 6); i++) {
      const worker = start(null);
      await once(worker, 'message');
      const other = answer(start(series));
      await new Promise((resolve) => setTimeout(resolve, 5 * i));
      await worker.terminate();
      assert.equal(await other, own);
    }
  });
});

describe('the end of a process', { skip: loaded.addon ? false : loaded.reason }, () => {
  const imports = `import { Worker } from 'node:worker_threads';
    import { largeGradient } from './test/support/digest.js';
    const worker = (workerData) => new Worker('./test/support/worker.mjs', { workerData, execArgv: ${JSON.stringify(typescript)} });`;

  test('does not wait for the threads of the device', () => {
    assert.equal(endsCleanly(`${imports} console.log(largeGradient(1).length);`), '256000');
  });

  test('may come through process.exit right after a call', () => {
    endsCleanly(`${imports} largeGradient(1); process.exit(0);`);
  });

  test('may come while a worker computes', () => {
    endsCleanly(`${imports}
      largeGradient(1);
      worker(null).on('message', () => setTimeout(() => process.exit(0), 50));`);
  });

  test('may come after workers that used the device have ended', () => {
    endsCleanly(`${imports}
      worker({ seed: 1, calls: 2 }).on('exit', () => worker({ seed: 2, calls: 2 }).on('exit', () => largeGradient(3)));`);
  });
});
