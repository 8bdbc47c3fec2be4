// The bias for binary rewards: closed forms compared with exact arithmetic, for small, large and extreme numbers.

import assert from 'node:assert/strict';
import test, { describe } from 'node:test';
import {
  advantageBias,
  averageUnderestimation,
  baselineDeviation,
  conditionalCounts,
  expectedBaseline,
  gradientShare,
  overestimation,
  underestimation,
} from '../../src/bias/bernoulli.js';
import { exactAverage, exactBias, exactChance, exactly, type Fraction, toNumber } from '../support/binomial.js';
import { assertNumber } from '../support/compare.js';

/** Relative to the expected value: powers of G factors, each with a rounding, and G terms of one sign. */
function assertExact(actual: number, expected: Fraction, groupSize: number, label: string): void {
  const value = toNumber(expected);
  assertNumber(actual, value, (4 * groupSize + 20) * 2 ** -53 * Math.abs(value), label);
}

const probabilities = [
  1e-300,
  1e-160,
  1e-20,
  1e-9,
  0.001,
  0.02,
  0.1,
  0.25,
  0.3,
  0.499,
  0.4999999999999,
  0.5,
  0.5000000001,
  0.6,
  0.75,
  0.9,
  0.999,
  0.999999999,
  1 - 2 ** -53,
];
const groupSizes = [2, 3, 4, 5, 8, 16, 64];

describe('lemma 2 is accurate to the last digits, for p from 1e-300 to 1 - 2^-53', () => {
  for (const groupSize of groupSizes) {
    test(`G = ${groupSize}`, () => {
      for (const p of probabilities) {
        const label = `p = ${p}, G = ${groupSize}`;
        const { share, baseline, bias } = exactBias(exactly(p), groupSize);
        assertExact(gradientShare(p, groupSize), share, groupSize, `P(S), ${label}`);
        assertExact(expectedBaseline(p, groupSize), baseline, groupSize, `E[p̂ | S], ${label}`);
        assertExact(advantageBias(p, groupSize), bias, groupSize, `bias, ${label}`);
      }
    });
  }

  test('G = 1000', () => {
    for (const p of [1e-9, 0.001, 0.3, 0.999]) {
      const { share, baseline } = exactBias(exactly(p), 1000);
      assertExact(gradientShare(p, 1000), share, 1000, `P(S), p = ${p}`);
      assertExact(expectedBaseline(p, 1000), baseline, 1000, `E[p̂ | S], p = ${p}`);
    }
  });
});

test('the bias is that of the printed formulas', () => {
  for (const [p, groupSize] of [
    [0.1, 2],
    [0.3, 8],
    [0.8, 5],
  ]) {
    const printed = (p * (1 - p ** (groupSize - 1))) / (1 - (1 - p) ** groupSize - p ** groupSize);
    assertNumber(expectedBaseline(p, groupSize), printed, 1e-15, 'eq. 32');
    assertNumber(advantageBias(p, groupSize), printed - p, 1e-15, 'theorem 1');
  }
});

test('hard prompts are underestimated, easy ones overestimated, and p = 0.5 neither', () => {
  for (const groupSize of groupSizes) {
    assert.equal(advantageBias(0.5, groupSize), 0);
    for (const p of [1e-300, 0.01, 0.2, 0.49]) {
      assert.ok(advantageBias(p, groupSize) > 0);
      assert.ok(advantageBias(p, groupSize) > advantageBias(p, groupSize + 1));
    }
    for (const p of [0.51, 0.8, 0.99, 1 - 2 ** -53]) assert.ok(advantageBias(p, groupSize) < 0);
  }
});

