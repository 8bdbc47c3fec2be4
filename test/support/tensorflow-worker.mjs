// A worker thread that loads tfjs-node and a copy of the package, and returns the digest of losses on TensorFlow.
// `workerData`: { root, seed, order, endless }; `order` says which of the two is loaded first.

import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parentPort, workerData } from 'node:worker_threads';
import * as tf from '@tensorflow/tfjs-core';

const { root, seed = 1, order = 'tensorflow', endless = false } = workerData;
const load = (path) => import(pathToFileURL(join(root, path)).href);

const early = order === 'groupgrad' && (await load('src/tfjs/index.ts')).tfjsBridge();
const { startBackend } = await load('src/backend/backend.ts');
await startBackend('tensorflow');
const { grpoLoss, tfjsBridge } = await load('src/tfjs/index.ts');
const { presets } = await load('src/index.ts');

const [sequences, length, vocab] = [4, 8, 9000];
const logits = Float32Array.from({ length: sequences * length * vocab }, (_, i) => Math.sin(seed + i * i));
const tokens = Int32Array.from({ length: sequences * length }, (_, i) => (31 * i) % vocab);
const advantages = Float32Array.of(1, -1, 0.5, 2);

function step() {
  const x = tf.tensor3d(logits, [sequences, length, vocab]);
  const { value, grad } = tf.valueAndGrad((t) => grpoLoss(t, { tokens, advantages }, presets.grpo))(x);
  const digest = createHash('sha256').update(value.dataSync()).update(grad.dataSync()).digest('hex');
  tf.dispose([x, value, grad]);
  return digest;
}

const digests = new Set(Array.from({ length: 5 }, step));
if (digests.size !== 1) throw new Error('the same loss gave different bits');
parentPort.postMessage({ digest: [...digests][0], bridge: tfjsBridge(), early });
while (endless) step();
