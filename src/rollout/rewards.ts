// Reward functions: what one is, and asking them about completions while others are still being sampled, with a time limit, a
// limit on how many are asked at once, and a rule for those that fail.

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
  /**
   * Milliseconds after which a promise counts as failed, counted from when all completions have been sampled. Code that never
   * yields cannot be interrupted. Default 60,000.
   */
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

/** A completion to be scored and rewarded. */
export interface JudgedCompletion<E extends Example> {
  example: E;
  /** Up to the end token. */
  text: string;
  tokens: Int32Array;
  truncated: boolean;
}

/** What was thought of a completion. */
export interface Judgement {
  score: number;
  /** By the reward's name. */
  rewards: Record<string, Verdict>;
}

/** Scores in flight at once: as many as keep the workers of graders busy. */
const scoresAtOnce = 64;

/**
 * Asks the task for the score of each completion, and with it every reward for its verdict, as completions come in: they are at
 * work while others are sampled. What a completion gets does not depend on when it comes, nor on the others.
 *
 * Time limits begin when `finish` is called: until then the sampler holds the thread, and answers that have come are not heard.
 */
export class Judging<E extends Example> {
  private readonly stop = new AbortController();
  private readonly scores: Questions<{ index: number; completion: JudgedCompletion<E> }>;
  private readonly verdicts: Questions<{ index: number; question: RewardQuestion<E> }>[];
  private readonly clock = new LimitClock();
  private readonly interrupt = () => this.stop.abort(this.signal!.reason);
  /** What is known so far, by the completions' numbers: verdicts that are not there are null. */
  readonly judgements: Judgement[] = [];
  /** Completions whose score and verdicts are all there. */
  judged = 0;

  /**
   * @param signal stops everything when it aborts, with its reason.
   * @param onJudged called whenever a completion has its score and all verdicts.
   */
  constructor(
    private readonly task: Pick<Task<E>, 'name' | 'score'>,
    rewards: readonly Reward<E>[],
    private readonly signal?: AbortSignal,
    private readonly onJudged?: () => void,
  ) {
    // One listener a call at work.
    setMaxListeners(0, this.stop.signal);
    if (signal?.aborted) this.interrupt();
    signal?.addEventListener('abort', this.interrupt);
    this.scores = new Questions(scoresAtOnce, this.stop, async ({ index, completion }) => {
      const judgement: Judgement = {
        score: await scoreOf(this.task, completion, this.stop.signal, this.clock),
        rewards: Object.fromEntries(rewards.map(({ name }) => [name, null])),
      };
      this.judgements[index] = judgement;
      const { example, text, tokens, truncated } = completion;
      const { score } = judgement;
      const question = { prompt: example.prompt, completion: { text, tokens, truncated }, example, score };
      for (const verdicts of this.verdicts) verdicts.add({ index, question });
      if (rewards.length === 0) this.count();
    });
    const open = new Map<number, number>();
    this.verdicts = rewards.map(
      (reward) =>
        new Questions(reward.concurrency, this.stop, async ({ index, question }) => {
          this.judgements[index].rewards[reward.name] = await verdict(reward, question, this.stop.signal, this.clock);
          const left = (open.get(index) ?? rewards.length) - 1;
          open.set(index, left);
          if (left === 0) this.count();
        }),
    );
  }

  /** Milliseconds in which scores and rewards have held the thread. */
  get busy(): number {
    return this.clock.busy;
  }

  /** Asks about one more completion, the `index`th of all. Returns at once; a failure is told by `finish`. */
  add(index: number, completion: JudgedCompletion<E>): void {
    this.scores.add({ index, completion });
  }

  /**
   * Resolves when every completion has its judgement. Error where a reward fails and is not excused, NumericFault for a
   * score or verdict that is not finite, TypeError or RangeError for a score that is no number in [0, 1], and whatever the task throws:
   * the first of them stops all others, and is thrown when none is at work any more. So does the signal, with its reason.
   */
  async finish(): Promise<void> {
    this.clock.start();
    await this.settle();
    this.stop.signal.throwIfAborted();
  }

  /** Stops everything because the sampling has failed. Resolves when nothing is at work any more. */
  async abandon(): Promise<void> {
    this.stop.abort(new SamplingFailed());
    await this.settle();
  }

  private async settle(): Promise<void> {
    // Verdicts are asked for as scores come in.
    for (const questions of [this.scores, ...this.verdicts]) await questions.settled();
    this.signal?.removeEventListener('abort', this.interrupt);
  }

  private count(): void {
    this.judged++;
    this.onJudged?.();
  }
}

export type RewardQuestion<E extends Example> = Omit<RewardInput<E>, 'signal'>;

class SamplingFailed extends Error {}

