// `npm run demo`: a small transformer learns two-digit addition, first from worked examples, then by reinforcement with
// GRPO and HA-DW. Exits with 1 when reinforcement did not raise the accuracy on problems held out from both.
//
//   npm run demo -- --seed 2            another policy, other problems
//   npm run demo -- --backend cpu       tensorflow, wasm or cpu; default: the best that is installed
//   npm run demo -- --steps 400         steps of reinforcement

import { parseArgs } from 'node:util';
import { devices, presets } from './index.js';
import type { Policy } from './policy/policy.js';
import { createTransformer } from './policy/transformer.js';
import { addition, distinctExamples } from './tasks/index.js';
import { tfjsBridge } from './tfjs/index.js';
import { type Backend, startBackend } from './trainer/backend.js';
import { type Evaluation, evaluate } from './trainer/evaluate.js';
import { GrpoTrainer } from './trainer/grpo.js';
import { createProgress, type Progress } from './trainer/progress.js';
import { type TokenTask, tokenTask } from './trainer/token-task.js';
import { warmStart } from './trainer/warm-start.js';

// Sizes for a minute or two on the plain cpu backend and for seconds on the others. The warm start ends early, in the
// middle of the policy's learning, so that its accuracy leaves room to be raised.
const size = { layers: 2, width: 32, heads: 4, hidden: 64 };
const heldOutCount = 400;
const warm = {
  maxSteps: 1000,
  batchSize: 32,
  /** The share of problems right at which it ends, looked at every so many steps on so many problems. */
  enough: 0.4,
  every: 25,
  problems: 128,
  // The strong decay is against learning examples by heart: without it, some seeds do not generalise.
  optimizer: { learningRate: 4e-3, warmupSteps: 20, weightDecay: 1 },
};
const reinforcement = {
  promptsPerStep: 16,
  groupSize: 4,
  maxRounds: 3,
  // After so short a warm start the policy is unsure of digits that it has right: sampling at 1 would draw mostly errors.
  temperature: 0.5,
  loss: presets.dapo,
  hadw: {},
  learningRate: 1e-3,
  warmupSteps: 5,
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
  const device = devices().find(({ available }) => available)!;
  const way = tfjsBridge().path === 'operations' ? 'as an operation inside TensorFlow' : 'through typed arrays';
  progress.print(
    `loss on device ${device.name} (${device.detail}); policy on tfjs backend ${backend} (${name}), loss ${way}`,
  );

  const train = tokenTask(addition({ digits: [2, 2], seed }));
  const heldOut = distinctExamples(addition({ digits: [2, 2], seed, split: 'held-out' }), heldOutCount);
  const policy = createTransformer({ ...size, vocabulary: train.vocabulary.size }, seed);
  const parameters = Object.values(policy.variables).reduce((sum, variable) => sum + variable.size, 0);
  progress.print(`${train.task.name} by a transformer of ${parameters} parameters, seed ${seed}`);

  const [firstExample, warmSeconds] = timed(() => runWarmStart(policy, train, seed, progress));
  const before = evaluate(policy, train, heldOut);
  progress.print(`held out, before reinforcement: ${describe(before)} (warm start ${warmSeconds} s)`);

  const [, reinforcementSeconds] = timed(() => runReinforcement(policy, train, firstExample, seed, steps, progress));
  const after = evaluate(policy, train, heldOut);
  progress.print(`held out, after reinforcement:  ${describe(after)} (reinforcement ${reinforcementSeconds} s)`);
  if (after.correct > before.correct) return 0;
  progress.print('reinforcement did not raise the accuracy');
  return 1;
}

/** Returns the number of examples that it took. */
function runWarmStart(policy: Policy, train: TokenTask, seed: number, progress: Progress): number {
  const { maxSteps, batchSize, enough, every, problems, optimizer } = warm;
  const other = addition({ digits: [2, 2], seed: seed + 1 });
  const probe = Array.from({ length: problems }, (_, i) => other.example(i));
  let accuracy = 0;
  for (const { step, loss } of warmStart({ policy, train, steps: maxSteps, batchSize, optimizer })) {
    const count = step + 1;
    if (count % every === 0) ({ accuracy } = evaluate(policy, train, probe));
    const text = `warm start, step ${count}: cross-entropy ${loss.toFixed(3)}, ${percent(accuracy)} right`;
    progress.update(text, count % (4 * every) === 0);
    if (accuracy >= enough) return count * batchSize;
  }
  return maxSteps * batchSize;
}

function runReinforcement(
  policy: Policy,
  train: TokenTask,
  firstExample: number,
  seed: number,
  steps: number,
  progress: Progress,
): void {
  const { learningRate, warmupSteps, ...options } = reinforcement;
  const optimizer = { learningRate, warmupSteps: Math.min(warmupSteps, steps), totalSteps: steps };
  const trainer = new GrpoTrainer({ ...options, policy, train, firstExample, seed, optimizer });
  try {
    for (let count = 1; count <= steps; count++) {
      const { metrics } = trainer.step();
      const text = `reinforcement, step ${count} of ${steps}: reward ${metrics.reward.toFixed(3)}, entropy ${metrics.entropy.toFixed(3)}`;
      progress.update(text, count % 25 === 0);
    }
  } finally {
    trainer.dispose();
  }
}

function describe({ correct, count, accuracy }: Evaluation): string {
  return `${correct} of ${count} right (${percent(accuracy)})`;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

/** A result, and the seconds that it took. */
function timed<T>(run: () => T): [result: T, seconds: string] {
  const start = performance.now();
  const result = run();
  return [result, ((performance.now() - start) / 1000).toFixed(1)];
}

function wholeNumber(flag: string, text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new RangeError(`${flag}: expected a whole number, got ${JSON.stringify(text)}`);
  return Number(text);
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(`demo: ${(error as Error).message}`);
  process.exitCode = 1;
}
