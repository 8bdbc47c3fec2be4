// The KL term compared with the same formulas in exact arithmetic (test/support/exact.ts), where nothing cancels: every
// estimator, with and without importance weights, every ratio, with and without the clamps of both log-ratios, for
// log-probs from 0 to −1000 and differences from 1e-7 to 1000.
//
// Bounds. u is half a unit in the last place around 1 (2^-24 in float32, 2^-53 in float64), δ = ℓ − ℓ°, d = ℓʳ − ℓ.
//  - δ and d carry u relatively from their subtraction, so that ρ = e^δ carries u (|δ| + 2), with 2u of its own from exp.
//    A mean of n log-ratios has u (n + 2) of the largest. e^(s + c) has u (|s| + |c| + |s + c| + 2).
//  - The formulas under test are sums of two terms, each a product of these and of a few roundings: `value` and
//    `slope` below are the sizes of these terms, and errors are relative to them. For k3 the
//    slope has no exponential in it unless a clamp restricts a part of the gradient.
//  - exp is 0 below e^-86.98 in float32: a product with it may be 0 instead of up to 2e-38 times its other factor.
// non-finite.test.ts covers draws whose terms come near the largest float.

import assert from 'node:assert/strict';
import test, { describe } from 'node:test';
import { referenceDevice } from '../../src/devices/reference/index.js';
import { klEstimators, ratios } from '../../src/devices/settings.js';
import { type LossConfig, policyLoss } from '../../src/index.js';
import { planPolicy } from '../../src/loss/request.js';
import { assertNumber } from '../support/compare.js';
import { testedDevices } from '../support/devices.js';
import { exact, exp, magnitude, one, times, toNumber } from '../support/exact.js';
import { float64Policy } from '../support/float64.js';
import { type Random, seeded } from '../support/random.js';

interface KlCase {
  logProbs: Float32Array;
  oldLogProbs: Float32Array | null;
  refLogProbs: Float32Array;
  ratio: (typeof ratios)[number];
  logRatioClamp: number;
  kl: Required<NonNullable<LossConfig['kl']>>;
}

/** Results of a case, and the sizes of the terms that they are sums of. `largest`: of all intermediate numbers. */
interface Expected {
  loss: number;
  gradient: number[];
  lossSize: number;
  slopeSizes: number[];
  largest: number;
}

const clamp = (x: bigint, bound: number) => {
  if (bound === Infinity) return x;
  const b = exact(bound);
  return x > b ? b : x < -b ? -b : x;
};

/** Σ β ρ k over the tokens of one sequence and its gradient, by the definitions. */
function expected({ logProbs, oldLogProbs, refLogProbs, ratio, logRatioClamp, kl }: KlCase): Expected {
  const n = BigInt(logProbs.length);
  const l = [...logProbs].map(exact);
  const delta = l.map((x, t) => (oldLogProbs ? x - exact(oldLogProbs[t]) : 0n));
  const mean = delta.reduce((sum, x) => sum + x, 0n) / n;
  const logRatio = delta.map((x) => clamp(ratio === 'token' ? x : mean, logRatioClamp));
  const moves = delta.map((x, t) => kl.importanceWeighted && logRatio[t] === (ratio === 'token' ? x : mean));
  const rho = logRatio.map((s) => (kl.importanceWeighted ? exp(s) : one));
  const d = l.map((x, t) => exact(refLogProbs[t]) - x);
  const c = d.map((x) => clamp(x, kl.logRatioClamp));
  const e = c.map(exp);
  const k = c.map((x, t) => ({ k1: -x, k2: times(x, x) / 2n, k3: e[t] - x - one })[kl.estimator]);
  const slope = c.map((x, t) => (x === d[t] ? { k1: one, k2: -x, k3: one - e[t] }[kl.estimator] : 0n));
  const value = k.map((x, t) => times(rho[t], x));
  const own = slope.map((x, t) => times(rho[t], x));
  const shared = value.reduce((sum, x) => sum + x, 0n) / n;
  const gradient = own.map((x, t) => x + (moves[t] ? (ratio === 'sequence' ? shared : value[t]) : 0n));

  const size = (x: bigint) => toNumber(magnitude(x));
  const near = (t: number) => magnitude(c[t]) < one;
  const exponential = (t: number) => (kl.estimator === 'k3' && !near(t) ? size(times(rho[t], e[t])) : 0);
  const linear = (t: number, x: bigint) => size(times(rho[t], x));
  const valueSize = (t: number) =>
    kl.estimator === 'k3' && !near(t) ? exponential(t) + linear(t, c[t] + one) : size(value[t]);
  const slopeSizes = gradient.map((x, t) => {
    const cut = c[t] !== d[t];
    // In float64 on every device except for its factor.
    if (moves[t] && ratio === 'sequence') return size(x) + c.reduce((sum, y, i) => sum + linear(i, y), 0);
    if (moves[t] && cut) return valueSize(t);
    // d has a rounding error, which affects the factors 1 − d and d − 2.
    if (moves[t])
      return { k1: size(x) + linear(t, d[t]), k2: size(x) + linear(t, times(d[t], d[t])), k3: size(x) }[kl.estimator];
    return kl.estimator === 'k3' && !near(t) && !cut ? exponential(t) + size(rho[t]) : size(x);
  });
  const all = l.map((_, t) => Math.max(size(rho[t]), size(times(rho[t], e[t])), valueSize(t), slopeSizes[t]));
  return {
    loss: toNumber(value.reduce((sum, x) => sum + x, 0n)) * kl.beta,
    gradient: gradient.map((x) => toNumber(x) * kl.beta),
    lossSize: l.reduce((sum, _, t) => sum + valueSize(t), 0) * kl.beta,
    slopeSizes: slopeSizes.map((x) => x * kl.beta),
    largest: Math.max(...all) * Math.max(1, kl.beta),
  };
}

