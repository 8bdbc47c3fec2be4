// `npm run bench`: the fused loss compared with the same loss in ordinary tfjs operations on every installed tfjs backend, a plain
// single-threaded loop, and a memory copy of the same bytes. Prints a Markdown table and writes JSON with the machine.
//
//   npm run bench -- --quick            only the small sizes
//   npm run bench -- --backends tensorflow,wasm   only these of tfjs's backends
//   npm run bench -- --python python3   PyTorch eager as well, with a Python that has torch
//   npm run bench -- --out file.json    default: bench/results/host-<cores>-cores.json

import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname } from 'node:path';
import { parseArgs } from 'node:util';
import * as tf from '@tensorflow/tfjs-core';
import { Bench } from 'tinybench';
import { startBackend } from '../src/backend/backend.js';
import { type Backend, backends } from '../src/backend/names.js';
import { checkChoice } from '../src/base/check.js';
import { type LossConfig, logitsLoss, type PolicyInput, policyLoss, presets } from '../src/index.js';
import { logitsLoss as arraysLoss, policyLoss as arraysPolicy } from '../src/tfjs/arrays.js';
import { differentiable } from '../src/tfjs/differentiable.js';
import { grpoLoss, tfjsBridge, policyLoss as tfjsPolicy } from '../src/tfjs/index.js';
import { plainLogitsLoss } from './baselines/plain-loop.js';
import { tfjsAdvantages, tfjsLogitsLoss, tfjsPolicyLoss } from './baselines/tfjs-loss.js';
import { parallelCopy } from './copy.js';
import { machine, peakExtraBytes } from './machine.js';

interface Contender {
  name: string;
  run: () => void;
  /** Untimed, before each run: restores what the run overwrites. */
  prepare?: () => void;
  /** Largest difference from float64, relative to the largest value of the gradient. */
  error?: () => number;
}

interface Row {
  operation: string;
  size: string;
  contender: string;
  medianMs: number;
  p10Ms: number;
  p90Ms: number;
  samples: number;
  /** Ratio of the median to the copy's, the first of the group. */
  timesCopy: number;
  /** Ratio of the median to the fused loss's, the second of the group. */
  timesFused: number;
  peakExtraMiB?: number;
  error?: number;
}

interface Skipped {
  operation: string;
  size: string;
  contender: string;
  reason: string;
}

const { values: flags } = parseArgs({
  options: {
    quick: { type: 'boolean' },
    backends: { type: 'string', default: backends.join() },
    out: { type: 'string' },
    python: { type: 'string' },
  },
});
const threads = availableParallelism();
const rows: Row[] = [];
const skipped: Skipped[] = [];

/** Quantile of sorted samples. */
function quantile(sorted: readonly number[], q: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];
}

function addRow(
  operation: string,
  size: string,
  contender: string,
  unsorted: readonly number[],
  rest: Partial<Row> = {},
): void {
  const samples = [...unsorted].sort((a, b) => a - b);
  rows.push({
    operation,
    size,
    contender,
    medianMs: quantile(samples, 0.5),
    p10Ms: quantile(samples, 0.1),
    p90Ms: quantile(samples, 0.9),
    samples: samples.length,
    timesCopy: NaN,
    timesFused: NaN,
    ...rest,
  });
}

/** Measures contenders one after another. In each group the first is the copy, the second the fused loss. */
async function measure(operation: string, size: string, contenders: Contender[]): Promise<void> {
  for (const { name, run, prepare, error } of contenders) {
    process.stderr.write(`${operation}, ${size}: ${name}\n`);
    const bench = new Bench({ time: 500, iterations: 5, warmupTime: 100, warmupIterations: 1, retainSamples: true });
    try {
      prepare?.();
      const extra = peakExtraBytes(run);
      bench.add(name, run, { beforeEach: prepare });
      const [task] = await bench.run();
      if (task.result.state !== 'completed')
        throw task.result.state === 'errored' ? task.result.error : new Error('stopped');
      addRow(operation, size, name, task.result.latency.samples ?? [], {
        peakExtraMiB: extra === undefined ? undefined : extra / 2 ** 20,
        error: error?.(),
      });
    } catch (problem) {
      skipped.push({ operation, size, contender: name, reason: (problem as Error).message.split('\n')[0] });
    }
  }
}

/** PyTorch eager in a separate process, with the same number of threads. */
function measureTorch(python: string, operation: string, size: string, N: number, V: number): void {
  const contender = `PyTorch eager on the CPU, ${threads} threads`;
  process.stderr.write(`${operation}, ${size}: ${contender}\n`);
  try {
    const script = new URL('peers/torch_eager.py', import.meta.url).pathname;
    const output = execFileSync(python, [script, String(N), String(V), String(threads)], { encoding: 'utf8' });
    const { version, samples } = JSON.parse(output) as { version: string; samples: number[] };
    addRow(operation, size, `${contender} (torch ${version})`, samples);
  } catch (problem) {
    skipped.push({ operation, size, contender, reason: (problem as Error).message.split('\n')[0] });
  }
}

