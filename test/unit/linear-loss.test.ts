// linearLoss: the same as logitsLoss on the products of hidden states and the unembedding, in chunks that do not change the bits.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import test, { describe } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { DeviceArray } from '../../src/devices/device-array.js';
import type { LinearPlan } from '../../src/devices/plan.js';
import { referenceDevice } from '../../src/devices/reference/index.js';
import { ratios } from '../../src/devices/settings.js';
import { type LinearInput, type LossConfig, linearLoss, logitsLoss, presets } from '../../src/index.js';
import { planLinear } from '../../src/loss/request.js';
import { testedDevices } from '../support/devices.js';
import { asInput } from '../support/float64.js';
import { typescript } from '../support/native.js';
import { fill, type Random, seeded } from '../support/random.js';

interface Sizes {
  sequences: number;
  length: number;
  hiddenSize: number;
  vocab: number;
}

/** NaN where nothing may be read. */
function drawInput(random: Random, shape: Sizes, masked = true): LinearInput {
  const { sequences, length, hiddenSize, vocab } = shape;
  const rows = sequences * length;
  const mask = Uint8Array.from({ length: rows }, (_, i) =>
    Number(!masked || (i % 7 !== 3 && i % length < length - (i % 2))),
  );
  const hidden = (values: Float32Array, perToken = 1) =>
    values.map((x, i) => (mask[Math.floor(i / perToken)] ? x : NaN));
  const about = -Math.log(vocab) - 0.5;
  return {
    shape,
    hidden: hidden(
      fill(rows * hiddenSize, () => random.normal()),
      hiddenSize,
    ),
    unembedding: fill(vocab * hiddenSize, () => random.normal() / Math.sqrt(hiddenSize)),
    tokens: Int32Array.from(mask, (m) => (m ? random.integer(0, vocab - 1) : -1)),
    temperature: random.pick([1, 0.8]),
    mask,
    oldLogProbs: hidden(fill(rows, () => about + 0.7 * random.normal())),
    refLogProbs: hidden(fill(rows, () => about + 0.7 * random.normal())),
    advantages: fill(sequences, () => random.normal()),
  };
}

/** The products in float64, with the soft cap. */
function logitsOf({ shape, hidden, unembedding, softCap = Infinity }: LinearInput): Float64Array {
  const { sequences, length, hiddenSize, vocab } = shape;
  const logits = new Float64Array(sequences * length * vocab);
  for (let row = 0; row < sequences * length; row++) {
    for (let v = 0; v < vocab; v++) {
      let sum = 0;
      for (let d = 0; d < hiddenSize; d++) sum += hidden[row * hiddenSize + d] * unembedding[v * hiddenSize + d];
      logits[row * vocab + v] = softCap === Infinity ? sum : softCap * Math.tanh(sum / softCap);
    }
  }
  return logits;
}

function whole(input: LinearInput, config: LossConfig, device: 'reference' | 'cpu') {
  const { hidden, unembedding, softCap = Infinity, shape, ...rest } = input;
  const { hiddenSize, ...tokenShape } = shape;
  const exact = logitsOf(input);
  const result = logitsLoss({ ...rest, shape: tokenShape, logits: Float32Array.from(exact) }, config, { device });
  const gradHidden = new Float64Array(hidden.length);
  const gradUnembedding = new Float64Array(unembedding.length);
  result.gradLogits.forEach((gradient, i) => {
    const row = Math.floor(i / shape.vocab);
    if (gradient === 0) return;
    const g = gradient * (softCap === Infinity ? 1 : 1 - (exact[i] / softCap) ** 2);
    for (let d = 0; d < hiddenSize; d++) {
      gradHidden[row * hiddenSize + d] += g * unembedding[(i % shape.vocab) * hiddenSize + d];
      gradUnembedding[(i % shape.vocab) * hiddenSize + d] += g * hidden[row * hiddenSize + d];
    }
  });
  return { ...result, gradHidden, gradUnembedding };
}

function assertClose(actual: ArrayLike<number>, expected: ArrayLike<number>, bound: number, label: string): void {
  assert.equal(actual.length, expected.length, label);
  const size = Array.from(expected).reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  for (let i = 0; i < expected.length; i++) {
    assert.ok(Math.abs(actual[i] - expected[i]) <= bound * size, `${label}[${i}]: ${actual[i]}, not ${expected[i]}`);
  }
}

