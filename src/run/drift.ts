// Compares a resumed run with its beginning: identifies the facts that its results depend on, and lists their differences.

import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import type { Policy } from '../model/policy.js';
import type { AnyReward } from '../rollout/api.js';
import { type FileSource, sourceOfTask, type TaskSource } from '../tasks/source.js';
import type { Example, Problems, Task } from '../tasks/task.js';

/** Settings that affect how a run is stored and evaluated, but not what it learns. */
const harmless = ['checkpoint', 'evaluation'];

/** Facts about a run as stored in config.json: plain JSON. */
export type Identity = Record<string, unknown>;

export function identify(facts: {
  settings: object;
  policy: Policy;
  train: Task;
  evaluate: Readonly<Record<string, Task>>;
  rewards: readonly AnyReward[];
  /** Description of the rollout engine; undefined for the policy's own sampler. */
  rollout: unknown;
  backend: string;
  device: string;
  /** Number of problems that an evaluation takes from an infinite task. */
  evaluationSize: number;
}): Identity {
  const { settings, policy, train, evaluate, rewards, rollout, backend, device, evaluationSize } = facts;
  const evaluated = Object.entries(evaluate).map(([name, task]) => [name, identifyTask(task, evaluationSize)]);
  return {
    settings,
    policy: policy.description,
    vocabulary: identifyText(policy),
    variables: Object.fromEntries(Object.entries(policy.variables).map(([name, { shape }]) => [name, shape])),
    train: identifyTask(train),
    evaluate: Object.fromEntries(evaluated),
    rewards: rewards.map(identifyReward),
    rollout: rollout ?? null,
    backend,
    device,
  };
}

/** The settings of a reward: its code is not compared. */
export function identifyReward(reward: AnyReward): Record<string, unknown> {
  const { name, weight, timeLimit, concurrency, onError } = reward;
  const judges = 'judgeGroup' in reward ? 'groups' : 'judgeSteps' in reward ? 'steps' : undefined;
  return { name, weight, timeLimit, concurrency, onError, ...(judges && { judges }) };
}

/** The text interface of a policy. The tokenizers of model folders are identified in the policy's description. */
function identifyText({ vocabulary, tokenizer }: Policy): Record<string, unknown> {
  if (!vocabulary) return { size: tokenizer.vocabularySize, end: tokenizer.endTokens };
  const { id, size, end } = vocabulary;
  return { id, size, end };
}

/** What identifies a task: plain JSON. */
export interface TaskIdentity {
  name: string;
  characters?: string;
  /** null if infinite. */
  size: number | null;
  maxPromptLength?: number;
  maxSolutionLength?: number;
  /** Omitted for a task defined in the user's code, which is known only by its problems. */
  source?: TaskSource;
  examples: ExamplesIdentity;
}

interface ExamplesIdentity {
  /** Number of problems that are compared. */
  count: number;
  isAll: boolean;
  /** SHA-256 of these problems as JSON, in hexadecimal. */
  sha256: string;
  /** The hash that earlier versions compared: see `OldTaskIdentity`. */
  first: string;
}

/** A task as earlier versions wrote it, with the first 16 digits of the SHA-256 of its first eight problems. */
type OldTaskIdentity = Omit<TaskIdentity, 'source' | 'examples'> & { examples: string };

/** Maximum number of problems compared of a finite task without a source; they are spread evenly over a larger task. */
const maxProblems = 2 ** 16;
/** Number of problems compared of a task with a source, and of the beginning of an infinite one. */
const fewProblems = 64;
/** Of an infinite task, the problems at powers of two are compared too, up to this index, which even long runs do not exceed. */
const lastLook = 2 ** 20;
const oldProblems = 8;

/**
 * Identifies a task by its name and sizes, the source of its problems, and a hash of problems. Without a source, the hash covers all
 * problems of a finite task, and of an infinite one the first `used` (default 64) and a sample of the rest.
 */
export function identifyTask(task: Problems, used: number = fewProblems): TaskIdentity {
  const { name, characters, size, maxPromptLength, maxSolutionLength } = task;
  const source = sourceOfTask(task);
  const indices =
    size === undefined ? openIndices(source ? fewProblems : used) : spread(size, source ? fewProblems : maxProblems);
  const hash = createHash('sha256');
  for (const index of indices) hash.update(`${asText(task.example(index))}\n`);
  const first = Array.from({ length: Math.min(size ?? Infinity, oldProblems) }, (_, i) => asText(task.example(i)));
  return {
    name,
    characters,
    size: size ?? null,
    maxPromptLength,
    maxSolutionLength,
    ...(source && { source }),
    examples: {
      count: indices.length,
      isAll: indices.length === size,
      sha256: hash.digest('hex'),
      first: createHash('sha256')
        .update(`[${first.join(',')}]`)
        .digest('hex')
        .slice(0, 16),
    },
  };
}

/** At most `most` of the indices below `size`, evenly spread. */
function spread(size: number, most: number): number[] {
  const count = Math.min(size, most);
  return Array.from({ length: count }, (_, i) => Math.floor((i * size) / count));
}

