// Writes a safetensors file piece by piece. The header comes first, so the names, types and shapes of all tensors must be given
// first; their values follow in the order of the file, in as many calls as needed. The file appears under its name once it is
// complete and on disk.

import fs from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { rangeError } from '../base/check.js';
import { bytesPerFloat, encodeFloats, type FloatType, floatTypes } from './floats.js';
import { encodeHeader, quoted, type TensorEntry, type TensorInfo } from './header.js';

/** Values converted and written at a time. */
const pieceLength = 4 * 2 ** 20;

export interface WriterOptions {
  /** Texts for the file's header, by name. */
  metadata?: Readonly<Record<string, string>>;
  /** Receives every piece of the file in order, for a checksum. The bytes are valid until it returns. */
  observe?: (bytes: Uint8Array) => void;
}

/** Metadata that transformers requires. */
export const modelMetadata = { format: 'pt' } as const;

/**
 * A safetensors file being written. Give each tensor's values in the order of `tensors`, then `finish`; `abort` removes what
 * was written. An error from `write` or `finish` aborts.
 *
 * @example
 * const writer = new SafetensorsWriter('norm.safetensors', [{ name: 'norm.weight', type: 'BF16', shape: [64] }]);
 * for (const { name } of writer.tensors) writer.write(name, await valuesOf(name));
 * writer.finish();
 */
export class SafetensorsWriter {
  /** In the order of the file, which is the order in which values must be given: wide types first, else as the entries. */
  readonly tensors: readonly TensorInfo[];
  private readonly temporary: string;
  private readonly observe: (bytes: Uint8Array) => void;
  private descriptor: number | undefined;
  /** The tensor being written, and the number of its bytes written so far. */
  private current = 0;
  private written = 0;

  /** @throws RangeError for a name that occurs twice or an invalid shape; the system's error if it cannot write */
  constructor(
    readonly path: string,
    entries: readonly TensorEntry[],
    { metadata = {}, observe = () => {} }: WriterOptions = {},
  ) {
    const header = encodeHeader(widestFirst(entries), metadata);
    this.tensors = header.tensors;
    this.observe = observe;
    this.temporary = join(dirname(path), `.${basename(path)}.new`);
    this.descriptor = fs.openSync(this.temporary, 'w');
    this.guarded(() => this.append(header.bytes));
  }

  /**
   * Appends float32 values to a tensor of type F32, BF16 or F16, rounded to nearest, ties to even.
   *
   * @param name the next tensor of the file
   * @param values the next values of the tensor, in row-major order: all, or some of them
   */
  write(name: string, values: Float32Array): void {
    this.guarded(() => {
      const tensor = this.expect(name);
      const type = floatTypes.find((known) => known === tensor.type);
      if (!type) throw rangeError(`tensor ${quoted(name)}, type`, `one of ${floatTypes.join(', ')}`, tensor.type);
      this.checkLength(tensor, values.length * bytesPerFloat[type]);
      for (let at = 0; at < values.length; at += pieceLength) {
        this.append(encodeFloats(type, values.subarray(at, at + pieceLength)));
      }
      this.written += values.length * bytesPerFloat[type];
    });
  }

  /** Appends bytes to a tensor of any type unchanged: a copy from another file. */
  writeBytes(name: string, bytes: Uint8Array): void {
    this.guarded(() => {
      this.checkLength(this.expect(name), bytes.length);
      this.append(bytes);
      this.written += bytes.length;
    });
  }

  /** When this returns, the file is complete, on disk and under its name. RangeError if values are missing. */
  finish(): void {
    this.close();
    this.place();
    syncFolder(dirname(this.path));
  }

  /** Completes the file without renaming it, for several that must appear together; then call `place`. */
  close(): void {
    this.guarded(() => {
      const missing = this.tensors.findIndex((_, index) => index >= this.current && this.bytesLeft(index) > 0);
      if (missing !== -1) {
        const field = `tensor ${quoted(this.tensors[missing].name)}`;
        throw rangeError(field, `${this.bytesLeft(missing)} more bytes`, 'the end of the file');
      }
      const descriptor = this.open();
      fs.fsyncSync(descriptor);
      fs.closeSync(descriptor);
      this.descriptor = undefined;
    });
  }

  /** Gives a closed file its name. The folder is not synced. */
  place(): void {
    try {
      fs.renameSync(this.temporary, this.path);
    } catch (error) {
      this.abort();
      throw error;
    }
  }

  /** Removes what was written. An earlier file of that name is kept. */
  abort(): void {
    if (this.descriptor !== undefined) fs.closeSync(this.descriptor);
    this.descriptor = undefined;
    fs.rmSync(this.temporary, { force: true });
  }

  /** Moves on to the tensor of that name, which must be the one being written or the next one with values. */
  private expect(name: string): TensorInfo {
    let next = this.current;
    while (this.tensors[next] && this.tensors[next].name !== name && this.bytesLeft(next) === 0) next++;
    const tensor = this.tensors[next];
    if (tensor?.name !== name) {
      throw rangeError('name', tensor ? `the next tensor, ${quoted(tensor.name)}` : 'no more tensors', quoted(name));
    }
    if (next !== this.current) this.written = 0;
    this.current = next;
    return tensor;
  }

  private bytesLeft(index: number): number {
    const { start, end } = this.tensors[index];
    return end - start - (index === this.current ? this.written : 0);
  }

  private checkLength(tensor: TensorInfo, bytes: number): void {
    const left = this.bytesLeft(this.current);
    if (bytes > left) throw rangeError(`tensor ${quoted(tensor.name)}`, `at most ${left} more bytes`, String(bytes));
  }

  private append(bytes: Uint8Array): void {
    const descriptor = this.open();
    for (let done = 0; done < bytes.length; ) {
      done += fs.writeSync(descriptor, bytes, done, Math.min(bytes.length - done, 2 ** 30));
    }
    this.observe(bytes);
  }

  private open(): number {
    if (this.descriptor === undefined)
      throw new Error(`${this.path}: expected a file being written, got one that ended`);
    return this.descriptor;
  }

  private guarded(action: () => void): void {
    try {
      this.open();
      action();
    } catch (error) {
      this.abort();
      throw error;
    }
  }
}

/** With this order every tensor begins at a multiple of its values' width, for readers that map files into memory. */
function widestFirst(entries: readonly TensorEntry[]): TensorEntry[] {
  const width = ({ type }: TensorEntry) => Number(/\d+/.exec(type)?.[0] ?? 8);
  return [...entries].sort((a, b) => width(b) - width(a));
}

/** Returns when the folder's entries are on disk. */
export function syncFolder(path: string): void {
  // Windows cannot open a folder.
  if (process.platform === 'win32') return;
  const folder = fs.openSync(path, 'r');
  try {
    fs.fsyncSync(folder);
  } finally {
    fs.closeSync(folder);
  }
}

/** Float32 arrays with their shapes, by name. */
export type Arrays = Readonly<Record<string, { shape: readonly number[]; values: Float32Array }>>;

/** Writes arrays that are in memory to one file, in one call. */
export function writeArrays(path: string, arrays: Arrays, type: FloatType, options: WriterOptions = {}): void {
  const entries = Object.entries(arrays).map(([name, { shape }]) => ({ name, type, shape }));
  const writer = new SafetensorsWriter(path, entries, options);
  for (const { name } of writer.tensors) writer.write(name, arrays[name].values);
  writer.finish();
}
