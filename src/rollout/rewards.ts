// Reward functions: what one is, and asking them about completions, with a time limit, a limit on how many are asked at
// once, and a rule for those that fail.

import { setMaxListeners } from 'node:events';
import { breathe, isBreathless } from '../base/breathe.js';
import { checkChoice, checkKeys, checkNumber, checkObject, describe, rangeError, typeError } from '../base/check.js';
import { Interrupted } from '../base/interruption.js';
import { NumericFault } from '../base/numeric-fault.js';
import type { Example, Task } from '../tasks/task.js';
import type {
  AnyReward,
  GroupReward,
  GroupRewardInput,
  Reward,
  RewardInput,
  RewardSettings,
  StepReward,
  StepVerdict,
  Verdict,
} from './api.js';

/** Milliseconds that a reward or a task's score may take. */
const usualTimeLimit = 60_000;

export interface RewardOptions {
  /** Weight in the sum of rewards; 0 makes it only a metric. Default 1. */
  weight?: number;
  /** Milliseconds after which a promise counts as failed. Code that never yields cannot be interrupted. Default 60,000. */
  timeLimit?: number;
  /** Maximum number of concurrent calls. Default 16. */
  concurrency?: number;
  /**
   * After an exception, the time limit, or a result that is not a number: the run ends, or the verdict is null or 0. Default
   * `throw`.
   */
  onError?: 'throw' | 'null' | 'zero';
}

/**
 * A reward function, synchronous or not. It returns a finite number, or null if it does not apply; NaN and infinities are
 * handled by the trainer's guard. TypeError or RangeError for an invalid option.
 */
export function defineReward<E extends Example = Example>(
  name: string,
  judge: (input: RewardInput<E>) => Verdict | Promise<Verdict>,
  options: RewardOptions = {},
): Reward<E> {
  return { ...resolveReward(name, judge, options), judge };
}

/**
 * A reward that sees all completions of a prompt at once, synchronous or not: for rankings, comparisons and diversity. It returns
 * one result for each completion, in order, like the function of `defineReward`. It takes the same options; `concurrency` and
 * `timeLimit` apply to groups, and `onError` to all completions of the group.
 * @throws TypeError or RangeError for an invalid option.
 * @example
 * const shortest = defineGroupReward('shortest', ({ completions }) => {
 *   const right = completions.filter(({ score }) => score === 1).map(({ tokens }) => tokens.length);
 *   return completions.map(({ score, tokens }) => (score === 1 && tokens.length === Math.min(...right) ? 1 : 0));
 * });
 */
export function defineGroupReward<E extends Example = Example>(
  name: string,
  judgeGroup: (input: GroupRewardInput<E>) => readonly Verdict[] | Promise<readonly Verdict[]>,
  options: RewardOptions = {},
): GroupReward<E> {
  return { ...resolveReward(name, judgeGroup, options), judgeGroup };
}

/**
 * Rewards for steps of a completion (process supervision), synchronous or not. It returns the end and the reward of each step, or
 * null if it does not apply. The rewards of all steps of a group are centred and scaled together; a token's advantage is its
 * completion's plus `weight` times the sum over its own and all later steps (arXiv 2402.03300, section 4.1.3). It takes the
 * options of `defineReward`; with `onError: 'zero'` the completion counts as one step with reward 0.
 * @throws TypeError or RangeError for an invalid option.
 * @example
 * const lines = defineStepReward('lines', ({ completion: { tokens } }) => {
 *   const ends = [...tokens.keys()].filter((t) => tokens[t] === newline).map((t) => t + 1);
 *   return ends.map((end, i) => ({ end, reward: isRight(tokens.subarray(ends[i - 1] ?? 0, end)) ? 1 : 0 }));
 * });
 */
export function defineStepReward<E extends Example = Example>(
  name: string,
  judgeSteps: (input: RewardInput<E>) => readonly StepVerdict[] | null | Promise<readonly StepVerdict[] | null>,
  options: RewardOptions = {},
): StepReward<E> {
  return { ...resolveReward(name, judgeSteps, options), judgeSteps };
}

