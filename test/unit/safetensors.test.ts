// Safetensors files, streamed both ways: files are read back bit for bit, and invalid ones are rejected.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import fc from 'fast-check';
import { decodeFloats, encodeFloats, type FloatType } from '../../src/weights/floats.js';
import { ModelFiles, ModelFilesWriter } from '../../src/weights/model-files.js';
import { SafetensorsFile } from '../../src/weights/safetensors-file.js';
import { SafetensorsWriter, writeArrays } from '../../src/weights/safetensors-writer.js';
import { temporaryFolder } from '../support/trainer.js';

/** A file with a given header and a number of bytes after it. */
function craft(path: string, header: string | Uint8Array, dataBytes: number, length?: bigint): string {
  const json = Buffer.from(header);
  const start = Buffer.alloc(8);
  start.writeBigUInt64LE(length ?? BigInt(json.length));
  fs.writeFileSync(path, Buffer.concat([start, json, Buffer.alloc(dataBytes)]));
  return path;
}

function headerOf(tensors: Record<string, unknown>): string {
  return JSON.stringify(tensors);
}

function floatsOf(bits: readonly number[]): Float32Array {
  return new Float32Array(Uint32Array.from(bits).buffer);
}

function bitsOf(values: Float32Array): number[] {
  return [...new Uint32Array(values.buffer, values.byteOffset, values.length)];
}

test('every 16-bit pattern is read and written unchanged', () => {
  for (const type of ['BF16', 'F16'] as const) {
    const halves = Uint16Array.from({ length: 65536 }, (_, i) => i);
    const values = new Float32Array(65536);
    decodeFloats(type, new Uint8Array(halves.slice().buffer), values);
    const back = encodeFloats(type, values);
    assert.deepEqual(new Uint16Array(back.buffer, back.byteOffset, 65536), halves, type);
    assert.equal(values[type === 'BF16' ? 0x3f80 : 0x3c00], 1);
    assert.equal(values[type === 'BF16' ? 0xff80 : 0xfc00], -Infinity);
  }
});

test('half-precision values follow IEEE 754: values of each exponent', () => {
  const values = new Float32Array(65536);
  decodeFloats('F16', new Uint8Array(Uint16Array.from({ length: 65536 }, (_, i) => i).buffer), values);
  for (let half = 0; half < 0x7c00; half++) {
    const exponent = half >> 10;
    const fraction = half & 1023;
    const expected = exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25);
    assert.equal(values[half], expected);
    assert.equal(values[half | 0x8000], -expected);
  }
});

/** The nearest value of a type, ties to the even pattern: rounding by search. */
function nearest(value: number, table: Float32Array): number {
  const magnitude = Math.abs(value);
  let low = 0;
  let high = table.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (table[middle] <= magnitude) low = middle;
    else high = middle;
  }
  const [below, above] = [magnitude - table[low], table[high] - magnitude];
  const pattern = below < above || (below === above && low % 2 === 0) ? low : high;
  return pattern | (value < 0 || Object.is(value, -0) ? 0x8000 : 0);
}

test('float32 is rounded to the nearest value of a type, ties to even', () => {
  for (const [type, infinity] of [
    ['F16', 0x7c00],
    ['BF16', 0x7f80],
  ] as const) {
    const patterns = Uint16Array.from({ length: infinity + 1 }, (_, i) => i);
    const table = new Float32Array(infinity + 1);
    decodeFloats(type, new Uint8Array(patterns.buffer), table);
    // Infinity is at the position of the next value.
    const finite = Float64Array.from(table) as unknown as Float32Array;
    finite[infinity] = 2 * table[infinity - 1] - table[infinity - 2];
    const check = (bits: number) => {
      const [value] = floatsOf([bits]);
      if (Number.isNaN(value)) return;
      const [low, high] = encodeFloats(type, floatsOf([bits]));
      const expected =
        Math.abs(value) >= finite[infinity] ? infinity | (value < 0 ? 0x8000 : 0) : nearest(value, finite);
      assert.equal(low | (high << 8), expected, `${type} of ${value}`);
    };
    fc.assert(fc.property(fc.integer({ min: 0, max: 2 ** 32 - 1 }), check), { numRuns: 3000 });
    // Ties, and one float32 on each side.
    for (let pattern = 0; pattern < infinity; pattern += 37) {
      const tie = Math.fround((finite[pattern] + finite[pattern + 1]) / 2);
      const [bits] = bitsOf(Float32Array.of(tie));
      for (const near of [bits - 1, bits, bits + 1]) if (near >= 0) check(near);
    }
  }
});

