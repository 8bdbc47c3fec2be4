// The trainer: runs steps (step.ts) reliably. Each step is applied as a whole or not at all, a saved run continues bit for bit,
// and signals, faults and disk failures lose no more than the running step.

import { currentBackend } from '../backend/backend.js';
import { checkBoolean, checkObject, rangeError, typeError } from '../base/check.js';
import { EventLoopWatch } from '../base/event-loop.js';
import { Interrupted, interruption, usualGrace } from '../base/interruption.js';
import { NumericFault } from '../base/numeric-fault.js';
import { packageVersion } from '../base/version.js';
import { type DeviceChoice, devices } from '../devices/devices.js';
import type { Metrics } from '../devices/plan.js';
import { evaluate, evaluationMetrics } from '../evaluation/evaluate.js';
import { checkPolicy } from '../model/define.js';
import type { Policy } from '../model/policy.js';
import type { Processes } from '../processes/processes.js';
import { writeReport } from '../report/run/index.js';
import type { AnyReward, Evaluation, Group } from '../rollout/api.js';
import type { RolloutEngine } from '../rollout/engine.js';
import { policySampler } from '../rollout/sample.js';
import { type TokenTask, tokenTask } from '../rollout/token-task.js';
import { differences, type Identity, identify } from '../run/drift.js';
import { type Loaded, Run, type RunConfig } from '../run/run.js';
import type { Example, Task } from '../tasks/task.js';
import type {
  GrpoStep,
  GrpoTrainer,
  RunOptions,
  RunResult,
  StartOptions,
  StepsOptions,
  TrainerOptions,
} from './api.js';
import { checkSamplingMetric, GroupChoice } from './choice.js';
import { secondsSince } from './clock.js';
import { probesOf, runName, weightsOf } from './engine-weights.js';
import { guard } from './guard.js';
import { type HealthContext, observeHealth, warningsOf } from './health.js';
import {
  checkStepsOptions,
  evaluationExamples,
  type Parts,
  resolveEngine,
  resolveParts,
  resolveProcesses,
  resolveSettings,
  type Settings,
} from './options.js';
import { ExampleOrder } from './order.js';
import { accuraciesOf, createProgress, type Progress, progressLine, RunProgress } from './progress.js';
import { holdWeights, needsReference } from './reference-policy.js';
import { rewardWeights } from './reward-weights.js';
import { Rollouts, type Sampler, type SamplingParts } from './rollouts.js';
import { checkKeepBest, checkNotes, checkTexts } from './run-checks.js';
import { usualEvaluationSize } from './schema.js';
import { exitCodes, listenForStop } from './signals.js';
import { makeStep, type StepParts } from './step.js';
import type { CompletionCounts } from './together.js';
import { shareState } from './together.js';
import { type Snapshot, TrainingState } from './training-state.js';
import { warmStart } from './warm-start.js';

/** A trainer for callers that keep their own files in its run folder, or that must be able to end at any moment. */
export interface RunTrainer<E extends Example = Example> extends GrpoTrainer<E> {
  /** Throws an Error if another process has taken the run folder: nothing may be written to it then. */
  confirm(): void;
  /** Saves the last complete state, even while a step is running, and releases the folder: before the process exits. */
  abandon(): void;
}

/** See `GrpoTrainer.create`. */
export async function createTrainer<E extends Example>(options: TrainerOptions<E>): Promise<RunTrainer<E>> {
  checkObject('options', options);
  const processes = resolveProcesses(options.communicator);
  return processes.agree(() => create(options, processes));
}

