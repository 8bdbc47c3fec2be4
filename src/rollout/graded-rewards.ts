// The rewards of src/verify by name, for the trainer.

import type { Example } from '../tasks/task.js';
import type { GradeOptions } from '../verify/grade.js';
import type { JsonSchema } from '../verify/json-schema.js';
import {
  type ChoiceReward,
  type CosineOptions,
  type ExactReward,
  type FormatOptions,
  type GradingJudge,
  type Judge,
  judges,
  type MathsReward,
  type OverlongOptions,
  type RepetitionOptions,
} from '../verify/rewards.js';
import type { Reward } from './api.js';
import { defineReward, type RewardOptions } from './rewards.js';

/** Enough concurrent calls to keep the graders' workers busy. */
const concurrency = 64;

function named<E extends Example>(
  name: string,
  judge: Judge<E> | GradingJudge<E>,
  options: RewardOptions = {},
): Reward<E> {
  const reward = defineReward<E>(name, judge, { concurrency, ...options });
  return 'grade' in judge ? { ...reward, grade: judge.grade } : reward;
}

/**
 * Rewards by name: graders (1 for a right answer, 0 for a wrong one and for a truncated completion), and rewards for format and
 * length. The last argument of each is that of `defineReward`: weight, time limit and so on. Each throws a TypeError or
 * RangeError that names an invalid option.
 *
 * @example
 * rewards: [rewards.maths(), rewards.overlong({ maxTokens: 1024, buffer: 256 }, { weight: 0.5 })]
 */
export const rewards = {
  /** `verify.maths` of the completion and the example's `answer`. */
  maths: <E extends Example>(options: MathsReward<E> = {}, reward?: RewardOptions) =>
    named('maths', judges.maths(options), reward),
  /** `verify.gsm8k` of the completion and the example's `answer`, which may be a whole solution that ends with `#### 18`. */
  gsm8k: <E extends Example>(options: MathsReward<E> = {}, reward?: RewardOptions) =>
    named('gsm8k', judges.gsm8k(options), reward),
  /** `verify.number` of the completion and the example's `answer`. */
  number: <E extends Example>(options: MathsReward<E> = {}, reward?: RewardOptions) =>
    named('number', judges.number(options), reward),
  /** `verify.choice` of the completion and the example's `answer`. */
  choice: <E extends Example>(options: ChoiceReward<E> = {}, reward?: RewardOptions) =>
    named('choice', judges.choice(options), reward),
  /** `verify.exact` of the completion and the example's `answer`. */
  exact: <E extends Example>(options: ExactReward<E> = {}, reward?: RewardOptions) =>
    named('exact', judges.exact(options), reward),
  /** 1 for a completion in which the pattern matches. */
  regex: (pattern: RegExp | string, options: GradeOptions = {}, reward?: RewardOptions) =>
    named('regex', judges.regex(pattern, options), reward),
  /** 1 for a completion that is JSON and valid under the schema. */
  json: (schema: JsonSchema, options: GradeOptions = {}, reward?: RewardOptions) =>
    named('json', judges.json(schema, options), reward),
  /** 1 for a completion that matches `pattern`; without one, for `<think>…</think>` with something in it and something after it. */
  format: (options: FormatOptions = {}, reward?: RewardOptions) => named('format', judges.format(options), reward),
  /** 0 up to `maxTokens - buffer` tokens, then falling to -1 at `maxTokens` (DAPO, arXiv 2503.14476, equation 13). */
  overlong: (options: OverlongOptions, reward?: RewardOptions) => named('overlong', judges.overlong(options), reward),
  /** Right answers earn more the shorter they are, wrong ones more the longer (arXiv 2502.03373, section 4.2). */
  cosine: <E extends Example>(options: CosineOptions<E>, reward?: RewardOptions) =>
    named('cosine', judges.cosine(options), reward),
  /** From 0 down to `penalty`, by the share of n-grams of `size` words that occurred before. */
  repetition: (options: RepetitionOptions = {}, reward?: RewardOptions) =>
    named('repetition', judges.repetition(options), reward),
} as const;
