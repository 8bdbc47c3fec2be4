// options.lossScale (docs/losses.md, "Loss scale") on every device: the resulting gradient is multiplied before it is rounded,
// so that float16 does not flush it to zero; nothing else changes.

import assert from 'node:assert/strict';
import test, { describe } from 'node:test';
import { fromBfloat16, toBfloat16 } from '../../src/devices/reference/bfloat16.js';
import { fromFloat16, toFloat16 } from '../../src/devices/reference/float16.js';
import { aggregations, ratios } from '../../src/devices/settings.js';
import { type LogitsInput, type LossConfig, logitsLoss, type PolicyInput, policyLoss } from '../../src/index.js';
import { testedDevices } from '../support/devices.js';
import { fill, type Random, seeded } from '../support/random.js';

const narrow = { float32: (x: number) => x, bfloat16: toBfloat16, float16: toFloat16 } as const;
const widen = { float32: (x: number) => x, bfloat16: fromBfloat16, float16: fromFloat16 } as const;
type Dtype = keyof typeof narrow;

function widened(values: ArrayLike<number>, dtype: Dtype): number[] {
  return Array.from(values, widen[dtype]);
}

function tokensOf(random: Random, sequences: number, length: number) {
  const size = sequences * length;
  return {
    shape: { sequences, length },
    oldLogProbs: fill(size, () => -random.uniform(1, 3)),
    refLogProbs: fill(size, () => -random.uniform(1, 3)),
    mask: Uint8Array.from({ length: size }, (_, i) => Number(i % 5 !== 3)),
    advantages: fill(sequences, () => random.normal()),
  };
}

function logitsInput(random: Random, dtype: Dtype, vocab: number, rowStride = vocab): LogitsInput {
  const [sequences, length] = [2, 4];
  const values = fill(sequences * length * rowStride, () => 2 * random.normal());
  return {
    ...tokensOf(random, sequences, length),
    shape: { sequences, length, vocab, rowStride },
    logits: dtype === 'float32' ? values : Uint16Array.from(values, narrow[dtype]),
    dtype,
    tokens: Int32Array.from({ length: sequences * length }, () => random.integer(0, vocab - 1)),
    temperature: 0.8,
  };
}

const configs: LossConfig[] = [
  { surrogate: { kind: 'clip', low: 0.2, high: 0.28 } },
  { surrogate: { kind: 'reinforce' }, kl: { beta: 0.1, logRatioClamp: 2 } },
  ...ratios.map(
    (ratio): LossConfig => ({
      ratio,
      surrogate: { kind: 'sapo' },
      kl: { beta: 0.2, importanceWeighted: true, logRatioClamp: 2 },
    }),
  ),
  { surrogate: { kind: 'gmpo', low: 0.4, high: 0.4 }, aggregation: 'sequence-mean' },
  { surrogate: { kind: 'vespo' }, aggregation: 'constant' },
];

