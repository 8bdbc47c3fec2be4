// comparison.json: the results of a comparison with its configuration and environment, and without local paths.

import { availableParallelism, cpus, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { packageVersion } from '../base/version.js';
import { manyTruncated } from '../evaluation/page.js';
import { percent } from '../evaluation/text.js';
import { writeWhole } from '../run/run-folder.js';
import { type BenchmarkResults, readBenchmarks } from './benchmark-results.js';
import { comparisonFiles, readJson, readLines } from './folder.js';
import { withoutFolders } from './identity.js';
import type { Plan } from './plan.js';
import { type Results, readResults } from './results.js';
import { type Summary, summarize } from './summary.js';

export interface ComparisonResult extends Results {
  format: 1;
  /** Version of the package. */
  version: string;
  /** The machine that the result was written on. */
  machine: { cpu: string; cores: number; memoryGiB: number; os: string; node: string };
  configuration: Plan;
  /** Notes for the reader, such as what is missing. */
  notes: string[];
  summary: Summary;
  /** Omitted without benchmarks. */
  benchmarks?: BenchmarkResults;
}

/** The results in a comparison's folder so far. Error if there is no comparison. */
export function buildResult(out: string): ComparisonResult {
  const plan = readJson<Plan>(comparisonFiles(out).plan);
  if (plan === undefined) throw new Error(`${out}: expected the folder of a comparison, got one without a plan.json`);
  const results = readResults(out, plan);
  const benchmarks = readBenchmarks(out, plan);
  return rounded({
    format: 1,
    version: packageVersion(),
    machine: {
      cpu: cpus()[0]?.model ?? 'unknown',
      cores: availableParallelism(),
      memoryGiB: Math.round(totalmem() / 2 ** 30),
      os: `${process.platform} ${release().split('-')[0]}`,
      node: process.version,
    },
    configuration: withoutOthers(plan),
    notes: [...notes(plan, results), ...truncationNotes(benchmarks), ...warnings(out, plan)],
    ...results,
    summary: summarize(plan, results),
    ...(benchmarks && { benchmarks }),
  });
}

/** Writes comparison.json and returns its path. */
export function writeResult(out: string, result: ComparisonResult): string {
  const { result: path } = comparisonFiles(out);
  // Each list of numbers on one line.
  const text = JSON.stringify(result, null, 1).replace(/\[[^[\]{}"]*\]/g, (list) => list.replace(/\s+/g, ' '));
  writeWhole(path, `${text}\n`);
  return path;
}

/** Rounds numbers to their meaningful digits. */
function rounded<T>(value: T): T {
  return JSON.parse(
    JSON.stringify(value, (_, part: unknown) =>
      typeof part === 'number' && !Number.isInteger(part) ? Number(part.toPrecision(8)) : part,
    ),
  ) as T;
}

/** The plan with its own variants and benchmarks only, without earlier ones of the folder, and without paths. */
function withoutOthers({ identity, ...plan }: Plan): Plan {
  const variants = Object.fromEntries(plan.variants.map((name) => [name, identity.variants[name]]));
  const benchmarks = Object.fromEntries(Object.keys(plan.benchmarks).map((name) => [name, identity.benchmarks[name]]));
  return withoutFolders({ ...plan, identity: { common: identity.common, variants, benchmarks } });
}

/** From this number of seeds on, intervals and tests are not limited by it. */
const enoughSeeds = 6;

function notes(plan: Plan, { seeds, runs }: Results): string[] {
  const all: string[] = [];
  const n = plan.seeds.length;
  if (n === 1) all.push(`One seed: no interval${plan.probe ? '' : ' over seeds'} and no test.`);
  else if (n < enoughSeeds) {
    const least = 2 ** (1 - n);
    all.push(
      `${n} seeds: with so few, no bootstrap interval covers more than ${Number((100 * (1 - least)).toPrecision(4))} %, and no p is below ${least}. Look at the differences by seed.`,
    );
  }
  const list = (some: readonly { variant?: string; seed: number }[]) =>
    some.map(({ variant, seed }) => (variant === undefined ? `seed ${seed}` : `${variant}, seed ${seed}`)).join('; ');
  const unmade = seeds.filter(({ state }) => state === 'missing');
  if (unmade.length > 0) all.push(`Seeds without a start: ${list(unmade)}.`);
  for (const [state, text] of [
    ['unfinished', 'Unfinished runs, which are not part of any mean'],
    ['missing', 'Missing runs'],
  ] as const) {
    const some = runs.filter((run) => run.state === state);
    if (some.length > 0) all.push(`${text}: ${list(some)}.`);
  }
  for (const name of Object.keys(plan.buckets)) {
    const empty = seeds.filter(({ state, buckets }) => state === 'measured' && buckets[name].prompts === 0);
    if (empty.length > 0) {
      const range = plan.buckets[name].join(' to ');
      all.push(
        `No prompts in bucket ${name} (${range}): ${list(empty)}. Means of the bucket are over the other seeds.`,
      );
    }
  }
  const backends = [...new Set([...seeds, ...runs].flatMap(({ backend }) => backend ?? []))];
  if (backends.length > 1) all.push(`Runs were made on different backends: ${backends.join(', ')}.`);
  const samples = plan.probe?.samples ?? Infinity;
  const tooLarge = plan.variants.filter((name) => groupSize(plan, name) > samples);
  if (tooLarge.length > 0) {
    all.push(
      `Groups of ${tooLarge.join(', ')} are larger than probe.samples (${samples}), so their share without a gradient is not known by bucket.`,
    );
  }
  return all;
}

function truncationNotes(results: BenchmarkResults | undefined): string[] {
  return Object.entries(results?.truncated ?? {}).flatMap(([name, share]) =>
    share < manyTruncated
      ? []
      : [`${name}: up to ${percent(share)} % of a policy's completions were cut off and score 0; allow more tokens.`],
  );
}

/** Maximum number of warnings shown. */
const maxWarnings = 12;

/** Warnings of the runs while they were training. */
function warnings(out: string, { seeds, variants }: Plan): string[] {
  const all = seeds.flatMap((seed) =>
    variants.flatMap((variant) => {
      const path = join(comparisonFiles(out).run(variant, seed), 'warnings.jsonl');
      return readLines<{ warning: string }>(path).map(({ warning }) => `${variant}, seed ${seed}, ${warning}`);
    }),
  );
  const more = all.length - maxWarnings;
  return [
    ...all.slice(0, maxWarnings),
    ...(more > 0 ? [`${more} more warnings are in the runs' warnings.jsonl.`] : []),
  ];
}

function groupSize({ identity }: Plan, variant: string): number {
  return (identity.variants[variant].settings as { groupSize: number }).groupSize;
}
