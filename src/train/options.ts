// Checks the trainer's options: the settings by their schema, and what a run learns from and is evaluated by.

import { checkKeys, checkNumber, checkObject, rangeError, typeError } from '../base/check.js';
import { resolveFields } from '../base/schema.js';
import { bothWeightings } from '../loss/config.js';
import { checkCommunicator } from '../processes/communicator.js';
import { Processes } from '../processes/processes.js';
import type { AnyReward, GroupReward, Reward, StepReward } from '../rollout/api.js';
import { checkEngine, isCut, type RolloutEngine } from '../rollout/engine.js';
import { accuracyReward, checkReward } from '../rollout/rewards.js';
import { sourceOfTask, withSource } from '../tasks/source.js';
import type { Example, Problems, Scored, Task } from '../tasks/task.js';
import type { Output, RunOptions, TrainerOptions } from './api.js';
import {
  importanceSampling,
  type optimizer,
  type Settings,
  trainerFields,
  usualEvaluationSize,
  type warmStart,
} from './schema.js';

export type { Settings } from './schema.js';
export type OptimizerSettings = ReturnType<typeof optimizer.resolve>;
export type WarmStartSettings = ReturnType<typeof warmStart.resolve>;

/** The options that are not settings: objects, functions, and where the run is kept. */
const otherNames = [
  'policy',
  'train',
  'evaluate',
  'rewards',
  'rollout',
  'communicator',
  'runDir',
  'resume',
  'allowDrift',
  'takeOver',
  'notes',
] as const satisfies (keyof TrainerOptions)[];

/** Extracts the settings from options. TypeError or RangeError that names the field, what was expected and what was given. */
export function resolveSettings(options: unknown): Settings {
  const settings = resolveFields(trainerFields, '', options, otherNames);
  const { rollout, importanceSampling: given } = options as TrainerOptions;
  const { advantage, hadw, zeroStdGroups } = settings;
  if (advantage.dqw && hadw) throw bothWeightings('advantage.dqw');
  if (zeroStdGroups === 'drop' && advantage.center === 'none') {
    throw rangeError('zeroStdGroups', `'count' with advantage.center 'none'`, `'drop'`);
  }
  const hasEngine = rollout !== undefined && rollout !== null;
  if (!hasEngine && settings.maxStaleness !== null) {
    const expected = "0 without rollout, since the policy's own sampler cannot sample while it trains";
    throw rangeError('maxStaleness', expected, String(settings.maxStaleness));
  }
  if (!hasEngine && settings.importanceSampling)
    throw typeError('importanceSampling', 'nothing, because there is no rollout engine', given);
  if (!hasEngine) return settings;
  const weighting = importanceSampling.resolve('importanceSampling', given);
  const { correction, mode } = weighting;
  if (correction && mode.startsWith('sequence') && settings.loss.surrogate.kind === 'vespo') {
    const which = `'token_truncate' or 'token_mask' with the surrogate vespo, which multiplies the weights of all tokens`;
    throw rangeError('importanceSampling.mode', which, `'${mode}'`);
  }
  return { ...settings, importanceSampling: weighting };
}

/** The engine of `rollout`; undefined if the policy's own sampler is used. TypeError or RangeError that names the field. */
export function resolveEngine(
  rollout: unknown,
  { sampling: { topP, topK, minP }, maxStaleness }: Settings,
): RolloutEngine | undefined {
  if (rollout === undefined || rollout === null) return undefined;
  const engine = checkEngine('rollout', rollout);
  if (maxStaleness !== null && !(engine.keepsVersions && engine.update)) {
    const expected = `0 with ${engine.name}, which does not sample with earlier weights than the newest (keepsVersions, update)`;
    throw rangeError('maxStaleness', expected, String(maxStaleness));
  }
  if (engine.keepsTokens !== false) return engine;
  for (const [name, value] of Object.entries({ topP, topK, minP })) {
    if (value === null || !isCut({ [name]: value })) continue;
    throw rangeError(
      `sampling.${name}`,
      `no truncation with ${engine.name}, which does not return the kept tokens`,
      String(value),
    );
  }
  return engine;
}

/** The processes of `communicator`; this one alone without it. TypeError or RangeError that names the field. */
export function resolveProcesses(communicator: unknown): Processes {
  const isAlone = communicator === undefined || communicator === null;
  return new Processes(isAlone ? undefined : checkCommunicator('communicator', communicator));
}

/** Checks the options of `start`, `steps` or `run`. TypeError or RangeError that names the field. */
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

/** What a run learns from and is evaluated by, checked as far as possible without running it. */
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
  const checked = checkRewards(rewards ?? [accuracyReward]);
  return {
    train: scoredBy('train', train as unknown as Problems, checked),
    evaluate: Object.fromEntries(sets.map(([name, task]) => [name, scoredBy(`evaluate.${name}`, task, checked)])),
    rewards: checked,
  };
}

/** Problems with their own score, or with that of the first reward that grades. */
export function scoredBy(field: string, problems: Problems, rewards: readonly AnyReward[]): Task {
  if (hasScore(problems)) return problems;
  const grader = rewards.find((reward): reward is Reward => 'grade' in reward && reward.grade !== undefined);
  if (!grader) {
    throw new TypeError(
      `${field}.score: expected a function, a grader (dataset's \`verify\`) or a reward that grades, such as rewards.maths(), got none`,
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
      throw typeError(`rewards[${i}]`, 'a result of defineReward, defineGroupReward or defineStepReward', reward);
    checkReward(`rewards[${i}]`, reward);
    const same = rewards.findIndex(({ name }) => name === reward.name);
    if (same < i) throw rangeError(`rewards[${i}].name`, 'a unique name', `the name of rewards[${same}]`);
  });
  if (rewards.every((reward: AnyReward) => reward.weight === 0 || 'judgeSteps' in reward)) {
    throw rangeError('rewards', 'at least one reward of whole completions with a weight other than 0', 'none');
  }
  return rewards;
}

function checkText(field: string, value: unknown): string {
  if (typeof value !== 'string' || value === '') throw typeError(field, 'a non-empty string', value);
  return value;
}

/**
 * The examples that an evaluation takes from a task: at most `size`. Those of a task with an end are spread evenly over it,
 * since a list may be sorted. null: all that it has, or the first `usualEvaluationSize` of a task without an end.
 */
export function evaluationExamples<E extends Example>(task: Task<E>, size: number | null): E[] {
  if (task.size === undefined) return Array.from({ length: size ?? usualEvaluationSize }, (_, i) => task.example(i));
  const count = Math.min(size ?? task.size, task.size);
  return Array.from({ length: count }, (_, i) => task.example(Math.floor((i * task.size!) / count)));
}
