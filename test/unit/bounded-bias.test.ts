// The bias for continuous rewards: distributions compared with known values; theorem 4 with closed forms, with the integral
// over the joint density of the smallest and the largest reward, and at its limits.

import assert from 'node:assert/strict';
import test, { describe } from 'node:test';
import { expectedBaseline, gradientShare } from '../../src/bias/bernoulli.js';
import { boundedBias } from '../../src/bias/bounded.js';
import { betaDistribution, type Distribution, quantileOf, truncatedGaussian } from '../../src/bias/distribution.js';
import { integrate } from '../../src/bias/quadrature.js';
import { assertNumber } from '../support/compare.js';

const examples: [string, Distribution][] = [
  ['Beta(1, 1)', betaDistribution(1, 1)],
  ['Beta(2, 5)', betaDistribution(2, 5)],
  ['Beta(0.2, 1.8)', betaDistribution(0.2, 1.8)],
  ['Beta(1.8, 0.2)', betaDistribution(1.8, 0.2)],
  ['Beta(0.3, 0.3)', betaDistribution(0.3, 0.3)],
  ['Beta(60, 30)', betaDistribution(60, 30)],
  ['Gaussian about 0.4', truncatedGaussian(0.4, 0.2)],
  ['Gaussian about 0', truncatedGaussian(0, 0.2)],
  ['Gaussian about -3', truncatedGaussian(-3, 0.3)],
  ['Gaussian about 4', truncatedGaussian(4, 0.3)],
  ['flat Gaussian', truncatedGaussian(0.5, 10)],
];

describe('distributions', () => {
  test('tails and moments are the integrals of the density', () => {
    for (const [name, { density, above, below, mean }] of examples) {
      for (const x of [0.001, 0.2, 0.5, 0.7, 0.95]) {
        const { share, moment } = above(x);
        // From each end, where the density may be infinite, to x.
        const fromBelow = integrate(density, 0, x);
        const momentBelow = integrate((t) => t * density(t), 0, x);
        assertNumber(below(x), fromBelow, 1e-12, `${name}: P(X < ${x})`);
        assertNumber(share, 1 - fromBelow, 1e-12, `${name}: P(X > ${x})`);
        assertNumber(moment, mean - momentBelow, 1e-12, `${name}: E[X; X > ${x}]`);
      }
      assertNumber(above(0).moment, mean, 1e-14, `${name}: mean`);
      assert.deepEqual([above(0).share, below(0), above(1).share, below(1)], [1, 0, 0, 1], name);
    }
  });

  test('tails are accurate where they are small', () => {
    // P(X > x) of Beta(2, 2) is (1 − x)² (1 + 2x), of Beta(1, b) it is (1 − x)^b.
    for (const x of [0.9, 0.999, 1 - 1e-6]) {
      const rest = 1 - x;
      assertNumber(
        betaDistribution(2, 2).above(x).share / (rest ** 2 * (1 + 2 * x)),
        1,
        1e-12,
        `Beta(2, 2) above ${x}`,
      );
      assertNumber(betaDistribution(1, 7).above(x).share / rest ** 7, 1, 1e-12, `Beta(1, 7) above ${x}`);
    }
  });

  test('the Gaussian has its known probabilities', () => {
    // Φ(1) − Φ(0), Φ(2) − Φ(1), Φ(3) − Φ(2), Φ(5) − Φ(3), relative to the probability between 0 and 10 standard deviations.
    const gaussian = truncatedGaussian(0, 0.1);
    const shares = [0.3413447460685429, 0.1359051219832779, 0.02140023391654911, 0.0013496113800581799];
    [0, 0.1, 0.2, 0.3].forEach((from, i) => {
      const share = gaussian.above(from).share - gaussian.above([0.1, 0.2, 0.3, 0.5][i]).share;
      assertNumber(share / 2, shares[i], 1e-15, `from ${from}`);
    });
    // Far in the tail: Q(10) = 7.61985302416052606e-24.
    assertNumber((truncatedGaussian(0, 0.05).above(0.5).share / 2) * 1e24, 7.619853024160527, 1e-12, 'Q(10)');
  });

  test('parameters out of range are rejected by name', () => {
    const wrong: [() => unknown, string][] = [
      [() => betaDistribution(0, 1), 'a: expected a finite number at least 0.05 and at most 400, got 0'],
      [() => betaDistribution(1, 401), 'b: expected a finite number at least 0.05 and at most 400, got 401'],
      [() => truncatedGaussian(0.5, 0), 'scale: expected a finite number above 0 and at most 10, got 0'],
      [() => truncatedGaussian(Number.NaN, 1), 'location: expected a finite number, got NaN'],
      [() => truncatedGaussian(-9, 0.1), 'location: expected a Gaussian of which a part lies in [0, 1], got -9'],
    ];
    for (const [call, message] of wrong) assert.throws(call, { name: 'RangeError', message });
  });
});

