// Public types of rollouts: rewards, groups of completions and evaluations. They do not depend on tfjs.

import type { Example } from '../tasks/task.js';
import type { Grade } from '../verify/grade.js';
import type { Completion } from './engine.js';

/** Input of a reward function. */
export interface RewardInput<E extends Example = Example> {
  prompt: string;
  completion: {
    /** Up to the end token. */
    text: string;
    /** The end token included unless truncated. */
    tokens: Int32Array;
    /** Cut off before its end token. */
    truncated: boolean;
  };
  example: E;
  /** The task's own score of the text, in [0, 1]; 0 for a truncated completion. */
  score: number;
  /** Aborts when the time limit has passed, or when another call of any reward has stopped the step. */
  signal: AbortSignal;
}

/** A reward, or null where the function does not apply. */
export type Verdict = number | null;

/** Input of a group reward. */
export interface GroupRewardInput<E extends Example = Example> {
  prompt: string;
  /** All completions of the prompt, each with the task's own score. */
  completions: readonly (RewardInput['completion'] & Pick<RewardInput, 'score'>)[];
  example: E;
  /** Aborts when the time limit has passed, or when another call of any reward has stopped the step. */
  signal: AbortSignal;
}

/** The weight of a reward, and how its function is called. */
export interface RewardSettings {
  readonly name: string;
  readonly weight: number;
  readonly timeLimit: number;
  readonly concurrency: number;
  readonly onError: 'throw' | 'null' | 'zero';
}

/** Made by `defineGroupReward`. */
export interface GroupReward<E extends Example = Example> extends RewardSettings {
  judgeGroup(input: GroupRewardInput<E>): readonly Verdict[] | Promise<readonly Verdict[]>;
}

/** Made by `defineReward`. */
export interface Reward<E extends Example = Example> extends RewardSettings {
  judge(input: RewardInput<E>): Verdict | Promise<Verdict>;
  /** Grades a completion that was not truncated; only graders have it. Used as the score of problems that have none of their own. */
  grade?(text: string, example: E): Promise<Grade>;
}

/** The reward of one step of a completion. */
export interface StepVerdict {
  /** Tokens of the completion up to the end of the step: from 1, ascending, at most all. */
  end: number;
  reward: number;
}

/** Made by `defineStepReward`. */
export interface StepReward<E extends Example = Example> extends RewardSettings {
  judgeSteps(input: RewardInput<E>): readonly StepVerdict[] | null | Promise<readonly StepVerdict[] | null>;
}

export type AnyReward<E extends Example = Example> = Reward<E> | GroupReward<E> | StepReward<E>;

/** A completion with its score, rewards and advantage. */
export interface ScoredCompletion extends Completion {
  text: string;
  /** The task's own score; 0 for a truncated completion. */
  score: number;
  /** By the reward's name; for a step reward the sum over its steps. */
  rewards: Record<string, Verdict>;
  /** By the name of a step reward that applies. */
  steps?: Record<string, readonly StepVerdict[]>;
  /** The weighted sum of the rewards of whole completions; NaN if none applies. */
  reward: number;
  /** 0 until it is computed. */
  advantage: number;
  /** With `maxStaleness`: the step after which the policy had the weights that sampled it; 0: those before the first step. */
  version?: number;
  /** With step rewards, of each token: `advantage` plus the weighted advantages of its own and all later steps. */
  tokenAdvantages?: Float32Array;
}

/** One prompt and its completions. */
export interface Group<E extends Example = Example> {
  example: E;
  /** Token ids. */
  prompt: Int32Array;
  completions: ScoredCompletion[];
}

export interface Evaluation {
  /**
   * Sum over problems of the mean score of their completions: the number of right answers if each problem has one completion
   * with a score of 0 or 1.
   */
  correct: number;
  count: number;
  /** correct / count. */
  accuracy: number;
  /** Accuracy by difficulty, in ascending order. */
  byDifficulty: { difficulty: number; count: number; accuracy: number }[];
  /** Completions per problem, if more than one. */
  samples?: number;
  /**
   * With several completions per problem, estimates with 95 % confidence intervals over problems: `avg@8` (the accuracy),
   * `pass@1`, `pass@2`, … `pass@8`, and `maj@8`, the share of problems that a majority vote of the completions gets right.
   */
  estimates?: Readonly<Record<string, { mean: number | null; low: number | null; high: number | null }>>;
  /** With several completions per problem, the truncated share. */
  truncated?: number;
}
