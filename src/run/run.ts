// A run on disk: its folder, lock, checkpoints and TensorBoard file; where it continues from, and whether it may.

import fs from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import type { Metrics } from '../devices/plan.js';
import type { AnchorState } from '../loss/anchor.js';
import { fileTensors, safetensorsPieces, type TensorSource } from '../weights/tensor-source.js';
import {
  type CheckpointFiles,
  type Disk,
  disk,
  expired,
  type FoundCheckpoint,
  type KeepOptions,
  listCheckpoints,
  manifestName,
  newestCheckpoint,
  readCheckpoint,
  removeCheckpoint,
  tidyCheckpoints,
  writeCheckpoint,
} from './checkpoint.js';
import { differences, type Identity, isOldIdentity } from './drift.js';
import { checkpointParents, type LogSizes, RunFolder, readRunConfig } from './run-folder.js';
import { lockRun, type RunLock } from './run-lock.js';
import type { Counters, SavedState } from './state.js';
import { TensorBoardWriter } from './tensorboard.js';

export interface RunConfig {
  /** Version of the package. */
  version: string;
  created: string;
  node: string;
  seed: number;
  identity: Identity;
  notes: Readonly<Record<string, unknown>>;
  /** How the task's completions write answers, if people write them differently. */
  notation: string | null;
}

export interface OpenOptions {
  runDir: string;
  resume: 'auto' | 'never' | (string & {});
  allowDrift: boolean;
  config: RunConfig;
}

/** state.json of a checkpoint. */
interface StateFile {
  counters: Counters;
  updates: number;
  anchor: AnchorState | null;
  logs: LogSizes;
  /** See `SavedState`; omitted if false. */
  isWarmStart?: boolean;
}

/** A state and the checkpoint that it comes from. */
export interface Loaded {
  state: SavedState;
  folder: string;
  /** Whether the checkpoint is one of the run's own. */
  isOwn: boolean;
}

/** One line per step for each log. */
export interface StepRecord {
  metrics: Metrics;
  timing: Metrics;
  samples: readonly Record<string, unknown>[];
  /** Warnings that begin with the step. */
  warnings: readonly string[];
}

/**
 * Holds the folder's lock and files until `close`. Methods that write throw, without having written anything, if another process
 * has taken the folder.
 */
export class Run {
  /** Messages for the user about how the run continues. */
  readonly notices: string[] = [];
  private readonly lock: RunLock;
  private readonly folder: RunFolder;
  private events: TensorBoardWriter | undefined;
  /** config.json as it was written. */
  private config: RunConfig | undefined;
  private readonly keep: Omit<KeepOptions, 'best'>;
  private readonly disk: Disk;

  /** Takes the folder. Throws an Error if another process is using it, unless `takeOver` is set. */
  constructor({ runDir, keep, takeOver }: { runDir: string; keep: Omit<KeepOptions, 'best'>; takeOver: boolean }) {
    fs.mkdirSync(runDir, { recursive: true });
    this.keep = keep;
    this.lock = lockRun(runDir, { takeOver });
    // Writing a checkpoint takes time, so the lock is checked again before it is moved into place.
    const rename = (from: string, to: string) => {
      this.confirm();
      disk.rename(from, to);
    };
    this.disk = Object.assign(Object.create(disk) as Disk, { rename });
    try {
      this.folder = new RunFolder(runDir);
    } catch (error) {
      this.lock.release();
      throw error;
    }
  }

  get path(): string {
    return this.folder.path;
  }

