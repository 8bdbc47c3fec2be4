// Matrix products of the backend: a row's bits depend only on the row and the matrix, in every instruction set and
// precision; and they are as accurate as their arithmetic allows.

import assert from 'node:assert/strict';
import test, { before, describe } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import {
  engine as api,
  instructionSets as sets,
  noEngine as skip,
  slowInstructionSet,
  useEngine,
} from '../support/engine.js';
import { seeded } from '../support/random.js';

// Three blocks of k, the last one of an odd size; columns that do not fill a strip.
const [K, N, M] = [1101, 77, 70];

function normal(seed: number, size: number): Float32Array {
  const random = seeded(seed);
  return Float32Array.from({ length: size }, () => random.normal());
}

/** Numbers in (-1, 1), for matrices so large that normal ones take seconds. */
function spread(size: number): Float32Array {
  const values = new Float32Array(size);
  for (let i = 0; i < size; i++) values[i] = Math.imul(i + 1, 0x9e3779b1) / 2 ** 31;
  return values;
}

const bits = (values: Float32Array) => Buffer.from(values.buffer, values.byteOffset, values.byteLength);

function sameBits(actual: Float32Array, expected: Float32Array, what: string): void {
  if (bits(actual).equals(bits(expected))) return;
  const at = actual.findIndex((value, i) => !Object.is(value, expected[i]));
  assert.fail(`${what}: [${at}] is ${actual[at]}, expected ${expected[at]}`);
}

/** The values of what `body` makes. */
function valuesOf(body: () => tf.Tensor): Float32Array {
  return tf.tidy(() => body().dataSync() as Float32Array);
}

const transposeOf = (x: Float32Array, rows: number, columns: number) =>
  Float32Array.from({ length: x.length }, (_, i) => x[(i % rows) * columns + Math.floor(i / rows)]);

const roundToBfloat16 = (x: Float32Array) => {
  const words = new Uint32Array(x.slice().buffer);
  return new Float32Array(words.map((w) => ((w + 0x7fff + ((w >>> 16) & 1)) >>> 16) << 16).buffer);
};

