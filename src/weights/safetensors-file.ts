// Reads a safetensors file piece by piece. Opening reads only the header; a tensor's values are read on demand, whole or in
// parts, so a file of any size can be processed in little memory. Reads are synchronous: to avoid blocking the event loop, read
// in pieces and yield between them.

import fs from 'node:fs';
import { rangeError } from '../base/check.js';
import { bytesPerFloat, decodeBfloat16, decodeFloats, type FloatType, floatTypes } from './floats.js';
import { maxHeaderBytes, parseHeader, quoted, type TensorInfo } from './header.js';

/** Bytes per read. Node reads at most 2 GiB per call. */
const readBytes = 16 * 2 ** 20;

/** A part of a tensor's values, in row-major order. */
export interface Part {
  /** Index of the first value. Default 0. */
  start?: number;
  /** Number of values. Default: up to the end. */
  count?: number;
}

/** Some of a tensor's values, from the one with this index on. */
export interface FloatPiece {
  start: number;
  values: Float32Array;
}

/** An open safetensors file. Holds a file descriptor until `close`. */
export class SafetensorsFile {
  /** By name, in the order of the header. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: ReadonlyMap<string, string>;
  private readonly dataStart: number;
  private descriptor: number | undefined;

  /**
   * Opens a file and checks its header.
   *
   * @throws RangeError, naming the file, if it is not a safetensors file, is truncated, or violates the format; the system's
   *   error if it cannot be opened
   *
   * @example
   * using file = new SafetensorsFile('model.safetensors');
   * const { shape } = file.tensor('model.norm.weight');
   * const values = file.readFloats('model.norm.weight');
   */
  constructor(readonly path: string) {
    const descriptor = fs.openSync(path, 'r');
    try {
      const size = fs.fstatSync(descriptor).size;
      if (size < 8) throw rangeError(path, 'a safetensors file', `${size} bytes`);
      const length = readAt(descriptor, path, 0, Buffer.alloc(8)).readBigUInt64LE();
      if (length > maxHeaderBytes)
        throw rangeError(path, `a header of at most ${maxHeaderBytes} bytes`, String(length));
      this.dataStart = 8 + Number(length);
      if (this.dataStart > size) {
        throw rangeError(path, `a header of ${length} bytes`, `a file of ${size} bytes (is it truncated?)`);
      }
      const json = readAt(descriptor, path, 8, Buffer.allocUnsafe(Number(length)));
      const header = parseHeader(json, path, size - this.dataStart);
      this.tensors = header.tensors;
      this.metadata = header.metadata;
    } catch (error) {
      fs.closeSync(descriptor);
      throw error;
    }
    this.descriptor = descriptor;
  }

  /** RangeError if the file has no tensor of that name. */
  tensor(name: string): TensorInfo {
    const tensor = this.tensors.get(name);
    if (!tensor) throw rangeError(this.path, `a tensor ${quoted(name)}`, 'none of that name');
    return tensor;
  }

  /**
   * Values of a tensor as float32: exact for F32, BF16 and F16.
   *
   * @param part which values; default: all
   * @param into where to write them, of the part's length; default: a new array
   * @throws RangeError for another type of values, and for a part outside the tensor
   */
  readFloats(name: string, part: Part = {}, into?: Float32Array): Float32Array {
    const tensor = this.tensor(name);
    const type = floatType(this.path, tensor);
    const { start, count } = checkPart(`${this.path}, ${quoted(name)}`, tensor, part);
    const values = into ?? new Float32Array(count);
    if (values.length !== count) throw rangeError('into', `${count} values`, String(values.length));
    this.readPieces(tensor, type, { start, count }, (bytes, from, to) => {
      decodeFloats(type, bytes, values.subarray(from, to));
    });
    return values;
  }