  /** The state that the run continues from; undefined for a new run. Error if the run must not continue. */
  begin({ resume, allowDrift, config, runDir }: OpenOptions): Loaded | undefined {
    const before = this.folder.readConfig() as RunConfig | undefined;
    const isThere = before !== undefined || listAll(this.path).length > 0;
    if (resume === 'never' && isThere) {
      throw new Error(`${runDir}: already contains a run; use another folder, or resume: 'auto'`);
    }
    if (before === undefined && Object.values(this.folder.sizes()).some((size) => size > 0)) {
      throw new Error(`${runDir}: contains logs but no config.json, so it is not a run of this trainer`);
    }
    for (const parent of checkpointParents(this.path)) tidyCheckpoints(parent, this.disk);
    const from =
      resume === 'auto' || resume === 'never'
        ? this.ownState(before, config, allowDrift)
        : this.foreignState(resume, config, allowDrift);
    this.config = { ...config, created: before?.created ?? config.created };
    this.folder.writeConfig(this.config);
    if (from && !from.state.isWarmStart) this.openEvents(from.state.counters.step + 1);
    else this.openEvents(isThere ? 0 : undefined);
    return from;
  }

  /** Throws an Error if another process has taken the folder. */
  confirm(): void {
    // A folder that has been removed is not in use by another process: `restore` creates it again.
    if (this.folder.isRemoved) this.lock.retake();
    else this.lock.confirm();
  }

  /**
   * Recreates files that were removed from the folder during the run, and says so in `notices`; `step` is the last complete step.
   * Returns whether there were any. Error if another process has taken the folder.
   */
  restore(step: number): boolean {
    const { path } = this.folder;
    const lost = this.folder.lostLogs();
    const { hasConfig } = this.folder;
    if (lost.length === 0 && hasConfig) return false;
    this.confirm();
    this.folder.reopen(lost);
    if (!hasConfig && this.config) this.folder.writeConfig(this.config);
    this.openEvents(step + 1);
    const files = [...lost.map((name) => `${name}.jsonl`), ...(hasConfig ? [] : ['config.json'])];
    this.notices.push(
      `${path}: ${files.join(', ')} removed or replaced during the run; recreated without the lines up to step ${step}`,
    );
    return true;
  }

  /** The newest intact checkpoint, to whose step the logs are truncated. For the guard. */
  rollback(): Loaded {
    this.confirm();
    const { found } = newestCheckpoint(this.folder.checkpoints);
    if (!found) throw new Error(`${this.folder.checkpoints}: no checkpoint is intact`);
    const { state, logs } = decode(found.files, found.folder);
    this.folder.truncate(logs);
    this.openEvents(state.counters.step + 1);
    return { state, folder: found.folder, isOwn: true };
  }

  /** The sizes of the logs, for `cutBack`. */
  mark(): LogSizes {
    return this.folder.sizes();
  }

  /** Removes the lines written since then. Does nothing if another process has taken the folder: they may be its lines. */
  cutBack(sizes: LogSizes): void {
    if (this.lock.isHeld) this.folder.truncate(sizes);
  }

  log(step: number, { metrics, timing, samples, warnings }: StepRecord): void {
    this.confirm();
    this.folder.append('metrics', { step, ...metrics });
    for (const sample of samples) this.folder.append('samples', { step, ...sample });
    for (const warning of warnings) this.folder.append('warnings', { step, warning });
    if (Object.keys(timing).length > 0) this.folder.append('timing', { step, ...timing });
    this.events?.scalars(step, { ...metrics, ...timing });
  }

  /** Whether a checkpoint that was saved still exists. */
  holds(folder: string): boolean {
    return fs.existsSync(join(folder, manifestName));
  }

  /** Saves a verified checkpoint, and only then removes those that need not be kept. Returns its folder. */
  save(state: SavedState): string {
    this.confirm();
    const { step, updates, best } = state.counters;
    const { isWarmStart } = state;
    const logs = this.folder.sync();
    this.events?.flush();
    const { checkpoints, warmStart } = this.folder;
    const [parent, number] = isWarmStart ? [warmStart, updates] : [checkpoints, step];
    const folder = this.write(() => writeCheckpoint(parent, number, encode(state, logs), this.disk));
    // Checkpoints of later steps are broken ones that were skipped on resuming; they do not count as kept.
    const known = listCheckpoints(parent).filter((checkpoint) => checkpoint.step <= number);
    const { keepLast, keepEvery } = this.keep;
    const keep = isWarmStart
      ? { keepLast, keepEvery: null, best: undefined }
      : { keepLast, keepEvery, best: best?.step };
    for (const old of expired(known, keep)) this.tryToRemove(old.folder, removeCheckpoint);
    if (!isWarmStart && fs.existsSync(warmStart)) this.tryToRemove(warmStart, (path, on) => on.remove(path));
    return folder;
  }

