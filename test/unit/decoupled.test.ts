// GDPO: several rewards, each normalised within its groups before they are added up.

import assert from 'node:assert/strict';
import test, { before, describe } from 'node:test';
import { startBackend } from '../../src/backend/backend.js';
import {
  type AdvantageConfig,
  computeAdvantages,
  computeDecoupledAdvantages,
  defineReward,
  type TrainerOptions,
  type WeightedRewards,
} from '../../src/index.js';
import { assertNumber } from '../support/compare.js';
import { testedDevices } from '../support/devices.js';
import { seeded } from '../support/random.js';
import { tinyTask, tinyTrainer } from '../support/trainer.js';

const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
const std = (values: readonly number[], ddof: number) =>
  Math.sqrt(values.reduce((sum, r) => sum + (r - mean(values)) ** 2, 0) / (values.length - ddof));

/** Written directly from the paper, including its batch mean; NaN where no reward applies. */
function gdpo(
  parts: { rewards: readonly number[]; weight: number }[],
  size: number,
  ddof = 1,
  epsilon = 1e-4,
): number[] {
  const sums = parts[0].rewards.map((_, i) => {
    const start = i - (i % size);
    const terms = parts.flatMap(({ rewards, weight }) => {
      if (Number.isNaN(rewards[i])) return [];
      const group = rewards.slice(start, start + size).filter((r) => !Number.isNaN(r));
      const differs = group.some((r) => r !== group[0]);
      return [differs ? (weight * (rewards[i] - mean(group))) / (std(group, ddof) + epsilon) : 0];
    });
    return terms.length === 0 ? NaN : terms.reduce((a, b) => a + b, 0);
  });
  const some = sums.filter((s) => !Number.isNaN(s));
  return sums.map((s) => (Number.isNaN(s) ? 0 : (s - mean(some)) / (std(some, ddof) + epsilon)));
}

