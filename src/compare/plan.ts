// Checks a comparison's configuration: which runs there are, how each is configured, and what identifies it later.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { checkChoice, checkKeys, checkNumber, checkObject, describe, rangeError, typeError } from '../base/check.js';
import type { TrainConfig } from '../config/define-config.js';
import { checkConfig, resolveConfig, resolveTask, setValue } from '../config/load.js';
import { passes } from '../evaluation/estimators.js';
import { type Identity, identifyReward, identifyTask } from '../run/drift.js';
import { distinctExamples, type Example, type Task } from '../tasks/task.js';
import type { TrainerOptions } from '../train/api.js';
import { resolveParts, resolveSettings, scoredBy } from '../train/options.js';
import { type BenchmarkSettings, resolveBenchmarks } from './benchmarks.js';
import { type Buckets, checkBuckets } from './buckets.js';
import type { ComparisonConfig, ProbeConfig } from './define-comparison.js';
import { identifyPolicy } from './identity.js';

/** A comparison with all defaults filled in: plain JSON, as in plan.json. */
export interface Plan {
  seeds: number[];
  variants: string[];
  baseline: string;
  pairs: Pair[];
  /** null without a probe. */
  buckets: Buckets;
  probe: ProbeSettings | null;
  benchmarks: Record<string, BenchmarkSettings>;
  /** When runs end. */
  ends: Record<string, RunEnd>;
  /** The facts that results depend on: of all runs, of each variant, and of each benchmark. */
  identity: { common: Identity; variants: Record<string, Identity>; benchmarks: Record<string, Identity> };
}

export interface Pair {
  variant: string;
  baseline: string;
}

export type ProbeSettings = Omit<Required<ProbeConfig>, 'task' | 'size'> & { size: number | null };

/** Whichever is reached first; null: no such end. */
export interface RunEnd {
  steps: number | null;
  tokens: number | null;
}

/** Default number of prompts of a probe whose task is infinite. */
const usualProbeSize = 256;

/** Default number of steps between two evaluations of a probe. */
export const usualEvery = 25;

const fields = [
  'base',
  'variants',
  'seeds',
  'baseline',
  'pairs',
  'tokens',
  'probe',
  'buckets',
  'benchmarks',
  'evaluation',
] as const;
/** Settings that all runs share: the initial state, the order of the prompts, and what computes them. */
const common = ['seed', 'train', 'shuffle', 'policy', 'warmStart', 'backend', 'device'] as const;

/** Checks a comparison without running anything. TypeError or RangeError that names the field. */
export function resolvePlan(config: Record<string, unknown>): Plan {
  checkKeys('', config, fields);
  const { base, baseline, tokens } = config;
  if ('seed' in checkObject('base', base)) {
    throw typeError('base.seed', 'nothing: use seeds instead', (base as { seed: unknown }).seed);
  }
  if (tokens !== undefined) checkNumber('tokens', tokens, { min: 1, integer: true });
  checkModel((base as { policy?: unknown }).policy);
  if (config.probe === undefined && Object.keys(checkObject('benchmarks', config.benchmarks ?? {})).length === 0) {
    throw rangeError('benchmarks', 'at least one benchmark, or a probe', 'neither');
  }
  if (config.probe === undefined && config.buckets !== undefined) {
    throw typeError('buckets', 'nothing without a probe', config.buckets);
  }
  if (config.benchmarks === undefined && config.evaluation !== undefined) {
    throw typeError('evaluation', 'nothing without benchmarks', config.evaluation);
  }
  const comparison = config as unknown as ComparisonConfig;
  const variants = checkVariants(config.variants);
  const first = variants[0];
  if (baseline !== undefined) checkChoice('baseline', baseline, variants);
  const plan = {
    seeds: checkSeeds(config.seeds),
    variants,
    baseline: comparison.baseline ?? first,
    pairs: checkPairs(config.pairs, variants, comparison.baseline ?? first),
    buckets: config.probe === undefined ? {} : checkBuckets(config.buckets),
    probe: config.probe === undefined ? null : checkProbe(config.probe, base),
  };
  for (const seed of plan.seeds) probeExamples(comparison, plan.probe, seed);
  const resolved = variants.map((name) => [name, resolveVariant(comparison, name)] as const);
  const benchmarks = resolveBenchmarks(comparison);
  return {
    ...plan,
    benchmarks: benchmarks.settings,
    ends: Object.fromEntries(resolved.map(([name, { end }]) => [name, end])),
    identity: {
      common: identifyCommon(comparison, plan),
      variants: Object.fromEntries(resolved.map(([name, { identity }]) => [name, identity])),
      benchmarks: benchmarks.identity,
    },
  };
}

/** Checks the model's folder now, because the runs would find out late that it does not exist. */
function checkModel(policy: unknown): void {
  if (typeof policy !== 'object' || policy === null || !('model' in policy)) return;
  const { model } = policy;
  if (typeof model !== 'string' || model === '') throw typeError('base.policy.model', "a model's folder", model);
  if (existsSync(join(model, 'config.json'))) return;
  throw rangeError('base.policy.model', "a model's folder with config.json", describe(model));
}

function checkVariants(value: unknown): string[] {
  const variants = checkObject('variants', value);
  const names = Object.keys(variants);
  if (names.length === 0) throw rangeError('variants', 'at least one', 'none');
  for (const name of names) {
    if (!/^[\w+-][\w.+-]*$/.test(name)) {
      throw rangeError(
        'variants',
        'names of letters, digits and any of _ . + -, not beginning with a dot',
        describe(name),
      );
    }
    for (const path of Object.keys(checkObject(`variants.${name}`, variants[name]))) {
      if (!common.some((field) => path === field || path.startsWith(`${field}.`))) continue;
      throw typeError(`variants.${name}.${path}`, 'nothing: all runs of a seed share this setting', 'a change');
    }
  }
  return names;
}