/** Reproducible values in [-1, 1). */
function noise(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  };
}

function fill(length: number, next: () => number, scale: number, shift = 0): Float32Array {
  const values = new Float32Array(length);
  for (let i = 0; i < length; i++) values[i] = next() * scale + shift;
  return values;
}

function largestError(actual: Float32Array, expected: Float32Array): number {
  let difference = 0;
  let largest = 0;
  for (let i = 0; i < expected.length; i++) {
    difference = Math.max(difference, Math.abs(actual[i] - expected[i]));
    largest = Math.max(largest, Math.abs(expected[i]));
  }
  return difference / largest;
}

const wanted = flags.backends.split(',').map((name) => checkChoice('--backends', name, backends));
const startedBackends: Backend[] = [];
for (const backend of backends) {
  try {
    if (!wanted.includes(backend)) throw new Error('--backends does not name it');
    await startBackend(backend);
    startedBackends.push(backend);
  } catch (error) {
    const reason = (error as Error).message.split('\n').at(-1)!.trim();
    skipped.push({ operation: 'all', size: 'all', contender: `tfjs on ${backend}`, reason });
  }
}

/** WebAssembly addresses at most 4 GiB, and tfjs operations hold about ten arrays of the logits' size at once. */
const wasmValues = 2 ** 32 / 4 / 10;
/** The plain cpu backend takes minutes beyond this. */
const cpuValues = 2 ** 25;

function tooLarge(backend: Backend, values: number): string | undefined {
  if (backend === 'wasm' && values > wasmValues) return 'needs more than the 4 GiB that WebAssembly addresses';
  if (backend === 'cpu' && values > cpuValues) return 'takes minutes per call';
  return undefined;
}

const clip: LossConfig = presets.dapo;

