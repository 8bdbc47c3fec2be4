// DeviceArray, and the host API with it: the same numbers as with typed arrays, without synchronisation.

import assert from 'node:assert/strict';
import test, { describe } from 'node:test';
import {
  computeAdvantages,
  DeviceArray,
  type LogitsInput,
  type LossConfig,
  logitsLoss,
  type PolicyInput,
  policyLoss,
  presets,
} from '../../src/index.js';
import { testedDevices } from '../support/devices.js';
import { drawLogits, drawPolicy } from '../support/draw.js';
import { seeded } from '../support/random.js';

const [{ skip }] = testedDevices('cuda');

/** The same input with every typed array except rewards on the device. */
function onDevice(input: PolicyInput): PolicyInput<DeviceArray>;
function onDevice(input: LogitsInput): LogitsInput<DeviceArray>;
function onDevice(input: PolicyInput | LogitsInput): object {
  const half = 'dtype' in input && input.dtype === 'float16' ? 'float16' : 'bfloat16';
  const move = (value: unknown) => {
    if (value instanceof Uint16Array) return DeviceArray.from(value, half);
    return ArrayBuffer.isView(value) ? DeviceArray.from(value as Float32Array) : value;
  };
  return {
    ...Object.fromEntries(Object.entries(input).map(([name, value]) => [name, move(value)])),
    ...(input.rewards && { rewards: input.rewards }),
  };
}

function onHost(array: unknown): unknown {
  return array instanceof DeviceArray ? array.toArray() : array;
}

describe('DeviceArray', { skip }, () => {
  test('has the contents that it was made from, in every type', () => {
    const arrays = [
      Float32Array.of(1, NaN, -Infinity),
      Float64Array.of(Math.PI, 1e300),
      Int32Array.of(-5, 2 ** 31 - 1),
      Uint8Array.of(0, 255),
    ];
    for (const array of arrays) {
      using device = DeviceArray.from(array as Float32Array);
      assert.deepEqual(device.toArray(), array);
      assert.equal(device.length, array.length);
      assert.equal(device.byteLength, array.byteLength);
    }
    using half = DeviceArray.from(Uint16Array.of(0x3f80, 1), 'bfloat16');
    assert.equal(half.dtype, 'bfloat16');
    assert.deepEqual(half.toArray(), Uint16Array.of(0x3f80, 1));
    using empty = DeviceArray.allocate('float32', 0);
    assert.deepEqual(empty.toArray(), new Float32Array());
    assert.deepEqual(half.copyFrom(Uint16Array.of(7, 8)).toArray(), Uint16Array.of(7, 8));
  });

  test('a part of a larger buffer is copied from its offset', () => {
    using device = DeviceArray.from(Float32Array.of(1, 2, 3, 4).subarray(1, 3));
    assert.deepEqual(device.toArray(), Float32Array.of(2, 3));
  });

  test('says what it expects', () => {
    assert.throws(
      () => DeviceArray.allocate('float8' as 'float32', 1),
      /^RangeError: dtype: expected one of 'float32'/,
    );
    assert.throws(
      () => DeviceArray.allocate('float32', -1),
      /^RangeError: length: expected an integer at least 0, got -1/,
    );
    assert.throws(() => DeviceArray.from(Uint16Array.of(1)), /^TypeError: dtype: expected 'bfloat16' or 'float16'/);
    assert.throws(() => DeviceArray.from([1] as unknown as Float32Array), /^TypeError: array: expected a typed array/);
    assert.throws(
      () => DeviceArray.from(Float32Array.of(1), 'int32' as 'float32'),
      /^TypeError: array: expected an Int32Array/,
    );
    using device = DeviceArray.allocate('float32', 2);
    assert.throws(() => device.copyFrom(new Float32Array(3)), /^RangeError: array: expected 2 values, got 3/);
  });

  test('is rejected everywhere once it is freed; freeing twice does nothing', () => {
    const device = DeviceArray.from(Float32Array.of(1));
    device.free();
    device.free();
    assert.equal(device.freed, true);
    assert.throws(() => device.toArray(), /one that was freed/);
    const input = { shape: { sequences: 1, length: 1 }, logProbs: device, advantages: Float32Array.of(1) };
    assert.throws(
      () => policyLoss(input, presets.grpo),
      /^TypeError: logProbs: expected a DeviceArray that holds memory/,
    );
  });

  test('more memory than there is: an error that says so, and the process continues', () => {
    assert.throws(
      () => DeviceArray.allocate('float64', 2 ** 46),
      /^RangeError: not enough GPU memory: 5\.24e\+05 GiB wanted, .* GiB of .* GiB free/,
    );
    using device = DeviceArray.from(Float32Array.of(3));
    assert.deepEqual(device.toArray(), Float32Array.of(3));
  });

  test('works only with the CUDA device, which auto chooses for it', () => {
    using logProbs = DeviceArray.from(Float32Array.of(-1));
    const input = { shape: { sequences: 1, length: 1 }, logProbs, advantages: Float32Array.of(1) };
    for (const device of ['cpu', 'reference'] as const) {
      assert.throws(
        () => policyLoss(input, presets.grpo, { device }),
        /^TypeError: logProbs: expected a Float32Array \(a DeviceArray needs options\.device 'cuda' or 'auto'\)/,
      );
    }
    assert.ok(policyLoss(input, presets.grpo).gradLogProbs instanceof DeviceArray);
  });

  test('with another type or length: an error that names the field', () => {
    using ints = DeviceArray.allocate('int32', 2);
    using short = DeviceArray.allocate('float32', 1);
    const shape = { sequences: 1, length: 2 };
    const advantages = Float32Array.of(1);
    assert.throws(
      () => policyLoss({ shape, advantages, logProbs: ints }, presets.grpo),
      /^TypeError: logProbs: expected a DeviceArray of float32, got one of int32/,
    );
    assert.throws(
      () => policyLoss({ shape, advantages, logProbs: short }, presets.grpo),
      /^RangeError: logProbs: expected 2 values \(1 sequences x 2\), got 1/,
    );
    using half = DeviceArray.allocate('bfloat16', 4);
    using tokens = DeviceArray.allocate('int32', 2);
    assert.throws(
      () =>
        logitsLoss({ shape: { ...shape, vocab: 2 }, advantages, logits: half, dtype: 'float16', tokens }, presets.grpo),
      /^RangeError: dtype: expected the logits' own, "bfloat16", got "float16"/,
    );
  });
});

