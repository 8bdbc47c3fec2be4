// Reward functions: their definition, and calling them for completions while others are still being sampled, with time limits,
// bounded concurrency and a rule for failures.

import { setMaxListeners } from 'node:events';
import { checkChoice, checkKeys, checkNumber, checkObject, describe, rangeError, typeError } from '../base/check.js';
import { Interrupted } from '../base/interruption.js';
import { NumericFault } from '../base/numeric-fault.js';
import { isYieldDue, yieldToEventLoop } from '../base/yield.js';
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

/** Default time limit of a reward or of a task's score, in milliseconds. */
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

/** Checks the settings of a reward. TypeError or RangeError that names the field. */
export function checkReward(field: string, reward: Partial<RewardSettings>): void {
  checkNumber(`${field}.weight`, reward.weight);
  checkNumber(`${field}.timeLimit`, reward.timeLimit, { above: 0, max: 2 ** 31 - 1 });
  checkNumber(`${field}.concurrency`, reward.concurrency, { min: 1, integer: true });
  checkChoice(`${field}.onError`, reward.onError, ['throw', 'null', 'zero']);
}

/** The default reward of a run: the task's own score. */
export const accuracyReward: Reward = defineReward('accuracy', ({ score }) => score);

/** A completion to be scored and rewarded. */
export interface JudgedCompletion<E extends Example> {
  example: E;
  /** Up to the end token. */
  text: string;
  tokens: Int32Array;
  truncated: boolean;
}

/** The result for a completion. */
export interface Judgement {
  score: number;
  /** By the reward's name; for a step reward the sum over its steps. */
  rewards: Record<string, Verdict>;
  /** By the name of a step reward that applies. */
  steps?: Record<string, readonly StepVerdict[]>;
}

export interface JudgingOptions {
  /** Completions per prompt. Those of a prompt have consecutive numbers. */
  groupSize: number;
  /** Aborts all calls; its reason is thrown. */
  signal?: AbortSignal;
  /** Time limits begin no earlier than this. */
  limitsFrom?: Promise<void>;
  /** Called whenever a completion has its score and all verdicts. */
  onJudged?: () => void;
}

/** Maximum number of concurrent scores: enough to keep the graders' workers busy. */
const scoresAtOnce = 64;

/**
 * Computes the score and the rewards of completions as they arrive, while others are still being sampled. The result of a
 * completion does not depend on when it arrives, nor on the others.
 *
 * Time limits begin when `finish` is called, and no earlier than `limitsFrom`: until then the sampler, or the training of another
 * step, holds the thread, and answers that have arrived are not processed.
 */
export class Judging<E extends Example> {
  private readonly stop = new AbortController();
  private readonly clock = new LimitClock();
  private readonly interrupt = () => this.stop.abort(this.options.signal!.reason);
  private readonly scores: CallQueue<number>;
  private readonly verdicts: CallQueue<number>[];
  private readonly completions: JudgedCompletion<E>[] = [];
  /** For each completion, how many verdicts are still missing. */
  private readonly open: number[] = [];
  /** Results so far, by the number of the completion; missing verdicts are null. */
  readonly judgements: Judgement[] = [];
  /** Number of completions whose score and verdicts are all known. */
  judged = 0;

  constructor(
    private readonly task: Pick<Task<E>, 'name' | 'score'>,
    private readonly rewards: readonly AnyReward<E>[],
    private readonly options: JudgingOptions,
  ) {
    const { signal } = options;
    // One listener per running call.
    setMaxListeners(0, this.stop.signal);
    if (signal?.aborted) this.interrupt();
    signal?.addEventListener('abort', this.interrupt);
    this.scores = new CallQueue(scoresAtOnce, this.stop, (index) => this.score(index));
    this.verdicts = rewards.map(
      (reward) => new CallQueue(reward.concurrency, this.stop, (index) => this.callReward(reward, index)),
    );
  }

  /** Milliseconds for which scores and rewards have occupied the thread. */
  get busy(): number {
    return this.clock.busy;
  }

  /** Adds a completion, the `index`th of all. Returns at once; `finish` reports failures. */
  add(index: number, completion: JudgedCompletion<E>): void {
    this.completions[index] = completion;
    this.scores.add(index);
  }

