// metrics.nonFinite (docs/losses.md, "What nonFinite counts") on every device: non-finite results of a call are
// counted, and consequences of a counted value are not counted again.

import assert from 'node:assert/strict';
import test, { describe } from 'node:test';
import { fromBfloat16, toBfloat16 } from '../../src/devices/reference/bfloat16.js';
import { fromFloat16, toFloat16 } from '../../src/devices/reference/float16.js';
import { ratios } from '../../src/devices/settings.js';
import {
  type AdvantageConfig,
  computeAdvantages,
  type LogitsInput,
  type LossConfig,
  logitsLoss,
  type PolicyInput,
  policyLoss,
} from '../../src/index.js';
import { testedDevices } from '../support/devices.js';

const reinforce = { kind: 'reinforce' } as const;
const clip = { kind: 'clip', low: 0.2, high: 0.2 } as const;

function beyond(values: ArrayLike<number>): number {
  return Array.from(values).filter((x) => !Number.isFinite(x)).length;
}

/** One sequence of equal tokens. */
function tokens(n: number, l: number, old: number, ref: number, advantage: number): PolicyInput {
  return {
    shape: { sequences: 1, length: n },
    logProbs: new Float32Array(n).fill(l),
    oldLogProbs: new Float32Array(n).fill(old),
    refLogProbs: new Float32Array(n).fill(ref),
    advantages: Float32Array.of(advantage),
  };
}

