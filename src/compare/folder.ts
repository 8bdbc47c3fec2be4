// A comparison's folder: its plan, the start of each seed, a run folder for each variant and seed, and the results.

import fs from 'node:fs';
import { join } from 'node:path';
import { readText } from '../base/read-text.js';
import { differences } from '../run/drift.js';
import { writeWhole } from '../run/run-folder.js';
import { lockName } from '../run/run-lock.js';
import { areEvaluated } from './benchmarks.js';
import type { Plan, RunEnd } from './plan.js';

export function comparisonFiles(out: string) {
  const start = (seed: number) => join(out, 'starts', `seed-${seed}`);
  const run = (variant: string, seed: number) => join(out, 'runs', variant, `seed-${seed}`);
  return {
    plan: join(out, 'plan.json'),
    result: join(out, 'comparison.json'),
    report: join(out, 'report.html'),
    /** Tables of the benchmarks, in Markdown. */
    benchmarks: join(out, 'benchmarks.md'),
    /** Run folder of the warm start: all variants of the seed begin from its checkpoint. */
    start,
    /** The measurement of the seed's prompts; it is written last, so its presence means that the start is complete. */
    measurement: (seed: number) => join(start(seed), 'probe.json'),
    run,
    /** The run's evaluations on the probe, one per line. */
    evaluations: (variant: string, seed: number) => join(run(variant, seed), 'probe.jsonl'),
    /** Written when the run has ended. */
    finished: (variant: string, seed: number) => join(run(variant, seed), 'finished.json'),
  };
}

/** The success of a seed's policy on its prompts before training. */
export interface Measurement {
  /** The tfjs backend that it was computed on. */
  backend: string;
  prompts: MeasuredPrompt[];
  /** Right completions of each bucketed prompt in the evaluation before the first step, which does not decide the buckets. */
  right: number[];
}

export interface MeasuredPrompt {
  prompt: string;
  difficulty: number;
  /** Number of right completions, out of `probe.measure`. */
  right: number;
  /** null: in no bucket. */
  bucket: string | null;
}

export interface EvaluationLine {
  step: number;
  /** Number of right completions of each bucketed prompt, in order. */
  right: number[];
}

export interface FinishedRun {
  /** The configured end of the run. */
  end: RunEnd;
  step: number;
  backend: string;
}

export function writeJson(path: string, value: unknown): void {
  writeWhole(path, `${JSON.stringify(value, null, 1)}\n`);
}

/** undefined if there is no such file. Error if it is not JSON. */
export function readJson<T>(path: string): T | undefined {
  if (!fs.existsSync(path)) return undefined;
  try {
    return JSON.parse(readText(path)) as T;
  } catch (error) {
    throw new Error(`${path}: ${(error as Error).message}`);
  }
}

/** The objects in a file of JSON lines, except an incomplete last one. Empty if there is no such file. */
export function readLines<T>(path: string): T[] {
  if (!fs.existsSync(path)) return [];
  const lines = fs.readFileSync(path, 'utf8').split('\n');
  return lines.slice(0, -1).map((line, i) => {
    try {
      return JSON.parse(line) as T;
    } catch (error) {
      throw new Error(`${path}, line ${i + 1}: ${(error as Error).message}`);
    }
  });
}

/** Appends a line and syncs it to the disk. */
export function appendLine(path: string, value: unknown): void {
  const file = fs.openSync(path, 'a');
  try {
    fs.writeFileSync(file, `${JSON.stringify(value)}\n`);
    fs.fsyncSync(file);
  } finally {
    fs.closeSync(file);
  }
}

/** Whether a run has been trained to its end and evaluated on every benchmark. */
export function isFinished(out: string, plan: Plan, variant: string, seed: number): boolean {
  const files = comparisonFiles(out);
  const finished = readJson<FinishedRun>(files.finished(variant, seed));
  if (finished === undefined) return false;
  const { steps, tokens } = plan.ends[variant];
  if (finished.end.steps !== steps || finished.end.tokens !== tokens) return false;
  return areEvaluated(files.run(variant, seed), finished.step, Object.keys(plan.benchmarks));
}

/** Whether a seed's prompts have been measured, and its policy evaluated on every benchmark before training. */
export function isStarted(out: string, plan: Plan, seed: number): boolean {
  const files = comparisonFiles(out);
  if (readJson(files.measurement(seed)) === undefined) return false;
  return areEvaluated(files.start(seed), 0, Object.keys(plan.benchmarks));
}

/** Maximum number of differences shown. */
const maxDifferences = 12;

/**
 * Writes a comparison's plan into its folder. Error, with the differences, if the folder's contents were made under another
 * plan. Adding or leaving out variants and seeds and extending runs is allowed; changing what exists is not.
 */
export function adoptPlan(out: string, plan: Plan): void {
  const files = comparisonFiles(out);
  const before = readJson<Plan>(files.plan);
  const known: Pick<Plan['identity'], 'variants' | 'benchmarks'> = { variants: {}, benchmarks: {} };
  if (before) {
    const has = (folder: string) => fs.existsSync(join(out, folder));
    const found = has('starts') ? differences(before.identity.common, plan.identity.common) : [];
    for (const [name, identity] of Object.entries(before.identity.variants)) {
      if (!has(join('runs', name))) continue;
      known.variants[name] = identity;
      const now = plan.identity.variants[name];
      if (now) found.push(...differences(identity, now).map((difference) => `variants.${name}.${difference}`));
    }
    for (const [name, identity] of Object.entries(has('starts') ? (before.identity.benchmarks ?? {}) : {})) {
      known.benchmarks[name] = identity;
      const now = plan.identity.benchmarks[name];
      if (now) found.push(...differences(identity, now).map((difference) => `benchmarks.${name}.${difference}`));
    }
    if (found.length > 0) {
      const shown = found.slice(0, maxDifferences).map((difference) => `  ${difference}`);
      if (found.length > shown.length) shown.push(`  and ${found.length - shown.length} more`);
      throw new Error(
        `${out}: its runs were made with another configuration; use another folder (--out), or give a changed variant or benchmark another name\n${shown.join('\n')}`,
      );
    }
  } else if (fs.existsSync(out) && fs.readdirSync(out).some((name) => name !== lockName)) {
    throw new Error(`${out}: expected an empty folder or the folder of a comparison, got one without a plan.json`);
  }
  const { common, variants, benchmarks } = plan.identity;
  const identity = {
    common,
    variants: { ...known.variants, ...variants },
    benchmarks: { ...known.benchmarks, ...benchmarks },
  };
  writeJson(files.plan, { ...plan, identity });
}