  /**
   * Resolves when every completion has its judgement. Throws an Error for a reward that fails with `onError: 'throw'`, NumericFault for
   * a score or verdict that is not finite, TypeError or RangeError for a score that is not a number in [0, 1], and whatever the task
   * throws. The first failure stops all other calls and is thrown once none is running any more. The signal does the same.
   */
  async finish(): Promise<void> {
    if (this.options.limitsFrom) void this.options.limitsFrom.then(this.clock.start);
    else this.clock.start();
    await this.settle();
    this.stop.signal.throwIfAborted();
  }

  /** Stops all calls because sampling has failed. Resolves when none is running any more. */
  async abandon(): Promise<void> {
    this.stop.abort(new SamplingFailed());
    await this.settle();
  }

  private async settle(): Promise<void> {
    // Verdicts are queued by finished scores, so scores have to settle first.
    for (const queue of [this.scores, ...this.verdicts]) await queue.settled();
    this.options.signal?.removeEventListener('abort', this.interrupt);
  }

  private async score(index: number): Promise<void> {
    const score = await scoreOf(this.task, this.completions[index], this.stop.signal, this.clock);
    this.judgements[index] = { score, rewards: Object.fromEntries(this.rewards.map(({ name }) => [name, null])) };
    this.open[index] = this.rewards.length;
    const group = this.groupOf(index);
    const isWhole = group.every((i) => this.judgements[i] !== undefined);
    for (const [r, reward] of this.rewards.entries()) {
      if (!('judgeGroup' in reward)) this.verdicts[r].add(index);
      else if (isWhole) this.verdicts[r].add(group[0]);
    }
    if (this.rewards.length === 0) this.count();
  }

  /** The numbers of the completions of the same prompt. */
  private groupOf(index: number): number[] {
    const { groupSize } = this.options;
    return Array.from({ length: groupSize }, (_, i) => index - (index % groupSize) + i);
  }

  /** Calls a reward for a completion, or for the group whose first completion it is. */
  private async callReward(reward: AnyReward<E>, index: number): Promise<void> {
    const { signal } = this.stop;
    if ('judgeGroup' in reward) {
      const group = this.groupOf(index);
      const { example } = this.completions[index];
      const completions = group.map((i) => ({ ...this.completionOf(i), score: this.judgements[i].score }));
      const input = { prompt: example.prompt, completions, example };
      const verdicts = await groupVerdicts(reward, input, signal, this.clock);
      for (const [i, one] of verdicts.entries()) this.settleOne(reward, group[i], one);
      return;
    }
    const { example } = this.completions[index];
    const { score } = this.judgements[index];
    const input = { prompt: example.prompt, completion: this.completionOf(index), example, score };
    if ('judge' in reward) {
      this.settleOne(reward, index, await verdict(reward, input, signal, this.clock));
      return;
    }
    const given = await steps(reward, input, signal, this.clock);
    if (given) this.judgements[index].steps = { ...this.judgements[index].steps, [reward.name]: given };
    this.settleOne(reward, index, given ? given.reduce((sum, step) => sum + step.reward, 0) : null);
  }

  private completionOf(index: number): RewardInput['completion'] {
    const { text, tokens, truncated } = this.completions[index];
    return { text, tokens, truncated };
  }

  private settleOne({ name }: RewardSettings, index: number, given: Verdict): void {
    this.judgements[index].rewards[name] = given;
    if (--this.open[index] === 0) this.count();
  }

  private count(): void {
    this.judged++;
    this.options.onJudged?.();
  }
}

class SamplingFailed extends Error {}

/** Signals when time limits begin, and sums up how long calls have occupied the thread. */
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

/** Calls `call` for items in order, with at most `concurrency` calls at a time. The first failure aborts `stop`. */
class CallQueue<T> {
  private readonly waiting: T[] = [];
  private readonly workers = new Set<Promise<void>>();

  constructor(
    private readonly concurrency: number,
    private readonly stop: AbortController,
    private readonly call: (item: T) => Promise<void>,
  ) {}

  add(item: T): void {
    this.waiting.push(item);
    if (this.workers.size >= this.concurrency) return;
    const worker = this.work().finally(() => this.workers.delete(worker));
    this.workers.add(worker);
  }

  /** Resolves when all calls have ended. */
  async settled(): Promise<void> {
    while (this.workers.size > 0) await Promise.all(this.workers);
  }

