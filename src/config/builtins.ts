// The built-in configurations of `groupgrad train`: one for every task, each of which learns in minutes on two cores.

import type { TaskDescription, TrainConfig } from './define-config.js';

type GeneratedTask = Exclude<TaskDescription, { task: 'jsonl' | 'bandit' }>;

/** Two iterations over each rollout halve the cost of sampling per update. */
const iterations = 2;

/**
 * A small transformer that learns from worked solutions until a share `until` of the problems is solved, and then by reinforcement
 * only. The warm start's strong weight decay prevents memorising examples.
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
  /** Maximum number of updates. */
  warmStartSteps?: number;
  /** Steps of reinforcement. */
  learningRate?: number;
}

/** By the names of the tasks. Plain JSON, so that `--set` can change every value. */
export const builtins: Readonly<Record<string, TrainConfig>> = {
  addition: recipe({ task: 'addition', digits: [2, 2] }),
  /** Prompts are unrelated, so nothing generalises: there is no warm start, and the evaluation uses the training prompts. */
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
  /** Three numbers: with two, the products would be a table of facts, and held-out ones would occur in no other problem. */
  chain: recipe({ task: 'chain', terms: 3 }, { until: 0.4, warmStartSteps: 6000 }),
  copy: recipe({ task: 'copy', length: [1, 5] }, { until: 0.5 }),
  /** The entropy bonus keeps the policy trying other expressions. */
  countdown: recipe(
    { task: 'countdown', numbers: [2, 3], maxNumber: 25, maxTarget: 99 },
    { warmStartSteps: 4000, loss: { preset: 'dapo', entropy: { coefficient: 0.01 } } },
  ),
  /**
   * Two digits each: a product is computed from smaller ones, which occur in every problem. With twice the learning rate the first
   * steps destroy what the warm start has learnt of such long solutions.
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
