// The completions of steps. They are sampled when their step begins; with `maxStaleness` up to that many steps earlier, with the
// weights of that time, while the steps before it train.
//
// Which prompts a step takes, with which random numbers and with which weights, does not depend on what is ready when. Prompts and
// random numbers are those that it would take if nothing was sampled ahead; the weights are those after step k − 1 − maxStaleness, or,
// where a run has begun or resumed since, those that it had then.

import { Interrupted } from '../base/interruption.js';
import { NumericFault } from '../base/numeric-fault.js';
import { mean } from '../base/statistics.js';
import type { Metrics } from '../devices/plan.js';
import type { Policy } from '../model/policy.js';
import type { Processes } from '../processes/processes.js';
import type { AnyReward, Group } from '../rollout/api.js';
import type { RolloutEngine, RolloutWeights } from '../rollout/engine.js';
import { type SamplingProgress, sampleGroups } from '../rollout/rollout.js';
import type { TokenTask } from '../rollout/token-task.js';
import type { Example } from '../tasks/task.js';
import type { GroupChoice } from './choice.js';
import { addKlReward } from './kl-reward.js';
import type { Learner } from './learn.js';
import type { Settings } from './options.js';
import type { ExampleOrder } from './order.js';
import { type CompletionCounts, sampleTogether } from './together.js';
import type { TrainingState } from './training-state.js';

/** What completions are sampled with. */
export interface SamplingParts<E extends Example> {
  readonly policy: Policy;
  readonly settings: Settings;
  readonly task: TokenTask<E>;
  readonly order: ExampleOrder<E>;
  readonly rewards: readonly AnyReward<E>[];
  readonly choice: GroupChoice;
  readonly state: TrainingState;
  /** Those that train the policy together. With several, nothing is sampled ahead. */
  readonly processes: Processes;
  /** What samples with the weights as they are. Earlier weights `inUse` are still sampled with. Adds to `timing`. */
  samplerOf(options: { timing: Metrics; signal: AbortSignal; inUse: readonly RolloutWeights[] }): Promise<Sampler>;
  /**
   * Called while a step waits for its completions, those of all processes; `began`, of `performance.now()`, is when this round of
   * sampling did.
   */
  onSampling(step: number, began: number, counts: CompletionCounts): void;
}

/** What samples with the weights of one time. */
export interface Sampler {
  engine: RolloutEngine;
  /** Omitted for engines that read the policy's own weights. */
  weights?: RolloutWeights;
  /** Nothing more is sampled with them. May be called again. */
  release(): void;
}

/** Times of `performance.now()` of a round of sampling. */
interface Round {
  began: number;
  /** When all completions were sampled, and when they had their rewards. */
  sampled: number;
  rewarded: number;
  /** Seconds in which rewards held the thread while others were sampled. */
  rewardSeconds: number;
  /** Seconds in which this process, done with its share, waited for others. Omitted for a process alone. */
  waiting?: number;
}

/** The completions of one step, under way or done. */
interface StepSampling<E extends Example> {
  readonly step: number;
  /** The step after which the policy had the weights that sample. */
  readonly version: number;
  readonly groups: Group<E>[];
  readonly rounds: Round[];
  /** Examples taken since the start of the run, those of this step among them as far as they are taken. */
  cursor: number;
  readonly controller: AbortController;
  /** Resolves with `claim`, when its step waits for it. */
  readonly claimed: Promise<void>;
  readonly claim: () => void;
  isClaimed: boolean;
  failure: { error: unknown } | undefined;
  /** Resolves when nothing of it is at work any more, even if it fails. */
  ended: Promise<void>;
}

export class Rollouts<E extends Example> {
  /** The last step that completions are sampled for ahead of it. */
  until = Number.POSITIVE_INFINITY;
  /** Samplings that no step has taken yet, in the order of their steps. */
  private pending: StepSampling<E>[] = [];
  /** Samplers that samplings use. */
  private readonly samplers = new Set<Sampler>();

  constructor(private readonly parts: SamplingParts<E>) {}

