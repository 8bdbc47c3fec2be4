// Reads the results of a comparison's runs from its folder: curves by bucket for each run.

import { join } from 'node:path';
import type { MetricName } from '../base/metrics.js';
import { mean } from '../base/statistics.js';
import { equalGroupProbability, passAtK, passes } from '../evaluation/estimators.js';
import { everything } from './buckets.js';
import {
  comparisonFiles,
  type EvaluationLine,
  type FinishedRun,
  isFinished,
  type Measurement,
  readJson,
  readLines,
} from './folder.js';
import type { Plan } from './plan.js';

/** A seed's prompts before training. */
export interface SeedResult {
  seed: number;
  /** Whether its start is complete; if not, the other fields are empty. */
  state: 'measured' | 'missing';
  backend: string | null;
  /** Number of prompts measured, and of those in no bucket. */
  prompts: number;
  aside: number;
  /** By bucket and for all buckets together: number of prompts, and the evaluation before the first step. */
  buckets: Record<string, { prompts: number } & Record<Measure, number | null>>;
}

/** Results of an evaluation for a bucket: means over its prompts; null if it has none. */
export type Measure = 'pass@1' | 'pass@8' | 'frac_reward_zero_std';
export const measures: readonly Measure[] = ['pass@1', `pass@${passes}`, 'frac_reward_zero_std'];

export interface RunResult {
  variant: string;
  seed: number;
  /** `missing`: not begun. An unfinished run has the numbers of its evaluations so far, and is not part of the summary. */
  state: 'finished' | 'unfinished' | 'missing';
  backend: string | null;
  /** At the last evaluation. */
  steps: number;
  /** Number of tokens sampled in training. */
  tokens: number;
  /** Time of training without evaluations: depends on the machine. */
  seconds: number;
  /** Mean over the training steps: the share of groups whose rewards are equal. */
  frac_reward_zero_std: number | null;
  /** One value per evaluation; the first is the one before the first step, which all variants of the seed share. */
  curve: {
    steps: number[];
    tokens: number[];
    /** Over the training steps since the previous evaluation. */
    frac_reward_zero_std: (number | null)[];
    /** By bucket. `frac_reward_zero_std` is estimated for groups of the run's size, by the task's score. */
    buckets: Record<string, Record<Measure, (number | null)[]>>;
  };
}

export interface Results {
  seeds: SeedResult[];
  runs: RunResult[];
}

/** Reads a comparison's folder. Error for files that this program did not write. */
export function readResults(out: string, plan: Plan): Results {
  const measurements = new Map(
    plan.seeds.map((seed) => [seed, readJson<Measurement>(comparisonFiles(out).measurement(seed))]),
  );
  return {
    seeds: plan.seeds.map((seed) => seedResult(plan, seed, measurements.get(seed))),
    runs: plan.seeds.flatMap((seed) =>
      plan.variants.map((variant) => readRun(out, plan, variant, seed, measurements.get(seed))),
    ),
  };
}

/** The indices of a bucket's prompts among the bucketed ones. */
function places(plan: Plan, { prompts }: Measurement): Record<string, number[]> {
  const bucketed = prompts.filter(({ bucket }) => bucket !== null);
  const of = (name: string) => bucketed.flatMap(({ bucket }, i) => (bucket === name ? [i] : []));
  const names = Object.keys(plan.buckets);
  return { ...Object.fromEntries(names.map((name) => [name, of(name)])), [everything]: bucketed.map((_, i) => i) };
}

function seedResult(plan: Plan, seed: number, measurement: Measurement | undefined): SeedResult {
  if (!measurement) return { seed, state: 'missing', backend: null, prompts: 0, aside: 0, buckets: {} };
  const { backend, prompts, right } = measurement;
  const buckets = Object.entries(places(plan, measurement)).map(([name, own]) => [
    name,
    { prompts: own.length, ...measureAll(plan, own, right, null) },
  ]);
  const aside = prompts.filter(({ bucket }) => bucket === null).length;
  return { seed, state: 'measured', backend, prompts: prompts.length, aside, buckets: Object.fromEntries(buckets) };
}

