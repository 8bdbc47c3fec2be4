// A worker thread that computes on the backend groupgrad and answers with a digest of the results.

import { createHash } from 'node:crypto';
import { parentPort } from 'node:worker_threads';
import * as tf from '@tensorflow/tfjs-core';

await import('../../src/backend.ts');
await tf.setBackend('groupgrad');
const hash = createHash('sha256');
const w = tf.randomNormal([300, 600], 0, 1, 'float32', 100);
for (let i = 0; i < 30; i++) {
  tf.tidy(() => {
    const x = tf.randomNormal([70, 300], 0, 1, 'float32', 1 + i); // 0 would be no seed
    hash.update(tf.softmax(tf.matMul(x, w)).dataSync());
    hash.update(tf.transpose(tf.tanh(tf.matMul(x, w)), [1, 0]).dataSync());
  });
}
parentPort.postMessage(hash.digest('hex'));