/** Says when time limits begin, and how long the calls that they are for have held the thread. */
class LimitClock {
  /** Milliseconds. */
  busy = 0;
  readonly started: Promise<void>;
  start!: () => void;

  constructor() {
    this.started = new Promise((resolve) => {
      this.start = resolve;
    });
  }
}

/** Asks questions in the order in which they come, with at most `concurrency` at work. The first failure aborts `stop`. */
class Questions<Q> {
  private readonly waiting: Q[] = [];
  private readonly workers = new Set<Promise<void>>();

  constructor(
    private readonly concurrency: number,
    private readonly stop: AbortController,
    private readonly ask: (question: Q) => Promise<void>,
  ) {}

  add(question: Q): void {
    this.waiting.push(question);
    if (this.workers.size >= this.concurrency) return;
    const worker = this.work().finally(() => this.workers.delete(worker));
    this.workers.add(worker);
  }

  /** Resolves when nothing that was asked until now is at work or waits. */
  async settled(): Promise<void> {
    while (this.workers.size > 0) await Promise.all(this.workers);
  }

  private async work(): Promise<void> {
    // Whoever asks is in the middle of something.
    await undefined;
    try {
      while (this.waiting.length > 0 && !this.stop.signal.aborted) {
        // Rewards that are slow and synchronous would keep signals, and the time limits of others, waiting.
        if (isBreathless()) await breathe();
        else await this.ask(this.waiting.shift()!);
      }
    } catch (error) {
      // The first reason stays.
      this.stop.abort(error);
    }
  }
}

/** The task's score of a completion; 0 for a truncated one. */
async function scoreOf<E extends Example>(
  task: Pick<Task<E>, 'name' | 'score'>,
  { example, text, truncated }: JudgedCompletion<E>,
  stop: AbortSignal,
  clock: LimitClock,
): Promise<number> {
  if (truncated) return 0;
  const score = await withTimeLimit(() => task.score(text, example), usualTimeLimit, stop, clock);
  if (typeof score === 'number' && score >= 0 && score <= 1) return score;
  const field = `${task.name}, score of the completion ${describe(text)} to ${describe(example.prompt)}`;
  if (typeof score === 'number' && !Number.isFinite(score)) {
    throw new NumericFault(`${field}: expected a finite number, got ${score}`);
  }
  return checkNumber(field, score, { min: 0, max: 1 });
}

async function verdict<E extends Example>(
  reward: Reward<E>,
  question: RewardQuestion<E>,
  stop: AbortSignal,
  clock: LimitClock,
): Promise<Verdict> {
  const about = `reward '${reward.name}' of the completion ${describe(question.completion.text)} to ${describe(question.prompt)}`;
  let given: unknown;
  try {
    // Tokens of its own: a reward that sorts them, say, must not change what is learnt from.
    const completion = { ...question.completion, tokens: question.completion.tokens.slice() };
    const judge = (signal: AbortSignal) => reward.judge({ ...question, completion, signal });
    given = await withTimeLimit(judge, reward.timeLimit, stop, clock);
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

/** What `run` gives, unless it takes longer than `limit` milliseconds from the start of `clock` on, or `stop` aborts. */
async function withTimeLimit(
  run: (signal: AbortSignal) => unknown,
  limit: number,
  stop: AbortSignal,
  clock: LimitClock,
): Promise<unknown> {
  const own = new AbortController();
  const began = performance.now();
  let result: unknown;
  try {
    result = run(own.signal);
  } finally {
    clock.busy += performance.now() - began;
  }
  // Most rewards are synchronous: no timer for them.
  if (!isPromise(result)) return result;
  return await new Promise<unknown>((resolve, reject) => {
    let timer: NodeJS.Timeout | undefined;
    let isSettled = false;
    const settle = (finish: () => void) => {
      isSettled = true;
      clearTimeout(timer);
      stop.removeEventListener('abort', stopped);
      finish();
    };
    const give = (message: string) => {
      own.abort(new Error(message));
      settle(() => reject(own.signal.reason));
    };
    void clock.started.then(() => {
      if (!isSettled) timer = setTimeout(() => give(`no verdict within ${limit} ms`), limit);
    });
    const stopped = () => give(whyStopped(stop.reason));
    stop.addEventListener('abort', stopped, { once: true });
    // The reward itself may have caused it.
    if (stop.aborted) stopped();
    (result as PromiseLike<unknown>).then(
      (value) => settle(() => resolve(value)),
      (error) => settle(() => reject(error)),
    );
  });
}

function whyStopped(reason: unknown): string {
  if (reason instanceof Interrupted) return 'the step was interrupted';
  return reason instanceof SamplingFailed ? 'the sampling has failed' : 'another verdict has stopped the run';
}

function isPromise(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as { then?: unknown } | null | undefined)?.then === 'function';
}
