// Configurations that `groupgrad train` knows by name.

import type { TrainConfig } from './define-config.js';

/** Plain JSON, so that `--set` reaches everything. */
export const builtins: Readonly<Record<string, TrainConfig>> = {
  addition: {
    train: { task: 'addition', digits: [2, 2] },
    evaluate: { heldOut: { task: 'addition', digits: [2, 2], split: 'held-out', size: 500 } },
    policy: { preset: 'nano' },
    warmStart: { steps: 3000, until: 0.3, optimizer: { learningRate: 2e-3, warmupSteps: 20, weightDecay: 1 } },
    loss: { preset: 'dapo' },
    hadw: {},
    steps: 100,
    optimizer: { learningRate: 5e-4 },
  },
};
