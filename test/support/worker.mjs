// A worker thread that computes a series of calls and returns its digest. Without a series it makes small calls, which spend most of
// their time at the boundary between JavaScript and C++, until it is terminated.
// JavaScript, because a worker does not inherit tsx: it registers it for what it imports.

import { parentPort, workerData } from 'node:worker_threads';
import { register } from 'tsx/esm/api';

register();
if (workerData) {
  const { digestOf } = await import('./digest.ts');
  parentPort.postMessage(digestOf(workerData));
} else {
  const { policyLoss } = await import('../../src/index.ts');
  const input = { shape: { sequences: 1, length: 1 }, logProbs: Float32Array.of(-1), advantages: Float32Array.of(1) };
  const config = { surrogate: { kind: 'reinforce' } };
  policyLoss(input, config, { device: 'cpu' });
  parentPort.postMessage('started');
  for (;;) policyLoss(input, config, { device: 'cpu' });
}
