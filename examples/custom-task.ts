// A user-defined task and rewards: write as many x as the prompt says, "3:" to "xxx".
//
//   npx tsx examples/custom-task.ts [steps] [run folder]

import { defineReward, type Example, GrpoTrainer, presets, type Task, TransformerPolicy } from 'groupgrad';

const [steps = '200', runDir = 'runs/example-custom-task'] = process.argv.slice(2);

// Rewards see all fields of a task's examples, with their type.
interface CountExample extends Example {
  count: number;
}

const train: Task<CountExample> = {
  name: 'count',
  characters: '123456789:x',
  maxPromptLength: 2,
  maxSolutionLength: 9,
  size: 9,
  example(index) {
    const count = index + 1;
    const solution = 'x'.repeat(count);
    return { prompt: `${count}:`, answer: solution, solution, difficulty: count, count };
  },
  score: (text, example) => (text === example.answer ? 1 : 0),
};

// Nine x are unlikely by chance: a reward for coming close gives the policy something to improve.
const near = defineReward<CountExample>('near', ({ completion, example }) => {
  const written = [...completion.text].filter((character) => character === 'x').length;
  const others = completion.text.length - written;
  return -Math.abs(written - example.count) / 9 - others / 9;
});

// Asynchronous rewards have a time limit; null says that the reward does not apply. With weight 0 it is only a metric.
const long = defineReward<CountExample>(
  'long',
  async ({ score, example, signal }) => {
    if (example.count < 7) return null;
    await new Promise((resolve) => setTimeout(resolve, 1));
    return signal.aborted ? null : score;
  },
  { weight: 0, timeLimit: 1000 },
);

const trainer = await GrpoTrainer.create({
  policy: TransformerPolicy.create({
    layers: 2,
    width: 32,
    heads: 4,
    hidden: 64,
    vocabulary: train.characters,
    seed: 3,
  }),
  train,
  evaluate: { all: train },
  rewards: [near, long, defineReward('right', ({ score }) => score)],
  promptsPerStep: 9,
  groupSize: 8,
  sampling: { maxTokens: 12 },
  loss: { ...presets.grpo, entropy: { coefficient: 0.02 } },
  optimizer: { learningRate: 1e-3, warmupSteps: 5 },
  seed: 1,
  runDir,
});

await trainer.run({ max: Number(steps) });
const { all } = await trainer.evaluate();
console.log(`${all.correct} of ${all.count} right`);
trainer.dispose();
