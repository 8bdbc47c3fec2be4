// The theory of the bias compared with groups simulated by computeAdvantages: every point within four standard errors.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test, { describe } from 'node:test';
import { fillUniform } from '../../src/base/random.js';
import { advantageBias, expectedBaseline, gradientShare, underestimation } from '../../src/bias/bernoulli.js';
import {
  averageLimits,
  biasDefaults,
  biasStudy,
  type Comparison,
  families,
  largestDeviation,
  simulatedP,
} from '../../src/bias/bias-study.js';
import { biasFigures } from '../../src/bias/report/figures.js';
import { type BiasTable, biasTables, tableText } from '../../src/bias/report/tables.js';
import { simulate } from '../../src/bias/simulation.js';
import { chartFile } from '../../src/report/chart.js';
import { assertNumber } from '../support/compare.js';
import { slowSet } from '../support/sets.js';

describe('the study with its defaults', () => {
  const before = process.cpuUsage();
  const comparisons = biasStudy(biasDefaults);
  const { user, system } = process.cpuUsage(before);

  test('compares every quantity at every point', () => {
    const sizes = biasDefaults.groupSizes.length;
    const points = families.reduce((sum, { simulated }) => sum + simulated.length, 0);
    const count = (quantity: Comparison['quantity']) => comparisons.filter((one) => one.quantity === quantity).length;
    assert.deepEqual(
      ['gradient_share', 'baseline', 'bias', 'underestimated', 'overestimated', 'average_underestimated'].map(
        (quantity) => count(quantity as Comparison['quantity']),
      ),
      [
        ...[0, 1, 2].map(() => sizes * (simulatedP.length + points)),
        ...[0, 1].map(() => 2 * sizes * simulatedP.length),
        sizes * averageLimits.length,
      ],
    );
  });

  test('every simulated number is within four standard errors of the theory', () => {
    for (const one of comparisons) {
      assert.ok(Math.abs(one.deviation) <= 4, JSON.stringify(one));
      assert.ok(Number.isFinite(one.simulated) && one.standardError >= 0, JSON.stringify(one));
    }
    assert.ok(Math.abs(largestDeviation(comparisons).deviation) > 1);
  });

  test('standard errors are neither too small nor too large', () => {
    // For quantities that vary, the mean square of the deviations is 1, with a standard error of sqrt(2 / n) if they were
    // independent; those of one point are correlated, which makes it about twice that.
    const varying = comparisons.filter(({ standardError }) => standardError > 1e-9);
    const square = varying.reduce((sum, { deviation }) => sum + deviation ** 2, 0) / varying.length;
    assert.ok(varying.length > 300);
    assert.ok(Math.abs(square - 1) < 4 * Math.sqrt(2 / varying.length) * 2, `mean square ${square}`);
  });

  test('there are enough groups to distinguish the biased baseline from an unbiased one', () => {
    for (const { quantity, rewards, p, theory, simulated, standardError } of comparisons) {
      if (quantity !== 'bias' || rewards !== 'bernoulli' || Math.abs(p - 0.5) < 0.25) continue;
      assert.ok(Math.abs(simulated) > 8 * standardError && simulated * theory > 0, `p = ${p}: ${simulated}`);
    }
  });

  test('docs/hadw.md shows its results', () => {
    const docs = readFileSync(new URL('../../docs/hadw.md', import.meta.url), 'utf8');
    const tables = biasTables(comparisons, biasDefaults);
    const isShown = ({ title }: BiasTable) => !title.includes('by more than');
    const blocks = docs.split('```').filter((_, i) => i % 2 === 1);
    for (const table of tables.filter(isShown)) assert.ok(blocks.includes(`\n${tableText(table)}\n`), tableText(table));
    // The numbers in sentences.
    const baseline = expectedBaseline(0.05, 8);
    for (const text of [
      `right ${(100 * baseline).toFixed(1)} % of the time`,
      `worth ${(1 - baseline).toFixed(3)}`,
      `At p = 0.02, ${(100 * (1 - gradientShare(0.02, 8))).toFixed(1)} % of groups of 8`,
      `at p = 0.4 and G = 8 it happens in ${(100 * underestimation(0.4, 8)).toFixed(0)} %`,
    ]) {
      assert.ok(docs.replaceAll('\n', ' ').includes(text), text);
    }
  });

  test('the figures of docs/hadw.md show its results', () => {
    const folder = new URL('../../docs/figures/', import.meta.url);
    const docs = readFileSync(new URL('../../docs/hadw.md', import.meta.url), 'utf8');
    for (const { name, chart } of biasFigures(comparisons, biasDefaults)) {
      assert.ok(docs.includes(`(figures/${name}.svg)`), name);
      assert.ok(
        readFileSync(new URL(`${name}.svg`, folder), 'utf8') === `${chartFile(chart)}\n`,
        `docs/figures/${name}.svg differs: make it again with groupgrad bias --figures docs/figures`,
      );
    }
  });

  test('takes less than ten seconds on one core', () => {
    assert.ok((user + system) / 1e6 < 10, `${(user + system) / 1e6} s`);
  });
});