  /** If another process has taken the folder meanwhile, a failure is reported as that. */
  private write<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      this.confirm();
      throw error;
    }
  }

  /** A checkpoint that cannot be removed is reported and tried again; the step just saved remains valid. */
  private tryToRemove(folder: string, remove: (folder: string, on: Disk) => void): void {
    try {
      remove(folder, this.disk);
    } catch (error) {
      const notice = `${folder}: could not be removed: ${(error as Error).message}`;
      if (!this.notices.includes(notice)) this.notices.push(notice);
    }
  }

  /** See `RunFolder.writeFault`. */
  writeFault(step: number, fault: unknown): string {
    this.confirm();
    return this.folder.writeFault(step, fault);
  }

  close(): void {
    this.events?.close();
    this.folder.close();
    this.lock.release();
  }

  /** From the run in the folder, if there is one. */
  private ownState(before: RunConfig | undefined, config: RunConfig, allowDrift: boolean): Loaded | undefined {
    const { found, broken } = newestOfRun(this.path);
    if (before !== undefined) this.compare(this.path, before, config, allowDrift);
    if (!found) {
      if (broken.length > 0) throw new Error(`none of its checkpoints are intact:\n${describeBroken(broken)}`);
      if (before !== undefined) this.notices.push('the run had no checkpoint yet and starts again');
      this.folder.truncate({});
      return undefined;
    }
    if (broken.length > 0) {
      this.notices.push(`skipped checkpoints that are not intact, using ${found.folder}:\n${describeBroken(broken)}`);
    }
    const { state, logs } = decode(found.files, found.folder);
    for (const name of this.folder.truncate(logs)) {
      this.notices.push(`${this.folder.logPath(name)}: shorter than when ${found.folder} was saved; lines are missing`);
    }
    return { state, folder: found.folder, isOwn: true };
  }

  /** From a checkpoint, or from the newest one of a run folder, given by its path. */
  private foreignState(path: string, config: RunConfig, allowDrift: boolean): Loaded {
    const { folder, files } = openCheckpoint(path);
    const parent = dirname(resolve(folder));
    const isOwn = checkpointParents(this.path).some((own) => resolve(own) === parent);
    const own = listAll(this.path);
    if (isOwn ? resolve(own[0].folder) !== resolve(folder) : own.length > 0) {
      throw new Error(
        `${this.folder.path}: contains a run whose newest checkpoint is ${own[0].folder}; to continue from ${folder}, use another folder`,
      );
    }
    const before = readRunConfig(dirname(parent)) as RunConfig | undefined;
    if (before !== undefined) this.compare(dirname(parent), before, config, allowDrift);
    const { state, logs } = decode(files, folder);
    this.folder.truncate(isOwn ? logs : {});
    return { state, folder, isOwn };
  }

  private compare(path: string, before: RunConfig, now: RunConfig, allowDrift: boolean): void {
    if (before.version !== now.version) {
      this.notices.push(`${path}: begun with groupgrad ${before.version}, this is ${now.version}`);
    }
    if (isOldIdentity(before.identity ?? {})) {
      this.notices.push(
        `${path}: begun by a version that compared only the first eight problems of each task; ` +
          'changes to the other problems cannot be detected this time',
      );
    }
    const found = differences(before.identity ?? {}, now.identity);
    if (found.length === 0) return;
    const list = found.map((difference) => `  ${difference}`).join('\n');
    if (!allowDrift) {
      throw new Error(
        `${path}: the run was begun with other settings or data; use another folder, or allowDrift\n${list}`,
      );
    }
    this.notices.push(`${path}: continues with other settings or data than it was begun with\n${list}`);
  }

  private openEvents(step: number | undefined): void {
    this.events?.close();
    this.events = TensorBoardWriter.open(this.folder.path, step === undefined ? {} : { step });
  }
}

