// Reads a run folder's files for a report as streams: columns of numbers by step, and a few samples.

import { createReadStream } from 'node:fs';
import { open, readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { readText } from '../../base/read-text.js';

/** Numbers by step. */
export interface Table {
  /** In ascending order. */
  steps: number[];
  /** For each metric one value per step: NaN for null in the file, undefined if it is missing. */
  columns: Map<string, (number | undefined)[]>;
  /** Lines that could not be read, not counting an incomplete last line. */
  badLines: number;
  /** Metrics beyond the maximum number that are kept. */
  leftOut: number;
}

export interface Sample {
  step: number;
  prompt: string;
  answer: string;
  completion: string;
  rewards: [name: string, value: number | null][];
  advantage: number | null;
  truncated: boolean;
  /** The step after which the policy had the weights that sampled it; null where nothing was sampled ahead. */
  version: number | null;
}

export interface Samples {
  count: number;
  /** The newest first. */
  latest: Sample[];
  /** The largest and the smallest sums of rewards, the newest of equal ones first. */
  best: Sample[];
  worst: Sample[];
  badLines: number;
}

const maxMetrics = 400;

/**
 * Reads metrics.jsonl or timing.jsonl. A line whose step does not follow the previous one begins a repeated part of the run:
 * earlier values of this and later steps are dropped.
 */
export async function readTable(path: string): Promise<Table> {
  const table: Table = { steps: [], columns: new Map(), badLines: 0, leftOut: 0 };
  const { steps, columns } = table;
  const leftOut = new Set<string>();
  table.badLines = await forEachObject(path, (line) => {
    const { step } = line;
    if (typeof step !== 'number' || !Number.isSafeInteger(step)) return false;
    if (steps.length > 0 && step <= steps[steps.length - 1]) truncate(table, step);
    const row = steps.push(step) - 1;
    for (const [name, value] of Object.entries(line)) {
      if (name === 'step' || (typeof value !== 'number' && value !== null)) continue;
      let column = columns.get(name);
      if (!column) {
        if (columns.size >= maxMetrics) {
          if (leftOut.size < 10 * maxMetrics) leftOut.add(name);
          continue;
        }
        column = [];
        columns.set(name, column);
      }
      while (column.length < row) column.push(undefined);
      column.push(value ?? Number.NaN);
    }
    return true;
  });
  table.leftOut = leftOut.size;
  return table;
}

/** Drops the rows of a step and of all later ones. */
function truncate({ steps, columns }: Table, step: number): void {
  let rows = steps.length;
  while (rows > 0 && steps[rows - 1] >= step) rows--;
  steps.length = rows;
  for (const column of columns.values()) column.length = Math.min(column.length, rows);
}

/** Reads samples.jsonl, keeping `count` of each kind. */
export async function readSamples(path: string, count: number): Promise<Samples> {
  const samples: Samples = { count: 0, latest: [], best: [], worst: [], badLines: 0 };
  samples.badLines = await forEachObject(path, (line) => {
    const sample = asSample(line);
    if (!sample) return false;
    samples.count++;
    samples.latest = [sample, ...samples.latest].slice(0, count);
    if (sample.rewards.some(([, value]) => value !== null)) {
      insert(samples.best, sample, count, (a, b) => total(b) - total(a));
      insert(samples.worst, sample, count, (a, b) => total(a) - total(b));
    }
    return true;
  });
  return samples;
}

/** The sum of a sample's rewards; those that do not apply are ignored. */
export function total({ rewards }: Sample): number {
  return rewards.reduce((sum, [, value]) => sum + (value ?? 0), 0);
}

/** Inserts a newer sample before its equals. */
function insert(list: Sample[], sample: Sample, count: number, order: (a: Sample, b: Sample) => number): void {
  const place = list.findIndex((other) => order(sample, other) <= 0);
  if (place >= 0) list.splice(place, 0, sample);
  else if (list.length < count) list.push(sample);
  list.length = Math.min(list.length, count);
}

function asSample(line: Record<string, unknown>): Sample | undefined {
  const { step, prompt, answer, completion, rewards, advantage, truncated, version } = line;
  if (typeof step !== 'number' || typeof completion !== 'string') return undefined;
  const verdicts = typeof rewards === 'object' && rewards !== null ? Object.entries(rewards) : [];
  return {
    step,
    prompt: typeof prompt === 'string' ? prompt : '',
    answer: typeof answer === 'string' ? answer : '',
    completion,
    rewards: verdicts.map(([name, value]) => [name, typeof value === 'number' ? value : null]),
    advantage: typeof advantage === 'number' ? advantage : null,
    truncated: truncated === true,
    version: typeof version === 'number' ? version : null,
  };
}

const maxWarnings = 100;

/** Reads warnings.jsonl: the texts, only the newest if there are very many. */
export async function readWarnings(path: string): Promise<string[]> {
  const warnings: string[] = [];
  await forEachObject(path, ({ warning }) => {
    if (typeof warning !== 'string') return false;
    warnings.push(warning);
    if (warnings.length > maxWarnings) warnings.shift();
    return true;
  });
  return warnings;
}

/** A step that the guard stopped. */
export interface Fault {
  step: number;
  reason: string;
  /** What the guard did; undefined in files of earlier versions. */
  action?: string;
  /** The file's name in the folder. */
  file: string;
}

export interface Faults {
  count: number;
  /** The latest ones, by ascending step. */
  latest: Fault[];
}

const maxFaults = 20;

/** Reads what the guard caught; only the beginning of each file, as the completions that follow may be many megabytes. */
export async function readFaults(folder: string): Promise<Faults> {
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  const files = names.filter((name) => /^step-\d+\.json$/.test(name)).sort();
  const latest: Fault[] = [];
  for (const file of files.slice(-maxFaults)) latest.push({ file, ...(await readFault(join(folder, file))) });
  return { count: files.length, latest };
}

const faultBytes = 1 << 16;

async function readFault(path: string): Promise<Omit<Fault, 'file'>> {
  const file = await open(path);
  let text: string;
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(faultBytes), 0, faultBytes, 0);
    text = buffer.toString('utf8', 0, bytesRead);
  } finally {
    await file.close();
  }
  const [, number] = /step-(\d+)/.exec(basename(path))!;
  // Only keys of the file itself: those within its groups are indented further, and strings contain no line breaks.
  const [, reason] = /^ "reason": ("(?:[^"\\]|\\.)*")/m.exec(text) ?? [];
  const [, action] = /^ "action": "(\w+)"/m.exec(text) ?? [];
  return {
    step: Number(number),
    reason: reason ? (JSON.parse(reason) as string) : 'the file could not be read',
    action,
  };
}

