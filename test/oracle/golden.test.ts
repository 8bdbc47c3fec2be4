// All golden vectors of TRL and verl: once on the reference device in float64 throughout, and once on every device
// through the public API. Bounds: those of the golden vectors' description (float64 1e-12, float32 2e-6, vespo 5e-6 of the
// largest value in an array; a loss relative to the larger of |loss| and Σ |gradient|).

import assert from 'node:assert/strict';
import test, { describe } from 'node:test';
import { referenceDevice } from '../../src/devices/reference/index.js';
import { computeAdvantages, logitsLoss, policyLoss } from '../../src/index.js';
import { planAdvantages, planLogits, planPolicy } from '../../src/loss/request.js';
import { assertArray, assertLoss, assertNumber } from '../support/compare.js';
import { testedDevices } from '../support/devices.js';
import { asInput, float64Advantages, float64Logits, float64Policy } from '../support/float64.js';
import {
  type GoldenAdvantages,
  type GoldenLogits,
  type GoldenPolicy,
  trlCases,
  verlAdvantageCases,
  verlLossCases,
} from '../support/golden.js';

const trl = trlCases();
const verlLosses = verlLossCases();
const verlAdvantages = verlAdvantageCases();

function bySuite<T extends { suite: string }>(cases: readonly T[]): [string, T[]][] {
  const suites = new Map<string, T[]>();
  for (const golden of cases) suites.set(golden.suite, [...(suites.get(golden.suite) ?? []), golden]);
  return [...suites];
}

/** Shares of clipped ratios are counts and must agree except for the division; kl, entropy and φ are of order 1. */
function assertMetrics(
  actual: Record<string, number>,
  golden: GoldenLogits | GoldenPolicy,
  bound: number,
  label: string,
): void {
  for (const [name, expected] of Object.entries(golden.metrics)) {
    const allowed = name.includes('clip_ratio') ? 1e-12 : bound * Math.max(1, Math.abs(expected));
    assertNumber(actual[name], expected, allowed, `${label}: metric ${name}`);
  }
}

test('there are 612 golden cases', () => {
  assert.equal(trl.length + verlLosses.length + verlAdvantages.length, 612);
});

for (const [suite, cases] of bySuite(trl)) {
  test(`${suite}: ${cases.length} cases, reference in float64`, () => {
    for (const golden of cases) {
      const plan = float64Logits(planLogits(golden.input, golden.config));
      const { loss, metrics } = referenceDevice.logitsLoss(plan);
      assertArray(plan.gradLogits, golden.gradient, golden.float64Bound, `${golden.name}: gradLogits`);
      assertLoss(loss, golden.loss, golden.gradient, golden.float64Bound, `${golden.name}: loss`);
      assertMetrics(metrics, golden, golden.float64Bound, golden.name);
    }
  });
}

for (const [suite, cases] of bySuite(verlLosses)) {
  test(`${suite}: ${cases.length} cases, reference in float64`, () => {
    for (const golden of cases) {
      const plan = float64Policy(planPolicy(golden.input, golden.config));
      if (golden.verlWeights !== undefined) plan.tokenWeights = asInput(golden.verlWeights);
      const { loss, metrics } = referenceDevice.policyLoss(plan);
      assertArray(plan.gradLogProbs, golden.gradient, golden.float64Bound, `${golden.name}: gradLogProbs`);
      assertLoss(loss, golden.loss, golden.gradient, golden.float64Bound, `${golden.name}: loss`);
      assertMetrics(metrics, golden, golden.float64Bound, golden.name);
    }
  });
}

for (const [suite, cases] of bySuite(verlAdvantages)) {
  test(`${suite}: ${cases.length} cases, reference in float64`, () => {
    for (const golden of cases) {
      const { plan, output } = planAdvantages(golden.rewards, golden.config);
      const exact = float64Advantages(output);
      referenceDevice.computeAdvantages(plan, exact);
      assertAdvantages(exact.advantages, golden, 1e-12);
    }
  });
}

/** Advantages are of order 1: the bound is absolute. */
function assertAdvantages(actual: ArrayLike<number>, golden: GoldenAdvantages, bound: number): void {
  golden.advantages.forEach((expected, i) => {
    assertNumber(actual[i], expected, bound, `${golden.name}: advantages[${i}]`);
  });
}

for (const { name: device, skip } of testedDevices('reference', 'cpu', 'cuda')) {
  describe(`public API on ${device}`, { skip }, () => {
    for (const [suite, cases] of bySuite(trl)) {
      test(`${suite}: ${cases.length} cases, logitsLoss on ${device}`, () => {
        for (const golden of cases) {
          const result = logitsLoss(golden.input, golden.config, { device });
          assertArray(result.gradLogits, golden.gradient, golden.float32Bound, `${golden.name}: gradLogits`);
          assertLoss(result.loss, golden.loss, golden.gradient, golden.float32Bound, `${golden.name}: loss`);
          assertMetrics(result.metrics, golden, golden.float32Bound, golden.name);
        }
      });
    }

    for (const [suite, cases] of bySuite(verlLosses)) {
      test(`${suite}: ${cases.length} cases, policyLoss on ${device}`, () => {
        for (const golden of cases) {
          const result = policyLoss(golden.input, golden.config, { device });
          assertArray(result.gradLogProbs, golden.gradient, golden.float32Bound, `${golden.name}: gradLogProbs`);
          assertLoss(result.loss, golden.loss, golden.gradient, golden.float32Bound, `${golden.name}: loss`);
          assertMetrics(result.metrics, golden, golden.float32Bound, golden.name);
        }
      });
    }

    for (const [suite, cases] of bySuite(verlAdvantages)) {
      test(`${suite}: ${cases.length} cases, computeAdvantages on ${device}`, () => {
        for (const golden of cases) {
          assertAdvantages(computeAdvantages(golden.rewards, golden.config, { device }).advantages, golden, 1e-6);
        }
      });
    }
  });
}
