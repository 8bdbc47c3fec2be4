// Which groups a step learns from: dynamic sampling by a metric within bounds, and groups without spread left out of the loss.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import test, { before, describe } from 'node:test';
import { startBackend } from '../../src/backend/backend.js';
import { defineGroupReward, defineReward, type Group, type GrpoStep, type TrainerOptions } from '../../src/index.js';
import { GroupChoice } from '../../src/train/choice.js';
import { resolveSettings } from '../../src/train/options.js';
import { temporaryFolder, tinyTask, tinyTrainer, weightsOf } from '../support/trainer.js';

const rewards = [defineReward('right', ({ score }) => score), defineReward('form', () => 0, { weight: 0.5 })];

/** A group of completions with these scores and verdicts of `form`; the reward `right` is the score. */
function groupOf(scores: readonly number[], form: readonly (number | null)[] = scores.map(() => 0)): Group {
  const completions = scores.map((score, i) => ({
    score,
    rewards: { right: score, form: form[i] },
    reward: score + 0.5 * (form[i] ?? 0),
  }));
  return { completions } as unknown as Group;
}

function choiceOf(change: Partial<TrainerOptions>): GroupChoice {
  return new GroupChoice(resolveSettings({ promptsPerStep: 2, ...change }), { whole: rewards, steps: [] });
}

describe('dynamic sampling', () => {
  const easy = groupOf([1, 1, 1, 0]);
  const even = groupOf([1, 1, 0, 0]);
  const hard = groupOf([0, 0, 0, 1]);
  const solved = groupOf([1, 1, 1, 1], [0, 1, 0, 1]);
  const failed = groupOf([0, 0, 0, 0]);
  const all = [failed, solved, easy, even, hard];

  test('accepts groups whose rewards differ, by default', () => {
    const choice = choiceOf({ dynamicSampling: { maxRounds: 2 } });
    assert.deepEqual(choice.ofStep(all), [solved, easy]);
    assert.ok(choice.areEnough([failed, solved, easy]));
    assert.ok(!choice.areEnough([failed, solved]));
  });

  test('by accuracy, accepts groups whose scores differ', () => {
    const choice = choiceOf({ dynamicSampling: { maxRounds: 2, metric: 'accuracy' } });
    assert.deepEqual(choice.ofStep(all), [easy, even]);
    assert.ok(!choice.areEnough([failed, solved, easy]));
  });

  test('by a named reward, accepts groups in which it differs; null is not a verdict', () => {
    const choice = choiceOf({ dynamicSampling: { maxRounds: 2, metric: 'rewards/form' } });
    const scarce = groupOf([1, 0, 1, 0], [null, 1, null, null]);
    assert.deepEqual(choice.ofStep([failed, scarce, even, solved]), [solved, scarce]);
    assert.ok(!choice.areEnough([scarce, even, solved]));
  });

  test('within bounds, both included', () => {
    const within = (min: number | undefined, max: number | undefined) =>
      choiceOf({ promptsPerStep: 5, dynamicSampling: { maxRounds: 2, metric: 'accuracy', min, max } });
    // Accepted groups first, then others whose rewards differ, then any.
    assert.deepEqual(within(0.25, 0.5).ofStep(all), [even, hard, solved, easy, failed]);
    assert.deepEqual(within(0.26, undefined).ofStep(all), [easy, even, solved, hard, failed]);
    assert.deepEqual(within(undefined, 0.49).ofStep(all), [hard, solved, easy, even, failed]);
    const reward = choiceOf({ dynamicSampling: { maxRounds: 2, min: 1.1 } });
    assert.deepEqual(reward.ofStep(all), [solved, easy]);
  });

  test('by a reward whose sums are equal, looks at the single rewards if they are normalised separately', () => {
    const opposed = groupOf([1, 0], [0, 2]);
    const bounds = { maxRounds: 2, min: 0.9 };
    assert.ok(!choiceOf({ promptsPerStep: 1, dynamicSampling: bounds }).areEnough([opposed]));
    const advantage = { multiObjective: 'normalize-then-sum' } as const;
    assert.ok(choiceOf({ promptsPerStep: 1, dynamicSampling: bounds, advantage }).areEnough([opposed]));
    const above = { maxRounds: 2, min: 1.1 };
    assert.ok(!choiceOf({ promptsPerStep: 1, dynamicSampling: above, advantage }).areEnough([opposed]));
  });

  test('groups without spread are left out of the loss if requested, unless there are no others', () => {
    const drop = choiceOf({ zeroStdGroups: 'drop' });
    assert.deepEqual(drop.ofLoss([failed, easy, solved]), [easy, solved]);
    assert.deepEqual(drop.ofLoss([failed, failed]), [failed, failed]);
    assert.deepEqual(choiceOf({ zeroStdGroups: 'count' }).ofLoss([failed, easy]), [failed, easy]);
    assert.deepEqual(choiceOf({}).ofLoss([failed, easy]), [failed, easy]);
  });
});

