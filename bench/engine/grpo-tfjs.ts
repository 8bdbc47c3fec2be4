// A contender of grpo.ts: GRPO steps of a model folder on the backend groupgrad. Answers `step` with the seconds of one, `peak`
// with bytes. `grpo-tfjs.ts <folder> <precision> <threads> [<tokens per pass>]`

import { createInterface } from 'node:readline';
import * as tf from '@tensorflow/tfjs-core';
import { startBackend } from '../../src/backend/backend.js';
import { configureEngine } from '../../src/backend.js';
import { GrpoTrainer, type Precision, PretrainedPolicy, presets, type Task } from '../../src/index.js';
import { firstWord, word } from './model-folder.js';

const [folder, precision, threads, tokensPerPass] = process.argv.slice(2);
const started = await startBackend('groupgrad');
configureEngine({ threads: Number(threads) });
console.log(`${started.package}, tfjs-core ${tf.version_core}`);

let judged = 0;
const train: Task = {
  name: 'numbers',
  size: 1000,
  example: (i) => ({
    prompt: Array.from({ length: 29 }, (_, at) => word(firstWord + (((i + 1) * (at + 7) * 131) % 49_000))).join(' '),
    answer: '',
    solution: '',
    difficulty: 0,
  }),
  score: () => judged++ % 2,
};
const trainer = await GrpoTrainer.create({
  policy: await PretrainedPolicy.load(folder, { precision: precision as Precision }),
  train,
  promptsPerStep: 4,
  groupSize: 8,
  sampling: { maxTokens: 32 },
  ...(tokensPerPass !== undefined && { tokensPerMicroBatch: Number(tokensPerPass) }),
  loss: presets.dapo,
  optimizer: { learningRate: 1e-6 },
  seed: 1,
});

for await (const line of createInterface({ input: process.stdin })) {
  if (line === 'peak') {
    console.log(1024 * process.resourceUsage().maxRSS);
    continue;
  }
  const begin = performance.now();
  await trainer.run({ max: trainer.step + 1, output: null });
  console.log((performance.now() - begin) / 1e3);
}
trainer.dispose();
