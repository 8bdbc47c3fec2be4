// HA-DW, and DGPO's difficulty weights, compared with plain GRPO on one-digit addition, paired by seed:
//
//   npx groupgrad compare examples/comparison.ts
//   npx groupgrad compare examples/comparison.ts --set seeds=5 --out runs/five-seeds

import { defineComparison } from 'groupgrad';

export default defineComparison({
  base: {
    train: { task: 'addition', digits: 1 },
    policy: { layers: 1, width: 16, heads: 2, hidden: 32 },
    warmStart: { steps: 1500, until: 0.5, problems: 64, optimizer: { learningRate: 1e-2 } },
    loss: 'grpo',
    groupSize: 4,
    promptsPerStep: 16,
    optimizer: { learningRate: 3e-3 },
    steps: 60,
  },
  variants: {
    grpo: {},
    'grpo+hadw': { hadw: { scale: 1.3 } },
    dgpo: { loss: 'dgpo', advantage: { scale: 'group-mad', dqw: { temperature: 2 } }, zeroStdGroups: 'drop' },
    'grpo-g8': { groupSize: 8, promptsPerStep: 8 },
  },
  seeds: 2,
  baseline: 'grpo',
  // Wide enough to contain most of so few problems.
  buckets: { hard: [0, 0.3], medium: [0.3, 0.7], easy: [0.7, 1] },
  probe: { task: { task: 'addition', digits: 1, seed: 0 }, size: 40, samples: 16, every: 10 },
});
