// A contender of matmul.ts: products on a tfjs backend. Reads a shape a line, answers with seconds.
// `matmul-tfjs.ts <backend> <precision> <threads>`

import { createInterface } from 'node:readline';
import * as tf from '@tensorflow/tfjs-core';
import { type Backend, startBackend } from '../../src/backend/backend.js';

const [backend, precision, threads] = process.argv.slice(2);
if (backend === 'groupgrad') {
  const api = await import('../../src/backend.js');
  await tf.setBackend('groupgrad');
  api.setPrecision(precision as 'float32' | 'bfloat16');
  api.configureEngine({ threads: Number(threads) });
} else {
  await startBackend(backend as Backend);
}
console.log(`tfjs-core ${tf.version_core}`);

let factors: { shape: string; a: tf.Tensor; b: tf.Tensor } | undefined;
for await (const shape of createInterface({ input: process.stdin })) {
  const [m, k, n] = shape.split(' ').map(Number);
  if (factors?.shape !== shape) {
    tf.dispose([factors?.a, factors?.b].filter((tensor) => tensor !== undefined));
    factors = { shape, a: tf.randomUniform([m, k], -1, 1), b: tf.randomUniform([k, n], -1, 1) };
  }
  const { a, b } = factors;
  // Short: the best of some runs within a tenth of a second.
  let best = Infinity;
  for (const start = performance.now(); performance.now() - start < 100 || best === Infinity; ) {
    const begin = performance.now();
    tf.matMul(a, b).dispose();
    best = Math.min(best, performance.now() - begin);
  }
  console.log(best / 1000);
}