test('a NaN stays a NaN in every type', () => {
  for (const type of ['F32', 'BF16', 'F16'] as const) {
    for (const bits of [0x7fc00000, 0x7f800001, 0xff801234, 0x7fffffff, 0x7f8fffff]) {
      const back = new Float32Array(1);
      decodeFloats(type, encodeFloats(type, floatsOf([bits])).slice(), back);
      assert.ok(Number.isNaN(back[0]), `${type} of ${bits.toString(16)}`);
    }
  }
});

test('tensors are read as they were written, whole and in parts', (t) => {
  const folder = temporaryFolder(t);
  const names = fc.uniqueArray(fc.string({ maxLength: 12 }), { maxLength: 6 });
  const shapes = fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 3 });
  const types = fc.constantFrom<FloatType>('F32', 'BF16', 'F16');
  const files = names.chain((given) =>
    fc.tuple(...given.map((name) => fc.record({ name: fc.constant(name), shape: shapes, type: types }))),
  );
  fc.assert(
    fc.property(files, fc.infiniteStream(fc.integer({ min: 0, max: 65535 })), (entries, stream) => {
      const path = join(folder, 'any.safetensors');
      const own = entries.filter(({ name }) => name !== '__metadata__');
      const bits = new Map(
        own.map(({ name, type, shape }) => {
          const count = shape.reduce((a, b) => a * b, 1);
          const halves = Uint16Array.from({ length: count }, () => stream.next().value);
          const values = new Float32Array(count);
          decodeFloats(type === 'F16' ? 'F16' : 'BF16', new Uint8Array(halves.buffer), values);
          return [name, values];
        }),
      );
      const writer = new SafetensorsWriter(path, own, { metadata: { format: 'pt' } });
      for (const { name, count } of writer.tensors) {
        const cut = Math.floor(count / 3);
        writer.write(name, bits.get(name)!.subarray(0, cut));
        writer.write(name, bits.get(name)!.subarray(cut));
      }
      writer.finish();
      using file = new SafetensorsFile(path);
      assert.deepEqual([...file.tensors.keys()].sort(), own.map(({ name }) => name).sort());
      assert.equal(file.metadata.get('format'), 'pt');
      for (const { name, type, shape } of own) {
        const info = file.tensor(name);
        assert.deepEqual([info.type, info.shape], [type, shape]);
        assert.equal(info.start % (type === 'F32' ? 4 : 2), 0);
        assert.deepEqual(bitsOf(file.readFloats(name)), bitsOf(bits.get(name)!));
        const pieces: number[] = [];
        for (const { values } of file.floatPieces(name, 2)) pieces.push(...bitsOf(values));
        assert.deepEqual(pieces, bitsOf(bits.get(name)!));
        if (info.count > 1) {
          assert.deepEqual(bitsOf(file.readFloats(name, { start: 1, count: 1 })), bitsOf(bits.get(name)!).slice(1, 2));
        }
        const bytes = Buffer.concat([...file.bytePieces(name, 3)]);
        assert.equal(bytes.length, info.end - info.start);
      }
    }),
    { numRuns: 60 },
  );
  assert.deepEqual(fs.readdirSync(folder), ['any.safetensors']);
});

test('tensors of wide types come first, so that each is aligned for its values', (t) => {
  const path = join(temporaryFolder(t), 'mixed.safetensors');
  const writer = new SafetensorsWriter(path, [
    { name: 'half', type: 'BF16', shape: [3] },
    { name: 'ids', type: 'I64', shape: [1] },
    { name: 'flags', type: 'BOOL', shape: [1] },
    { name: 'single', type: 'F32', shape: [1] },
  ]);
  assert.deepEqual(
    writer.tensors.map(({ name }) => name),
    ['ids', 'single', 'half', 'flags'],
  );
  for (const { name, end, start } of writer.tensors) writer.writeBytes(name, new Uint8Array(end - start).fill(7));
  writer.finish();
  using file = new SafetensorsFile(path);
  assert.throws(() => file.readFloats('ids'), /"ids", dtype: expected one of F32, BF16, F16, got I64/);
  assert.deepEqual([...file.bytePieces('ids')].map(Buffer.from), [Buffer.alloc(8, 7)]);
});