describe('a step', () => {
  before(() => startBackend());

  async function firstStep(t: Parameters<typeof tinyTrainer>[0], change: Partial<TrainerOptions>) {
    const trainer = await tinyTrainer(t, { train: { ...tinyTask, score: () => 0 }, hadw: undefined, ...change });
    let first: GrpoStep | undefined;
    for await (const step of trainer.steps({ max: 1 })) first = step;
    return { ...first!, weights: weightsOf(trainer.policy) };
  }

  /** Verdicts that differ in every second group. Which groups they are depends on time in the first run, and is kept for the others. */
  const half = () => {
    const different = new Map<string, boolean>();
    return defineGroupReward('half', ({ completions, prompt }) => {
      if (!different.has(prompt)) different.set(prompt, different.size % 2 === 0);
      return completions.map((_, member) => (different.get(prompt) ? member % 2 : 1));
    });
  };

  test('samples until enough groups are within the bounds, and learns from those', async (t) => {
    // Means of the groups: 1/4, 3/4, 1/4, 3/4, …
    let calls = 0;
    const level = defineGroupReward('level', ({ completions }) => {
      const isLow = calls++ % 2 === 0;
      return completions.map((_, member) => Number(isLow === (member === 0)));
    });
    const dynamicSampling = { maxRounds: 4, metric: 'rewards/level', min: 0.5 } as const;
    const { groups, metrics } = await firstStep(t, { rewards: [level], dynamicSampling, hadw: {} });
    assert.equal(groups.length, 8);
    assert.equal(metrics.reward, 0.5);
    // HA-DW's anchor observes the mean of the groups that the step learns from.
    assert.equal(metrics['hadw/anchor'], 0.75);
  });

  test("'drop' removes groups without spread from denominators, entropy and KL terms", async (t) => {
    const loss = {
      surrogate: { kind: 'reinforce' },
      aggregation: 'sequence-mean',
      entropy: { coefficient: 0.01 },
    } as const;
    const rewards = [half()];
    const some = { rewards, loss, zeroStdGroups: 'drop' } as const;
    const dropped = await firstStep(t, some);
    const counted = await firstStep(t, { ...some, zeroStdGroups: 'count' });
    assert.equal(dropped.metrics.frac_reward_zero_std, 0.5);
    assert.equal(dropped.metrics.tokens, counted.metrics.tokens);
    assert.notDeepEqual(dropped.weights, counted.weights);
    // Without an entropy term the sum over completions is the same and its denominator half as large; AdamW hides this, so compare norms.
    const plain = { ...loss, entropy: undefined };
    const norm = async (zeroStdGroups: 'drop' | 'count', maxGradientNorm: number) =>
      (await firstStep(t, { rewards, loss: plain, zeroStdGroups, optimizer: { maxGradientNorm } })).metrics.grad_norm;
    const [without, all] = [await norm('drop', 1e9), await norm('count', 1e9)];
    assert.ok(Math.abs(without / all - 2) < 1e-4, `${without} is not twice ${all}`);
  });

  test("'drop' keeps a step in which no group has spread", async (t) => {
    const { metrics } = await firstStep(t, { rewards: [defineReward('same', () => 1)], zeroStdGroups: 'drop' });
    assert.deepEqual([metrics.frac_reward_zero_std, metrics.loss, metrics.grad_norm], [1, 0, 0]);
  });

  test('impossible choices are rejected by name, before anything is written', async (t) => {
    const refused = async (change: Record<string, unknown>, message: RegExp) => {
      const runDir = `${temporaryFolder(t)}/run`;
      await assert.rejects(tinyTrainer(t, { runDir, ...change }), (error) => {
        assert.match(String(error), message);
        return true;
      });
      assert.equal(existsSync(runDir), false);
    };
    const sampling = (some: Record<string, unknown>) => ({ dynamicSampling: { maxRounds: 2, ...some } });
    await refused(
      sampling({ metric: 'rewards/near' }),
      /^RangeError: dynamicSampling\.metric: expected 'reward', 'accuracy', 'rewards\/accuracy', got 'rewards\/near'/,
    );
    await refused(sampling({ metric: 3 }), /^TypeError: dynamicSampling\.metric/);
    await refused(
      sampling({ min: 0.8, max: 0.2 }),
      /^RangeError: dynamicSampling\.max: expected at least min \(0\.8\), got 0\.2/,
    );
    await refused(sampling({ min: NaN }), /^RangeError: dynamicSampling\.min/);
    await refused(sampling({ least: 1 }), /^TypeError: dynamicSampling\.least/);
    await refused({ zeroStdGroups: 'skip' }, /^RangeError: zeroStdGroups/);
    await refused(
      { zeroStdGroups: 'drop', advantage: { center: 'none' } },
      /^RangeError: zeroStdGroups: expected 'count'/,
    );
  });
});