/** Reads config.json: undefined if it does not exist, an error message if it cannot be read. */
export function readConfig(path: string): Record<string, unknown> | string | undefined {
  try {
    const value: unknown = JSON.parse(readText(path));
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
    return 'it holds no object';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT' ? undefined : (error as Error).message;
  }
}

/** The paths of a run folder's files. */
export function runFiles(runDir: string) {
  return {
    config: join(runDir, 'config.json'),
    metrics: join(runDir, 'metrics.jsonl'),
    timing: join(runDir, 'timing.jsonl'),
    samples: join(runDir, 'samples.jsonl'),
    warnings: join(runDir, 'warnings.jsonl'),
    faults: join(runDir, 'faults'),
    report: join(runDir, 'report.html'),
  };
}

/**
 * Passes each line's object to `take`, which returns whether it was usable. Returns the number of unusable lines. An
 * unterminated last line is one being written and is ignored; a missing file counts as empty.
 */
async function forEachObject(path: string, take: (line: Record<string, unknown>) => boolean): Promise<number> {
  let bad = 0;
  let rest = '';
  try {
    // Split by hand: readline also splits at characters that JSON allows unescaped within strings.
    for await (const chunk of createReadStream(path, { encoding: 'utf8', highWaterMark: 1 << 20 })) {
      const lines = (rest + chunk).split('\n');
      rest = lines.pop()!;
      for (const line of lines) if (line.trim() !== '' && !takeLine(line, take)) bad++;
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  if (rest.trim() !== '') takeLine(rest, take);
  return bad;
}

function takeLine(line: string, take: (line: Record<string, unknown>) => boolean): boolean {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return false;
  }
  return typeof value === 'object' && value !== null && !Array.isArray(value) && take(value as Record<string, unknown>);
}
