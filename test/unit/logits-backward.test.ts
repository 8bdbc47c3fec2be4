// logitsBackward on every device, and policyLoss with entropies: together with the log-probs and entropies of logits they
// equal logitsLoss.

import assert from 'node:assert/strict';
import test, { describe } from 'node:test';
import { fromBfloat16, toBfloat16 } from '../../src/devices/reference/bfloat16.js';
import { fromFloat16, toFloat16 } from '../../src/devices/reference/float16.js';
import { referenceDevice } from '../../src/devices/reference/index.js';
import {
  type LogitsBackwardInput,
  type LogitsInput,
  type LossConfig,
  logitsBackward,
  logitsLoss,
  policyLoss,
  presets,
} from '../../src/index.js';
import { planLogits, planLogitsBackward } from '../../src/loss/request.js';
import { testedDevices } from '../support/devices.js';
import { asInput, float64Logits } from '../support/float64.js';
import { fill, type Random, seeded } from '../support/random.js';

const narrow = { float32: (x: number) => x, bfloat16: toBfloat16, float16: toFloat16 } as const;
const widen = { float32: (x: number) => x, bfloat16: fromBfloat16, float16: fromFloat16 } as const;
const precision = { float32: 2 ** -20, bfloat16: 2 ** -8, float16: 2 ** -11 } as const;
type Dtype = keyof typeof narrow;

function widened(values: ArrayLike<number>, dtype: Dtype): number[] {
  return Array.from(values, widen[dtype]);
}

function stored(values: Float32Array, dtype: Dtype): Float32Array | Uint16Array {
  return dtype === 'float32' ? values : Uint16Array.from(values, narrow[dtype]);
}

const [sequences, length] = [3, 5];
const rows = sequences * length;
const mask = Uint8Array.from({ length: rows }, (_, i) => Number(i % 4 !== 2 && i < 13));
/** NaN where nothing may be read. */
function hidden(values: Float32Array, perToken = 1): Float32Array {
  return values.map((x, i) => (mask[Math.floor(i / perToken)] ? x : NaN));
}

function drawInput(random: Random, dtype: Dtype, vocab: number, rowStride: number): LogitsInput {
  const values = fill(rows * rowStride, () => 2 * random.normal());
  const padded = values.map((x, i) => (mask[Math.floor(i / rowStride)] && i % rowStride < vocab ? x : NaN));
  const about = -Math.log(vocab) - 1;
  return {
    shape: { sequences, length, vocab, rowStride },
    logits: stored(padded, dtype),
    dtype,
    tokens: Int32Array.from(mask, (m) => (m ? random.integer(0, vocab - 1) : -3)),
    temperature: random.pick([1, 0.7]),
    mask,
    oldLogProbs: hidden(fill(rows, () => about + random.normal())),
    refLogProbs: hidden(fill(rows, () => about + random.normal())),
    advantages: Float32Array.of(1.2, -0.8, 0.5),
  };
}

const variants: Partial<LossConfig>[] = [
  {},
  { entropy: { coefficient: 0.1 } },
  { entropy: { coefficient: -0.2, topQuantile: 0.4 }, kl: { beta: 0.1, logRatioClamp: 3 } },
  { entropy: { coefficient: 0, topQuantile: 0.6 }, kl: { beta: 0.1, importanceWeighted: true, logRatioClamp: 3 } },
  { entropy: { coefficient: 0.1, topQuantile: 0.5, threshold: 1, tokens: 9 } },
];

