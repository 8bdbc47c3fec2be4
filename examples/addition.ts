// A built-in task: two-digit addition, from a short warm start on worked examples, by GRPO with HA-DW.
//
//   npx tsx examples/addition.ts [steps] [run folder]

import { GrpoTrainer, presets, TransformerPolicy, tasks } from 'groupgrad';

const [steps = '300', runDir = 'runs/example-addition'] = process.argv.slice(2);

const train = tasks.addition({ digits: [2, 2], seed: 1 });
const trainer = await GrpoTrainer.create({
  policy: TransformerPolicy.create({ preset: 'nano', vocabulary: train.characters, seed: 1 }),
  train,
  // Held-out problems are never used for training, whatever the seeds.
  evaluate: { heldOut: tasks.addition({ digits: [2, 2], seed: 1, split: 'held-out', size: 200 }) },
  warmStart: { steps: 1000, until: 0.3, optimizer: { learningRate: 2e-3, warmupSteps: 20, weightDecay: 1 } },
  groupSize: 8,
  promptsPerStep: 16,
  loss: presets.dapo,
  hadw: { scale: 1.3, anchor: { update: 'window', window: 10 } },
  optimizer: { learningRate: 5e-4 },
  seed: 1,
  runDir,
});

const { ended, steps: made } = await trainer.run({ max: Number(steps) });
const { heldOut } = await trainer.evaluate();
console.log(`${ended} after ${made} steps: ${heldOut.correct} of ${heldOut.count} held-out problems right`);
trainer.dispose();