test('other seeds agree with the theory as well', { skip: slowSet('simulates several studies') }, () => {
  for (const seed of [1, 2 ** 40]) {
    const { deviation, ...rest } = largestDeviation(
      biasStudy({ ...biasDefaults, groupSizes: [3, 16], samples: 2000, seed }),
    );
    assert.ok(Math.abs(deviation) <= 4, JSON.stringify({ seed, deviation, ...rest }));
  }
});

test('a number does not depend on what else is simulated, but on the seed', () => {
  const settings = { ...biasDefaults, samples: 200 };
  const some = biasStudy({ ...settings, groupSizes: [4], epsilon: 0 });
  const all = biasStudy({ ...settings, groupSizes: [8, 4] });
  for (const one of some) assert.ok(all.some((other) => JSON.stringify(other) === JSON.stringify(one)));
  const simulated = (list: Comparison[]) => list.map((one) => one.simulated);
  assert.notDeepEqual(simulated(biasStudy({ ...settings, groupSizes: [4], epsilon: 0, seed: 1 })), simulated(some));
});

test('the groups that count are those with a gradient, or with the requested spread', () => {
  const base = { groupSize: 4, samples: 5000, seed: 5, point: 0, epsilons: [0] };
  const certain = simulate({ ...base, mean: 1, reward: () => 1 });
  assert.equal(certain.inside, 0);
  assert.ok(Number.isNaN(certain.baseline.mean) && Number.isNaN(certain.underestimated[0]));
  // Uniform rewards have a gradient in every group; their spread is above σ in 1 − 4 σ³ + 3 σ⁴ of them.
  const flat = { ...base, mean: 0.5, reward: (share: number) => share };
  assert.equal(simulate(flat).inside, 5000);
  const inside = simulate({ ...flat, sigma: 0.5 }).inside / 5000;
  const expected = 1 - 4 / 8 + 3 / 16;
  assert.ok(Math.abs(inside - expected) < 4 * Math.sqrt((expected * (1 - expected)) / 5000), String(inside));
});

test('shares count values beyond each margin, but not on it', () => {
  // p̂ − p of two rewards: −0.5, 0 or 0.5 for p = 0.5; only 0 has a gradient. With p = 0.4 it is 0.1.
  const draw = (p: number, epsilons: number[]) =>
    simulate({ groupSize: 2, samples: 100, seed: 1, point: 0, mean: p, reward: (u) => (u < p ? 1 : 0), epsilons });
  assert.deepEqual(draw(0.5, [0]).underestimated, [0]);
  assert.deepEqual(draw(0.4, [0, 0.05, 0.1, 0.2]).underestimated, [1, 1, 0, 0]);
  assert.deepEqual(draw(0.6, [0, 0.05, 0.1, 0.2]).overestimated, [1, 1, 0, 0]);
});

test('moments agree with those of the numbers themselves', () => {
  const groups = 50;
  const mean = 0.3;
  const { baseline, bias } = simulate({
    groupSize: 2,
    samples: groups,
    seed: 9,
    point: 3,
    mean,
    reward: (share) => share,
    epsilons: [],
  });
  const pair = new Float64Array(2);
  const means = Array.from({ length: groups }, (_, group) => {
    fillUniform(pair, { seed: 9, purpose: 'simulation', index: 2 }, group, 3);
    return (pair[0] + pair[1]) / 2;
  });
  const expected = means.reduce((a, b) => a + b) / groups;
  const variance = means.reduce((sum, value) => sum + (value - expected) ** 2, 0) / (groups - 1);
  // Group means are float32 numbers.
  assertNumber(baseline.mean, expected, 1e-7, 'mean');
  assertNumber(baseline.standardDeviation, Math.sqrt(variance), 1e-7, 'standard deviation');
  assertNumber(bias.mean, expected - mean, 2e-7, 'bias');
  assertNumber(bias.standardDeviation, Math.sqrt(variance), 2e-7, 'standard deviation of the bias');
});

test('the bias through computeAdvantages has the size of the formula, not only its sign', () => {
  const { bias } = simulate({
    groupSize: 8,
    samples: 20_000,
    seed: 3,
    point: 1,
    mean: 0.1,
    reward: (share) => (share < 0.1 ? 1 : 0),
    epsilons: [],
  });
  assert.ok(Math.abs(bias.mean / advantageBias(0.1, 8) - 1) < 0.03);
});