test('counts and their spread are those of the binomial distribution without its ends', () => {
  for (const groupSize of [2, 5, 8, 64]) {
    for (const p of probabilities) {
      const counts = conditionalCounts(p, groupSize);
      assert.equal(counts.length, groupSize + 1);
      assert.deepEqual([counts[0], counts[groupSize]], [0, 0]);
      let variance = 0;
      const mean = toNumber(exactBias(exactly(p), groupSize).baseline);
      for (let k = 1; k < groupSize; k++) {
        const exact = exactChance(exactly(p), groupSize, (right) => right === k);
        const value = toNumber(exact);
        // 1e-280: below it, the spacing of numbers is larger than their rounding.
        if (value > 1e-280) assertExact(counts[k], exact, groupSize, `P(Σr = ${k} | S), p = ${p}, G = ${groupSize}`);
        else assertNumber(counts[k], 0, 1e-279, `P(Σr = ${k} | S)`);
        variance += value * (k / groupSize - mean) ** 2;
      }
      assertNumber(
        baselineDeviation(p, groupSize),
        Math.sqrt(variance),
        1e-13,
        `deviation, p = ${p}, G = ${groupSize}`,
      );
    }
  }
});

describe('theorem 2', () => {
  test('counts values beyond the margin but not on it, for decimal p and ε', () => {
    let edges = 0;
    for (const parts of [10, 20, 60, 100]) {
      for (const groupSize of [2, 3, 4, 5, 6, 8, 10, 16, 20, 25, 60]) {
        for (let a = 1; a < parts; a += parts > 50 ? 7 : 1) {
          for (let e = 0; e < parts / 2; e += parts > 50 ? 9 : 1) {
            const [p, epsilon] = [a / parts, e / parts];
            const fraction: Fraction = [BigInt(a), BigInt(parts)];
            // k / G against (a ± e) / parts, in integers.
            const under = exactChance(fraction, groupSize, (k) => k * parts > groupSize * (a + e));
            const over = exactChance(fraction, groupSize, (k) => k * parts < groupSize * (a - e));
            if ((groupSize * (a + e)) % parts === 0) edges++;
            const label = `p = ${p}, ε = ${epsilon}, G = ${groupSize}`;
            // p itself is a rounded fraction: half a unit of 2^-53, G times.
            const bound = 6 * groupSize * 2 ** -53;
            assertNumber(underestimation(p, groupSize, epsilon), toNumber(under), bound, `under, ${label}`);
            assertNumber(overestimation(p, groupSize, epsilon), toNumber(over), bound, `over, ${label}`);
          }
        }
      }
    }
    assert.ok(edges > 1000, `${edges} draws on the edge`);
  });

  test('an integer margin is recognised despite rounding', () => {
    // 100 · 0.29 is 28.999999999999996, and 10 · (0.1 + 0.2) is 3.0000000000000004.
    assert.equal(underestimation(0.29, 100), underestimation(0.28, 100, 0.01) * 0 + underestimation(0.29, 100, 1e-9));
    const counts = conditionalCounts(0.1, 10);
    assert.equal(
      underestimation(0.1, 10, 0.2),
      counts.subarray(4).reduce((a, b) => a + b),
    );
    assert.equal(overestimation(0.3, 10, 0.2), conditionalCounts(0.3, 10)[0]);
  });

  test('is certain for p < 1/G and p > 1 - 1/G (corollary 3), and nowhere else', () => {
    for (const groupSize of [2, 3, 4, 8, 10, 100]) {
      for (const p of [1e-300, 1e-9, 0.5 / groupSize, 1 / groupSize - 1e-9]) {
        assert.equal(underestimation(p, groupSize), 1);
        assert.equal(overestimation(p, groupSize), 0);
      }
      for (const p of [1 - 2 ** -53, 1 - 0.5 / groupSize, 1 - 1 / groupSize + 1e-9]) {
        assert.equal(overestimation(p, groupSize), 1);
        assert.equal(underestimation(p, groupSize), 0);
      }
      assert.ok(underestimation(1 / groupSize, groupSize) < 1);
      assert.ok(overestimation(1 - 1 / groupSize, groupSize) < 1);
    }
  });

  test('a margin of 1 is never exceeded', () => {
    assert.deepEqual([underestimation(0.2, 8, 1), overestimation(0.9, 8, 1)], [0, 0]);
  });
});

