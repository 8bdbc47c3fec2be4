// A run on disk: its folder, its lock, its checkpoints, its TensorBoard file; where it goes on from, and whether it may.

import fs from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import type { Metrics } from '../devices/plan.js';
import type { AnchorState } from '../loss/anchor.js';
import { decodeSafetensors, encodeSafetensors } from '../weights/safetensors.js';
import {
  type CheckpointFiles,
  type Disk,
  disk,
  type KeepOptions,
  listCheckpoints,
  manifestName,
  newestCheckpoint,
  readCheckpoint,
  removeCheckpoint,
  superfluous,
  tidyCheckpoints,
  writeCheckpoint,
} from './checkpoint.js';
import { differences, type Identity } from './drift.js';
import { type LogSizes, RunFolder, readRunConfig } from './run-folder.js';
import { lockRun } from './run-lock.js';
import type { Counters, SavedState } from './state.js';
import { TensorBoardWriter } from './tensorboard.js';

export interface RunConfig {
  /** Of the package. */
  version: string;
  created: string;
  node: string;
  seed: number;
  identity: Identity;
  notes: Readonly<Record<string, unknown>>;
  /** How the task's completions write answers, where people write them otherwise. */
  notation: string | null;
}

export interface OpenOptions {
  runDir: string;
  resume: 'auto' | 'never' | (string & {});
  allowDrift: boolean;
  config: RunConfig;
  keep: Omit<KeepOptions, 'best'>;
}

/** state.json of a checkpoint. */
interface StateFile {
  counters: Counters;
  updates: number;
  anchor: AnchorState | null;
  logs: LogSizes;
}

/** A state and the checkpoint that it comes from. */
export interface Loaded {
  state: SavedState;
  folder: string;
  /** Whether it is one of the run's own. */
  isOwn: boolean;
}

/** One line a step for each log. */
export interface StepRecord {
  metrics: Metrics;
  timing: Metrics;
  samples: readonly Record<string, unknown>[];
  /** That begin with the step. */
  warnings: readonly string[];
}

/** Holds the folder's lock and its files: `close` lets go of them. */
export class Run {
  /** What there is to be told about where the run goes on from. */
  readonly notices: string[] = [];
  private unlock: () => void;
  private readonly folder: RunFolder;
  private events: TensorBoardWriter | undefined;
  /** As it was written. */
  private config: RunConfig | undefined;
  private readonly keep: Omit<KeepOptions, 'best'>;
  private readonly disk: Disk;

  /** Takes the folder. Error when another process has it. `on` is for tests of a disk that fails. */
  constructor({ runDir, keep }: Pick<OpenOptions, 'runDir' | 'keep'>, on: Disk = disk) {
    fs.mkdirSync(runDir, { recursive: true });
    this.keep = keep;
    this.disk = on;
    this.unlock = lockRun(runDir);
    try {
      this.folder = new RunFolder(runDir);
    } catch (error) {
      this.unlock();
      throw error;
    }
  }

  get path(): string {
    return this.folder.path;
  }

  /** The state that the run goes on from; undefined when it begins. Error where it must not go on. */
  begin({ resume, allowDrift, config, runDir }: OpenOptions): Loaded | undefined {
    const before = this.folder.readConfig() as RunConfig | undefined;
    const isThere = before !== undefined || listCheckpoints(this.folder.checkpoints).length > 0;
    if (resume === 'never' && isThere) {
      throw new Error(`${runDir}: holds a run already; take another folder, or resume: 'auto'`);
    }
    if (before === undefined && Object.values(this.folder.sizes()).some((size) => size > 0)) {
      throw new Error(`${runDir}: holds logs without a config.json, which are no run of this trainer`);
    }
    tidyCheckpoints(this.folder.checkpoints, this.disk);
    const from =
      resume === 'auto' || resume === 'never'
        ? this.ownState(before, config, allowDrift)
        : this.foreignState(resume, config, allowDrift);
    this.config = { ...config, created: before?.created ?? config.created };
    this.folder.writeConfig(this.config);
    const step = from?.state.counters.step;
    this.openEvents(step === undefined ? (isThere ? 0 : undefined) : step + 1);
    return from;
  }

