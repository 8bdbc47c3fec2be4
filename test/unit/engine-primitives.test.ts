// The fused kernels of the backend: as accurate as their arithmetic allows, in every instruction set; and the bits of a row do
// not depend on the batch, on padding, on later positions, or on threads.
//
// Bounds, relative to the largest value or 1, which is the size of the inputs, as differences may be 0: sums of n terms in
// float32, each step within 2⁻²⁴, two or three of them in sequence (a score, its softmax, the mean of values), hence
// 4 (n + 128) 2⁻²⁴ with n the terms of the longest chain and 128 the
// keys of a block.

import assert from 'node:assert/strict';
import test, { before, describe } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { assertArray, assertNumber, largest, within } from '../support/compare.js';
import {
  engine as api,
  instructionSets as sets,
  noEngine as skip,
  slowInstructionSet,
  useEngine,
} from '../support/engine.js';
import { type Attributes, primitives } from '../support/primitives.js';
import { fill, seeded } from '../support/random.js';

type Values = Float32Array | Int32Array;
/** Values with their shape. */
type Given = Record<string, [values: Values, shape: number[]]>;

const bits = (values: Float32Array) => Buffer.from(values.buffer, values.byteOffset, values.byteLength);
const bound = (terms: number) => 4 * (terms + 128) * 2 ** -24;

function normal(seed: number, ...shape: number[]): [Float32Array, number[]] {
  const random = seeded(seed);
  const count = shape.reduce((a, b) => a * b, 1);
  return [fill(count, () => random.normal()), shape];
}

/** Results of a kernel. */
function run(name: string, given: Given, attributes: Attributes): Float32Array[] {
  const inputs = Object.fromEntries(
    Object.entries(given).map(([key, [values, shape]]) => [
      key,
      tf.tensor(values, shape, values instanceof Int32Array ? 'int32' : 'float32'),
    ]),
  );
  const outputs = tf.engine().runKernel<tf.Tensor[]>(name, inputs, attributes);
  const values = outputs.map((tensor) => tensor.dataSync<'float32'>().slice());
  tf.dispose([inputs, outputs]);
  return values;
}

/** The same in float64. */
function expected(name: string, given: Given, attributes: Attributes): Float64Array[] {
  const pick = <T>(of: (entry: Given[string]) => T) =>
    Object.fromEntries(Object.entries(given).map(([key, entry]) => [key, of(entry)]));
  return primitives[name](
    pick(([values]) => values),
    pick(([, shape]) => shape),
    attributes,
  ).map(([values]) => values);
}

function check(name: string, given: Given, attributes: Attributes, terms: number): Float32Array[] {
  const actual = run(name, given, attributes);
  const wanted = expected(name, given, attributes);
  assert.equal(actual.length, wanted.length, `${name}: outputs`);
  wanted.forEach((values, i) => {
    const allowed = bound(terms) * Math.max(1, largest(values));
    assert.equal(actual[i].length, values.length);
    values.forEach((value, j) => {
      if (within(actual[i][j], value, allowed)) return;
      assertNumber(actual[i][j], value, allowed, `${name} ${JSON.stringify(attributes)}, output ${i}[${j}]`);
    });
  });
  return actual;
}

interface AttentionCase {
  starts: number[];
  length: number;
  heads: number;
  keyValueHeads: number;
  size: number;
  softCap?: number;
  window?: number;
}

// Lengths on both sides of a block of 128 keys and of tiles of 64 rows; sizes that fill no vector, and one above a block of
// 512; one head of keys for more heads than a tile has rows.
const attentionCases: readonly AttentionCase[] = [
  { starts: [0], length: 1, heads: 1, keyValueHeads: 1, size: 4 },
  { starts: [0, 3, 12], length: 12, heads: 4, keyValueHeads: 2, size: 20 },
  { starts: [5, 0], length: 300, heads: 3, keyValueHeads: 1, size: 16 },
  { starts: [2], length: 140, heads: 2, keyValueHeads: 2, size: 7, window: 9 },
  { starts: [1, 0], length: 290, heads: 4, keyValueHeads: 4, size: 8, window: 130, softCap: 1.5 },
  { starts: [0], length: 40, heads: 2, keyValueHeads: 1, size: 600, softCap: 30 },
  { starts: [1], length: 6, heads: 70, keyValueHeads: 1, size: 3, window: 2 },
  { starts: [0, 128, 129], length: 130, heads: 2, keyValueHeads: 1, size: 32, window: 1 },
];

