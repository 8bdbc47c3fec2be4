// Configurations that `groupgrad train` knows by name.

import type { TrainConfig } from './define-config.js';

/** Plain JSON, so that `--set` reaches everything. */
export const builtins: Readonly<Record<string, TrainConfig>> = {
  /**
   * Two-digit addition, from a warm start that ends with 30 % of problems right. The warm start's strong decay is against
   * learning examples by heart. Two iterations over each rollout halve the sampling that an update costs.
   */
  addition: {
    train: { task: 'addition', digits: [2, 2] },
    evaluate: { heldOut: { task: 'addition', digits: [2, 2], split: 'held-out', size: 500 } },
    policy: { preset: 'nano' },
    warmStart: { steps: 3000, until: 0.3, optimizer: { learningRate: 2e-3, warmupSteps: 20, weightDecay: 1 } },
    promptsPerStep: 32,
    groupSize: 8,
    iterations: 2,
    dynamicSampling: { maxRounds: 2 },
    loss: { preset: 'dapo' },
    hadw: { scale: 1.3, anchor: { update: 'window', window: 10 } },
    optimizer: { learningRate: 1e-3, warmupSteps: 10, schedule: 'cosine', totalSteps: 800 },
    evaluation: { every: 25 },
    checkpoint: { every: 50, keepBest: 'eval/heldOut/accuracy' },
    steps: 400,
  },
};
