// Your own JSON lines, from the command line:
//
//   npx groupgrad train examples/jsonl.config.ts
//   npx groupgrad train examples/jsonl.config.ts --set groupSize=16 --dry-run

import { fileURLToPath } from 'node:url';
import { defineConfig, defineReward, tasks } from 'groupgrad';

const capitals = tasks.jsonl({ path: fileURLToPath(new URL('capitals.jsonl', import.meta.url)) });

/** The share of the answer's letters that a completion gets right from its beginning. */
const begins = defineReward('begins', ({ completion, example }) => {
  const { answer } = example;
  let right = 0;
  while (right < answer.length && completion.text[right] === answer[right]) right++;
  return right / answer.length;
});

export default defineConfig({
  train: capitals,
  evaluate: { all: capitals },
  rewards: [begins, defineReward('right', ({ score }) => score)],
  policy: { layers: 2, width: 32, heads: 4, hidden: 64 },
  warmStart: { steps: 200, until: 0.5, every: 5, problems: 8, optimizer: { learningRate: 3e-3 } },
  promptsPerStep: 8,
  groupSize: 8,
  loss: { preset: 'grpo', kl: { beta: 0.01 } },
  optimizer: { learningRate: 1e-3 },
  steps: 100,
});
