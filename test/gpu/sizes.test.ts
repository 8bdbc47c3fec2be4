// Sizes around every boundary of the kernels (words, vectors of 16 bytes, chunks, slices of a cluster, warps, units) and
// what must be true for each: agreement with the CPU device, and the same bits wherever a row is and however it is
// requested. On an emulated device the largest sizes are smaller.

import assert from 'node:assert/strict';
import test, { describe } from 'node:test';
import { fromBfloat16, toBfloat16 } from '../../src/devices/reference/bfloat16.js';
import { fromFloat16, toFloat16 } from '../../src/devices/reference/float16.js';
import {
  DeviceArray,
  devices,
  type LogitsDtype,
  type LossConfig,
  logitsLoss,
  policyLoss,
  presets,
} from '../../src/index.js';
import { testedDevices } from '../support/devices.js';
import { seeded } from '../support/random.js';

const [{ skip }] = testedDevices('cuda');
const emulated = devices()[0].detail.startsWith('emulated');

const narrow = { float32: Math.fround, bfloat16: toBfloat16, float16: toFloat16 };
const widen = { float32: (x: number) => x, bfloat16: fromBfloat16, float16: fromFloat16 };

function logitsOf(seed: number, values: number, dtype: LogitsDtype): Float32Array | Uint16Array {
  const random = seeded(seed);
  const Kind = dtype === 'float32' ? Float32Array : Uint16Array;
  const array = new Kind(values);
  for (let i = 0; i < values; i++) array[i] = narrow[dtype](3 * random.normal());
  return array;
}

const config: LossConfig = { ...presets.dapo, entropy: { coefficient: 0.01 } };

/** Rounding of the result, and 2^-17 of the largest value for float32 arithmetic over the whole row. */
function assertClose(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  dtype: LogitsDtype,
  label: string,
  absolute = dtype === 'float16' ? 2 ** -24 : 0,
): void {
  const largest = Array.from(expected).reduce((most, x) => Math.max(most, Math.abs(widen[dtype](x))), 0);
  const relative = { float32: 0, bfloat16: 2 ** -7, float16: 2 ** -10 }[dtype];
  for (let i = 0; i < expected.length; i++) {
    const a = widen[dtype](actual[i]);
    const b = widen[dtype](expected[i]);
    const allowed = 2 ** -17 * largest + relative * Math.abs(b) + absolute;
    assert.ok(Math.abs(a - b) <= allowed, `${label}[${i}]: expected ${b} within ${allowed}, got ${a}`);
  }
}

const vocabularies = [
  1,
  2,
  3,
  7,
  8,
  31,
  33,
  64,
  1000,
  2047,
  2048,
  2049,
  2050,
  4095,
  4097,
  8191,
  8192,
  8200,
  10241,
  19043,
  19044,
  19048,
  38087,
  38088,
  38089,
  38096,
  32000,
  50257,
  ...(emulated ? [128256] : [76176, 76184, 128256, 151936, 152361, 262144, 600001]),
];