describe('quantiles', () => {
  test('invert the distribution', () => {
    for (const [name, distribution] of examples) {
      const quantile = quantileOf(distribution);
      for (let i = 1; i < 400; i++) {
        const share = i / 400;
        const x = quantile(share);
        // Numbers near 1 are 1e-16 apart, a large part of the remaining probability if the density is infinite at 1.
        const slack = 1e-10 + Math.abs(distribution.below(Math.min(1, x + 1e-15)) - distribution.below(x - 1e-15));
        assertNumber(distribution.below(x), share, slack, `${name} at ${share}`);
      }
    }
  });

  test('ascend and stay in [0, 1] for probabilities close to 0 and 1', () => {
    for (const [name, distribution] of examples) {
      const quantile = quantileOf(distribution);
      const shares = [2 ** -53, 1e-12, 1e-6, 1e-3, 0.5, 1 - 1e-3, 1 - 1e-6, 1 - 1e-12, 1 - 2 ** -53];
      const values = shares.map(quantile);
      assert.ok(values[0] >= 0 && values.at(-1)! <= 1, `${name}: ${values}`);
      values.slice(1).forEach((value, i) => {
        assert.ok(value >= values[i], `${name}: ${values}`);
      });
    }
  });
});

/** Gauss and Legendre's rule on (0, 1): exact for polynomials of degree 2n − 1. */
function gaussLegendre(n: number): { x: number; weight: number }[] {
  return Array.from({ length: n }, (_, i) => {
    let z = Math.cos((Math.PI * (i + 0.75)) / (n + 0.5));
    let slope = 0;
    for (let step = 0; step < 50; step++) {
      let [before, value] = [1, z];
      for (let k = 2; k <= n; k++) [before, value] = [value, ((2 * k - 1) * z * value - (k - 1) * before) / k];
      slope = (n * (before - z * value)) / (1 - z * z);
      z -= value / slope;
    }
    return { x: (1 - z) / 2, weight: 1 / ((1 - z * z) * slope * slope) };
  });
}

/**
 * Theorem 4 from the joint density G (G − 1) f(x) f(y) (F(y) − F(x))^(G − 2) of the smallest and the largest reward x and y, with
 * the others' conditional mean in between: exact for polynomial f.
 */
function byExtremes(
  f: (x: number) => number,
  F: (x: number) => number,
  M: (x: number) => number,
  groupSize: number,
  sigma: number,
): { share: number; baseline: number } {
  const nodes = gaussLegendre(48);
  let [share, sum] = [0, 0];
  for (const { x: u, weight: wu } of nodes) {
    const x = u * (1 - sigma);
    for (const { x: v, weight: wv } of nodes) {
      const room = 1 - sigma - x;
      const y = x + sigma + v * room;
      const between = F(y) - F(x);
      const density =
        wu * wv * (1 - sigma) * room * groupSize * (groupSize - 1) * f(x) * f(y) * between ** (groupSize - 2);
      share += density;
      sum += density * (x + y + ((groupSize - 2) * (M(y) - M(x))) / between);
    }
  }
  return { share, baseline: sum / groupSize / share };
}

