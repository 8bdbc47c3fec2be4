// Trains and prints, every hundred steps, the number of tensors and the resident memory after garbage collection:
// `--expose-gc long-run.ts <backend> <steps> <folder>`.

import * as tf from '@tensorflow/tfjs-core';
import { startBackend } from '../../src/backend/backend.js';
import type { Backend } from '../../src/backend/names.js';
import { presets } from '../../src/index.js';
import { createTransformer } from '../../src/model/transformer.js';
import { characterVocabulary } from '../../src/text/vocabulary.js';
import { createTrainer } from '../../src/train/grpo.js';
import { tinyOptions, tinyTask } from './trainer.js';

const [backend, steps, runDir] = process.argv.slice(2);
await startBackend(backend as Backend);

async function resident(): Promise<number> {
  for (let i = 0; i < 4; i++) {
    (globalThis as unknown as { gc: () => void }).gc();
    await new Promise((resolve) => setImmediate(resolve));
  }
  return process.memoryUsage.rss();
}

const policy = createTransformer(
  { layers: 1, width: 64, heads: 4, keyValueHeads: 4, hidden: 176 },
  characterVocabulary(tinyTask.characters),
  1,
);
const trainer = await createTrainer(
  tinyOptions({
    policy,
    evaluate: { same: { ...tinyTask, size: 8 } },
    evaluation: { every: 20 },
    loss: { ...presets.grpo, kl: { beta: 0.01 } },
    dynamicSampling: { maxRounds: 2 },
    miniBatches: 2,
    microBatchSize: 4,
    checkpoint: { every: 50 },
    runDir,
  }),
);
const states: { step: number; tensors: number; resident: number }[] = [];
for await (const { index } of trainer.steps({ max: Number(steps) })) {
  if (index % 100 === 0) states.push({ step: index, tensors: tf.memory().numTensors, resident: await resident() });
}
trainer.dispose();
process.stdout.write(JSON.stringify(states));