function resolveReward(name: unknown, judge: unknown, options: RewardOptions): RewardSettings {
  const field = `reward ${describe(name)}`;
  if (typeof name !== 'string') throw typeError('name', 'a string', name);
  if (!/^[\w.-]+$/.test(name)) throw rangeError('name', 'letters, digits, and any of _ . -', describe(name));
  if (typeof judge !== 'function') throw typeError(field, 'a function', judge);
  checkKeys(field, checkObject(field, options), ['weight', 'timeLimit', 'concurrency', 'onError']);
  const { weight = 1, timeLimit = usualTimeLimit, concurrency = 16, onError = 'throw' } = options;
  const settings = { name, weight, timeLimit, concurrency, onError };
  checkReward(field, settings);
  return settings;
}

/** The fields that say how a reward is asked. TypeError or RangeError that names the field. */
export function checkReward(field: string, reward: Partial<RewardSettings>): void {
  checkNumber(`${field}.weight`, reward.weight);
  checkNumber(`${field}.timeLimit`, reward.timeLimit, { above: 0, max: 2 ** 31 - 1 });
  checkNumber(`${field}.concurrency`, reward.concurrency, { min: 1, integer: true });
  checkChoice(`${field}.onError`, reward.onError, ['throw', 'null', 'zero']);
}

/** The reward of a run that defines none: the task's own score. */
export const accuracyReward: Reward = defineReward('accuracy', ({ score }) => score);

/** Input of all rewards: the completions of one prompt. */
export type RewardQuestion<E extends Example> = Omit<GroupRewardInput<E>, 'signal'>;

/** The result for one completion; from a step reward its steps, none of them empty. */
export type Answer = Verdict | readonly StepVerdict[];

/**
 * The verdicts of each reward, one a completion, in order of the questions and of the completions in each. Error where a reward fails and is not excused, NumericFault for a
 * verdict that is not finite: the first of them stops all rewards, and is thrown when none is at work any more. So does
 * `signal`, with its reason.
 */
export async function askRewards<E extends Example>(
  rewards: readonly AnyReward<E>[],
  questions: readonly RewardQuestion<E>[],
  signal?: AbortSignal,
): Promise<Answer[][]> {
  return await stoppable(signal, async (stop) => {
    const single = questions.flatMap(({ prompt, example, completions }) =>
      completions.map(({ score, ...completion }) => ({ prompt, example, score, completion })),
    );
    const ofGroups = async (reward: GroupReward<E>) => {
      const ask = (question: RewardQuestion<E>) => groupVerdicts(reward, question, stop.signal);
      return (await askAll(questions, reward.concurrency, stop, ask)).flat();
    };
    const asked = rewards.map((reward): Promise<Answer[]> => {
      if ('judgeGroup' in reward) return ofGroups(reward);
      if ('judgeSteps' in reward) {
        return askAll(single, reward.concurrency, stop, (question) => steps(reward, question, stop.signal));
      }
      return askAll(single, reward.concurrency, stop, (question) => verdict(reward, question, stop.signal));
    });
    await Promise.allSettled(asked);
    if (stop.signal.aborted) throw stop.signal.reason;
    return await Promise.all(asked);
  });
}

/** Scores in flight at once: as many as keep the workers of graders busy. */
const scoresAtOnce = 64;

/**
 * The task's score of each completion, in order; 0 for a truncated one. NumericFault where a score is not finite, TypeError or
 * RangeError where it is no number in [0, 1], and whatever the task throws: the first of them stops the others. So does
 * `signal`, with its reason.
 */
