// Comparisons without running any: statistics, estimators, buckets, plans, summaries.

import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { after, describe } from 'node:test';
import { normal } from '../../src/base/random.js';
import { bucketOf, checkBuckets } from '../../src/compare/buckets.js';
import { adoptPlan, comparisonFiles, readJson } from '../../src/compare/folder.js';
import { type Plan, resolvePlan, startConfig, variantConfig } from '../../src/compare/plan.js';
import { buildResult } from '../../src/compare/result.js';
import { readResults } from '../../src/compare/results.js';
import { censoredMedian, interpolate, meanOver, summarize } from '../../src/compare/summary.js';
import { summaryTable } from '../../src/compare/table.js';
import { equalGroupProbability, passAtK } from '../../src/evaluation/estimators.js';
import { estimate, expandedTail, quantile, signFlipTest, studentQuantile } from '../../src/evaluation/statistics.js';
import { type ComparisonConfig, defineComparison } from '../../src/index.js';
import { slowSet } from '../support/sets.js';

const near = (actual: number | null, expected: number, tolerance: number) =>
  assert.ok(actual !== null && Math.abs(actual - expected) <= tolerance, `${actual}, expected ${expected}`);

describe('the bootstrap interval', () => {
  test('does not exist for no value or one value, and is a point for equal ones', () => {
    assert.deepEqual(estimate([]), { mean: null, low: null, high: null });
    assert.deepEqual(estimate([0.25]), { mean: 0.25, low: null, high: null });
    assert.deepEqual(estimate([0.5, 0.5, 0.5]), { mean: 0.5, low: 0.5, high: 0.5 });
  });

  test('of two values reaches from one to the other', () => {
    assert.deepEqual(estimate([1, 3]), { mean: 2, low: 1, high: 3 });
  });

  test('is deterministic, and follows shifts and scales', () => {
    const values = [0.3, -0.1, 0.25, 0.9, 0.4];
    const first = estimate(values);
    assert.deepEqual(estimate(values), first);
    const other = estimate(values.map((value) => 10 * value + 2));
    near(other.low, 10 * first.low! + 2, 1e-9);
    near(other.high, 10 * first.high! + 2, 1e-9);
  });

  const coverage = (trials: number, ...counts: number[]) => {
    for (const n of counts) {
      let covered = 0;
      for (let trial = 0; trial < trials; trial++) {
        const stream = { seed: 11, purpose: 'weights', index: n } as const;
        const { low, high } = estimate(Array.from({ length: n }, (_, i) => normal(stream, trial, i)));
        if (low! <= 0 && high! >= 0) covered++;
      }
      // Five values are all on one side of the mean once in 16 times. Three standard errors of the simulation are 0.021 with 1000 trials.
      const most = Math.min(0.95, 1 - 2 ** (1 - n));
      const share = covered / trials;
      const error = 0.021 * Math.sqrt(1000 / trials);
      assert.ok(share > most - 0.014 - error && share < most + error, `${n} values: ${share}`);
    }
  };
  test('covers the mean about as often as stated', () => coverage(100, 20));
  test(
    'covers the mean as often as stated, up to the limits of few values',
    { skip: slowSet('takes 2000 intervals') },
    () => coverage(1000, 5, 20),
  );

  test('quantiles are those of the tables', () => {
    // Student's t at 0.975, from a printed table.
    for (const [degrees, value] of [
      [1, 12.706],
      [2, 4.303],
      [4, 2.776],
      [9, 2.262],
      [100, 1.984],
    ]) {
      near(studentQuantile(0.975, degrees), value, 6e-4);
    }
    // Φ(−2.776 √(5/4)); for very many values, the plain quantile.
    near(expandedTail(5), 0.00095, 2e-5);
    near(expandedTail(100_000), 0.025, 1e-4);
    assert.equal(quantile([1, 2, 4], 0.75), 3);
  });
});