  /**
   * Begins what may be sampled with the weights as they are before the next step: for that step and for those up to `maxStaleness`
   * after it, as far as it has not begun. Must not be called while a step trains. A failure is thrown by `take`, for the step that it
   * keeps from being sampled.
   */
  async begin(timing: Metrics, signal: AbortSignal): Promise<void> {
    const { state, settings } = this.parts;
    const version = state.counters.step;
    const last = Math.max(version + 1, Math.min(version + 1 + (settings.maxStaleness ?? 0), this.until));
    const before = this.pending.at(-1);
    const first = before ? before.step + 1 : version + 1;
    // A failure other than a numeric fault ends the run.
    if (first > last || (before && endsRun(before))) return;
    let sampler: Sampler;
    try {
      const inUse = [...this.samplers].flatMap(({ weights }) => weights ?? []);
      sampler = await this.parts.samplerOf({ timing, signal, inUse });
    } catch (error) {
      this.push(first, version, () => Promise.reject(error));
      return;
    }
    const begun: Promise<void>[] = [];
    for (let step = first; step <= last; step++) {
      begun.push(this.push(step, version, (own, previous) => this.sample(own, previous, sampler)).ended);
    }
    this.samplers.add(sampler);
    void Promise.all(begun).then(() => this.release(sampler));
  }

