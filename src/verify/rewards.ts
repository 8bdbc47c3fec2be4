// Common rewards for training on verifiable answers, as plain functions of a completion and its example.

import { checkBoolean, checkKeys, checkNumber, checkObject, rangeError, typeError } from '../base/check.js';
import { checkGradeOptions, type Grade, type GradeOptions } from './grade.js';
import {
  type ChoiceOptions,
  checkExactOptions,
  checkNumericOptions,
  checkPattern,
  choice,
  type ExactOptions,
  exact,
  gsm8k,
  json,
  maths,
  type NumericOptions,
  number,
  regex,
} from './graders.js';
import { checkSchema, type JsonSchema } from './json-schema.js';

/** The part of a reward function's input that these rewards read. */
export interface RewardQuery<E = { answer: string }> {
  completion: { text: string; tokens: ArrayLike<number>; truncated: boolean };
  example: E;
  /** The task's own score, in [0, 1]. */
  score: number;
}

export type Judge<E = { answer: string }> = (query: RewardQuery<E>) => number | Promise<number>;

/** A judge that can also report the answer it extracted from a completion that was not truncated. */
export type GradingJudge<E = { answer: string }> = Judge<E> & { grade: (text: string, example: E) => Promise<Grade> };

/** 1 for a right answer, 0 for a wrong one and for a truncated completion. */
function judgeBy<E>(grade: GradingJudge<E>['grade']): GradingJudge<E> {
  const judge: Judge<E> = async ({ completion: { text, truncated }, example }) =>
    truncated ? 0 : Number((await grade(text, example)).correct);
  return Object.assign(judge, { grade });
}

export interface GoldOption<E = { answer: string }> {
  /** The right answer to an example. Default: its field `answer`. */
  gold?: (example: E) => string;
}

function graded<E extends { answer: string }, O extends object>(
  grade: (text: string, gold: string, options: O) => Promise<Grade>,
  check: (options: O) => void,
  options: O & GoldOption<E>,
): GradingJudge<E> {
  const { gold = ({ answer }: E) => answer, ...rest } = checkObject('options', options) as O & GoldOption<E>;
  if (typeof gold !== 'function') throw typeError('options.gold', 'a function', gold);
  check(rest as unknown as O);
  return judgeBy((text, example) => grade(text, gold(example), rest as unknown as O));
}

export type MathsReward<E> = NumericOptions & GoldOption<E>;
export type ExactReward<E> = ExactOptions & GoldOption<E>;
export type ChoiceReward<E> = Omit<ChoiceOptions, 'choices'> &
  GoldOption<E> & {
    /** The texts of an example's choices. Default: letters only. */
    choices?: (example: E) => readonly string[];
  };

const judgeMaths = <E extends { answer: string }>(options: MathsReward<E> = {}): GradingJudge<E> =>
  graded(maths, checkNumericOptions, options);
const judgeGsm8k = <E extends { answer: string }>(options: MathsReward<E> = {}): GradingJudge<E> =>
  graded(gsm8k, checkNumericOptions, options);
const judgeNumber = <E extends { answer: string }>(options: MathsReward<E> = {}): GradingJudge<E> =>
  graded(number, checkNumericOptions, options);
const judgeExact = <E extends { answer: string }>(options: ExactReward<E> = {}): GradingJudge<E> =>
  graded(exact, checkExactOptions, options);

function judgeChoice<E extends { answer: string }>(options: ChoiceReward<E> = {}): GradingJudge<E> {
  const { choices, ...rest } = checkObject('options', options) as ChoiceReward<E>;
  if (choices !== undefined && typeof choices !== 'function') throw typeError('options.choices', 'a function', choices);
  const judge = (texts?: readonly string[]): GradingJudge<E> =>
    graded<E, GradeOptions>(
      (text, gold, given) => choice(text, gold, { ...given, ...(texts && { choices: texts }) }),
      checkGradeOptions,
      rest,
    );
  const withoutTexts = judge();
  return judgeBy((text, example) => (choices ? judge(choices(example)) : withoutTexts).grade(text, example));
}

const judgeRegex = (pattern: RegExp | string, options: GradeOptions = {}): GradingJudge<unknown> => {
  checkPattern('pattern', pattern);
  checkGradeOptions(options);
  return judgeBy((text) => regex(text, pattern, options));
};

const judgeJsonText = (schema: JsonSchema, options: GradeOptions = {}): GradingJudge<unknown> => {
  checkSchema('schema', schema);
  checkGradeOptions(options);
  return judgeBy((text) => json(text, schema, options));
};

export interface FormatOptions {
  /** What the whole completion must match. Default: think tags, see `rewards.format`. */
  pattern?: RegExp | string;
  /** Whether the chat template already writes `<think>` into the prompt. Only without `pattern`. Default false. */
  opened?: boolean;
}

function judgeFormat(options: FormatOptions = {}): Judge<unknown> {
  checkKeys('options', checkObject('options', options), ['pattern', 'opened']);
  const { pattern, opened } = options;
  if (opened !== undefined) checkBoolean('options.opened', opened);
  if (pattern === undefined)
    return ({ completion }) => Number(!completion.truncated && hasThought(completion.text, opened ?? false));
  if (opened !== undefined) throw new TypeError('options.opened: expected only without a pattern');
  const matches = judgeRegex(pattern);
  // The format is not an answer, so there is no grade.
  return (query) => matches(query);
}

