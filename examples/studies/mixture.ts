// The second study of docs/hadw.md: a transformer on a mixture of hard, medium and easy sums, with and without HA-DW.
//
//   npm run study:mixture
//
// Every variant of a seed starts from the same warm start, sees the same problems in the same order, and samples about the same
// number of tokens: 256 completions per step.

import { defineComparison } from 'groupgrad';

const hadw = { scale: 1.3, anchor: { update: 'window', window: 10 } } as const;
const groups = (groupSize: number) => ({ groupSize, promptsPerStep: 256 / groupSize });

export default defineComparison({
  base: {
    train: { task: 'addition', digits: [1, 3] },
    policy: { preset: 'nano' },
    backend: 'wasm',
    warmStart: { steps: 4000, until: 0.65, optimizer: { learningRate: 2e-3, warmupSteps: 20, weightDecay: 1 } },
    loss: 'grpo',
    ...groups(8),
    miniBatches: 4,
    optimizer: { learningRate: 2e-4, warmupSteps: 10 },
    steps: 200,
  },
  variants: {
    grpo: {},
    'grpo+hadw': { hadw },
    gspo: { loss: 'gspo' },
    'gspo+hadw': { loss: 'gspo', hadw },
    dapo: { loss: 'dapo' },
    'dapo+hadw': { loss: 'dapo', hadw },
    // Controls: λ without the history, no division by the standard deviation, other group sizes at the same number of tokens.
    'grpo+lambda': { hadw: { scale: 1.3, anchor: 'none' } },
    dr_grpo: { loss: 'dr_grpo', advantage: { scale: 'none' } },
    'dr_grpo+hadw': { loss: 'dr_grpo', advantage: { scale: 'none' }, hadw },
    'grpo+hadw-kalman': { hadw: { scale: 1.3, anchor: { update: 'kalman', window: 10 } } },
    'grpo-g4': groups(4),
    'grpo-g4+hadw': { ...groups(4), hadw },
    'grpo-g16': groups(16),
    'grpo-g16+hadw': { ...groups(16), hadw },
  },
  pairs: [
    ['grpo+hadw', 'grpo'],
    ['gspo+hadw', 'gspo'],
    ['dapo+hadw', 'dapo'],
    ['dr_grpo+hadw', 'dr_grpo'],
    ['grpo-g4+hadw', 'grpo-g4'],
    ['grpo-g16+hadw', 'grpo-g16'],
    ['grpo+hadw-kalman', 'grpo'],
    ['grpo+lambda', 'grpo'],
    ['grpo+hadw', 'grpo+lambda'],
    ['dr_grpo', 'grpo'],
    ['grpo-g4', 'grpo'],
    ['grpo-g16', 'grpo'],
    ['grpo+hadw', 'grpo-g16'],
  ],
  seeds: 10,
  probe: {
    task: { task: 'addition', digits: [1, 3], split: 'held-out' },
    size: 500,
    measure: 64,
    samples: 16,
    every: 25,
  },
});