const kl = { beta: 0.1, logRatioClamp: 3 };
const variants: Partial<LossConfig>[] = [
  {},
  { kl: { ...kl, estimator: 'k1' }, entropy: { coefficient: 0.05 } },
  { kl: { ...kl, estimator: 'k2', importanceWeighted: true } },
  { kl: { ...kl, estimator: 'k3', importanceWeighted: true }, entropy: { coefficient: -0.1, topQuantile: 0.3 } },
  { entropy: { coefficient: 0.1, topQuantile: 0.5, threshold: 1.5, tokens: 20 }, offPolicyThreshold: 0.1 },
];

for (const { name, skip } of testedDevices('reference', 'cpu')) {
  const device = name as 'reference' | 'cpu';
  describe(`linearLoss on ${device}`, { skip }, () => {
    test('equals logitsLoss over the products: every preset, ratio, KL term, entropy term and quantile; and metrics', () => {
      let seed = 0;
      const configs = [
        ...Object.values(presets),
        ...ratios.map((ratio) => ({ ratio, surrogate: { kind: 'clip', low: 0.2, high: 0.2 } }) as LossConfig),
      ];
      for (const base of configs) {
        for (const variant of variants) {
          const random = seeded(++seed);
          const shape = {
            sequences: 3,
            length: 8,
            hiddenSize: random.pick([1, 5, 16]),
            vocab: random.pick([2, 9, 40]),
          };
          const input = drawInput(random, shape);
          if (random.chance(0.3)) input.softCap = random.pick([1.5, 30]);
          if (random.chance(0.3)) input.oldLogProbs = undefined;
          const config: LossConfig = { ...base, ...variant };
          const label = `seed ${seed}, ${JSON.stringify(config)}`;
          const expected = whole(input, config, device);
          const actual = linearLoss(input, config, { device });
          const bound = device === 'cpu' ? 2e-5 : 2e-6; // logits are rounded to float32 above, not here
          assert.ok(Math.abs(actual.loss - expected.loss) <= 20 * bound * (1 + Math.abs(expected.loss)), label);
          assertClose(actual.logProbs, expected.logProbs, bound, `${label}: logProbs`);
          assertClose(actual.entropies, expected.entropies, bound, `${label}: entropies`);
          assertClose(actual.gradHidden, expected.gradHidden, 10 * bound, `${label}: gradHidden`);
          assertClose(actual.gradUnembedding, expected.gradUnembedding, 10 * bound, `${label}: gradUnembedding`);
          assert.deepEqual(Object.keys(actual.metrics).sort(), Object.keys(expected.metrics).sort(), label);
          for (const [metric, value] of Object.entries(expected.metrics)) {
            const difference = Math.abs(actual.metrics[metric] - value);
            assert.ok(
              difference <= 50 * bound * (1 + Math.abs(value)),
              `${label}: ${metric} ${actual.metrics[metric]}, not ${value}`,
            );
          }
        }
      }
    });

    test('chunk and threads do not change the bits', () => {
      for (const [masked, softCap] of [
        [true, undefined],
        [false, 5],
      ] as const) {
        const input = {
          ...drawInput(seeded(5), { sequences: 5, length: 111, hiddenSize: 19, vocab: 37 }, masked),
          softCap,
        };
        const config: LossConfig = { ...presets.gspo, kl, entropy: { coefficient: 0.1, topQuantile: 0.8 } };
        const first = linearLoss(input, config, { device, chunkRows: 128 });
        assert.ok(first.gradUnembedding.every(Number.isFinite) && first.gradUnembedding.some((x) => x !== 0));
        for (const chunkRows of [1, 129, 256, 512, 100000, undefined]) {
          for (const threads of [1, 2]) {
            const again = linearLoss(input, config, { device, threads, ...(chunkRows && { chunkRows }) });
            assert.deepEqual({ ...again }, { ...first }, `${chunkRows} rows, ${threads} threads`);
          }
        }
      }
    });

    test('computes only the requested gradients, with the same bits', () => {
      const input = drawInput(seeded(6), { sequences: 2, length: 70, hiddenSize: 6, vocab: 11 });
      const both = linearLoss(input, presets.dapo, { device });
      const hidden = linearLoss(input, presets.dapo, { device, gradient: 'hidden' });
      const unembedding = linearLoss(input, presets.dapo, { device, gradient: 'unembedding' });
      const none = linearLoss(input, presets.dapo, { device, gradient: false });
      assert.deepEqual([hidden.gradHidden, hidden.gradUnembedding], [both.gradHidden, undefined]);
      assert.deepEqual([unembedding.gradHidden, unembedding.gradUnembedding], [undefined, both.gradUnembedding]);
      assert.deepEqual([none.gradHidden, none.gradUnembedding], [undefined, undefined]);
      for (const { loss, logProbs } of [hidden, unembedding, none]) {
        assert.equal(loss, both.loss);
        assert.deepEqual(logProbs, both.logProbs);
      }
    });

    test('rewards instead of advantages', () => {
      const input = drawInput(seeded(7), { sequences: 4, length: 5, hiddenSize: 4, vocab: 6 });
      const { advantages: _, ...rest } = input;
      const rewards = [1, 0, 0.5, 0];
      const fused = linearLoss({ ...rest, rewards, advantage: { groupSize: 2, hadw: { anchor: 0.4 } } }, presets.grpo, {
        device,
      });
      const advantages = fused.advantage?.advantages as Float32Array;
      const apart = linearLoss({ ...rest, advantages }, presets.grpo, { device });
      assert.deepEqual(fused.gradHidden, apart.gradHidden);
      assert.equal(fused.metrics.reward, 0.375);
    });

    test('an empty mask; no token with a gradient', () => {
      const input = drawInput(seeded(8), { sequences: 2, length: 3, hiddenSize: 4, vocab: 5 });
      const empty = linearLoss({ ...input, mask: new Uint8Array(6) }, presets.grpo, { device });
      assert.equal(empty.loss, 0);
      assert.equal(empty.metrics.nonFinite, 0);
      assert.ok([...empty.gradHidden, ...empty.gradUnembedding, ...empty.logProbs].every((x) => x === 0));
      const flat = linearLoss({ ...input, advantages: new Float32Array(2) }, presets.grpo, { device });
      assert.ok([...flat.gradHidden, ...flat.gradUnembedding].every((x) => x === 0));
      assert.ok(flat.logProbs.some((x) => x !== 0));
    });

    test('nonFinite counts as in logitsLoss', () => {
      const input = drawInput(seeded(9), { sequences: 3, length: 4, hiddenSize: 4, vocab: 5 }, false);
      input.hidden[5] = NaN;
      input.refLogProbs![9] = -Infinity;
      const config: LossConfig = { ...presets.dapo, kl: { beta: 0.1, estimator: 'k2' }, entropy: { coefficient: 0.1 } };
      const expected = whole(input, config, device);
      const actual = linearLoss(input, config, { device });
      assert.equal(expected.metrics.nonFinite, 5 + 1);
      assert.equal(actual.metrics.nonFinite, expected.metrics.nonFinite);
      assert.ok(Number.isNaN(actual.loss));
      assert.ok(actual.gradHidden.subarray(4, 8).every(Number.isNaN));
      assert.ok(actual.gradHidden.subarray(0, 4).every(Number.isFinite));
      assert.ok(actual.gradUnembedding.every(Number.isNaN));
      // Beyond float32 only in the product.
      const huge = {
        ...drawInput(seeded(10), { sequences: 1, length: 1, hiddenSize: 1, vocab: 2 }, false),
        oldLogProbs: undefined,
      };
      huge.tokens.fill(1);
      huge.hidden.fill(1e-30);
      huge.unembedding.set([3e38, -3e38]);
      huge.advantages!.fill(1e6);
      const { metrics, gradHidden } = linearLoss(huge, presets.reinforce, { device });
      assert.ok(!Number.isFinite(gradHidden[0]));
      assert.equal(metrics.nonFinite, 1);
    });
  });
}