describe('matrix products of the backend groupgrad', { skip }, () => {
  const left = normal(1, M * K);
  const right = normal(2, K * N);
  useEngine();
  const a = () => tf.tensor2d(left, [M, K]);
  const b = () => tf.tensor2d(right, [K, N]);

  for (const instructionSet of sets) {
    for (const precision of ['float32', 'bfloat16'] as const) {
      describe(`${instructionSet}, ${precision}`, { skip: slowInstructionSet(instructionSet) }, () => {
        let whole: Float32Array;
        before(() => {
          api!.configureEngine({ instructionSet, threads: 2 });
          api!.setPrecision(precision);
          whole = valuesOf(() => tf.matMul(a(), b()));
        });

        test(`rows do not depend on their number, from 1 to ${M}, or on threads`, () => {
          for (const threads of [1, 2]) {
            api!.configureEngine({ threads });
            for (let m = 1; m <= M; m++) {
              const rows = left.subarray(0, m * K);
              const some = valuesOf(() => tf.matMul(tf.tensor2d(rows, [m, K]), b()));
              sameBits(some, whole.subarray(0, m * N), `${m} rows, ${threads} threads`);
            }
          }
        });

        test('rows are the same where they are packed for each thread, because they are many or long', () => {
          const many = new Float32Array(5 * left.length);
          for (let i = 0; i < 5; i++) many.set(left, i * left.length);
          const repeated = valuesOf(() => tf.matMul(tf.tensor2d(many, [5 * M, K]), b()));
          for (let i = 0; i < 5; i++) sameBits(repeated.subarray(i * M * N, (i + 1) * M * N), whole, `${5 * M} rows`);
          const [m, k, n] = [100, 3001, 40];
          const [rows, matrix] = [spread(m * k), tf.tensor2d(spread(k * n), [k, n])];
          const long = valuesOf(() => tf.matMul(tf.tensor2d(rows, [m, k]), matrix));
          const few = valuesOf(() => tf.matMul(tf.tensor2d(rows.subarray(0, 20 * k), [20, k]), matrix));
          matrix.dispose();
          sameBits(few, long.subarray(0, 20 * n), `${m} rows of ${k}`);
        });

        test('rows do not depend on their position', () => {
          for (const first of [1, 13, 14, 31, 69]) {
            const rows = left.subarray(first * K);
            const some = valuesOf(() => tf.matMul(tf.tensor2d(rows, [M - first, K]), b()));
            sameBits(some, whole.subarray(first * N), `from row ${first}`);
          }
        });

        test('columns do not depend on their number', () => {
          for (const n of [1, 31, 32, 33, 64]) {
            const some = valuesOf(() => tf.matMul(a(), tf.slice(b(), [0, 0], [K, n])));
            sameBits(
              some,
              Float32Array.from({ length: M * n }, (_, i) => whole[Math.floor(i / n) * N + (i % n)]),
              `${n}`,
            );
          }
        });

        test('transposed factors and positions in a batch give the same bits', () => {
          const ta = tf.tensor2d(transposeOf(left, M, K), [K, M]);
          const tb = tf.tensor2d(transposeOf(right, K, N), [N, K]);
          sameBits(
            valuesOf(() => tf.matMul(ta, b(), true)),
            whole,
            'a transposed',
          );
          sameBits(
            valuesOf(() => tf.matMul(a(), tb, false, true)),
            whole,
            'b transposed',
          );
          sameBits(
            valuesOf(() => tf.matMul(ta, tb, true, true)),
            whole,
            'both transposed',
          );
          const others = normal(3, M * K);
          const batch = () => tf.stack([tf.tensor2d(others, [M, K]), a(), tf.tensor2d(others, [M, K])]);
          const shared = valuesOf(() => tf.matMul(batch(), b()));
          sameBits(shared.subarray(M * N, 2 * M * N), whole, 'in a batch with one matrix');
          const own = valuesOf(() => tf.matMul(batch(), tf.stack([b(), b(), b()])));
          sameBits(own.subarray(M * N, 2 * M * N), whole, 'in a batch of matrices');
          sameBits(own, shared, 'a batch of equal matrices');
        });

        test('packing, a bias and an activation do not change the bits', () => {
          const packedBytes = () => (tf.memory() as unknown as { packedBytes: number }).packedBytes;
          const before = packedBytes();
          const matrix = b();
          for (let use = 0; use < 4; use++) {
            sameBits(
              valuesOf(() => tf.matMul(a(), matrix)),
              whole,
              `use ${use}`,
            );
          }
          assert.ok(packedBytes() >= before + matrix.size * (precision === 'bfloat16' ? 2 : 4));
          matrix.dispose();
          assert.equal(packedBytes(), before);
          const bias = tf.tensor1d(normal(4, N));
          const [x, y] = [a(), b()];
          const fused = valuesOf(() => tf.fused.matMul({ a: x, b: y, bias, activation: 'sigmoid' }));
          sameBits(
            fused,
            valuesOf(() => tf.sigmoid(tf.add(tf.tensor2d(whole, [M, N]), bias))),
            'fused',
          );
        });

        test('a matrix packed in several pieces gives the same bits for few and many rows', () => {
          const n = 2500; // 11 MB in float32
          const matrix = spread(K * n);
          const product = (m: number) =>
            valuesOf(() => tf.matMul(tf.tensor2d(left.subarray(0, m * K), [m, K]), tf.tensor2d(matrix, [K, n])));
          sameBits(product(3), product(M).subarray(0, 3 * n), 'three rows');
        });

        test('a matrix packed in pieces of its full width gives the bits of its columns alone', () => {
          // 64 strips of it and more than one piece, in every instruction set and in half of the bytes too.
          const [m, k, n] = [3, 4700, 2100];
          const [rows, matrix] = [tf.tensor2d(normal(6, m * k), [m, k]), tf.tensor2d(spread(k * n), [k, n])];
          const bias = tf.tensor1d(normal(7, n));
          const product = (first: number, columns: number) =>
            valuesOf(() =>
              tf.fused.matMul({
                a: rows,
                b: tf.slice(matrix, [0, first], [k, columns]),
                bias: tf.slice(bias, first, columns),
                activation: 'relu',
              }),
            );
          const all = product(0, n);
          for (const first of [0, 1000, n - 33]) {
            const columns = Float32Array.from(
              { length: m * 33 },
              (_, i) => all[Math.floor(i / 33) * n + first + (i % 33)],
            );
            sameBits(product(first, 33), columns, `from column ${first}`);
          }
          tf.dispose([rows, matrix, bias]);
        });

        test('a product over no k is 0, plus the bias', () => {
          const [x, y, bias] = [tf.zeros<tf.Rank.R2>([2, 0]), tf.zeros<tf.Rank.R2>([0, 40]), tf.ones<tf.Rank.R1>([40])];
          sameBits(
            valuesOf(() => tf.matMul(x, y)),
            new Float32Array(80),
            'product',
          );
          sameBits(
            valuesOf(() => tf.fused.matMul({ a: x, b: y, bias })),
            new Float32Array(80).fill(1),
            'with a bias',
          );
          tf.dispose([x, y, bias]);
        });

        test('the error is within what the arithmetic allows', () => {
          const rounded = precision === 'bfloat16';
          const [x, y] = rounded ? [roundToBfloat16(left), roundToBfloat16(right)] : [left, right];
          // At most n roundings of relative 2^-24 in a chain of n terms; AMX and AVX512-BF16 round twice per pair.
          const unit = (K + 8) * 2 ** -24;
          for (let i = 0; i < M; i += 23) {
            for (let j = 0; j < N; j += 7) {
              let [sum, size] = [0, 0];
              for (let k = 0; k < K; k++) {
                const term = x[i * K + k] * y[k * N + j];
                sum += term;
                size += Math.abs(term);
              }
              assert.ok(
                Math.abs(whole[i * N + j] - sum) <= unit * size,
                `[${i}, ${j}]: ${whole[i * N + j]}, not ${sum}`,
              );
            }
          }
        });

        test('a compressed matrix multiplies like its rounded values', () => {
          const expected = valuesOf(() => tf.matMul(a(), tf.tensor2d(roundToBfloat16(right), [K, N])));
          const compressed = tf.tidy(() => api!.compress(b()));
          assert.ok(api!.isCompressed(compressed));
          for (let use = 0; use < 3; use++) {
            sameBits(
              valuesOf(() => tf.matMul(a(), compressed)),
              expected,
              `use ${use}`,
            );
          }
          compressed.dispose();
        });
      });
    }
  }

  test('AVX2 and AVX-512 give the same bits in float32', { skip: !sets.includes('AVX-512') && 'needs AVX-512' }, () => {
    api!.setPrecision('float32');
    const [expected, ...others] = ['AVX2', 'AVX-512'].map((instructionSet) => {
      api!.configureEngine({ instructionSet });
      return valuesOf(() => tf.matMul(a(), b()));
    });
    for (const other of others) sameBits(other, expected, 'AVX-512');
  });
});
