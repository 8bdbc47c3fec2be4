// The run folder: config.json and the logs. metrics.jsonl and samples.jsonl depend only on the run's configuration and are the
// same, byte for byte, whether a run was interrupted or not; everything that depends on the clock is in timing.jsonl.

import fs from 'node:fs';
import { dirname, join } from 'node:path';
import { readText } from '../base/read-text.js';
import type { Metrics } from '../devices/plan.js';
import { disk } from './checkpoint.js';

const logs = ['metrics', 'samples', 'timing', 'warnings'] as const;
export type LogName = (typeof logs)[number];
/** The size of each log in bytes. */
export type LogSizes = Record<LogName, number>;

/** Keeps the logs open until `close`. */
export class RunFolder {
  private readonly files: Record<LogName, number>;

  constructor(readonly path: string) {
    fs.mkdirSync(path, { recursive: true });
    this.files = ofLogs((name) => this.open(name));
  }

  private open(name: LogName): number {
    return fs.openSync(this.logPath(name), 'a+');
  }

  /**
   * The logs whose files are no longer the ones that were opened: they were removed or replaced, and appended lines would be
   * lost.
   */
  lostLogs(): LogName[] {
    return logs.filter((name) => {
      const own = fs.fstatSync(this.files[name]);
      const found = fs.statSync(this.logPath(name), { throwIfNoEntry: false });
      return found?.ino !== own.ino || found.dev !== own.dev;
    });
  }

  /** Whether everything in the folder has been removed, and no other run has begun there since. */
  get isRemoved(): boolean {
    return this.lostLogs().length === logs.length && !this.hasConfig;
  }

  /** Opens logs again: the files that replaced them, or new ones. */
  reopen(names: readonly LogName[]): void {
    for (const name of names) {
      const file = this.open(name);
      fs.closeSync(this.files[name]);
      this.files[name] = file;
    }
  }

  get checkpoints(): string {
    return checkpointParents(this.path)[0];
  }

  /** Checkpoints of the warm start, numbered by its updates. Removed once there is a checkpoint of a step. */
  get warmStart(): string {
    return checkpointParents(this.path)[1];
  }

  logPath(name: LogName): string {
    return join(this.path, `${name}.jsonl`);
  }

  get hasConfig(): boolean {
    return fs.existsSync(join(this.path, 'config.json'));
  }

  readConfig(): unknown {
    return readRunConfig(this.path);
  }

  writeConfig(config: unknown): void {
    writeWhole(join(this.path, 'config.json'), `${JSON.stringify(config, null, 1)}\n`);
  }

  /** Appends one line. NaN and infinities become null. */
  append(name: LogName, values: Metrics | Record<string, unknown>): void {
    fs.writeFileSync(this.files[name], `${JSON.stringify(values)}\n`);
  }

  /** Returns the sizes of the logs after syncing them to the disk: a checkpoint must not be ahead of the logs. */
  sync(): LogSizes {
    for (const name of logs) fs.fsyncSync(this.files[name]);
    return this.sizes();
  }

  /** Truncates the logs to the sizes in a checkpoint, 0 if it names none. Returns the names of those that are shorter. */
  truncate(sizes: Partial<LogSizes>): LogName[] {
    const now = this.sizes();
    const sizeOf = (name: LogName) => sizes[name] ?? 0;
    for (const name of logs) if (now[name] > sizeOf(name)) fs.ftruncateSync(this.files[name], sizeOf(name));
    return logs.filter((name) => now[name] < sizeOf(name));
  }

  /** Writes a file about a failed step, for debugging. Returns its path. */
  writeFault(step: number, fault: unknown): string {
    const folder = join(this.path, 'faults');
    fs.mkdirSync(folder, { recursive: true });
    const path = join(folder, `step-${String(step).padStart(8, '0')}.json`);
    writeWhole(path, `${JSON.stringify(fault, null, 1)}\n`);
    return path;
  }

  close(): void {
    for (const name of logs) fs.closeSync(this.files[name]);
  }

  sizes(): LogSizes {
    const size = (name: LogName) => fs.fstatSync(this.files[name]).size;
    return ofLogs(size);
  }
}

function ofLogs<T>(of: (name: LogName) => T): Record<LogName, T> {
  return Object.fromEntries(logs.map((name) => [name, of(name)])) as Record<LogName, T>;
}

/** The folders that hold checkpoints of steps and of the warm start. */
export function checkpointParents(runDir: string): [steps: string, warmStart: string] {
  return [join(runDir, 'checkpoints'), join(runDir, 'warm-start')];
}

/** The config.json of a run folder; undefined if there is none. Error if it is not JSON. */
export function readRunConfig(runDir: string): unknown {
  const path = join(runDir, 'config.json');
  if (!fs.existsSync(path)) return undefined;
  try {
    return JSON.parse(readText(path));
  } catch (error) {
    throw new Error(`${path}: ${(error as Error).message}`);
  }
}

/** Writes a file atomically: after a crash it has its old or its new contents. */
export function writeWhole(path: string, text: string): void {
  const passing = `${path}.new`;
  disk.write(passing, [Buffer.from(text)]);
  disk.rename(passing, path);
  disk.syncFolder(dirname(path));
}
