// The header of a safetensors file (https://github.com/huggingface/safetensors#format): eight bytes with the length of a
// JSON object, then the object, which gives each tensor's type, shape and position in the bytes that follow.

import { describe, rangeError } from '../base/check.js';
import { type Json, parseJson } from '../base/json.js';

/** Bits per value of the format's types. */
const bitsPerValue = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
} as const;

/** A value type by its name in the format. */
export type DataType = keyof typeof bitsPerValue;

export interface TensorInfo {
  readonly name: string;
  readonly type: DataType;
  readonly shape: readonly number[];
  /** Number of values: the product of the shape. */
  readonly count: number;
  /** Position in the bytes after the header. */
  readonly start: number;
  readonly end: number;
}

/** The description of a tensor to be written. */
export type TensorEntry = Pick<TensorInfo, 'name' | 'type' | 'shape'>;

export interface Header {
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: ReadonlyMap<string, string>;
}

/** A name for errors, shortened, because tensor names are long. */
export function quoted(name: unknown): string {
  return typeof name === 'string' ? JSON.stringify(name.slice(0, 200)) : describe(name);
}

/** The format's limit on a header: a larger one is an attack or not such a file. */
export const maxHeaderBytes = 100_000_000;

const metadataKey = '__metadata__';

/**
 * Number of values and bytes of a tensor.
 *
 * @throws RangeError if the shape does not consist of whole numbers from 0, is too large to count, or does not fill whole bytes
 */
export function sizeOf(field: string, type: DataType, shape: readonly number[]): { count: number; bytes: number } {
  if (!shape.every((size) => Number.isSafeInteger(size) && size >= 0)) {
    throw rangeError(`${field}, shape`, 'integers at least 0', `[${shape.map(String).join(', ')}]`);
  }
  const count = shape.includes(0) ? 0 : shape.reduce((a, b) => a * b, 1);
  const bits = count * bitsPerValue[type];
  if (!Number.isSafeInteger(bits)) {
    throw rangeError(`${field}, shape`, 'fewer than 2^53 bits', `[${shape.join(', ')}]`);
  }
  if (bits % 8 !== 0) throw rangeError(`${field}, shape`, 'a whole number of bytes', `${bits} bits`);
  return { count, bytes: bits / 8 };
}

/**
 * Checks and reads a header.
 *
 * @param name the file's name in errors
 * @param dataBytes number of bytes after the header in the file
 * @throws RangeError if the header is not JSON, violates the format, or disagrees with the size of the file: tensors must fill
 *   the bytes after the header without gap or overlap
 */
export function parseHeader(json: Uint8Array, name: string, dataBytes: number): Header {
  const header = parseObject(json, name);
  const metadata = new Map<string, string>();
  const tensors = new Map<string, TensorInfo>();
  for (const [key, value] of Object.entries(header)) {
    if (key === metadataKey) readMetadata(value, name, metadata);
    else tensors.set(key, readTensor(key, value, `${name}, ${quoted(key)}`));
  }
  checkPlaces([...tensors.values()], name, dataBytes);
  return { tensors, metadata };
}

function parseObject(json: Uint8Array, name: string): { [key: string]: Json } {
  if (json[0] !== 0x7b) throw rangeError(name, 'a safetensors header that begins with {', describeStart(json));
  let header: Json;
  try {
    header = parseJson(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(json));
  } catch (error) {
    throw rangeError(name, 'a header in JSON', (error as Error).message);
  }
  return header as { [key: string]: Json };
}

function describeStart(json: Uint8Array): string {
  return json.length === 0 ? 'an empty header' : `the byte ${json[0]}`;
}

function readMetadata(value: Json, name: string, into: Map<string, string>): void {
  if (!isObject(value)) throw rangeError(`${name}, ${metadataKey}`, 'an object', describe(value));
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== 'string') throw rangeError(`${name}, ${metadataKey}, ${key}`, 'a string', describe(text));
    into.set(key, text);
  }
}

