// Evaluations: estimators compared with enumeration, intervals with simulation; votes, parts and pairs; and in training.

import assert from 'node:assert/strict';
import test, { describe } from 'node:test';
import fc from 'fast-check';
import { passAtK } from '../../src/evaluation/estimators.js';
import { comparePaired } from '../../src/evaluation/paired.js';
import {
  type CompletionRecord,
  groupRecords,
  majority,
  type ProblemRecord,
  passCounts,
  problemValues,
  summarise,
} from '../../src/evaluation/records.js';
import { estimate } from '../../src/evaluation/statistics.js';

type Given = Partial<CompletionRecord> & { score: number };

const problem = (index: number, completions: readonly Given[], change: Partial<CompletionRecord> = {}): ProblemRecord =>
  groupRecords(
    completions.map((one, sample) => ({
      problem: index,
      sample,
      prompt: `p${index}`,
      answer: 'a',
      difficulty: 0,
      completion: 'text',
      tokens: 3,
      truncated: false,
      ...change,
      ...one,
    })),
  )[0];

const right = (extracted = '4'): Given => ({ score: 1, extracted });
const wrong = (extracted: string | null): Given => ({ score: 0, extracted });

/** All subsets of k of n items. */
function* subsets(n: number, k: number, from = 0): Generator<number[]> {
  if (k === 0) return yield [];
  for (let i = from; i <= n - k; i++) for (const rest of subsets(n, k - 1, i + 1)) yield [i, ...rest];
}

describe('estimators', () => {
  test('pass@k is the share of all subsets of k completions with a right one', () => {
    for (let n = 1; n <= 8; n++) {
      for (let c = 0; c <= n; c++) {
        for (let k = 1; k <= n; k++) {
          const all = [...subsets(n, k)];
          const passing = all.filter((subset) => subset.some((i) => i < c)).length;
          assert.ok(Math.abs(passAtK(n, c, k) - passing / all.length) < 1e-12, `${n} ${c} ${k}`);
        }
      }
    }
  });

  test('pass@k is computed for powers of two, and for all completions', () => {
    assert.deepEqual([1, 2, 3, 8, 12].map(passCounts), [[1], [1, 2], [1, 2, 3], [1, 2, 4, 8], [1, 2, 4, 8, 12]]);
  });

  test('a problem has its mean, pass@k and vote; with one completion only the mean', () => {
    assert.deepEqual(problemValues(problem(0, [right(), wrong('5'), wrong('5'), wrong('6')])), {
      'avg@4': 0.25,
      'pass@1': 0.25,
      'pass@2': 0.5,
      'pass@4': 1,
      'maj@4': 0,
    });
    assert.deepEqual(problemValues(problem(0, [{ score: 0.5 }])), { 'avg@1': 0.5 });
  });

  test('a vote counts normalised answers, all right ones as one, and ignores completions without an answer', () => {
    const cases: [Given[], number][] = [
      [[right('4'), right('4.0'), wrong('5'), wrong('6')], 1],
      [[right(), wrong('1{,}000'), wrong('1000')], 0],
      [[right(), wrong('5'), wrong(null), wrong(null)], 1 / 2],
      [[right(), wrong('5'), wrong('6'), wrong('7')], 1 / 4],
      [[wrong(null), wrong(null)], 0],
      [[wrong('5'), { ...right(), truncated: true, score: 0 }], 0],
      [[right(), { ...wrong('5'), truncated: true }, { ...wrong('5'), truncated: true }], 1],
      // Without a grader's answer the texts are voted on.
      [
        [
          { score: 1, completion: 'x' },
          { score: 0, completion: 'y ' },
          { score: 0, completion: ' y' },
        ],
        0,
      ],
    ];
    for (const [completions, expected] of cases) assert.equal(majority(problem(0, completions).completions), expected);
  });

  test('a vote does not depend on the order of completions', () => {
    const one = fc.constantFrom<Given>(right(), right('8/2'), wrong('5'), wrong('6'), wrong(null));
    fc.assert(
      fc.property(fc.array(one, { minLength: 1, maxLength: 9 }), (completions) => {
        const there = majority(problem(0, completions).completions);
        assert.equal(majority(problem(0, [...completions].reverse()).completions), there);
        assert.ok(there >= 0 && there <= 1);
      }),
      { numRuns: 200, seed: 1 },
    );
  });
});

