// Stopping and resuming: a run of twenty steps is stopped after the first ten, as if its process had ended, and
// resumed. The result equals that of an uninterrupted run, bit for bit.
//
//   npx tsx examples/resume.ts [run folder]

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { GrpoTrainer, TransformerPolicy, tasks } from 'groupgrad';

const [folder = 'runs/example-resume'] = process.argv.slice(2);

async function train(runDir: string, max: number): Promise<string> {
  const task = tasks.addition({ digits: 1, seed: 1 });
  const trainer = await GrpoTrainer.create({
    policy: TransformerPolicy.create({ layers: 1, width: 16, heads: 2, hidden: 32, vocabulary: task.characters }),
    train: task,
    warmStart: { steps: 200, optimizer: { learningRate: 1e-2 } },
    hadw: {},
    optimizer: { learningRate: 3e-3 },
    checkpoint: { every: 5, keepLast: 2 },
    runDir,
    resume: 'auto', // the default: resume the run in the folder
  });
  console.log(`${runDir}: starts after step ${trainer.step}`);
  for await (const { index, metrics } of trainer.steps({ max })) {
    if (index % 5 === 0) console.log(`  step ${index}: reward ${metrics.reward.toFixed(3)}`);
  }
  const weights = readFileSync(join(trainer.save(), 'weights.safetensors'));
  trainer.dispose();
  return createHash('sha256').update(weights).digest('hex');
}

const whole = await train(join(folder, 'whole'), 20);
await train(join(folder, 'stopped'), 10);
const resumed = await train(join(folder, 'stopped'), 20);
console.log(resumed === whole ? 'the weights are the same, bit for bit' : 'the weights differ');
process.exitCode = resumed === whole ? 0 : 1;
