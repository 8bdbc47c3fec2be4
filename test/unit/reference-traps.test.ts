// The traps of the mathematics (docs/losses.md, "Traps"), each on every device through the public API.
//
// Where values are not exact, the bound is 4e-6 of the expected value: results are float32 (6e-8) from a few float32
// operations on inputs whose log-ratios and logits are of order 10, so that exp() makes 10 times 6e-8 of their rounding.

import assert from 'node:assert/strict';
import test, { describe } from 'node:test';
import { fromBfloat16, toBfloat16 } from '../../src/devices/reference/bfloat16.js';
import { aggregations } from '../../src/devices/settings.js';
import {
  computeAdvantages,
  type LogitsInput,
  type LogitsOptions,
  type LossConfig,
  logitsLoss,
  type PolicyInput,
  policyLoss,
  presets,
} from '../../src/index.js';
import { assertNumber, largest } from '../support/compare.js';
import { testedDevices } from '../support/devices.js';
import { fill, seeded } from '../support/random.js';
import { surrogateExamples } from '../support/surrogates.js';

const relative = 4e-6;

const surrogates = Object.values(surrogateExamples());

function close(actual: number, expected: number, label: string): void {
  assertNumber(actual, expected, relative * Math.abs(expected), label);
}

/** One sequence with the given log-probs; advantages: one, or one per token. */
function sequence(logProbs: number[], oldLogProbs: number[], advantages: number[]): PolicyInput {
  return {
    shape: { sequences: 1, length: logProbs.length },
    logProbs: Float32Array.from(logProbs),
    oldLogProbs: Float32Array.from(oldLogProbs),
    advantages: Float32Array.from(advantages),
  };
}

