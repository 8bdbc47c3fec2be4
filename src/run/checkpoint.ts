// Checkpoints on disk. A checkpoint is a folder that appears under its name atomically: its files are written and synced in a
// temporary folder beside it, the manifest with their sizes and SHA-256 last, and the folder is renamed. A folder whose
// manifest does not match is not a checkpoint.

import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileSha256 } from '../base/file-hash.js';

/** The disk operations used here, so that tests can make them fail. */
export interface Disk {
  mkdir(path: string): void;
  /** Creates or replaces a file with these bytes, chunk by chunk, and returns when they are on the disk. */
  write(path: string, pieces: Iterable<Uint8Array>): void;
  rename(from: string, to: string): void;
  /** Returns when the directory entries of a folder are on the disk. */
  syncFolder(path: string): void;
  /** Removes a folder with its contents, if it exists. */
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
    // Windows cannot sync a folder.
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

/** The contents of a checkpoint's files by name, in chunks of bytes. */
export type CheckpointFiles = Readonly<Record<string, Iterable<Uint8Array>>>;

export interface Manifest {
  format: 1;
  step: number;
  files: Record<string, { size: number; sha256: string }>;
}

export const manifestName = 'manifest.json';
const folderPattern = /^step-(\d{8,})$/;
/** Temporary folders of checkpoints being written or removed. */
const passingPattern = /^\.(new|old)-/;

export function checkpointName(step: number): string {
  return `step-${String(step).padStart(8, '0')}`;
}

/**
 * Writes the checkpoint of a step below `parent`, verifies it, and returns its folder; one of the same step is replaced. If
 * anything fails, the previous state is kept, there is no new checkpoint, and the error says what failed.
 */
export function writeCheckpoint(parent: string, step: number, files: CheckpointFiles, on: Disk = disk): string {
  const name = checkpointName(step);
  const folder = join(parent, name);
  const temporary = join(parent, `.new-${name}`);
  const manifest: Manifest = { format: 1, step, files: {} };
  let isPlaced = false;
  try {
    if (!fs.existsSync(parent)) {
      on.mkdir(parent);
      on.syncFolder(dirname(parent));
    }
    on.remove(temporary);
    on.mkdir(temporary);
    for (const [file, pieces] of Object.entries(files)) {
      const { observed, result } = observe(pieces);
      on.write(join(temporary, file), observed);
      manifest.files[file] = result();
    }
    on.write(join(temporary, manifestName), [Buffer.from(`${JSON.stringify(manifest, null, 1)}\n`)]);
    on.syncFolder(temporary);
    readCheckpoint(temporary);
    if (fs.existsSync(folder)) removeCheckpoint(folder, on);
    on.rename(temporary, folder);
    isPlaced = true;
    on.syncFolder(parent);
  } catch (error) {
    // On a full disk, the space is needed.
    attempt(() => on.remove(temporary));
    // The caller undoes the step, so this checkpoint must not remain: it would be ahead of the logs.
    if (isPlaced) attempt(() => removeCheckpoint(folder, on));
    throw new Error(`step ${step} could not be saved to ${folder}: ${(error as Error).message}`, { cause: error });
  }
  return folder;
}

/** Removes a checkpoint. Renames its folder first, so that a partly removed one is no checkpoint. */
export function removeCheckpoint(folder: string, on: Disk = disk): void {
  const temporary = join(dirname(folder), `.old-${basename(folder)}`);
  on.remove(temporary);
  on.rename(folder, temporary);
  on.remove(temporary);
}

export interface FoundCheckpoint {
  folder: string;
  step: number;
}

/** The checkpoints below `parent` by their names, newest first, whether intact or not. */
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

/** Removes the remains of an interrupted write or removal. */
export function tidyCheckpoints(parent: string, on: Disk = disk): void {
  if (!fs.existsSync(parent)) return;
  for (const name of fs.readdirSync(parent).filter((entry) => passingPattern.test(entry)))
    on.remove(join(parent, name));
}

/** The step of a checkpoint and the names of its files, verified against its manifest. Error that says what is wrong. */
export function readCheckpoint(folder: string): { step: number; files: string[] } {
  const manifest = readManifest(folder);
  for (const [name, { size, sha256: expected }] of Object.entries(manifest.files)) {
    const path = join(folder, name);
    const found = reading(path, () => fs.statSync(path).size);
    if (found !== size) throw new Error(`${name}: expected ${size} bytes, got ${found}`);
    const hash = reading(path, () => fileSha256(path));
    if (hash !== expected) throw new Error(`${name}: its SHA-256 differs from the manifest's`);
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

/** The result of `read`; its errors name the file. */
function reading<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new Error(`${basename(path)}: ${(error as NodeJS.ErrnoException).code ?? (error as Error).message}`);
  }
}

/** The newest intact checkpoint below `parent`, and what is wrong with newer ones. */
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

/** Of checkpoints newest first, those that need not be kept. The newest is always kept. */
export function expired(
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
    // Remains are removed when the run is opened next.
  }
}

/** Passes chunks through, and provides their size and SHA-256 once all have been read. */
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