function readTensor(name: string, value: Json, field: string): TensorInfo {
  if (!isObject(value)) throw rangeError(field, 'an object', describe(value));
  const { dtype, shape, data_offsets: offsets, ...others } = value;
  const [other] = Object.keys(others);
  if (other !== undefined) throw rangeError(field, 'only dtype, shape and data_offsets', `the key ${describe(other)}`);
  if (typeof dtype !== 'string' || !Object.hasOwn(bitsPerValue, dtype)) {
    throw rangeError(`${field}, dtype`, `one of ${Object.keys(bitsPerValue).join(', ')}`, describe(dtype));
  }
  const type = dtype as DataType;
  if (!isNumbers(shape)) throw rangeError(`${field}, shape`, 'an array of numbers', describe(shape));
  if (!isNumbers(offsets) || offsets.length !== 2 || !offsets.every(Number.isSafeInteger)) {
    throw rangeError(`${field}, data_offsets`, 'two integers', describe(offsets));
  }
  const [start, end] = offsets;
  const { count, bytes } = sizeOf(field, type, shape);
  if (end - start !== bytes) {
    throw rangeError(
      `${field}, data_offsets`,
      `${bytes} bytes for ${type} [${shape.join(', ')}]`,
      `${start} to ${end}`,
    );
  }
  return { name, type, shape, count, start, end };
}

/** The format allows no holes: bytes that no tensor owns could hide another file. */
function checkPlaces(tensors: TensorInfo[], name: string, dataBytes: number): void {
  tensors.sort((a, b) => a.start - b.start || a.end - b.end);
  let at = 0;
  for (const tensor of tensors) {
    if (tensor.start !== at) {
      const what = tensor.start < at ? 'an overlap' : 'a gap';
      throw rangeError(`${name}, ${quoted(tensor.name)}, data_offsets`, `a start at ${at}`, `${what}: ${tensor.start}`);
    }
    at = tensor.end;
    if (at > dataBytes) {
      const expected = `an end within the ${dataBytes} bytes after the header`;
      throw rangeError(`${name}, ${quoted(tensor.name)}, data_offsets`, expected, `${at} (is the file truncated?)`);
    }
  }
  if (at !== dataBytes) throw rangeError(name, `${at} bytes after the header`, String(dataBytes));
}

function isObject(value: Json): value is { [key: string]: Json } {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isNumbers(value: Json | undefined): value is number[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'number');
}

/** Data begins at a multiple of this, so that a memory-mapped file has aligned tensors. */
const alignment = 8;

/** The first bytes of a file, and the position of each tensor: in the order of the entries, without gaps. */
export function encodeHeader(
  entries: readonly TensorEntry[],
  metadata: Readonly<Record<string, string>>,
): { bytes: Uint8Array; tensors: TensorInfo[] } {
  const lines: string[] = [];
  if (Object.keys(metadata).length > 0) lines.push(`${JSON.stringify(metadataKey)}:${JSON.stringify(metadata)}`);
  const seen = new Set<string>([metadataKey]);
  let at = 0;
  const tensors = entries.map(({ name, type, shape }) => {
    if (seen.has(name)) throw rangeError(`tensor ${quoted(name)}`, 'a unique name', 'one already in use');
    seen.add(name);
    const { count, bytes } = sizeOf(`tensor ${quoted(name)}`, type, shape);
    const info: TensorInfo = { name, type, shape: [...shape], count, start: at, end: at + bytes };
    at = info.end;
    const value = JSON.stringify({ dtype: type, shape, data_offsets: [info.start, info.end] });
    lines.push(`${JSON.stringify(name)}:${value}`);
    return info;
  });
  const json = Buffer.from(`{${lines.join(',')}}`);
  const padded = Math.ceil(json.length / alignment) * alignment;
  if (padded > maxHeaderBytes) throw rangeError('header', `at most ${maxHeaderBytes} bytes`, String(padded));
  const bytes = Buffer.alloc(8 + padded, ' ');
  bytes.writeBigUInt64LE(BigInt(padded), 0);
  json.copy(bytes, 8);
  return { bytes, tensors };
}