test('float64: finite differences with respect to hidden states and unembedding', () => {
  const configs: LossConfig[] = [
    { surrogate: { kind: 'clip', low: 0.2, high: 0.28 }, kl: { beta: 0.2 }, entropy: { coefficient: 0.1 } },
    { ...presets.gspo, surrogate: { kind: 'sapo' }, kl: { beta: 0.2, importanceWeighted: true } },
    { ...presets.gmpo, aggregation: 'constant', entropy: { coefficient: -0.2 } },
    { surrogate: { kind: 'reinforce' }, entropy: { coefficient: 0.2, topQuantile: 0.5, threshold: 1, tokens: 4 } },
  ];
  configs.forEach((config, c) => {
    for (const softCap of [undefined, 2]) {
      const input = { ...drawInput(seeded(20 + c), { sequences: 2, length: 3, hiddenSize: 3, vocab: 4 }), softCap };
      const plan = planLinear(input, config);
      const wide: LinearPlan = {
        ...plan,
        hidden: asInput(plan.hidden),
        unembedding: asInput(plan.unembedding),
        logProbs: new Float64Array(6),
        entropies: new Float64Array(6),
        gradHidden: new Float64Array(plan.hidden.length),
        gradUnembedding: new Float64Array(plan.unembedding.length),
      };
      const compute = referenceDevice.linearLoss!;
      compute(wide);
      for (const [field, gradient] of [
        ['hidden', wide.gradHidden],
        ['unembedding', wide.gradUnembedding],
      ] as const) {
        const x = wide[field];
        for (let i = 0; i < x.length; i++) {
          if (Number.isNaN(x[i])) continue;
          const [above, below] = [1e-5, -1e-5].map((step) => {
            const moved = asInput(x);
            moved[i] += step;
            return compute({ ...wide, [field]: moved, gradHidden: null, gradUnembedding: null }).loss;
          });
          const difference = (above - below) / 2e-5;
          assert.ok(
            Math.abs(difference - gradient![i]) < 1e-8,
            `${c}, cap ${softCap}, ${field}[${i}]: ${gradient![i]}, not ${difference}`,
          );
        }
      }
    }
  });
});