  private async work(): Promise<void> {
    // Do not run inside the caller of `add`.
    await undefined;
    try {
      while (this.waiting.length > 0 && !this.stop.signal.aborted) {
        // Slow synchronous rewards would delay signals and the time limits of other rewards.
        if (isYieldDue()) await yieldToEventLoop();
        else await this.call(this.waiting.shift()!);
      }
    } catch (error) {
      // If it is aborted already, the first reason stays.
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

type CompletionInput<E extends Example> = Omit<RewardInput<E>, 'signal'>;
type GroupInput<E extends Example> = Omit<GroupRewardInput<E>, 'signal'>;

function aboutCompletion<E extends Example>({ name }: RewardSettings, input: CompletionInput<E>): string {
  return `reward '${name}' of the completion ${describe(input.completion.text)} to ${describe(input.prompt)}`;
}

async function verdict<E extends Example>(
  reward: Reward<E>,
  input: CompletionInput<E>,
  stop: AbortSignal,
  clock: LimitClock,
): Promise<Verdict> {
  const about = aboutCompletion(reward, input);
  const given = await orOnError<Verdict>(reward, about, { null: null, zero: 0 }, async () => {
    const completion = withOwnTokens(input.completion);
    const judge = (signal: AbortSignal) => reward.judge({ ...input, completion, signal });
    return checkVerdict('verdict', await withTimeLimit(judge, reward.timeLimit, stop, clock));
  });
  requireFinite(about, given);
  return given;
}

async function steps<E extends Example>(
  reward: StepReward<E>,
  input: CompletionInput<E>,
  stop: AbortSignal,
  clock: LimitClock,
): Promise<readonly StepVerdict[] | null> {
  const about = aboutCompletion(reward, input);
  const { length } = input.completion.tokens;
  const zero = [{ end: length, reward: 0 }];
  const given = await orOnError<readonly StepVerdict[] | null>(reward, about, { null: null, zero }, async () => {
    const completion = withOwnTokens(input.completion);
    const judge = (signal: AbortSignal) => reward.judgeSteps({ ...input, completion, signal });
    return checkSteps(await withTimeLimit(judge, reward.timeLimit, stop, clock), length);
  });
  for (const step of given ?? []) requireFinite(about, step.reward);
  return given;
}

/** Null if there are no steps. */
function checkSteps(given: unknown, length: number): readonly StepVerdict[] | null {
  if (given === null) return null;
  if (!Array.isArray(given)) throw typeError('steps', 'an array of { end, reward } or null', given);
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
  input: GroupInput<E>,
  stop: AbortSignal,
  clock: LimitClock,
): Promise<readonly Verdict[]> {
  const about = `reward '${reward.name}' of the completions of ${describe(input.prompt)}`;
  const count = input.completions.length;
  const all = (one: Verdict) => Array<Verdict>(count).fill(one);
  const verdicts = await orOnError<readonly Verdict[]>(reward, about, { null: all(null), zero: all(0) }, async () => {
    const completions = input.completions.map(withOwnTokens);
    const judge = (signal: AbortSignal) => reward.judgeGroup({ ...input, completions, signal });
    const given = await withTimeLimit(judge, reward.timeLimit, stop, clock);
    if (!Array.isArray(given) || given.length !== count) {
      throw typeError('verdicts', `an array of ${count}, one for each completion`, given);
    }
    return Array.from(given, (one: unknown, i) => checkVerdict(`verdicts[${i}]`, one));
  });
  for (const one of verdicts) requireFinite(about, one);
  return verdicts;
}

/** A reward that, for example, sorts the tokens must not change the ones that training uses. */
function withOwnTokens<C extends { tokens: Int32Array }>(completion: C): C {
  return { ...completion, tokens: completion.tokens.slice() };
}

/** The result of `judge`; if it fails, an error or a substitute as `onError` says. */
async function orOnError<T>(
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

/** The result of `run`, unless it takes longer than `limit` milliseconds after `clock` has started, or `stop` aborts. */
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
  // Most rewards are synchronous and need no timer.
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
    // The reward itself may have aborted it.
    if (stop.aborted) stopped();
    (result as PromiseLike<unknown>).then(
      (value) => settle(() => resolve(value)),
      (error) => settle(() => reject(error)),
    );
  });
}

function whyStopped(reason: unknown): string {
  if (reason instanceof Interrupted) return 'the step was interrupted';
  return reason instanceof SamplingFailed ? 'sampling has failed' : 'another verdict stopped the run';
}

function isPromise(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as { then?: unknown } | null | undefined)?.then === 'function';
}