function attentionOf(c: AttentionCase, seed: number): { given: Given; attributes: Attributes } {
  const { starts, length, heads, keyValueHeads, size, softCap = 0, window = 0 } = c;
  const rows = starts.length * length;
  const given: Given = {
    query: normal(seed, rows, heads * size),
    key: normal(seed + 1, rows, keyValueHeads * size),
    value: normal(seed + 2, rows, keyValueHeads * size),
    starts: [Int32Array.from(starts), [starts.length]],
  };
  const scale = 1 / Math.sqrt(size);
  return { given, attributes: { sequences: starts.length, heads, keyValueHeads, scale, softCap, window } };
}

/** Inputs of a layer with an adapter, forward and backward. */
function adaptedLayer(rows: number, inputs: number, outputs: number, rank: number, inputsFirst: boolean) {
  const weight = inputsFirst ? normal(1, inputs, outputs) : normal(1, outputs, inputs);
  const [x, low, b] = [normal(2, rows, inputs), normal(3, rows, rank), normal(4, outputs, rank)];
  const given: Given = { x, weight, bias: normal(5, outputs), low, b };
  const back: Given = { dy: normal(6, rows, outputs), x, weight, low, a: normal(7, rank, inputs), b };
  return { given, back };
}

/** The value and all gradients, in one kernel each or in separate operations of tfjs. */
function adaptedBits(given: Given, back: Given, inputsFirst: boolean, held: boolean, isFused: boolean) {
  const tensors = Object.fromEntries(
    Object.entries({ ...given, ...back }).map(([key, [values, shape]]) => [key, tf.tensor<tf.Rank>(values, shape)]),
  ) as Record<string, tf.Tensor2D>;
  if (held) tensors.weight = api!.compress(tensors.weight);
  const { x, weight, bias, low, a, b, dy } = tensors;
  const scale = 0.3;
  const kernel = (name: string, inputs: tf.NamedTensorMap, attributes: Attributes) =>
    tf.engine().runKernel<tf.Tensor[]>(name, inputs, attributes);
  const compute = (): tf.Tensor[] => {
    if (isFused) {
      return [
        ...kernel('groupgrad.linear', { x, weight, bias, low, b }, { inputsFirst }),
        ...kernel('groupgrad.adapterStates', { x, a }, { scale }),
        ...kernel(
          'groupgrad.linearBackward',
          { dy, x, weight, low, a, b },
          { inputsFirst, scale, wantsX: true, wantsA: true, wantsB: true },
        ),
      ];
    }
    const dLow = tf.mul<tf.Tensor2D>(tf.matMul(dy, b), scale);
    return [
      tf.add(tf.add(tf.matMul(x, weight, false, !inputsFirst), bias), tf.matMul(low, b, false, true)),
      tf.mul(tf.matMul(x, a, false, true), scale),
      tf.add(tf.matMul(dy, weight, false, inputsFirst), tf.matMul(dLow, a)),
      tf.matMul(dLow, x, true),
      tf.matMul(dy, low, true),
    ];
  };
  return compute().map((tensor) => tensor.dataSync<'float32'>().slice());
}