describe('the sign-flip test', () => {
  test('counts the sign patterns that are at least as far from 0', () => {
    assert.deepEqual(signFlipTest([]), { p: null, exact: true });
    assert.deepEqual(signFlipTest([0.3]), { p: 1, exact: true });
    assert.deepEqual(signFlipTest([1, 2, 3, 4, 5]), { p: 2 / 32, exact: true });
    assert.deepEqual(signFlipTest([1, 1, 1, 1, -1]), { p: 12 / 32, exact: true });
    assert.deepEqual(signFlipTest([0, 0, 0]), { p: 1, exact: true });
    // 0.1 + 0.2 + 0.3 is not 0.3 + 0.2 + 0.1: rounding must not lose a pattern.
    assert.deepEqual(signFlipTest([0.1, 0.2, 0.3, 0.1, 0.2, 0.3]), { p: 2 / 64, exact: true });
  });

  test('for many values, samples signs and comes close to the exact count', () => {
    const values = Array.from({ length: 20 }, (_, i) => (i % 5 === 0 ? -1 : 1));
    const { p, exact } = signFlipTest(values);
    assert.equal(exact, false);
    // |sum| ≥ 12 of 20 signs: 2 Σ_{k ≤ 4} C(20, k) / 2^20; standard error of the draw 0.0003.
    near(p, (2 * (1 + 20 + 190 + 1140 + 4845)) / 2 ** 20, 0.0015);
  });
});

describe('estimates from samples', () => {
  /** Over all subsets of `size` of n samples, the first `right` of which are right: the share with the property `is`. */
  function bruteForce(n: number, right: number, size: number, is: (rightInSubset: number) => boolean): number {
    let [all, found] = [0, 0];
    for (let subset = 0; subset < 2 ** n; subset++) {
      const members = Array.from({ length: n }, (_, i) => i).filter((i) => (subset >> i) & 1);
      if (members.length !== size) continue;
      all++;
      if (is(members.filter((i) => i < right).length)) found++;
    }
    return found / all;
  }

  test('pass@k and groups of equal rewards agree with enumeration of all subsets', () => {
    for (const n of [8, 10]) {
      for (let right = 0; right <= n; right++) {
        for (const size of [1, 2, 5, 8]) {
          const some = bruteForce(n, right, size, (count) => count > 0);
          near(passAtK(n, right, size), some, 1e-12);
          const equal = bruteForce(n, right, size, (count) => count === 0 || count === size);
          // For a group of one, all right and all wrong are not exclusive: sizes from 2.
          if (size > 1) near(equalGroupProbability(n, right, size), equal, 1e-12);
        }
      }
    }
    assert.equal(passAtK(16, 4, 1), 0.25);
  });
});

describe('buckets', () => {
  test('include their ends; a share between two is in neither, one where two touch is in the lower', () => {
    const usual = checkBuckets(undefined);
    for (const [share, bucket] of [
      [0, null],
      [0.02, 'hard'],
      [0.15, 'hard'],
      [0.2, null],
      [0.3, 'medium'],
      [0.98, 'easy'],
      [1, null],
    ] as const) {
      assert.equal(bucketOf(usual, share), bucket, String(share));
    }
    const touching = checkBuckets({ high: [0.5, 1], low: [0, 0.5] });
    assert.deepEqual(Object.keys(touching), ['low', 'high']);
    assert.equal(bucketOf(touching, 0.5), 'low');
  });

  test('are rejected if they overlap or are invalid', () => {
    const wrong: [unknown, RegExp][] = [
      [
        { a: [0, 0.5], b: [0.4, 1] },
        /^buckets\.b: expected a lower end of at least 0\.5, the upper end of a, got 0\.4$/,
      ],
      [{ a: [0.5, 0.2] }, /^buckets\.a\[1\]: expected a finite number at least 0\.5 and at most 1, got 0\.2$/],
      [{ a: [0, 1.5] }, /^buckets\.a\[1\]/],
      [{ a: 0.5 }, /^buckets\.a: expected \[low, high\], got 0\.5$/],
      [{ all: [0, 1] }, /^buckets: expected names .* other than 'all', got "all"$/],
      [{}, /^buckets: expected at least one, got none$/],
    ];
    for (const [buckets, message] of wrong) assert.throws(() => checkBuckets(buckets), { message });
  });
});

