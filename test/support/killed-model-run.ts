// A run to be killed that trains a model from a folder by LoRA: `killed-model-run.ts <folder> <steps> [<url> <adapters>]`, with the
// rollouts of a server that reads adapters from a folder. Prints "training" before its first step.

import { startBackend } from '../../src/backend/backend.js';
import { GrpoTrainer, PretrainedPolicy, presets, vllm } from '../../src/index.js';
import { beginnings, lettersReward, lora, settings, stories } from './beginnings.js';

const [runDir, steps, url, adapterFolder] = process.argv.slice(2);
await startBackend('wasm');
const trainer = await GrpoTrainer.create({
  policy: PretrainedPolicy.load(stories, { lora }),
  train: beginnings,
  rewards: [lettersReward],
  ...settings,
  promptsPerStep: 2,
  groupSize: 4,
  loss: { ...presets.grpo, kl: { beta: 0.05 } },
  evaluation: { atStart: false },
  checkpoint: { every: 1 },
  ...(url && { rollout: vllm({ urls: [url], model: 'stories260k', adapterFolder }) }),
  runDir,
});
process.stdout.write('training\n');
for await (const _ of trainer.steps({ max: Number(steps) }));
trainer.dispose();
