// Configurations that `groupgrad train` knows by name: one for every task, each of which learns in minutes on two cores.

import type { TaskDescription, TrainConfig } from './define-config.js';

type GeneratedTask = Exclude<TaskDescription, { task: 'jsonl' | 'bandit' }>;

/** Two iterations over each rollout halve the sampling that an update costs. */
const iterations = 2;

/**
 * A small transformer that learns from worked solutions until `until` of its problems are right, and from there by
 * reinforcement alone. The warm start's strong decay is against learning examples by heart.
 */
function recipe(
  task: GeneratedTask,
  {
    until = 0.3,
    warmStartSteps = 3000,
    learningRate = 1e-3,
    steps = 400,
    ...change
  }: Partial<TrainConfig> & Recipe = {},
): TrainConfig {
  return {
    train: task,
    evaluate: { heldOut: { ...task, split: 'held-out', size: 500 } },
    policy: { preset: 'nano' },
    warmStart: {
      steps: warmStartSteps,
      until,
      optimizer: { learningRate: 2e-3, warmupSteps: 20, weightDecay: 1 },
    },
    promptsPerStep: 32,
    groupSize: 8,
    iterations,
    dynamicSampling: { maxRounds: 2 },
    loss: { preset: 'dapo' },
    hadw: { scale: 1.3, anchor: { update: 'window', window: 10 } },
    optimizer: { learningRate, warmupSteps: 10, schedule: 'cosine', totalSteps: iterations * steps },
    evaluation: { every: 25 },
    checkpoint: { every: 50, keepBest: 'eval/heldOut/accuracy' },
    steps,
    ...change,
  };
}

interface Recipe {
  until?: number;
  /** Updates at most. */
  warmStartSteps?: number;
  /** Of reinforcement. */
  learningRate?: number;
}

/** Plain JSON, so that `--set` reaches everything; by the names of the tasks. */
export const builtins: Readonly<Record<string, TrainConfig>> = {
  addition: recipe({ task: 'addition', digits: [2, 2] }),
  /** Nothing can be learnt of one prompt for another: the policy begins by guessing, and is measured on the prompts themselves. */
  bandit: {
    train: { task: 'bandit', contexts: 4 },
    evaluate: { same: { task: 'bandit', contexts: 4, size: 28 } },
    policy: { preset: 'nano' },
    promptsPerStep: 28,
    groupSize: 8,
    loss: { preset: 'grpo' },
    hadw: { scale: 1.3, anchor: { update: 'kalman' } },
    optimizer: { learningRate: 1e-3 },
    evaluation: { every: 25 },
    checkpoint: { every: 50, keepBest: 'eval/same/accuracy' },
    steps: 200,
  },
  /** Three numbers: of two, products are facts of a table, and those that are held out are in no other problem. */
  chain: recipe({ task: 'chain', terms: 3 }, { until: 0.4, warmStartSteps: 6000 }),
  copy: recipe({ task: 'copy', length: [1, 5] }, { until: 0.5 }),
  /** The entropy bonus keeps the policy trying other expressions. */
  countdown: recipe(
    { task: 'countdown', numbers: [2, 3], maxNumber: 25, maxTarget: 99 },
    { warmStartSteps: 4000, loss: { preset: 'dapo', entropy: { coefficient: 0.01 } } },
  ),
  /**
   * Two digits each: a product is worked out of smaller ones, which every problem shows. At twice the rate the first steps undo
   * what the warm start has learnt of solutions as long as these.
   */
  multiplication: recipe(
    { task: 'multiplication', digits: 2 },
    { until: 0.4, warmStartSteps: 8000, learningRate: 5e-4 },
  ),
  reverse: recipe({ task: 'reverse', length: [1, 5] }, { until: 0.5 }),
  sort: recipe({ task: 'sort', length: [1, 5] }, { until: 0.4 }),
  subtraction: recipe({ task: 'subtraction', digits: [2, 2] }),
  sudoku: recipe({ task: 'sudoku', blanks: [2, 4] }),
} satisfies Record<Exclude<TaskDescription['task'], 'jsonl'>, TrainConfig>;
