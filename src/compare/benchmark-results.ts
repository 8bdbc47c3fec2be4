// Benchmark results of a comparison's policies: means over seeds and problems, and differences by pair.

import { mean } from '../base/statistics.js';
import { readEvaluation } from '../evaluation/folder.js';
import { type Estimate, estimate, estimateMeanOfMeans } from '../evaluation/statistics.js';
import { areEvaluated, benchmarkFolder } from './benchmarks.js';
import { comparisonFiles, type FinishedRun, isFinished, readJson } from './folder.js';
import type { Pair, Plan } from './plan.js';
import { meanOrNull } from './results.js';

/** The name of the mean over benchmarks, in which each benchmark has the same weight. */
export const overall = 'mean';

/** Of one benchmark, or of the mean over benchmarks: the share of right completions, or a difference of shares. */
export interface BenchmarkValue {
  benchmark: string;
  mean: number | null;
  /** The mean of each seed; null if there is none. */
  values: (number | null)[];
  /** 95 % intervals: over problems of the same kind with these runs, and over seeds with these problems. */
  overProblems: Interval;
  overSeeds: Interval;
}

type Interval = Pick<Estimate, 'low' | 'high'>;

export interface BenchmarkRow {
  /** null: before training. */
  variant: string | null;
  values: BenchmarkValue[];
}

export interface BenchmarkPair extends Pair {
  /** Differences: variant − baseline, paired by seed and problem. */
  values: BenchmarkValue[];
}

export interface BenchmarkResults {
  rows: BenchmarkRow[];
  pairs: BenchmarkPair[];
  /** By benchmark, the largest truncated share of completions in any evaluation. */
  truncated: Record<string, number>;
}

/** The scores of one policy on one benchmark: for each problem the mean over its completions. */
type Scores = readonly number[];

/** By benchmark, one entry per seed; undefined for a run that is not finished. */
type SeedScores = Record<string, (Scores | undefined)[]>;

/** undefined for a comparison without benchmarks. */
export function readBenchmarks(out: string, plan: Plan): BenchmarkResults | undefined {
  const names = Object.keys(plan.benchmarks);
  if (names.length === 0) return undefined;
  const files = comparisonFiles(out);
  const truncated: Record<string, number> = {};
  const read = (runDir: string, step: number, name: string): Scores => {
    const { problems } = readEvaluation(benchmarkFolder(runDir, step, name));
    const completions = problems.flatMap((problem) => problem.completions);
    const share = completions.filter((one) => one.truncated).length / completions.length;
    truncated[name] = Math.max(truncated[name] ?? 0, share);
    return problems.map((problem) => mean(problem.completions.map(({ score }) => score)));
  };
  const scoresOf = (place: (seed: number) => { runDir: string; step: number } | undefined): SeedScores => {
    const places = plan.seeds.map(place);
    return Object.fromEntries(names.map((name) => [name, places.map((at) => at && read(at.runDir, at.step, name))]));
  };
  const start = scoresOf((seed) => {
    const runDir = files.start(seed);
    return areEvaluated(runDir, 0, names) ? { runDir, step: 0 } : undefined;
  });
  const variants = new Map(
    plan.variants.map((variant) => [
      variant,
      scoresOf((seed) => {
        if (!isFinished(out, plan, variant, seed)) return undefined;
        const { step } = readJson<FinishedRun>(files.finished(variant, seed))!;
        return { runDir: files.run(variant, seed), step };
      }),
    ]),
  );
  return {
    rows: [
      { variant: null, values: valuesOf(start) },
      ...plan.variants.map((variant) => ({ variant, values: valuesOf(variants.get(variant)!) })),
    ],
    pairs: plan.pairs.map(({ variant, baseline }) => ({
      variant,
      baseline,
      values: valuesOf(differencesOf(variants.get(variant)!, variants.get(baseline)!)),
    })),
    truncated,
  };
}

/** Differences problem by problem, for seeds that both have. */
function differencesOf(own: SeedScores, other: SeedScores): SeedScores {
  return Object.fromEntries(
    Object.entries(own).map(([name, seeds]) => [
      name,
      seeds.map((scores, seed) => {
        const from = other[name][seed];
        return scores && from && scores.map((score, problem) => score - from[problem]);
      }),
    ]),
  );
}

/** The values of every benchmark and, if there are several, of their mean. */
export function valuesOf(scores: SeedScores): BenchmarkValue[] {
  const names = Object.keys(scores);
  const bySeed = names.map((name) => scores[name].map((seed) => seed && meanOrNull(seed)));
  const byProblem = names.map((name) => overSeeds(scores[name].filter((seed) => seed !== undefined)));
  const values = names.map((name, i) => valueFor(name, bySeed[i], estimate(byProblem[i])));
  if (names.length < 2) return values;
  const means = scores[names[0]].map((_, seed) => {
    const own = bySeed.flatMap((seeds) => seeds[seed] ?? []);
    return own.length === names.length ? meanOrNull(own) : null;
  });
  return [...values, valueFor(overall, means, estimateMeanOfMeans(byProblem))];
}

/** The mean of each problem over seeds. */
function overSeeds(seeds: readonly Scores[]): number[] {
  return (seeds[0] ?? []).map((_, problem) => mean(seeds.map((scores) => scores[problem])));
}

function valueFor(
  benchmark: string,
  seeds: readonly (number | null | undefined)[],
  { mean: value, low, high }: Estimate,
): BenchmarkValue {
  const values = seeds.map((seed) => seed ?? null);
  const between = estimate(values.filter((seed) => seed !== null));
  return {
    benchmark,
    mean: value,
    values,
    overProblems: { low, high },
    overSeeds: { low: between.low, high: between.high },
  };
}