describe('theorem 4', () => {
  test('agrees with the joint density of the smallest and the largest reward', () => {
    const polynomials: [string, Distribution, (x: number) => number, (x: number) => number, (x: number) => number][] = [
      ['Beta(2, 1)', betaDistribution(2, 1), (x) => 2 * x, (x) => x ** 2, (x) => (2 / 3) * x ** 3],
      [
        'Beta(2, 2)',
        betaDistribution(2, 2),
        (x) => 6 * x * (1 - x),
        (x) => 3 * x ** 2 - 2 * x ** 3,
        (x) => 2 * x ** 3 - 1.5 * x ** 4,
      ],
      [
        'Beta(1, 3)',
        betaDistribution(1, 3),
        (x) => 3 * (1 - x) ** 2,
        (x) => 1 - (1 - x) ** 3,
        (x) => 1.5 * x ** 2 - 2 * x ** 3 + 0.75 * x ** 4,
      ],
    ];
    for (const [name, distribution, f, F, M] of polynomials) {
      for (const groupSize of [2, 3, 8, 16]) {
        for (const sigma of [0.01, 0.3, 0.7, 0.95]) {
          const expected = byExtremes(f, F, M, groupSize, sigma);
          const { share, bias } = boundedBias(distribution, groupSize, sigma);
          const label = `${name}, G = ${groupSize}, σ = ${sigma}`;
          assertNumber(share / expected.share, 1, 1e-11, `P(S_σ), ${label}`);
          assertNumber(bias, expected.baseline - distribution.mean, 1e-11, `bias, ${label}`);
        }
      }
    }
  });

  test('for uniform rewards the share is that of their range, 1 - G σ^(G-1) + (G-1) σ^G, without bias', () => {
    for (const groupSize of [2, 4, 8, 64]) {
      for (const sigma of [0.05, 0.5, 0.99]) {
        const { share, bias } = boundedBias(betaDistribution(1, 1), groupSize, sigma);
        const rest = groupSize * sigma ** (groupSize - 1) - (groupSize - 1) * sigma ** groupSize;
        assertNumber(share, 1 - rest, 1e-12, `G = ${groupSize}, σ = ${sigma}`);
        assertNumber(bias, 0, 1e-12, 'bias');
      }
    }
  });

  test('mirrored rewards have the mirrored bias', () => {
    for (const [one, other] of [
      [betaDistribution(0.2, 1.8), betaDistribution(1.8, 0.2)],
      [truncatedGaussian(0.1, 0.2), truncatedGaussian(0.9, 0.2)],
    ]) {
      for (const groupSize of [2, 8]) {
        const [a, b] = [boundedBias(one, groupSize, 0.3), boundedBias(other, groupSize, 0.3)];
        assertNumber(a.share, b.share, 1e-11, 'share');
        assertNumber(a.bias, -b.bias, 1e-11, 'bias');
        assert.ok(a.bias > 1e-3, 'low means are overestimated');
      }
    }
  });

  test('rewards close to 0 and 1 have the bias of binary rewards', () => {
    // Beta(ε p, ε (1 − p)) becomes Bernoulli(p) as ε → 0; at ε = 0.25 its mass outside (0.05, 0.95) is about 0.75.
    const distance = (concentration: number) => {
      const { share, bias } = boundedBias(betaDistribution(concentration * 0.2, concentration * 0.8), 4, 0.5);
      return Math.hypot(share - gradientShare(0.2, 4), bias + 0.2 - expectedBaseline(0.2, 4));
    };
    assert.ok(distance(0.25) < 0.15);
    assert.ok(distance(0.25) < distance(0.5) && distance(0.5) < distance(1));
  });

  test('a narrow distribution is not missed between integration nodes', () => {
    // For two Gaussian rewards of standard deviation s, P(|difference| > σ) = 2 Q(σ / (s √2)), and none in the middle is biased.
    for (const scale of [0.05, 1e-3, 1e-5]) {
      const { share, bias } = boundedBias(truncatedGaussian(0.37, scale), 2, scale * Math.SQRT2);
      assertNumber(share, 2 * 0.15865525393145707, 1e-10, `scale ${scale}`);
      assertNumber(bias, 0, 1e-10, `scale ${scale}`);
    }
  });

  test('an impossible or practically impossible spread is rejected by name', () => {
    const uniform = betaDistribution(1, 1);
    assert.throws(() => boundedBias(uniform, 8, 0), {
      name: 'RangeError',
      message: /^sigma: expected a finite number above 0 and below 1/,
    });
    assert.throws(() => boundedBias(uniform, 8, 1), { name: 'RangeError', message: /^sigma: / });
    assert.throws(() => boundedBias(uniform, 1, 0.5), { name: 'RangeError', message: /^groupSize: / });
    assert.throws(() => boundedBias(truncatedGaussian(0.5, 0.001), 8, 0.5), {
      name: 'RangeError',
      message: 'sigma: expected a spread that groups of these rewards can have, got 0.5',
    });
  });
});
