// The trainer's options: checks, and every default. Loss, advantages, HA-DW and anchor have theirs in src/loss.

import {
  type Bounds,
  checkBoolean,
  checkChoice,
  checkKeys,
  checkNumber,
  checkObject,
  rangeError,
  typeError,
} from '../base/check.js';
import { type DeviceChoice, deviceChoices } from '../devices/devices.js';
import { type KlEstimator, klEstimators } from '../devices/settings.js';
import { checkEvaluationSampling, type EvaluationSampling, greedy, usualTemperature } from '../evaluation/sampling.js';
import { type AnchorOptions, DifficultyAnchor } from '../loss/anchor.js';
import { bothWeightings, type LossConfig, resolveAdvantage, resolveLoss } from '../loss/config.js';
import { presets } from '../loss/presets.js';
import type { AnyReward, GroupReward, Reward, StepReward } from '../rollout/api.js';
import { checkEngine, checkStops, cutBounds, isCut, type RolloutEngine } from '../rollout/engine.js';
import { accuracyReward, checkReward } from '../rollout/rewards.js';
import { sourceOfTask, withSource } from '../tasks/source.js';
import type { Example, Problems, Scored, Task } from '../tasks/task.js';
import {
  type ImportanceSamplingOptions,
  importanceSamplingModes,
  type OptimizerOptions,
  type Output,
  type RunOptions,
  type TrainerOptions,
  type WarmStartOptions,
} from './api.js';

/** Every number and choice of a run, defaults filled in: plain JSON, as config.json holds it. */
export interface Settings {
  promptsPerStep: number;
  groupSize: number;
  iterations: number;
  miniBatches: number;
  /** null: as many as `tokensPerMicroBatch` allows. */
  microBatchSize: number | null;
  /** null: what `positionsAPass` allows without `microBatchSize`, any number with it. */
  tokensPerMicroBatch: number | null;
  /** null: `reward`, and no bounds. */
  dynamicSampling: { maxRounds: number; metric: string | null; min: number | null; max: number | null };
  /** null: they count. */
  zeroStdGroups: 'drop' | null;
  maskTruncated: boolean;
  shuffle: boolean;
  loss: LossConfig;
  advantage: NonNullable<TrainerOptions['advantage']>;
  hadw: { scale: number; anchor: Required<AnchorOptions> | 'none' } | null;
  klReward: { beta: number; estimator: KlEstimator } | null;
  sampling: {
    temperature: number;
    /** null: the task's. */
    maxTokens: number | null;
    promptLength: number | null;
    maxLogProbDifference: number;
    /** null: no cut. */
    topP: number | null;
    topK: number | null;
    minP: number | null;
    /** null: none. */
    stopTokens: readonly number[] | null;
    stopTexts: readonly string[] | null;
  };
  /** null: the policy samples itself. */
  importanceSampling: Required<ImportanceSamplingOptions> | null;
  optimizer: OptimizerSettings;
  warmStart: WarmStartSettings | null;
  evaluation: { every: number; size: number | null; atStart: boolean } & Omit<EvaluationSampling, 'seed'>;
  seed: number;
  device: DeviceChoice;
  checkpoint: {
    every: number;
    keepLast: number;
    keepEvery: number | null;
    keepBest: string | null;
    warmStartSeconds: number;
  };
  guard: { action: 'skip' | 'rollback' | 'halt'; budget: number };
  samplesPerStep: number;
}

export type OptimizerSettings = Omit<Required<OptimizerOptions>, 'totalSteps'> & { totalSteps: number | null };
export type WarmStartSettings = Omit<Required<WarmStartOptions>, 'until' | 'optimizer'> & {
  until: number | null;
  optimizer: OptimizerSettings;
};

const settingNames = [
  'promptsPerStep',
  'groupSize',
  'iterations',
  'miniBatches',
  'microBatchSize',
  'tokensPerMicroBatch',
  'dynamicSampling',
  'zeroStdGroups',
  'maskTruncated',
  'shuffle',
  'loss',
  'advantage',
  'hadw',
  'klReward',
  'sampling',
  'importanceSampling',
  'optimizer',
  'warmStart',
  'evaluation',
  'seed',
  'device',
  'checkpoint',
  'guard',
  'samplesPerStep',
] as const satisfies (keyof Settings)[];