for (const { name: device, skip } of testedDevices('reference', 'cpu', 'cuda')) {
  describe(`the halves of logitsLoss on ${device}`, { skip }, () => {
    test('every preset with entropy terms, quantiles and KL terms, in every type, in place and in separate memory', () => {
      let seed = 0;
      for (const [preset, base] of Object.entries(presets)) {
        for (const variant of variants) {
          const random = seeded(++seed);
          const dtype = random.pick(['float32', 'bfloat16', 'float16'] as const);
          const vocab = random.pick([2, 7, 129, 2500]);
          const rowStride = vocab + random.pick([0, 3]);
          const input = drawInput(random, dtype, vocab, rowStride);
          const config: LossConfig = { ...base, ...variant };
          const label = `${preset}, ${JSON.stringify(variant)}, ${dtype}, ${vocab}`;
          const whole = logitsLoss(input, config, { device });

          const { logits: _, dtype: __, tokens, temperature, ...tokenInput } = input;
          const shape = { sequences, length };
          const { logProbs, entropies } = logitsLoss(input, config, { device, gradient: false });
          assert.deepEqual(logProbs, whole.logProbs, label);
          const policy = policyLoss({ ...tokenInput, shape, logProbs, entropies }, config, { device });
          assert.ok(Math.abs(policy.loss - whole.loss) <= 1e-6 * (1 + Math.abs(whole.loss)), label);
          assert.deepEqual(Object.keys(policy.metrics).sort(), Object.keys(whole.metrics).sort(), label);
          for (const [name, value] of Object.entries(whole.metrics)) {
            assert.ok(Math.abs(policy.metrics[name] - value) <= 1e-6 * (1 + Math.abs(value)), `${label}: ${name}`);
          }
          assert.equal(policy.gradEntropies !== undefined, (config.entropy?.coefficient ?? 0) !== 0, label);

          for (const inPlace of [false, true]) {
            const logits = input.logits.slice();
            const { gradLogProbs, gradEntropies } = policy;
            const { gradLogits, metrics } = logitsBackward(
              {
                shape: { rows, vocab, rowStride },
                logits,
                dtype,
                tokens,
                temperature,
                mask,
                gradLogProbs,
                gradEntropies,
              },
              { device, inPlace },
            );
            assert.equal(gradLogits === logits, inPlace);
            assert.equal(metrics.nonFinite, 0, label);
            if (device === 'cpu') assert.deepEqual(gradLogits, whole.gradLogits, label);
            const expected = widened(whole.gradLogits, dtype);
            widened(gradLogits, dtype).forEach((value, i) => {
              const size = Math.abs(gradLogProbs[Math.floor(i / rowStride)]) + 0.1;
              assert.ok(Math.abs(value - expected[i]) <= precision[dtype] * size, `${label}: ${i}`);
            });
          }
        }
      }
    });

    test('masked rows and rows without a gradient: not read; written as zeros, or not at all where zeros are promised', () => {
      for (const dtype of ['float32', 'bfloat16', 'float16'] as const) {
        for (const [vocab, rowStride] of [
          [5, 7],
          [2500, 2501],
        ]) {
          const random = seeded(vocab);
          const gradLogProbs = Float32Array.of(0.5, 0, 1, NaN, 0, 0.25);
          const gradEntropies = Float32Array.of(0, 0, 0, 0, 0.5, 0);
          const some = Uint8Array.of(1, 1, 1, 0, 1, 0);
          const read = [0, 2, 4];
          const values = fill(6 * rowStride, () => random.normal());
          const readable = (i: number) => read.includes(Math.floor(i / rowStride)) && i % rowStride < vocab;
          const logits = stored(
            values.map((x, i) => (readable(i) ? x : NaN)),
            dtype,
          );
          const input: LogitsBackwardInput = {
            shape: { rows: 6, vocab, rowStride },
            logits,
            dtype,
            tokens: Int32Array.of(1, 2, 3, -1, 4, 99999),
            mask: some,
            gradLogProbs,
            gradEntropies,
          };
          const { gradLogits, metrics } = logitsBackward(input, { device });
          assert.equal(metrics.nonFinite, 0);
          widened(gradLogits, dtype).forEach((x, i) => {
            assert.ok(readable(i) ? Number.isFinite(x) : x === 0, `${dtype}, ${i}: ${x}`);
          });
          for (const row of read) {
            const own = widened(gradLogits.subarray(row * rowStride, row * rowStride + vocab), dtype);
            assert.ok(own.some((x) => x !== 0));
            const sum = own.reduce((a, b) => a + b, 0);
            assert.ok(Math.abs(sum) <= vocab * precision[dtype], `a row's gradient adds up to 0, not ${sum}`);
          }
          const given = stored(new Float32Array(6 * rowStride), dtype);
          const zeroed = logitsBackward(input, { device, gradLogits: given, zeroed: true });
          assert.equal(zeroed.gradLogits, given);
          assert.deepEqual(given, gradLogits);
        }
      }
    });

    test('nonFinite counts values read and values that overflow', () => {
      const run = (
        logits: number[],
        g: number,
        c: number,
        options: { lossScale?: number } = {},
        dtype: Dtype = 'float32',
      ) => {
        const vocab = logits.length;
        const input: LogitsBackwardInput = {
          shape: { rows: 1, vocab },
          logits: stored(Float32Array.from(logits), dtype),
          dtype,
          tokens: Int32Array.of(0),
          gradLogProbs: Float32Array.of(g),
          gradEntropies: Float32Array.of(c),
        };
        const { gradLogits, metrics } = logitsBackward(input, { device, ...options });
        return { nonFinite: metrics.nonFinite, values: widened(gradLogits, dtype) };
      };
      const allNaN = ({ values }: { values: number[] }) => values.every(Number.isNaN);
      for (const tail of [[], new Array<number>(2600).fill(0)]) {
        const cases: [ReturnType<typeof run>, number][] = [
          [run([1, NaN, 2, Infinity, ...tail], 1, 0), 2],
          [run([1, 2, ...tail], NaN, 0), 1],
          [run([1, 2, ...tail], Infinity, NaN), 2],
          [run([NaN, 2, ...tail], 0, NaN), 2],
        ];
        for (const [result, count] of cases) {
          assert.equal(result.nonFinite, count);
          assert.ok(allNaN(result));
        }
      }
      assert.equal(run([-Infinity, -Infinity, -Infinity], 1, 0).nonFinite, 3);
      const impossible = run([-Infinity, 0, 1], 1, 0);
      assert.equal(impossible.nonFinite, 0);
      assert.ok(impossible.values.every(Number.isFinite));
      const overflown = run([0, 0], 2, 0, { lossScale: 2 ** 17 }, 'float16');
      assert.deepEqual(overflown, { nonFinite: 2, values: [Infinity, -Infinity] });
    });

    test('a non-finite entropy counts where its log-prob does not', () => {
      const config: LossConfig = { surrogate: { kind: 'reinforce' }, entropy: { coefficient: 0.5 } };
      const run = (logProbs: number[], entropies: number[]) =>
        policyLoss(
          {
            shape: { sequences: 1, length: 2 },
            logProbs: Float32Array.from(logProbs),
            entropies: Float32Array.from(entropies),
            advantages: Float32Array.of(1),
          },
          config,
          { device },
        );
      assert.equal(run([-1, -1], [1, NaN]).metrics.nonFinite, 1);
      assert.equal(run([-1, NaN], [1, NaN]).metrics.nonFinite, 1);
      assert.equal(run([NaN, -1], [1, Infinity]).metrics.nonFinite, 2);
      const { loss, gradEntropies, metrics } = run([-1, -1], [1, 2]);
      assert.deepEqual(gradEntropies, Float32Array.of(-0.25, -0.25));
      assert.ok(Math.abs(loss - (1 - 0.75)) < 1e-6);
      assert.equal(metrics.entropy, 1.5);
    });

    test('a loss scale applies to all gradients', () => {
      const input = {
        shape: { sequences: 1, length: 3 },
        logProbs: Float32Array.of(-1, -2, -3),
        entropies: Float32Array.of(1, 2, 3),
        mask: Uint8Array.of(1, 0, 1),
        advantages: Float32Array.of(1),
      };
      const config: LossConfig = { surrogate: { kind: 'reinforce' }, entropy: { coefficient: 0.5, topQuantile: 0.5 } };
      const plain = policyLoss(input, config, { device });
      const scaled = policyLoss(input, config, { device, lossScale: 64 });
      assert.deepEqual(plain.gradEntropies, Float32Array.of(0, 0, -0.5));
      assert.deepEqual(scaled.gradEntropies, Float32Array.of(0, 0, -32));
      assert.equal(scaled.loss, plain.loss);
      assert.equal(policyLoss(input, config, { device, lossScale: 3e38 }).metrics.nonFinite, 0);
      const huge = { ...config, entropy: { coefficient: 30 } };
      assert.equal(policyLoss(input, huge, { device, lossScale: 3e38 }).metrics.nonFinite, 2);
    });
  });
}

