// The bytes that rows are read from: a small file in memory; a large file, which must not change; or a temporary file for formats
// without random access.

import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Chunk size in bytes when a file is read as a whole. */
export const pieceSize = 2 ** 20;

export interface Storage {
  readonly size: number;
  read(start: number, length: number): Buffer;
}

/** Files up to this size are kept in memory, so that later changes of the file do not affect a run. */
const maxHeld = 2 ** 25;

/** The current contents of a user's file. */
export function openUserFile(path: string): Storage {
  const { size } = fs.statSync(path);
  return size > maxHeld ? new UserFile(path) : new HeldFile(path);
}

class HeldFile implements Storage {
  readonly size: number;
  private readonly bytes: Buffer;

  constructor(path: string) {
    this.bytes = fs.readFileSync(path);
    this.size = this.bytes.length;
  }

  read(start: number, length: number): Buffer {
    return this.bytes.subarray(start, start + length);
  }
}

/**
 * A large file of the user's. It is opened for each read, so that data sets do not keep files open. Error if its size or modification
 * time is no longer that of the indexed file.
 */
class UserFile implements Storage {
  readonly size: number;
  private readonly changed: number;

  constructor(readonly path: string) {
    const { size, mtimeMs } = fs.statSync(path);
    this.size = size;
    this.changed = mtimeMs;
  }

  read(start: number, length: number): Buffer {
    const file = fs.openSync(this.path, 'r');
    try {
      const { size, mtimeMs } = fs.fstatSync(file);
      if (size !== this.size || mtimeMs !== this.changed) {
        throw new Error(`${this.path}: expected the file that the data set was created from; it has changed since`);
      }
      return readExactly(file, start, length);
    } finally {
      fs.closeSync(file);
    }
  }
}

/** A private temporary file: it is unlinked while open if the system allows that, and is removed when the process exits. */
export class SpoolFile implements Storage {
  readonly size: number;
  private readonly file: number;

  /** `fill` writes the file at the given path. */
  constructor(fill: (path: string) => void) {
    const folder = fs.mkdtempSync(join(tmpdir(), 'groupgrad-data-'));
    const remove = () => fs.rmSync(folder, { recursive: true, force: true });
    try {
      const path = join(folder, 'rows');
      fill(path);
      this.file = fs.openSync(path, 'r');
      this.size = fs.fstatSync(this.file).size;
    } catch (error) {
      remove();
      throw error;
    }
    try {
      remove();
    } catch {
      // Windows cannot remove an open file.
      process.once('exit', () => {
        fs.closeSync(this.file);
        remove();
      });
    }
  }

  read(start: number, length: number): Buffer {
    return readExactly(this.file, start, length);
  }
}

function readExactly(file: number, start: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  for (let done = 0; done < length; ) {
    const count = fs.readSync(file, bytes, done, length - done, start + done);
    if (count === 0) throw new Error(`expected ${length} bytes at ${start}, got ${done}`);
    done += count;
  }
  return bytes;
}

/** SHA-256 of a whole file, in hexadecimal. */
export function hashFile(path: string): string {
  const hash = createHash('sha256');
  const piece = Buffer.allocUnsafe(pieceSize);
  const file = fs.openSync(path, 'r');
  try {
    for (let count = fs.readSync(file, piece); count > 0; count = fs.readSync(file, piece)) {
      hash.update(piece.subarray(0, count));
    }
  } finally {
    fs.closeSync(file);
  }
  return hash.digest('hex');
}