const [cpu] = testedDevices('cpu');
test('logits are never in memory as a whole', { skip: cpu.skip }, async () => {
  const [rows, vocab] = [2048, 40_000];
  const script = fileURLToPath(new URL('../support/peak-of-linear-loss.ts', import.meta.url));
  const growth = async (chunkRows: number) => {
    const args = [...typescript, script, ...[rows, vocab, chunkRows].map(String)];
    return Number((await promisify(execFile)(process.execPath, args)).stdout) / 2 ** 20;
  };
  const whole = (4 * rows * vocab) / 2 ** 20;
  const [chunks, one] = [await growth(128), await growth(rows)];
  assert.ok(chunks < whole / 4, `${chunks} MiB more, of logits of ${whole} MiB`);
  // That this would be seen.
  assert.ok(one > whole, `${one} MiB more in one chunk, of logits of ${whole} MiB`);
});

test('arguments are checked', () => {
  const input = drawInput(seeded(40), { sequences: 2, length: 2, hiddenSize: 3, vocab: 4 }, false);
  const refuses = (change: object, options: object, name: string, message: RegExp) =>
    assert.throws(() => linearLoss({ ...input, ...change }, presets.grpo, { device: 'reference', ...options }), {
      name,
      message,
    });
  refuses(
    { hidden: new Float32Array(11) },
    {},
    'RangeError',
    /^hidden: expected 12 values \(2 sequences x 2 x 3\), got 11$/,
  );
  refuses(
    { unembedding: new Float32Array(11) },
    {},
    'RangeError',
    /^unembedding: expected 12 values \(4 x 3\), got 11$/,
  );
  refuses({ hidden: new Uint16Array(12) }, {}, 'TypeError', /^hidden: expected a Float32Array/);
  refuses({ tokens: Int32Array.of(0, 1, 4, 0) }, {}, 'RangeError', /^tokens\[2\]: expected an id from 0 to 3, got 4$/);
  refuses({ shape: { sequences: 2, length: 2, vocab: 4 } }, {}, 'TypeError', /^shape\.hiddenSize: /);
  refuses({ softCap: 0 }, {}, 'RangeError', /^softCap: expected a finite number above 0, got 0$/);
  refuses({ temperature: 0 }, {}, 'RangeError', /^temperature: /);
  refuses({ logits: new Float32Array(1) }, {}, 'TypeError', /^logits: unknown field/);
  refuses({}, { chunkRows: 0 }, 'RangeError', /^options\.chunkRows: expected an integer at least 1/);
  refuses({}, { gradient: 'logits' }, 'RangeError', /^options\.gradient: expected one of 'hidden', 'unembedding'/);
  refuses(
    {},
    { gradient: 1 },
    'TypeError',
    /^options\.gradient: expected a boolean, 'hidden' or 'unembedding', got 1$/,
  );
  refuses({}, { lossScale: 2 }, 'TypeError', /^options\.lossScale: unknown field/);
  refuses({}, { device: 'cuda' }, 'RangeError', /^options\.device: expected 'cpu' or 'reference' and typed arrays/);
  const array = Object.create(DeviceArray.prototype) as never;
  refuses({ hidden: array }, {}, 'RangeError', /^options\.device: expected 'cpu' or 'reference' and typed arrays/);
});
