// The advantages of the HA-DW authors' code, computed by the public API and our window anchor in posterior order: each batch's mean
// reward is observed before its advantages are computed. Their anchor is the plain mean of a history of batch means, or the batch's
// own mean without a history.

import assert from 'node:assert/strict';
import test, { describe } from 'node:test';
import { type AdvantageConfig, computeAdvantages, DifficultyAnchor } from '../../src/index.js';
import type { Group } from '../../src/rollout/api.js';
import { assignAdvantages } from '../../src/train/advantages.js';
import { assertNumber } from '../support/compare.js';
import { testedDevices } from '../support/devices.js';
import { type GoldenAdvantages, verlAdvantageCases } from '../support/golden.js';

type AuthorsCase = GoldenAdvantages & { history: number[]; config: AdvantageConfig & { groupSize: number } };

const cases = verlAdvantageCases().filter((golden): golden is AuthorsCase => golden.history !== undefined);
const posterior = (window: number) => new DifficultyAnchor({ update: 'window', timing: 'posterior', window });

/** Advantages are of order 1 and float32, and so is the authors' anchor. */
function assertAdvantages(actual: ArrayLike<number>, { advantages, name }: AuthorsCase): void {
  advantages.forEach((expected, i) => {
    assertNumber(actual[i], expected, 1e-6, `${name}: advantages[${i}]`);
  });
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Rewards of a batch with a given mean. */
function batchOf(level: number, { rewards }: AuthorsCase): number[] {
  return rewards.map((_, i) => level + (i % 2 === 0 ? 0.25 : -0.25));
}

/** Levels of nine earlier batches that, with the batch's own mean, have the mean of the authors' history; not all equal. */
function earlierLevels({ history, rewards }: AuthorsCase): number[] {
  const level = (10 * mean(history) - mean(rewards)) / 9;
  return Array.from({ length: 9 }, (_, i) => level + (i - 4) / 50);
}

test('there are 24 golden vectors, with histories of zero to three batches', () => {
  assert.equal(cases.length, 24);
  assert.deepEqual([...new Set(cases.map(({ history }) => history.length))].sort(), [0, 1, 2, 3]);
});

for (const { name: device, skip } of testedDevices('reference', 'cpu', 'cuda')) {
  describe(`on ${device}`, { skip }, () => {
    const withAnchor = ({ rewards, config }: AuthorsCase, anchor: DifficultyAnchor) =>
      computeAdvantages(rewards, { ...config, hadw: { scale: config.hadw!.scale, anchor: anchor.value } }, { device });
    const accuracy = (rewards: number[], { groupSize }: AdvantageConfig) =>
      computeAdvantages(rewards, { groupSize }, { device }).accuracy;

    test('an anchor that has observed the history', () => {
      for (const golden of cases) {
        const anchor = posterior(10);
        for (const level of golden.history) anchor.observe(level);
        assertAdvantages(withAnchor(golden, anchor).advantages, golden);
      }
    });

    test('a run in their order: batches that the window has dropped, nine earlier ones, this one, then its advantages', () => {
      for (const golden of cases.filter(({ history }) => history.length > 0)) {
        const anchor = posterior(10);
        const { config } = golden;
        for (const level of [7, -3, ...earlierLevels(golden)]) {
          anchor.observe(accuracy(batchOf(level, golden), config));
        }
        anchor.observe(accuracy(golden.rewards, config));
        assertAdvantages(withAnchor(golden, anchor).advantages, golden);
      }
    });

    test('the first batch is its own anchor', () => {
      for (const golden of cases.filter(({ history }) => history.length === 0)) {
        const anchor = posterior(10);
        anchor.observe(accuracy(golden.rewards, golden.config));
        assertAdvantages(withAnchor(golden, anchor).advantages, golden);
      }
    });
  });
}

test('the trainer observes in this order with posterior timing, and in the other order by default', () => {
  const groupsOf = (rewards: readonly number[], groupSize: number) =>
    Array.from({ length: rewards.length / groupSize }, (_, group) => ({
      completions: rewards.slice(group * groupSize, (group + 1) * groupSize).map((reward) => ({ reward })),
    })) as unknown as Group[];
  const train = (golden: AuthorsCase, anchor: DifficultyAnchor) => {
    const { groupSize, hadw, epsilon } = golden.config;
    const settings = {
      groupSize,
      advantage: { epsilon },
      hadw: { scale: hadw!.scale },
      device: 'auto',
    } as Parameters<typeof assignAdvantages>[2];
    const step = (rewards: readonly number[]) => {
      const groups = groupsOf(rewards, groupSize);
      assignAdvantages(groups, groups, settings, anchor, { whole: [], steps: [] });
      return groups.flatMap(({ completions }) => completions.map(({ advantage }) => advantage));
    };
    for (const level of earlierLevels(golden)) step(batchOf(level, golden));
    return step(golden.rewards);
  };
  for (const golden of cases.filter(({ history }) => history.length > 0)) {
    assertAdvantages(train(golden, posterior(10)), golden);
    const prior = train(golden, new DifficultyAnchor({ update: 'window', window: 10 }));
    assert.ok(
      prior.some((advantage, i) => Math.abs(advantage - golden.advantages[i]) > 1e-4),
      golden.name,
    );
  }
});
