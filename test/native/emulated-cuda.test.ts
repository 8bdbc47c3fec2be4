// The CUDA device without a GPU: its kernels compiled for the processor (test/native/simt), in the same addon. All
// suites with a device run on it; what only a GPU can show (speed, memory order, PTX) they cannot test.

import assert from 'node:assert/strict';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import {
  buildEmulatedAddon,
  buildProgram,
  cannotBuild,
  outputOf,
  root,
  run,
  typescript,
  withFolder,
} from '../support/native.js';
import { slowSet } from '../support/sets.js';

const skip = slowSet('compiles the emulated device') || cannotBuild();

/** Runs test files with the emulated addon; `device`: environment variables that describe the GPU. */
function runTests(t: TestContext, patterns: string[], device: Record<string, string> = {}): void {
  const own = { GROUPGRAD_ADDON: buildEmulatedAddon(), GROUPGRAD_TEST_DEVICE: 'cuda' };
  const env: NodeJS.ProcessEnv = { ...process.env, ...device, ...own };
  delete env.NODE_TEST_CONTEXT; // else the tests report to this runner
  const result = run(process.execPath, [...typescript, join(root, 'scripts', 'test.mjs'), ...patterns], { env });
  const output = outputOf(result);
  assert.equal(result.status, 0, output);
  const passed = Number(/^ℹ pass (\d+)/m.exec(output)?.[1]);
  assert.ok(passed > 0, output);
  t.diagnostic(`${passed} tests passed`);
}

test('the sources compile for the emulated device, all templates instantiated', { skip: cannotBuild() }, () => {
  const compiler = process.env.CXX ?? 'c++';
  const flags = ['-std=c++20', '-fsyntax-only', '-Wall', '-Wextra', '-Werror', '-Wno-unknown-pragmas'];
  const emulation = ['-DGROUPGRAD_CUDA', '-DGROUPGRAD_CUDA_EMULATED', '-I', join(root, 'test', 'native', 'simt')];
  const sources = readdirSync(join(root, 'native', 'cuda')).filter((file) => /\.(cpp|cu)$/.test(file));
  assert.ok(sources.length > 0);
  for (const source of sources) {
    const result = run(compiler, [...flags, ...emulation, '-x', 'c++', join(root, 'native', 'cuda', source)]);
    assert.equal(result.status, 0, outputOf(result));
  }
});

test('emulated CUDA device: golden vectors, KL, traps, advantages', { skip }, (t) => {
  runTests(t, ['oracle/golden', 'oracle/kl', 'unit/reference-traps', 'unit/advantages', 'unit/configuration']);
});

test('emulated CUDA device: loss scale, the gradient of logits, counts of non-finite values', { skip }, (t) => {
  runTests(t, ['unit/loss-scale', 'unit/logits-backward', 'unit/non-finite']);
});

test('emulated CUDA device: DeviceArray and the host API over it, with few allocations of pinned memory', {
  skip,
}, (t) => {
  // It leaves two thousand results unread.
  runTests(t, ['gpu/device-arrays'], { SIMT_MOST_HOST_ALLOCATIONS: '40' });
});

test('emulated CUDA device: random requests against float64, sizes', { skip }, (t) => {
  runTests(t, ['oracle/devices-agree', 'gpu/sizes']);
});

test('emulated CUDA device of an older GPU, without clusters', { skip }, (t) => {
  runTests(t, ['oracle/golden', 'unit/reference-traps', 'unit/logits-backward'], {
    SIMT_CAPABILITY: '75',
    SIMT_SHARED_KIB: '64',
  });
});

test('emulated CUDA device that supports no clusters and no memory pools', { skip }, (t) => {
  runTests(t, ['gpu/device-arrays', 'unit/reference-traps'], { SIMT_ACTIVE_CLUSTERS: '0', SIMT_POOLS: '0' });
});

