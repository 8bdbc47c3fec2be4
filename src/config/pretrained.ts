// What a run of a pretrained model begins from on the command line, where its flags name the model and the data.

import type { TrainConfig } from './define-config.js';

/** Its name, as config.json of a run keeps it. */
export const pretrainedName = 'pretrained';

/** The learning rate of all weights (that of the HA-DW paper, arXiv 2601.08521), and that of adapters alone. */
export const learningRates = { full: 1e-6, lora: 1e-5 } as const;

/** The share of the problems that is held out where no other file is evaluated on, and how many of them are. */
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