const samplingNames = [
  'temperature',
  'maxTokens',
  'promptLength',
  'maxLogProbDifference',
  'topP',
  'topK',
  'minP',
  'stopTokens',
  'stopTexts',
] as const satisfies (keyof Settings['sampling'])[];

/** The options that are not settings: things, and where the run is kept. */
const otherNames = [
  'policy',
  'train',
  'evaluate',
  'rewards',
  'rollout',
  'runDir',
  'resume',
  'allowDrift',
  'takeOver',
  'notes',
] as const satisfies (keyof TrainerOptions)[];

/** An object of optional fields under the name `at`, read one by one. */
class Fields {
  private readonly fields: Record<string, unknown>;

  constructor(
    private readonly at: string,
    value: unknown,
    known: readonly string[],
  ) {
    this.fields = value === undefined ? {} : { ...checkObject(at || 'options', value) };
    checkKeys(at, this.fields, known);
  }

  path(name: string): string {
    return this.at ? `${this.at}.${name}` : name;
  }

  raw(name: string): unknown {
    return this.fields[name];
  }

  number<D extends number | null | undefined>(
    name: string,
    fallback: D,
    bounds: Bounds,
  ): number | Exclude<D, undefined> {
    const value = this.fields[name];
    if ((value === undefined && fallback !== undefined) || (value === null && fallback === null)) {
      return fallback as Exclude<D, undefined>;
    }
    return checkNumber(this.path(name), value, bounds);
  }

  count<D extends number | null | undefined>(name: string, fallback: D, min = 1): number | Exclude<D, undefined> {
    return this.number(name, fallback, { min, integer: true });
  }

  flag(name: string, fallback: boolean): boolean {
    const value = this.fields[name];
    return value === undefined ? fallback : checkBoolean(this.path(name), value);
  }

  choice<const T extends string>(name: string, fallback: T, choices: readonly T[]): T {
    const value = this.fields[name];
    return value === undefined ? fallback : checkChoice(this.path(name), value, choices);
  }

  within(name: string, known: readonly string[]): Fields {
    return new Fields(this.path(name), this.fields[name] ?? undefined, known);
  }

  /** Whether a part that may be left out (or null) is there. */
  has(name: string): boolean {
    return this.fields[name] !== undefined && this.fields[name] !== null;
  }
}