  /**
   * A tensor's values as the bits of bfloat16, without a float32 copy of them all: exact for BF16; F32 and F16 are rounded to
   * nearest, ties to even. RangeError for another type of values.
   */
  readBfloat16(name: string): Uint16Array {
    const tensor = this.tensor(name);
    const type = floatType(this.path, tensor);
    const values = new Uint16Array(tensor.count);
    this.readPieces(tensor, type, { start: 0, count: tensor.count }, (bytes, from, to) => {
      decodeBfloat16(type, bytes, values.subarray(from, to));
    });
    return values;
  }

  /** The parts of a tensor one after another, for passes that never hold it whole. The array is reused for each. */
  *floatPieces(name: string, pieceLength = readBytes / 4): Generator<FloatPiece> {
    if (!Number.isSafeInteger(pieceLength) || pieceLength < 1) {
      throw rangeError('pieceLength', 'an integer at least 1', String(pieceLength));
    }
    const { count } = this.tensor(name);
    const buffer = new Float32Array(Math.min(pieceLength, count));
    for (let start = 0; start < count; start += pieceLength) {
      const own = buffer.subarray(0, Math.min(pieceLength, count - start));
      yield { start, values: this.readFloats(name, { start, count: own.length }, own) };
    }
  }

  /** A tensor's bytes as in the file, for copies: pieces of at most `pieceBytes`, each in separate memory.
   */
  *bytePieces(name: string, pieceBytes = readBytes): Generator<Uint8Array> {
    const { start, end } = this.tensor(name);
    for (let at = start; at < end; at += pieceBytes) {
      yield this.readRaw(at, Buffer.allocUnsafeSlow(Math.min(pieceBytes, end - at)));
    }
  }

  /** Closes the file. Reading from it afterwards is an error; closing it again is not. */
  close(): void {
    if (this.descriptor !== undefined) fs.closeSync(this.descriptor);
    this.descriptor = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** The bytes of `count` values from `start` on, in pieces, with the places in the part that each one fills. */
  private readPieces(
    tensor: TensorInfo,
    type: FloatType,
    { start, count }: Required<Part>,
    use: (bytes: Buffer, from: number, to: number) => void,
  ): void {
    const width = bytesPerFloat[type];
    const step = readBytes / width;
    const buffer = Buffer.allocUnsafe(Math.min(count, step) * width);
    for (let done = 0; done < count; done += step) {
      const own = Math.min(step, count - done);
      use(this.readRaw(tensor.start + (start + done) * width, buffer.subarray(0, own * width)), done, done + own);
    }
  }

  private readRaw(start: number, into: Buffer): Buffer {
    if (this.descriptor === undefined) throw new Error(`${this.path}: expected an open file, got one that was closed`);
    return readAt(this.descriptor, this.path, this.dataStart + start, into);
  }
}

function floatType(path: string, { name, type }: TensorInfo): FloatType {
  const found = floatTypes.find((known) => known === type);
  if (!found) throw rangeError(`${path}, ${quoted(name)}, dtype`, `one of ${floatTypes.join(', ')}`, type);
  return found;
}

function checkPart(field: string, tensor: TensorInfo, { start = 0, count = tensor.count - start }: Part) {
  const isWithin =
    Number.isSafeInteger(start) &&
    Number.isSafeInteger(count) &&
    start >= 0 &&
    count >= 0 &&
    start + count <= tensor.count;
  if (!isWithin) throw rangeError(field, `a part of its ${tensor.count} values`, `${count} values from ${start}`);
  return { start, count };
}

/** Fills the buffer. RangeError if the file ends early, although it was complete when it was opened. */
function readAt(descriptor: number, path: string, position: number, into: Buffer): Buffer {
  let done = 0;
  while (done < into.length) {
    const length = Math.min(readBytes, into.length - done);
    const got = fs.readSync(descriptor, into, done, length, position + done);
    if (got === 0) throw rangeError(path, `${into.length} bytes at ${position}`, `${done} (the file was cut short)`);
    done += got;
  }
  return into;
}
