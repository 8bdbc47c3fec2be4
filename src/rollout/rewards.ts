// Reward functions: what one is, and asking them about completions, with a time limit, a limit on how many are asked at
// once, and a rule for those that fail.

import { setMaxListeners } from 'node:events';
import { breathe, isBreathless } from '../base/breathe.js';
import { checkChoice, checkKeys, checkNumber, checkObject, describe, rangeError, typeError } from '../base/check.js';
import { Interrupted } from '../base/interruption.js';
import { NumericFault } from '../base/numeric-fault.js';
import type { Example, Task } from '../tasks/task.js';
import type { Reward, RewardInput, Verdict } from './api.js';

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
  const field = `reward ${describe(name)}`;
  if (typeof name !== 'string') throw typeError('name', 'a string', name);
  if (!/^[\w.-]+$/.test(name)) throw rangeError('name', 'letters, digits, and any of _ . -', describe(name));
  if (typeof judge !== 'function') throw typeError(field, 'a function', judge);
  checkKeys(field, checkObject(field, options), ['weight', 'timeLimit', 'concurrency', 'onError']);
  const { weight = 1, timeLimit = usualTimeLimit, concurrency = 16, onError = 'throw' } = options;
  const reward = { name, weight, timeLimit, concurrency, onError, judge };
  checkReward(field, reward);
  return reward;
}

/** The fields that say how a reward is asked. TypeError or RangeError that names the field. */
export function checkReward(field: string, reward: Partial<Reward<never>>): void {
  checkNumber(`${field}.weight`, reward.weight);
  checkNumber(`${field}.timeLimit`, reward.timeLimit, { above: 0, max: 2 ** 31 - 1 });
  checkNumber(`${field}.concurrency`, reward.concurrency, { min: 1, integer: true });
  checkChoice(`${field}.onError`, reward.onError, ['throw', 'null', 'zero']);
}

/** The reward of a run that defines none: the task's own score. */
export const accuracyReward: Reward = defineReward('accuracy', ({ score }) => score);

export type RewardQuestion<E extends Example> = Omit<RewardInput<E>, 'signal'>;

/**
 * The verdicts of each reward, one a question, in order. Error where a reward fails and is not excused, NumericFault for a
 * verdict that is not finite: the first of them stops all rewards, and is thrown when none is at work any more. So does
 * `signal`, with its reason.
 */
export async function askRewards<E extends Example>(
  rewards: readonly Reward<E>[],
  questions: readonly RewardQuestion<E>[],
  signal?: AbortSignal,
): Promise<Verdict[][]> {
  return await stoppable(signal, async (stop) => {
    const asked = rewards.map((reward) =>
      askAll(questions, reward.concurrency, stop, (question) => verdict(reward, question, stop.signal)),
    );
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

async function verdict<E extends Example>(
  reward: Reward<E>,
  question: RewardQuestion<E>,
  stop: AbortSignal,
): Promise<Verdict> {
  const about = `reward '${reward.name}' of the completion ${describe(question.completion.text)} to ${describe(question.prompt)}`;
  let given: unknown;
  try {
    // Tokens of its own: a reward that sorts them, say, must not change what is learnt from.
    const completion = { ...question.completion, tokens: question.completion.tokens.slice() };
    const judge = (signal: AbortSignal) => reward.judge({ ...question, completion, signal });
    given = await withTimeLimit(judge, reward.timeLimit, stop);
    if (given !== null && typeof given !== 'number') throw typeError('verdict', 'a number or null', given);
  } catch (error) {
    if (reward.onError === 'null') return null;
    if (reward.onError === 'zero') return 0;
    throw new Error(`${about}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
  if (given !== null && !Number.isFinite(given))
    throw new NumericFault(`${about}: expected a finite number, got ${given}`);
  return given;
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