/** Settings out of options. TypeError or RangeError that names the field, what was expected and what came. */
export function resolveSettings(options: unknown): Settings {
  const o = new Fields('', options, [...settingNames, ...otherNames]);
  const sampling = o.within('sampling', samplingNames);
  const stops = {
    stopTokens: (sampling.raw('stopTokens') ?? null) as readonly number[] | null,
    stopTexts: (sampling.raw('stopTexts') ?? null) as readonly string[] | null,
  };
  checkStops('sampling.', stops);
  const evaluation = o.within('evaluation', ['every', 'size', 'atStart', 'samples', 'temperature', 'topP']);
  const checkpoint = o.within('checkpoint', ['every', 'keepLast', 'keepEvery', 'keepBest', 'warmStartSeconds']);
  const guard = o.within('guard', ['action', 'budget']);
  const advantage = resolveAdvantageConfig(o);
  return {
    promptsPerStep: o.count('promptsPerStep', 16),
    groupSize: o.count('groupSize', 8, 2),
    iterations: o.count('iterations', 1),
    miniBatches: o.count('miniBatches', 1),
    microBatchSize: o.count('microBatchSize', null),
    tokensPerMicroBatch: o.count('tokensPerMicroBatch', null),
    dynamicSampling: resolveDynamicSampling(o),
    zeroStdGroups: resolveZeroStdGroups(o, advantage),
    maskTruncated: o.flag('maskTruncated', false),
    shuffle: o.flag('shuffle', true),
    loss: resolveLossConfig(o),
    advantage,
    hadw: o.has('hadw') ? resolveHadw(o) : null,
    klReward: o.has('klReward') ? resolveKlReward(o) : null,
    sampling: {
      temperature: sampling.number('temperature', 1, { min: 1e-6 }),
      maxTokens: sampling.count('maxTokens', null),
      promptLength: sampling.count('promptLength', null),
      maxLogProbDifference: sampling.number('maxLogProbDifference', 0.1, { above: 0 }),
      topP: sampling.number('topP', null, cutBounds.topP),
      topK: sampling.number('topK', null, cutBounds.topK),
      minP: sampling.number('minP', null, cutBounds.minP),
      ...stops,
    },
    importanceSampling: resolveImportanceSampling(o),
    optimizer: resolveOptimizer(o),
    warmStart: o.has('warmStart') ? resolveWarmStart(o) : null,
    evaluation: {
      every: evaluation.count('every', 50),
      size: evaluation.count('size', null),
      atStart: evaluation.flag('atStart', true),
      ...resolveEvaluationSampling(evaluation),
    },
    seed: o.count('seed', 0, 0),
    device: o.choice('device', 'auto', deviceChoices),
    checkpoint: {
      every: checkpoint.count('every', 50),
      keepLast: checkpoint.count('keepLast', 2),
      keepEvery: checkpoint.count('keepEvery', null),
      keepBest: checkpoint.has('keepBest') ? checkText(checkpoint.path('keepBest'), checkpoint.raw('keepBest')) : null,
      warmStartSeconds: checkpoint.number('warmStartSeconds', 30, { min: 0 }),
    },
    guard: {
      action: guard.choice('action', 'skip', ['skip', 'rollback', 'halt']),
      budget: guard.count('budget', 10, 0),
    },
    samplesPerStep: o.count('samplesPerStep', 4, 0),
  };
}

function resolveImportanceSampling(parent: Fields): Settings['importanceSampling'] {
  if (!parent.has('rollout')) {
    if (!parent.has('importanceSampling')) return null;
    throw typeError('importanceSampling', 'nothing without rollout', parent.raw('importanceSampling'));
  }
  const o = parent.within('importanceSampling', ['correction', 'mode', 'clipMin', 'clipMax']);
  const clipMin = o.number('clipMin', null, { min: 0 });
  const clipMax = o.raw('clipMax') === null ? null : o.number('clipMax', 3, { above: 0 });
  if (clipMin !== null && clipMax !== null && clipMin >= clipMax) {
    throw rangeError(o.path('clipMin'), `a number below clipMax (${clipMax})`, String(clipMin));
  }
  const mode = o.choice('mode', 'sequence_mask', importanceSamplingModes);
  if (mode.endsWith('_truncate') && clipMin === null && clipMax === null) {
    throw rangeError(o.path('clipMax'), `a bound with mode '${mode}'`, 'null without a clipMin');
  }
  return { correction: o.flag('correction', true), mode, clipMin, clipMax };
}

/** The engine of `rollout`; undefined where the policy samples itself. TypeError or RangeError that names the field. */
export function resolveEngine(
  rollout: unknown,
  { sampling: { topP, topK, minP } }: Settings,
): RolloutEngine | undefined {
  if (rollout === undefined || rollout === null) return undefined;
  const engine = checkEngine('rollout', rollout);
  if (engine.keepsTokens !== false) return engine;
  for (const [name, value] of Object.entries({ topP, topK, minP })) {
    if (value === null || !isCut({ [name]: value })) continue;
    throw rangeError(
      `sampling.${name}`,
      `nothing with ${engine.name}, which does not tell the tokens that were kept`,
      String(value),
    );
  }
  return engine;
}

function resolveDynamicSampling(parent: Fields): Settings['dynamicSampling'] {
  if (!parent.has('dynamicSampling')) return { maxRounds: 1, metric: null, min: null, max: null };
  const o = parent.within('dynamicSampling', ['maxRounds', 'metric', 'min', 'max']);
  const [min, max] = [o.number('min', null, {}), o.number('max', null, {})];
  if (min !== null && max !== null && min > max) throw rangeError(o.path('max'), `at least min (${min})`, String(max));
  return {
    maxRounds: o.count('maxRounds', undefined),
    // Which rewards there are is known later.
    metric: o.has('metric') ? checkText(o.path('metric'), o.raw('metric')) : null,
    min,
    max,
  };
}