test('a file beyond 4 GiB is read at its end', (t) => {
  const path = join(temporaryFolder(t), 'large.safetensors');
  const count = 2 ** 30 + 3;
  const header = headerOf({
    large: { dtype: 'F32', shape: [count], data_offsets: [0, 4 * count] },
    last: { dtype: 'BF16', shape: [2], data_offsets: [4 * count, 4 * count + 4] },
  });
  craft(path, header, 0);
  const dataStart = 8 + header.length;
  // Sparse: unwritten parts take no space.
  fs.truncateSync(path, dataStart + 4 * count + 4);
  const file = fs.openSync(path, 'r+');
  fs.writeSync(file, Buffer.from(Float32Array.of(5, 7).buffer), 0, 8, dataStart + 4 * (count - 2));
  fs.writeSync(file, Buffer.from(Uint16Array.of(0x3f80, 0xc000).buffer), 0, 4, dataStart + 4 * count);
  fs.closeSync(file);
  using opened = new SafetensorsFile(path);
  assert.deepEqual([...opened.readFloats('large', { start: count - 3 })], [0, 5, 7]);
  assert.deepEqual([...opened.readFloats('last')], [1, -2]);
});

const one = { dtype: 'F32', shape: [1], data_offsets: [0, 4] };

test('a file that is not safetensors is rejected by name', (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, 'bad.safetensors');
  const deep = `{"a":${'['.repeat(100)}${']'.repeat(100)}}`;
  const cases: [name: string, header: string | Uint8Array, dataBytes: number, expected: RegExp][] = [
    ['cut short', headerOf({ a: one }), 3, /"a", data_offsets: expected an end within the 3 bytes .* truncated/],
    ['too long', headerOf({ a: one }), 5, /expected 4 bytes after the header, got 5/],
    [
      'a gap',
      headerOf({ a: one, b: { ...one, data_offsets: [8, 12] } }),
      12,
      /"b", .*expected a start at 4, got a gap: 8/,
    ],
    ['an overlap', headerOf({ a: one, b: { ...one, data_offsets: [2, 6] } }), 6, /"b", .*got an overlap: 2/],
    ['the same place', headerOf({ a: one, b: one }), 4, /got an overlap: 0/],
    ['before the data', headerOf({ a: { ...one, data_offsets: [-4, 0] } }), 4, /got an overlap: -4/],
    ['backwards', headerOf({ a: { ...one, data_offsets: [4, 0] } }), 4, /expected 4 bytes for F32 \[1\], got 4 to 0/],
    ['wrong count', headerOf({ a: { ...one, shape: [2] } }), 4, /expected 8 bytes for F32 \[2\]/],
    [
      'count that overflows',
      headerOf({ a: { ...one, shape: [2 ** 40, 2 ** 40] } }),
      4,
      /shape: expected fewer than 2\^53/,
    ],
    ['negative size', headerOf({ a: { ...one, shape: [-1, -1] } }), 4, /shape: expected integers/],
    ['fraction', headerOf({ a: { ...one, shape: [0.5, 2] } }), 4, /shape: expected integers/],
    [
      'fractional offset',
      headerOf({ a: { ...one, data_offsets: [0.5, 4.5] } }),
      4,
      /data_offsets: expected two integers/,
    ],
    [
      'offsets beyond 2^53',
      '{"a":{"dtype":"F32","shape":[1],"data_offsets":[9007199254740993,9007199254740997]}}',
      4,
      /two integers/,
    ],
    ['three offsets', headerOf({ a: { ...one, data_offsets: [0, 4, 8] } }), 4, /expected two integers/],
    ['text as offsets', headerOf({ a: { ...one, data_offsets: '04' } }), 4, /expected two integers, got "04"/],
    ['text as shape', headerOf({ a: { ...one, shape: ['1'] } }), 4, /shape: expected an array of numbers/],
    ['unknown type', headerOf({ a: { ...one, dtype: 'F33' } }), 4, /dtype: expected one of .*, got "F33"/],
    ['a type from the prototype', headerOf({ a: { ...one, dtype: 'constructor' } }), 4, /dtype: expected one of/],
    ['no type', headerOf({ a: { shape: [1], data_offsets: [0, 4] } }), 4, /dtype: expected one of .*, got nothing/],
    [
      'part of a byte',
      headerOf({ a: { dtype: 'F4', shape: [1], data_offsets: [0, 1] } }),
      1,
      /a whole number of bytes/,
    ],
    ['another key', headerOf({ a: { ...one, x: 1 } }), 4, /got the key "x"/],
    ['a tensor that is a list', headerOf({ a: [] }), 0, /"a": expected an object/],
    ['__proto__ is a name', '{"__proto__":{"dtype":"F32"}}', 0, /"__proto__", shape: expected an array/],
    ['a name twice', '{"a":1,"a":2}', 0, /the key "a" occurs twice/],
    ['deep', deep, 0, /nested more than 64 deep/],
    ['a list', '[]', 0, /begins with {/],
    ['space first', ' {}', 0, /begins with {/],
    ['empty', '', 0, /an empty header/],
    ['cut JSON', '{"a":', 0, /a header in JSON, got position 5/],
    ['more than JSON', '{}x', 0, /expected the end of the text/],
    ['not UTF-8', Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]), 0, /a header in JSON/],
    ['metadata of numbers', '{"__metadata__":{"a":1}}', 0, /__metadata__, a: expected a string, got 1/],
    ['metadata that is text', '{"__metadata__":"a"}', 0, /__metadata__: expected an object/],
  ];
  for (const [name, header, dataBytes, expected] of cases) {
    craft(path, header, dataBytes);
    assert.throws(
      () => new SafetensorsFile(path),
      (error: Error) => {
        assert.ok(error instanceof RangeError, `${name}: ${error}`);
        assert.match(error.message, expected, name);
        assert.ok(error.message.includes('bad.safetensors'), error.message);
        return true;
      },
    );
  }
  craft(path, '{}', 0, 2n ** 31n);
  assert.throws(() => new SafetensorsFile(path), /expected a header of at most 100000000 bytes, got 2147483648/);
  craft(path, '{}', 0, 2n ** 64n - 1n);
  assert.throws(() => new SafetensorsFile(path), /got 18446744073709551615/);
  craft(path, '{}', 0, 1000n);
  assert.throws(
    () => new SafetensorsFile(path),
    /a header of 1000 bytes, got a file of 10 bytes \(is it truncated\?\)/,
  );
  fs.writeFileSync(path, 'short');
  assert.throws(() => new SafetensorsFile(path), /expected a safetensors file, got 5 bytes/);
  assert.throws(() => new SafetensorsFile(join(folder, 'none')), /ENOENT/);
});