const comparison = defineComparison({
  base: { train: { task: 'addition', digits: 1 }, loss: 'grpo', optimizer: { learningRate: 0.01 }, steps: 8 },
  variants: {
    plain: {},
    'plain+hadw': { hadw: { scale: 1.3 }, 'optimizer.learningRate': 0.02 },
    gspo: { loss: { preset: 'gspo', kl: { beta: 0.1 } }, groupSize: 16, steps: 4 },
  },
  seeds: [3, 5],
  probe: { task: { task: 'addition', digits: 1, split: 'held-out' }, size: 10, samples: 8, every: 4 },
});

function planOf(change: object = {}): Plan {
  return resolvePlan({ ...comparison, ...change } as unknown as Record<string, unknown>);
}

describe('a plan', () => {
  test('has every default', () => {
    const { seeds, variants, baseline, pairs, probe, ends } = planOf();
    assert.deepEqual(
      { seeds, variants, baseline, pairs, probe, ends },
      {
        seeds: [3, 5],
        variants: ['plain', 'plain+hadw', 'gspo'],
        baseline: 'plain',
        pairs: [
          { variant: 'plain+hadw', baseline: 'plain' },
          { variant: 'gspo', baseline: 'plain' },
        ],
        probe: { size: 10, measure: 64, samples: 8, every: 4 },
        ends: {
          plain: { steps: 8, tokens: null },
          'plain+hadw': { steps: 8, tokens: null },
          gspo: { steps: 4, tokens: null },
        },
      },
    );
    assert.deepEqual(planOf({ seeds: 3 }).seeds, [0, 1, 2]);
  });

  test('variants change a copy of the base, setting by setting; null takes a setting away', () => {
    const config = comparison as ComparisonConfig;
    const changed = variantConfig(config, 'plain+hadw', 3);
    assert.deepEqual(changed, {
      ...comparison.base,
      seed: 3,
      hadw: { scale: 1.3 },
      optimizer: { learningRate: 0.02 },
    });
    assert.equal((comparison.base.optimizer as { learningRate: number }).learningRate, 0.01);
    const without = variantConfig(
      {
        ...config,
        variants: { a: { optimizer: null, 'loss.kl': null } } as never,
        base: { ...config.base, loss: { preset: 'grpo', kl: { beta: 1 } } },
      },
      'a',
      0,
    );
    assert.deepEqual(without, { train: config.base.train, loss: { preset: 'grpo' }, steps: 8, seed: 0 });
  });

  test("a start uses only the base's settings that the initial state depends on", () => {
    const { optimizer, loss, train, seed } = startConfig(comparison as ComparisonConfig, 7);
    assert.deepEqual(
      { optimizer, loss, train, seed },
      { optimizer: undefined, loss: undefined, train: comparison.base.train, seed: 7 },
    );
  });

  test('mistakes are rejected by name', () => {
    const wrong: [object, RegExp][] = [
      [{ variant: {} }, /^variant: unknown field; expected one of base, variants/],
      [{ base: { ...comparison.base, seed: 1 } }, /^base\.seed: expected nothing: use seeds instead, got 1$/],
      [{ base: { ...comparison.base, stpes: 1 } }, /^variants\.plain: stpes: unknown field/],
      [
        { base: { ...comparison.base, steps: undefined } },
        /^variants\.plain: steps: expected a count, or the comparison's tokens/,
      ],
      [{ variants: {} }, /^variants: expected at least one, got none$/],
      [{ variants: { '../up': {} } }, /^variants: expected names of letters/],
      [{ variants: { a: { 'policy.width': 8 } } }, /^variants\.a\.policy\.width: expected nothing: all runs of a seed/],
      [{ variants: { a: { 'loss.kl.beta': 8 } } }, /^variants\.a: loss\.kl\.beta: expected loss to be an object/],
      [{ variants: { a: { groupSize: 1 } } }, /^variants\.a: groupSize: expected an integer at least 2, got 1$/],
      [{ baseline: 'plian' }, /^baseline: expected one of 'plain', .*, got "plian"$/],
      [
        { pairs: [['plain+hadw', 'gpso']] },
        /^pairs\[0\]\[1\]: expected one of 'plain', 'plain\+hadw', 'gspo', got "gpso"$/,
      ],
      [{ pairs: [['gspo', 'gspo']] }, /^pairs\[0\]: expected two variants, got "gspo" twice$/],
      [{ pairs: ['gspo'] }, /^pairs\[0\]: expected \[variant, baseline\], got "gspo"$/],
      [{ seeds: [] }, /^seeds: expected a count or an array of seeds, got an array of 0 values$/],
      [{ seeds: [1, 2, 1] }, /^seeds\[2\]: expected distinct seeds, got 1 twice$/],
      [{ probe: { ...comparison.probe, samples: 7 } }, /^probe\.samples: expected an integer at least 8, got 7$/],
      [{ probe: { ...comparison.probe, size: 500 } }, /^probe\.size: expected at most the \d+ different problems/],
      [{ probe: { task: { task: 'adition' } } }, /^probe\.task\.task: expected one of/],
      [{ tokens: 0 }, /^tokens: expected an integer at least 1, got 0$/],
    ];
    for (const [change, message] of wrong) assert.throws(() => planOf(change), { message });
  });
});