function resolveZeroStdGroups(o: Fields, { center }: Settings['advantage']): Settings['zeroStdGroups'] {
  if (!o.has('zeroStdGroups') || o.choice('zeroStdGroups', 'count', ['count', 'drop']) === 'count') return null;
  if (center === 'none') throw rangeError('zeroStdGroups', `'count' with advantage.center 'none'`, `'drop'`);
  return 'drop';
}

function resolveEvaluationSampling(o: Fields): Omit<EvaluationSampling, 'seed'> {
  const samples = o.count('samples', greedy.samples);
  return checkEvaluationSampling('evaluation.', {
    samples,
    temperature: o.number('temperature', usualTemperature(samples), { min: 0 }),
    topP: o.number('topP', greedy.topP, { above: 0, max: 1 }),
  });
}

function resolveLossConfig(o: Fields): LossConfig {
  const given = o.raw('loss') ?? presets.dapo;
  const config = checkObject('loss', given) as unknown as LossConfig;
  renaming('config', 'loss', () => resolveLoss(config, 1));
  for (const field of ['tokens', 'threshold'] as const) {
    const value = config.entropy?.[field];
    if (value !== undefined) throw typeError(`loss.entropy.${field}`, 'nothing: the trainer counts for itself', value);
  }
  return JSON.parse(JSON.stringify(config)) as LossConfig;
}

function resolveAdvantageConfig(o: Fields): Settings['advantage'] {
  const given = checkObject('advantage', o.raw('advantage') ?? {});
  checkKeys('advantage', given, ['center', 'scale', 'ddof', 'epsilon', 'dqw', 'multiObjective']);
  const { multiObjective, ...config } = given;
  const { center, scale, ddof, epsilon, dqw } = resolveAdvantage('advantage', config);
  if (dqw && o.has('hadw')) throw bothWeightings('advantage.dqw');
  const resolved = { center, scale, ddof: ddof as 0 | 1, epsilon, ...(dqw && { dqw }) };
  const choices = ['sum-then-normalize', 'normalize-then-sum'] as const;
  const isDecoupled =
    multiObjective !== undefined &&
    checkChoice('advantage.multiObjective', multiObjective, choices) === 'normalize-then-sum';
  if (isDecoupled && center === 'none') {
    throw rangeError(
      'advantage.center',
      `'mean' or 'leave-one-out' with multiObjective 'normalize-then-sum'`,
      `'none'`,
    );
  }
  // Left out where it is the default: runs that earlier versions began do not have it.
  return isDecoupled ? { ...resolved, multiObjective: 'normalize-then-sum' } : resolved;
}

function resolveKlReward(parent: Fields): NonNullable<Settings['klReward']> {
  const o = parent.within('klReward', ['beta', 'estimator']);
  return { beta: o.number('beta', undefined, { above: 0 }), estimator: o.choice('estimator', 'k1', klEstimators) };
}

function resolveHadw(o: Fields): NonNullable<Settings['hadw']> {
  const hadw = o.within('hadw', ['scale', 'anchor']);
  const weighting = renaming('advantage.hadw', 'hadw', () =>
    resolveAdvantage('advantage', { hadw: { scale: hadw.raw('scale') } }),
  );
  return { scale: weighting.hadw!.scale, anchor: resolveAnchorOptions(hadw.raw('anchor')) };
}

function resolveAnchorOptions(given: unknown = {}): NonNullable<Settings['hadw']>['anchor'] {
  if (typeof given === 'string') return checkChoice('hadw.anchor', given, ['none']);
  const make = () => new DifficultyAnchor(given as AnchorOptions).toJSON();
  const { observed: _observed, history: _history, ...anchor } = renaming('options', 'hadw.anchor', make);
  return anchor;
}