export async function askScores<E extends Example>(
  task: Pick<Task<E>, 'name' | 'score'>,
  completions: readonly { example: E; text: string; truncated: boolean }[],
  signal?: AbortSignal,
): Promise<number[]> {
  await breathe(signal);
  return await stoppable(signal, async (stop) => {
    const scores = await askAll(completions, scoresAtOnce, stop, async ({ example, text, truncated }) => {
      if (truncated) return 0;
      const score = await withTimeLimit(() => task.score(text, example), usualTimeLimit, stop.signal);
      if (typeof score === 'number' && score >= 0 && score <= 1) return score;
      const field = `${task.name}, score of the completion ${describe(text)} to ${describe(example.prompt)}`;
      if (typeof score === 'number' && !Number.isFinite(score)) {
        throw new NumericFault(`${field}: expected a finite number, got ${score}`);
      }
      return checkNumber(field, score, { min: 0, max: 1 });
    });
    if (stop.signal.aborted) throw stop.signal.reason;
    return scores;
  });
}

/** Runs with a controller of its own that aborts when `signal` does. */
async function stoppable<T>(signal: AbortSignal | undefined, run: (stop: AbortController) => Promise<T>): Promise<T> {
  const stop = new AbortController();
  const interrupt = () => stop.abort(signal!.reason);
  signal?.addEventListener('abort', interrupt);
  // One listener a call at work.
  setMaxListeners(0, stop.signal);
  try {
    return await run(stop);
  } finally {
    signal?.removeEventListener('abort', interrupt);
  }
}

/** What each question gives, in order, with at most `concurrency` in flight. The first failure aborts `stop`. */
async function askAll<Q, A>(
  questions: readonly Q[],
  concurrency: number,
  stop: AbortController,
  ask: (question: Q) => Promise<A>,
): Promise<A[]> {
  const answers = new Array<A>(questions.length);
  let next = 0;
  const worker = async () => {
    try {
      while (next < questions.length && !stop.signal.aborted) {
        const index = next++;
        answers[index] = await ask(questions[index]);
        // Rewards that are slow and synchronous would keep signals, and the time limits of others, waiting.
        await breathe();
      }
    } catch (error) {
      // The first reason stays.
      stop.abort(error);
    }
  };
  const workers: Promise<void>[] = [];
  while (workers.length < concurrency && next < questions.length && !stop.signal.aborted) {
    workers.push(worker());
    // So would the first calls of all workers together.
    if (isBreathless()) await breathe();
  }
  await Promise.all(workers);
  return answers;
}

type CompletionQuestion<E extends Example> = Omit<RewardInput<E>, 'signal'>;

function aboutCompletion<E extends Example>({ name }: RewardSettings, question: CompletionQuestion<E>): string {
  return `reward '${name}' of the completion ${describe(question.completion.text)} to ${describe(question.prompt)}`;
}

async function verdict<E extends Example>(
  reward: Reward<E>,
  question: CompletionQuestion<E>,
  stop: AbortSignal,
): Promise<Verdict> {
  const about = aboutCompletion(reward, question);
  const given = await excused<Verdict>(reward, about, { null: null, zero: 0 }, async () => {
    const completion = withOwnTokens(question.completion);
    const judge = (signal: AbortSignal) => reward.judge({ ...question, completion, signal });
    return checkVerdict('verdict', await withTimeLimit(judge, reward.timeLimit, stop));
  });
  requireFinite(about, given);
  return given;
}

async function steps<E extends Example>(
  reward: StepReward<E>,
  question: CompletionQuestion<E>,
  stop: AbortSignal,
): Promise<readonly StepVerdict[] | null> {
  const about = aboutCompletion(reward, question);
  const { length } = question.completion.tokens;
  const zero = [{ end: length, reward: 0 }];
  const given = await excused<readonly StepVerdict[] | null>(reward, about, { null: null, zero }, async () => {
    const completion = withOwnTokens(question.completion);
    const judge = (signal: AbortSignal) => reward.judgeSteps({ ...question, completion, signal });
    return checkSteps(await withTimeLimit(judge, reward.timeLimit, stop), length);
  });
  for (const step of given ?? []) requireFinite(about, step.reward);
  return given;
}

