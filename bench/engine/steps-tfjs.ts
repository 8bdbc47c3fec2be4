// A contender of steps.ts: whole GRPO steps of a small transformer on a tfjs backend. Reads the number of steps from each
// line, responds with the median seconds of one. `steps-tfjs.ts <backend> <threads>`

import { createInterface } from 'node:readline';
import * as tf from '@tensorflow/tfjs-core';
import { startBackend } from '../../src/backend/backend.js';
import type { Backend } from '../../src/backend/names.js';
import { GrpoTrainer, presets } from '../../src/index.js';
import { createTransformer } from '../../src/model/transformer.js';
import { addition } from '../../src/tasks/index.js';
import { characterVocabulary } from '../../src/text/vocabulary.js';
import { quantile } from './peer.js';

const [backend, threads] = process.argv.slice(2);
const started = await startBackend(backend as Backend);
if (backend === 'groupgrad') {
  const { configureEngine } = await import('../../src/backend.js');
  configureEngine({ threads: Number(threads) });
}
console.log(`${started.package}, tfjs-core ${tf.version_core}`);

// The configuration of the demo (src/demo.ts), without its warm start.
const train = addition({ digits: [2, 2], seed: 1 });
const policy = createTransformer(
  { layers: 2, width: 32, heads: 4, keyValueHeads: 4, hidden: 64 },
  characterVocabulary(train.characters!),
  1,
);
const trainer = await GrpoTrainer.create({
  policy,
  train,
  promptsPerStep: 16,
  groupSize: 4,
  loss: presets.dapo,
  hadw: {},
  seed: 1,
});

for await (const line of createInterface({ input: process.stdin })) {
  const seconds: number[] = [];
  for (let i = 0; i < Number(line); i++) {
    const begin = performance.now();
    await trainer.run({ max: trainer.step + 1, output: null });
    seconds.push((performance.now() - begin) / 1e3);
  }
  console.log(quantile(seconds, 0.5));
}
trainer.dispose();
