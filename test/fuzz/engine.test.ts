// Random operations on the backend groupgrad agree with tfjs's CPU backend, in every instruction set, on one thread and
// on several; and random calls of the addon's operations never end the process.
//
// GROUPGRAD_FUZZ_RUNS sets the number of runs (default: 150, and 400 in the slow set); run i draws from seed i.

import assert from 'node:assert/strict';
import test, { describe } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import type { EngineAddon } from '../../src/devices/load.js';
import { addon, engine as api, noEngine as skip, useEngine } from '../support/engine.js';
import { detach } from '../support/hostile.js';
import { type Random, seeded } from '../support/random.js';
import { repeats } from '../support/sets.js';
import { drawOperation } from '../support/tfjs-operations.js';

const runs = Number(process.env.GROUPGRAD_FUZZ_RUNS ?? repeats(150, 400));

interface Result {
  shape: number[];
  dtype: string;
  values: ArrayLike<number>;
}

function resultsOf(run: () => tf.Tensor | tf.Tensor[]): Result[] {
  return tf.tidy(() =>
    [run()].flat().map((tensor) => ({ shape: tensor.shape, dtype: tensor.dtype, values: tensor.dataSync() })),
  );
}

/**
 * float32 results of sums of up to a few thousand terms of order 10, of functions within a few units in the last place, and
 * of the CPU backend's own sums in float32; exp() overflows within one unit of JavaScript's threshold, and returns 0 where
 * JavaScript returns subnormal numbers.
 */
function isClose(actual: number, expected: number): boolean {
  if (Object.is(actual, expected) || actual === expected) return true;
  if (Number.isNaN(expected) || !Number.isFinite(expected)) return false;
  return Math.abs(actual - expected) <= 1e-37 + 2e-4 * Math.max(1, Math.abs(expected));
}

describe('random operations', { skip }, () => {
  useEngine();

  test(`${runs} of them agree with tfjs's CPU backend, and leave no tensor behind`, async () => {
    const sets = api!.instructionSets();
    for (let seed = 1; seed <= runs; seed++) {
      const random = seeded(seed);
      const { name, run } = drawOperation(random, { large: random.chance(0.1) });
      await tf.setBackend('cpu');
      const expected = resultsOf(run);
      await tf.setBackend('groupgrad');
      api!.configureEngine({ instructionSet: random.pick(sets), threads: random.integer(1, 3) });
      const tensors = tf.memory().numDataBuffers;
      const actual = resultsOf(run);
      assert.equal(tf.memory().numDataBuffers, tensors, `${name}: left tensors behind (seed ${seed})`);
      const again = resultsOf(run);
      for (const [i, { shape, dtype, values }] of expected.entries()) {
        const what = `${name}, ${JSON.stringify(api!.engineSettings())}, seed ${seed}`;
        assert.deepEqual([actual[i].shape, actual[i].dtype], [shape, dtype], what);
        assert.equal(actual[i].values.length, values.length, what);
        for (let j = 0; j < values.length; j++) {
          assert.ok(
            isClose(actual[i].values[j], values[j]),
            `${what}: [${j}] is ${actual[i].values[j]}, not ${values[j]}`,
          );
          assert.ok(Object.is(actual[i].values[j], again[i].values[j]), `${what}: [${j}] differs the second time`);
        }
      }
    }
  });
});

const operations = [
  'unary',
  'binary',
  'select',
  'cast',
  'copy',
  'fill',
  'reduce',
  'arg',
  'softmax',
  'gather',
  'scatterAdd',
  'addN',
  'rmsNorm',
  'rmsNormBackward',
  'rotary',
  'gatedUnit',
  'gatedUnitBackward',
  'attention',
  'attentionBackward',
  'decodeAttention',
  'adamW',
  'sumOfSquares',
  'sample',
  'matMul',
  'pack',
  'freePacked',
] as const satisfies readonly (keyof EngineAddon)[];

function hostileNumber(random: Random): number {
  return random.chance(0.8)
    ? random.integer(0, 6)
    : random.pick([-1, 0.5, NaN, Infinity, 2 ** 31, 2 ** 53, 2 ** 62, -(2 ** 53), 1e300, 1000]);
}

function hostileArgument(random: Random, packed: object): unknown {
  const length = random.pick([0, 1, 7, 64, 300]);
  switch (random.integer(0, 11)) {
    case 0:
      return null;
    case 1:
      return random.pick([undefined, 'x', {}, 7, packed, []]);
    case 2:
      return new Int32Array(length).map(() => random.integer(-2, 8));
    case 3:
      return new Uint8Array(length);
    case 4:
      return new Uint16Array(length);
    case 5:
      return new Float64Array(length);
    case 6:
      return new Float32Array(new SharedArrayBuffer(4 * length));
    case 7: {
      const array = new Float32Array(length);
      detach(array.buffer);
      return array;
    }
    default:
      return Float32Array.from({ length }, () => random.normal());
  }
}

test('random calls of the addon either work or throw a TypeError or RangeError', { skip }, () => {
  const { engine } = addon!;
  const packed = engine.pack(Float64Array.of(0, 4, 4, 4, 1), new Float32Array(16));
  let worked = 0;
  for (let seed = 1; seed <= 40 * runs; seed++) {
    const random = seeded(seed);
    const name = random.pick(operations);
    const numbers = Float64Array.from({ length: random.integer(0, 40) }, () => hostileNumber(random));
    const args = Array.from({ length: random.integer(0, random.chance(0.5) ? 5 : 11) }, () =>
      hostileArgument(random, packed),
    );
    const first = random.chance(0.95) ? numbers : hostileArgument(random, packed);
    if (name === 'freePacked' && args.includes(packed)) continue;
    try {
      (engine[name] as (...args: unknown[]) => unknown)(first, ...args);
      worked++;
    } catch (error) {
      assert.ok(error instanceof TypeError || error instanceof RangeError, `seed ${seed}: ${error}`);
      assert.match(error.message, /: expected |not enough memory|a packed matrix/, `seed ${seed}`);
    }
  }
  assert.ok(worked > runs / 4, `only ${worked} calls worked`);
});