async function create<E extends Example>(options: TrainerOptions<E>, processes: Processes): Promise<RunTrainer<E>> {
  const given = Promise.resolve(options.policy);
  // If another option is invalid, that error is thrown at once, and a rejection of this promise must not go unhandled.
  given.catch(() => {});
  const settings = resolveSettings(options);
  if (processes.size > 1 && settings.maxStaleness !== null) {
    const expected = '0 with several processes (communicator)';
    throw rangeError('maxStaleness', expected, String(settings.maxStaleness));
  }
  const parts = resolveParts(options);
  const engine = resolveEngine(options.rollout, settings);
  const { runDir, resume = 'auto', allowDrift = false, takeOver = false, notes = {} } = options;
  if (runDir !== undefined && (typeof runDir !== 'string' || runDir === '')) {
    throw typeError('runDir', 'the path of a folder', runDir);
  }
  if (typeof resume !== 'string' || resume === '') throw typeError('resume', `'auto', 'never' or a path`, resume);
  checkBoolean('allowDrift', allowDrift);
  checkBoolean('takeOver', takeOver);
  checkNotes(notes);
  if (runDir === undefined && settings.guard.action === 'rollback') {
    throw rangeError('guard.action', `'skip' or 'halt' without a runDir`, `'rollback'`);
  }
  if (runDir === undefined && resume !== 'auto' && resume !== 'never') {
    throw rangeError('resume', `'auto' or 'never' without a runDir`, `'${resume}'`);
  }
  checkKeepBest(settings, parts);
  checkSamplingMetric(settings.dynamicSampling, rewardWeights(parts.rewards, settings));
  const policy = checkPolicy(await given);
  const backend = currentBackend();
  if (backend === undefined) throw new Error('policy: expected a tfjs backend, got none (call tf.setBackend)');
  await checkTexts(parts, policy, settings);
  const isIdentified = runDir !== undefined || processes.size > 1;
  const identity =
    isIdentified &&
    identify({
      settings,
      policy,
      ...parts,
      rollout: engine && (engine.description ?? { name: engine.name }),
      backend,
      device: deviceName(settings.device),
      evaluationSize: settings.evaluation.size ?? usualEvaluationSize,
    });
  if (identity) await checkSame(processes, identity);
  let run: Run | undefined;
  let trainer: Trainer<E> | undefined;
  try {
    if (identity && runDir !== undefined && processes.isFirst) {
      const config: RunConfig = {
        version: packageVersion(),
        created: new Date().toISOString(),
        node: process.version,
        seed: settings.seed,
        identity,
        notes,
        notation: parts.train.notation ?? null,
      };
      run = new Run({ runDir, keep: settings.checkpoint, takeOver });
      const from = run.begin({ runDir, resume, allowDrift, config });
      trainer = new Trainer<E>(parts, settings, policy, run, engine, processes);
      if (from) trainer.load(from);
    }
    trainer ??= new Trainer<E>(parts, settings, policy, undefined, engine, processes);
    await trainer.join();
    return trainer;
  } catch (error) {
    if (trainer) trainer.dispose();
    else run?.close();
    throw error;
  }
}

/** Throws an Error if the processes that train together were given different options. */
async function checkSame(processes: Processes, own: Identity): Promise<void> {
  const node = process.versions.node.split('.')[0];
  // As JSON, in which it is compared: it may hold functions of the user's.
  const all = await processes.gather('settings', JSON.stringify({ ...own, node, version: packageVersion() }));
  const [first, ...others] = all.map((each) => JSON.parse(each) as Identity);
  for (const [i, other] of others.entries()) {
    const found = differences(first, other);
    if (found.length > 0) {
      throw new Error(
        `expected the same options in every process, got others in process ${i + 1}: ${found.join('; ')}`,
      );
    }
  }
}

/** The device of a choice. A policy's values are tfjs tensors on the host, where 'auto' never means CUDA. */
function deviceName(choice: DeviceChoice): string {
  if (choice !== 'auto') return choice;
  return devices().find(({ name, available }) => available && name !== 'cuda')!.name;
}

const silent: Progress = { update: () => {}, print: () => {} };

/** Seconds between two updates of the sampling progress on a terminal. */
const showEvery = 0.5;

/** If a step blocks the event loop for longer than this, in seconds, a notice says that signals have to wait. */
const longStretch = 5;

