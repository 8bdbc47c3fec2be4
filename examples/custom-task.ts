// A task and rewards of one's own: write as many x as the prompt says, "3:" to "xxx".
//
//   npx tsx examples/custom-task.ts [steps] [run folder]

import { defineReward, type Example, GrpoTrainer, presets, type Task, TransformerPolicy } from 'groupgrad';

const [steps = '200', runDir = 'runs/example-custom-task'] = process.argv.slice(2);

// Whatever a task puts into its examples, its rewards see, with its type.
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

// Nobody writes nine x by chance: a reward for coming near gives the policy something to climb.
const near = defineReward<CountExample>('near', ({ completion, example }) => {
  const written = [...completion.text].filter((character) => character === 'x').length;
  const others = completion.text.length - written;
  return -Math.abs(written - example.count) / 9 - others / 9;
});

// Asynchronous rewards have a time limit; null says that the reward does not apply. Weight 0 makes it a mere metric.
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
