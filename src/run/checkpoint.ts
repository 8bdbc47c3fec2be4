// Checkpoints on disk. A checkpoint is a folder that appears under its name all at once: its files are written and synced
// in a folder beside it, the manifest with their sizes and SHA-256 last, and the folder is renamed. What a manifest does
// not vouch for is no checkpoint.

import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileSha256 } from '../base/file-hash.js';

/** What is asked of a disk, so that a test can let it fail. */
export interface Disk {
  mkdir(path: string): void;
  /** Creates or replaces a file of these bytes, piece by piece, and returns when they are on the disk. */
  write(path: string, pieces: Iterable<Uint8Array>): void;
  rename(from: string, to: string): void;
  /** Returns when the names in a folder are on the disk. */
  syncFolder(path: string): void;
  /** Removes a folder with what is in it, if it is there. */
  remove(path: string): void;
}

export const disk: Disk = {
  mkdir: (path) => void fs.mkdirSync(path, { recursive: true }),
  write(path, pieces) {
    const file = fs.openSync(path, 'w');
    try {
      for (const piece of pieces) fs.writeFileSync(file, piece);
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

/** What files of a checkpoint are to hold, by name: their bytes, piece by piece. */
export type CheckpointFiles = Readonly<Record<string, Iterable<Uint8Array>>>;

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
    for (const [file, pieces] of Object.entries(files)) {
      const { observed, result } = observe(pieces);
      on.write(join(passing, file), observed);
      manifest.files[file] = result();
    }
    on.write(join(passing, manifestName), [Buffer.from(`${JSON.stringify(manifest, null, 1)}\n`)]);
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

/** The step of a checkpoint and the names of its files, verified against its manifest. Error that says what is wrong with it. */
export function readCheckpoint(folder: string): { step: number; files: string[] } {
  const manifest = readManifest(folder);
  for (const [name, { size, sha256: expected }] of Object.entries(manifest.files)) {
    const path = join(folder, name);
    const found = reading(path, () => fs.statSync(path).size);
    if (found !== size) throw new Error(`${name}: expected ${size} bytes, got ${found}`);
    const hash = reading(path, () => fileSha256(path));
    if (hash !== expected) throw new Error(`${name}: its SHA-256 is not that of the manifest`);
  }
  return { step: manifest.step, files: Object.keys(manifest.files) };
}

function readManifest(folder: string): Manifest {
  let manifest: Manifest;
  try {
    const path = join(folder, manifestName);
    manifest = JSON.parse(reading(path, () => fs.readFileSync(path, 'utf8'))) as Manifest;
  } catch (error) {
    throw new Error(`${manifestName}: ${(error as Error).message}`);
  }
  const { format, step, files } = manifest ?? {};
  if (format !== 1 || !Number.isSafeInteger(step) || typeof files !== 'object' || files === null) {
    throw new Error(`${manifestName}: expected format 1, got ${JSON.stringify(format)}`);
  }
  return manifest;
}

/** What `read` gives; its error names the file. */
function reading<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new Error(`${basename(path)}: ${(error as NodeJS.ErrnoException).code ?? (error as Error).message}`);
  }
}

/** The newest intact checkpoint below `parent`, and what was wrong with newer ones. */
export function newestCheckpoint(parent: string): {
  found: (FoundCheckpoint & { files: string[] }) | undefined;
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

/** The same pieces, and their size and SHA-256 once all have been taken. */
function observe(pieces: Iterable<Uint8Array>) {
  const hash = createHash('sha256');
  let size = 0;
  function* observed(): Generator<Uint8Array> {
    for (const piece of pieces) {
      hash.update(piece);
      size += piece.byteLength;
      yield piece;
    }
  }
  return { observed: observed(), result: () => ({ size, sha256: hash.digest('hex') }) };
}