function checkSeeds(value: unknown): number[] {
  if (typeof value === 'number') {
    return Array.from({ length: checkNumber('seeds', value, { min: 1, integer: true }) }, (_, seed) => seed);
  }
  if (!Array.isArray(value) || value.length === 0) throw typeError('seeds', 'a count or an array of seeds', value);
  value.forEach((seed, i) => {
    checkNumber(`seeds[${i}]`, seed, { min: 0, integer: true });
    if (value.indexOf(seed) < i) throw rangeError(`seeds[${i}]`, 'distinct seeds', `${seed} twice`);
  });
  return [...(value as number[])];
}

function checkPairs(value: unknown, variants: readonly string[], baseline: string): Pair[] {
  if (value === undefined) {
    return variants.filter((name) => name !== baseline).map((variant) => ({ variant, baseline }));
  }
  if (!Array.isArray(value)) throw typeError('pairs', 'an array of [variant, baseline]', value);
  return value.map((pair: unknown, i) => {
    if (!Array.isArray(pair) || pair.length !== 2) throw typeError(`pairs[${i}]`, '[variant, baseline]', pair);
    const [variant, other] = pair.map((name, side) => checkChoice(`pairs[${i}][${side}]`, name, variants));
    if (variant === other) throw rangeError(`pairs[${i}]`, 'two variants', `${describe(variant)} twice`);
    return { variant, baseline: other };
  });
}

function checkProbe(value: unknown, base: unknown): ProbeSettings {
  const probe = checkObject('probe', value);
  checkKeys('probe', probe, ['task', 'size', 'measure', 'samples', 'every']);
  const count = (name: string, fallback: number, min = 1) =>
    probe[name] === undefined ? fallback : checkNumber(`probe.${name}`, probe[name], { min, integer: true });
  const task = resolveTask('probe.task', probe.task, 0, (base as { policy?: unknown }).policy);
  const size = count('size', task.size ?? usualProbeSize);
  if (task.size !== undefined && size > task.size) {
    throw rangeError('probe.size', `at most the ${task.size} prompts of its task`, String(size));
  }
  return {
    // By default, as many different prompts as there are.
    size: probe.size === undefined && task.size !== undefined ? null : size,
    measure: count('measure', 64),
    samples: count('samples', 16, passes),
    every: count('every', usualEvery),
  };
}

function resolveVariant(comparison: ComparisonConfig, name: string): { end: RunEnd; identity: Identity } {
  try {
    const config = variantConfig(comparison, name, 0);
    const options = resolveConfig(config) as TrainerOptions;
    const { seed: _s, warmStart: _w, shuffle: _o, device: _d, ...settings } = resolveSettings(options);
    const { rewards } = resolveParts(options);
    const end = { steps: config.steps ?? null, tokens: comparison.tokens ?? null };
    if (end.steps === null && end.tokens === null) {
      throw typeError('steps', "a count, or the comparison's tokens, so that the run ends", undefined);
    }
    return { end, identity: { settings, rewards: rewards.map(identifyReward) } };
  } catch (error) {
    (error as Error).message = `variants.${name}: ${(error as Error).message}`;
    throw error;
  }
}

/** Tasks are created with seed 0: they represent the tasks' options for all seeds. */
function identifyCommon(comparison: ComparisonConfig, { probe, buckets }: Pick<Plan, 'probe' | 'buckets'>): Identity {
  const config = startConfig(comparison, 0);
  const options = resolveConfig(config) as TrainerOptions;
  const { warmStart, sampling, shuffle, device } = resolveSettings(options);
  return {
    train: identifyTask(options.train),
    policy: identifyPolicy(config.policy),
    backend: config.backend ?? null,
    warmStart,
    sampling,
    shuffle,
    device,
    ...(probe && {
      probe: { ...probe, task: identifyTask(probeTask(comparison, 0), probe.size ?? undefined) },
      buckets,
    }),
  };
}

/** The configuration of a variant's run. */
export function variantConfig({ base, variants }: ComparisonConfig, name: string, seed: number): TrainConfig {
  let config = { ...base, seed } as Record<string, unknown>;
  for (const [path, value] of Object.entries(variants[name])) config = setValue(config, '', path, value ?? undefined);
  return checkConfig(config);
}

/** The configuration of a seed's start: only the base's settings that the initial state depends on. */
export function startConfig({ base }: ComparisonConfig, seed: number): TrainConfig {
  const { train, policy, backend, warmStart, sampling, shuffle, device } = base;
  return checkConfig({ train, policy, backend, warmStart, sampling, shuffle, device, seed });
}

export function probeTask({ probe, base }: ComparisonConfig, seed: number): Task {
  return scoredBy('probe.task', resolveTask('probe.task', probe!.task, seed, base.policy), base.rewards ?? []);
}

/** The distinct prompts that a seed's runs are measured on; none without a probe. RangeError for a task with fewer. */
export function probeExamples(comparison: ComparisonConfig, probe: ProbeSettings | null, seed: number): Example[] {
  if (probe === null) return [];
  const { size } = probe;
  const task = probeTask(comparison, seed);
  if (size === null) {
    const all = Array.from({ length: task.size! }, (_, index) => task.example(index));
    return [...new Map(all.map((example) => [example.prompt, example])).values()];
  }
  try {
    return distinctExamples(task, size);
  } catch (error) {
    (error as Error).message = (error as Error).message.replace(/^count/, 'probe.size');
    throw error;
  }
}