describe('summaries', () => {
  const problems = [
    problem(0, [right(), right()], { difficulty: 10, columns: { subject: 'A' } }),
    problem(1, [right(), wrong('5')], { difficulty: 9, columns: { subject: 'B' } }),
    problem(2, [wrong('5'), { ...wrong(null), truncated: true, tokens: 9 }], {
      difficulty: 9,
      columns: { subject: 'A' },
    }),
  ];

  test('cover all problems and parts, in the order of their values', () => {
    const { parts, ...all } = summarise(problems);
    assert.deepEqual([all.problems, all.samples, all.truncated, all.tokens], [3, 2, 1 / 6, 4]);
    assert.deepEqual(
      Object.entries(all.estimates).map(([name, { mean }]) => [name, mean]),
      [
        ['avg@2', 0.5],
        ['pass@1', 0.5],
        ['pass@2', 2 / 3],
        // A tie of one right and one wrong answer.
        ['maj@2', 0.5],
      ],
    );
    assert.deepEqual(
      parts.map(({ column, value, problems: count, estimates }) => [column, value, count, estimates['avg@2'].mean]),
      [
        ['difficulty', '9', 2, 0.25],
        ['difficulty', '10', 1, 1],
        ['subject', 'A', 2, 0.5],
        ['subject', 'B', 1, 0.5],
      ],
    );
    // If all problems are equally hard, there is no breakdown.
    assert.deepEqual(summarise([problem(0, [right()]), problem(1, [right()])]).parts, []);
    assert.throws(() => summarise([problem(0, [right()]), problem(1, [right(), right()])]), /^TypeError: problem 1: /);
  });

  test('intervals cover the truth as often as stated: problems of different difficulty, few samples of each', () => {
    // The success probability of problem i is drawn from Beta(1, 2), as the complement of a maximum of two uniforms: mean 1/3.
    let state = 12345;
    const random = () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return state / 2 ** 32;
    };
    for (const [count, samples] of [
      [20, 4],
      [100, 2],
    ]) {
      let held = 0;
      const runs = 400;
      for (let run = 0; run < runs; run++) {
        const means = Array.from({ length: count }, () => {
          const probability = Math.min(random(), random());
          let total = 0;
          for (let i = 0; i < samples; i++) total += Number(random() < probability);
          return total / samples;
        });
        const { low, high } = estimate(means);
        held += Number(low! <= 1 / 3 && 1 / 3 <= high!);
      }
      // 95 % of 400 runs: a standard deviation of 4.4; skewness reduces coverage a little with few problems.
      assert.ok(held >= 0.92 * runs && held <= 0.98 * runs, `${count} problems: ${held} of ${runs}`);
    }
  });
});

describe('paired comparisons', () => {
  const before = [0, 1, 2, 3].map((i) => problem(i, [right(), i < 2 ? right() : wrong('5')]));
  const after = [3, 2, 1, 5].map((i) => problem(i, [right(), right(), right(), i === 1 ? wrong('5') : right()]));

  test('use the problems that both have, whatever their order and number of samples', () => {
    const { quantities, changes, ...counts } = comparePaired(before, after);
    assert.deepEqual(counts, { problems: 3, onlyBefore: 1, onlyAfter: 1, better: 2, worse: 1 });
    assert.deepEqual(
      quantities.map(({ name }) => name),
      ['avg', 'pass@1', 'pass@2'],
    );
    const [avg] = quantities;
    assert.deepEqual([avg.before, avg.after], [2 / 3, 11 / 12]);
    assert.ok(Math.abs(avg.difference.mean! - 0.25) < 1e-12);
    // Of 8 ways to choose the signs of −1/4, 1/2 and 1/2, four sums are at least 3/4 from 0.
    assert.equal(avg.p, 4 / 8);
    assert.deepEqual(
      changes.map(({ prompt, before: b, after: a }) => [prompt, b, a]),
      [
        ['p2', 0.5, 1],
        ['p3', 0.5, 1],
        ['p1', 1, 0.75],
      ],
    );
  });

  test('of the same evaluation show no difference; there must be a problem in common', () => {
    const { quantities, better, worse } = comparePaired(before, before);
    assert.deepEqual([better, worse], [0, 0]);
    for (const { difference, p } of quantities) {
      assert.deepEqual(difference, { mean: 0, low: 0, high: 0 });
      assert.equal(p, null);
    }
    assert.throws(() => comparePaired(before, [problem(9, [right()])]), /^RangeError: evaluations: .*got none/);
  });
});
