// What docs/losses.md says about advantages beyond the golden vectors, and sums over micro-batches, on every device.

import assert from 'node:assert/strict';
import test, { describe } from 'node:test';
import { hasSpread } from '../../src/base/spread.js';
import { aggregations, centers, scales } from '../../src/devices/settings.js';
import {
  type AdvantageConfig,
  type AdvantageResult,
  computeAdvantages,
  type LogitsInput,
  type LossConfig,
  logitsLoss,
  type PolicyInput,
  policyLoss,
  type Rewards,
} from '../../src/index.js';
import { assertArray, assertLoss, assertNumber } from '../support/compare.js';
import { testedDevices } from '../support/devices.js';
import { fill, seeded } from '../support/random.js';

/** Statistics are computed in float64; results are rounded once to float32. */
const rounded = 2 ** -24 * (1 + 1e-6);

function close(actual: ArrayLike<number>, expected: readonly number[], label: string): void {
  assert.equal(actual.length, expected.length, `${label}: length`);
  expected.forEach((value, i) => {
    assertNumber(actual[i], value, rounded * Math.abs(value), `${label}[${i}]`);
  });
}

const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
const std = (values: readonly number[], ddof: number) =>
  Math.sqrt(values.reduce((sum, r) => sum + (r - mean(values)) ** 2, 0) / (values.length - ddof));