class Trainer<E extends Example> implements RunTrainer<E> {
  readonly notices: string[];
  private readonly state: TrainingState;
  private readonly task: TokenTask<E>;
  private readonly order: ExampleOrder<E>;
  private readonly parts: StepParts<E>;
  private readonly rollouts: Rollouts<E>;
  private readonly context: HealthContext;
  private readonly evaluations: readonly { name: string; task: TokenTask; examples: Example[] }[];
  /** The probes for an engine that has its own copy of the weights, and the run's name there. Created once. */
  private probing: { run: string; probes: readonly Int32Array[] } | undefined;
  private progress = silent;
  /** Time of the last update by `showSampling`. */
  private sampledShownAt = 0;
  /** Whether the warm start and the first evaluation are done. */
  private begun = false;
  /** The state that was saved last, and its folder. */
  private saved: { place: string; folder: string } | undefined;
  private looping = false;
  /** Whether the last loop has ended by a signal, to this process or another. */
  private isStopped = false;
  /** Whether a warm start or a step is running. */
  private working = false;
  /** The state before the running step. */
  private before: Snapshot | undefined;
  /** The longest time, in seconds, for which a step has blocked the event loop. */
  private longestStretch = 0;
  private disposed = false;
  /** Whether the trainer's memory and run folder are released. */
  private freed = false;

  constructor(
    parts: Parts,
    private readonly settings: Settings,
    readonly policy: Policy,
    private readonly files: Run | undefined,
    private readonly engine: RolloutEngine | undefined,
    private readonly processes: Processes,
  ) {
    this.notices = files?.notices ?? [];
    const tokens = (task: Task) => tokenTask(task, policy, settings.sampling);
    this.task = tokens(parts.train) as unknown as TokenTask<E>;
    this.order = new ExampleOrder(this.task.task, settings.shuffle, settings.seed);
    this.context = healthContext(settings, parts, this.task.maxTokens);
    this.evaluations = Object.entries(parts.evaluate).map(([name, task]) => ({
      name,
      task: tokens(task),
      examples: evaluationExamples(task, settings.evaluation.size),
    }));
    const weights = rewardWeights(parts.rewards, settings);
    // Last, because it is the only part that holds memory.
    this.state = new TrainingState(policy, settings);
    const sampling: SamplingParts<E> = {
      policy,
      settings,
      task: this.task,
      order: this.order,
      rewards: parts.rewards as readonly AnyReward<E>[],
      choice: new GroupChoice(settings, weights),
      state: this.state,
      processes,
      samplerOf: (options) => this.samplerOf(options),
      onSampling: (...progress) => this.showSampling(...progress),
    };
    this.rollouts = new Rollouts(sampling);
    this.parts = {
      ...sampling,
      weights,
      rollouts: this.rollouts,
      evaluate: (signal) => this.evaluateOnce(signal),
    };
  }

  get step(): number {
    return this.state.counters.step;
  }

  /** Takes the state of the first process, which alone has read it from the run folder. */
  async join(): Promise<void> {
    const { processes, state } = this;
    if (processes.size === 1) return;
    const own = processes.isFirst ? { begun: this.begun, state: state.save() } : undefined;
    const shared = await shareState(processes, own);
    if (own) return;
    state.load(shared.state);
    this.begun = shared.begun;
    if (this.begun && needsReference(this.settings) && !state.reference) state.holdReference();
  }

  /** Continues from a saved state. One from another run is saved as this run's first checkpoint, so that the run stands on its own. */
  load({ state, folder, isOwn }: Loaded): void {
    this.state.load(state);
    this.begun = !state.isWarmStart;
    if (this.begun && needsReference(this.settings) && !this.state.reference) this.state.holdReference();
    if (isOwn) this.saved = { place: this.place, folder };
    else if (this.isWorthSaving) this.saveNow();
  }

  async start(options: StartOptions = {}): Promise<void> {
    checkStepsOptions(options, ['output', 'signal']);
    this.requireInUse();
    if (!this.begun) await this.processes.agree(() => this.exclusively(() => this.begin(options)));
  }