describe('the host API over DeviceArrays', { skip }, () => {
  test('policyLoss: 100 random requests give the bits of typed arrays', () => {
    for (let seed = 1; seed <= 100; seed++) {
      const { input, config, options } = drawPolicy(seeded(seed));
      if (options.gradLogProbs) delete options.gradLogProbs;
      const expected = policyLoss(input, config, { ...options, device: 'cuda' });
      const actual = policyLoss(onDevice(input), config, options);
      assert.deepEqual(onHost(actual.gradLogProbs), expected.gradLogProbs, `seed ${seed}`);
      assert.equal(actual.loss, expected.loss, `seed ${seed}`);
      assert.deepEqual(actual.metrics, expected.metrics, `seed ${seed}`);
    }
  });

  test('logitsLoss: 60 random requests give the bits of typed arrays', () => {
    for (let seed = 1; seed <= 60; seed++) {
      const { input, config, options } = drawLogits(seeded(seed));
      delete options.gradLogits;
      const host = { ...input, logits: input.logits.slice() };
      const expected = logitsLoss(host, config, { ...options, device: 'cuda' });
      const actual = logitsLoss(onDevice(input), config, options);
      for (const field of ['gradLogits', 'logProbs', 'entropies'] as const) {
        assert.deepEqual(onHost(actual[field]), expected[field], `seed ${seed}: ${field}`);
      }
      assert.deepEqual(actual.metrics, expected.metrics, `seed ${seed}`);
    }
  });

  test('in place, the logits become the gradient', () => {
    const values = Float32Array.of(1, 2, 3, 0, -1, 5);
    const input = {
      shape: { sequences: 2, length: 1, vocab: 3 },
      tokens: Int32Array.of(0, 2),
      advantages: Float32Array.of(1, -1),
    };
    const expected = logitsLoss({ ...input, logits: values }, presets.dapo, { device: 'cuda' });
    using logits = DeviceArray.from(values);
    const actual = logitsLoss({ ...input, logits }, presets.dapo, { inPlace: true });
    assert.equal(actual.gradLogits, logits);
    assert.deepEqual(logits.toArray(), expected.gradLogits);
    assert.throws(
      () => logitsLoss({ ...input, logits, oldLogProbs: logits }, presets.dapo, { inPlace: true }),
      /oldLogProbs: expected 2 values/,
    );
  });

  test('outputs must not overlap inputs', () => {
    using logProbs = DeviceArray.from(Float32Array.of(-1, -2));
    using old = DeviceArray.from(Float32Array.of(-1, -2));
    const input = { shape: { sequences: 1, length: 2 }, logProbs, oldLogProbs: old, advantages: Float32Array.of(1) };
    assert.throws(
      () => policyLoss(input, presets.grpo, { gradLogProbs: old }),
      /^RangeError: options\.gradLogProbs: expected memory apart from oldLogProbs, got the same DeviceArray/,
    );
  });

  test('rewards on the device: advantages there, the same as on the host, in one call with the loss', () => {
    const random = seeded(5);
    for (const groups of [
      [4, 4, 4],
      [1, 5, 2, 4],
    ]) {
      const rewards = Float64Array.from({ length: 12 }, () => (random.chance(0.1) ? NaN : random.integer(0, 2)));
      for (const anchor of [undefined, 0.4]) {
        const config = { groupSizes: Int32Array.from(groups), hadw: { anchor, scale: 1.3 } };
        const expected = computeAdvantages(rewards, config);
        for (const moved of [DeviceArray.from(rewards), DeviceArray.from(Float32Array.from(rewards))]) {
          const actual = computeAdvantages(moved, config);
          for (const field of ['advantages', 'weights', 'groupMean', 'groupStd'] as const) {
            const values = actual[field].toArray();
            expected[field].forEach((value, i) => {
              assert.ok(
                Object.is(values[i], value) || Math.abs(values[i] - value) <= 2 ** -22 * Math.abs(value),
                field,
              );
            });
          }
          assert.deepEqual(actual.active.toArray(), expected.active);
          assert.equal(actual.accuracy, expected.accuracy);
          using logProbs = DeviceArray.from(Float32Array.from({ length: 12 }, () => -random.uniform(0, 3)));
          const input = { shape: { sequences: 12, length: 1 }, logProbs };
          const split = policyLoss({ ...input, advantages: actual.advantages }, presets.dapo);
          const fused = policyLoss({ ...input, rewards: moved, advantage: config }, presets.dapo);
          assert.deepEqual(fused.gradLogProbs.toArray(), split.gradLogProbs.toArray());
          assert.deepEqual((fused.advantage!.advantages as DeviceArray).toArray(), actual.advantages.toArray());
          assert.equal(fused.loss, split.loss);
          moved.free();
        }
      }
    }
  });

  test('rewards and loss in one launch of many blocks: every number equals that of two calls', () => {
    const random = seeded(8);
    // A warp per sequence, a block per sequence, several units per sequence; masks counted over the grid.
    for (const [sequences, length, groupSize] of [
      [64, 40, 8],
      [32, 300, 16],
      [24, 1100, 4],
    ]) {
      const shape = { sequences, length };
      const floats = (draw: () => number) => DeviceArray.from(Float32Array.from({ length: sequences * length }, draw));
      const rewards = DeviceArray.from(Float32Array.from({ length: sequences }, () => random.integer(0, 3)));
      const mask = Uint8Array.from({ length: sequences * length }, () => random.pick([0, 1, 2, 128, 255]));
      const input = {
        shape,
        logProbs: floats(() => -random.uniform(0, 3)),
        oldLogProbs: floats(() => -random.uniform(0, 3)),
        mask: DeviceArray.from(mask),
      };
      const tokens = mask.reduce((count, value) => count + Number(value !== 0), 0);
      for (const preset of [presets.dapo, presets.grpo, presets.gspo]) {
        for (let i = 0; i < 6; i++) {
          // Different numbers each time, so that leftovers of an earlier launch would be wrong.
          const advantage = { groupSize, hadw: { anchor: 0.2 + 0.1 * i, scale: 1.3 } };
          const { advantage: found, metrics, gradLogProbs } = policyLoss({ ...input, rewards, advantage }, preset);
          const numbers = { ...metrics };
          const alone = computeAdvantages(rewards, advantage);
          const expected = policyLoss({ ...input, advantages: alone.advantages }, preset);
          for (const field of ['advantages', 'weights', 'groupMean', 'groupStd', 'active'] as const) {
            assert.deepEqual(onHost(found![field]), onHost(alone[field]), field);
          }
          assert.equal(found!.accuracy, alone.accuracy);
          assert.deepEqual(onHost(gradLogProbs), onHost(expected.gradLogProbs));
          assert.deepEqual(numbers, { ...alone.metrics, ...expected.metrics });
          assert.equal(numbers.tokens, tokens);
        }
      }
    }
  });

  test('an anchor on the device is read when the operation runs', () => {
    using rewards = DeviceArray.from(Float32Array.of(0, 1, 1, 1));
    using anchor = DeviceArray.from(Float64Array.of(0.3));
    const config = (value: number | DeviceArray) => ({ groupSize: 4, hadw: { anchor: value } });
    const weights = (value: number | DeviceArray) => computeAdvantages(rewards, config(value)).weights.toArray();
    assert.deepEqual(weights(anchor), weights(0.3));
    anchor.copyFrom(Float64Array.of(0.9));
    assert.deepEqual(weights(anchor), weights(0.9));
    assert.throws(
      () => computeAdvantages([0, 1], { groupSize: 2, hadw: { anchor } }, { device: 'cuda' }),
      /^TypeError: config\.hadw\.anchor: expected a number, because the rewards are on the host/,
    );
  });

  test('a token outside of the vocabulary makes the loss NaN and is counted', () => {
    for (const id of [-1, 3, 2 ** 31 - 1]) {
      const result = logitsLoss(
        {
          shape: { sequences: 1, length: 2, vocab: 3 },
          logits: DeviceArray.from(Float32Array.of(1, 2, 3, 1, 2, 3)),
          tokens: DeviceArray.from(Int32Array.of(0, id)),
          advantages: Float32Array.of(1),
        },
        presets.dapo,
      );
      assert.ok(Number.isNaN(result.loss));
      assert.equal(result.metrics.nonFinite, 1);
      assert.ok(Number.isNaN(result.logProbs.toArray()[1]));
    }
  });

  test('numbers may be read late, in any order, or never', () => {
    const input = (value: number) => ({
      shape: { sequences: 1, length: 1 },
      logProbs: DeviceArray.from(Float32Array.of(value)),
      advantages: Float32Array.of(1),
    });
    const config: LossConfig = { surrogate: { kind: 'reinforce' } };
    const results = Array.from({ length: 50 }, (_, i) => policyLoss(input(-i), config));
    for (let i = 0; i < 2000; i++) policyLoss(input(-1000), config); // never read
    for (let i = 49; i >= 0; i--) assert.equal(results[i].loss, i);
    assert.equal(results[3].loss, 3);
    assert.deepEqual({ ...results[3] }.metrics.loss, 3);
  });

  test('a failing call frees its results', () => {
    const free = () => {
      try {
        DeviceArray.allocate('float64', 2 ** 46);
      } catch (error) {
        return /wanted, (\S+) GiB/.exec(String(error))![1];
      }
    };
    using logits = DeviceArray.allocate('float32', 2 ** 24);
    const shape = { sequences: 1, length: 4096, vocab: 4096 };
    const tokens = new Int32Array(4096);
    const before = free();
    for (let i = 0; i < 50; i++) {
      assert.throws(() =>
        logitsLoss({ shape, logits, tokens, advantages: Float32Array.of(1) }, presets.dapo, { zeroed: true }),
      );
      assert.throws(() =>
        logitsLoss({ shape, logits, tokens, rewards: [1, 2], advantage: { groupSize: 2 } }, presets.dapo),
      );
    }
    assert.equal(free(), before);
  });

  test('zeroed: rows without a gradient are not written', () => {
    const shape = { sequences: 2, length: 1, vocab: 3 };
    const base = {
      shape,
      logits: DeviceArray.from(new Float32Array(6)),
      tokens: Int32Array.of(0, 1),
      advantages: Float32Array.of(0, 1),
    };
    using given = DeviceArray.from(Float32Array.of(7, 7, 7, 0, 0, 0));
    const { gradLogits } = logitsLoss(base, presets.dapo, { gradLogits: given, zeroed: true });
    assert.deepEqual([...(gradLogits.toArray() as Float32Array)].slice(0, 3), [7, 7, 7]);
    logitsLoss(base, presets.dapo, { gradLogits: given });
    assert.deepEqual([...(given.toArray() as Float32Array)].slice(0, 3), [0, 0, 0]);
  });
});