test('any bytes are read or rejected, without a crash', (t) => {
  const path = join(temporaryFolder(t), 'any.safetensors');
  const json = fc.json({ maxDepth: 4 });
  fc.assert(
    fc.property(fc.oneof(json, fc.string()), fc.integer({ min: 0, max: 20 }), (header, bytes) => {
      craft(path, header, bytes);
      try {
        new SafetensorsFile(path).close();
      } catch (error) {
        assert.ok(error instanceof RangeError, String(error));
      }
    }),
  );
});

test('rare but valid files are read', (t) => {
  const path = join(temporaryFolder(t), 'odd.safetensors');
  const header = `{ "s" : {"shape":[],"dtype":"F32","data_offsets":[0,4]},"__metadata__":{"\\u00e9":"x"},
    "e":{"dtype":"F16","shape":[0,9007199254740991],"data_offsets":[4,4]} }   `;
  craft(path, header, 4);
  using file = new SafetensorsFile(path);
  assert.deepEqual([...file.readFloats('s')], [0]);
  assert.deepEqual([...file.readFloats('e')], []);
  assert.deepEqual([...file.metadata], [['é', 'x']]);
  assert.throws(() => file.readFloats('t'), /odd.safetensors: expected a tensor "t", got none of that name/);
  assert.throws(() => file.readFloats('s', { start: 1, count: 1 }), /expected a part of its 1 values/);
  assert.throws(() => file.readFloats('s', { count: -1 }), /expected a part/);
  assert.throws(() => file.readFloats('s', {}, new Float32Array(2)), /into: expected 1 values, got 2/);
  file.close();
  assert.throws(() => file.readFloats('s'), /expected an open file, got one that was closed/);
});