/** From −0 to −1000: at a distance `difference` from `near`, if that is in range. */
function drawLogProb(random: Random, near: number): number {
  const difference = 10 ** random.uniform(-7, 3) * random.pick([-1, 1]);
  const close = near + difference;
  if (random.chance(0.7) && close <= 0 && close >= -1000) return Math.fround(close);
  return Math.fround(random.chance(0.05) ? -0 : -(10 ** random.uniform(-4, 3)));
}

function draw(seed: number): KlCase {
  const random = seeded(seed);
  const n = random.pick([1, 1, 2, 3, 5]);
  const tokens = Array.from({ length: n }, () => {
    const l = drawLogProb(random, -1);
    return { l, old: drawLogProb(random, l), ref: drawLogProb(random, l) };
  });
  // In a sequence of equal tokens the shared part of a gradient and a token's own part are largest and opposite.
  const all = random.chance(0.3) ? tokens.map(() => tokens[0]) : tokens;
  const bound = () => (random.chance(0.6) ? Infinity : Math.fround(10 ** random.uniform(-3, 2)));
  return {
    logProbs: Float32Array.from(all, ({ l }) => l),
    oldLogProbs: random.chance(0.9) ? Float32Array.from(all, ({ old }) => old) : null,
    refLogProbs: Float32Array.from(all, ({ ref }) => ref),
    ratio: random.pick(ratios),
    logRatioClamp: bound(),
    kl: {
      beta: Math.fround(random.pick([1, 0.04, 10 ** random.uniform(-6, 6)])),
      estimator: random.pick(klEstimators),
      importanceWeighted: random.chance(0.7),
      logRatioClamp: bound(),
    },
  };
}

function configOf({ ratio, logRatioClamp, kl }: KlCase): LossConfig {
  const { logRatioClamp: klClamp, ...rest } = kl;
  return {
    ratio,
    surrogate: { kind: 'clip', low: 0.2, high: 0.2, dual: 3 },
    aggregation: 'sequence-sum',
    ...(logRatioClamp < Infinity && { logRatioClamp }),
    kl: { ...rest, ...(klClamp < Infinity && { logRatioClamp: klClamp }) },
  };
}

function inputOf({ logProbs, oldLogProbs, refLogProbs }: KlCase) {
  return {
    shape: { sequences: 1, length: logProbs.length },
    logProbs,
    ...(oldLogProbs && { oldLogProbs }),
    refLogProbs,
    advantages: new Float32Array(1),
  };
}