  /** If it is interrupted or fails, the warm start's progress is kept and saved, and the next call continues from there. */
  private async begin({ output = null, signal }: StartOptions): Promise<void> {
    if (output) this.progress = createProgress(output);
    let failure: Error | undefined;
    try {
      await this.processes.agree(() => this.reachStart(signal), signal);
    } catch (error) {
      if (this.state.warmStart?.updates === 0) this.state.endWarmStart();
      if (error instanceof Interrupted || (signal?.aborted && error === signal.reason)) return;
      failure = error as Error;
      throw error;
    } finally {
      this.saveLast(failure);
    }
  }

  private async reachStart(signal: AbortSignal | undefined): Promise<void> {
    if (this.processes.isFirst) await this.warmStart(signal);
    await this.join();
    const began = performance.now();
    const metrics = this.settings.evaluation.atStart ? await this.evaluateOnce(signal) : {};
    if (accuraciesOf(metrics).length > 0) {
      this.progress.print(progressLine({ index: 0, metrics, timing: {}, groups: [], warnings: [] }, undefined, 0));
    }
    this.completeStart(metrics, secondsSince(began));
    await this.processes.gather('start', null);
  }

  /** Ends the warm start and begins reinforcement. Rolled back if it fails. */
  private completeStart(metrics: Metrics, seconds: number): void {
    const { state, files } = this;
    const { warmStart, counters } = state;
    const logs = files?.mark();
    const before = counters.seconds;
    try {
      state.warmStart = undefined;
      if (needsReference(this.settings)) state.holdReference();
      counters.seconds += seconds;
      files?.restore(0);
      if (files && Object.keys(metrics).length > 0) files.log(0, { metrics, timing: {}, samples: [], warnings: [] });
      if (files) this.saveNow();
      this.begun = true;
      warmStart?.dispose();
    } catch (error) {
      state.warmStart = warmStart;
      state.dropReference();
      counters.seconds = before;
      if (logs) files!.cutBack(logs);
      throw error;
    }
  }

  async *steps(options: StepsOptions = {}): AsyncGenerator<GrpoStep<E>, void, void> {
    const { max = Infinity, signal, grace = usualGrace } = checkStepsOptions(options, ['max', 'signal', 'grace']);
    if (this.looping) throw new Error('steps: expected no other running loop over this trainer');
    this.looping = true;
    this.rollouts.until = max;
    let failure: Error | undefined;
    try {
      await this.start({ signal });
      while (this.step < max) {
        // A process alone begins its step within the call that asks for it.
        if (this.processes.size === 1 ? signal?.aborted : await this.isToStop(signal)) break;
        yield await this.processes.agree(() => this.exclusively(() => this.interruptibleStep(signal, grace)));
      }
    } catch (error) {
      if (error instanceof Interrupted) return this.progress.print(`step ${this.step + 1}: ${error.message}`);
      failure = error as Error;
      throw error;
    } finally {
      this.looping = false;
      const stopped = this.rollouts.abort();
      try {
        await this.endTogether(failure);
      } finally {
        // Servers unload the weights when nothing is sampled with them any more.
        await stopped;
        if (this.processes.isFirst) await this.releaseEngine();
      }
    }
  }

  private async releaseEngine(): Promise<void> {
    try {
      await this.engine?.release?.();
    } catch {
      // The run is complete and saved: nothing but tidying up was left undone.
    }
  }

  /** Saves the last complete state. No process ends before that is done, because one that does may end the others. */
  private async endTogether(failure: Error | undefined): Promise<void> {
    const end = () => this.processes.gather('end of the steps', null);
    try {
      await this.processes.agree(async () => {
        this.saveLast(failure);
        await end();
      });
    } catch (error) {
      // Those that were elsewhere know it too, and come here now.
      await end();
      if (!failure) throw error;
    }
  }

  /** Whether this process or another is asked to stop: all make the same number of steps. */
  private async isToStop(signal: AbortSignal | undefined): Promise<boolean> {
    const isAborted = signal?.aborted ?? false;
    this.isStopped = (await this.processes.gather('next step', isAborted)).includes(true);
    return this.isStopped;
  }

