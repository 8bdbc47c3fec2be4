// The folder of an evaluation: what it is of, one line a completion, what it comes to, and a page. An evaluation that was ended goes on
// behind the last problem that is complete, and its file is then what it would have been.

import { closeSync, existsSync, fsyncSync, ftruncateSync, mkdirSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { rangeError } from '../base/check.js';
import { differences, type Identity } from '../run/drift.js';
import { writeWhole } from '../run/run-folder.js';
import { lockRun, type RunLock } from '../run/run-lock.js';
import { type CompletionRecord, groupRecords, type ProblemRecord } from './records.js';

/** What an evaluation is of, as evaluation.json holds it: plain JSON. */
export interface EvaluationIdentity {
  /** The model, its data and its grader, and how completions are sampled. */
  identity: Identity;
  /** For its reader: what was called how. */
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

/** A folder that an evaluation is written to, held against other processes until it is closed. */
export class EvaluationFolder {
  /** Records that are there, of whole problems. */
  readonly records: CompletionRecord[];
  private readonly lock: RunLock;
  private readonly file: number;

  /**
   * Opens a folder for an evaluation, anew or to go on. RangeError, with what differs, where it holds another one.
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
            'a folder of this evaluation, or another folder (--out)',
            `one of another: ${found.join('; ')}`,
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

  /** Adds the records of whole problems. Error where another process has taken the folder. */
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

/** The records of whole problems at the beginning of a file, and their bytes. */
function readWhole(path: string, samples: number): { records: CompletionRecord[]; bytes: number } {
  if (!existsSync(path)) return { records: [], bytes: 0 };
  const content = readFileSync(path);
  const records: CompletionRecord[] = [];
  let [at, whole, bytes] = [0, 0, 0];
  for (let end = content.indexOf(0x0a); end >= 0; end = content.indexOf(0x0a, at)) {
    const record = readRecord(content.subarray(at, end));
    const { length } = records;
    // What does not go on where the last one was ended is no part of it, such as a torn line.
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

/** An evaluation as its folder holds it, complete or not. RangeError where there is none. */
export function readEvaluation(folder: string): SavedEvaluation {
  const held = readIdentity(folder);
  if (!held) throw rangeError(folder, `the folder of an evaluation (with ${names.identity})`, 'none');
  const samples = (held.identity.sampling as { samples?: number } | undefined)?.samples ?? 1;
  const { records } = readWhole(join(folder, names.completions), samples);
  return { title: held.title, identity: held.identity, problems: groupRecords(records) };
}