describe('curves', () => {
  test('a mean over a run interpolates linearly between evaluations, weighted by their distance', () => {
    assert.equal(meanOver([0, 10, 40], [0, 1, 1]), 35 / 40);
    assert.equal(meanOver([0, 10], [0.5, null]), null);
    assert.equal(meanOver([0], [0.5]), 0.5);
    assert.equal(meanOver([], []), null);
  });

  test('values between evaluations', () => {
    const [xs, ys] = [
      [0, 10, 40],
      [0, 1, 0.4],
    ];
    assert.deepEqual(
      [0, 5, 10, 25, 40].map((x) => interpolate(xs, ys, x)),
      [0, 0.5, 1, 0.7, 0.4],
    );
    assert.equal(interpolate(xs, ys, 41), null);
    assert.equal(interpolate(xs, [null, 1, 1], 5), null);
  });

  test('a median of times that were not all reached is a number only if the middle one is known', () => {
    assert.equal(censoredMedian([30, null, 10]), 30);
    assert.equal(censoredMedian([30, null, null]), null);
    assert.equal(censoredMedian([10, 30, 20, null]), 25);
    assert.equal(censoredMedian([10, null]), null);
    assert.equal(censoredMedian([]), null);
  });
});

describe('a folder', () => {
  const root = mkdtempSync(join(tmpdir(), 'groupgrad-comparison-'));
  after(() => rmSync(root, { recursive: true }));
  let folders = 0;

  /**
   * The files of finished runs: for each seed the number right of 64 (measurement), and for each variant and seed the number right of 8
   * steps 0, 4 and 8, for each prompt.
   */
  function folder(
    plan: Plan,
    measured: Record<number, number[]>,
    runs: Record<string, Record<number, number[][]>>,
  ): string {
    const out = join(root, `comparison-${folders++}`);
    mkdirSync(out);
    adoptPlan(out, plan);
    const files = comparisonFiles(out);
    for (const [name, counts] of Object.entries(measured)) {
      const seed = Number(name);
      mkdirSync(files.start(seed), { recursive: true });
      const prompts = counts.map((right, i) => ({
        prompt: `${i}`,
        difficulty: 1,
        right,
        bucket: bucketOf(plan.buckets, right / 64),
      }));
      const right = prompts.filter(({ bucket }) => bucket !== null).map((prompt) => Math.round(prompt.right / 8));
      writeFileSync(files.measurement(seed), JSON.stringify({ backend: 'wasm', prompts, right }));
    }
    const lines = (values: object[]) => values.map((value) => `${JSON.stringify(value)}\n`).join('');
    for (const [variant, bySeed] of Object.entries(runs)) {
      for (const [name, [at4, at8]] of Object.entries(bySeed)) {
        const runDir = files.run(variant, Number(name));
        mkdirSync(runDir, { recursive: true });
        const steps = [1, 2, 3, 4, 5, 6, 7, 8].map((step) => ({
          step,
          tokens: 10,
          frac_reward_zero_std: step > 4 ? 1 : 0,
        }));
        writeFileSync(join(runDir, 'metrics.jsonl'), lines(steps));
        writeFileSync(join(runDir, 'timing.jsonl'), lines(steps.map(({ step }) => ({ step, 'time/step': 0.5 }))));
        const evaluations = [
          { step: 4, right: at4 },
          { step: 8, right: at8 },
        ];
        writeFileSync(join(runDir, 'probe.jsonl'), lines(evaluations));
        writeFileSync(
          files.finished(variant, Number(name)),
          JSON.stringify({ end: { steps: 8, tokens: null }, step: 8, backend: 'wasm' }),
        );
      }
    }
    return out;
  }

  const two = () => planOf({ variants: { plain: {}, hadw: { hadw: {} } } });
  const hard = [2, 4, 8];

  test('curves, summaries and differences follow from its counts', () => {
    const plan = two();
    // Two hard prompts and a medium one, then one of each; the last prompt is in no bucket.
    const out = folder(
      plan,
      { 3: [2, 4, 32, 64], 5: [8, 20, 15, 0] },
      {
        plain: {
          3: [
            [0, 2, 4],
            [2, 2, 8],
          ],
          5: [
            [4, 4],
            [8, 4],
          ],
        },
        hadw: {
          3: [
            [4, 4, 8],
            [4, 4, 8],
          ],
          5: [
            [2, 4],
            [2, 4],
          ],
        },
      },
    );
    const results = readResults(out, plan);
    assert.deepEqual(
      results.seeds.map(({ prompts, aside, buckets }) => [
        prompts,
        aside,
        ...Object.values(buckets).map((b) => b.prompts),
      ]),
      [
        [4, 1, 2, 1, 0, 3],
        [4, 2, 1, 1, 0, 2],
      ],
    );
    const [first] = results.runs;
    assert.deepEqual(first.curve.steps, [0, 4, 8]);
    assert.deepEqual(first.curve.tokens, [0, 40, 80]);
    assert.deepEqual(first.curve.frac_reward_zero_std, [null, 0, 1]);
    assert.deepEqual([first.seconds, first.frac_reward_zero_std, first.state], [4, 0.5, 'finished']);
    // Evaluations before training: 2/8 rounds to 0, 4/8 to 1 of 8 right.
    assert.deepEqual(first.curve.buckets.hard['pass@1'], [1 / 16, 1 / 8, 1 / 4]);
    assert.deepEqual(first.curve.buckets.hard['pass@8'], [0.5, 0.5, 1]);
    assert.deepEqual(first.curve.buckets.easy['pass@1'], [null, null, null]);

    const { variants, pairs } = summarize(plan, results);
    const of = (variant: string, bucket: string) =>
      variants.find((one) => one.variant === variant && one.bucket === bucket)!;
    assert.deepEqual(of('plain', 'hard').quantities['pass@1'].values, [1 / 4, 1]);
    assert.equal(of('plain', 'hard').quantities['pass@1'].mean, 5 / 8);
    assert.deepEqual(of('plain', 'easy').quantities['pass@1'], {
      mean: null,
      low: null,
      high: null,
      values: [null, null],
    });
    assert.deepEqual(of('plain', 'hard').half, {
      reached: 1,
      runs: 2,
      median_steps: null,
      median_tokens: null,
      steps: [null, 4],
      tokens: [null, 40],
    });
    assert.deepEqual(of('hadw', 'hard').half.steps, [4, null]);
    assert.deepEqual(of('hadw', 'easy').half.runs, 0);
    assert.equal(of('plain', 'all').quantities['train/frac_reward_zero_std'].mean, 0.5);
    assert.equal(of('plain', 'hard').quantities['train/frac_reward_zero_std'].mean, null);

    const pair = pairs.find(({ bucket }) => bucket === 'hard')!;
    assert.deepEqual([pair.variant, pair.baseline], ['hadw', 'plain']);
    assert.deepEqual(pair.quantities['pass@1'].values, [1 / 4, -3 / 4]);
    assert.equal(pair.quantities['pass@1'].p, 1);
    assert.deepEqual(pair.half, { earlier: 1, same: 0, later: 1, neither: 0 });
  });

  test('equal tokens are where the run with fewer tokens ended', () => {
    const plan = planOf({ variants: { plain: {}, short: { steps: 4 } } });
    const out = folder(
      plan,
      { 3: hard, 5: hard },
      {
        plain: {
          3: [
            [0, 0, 0],
            [8, 8, 8],
          ],
        },
      },
    );
    const files = comparisonFiles(out);
    mkdirSync(files.run('short', 3), { recursive: true });
    // 20 tokens: halfway between plain's evaluations at 0 and 40.
    writeFileSync(join(files.run('short', 3), 'metrics.jsonl'), '{"step":4,"tokens":20}\n');
    writeFileSync(files.evaluations('short', 3), '{"step":4,"right":[4,4,4]}\n');
    writeFileSync(files.finished('short', 3), '{"end":{"steps":4,"tokens":null},"step":4,"backend":"wasm"}');
    const { quantities } = summarize(plan, readResults(out, plan)).pairs.find(({ bucket }) => bucket === 'hard')!;
    // Before training 0, 1 and 1 of 8 are right (2, 4 and 8 of 64, rounded), after 4 steps none.
    near(quantities['pass@1/equal_tokens'].values[0], 1 / 2 - 2 / 24 / 2, 1e-12);
    assert.equal(quantities['pass@1'].values[0], 1 / 2 - 1);
  });

  test('what is missing, empty or unfinished is reported, and is not part of any mean', () => {
    const plan = two();
    const out = folder(
      plan,
      { 3: hard, 5: [32] },
      {
        plain: {
          3: [
            [4, 4, 4],
            [8, 8, 8],
          ],
          5: [[4], [4]],
        },
        hadw: {
          3: [
            [4, 4, 4],
            [4, 4, 4],
          ],
        },
      },
    );
    writeFileSync(comparisonFiles(out).finished('plain', 5), '{"end":{"steps":4,"tokens":null},"step":4}');
    const warned = join(comparisonFiles(out).run('hadw', 3), 'warnings.jsonl');
    const warning = 'step 10: none of the last 10 steps had a gradient';
    writeFileSync(warned, `${JSON.stringify({ step: 10, warning })}\n`);
    const result = buildResult(out);
    assert.equal(result.notes.at(-1), `hadw, seed 3, ${warning}`);
    assert.deepEqual(result.notes.slice(0, -1), [
      '2 seeds: with so few, no bootstrap interval covers more than 50 %, and no p is below 0.5. Look at the differences by seed.',
      'Unfinished runs, which are not part of any mean: plain, seed 5.',
      'Missing runs: hadw, seed 5.',
      'No prompts in bucket hard (0.02 to 0.15): seed 5. Means of the bucket are over the other seeds.',
      'No prompts in bucket medium (0.3 to 0.7): seed 3. Means of the bucket are over the other seeds.',
      'No prompts in bucket easy (0.85 to 0.98): seed 3; seed 5. Means of the bucket are over the other seeds.',
    ]);
    const pair = result.summary.pairs.find(({ bucket }) => bucket === 'hard')!;
    assert.deepEqual(pair.quantities['pass@1'].values, [-0.5, null]);
    assert.equal(pair.quantities['pass@1'].low, null);
    const text = summaryTable(result);
    assert.match(text, /^hadw − plain +hard +−50\.0 +1\.000 +−50\.0 +.* +−50\.0 –$/m);
    assert.match(text, /^plain +hard +100\.0 +100\.0 +4 \(1 of 1\)$/m);
  });

  test('accepts further variants and seeds, and rejects changes of those that it contains', () => {
    const plan = two();
    const out = folder(
      plan,
      { 3: hard },
      {
        plain: {
          3: [
            [0, 0, 0],
            [0, 0, 0],
          ],
        },
      },
    );
    const files = comparisonFiles(out);
    const variants = { plain: {}, hadw: { hadw: {} } };
    // Not begun yet: it may still be changed.
    adoptPlan(out, planOf({ variants: { plain: {}, hadw: { hadw: { scale: 2 } } } }));
    adoptPlan(out, planOf({ variants: { ...variants, more: {} }, seeds: 4 }));
    assert.deepEqual(readJson<Plan>(files.plan)!.seeds, [0, 1, 2, 3]);
    adoptPlan(out, planOf({ variants, base: { ...comparison.base, checkpoint: { every: 3 }, steps: 100 } }));
    const refused = (change: object, difference: RegExp) =>
      assert.throws(
        () => adoptPlan(out, planOf({ variants, ...change })),
        (error: Error) => {
          assert.match(error.message, /: its runs were made with another configuration; use another folder \(--out\)/);
          assert.match(error.message, difference);
          return true;
        },
      );
    refused({ base: { ...comparison.base, warmStart: { steps: 9 } } }, /^ {2}warmStart: null, now \{"steps":9/m);
    refused({ base: { ...comparison.base, groupSize: 4 } }, /^ {2}variants\.plain\.settings\.groupSize: 8, now 4$/m);
    refused({ probe: { ...comparison.probe, samples: 9 } }, /^ {2}probe\.samples: 8, now 9$/m);
    refused({ buckets: { any: [0, 1] } }, /^ {2}buckets\.any: nothing, now \[0,1\]$/m);
    // A variant that was left out and added again is the same as before.
    adoptPlan(out, planOf({ variants: { hadw: { hadw: {} } } }));
    refused({ variants: { plain: { groupSize: 4 } } }, /variants\.plain\.settings\.groupSize: 8, now 4/);
    assert.throws(() => adoptPlan(root, plan), /expected an empty folder or the folder of a comparison/);
  });

  test('changed data is rejected, with the name of the file', () => {
    const [out, path] = [join(root, `comparison-${folders++}`), join(root, `sums-${folders}.jsonl`)];
    const write = (answer: string) =>
      writeFileSync(
        path,
        Array.from({ length: 20 }, (_, i) => `{"prompt":"${i}","answer":"${i < 19 ? 'a' : answer}"}\n`).join(''),
      );
    const data = { task: 'jsonl', path };
    const change = { base: { ...comparison.base, train: data }, probe: { ...comparison.probe, task: data, size: 20 } };
    write('a');
    const plan = planOf(change);
    mkdirSync(join(out, 'starts'), { recursive: true });
    writeFileSync(comparisonFiles(out).plan, JSON.stringify(plan));
    adoptPlan(out, planOf(change));
    write('b');
    assert.throws(
      () => adoptPlan(out, planOf(change)),
      (error: Error) => {
        for (const where of ['train', 'probe.task']) {
          assert.ok(
            error.message.includes(`\n  ${where}: the data file ${path} has changed: 20 problems, SHA-256 `),
            error.message,
          );
        }
        return true;
      },
    );
  });
});