test('a file that shrinks while it is open is an error, not zeros', (t) => {
  const path = join(temporaryFolder(t), 'shrinks.safetensors');
  writeArrays(path, { a: { shape: [4], values: Float32Array.of(1, 2, 3, 4) } }, 'F32');
  using file = new SafetensorsFile(path);
  fs.truncateSync(path, fs.statSync(path).size - 4);
  assert.throws(() => file.readFloats('a'), /the file was cut short/);
});

test('an unfinished file leaves the previous one', (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, 'a.safetensors');
  const entries = [
    { name: 'a', type: 'F32', shape: [2] },
    { name: 'b', type: 'F32', shape: [1] },
  ] as const;
  writeArrays(path, { old: { shape: [1], values: Float32Array.of(9) } }, 'F32');
  const refused: [(writer: SafetensorsWriter) => void, RegExp][] = [
    [(writer) => writer.write('b', Float32Array.of(1)), /expected the next tensor, "a", got "b"/],
    [(writer) => writer.write('a', new Float32Array(3)), /"a": expected at most 8 more bytes, got 12/],
    [(writer) => writer.writeBytes('a', new Uint8Array(9)), /expected at most 8 more bytes, got 9/],
    [(writer) => writer.finish(), /"a": expected 8 more bytes, got the end of the file/],
    [
      (writer) => {
        writer.write('a', new Float32Array(2));
        writer.finish();
      },
      /"b": expected 4 more bytes/,
    ],
  ];
  for (const [action, expected] of refused) {
    const writer = new SafetensorsWriter(path, entries);
    assert.throws(() => action(writer), expected);
    assert.deepEqual(fs.readdirSync(folder), ['a.safetensors']);
    assert.throws(() => writer.write('a', new Float32Array(1)), /got one that ended/);
  }
  using file = new SafetensorsFile(path);
  assert.deepEqual([...file.readFloats('old')], [9]);
  const twice = [entries[0], entries[0]];
  assert.throws(() => new SafetensorsWriter(path, twice), /tensor "a": expected a unique name/);
  assert.throws(() => new SafetensorsWriter(path, [{ name: 'a', type: 'F32', shape: [-1] }]), /integers/);
});

test('a checksum is computed from the bytes of the file', (t) => {
  const path = join(temporaryFolder(t), 'a.safetensors');
  const seen: Buffer[] = [];
  const arrays = { a: { shape: [3], values: Float32Array.of(1, 2, 3) } };
  writeArrays(path, arrays, 'BF16', { observe: (bytes) => seen.push(Buffer.from(bytes)) });
  assert.deepEqual(Buffer.concat(seen), fs.readFileSync(path));
});

/** A folder of three tensors in shards of at most two values each. */
function sharded(folder: string): void {
  const writer = new ModelFilesWriter(
    folder,
    ['a', 'b', 'c'].map((name) => ({ name, type: 'F32', shape: [1] })),
    8,
  );
  for (const [i, { name }] of writer.tensors.entries()) writer.write(name, Float32Array.of(i));
  writer.finish();
}

test('shards are written with an index, and read as one', (t) => {
  const folder = temporaryFolder(t);
  sharded(folder);
  assert.deepEqual(fs.readdirSync(folder).sort(), [
    'model-00001-of-00002.safetensors',
    'model-00002-of-00002.safetensors',
    'model.safetensors.index.json',
  ]);
  const index = JSON.parse(fs.readFileSync(join(folder, 'model.safetensors.index.json'), 'utf8'));
  assert.deepEqual(index, {
    metadata: { total_size: 12 },
    weight_map: {
      a: 'model-00001-of-00002.safetensors',
      b: 'model-00001-of-00002.safetensors',
      c: 'model-00002-of-00002.safetensors',
    },
  });
  using files = new ModelFiles(folder);
  assert.deepEqual(
    [...files.tensors()].map(({ name }) => [name, files.readFloats(name)[0]]),
    [
      ['a', 0],
      ['b', 1],
      ['c', 2],
    ],
  );
  assert.throws(() => files.tensor('d'), /expected a tensor "d", got none of that name/);
  // Written again, the files are replaced; a single file next to them would be read instead.
  sharded(folder);
  const single = [{ name: 'a', type: 'F32', shape: [1] }] as const;
  assert.throws(
    () => new ModelFilesWriter(folder, single),
    /expected a folder without other weights, got "model-00001/,
  );
});

