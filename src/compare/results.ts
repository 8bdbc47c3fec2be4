// What the runs of a comparison have come to, read from its folder: curves by bucket for each run.

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
  /** Whether its start is there; without it there is nothing else. */
  state: 'measured' | 'missing';
  backend: string | null;
  /** Prompts measured, and those of them that are in no bucket. */
  prompts: number;
  aside: number;
  /** By bucket and for all of them together: prompts, and what an evaluation before the first step says. */
  buckets: Record<string, { prompts: number } & Record<Measure, number | null>>;
}

/** What an evaluation says of a bucket: means over its prompts; null where there is none. */
export type Measure = 'pass@1' | 'pass@8' | 'frac_reward_zero_std';
export const measures: readonly Measure[] = ['pass@1', `pass@${passes}`, 'frac_reward_zero_std'];

export interface RunResult {
  variant: string;
  seed: number;
  /** `missing`: not begun. Numbers of an unfinished one are those of its evaluations so far, and count in no summary. */
  state: 'finished' | 'unfinished' | 'missing';
  backend: string | null;
  /** At the last evaluation. */
  steps: number;
  /** Sampled in training. */
  tokens: number;
  /** Of training, without evaluations: depends on the machine. */
  seconds: number;
  /** Mean over the training steps: the share of groups whose rewards are equal. */
  frac_reward_zero_std: number | null;
  /** One value an evaluation; the first is that before the first step, which all variants of the seed share. */
  curve: {
    steps: number[];
    tokens: number[];
    /** Of the training steps since the evaluation before. */
    frac_reward_zero_std: (number | null)[];
    /** By bucket. `frac_reward_zero_std` is what groups of the run's size would be, by the task's score. */
    buckets: Record<string, Record<Measure, (number | null)[]>>;
  };
}

export interface Results {
  seeds: SeedResult[];
  runs: RunResult[];
}

/** Reads a comparison's folder. Error for files that are not what this program writes. */
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

/** Where a bucket's prompts stand among the bucketed ones. */
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

/** `groupSize` null: of no run. */
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

/** Steps that the guard skipped have none. */
function zeroShare(lines: readonly StepMetrics[]): number | null {
  return meanOrNull(lines.flatMap(({ frac_reward_zero_std }) => frac_reward_zero_std ?? []));
}

/** null of no values. */
export function meanOrNull(values: readonly number[]): number | null {
  return values.length === 0 ? null : mean(values);
}