describe('fused kernels of the backend groupgrad', { skip }, () => {
  useEngine();

  for (const instructionSet of sets) {
    describe(instructionSet, { skip: slowInstructionSet(instructionSet) }, () => {
      before(() => api!.configureEngine({ instructionSet, threads: 2 }));

      test('RMSNorm, forward and backward', () => {
        for (const [rows, n] of [
          [1, 1],
          [5, 37],
          [300, 64],
          [130, 600],
        ]) {
          for (const offset of [0, 1]) {
            const given: Given = { x: normal(n, rows, n), weight: normal(n + 1, n) };
            const [, scale] = check('groupgrad.rmsNorm', given, { epsilon: 1e-5, offset }, n);
            const back: Given = { ...given, dy: normal(n + 2, rows, n), scale: [scale, [rows, 1]] };
            for (const wantsWeight of [false, true]) {
              check('groupgrad.rmsNormBackward', back, { offset, wantsWeight }, n + rows);
            }
          }
        }
      });

      test('rotary position embedding, whole and partial, forward and backward', () => {
        for (const [size, width] of [
          [8, 8],
          [20, 14],
          [64, 64],
          [6, 0],
        ]) {
          for (const inverse of [false, true]) {
            const given: Given = {
              x: normal(size, 3 * 50, 4 * size),
              cos: normal(size + 1, 50, size),
              sin: normal(size + 2, 50, size),
            };
            check('groupgrad.rotary', given, { width, inverse }, 2);
          }
        }
      });

      test('the gated unit with both activations, including where they are flat', () => {
        const size = 70_001;
        const spread = normal(3, size, 1);
        for (let i = 0; i < size; i++) spread[0][i] *= 1 + (i % 40);
        for (const gelu of [false, true]) {
          const given: Given = { gate: spread, up: normal(4, size, 1) };
          check('groupgrad.gatedUnit', given, { gelu }, 2);
          check('groupgrad.gatedUnitBackward', { ...given, dy: normal(5, size, 1) }, { gelu }, 2);
        }
      });

      test('attention: heads that share keys, starts, windows, caps, sizes; and its gradients', () => {
        attentionCases.forEach((own, i) => {
          const { given, attributes } = attentionOf(own, 10 * i);
          const terms = own.size;
          const [mixed, logSumExp] = check('groupgrad.attention', given, attributes, terms);
          const [rows, width] = given.query[1];
          const back: Given = {
            ...given,
            dy: normal(10 * i + 3, rows, width),
            mixed: [mixed, [rows, width]],
            logSumExp: [logSumExp, [rows, own.heads]],
          };
          check('groupgrad.attentionBackward', back, attributes, terms + own.length);
        });
      });

      test('the gradient of gathering, the update of AdamW, the norm of several tensors', () => {
        const random = seeded(8);
        const tokens = Int32Array.from({ length: 90 }, () => random.integer(0, 6));
        const gathered: Given = { dy: normal(1, 90, 33), tokens: [tokens, [90]] };
        check('groupgrad.embeddingBackward', gathered, { vocabulary: 9 }, 90);
        const size = 40_003;
        const square = normal(4, size);
        square[0].forEach((value, i) => {
          square[0][i] = value * value;
        });
        const state: Given = { variable: normal(2, size), mean: normal(3, size), square, gradient: normal(5, size) };
        const settings = {
          scale: 0.3,
          beta1: 0.9,
          beta2: 0.999,
          epsilon: 1e-8,
          rate: 1e-2,
          decay: 1e-4,
          correction: 0.3,
        };
        check('groupgrad.adamW', state, settings, 4);
        check('groupgrad.globalNorm', { a: normal(6, 200_001), b: normal(7, 1), c: normal(8, 0) }, {}, 8);
      });

      test('linear layers with biases and adapters, forward and backward', () => {
        for (const [rows, inputs, outputs, rank] of [
          [1, 1, 1, 1],
          [5, 37, 50, 3],
          [20, 600, 33, 16],
          [140, 20, 70, 8],
        ]) {
          for (const inputsFirst of [false, true]) {
            const { given, back } = adaptedLayer(rows, inputs, outputs, rank, inputsFirst);
            const { low: _, b: __, ...plain } = given;
            const terms = inputs + rank;
            check('groupgrad.linear', given, { inputsFirst }, terms);
            check('groupgrad.linear', plain, { inputsFirst }, terms);
            check('groupgrad.adapterStates', { x: back.x, a: back.a }, { scale: 0.3 }, inputs);
            for (const wanted of ['xab', 'a', 'b', 'x', '']) {
              const attributes = {
                inputsFirst,
                scale: 0.3,
                wantsX: wanted.includes('x'),
                wantsA: wanted.includes('a'),
                wantsB: wanted.includes('b'),
              };
              check('groupgrad.linearBackward', back, attributes, outputs + rank + rows);
            }
          }
        }
      });

      for (const precision of ['float32', 'bfloat16'] as const) {
        for (const held of [false, true]) {
          const kind = `products in ${precision}${held ? ', weights held in bfloat16' : ''}`;
          test(`an adapter in the memory of its layer has the bits of separate operations: ${kind}`, () => {
            api!.setPrecision(precision);
            for (const [rows, inputs, outputs, rank] of [
              [1, 5, 3, 2],
              [77, 600, 130, 16],
              [300, 33, 90, 64],
            ]) {
              for (const inputsFirst of [false, true]) {
                const { given, back } = adaptedLayer(rows, inputs, outputs, rank, inputsFirst);
                for (const threads of [1, 3]) {
                  api!.configureEngine({ threads });
                  const fused = tf.tidy(() => adaptedBits(given, back, inputsFirst, held, true));
                  const separate = tf.tidy(() => adaptedBits(given, back, inputsFirst, held, false));
                  fused.forEach((values, i) => {
                    assert.ok(bits(values).equals(bits(separate[i])), `output ${i} of ${rows} rows`);
                  });
                }
              }
            }
            api!.setPrecision('float32');
          });
        }
      }

      test('bits of attention depend neither on the batch, nor on padding, nor on what comes later, nor on threads', () => {
        for (const own of attentionCases) {
          const [{ given, attributes }, { length, heads, keyValueHeads, size }] = [attentionOf(own, 77), own];
          const part = (name: string, from: number, to: number) => {
            const [values, [, width]] = given[name];
            return [(values as Float32Array).subarray(from * width, to * width), [to - from, width]] as const;
          };
          const results: Float32Array[][] = [];
          for (const threads of [1, 2]) {
            api!.configureEngine({ threads });
            results.push(run('groupgrad.attention', given, attributes));
          }
          results[1].forEach((values, i) => {
            assert.ok(bits(values).equals(bits(results[0][i])), 'threads');
          });
          const [mixed, logSumExp] = results[0];
          own.starts.forEach((start, b) => {
            // Alone, without padding, and truncated in several places; then with other padding before and after.
            for (const end of [start + 1, Math.floor((start + length) / 2), length - 1, length]) {
              if (end <= start || end > length) continue;
              for (const [before, behind] of [
                [0, 0],
                [3, 0],
                [0, 5],
                [131, 70],
              ]) {
                const count = end - start;
                const padded = (name: string): [Float32Array, number[]] => {
                  const [values, [, width]] = part(name, b * length + start, b * length + end);
                  const all = normal(99, before + count + behind, width);
                  all[0].set(values, before * width);
                  return all;
                };
                const alone: Given = {
                  query: padded('query'),
                  key: padded('key'),
                  value: padded('value'),
                  starts: [Int32Array.of(before), [1]],
                };
                const [y, total] = run('groupgrad.attention', alone, { ...attributes, sequences: 1 });
                const same = (values: Float32Array, whole: Float32Array, width: number) =>
                  bits(values.subarray(before * width, (before + count) * width)).equals(
                    bits(whole.subarray((b * length + start) * width, (b * length + end) * width)),
                  );
                const what = `${JSON.stringify(own)}: sequence ${b} up to ${end}, ${before} before, ${behind} behind`;
                assert.ok(same(y, mixed, heads * size), what);
                assert.ok(same(total, logSumExp, heads), what);
                assert.equal(alone.key[1][1], keyValueHeads * size);
              }
            }
          });
        }
      });

      test('a cache gives the bits of attention over all positions, and is written in place', () => {
        const columns = 48;
        for (const own of attentionCases) {
          const [{ given, attributes }, { starts, length, heads, keyValueHeads, size }] = [attentionOf(own, 50), own];
          const [mixed] = run('groupgrad.attention', given, attributes);
          const rows = starts.length;
          const [keys, values] = [0, 1].map((k) =>
            Array.from({ length: Math.ceil(length / columns) }, (_, i) =>
              tf.tensor(...normal(1000 + 2 * i + k, rows * keyValueHeads, columns, size)),
            ),
          );
          const read = (blocks: tf.Tensor[]) => blocks.map((block) => block.dataSync<'float32'>().slice());
          const [wantedKeys, wantedValues] = [read(keys), read(values)];
          const { sequences: _, ...settings } = attributes;
          for (let t = 0; t < length; t++) {
            const row = (name: string, b: number) => {
              const [all, [, width]] = given[name];
              return (all as Float32Array).subarray((b * length + t) * width, (b * length + t + 1) * width);
            };
            const joined = (name: string) =>
              tf.tensor2d(Float32Array.from(starts.flatMap((_, b) => [...row(name, b)])), [rows, given[name][1][1]]);
            const lengths = Int32Array.from(starts, (start) => Math.max(-1, t - start));
            const step = {
              query: joined('query'),
              key: joined('key'),
              value: joined('value'),
              lengths: tf.tensor1d(lengths, 'int32'),
            };
            const blocks = keys.flatMap((block, i) => [
              [`keys${i}`, block],
              [`values${i}`, values[i]],
            ]);
            api!.configureEngine({ threads: 1 + (t % 2) });
            const inputs = { ...step, ...Object.fromEntries(blocks) };
            const [y] = tf.engine().runKernel<tf.Tensor[]>('groupgrad.decodeAttention', inputs, settings);
            const all = y.dataSync<'float32'>();
            starts.forEach((start, b) => {
              const width = heads * size;
              const wanted = mixed.subarray((b * length + t) * width, (b * length + t + 1) * width);
              const actual = all.subarray(b * width, (b + 1) * width);
              assert.ok(bits(actual).equals(bits(wanted)), `${JSON.stringify(own)}: sequence ${b}, position ${t}`);
              if (t < start) return;
              const [block, column] = [Math.floor((t - start) / columns), (t - start) % columns];
              for (let k = 0; k < keyValueHeads; k++) {
                const at = ((b * keyValueHeads + k) * columns + column) * size;
                wantedKeys[block].set(row('key', b).subarray(k * size, (k + 1) * size), at);
                wantedValues[block].set(row('value', b).subarray(k * size, (k + 1) * size), at);
              }
            });
            tf.dispose([step, y]);
          }
          // Only these positions were written.
          for (const [blocks, wanted] of [
            [keys, wantedKeys],
            [values, wantedValues],
          ] as const) {
            read(blocks).forEach((block, i) => {
              assert.ok(bits(block).equals(bits(wanted[i])), `block ${i}`);
            });
          }
          tf.dispose([keys, values]);
        }
      });

      test('bits of all other kernels do not depend on other rows or on threads', () => {
        const [rows, n] = [700, 96];
        const rowwise: [string, (count: number) => Given, Attributes][] = [
          [
            'groupgrad.rmsNorm',
            (count) => ({ x: normal(1, count, n), weight: normal(2, n) }),
            { epsilon: 1e-6, offset: 1 },
          ],
          [
            'groupgrad.rotary',
            (count) => ({ x: normal(1, count, n), cos: normal(2, 1, 24), sin: normal(3, 1, 24) }),
            { width: 24, inverse: false },
          ],
          ['groupgrad.gatedUnit', (count) => ({ gate: normal(1, count, n), up: normal(2, count, n) }), { gelu: true }],
          [
            'groupgrad.linear',
            (count) => ({
              x: normal(1, count, 40),
              weight: normal(2, n, 40),
              bias: normal(3, n),
              low: normal(4, count, 6),
              b: normal(5, n, 6),
            }),
            { inputsFirst: false },
          ],
        ];
        for (const [name, make, attributes] of rowwise) {
          api!.configureEngine({ threads: 1 });
          const [whole] = run(name, make(rows), attributes);
          for (const threads of [1, 2]) {
            api!.configureEngine({ threads });
            for (const count of [1, 3, 64, 333, rows]) {
              const [some] = run(name, make(count), attributes);
              assert.ok(bits(some).equals(bits(whole.subarray(0, count * n))), `${name}, ${count} rows`);
            }
          }
        }
      });

      test('bits of gradients do not depend on threads', () => {
        const { given, attributes } = attentionOf(attentionCases[4], 5);
        const [mixed, logSumExp] = run('groupgrad.attention', given, attributes);
        const { query } = given;
        const back: Given = {
          ...given,
          dy: normal(6, ...query[1]),
          mixed: [mixed, query[1]],
          logSumExp: [logSumExp, [query[1][0], 4]],
        };
        const x: Given = {
          x: normal(1, 900, 80),
          weight: normal(2, 80),
          dy: normal(3, 900, 80),
          scale: normal(4, 900, 1),
        };
        const all = [1, 2, 3].map((threads) => {
          api!.configureEngine({ threads });
          return [
            ...run('groupgrad.attentionBackward', back, attributes),
            ...run('groupgrad.rmsNormBackward', x, { offset: 0, wantsWeight: true }),
            ...run('groupgrad.globalNorm', { a: normal(6, 200_001), b: normal(7, 70_000) }, {}),
          ];
        });
        for (const other of all.slice(1)) {
          other.forEach((values, i) => {
            assert.ok(bits(values).equals(bits(all[0][i])), `output ${i}`);
          });
        }
      });
    });
  }

  test('a NaN or an infinity affects the rows that attend to it, and no others', () => {
    for (const bad of [Number.NaN, Infinity, -Infinity]) {
      const { given, attributes } = attentionOf(
        { starts: [0, 0], length: 150, heads: 1, keyValueHeads: 1, size: 8 },
        3,
      );
      given.query[0][20 * 8] = bad;
      const [mixed] = run('groupgrad.attention', given, attributes);
      for (let row = 0; row < 300; row++) {
        const finite = mixed.subarray(row * 8, row * 8 + 8).every(Number.isFinite);
        // With a score of infinity there are no probabilities.
        assert.equal(finite, row !== 20, `row ${row}, ${bad}`);
      }
    }
  });

  test('sizes and positions out of range are rejected by name', () => {
    const { given, attributes } = attentionOf({ starts: [0], length: 4, heads: 2, keyValueHeads: 1, size: 4 }, 1);
    const refuse = (change: Given, settings: Attributes, expectedError: RegExp) =>
      assert.throws(
        () => run('groupgrad.attention', { ...given, ...change }, { ...attributes, ...settings }),
        expectedError,
      );
    refuse({ starts: [Int32Array.of(5), [1]] }, {}, /starts\[0\]: expected an integer from 0 to 4, got 5/);
    refuse({ starts: [Int32Array.of(-1), [1]] }, {}, /starts\[0\]/);
    refuse({ key: normal(1, 3, 4) }, {}, /key: expected at least 16 values, got 12/);
    refuse({}, { keyValueHeads: 3 }, /heads: expected a multiple of the heads of keys/);
    refuse({}, { window: -1 }, /window/);
    const decode = (length: number) =>
      run(
        'groupgrad.decodeAttention',
        {
          query: normal(1, 1, 8),
          key: normal(2, 1, 4),
          value: normal(3, 1, 4),
          lengths: [Int32Array.of(length), [1]],
          keys0: normal(4, 1, 48, 4),
          values0: normal(5, 1, 48, 4),
        },
        { heads: 2, keyValueHeads: 1, scale: 1, softCap: 0, window: 0 },
      );
    decode(47);
    assert.throws(() => decode(48), /lengths\[0\]: expected an integer from -1 to 47, got 48/);
    assert.throws(() => decode(-2), /lengths\[0\]/);
    const odd = () =>
      run(
        'groupgrad.rotary',
        { x: normal(1, 2, 6), cos: normal(2, 1, 6), sin: normal(3, 1, 6) },
        { width: 5, inverse: false },
      );
    assert.throws(odd, /width: expected an even number, got 5/);
  });
});

