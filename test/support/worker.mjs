// A worker thread that computes a series of calls and answers with its digest. Without a series it makes small calls, nearly
// all of whose time goes by at the boundary between JavaScript and C++, until it is ended from outside.

import { parentPort, workerData } from 'node:worker_threads';

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
