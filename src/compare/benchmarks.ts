// The benchmarks of a comparison: their problems and sampling settings, and the evaluation of policies on them.

import { join } from 'node:path';
import { checkChoice, checkKeys, checkNumber, checkObject, describe, rangeError } from '../base/check.js';
import { packageVersion } from '../base/version.js';
import { resolveTask } from '../config/load.js';
import { type EvaluationIdentity, isComplete } from '../evaluation/folder.js';
import { runEvaluation, usualBatch } from '../evaluation/run.js';
import { checkEvaluationSampling, type EvaluationSampling, greedy, usualTemperature } from '../evaluation/sampling.js';
import type { Policy } from '../model/policy.js';
import { tokenTask } from '../rollout/token-task.js';
import { type Identity, identifyTask } from '../run/drift.js';
import { benchmarkNames, benchmarks as known } from '../tasks/benchmarks.js';
import type { Example, Task } from '../tasks/task.js';
import type { Settings } from '../train/options.js';
import { evaluationExamples, scoredBy } from '../train/options.js';
import type { ComparisonConfig } from './define-comparison.js';

/** How a benchmark is sampled: plain JSON. */
export interface BenchmarkSettings extends Omit<EvaluationSampling, 'seed'> {
  problems: number;
  maxTokens: number | null;
}

export interface BenchmarkPlan {
  settings: Record<string, BenchmarkSettings>;
  /** The facts that results depend on, by benchmark. */
  identity: Record<string, Identity>;
}

/** Checks the benchmarks of a comparison. TypeError or RangeError that names the field. */
export function resolveBenchmarks(comparison: ComparisonConfig): BenchmarkPlan {
  const given = checkObject('benchmarks', comparison.benchmarks ?? {});
  const sampling = checkSampling(comparison.evaluation);
  const plan: BenchmarkPlan = { settings: {}, identity: {} };
  for (const name of Object.keys(given)) {
    if (!/^[\w-][\w.-]*$/.test(name)) {
      throw rangeError(
        'benchmarks',
        'names of letters, digits and any of _ . -, not beginning with a dot',
        describe(name),
      );
    }
    const task = benchmarkTask(comparison, name);
    const problems = evaluationExamples(task, sampling.size).length;
    const samples = sampling.samples ?? usualSamples(given[name], name);
    const { topP, maxTokens } = sampling;
    const temperature = sampling.temperature ?? usualTemperature(samples);
    const settings = checkEvaluationSampling('evaluation.', { samples, temperature, topP });
    plan.settings[name] = { ...settings, maxTokens, problems };
    plan.identity[name] = { ...plan.settings[name], task: identifyTask(task, problems) };
  }
  return plan;
}

function checkSampling(value: unknown = {}) {
  const sampling = checkObject('evaluation', value);
  checkKeys('evaluation', sampling, ['samples', 'temperature', 'topP', 'maxTokens', 'size']);
  const number = (name: string, bounds: Parameters<typeof checkNumber>[2]) =>
    sampling[name] === undefined ? null : checkNumber(`evaluation.${name}`, sampling[name], bounds);
  const count = (name: string) => number(name, { min: 1, integer: true });
  return {
    samples: count('samples'),
    temperature: number('temperature', { min: 0 }),
    topP: number('topP', { above: 0, max: 1 }) ?? greedy.topP,
    maxTokens: count('maxTokens'),
    size: count('size'),
  };
}

function isPath(value: unknown): value is string | readonly string[] {
  return typeof value === 'string' || Array.isArray(value);
}

/** The usual number of samples of the public benchmark that a setting is or names. */
function usualSamples(value: unknown, name: string): number {
  const named = isPath(value) ? name : (value as { benchmark?: unknown }).benchmark;
  return benchmarkNames.find((one) => one === named) === undefined ? 1 : known[named as keyof typeof known].samples;
}

/** The problems of a benchmark: the same for all seeds. */
export function benchmarkTask({ benchmarks, base }: ComparisonConfig, name: string): Task {
  const field = `benchmarks.${name}`;
  const value = benchmarks![name];
  const described = isPath(value)
    ? { data: value, benchmark: checkChoice(`${field} (without a description)`, name, benchmarkNames), chat: 'auto' }
    : value;
  return scoredBy(field, resolveTask(field, described, 0, base.policy), base.rewards ?? []);
}

/** The folder of an evaluation within that of a run or a start. */
export function benchmarkFolder(runDir: string, step: number, name: string): string {
  return join(runDir, 'benchmarks', `step-${step}`, name);
}

export interface BenchmarkRun {
  comparison: ComparisonConfig;
  plan: BenchmarkPlan;
  /** The run's sampling settings. */
  sampling: Settings['sampling'];
  runDir: string;
  /** The title of the page, and a description of what is evaluated: plain JSON. */
  title: string;
  identity: Identity;
  step: number;
  seed: number;
  takeOver: boolean;
  signal: AbortSignal;
}

/** Evaluates a policy on each benchmark that has no evaluation yet. Throws the signal's reason if it aborts. */
export async function runBenchmarks(policy: Policy, run: BenchmarkRun): Promise<void> {
  const { comparison, plan, sampling, runDir, title, identity, step, seed, takeOver, signal } = run;
  for (const [name, { problems, maxTokens, ...settings }] of Object.entries(plan.settings)) {
    const folder = benchmarkFolder(runDir, step, name);
    if (isComplete(folder)) continue;
    const task = benchmarkTask(comparison, name);
    const examples: Example[] = evaluationExamples(task, problems);
    const tokens = tokenTask(task, policy, { ...sampling, maxTokens: maxTokens ?? sampling.maxTokens });
    const about: EvaluationIdentity = {
      version: packageVersion(),
      title: `${title} on ${name}`,
      identity: { ...identity, step, benchmark: plan.identity[name], sampling: { ...settings, seed } },
    };
    await runEvaluation(policy, tokens, examples, {
      ...settings,
      seed,
      folder,
      about,
      batch: usualBatch,
      takeOver,
      columns: (example) => columnsOf(example, name),
      signal,
    });
  }
}

/** Columns that results of a public benchmark are broken down by. */
function columnsOf(example: Example, name: string): Record<string, string> {
  const row = (example as { row?: Record<string, unknown> }).row ?? {};
  const by: readonly string[] = benchmarkNames.includes(name as keyof typeof known)
    ? known[name as keyof typeof known].by
    : [];
  return Object.fromEntries(by.flatMap((column) => (column in row ? [[column, String(row[column])]] : [])));
}

/** Whether a policy has been evaluated on all benchmarks. */
export function areEvaluated(runDir: string, step: number, names: readonly string[]): boolean {
  return names.every((name) => isComplete(benchmarkFolder(runDir, step, name)));
}