function openIndices(used: number): number[] {
  const count = Math.min(used, maxProblems);
  const indices = Array.from({ length: count }, (_, i) => i);
  for (let index = 1; index <= lastLook; index *= 2) if (index >= count) indices.push(index);
  return indices;
}

/** A problem as JSON. Only its standard fields if the others cannot be written as JSON. */
function asText(example: Example): string {
  try {
    return JSON.stringify(example, (_, value: unknown) => {
      if (typeof value === 'bigint') return `${value}n`;
      return value instanceof Map || value instanceof Set ? [...value] : value;
    });
  } catch {
    const { prompt, answer, solution, difficulty } = example;
    return JSON.stringify({ prompt, answer, solution, difficulty });
  }
}

/** Whether a run was begun by a version that compared only the first eight problems of each task. */
export function isOldIdentity(identity: Identity): boolean {
  return isOldTask(identity.train);
}

/** The paths in which two identities differ, with both values: `settings.groupSize: 8, now 16`. */
export function differences(before: Identity, now: Identity): string[] {
  const ignored = new Set(harmless.map((name) => `settings.${name}`));
  // The location of a model's files does not identify them.
  if (isPretrained(before) && isPretrained(now)) ignored.add('policy.folder');
  return compare('', JSON.parse(JSON.stringify(before)), JSON.parse(JSON.stringify(now)), ignored);
}

function isPretrained({ policy }: Identity): boolean {
  return isRecord(policy) && policy.type === 'pretrained';
}

function compare(path: string, before: unknown, now: unknown, ignored: ReadonlySet<string>): string[] {
  if (ignored.has(path)) return [];
  if (isTask(now) && isOldTask(before)) return compareOldTask(path, before, now);
  if (isTask(now) && isTask(before)) return compareTasks(path, before, now);
  if (isRecord(before) && isRecord(now)) {
    return [...new Set([...Object.keys(before), ...Object.keys(now)])].flatMap((key) =>
      compare(path ? `${path}.${key}` : key, before[key], now[key], ignored),
    );
  }
  // Options that earlier versions did not have are null if they are not given.
  if (JSON.stringify(before ?? null) === JSON.stringify(now ?? null)) return [];
  return [`${path}: ${JSON.stringify(before) ?? 'nothing'}, now ${JSON.stringify(now) ?? 'nothing'}`];
}

const noneIgnored: ReadonlySet<string> = new Set();

function compareTasks(path: string, before: TaskIdentity, now: TaskIdentity): string[] {
  const { examples: was, source: sourceBefore, ...restBefore } = before;
  const { examples: is, source: sourceNow, ...restNow } = now;
  if (isFile(sourceBefore) && isFile(sourceNow)) {
    const { file: _, sha256: hashBefore, problems: countBefore, ...optionsBefore } = sourceBefore;
    const { file, sha256: hashNow, problems: countNow, ...optionsNow } = sourceNow;
    const options = compare(`${path}.source`, optionsBefore, optionsNow, noneIgnored);
    // The file may have moved: only its contents count.
    if (hashBefore === hashNow) {
      return [...compare(path, { ...restBefore, name: restNow.name }, restNow, noneIgnored), ...options];
    }
    const contents = [
      `${countBefore} problems, SHA-256 ${short(hashBefore)}`,
      `${countNow} problems, SHA-256 ${short(hashNow)}`,
    ];
    return [`${path}: the data file ${file} has changed: ${contents[0]}, now ${contents[1]}`, ...options];
  }
  const found = [
    ...compare(path, restBefore, restNow, noneIgnored),
    ...compare(`${path}.source`, sourceBefore, sourceNow, noneIgnored),
  ];
  if (was.sha256 !== is.sha256) found.push(`${path}.examples: ${examplesText(was)}, now ${examplesText(is)}`);
  return found;
}

/** Compares an identity written by an earlier version, which used the path of a data file as the task's name. */
function compareOldTask(path: string, before: OldTaskIdentity, now: TaskIdentity): string[] {
  const { examples: was, ...restBefore } = before;
  const { examples: is, source, ...restNow } = now;
  const name = isFile(source) ? basename(before.name) : before.name;
  const found = compare(path, { ...restBefore, name }, restNow, noneIgnored);
  if (was !== is.first) {
    found.push(`${path}.examples: the first ${oldProblems} hash to ${was}, now to ${is.first}`);
  }
  return found;
}

function examplesText({ count, isAll, sha256 }: ExamplesIdentity): string {
  return `${isAll ? 'all' : 'a sample of'} ${count}, SHA-256 ${short(sha256)}`;
}

function short(sha256: string): string {
  return `${sha256.slice(0, 12)}…`;
}

function isFile(source: unknown): source is FileSource {
  return isRecord(source) && typeof source.file === 'string' && typeof source.sha256 === 'string';
}

function isTask(value: unknown): value is TaskIdentity {
  return isRecord(value) && isRecord(value.examples) && typeof value.examples.sha256 === 'string';
}

function isOldTask(value: unknown): value is OldTaskIdentity {
  return isRecord(value) && typeof value.examples === 'string' && 'maxSolutionLength' in value;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