function check(
  actual: { loss: number; gradient: ArrayLike<number> },
  wanted: Expected,
  { logProbs, oldLogProbs, refLogProbs, kl }: KlCase,
  u: number,
  label: string,
): void {
  const largest = (values: ArrayLike<number>, from: ArrayLike<number>) =>
    Array.from(values).reduce((max, x, i) => Math.max(max, Math.abs(x - from[i])), 0);
  const delta = largest(logProbs, oldLogProbs ?? logProbs);
  const d = largest(logProbs, refLogProbs);
  const bound = u * ((logProbs.length + 4) * delta + 3 * d + 24);
  // Zero on the reference device, whose smallest number is much smaller than any of these.
  const floor = u < 2 ** -50 ? 1e-300 : 2e-38 * (1 + d) ** 2 * Math.max(1, kl.beta);
  assertNumber(actual.loss, wanted.loss, bound * wanted.lossSize + floor * logProbs.length, `${label}: loss`);
  wanted.gradient.forEach((value, t) => {
    assertNumber(actual.gradient[t], value, bound * wanted.slopeSizes[t] + floor, `${label}: gradient[${t}]`);
  });
}

const cases = Array.from({ length: 3000 }, (_, seed) => {
  const klCase = draw(seed + 1);
  return { klCase, wanted: expected(klCase), label: `seed ${seed + 1}, ${JSON.stringify(configOf(klCase))}` };
});

test('the draws cover every estimator, ratio, clamp and size of d', () => {
  const inRange = cases.filter(({ wanted }) => wanted.largest < 1e37);
  assert.ok(inRange.length > 1500, `${inRange.length} cases in float32's range`);
  for (const estimator of klEstimators) {
    for (const ratio of ratios) {
      for (const bounded of [false, true]) {
        const some = inRange.filter(
          ({ klCase: { kl, ratio: r } }) =>
            kl.estimator === estimator &&
            kl.importanceWeighted &&
            r === ratio &&
            kl.logRatioClamp < Infinity === bounded,
        );
        assert.ok(some.length > 20, `${estimator}, ${ratio}, clamped ${bounded}: ${some.length}`);
      }
    }
  }
});

test('reference in float64: k1, k2 and k3 and their slopes', () => {
  for (const { klCase, wanted, label } of cases.filter(({ wanted }) => wanted.largest < 1e300)) {
    const plan = float64Policy(planPolicy(inputOf(klCase), configOf(klCase)));
    const { loss } = referenceDevice.policyLoss(plan);
    check({ loss, gradient: plan.gradLogProbs }, wanted, klCase, 2 ** -53, label);
  }
});

