// A data set with its own column names, scored by a grader, and evaluated with several completions per problem:
//
//   npx groupgrad data examples/sums.csv --prompt sum --answer result --difficulty digits
//   npx groupgrad train examples/dataset.config.ts
//   npx groupgrad evaluate runs/dataset --data examples/sums.csv --prompt sum --answer result --verify number --samples 8 --by digits

import { fileURLToPath } from 'node:url';
import { type DatasetOptions, dataset, defineConfig } from 'groupgrad';

const path = fileURLToPath(new URL('sums.csv', import.meta.url));
const columns: DatasetOptions = { prompt: 'sum', answer: 'result', difficulty: 'digits', verify: 'number' };

export default defineConfig({
  train: dataset(path, { ...columns, split: { part: 'train', holdOut: 0.2 } }),
  evaluate: { heldOut: dataset(path, { ...columns, split: { part: 'held-out', holdOut: 0.2 } }) },
  evaluation: { samples: 4, temperature: 1 },
  policy: { layers: 2, width: 32, heads: 4, hidden: 64, vocabulary: '0123456789+=' },
  warmStart: { steps: 300, until: 0.4, every: 25, problems: 64, optimizer: { learningRate: 3e-3 } },
  sampling: { maxTokens: 4, promptLength: 6 },
  promptsPerStep: 16,
  groupSize: 8,
  hadw: {},
  optimizer: { learningRate: 1e-3 },
  steps: 100,
});