for (const { name: device, skip } of testedDevices('reference', 'cpu')) {
  describe(`on ${device}`, { skip }, () => {
    const decoupled = (parts: WeightedRewards[], config: AdvantageConfig) =>
      computeDecoupledAdvantages(parts, config, { device });

    /** Two roundings to float32, of the parts and of the result; terms of the sum may be larger than the sum. */
    const close = (actual: ArrayLike<number>, expected: readonly number[]) => {
      assert.equal(actual.length, expected.length);
      expected.forEach((value, i) => {
        assertNumber(actual[i], value, 8 * 2 ** -24 * (1 + Math.abs(value)), `[${i}]`);
      });
    };

    test('agrees with the paper, for any weights, ddof, epsilon, and rewards that do not apply', () => {
      const random = seeded(5);
      for (let round = 0; round < 40; round++) {
        const size = 2 + (round % 4);
        const count = size * (1 + (round % 5));
        const rewards = Array.from({ length: 1 + (round % 3) }, () => {
          const draw = () => (round % 2 ? random.integer(0, 2) : random.uniform(-5, 5));
          return Array.from({ length: count }, () => (round % 4 === 3 && random.chance(0.2) ? NaN : draw()));
        });
        const parts = rewards.map((own, k) => ({ rewards: own, weight: [1, -0.5, 3][k] }));
        const [ddof, epsilon] = [(round % 2) as 0 | 1, round % 3 ? 1e-4 : 1e-2];
        const expected = gdpo(parts, size, ddof, epsilon);
        // With ddof 1 a reward that applies to only one completion of a group has no spread.
        close(decoupled(parts, { groupSize: size, ddof, epsilon }).advantages, expected);
      }
    });

    test('a group whose sums are equal while its rewards differ keeps its gradient', () => {
      const right = [1, 0, 0, 0, 1, 1, 1, 1];
      const parts = [{ rewards: right }, { rewards: [0, 1, 1, 1, 0, 0, 0, 0], weight: 0.5 }];
      const { advantages, active, metrics } = decoupled(parts, { groupSize: 4 });
      assert.ok(advantages.slice(0, 4).every((a) => a !== 0));
      assert.deepEqual([...advantages.slice(4)], [0, 0, 0, 0]);
      assert.deepEqual([[...active], metrics.frac_reward_zero_std], [[1, 0], 0.5]);
      // [2, 0, 1, 1] and half of [0, 4, 2, 2] have the same sum everywhere.
      const equal = [{ rewards: [2, 0, 1, 1] }, { rewards: [0, 4, 2, 2], weight: 0.5 }];
      const summed = computeAdvantages([2, 2, 2, 2], { groupSize: 4 }, { device });
      assert.equal(summed.metrics.frac_reward_zero_std, 1);
      assert.equal(decoupled(equal, { groupSize: 4 }).metrics.frac_reward_zero_std, 0);
    });

    test('rewards that cancel leave exactly 0, whatever epsilon is', () => {
      const right = [0.1, 0.7, 0.3, 0.9];
      const parts = [{ rewards: right }, { rewards: right.map((r) => 1 - r) }];
      const { advantages, metrics } = decoupled(parts, { groupSize: 4, epsilon: 0 });
      assert.deepEqual([...advantages], [0, 0, 0, 0]);
      assert.equal(metrics.frac_reward_zero_std, 0);
    });

    test('a single reward is scaled again, over the batch', () => {
      const rewards = [1, 0, 0, 0, 1, 1, 0, 1];
      const plain = computeAdvantages(rewards, { groupSize: 4, epsilon: 0 }, { device }).advantages;
      const scale = std([...plain], 1);
      close(
        decoupled([{ rewards }], { groupSize: 4, epsilon: 0 }).advantages,
        [...plain].map((a) => a / scale),
      );
    });

    test("DGPO's question weights use the means of the weighted sums, over groups in which a reward differs", () => {
      // Means 0.75 (its sums are equal, its rewards are not), 1.25, and a group without spread.
      const parts = [{ rewards: [1, 0.5, 1, 0.5, 1, 1] }, { rewards: [-0.5, 0.5, 1, 1, 1, 1], weight: 0.5 }];
      const plain = decoupled(parts, { groupSize: 2 });
      const { advantages, weights, metrics } = decoupled(parts, { groupSize: 2, dqw: { temperature: 0.5 } });
      const total = Math.exp(-0.75 / 0.5) + Math.exp(-1.25 / 0.5);
      const [hard, easy] = [0.75, 1.25].map((level) => (2 * Math.exp(-level / 0.5)) / total);
      const expected = [hard, hard, easy, easy, 1, 1];
      close(weights, expected);
      close(
        advantages,
        [...plain.advantages].map((a, i) => a * expected[i]),
      );
      assertNumber(metrics['dqw/weight_max'], hard, 1e-9, 'weight_max');
    });

    test('HA-DW compares the means of the weighted sums, and weights by the sign of the decoupled advantage', () => {
      const parts = [{ rewards: [1, 0, 1, 0.5] }, { rewards: [0, 0.5, 1, 1], weight: 0.5 }];
      const plain = decoupled(parts, { groupSize: 2 });
      for (const anchor of [undefined, 0.2]) {
        const { advantages, weights, metrics } = decoupled(parts, { groupSize: 2, hadw: { scale: 1.5, anchor } });
        const totals = [1, 0.25, 1.5, 1];
        const level = anchor ?? mean(totals);
        const expected = [...plain.advantages].map((a, i) => {
          const p = mean(totals.slice(i - (i % 2), i - (i % 2) + 2));
          return a === 0 ? 1.5 : 1.5 * Math.exp(-Math.sign(a) * (p - level));
        });
        close(weights, expected);
        close(
          advantages,
          [...plain.advantages].map((a, i) => a * expected[i]),
        );
        assertNumber(metrics['hadw/anchor'], level, 1e-12, 'anchor');
        assertNumber(metrics['hadw/weight_max'], Math.max(...expected), 1e-9, 'weight_max');
      }
      assertNumber(plain.accuracy, mean([1, 0.25, 1.5, 1]), 1e-12, 'accuracy');
      assertNumber(plain.metrics.reward, mean([1, 0.25, 1.5, 1]), 1e-12, 'reward');
    });

    test('completions without a verdict are counted and get advantage 0; rewards beyond float64 are counted as non-finite', () => {
      const parts = [{ rewards: [1, 0, NaN] }, { rewards: [NaN, 1, NaN] }];
      const { advantages, metrics } = decoupled(parts, { groupSize: 3 });
      assert.equal(advantages[2], 0);
      assert.equal(metrics.nonFinite, 1);
      const huge = decoupled([{ rewards: [1.7e308, -1.7e308, 1.7e308, -1.7e308], weight: 0.1 }], { groupSize: 2 });
      assert.ok(huge.metrics.nonFinite > 0);
    });
  });
}

