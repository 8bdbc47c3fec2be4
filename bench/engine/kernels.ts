// `npm run bench:kernels`: kernels of the backend groupgrad against the separate operations of which other backends compose them, in
// turns in one process: drawing tokens, and a linear layer with an adapter. Prints a Markdown table of ratios of processor time, which
// counts all threads and is steadier than the clock on a machine that others use; and how long an operation on one number takes beyond
// what tfjs-core needs for any.
//
//   npm run bench:kernels -- --rounds 25

import { parseArgs } from 'node:util';
import * as tf from '@tensorflow/tfjs-core';
import { startBackend } from '../../src/backend/backend.js';
import { composedDraw, type Drawing, drawTokens } from '../../src/rollout/draw.js';
import { quantile } from './peer.js';

const { values: flags } = parseArgs({ options: { rounds: { type: 'string', default: '25' } } });
const rounds = Number(flags.rounds);
await startBackend('groupgrad');

/** Seconds of all threads. */
function processorTime(work: () => void): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
}

function compare(what: string, separate: () => void, kernel: () => void): void {
  // Compiles what is compiled at first use, and packs what is packed at the second.
  for (let i = 0; i < 3; i++) for (const work of [separate, kernel]) work();
  const pairs = Array.from({ length: rounds }, (_, i) => {
    const order = i % 2 === 0 ? [separate, kernel] : [kernel, separate];
    const [first, second] = order.map(processorTime);
    return i % 2 === 0 ? first / second : second / first;
  });
  const [low, median, high] = [0.25, 0.5, 0.75].map((q) => quantile(pairs, q).toFixed(2));
  console.log(`| ${what} | ${median} (${low} to ${high}) |`);
}

console.log('| | separate operations, relative to the kernel (quartiles) |\n| --- | ---: |');

for (const [rows, vocabulary] of [
  [64, 12],
  [32, 49_152],
]) {
  for (const spread of vocabulary > 1000 ? [2, 0.1] : [1]) {
    const logits = tf.tidy(() => tf.mul<tf.Tensor2D>(tf.randomNormal([rows, vocabulary], 0, 1, 'float32', 1), spread));
    const cases: Record<string, Partial<Drawing>> = {
      greedy: { temperature: 0 },
      'temperature 1': {},
      'top-k 50, top-p 0.9': { cut: { topK: 50, topP: 0.9 } },
      'top-p 0.9': { cut: { topP: 0.9 } },
    };
    for (const [name, own] of Object.entries(cases)) {
      const uniform = (row: number) => (row + 0.5) / rows;
      const all = {
        temperature: 1,
        cut: {},
        allowed: vocabulary,
        wanted: () => true,
        uniform,
        device: 'auto',
      } as const;
      const drawing: Drawing = { ...all, ...own };
      const times = vocabulary > 1000 ? 1 : 50;
      const repeated = (draw: typeof drawTokens) => () => {
        for (let i = 0; i < times; i++) draw(logits, drawing);
      };
      const what = `${rows} tokens from ${vocabulary} logits of standard deviation ${spread}, ${name}`;
      compare(what, repeated(composedDraw), repeated(drawTokens));
    }
    logits.dispose();
  }
}

const [inputs, outputs, rank, scale] = [576, 1536, 16, 2];
for (const rows of [32, 1024]) {
  const normal = (...shape: [number, number]) => tf.randomNormal<tf.Rank.R2>(shape);
  const [x, weight, a] = [normal(rows, inputs), normal(outputs, inputs), normal(rank, inputs)];
  const [b, dy, low] = [normal(outputs, rank), normal(rows, outputs), normal(rows, rank)];
  const kernel = (name: string, given: tf.NamedTensorMap, attributes: Record<string, number | boolean>) =>
    tf.engine().runKernel<tf.Tensor[]>(`groupgrad.${name}`, given, attributes);
  const all = { inputsFirst: false, scale, wantsX: true, wantsA: true, wantsB: true };
  const freed = (compute: () => tf.Tensor[]) => () => tf.dispose(tf.tidy(compute));
  compare(
    `a layer ${inputs} to ${outputs} with an adapter of rank ${rank}, ${rows} rows, forward`,
    freed(() => {
      const own = tf.matMul(x, a, false, true);
      const adapted = tf.mul(tf.matMul(own, b, false, true), scale);
      return [tf.add(tf.matMul(x, weight, false, true), adapted)];
    }),
    freed(() => {
      const [own] = kernel('adapterStates', { x, a }, { scale });
      return kernel('linear', { x, weight, low: own, b }, { inputsFirst: false });
    }),
  );
  compare(
    `the same, backward`,
    freed(() => {
      const scaled = tf.mul<tf.Tensor2D>(dy, scale);
      const dLow = tf.matMul<tf.Tensor2D>(scaled, b);
      const dx = tf.add(tf.matMul(dy, weight), tf.matMul(dLow, a));
      return [dx, tf.matMul(dLow, x, true), tf.matMul(scaled, low, true)];
    }),
    freed(() => kernel('linearBackward', { dy, x, weight, low, a, b }, all)),
  );
  tf.dispose([x, weight, a, b, dy, low]);
}

const one = tf.tensor1d([1.5]);
const microseconds = (kernel: string, given: tf.NamedTensorMap) => {
  const times = 20_000;
  const seconds = processorTime(() => {
    for (let i = 0; i < times; i++) tf.dispose(tf.engine().runKernel<tf.Tensor>(kernel, given, {}));
  });
  return (1e6 * seconds) / times;
};
const operations: Record<string, tf.NamedTensorMap> = { Square: { x: one }, Add: { a: one, b: one } };
const beyond = Object.keys(operations).map(() => [] as number[]);
for (let round = 0; round < rounds; round++) {
  // Identity computes nothing: its time is tfjs-core's own.
  const own = microseconds('Identity', { x: one });
  Object.entries(operations).forEach(([name, given], i) => {
    beyond[i].push(microseconds(name, given) - own);
  });
}
console.log('\nMicroseconds of an operation on one number beyond those of tfjs-core\n');
Object.keys(operations).forEach((name, i) => {
  console.log(`- ${name}: ${quantile(beyond[i], 0.5).toFixed(1)}`);
});
