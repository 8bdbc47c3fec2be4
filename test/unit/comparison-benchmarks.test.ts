// Benchmarks of a comparison without running any: their settings, means, differences and intervals.

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { describe } from 'node:test';
import { normal, uniform } from '../../src/base/random.js';
import { valuesOf } from '../../src/compare/benchmark-results.js';
import { resolvePlan } from '../../src/compare/plan.js';
import { loadChanged } from '../../src/config/load.js';
import { estimate, estimateMeanOfMeans } from '../../src/evaluation/statistics.js';
import { writeModelFolder } from '../support/model-folder.js';
import { repeats } from '../support/sets.js';
import { temporaryFolder } from '../support/trainer.js';

const near = (actual: number | null, expected: number, tolerance = 1e-12) =>
  assert.ok(actual !== null && Math.abs(actual - expected) <= tolerance, `${actual}, expected ${expected}`);

describe('the mean over benchmarks', () => {
  test('gives each the same weight, and has no interval if one has a single problem', () => {
    near(
      estimateMeanOfMeans([
        [1, 1, 1, 1],
        [0, 0.5],
      ]).mean,
      0.625,
    );
    assert.deepEqual(estimateMeanOfMeans([]), { mean: null, low: null, high: null });
    assert.deepEqual(estimateMeanOfMeans([[1, 0], []]), { mean: null, low: null, high: null });
    assert.deepEqual(estimateMeanOfMeans([[1, 0], [1]]), { mean: 0.75, low: null, high: null });
  });

  test('of one list is the mean of its values', () => {
    const values = [0, 0.25, 1, 1, 0.5, 0];
    assert.deepEqual(estimateMeanOfMeans([values]), estimate(values));
  });

  test('resamples lists of the same length by themselves: the interval of two is narrower by √2', () => {
    const values = Array.from({ length: 50 }, (_, i) => uniform({ seed: 3, purpose: 'weights' }, i));
    const width = ({ low, high }: { low: number | null; high: number | null }) => high! - low!;
    near(width(estimateMeanOfMeans([values, values])) / width(estimate(values)), Math.SQRT1_2, 0.05);
  });

  test('covers the truth as often as it says, with lists of different length and spread', () => {
    const trials = repeats(100, 400);
    let covered = 0;
    for (let trial = 0; trial < trials; trial++) {
      const stream = { seed: 12, purpose: 'weights' } as const;
      const list = (length: number, spread: number, place: number) =>
        Array.from({ length }, (_, i) => spread * normal(stream, trial, i, place));
      const { low, high } = estimateMeanOfMeans([list(15, 1, 0), list(20, 0.5, 1), list(40, 2, 2)]);
      if (low! <= 0 && high! >= 0) covered++;
    }
    // Three standard errors of the simulation; the expansion for the shortest list adds less than 0.02.
    const share = covered / trials;
    const error = 3 * Math.sqrt((0.05 * 0.95) / trials);
    assert.ok(share > 0.95 - error && share < 0.97 + error, String(share));
  });
});

describe('values of benchmarks', () => {
  test('are means over problems for each seed; intervals are over problems of the means over seeds', () => {
    const [first, second, overall] = valuesOf({
      a: [
        [1, 0, 1, 0],
        [1, 1, 1, 0],
      ],
      b: [
        [0.5, 0.5],
        [0, 1],
      ],
    });
    assert.deepEqual(first.values, [0.5, 0.75]);
    near(first.mean, 0.625);
    const { low, high } = estimate([1, 0.5, 1, 0]);
    assert.deepEqual(first.overProblems, { low, high });
    assert.deepEqual(first.overSeeds, { low: 0.5, high: 0.75 });
    assert.deepEqual(second.values, [0.5, 0.5]);
    assert.equal(overall.benchmark, 'mean');
    assert.deepEqual(overall.values, [0.5, 0.625]);
    near(overall.mean, 0.5625);
  });

  test('leave out runs that are not finished', () => {
    const [value, , overall] = valuesOf({ a: [[1, 0], undefined], b: [[1, 1], undefined] });
    assert.deepEqual(value.values, [0.5, null]);
    near(value.mean, 0.5);
    assert.deepEqual(value.overSeeds, { low: null, high: null });
    assert.deepEqual(overall.values, [0.75, null]);
    const [none] = valuesOf({ a: [undefined] });
    assert.deepEqual([none.mean, none.values], [null, [null]]);
  });

  test('of a single benchmark have no mean over benchmarks', () => {
    assert.deepEqual(
      valuesOf({ a: [[1]] }).map(({ benchmark }) => benchmark),
      ['a'],
    );
  });
});