test('finite differences of g ℓ + c H in float64, at temperatures other than 1', () => {
  const [n, vocab] = [4, 5];
  for (let seed = 1; seed <= 20; seed++) {
    const random = seeded(seed);
    const plan = planLogitsBackward({
      shape: { rows: n, vocab },
      logits: fill(n * vocab, () => 2 * random.normal()),
      tokens: Int32Array.from({ length: n }, () => random.integer(0, vocab - 1)),
      temperature: random.pick([0.6, 1, 1.7]),
      gradLogProbs: fill(n, () => random.normal()),
      gradEntropies: fill(n, () => random.normal()),
    });
    const gradLogits = new Float64Array(n * vocab);
    referenceDevice.logitsBackward({ ...plan, gradLogits });
    const forward = float64Logits(
      planLogits(
        {
          shape: { sequences: 1, length: n, vocab },
          logits: plan.logits,
          tokens: plan.tokens,
          temperature: plan.temperature,
          advantages: Float32Array.of(0),
        },
        presets.reinforce,
        { gradient: false },
      ),
    );
    const value = (logits: Float64Array) => {
      referenceDevice.logitsLoss({ ...forward, logits: asInput(logits), gradLogits: null });
      let sum = 0;
      for (let row = 0; row < n; row++) {
        sum += plan.gradLogProbs[row] * forward.logProbs[row] + plan.gradEntropies![row] * forward.entropies[row];
      }
      return sum;
    };
    const x = Float64Array.from(plan.logits);
    for (let i = 0; i < x.length; i++) {
      const [above, below] = [1e-5, -1e-5].map((step) => value(x.map((v, k) => (k === i ? v + step : v))));
      assert.ok(Math.abs((above - below) / 2e-5 - gradLogits[i]) < 1e-8, `seed ${seed}, ${i}`);
    }
  }
});

