// Rewards of steps of a completion: valid values, the token advantages that they become, and their effect on the loss.

import assert from 'node:assert/strict';
import test, { before, describe } from 'node:test';
import { startBackend } from '../../src/backend/backend.js';
import {
  defineReward,
  defineStepReward,
  type Group,
  type GrpoStep,
  type RewardInput,
  type StepVerdict,
  type TrainerOptions,
} from '../../src/index.js';
import { assignAdvantages } from '../../src/train/advantages.js';
import { assertNumber } from '../support/compare.js';
import { askRewards, type RewardQuestion } from '../support/rewards.js';
import { tinyTask, tinyTrainer, weightsOf } from '../support/trainer.js';

const question: RewardQuestion<never> = {
  completions: [3, 1].map((length) => ({
    text: 'x'.repeat(length),
    tokens: new Int32Array(length).fill(5),
    truncated: false,
    score: 0,
  })),
  example: { ...tinyTask.example(0), prompt: '1+2=' } as never,
};

const ask = async (judge: (input: RewardInput) => unknown, onError: 'throw' | 'null' | 'zero' = 'throw') =>
  (await askRewards([defineStepReward<never>('steps', judge as never, { onError, timeLimit: 20 })], [question]))[0];

test('steps are in the order of the completions; no steps mean no verdict', async () => {
  const judge = async ({ completion: { tokens } }: RewardInput) =>
    tokens.length === 1
      ? []
      : [
          { end: 1, reward: -1 },
          { end: tokens.length, reward: 2 },
        ];
  const steps = [
    { end: 1, reward: -1 },
    { end: 3, reward: 2 },
  ];
  assert.deepEqual(await ask(judge), [steps, null]);
  assert.deepEqual(await ask(() => null), [null, null]);
});

const impossible: [message: RegExp, given: unknown][] = [
  [/steps: expected an array of { end, reward } or null, got 1/, 1],
  [/steps\[0\]: expected an object/, [1]],
  [/steps\[0\]\.end: expected an integer at least 1 and at most 3, got 0/, [{ end: 0, reward: 1 }]],
  [/steps\[0\]\.end: expected an integer at least 1 and at most 3, got 4/, [{ end: 4, reward: 1 }]],
  [/steps\[0\]\.end: .*got 1\.5/, [{ end: 1.5, reward: 1 }]],
  [
    /steps\[1\]\.end: expected an integer at least 3 .*got 2/,
    [
      { end: 2, reward: 1 },
      { end: 2, reward: 1 },
    ],
  ],
  [/steps\[0\]\.reward: expected a number, got "1"/, [{ end: 2, reward: '1' }]],
];
for (const [message, given] of impossible) {
  test(`impossible steps end the run, or count as none or as one step with reward 0: ${message}`, async () => {
    const judge = ({ completion }: RewardInput) => (completion.tokens.length === 3 ? given : null);
    await assert.rejects(ask(judge), (error: Error) => {
      assert.match(error.message, /^reward 'steps' of the completion "xxx" to "1\+2="/);
      assert.match(error.message, message);
      return true;
    });
    assert.deepEqual(await ask(judge, 'null'), [null, null]);
    assert.deepEqual(await ask(judge, 'zero'), [[{ end: 3, reward: 0 }], null]);
  });
}

test('a step that is not finite is left to the guard', async () => {
  await assert.rejects(
    ask(() => [{ end: 1, reward: NaN }], 'null'),
    { name: 'NumericFault' },
  );
});

/** Completions of these lengths, with a reward of the whole and steps. */
function groupOf(...completions: [length: number, reward: number, steps?: StepVerdict[]][]): Group {
  return {
    completions: completions.map(([length, reward, steps]) => ({
      tokens: new Int32Array(length),
      reward,
      rewards: { whole: reward },
      ...(steps && { steps: { steps } }),
      advantage: 0,
    })),
  } as unknown as Group;
}

const advantage = { center: 'mean', scale: 'group-std', ddof: 0, epsilon: 0 } as const;
const settings = { groupSize: 2, advantage, hadw: null, device: 'auto' } as const;
const whole = [{ name: 'whole', weight: 1 }];

test('a token has the advantage of its completion and those of its step and later ones, normalised over the group', () => {
  const first = groupOf(
    [
      4,
      1,
      [
        { end: 1, reward: 1 },
        { end: 3, reward: 0 },
      ],
    ],
    [2, 0, [{ end: 2, reward: 2 }]],
  );
  const second = groupOf([2, 1], [1, 1, [{ end: 1, reward: 7 }]]);
  const third = groupOf([1, 0], [1, 1]);
  const groups = [first, second, third];
  assignAdvantages(groups, groups, settings, undefined, { whole, steps: [{ name: 'steps', weight: 0.5 }] });
  // Step rewards of the first group: 1, 0, 2, with mean 1 and standard deviation √(2/3).
  const unit = 0.5 / Math.sqrt(2 / 3);
  const expected = [
    [
      [1 + 0 - unit, 1 - unit, 1 - unit, 1],
      [-1 + unit, -1 + unit],
    ],
    // A single step has nothing to be compared with.
    [[0, 0], [0]],
    [[-1], [1]],
  ];
  groups.forEach(({ completions }, g) => {
    completions.forEach(({ tokenAdvantages, advantage }, i) => {
      assert.equal(tokenAdvantages!.length, expected[g][i].length);
      expected[g][i].forEach((value, t) => {
        assertNumber(tokenAdvantages![t], value, 1e-6, `${g}, ${i}, ${t}`);
      });
      assert.equal(
        advantage,
        [
          [1, -1],
          [0, 0],
          [-1, 1],
        ][g][i],
      );
    });
  });
});

