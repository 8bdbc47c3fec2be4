// The header of a GGUF 3 file, the format of llama.cpp: metadata and the places of the tensors
// (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).

/** An integer below 2^32, a float32 (an array of one), a text, or texts. */
export type GgufValue = number | Float32Array | string | readonly string[];

export interface GgufTensor {
  name: string;
  /** Outermost dimension first. */
  shape: readonly number[];
  type: keyof typeof types;
}

/** ggml's numbers of types, and bytes per value. */
const types = { F32: { id: 0, bytes: 4 }, BF16: { id: 30, bytes: 2 } } as const;

/** The format's numbers of the types of metadata. */
const kinds = { uint32: 4, float32: 6, string: 8, array: 9 } as const;

/** Of each tensor's place in the file. */
const alignment = 32;

/** The bytes before the tensors, and the offset of each tensor from their end. */
export function encodeGguf(
  metadata: Readonly<Record<string, GgufValue>>,
  tensors: readonly GgufTensor[],
): { bytes: Uint8Array; offsets: number[] } {
  const parts: Buffer[] = [];
  const uint32 = (value: number) => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value);
    parts.push(bytes);
  };
  const uint64 = (value: number) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt(value));
    parts.push(bytes);
  };
  const string = (text: string) => {
    const bytes = Buffer.from(text);
    uint64(bytes.length);
    parts.push(bytes);
  };

  parts.push(Buffer.from('GGUF'));
  uint32(3);
  uint64(tensors.length);
  uint64(Object.keys(metadata).length);
  for (const [key, value] of Object.entries(metadata)) {
    string(key);
    if (typeof value === 'number') {
      uint32(kinds.uint32);
      uint32(value);
    } else if (typeof value === 'string') {
      uint32(kinds.string);
      string(value);
    } else if (value instanceof Float32Array) {
      const bytes = Buffer.alloc(4);
      bytes.writeFloatLE(value[0]);
      uint32(kinds.float32);
      parts.push(bytes);
    } else {
      uint32(kinds.array);
      uint32(kinds.string);
      uint64(value.length);
      value.forEach(string);
    }
  }
  let end = 0;
  const offsets = tensors.map(({ shape, type }) => {
    const offset = aligned(end);
    end = offset + shape.reduce((a, b) => a * b, 1) * types[type].bytes;
    return offset;
  });
  tensors.forEach(({ name, shape, type }, i) => {
    string(name);
    uint32(shape.length);
    [...shape].reverse().forEach(uint64);
    uint32(types[type].id);
    uint64(offsets[i]);
  });
  const bytes = Buffer.concat(parts);
  return { bytes: Buffer.concat([bytes, Buffer.alloc(aligned(bytes.length) - bytes.length)]), offsets };
}

function aligned(offset: number): number {
  return Math.ceil(offset / alignment) * alignment;
}