test('arguments are checked', () => {
  const input: LogitsBackwardInput = {
    shape: { rows: 2, vocab: 3 },
    logits: new Float32Array(6),
    tokens: Int32Array.of(0, 2),
    gradLogProbs: new Float32Array(2),
  };
  const refuses = (change: object, options: object, name: string, message: RegExp) =>
    assert.throws(() => logitsBackward({ ...input, ...change }, options), { name, message });
  refuses({ tokens: Int32Array.of(0, 3) }, {}, 'RangeError', /^tokens\[1\]: expected an id from 0 to 2, got 3$/);
  refuses({ logits: new Float32Array(5) }, {}, 'RangeError', /^logits: expected 6 values \(2 rows x 3\), got 5$/);
  refuses({ gradLogProbs: undefined }, {}, 'TypeError', /^gradLogProbs: expected a Float32Array, got nothing$/);
  refuses({ gradEntropies: new Float32Array(3) }, {}, 'RangeError', /^gradEntropies: expected 2 values, got 3$/);
  refuses({ shape: { rows: 0, vocab: 3 } }, {}, 'RangeError', /^shape\.rows: /);
  refuses({ advantages: new Float32Array(2) }, {}, 'TypeError', /^advantages: unknown field/);
  refuses(
    { gradLogProbs: input.logits.subarray(0, 2) },
    { inPlace: true },
    'RangeError',
    /^logits: expected memory apart from gradLogProbs/,
  );
  refuses({}, { gradient: false }, 'TypeError', /^options\.gradient: unknown field/);
  refuses({}, { zeroed: true }, 'TypeError', /^options\.zeroed: /);
  const policy = { shape: { sequences: 1, length: 1 }, logProbs: Float32Array.of(-1), advantages: Float32Array.of(1) };
  assert.throws(() => policyLoss({ ...policy, entropies: new Float32Array(2) }, { surrogate: { kind: 'reinforce' } }), {
    name: 'RangeError',
    message: /^entropies: expected 1 values/,
  });
});