  /**
   * Adds the completions of the next step to `groups`, even if it then fails, and counts its examples as taken. Adds the times that
   * the step had to wait. Throws what the sampling has failed with, and the signal's reason.
   */
  async take(groups: Group<E>[], timing: Metrics, signal: AbortSignal): Promise<void> {
    const { state, settings } = this.parts;
    const sampling = this.pending.shift()!;
    const from = performance.now();
    const abort = () => sampling.controller.abort(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    sampling.isClaimed = true;
    sampling.claim();
    await sampling.ended;
    signal.removeEventListener('abort', abort);
    groups.push(...sampling.groups);
    state.counters.cursor = sampling.cursor;
    if (sampling.failure) throw sampling.failure.error;
    Object.assign(timing, timesOf(sampling.rounds, from, settings.maxStaleness !== null));
  }

  /** Stops what is sampled for steps after `step`, because the run ends with that. */
  stopAfter(step: number): void {
    this.until = step;
    for (const sampling of this.pending) if (sampling.step > step) sampling.controller.abort(new Interrupted(notTaken));
  }

  /** Stops all that no step has taken, at once. */
  abort(): Promise<unknown> {
    const dropped = this.pending;
    this.pending = [];
    for (const { controller } of dropped) controller.abort(new Interrupted(notTaken));
    return Promise.all(dropped.map(({ ended }) => ended));
  }

  /** Frees what samplers hold, after `abort` where it is not waited for. */
  dispose(): void {
    void this.abort();
    for (const sampler of [...this.samplers]) this.release(sampler);
  }

  private release(sampler: Sampler): void {
    this.samplers.delete(sampler);
    sampler.release();
  }

  private push(
    step: number,
    version: number,
    sample: (own: StepSampling<E>, previous: StepSampling<E> | undefined) => Promise<void>,
  ): StepSampling<E> {
    const previous = this.pending.at(-1);
    let claim!: () => void;
    const claimed = new Promise<void>((resolve) => {
      claim = resolve;
    });
    const own: StepSampling<E> = {
      step,
      version,
      groups: [],
      rounds: [],
      cursor: previous?.cursor ?? this.parts.state.counters.cursor,
      controller: new AbortController(),
      claimed,
      claim,
      isClaimed: false,
      failure: undefined,
      ended: Promise.resolve(),
    };
    own.ended = sample(own, previous).catch((error: unknown) => {
      own.failure = { error };
    });
    this.pending.push(own);
    return own;
  }

  /** Rounds of prompts until there are enough groups of the kind that is wanted. */
  private async sample(
    sampling: StepSampling<E>,
    previous: StepSampling<E> | undefined,
    { engine, weights }: Sampler,
  ): Promise<void> {
    const { parts } = this;
    const { policy, settings, task, order, rewards, choice, processes } = parts;
    const { promptsPerStep, groupSize, dynamicSampling, sampling: how, seed, maxStaleness } = settings;
    const { step, version, groups, controller, claimed } = sampling;
    const { signal } = controller;
    if (previous && dynamicSampling.maxRounds > 1) {
      // Only at its end is it known how many prompts that one takes.
      await previous.ended;
      if (endsRun(previous)) throw previous.failure!.error;
      signal.throwIfAborted();
      sampling.cursor = previous.cursor;
    }
    for (let count = 0; count < dynamicSampling.maxRounds; count++) {
      const examples = Array.from({ length: promptsPerStep }, () => order.at(sampling.cursor++));
      const round: Round = { began: performance.now(), sampled: 0, rewarded: 0, rewardSeconds: 0 };
      sampling.rounds.push(round);
      const before = groups.length;
      let ended = round.began;
      const sampleShare = async (
        share: readonly E[],
        first: number,
        onProgress: (progress: SamplingProgress) => void,
      ) => {
        const found = await sampleGroups(policy, task, share, {
          groupSize,
          temperature: how.temperature,
          topP: how.topP ?? undefined,
          topK: how.topK ?? undefined,
          minP: how.minP ?? undefined,
          seed,
          step,
          firstPrompt: before + first,
          rewards,
          signal,
          engine,
          weights,
          limitsFrom: claimed,
          onProgress,
          onSampled: (some, { rewardSeconds }) => {
            if (maxStaleness) for (const { completions } of some) for (const one of completions) one.version = version;
            groups.push(...some);
            Object.assign(round, { sampled: performance.now(), rewardSeconds });
          },
        });
        ended = performance.now();
        return found;
      };
      const byFirst = settings.importanceSampling !== null;
      const more = await sampleTogether(processes, examples, byFirst, sampleShare, ({ sampled, rewarded }) => {
        if (!sampling.isClaimed) return;
        parts.onSampling(step, round.began, { all: promptsPerStep * groupSize, sampled, rewarded });
      });
      groups.splice(before, Infinity, ...more);
      if (processes.size > 1) round.waiting = (performance.now() - ended) / 1e3;
      signal.throwIfAborted();
      await addKlReward(more, learnerOf(parts, signal));
      round.rewarded = performance.now();
      if (choice.areEnough(groups)) return;
    }
  }
}

const notTaken = 'the run has ended before the step that this was sampled for';

function endsRun({ failure }: StepSampling<Example>): boolean {
  return failure !== undefined && !(failure.error instanceof NumericFault);
}

/**
 * How long a step waited, from `from` of `performance.now()` on, for completions and then for their rewards, in seconds; with
 * `isAhead`, how long they had been at work before.
 */
function timesOf(rounds: readonly Round[], from: number, isAhead: boolean): Metrics {
  let [sampling, rewards, ahead] = [0, 0, 0];
  let waiting: number | undefined;
  for (const { began, sampled, rewarded, rewardSeconds, waiting: own } of rounds) {
    const waited = Math.max(0, sampled - Math.max(began, from)) / 1e3;
    // Rewards that are computed while others are sampled cost no time of their own, unless they hold the thread.
    const held = Math.min(rewardSeconds, waited);
    sampling += waited - held;
    rewards += Math.max(0, (rewarded - Math.max(sampled, from)) / 1e3 - (own ?? 0)) + held;
    if (own !== undefined) waiting = (waiting ?? 0) + own;
    ahead += (Math.min(rewarded, from) - Math.min(began, from)) / 1e3;
  }
  return {
    'time/sampling': sampling,
    'time/rewards': rewards,
    ...(waiting !== undefined && { 'time/waiting': waiting }),
    ...(isAhead && { sampled_ahead: ahead }),
  };
}

/** By how many steps the weights that sampled are older than those before `step`; no metrics where nothing is sampled ahead. */
export function stalenessMetrics(groups: readonly Group[], step: number): Metrics {
  const ages = groups.flatMap(({ completions }) =>
    completions.flatMap(({ version }) => (version === undefined ? [] : [step - 1 - version])),
  );
  if (ages.length === 0) return {};
  return { 'sampling/staleness_mean': mean(ages), 'sampling/staleness_max': ages.reduce((a, b) => Math.max(a, b)) };
}

export function learnerOf<E extends Example>(
  { policy, settings, task, state, processes }: SamplingParts<E>,
  signal: AbortSignal,
): Learner {
  const { promptLength, maxTokens } = task;
  const { optimizer, reference } = state;
  return { policy, optimizer, reference, settings, promptLength, maxTokens, processes, signal };
}