/** `groupSize` null: without a run. */
function measureAll(
  { probe }: Plan,
  own: readonly number[],
  right: readonly number[],
  groupSize: number | null,
): Record<Measure, number | null> {
  if (probe === null) return { 'pass@1': null, 'pass@8': null, frac_reward_zero_std: null };
  const { samples } = probe;
  const meanOf = (of: (count: number) => number) => meanOrNull(own.map((i) => of(right[i])));
  return {
    'pass@1': meanOf((count) => count / samples),
    'pass@8': meanOf((count) => passAtK(samples, count, passes)),
    frac_reward_zero_std:
      groupSize === null || groupSize > samples
        ? null
        : meanOf((count) => equalGroupProbability(samples, count, groupSize)),
  };
}

/** The metrics of a run that a comparison reads. */
type ReadMetric = Extract<MetricName, 'tokens' | 'frac_reward_zero_std' | 'time/step'>;

type StepMetrics = { step: number } & Partial<Record<ReadMetric, number | null>>;

function readRun(
  out: string,
  plan: Plan,
  variant: string,
  seed: number,
  measurement: Measurement | undefined,
): RunResult {
  const files = comparisonFiles(out);
  const runDir = files.run(variant, seed);
  const metrics = readLines<StepMetrics>(join(runDir, 'metrics.jsonl'));
  const evaluations = measurement
    ? [{ step: 0, right: measurement.right }, ...readLines<EvaluationLine>(files.evaluations(variant, seed))]
    : [];
  const state = isFinished(out, plan, variant, seed) ? 'finished' : metrics.length > 0 ? 'unfinished' : 'missing';
  const finished = readJson<FinishedRun>(files.finished(variant, seed));
  const steps = evaluations.at(-1)?.step ?? 0;
  const made = metrics.filter(({ step }) => step <= steps);
  const timing = readLines<StepMetrics>(join(runDir, 'timing.jsonl'));
  const seconds = timing.reduce((sum, line) => sum + (line.step <= steps ? (line['time/step'] ?? 0) : 0), 0);
  const between = evaluations.map(({ step }, i) =>
    made.filter((line) => line.step <= step && line.step > (evaluations[i - 1]?.step ?? -1)),
  );
  const tokens: number[] = [];
  for (const lines of between) {
    tokens.push(lines.reduce((sum, line) => sum + (line.tokens ?? 0), tokens.at(-1) ?? 0));
  }
  return {
    variant,
    seed,
    state,
    backend: finished?.backend ?? null,
    steps,
    tokens: tokens.at(-1) ?? 0,
    seconds,
    frac_reward_zero_std: zeroShare(made),
    curve: {
      steps: evaluations.map(({ step }) => step),
      tokens,
      frac_reward_zero_std: between.map(zeroShare),
      buckets: measurement ? bucketCurves(plan, variant, measurement, evaluations) : {},
    },
  };
}

function bucketCurves(
  plan: Plan,
  variant: string,
  measurement: Measurement,
  evaluations: readonly EvaluationLine[],
): RunResult['curve']['buckets'] {
  const { groupSize } = plan.identity.variants[variant].settings as { groupSize: number };
  const curves = Object.entries(places(plan, measurement)).map(([name, own]) => {
    const values = evaluations.map(({ right }) => measureAll(plan, own, right, groupSize));
    return [name, Object.fromEntries(measures.map((measure) => [measure, values.map((all) => all[measure])]))];
  });
  return Object.fromEntries(curves);
}

/** Steps that the guard skipped have no share. */
function zeroShare(lines: readonly StepMetrics[]): number | null {
  return meanOrNull(lines.flatMap(({ frac_reward_zero_std }) => frac_reward_zero_std ?? []));
}

/** null of no values. */
export function meanOrNull(values: readonly number[]): number | null {
  return values.length === 0 ? null : mean(values);
}