for (const { name: device, skip } of testedDevices('reference', 'cpu', 'cuda')) {
  describe(`traps on ${device}`, { skip }, () => {
    const policy = (input: PolicyInput, config: LossConfig) => policyLoss(input, config, { device });
    const logits = <I extends LogitsInput>(input: I, config: LossConfig, options: LogitsOptions = {}) =>
      logitsLoss(input, config, { ...options, device, gradient: true });

    test('trap 1: sapo at an infinite ratio has a finite loss and gradient 0', () => {
      const { loss, gradLogProbs } = policy(sequence([-1], [-1000], [2]), { surrogate: { kind: 'sapo' } });
      close(loss, -8, 'loss');
      assert.equal(largest(gradLogProbs), 0);
      assert.ok(gradLogProbs.every(Number.isFinite));
    });

    test('trap 1: a zero advantage has loss and gradient 0 whatever the ratio', () => {
      for (const surrogate of surrogates) {
        for (const old of [-1000, 1000, -Infinity, NaN]) {
          for (const ratio of ['token', 'sequence', 'sequence-token'] as const) {
            const label = `${surrogate.kind}, old log-prob ${old}, ratio ${ratio}`;
            const { loss, gradLogProbs } = policy(sequence([-1, -2], [old, -2], [0]), { surrogate, ratio });
            assert.equal(Math.abs(loss), 0, label);
            assert.deepEqual(Array.from(gradLogProbs, Math.abs), [0, 0], label);
          }
        }
      }
    });

    test('trap 1: a token weight of zero has loss and gradient 0 whatever the ratio', () => {
      // vespo's token weights are part of its importance weight instead.
      for (const surrogate of surrogates.filter(({ kind }) => kind !== 'vespo')) {
        const input = { ...sequence([-1], [-1000], [-1]), tokenWeights: Float32Array.of(0) };
        const { loss, gradLogProbs } = policy(input, { surrogate });
        assert.equal(Math.abs(loss), 0, surrogate.kind);
        assert.equal(Math.abs(gradLogProbs[0]), 0, surrogate.kind);
      }
    });

    test('trap 1: the clipped branch has gradient 0 although the ratio of the other branch is infinite', () => {
      const clip = { kind: 'clip', low: 0.2, high: 0.3 } as const;
      const cases: [string, number, LossConfig, number][] = [
        ['high', 2, { surrogate: clip }, -2 * 1.3],
        ['max', -2, { surrogate: { ...clip, max: 5 } }, 10],
        ['dual', -2, { surrogate: { ...clip, dual: 3 } }, 6],
        ['log-ratio clamp', -2, { surrogate: clip, logRatioClamp: 3 }, 2 * Math.exp(3)],
        ['log-ratio clamp above the largest float32', 2, { surrogate: clip, logRatioClamp: 500 }, -2 * 1.3],
        ['gmpo', 2, { surrogate: { kind: 'gmpo', low: 0.2, high: 0.3 } }, -2 * Math.exp(0.3)],
      ];
      for (const [name, advantage, config, expected] of cases) {
        for (const ratio of ['token', 'sequence', 'sequence-token'] as const) {
          const { loss, gradLogProbs } = policy(sequence([-1], [-1000], [advantage]), { ...config, ratio });
          close(loss, expected, `${name}, ratio ${ratio}: loss`);
          assert.equal(Math.abs(gradLogProbs[0]), 0, `${name}, ratio ${ratio}: gradient`);
        }
      }
    });

    test('trap 1: masked tokens are not read', () => {
      const kl = { beta: 0.1, importanceWeighted: true };
      const visible = {
        shape: { sequences: 2, length: 3 },
        mask: Uint8Array.of(1, 1, 0, 1, 0, 0),
        normalizer: 3,
      };
      const make = (hidden: number): PolicyInput => ({
        ...visible,
        logProbs: Float32Array.of(-1, -2, hidden, -0.5, hidden, hidden),
        oldLogProbs: Float32Array.of(-1.1, -1.8, hidden, -0.7, hidden, hidden),
        refLogProbs: Float32Array.of(-1.2, -2.2, hidden, -0.4, hidden, hidden),
        tokenWeights: Float32Array.of(1, 0.5, hidden, 2, hidden, hidden),
        advantages: Float32Array.of(1, -1, hidden, 0.5, hidden, hidden),
      });
      for (const surrogate of surrogates) {
        for (const ratio of ['token', 'sequence', 'sequence-token'] as const) {
          for (const aggregation of aggregations) {
            const config: LossConfig = { surrogate, ratio, aggregation, kl, offPolicyThreshold: 0.5 };
            const expected = policy(make(0), config);
            for (const hidden of [NaN, Infinity, -Infinity]) {
              const label = `${surrogate.kind}, ${ratio}, ${aggregation}, ${hidden}`;
              assert.deepEqual(policy(make(hidden), config), expected, label);
            }
            assert.equal(expected.metrics.nonFinite, 0);
            assert.deepEqual(
              [2, 4, 5].map((i) => Math.abs(expected.gradLogProbs[i])),
              [0, 0, 0],
            );
          }
        }
      }
    });

    test('trap 1: NaN in a ratio that counts is not hidden by a bound', () => {
      for (const surrogate of surrogates.filter(({ kind }) => kind !== 'reinforce')) {
        for (const advantage of [1, -1]) {
          const { loss, metrics } = policy(sequence([-1, -1], [NaN, -1], [advantage]), { surrogate });
          assert.ok(Number.isNaN(loss), `${surrogate.kind}, A ${advantage}: loss ${loss}`);
          assert.equal(metrics.nonFinite, 1);
        }
      }
    });

    test('trap 2: without old log-probs a NaN log-prob still reaches the loss', () => {
      for (const surrogate of surrogates) {
        const input = { shape: { sequences: 1, length: 2 }, logProbs: Float32Array.of(NaN, -1) };
        const { loss, metrics } = policy({ ...input, advantages: Float32Array.of(1) }, { surrogate });
        assert.equal(metrics.nonFinite, 1, surrogate.kind);
        assert.ok(Number.isNaN(loss), `${surrogate.kind}: loss ${loss}`);
      }
    });

    test('trap 2: without old log-probs the ratio is 1 and carries a gradient', () => {
      const advantages = Float32Array.of(1, -0.5);
      for (const ratio of ['token', 'sequence', 'sequence-token'] as const) {
        const input = { shape: { sequences: 2, length: 2 }, logProbs: Float32Array.of(-1, -2, -3, -4), advantages };
        const { loss, gradLogProbs, metrics } = policy(input, { ...presets.grpo, ratio });
        close(loss, -0.25, 'loss is −mean(A)');
        assert.deepEqual(Array.from(gradLogProbs), [-0.25, -0.25, 0.125, 0.125], ratio);
        assert.deepEqual([metrics['ratio/min'], metrics['ratio/max'], Math.abs(metrics.approx_kl)], [1, 1, 0]);
      }
    });

    test('trap 3: without an unmasked token loss and gradient are 0 and no metric is NaN', () => {
      for (const surrogate of surrogates) {
        for (const aggregation of aggregations) {
          for (const emptySequences of ['count', 'drop'] as const) {
            const config: LossConfig = {
              surrogate,
              aggregation,
              emptySequences,
              ratio: 'sequence',
              kl: { beta: 0.1 },
              entropy: { coefficient: 0.1, topQuantile: 0.5 },
            };
            const nan = new Float32Array(4).fill(NaN);
            const result = logits(
              {
                shape: { sequences: 2, length: 2, vocab: 3 },
                logits: new Float32Array(12).fill(NaN),
                tokens: new Int32Array(4).fill(-1),
                oldLogProbs: nan,
                refLogProbs: nan,
                mask: new Uint8Array(4),
                advantages: Float32Array.of(1, -1),
              },
              config,
            );
            const label = `${surrogate.kind}, ${aggregation}, ${emptySequences}`;
            assert.equal(Math.abs(result.loss), 0, label);
            for (const array of [result.gradLogits, result.logProbs, result.entropies]) {
              assert.ok(
                array.every((value) => value === 0),
                label,
              );
            }
            for (const [name, value] of Object.entries(result.metrics)) {
              assert.ok(Number.isFinite(value), `${label}: ${name} ${value}`);
            }
          }
        }
      }
    });

    test('trap 3: an empty sequence counts or not, as emptySequences says', () => {
      const input = {
        shape: { sequences: 2, length: 2 },
        logProbs: Float32Array.of(-1, -2, NaN, NaN),
        mask: Uint8Array.of(1, 1, 0, 0),
        advantages: Float32Array.of(-1, 5),
      };
      const loss = (aggregation: LossConfig['aggregation'], emptySequences: LossConfig['emptySequences']) =>
        policy(input, { ...presets.grpo, aggregation, emptySequences }).loss;
      assert.equal(loss('sequence-mean', 'count'), 0.5);
      assert.equal(loss('sequence-mean', 'drop'), 1);
      assert.equal(loss('sequence-sum', 'count'), 1);
      assert.equal(loss('sequence-sum', 'drop'), 2);
      assert.equal(loss('constant', 'count'), 0.5);
      assert.equal(loss('constant', 'drop'), 1);
      assert.equal(loss('token-mean', 'count'), 1);
      assert.equal(loss('token-mean', 'drop'), 1);
    });

    test('trap 4: equal rewards in a group give advantages of exactly 0', () => {
      for (const groupSize of [2, 3, 7, 10, 16]) {
        const values = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1 / 3, 1e6 + 0.1];
        const rewards = values.flatMap((value) => new Array<number>(groupSize).fill(value));
        for (const center of ['mean', 'leave-one-out'] as const) {
          for (const scale of ['group-std', 'batch-std', 'none'] as const) {
            for (const epsilon of [0, 1e-12, 1e-4]) {
              const config = { groupSize, center, scale, epsilon, hadw: { anchor: 0.5 } };
              const { advantages, groupStd, groupMean, active, metrics } = computeAdvantages(rewards, config, {
                device,
              });
              const label = JSON.stringify(config);
              assert.ok(
                advantages.every((a) => a === 0),
                label,
              );
              assert.ok(
                groupStd.every((std) => std === 0),
                label,
              );
              assert.deepEqual(groupMean, Float32Array.from(values), label);
              assert.ok(
                active.every((flag) => flag === 0),
                label,
              );
              assert.equal(metrics.frac_reward_zero_std, 1, label);
            }
          }
        }
      }
    });

    test('trap 5: bfloat16 logits are summed, exponentiated and divided by the temperature in full precision', () => {
      // In bfloat16 a sum of ones stops growing at 256, and 1 − p of a likely token is 0.
      const vocab = 5000;
      const flat = logits(
        {
          shape: { sequences: 1, length: 1, vocab },
          dtype: 'bfloat16',
          logits: new Uint16Array(vocab),
          tokens: Int32Array.of(0),
          advantages: Float32Array.of(1),
        },
        { surrogate: { kind: 'reinforce' } },
      );
      close(flat.logProbs[0], -Math.log(vocab), 'log-prob of a uniform row');
      close(flat.entropies[0], Math.log(vocab), 'entropy of a uniform row');

      const row = [10, 0.5, -1.5, 0.25];
      const temperature = 0.9;
      const { gradLogits, logProbs } = logits(
        {
          shape: { sequences: 1, length: 1, vocab: row.length },
          dtype: 'bfloat16',
          logits: Uint16Array.from(row, toBfloat16),
          tokens: Int32Array.of(0),
          advantages: Float32Array.of(1),
          temperature,
        },
        { surrogate: { kind: 'reinforce' } },
      );
      const weights = row.map((x) => Math.exp((x - row[0]) / temperature));
      const total = weights.reduce((sum, w) => sum + w, 0);
      const others = total - weights[0];
      // The log-prob is small: its error is that of a sum near 1, not relative to its own size.
      assertNumber(logProbs[0], -Math.log(total), relative * 0.1, 'log-prob');
      // 2^-8: rounding to bfloat16's 8 bits; twice that leaves room for the float32 before it (1e-3 of 1 − p).
      const expected = [-others / total, ...weights.slice(1).map((w) => w / total)].map((d) => d / temperature);
      expected.forEach((value, j) => {
        assertNumber(fromBfloat16(gradLogits[j]), value, 2 ** -7 * Math.abs(value), `gradLogits[${j}]`);
      });
    });

    test('trap 6: a forbidden token (−∞) has probability, gradient and p log p of 0', () => {
      const { gradLogits, entropies, logProbs, loss, metrics } = logits(
        {
          shape: { sequences: 1, length: 1, vocab: 4 },
          logits: Float32Array.of(1, -Infinity, 1, -Infinity),
          tokens: Int32Array.of(2),
          advantages: Float32Array.of(1),
        },
        { surrogate: { kind: 'reinforce' }, entropy: { coefficient: 0.5 } },
      );
      close(entropies[0], Math.LN2, 'entropy');
      close(logProbs[0], -Math.LN2, 'log-prob');
      close(loss, Math.LN2 - 0.5 * Math.LN2, 'loss');
      assert.deepEqual(
        Array.from(gradLogits.subarray(1), (value) => value + 0).filter((_, j) => j !== 1),
        [0, 0],
      );
      close(gradLogits[0], 0.5, 'gradLogits[0]');
      close(gradLogits[2], -0.5, 'gradLogits[2]');
      assert.equal(metrics.nonFinite, 0);
    });

    test('trap 6: NaN, +∞ and rows of only −∞ are counted where they are read', () => {
      const vocab = 3;
      const rows: [number[], number, string][] = [
        [[0, NaN, NaN], 2, 'two NaN'],
        [[0, Infinity, 1], 1, '+∞'],
        [[Infinity, Infinity, -Infinity], 2, 'two +∞'],
        [[-Infinity, -Infinity, -Infinity], 3, 'only −∞'],
      ];
      for (const [row, count, label] of rows) {
        for (const masked of [false, true]) {
          const { metrics, logProbs, entropies, gradLogits } = logits(
            {
              shape: { sequences: 1, length: 2, vocab },
              logits: Float32Array.from([...row, 1, 2, 3]),
              tokens: Int32Array.of(0, 0),
              mask: Uint8Array.of(masked ? 0 : 1, 1),
              advantages: Float32Array.of(1),
            },
            { surrogate: { kind: 'reinforce' } },
          );
          assert.equal(metrics.nonFinite, masked ? 0 : count, label);
          assert.equal(Number.isNaN(logProbs[0]), !masked, label);
          assert.equal(Number.isNaN(entropies[0]), !masked, label);
          const first = gradLogits.subarray(0, vocab);
          assert.ok(
            first.every((value) => (masked ? value === 0 : Number.isNaN(value))),
            label,
          );
          assert.ok(gradLogits.subarray(vocab).every(Number.isFinite), `${label}: the next row`);
        }
      }
    });

    test('trap 6: an invalid row without a gradient has gradient 0', () => {
      const { gradLogits, metrics } = logits(
        {
          shape: { sequences: 1, length: 1, vocab: 2 },
          logits: Float32Array.of(NaN, 1),
          tokens: Int32Array.of(0),
          advantages: Float32Array.of(0),
        },
        { surrogate: { kind: 'reinforce' } },
      );
      assert.deepEqual(Array.from(gradLogits, Math.abs), [0, 0]);
      assert.equal(metrics.nonFinite, 1);
    });

    test('trap 6: an action that is a forbidden token is counted', () => {
      const { metrics, logProbs } = logits(
        {
          shape: { sequences: 1, length: 1, vocab: 2 },
          logits: Float32Array.of(-Infinity, 1),
          tokens: Int32Array.of(0),
          advantages: Float32Array.of(0),
        },
        { surrogate: { kind: 'reinforce' } },
      );
      assert.equal(logProbs[0], -Infinity);
      assert.equal(metrics.nonFinite, 1);
    });

    test('trap 7: a row of very negative logits gives the same as the row shifted', () => {
      const row = [0, -1, -2.5, 0.5, 3];
      const run = (offset: number) =>
        logits(
          {
            shape: { sequences: 1, length: 1, vocab: row.length },
            logits: Float32Array.from(row, (x) => x + offset),
            tokens: Int32Array.of(1),
            advantages: Float32Array.of(1),
          },
          { surrogate: { kind: 'reinforce' }, entropy: { coefficient: 0.1 } },
        );
      const expected = run(0);
      for (const offset of [-128, -1024, -65536, 65536]) {
        // The sums are exact, so the shifted row is the same row.
        const { loss, gradLogits, entropies } = run(offset);
        close(loss, expected.loss, `offset ${offset}: loss`);
        close(entropies[0], expected.entropies[0], `offset ${offset}: entropy`);
        gradLogits.forEach((value, j) => {
          close(value, expected.gradLogits[j], `offset ${offset}: gradLogits[${j}]`);
        });
      }
    });

    test('trap 8: any vocabulary, padded or not, gives the same bits; padding does not count and gets no gradient', () => {
      for (const vocab of [1, 2, 7, 63, 65, 1000, 50257, 151936]) {
        const random = seeded(vocab);
        const rows = 3;
        const values = fill(rows * vocab, () => 2 * random.normal());
        const tokens = Int32Array.from({ length: rows }, () => random.integer(0, vocab - 1));
        tokens[2] = vocab - 1;
        const advantages = Float32Array.of(1, -1, 0.5);
        const config: LossConfig = { surrogate: { kind: 'reinforce' }, entropy: { coefficient: 0.1 } };
        const dense = logits(
          { shape: { sequences: rows, length: 1, vocab }, logits: values, tokens, advantages },
          config,
        );
        let exact = 0;
        for (let j = 0; j < vocab; j++) exact += Math.exp(values[2 * vocab + j]);
        const expected = values[3 * vocab - 1] - Math.log(exact);
        // Relative to the largest intermediate number, ln Σ.
        assertNumber(dense.logProbs[2], expected, relative * Math.max(1, Math.log(vocab)), `${vocab}: log-prob`);

        const rowStride = vocab + 5;
        const padded = new Float32Array(rows * rowStride).fill(NaN);
        for (let row = 0; row < rows; row++) {
          padded.set(values.subarray(row * vocab, (row + 1) * vocab), row * rowStride);
        }
        const shape = { sequences: rows, length: 1, vocab, rowStride };
        const strided = logits({ shape, logits: padded, tokens, advantages }, config);
        assert.deepEqual(strided.logProbs, dense.logProbs, `${vocab}: log-probs`);
        assert.deepEqual(strided.entropies, dense.entropies, `${vocab}: entropies`);
        assert.equal(strided.metrics.nonFinite, 0);
        for (let row = 0; row < rows; row++) {
          const start = row * rowStride;
          const gradient = strided.gradLogits.subarray(start, start + vocab);
          assert.deepEqual(gradient, dense.gradLogits.subarray(row * vocab, (row + 1) * vocab), `${vocab}: gradient`);
          const padding = strided.gradLogits.subarray(start + vocab, start + rowStride);
          assert.ok(
            padding.every((value) => value === 0),
            `${vocab}: padding`,
          );
        }
      }
    });

    const large = process.env.GROUPGRAD_TEST_LARGE
      ? false
      : 'allocates 4.5 GB (more than 2^31 bfloat16 logits): set GROUPGRAD_TEST_LARGE=1 to run it';
    test('trap 9: rows beyond 2^31 logits are addressed correctly', { skip: large }, () => {
      const vocab = 65536;
      const rows = 2 ** 15 + 8; // the last 8 rows start at 2^31 and beyond
      const values = new Uint16Array(rows * vocab);
      const random = seeded(9);
      const row = Uint16Array.from({ length: vocab }, () => toBfloat16(random.normal()));
      values.set(row, 0);
      values.set(row, (rows - 1) * vocab);
      const mask = new Uint8Array(rows);
      mask[0] = 1;
      mask[rows - 1] = 1;
      const { logProbs, gradLogits } = logits(
        {
          shape: { sequences: rows, length: 1, vocab },
          dtype: 'bfloat16',
          logits: values,
          tokens: new Int32Array(rows).fill(17),
          mask,
          advantages: new Float32Array(rows).fill(1),
        },
        { surrogate: { kind: 'reinforce' } },
        { inPlace: true },
      );
      assert.ok(Number.isFinite(logProbs[0]) && logProbs[0] < 0);
      assert.equal(logProbs[rows - 1], logProbs[0]);
      const first = gradLogits.subarray(0, vocab);
      assert.ok(first[17] !== 0);
      // Not deepEqual, whose report of a difference would take minutes.
      assert.ok(first.every((value, j) => gradLogits[(rows - 1) * vocab + j] === value));
      assert.equal(gradLogits[(rows - 2) * vocab + 17], 0);
    });

    test('trap 10: log-probs used as old log-probs in another batch give a ratio of exactly 1', () => {
      for (const dtype of ['float32', 'bfloat16'] as const) {
        for (const vocab of [7, 100, 4097, 50257]) {
          const random = seeded(vocab);
          const rows = 12;
          const values = fill(rows * vocab, () => 3 * random.normal());
          const tokens = Int32Array.from({ length: rows }, () => random.integer(0, vocab - 1));
          const rounded = dtype === 'float32' ? values : Uint16Array.from(values, toBfloat16);
          const config: LossConfig = {
            surrogate: { kind: 'clip', low: 0.2, high: 0.2 },
            entropy: { coefficient: 0.1 },
          };
          const before = logits(
            {
              shape: { sequences: 3, length: 4, vocab },
              dtype,
              logits: rounded.slice(),
              tokens,
              temperature: 0.7,
              advantages: Float32Array.of(1, 0, -1),
            },
            config,
          );

          // The same rows in reverse order, the first masked, in padded rows, in another shape, on one thread, in place.
          const rowStride = vocab + 3;
          const size = rows * rowStride;
          const shuffled = dtype === 'float32' ? new Float32Array(size) : new Uint16Array(size);
          const order = Array.from({ length: rows }, (_, i) => rows - 1 - i);
          order.forEach((from, to) => {
            shuffled.set(rounded.subarray(from * vocab, (from + 1) * vocab), to * rowStride);
          });
          const mask = new Uint8Array(rows).fill(1);
          mask[0] = 0;
          const after = logits(
            {
              shape: { sequences: 6, length: 2, vocab, rowStride },
              dtype,
              logits: shuffled,
              tokens: Int32Array.from(order, (from) => tokens[from]),
              oldLogProbs: Float32Array.from(order, (from) => before.logProbs[from]),
              mask,
              temperature: 0.7,
              advantages: Float32Array.of(1, 0, -1, 0.5, 2, -0.3),
            },
            config,
            { inPlace: true, threads: 1 },
          );
          const label = `${dtype}, vocabulary ${vocab}`;
          assert.equal(after.metrics['ratio/min'], 1, label);
          assert.equal(after.metrics['ratio/max'], 1, label);
          assert.equal(after.metrics['ratio/mean'], 1, label);
          assert.equal(Math.abs(after.metrics.approx_kl), 0, label);
          order.slice(1).forEach((from, i) => {
            assert.equal(after.logProbs[i + 1], before.logProbs[from], `${label}: log-prob`);
            assert.equal(after.entropies[i + 1], before.entropies[from], `${label}: entropy`);
          });
        }
      }
    });

    test('trap 11: an importance-weighted KL at sequence level reaches every token through the ratio', () => {
      const delta = [0.3, -0.1, 0.4];
      const logProbs = [-1, -2, -1.5];
      const input: PolicyInput = {
        ...sequence(
          logProbs,
          logProbs.map((l, t) => l - delta[t]),
          [0],
        ),
        // Only the first token differs from the reference.
        refLogProbs: Float32Array.of(-1.5, -2, -1.5),
      };
      const { gradLogProbs } = policy(input, {
        ratio: 'sequence',
        surrogate: { kind: 'clip', low: 0.2, high: 0.2 },
        aggregation: 'sequence-mean',
        kl: { beta: 0.5, estimator: 'k3', importanceWeighted: true },
      });
      const ratio = Math.exp(delta.reduce((sum, d) => sum + d, 0) / 3);
      const k = Math.exp(-0.5) + 0.5 - 1;
      const throughRatio = ((0.5 / 3) * (ratio * k)) / 3;
      const direct = (0.5 / 3) * ratio * (1 - Math.exp(-0.5));
      close(gradLogProbs[0], throughRatio + direct, 'first token');
      close(gradLogProbs[1], throughRatio, 'second token');
      close(gradLogProbs[2], throughRatio, 'third token');
    });

    test('trap 12: luspo with a KL term and token weights is masked before aggregation', () => {
      const input: PolicyInput = {
        shape: { sequences: 2, length: 3 },
        logProbs: Float32Array.of(-1, -2, -9, -0.5, -9, -9),
        oldLogProbs: Float32Array.of(-1, -2, -1, -0.5, -1, -1),
        refLogProbs: Float32Array.of(-1.5, -1.5, 5, -0.5, 5, 5),
        tokenWeights: Float32Array.of(2, 0.5, 100, 3, 100, 100),
        mask: Uint8Array.of(1, 1, 0, 1, 0, 0),
        advantages: Float32Array.of(1, -2),
      };
      const { loss } = policy(input, { ...presets.luspo, kl: { beta: 0.1, estimator: 'k2' } });
      // Ratios are 1: (1/2) [−(2 + 0.5)·1 + 0.1·(0.125 + 0.125) − 3·(−2)].
      close(loss, (-2.5 + 0.025 + 6) / 2, 'loss');
    });

    test('trap 13: the gradient of the entropy contains the temperature', () => {
      const row = [1, -0.5, 2, 0.25];
      const temperature = 1.7;
      const entropyOf = (x: number[]) => {
        const weights = x.map((value) => Math.exp(value / temperature));
        const total = weights.reduce((sum, w) => sum + w, 0);
        return -weights.reduce((sum, w) => sum + (w / total) * Math.log(w / total), 0);
      };
      const { gradLogits, loss } = logits(
        {
          shape: { sequences: 1, length: 1, vocab: row.length },
          logits: Float32Array.from(row),
          tokens: Int32Array.of(0),
          advantages: Float32Array.of(0),
          temperature,
        },
        { surrogate: { kind: 'reinforce' }, entropy: { coefficient: 1 } },
      );
      close(loss, -entropyOf(row), 'loss');
      row.forEach((_, j) => {
        const moved = (step: number) => entropyOf(row.map((x, i) => (i === j ? x + step : x)));
        const expected = -(moved(1e-5) - moved(-1e-5)) / 2e-5;
        assertNumber(gradLogits[j], expected, relative * 0.1, `gradLogits[${j}]`);
      });
    });
  });
}
