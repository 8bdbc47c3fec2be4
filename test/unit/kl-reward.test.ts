// The KL divergence from the reference policy as a reward of the trainer, and as a loss term per token under every ratio.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import test, { before, describe } from 'node:test';
import { startBackend } from '../../src/backend/backend.js';
import {
  computeAdvantages,
  computeDecoupledAdvantages,
  defineReward,
  type GrpoStep,
  type KlEstimator,
  policyLoss,
  presets,
  type TrainerOptions,
  tokenLogProbs,
} from '../../src/index.js';
import { assertNumber } from '../support/compare.js';
import { testedDevices } from '../support/devices.js';
import { fill, seeded } from '../support/random.js';
import { lastingFiles, temporaryFolder, tinyPolicy, tinyTrainer } from '../support/trainer.js';

const estimates: Record<KlEstimator, (d: number) => number> = {
  k1: (d) => -d,
  k2: (d) => (d * d) / 2,
  k3: (d) => Math.exp(d) - d - 1,
};

describe('the KL reward', () => {
  before(() => startBackend());

  async function steps(t: Parameters<typeof tinyTrainer>[0], max: number, change: Partial<TrainerOptions>) {
    const trainer = await tinyTrainer(t, change);
    const made: GrpoStep[] = [];
    for await (const step of trainer.steps({ max })) made.push(step);
    return made;
  }

  for (const [estimator, estimate] of Object.entries(estimates)) {
    test(`${estimator}: the sum over a completion's tokens, also of truncated ones`, async (t) => {
      const reference = tinyPolicy();
      t.after(() => reference.dispose());
      const change = {
        klReward: { beta: 0.3, estimator: estimator as KlEstimator },
        optimizer: { learningRate: 0.1 },
        hadw: undefined,
        maskTruncated: true,
        tokensPerMicroBatch: 40,
      };
      const [first, , third] = await steps(t, 3, change);
      assert.ok(Math.abs(first.metrics['rewards/kl/mean']) < 1e-5);
      const completions = third.groups.flatMap((group) =>
        group.completions.map((completion) => ({ prompt: group.prompt, ...completion })),
      );
      assert.ok(completions.some(({ truncated }) => truncated));
      const sequences = completions.map(({ prompt, tokens }) => Int32Array.of(...prompt, ...tokens));
      const known = await tokenLogProbs(reference, sequences);
      const expected = completions.map(({ prompt, logProbs }, i) => {
        const own = known[i].subarray(prompt.length - 1);
        assert.equal(own.length, logProbs.length);
        return logProbs.reduce((sum, logProb, t) => sum + estimate(own[t] - logProb), 0);
      });
      assert.ok(expected.some((kl) => Math.abs(kl) > 0.05));
      completions.forEach(({ rewards, reward }, i) => {
        assertNumber(rewards.kl!, expected[i], 1e-4, `kl of ${i}`);
        assert.equal(reward, rewards.accuracy! - 0.3 * rewards.kl!);
      });
      const mean = completions.reduce((sum, { rewards }) => sum + rewards.kl!, 0) / completions.length;
      assertNumber(third.metrics['rewards/kl/mean'], mean, 1e-12, 'mean');
      const { advantages } = computeAdvantages(
        completions.map(({ reward }) => reward),
        { groupSize: 4 },
      );
      assert.deepEqual(
        completions.map(({ advantage }) => advantage),
        [...advantages],
      );
    });
  }

  test('is normalised separately if rewards are', async (t) => {
    const change = {
      klReward: { beta: 0.3 },
      hadw: undefined,
      advantage: { multiObjective: 'normalize-then-sum' },
    } as const;
    const [, second] = await steps(t, 2, change);
    const completions = second.groups.flatMap((group) => group.completions);
    const { advantages } = computeDecoupledAdvantages(
      [
        { rewards: completions.map(({ rewards }) => rewards.accuracy!) },
        { rewards: completions.map(({ rewards }) => rewards.kl!), weight: -0.3 },
      ],
      { groupSize: 4 },
    );
    assert.deepEqual(
      completions.map(({ advantage }) => advantage),
      [...advantages],
    );
  });

  test('gives no verdict where no other reward does', async (t) => {
    let calls = 0;
    const rewards = [defineReward('some', () => (calls++ % 3 === 0 ? null : calls))];
    const [, second] = await steps(t, 2, { rewards, klReward: { beta: 1 } });
    const completions = second.groups.flatMap((group) => group.completions);
    const without = completions.filter((completion) => completion.rewards.some === null);
    assert.ok(without.length > 0);
    for (const { rewards: own, reward, advantage } of without) {
      assert.deepEqual([own.kl, reward, advantage], [null, NaN, 0]);
    }
  });

  test('a run with it resumes bit for bit: its reference is in the checkpoint', async (t) => {
    const [whole, halves] = [join(temporaryFolder(t), 'a'), join(temporaryFolder(t), 'b')];
    const change = { klReward: { beta: 0.2 }, checkpoint: { every: 2 } };
    await steps(t, 4, { ...change, runDir: whole });
    for (const max of [2, 4]) {
      const trainer = await tinyTrainer(t, { ...change, runDir: halves });
      for await (const _ of trainer.steps({ max }));
      trainer.dispose();
    }
    assert.deepEqual(lastingFiles(halves), lastingFiles(whole));
    await assert.rejects(
      tinyTrainer(t, { runDir: halves, klReward: { beta: 0.4 } }),
      /settings\.klReward\.beta: 0\.2, now 0\.4/,
    );
  });

  test('impossible options are rejected by name', async (t) => {
    const refused = (change: Record<string, unknown>, message: RegExp) =>
      assert.rejects(tinyTrainer(t, change), (error) => message.test(String(error)) || assert.fail(String(error)));
    await refused({ klReward: {} }, /^TypeError: klReward\.beta/);
    await refused({ klReward: { beta: 0 } }, /^RangeError: klReward\.beta: expected a finite number above 0, got 0/);
    await refused({ klReward: { beta: 1, estimator: 'k4' } }, /^RangeError: klReward\.estimator/);
    await refused({ klReward: { beta: 1, clamp: 2 } }, /^TypeError: klReward\.clamp/);
    const rewards = [defineReward('kl', () => 1)];
    await refused(
      { klReward: { beta: 1 }, rewards },
      /^RangeError: rewards\[0\]\.name: expected a name other than that of klReward/,
    );
    const trainer = await tinyTrainer(t, { rewards });
    assert.equal(trainer.step, 0);
  });
});