async function benchLogits(N: number, V: number): Promise<void> {
  const operation = 'loss from logits (K3)';
  const size = `N = ${N}, V = ${V}`;
  const next = noise(N + V);
  const sequences = 8;
  const length = N / sequences;
  const shape = { sequences, length, vocab: V };
  const original = fill(N * V, next, 8);
  const logits = original.slice();
  const gradient = new Float32Array(N * V);
  const tokens = Int32Array.from({ length: N }, () => Math.floor((next() + 1) * 0.5 * V));
  const advantages = fill(sequences, next, 2);
  const { logProbs } = logitsLoss({ shape, logits, tokens, advantages }, clip, { gradient: false });
  const oldLogProbs = logProbs.map((l) => l + 0.2 * next());
  const input = { shape, logits, tokens, advantages, oldLogProbs };

  // Float64 only on the first rows: with the whole batch's token count as the denominator their gradient is the same.
  const checked = Math.min(length, Math.max(1, Math.floor(2 ** 20 / V)));
  const reference = logitsLoss(
    {
      shape: { sequences: 1, length: checked, vocab: V },
      logits: original.slice(0, checked * V),
      tokens: tokens.slice(0, checked),
      advantages: advantages.slice(0, 1),
      oldLogProbs: oldLogProbs.slice(0, checked),
      normalizer: N,
    },
    clip,
    { device: 'reference' },
  ).gradLogits;
  const errorOf = (actual: Float32Array) => largestError(actual.subarray(0, checked * V), reference);

  const copy = await parallelCopy(N * V, threads);
  const refill = () => logits.set(original);
  const contenders: Contender[] = [
    { name: `memory copy, ${threads} threads`, run: copy.run },
    {
      name: `groupgrad cpu in place, ${threads} threads`,
      prepare: refill,
      run: () => logitsLoss(input, clip, { inPlace: true }),
      error: () => errorOf(logits),
    },
    {
      name: `groupgrad cpu to a given array, ${threads} threads`,
      prepare: refill,
      run: () => logitsLoss(input, clip, { gradLogits: gradient }),
      error: () => errorOf(gradient),
    },
    {
      name: 'groupgrad cpu in place, 1 thread',
      prepare: refill,
      run: () => logitsLoss(input, clip, { inPlace: true, threads: 1 }),
      error: () => errorOf(logits),
    },
    {
      name: 'plain loop, 1 thread',
      prepare: refill,
      run: () => plainLogitsLoss(input, gradient),
      error: () => errorOf(gradient),
    },
  ];
  await measure(operation, size, contenders);
  await copy.close();
  if (flags.python) measureTorch(flags.python, operation, size, N, V);

  for (const backend of startedBackends) {
    const reason = tooLarge(backend, N * V);
    const names = [`groupgrad/tfjs on ${backend}`, `tfjs operations on ${backend}`] as const;
    if (reason) {
      skipped.push(...names.map((contender) => ({ operation, size, contender, reason })));
      continue;
    }
    await tf.setBackend(backend);
    const x = tf.tensor3d(original, [sequences, length, V]);
    const batch = { tokens, advantages, oldLogProbs };
    /** For losses that overwrite their logits: a copy, made again before each call. */
    let copied = tf.add(x, 0);
    const contender = (name: string, loss: (t: tf.Tensor) => tf.Scalar, overwrites = false): Contender => {
      const differentiate = tf.valueAndGrad((t: tf.Tensor) => loss(t));
      const operand = () => (overwrites ? copied : x);
      const copyAgain = () => {
        copied.dispose();
        copied = tf.add(x, 0);
      };
      return {
        name,
        prepare: overwrites ? copyAgain : undefined,
        run: () => tf.dispose(differentiate(operand()) as unknown as tf.TensorContainer),
        error: () => {
          copyAgain();
          const { value, grad } = differentiate(operand());
          const error = errorOf(grad.dataSync() as Float32Array);
          tf.dispose([value, grad]);
          return error;
        },
      };
    };
    /** `grpoLoss` in every way that the backend offers. */
    const fused = (config: LossConfig, suffix = ''): Contender[] => {
      const throughArrays = (t: tf.Tensor) =>
        differentiable(t, (values) => arraysLoss(values, { ...batch, shape }, config, {}, undefined));
      if (tfjsBridge().path === 'arrays') return [contender(`${names[0]}${suffix}`, throughArrays)];
      const inPlace = (t: tf.Tensor) => grpoLoss(t, batch, config, { inPlace: true });
      return [
        contender(`${names[0]}, typed arrays${suffix}`, throughArrays),
        contender(`${names[0]}, operation${suffix}`, (t) => grpoLoss(t, batch, config)),
        contender(`${names[0]}, operation in place${suffix}`, inPlace, true),
      ];
    };
    await measure(operation, size, [
      ...fused(clip),
      contender(names[1], (t) => tfjsLogitsLoss(t as tf.Tensor3D, batch, clip)),
    ]);
    // The fused loss computes the entropies anyway; tfjs operations take extra time for them.
    const bonus: LossConfig = { ...clip, entropy: { coefficient: 0.01 } };
    const unchecked = (c: Contender): Contender => ({ ...c, error: undefined });
    await measure(
      operation,
      size,
      [
        ...fused(bonus, ', entropy bonus'),
        contender(`${names[1]}, entropy bonus`, (t) => tfjsLogitsLoss(t as tf.Tensor3D, batch, bonus)),
      ].map(unchecked),
    );
    tf.dispose([x, copied]);
  }
}