describe('tables 4 to 6', () => {
  const limits: [string, (groupSize: number) => Fraction][] = [
    ['p < 0.25', () => [1n, 4n]],
    ['p < 0.5', () => [1n, 2n]],
    ['p < 2/G', (groupSize) => (groupSize < 4 ? [1n, 2n] : [2n, BigInt(groupSize)])],
  ];

  for (const groupSize of [2, 3, 4, 5, 6, 7, 8, 16]) {
    test(`G = ${groupSize}: within 1e-12 of integrals in exact arithmetic`, () => {
      for (const [name, limitOf] of limits) {
        const limit = limitOf(groupSize);
        const actual = averageUnderestimation(toNumber(limit), groupSize);
        assertNumber(actual, exactAverage(limit, groupSize), 1e-12, `${name}, G = ${groupSize}`);
      }
    });
  }

  test('agree with integrals solved by hand for G = 3 and 4', () => {
    // G = 3: P(Σr ≥ 2 | S) = p.
    assertNumber(averageUnderestimation(0.5, 3), 29 / 36, 1e-14, 'G = 3');
    // G = 4: P(Σr ≥ 2 | S) = 1 − 2 (1 − p)² / (p² − p + 2).
    const primitive = (p: number) =>
      2 * p - Math.log(p * p - p + 2) - (6 / Math.sqrt(7)) * Math.atan((2 * p - 1) / Math.sqrt(7));
    assertNumber(averageUnderestimation(0.5, 4), 1 - 2 * (primitive(0.5) - primitive(0.25)), 1e-14, 'G = 4');
  });

  test('agree with the printed tables in all digits', () => {
    const printed: [number, number, number, number][] = [
      [2, 1, 1, 1],
      [4, 1, 0.776969, 0.776969],
      [6, 0.827765, 0.689725, 0.781158],
      [8, 0.781133, 0.640948, 0.781133],
    ];
    for (const [groupSize, ...values] of printed) {
      limits.forEach(([name, limitOf], i) => {
        const actual = averageUnderestimation(toNumber(limitOf(groupSize)), groupSize);
        assertNumber(actual, values[i], 5e-7, `${name}, G = ${groupSize}`);
      });
    }
  });

  test('corollaries 1 and 2: hard prompts are underestimated more often than not, for every G from 2 to 8', () => {
    for (let groupSize = 2; groupSize <= 8; groupSize++) {
      assert.ok(averageUnderestimation(0.5, groupSize) > 0.63);
      assert.ok(averageUnderestimation(0.25, groupSize) > 0.78);
      assert.ok(averageUnderestimation(Math.min(0.5, 2 / groupSize), groupSize) > 0.77);
    }
  });

  test('below a limit of 1/G the average is 1', () => {
    assert.equal(averageUnderestimation(0.1, 8), 1);
    assert.equal(averageUnderestimation(1 / 8, 8), 1);
  });
});

test('invalid probabilities, group sizes, margins and limits are rejected by name', () => {
  const wrong: [() => unknown, string, string][] = [
    [() => gradientShare(0, 8), 'RangeError', 'p: expected a finite number above 0 and below 1, got 0'],
    [() => advantageBias(1, 8), 'RangeError', 'p: expected a finite number above 0 and below 1, got 1'],
    [() => expectedBaseline(Number.NaN, 8), 'RangeError', 'p: expected a finite number above 0 and below 1, got NaN'],
    [() => advantageBias(0.5, 1), 'RangeError', 'groupSize: expected an integer at least 2 and at most 1000000, got 1'],
    [
      () => conditionalCounts(0.5, 2.5),
      'RangeError',
      'groupSize: expected an integer at least 2 and at most 1000000, got 2.5',
    ],
    [() => underestimation(0.5, 8, -0.1), 'RangeError', 'epsilon: expected a finite number at least 0, got -0.1'],
    [
      () => overestimation('0.5' as never, 8),
      'TypeError',
      'p: expected a finite number above 0 and below 1, got "0.5"',
    ],
    [
      () => averageUnderestimation(0.6, 8),
      'RangeError',
      'limit: expected a finite number above 0 and at most 0.5, got 0.6',
    ],
  ];
  for (const [call, name, message] of wrong) assert.throws(call, { name, message });
});
