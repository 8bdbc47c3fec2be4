// Reads TensorBoard event files, strictly and independently of the code that writes them.

import { readFileSync } from 'node:fs';

export interface Event {
  wallTime: number;
  step: number;
  version?: string;
  /** Scalars and texts, by tag. */
  values: Record<string, number | string>;
  /** `SessionLog.status`. */
  session?: number;
}

/** All complete records of a file, and the number of bytes after the last of them. */
export function readEvents(path: string): { events: Event[]; torn: number } {
  const bytes = readFileSync(path);
  const events: Event[] = [];
  let at = 0;
  while (at + 12 <= bytes.length) {
    const length = Number(bytes.readBigUInt64LE(at));
    if (unmask(bytes.readUInt32LE(at + 8)) !== crc(bytes.subarray(at, at + 8))) throw new Error(`length at ${at}`);
    if (at + 16 + length > bytes.length) break;
    const data = bytes.subarray(at + 12, at + 12 + length);
    if (unmask(bytes.readUInt32LE(at + 12 + length)) !== crc(data)) throw new Error(`data at ${at}`);
    events.push(readEvent(data));
    at += 16 + length;
  }
  return { events, torn: bytes.length - at };
}

function unmask(masked: number): number {
  const rotated = (masked - 0xa282ead8) >>> 0;
  return ((rotated >>> 17) | (rotated << 15)) >>> 0;
}

/** CRC-32C by polynomial division, one bit at a time. */
function crc(data: Uint8Array): number {
  let remainder = 0xffffffff;
  for (const byte of data) {
    remainder ^= byte;
    for (let bit = 0; bit < 8; bit++) remainder = remainder & 1 ? (remainder >>> 1) ^ 0x82f63b78 : remainder >>> 1;
  }
  return ~remainder >>> 0;
}

type Field = { number: number; value: number | Buffer };

/** The fields of a protocol buffer in order: varints and fixed-size numbers as numbers of their wire type, the rest as bytes. */
function* fields(data: Buffer): Generator<Field & { wire: number }> {
  let at = 0;
  const varint = () => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = data[at++];
      if (byte === undefined) throw new Error('a varint without an end');
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return Number(value);
    }
  };
  while (at < data.length) {
    const key = varint();
    const [number, wire] = [key >>> 3, key & 7];
    if (wire === 0) yield { number, wire, value: varint() };
    else {
      const length = wire === 1 ? 8 : wire === 5 ? 4 : wire === 2 ? varint() : Number.NaN;
      if (!(at + length <= data.length)) throw new Error(`field ${number} of wire type ${wire} does not fit`);
      yield { number, wire, value: data.subarray(at, at + length) };
      at += length;
    }
  }
}

function readEvent(data: Buffer): Event {
  const event: Event = { wallTime: 0, step: 0, values: {} };
  for (const { number, value } of fields(data)) {
    if (number === 1) event.wallTime = (value as Buffer).readDoubleLE();
    else if (number === 2) event.step = value as number;
    else if (number === 3) event.version = String(value);
    else if (number === 5) Object.assign(event.values, readSummary(value as Buffer));
    else if (number === 7) event.session = readNumber(value as Buffer, 1);
    else throw new Error(`unknown field ${number} of an event`);
  }
  return event;
}

function readNumber(data: Buffer, wanted: number): number {
  return [...fields(data)].find(({ number }) => number === wanted)!.value as number;
}

function readSummary(data: Buffer): Record<string, number | string> {
  const values: Record<string, number | string> = {};
  for (const { value } of fields(data)) {
    let tag = '';
    for (const field of fields(value as Buffer)) {
      if (field.number === 1) tag = String(field.value);
      else if (field.number === 2) values[tag] = (field.value as Buffer).readFloatLE();
      else if (field.number === 8) {
        values[tag] = [...fields(field.value as Buffer)]
          .filter(({ number }) => number === 8)
          .map(({ value: v }) => String(v))[0];
      }
    }
  }
  return values;
}