for (const { name: device, skip } of testedDevices('reference', 'cpu', 'cuda')) {
  describe(`advantages on ${device}`, { skip }, () => {
    const advantages = (rewards: Rewards, config: AdvantageConfig): AdvantageResult =>
      computeAdvantages(rewards, config, { device });

    test('are (r − mean) / (std + epsilon) of the group, with ddof 1 and epsilon 1e-4 by default', () => {
      const rewards = [1, 0, 0.5, 0.25, -1, 2];
      const groups = [rewards.slice(0, 3), rewards.slice(3)];
      for (const [ddof, epsilon] of [
        [undefined, undefined],
        [0, 1e-6],
        [1, 0],
      ] as const) {
        const result = advantages(rewards, { groupSize: 3, ddof, epsilon });
        const expected = groups.flatMap((g) => g.map((r) => (r - mean(g)) / (std(g, ddof ?? 1) + (epsilon ?? 1e-4))));
        close(result.advantages, expected, `ddof ${ddof}, epsilon ${epsilon}`);
        close(result.groupMean, groups.map(mean), 'groupMean');
        close(
          result.groupStd,
          groups.map((g) => std(g, ddof ?? 1)),
          'groupStd',
        );
      }
    });

    test('leave-one-out compares each reward with the mean of the others', () => {
      const rewards = [1, 0, 0.5, 0.25];
      const expected = rewards.map((r, i) => r - mean(rewards.filter((_, j) => j !== i)));
      close(
        advantages(rewards, { groupSize: 4, center: 'leave-one-out', scale: 'none' }).advantages,
        expected,
        'advantages',
      );
    });

    test("center 'none' keeps the reward", () => {
      const rewards = [1, 0, 0.5, 0.5];
      close(advantages(rewards, { groupSize: 2, center: 'none', scale: 'none' }).advantages, rewards, 'advantages');
    });

    test('batch-std divides by the standard deviation of all rewards', () => {
      const rewards = [1, 0, 4, 4.5];
      const divisor = std(rewards, 1) + 0.01;
      const expected = [0.5 / divisor, -0.5 / divisor, -0.25 / divisor, 0.25 / divisor];
      close(
        advantages(rewards, { groupSize: 2, scale: 'batch-std', epsilon: 0.01 }).advantages,
        expected,
        'advantages',
      );
    });

    test('a group of equal rewards has advantage 0 next to a group that has a spread, in every form of rewards', () => {
      for (let tenths = 1; tenths <= 9; tenths++) {
        const rewards = [...new Array<number>(7).fill(tenths / 10), 0, 1, 2, 3, 4, 5, 6];
        for (const form of [rewards, Float64Array.from(rewards), Float32Array.from(rewards)]) {
          for (const scale of scales) {
            const result = advantages(form, { groupSize: 7, scale, epsilon: 0 });
            assert.deepEqual([...result.advantages.subarray(0, 7)], new Array(7).fill(0), `${tenths / 10}, ${scale}`);
            assert.deepEqual([...result.active], [0, 1]);
          }
        }
      }
    });

    test('a group of one has advantage 0 with either centring, and no standard deviation', () => {
      for (const center of centers) {
        for (const scale of scales) {
          const {
            advantages: a,
            groupMean,
            groupStd,
            active,
          } = advantages([0.7, 0, 1], {
            groupSizes: Int32Array.of(1, 2),
            center,
            scale,
          });
          const label = `${center}, ${scale}`;
          if (center === 'none') assert.notEqual(a[0], 0, label);
          else assert.equal(a[0], 0, label);
          assert.equal(groupStd[0], 0, label);
          assert.equal(groupMean[0], Math.fround(0.7), label);
          assert.equal(active[0], center === 'none' ? 1 : 0, label);
        }
      }
    });

    test('without a spread a centred advantage is 0, and an uncentred reward is not divided', () => {
      // Rewards of the first group; the second decides whether the batch has a spread.
      const groups: [string, number[]][] = [
        ['a group of one', [0.7]],
        ['equal rewards', [0.3, 0.3, 0.3]],
        ['rewards equal but for rounding', [0.1 + 0.2, 0.3, 0.3]],
        ['equal rewards below 0', [-2, -2]],
        ['one verdict', [NaN, 0.7, NaN]],
      ];
      for (const [name, group] of groups) {
        const reward = group.find((r) => !Number.isNaN(r)) as number;
        for (const spread of [false, true]) {
          const other = spread ? [reward - 1, reward + 1] : [reward];
          const groupSizes = Int32Array.of(group.length, other.length);
          const known = [...group, ...other].filter((r) => !Number.isNaN(r));
          for (const epsilon of [0, 1e-4]) {
            const uncentred = {
              'group-std': reward,
              'group-mad': reward,
              'batch-std': spread ? reward / (std(known, 1) + epsilon) : reward,
              none: reward,
            };
            for (const center of centers) {
              for (const scale of scales) {
                const config = { groupSizes, center, scale, epsilon };
                const result = advantages([...group, ...other], config);
                const label = `${name}, batch ${spread ? 'with' : 'without'} a spread, ${JSON.stringify(config)}`;
                const expected = center === 'none' ? uncentred[scale] : 0;
                group.forEach((r, i) => {
                  const wanted = Number.isNaN(r) ? 0 : expected;
                  assertNumber(result.advantages[i], wanted, 2e-7 * Math.abs(wanted), label);
                });
                assert.equal(result.active[0], expected === 0 ? 0 : 1, label);
                assert.equal(result.groupStd[0], 0, label);
              }
            }
          }
        }
      }
    });

    test('group-mad divides by the mean absolute deviation, so that Σ |A| is G', () => {
      const groups = [
        [1, 0, 0.5, 0.25],
        [-1, 2, 7],
        [0, 0, 0, 0, 1],
      ];
      const mad = (g: readonly number[]) => mean(g.map((r) => Math.abs(r - mean(g))));
      const groupSizes = Int32Array.from(groups, ({ length }) => length);
      for (const ddof of [0, 1] as const) {
        for (const epsilon of [undefined, 0, 0.1]) {
          const config: AdvantageConfig = { groupSizes, scale: 'group-mad', ddof, epsilon };
          const result = advantages(groups.flat(), config);
          const expected = groups.flatMap((g) => g.map((r) => (r - mean(g)) / (mad(g) + (epsilon ?? 1e-4))));
          close(result.advantages, expected, `ddof ${ddof}, epsilon ${epsilon}`);
          close(
            result.groupStd,
            groups.map((g) => std(g, ddof)),
            'groupStd',
          );
        }
      }
      const { advantages: a } = advantages(groups.flat(), { groupSizes, scale: 'group-mad', epsilon: 0 });
      let first = 0;
      for (const { length } of groups) {
        const total = a.slice(first, first + length).reduce((sum, value) => sum + Math.abs(value), 0);
        assertNumber(total, length, length * rounded, 'Σ |A|');
        first += length;
      }
    });

    test('group-mad counts only rewards with a verdict, and deviations near the ends of float64', () => {
      const { advantages: a } = advantages([0, NaN, 0, 3], { groupSize: 4, scale: 'group-mad', epsilon: 0 });
      close(a, [-0.75, 0, -0.75, 1.5], 'NaN'); // (0, 0, 3): mean 1, MAD 4/3
      for (const size of [1e-310, 1e300]) {
        const far = advantages([0, 0, 0, size], { groupSize: 4, scale: 'group-mad', epsilon: 0 });
        assertArray(far.advantages, Float32Array.of(-2 / 3, -2 / 3, -2 / 3, 2), 1e-6, `rewards of ${size}`);
      }
    });

    test('dqw weights questions by a softmax over the groups with spread', () => {
      const rewards = [0, 0, 0, 1, 1, 1, 1, 0, 1, 1, 1, 1, 0, 0, 0, 0];
      const {
        advantages: a,
        weights,
        metrics,
      } = advantages(rewards, {
        groupSize: 4,
        scale: 'group-mad',
        epsilon: 0,
        dqw: {},
      });
      // Means 1/4 and 3/4, T = 2: λ = 2 / (1 + e^(∓1/4)).
      const [hard, easy] = [1.124353001771596, 0.875646998228404];
      const spread = [hard, hard, hard, hard, easy, easy, easy, easy];
      close(weights, [...spread, 1, 1, 1, 1, 1, 1, 1, 1], 'weights');
      const plain = [-2 / 3, -2 / 3, -2 / 3, 2, 2 / 3, 2 / 3, 2 / 3, -2];
      close(a, [...plain.map((value, i) => value * spread[i]), 0, 0, 0, 0, 0, 0, 0, 0], 'advantages');
      assertNumber(metrics['dqw/weight_mean'], 1, 1e-7, 'weight_mean');
      assertNumber(metrics['dqw/weight_max'], hard, 1e-7, 'weight_max');
      assertNumber(metrics['dqw/weight_min'], easy, 1e-7, 'weight_min');
      assert.equal('hadw/anchor' in metrics, false);
      assert.equal('dqw/weight_mean' in advantages(rewards, { groupSize: 4 }).metrics, false);
    });

    test('dqw with any scale, centre, temperature and ragged groups, without overflow', () => {
      const groups = [[3, 5, NaN], [-1000, -999], [NaN, NaN], [700, 705, 710, 720], [4]];
      const groupSizes = Int32Array.from(groups, ({ length }) => length);
      const known = groups.map((g) => g.filter((r) => !Number.isNaN(r)));
      for (const temperature of [0.5, 2, 1000]) {
        const exponents = known.map((g) => (g.length > 1 ? (-1000 + 0.5 - mean(g)) / temperature : NaN));
        exponents[1] = (-1000 + 0.5 - -999.5) / temperature;
        const total = exponents.reduce((sum, x) => sum + (Number.isNaN(x) ? 0 : Math.exp(x)), 0);
        for (const center of centers) {
          for (const scale of scales) {
            const config = { groupSizes, center, scale };
            const plain = advantages(groups.flat(), config);
            const weighted = advantages(groups.flat(), { ...config, dqw: { temperature } });
            let i = 0;
            for (const [g, { length }] of groups.entries()) {
              const wanted = Number.isNaN(exponents[g]) ? 1 : (3 * Math.exp(exponents[g])) / total;
              for (const end = i + length; i < end; i++) {
                assertNumber(weighted.weights[i], wanted, 2e-7 * wanted + 1e-44, `${scale} ${temperature} ${i}`);
                const product = plain.advantages[i] * wanted;
                assertNumber(weighted.advantages[i], product, 4e-7 * Math.abs(product) + 1e-44, 'advantage');
              }
            }
            assert.deepEqual(weighted.groupMean, plain.groupMean);
          }
        }
      }
    });

    test('dqw over groups without spread changes nothing', () => {
      const { weights, metrics } = advantages([1, 1, 0, 0], { groupSize: 2, dqw: {} });
      assert.deepEqual([...weights], [1, 1, 1, 1]);
      assert.equal(metrics.nonFinite, 0);
    });

    test('groups of one without a centre keep their rewards', () => {
      const { advantages: a } = advantages([0.3, 0.7], { groupSize: 1, center: 'none' });
      assert.deepEqual([...a], [Math.fround(0.3), Math.fround(0.7)]);
    });

    test('rewards that differ only by rounding have no spread', () => {
      const sum = (value: number, times: number) => new Array<number>(times).fill(value).reduce((a, b) => a + b, 0);
      const groups = [
        [0.1 + 0.2, 0.3, 0.3, 0.3],
        [0.3, 0.3, 0.3, 0.1 + 0.2],
        [0.1 + 0.7, 0.8],
        [1.1 + 2.2, 3.3],
        [1 - 0.9, 0.1],
        [sum(0.1, 10), 1],
        [sum(0.1, 100), 10],
        [sum(0.7, 64), 0.7 * 64],
        [-(0.1 + 0.2), -0.3],
        [0.2 * 3 + 0.5 * 0.1, 0.65, 0.05 + 0.6],
        [1e6 * (0.1 + 0.2), 3e5],
        [1e-9 * (0.1 + 0.2), 3e-10],
      ];
      for (const group of groups) {
        assert.ok(new Set(group).size > 1, `${group}: not equal to the last bit`);
        for (const center of ['mean', 'leave-one-out'] as const) {
          for (const scale of scales) {
            const config = { groupSize: group.length, center, scale, epsilon: 0, hadw: { anchor: 0.5 } };
            const { advantages: a, active, groupStd, weights, metrics } = advantages(group, config);
            const label = `${group}, ${center}, ${scale}`;
            assert.deepEqual([...a], new Array(group.length).fill(0), label);
            assert.deepEqual([active[0], groupStd[0], metrics.frac_reward_zero_std], [0, 0, 1], label);
            assert.ok(weights.every((w) => w === Math.fround(1.3)));
          }
        }
        assert.equal(hasSpread(group, 'float64'), false);
      }
    });

    test('a spread larger than rounding is a spread, however small', () => {
      // By the rule of src/base/spread.ts: 2^-46 of the largest reward, 2^-21 for rewards in float32.
      const borders: [Rewards, boolean][] = [1, 0.3, -5, 1e6, 1e-9, 1e-300, 1e300].flatMap(
        (size): [Rewards, boolean][] => [
          [[size, size * (1 + 2 ** -47)], false],
          [[size, size * (1 + 2 ** -45)], true],
          [Float64Array.of(size, size * (1 + 2 ** -45)), true],
        ],
      );
      borders.push([Float32Array.of(1, 1 + 2 ** -22), false], [Float32Array.of(1, 1 + 2 ** -20), true]);
      borders.push([Float32Array.of(1000, 1000.0001), false], [Float32Array.of(1000, 1000.001), true]);
      borders.push(
        [[0, 1e-3, 1], true],
        [[1, 1 + 1e-9], true],
        [[1, 1 + 1e-12], true],
        [[0, 1e-300], true],
        [[0, 1e-3], true],
      );
      for (const [rewards, spread] of borders) {
        for (const scale of ['group-std', 'batch-std'] as const) {
          const result = advantages(rewards, { groupSize: rewards.length, scale, epsilon: 0 });
          const label = `${rewards.constructor.name} ${rewards}, ${scale}`;
          assert.equal(result.metrics.frac_reward_zero_std, spread ? 0 : 1, label);
          assert.equal(result.groupStd[0] !== 0, spread, label);
          assert.equal(result.active[0], spread ? 1 : 0, label);
          assert.equal(
            result.advantages.some((a) => a !== 0),
            spread,
            label,
          );
          const precision = rewards instanceof Float32Array ? 'float32' : 'float64';
          assert.equal(hasSpread([...rewards], precision), spread, label);
          if (rewards.length === 2) {
            const size = spread ? Math.SQRT1_2 : 0;
            const sign = Math.sign(rewards[0] - rewards[1]);
            // The mean is rounded by up to 2^-53 of the rewards: 2^-7 of the smallest spread here.
            assertNumber(result.advantages[0], sign * size, 2 ** -7, label);
            assertNumber(result.advantages[1], -sign * size, 2 ** -7, label);
          }
        }
      }
    });

    test('statistics do not depend on the size of the rewards', () => {
      const rewards = [1, 0, 0.5, 0.25, -1];
      const expected = advantages(rewards, { groupSize: 5, epsilon: 0 }).advantages;
      for (const exponent of [-1000, -300, 300, 1000]) {
        const scaled = rewards.map((r) => r * 2 ** exponent);
        const { advantages: a, metrics } = advantages(scaled, { groupSize: 5, epsilon: 0 });
        assert.deepEqual(a, expected, `2^${exponent}`);
        assertNumber(metrics.reward_std / 2 ** exponent, std(rewards, 1), 1e-15, `2^${exponent}: reward_std`);
      }
    });

    test('NaN means no verdict: advantage 0, and the other rewards are unaffected', () => {
      for (const center of centers) {
        for (const scale of scales) {
          const config = { center, scale, hadw: { scale: 1.1 } };
          const whole = advantages([NaN, 1, 0, 0.5, 0.25, NaN, NaN], { groupSizes: Int32Array.of(4, 3), ...config });
          const without = advantages([1, 0, 0.5, 0.25], { groupSizes: Int32Array.of(3, 1), ...config });
          const label = `${center}, ${scale}`;
          const expected = [0, ...without.advantages.subarray(0, 3), without.advantages[3], 0, 0];
          assert.deepEqual([...whole.advantages], expected, label);
          for (const field of ['groupMean', 'groupStd', 'active', 'accuracy'] as const) {
            assert.deepEqual(whole[field], without[field], `${label}: ${field}`);
          }
          assert.deepEqual(whole.metrics, { ...without.metrics, nonFinite: 3 }, label);
          assert.equal(without.metrics.nonFinite, 0, label);
        }
      }
    });

    test('a group without a verdict has mean NaN, advantage 0, and is not active', () => {
      const result = advantages([NaN, NaN, 0, 1], { groupSize: 2 });
      assert.ok(Number.isNaN(result.groupMean[0]));
      assert.deepEqual([...result.advantages.subarray(0, 2)], [0, 0]);
      assert.deepEqual([...result.active], [0, 1]);
      assert.equal(result.accuracy, 0.5);
    });

    test('a batch without a verdict has accuracy NaN; its advantages and other metrics are finite', () => {
      const result = advantages([NaN, NaN], { groupSize: 2, hadw: {} });
      assert.deepEqual([...result.advantages], [0, 0]);
      assert.ok(result.weights.every(Number.isFinite));
      assert.ok(Number.isNaN(result.accuracy) && Number.isNaN(result.metrics.reward));
      assert.equal(result.metrics.reward_std, 0);
      assert.equal(result.metrics['hadw/weight_mean'], 0);
    });

    test('ragged groups are computed like separate calls', () => {
      const random = seeded(4);
      const sizes = [3, 1, 5, 2];
      const rewards = sizes.map((size) => Array.from({ length: size }, () => random.normal()));
      const config: AdvantageConfig = { hadw: { anchor: 0.2 } };
      const whole = advantages(rewards.flat(), { groupSizes: Int32Array.from(sizes), ...config });
      const parts = rewards.map((group) => advantages(group, { groupSize: group.length, ...config }));
      for (const field of ['advantages', 'weights', 'groupMean', 'groupStd', 'active'] as const) {
        assert.deepEqual(
          [...whole[field]],
          parts.flatMap((part) => [...part[field]]),
          field,
        );
      }
    });

    test('equal groupSizes are the same as groupSize', () => {
      const rewards = Array.from({ length: 12 }, (_, i) => Math.sin(i));
      const sizes = { groupSizes: Int32Array.of(4, 4, 4) };
      assert.deepEqual(advantages(rewards, sizes), advantages(rewards, { groupSize: 4 }));
    });

    test('HA-DW multiplies by λ exp(−sgn(A) (mean − C)), with every scale', () => {
      const rewards = [1, 0, 0, 0, 1, 1, 1, 0.5];
      const groups = [rewards.slice(0, 4), rewards.slice(4)];
      for (const scale of scales) {
        const plain = advantages(rewards, { groupSize: 4, scale });
        const weighted = advantages(rewards, { groupSize: 4, scale, hadw: { anchor: 0.4, scale: 1.7 } });
        const weights = rewards.map((_, i) => {
          const sign = Math.sign(plain.advantages[i]);
          return 1.7 * Math.exp(-sign * (mean(groups[i < 4 ? 0 : 1]) - 0.4));
        });
        close(weighted.weights, weights, `${scale}: weights`);
        // Both factors and their product are float32 here.
        weighted.advantages.forEach((a, i) => {
          const expected = plain.advantages[i] * weights[i];
          assertNumber(a, expected, 3 * rounded * Math.abs(expected), `${scale}: advantages[${i}]`);
        });
        assert.ok(plain.weights.every((weight) => weight === 1));
      }
    });

    test('HA-DW gives λ to an advantage of 0', () => {
      const { weights } = advantages([0.5, 0.5, 1, 0], { groupSize: 2, hadw: { anchor: 0.9 } });
      close(weights.subarray(0, 2), [1.3, 1.3], 'weights');
    });

    test('HA-DW without an anchor uses the mean reward of the batch', () => {
      const rewards = [1, 0, 0, NaN, 0.5, 0.7];
      const given = advantages(rewards, { groupSize: 3, hadw: { anchor: mean([1, 0, 0, 0.5, 0.7]) } });
      assert.deepEqual(advantages(rewards, { groupSize: 3, hadw: {} }), given);
      assert.deepEqual(advantages(rewards, { groupSize: 3, hadw: { anchor: undefined } }), given);
    });

    test('metrics are those that TRL logs; rewards count by weight, if they have a verdict', () => {
      const rewards = [1, 0, 0.5, 0.5, NaN, 1];
      const verdicts = rewards.filter((r) => !Number.isNaN(r));
      const { metrics, weights, accuracy } = advantages(rewards, { groupSize: 2, hadw: { anchor: 0.3 } });
      const known = [...weights].filter((_, i) => !Number.isNaN(rewards[i]));
      const expected: Record<string, number> = {
        reward: mean(verdicts),
        reward_std: std(verdicts, 1),
        frac_reward_zero_std: 2 / 3,
        nonFinite: 1,
        'hadw/anchor': 0.3,
        'hadw/weight_mean': mean(known),
        'hadw/weight_min': Math.min(...known),
        'hadw/weight_max': Math.max(...known),
      };
      assert.deepEqual(Object.keys(metrics).sort(), Object.keys(expected).sort());
      for (const [name, value] of Object.entries(expected)) {
        assertNumber(metrics[name], value, 2 * rounded * Math.abs(value), name);
      }
      assert.equal(accuracy, metrics.reward);
      assert.deepEqual(Object.keys(advantages(rewards, { groupSize: 2 }).metrics).sort(), [
        'frac_reward_zero_std',
        'nonFinite',
        'reward',
        'reward_std',
      ]);
    });

    test('accept rewards in every form, and do not modify them', () => {
      const rewards = [1, 0, 0.5, -0.25]; // exact in float32
      const forms = [rewards, Float32Array.from(rewards), Float64Array.from(rewards)];
      const results = forms.map((form) => advantages(form, { groupSize: 2 }));
      assert.deepEqual(results[1], results[0]);
      assert.deepEqual(results[2], results[0]);
      for (const form of forms) assert.deepEqual([...form], rewards);
    });

    test('a loss from rewards equals the loss from their advantages, bit for bit', () => {
      const random = seeded(8);
      const rewards = [1, 0, NaN, 0.3, 0.2, 0.9];
      const advantage: AdvantageConfig = { groupSizes: Int32Array.of(2, 4), hadw: { anchor: 0.4 } };
      const separate = advantages(rewards, advantage);
      const tokens = { shape: { sequences: 6, length: 3 }, oldLogProbs: fill(18, () => -random.uniform(0, 2)) };
      const config: LossConfig = { surrogate: { kind: 'clip', low: 0.2, high: 0.2 } };
      const input = { ...tokens, logProbs: fill(18, () => -random.uniform(0, 2)) };
      const fused = policyLoss({ ...input, rewards, advantage }, config, { device });
      const given = policyLoss({ ...input, advantages: separate.advantages }, config, { device });
      assert.equal(fused.loss, given.loss);
      assert.deepEqual(fused.gradLogProbs, given.gradLogProbs);
      assert.deepEqual(fused.advantage?.advantages, separate.advantages);
      assert.equal(fused.advantage?.accuracy, separate.accuracy);
      assert.deepEqual(fused.metrics, { ...separate.metrics, ...given.metrics, nonFinite: 1 });
    });
  });

  describe(`micro-batches on ${device}`, { skip }, () => {
    // 6 sequences of up to 5 tokens, one of them empty.
    const sequences = 6;
    const length = 5;
    const vocab = 11;
    const lengths = [5, 2, 0, 4, 1, 3];
    const random = seeded(11);
    const tokens = sequences * length;
    const mask = Uint8Array.from({ length: tokens }, (_, i) => (i % length < lengths[Math.floor(i / length)] ? 1 : 0));
    const masked = mask.reduce((sum, m) => sum + m, 0);
    const policy: PolicyInput = {
      shape: { sequences, length },
      logProbs: fill(tokens, () => -random.uniform(0, 3)),
      oldLogProbs: fill(tokens, () => -random.uniform(0, 3)),
      refLogProbs: fill(tokens, () => -random.uniform(0, 3)),
      mask,
      advantages: fill(sequences, () => random.normal()),
    };
    const { logProbs: _, ...rest } = policy;
    const logits: LogitsInput & { logits: Float32Array } = {
      ...rest,
      shape: { sequences, length, vocab },
      logits: fill(tokens * vocab, () => random.normal()),
      tokens: Int32Array.from({ length: tokens }, () => random.integer(0, vocab - 1)),
    };
    const micro = [
      [0, 1],
      [1, 3],
      [3, 6],
    ];
    const slice = <A extends Float32Array | Uint8Array | Int32Array>(values: A, [from, to]: number[], size: number) =>
      values.slice(from * size, to * size) as A;

    function part<I extends PolicyInput | LogitsInput>(input: I, range: number[]): I {
      const cut = {
        ...input,
        shape: { ...input.shape, sequences: range[1] - range[0] },
        mask: slice(mask, range, length),
        oldLogProbs: slice(policy.oldLogProbs as Float32Array, range, length),
        refLogProbs: slice(policy.refLogProbs as Float32Array, range, length),
        advantages: slice(policy.advantages as Float32Array, range, 1),
      };
      if ('logits' in cut) {
        cut.logits = slice(logits.logits, range, length * vocab);
        cut.tokens = slice(logits.tokens, range, length);
      } else cut.logProbs = slice(policy.logProbs, range, length);
      return cut;
    }

    // The whole and the parts have the same float32 terms; their factor is rounded once, their sums are float64.
    const bound = 4 * 2 ** -24;

    for (const aggregation of aggregations) {
      for (const emptySequences of ['count', 'drop'] as const) {
        // What a trainer passes with every micro-batch: the counts of the whole accumulation window.
        const denominators = { normalizer: masked, sequences: emptySequences === 'count' ? 6 : 5 };
        const kl = { beta: 0.1, estimator: 'k3' } as const;
        const config: LossConfig = {
          surrogate: { kind: 'clip', low: 0.2, high: 0.2 },
          aggregation,
          emptySequences,
          kl,
        };

        test(`${aggregation}, empty sequences ${emptySequences}: policy losses and gradients add up`, () => {
          const whole = policyLoss(policy, config, { device });
          const parts = micro.map((range) =>
            policyLoss({ ...part(policy, range), ...denominators }, config, { device }),
          );
          const gradient = parts.flatMap((p) => [...p.gradLogProbs]);
          assertArray(gradient, whole.gradLogProbs, bound, 'gradient');
          assertLoss(
            parts.reduce((sum, p) => sum + p.loss, 0),
            whole.loss,
            whole.gradLogProbs,
            bound,
            'loss',
          );
        });

        test(`${aggregation}, empty sequences ${emptySequences}: losses from logits add up, including the entropy term`, () => {
          const topQuantile = 0.4;
          const entropy = { coefficient: 0.3, topQuantile };
          const whole = logitsLoss(logits, { ...config, entropy }, { device });
          // What a trainer computes from the entropies of the window.
          const entropies = [...whole.entropies].filter((_, i) => mask[i]).sort((a, b) => a - b);
          const threshold = entropies[Math.ceil((1 - topQuantile) * (masked - 1) - 1e-9)];
          const global = { ...entropy, threshold, tokens: entropies.filter((h) => h >= threshold).length };
          const parts = micro.map((range) =>
            logitsLoss({ ...part(logits, range), ...denominators }, { ...config, entropy: global }, { device }),
          );
          const gradient = parts.flatMap((p) => [...p.gradLogits]);
          assertArray(gradient, whole.gradLogits, bound, 'gradient');
          assertLoss(
            parts.reduce((sum, p) => sum + p.loss, 0),
            whole.loss,
            whole.gradLogits,
            bound,
            'loss',
          );
        });
      }
    }

    test('without the counts of the window a mean over tokens does not add up: the most frequently reported bug in this field', () => {
      const config: LossConfig = { surrogate: { kind: 'reinforce' }, aggregation: 'token-mean' };
      const whole = policyLoss(policy, config, { device });
      const parts = micro.map((range) => policyLoss(part(policy, range), config, { device }));
      const average = parts.reduce((sum, p) => sum + p.loss, 0) / parts.length;
      assert.ok(Math.abs(average - whole.loss) > 0.01);
    });
  });
}
