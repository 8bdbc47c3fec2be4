// Checkpoints on disk. A checkpoint is a folder that appears under its name all at once: its files are written and synced
// in a folder beside it, the manifest with their sizes and SHA-256 last, and the folder is renamed. What a manifest does
// not vouch for is no checkpoint.

import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { basename, dirname, join } from 'node:path';

/** What is asked of a disk, so that a test can let it fail. */
export interface Disk {
  mkdir(path: string): void;
  /** Creates or replaces a file, and returns when its bytes are on the disk. */
  write(path: string, bytes: Uint8Array): void;
  rename(from: string, to: string): void;
  /** Returns when the names in a folder are on the disk. */
  syncFolder(path: string): void;
  /** Removes a folder with what is in it, if it is there. */
  remove(path: string): void;
}

export const disk: Disk = {
  mkdir: (path) => void fs.mkdirSync(path, { recursive: true }),
  write(path, bytes) {
    const file = fs.openSync(path, 'w');
    try {
      fs.writeFileSync(file, bytes);
      fs.fsyncSync(file);
    } finally {
      fs.closeSync(file);
    }
  },
  rename: fs.renameSync,
  syncFolder(path) {
    // Windows has no such thing.
    if (process.platform === 'win32') return;
    const folder = fs.openSync(path, 'r');
    try {
      fs.fsyncSync(folder);
    } finally {
      fs.closeSync(folder);
    }
  },
  remove: (path) => fs.rmSync(path, { recursive: true, force: true }),
};

/** Files of a checkpoint, by name. */
export type CheckpointFiles = Record<string, Uint8Array>;

export interface Manifest {
  format: 1;
  step: number;
  files: Record<string, { size: number; sha256: string }>;
}

export const manifestName = 'manifest.json';
const folderPattern = /^step-(\d{8,})$/;
/** Folders on their way in or out. */
const passingPattern = /^\.(new|old)-/;

export function checkpointName(step: number): string {
  return `step-${String(step).padStart(8, '0')}`;
}

/**
 * Writes the checkpoint of a step below `parent`, verifies it, and returns its folder; one of the same step is replaced. When
 * anything fails, what was there before is there still, the new one is not, and the error says what failed.
 */
export function writeCheckpoint(parent: string, step: number, files: CheckpointFiles, on: Disk = disk): string {
  const name = checkpointName(step);
  const folder = join(parent, name);
  const passing = join(parent, `.new-${name}`);
  const manifest: Manifest = { format: 1, step, files: {} };
  let isPlaced = false;
  try {
    if (!fs.existsSync(parent)) {
      on.mkdir(parent);
      on.syncFolder(dirname(parent));
    }
    on.remove(passing);
    on.mkdir(passing);
    for (const [file, bytes] of Object.entries(files)) {
      on.write(join(passing, file), bytes);
      manifest.files[file] = { size: bytes.byteLength, sha256: sha256(bytes) };
    }
    on.write(join(passing, manifestName), Buffer.from(`${JSON.stringify(manifest, null, 1)}\n`));
    on.syncFolder(passing);
    readCheckpoint(passing);
    if (fs.existsSync(folder)) removeCheckpoint(folder, on);
    on.rename(passing, folder);
    isPlaced = true;
    on.syncFolder(parent);
  } catch (error) {
    // On a full disk the room is wanted.
    attempt(() => on.remove(passing));
    // The caller takes back the step: a run must not go on from behind its own logs.
    if (isPlaced) attempt(() => removeCheckpoint(folder, on));
    throw new Error(`step ${step} could not be saved to ${folder}: ${(error as Error).message}`, { cause: error });
  }
  return folder;
}

/** Removes a checkpoint: it stops being one before its files go. */
export function removeCheckpoint(folder: string, on: Disk = disk): void {
  const passing = join(dirname(folder), `.old-${basename(folder)}`);
  on.remove(passing);
  on.rename(folder, passing);
  on.remove(passing);
}

export interface FoundCheckpoint {
  folder: string;
  step: number;
}

/** The checkpoints below `parent` by their names, newest first, intact or not. */
export function listCheckpoints(parent: string): FoundCheckpoint[] {
  if (!fs.existsSync(parent)) return [];
  return fs
    .readdirSync(parent)
    .flatMap((name) => {
      const match = folderPattern.exec(name);
      return match ? [{ folder: join(parent, name), step: Number(match[1]) }] : [];
    })
    .sort((a, b) => b.step - a.step);
}

/** Removes what an interrupted write or removal left behind. */
export function tidyCheckpoints(parent: string, on: Disk = disk): void {
  if (!fs.existsSync(parent)) return;
  for (const name of fs.readdirSync(parent).filter((entry) => passingPattern.test(entry)))
    on.remove(join(parent, name));
}

/** The files of a checkpoint, verified against its manifest. Error that says what is wrong with it. */
export function readCheckpoint(folder: string): { step: number; files: CheckpointFiles } {
  const manifest = readManifest(folder);
  const files: CheckpointFiles = {};
  for (const [name, { size, sha256: expected }] of Object.entries(manifest.files)) {
    const bytes = readFile(join(folder, name));
    if (bytes.byteLength !== size) throw new Error(`${name}: expected ${size} bytes, got ${bytes.byteLength}`);
    if (sha256(bytes) !== expected) throw new Error(`${name}: its SHA-256 is not that of the manifest`);
    files[name] = bytes;
  }
  return { step: manifest.step, files };
}

function readManifest(folder: string): Manifest {
  let manifest: Manifest;
  try {
    manifest = JSON.parse(readFile(join(folder, manifestName)).toString()) as Manifest;
  } catch (error) {
    throw new Error(`${manifestName}: ${(error as Error).message}`);
  }
  const { format, step, files } = manifest ?? {};
  if (format !== 1 || !Number.isSafeInteger(step) || typeof files !== 'object' || files === null) {
    throw new Error(`${manifestName}: expected format 1, got ${JSON.stringify(format)}`);
  }
  return manifest;
}

function readFile(path: string): Buffer {
  try {
    return fs.readFileSync(path);
  } catch (error) {
    throw new Error(`${basename(path)}: ${(error as NodeJS.ErrnoException).code ?? (error as Error).message}`);
  }
}

/** The newest intact checkpoint below `parent`, and what was wrong with newer ones. */
export function newestCheckpoint(parent: string): {
  found: (FoundCheckpoint & { files: CheckpointFiles }) | undefined;
  broken: { folder: string; reason: string }[];
} {
  const broken: { folder: string; reason: string }[] = [];
  for (const { folder, step } of listCheckpoints(parent)) {
    try {
      const checkpoint = readCheckpoint(folder);
      if (checkpoint.step !== step) throw new Error(`${manifestName}: expected step ${step}, got ${checkpoint.step}`);
      return { found: { folder, step, files: checkpoint.files }, broken };
    } catch (error) {
      broken.push({ folder, reason: (error as Error).message });
    }
  }
  return { found: undefined, broken };
}

export interface KeepOptions {
  keepLast: number;
  keepEvery: number | null;
  /** The step of the best checkpoint so far. */
  best: number | undefined;
}

/** Of checkpoints newest first, those that need not be kept. The newest always is. */
export function superfluous(
  checkpoints: readonly FoundCheckpoint[],
  { keepLast, keepEvery, best }: KeepOptions,
): FoundCheckpoint[] {
  return checkpoints.filter(
    ({ step }, age) => age >= Math.max(1, keepLast) && step !== best && !(keepEvery !== null && step % keepEvery === 0),
  );
}

function attempt(action: () => void): void {
  try {
    action();
  } catch {
    // What is left behind goes when the run is opened next.
  }
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