for (const { name: device, skip } of testedDevices('reference', 'cpu', 'cuda')) {
  test(`the KL term is computed per token under every ratio on ${device}`, { skip }, () => {
    const random = seeded(11);
    const shape = { sequences: 3, length: 5 };
    const draw = (low: number, high: number) => fill(15, () => random.uniform(low, high));
    const logProbs = draw(-3, 0);
    const [oldLogProbs, refLogProbs] = [logProbs.map((l) => l + random.uniform(-0.1, 0.1)), draw(-3, 0)];
    const input = { shape, logProbs, oldLogProbs, refLogProbs, advantages: new Float32Array(3) };
    for (const estimator of ['k1', 'k2', 'k3'] as const) {
      const gradientOf = (ratio: 'token' | 'sequence' | 'sequence-token') =>
        policyLoss(input, { ...presets.gspo, ratio, kl: { beta: 0.5, estimator } }, { device })
          .gradLogProbs as Float32Array;
      const own = { k1: () => 1, k2: (d: number) => -d, k3: (d: number) => 1 - Math.exp(d) }[estimator];
      for (const ratio of ['token', 'sequence', 'sequence-token'] as const) {
        gradientOf(ratio).forEach((gradient, i) => {
          const expected = (0.5 * own(refLogProbs[i] - logProbs[i])) / 15;
          assertNumber(gradient, expected, 1e-6 * (1 + Math.abs(expected)), `${estimator}, ${ratio}, ${i}`);
        });
      }
    }
  });
}
