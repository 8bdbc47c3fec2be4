// A run to be killed: `killed-run.ts <folder> <steps>`. Prints "training" before its first step.

import { startBackend } from '../../src/backend/backend.js';
import { presets } from '../../src/index.js';
import { createTrainer } from '../../src/train/grpo.js';
import { quickBackend } from './backend.js';
import { lengthTask, tinyOptions, tinyTask } from './trainer.js';

const [runDir, steps] = process.argv.slice(2);
await startBackend(quickBackend);
const trainer = await createTrainer(
  tinyOptions({
    // Ten examples, four per step: every second or third step crosses the end of the task.
    train: { ...lengthTask(), size: 10 },
    evaluate: { short: { ...tinyTask, size: 6 } },
    evaluation: { every: 5 },
    loss: { ...presets.grpo, kl: { beta: 0.05 } },
    hadw: { anchor: { update: 'kalman', window: 3 } },
    dynamicSampling: { maxRounds: 2 },
    miniBatches: 2,
    warmStart: { steps: 3 },
    optimizer: { learningRate: 1e-2, warmupSteps: 4, schedule: 'linear', totalSteps: 2000 },
    checkpoint: { every: 2, keepBest: 'eval/short/accuracy' },
    runDir,
  }),
);
process.stdout.write('training\n');
for await (const _ of trainer.steps({ max: Number(steps) }));
trainer.dispose();
