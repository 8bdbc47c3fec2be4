// TensorBoard event files: scalars and texts in the format that TensorBoard reads.
//
// A file is a series of TFRecords (length, masked CRC-32C of the length, bytes, masked CRC-32C of the bytes), each holding
// one `tensorflow.Event` protocol buffer (tensorflow/core/util/event.proto, framework/summary.proto).

import { closeSync, fsyncSync, ftruncateSync, mkdirSync, openSync, readdirSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { checkKeys, checkNumber, checkObject, typeError } from '../base/check.js';

export interface TensorBoardOptions {
  /** Start time of the file in seconds since 1970. Default: now. */
  wallTime?: number;
  /**
   * The first step that will be written, if a run was resumed: TensorBoard then drops this and later steps of earlier files in
   * the folder. Default: nothing is dropped.
   */
  step?: number;
}

/**
 * Appends to one event file of a folder. Every call passes its record to the operating system before it returns, so that a
 * killed process loses at most the record being written. Older files of the folder, whose last record may be incomplete,
 * are not changed: a resumed run opens a new file whose name sorts after them.
 */
export class TensorBoardWriter {
  readonly path: string;
  #file: number | undefined;
  /** Size of the complete records in bytes. */
  #length = 0;

  private constructor(path: string, file: number) {
    this.path = path;
    this.#file = file;
  }

  /**
   * A new event file in a folder, which is created if necessary.
   * @throws TypeError or RangeError for invalid options; the file system's errors.
   */
  static open(dir: string, options: TensorBoardOptions = {}): TensorBoardWriter {
    if (typeof dir !== 'string') throw typeError('dir', 'the path of a folder', dir);
    const o = checkObject('options', options);
    checkKeys('options', o, ['wallTime', 'step']);
    const wallTime = checkTime('options.wallTime', o.wallTime);
    if (o.step !== undefined) checkStep('options.step', o.step);
    mkdirSync(dir, { recursive: true });
    const [path, file] = createFile(dir, Math.floor(wallTime));
    const writer = new TensorBoardWriter(path, file);
    try {
      writer.#append(event(wallTime, 0, text(3, 'brain.Event:2')));
      if (o.step !== undefined) writer.#append(event(wallTime, o.step as number, message(7, varint(1, sessionStart))));
    } catch (error) {
      writer.close();
      throw error;
    }
    return writer;
  }

  /**
   * The values of one step, by tag. They are stored as float32; NaN and infinities are allowed.
   * @param wallTime seconds since 1970; default now
   */
  scalars(step: number, values: Readonly<Record<string, number>>, wallTime?: number): void {
    const summary = Object.entries(checkObject('values', values)).map(([tag, value]) => {
      if (typeof value !== 'number') throw typeError(`values.${tag}`, 'a number', value);
      return message(1, Buffer.concat([text(1, tag), float(2, value)]));
    });
    const time = checkTime('wallTime', wallTime);
    checkStep('step', step);
    if (summary.length > 0) this.#append(event(time, step, message(5, Buffer.concat(summary))));
  }

  /**
   * A text, which TensorBoard shows as Markdown.
   * @param wallTime seconds since 1970; default now
   */
  text(tag: string, step: number, content: string, wallTime?: number): void {
    if (typeof tag !== 'string') throw typeError('tag', 'a string', tag);
    if (typeof content !== 'string') throw typeError('content', 'a string', content);
    const time = checkTime('wallTime', wallTime);
    checkStep('step', step);
    const metadata = Buffer.concat([message(1, text(1, 'text')), varint(4, tensorData)]);
    const tensor = Buffer.concat([varint(1, stringType), message(2, Buffer.alloc(0)), text(8, content)]);
    const value = Buffer.concat([text(1, tag), message(9, metadata), message(8, tensor)]);
    this.#append(event(time, step, message(5, message(1, value))));
  }

  /** Waits until everything written has reached the disk. */
  flush(): void {
    fsyncSync(this.#open());
  }

  /** Closes the file. Closing again does nothing. */
  close(): void {
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
  }

  #open(): number {
    if (this.#file === undefined) throw new Error(`${this.path}: expected an open event file, got a closed one`);
    return this.#file;
  }

  /** Appends one record, or throws and leaves only complete records in the file (for example, on a full disk). */
  #append(data: Buffer): void {
    const file = this.#open();
    const bytes = record(data);
    try {
      for (let done = 0; done < bytes.length; ) {
        done += writeSync(file, bytes, done, bytes.length - done, this.#length + done);
      }
    } catch (error) {
      ftruncateSync(file, this.#length);
      throw error;
    }
    this.#length += bytes.length;
  }
}

/** `SessionLog.START`: makes TensorBoard drop this and later steps of earlier files. */
const sessionStart = 1;
/** `DT_STRING`. */
const stringType = 7;
/** `DATA_CLASS_TENSOR`. */
const tensorData = 2;

const fileName = /^events\.out\.tfevents\.(\d{1,15})\./;

/** Creates a file whose name sorts after all event files of the folder: TensorBoard reads them in that order. */
function createFile(dir: string, now: number): [path: string, file: number] {
  const times = readdirSync(dir).map((name) => Number(fileName.exec(name)?.[1] ?? 0));
  for (let time = times.reduce((latest, t) => Math.max(latest, t + 1), now); ; time++) {
    const path = join(dir, `events.out.tfevents.${String(time).padStart(10, '0')}.groupgrad`);
    try {
      return [path, openSync(path, 'wx')];
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
  }
}

function checkTime(field: string, value: unknown): number {
  return value === undefined ? Date.now() / 1000 : checkNumber(field, value, { min: 0, max: 2 ** 40 });
}

function checkStep(field: string, value: unknown): void {
  checkNumber(field, value, { min: 0, integer: true });
}

/** A TFRecord. */
function record(data: Buffer): Buffer {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(data.length));
  return Buffer.concat([length, maskedChecksum(length), data, maskedChecksum(data)]);
}

function maskedChecksum(data: Uint8Array): Buffer {
  const crc = crc32c(data);
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE((((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0);
  return bytes;
}

/** CRC-32C (Castagnoli), reflected: RFC 3720, appendix B.4. */
export function crc32c(data: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of data) crc = (crc >>> 8) ^ crcTable[(crc ^ byte) & 0xff];
  return ~crc >>> 0;
}

const crcTable = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  return crc;
});

// Protocol buffers: each field is its number and wire type, then its value. `Event` has wall_time in field 1 and the step in
// field 2; `what` is the encoded third field.

function event(wallTime: number, step: number, what: Buffer): Buffer {
  const time = Buffer.alloc(9);
  time[0] = (1 << 3) | 1;
  time.writeDoubleLE(wallTime, 1);
  return Buffer.concat([time, varint(2, step), what]);
}

function varint(field: number, value: number): Buffer {
  return Buffer.from([field << 3, ...base128(value)]);
}

function float(field: number, value: number): Buffer {
  const bytes = Buffer.alloc(5);
  bytes[0] = (field << 3) | 5;
  bytes.writeFloatLE(Math.fround(value), 1);
  return bytes;
}

function message(field: number, content: Buffer): Buffer {
  return Buffer.concat([Buffer.from([(field << 3) | 2, ...base128(content.length)]), content]);
}

function text(field: number, content: string): Buffer {
  return message(field, Buffer.from(content));
}

/** An integer of up to 53 bits as a varint: seven bits per byte, the lowest first. */
function base128(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128);
  return [...bytes, rest];
}