test('a tensor larger than a shard gets its own shard, and few tensors make one file', (t) => {
  const parent = temporaryFolder(t);
  const entries = [
    { name: 'large', type: 'F32', shape: [10] },
    { name: 'small', type: 'F32', shape: [1] },
  ] as const;
  const writer = new ModelFilesWriter(join(parent, 'two'), entries, 8);
  writer.write('large', new Float32Array(10));
  writer.write('small', new Float32Array(1));
  writer.finish();
  assert.equal(fs.readdirSync(join(parent, 'two')).length, 3);
  const single = new ModelFilesWriter(join(parent, 'one'), entries);
  single.write('large', new Float32Array(10));
  single.write('small', new Float32Array(1));
  single.finish();
  assert.deepEqual(fs.readdirSync(join(parent, 'one')), ['model.safetensors']);
  const aborted = new ModelFilesWriter(join(parent, 'none'), entries, 8);
  assert.throws(() => aborted.write('other', new Float32Array(1)), /expected a tensor of the entries, got "other"/);
  assert.deepEqual(fs.readdirSync(join(parent, 'none')), []);
});

test('an index that contradicts its shards is rejected', (t) => {
  const parent = temporaryFolder(t);
  const first = 'model-00001-of-00002.safetensors';
  const second = 'model-00002-of-00002.safetensors';
  const cases: [name: string, weights: unknown, expected: RegExp][] = [
    [
      'missing shard',
      { a: first, b: first, c: 'model-3.safetensors' },
      /expected a shard "model-3.safetensors" in .*no such file/,
    ],
    ['absent tensor', { a: first, b: first, c: second, d: second }, /"d": expected a tensor in model-00002/],
    ['unlisted tensor', { a: first, c: second }, /model-00001.*"b": expected this shard in .*got none in the index/],
    ['wrong shard', { a: first, b: second, c: second }, /"b": expected this shard in .*, got "model-00002/],
    ['outside', { a: '../model.safetensors' }, /the name of a .safetensors file in the same folder, got "\.\.\/model/],
    ['absolute', { a: '/etc/model.safetensors' }, /in the same folder/],
    ['backslash', { a: '..\\model.safetensors' }, /in the same folder/],
    ['below', { a: 'x/model.safetensors' }, /in the same folder/],
    ['NUL', { a: 'x\0.safetensors' }, /in the same folder/],
    ['another format', { a: 'pytorch_model.bin' }, /the name of a .safetensors file/],
    ['a number', { a: 3 }, /got 3/],
    ['a list', [], /weight_map: expected an object/],
    ['nothing', undefined, /weight_map: expected an object, got nothing/],
  ];
  for (const [i, [name, weights, expected]] of cases.entries()) {
    const folder = join(parent, String(i));
    sharded(folder);
    fs.writeFileSync(join(folder, 'model.safetensors.index.json'), JSON.stringify({ weight_map: weights }));
    assert.throws(() => new ModelFiles(folder), expected, name);
  }
  const folder = join(parent, 'twice');
  sharded(folder);
  const index = join(folder, 'model.safetensors.index.json');
  fs.writeFileSync(index, `{"weight_map":{"a":"${first}","a":"${second}"}}`);
  assert.throws(() => new ModelFiles(folder), /expected JSON, got position \d+: the key "a" occurs twice/);
  fs.rmSync(index);
  assert.throws(
    () => new ModelFiles(folder),
    /expected model.safetensors or model.safetensors.index.json, got model-0/,
  );
  fs.mkdirSync(join(parent, 'empty'));
  assert.throws(() => new ModelFiles(join(parent, 'empty')), /got no weights/);
});