test('steps with weight 0 are only a metric', () => {
  const groups = [
    groupOf(
      [
        2,
        1,
        [
          { end: 1, reward: 1 },
          { end: 2, reward: 0 },
        ],
      ],
      [2, 0],
    ),
  ];
  assignAdvantages(groups, groups, settings, undefined, { whole, steps: [{ name: 'steps', weight: 0 }] });
  assert.ok(groups[0].completions.every(({ tokenAdvantages }) => tokenAdvantages === undefined));
});

describe('in the trainer', () => {
  before(() => startBackend());

  const same = defineReward('same', () => 1);
  const firstStep = async (t: Parameters<typeof tinyTrainer>[0], change: Partial<TrainerOptions>) => {
    const trainer = await tinyTrainer(t, { hadw: undefined, ...change });
    const before = weightsOf(trainer.policy);
    const steps: GrpoStep[] = [];
    for await (const step of trainer.steps({ max: 1 })) steps.push(step);
    return { ...steps[0], before, weights: weightsOf(trainer.policy) };
  };
  const halves = (weight = 1) =>
    defineStepReward(
      'halves',
      ({ completion: { tokens } }) => [
        { end: 1, reward: tokens[0] % 2 },
        ...(tokens.length > 1 ? [{ end: tokens.length, reward: tokens[tokens.length - 1] % 3 }] : []),
      ],
      { weight },
    );

  test('groups whose steps differ are learnt from, even if their rewards are equal', async (t) => {
    const dynamicSampling = { maxRounds: 2 };
    const change = { dynamicSampling, zeroStdGroups: 'drop' } as const;
    const { groups, metrics, before, weights } = await firstStep(t, { ...change, rewards: [same, halves()] });
    assert.deepEqual([groups.length, metrics.frac_reward_zero_std, metrics.reward], [4, 0, 1]);
    assert.ok(metrics.grad_norm > 0);
    assert.notDeepEqual(weights, before);
    for (const { rewards, steps, reward } of groups.flatMap((group) => group.completions)) {
      const total = steps!.halves.reduce((sum, step) => sum + step.reward, 0);
      assert.deepEqual([rewards.halves, reward], [total, 1]);
    }
    const idle = await firstStep(t, { ...change, rewards: [same, halves(0)] });
    assert.deepEqual([idle.groups.length, idle.metrics.frac_reward_zero_std, idle.metrics.grad_norm], [8, 1, 0]);
    assert.equal(typeof idle.metrics['rewards/halves/mean'], 'number');
  });

  test('the loss uses the advantages of tokens, in any micro-batches', async (t) => {
    const loss = { surrogate: { kind: 'reinforce' }, aggregation: 'token-mean' } as const;
    const run = (tokensPerMicroBatch?: number) =>
      firstStep(t, { loss, rewards: [same, halves()], tokensPerMicroBatch, optimizer: { maxGradientNorm: 1e9 } });
    const [one, many] = [await run(), await run(40)];
    const completions = one.groups.flatMap((group) => group.completions);
    let [sum, count] = [0, 0];
    for (const { logProbs, tokenAdvantages } of completions) {
      logProbs.forEach((logProb, i) => {
        sum -= tokenAdvantages![i] * logProb;
        count++;
      });
    }
    assertNumber(one.metrics.loss, sum / count, 1e-5, 'loss');
    assertNumber(many.metrics.loss, one.metrics.loss, 1e-5, 'loss of micro-batches');
    assertNumber(many.metrics.grad_norm, one.metrics.grad_norm, 1e-4 * one.metrics.grad_norm, 'grad_norm');
  });

  test('there must be a reward of whole completions, and names are those of metrics', async (t) => {
    const refused = (change: Partial<TrainerOptions>, message: RegExp) =>
      assert.rejects(tinyTrainer(t, change), message);
    await refused(
      { rewards: [halves()] },
      /^RangeError: rewards: expected at least one reward of whole completions with a weight other than 0/,
    );
    await refused(
      { rewards: [{ ...same, ...halves() }] as never },
      /^TypeError: rewards\[0\]: expected a result of defineReward/,
    );
    const dynamicSampling = { maxRounds: 1, metric: 'rewards/halves', min: 0.1 } as const;
    const trainer = await tinyTrainer(t, { rewards: [same, halves()], dynamicSampling });
    assert.equal(trainer.step, 0);
    assert.throws(() => defineStepReward('x', 1 as never), /^TypeError: reward "x": expected a function/);
  });
});