  async run(options: RunOptions = {}): Promise<RunResult> {
    checkStepsOptions(options, ['max', 'signal', 'grace', 'output', 'onStep']);
    const { max, signal, grace = usualGrace, onStep } = options;
    const { output = this.processes.isFirst ? process.stdout : null } = options;
    const progress = output ? createProgress(output) : silent;
    const stop = listenForStop({
      onFirst: (name) =>
        progress.print(
          this.begun
            ? `${name}: finishing the step (at most ${grace} s); a second signal discards it and ends now`
            : `${name}: ending before the first step`,
        ),
      onSecond: () => this.abandon(),
    });
    this.progress = progress;
    const sizes = new Map(this.evaluations.map(({ name, examples }) => [name, examples.length]));
    const shown = new RunProgress(progress, this.notices, max, sizes);
    shown.notices();
    let metrics: Metrics = {};
    try {
      const either = AbortSignal.any(signal ? [signal, stop.signal] : [stop.signal]);
      if (!this.begun) await this.start({ output, signal: either });
      shown.begin(this.step);
      for await (const step of this.steps({ max, signal: either, grace })) {
        metrics = step.metrics;
        shown.step(step, this.step);
        onStep?.(step);
      }
      shown.notices();
      if (this.files && this.begun) {
        this.confirm();
        // If the report cannot be written, say so; the run has not failed.
        await writeReport(this.files.path).catch((error: Error) => progress.print(`no report: ${error.message}`));
      }
    } finally {
      this.progress = silent;
      stop.release();
    }
    if (stop.received) process.exitCode = exitCodes[stop.received];
    const { health } = this.state.counters;
    return {
      steps: this.step,
      ended: stop.received ?? (signal?.aborted || this.isStopped ? 'aborted' : 'max'),
      metrics,
      learned: health.learned,
      skipped: this.step - health.made,
      warnings: warningsOf(health),
    };
  }

  async evaluate(options: { signal?: AbortSignal } = {}): Promise<Record<string, Evaluation>> {
    const { signal } = checkStepsOptions(options, ['signal']);
    const results: Record<string, Evaluation> = {};
    for (const { name, task, examples } of this.evaluations) {
      const sampling = { ...this.settings.evaluation, seed: this.settings.seed };
      results[name] = await evaluate(this.policy, task, examples, sampling, signal);
    }
    return results;
  }

  save(): string {
    if (!this.files) throw new Error('save: expected a trainer with a runDir, in process 0 of several');
    this.requireInUse();
    if (!this.isWorthSaving) throw new Error('save: expected a run that has begun; call start first');
    return this.saveComplete();
  }

  /** Saves the current state, or the one before the running step. */
  private saveComplete(): string {
    const { before } = this;
    if (!before) return this.saveNow();
    // The running step is changing weights and counters.
    const now = this.state.snapshot();
    before.restore();
    try {
      return this.saveNow();
    } finally {
      now.restore();
      now.dispose();
    }
  }

  confirm(): void {
    this.files?.confirm();
  }

  abandon(): void {
    if (!this.files || this.freed) return;
    try {
      if (this.isWorthSaving) this.saveComplete();
    } finally {
      this.files.close();
    }
  }

  dispose(): void {
    this.disposed = true;
    // A running step or warm start needs its memory until it ends.
    if (!this.working) this.free();
  }

  private free(): void {
    if (this.freed) return;
    try {
      // A loop whose consumer has not asked for the next step has not saved its last one yet.
      if (this.looping) this.saveLast(undefined);
    } finally {
      this.freed = true;
      this.rollouts.dispose();
      this.state.dispose();
      this.files?.close();
    }
  }

  private requireInUse(): void {
    if (this.disposed) throw new Error('expected a live trainer, got one that was disposed');
  }