/** Runs a check of src/loss, whose errors call by `theirs` what is called `ours` here. */
function renaming<T>(theirs: string, ours: string, check: () => T): T {
  try {
    return check();
  } catch (error) {
    const { message } = error as Error;
    if (message.startsWith(theirs)) (error as Error).message = ours + message.slice(theirs.length);
    throw error;
  }
}

const optimizerNames = [
  'learningRate',
  'warmupSteps',
  'schedule',
  'totalSteps',
  'betas',
  'epsilon',
  'weightDecay',
  'maxGradientNorm',
] as const satisfies (keyof OptimizerOptions)[];

function resolveOptimizer(parent: Fields): OptimizerSettings {
  const o = parent.within('optimizer', optimizerNames);
  const schedule = o.choice('schedule', 'constant', ['constant', 'linear', 'cosine']);
  const warmupSteps = o.count('warmupSteps', 0, 0);
  const totalSteps = o.count('totalSteps', null, warmupSteps + 1);
  if ((totalSteps === null) !== (schedule === 'constant')) {
    const expected =
      schedule === 'constant' ? `nothing with schedule 'constant'` : `a count with schedule '${schedule}'`;
    throw typeError(o.path('totalSteps'), expected, totalSteps ?? undefined);
  }
  return {
    learningRate: o.number('learningRate', 3e-4, { min: 0 }),
    warmupSteps,
    schedule,
    totalSteps,
    betas: checkBetas(o.path('betas'), o.raw('betas') ?? [0.9, 0.999]),
    epsilon: o.number('epsilon', 1e-8, { above: 0 }),
    weightDecay: o.number('weightDecay', 0, { min: 0 }),
    maxGradientNorm: o.number('maxGradientNorm', 1, { above: 0 }),
  };
}

function checkBetas(field: string, value: unknown): [number, number] {
  if (!Array.isArray(value) || value.length !== 2) throw typeError(field, 'two numbers', value);
  const [first, second] = value.map((beta, i) => {
    const checked = checkNumber(`${field}[${i}]`, beta, { min: 0 });
    if (checked >= 1) throw rangeError(`${field}[${i}]`, 'a number below 1', String(checked));
    return checked;
  });
  return [first, second];
}

function resolveWarmStart(parent: Fields): WarmStartSettings {
  const o = parent.within('warmStart', ['steps', 'batchSize', 'until', 'every', 'problems', 'optimizer']);
  return {
    steps: o.count('steps', undefined),
    batchSize: o.count('batchSize', 32),
    until: o.number('until', null, { above: 0, max: 1 }),
    every: o.count('every', 25),
    problems: o.count('problems', 128),
    optimizer: resolveOptimizer(o),
  };
}

/** The options of `start`, `steps` and `run`, of which each knows some. TypeError or RangeError that names the field. */
export function checkStepsOptions<T extends RunOptions>(options: T, known: readonly (keyof T & string)[]): T {
  const { max, signal, grace, output, onStep } = checkObject('options', options);
  checkKeys('', options as Record<string, unknown>, known);
  if (max !== undefined && max !== Infinity) checkNumber('max', max, { min: 0, integer: true });
  if (signal !== undefined && !(signal instanceof AbortSignal)) throw typeError('signal', 'an AbortSignal', signal);
  if (grace !== undefined && grace !== Infinity) checkNumber('grace', grace, { min: 0 });
  if (output !== undefined && output !== null && typeof (output as Partial<Output>).write !== 'function') {
    throw typeError('output', 'a stream to write to, or null', output);
  }
  if (onStep !== undefined && typeof onStep !== 'function') throw typeError('onStep', 'a function', onStep);
  return options;
}

/** What a run learns from and is judged by, checked as far as that goes without running it. */
export interface Parts {
  train: Task;
  evaluate: Readonly<Record<string, Task>>;
  rewards: readonly AnyReward[];
}