describe('a plan with benchmarks', () => {
  const base = { train: { task: 'addition', digits: 1 }, loss: 'grpo', steps: 8 };
  const comparison = { base, variants: { plain: {}, 'plain+hadw': { hadw: {} } }, seeds: 1 };

  test('takes the file of a public benchmark by its name, and its usual number of completions', (t) => {
    const folder = temporaryFolder(t);
    const path = join(folder, 'aime.jsonl');
    writeFileSync(path, '{"problem":"p","answer":"1"}\n{"problem":"q","answer":"2"}\n{"problem":"r","answer":"3"}\n');
    const sums = { task: 'addition', digits: 1, seed: 0, size: 5 };
    const plan = resolvePlan({ ...comparison, benchmarks: { aime24: path, amc23: [path, path], sums } });
    assert.deepEqual(plan.benchmarks, {
      aime24: { samples: 32, temperature: 1, topP: 1, maxTokens: null, problems: 3 },
      amc23: { samples: 32, temperature: 1, topP: 1, maxTokens: null, problems: 6 },
      sums: { samples: 1, temperature: 0, topP: 1, maxTokens: null, problems: 5 },
    });
    assert.deepEqual([plan.probe, plan.buckets], [null, {}]);
    const evaluation = { samples: 1, temperature: 0, size: 2, maxTokens: 9 };
    const greedy = resolvePlan({ ...comparison, benchmarks: { aime24: path }, evaluation });
    assert.deepEqual(greedy.benchmarks.aime24, { samples: 1, temperature: 0, topP: 1, maxTokens: 9, problems: 2 });
    // The prompt and the answers are part of the facts that results depend on.
    assert.notDeepEqual(plan.identity.benchmarks.aime24, greedy.identity.benchmarks.aime24);
  });

  test('uses user messages if the model has a chat template', (t) => {
    const folder = temporaryFolder(t);
    const path = join(folder, 'aime.jsonl');
    writeFileSync(path, '{"problem":"p","answer":"1"}\n');
    const plain = writeModelFolder(join(folder, 'plain'));
    const template = '{% for message in messages %}{{ message.content }}{% endfor %}';
    const chat = writeModelFolder(join(folder, 'chat'), { tokenizerConfig: { chat_template: template } });
    const source = (model: string) => {
      const plan = resolvePlan({
        ...comparison,
        base: { ...base, policy: { model } },
        benchmarks: { aime24: path },
      });
      return (plan.identity.benchmarks.aime24.task as { source: { chat: boolean } }).source.chat;
    };
    assert.deepEqual([source(plain), source(chat)], [false, true]);
  });

  test('reads paths relative to the file, and those of --set relative to the working directory', async (t) => {
    const folder = temporaryFolder(t);
    const file = join(folder, 'comparison.json');
    const own = { policy: { model: 'model' }, train: { data: 'train.jsonl' } };
    writeFileSync(file, JSON.stringify({ base: own, benchmarks: { math500: 'a.jsonl', aime24: ['b.jsonl'] } }));
    const set = ['base.policy.model=other', 'benchmarks.amc23=c.jsonl'];
    assert.deepEqual(await loadChanged(file, set), {
      base: { policy: { model: join(process.cwd(), 'other') }, train: { data: join(folder, 'train.jsonl') } },
      benchmarks: {
        math500: join(folder, 'a.jsonl'),
        aime24: [join(folder, 'b.jsonl')],
        amc23: join(process.cwd(), 'c.jsonl'),
      },
    });
  });

  test('mistakes are rejected by name', () => {
    const sums = { task: 'addition', digits: 1 };
    const wrong: [object, RegExp][] = [
      [{}, /^benchmarks: expected at least one benchmark, or a probe, got neither$/],
      [{ benchmarks: {} }, /^benchmarks: expected at least one benchmark, or a probe, got neither$/],
      [{ benchmarks: { '../a': sums } }, /^benchmarks: expected names of letters, .*, got "\.\.\/a"$/],
      [{ benchmarks: { aime: 'a.jsonl' } }, /^benchmarks\.aime .*: expected one of 'gsm8k', .*, got "aime"$/],
      [{ benchmarks: { aime24: '/none.jsonl' } }, /^benchmarks\.aime24: expected a readable file, got "\/none\.jsonl"/],
      [{ benchmarks: { a: { task: 'adition' } } }, /^benchmarks\.a\.task: expected one of/],
      [{ benchmarks: { a: sums }, evaluation: { samples: 0 } }, /^evaluation\.samples: expected an integer at least 1/],
      [{ benchmarks: { a: sums }, evaluation: { n: 1 } }, /^evaluation\.n: unknown field/],
      [
        { benchmarks: { a: sums }, evaluation: { samples: 2, temperature: 0 } },
        /^evaluation\.temperature: expected a number above 0 for 2 samples/,
      ],
      [{ evaluation: {}, probe: { task: sums } }, /^evaluation: expected nothing without benchmarks/],
      [{ benchmarks: { a: sums }, buckets: {} }, /^buckets: expected nothing without a probe/],
      [
        { benchmarks: { a: sums }, base: { ...base, policy: { model: 7 } } },
        /^base\.policy\.model: expected a model's/,
      ],
      [
        { benchmarks: { a: sums }, base: { ...base, policy: { model: '/none' } } },
        /^base\.policy\.model: expected a model's folder with config\.json, got "\/none"$/,
      ],
    ];
    for (const [change, message] of wrong) assert.throws(() => resolvePlan({ ...comparison, ...change }), { message });
  });
});
