// Whether a run goes on as what it was: the facts that its results depend on, and how two sets of them differ.

import { createHash } from 'node:crypto';
import type { Policy } from '../model/policy.js';
import type { Reward } from '../rollout/api.js';
import type { Example, Task } from '../tasks/task.js';

/** Settings that say how a run is kept and measured, not what it learns. */
const harmless = ['checkpoint', 'evaluation'];

/** Facts of a run, as config.json holds them: plain JSON. */
export type Identity = Record<string, unknown>;

export function identify(facts: {
  settings: object;
  policy: Policy;
  train: Task;
  evaluate: Readonly<Record<string, Task>>;
  rewards: readonly Reward[];
  backend: string;
  device: string;
}): Identity {
  const { settings, policy, train, evaluate, rewards, backend, device } = facts;
  const { size, end, id } = policy.vocabulary;
  return {
    settings,
    policy: policy.description,
    vocabulary: { id, size, end },
    variables: Object.fromEntries(Object.entries(policy.variables).map(([name, { shape }]) => [name, shape])),
    train: identifyTask(train),
    evaluate: Object.fromEntries(Object.entries(evaluate).map(([name, task]) => [name, identifyTask(task)])),
    rewards: rewards.map(({ judge: _, ...reward }) => reward),
    backend,
    device,
  };
}

/** How many examples are looked at to tell a task from another of the same name. */
const examplesLookedAt = 8;

/** What a task is recognised by: its name, sizes and first examples. */
export function identifyTask(task: Task): unknown {
  const { name, characters, size, maxPromptLength, maxSolutionLength } = task;
  const examples: Example[] = Array.from({ length: Math.min(size ?? Infinity, examplesLookedAt) }, (_, i) =>
    task.example(i),
  );
  const digest = createHash('sha256').update(JSON.stringify(examples)).digest('hex').slice(0, 16);
  return { name, characters, size: size ?? null, maxPromptLength, maxSolutionLength, examples: digest };
}

/** The paths in which two identities differ, with both values: `settings.groupSize: 8, now 16`. */
export function differences(before: Identity, now: Identity): string[] {
  const ignored = new Set(harmless.map((name) => `settings.${name}`));
  return compare('', JSON.parse(JSON.stringify(before)), JSON.parse(JSON.stringify(now)), ignored);
}

function compare(path: string, before: unknown, now: unknown, ignored: ReadonlySet<string>): string[] {
  if (ignored.has(path)) return [];
  if (isRecord(before) && isRecord(now)) {
    return [...new Set([...Object.keys(before), ...Object.keys(now)])].flatMap((key) =>
      compare(path ? `${path}.${key}` : key, before[key], now[key], ignored),
    );
  }
  const [was, is] = [JSON.stringify(before), JSON.stringify(now)];
  return was === is ? [] : [`${path}: ${was ?? 'nothing'}, now ${is ?? 'nothing'}`];
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
