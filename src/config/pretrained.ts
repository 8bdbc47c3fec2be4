// Defaults of command-line runs of a pretrained model, whose flags name the model and the data.

import type { TrainConfig } from './define-config.js';

/** Name of the configuration, as a run's config.json records it. */
export const pretrainedName = 'pretrained';

/** Learning rates for all weights (that of the HA-DW paper, arXiv 2601.08521) and for adapters. */
export const learningRates = { full: 1e-6, lora: 1e-5 } as const;

/** Share and maximum number of problems held out for evaluation if no other file is given. */
export const heldOut = { share: 0.1, size: 200 } as const;

export const pretrained: Omit<TrainConfig, 'train'> = {
  promptsPerStep: 16,
  groupSize: 8,
  loss: { preset: 'dapo' },
  sampling: { maxTokens: 512, promptLength: 1024 },
  optimizer: { learningRate: learningRates.full },
  evaluation: { every: 25, size: heldOut.size },
  checkpoint: { every: 25, keepBest: 'eval/heldOut/accuracy' },
  steps: 200,
};