/** Without steps there is nothing to judge. */
function checkSteps(given: unknown, length: number): readonly StepVerdict[] | null {
  if (given === null) return null;
  if (!Array.isArray(given)) throw typeError('steps', 'an array of { end, reward }, or null', given);
  let last = 0;
  const checked = given.map((one: unknown, j) => {
    const { end, reward } = checkObject(`steps[${j}]`, one);
    last = checkNumber(`steps[${j}].end`, end, { min: last + 1, max: length, integer: true });
    if (typeof reward !== 'number') throw typeError(`steps[${j}].reward`, 'a number', reward);
    return { end: last, reward };
  });
  return checked.length === 0 ? null : checked;
}

async function groupVerdicts<E extends Example>(
  reward: GroupReward<E>,
  question: RewardQuestion<E>,
  stop: AbortSignal,
): Promise<readonly Verdict[]> {
  const about = `reward '${reward.name}' of the completions of ${describe(question.prompt)}`;
  const count = question.completions.length;
  const all = (one: Verdict) => Array<Verdict>(count).fill(one);
  const verdicts = await excused<readonly Verdict[]>(reward, about, { null: all(null), zero: all(0) }, async () => {
    const completions = question.completions.map(withOwnTokens);
    const judge = (signal: AbortSignal) => reward.judgeGroup({ ...question, completions, signal });
    const given = await withTimeLimit(judge, reward.timeLimit, stop);
    if (!Array.isArray(given) || given.length !== count) {
      throw typeError('verdicts', `an array of ${count}, one a completion`, given);
    }
    return Array.from(given, (one: unknown, i) => checkVerdict(`verdicts[${i}]`, one));
  });
  for (const one of verdicts) requireFinite(about, one);
  return verdicts;
}

/** A reward that sorts them, say, must not change what is learnt from. */
function withOwnTokens<C extends { tokens: Int32Array }>(completion: C): C {
  return { ...completion, tokens: completion.tokens.slice() };
}

/** What `judge` gives, or what there is for it where it fails, as `onError` says. */
async function excused<T>(
  { onError }: RewardSettings,
  about: string,
  otherwise: { null: T; zero: T },
  judge: () => Promise<T>,
): Promise<T> {
  try {
    return await judge();
  } catch (error) {
    if (onError !== 'throw') return otherwise[onError];
    throw new Error(`${about}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

function checkVerdict(field: string, given: unknown): Verdict {
  if (given !== null && typeof given !== 'number') throw typeError(field, 'a number or null', given);
  return given;
}

function requireFinite(about: string, given: Verdict): void {
  if (given === null || Number.isFinite(given)) return;
  throw new NumericFault(`${about}: expected a finite number, got ${given}`);
}

/** What `run` gives, unless it takes longer than `limit` milliseconds or `stop` aborts. */
async function withTimeLimit(
  run: (signal: AbortSignal) => unknown,
  limit: number,
  stop: AbortSignal,
): Promise<unknown> {
  const own = new AbortController();
  const result = run(own.signal);
  // Most rewards are synchronous: no timer for them.
  if (!isPromise(result)) return result;
  return await new Promise<unknown>((resolve, reject) => {
    const settle = (finish: () => void) => {
      clearTimeout(timer);
      stop.removeEventListener('abort', stopped);
      finish();
    };
    const give = (message: string) => {
      own.abort(new Error(message));
      settle(() => reject(own.signal.reason));
    };
    const timer = setTimeout(() => give(`no verdict within ${limit} ms`), limit);
    const stopped = () =>
      give(stop.reason instanceof Interrupted ? 'the step was interrupted' : 'another verdict has stopped the run');
    stop.addEventListener('abort', stopped, { once: true });
    // The reward itself may have caused it.
    if (stop.aborted) stopped();
    result.then(
      (value) => settle(() => resolve(value)),
      (error) => settle(() => reject(error)),
    );
  });
}

function isPromise(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as { then?: unknown } | null | undefined)?.then === 'function';
}
