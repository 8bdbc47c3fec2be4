// Weights in the safetensors format, version 0.x (https://github.com/huggingface/safetensors#format): eight bytes with the
// length of a JSON header, the header, the arrays one after another. Float32 only: nothing else is written here.

import { endianness } from 'node:os';
import { rangeError } from '../base/check.js';

/** Float32 arrays with their shapes, by name. */
export type Arrays = Record<string, { shape: readonly number[]; values: Float32Array }>;

interface Entry {
  dtype: string;
  shape: number[];
  data_offsets: [start: number, end: number];
}

/** The header is padded with spaces to a multiple of this, so that the arrays are aligned. */
const alignment = 8;

/** A file's bytes, in order of the names given. */
export function encodeSafetensors(arrays: Arrays, metadata: Record<string, string> = {}): Uint8Array {
  const header: Record<string, unknown> = Object.keys(metadata).length > 0 ? { __metadata__: metadata } : {};
  let offset = 0;
  for (const [name, { shape, values }] of Object.entries(arrays)) {
    const end = offset + values.byteLength;
    header[name] = { dtype: 'F32', shape: [...shape], data_offsets: [offset, end] } satisfies Entry;
    offset = end;
  }
  const json = Buffer.from(JSON.stringify(header));
  const padded = Math.ceil(json.length / alignment) * alignment;
  const file = Buffer.alloc(8 + padded + offset, ' ');
  file.writeBigUInt64LE(BigInt(padded), 0);
  json.copy(file, 8);
  let at = 8 + padded;
  for (const { values } of Object.values(arrays)) {
    const own = file.subarray(at, at + values.byteLength);
    own.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    toLittleEndian(own);
    at += values.byteLength;
  }
  return file;
}

/** The arrays of a file. RangeError, naming the file, where it is not such a file or holds another type. */
export function decodeSafetensors(file: Uint8Array, name: string): Arrays {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const length = file.byteLength >= 8 ? Number(view.getBigUint64(0, true)) : Number.NaN;
  if (!(length <= file.byteLength - 8)) throw rangeError(name, 'a safetensors file', `${file.byteLength} other bytes`);
  const header = parseHeader(Buffer.from(file.buffer, file.byteOffset + 8, length).toString(), name);
  const data = 8 + length;
  const entries = Object.entries(header).filter(([entry]) => entry !== '__metadata__');
  return Object.fromEntries(
    entries.map(([entry, { dtype, shape, data_offsets }]) => {
      if (dtype !== 'F32') throw rangeError(`${name}, ${entry}`, 'type F32', String(dtype));
      const [start, end] = data_offsets;
      const count = shape.reduce((a, b) => a * b, 1);
      if (end - start !== 4 * count || start < 0 || data + end > file.byteLength) {
        throw rangeError(`${name}, ${entry}`, `${4 * count} bytes within the file`, `bytes ${start} to ${end}`);
      }
      const own = Buffer.from(file.buffer, file.byteOffset + data + start, 4 * count);
      const values = new Float32Array(count);
      const bytes = Buffer.from(values.buffer);
      own.copy(bytes);
      toLittleEndian(bytes);
      return [entry, { shape, values }];
    }),
  );
}

function parseHeader(json: string, name: string): Record<string, Entry> {
  try {
    return JSON.parse(json) as Record<string, Entry>;
  } catch (error) {
    throw rangeError(name, 'a JSON header', (error as Error).message);
  }
}

/** From or to this machine's order of bytes. */
function toLittleEndian(floats: Buffer): void {
  if (endianness() === 'BE') floats.swap32();
}