test('impossible arguments are rejected by name', () => {
  const good = { rewards: [1, 0] };
  const refused: [unknown, unknown, RegExp][] = [
    [[], { groupSize: 2 }, /^TypeError: rewards: expected at least one reward/],
    [{}, { groupSize: 2 }, /^TypeError: rewards: expected at least one reward/],
    [[[1, 0]], { groupSize: 2 }, /^TypeError: rewards\[0\]: expected an object/],
    [
      [{ ...good, weight: 0 }],
      { groupSize: 2 },
      /^RangeError: rewards: expected at least one with a weight other than 0/,
    ],
    [[good, { ...good, weight: NaN }], { groupSize: 2 }, /^(Type|Range)Error: rewards\[1\]\.weight/],
    [[good, { ...good, wieght: 1 }], { groupSize: 2 }, /^TypeError: rewards\[1\]\.wieght/],
    [[good, { rewards: [1, 'x'] }], { groupSize: 2 }, /^TypeError: rewards\[1\]\.rewards\[1\]/],
    [[good, { rewards: [1, 0, 1, 0] }], { groupSize: 2 }, /^RangeError: rewards\[1\]\.rewards: expected 2 rewards/],
    [[good], { groupSize: 2, center: 'none' }, /^RangeError: config\.center/],
    [[good], { groupSize: 2, scale: 'x' }, /^RangeError: config\.scale/],
    [[good], { groupSize: 2, hadw: { scale: -1 } }, /^RangeError: config\.hadw\.scale/],
    [[{ rewards: [1e308, 0], weight: 1e10 }], { groupSize: 2 }, /^RangeError: rewards: expected finite weighted sums/],
  ];
  for (const [rewards, config, message] of refused) {
    const call = () => computeDecoupledAdvantages(rewards as WeightedRewards[], config as AdvantageConfig);
    assert.throws(call, (error) => message.test(String(error)) || assert.fail(`${error} is not ${message}`));
  }
});

describe('in the trainer', () => {
  before(() => startBackend());

  const opposed = () => {
    let [first, second] = [0, 0];
    return [
      defineReward('one', () => first++ % 2),
      defineReward('other', () => 1 - (second++ % 2)),
      defineReward('rare', () => 0, { weight: 0 }),
    ];
  };
  const firstStep = async (t: Parameters<typeof tinyTrainer>[0], change: Partial<TrainerOptions>) => {
    const trainer = await tinyTrainer(t, { train: { ...tinyTask, score: () => 0 }, hadw: undefined, ...change });
    for await (const step of trainer.steps({ max: 1 })) return step;
    throw new Error('no step');
  };

  test('equal sums of different rewards: resampled with sum-then-normalize, learnt from with normalize-then-sum', async (t) => {
    const dynamicSampling = { maxRounds: 2 };
    const summed = await firstStep(t, { rewards: opposed(), dynamicSampling });
    assert.deepEqual([summed.groups.length, summed.metrics.frac_reward_zero_std], [8, 1]);
    const [one, other] = opposed();
    const change = { dynamicSampling, advantage: { multiObjective: 'normalize-then-sum' } } as const;
    const { groups, metrics } = await firstStep(t, { ...change, rewards: [one, { ...other, weight: 0.5 }] });
    assert.deepEqual([groups.length, metrics.frac_reward_zero_std], [4, 0]);
    const completions = groups.flatMap((group) => group.completions);
    const expected = computeDecoupledAdvantages(
      [
        { rewards: completions.map(({ rewards }) => rewards.one!) },
        { rewards: completions.map(({ rewards }) => rewards.other!), weight: 0.5 },
      ],
      { groupSize: 4 },
    );
    assert.deepEqual(
      completions.map(({ advantage }) => advantage),
      [...expected.advantages],
    );
    assert.ok(completions.every(({ advantage }) => advantage !== 0));
    assert.ok(metrics.grad_norm > 0);
  });

  test('a reward with weight 0 does not give a group a gradient', async (t) => {
    let calls = 0;
    const rewards = [defineReward('metric', () => calls++ % 2, { weight: 0 }), defineReward('same', () => 1)];
    const change = { dynamicSampling: { maxRounds: 2 }, advantage: { multiObjective: 'normalize-then-sum' } } as const;
    const { groups, metrics } = await firstStep(t, { ...change, rewards });
    assert.deepEqual([groups.length, metrics.frac_reward_zero_std], [8, 1]);
  });

  test('impossible choices are rejected', async (t) => {
    const refused = (advantage: unknown, message: RegExp) =>
      assert.rejects(tinyTrainer(t, { advantage: advantage as TrainerOptions['advantage'] }), message);
    await refused({ multiObjective: 'both' }, /advantage\.multiObjective: expected/);
    await refused({ multiObjective: 'normalize-then-sum', center: 'none' }, /advantage\.center: expected/);
  });
});
