// A run to be killed that trains a model from a folder by LoRA: `killed-model-run.ts <folder> <steps> [<url> <adapters>]`, with the
// rollouts of a server that reads adapters from a folder. Prints "training" before its first step.

import { fileURLToPath } from 'node:url';
import { startBackend } from '../../src/backend/backend.js';
import { defineReward, GrpoTrainer, PretrainedPolicy, presets, vllm } from '../../src/index.js';

const [runDir, steps, url, adapterFolder] = process.argv.slice(2);
await startBackend('wasm');
const model = fileURLToPath(new URL('../../../shared/models/stories260k', import.meta.url));
const trainer = await GrpoTrainer.create({
  policy: PretrainedPolicy.load(model, { lora: { rank: 4 } }),
  train: {
    name: 'beginnings',
    size: 3,
    example: (i) => ({ prompt: `One day, ${['Tim', 'Lily', 'a dog'][i]}`, answer: '', solution: '', difficulty: 0 }),
    score: () => 0,
  },
  rewards: [
    defineReward('letters', ({ completion }) => [...completion.text].filter((letter) => letter === 'o').length),
  ],
  promptsPerStep: 2,
  groupSize: 4,
  sampling: { maxTokens: 8, promptLength: 12 },
  loss: { ...presets.grpo, kl: { beta: 0.05 } },
  hadw: {},
  optimizer: { learningRate: 1e-2 },
  evaluation: { atStart: false },
  checkpoint: { every: 1 },
  ...(url && { rollout: vllm({ urls: [url], model: 'stories260k', adapterFolder }) }),
  runDir,
});
process.stdout.write('training\n');
for await (const _ of trainer.steps({ max: Number(steps) }));
trainer.dispose();