  /** Warm start and steps change the same weights, so only one of them may run at a time. */
  private async exclusively<T>(work: () => Promise<T>): Promise<T> {
    this.requireInUse();
    if (this.working) throw new Error('expected an idle trainer, got one whose warm start or step is running');
    // The policy may have been disposed since.
    checkPolicy(this.policy);
    this.working = true;
    try {
      return await work();
    } finally {
      this.working = false;
      if (this.disposed) this.free();
    }
  }

  /** Names the state of the run, not counting the running step. */
  private get place(): string {
    const { warmStart } = this.state;
    return warmStart ? `update ${warmStart.updates} of the warm start` : `step ${this.step}`;
  }

  /** False until the first update of a warm start, or until the run has begun: there is only the initial policy. */
  private get isWorthSaving(): boolean {
    return this.begun || (this.state.warmStart?.updates ?? 0) > 0;
  }

  private saveNow(): string {
    const [files, place] = [this.files!, this.place];
    files.restore(this.step);
    if (this.saved?.place !== place || !files.holds(this.saved.folder)) {
      this.saved = { place, folder: files.save(this.state.save()) };
    }
    return this.saved.folder;
  }

  /** Whenever the event loop turns, the state is that of a complete update. */
  private async warmStart(signal: AbortSignal | undefined): Promise<void> {
    const { warmStart: settings, device, checkpoint } = this.settings;
    if (!settings) return;
    const { policy, task, state } = this;
    const optimizer = state.beginWarmStart(settings.optimizer);
    if (optimizer.updates > 0) this.progress.print(`warm start: continuing after update ${optimizer.updates}`);
    const exampleAt = (place: number) => this.order.at(place);
    const shown = { loss: '', accuracy: '' };
    let accuracy: number | undefined;
    let [looked, saved] = [performance.now(), performance.now()];
    for await (const step of warmStart({ policy, task, exampleAt, settings, device, optimizer, signal })) {
      const { updates, examples, loss } = step;
      accuracy = step.accuracy ?? accuracy;
      state.counters.cursor = examples;
      state.counters.seconds += secondsSince(looked);
      looked = performance.now();
      if (loss !== undefined) shown.loss = `: cross-entropy ${loss.toFixed(3)}`;
      if (accuracy !== undefined) shown.accuracy = `, ${(100 * accuracy).toFixed(1)} % right`;
      const text = `warm start, update ${updates} of at most ${settings.steps}${shown.loss}${shown.accuracy}`;
      const isMilestone =
        updates % (4 * settings.every) === 0 && (settings.until === null || step.accuracy !== undefined);
      this.progress.update(text, isMilestone);
      if (this.files && secondsSince(saved) >= checkpoint.warmStartSeconds) {
        this.saveNow();
        saved = performance.now();
      }
    }
    if (settings.until === null || (accuracy ?? 0) >= settings.until) return;
    const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
    this.notices.push(
      accuracy === undefined
        ? `the warm start ended after ${optimizer.updates} updates, before its first check of the accuracy (warmStart.every)`
        : `the warm start ended after ${optimizer.updates} updates with ${percent(accuracy)} right, below ` +
            `${percent(settings.until)} (warmStart.until); give it more steps or easier problems`,
    );
  }

  /** Runs a whole step or none: one that does not end within the grace period after the signal throws Interrupted. */
  private async interruptibleStep(signal: AbortSignal | undefined, grace: number): Promise<GrpoStep<E>> {
    const loop = new EventLoopWatch();
    const interrupt = interruption(signal, grace, loop, this.longestStretch);
    const last = () => this.rollouts.stopAfter(this.step + 1);
    signal?.addEventListener('abort', last, { once: true });
    try {
      return await this.wholeStep(interrupt.signal, loop);
    } finally {
      interrupt.release();
      signal?.removeEventListener('abort', last);
      loop.stop();
      this.noteStretch(loop.longest);
    }
  }

  private noteStretch(seconds: number): void {
    if (seconds > longStretch && this.longestStretch <= longStretch) {
      this.notices.push(
        `a step blocks the event loop for ${seconds.toFixed(1)} s at a time, during which signals have to wait; ` +
          'a smaller microBatchSize shortens its passes',
      );
    }
    this.longestStretch = Math.max(this.longestStretch, seconds);
  }

