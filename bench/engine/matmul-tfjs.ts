// A contender of matmul.ts: products on a tfjs backend. Reads one shape per line, responds with seconds.
// `matmul-tfjs.ts <backend> <precision> <threads>`

import { createInterface } from 'node:readline';
import * as tf from '@tensorflow/tfjs-core';
import { startBackend } from '../../src/backend/backend.js';
import type { Backend } from '../../src/backend/names.js';
import { seconds } from './timing.js';

const [backend, precision, threads] = process.argv.slice(2);
await startBackend(backend as Backend);
if (backend === 'groupgrad') {
  const api = await import('../../src/backend.js');
  api.setPrecision(precision as 'float32' | 'bfloat16');
  api.configureEngine({ threads: Number(threads) });
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
  console.log(seconds(() => tf.matMul(a, b).dispose()));
}