  /**
   * Makes again what somebody has removed from the folder while the run is at work, and says so in `notices`; `step` is the last
   * complete one. Whether there was anything. Error where another process has taken the folder.
   */
  restore(step: number): boolean {
    const { path } = this.folder;
    const lost = this.folder.lostLogs();
    const { hasConfig } = this.folder;
    if (lost.length === 0 && hasConfig) return false;
    fs.mkdirSync(path, { recursive: true });
    this.unlock();
    this.unlock = lockRun(path);
    this.folder.reopen(lost);
    if (!hasConfig && this.config) this.folder.writeConfig(this.config);
    this.openEvents(step + 1);
    const files = [...lost.map((name) => `${name}.jsonl`), ...(hasConfig ? [] : ['config.json'])];
    this.notices.push(
      `${path}: ${files.join(', ')} removed or replaced while the run was at work; made again, without what it held up to step ${step}`,
    );
    return true;
  }

  /** The newest intact checkpoint, to which the logs are cut back: for the guard. */
  rollback(): Loaded {
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

  /** Takes lines away that were written since. */
  cutBack(sizes: LogSizes): void {
    this.folder.truncate(sizes);
  }

  log(step: number, { metrics, timing, samples, warnings }: StepRecord): void {
    this.folder.append('metrics', { step, ...metrics });
    for (const sample of samples) this.folder.append('samples', { step, ...sample });
    for (const warning of warnings) this.folder.append('warnings', { step, warning });
    if (Object.keys(timing).length > 0) this.folder.append('timing', { step, ...timing });
    this.events?.scalars(step, { ...metrics, ...timing });
  }

  /** Whether a checkpoint that was saved is still there. */
  holds(folder: string): boolean {
    return fs.existsSync(join(folder, manifestName));
  }

  /** Saves a verified checkpoint, and only then removes those that need not be kept. Returns its folder. */
  save(state: SavedState): string {
    const { step, best } = state.counters;
    const logs = this.folder.sync();
    this.events?.flush();
    const folder = writeCheckpoint(this.folder.checkpoints, step, encode(state, logs), this.disk);
    // Those of later steps are the broken ones that the run has passed over: they stand for nothing that may be removed.
    const known = listCheckpoints(this.folder.checkpoints).filter((checkpoint) => checkpoint.step <= step);
    for (const old of superfluous(known, { ...this.keep, best: best?.step })) this.tryToRemove(old.folder);
    return folder;
  }

  /** A checkpoint that cannot be removed is told, and tried again: it is no reason to take back the step just saved. */
  private tryToRemove(folder: string): void {
    try {
      removeCheckpoint(folder, this.disk);
    } catch (error) {
      const notice = `${folder}: could not be removed: ${(error as Error).message}`;
      if (!this.notices.includes(notice)) this.notices.push(notice);
    }
  }

  /** See `RunFolder.writeFault`. */
  writeFault(step: number, fault: unknown): string {
    return this.folder.writeFault(step, fault);
  }

  close(): void {
    this.events?.close();
    this.folder.close();
    this.unlock();
  }

  /** From the run that the folder holds, if it holds one. */
  private ownState(before: RunConfig | undefined, config: RunConfig, allowDrift: boolean): Loaded | undefined {
    const { found, broken } = newestCheckpoint(this.folder.checkpoints);
    if (before !== undefined) this.compare(this.folder.path, before, config, allowDrift);
    if (!found) {
      if (broken.length > 0) throw new Error(`none of its checkpoints is intact:\n${describeBroken(broken)}`);
      if (before !== undefined) this.notices.push('the run had no checkpoint yet: it begins again');
      this.folder.truncate({});
      return undefined;
    }
    if (broken.length > 0) {
      this.notices.push(`passed over what is not intact, taking ${found.folder}:\n${describeBroken(broken)}`);
    }
    const { state, logs } = decode(found.files, found.folder);
    for (const name of this.folder.truncate(logs)) {
      this.notices.push(`${this.folder.logPath(name)}: shorter than when ${found.folder} was saved; lines are missing`);
    }
    return { state, folder: found.folder, isOwn: true };
  }

  /** From a checkpoint, or the newest one of a run folder, given by its path. */
  private foreignState(path: string, config: RunConfig, allowDrift: boolean): Loaded {
    const { folder, files } = openCheckpoint(path);
    const parent = dirname(resolve(folder));
    const isOwn = parent === resolve(this.folder.checkpoints);
    const own = listCheckpoints(this.folder.checkpoints);
    if (isOwn ? resolve(own[0].folder) !== resolve(folder) : own.length > 0) {
      throw new Error(
        `${this.folder.path}: holds a run whose newest checkpoint is ${own[0].folder}; to go on from ${folder}, take another folder`,
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
    const found = differences(before.identity ?? {}, now.identity);
    if (found.length === 0) return;
    const list = found.map((difference) => `  ${difference}`).join('\n');
    if (!allowDrift) {
      throw new Error(`${path}: the run was begun differently; take another folder, or allowDrift\n${list}`);
    }
    this.notices.push(`${path}: goes on differently from how it was begun\n${list}`);
  }

  private openEvents(step: number | undefined): void {
    this.events?.close();
    this.events = TensorBoardWriter.open(this.folder.path, step === undefined ? {} : { step });
  }
}

/** The files of a checkpoint given by its own path or by that of its run folder. Error when none is intact. */
export function openCheckpoint(path: string): { folder: string; step: number; files: CheckpointFiles } {
  if (fs.existsSync(join(path, 'checkpoints'))) {
    const { found, broken } = newestCheckpoint(join(path, 'checkpoints'));
    if (found) return found;
    throw new Error(`${path}: no checkpoint is intact\n${describeBroken(broken)}`.trimEnd());
  }
  if (!fs.existsSync(path)) throw new Error(`${path}: no such checkpoint or run folder`);
  try {
    return { folder: path, ...readCheckpoint(path) };
  } catch (error) {
    throw new Error(`${path}: not an intact checkpoint: ${(error as Error).message}`);
  }
}

function describeBroken(broken: readonly { folder: string; reason: string }[]): string {
  return broken.map(({ folder, reason }) => `  ${folder}: ${reason}`).join('\n');
}

function encode(
  { weights, optimizer, reference, counters: { updates, anchor, ...counters } }: SavedState,
  logs: LogSizes,
) {
  const state: StateFile = { counters, updates, anchor, logs };
  const files: CheckpointFiles = {
    'weights.safetensors': encodeSafetensors(weights, { step: String(counters.step) }),
    'optimizer.safetensors': encodeSafetensors(optimizer),
    'state.json': Buffer.from(`${JSON.stringify(state, null, 1)}\n`),
  };
  if (reference) files['reference.safetensors'] = encodeSafetensors(reference);
  return files;
}

function decode(files: CheckpointFiles, folder: string): { state: SavedState; logs: LogSizes } {
  const part = (name: string) => {
    if (!files[name]) throw new Error(`${folder}: expected ${name} in its manifest, got nothing`);
    return files[name];
  };
  const arrays = (name: string) => decodeSafetensors(part(name), join(folder, name));
  const { counters, updates, anchor, logs } = JSON.parse(Buffer.from(part('state.json')).toString()) as StateFile;
  const state: SavedState = {
    weights: arrays('weights.safetensors'),
    optimizer: arrays('optimizer.safetensors'),
    reference: files['reference.safetensors'] ? arrays('reference.safetensors') : null,
    counters: { ...counters, updates, anchor },
  };
  return { state, logs };
}

/** The weights of a checkpoint. */
export function checkpointWeights(files: CheckpointFiles, folder: string): SavedState['weights'] {
  return decode(files, folder).state.weights;
}
