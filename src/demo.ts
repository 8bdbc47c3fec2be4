// `npm run demo`: a small transformer learns two-digit addition, first from worked examples, then by reinforcement with
// GRPO and HA-DW. Exits with 1 when reinforcement did not raise the accuracy on problems held out from both.
//
//   npm run demo -- --seed 2            another policy, other problems
//   npm run demo -- --backend cpu       groupgrad, tensorflow, wasm or cpu; default: the best that is installed
//   npm run demo -- --steps 400         steps of reinforcement

import { parseArgs } from 'node:util';
import { startBackend } from './backend/backend.js';
import type { Backend } from './backend/names.js';
import { devices, type Evaluation, GrpoTrainer, presets, type Task } from './index.js';
import { createTransformerPolicy } from './model/transformer-policy.js';
import { addition, distinctExamples } from './tasks/index.js';
import { tfjsBridge } from './tfjs/index.js';
import { createProgress } from './train/progress.js';

// Sizes for a minute or two on the plain cpu backend and for seconds on the others. The warm start ends early, in the
// middle of the policy's learning, so that its accuracy leaves room to be raised.
const size = { layers: 2, width: 32, heads: 4, keyValueHeads: 4, hidden: 64 };
const heldOutCount = 400;
// The strong weight decay prevents memorising examples: without it, some seeds do not generalise.
const warmStart = { steps: 1000, until: 0.4, optimizer: { learningRate: 4e-3, warmupSteps: 20, weightDecay: 1 } };
const reinforcement = {
  promptsPerStep: 16,
  groupSize: 4,
  dynamicSampling: { maxRounds: 3 },
  // After such a short warm start the policy is unsure even of digits that it gets right: sampling at 1 would draw mostly errors.
  sampling: { temperature: 0.5 },
  loss: presets.dapo,
  hadw: {},
};

async function main(): Promise<number> {
  const { values: flags } = parseArgs({
    options: {
      seed: { type: 'string', default: '1' },
      backend: { type: 'string', default: 'auto' },
      steps: { type: 'string', default: '150' },
    },
  });
  const seed = wholeNumber('--seed', flags.seed);
  const steps = wholeNumber('--steps', flags.steps);
  const progress = createProgress(process.stdout);
  const { backend, package: name } = await startBackend(flags.backend as Backend | 'auto');
  // With typed arrays and inside TensorFlow on the processor; the demo uses no DeviceArrays.
  const device = devices().find(({ name, available }) => available && name !== 'cuda')!;
  const way = tfjsBridge().path === 'operations' ? 'as an operation inside TensorFlow' : 'through typed arrays';
  progress.print(
    `loss on device ${device.name} (${device.detail}); policy on tfjs backend ${backend} (${name}), loss ${way}`,
  );

  const train = addition({ digits: [2, 2], seed });
  const policy = await createTransformerPolicy({ ...size, vocabulary: train.characters, seed });
  const parameters = Object.values(policy.variables).reduce((sum, variable) => sum + variable.size, 0);
  progress.print(`${train.name} by a transformer of ${parameters} parameters, seed ${seed}`);

  const warmupSteps = Math.min(5, Math.max(0, steps - 1));
  const trainer = await GrpoTrainer.create({
    ...reinforcement,
    policy,
    train,
    evaluate: { heldOut: distinct(addition({ digits: [2, 2], seed, split: 'held-out' }), heldOutCount) },
    // Before and after reinforcement only, below.
    evaluation: { atStart: false, every: steps + 1 },
    warmStart,
    optimizer: { learningRate: 1e-3, warmupSteps, schedule: 'linear', totalSteps: Math.max(1, steps) },
    seed,
  });
  const start = performance.now();
  await trainer.start({ output: process.stdout });
  const { heldOut: before } = await trainer.evaluate();
  const middle = performance.now();
  progress.print(`held out, before reinforcement: ${describe(before)} (warm start ${seconds(start, middle)})`);
  const { metrics } = await trainer.run({ max: steps });
  const { heldOut: after } = await trainer.evaluate();
  progress.print(
    `held out, after reinforcement:  ${describe(after)} (reinforcement ${seconds(middle, performance.now())})`,
  );
  trainer.dispose();
  const isRaised = after.correct > before.correct;
  if (!isRaised) progress.print('reinforcement did not raise the accuracy');
  progress.print(summary(before, after, metrics.reward));
  return isRaised ? 0 : 1;
}

/** The first `count` different problems of a task, as a task. */
function distinct(task: Task, count: number): Task {
  const examples = distinctExamples(task, count);
  return { ...task, size: count, example: (index) => examples[index] };
}

function describe({ correct, count, accuracy }: Evaluation): string {
  return `${correct} of ${count} right (${(100 * accuracy).toFixed(1)} %)`;
}

/** Two numbers that look alike but are not: accuracy on new problems, and the reward in training. */
function summary(before: Evaluation, after: Evaluation, reward: number | undefined): string {
  const percent = (value: number) => `${(100 * value).toFixed(1)} %`;
  const heldOut =
    `accuracy on ${after.count} problems that training never saw: ${percent(before.accuracy)} before reinforcement, ` +
    `${percent(after.accuracy)} after (the likeliest answer to each)`;
  if (reward === undefined) return heldOut;
  return `${heldOut}; reward of the last training step: ${reward.toFixed(2)}, the share right of answers sampled for training problems`;
}

function seconds(start: number, end: number): string {
  return `${((end - start) / 1000).toFixed(1)} s`;
}

function wholeNumber(flag: string, text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new RangeError(`${flag}: expected an integer, got ${JSON.stringify(text)}`);
  return Number(text);
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(`demo: ${(error as Error).message}`);
  process.exitCode = 1;
}