for (const { name: device, skip } of testedDevices('reference', 'cpu', 'cuda')) {
  describe(`loss scale on ${device}`, { skip }, () => {
    test('float16 gradients that would flush to zero are kept, with a vocabulary of 50,257 and a denominator of 24,576', () => {
      const [vocab, normalizer, lossScale] = [50257, 24576, 2 ** 24];
      const input: LogitsInput = {
        shape: { sequences: 1, length: 2, vocab },
        logits: new Uint16Array(2 * vocab),
        dtype: 'float16',
        tokens: Int32Array.of(5, vocab - 1),
        advantages: Float32Array.of(1),
        normalizer,
      };
      const config: LossConfig = { surrogate: { kind: 'reinforce' } };
      for (const inPlace of [false, true]) {
        const run = (options: { lossScale?: number }) =>
          logitsLoss({ ...input, logits: input.logits.slice() }, config, { device, inPlace, ...options });
        const plain = run({});
        const flushed = widened(plain.gradLogits, 'float16').filter((x) => x === 0).length;
        assert.equal(flushed, 2 * (vocab - 1)); // the purpose of the scale
        const scaled = run({ lossScale });
        assert.equal(scaled.loss, plain.loss);
        assert.deepEqual(scaled.metrics, plain.metrics);
        assert.equal(scaled.metrics.nonFinite, 0);
        const unscaled = widened(scaled.gradLogits, 'float16').map((x) => x / lossScale);
        unscaled.forEach((value, i) => {
          const exact = (1 / vocab - Number(i % vocab === input.tokens[i < vocab ? 0 : 1])) / normalizer;
          assert.ok(Math.abs(value - exact) <= Math.abs(exact) * 2 ** -10, `${i}: ${value}, not ${exact}`);
        });
      }
    });

    test('a power of two changes only exponents, in every type, in place and in separate memory; loss and metrics stay the same', () => {
      for (const dtype of ['float32', 'bfloat16', 'float16'] as const) {
        for (const [vocab, rowStride] of [
          [7, 7],
          [33, 36],
          [2600, 2600],
        ]) {
          configs.forEach((base, c) => {
            const random = seeded(100 * vocab + c);
            const input = logitsInput(random, dtype, vocab, rowStride);
            const config = { ...base, entropy: random.pick([undefined, { coefficient: 0.1, topQuantile: 0.6 }]) };
            const plain = logitsLoss(input, config, { device });
            // Of the same row in float32, which 2^10 neither overflows nor flushes; only a GPU sums it in another order.
            const wide = {
              ...input,
              dtype: 'float32' as const,
              logits: Float32Array.from(widened(input.logits, dtype)),
            };
            const exact = logitsLoss(wide, config, { device }).gradLogits as Float32Array;
            for (const inPlace of [false, true]) {
              for (const lossScale of [2 ** 10, 2 ** -3]) {
                const label = `${dtype}, ${vocab}, ${JSON.stringify(config)}, in place ${inPlace}, ${lossScale}`;
                const logits = input.logits.slice();
                const result = logitsLoss({ ...input, logits }, config, { device, inPlace, lossScale });
                assert.equal(result.loss, plain.loss, label);
                assert.deepEqual(result.metrics, plain.metrics, label);
                const values = widened(result.gradLogits, dtype);
                if (dtype !== 'float16') {
                  const scaled = widened(plain.gradLogits, dtype).map((x) => x * lossScale);
                  assert.deepEqual(values, scaled, label);
                }
                if (device !== 'cuda') {
                  const rounded = Array.from(exact, (x) => widen[dtype](narrow[dtype](x * lossScale)));
                  assert.deepEqual(values, rounded, label);
                }
                values.forEach((x, i) => {
                  const expected = exact[i] * lossScale;
                  const rounding = { float32: 2 ** -18, bfloat16: 2 ** -8, float16: 2 ** -11 }[dtype];
                  const bound = rounding * Math.abs(expected) + 2 ** -20 * lossScale + 2 ** -25;
                  assert.ok(Math.abs(x - expected) <= bound, `${label}: ${i}`);
                });
              }
            }
          });
        }
      }
    });

    test('log-probs: the same, for every ratio and aggregation', () => {
      for (const aggregation of aggregations) {
        configs.forEach((base, c) => {
          const random = seeded(c);
          const tokens = tokensOf(random, 3, 6);
          const logProbs = fill(18, () => -random.uniform(1, 3));
          const input: PolicyInput = { ...tokens, logProbs };
          const config = { ...base, aggregation };
          const plain = policyLoss(input, config, { device });
          for (const lossScale of [2 ** 20, 2 ** -5]) {
            const { loss, metrics, gradLogProbs } = policyLoss(input, config, { device, lossScale });
            const label = `${JSON.stringify(config)}, ${lossScale}`;
            assert.deepEqual(
              gradLogProbs,
              plain.gradLogProbs.map((x) => x * lossScale),
              label,
            );
            assert.equal(loss, plain.loss, label);
            assert.deepEqual(metrics, plain.metrics, label);
          }
          assert.ok(plain.gradLogProbs.some((x) => x !== 0));
        });
      }
    });

    test('values that overflow because of the scale count in nonFinite', () => {
      const input = logitsInput(seeded(3), 'float16', 40);
      const config: LossConfig = { surrogate: { kind: 'reinforce' }, aggregation: 'sequence-sum' };
      const plain = logitsLoss(input, config, { device });
      assert.equal(plain.metrics.nonFinite, 0);
      const lossScale = 2 ** 19;
      const { metrics, gradLogits, loss } = logitsLoss(input, config, { device, lossScale });
      const infinite = widened(gradLogits, 'float16').filter((x) => !Number.isFinite(x)).length;
      assert.ok(infinite > 6 && infinite < 240, String(infinite));
      assert.equal(metrics.nonFinite, infinite);
      assert.equal(loss, plain.loss);

      const logProbs = fill(2, () => -1);
      const policy: PolicyInput = { shape: { sequences: 2, length: 1 }, logProbs, advantages: Float32Array.of(1e5, 1) };
      for (const ratio of ratios) {
        const scaled = policyLoss(policy, { ratio, surrogate: { kind: 'sapo' } }, { device, lossScale: 2 ** 120 });
        assert.equal(scaled.metrics.nonFinite, 1, ratio);
        assert.equal(scaled.gradLogProbs[0], -Infinity);
        assert.ok(Number.isFinite(scaled.gradLogProbs[1]));
      }
    });
  });
}

test('the scale is checked', () => {
  const input: PolicyInput = {
    shape: { sequences: 1, length: 1 },
    logProbs: Float32Array.of(-1),
    advantages: Float32Array.of(1),
  };
  const config: LossConfig = { surrogate: { kind: 'reinforce' } };
  for (const lossScale of [0, -1, NaN, Infinity, 1e39, 1e-50]) {
    assert.throws(() => policyLoss(input, config, { lossScale }), {
      name: 'RangeError',
      message: /^options\.lossScale: /,
    });
  }
  assert.throws(() => policyLoss(input, config, { lossScale: '2' as never }), TypeError);
  assert.throws(() => policyLoss(input, config, { lossScale: 2, gradient: false }), {
    name: 'TypeError',
    message: 'options.lossScale: expected it only without gradient: false',
  });
});
