// The backend in several worker threads of one process, memory over 10^5 operations, and impossible sizes.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { freemem } from 'node:os';
import test, { describe } from 'node:test';
import { Worker } from 'node:worker_threads';
import { loadAddon } from '../../src/devices/load.js';
import { outputOf, root, run, typescript } from '../support/native.js';
import { slowSet } from '../support/sets.js';

const loaded = loadAddon();
const skip = loaded.addon ? false : loaded.reason;

/** Runs `program` with the backend in a separate process and returns its output. */
function output(program: string, flags: readonly string[] = []): string {
  const start = `import * as tf from '@tensorflow/tfjs-core'; import './src/backend.ts'; await tf.setBackend('groupgrad');`;
  const args = [...flags, ...typescript, '--input-type=module', '-e', start + program];
  const result = run(process.execPath, args, { cwd: root, timeout: 300 });
  assert.equal(result.status, 0, outputOf(result));
  return result.stdout.trim();
}

const workerFile = new URL('../support/engine-worker.mjs', import.meta.url);

describe('the backend groupgrad in a process', { skip }, () => {
  test('gives the same bits in four concurrent workers, and after others have ended', async () => {
    const digest = async () => {
      const worker = new Worker(workerFile, { execArgv: typescript });
      const [[answer], [code]] = await Promise.all([once(worker, 'message'), once(worker, 'exit')]);
      assert.equal(code, 0);
      return answer as string;
    };
    const first = await digest();
    assert.deepEqual(await Promise.all([digest(), digest(), digest(), digest()]), [first, first, first, first]);
    const ended = new Worker(workerFile, { execArgv: typescript });
    await ended.terminate();
    assert.equal(await digest(), first);
  });

  test('keeps its memory flat over 10^5 operations', () => {
    // A buffer leaked each time would add up to 800 MB; the collector keeps some tens of MB.
    const program = `
      const step = (i) => tf.tidy(() => {
        const x = tf.fill([40, 50], i);
        const w = tf.fill([50, 40], 0.5);
        const y = tf.relu(tf.matMul(x, w));
        tf.sum(tf.softmax(tf.add(y, tf.matMul(x, w)))).dataSync();
      });
      const resident = async () => {
        for (let i = 0; i < 3; i++) { globalThis.gc(); await new Promise((resolve) => setImmediate(resolve)); }
        return process.memoryUsage.rss();
      };
      for (let i = 0; i < 2000; i++) step(i);
      const before = await resident();
      for (let i = 0; i < 12500; i++) step(i);
      const { numTensors, pooledBytes, packedBytes } = tf.memory();
      console.log(JSON.stringify({ grown: (await resident()) - before, numTensors, pooledBytes, packedBytes }));`;
    const memory = JSON.parse(output(program, ['--expose-gc']));
    assert.equal(memory.numTensors, 0);
    assert.equal(memory.packedBytes, 0);
    assert.ok(memory.pooledBytes < 1e6, `${memory.pooledBytes} bytes kept for later`);
    assert.ok(memory.grown < 50e6, `grew by ${memory.grown} bytes`);
  });

  test('rejects impossible sizes with a RangeError, and continues', () => {
    const program = `
      const failures = [];
      for (const run of [
        () => tf.tile(tf.zeros([1]), [2 ** 40]),
        () => tf.matMul(tf.zeros([2 ** 21, 1]), tf.zeros([1, 2 ** 21])),
        () => tf.add(tf.zeros([2 ** 21, 1]), tf.zeros([1, 2 ** 21])),
      ]) {
        try { run(); failures.push('none'); } catch (error) { failures.push(error.name + ': ' + error.message); }
      }
      failures.push(String(tf.sum(tf.ones([3])).dataSync()[0]));
      console.log(JSON.stringify(failures));`;
    const [tile, product, sum, after] = JSON.parse(output(program)) as string[];
    assert.equal(tile, `RangeError: not enough memory for a tensor of ${2 ** 42} bytes`);
    for (const message of [product, sum])
      assert.equal(message, `RangeError: not enough memory for a tensor of ${2 ** 44} bytes`);
    assert.equal(after, '3');
  });

  const large = slowSet('takes 7 GB') || (freemem() < 10e9 && 'needs 10 GB of free memory');
  test('computes with more than 2^31 elements', { skip: large }, () => {
    const program = `
      const n = 2 ** 31 + 5;
      const x = tf.fill([n], 1, 'bool');
      const tail = tf.slice(x, [n - 2], [2]).dataSync();
      const back = tf.reverse(tf.concat([tf.zeros([1], 'bool'), x]), 0);
      console.log(JSON.stringify([...tail, ...tf.slice(back, [n - 1], [2]).dataSync()]));`;
    assert.deepEqual(JSON.parse(output(program)), [1, 1, 1, 0]);
  });
});

test('without the addon, importing the backend fails with the reason', () => {
  const program = `await import('./src/backend.ts').catch((error) => console.log(error.message));`;
  const result = run(process.execPath, [...typescript, '--input-type=module', '-e', program], {
    cwd: root,
    env: { ...process.env, GROUPGRAD_ADDON: 'nowhere.node' },
  });
  assert.match(
    result.stdout,
    /^the tfjs backend groupgrad needs the native addon: .*nowhere\.node, which does not exist/,
  );
});
