// The bytes that rows are read from: those of a small file, held in memory; a large file, which must stay what it was; or a temporary
// file of ours for formats that cannot be read from the middle.

import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Bytes read at once where a file is read as a whole. */
export const pieceSize = 2 ** 20;

export interface Storage {
  readonly size: number;
  read(start: number, length: number): Buffer;
}

/** Files up to this size are held: whatever happens to them later, a run goes on with what it has read. */
const mostHeld = 2 ** 25;

/** The content of a user's file as it is now. */
export function openUserFile(path: string): Storage {
  const { size } = fs.statSync(path);
  return size > mostHeld ? new UserFile(path) : new HeldFile(path);
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
 * A large file of the user's. It is opened for each read, so that no data set keeps a file open; Error where it is no longer the file that
 * was indexed, by its size and time of change.
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
        throw new Error(
          `${this.path}: expected the file as it was when the data set was made; it has been changed since`,
        );
      }
      return readExactly(file, start, length);
    } finally {
      fs.closeSync(file);
    }
  }
}

/** A file of ours that nobody else sees: it has no name any more where the system allows that, and goes with the process. */
export class SpoolFile implements Storage {
  readonly size: number;
  private readonly file: number;

  /** `fill` writes the file, by its path. */
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
      // Windows keeps the name of an open file.
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
