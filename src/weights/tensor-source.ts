// Float32 tensors of which one at a time is in memory: from a file, or on their way to one.

import { encodeFloats, type FloatType } from './floats.js';
import { encodeHeader } from './header.js';
import { SafetensorsFile } from './safetensors-file.js';

/** Tensors by name. */
export interface TensorSource {
  readonly shapes: Readonly<Record<string, readonly number[]>>;
  /** Row-major values, which the caller may read until the next call. */
  read(name: string): Float32Array;
}

/** The tensors of a safetensors file. It is open only while it is read. */
export function fileTensors(path: string): TensorSource {
  using file = new SafetensorsFile(path);
  const shapes = Object.fromEntries([...file.tensors.values()].map(({ name, shape }) => [name, shape]));
  return {
    shapes,
    read: (name) => {
      using opened = new SafetensorsFile(path);
      return opened.readFloats(name);
    },
  };
}

/** Values converted at a time. */
const pieceLength = 4 * 2 ** 20;

/** The bytes of a safetensors file that holds tensors as `type`, piece by piece, in the source's order. */
export function* safetensorsPieces(
  source: TensorSource,
  { metadata = {}, type = 'F32' }: { metadata?: Readonly<Record<string, string>>; type?: FloatType } = {},
): Generator<Uint8Array> {
  const entries = Object.entries(source.shapes).map(([name, shape]) => ({ name, type, shape }));
  yield encodeHeader(entries, metadata).bytes;
  for (const { name } of entries) {
    const values = source.read(name);
    for (let at = 0; at < values.length; at += pieceLength) {
      yield encodeFloats(type, values.subarray(at, at + pieceLength));
    }
  }
}