for (const { name: device, skip } of testedDevices('reference', 'cpu', 'cuda')) {
  describe(`KL term on ${device}`, { skip }, () => {
    test('k1, k2 and k3 and their slopes', () => {
      for (const { klCase, wanted, label } of cases.filter(({ wanted }) => wanted.largest < 1e37)) {
        const { loss, gradLogProbs } = policyLoss(inputOf(klCase), configOf(klCase), { device });
        check({ loss, gradient: gradLogProbs }, wanted, klCase, 2 ** -24, label);
      }
    });

    test('the estimate is per token whatever `ratio` is', () => {
      const logProbs = Float32Array.of(-1, -2, -0.5, -3);
      const refLogProbs = Float32Array.of(-1.5, -1, -0.25, -5);
      const k3 = Array.from(refLogProbs, (ref, t) => Math.exp(ref - logProbs[t]) - (ref - logProbs[t]) - 1);
      const loss = 0.04 * k3.reduce((sum, k) => sum + k, 0);
      // With the mean of the log-ratios, as in a sequence-level ratio, it would be different.
      const mean = refLogProbs.reduce((sum, ref, t) => sum + (ref - logProbs[t]) / 4, 0);
      assert.ok(Math.abs(loss - 4 * 0.04 * (Math.exp(mean) - mean - 1)) > 0.05);
      for (const ratio of ratios) {
        const found = policyLoss(
          { shape: { sequences: 1, length: 4 }, logProbs, refLogProbs, advantages: new Float32Array(1) },
          {
            ratio,
            surrogate: { kind: 'clip', low: 0.2, high: 0.2 },
            aggregation: 'sequence-sum',
            kl: { beta: 0.04, estimator: 'k3' },
          },
          { device },
        );
        assertNumber(found.loss, loss, 1e-6, `${ratio}: loss`);
        found.gradLogProbs.forEach((slope, t) => {
          assertNumber(slope, 0.04 * (1 - Math.exp(refLogProbs[t] - logProbs[t])), 1e-7, `${ratio}: gradient[${t}]`);
        });
      }
    });

    const token = (l: number, old: number, ref: number, config: Partial<LossConfig> = {}, n = 1) =>
      policyLoss(
        {
          shape: { sequences: 1, length: n },
          logProbs: new Float32Array(n).fill(l),
          oldLogProbs: new Float32Array(n).fill(old),
          refLogProbs: new Float32Array(n).fill(ref),
          advantages: new Float32Array(1),
        },
        {
          surrogate: { kind: 'clip', low: 0.2, high: 0.2 },
          aggregation: 'sequence-sum',
          ...config,
          kl: { beta: 1, importanceWeighted: true, ...config.kl },
        },
        { device },
      );

    test('importance-weighted k3 has the slope −β ρ d, exact where ρ is 1 and d is', () => {
      for (const d of [0.125, 0.875, 1, 1.125, 15.875, 24.875, 39.875, 60.875, 80.875, -0.5, -1, -30.125]) {
        const ref = d > 0 ? -0.125 : d - 0.125;
        for (const ratio of ratios) {
          for (const n of [1, 2, 3, 7]) {
            const { gradLogProbs } = token(ref - d, ref - d, ref, { ratio }, n);
            assert.deepEqual([...gradLogProbs], new Array(n).fill(-d), `d ${d}, ratio ${ratio}, ${n} tokens`);
          }
        }
      }
    });

    test('importance-weighted k3 keeps e^(ref − old) where ρ is tiny', () => {
      for (const [l, value] of [
        [-88, 1],
        [-90, 1],
        [-1000, 1],
      ]) {
        const { loss, gradLogProbs, metrics } = token(l, -1, -1);
        assertNumber(loss, value, 1e-6, `l ${l}: loss`);
        assertNumber(gradLogProbs[0], 0, 1e-34, `l ${l}: gradient`);
        assert.equal(metrics.nonFinite, 0);
      }
    });

    test('a ratio that overflows times a KL of 0 is 0', () => {
      for (const estimator of klEstimators) {
        for (const ratio of ratios) {
          const { loss, metrics } = token(-1, -1000, -1, {
            ratio,
            kl: { beta: 1, importanceWeighted: true, estimator },
          });
          assert.equal(Math.abs(loss), 0, `${estimator}, ${ratio}`);
          assert.equal(Math.abs(metrics.kl), 0, `${estimator}, ${ratio}`);
        }
      }
    });

    test('kl.logRatioClamp bounds k3, with slope 0 outside, and no gradient through d', () => {
      for (const ratio of ratios) {
        for (const [l, ref, c] of [
          [-101, -1, 20],
          [-1, -101, 5],
          [-1, -Infinity, 5],
        ]) {
          const clamped = Math.min(Math.max(ref - l, -c), c);
          const k = Math.exp(clamped) - clamped - 1;
          const label = `${ratio}, l ${l}, ref ${ref}`;
          const plain = token(l, l, ref, { ratio, kl: { beta: 1, importanceWeighted: false, logRatioClamp: c } });
          assertNumber(plain.loss, k, 4e-6 * k, `${label}: loss`);
          assert.equal(plain.gradLogProbs[0], 0, label);
          const weighted = token(l, l, ref, { ratio, kl: { beta: 1, importanceWeighted: true, logRatioClamp: c } });
          assertNumber(weighted.loss, k, 4e-6 * k, `${label}: weighted loss`);
          // Only through the ratio.
          assertNumber(weighted.gradLogProbs[0], k, 4e-6 * k, `${label}: weighted gradient`);
        }
      }
    });

    test('on the bound of kl.logRatioClamp the slope is that of the inside', () => {
      const { gradLogProbs } = token(-3, -3, -1, { kl: { beta: 1, importanceWeighted: false, logRatioClamp: 2 } });
      assertNumber(gradLogProbs[0], 1 - Math.exp(2), 1e-5, 'slope');
    });
  });
}