export function resolveParts<E extends Example>({
  train,
  evaluate = {},
  rewards,
}: Pick<TrainerOptions<E>, 'train' | 'evaluate' | 'rewards'>): Parts {
  checkTask('train', train);
  const sets = Object.entries(checkObject('evaluate', evaluate) as Readonly<Record<string, Problems>>);
  for (const [name, task] of sets) {
    if (!/^[\w.-]+$/.test(name)) throw rangeError('evaluate', 'names of letters, digits and any of _ . -', `'${name}'`);
    checkTask(`evaluate.${name}`, task);
  }
  const asked = checkRewards(rewards ?? [accuracyReward]);
  return {
    train: scoredBy('train', train as unknown as Problems, asked),
    evaluate: Object.fromEntries(sets.map(([name, task]) => [name, scoredBy(`evaluate.${name}`, task, asked)])),
    rewards: asked,
  };
}

/** Problems with their own score, or with that of the first reward that grades. */
export function scoredBy(field: string, problems: Problems, rewards: readonly AnyReward[]): Task {
  if (hasScore(problems)) return problems;
  const grader = rewards.find((reward): reward is Reward => 'grade' in reward && reward.grade !== undefined);
  if (!grader) {
    throw new TypeError(
      `${field}.score: expected a function, a verifier (dataset's \`verify\`) or a reward that grades, such as rewards.maths(), got none`,
    );
  }
  const grade = async (text: string, example: Example): Promise<Scored> => {
    const { correct, extracted, reason } = await grader.grade!(text, example);
    return { score: Number(correct), extracted, reason };
  };
  const score = async (text: string, example: Example) => (await grade(text, example)).score;
  const source = sourceOfTask(problems);
  const task = { ...problems, grade, score };
  return source ? withSource(task, source) : task;
}

function hasScore(problems: Problems): problems is Task {
  return problems.score !== undefined;
}

function checkTask(field: string, value: unknown): asserts value is Problems {
  const task = checkObject(field, value) as Partial<Task>;
  checkText(`${field}.name`, task.name);
  for (const method of ['example', 'score', 'grade'] as const) {
    if (task[method] === undefined && method !== 'example') continue;
    if (typeof task[method] !== 'function') throw typeError(`${field}.${method}`, 'a function', task[method]);
  }
  for (const number of ['maxPromptLength', 'maxSolutionLength', 'size'] as const) {
    if (task[number] !== undefined) checkNumber(`${field}.${number}`, task[number], { min: 1, integer: true });
  }
  if (task.characters !== undefined) checkText(`${field}.characters`, task.characters);
}

function checkRewards(rewards: unknown): readonly AnyReward[] {
  if (!Array.isArray(rewards) || rewards.length === 0) throw typeError('rewards', 'at least one reward', rewards);
  rewards.forEach((reward: Partial<Reward & GroupReward & StepReward>, i) => {
    const ways = [reward?.judge, reward?.judgeGroup, reward?.judgeSteps].filter((way) => typeof way === 'function');
    const isOne = typeof reward?.name === 'string' && ways.length === 1;
    if (!isOne)
      throw typeError(`rewards[${i}]`, 'what defineReward, defineGroupReward or defineStepReward gives', reward);
    checkReward(`rewards[${i}]`, reward);
    const same = rewards.findIndex(({ name }) => name === reward.name);
    if (same < i) throw rangeError(`rewards[${i}].name`, 'a name of its own', `that of rewards[${same}]`);
  });
  if (rewards.every((reward: AnyReward) => reward.weight === 0 || 'judgeSteps' in reward)) {
    throw rangeError('rewards', 'at least one with a weight other than 0, of whole completions', 'none');
  }
  return rewards;
}

function checkText(field: string, value: unknown): string {
  if (typeof value !== 'string' || value === '') throw typeError(field, 'a text', value);
  return value;
}

/** Examples of a task without an end, where no number is given. */
export const usualEvaluationSize = 256;

/**
 * The examples that an evaluation takes from a task: at most `size`. Those of a task with an end are spread evenly over it,
 * since a list may be sorted. null: all that it has, or the first 256 of a task without an end.
 */
export function evaluationExamples<E extends Example>(task: Task<E>, size: number | null): E[] {
  if (task.size === undefined) return Array.from({ length: size ?? usualEvaluationSize }, (_, i) => task.example(i));
  const count = Math.min(size ?? task.size, task.size);
  return Array.from({ length: count }, (_, i) => task.example(Math.floor((i * task.size!) / count)));
}
