// One process, one TensorFlow: whichever of the two packages is loaded first, in worker threads, and with several copies of
// this package, operations are registered once and stay for as long as TensorFlow does. Each test runs a separate program.

import assert from 'node:assert/strict';
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import test, { describe } from 'node:test';
import { loadAddon } from '../../src/devices/load.js';
import { outputOf, root, run, typescript, withFolder } from '../support/native.js';
import { noTensorflow } from '../support/tensorflow.js';

interface Answer {
  digest: string;
  bridge: { path: string; detail: string };
  early: { path: string; detail: string } | false;
}

/** Runs a program, which may use `worker`, and returns its report. It must end on its own with exit code 0. */
function report<T>(program: string, folders: string[] = [root]): T {
  const prelude = `
    import { once } from 'node:events';
    import { Worker } from 'node:worker_threads';
    const roots = ${JSON.stringify(folders)};
    /** A worker with its result and its end. */
    function start(options = {}) {
      const workerData = { root: roots[0], ...options };
      const worker = new Worker('./test/support/tensorflow-worker.mjs', { workerData, execArgv: ${JSON.stringify(typescript)} });
      const ended = once(worker, 'exit').then(([code]) => code);
      const answer = once(worker, 'message').then(([message]) => message);
      return { worker, answer, ended };
    }
    async function whole(options) {
      const { answer, ended } = start(options);
      const result = await answer;
      const code = await ended;
      if (code !== 0) throw new Error('a worker ended with ' + code);
      return result;
    }
    const say = (value) => process.stdout.write(JSON.stringify(value));`;
  const args = [...typescript, '--input-type=module', '-e', `${prelude}\n${program}`];
  const result = run(process.execPath, args, { cwd: root, timeout: 120 });
  assert.equal(result.status, 0, outputOf(result));
  return JSON.parse(result.stdout) as T;
}

function allAlike(answers: readonly Answer[]): void {
  assert.ok(answers.length > 1);
  for (const { digest, bridge } of answers) {
    assert.equal(bridge.path, 'operations', bridge.detail);
    assert.equal(digest, answers[0].digest);
  }
}

const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };

/** A copy of the package, including its addon, in a separate folder; it shares the node_modules. */
function copyPackage(folder: string, asVersion = version): string {
  for (const file of ['src', 'package.json', 'tsconfig.json', 'test/support/tensorflow-worker.mjs']) {
    cpSync(join(root, file), join(folder, file), { recursive: true });
  }
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
  const addon = readFileSync((loadAddon() as { path: string }).path);
  const target = join(folder, 'build', 'Release', 'groupgrad.node');
  if (asVersion !== version) {
    assert.equal(asVersion.length, version.length);
    const place = addon.indexOf(`\0${version}\0`);
    assert.ok(place > 0);
    addon.write(asVersion, place + 1, 'latin1');
    const file = join(folder, 'src', 'base', 'version.ts');
    writeFileSync(file, readFileSync(file, 'utf8').replace(`'${version}'`, `'${asVersion}'`));
  }
  mkdirSync(dirname(target), { recursive: true });
  writeFileSync(target, addon);
  return folder;
}