  private async wholeStep(signal: AbortSignal, loop: EventLoopWatch): Promise<GrpoStep<E>> {
    const began = performance.now();
    if (this.files?.restore(this.step)) this.saveNow();
    const before = this.state.snapshot();
    this.before = before;
    const logs = this.files?.mark();
    const groups: Group<E>[] = [];
    const undo = () => {
      before.restore();
      if (logs) this.files!.cutBack(logs);
    };
    try {
      return await this.processes.agree(() => this.attempt(groups, began, signal, loop));
    } catch (error) {
      const { cursor } = this.state.counters;
      undo();
      if (!(error instanceof NumericFault)) throw error;
      try {
        return await this.processes.agree(() => this.recover(error, groups, cursor, began));
      } catch (failure) {
        undo();
        throw failure;
      }
    } finally {
      this.before = undefined;
      before.dispose();
    }
  }

  /** Runs a step and commits it. Adds sampled groups to `groups`, so that they are known even if the step fails. */
  private async attempt(
    groups: Group<E>[],
    began: number,
    signal: AbortSignal,
    loop: EventLoopWatch,
  ): Promise<GrpoStep<E>> {
    const { metrics, timing } = await makeStep(this.parts, groups, began, signal);
    timing.event_loop_blocked = loop.longest;
    const { processes } = this;
    // What the first process has written is not taken back because another has failed.
    await processes.gather('step', null);
    const step = this.commit({ index: this.step + 1, metrics, timing, groups, warnings: [] }, began);
    await processes.gather('end of a step', null);
    return step;
  }

  /** What samples, with the weights as they are. */
  private async samplerOf({ timing, signal, inUse }: Parameters<SamplingParts<E>['samplerOf']>[0]): Promise<Sampler> {
    const { engine, policy, settings } = this;
    const nothing = () => {};
    if (!engine) return { engine: policySampler(policy, { device: settings.device }), release: nothing };
    // Only process 0 sends requests to the servers.
    if (!engine.update || !this.processes.isFirst) return { engine, release: nothing };
    const began = performance.now();
    this.probing ??= { run: runName(this.files?.path), probes: await probesOf(policy, this.task, signal) };
    const given = { ...this.probing, temperature: settings.sampling.temperature };
    // Steps change the policy's weights while others are sampled with these.
    const held = settings.maxStaleness === null ? undefined : holdWeights(policy);
    const release = () => held?.dispose();
    const weights = weightsOf(policy, given, held && ((compute) => held.with(compute)));
    try {
      await engine.update(weights, { signal, inUse });
    } catch (error) {
      release();
      throw error;
    }
    timing['time/engine_update'] = secondsSince(began);
    return { engine, weights, release };
  }

  /** Shows the progress of a step that takes long. */
  private showSampling(step: number, began: number, { all, sampled, rewarded }: CompletionCounts): void {
    const now = performance.now();
    if (now - Math.max(began, this.sampledShownAt) < 1e3 * showEvery) return;
    this.sampledShownAt = now;
    this.progress.update(`step ${step}: ${sampled} of ${all} completions sampled, ${rewarded} rewarded`, false);
  }

  /** Counts and logs a step, and saves a checkpoint if one is due. */
  private commit(step: GrpoStep<E>, began: number): GrpoStep<E> {
    const { counters } = this.state;
    const { every, keepBest } = this.settings.checkpoint;
    const {
      health,
      metrics: conditions,
      warnings,
    } = observeHealth(counters.health, step.index, step.metrics, this.context);
    counters.health = health;
    Object.assign(step.metrics, conditions);
    step.warnings = warnings;
    counters.step = step.index;
    counters.seconds += secondsSince(began);
    step.timing.time = counters.seconds;
    const value = keepBest === null ? undefined : step.metrics[keepBest];
    const best = counters.best?.metric === keepBest ? counters.best!.value : -Infinity;
    const isBest = value !== undefined && value > best;
    if (isBest) counters.best = { metric: keepBest!, step: step.index, value };
    if (this.files) {
      const { metrics, timing, groups } = step;
      this.files.log(step.index, {
        metrics,
        timing,
        warnings,
        samples: pickSamples(groups, this.settings.samplesPerStep),
      });
      if (isBest || step.index % every === 0) this.saveNow();
    }
    return step;
  }