/** The output of a program with the emulated addon: results on standard output, launches on standard error. */
function emulated(program: string, device: Record<string, string>): { stdout: string; launches: string[] } {
  const source = `
    import { computeAdvantages, DeviceArray, logitsLoss, policyLoss, presets } from './src/index.js';
    const floats = (length, value) => DeviceArray.from(Float32Array.from({ length }, (_, i) => value(i)));
    const logits = (vocab) => {
      const input = { shape: { sequences: 1, length: 1, vocab }, logits: floats(vocab, Math.sin),
        tokens: Int32Array.of(3), advantages: Float32Array.of(1) };
      return logitsLoss(input, { surrogate: { kind: 'reinforce' } }, { inPlace: true }).loss;
    };
    ${program}`;
  const env = { ...process.env, ...device, GROUPGRAD_ADDON: buildEmulatedAddon() };
  const result = run(process.execPath, [...typescript, '--input-type=module', '--eval', source], { env });
  assert.equal(result.status, 0, outputOf(result));
  return { stdout: result.stdout, launches: result.stderr.split('\n').filter((line) => line.startsWith('simt: ')) };
}

test('float32 logits of the largest vocabularies leave a multiprocessor space for three blocks', { skip }, () => {
  const one = (vocab: number, device: Record<string, string> = {}) => {
    const { stdout, launches } = emulated(`console.log(logits(${vocab}))`, { SIMT_TRACE: '1', ...device });
    const [, cluster, bytes] = /clusters of ([2-9]|1\d), (\d+) bytes/.exec(launches.join('\n')) ?? [];
    return { loss: Number(stdout), cluster: Number(cluster), bytes: Number(bytes) };
  };
  const three = (228 * 1024) / 3 - 1024;
  const common = one(151936);
  assert.equal(common.cluster, 8);
  assert.ok(common.bytes <= three, `${common.bytes} bytes`);
  const large = one(262144);
  assert.equal(large.cluster, 16);
  assert.ok(large.bytes <= three, `${large.bytes} bytes`);
  const portable = one(262144, { SIMT_LARGEST_CLUSTER: '8' });
  assert.equal(portable.cluster, 8);
  assert.ok(Math.abs(portable.loss - large.loss) <= 2 ** -22 * Math.abs(large.loss));
});

test('code for an older architecture uses nothing of a newer device', { skip }, () => {
  const launched = (device: Record<string, string>) =>
    emulated('console.log(logits(30000))', { SIMT_TRACE: '1', ...device }).launches.join('\n');
  assert.match(launched({}), /overlapping/);
  assert.doesNotMatch(launched({ SIMT_COMPILED: '80' }), /clusters of ([2-9]|1\d)|overlapping/);
});

test('the runtime is asked only once how to launch a kernel', { skip }, () => {
  emulated(
    `for (let i = 0; i < 30; i++) {
      for (const vocab of [100, 3000, 30000, 262144]) if (i < 3 || vocab < 30000) logits(vocab);
      policyLoss({ shape: { sequences: 4, length: 300 }, logProbs: floats(1200, () => -1), mask: new Uint8Array(1200).fill(1),
        rewards: floats(4, (i) => i % 2), advantage: { groupSize: 2 } }, presets.dapo);
    }`,
    { SIMT_MOST_QUESTIONS: '12' },
  );
});

test('the loss from rewards and log-probs is one launch', { skip }, () => {
  const { launches } = emulated(
    `policyLoss({ shape: { sequences: 4, length: 300 }, logProbs: floats(1200, () => -1), mask: new Uint8Array(1200).fill(1),
      rewards: floats(4, (i) => i % 2), advantage: { groupSize: 2 } }, presets.dapo).loss;`,
    { SIMT_TRACE: '1' },
  );
  assert.equal(launches.length, 1);
  assert.match(launches[0], /cooperative/);
});

test('a token-local loss from logits is three launches, of which none waits for all of its blocks', { skip }, () => {
  const program = `const zeros = (length) => new Float32Array(length);
    logitsLoss({ shape: { sequences: 4, length: 300, vocab: 16 }, logits: floats(19200, Math.sin), tokens: new Int32Array(1200),
      mask: new Uint8Array(1200).fill(1), oldLogProbs: zeros(1200), advantages: Float32Array.of(1, -1, 2, -2) },
      presets.dapo, { inPlace: true }).loss;`;
  for (const [capability, last] of [
    ['90', /, overlapping$/],
    ['80', /shared memory$/],
  ] as const) {
    const { launches } = emulated(program, { SIMT_TRACE: '1', SIMT_CAPABILITY: capability });
    assert.equal(launches.length, 3);
    assert.doesNotMatch(launches.join('\n'), /cooperative/);
    assert.match(launches[2], last);
  }
});