describe('one TensorFlow in a process', { skip: noTensorflow }, () => {
  test('groupgrad before tfjs-node: no operations until TensorFlow is loaded, then they are registered', () => {
    const [tooEarly, before, after] = report<[{ error: string }, Answer['bridge'], Answer['bridge']]>(`
      const { loadAddon } = await import('./src/devices/load.js');
      const { tfjsBridge } = await import('./src/tfjs/index.js');
      const { startBackend } = await import('./src/backend/backend.js');
      const tooEarly = loadAddon().addon.tensorflow.register();
      const before = tfjsBridge();
      await startBackend('tensorflow');
      say([tooEarly, before, tfjsBridge()]);`);
    assert.deepEqual(tooEarly, { error: 'no TensorFlow library is loaded in this process' });
    assert.deepEqual(before, {
      path: 'arrays',
      detail: "no tfjs backend is set: operations need 'tensorflow' (tfjs-node or tfjs-node-gpu)",
    });
    assert.equal(after.path, 'operations', after.detail);
  });

  test('another backend has no operations, and the current one decides', () => {
    const paths = report<Answer['bridge'][]>(`
      const { tfjsBridge } = await import('./src/tfjs/index.js');
      const { startBackend } = await import('./src/backend/backend.js');
      const bridges = [];
      for (const backend of ['tensorflow', 'wasm', 'tensorflow']) {
        await startBackend(backend);
        bridges.push(tfjsBridge());
      }
      say(bridges);`);
    assert.deepEqual(
      paths.map(({ path }) => path),
      ['operations', 'arrays', 'operations'],
    );
    assert.equal(
      paths[1].detail,
      "tfjs backend 'wasm' has none: operations need 'tensorflow' (tfjs-node or tfjs-node-gpu)",
    );
  });

  test('workers in sequence, each the last to hold the addon, and then the main thread', () => {
    const answers = report<Answer[]>(`
      const answers = [];
      for (const order of ['groupgrad', 'tensorflow', 'groupgrad']) answers.push(await whole({ order }));
      const { tfjsBridge } = await import('./src/tfjs/index.js');
      const { startBackend } = await import('./src/backend/backend.js');
      await startBackend('tensorflow');
      answers.push({ ...answers[0], bridge: tfjsBridge() });
      answers.push(await whole());
      say(answers);`);
    allAlike(answers);
    assert.equal((answers[0].early as Answer['bridge']).path, 'arrays');
  });

  test('workers at the same time as a main thread that computes', () => {
    allAlike(
      report<Answer[]>(`
      const { startBackend } = await import('./src/backend/backend.js');
      const workers = [1, 2, 3, 4].map(() => whole());
      await startBackend('tensorflow');
      const { tfjsBridge } = await import('./src/tfjs/index.js');
      if (tfjsBridge().path !== 'operations') throw new Error(tfjsBridge().detail);
      say(await Promise.all(workers));`),
    );
  });

  test('a worker that is terminated during its losses does not affect the others', () => {
    allAlike(
      report<Answer[]>(`
      const answers = [];
      for (let i = 0; i < 3; i++) {
        const { worker, answer } = start({ endless: true });
        await answer;
        const other = whole();
        await new Promise((resolve) => setTimeout(resolve, 20 * i));
        await worker.terminate();
        answers.push(await other);
      }
      say(answers);`),
    );
  });

  test('two copies of the package register once, in sequence and at the same time', () => {
    withFolder((folder) => {
      const copy = copyPackage(folder);
      const folders = [root, copy];
      allAlike(report<Answer[]>('say([await whole({ root: roots[0] }), await whole({ root: roots[1] })]);', folders));
      for (let round = 0; round < 3; round++) {
        allAlike(
          report<Answer[]>('say(await Promise.all([0, 1, 0, 1].map((i) => whole({ root: roots[i] }))));', folders),
        );
      }
    });
  });

  test('two versions of the package have separate operations', () => {
    withFolder((folder) => {
      const other = copyPackage(folder, version.replaceAll(/\d/g, '9'));
      const answers = report<Answer[]>('say(await Promise.all(roots.map((root) => whole({ root }))));', [root, other]);
      allAlike(answers);
      assert.notEqual(answers[0].bridge.detail, answers[1].bridge.detail);
    });
  });

  test('the process may end right after a loss, through process.exit, and while a worker computes', () => {
    const load = `
      const { startBackend } = await import('./src/backend/backend.js');
      await startBackend('tensorflow');
      const tf = await import('@tensorflow/tfjs-core');
      const { grpoLoss } = await import('./src/tfjs/index.js');
      const { presets } = await import('./src/index.js');
      const x = tf.zeros([4, 8, 9000]);
      const batch = { tokens: new Int32Array(32), advantages: new Float32Array(4).fill(1) };
      say(tf.grad((t) => grpoLoss(t, batch, presets.grpo))(x).size);`;
    assert.equal(report(load), 4 * 8 * 9000);
    assert.equal(report(`${load} process.exit(0);`), 4 * 8 * 9000);
    report(`
      const { answer } = start({ endless: true });
      const { bridge } = await answer;
      process.stdout.write(JSON.stringify(bridge), () => process.exit(0));`);
  });
});