/** `<think>`, something, `</think>`, something; each tag once. */
function hasThought(text: string, opened: boolean): boolean {
  const [open, close] = ['<think>', '</think>'];
  const start = text.indexOf(open);
  const end = text.indexOf(close);
  if (opened ? start >= 0 : start < 0 || text.slice(0, start).trim() !== '' || text.indexOf(open, start + 1) >= 0)
    return false;
  if (end < start || text.indexOf(close, end + 1) >= 0) return false;
  const from = opened ? 0 : start + open.length;
  return end >= 0 && text.slice(from, end).trim() !== '' && text.slice(end + close.length).trim() !== '';
}

export interface OverlongOptions {
  /** Number of tokens at which the penalty reaches -1. */
  maxTokens: number;
  /** Number of tokens before `maxTokens` over which it falls from 0 to -1. */
  buffer: number;
}

/** DAPO's soft overlong punishment (arXiv 2503.14476, equation 13). */
function judgeOverlong(options: OverlongOptions): Judge<unknown> {
  checkKeys('options', checkObject('options', options), ['maxTokens', 'buffer']);
  const { maxTokens, buffer } = options;
  checkNumber('options.maxTokens', maxTokens, { min: 1, integer: true });
  checkNumber('options.buffer', buffer, { min: 1, max: maxTokens, integer: true });
  return ({ completion }) => {
    const over = completion.tokens.length - (maxTokens - buffer);
    return over <= 0 ? 0 : Math.max(-1, -over / buffer);
  };
}

export interface CosineOptions<E = { answer: string }> {
  /** Number of tokens at which a completion counts as too long. */
  maxTokens: number;
  /** Reward of a right answer of length 0, and of length `maxTokens`. Default [2, 1]. */
  right?: readonly [short: number, long: number];
  /** Reward of a wrong one. Default [-10, 0]: a long attempt gets more than a short one. */
  wrong?: readonly [short: number, long: number];
  /** Reward of a completion of `maxTokens` or more, or of a truncated one. Default -10. */
  exceeded?: number;
  /** 1 for a right answer. Default: the task's own score. */
  judge?: Judge<E>;
}

/** The cosine length reward (arXiv 2502.03373, section 4.2, with its defaults). */
function judgeCosine<E extends { answer: string }>(options: CosineOptions<E>): Judge<E> {
  checkKeys('options', checkObject('options', options), ['maxTokens', 'right', 'wrong', 'exceeded', 'judge']);
  const {
    maxTokens,
    right = [2, 1],
    wrong = [-10, 0],
    exceeded = -10,
    judge = ({ score }: RewardQuery<E>) => score,
  } = options;
  checkNumber('options.maxTokens', maxTokens, { min: 1, integer: true });
  checkNumber('options.exceeded', exceeded);
  for (const [field, pair] of [
    ['right', right],
    ['wrong', wrong],
  ] as const) {
    if (!Array.isArray(pair)) throw typeError(`options.${field}`, 'two numbers', pair);
    if (pair.length !== 2) throw rangeError(`options.${field}`, 'two numbers', `${pair.length} values`);
    for (const [i, value] of pair.entries()) checkNumber(`options.${field}[${i}]`, value);
  }
  if (typeof judge !== 'function') throw typeError('options.judge', 'a function', judge);
  return async (query) => {
    const length = query.completion.tokens.length;
    if (query.completion.truncated || length >= maxTokens) return exceeded;
    const [short, long] = (await judge(query)) === 1 ? right : wrong;
    return long + ((short - long) / 2) * (1 + Math.cos((length / maxTokens) * Math.PI));
  };
}

export interface RepetitionOptions {
  /** n of the n-grams of words whose recurrence counts as repetition. Default 3. */
  size?: number;
  /** Reward of a completion that only repeats itself. Default -1. */
  penalty?: number;
}

/**
 * `penalty` times the share of n-grams of `size` words, ignoring case, that occurred before (the n-gram penalty of arXiv
 * 2502.03373 in Open R1's form); 0 for a completion of fewer words.
 */
function judgeRepetition(options: RepetitionOptions = {}): Judge<unknown> {
  checkKeys('options', checkObject('options', options), ['size', 'penalty']);
  const { size = 3, penalty = -1 } = options;
  checkNumber('options.size', size, { min: 1, max: 1_000, integer: true });
  checkNumber('options.penalty', penalty, { max: 0 });
  return ({ completion }) => {
    const words = completion.text.toLowerCase().match(/\S+/g) ?? [];
    const runs = words.length - size + 1;
    if (runs <= 0) return 0;
    const different = new Set(Array.from({ length: runs }, (_, i) => words.slice(i, i + size).join(' '))).size;
    return different === runs ? 0 : penalty * (1 - different / runs);
  };
}

export const judges = {
  maths: judgeMaths,
  gsm8k: judgeGsm8k,
  number: judgeNumber,
  choice: judgeChoice,
  exact: judgeExact,
  regex: judgeRegex,
  json: judgeJsonText,
  format: judgeFormat,
  overlong: judgeOverlong,
  cosine: judgeCosine,
  repetition: judgeRepetition,
} as const;
