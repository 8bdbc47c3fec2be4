// A contender of steps.ts: whole GRPO steps of a small transformer on a tfjs backend. Reads the number of steps from each
// line, responds with the median seconds of one. `steps-tfjs.ts <backend> <threads> [<model folder>]`

import { createInterface } from 'node:readline';
import * as tf from '@tensorflow/tfjs-core';
import { startBackend } from '../../src/backend/backend.js';
import type { Backend } from '../../src/backend/names.js';
import {
  defineReward,
  type Example,
  GrpoTrainer,
  PretrainedPolicy,
  presets,
  type TrainerOptions,
} from '../../src/index.js';
import { createTransformer } from '../../src/model/transformer.js';
import { addition } from '../../src/tasks/index.js';
import { characterVocabulary } from '../../src/text/vocabulary.js';
import { quantile } from './peer.js';

const [backend, threads, folder] = process.argv.slice(2);
const started = await startBackend(backend as Backend);
if (backend === 'groupgrad') {
  const { configureEngine } = await import('../../src/backend.js');
  configureEngine({ threads: Number(threads) });
}
console.log(`${started.package}, tfjs-core ${tf.version_core}`);

/** The configuration of the demo (src/demo.ts), without its warm start. */
async function demo() {
  const train = addition({ digits: [2, 2], seed: 1 });
  const policy = createTransformer(
    { layers: 2, width: 32, heads: 4, keyValueHeads: 4, hidden: 64 },
    characterVocabulary(train.characters!),
    1,
  );
  return GrpoTrainer.create({ policy, train, promptsPerStep: 16, groupSize: 4, loss: presets.dapo, hadw: {}, seed: 1 });
}

/** The configuration of examples/pretrained.ts, without its warm start; every completion has 100 tokens. */
async function stories(model: string) {
  const prompts = ['Once upon a time, there was a little girl named Lily.', 'One day, a cat went to the park.'];
  const example = (index: number): Example => {
    return { prompt: prompts[index % prompts.length], answer: '', solution: '', difficulty: 0 };
  };
  const options: TrainerOptions = {
    policy: await PretrainedPolicy.load(model, { lora: { rank: 8, alpha: 16, targets: 'all-linear' } }),
    train: { name: 'beginnings', size: 8, example, score: () => 0 },
    rewards: [defineReward('letters', ({ completion }) => completion.text.split('e').length)],
    promptsPerStep: 8,
    groupSize: 8,
    sampling: { maxTokens: 100, promptLength: 32 },
    loss: { ...presets.dapo, kl: { beta: 0.03 } },
    hadw: {},
    optimizer: { learningRate: 1e-4 },
    seed: 1,
  };
  return GrpoTrainer.create(options);
}

const trainer = folder === undefined ? await demo() : await stories(folder);

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