  /** What follows a value that is not finite. The state is the one before the step. */
  private async recover(
    fault: NumericFault,
    groups: readonly Group<E>[],
    ownCursor: number,
    began: number,
  ): Promise<GrpoStep<E>> {
    const { processes } = this;
    const index = this.step + 1;
    const cursor = Math.max(...(await processes.gather('cursor', ownCursor)));
    const { action, faults, message } = guard(fault, index, groups, this.state.counters.faults, {
      ...this.settings.guard,
      files: this.files,
    });
    if (action === 'rollback') {
      await this.rollouts.abort();
      if (this.files) this.load(this.files.rollback());
      await this.join();
      Object.assign(this.state.counters, { cursor, faults });
      const { step } = this;
      const nothing = { metrics: {}, timing: {}, groups: [], warnings: [] };
      return { index: step, ...nothing, fault: `${message}; rolled back to step ${step}` };
    }
    Object.assign(this.state.counters, { cursor, faults });
    const metrics = { 'guard/skipped': 1 };
    const skipped = { index, metrics, timing: { 'time/step': secondsSince(began) }, groups: [], warnings: [] };
    const step = this.commit(skipped, began);
    await processes.gather('end of a step', null);
    return { ...step, fault: `${message}; skipped` };
  }

  /** Metrics of all evaluations, which one process makes for all. */
  private evaluateOnce(signal: AbortSignal | undefined): Promise<Metrics> {
    return this.processes.fromFirst('evaluation', () => this.evaluationMetrics(signal));
  }

  private async evaluationMetrics(signal: AbortSignal | undefined): Promise<Metrics> {
    const results = Object.entries(await this.evaluate({ signal }));
    return Object.assign({}, ...results.map(([name, result]) => evaluationMetrics(name, result)));
  }

  /** Saves the last complete state when a loop or a warm start ends. `failure` is the error that ended it. */
  private saveLast(failure: Error | undefined): void {
    if (!this.files || !this.isWorthSaving || this.freed) return;
    try {
      this.saveNow();
    } catch (error) {
      if (!failure) throw error;
      const { message } = error as Error;
      if (!failure.message.includes(message)) failure.message += `\n${message}`;
    }
  }
}

function healthContext(settings: Settings, { rewards }: Parts, maxTokens: number): HealthContext {
  const { promptsPerStep, groupSize, advantage, warmStart, iterations, miniBatches, optimizer } = settings;
  const { importanceSampling, sampling } = settings;
  return {
    completions: promptsPerStep * groupSize,
    groupSize,
    rewards: rewards.map(({ name, weight }) => ({ name, weight })),
    isCentered: advantage.center !== 'none',
    hasWarmStart: warmStart !== null,
    maxTokens,
    updatesPerStep: iterations * Math.min(miniBatches, promptsPerStep * groupSize),
    totalUpdates: optimizer.totalSteps,
    maxLogProbDifference: importanceSampling && sampling.maxLogProbDifference,
  };
}

/** Completions spread over the step: each from another group, and at another position within it. */
function pickSamples(groups: readonly Group[], count: number): Record<string, unknown>[] {
  const taken = Math.min(count, groups.length);
  return Array.from({ length: taken }, (_, i) => {
    const { example, completions } = groups[Math.floor((i * groups.length) / taken)];
    const { text, rewards, advantage, truncated, version } = completions[i % completions.length];
    const { prompt, answer } = example;
    const ofWeights = version !== undefined && { version };
    return { prompt, answer, completion: text, rewards, advantage, truncated, ...ofWeights };
  });
}