/** All checkpoints of a run folder, whether intact or not, newest first: those of steps, then those of the warm start. */
function listAll(runDir: string): FoundCheckpoint[] {
  return checkpointParents(runDir).flatMap(listCheckpoints);
}

/** The newest intact checkpoint of a run folder, and what is wrong with newer ones. */
function newestOfRun(runDir: string): ReturnType<typeof newestCheckpoint> {
  const broken: ReturnType<typeof newestCheckpoint>['broken'] = [];
  for (const parent of checkpointParents(runDir)) {
    const newest = newestCheckpoint(parent);
    broken.push(...newest.broken);
    if (newest.found) return { found: newest.found, broken };
  }
  return { found: undefined, broken };
}

/**
 * The files of a checkpoint, given by its own path or that of its run folder, and its step, which is 0 during a warm start. Throws
 * an Error if none is intact.
 */
export function openCheckpoint(path: string): { folder: string; step: number; files: readonly string[] } {
  if (checkpointParents(path).some((parent) => fs.existsSync(parent))) {
    const { found, broken } = newestOfRun(path);
    if (found) return opened(found.folder, found.files);
    throw new Error(`${path}: no checkpoint is intact\n${describeBroken(broken)}`.trimEnd());
  }
  if (!fs.existsSync(path)) throw new Error(`${path}: no such checkpoint or run folder`);
  try {
    return opened(path, readCheckpoint(path).files);
  } catch (error) {
    throw new Error(`${path}: not an intact checkpoint: ${(error as Error).message}`);
  }
}

function opened(folder: string, files: readonly string[]) {
  return { folder, step: readState(files, folder).counters.step, files };
}

function describeBroken(broken: readonly { folder: string; reason: string }[]): string {
  return broken.map(({ folder, reason }) => `  ${folder}: ${reason}`).join('\n');
}

const weightsFile = 'weights.safetensors';
const optimizerFile = 'optimizer.safetensors';
const referenceFile = 'reference.safetensors';
const stateFile = 'state.json';

function encode(saved: SavedState, logs: LogSizes): CheckpointFiles {
  const { weights, optimizer, reference, files, isWarmStart } = saved;
  const { updates, anchor, ...counters } = saved.counters;
  const state: StateFile = { counters, updates, anchor, logs, ...(isWarmStart && { isWarmStart }) };
  return {
    ...files,
    [weightsFile]: safetensorsPieces(weights, { metadata: { step: String(counters.step) } }),
    [optimizerFile]: safetensorsPieces(optimizer),
    ...(reference && { [referenceFile]: safetensorsPieces(reference) }),
    [stateFile]: [Buffer.from(`${JSON.stringify(state, null, 1)}\n`)],
  };
}

/** The path of a file that a checkpoint's manifest must name. */
function partOf(files: readonly string[], folder: string, name: string): string {
  if (!files.includes(name)) throw new Error(`${folder}: expected ${name} in its manifest, got nothing`);
  return join(folder, name);
}

function readState(files: readonly string[], folder: string): StateFile {
  return JSON.parse(fs.readFileSync(partOf(files, folder, stateFile), 'utf8')) as StateFile;
}

function decode(files: readonly string[], folder: string): { state: SavedState; logs: LogSizes } {
  const tensors = (name: string) => fileTensors(partOf(files, folder, name));
  const { counters, updates, anchor, logs, isWarmStart = false } = readState(files, folder);
  const state: SavedState = {
    weights: tensors(weightsFile),
    optimizer: tensors(optimizerFile),
    reference: files.includes(referenceFile) ? tensors(referenceFile) : null,
    files: {},
    isWarmStart,
    counters: { ...counters, updates, anchor },
  };
  return { state, logs };
}

/** The weights of a checkpoint. */
export function checkpointWeights(files: readonly string[], folder: string): TensorSource {
  return fileTensors(partOf(files, folder, weightsFile));
}
