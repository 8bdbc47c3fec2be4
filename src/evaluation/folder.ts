// The folder of an evaluation: what was evaluated, one line per completion, the results, and a page. An interrupted evaluation
// resumes after the last complete problem, and its file ends up the same as without the interruption.

import { closeSync, existsSync, fsyncSync, ftruncateSync, mkdirSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { rangeError } from '../base/check.js';
import { differences, type Identity } from '../run/drift.js';
import { writeWhole } from '../run/run-folder.js';
import { lockRun, type RunLock } from '../run/run-lock.js';
import { type CompletionRecord, groupRecords, type ProblemRecord } from './records.js';

/** What was evaluated, as in evaluation.json: plain JSON. */
export interface EvaluationIdentity {
  /** The model, data, grader and sampling settings. */
  identity: Identity;
  /** Names for the reader. */
  title: string;
  version: string;
}

const names = {
  identity: 'evaluation.json',
  completions: 'completions.jsonl',
  summary: 'summary.json',
  report: 'report.html',
} as const;

export const reportPath = (folder: string): string => join(folder, names.report);

/** Whether a folder holds an evaluation. */
export function isEvaluation(folder: string): boolean {
  return existsSync(join(folder, names.identity));
}

/** Whether the evaluation of a folder has been completed: its summary is written last. */
export function isComplete(folder: string): boolean {
  return existsSync(join(folder, names.summary));
}

/** A folder that an evaluation is written to, locked against other processes until it is closed. */
export class EvaluationFolder {
  /** Existing records of complete problems. */
  readonly records: CompletionRecord[];
  private readonly lock: RunLock;
  private readonly file: number;

  /** Opens a folder for a new evaluation or to resume one. RangeError, with what differs, if it holds a different one.
   */
  constructor(
    readonly path: string,
    { identity, title, version }: EvaluationIdentity,
    { samples, takeOver = false }: { samples: number; takeOver?: boolean },
  ) {
    mkdirSync(path, { recursive: true });
    this.lock = lockRun(path, { takeOver });
    try {
      const held = readIdentity(path);
      if (held) {
        const found = differences(held.identity, identity);
        if (found.length > 0) {
          throw rangeError(
            path,
            'a folder of this evaluation, or a new folder (--out)',
            `one of a different evaluation: ${found.join('; ')}`,
          );
        }
      } else writeWhole(join(path, names.identity), `${JSON.stringify({ version, title, identity }, null, 1)}\n`);
      const completions = join(path, names.completions);
      const { records, bytes } = readWhole(completions, samples);
      this.records = records;
      this.file = openSync(completions, 'a');
      try {
        ftruncateSync(this.file, bytes);
      } catch (error) {
        closeSync(this.file);
        throw error;
      }
    } catch (error) {
      this.lock.release();
      throw error;
    }
  }

  /** Appends the records of complete problems. Error if another process has taken the folder. */
  add(records: readonly CompletionRecord[]): void {
    this.lock.confirm();
    const bytes = Buffer.from(records.map((record) => `${JSON.stringify(record)}\n`).join(''));
    for (let done = 0; done < bytes.length; ) done += writeSync(this.file, bytes, done);
    fsyncSync(this.file);
    this.records.push(...records);
  }

  writeSummary(summary: object): void {
    this.lock.confirm();
    writeWhole(join(this.path, names.summary), `${JSON.stringify(summary, null, 1)}\n`);
  }

  close(): void {
    closeSync(this.file);
    this.lock.release();
  }
}

function readIdentity(folder: string): EvaluationIdentity | undefined {
  const path = join(folder, names.identity);
  return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as EvaluationIdentity) : undefined;
}

/** The records of complete problems at the beginning of a file, and their size in bytes. */
function readWhole(path: string, samples: number): { records: CompletionRecord[]; bytes: number } {
  if (!existsSync(path)) return { records: [], bytes: 0 };
  const content = readFileSync(path);
  const records: CompletionRecord[] = [];
  let [at, whole, bytes] = [0, 0, 0];
  for (let end = content.indexOf(0x0a); end >= 0; end = content.indexOf(0x0a, at)) {
    const record = readRecord(content.subarray(at, end));
    const { length } = records;
    // Anything that does not continue the sequence, such as a torn line, is ignored.
    if (record?.problem !== Math.floor(length / samples) || record.sample !== length % samples) break;
    records.push(record);
    at = end + 1;
    if (records.length % samples === 0) [whole, bytes] = [records.length, at];
  }
  return { records: records.slice(0, whole), bytes };
}

function readRecord(line: Buffer): CompletionRecord | undefined {
  try {
    return JSON.parse(line.toString('utf8')) as CompletionRecord;
  } catch {
    return undefined;
  }
}

export interface SavedEvaluation {
  title: string;
  identity: Identity;
  problems: ProblemRecord[];
}

/** The evaluation in a folder, complete or not. RangeError if there is none. */
export function readEvaluation(folder: string): SavedEvaluation {
  const held = readIdentity(folder);
  if (!held) throw rangeError(folder, `the folder of an evaluation (with ${names.identity})`, 'none');
  const samples = (held.identity.sampling as { samples?: number } | undefined)?.samples ?? 1;
  const { records } = readWhole(join(folder, names.completions), samples);
  return { title: held.title, identity: held.identity, problems: groupRecords(records) };
}