for (const { name: device, skip } of testedDevices('reference', 'cpu', 'cuda')) {
  describe(`nonFinite on ${device}`, { skip }, () => {
    const policy = (input: PolicyInput, config: LossConfig) => policyLoss(input, config, { device });

    test('advantages: every advantage, weight, mean and std beyond float32, and rewards without a verdict', () => {
      const cases: [string, number[], AdvantageConfig][] = [
        ['a std of 1e300', [1e300, -1e300], { groupSize: 2 }],
        ['a mean and a std of 1e300', [1e300, 3e300], { groupSize: 2 }],
        ['rewards as they are', [1e300, -1e300, 1, NaN], { groupSize: 2, center: 'none', scale: 'none' }],
        ['equal rewards', [1e300, 1e300], { groupSize: 2 }],
        ['a sum beyond float64', [1.7e308, 1.7e308, 1e308], { groupSize: 3 }],
        ['a std beyond float64', [1.7e308, -1.7e308], { groupSize: 2 }],
        ['HA-DW with large rewards', [1000, 0, 1000, 0], { groupSize: 4, hadw: { anchor: 0 } }],
        ['HA-DW with large rewards of the batch', [1000, 0, 0, 0], { groupSize: 2, hadw: {} }],
        ['HA-DW, no verdicts', [NaN, NaN, 1, 0], { groupSize: 2, hadw: { anchor: 0.5 } }],
        ['none', [1, 0, 0.5, NaN], { groupSize: 2, hadw: { anchor: 0.5 } }],
      ];
      for (const [name, rewards, config] of cases) {
        const result = computeAdvantages(rewards, config, { device });
        const verdicts = (g: number) =>
          rewards.slice(g * config.groupSize!, (g + 1) * config.groupSize!).some((r) => !Number.isNaN(r));
        const expected =
          rewards.filter(Number.isNaN).length +
          beyond(result.advantages) +
          beyond(result.weights) +
          beyond([...result.groupMean].filter((_, g) => verdicts(g))) +
          beyond(result.groupStd);
        assert.equal(result.metrics.nonFinite, expected, name);
        if (name !== 'none' && name !== 'HA-DW, no verdicts') assert.ok(expected > 0, name);
        // A call with rewards counts the same, plus the values that it then reads.
        const shape = { sequences: rewards.length, length: 1 };
        const fused = policy(
          { shape, logProbs: new Float32Array(rewards.length), rewards, advantage: config },
          { surrogate: reinforce },
        );
        const input = {
          shape,
          logProbs: new Float32Array(rewards.length),
          advantages: result.advantages as Float32Array,
        };
        assert.equal(
          fused.metrics.nonFinite,
          expected + policy(input, { surrogate: reinforce }).metrics.nonFinite,
          name,
        );
      }
    });

    test('advantages of ±1e300 equal those of ±1', () => {
      const { advantages, metrics } = computeAdvantages([1e300, -1e300], { groupSize: 2 }, { device });
      assert.deepEqual([...advantages], [Math.fround(Math.SQRT1_2), -Math.fround(Math.SQRT1_2)]);
      assert.equal(metrics.nonFinite, 1);
    });

    test('a KL term that overflows counts each of its tokens, whatever β is', () => {
      for (const importanceWeighted of [false, true]) {
        for (const ratio of ratios) {
          for (const [l, ref, beta] of [
            [-101, -1, 1e-6],
            [-1000, -0, 1e-30],
            [-101, -1, 1],
          ]) {
            const config = { surrogate: clip, ratio, kl: { beta, importanceWeighted } };
            const label = `l ${l}, ref ${ref}, beta ${beta}, weighted ${importanceWeighted}, ratio ${ratio}`;
            assert.equal(policy(tokens(3, l, l, ref, 0), config).metrics.nonFinite, 3, label);
            const bounded = policy(tokens(3, l, l, ref, 0), { ...config, kl: { ...config.kl, logRatioClamp: 20 } });
            assert.equal(bounded.metrics.nonFinite, 0, label);
            assert.ok(Number.isFinite(bounded.loss) && beyond(bounded.gradLogProbs) === 0, label);
          }
        }
      }
    });

    test('a reference log-prob of −∞ counts once, with all its consequences', () => {
      for (const estimator of ['k1', 'k2', 'k3'] as const) {
        for (const importanceWeighted of [false, true]) {
          for (const ratio of ratios) {
            const input = tokens(3, -1, -1.5, -2, 1);
            (input.refLogProbs as Float32Array)[1] = -Infinity;
            const { loss, metrics } = policy(input, {
              surrogate: clip,
              ratio,
              kl: { beta: 1, estimator, importanceWeighted },
            });
            assert.equal(metrics.nonFinite, 1, `${estimator}, ${ratio}`);
            assert.ok(!Number.isFinite(loss));
          }
        }
      }
    });

    test('surrogates that overflow count each of their tokens', () => {
      const large = tokens(2, -1, -60, -1, -1e30);
      for (const ratio of ratios) assert.equal(policy(large, { surrogate: clip, ratio }).metrics.nonFinite, 2, ratio);
      const weighted = { ...tokens(2, -1, -1, -1, 1e30), tokenWeights: Float32Array.of(1e20, 1) };
      for (const surrogate of [clip, reinforce, { kind: 'gmpo', low: 0.2, high: 0.2 }] as const) {
        assert.equal(policy(weighted, { surrogate }).metrics.nonFinite, 1, surrogate.kind);
      }
      // The ratio overflows, the loss does not: its clipped branch is finite.
      const clipped = policy(tokens(2, -1, -1000, -1, 1), { surrogate: clip });
      assert.ok(Number.isFinite(clipped.loss));
      assert.equal(clipped.metrics.nonFinite, 0);
    });

    test('a loss beyond float32 counts even if each of its tokens is within range', () => {
      const input = { ...tokens(4, -1, -1, -1, 3e38), sequences: 1 };
      const { metrics, gradLogProbs } = policy(input, { surrogate: reinforce, aggregation: 'sequence-sum' });
      assert.equal(beyond(gradLogProbs), 0);
      assert.equal(metrics.nonFinite, 1);
    });

    test('a gradient beyond float32 counts even if each of its parts is within range', () => {
      // GMPO's derivative with respect to the mean is distributed over the tokens, and KL is added to it.
      const input = { ...tokens(1, -1, -1, 0, -3e38), sequences: 1 };
      const config: LossConfig = {
        surrogate: { kind: 'gmpo', low: 0.2, high: 0.2 },
        aggregation: 'sequence-sum',
        kl: { beta: 3e38, estimator: 'k1' },
      };
      const { metrics, gradLogProbs } = policy(input, config);
      assert.equal(gradLogProbs[0], Infinity);
      assert.equal(metrics.nonFinite, 1);
      assert.equal(policyLoss(input, config, { device, gradient: false }).metrics.nonFinite, 0);
    });

    const row = (advantage: number, dtype: 'float32' | 'bfloat16' | 'float16', vocab = 2): LogitsInput => ({
      shape: { sequences: 1, length: 1, vocab },
      logits: dtype === 'float32' ? new Float32Array(vocab) : new Uint16Array(vocab),
      dtype,
      tokens: Int32Array.of(0),
      advantages: Float32Array.of(advantage),
    });

    test('gradient values beyond the range of their type count', () => {
      const cases: [number, 'float32' | 'bfloat16' | 'float16', number, number][] = [
        [65503 * 2, 'float16', 2, 0],
        [65521 * 2, 'float16', 2, 2],
        [65521 * 2, 'float16', 3000, 1],
        [3.39e38, 'bfloat16', 2, 0],
        [3.4e38, 'float32', 2, 0],
      ];
      for (const [advantage, dtype, vocab, count] of cases) {
        for (const inPlace of [false, true]) {
          for (const oldLogProbs of [undefined, Float32Array.of(-Math.log(vocab))]) {
            const input = { ...row(advantage, dtype, vocab), ...(oldLogProbs && { oldLogProbs }) };
            const { gradLogits, metrics } = logitsLoss(input, { surrogate: reinforce }, { device, inPlace });
            const widen = { float32: (x: number) => x, bfloat16: fromBfloat16, float16: fromFloat16 }[dtype];
            const label = `${dtype}, advantage ${advantage}, ${vocab} values`;
            assert.equal(beyond(Array.from(gradLogits as Float32Array, widen)), count, label);
            assert.equal(metrics.nonFinite, count, label);
          }
        }
      }
      // The temperature moves float32's and bfloat16's out of their range.
      for (const dtype of ['float32', 'bfloat16', 'float16'] as const) {
        for (const entropy of [undefined, { coefficient: 1 }]) {
          const input = { ...row(1e34, dtype, 700), temperature: 1e-6 };
          input.logits[1] = dtype === 'float32' ? 1e-5 : dtype === 'bfloat16' ? toBfloat16(1e-5) : toFloat16(1e-5);
          const { gradLogits, metrics } = logitsLoss(input, { surrogate: reinforce, entropy }, { device });
          const widen = { float32: (x: number) => x, bfloat16: fromBfloat16, float16: fromFloat16 }[dtype];
          const count = beyond(Array.from(gradLogits as Float32Array, widen));
          assert.ok(count > 0, dtype);
          assert.equal(metrics.nonFinite, count, dtype);
        }
      }
    });

    test('the row of a token that is counted is not counted again', () => {
      for (const dtype of ['float32', 'bfloat16', 'float16'] as const) {
        for (const oldLogProbs of [undefined, Float32Array.of(-1)]) {
          const input = { ...row(Infinity, dtype, 33), ...(oldLogProbs && { oldLogProbs }) };
          const { gradLogits, metrics } = logitsLoss(input, { surrogate: reinforce }, { device });
          const widen = { float32: (x: number) => x, bfloat16: fromBfloat16, float16: fromFloat16 }[dtype];
          assert.ok(Array.from(gradLogits as Float32Array, widen).every(Number.isNaN), dtype);
          assert.equal(metrics.nonFinite, 1, dtype);
        }
      }
    });

    test('an entropy term that makes the loss infinite counts', () => {
      const { metrics } = logitsLoss(
        row(0, 'float32', 3),
        { surrogate: reinforce, entropy: { coefficient: -3.4e38 } },
        { device, gradient: false },
      );
      assert.equal(metrics.nonFinite, 1);
    });

    test('sequences are counted separately', () => {
      const input: PolicyInput = {
        shape: { sequences: 4, length: 2 },
        logProbs: Float32Array.of(-1, NaN, -1, -1, -101, -101, -1, -1),
        refLogProbs: Float32Array.of(-1, -1, -1, -Infinity, -1, -1, -1, -1),
        advantages: Float32Array.of(1, 1, 1, NaN),
      };
      for (const ratio of ratios) {
        const { metrics } = policy(input, { surrogate: clip, ratio, kl: { beta: 0.1 } });
        assert.equal(metrics.nonFinite, 1 + 1 + 2 + 1, ratio);
      }
    });
  });
}