describe('sizes', { skip }, () => {
  for (const dtype of ['float32', 'bfloat16', 'float16'] as const) {
    test(`logitsLoss, ${dtype}: vocabularies of ${vocabularies.join(', ')}`, () => {
      for (const vocab of vocabularies) {
        const length = vocab > 2048 ? 2 : 9;
        const input = {
          shape: { sequences: 1, length, vocab },
          logits: logitsOf(vocab, length * vocab, dtype),
          dtype,
          tokens: Int32Array.from({ length }, (_, i) => (i % 2 ? vocab - 1 : Math.floor(vocab / 2))),
          advantages: Float32Array.of(1.5),
        };
        const expected = logitsLoss(input, config, { device: 'cpu' });
        const actual = logitsLoss(input, config, { device: 'cuda' });
        const label = `vocabulary ${vocab}`;
        assertClose(actual.logProbs, expected.logProbs, 'float32', `${label}: logProbs`);
        assertClose(actual.entropies, expected.entropies, 'float32', `${label}: entropies`);
        assertClose(actual.gradLogits, expected.gradLogits, dtype, `${label}: gradLogits`);
        assert.deepEqual(
          logitsLoss(input, config, { device: 'cuda' }).gradLogits,
          actual.gradLogits,
          `${label}: again`,
        );

        using moved = DeviceArray.from(input.logits as Uint16Array, dtype as 'bfloat16');
        const inPlace = logitsLoss({ ...input, logits: moved }, config, { inPlace: true });
        assert.deepEqual(inPlace.gradLogits.toArray(), actual.gradLogits, `${label}: in place`);
      }
    });

    test(`extreme logits, ${dtype}`, () => {
      const huge = { float32: 3e37, bfloat16: 3e37, float16: 2e4 }[dtype];
      const kinds: Record<string, { logit: (x: number, i: number, vocab: number) => number; temperature?: number }> = {
        'most are -Infinity': { logit: (x, i, vocab) => (i < 0.9 * vocab ? -Infinity : x) },
        'every second is -Infinity': { logit: (x, i, vocab) => ((vocab - i) % 2 ? x : -Infinity) },
        'one is nearly certain': { logit: (x, i, vocab) => (i === vocab - 1 ? 40 : x / 2) },
        'nearly as large as the type allows': { logit: (x) => x * huge * 0.1 },
        'of a small temperature': { logit: (x) => x, temperature: 1e-4 },
        'of a large temperature': { logit: (x) => x, temperature: 1e5 },
        'far from 0': { logit: (x) => 1000 + x },
      };
      for (const [kind, { logit, temperature }] of Object.entries(kinds)) {
        for (const vocab of [4096, 5001, 32000]) {
          const logits = logitsOf(vocab, 2 * vocab, dtype);
          for (let i = 0; i < logits.length; i++) {
            logits[i] = narrow[dtype](logit(widen[dtype](logits[i]), i % vocab, vocab));
          }
          const input = {
            shape: { sequences: 1, length: 2, vocab },
            logits,
            dtype,
            tokens: Int32Array.of(vocab - 1, vocab - 3),
            advantages: Float32Array.of(1.5),
            temperature,
          };
          const expected = logitsLoss(input, config, { device: 'cpu' });
          const actual = logitsLoss(input, config, { device: 'cuda' });
          const label = `${kind}, vocabulary ${vocab}`;
          assertClose(actual.logProbs, expected.logProbs, 'float32', `${label}: logProbs`);
          // A frame's rest is up to 2^-17, and float32 rounds what the largest logit adds of it.
          assertClose(actual.entropies, expected.entropies, 'float32', `${label}: entropies`, 2 ** -42);
          assertClose(actual.gradLogits, expected.gradLogits, dtype, `${label}: gradLogits`);
          assert.equal(actual.metrics.nonFinite, expected.metrics.nonFinite, label);
          const plain = logitsLoss(input, presets.dapo, { device: 'cuda' });
          const plainExpected = logitsLoss(input, presets.dapo, { device: 'cpu' });
          assertClose(plain.gradLogits, plainExpected.gradLogits, dtype, `${label}, no entropy term: gradLogits`);
        }
      }
    });

    test(`a row's bits do not depend on where it starts, ${dtype}`, () => {
      for (const vocab of [7, 2049, 19048, 50257]) {
        const row = logitsOf(vocab, vocab, dtype);
        const seen: string[] = [];
        for (let stride = vocab; stride < vocab + 9; stride++) {
          const logits = new (row.constructor as Float32ArrayConstructor)(3 * stride).fill(narrow[dtype](NaN));
          for (let i = 0; i < 3; i++) logits.set(row as Float32Array, i * stride);
          const input = {
            shape: { sequences: 3, length: 1, vocab, rowStride: stride },
            logits: logits as Float32Array | Uint16Array,
            dtype,
            tokens: Int32Array.of(vocab - 1, vocab - 1, vocab - 1),
            advantages: Float32Array.of(1, 1, 1),
          };
          const { logProbs, entropies, gradLogits } = logitsLoss(input, config, { device: 'cuda' });
          const forward = logitsLoss(input, config, { device: 'cuda', gradient: false });
          assert.deepEqual(forward.logProbs, logProbs, 'with and without a gradient');
          for (let i = 0; i < 3; i++) {
            const gradient = Buffer.from(gradLogits.slice(i * stride, i * stride + vocab).buffer).toString('base64');
            seen.push(`${logProbs[i]} ${entropies[i]} ${gradient}`);
          }
        }
        assert.equal(new Set(seen).size, 1, `vocabulary ${vocab}`);
      }
    });
  }

  test('old log-probs of the same logits give a ratio of exactly 1', () => {
    for (const vocab of [64, 5000, 50257]) {
      const input = {
        shape: { sequences: 2, length: 2, vocab },
        logits: logitsOf(vocab, 4 * vocab, 'float32'),
        tokens: Int32Array.of(1, 2, 3, 4),
        advantages: Float32Array.of(1, -1),
      };
      const { logProbs } = logitsLoss(input, presets.grpo, { device: 'cuda', gradient: false });
      for (const preset of [presets.grpo, presets.gspo, presets.vespo]) {
        const { metrics } = logitsLoss({ ...input, oldLogProbs: logProbs }, preset, { device: 'cuda' });
        assert.equal(metrics['ratio/min'], 1);
        assert.equal(metrics['ratio/max'], 1);
      }
    }
  });

  for (const [sequences, length] of [
    [1, 1],
    [1, 70_000],
    [3, 127],
    [3, 128],
    [3, 129],
    [5, 1023],
    [5, 1024],
    [5, 1025],
    [2, 4097],
    [8192, 1],
    [8192, 3],
    [600, 7],
  ]) {
    test(`policyLoss: ${sequences} sequences of ${length} tokens`, () => {
      const random = seeded(sequences + length);
      const tokens = sequences * length;
      const floats = (draw: () => number) => Float32Array.from({ length: tokens }, draw);
      const input = {
        shape: { sequences, length },
        logProbs: floats(() => -random.uniform(0, 3)),
        oldLogProbs: floats(() => -random.uniform(0, 3)),
        refLogProbs: floats(() => -random.uniform(0, 3)),
        mask: Uint8Array.from({ length: tokens }, () => Number(random.chance(0.7))),
        advantages: Float32Array.from({ length: sequences }, () => random.normal()),
      };
      for (const preset of [presets.dapo, presets.grpo, presets.gspo, presets.gmpo, presets.vespo]) {
        const withKl: LossConfig = {
          ...preset,
          kl: { beta: 0.04, estimator: 'k3', importanceWeighted: preset === presets.gspo },
        };
        const expected = policyLoss(input, withKl, { device: 'cpu' });
        const actual = policyLoss(input, withKl, { device: 'cuda' });
        assertClose(actual.gradLogProbs, expected.gradLogProbs, 'float32', 'gradLogProbs');
        const scale = expected.gradLogProbs.reduce((sum, g) => sum + Math.abs(g), Math.abs(expected.loss));
        assert.ok(Math.abs(actual.loss - expected.loss) <= 2 ** -18 * scale, `loss ${actual.loss}, ${expected.loss}`);
        const again = policyLoss(input, withKl, { device: 'cuda' });
        assert.deepEqual(again.gradLogProbs, actual.gradLogProbs);
        assert.deepEqual(again.metrics, actual.metrics);
      }
    });
  }

  test('8192 rows, including masked and inactive ones', () => {
    const random = seeded(1);
    const rows = 8192;
    const vocab = emulated ? 40 : 3000;
    const input = {
      shape: { sequences: 64, length: 128, vocab },
      logits: logitsOf(3, rows * vocab, 'bfloat16'),
      dtype: 'bfloat16' as const,
      tokens: Int32Array.from({ length: rows }, () => random.integer(0, vocab - 1)),
      mask: Uint8Array.from({ length: rows }, () => Number(random.chance(0.6))),
      advantages: Float32Array.from({ length: 64 }, () => (random.chance(0.3) ? 0 : random.normal())),
    };
    for (const metrics of [true, false]) {
      const expected = logitsLoss(input, presets.dapo, { device: 'cpu', metrics });
      const actual = logitsLoss(input, presets.dapo, { device: 'cuda', metrics });
      assertClose(actual.gradLogits, expected.gradLogits, 'bfloat16', 'gradLogits');
      assertClose(actual.logProbs, expected.logProbs, 'float32', 'logProbs');
    }
  });
});