// The kernels are compared with the float64 forms above, whose gradients must be those of their values.
test('the float64 gradients agree with finite differences', () => {
  const differences: [name: string, given: Given, attributes: Attributes, saved: string[], wanted: string[]][] = [];
  const { given, attributes } = attentionOf(
    { starts: [1, 0], length: 5, heads: 4, keyValueHeads: 2, size: 3, softCap: 1.2, window: 3 },
    40,
  );
  differences.push(['attention', given, attributes, ['mixed', 'logSumExp'], ['query', 'key', 'value']]);
  const norm: Given = { x: normal(1, 3, 5), weight: normal(2, 5) };
  differences.push(['rmsNorm', norm, { epsilon: 1e-3, offset: 1, wantsWeight: true }, ['', 'scale'], ['x', 'weight']]);
  for (const gelu of [false, true]) {
    differences.push(['gatedUnit', { gate: normal(3, 9, 1), up: normal(4, 9, 1) }, { gelu }, [], ['gate', 'up']]);
  }
  for (const [name, own, settings, saved, wanted] of differences) {
    const forward = (inputs: Given) => expected(`groupgrad.${name}`, inputs, settings);
    const values = forward(own);
    const dy = normal(9, values[0].length, 1)[0];
    const back: Given = { ...own, dy: [dy, own[wanted[0]][1]] };
    saved.forEach((key, i) => {
      if (key) back[key] = [values[i] as unknown as Float32Array, [values[i].length]];
    });
    const gradients = expected(`groupgrad.${name}Backward`, back, settings);
    wanted.forEach((key, k) => {
      const [x, shape] = own[key];
      const slopes = Float64Array.from(x, (_, i) => {
        const at = (step: number) => {
          const moved = Float64Array.from(x);
          moved[i] += step;
          const [y] = forward({ ...own, [key]: [moved as unknown as Float32Array, shape] });
          return y.reduce((sum, v, j) => sum + v * dy[j], 0);
        };
        return (at(1e-5) - at(-1e-5)) / 2e-5;
      });
      assertArray(gradients[k], slopes, 1e-7, `${name}, ${key}`);
    });
  }
});