test('worker threads of one process: each has its device, whatever vocabularies the others use', { skip }, () => {
  const program = `
    import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';
    import { DeviceArray, logitsLoss, presets } from ${JSON.stringify(join(root, 'dist', 'index.js'))};
    const run = (vocab) => {
      let last;
      for (let i = 0; i < 20; i++) {
        const logits = DeviceArray.from(Float32Array.from({ length: vocab }, (_, j) => Math.sin(j)));
        const { loss } = logitsLoss({ shape: { sequences: 1, length: 1, vocab }, logits, tokens: Int32Array.of(3),
          advantages: Float32Array.of(1) }, { surrogate: { kind: 'reinforce' } }, { inPlace: true });
        last = loss;
      }
      return last;
    };
    if (isMainThread) {
      const vocabularies = [3000, 30000, 60000];
      const losses = await Promise.all(vocabularies.map((vocab) => new Promise((resolve, reject) => {
        const worker = new Worker(new URL(import.meta.url), { workerData: vocab });
        worker.on('message', resolve).on('error', reject);
      })));
      console.log(JSON.stringify([losses, vocabularies.map(run)]));
    } else parentPort.postMessage(run(workerData));`;
  withFolder((folder) => {
    const file = join(folder, 'workers.mjs');
    writeFileSync(file, program);
    const result = run(process.execPath, [file], { env: { ...process.env, GROUPGRAD_ADDON: buildEmulatedAddon() } });
    assert.equal(result.status, 0, outputOf(result));
    const [inWorkers, here] = JSON.parse(result.stdout);
    assert.deepEqual(inWorkers, here);
  });
});

test('fuzz: every CUDA kernel agrees with the CPU device, as four kinds of GPU', { skip }, (t) => {
  const result = run(buildProgram('fuzz', { isEmulated: true }), ['100', '1', '0']);
  assert.equal(result.status, 0, outputOf(result));
  t.diagnostic(result.stdout.trim());
});

const report = `
  import { devices, DeviceArray, policyLoss, presets } from './src/index.js';
  const [{ available, detail }] = devices();
  const input = { shape: { sequences: 1, length: 1 }, logProbs: Float32Array.of(-1), advantages: Float32Array.of(1) };
  const errors = [];
  for (const call of [
    () => policyLoss(input, presets.grpo, { device: 'cuda' }),
    () => DeviceArray.allocate('float32', 1),
  ]) {
    try { call(); } catch (error) { errors.push(String(error)); }
  }
  const { loss } = policyLoss(input, presets.grpo, { device: 'auto' });
  console.log(JSON.stringify({ available, detail, errors, loss }));`;

for (const [what, error, expected] of [
  ['no driver', '35', 'there is no NVIDIA driver on this machine'],
  ['no GPU', '100', 'the NVIDIA driver sees no GPU'],
  ['another failure', '700', 'the CUDA runtime does not start'],
]) {
  test(`a CUDA build on a machine with ${what}: says so, and auto uses the CPU`, { skip }, () => {
    const env = {
      ...process.env,
      GROUPGRAD_ADDON: buildEmulatedAddon(),
      SIMT_DEVICE_ERROR: error,
      ...(error !== '35' && { SIMT_DRIVER: '13000' }),
    };
    const result = run(process.execPath, [...typescript, '--input-type=module', '--eval', report], { env });
    assert.equal(result.status, 0, outputOf(result));
    const { available, detail, errors, loss } = JSON.parse(result.stdout);
    assert.equal(available, false);
    assert.ok(detail.startsWith(expected), detail);
    assert.equal(errors[0], `RangeError: options.device: 'cuda' is not available: ${detail}`);
    assert.equal(errors[1], `RangeError: DeviceArray: there is no CUDA device: ${detail}`);
    assert.equal(loss, -1);
  });
}

test('a driver that is too old: says which versions are installed', { skip }, () => {
  const env = {
    ...process.env,
    GROUPGRAD_ADDON: buildEmulatedAddon(),
    SIMT_DEVICE_ERROR: '35',
    SIMT_DRIVER: '11020',
  };
  const result = run(process.execPath, [...typescript, '--input-type=module', '--eval', report], { env });
  const { detail } = JSON.parse(result.stdout);
  assert.match(detail, /^the NVIDIA driver is too old: it supports CUDA 11\.2, this build needs CUDA 13\.0/);
});