async function benchPolicy(N: number): Promise<void> {
  const operation = 'rewards and log-probs to loss and gradient (K1 + K2)';
  const size = `N = ${N}`;
  const next = noise(N);
  const groupSize = 8;
  const length = Math.min(128, N / 16);
  const sequences = N / length;
  const logProbs = fill(N, next, 1, -1.5);
  const input = {
    shape: { sequences, length },
    logProbs,
    oldLogProbs: logProbs.map((l) => l + 0.2 * next()),
    refLogProbs: logProbs.map((l) => l + 0.2 * next()),
    mask: Uint8Array.from({ length: N }, () => (next() < 0.6 ? 1 : 0)),
    rewards: Float32Array.from({ length: sequences }, () => (next() < 0 ? 0 : 1)),
    advantage: { groupSize, hadw: { anchor: 0.4 } },
  } satisfies PolicyInput;
  const config: LossConfig = { ...clip, kl: { beta: 0.04 } };
  const reference = policyLoss(input, config, { device: 'reference' }).gradLogProbs;

  // Three arrays of floats and the mask are read, the gradient is written: half of that is what a copy reads and writes.
  const copy = await parallelCopy(Math.ceil((N * (4 * 4 + 1)) / 2 / 4), 1);
  const gradLogProbs = new Float32Array(N);
  let fresh: Float32Array = gradLogProbs;
  await measure(operation, size, [
    { name: 'memory copy, 1 thread', run: copy.run },
    {
      name: `groupgrad cpu to a given array, ${threads} threads`,
      run: () => policyLoss(input, config, { gradLogProbs }),
      error: () => largestError(gradLogProbs, reference),
    },
    {
      name: `groupgrad cpu to a new array, ${threads} threads`,
      run: () => {
        fresh = policyLoss(input, config).gradLogProbs;
      },
      error: () => largestError(fresh, reference),
    },
    {
      name: 'groupgrad cpu to a given array, 1 thread',
      run: () => policyLoss(input, config, { gradLogProbs, threads: 1 }),
      error: () => largestError(gradLogProbs, reference),
    },
  ]);
  await copy.close();

  for (const backend of startedBackends) {
    await tf.setBackend(backend);
    const x = tf.tensor2d(logProbs, [sequences, length]);
    const tensors = {
      oldLogProbs: tf.tensor2d(input.oldLogProbs, [sequences, length]),
      refLogProbs: tf.tensor2d(input.refLogProbs, [sequences, length]),
      mask: tf.tensor2d(Float32Array.from(input.mask), [sequences, length]),
    };
    const rewards = tf.tensor2d(input.rewards, [sequences / groupSize, groupSize]);
    const contender = (name: string, loss: (t: tf.Tensor2D) => tf.Scalar): Contender => {
      const differentiate = tf.valueAndGrad((t: tf.Tensor) => loss(t as tf.Tensor2D));
      return {
        name,
        run: () => tf.dispose(differentiate(x) as unknown as tf.TensorContainer),
        error: () => {
          const { value, grad } = differentiate(x);
          const error = largestError(grad.dataSync() as Float32Array, reference);
          tf.dispose([value, grad]);
          return error;
        },
      };
    };
    const name = `groupgrad/tfjs on ${backend}`;
    const { shape, logProbs: _, ...batch } = input;
    const throughArrays = (t: tf.Tensor) =>
      differentiable(t, (values) => arraysPolicy(values, { ...batch, shape }, config, {}, undefined));
    const fused =
      tfjsBridge().path === 'arrays'
        ? [contender(name, throughArrays)]
        : [
            contender(`${name}, typed arrays`, throughArrays),
            contender(`${name}, operation`, (t) => tfjsPolicy(t, batch, config)),
          ];
    await measure(operation, size, [
      ...fused,
      contender(`tfjs operations on ${backend}`, (t) => {
        const advantages = tfjsAdvantages(rewards, { epsilon: 1e-4, hadw: { anchor: 0.4, scale: 1.3 } });
        return tfjsPolicyLoss(
          t,
          { ...tensors, advantages: tf.reshape(advantages, [sequences]) as tf.Tensor1D },
          config,
        );
      }),
    ]);
    tf.dispose([x, rewards, ...Object.values(tensors)]);
  }
}

const sizes = flags.quick
  ? { policy: [1024], logits: [[256, 1024]] }
  : {
      policy: [256, 1024, 65536],
      logits: [256, 1024].flatMap((N) => [1024, 32000, 151936].map((V) => [N, V])),
    };
for (const N of sizes.policy) await benchPolicy(N);
for (const [N, V] of sizes.logits) await benchLogits(N, V);

function number(value: number | undefined, digits = 3): string {
  return value === undefined
    ? ''
    : value.toLocaleString('en', { maximumSignificantDigits: digits, useGrouping: false });
}

const titles = [...new Set(rows.map(({ operation, size }) => `${operation}, ${size}`))];
for (const title of titles) {
  const group = rows.filter(({ operation, size }) => `${operation}, ${size}` === title);
  for (const row of group) {
    row.timesCopy = row.medianMs / group[0].medianMs;
    row.timesFused = row.medianMs / group[1].medianMs;
  }
  console.log(`\n### ${title}\n`);
  console.log(
    '| | median ms | p10–p90 ms | times the copy | times the fused loss | peak extra MiB | error against float64 |',
  );
  console.log('| --- | ---: | ---: | ---: | ---: | ---: | ---: |');
  for (const row of group) {
    const range = `${number(row.p10Ms)}–${number(row.p90Ms)}`;
    const error = row.error === undefined ? '' : row.error.toExponential(1);
    console.log(
      `| ${row.contender} | ${number(row.medianMs)} | ${range} | ${number(row.timesCopy)} | ${number(row.timesFused)} | ${number(row.peakExtraMiB, 2)} | ${error} |`,
    );
  }
}
if (skipped.length) {
  console.log('\nNot measured:\n');
  for (const { operation, size, contender, reason } of skipped)
    console.log(`- ${operation}, ${size}, ${contender}: ${reason}`);
}

const out = flags.out ?? `bench/results/host-${threads}-cores.json`;
mkdirSync(dirname(out), { recursive: true });
writeFileSync(
  out,
  `${JSON.stringify({ date: new Date().toISOString(), machine: machine(), rows, skipped }, null, 1)}\n`,
);
console.log(`\nWritten to ${out}`);
