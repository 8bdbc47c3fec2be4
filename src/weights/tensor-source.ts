// Float32 tensors of which only one at a time is in memory: read from a file or about to be written to one.

import { encodeFloats, type FloatType } from './floats.js';
import { encodeHeader } from './header.js';
import { SafetensorsFile } from './safetensors-file.js';

/** Tensors by name. */
export interface TensorSource {
  readonly shapes: Readonly<Record<string, readonly number[]>>;
  /** Row-major values, valid until the next call. */
  read(name: string): Float32Array;
}

/** The tensors of a safetensors file, which is open only while it is read. */
export function fileTensors(path: string): TensorSource {
  const opened = <T>(use: (file: SafetensorsFile) => T): T => {
    const file = new SafetensorsFile(path);
    try {
      return use(file);
    } finally {
      file.close();
    }
  };
  return {
    shapes: opened(({ tensors }) => Object.fromEntries([...tensors.values()].map(({ name, shape }) => [name, shape]))),
    read: (name) => opened((file) => file.readFloats(name)),
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
