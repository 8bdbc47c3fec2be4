// The analytic gradient compared with central finite differences, in float64 on the reference device.
//
// Step and bound: f is smooth with derivatives of order 1, so a central difference with h = 1e-5 has a truncation error of
// h² f'''/6 ~ 1e-11 and a rounding error of ~1e-16/h = 1e-11; sequence sums and steep terms (sapo, k3, entropy) raise both by
// up to two orders. The bound is 1e-8 of the largest component. Clipping has kinks: a drawn value is within h of one with a
// probability of about 1e-5, which would be a permanent failure of that seed. Seeds are fixed.
//
// Stop-gradients: where the surrogate contains sg(·), finite differences of the loss would differentiate what sg protects.
// `objectives` therefore gives the loss as a sum of losses in which every sg(·) is frozen at the base point by other means:
//   - without ℓ°: the base point's log-probs as oldLogProbs;
//   - cispo and vespo, which contain sg(·): reinforce with the coefficient as token weight, computed here from losses.md, not by the device;
//   - ratio sequence-token, sg(s_b) ℓ/sg(ℓ): a token ratio with ℓ° shifted so that it has the sequence's value at the base.

import assert from 'node:assert/strict';
import test from 'node:test';
import type { TokenPlan } from '../../src/devices/plan.js';
import { referenceDevice } from '../../src/devices/reference/index.js';
import { aggregations, klEstimators, ratios } from '../../src/devices/settings.js';
import type { AdvantageConfig, LogitsInput, LossConfig, PolicyInput } from '../../src/index.js';
import { planLogits, planPolicy } from '../../src/loss/request.js';
import { assertArray, assertNumber, largest, sumOfAbsolutes } from '../support/compare.js';
import { asInput, float64Logits, float64Policy } from '../support/float64.js';
import { fill, type Random, seeded } from '../support/random.js';
import { repeats } from '../support/sets.js';
import { surrogateExamples } from '../support/surrogates.js';

const step = 1e-5;
const bound = 1e-8;

const surrogates = surrogateExamples();

const klTerms: LossConfig['kl'][] = [
  undefined,
  ...klEstimators.flatMap((estimator) =>
    [false, true].map((importanceWeighted) => ({ beta: 0.3, estimator, importanceWeighted })),
  ),
];

const sequences = 4;
const length = 5;
const vocab = 6;
const size = sequences * length;

// Ragged, with a gap, and the third sequence empty.
const mask = Uint8Array.of(1, 1, 1, 1, 1, /**/ 1, 0, 1, 1, 0, /**/ 0, 0, 0, 0, 0, /**/ 1, 1, 0, 0, 0);

/** Masked tokens are NaN: none of them may be read. */
function hidden(values: Float32Array, valuesPerToken = 1): Float32Array {
  return values.map((value, i) => (mask[Math.floor(i / valuesPerToken)] ? value : NaN));
}

/** A change to the inputs that is combined with every configuration below. */
interface Variation {
  config?: Partial<LossConfig>;
  /** Of the KL term, if there is one. */
  kl?: Partial<LossConfig['kl']>;
  change?: (input: PolicyInput | LogitsInput, random: Random) => void;
}

const variations: Record<string, Variation> = {
  plain: {},
  'log-ratio clamp': { config: { logRatioClamp: 0.25 } },
  'KL log-ratio clamp': { kl: { logRatioClamp: 0.4 } },
  'both log-ratio clamps': { config: { logRatioClamp: 0.25 }, kl: { logRatioClamp: 0.4 } },
  'off-policy mask': { config: { offPolicyThreshold: -0.02 } },
  'empty sequences dropped': { config: { emptySequences: 'drop' } },
  'maxLength 3': { config: { maxLength: 3 } },
  'global denominators': {
    change: (input) => {
      input.normalizer = 37;
      input.sequences = 11;
    },
  },
  'token weights': {
    change: (input, random) => {
      input.tokenWeights = hidden(fill(size, () => random.pick([0, random.uniform(0.5, 1.8)])));
    },
  },
  'advantages per token': {
    change: (input, random) => {
      input.advantages = hidden(fill(size, () => random.pick([0, random.normal(), random.normal()])));
    },
  },
  'without old log-probs': {
    change: (input) => {
      delete input.oldLogProbs;
    },
  },
  'fused rewards, ragged groups, DGPO': {
    change: (input) => {
      delete input.advantages;
      input.rewards = [0.2, -0.7, 0.4, 1];
      input.advantage = { groupSizes: Int32Array.of(2, 2), scale: 'group-mad', dqw: { temperature: 0.7 } };
    },
  },
  'fused rewards, ragged groups, HA-DW': {
    change: (input) => {
      const groupSizes = Int32Array.of(3, 1);
      const advantage: AdvantageConfig = { groupSizes, center: 'none', scale: 'batch-std', hadw: { anchor: 0.4 } };
      delete input.advantages;
      input.rewards = [0.2, -0.7, NaN, 1];
      input.advantage = advantage;
    },
  },
};

function tokenInputs(random: Random, logProbs: Float32Array) {
  return {
    shape: { sequences, length },
    oldLogProbs: hidden(logProbs.map((logProb) => logProb - 0.3 * random.normal())),
    refLogProbs: hidden(logProbs.map((logProb) => logProb - 0.5 * random.normal())),
    mask,
    // Both signs occur in the sequences that have tokens.
    advantages: Float32Array.of(random.uniform(0.5, 1.5), random.uniform(-1.5, -0.5), 1, random.normal()),
  };
}

function policyInput(random: Random): PolicyInput {
  const logProbs = hidden(fill(size, () => -random.uniform(0.1, 3)));
  return { ...tokenInputs(random, logProbs), logProbs };
}

function logitsInput(random: Random): LogitsInput {
  const logits = hidden(
    fill(size * vocab, () => 1.5 * random.normal()),
    vocab,
  );
  const logProbs = fill(size, () => -random.uniform(1, 2.5));
  return {
    ...tokenInputs(random, logProbs),
    shape: { sequences, length, vocab },
    logits,
    // An id outside the vocabulary is allowed at a masked token.
    tokens: Int32Array.from(mask, (m) => (m ? random.integer(0, vocab - 1) : -1)),
  };
}

/** ℓ − ℓ° of a sequence's unmasked tokens at the base point, and their mean. */
function baseDeltas(plan: TokenPlan, logProbs: Float64Array, b: number): { index: number[]; delta: number[] } {
  const index = [...mask.keys()].filter((i) => mask[i] && Math.floor(i / length) === b);
  return { index, delta: index.map((i) => (plan.oldLogProbs ? logProbs[i] - plan.oldLogProbs[i] : 0)) };
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(Math.max(value, low), high);
}

/** sg(clip(ρ)) of cispo and sg(φ) of vespo at the base point, including the token weight (losses.md, "Surrogate"). */
function frozenCoefficients(plan: TokenPlan, logProbs: Float64Array, advantages: ArrayLike<number>): Float64Array {
  const { surrogate, ratio, logRatioClamp: c } = plan.loss;
  const coefficients = new Float64Array(size);
  for (let b = 0; b < sequences; b++) {
    const { index, delta } = baseDeltas(plan, logProbs, b);
    const mean = delta.reduce((sum, d) => sum + d, 0) / index.length;
    const weight = index.map((i) => plan.tokenWeights?.[i] ?? 1);
    if (surrogate.kind === 'cispo') {
      const [high, low] = surrogate.parameters;
      index.forEach((i, t) => {
        const rho = Math.exp(clamp(ratio === 'token' ? delta[t] : mean, -c, c));
        coefficients[i] = weight[t] * clamp(rho, 1 - low, high);
      });
    } else {
      const [kPositive, lambdaPositive, kNegative, lambdaNegative] = surrogate.parameters;
      const terms = delta.map((d, t) => clamp(d, -c, c) + clamp(Math.log(weight[t]), Math.log(1e-8), 20));
      const logV = clamp(
        terms.reduce((sum, term) => sum + term, 0),
        Math.log(1e-8),
        20,
      );
      for (const i of index) {
        const positive = advantages[plan.advantagesPerToken ? i : b] >= 0;
        const [k, lambda] = positive ? [kPositive, lambdaPositive] : [kNegative, lambdaNegative];
        coefficients[i] = Math.exp(lambda + k * logV - lambda * Math.exp(logV));
      }
    }
  }
  return coefficients;
}

/**
 * The loss of `plan` as a sum of losses without stop-gradients: their values at the base point are built in. Each is a
 * change to the plan. `logProbs` are those of the base point.
 */
function objectives<P extends TokenPlan>(plan: P, logProbs: Float64Array): P[] {
  const { loss } = plan;
  const old = asInput(plan.oldLogProbs ?? logProbs);
  const noEntropy = { ...loss.entropy, coefficient: 0 };
  const noKl = { ...loss.kl, beta: 0 };
  const noAdvantages = { advantage: null, advantages: asInput(new Float64Array(sequences)), advantagesPerToken: false };

  let ratio = loss.ratio;
  let shiftedOld = old;
  if (ratio === 'sequence-token') {
    ratio = 'token';
    shiftedOld = asInput(old);
    for (let b = 0; b < sequences; b++) {
      const { index, delta } = baseDeltas(plan, logProbs, b);
      const mean = delta.reduce((sum, d) => sum + d, 0) / index.length;
      for (const i of index) shiftedOld[i] = logProbs[i] - mean;
    }
  }

  const withKl = { ...plan, ...noAdvantages, oldLogProbs: shiftedOld, loss: { ...loss, ratio, entropy: noEntropy } };
  const withEntropy = { ...plan, ...noAdvantages, oldLogProbs: old, loss: { ...loss, kl: noKl } };
  let withSurrogate: P;
  switch (loss.surrogate.kind) {
    case 'gmpo':
    case 'reinforce':
      withSurrogate = { ...plan, oldLogProbs: old, loss: { ...loss, kl: noKl, entropy: noEntropy } };
      break;
    case 'cispo':
    case 'vespo': {
      const advantages = plan.advantage?.output.advantages ?? (plan.advantages as Float32Array);
      withSurrogate = {
        ...plan,
        oldLogProbs: old,
        tokenWeights: asInput(frozenCoefficients(plan, logProbs, advantages)),
        loss: {
          ...loss,
          surrogate: { kind: 'reinforce', parameters: new Float64Array(0) },
          kl: noKl,
          entropy: noEntropy,
        },
      };
      break;
    }
    default:
      withSurrogate = { ...plan, oldLogProbs: shiftedOld, loss: { ...loss, ratio, kl: noKl, entropy: noEntropy } };
  }
  return [withSurrogate, withKl, withEntropy];
}

/** ∂f/∂x_i by central differences at the positions where `wanted`; 0 elsewhere. */
function differences(x: Float64Array, wanted: (i: number) => boolean, f: (x: Float64Array) => number): Float64Array {
  const result = new Float64Array(x.length);
  const moved = Float64Array.from(x);
  for (let i = 0; i < x.length; i++) {
    if (!wanted(i)) continue;
    moved[i] = x[i] + step;
    const above = f(moved);
    moved[i] = x[i] - step;
    const below = f(moved);
    moved[i] = x[i];
    result[i] = (above - below) / (2 * step);
  }
  return result;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

/** Checks one configuration of policyLoss; returns the analytic gradient. */
function checkPolicy(input: PolicyInput, config: LossConfig, label: string): Float64Array {
  const plan = float64Policy(planPolicy(input, config));
  const { loss } = referenceDevice.policyLoss(plan);
  const base = Float64Array.from(plan.logProbs);
  const parts = objectives(plan, base);
  const evaluate = (logProbs: Float64Array) =>
    sum(
      parts.map(
        (part) => referenceDevice.policyLoss({ ...part, logProbs: asInput(logProbs), gradLogProbs: null }).loss,
      ),
    );
  assertNumber(evaluate(base), loss, 1e-12 * (1 + sumOfAbsolutes(plan.gradLogProbs)), `${label}: value`);
  const numeric = differences(base, (i) => mask[i] !== 0, evaluate);
  assertArray(plan.gradLogProbs, numeric, bound, `${label}: gradient`);
  return plan.gradLogProbs;
}

function checkLogits(input: LogitsInput, config: LossConfig, label: string): Float64Array {
  const plan = float64Logits(planLogits(input, config));
  const { loss } = referenceDevice.logitsLoss(plan);
  const base = Float64Array.from(plan.logits);
  const { rowStride } = plan;
  const parts = objectives(plan, Float64Array.from(plan.logProbs));
  const evaluate = (logits: Float64Array) =>
    sum(parts.map((part) => referenceDevice.logitsLoss({ ...part, logits: asInput(logits), gradLogits: null }).loss));
  assertNumber(evaluate(base), loss, 1e-12 * (1 + sumOfAbsolutes(plan.gradLogits)), `${label}: value`);
  const isLogit = (i: number) => mask[Math.floor(i / rowStride)] !== 0 && i % rowStride < vocab;
  const numeric = differences(base, isLogit, evaluate);
  assertArray(plan.gradLogits, numeric, bound, `${label}: gradient`);
  return plan.gradLogits;
}

/**
 * One in this many combinations is checked; in the slow set, all. Each surrogate and ratio begins with a different one, and 11
 * divides no number of options, so that few combinations are never checked.
 */
const oneIn = repeats(11, 1);
let first = 0;

for (const [name, surrogate] of Object.entries(surrogates)) {
  for (const ratio of ratios) {
    test(`policyLoss, ${name}, ratio ${ratio}: every aggregation, KL term and variation`, () => {
      let seed = 1;
      let combination = first++;
      for (const [variation, { config: extra, kl: klExtra, change }] of Object.entries(variations)) {
        for (const aggregation of aggregations) {
          for (const kl of klTerms) {
            const random = seeded(seed++);
            if (combination++ % oneIn > 0) continue;
            const input = policyInput(random);
            change?.(input, random);
            const config: LossConfig = { ratio, surrogate, aggregation, kl: kl && { ...kl, ...klExtra }, ...extra };
            checkPolicy(input, config, `${variation}, ${JSON.stringify(config)}, seed ${seed - 1}`);
          }
        }
      }
    });
  }
}

const entropyTerms: Record<string, LossConfig['entropy']> = {
  none: undefined,
  coefficient: { coefficient: 0.2 },
  'negative coefficient': { coefficient: -0.2 },
  'top quantile without coefficient': { coefficient: 0, topQuantile: 0.5 },
  'top quantile': { coefficient: 0.2, topQuantile: 0.4 },
  'global threshold and count': { coefficient: 0.2, topQuantile: 0.4, threshold: 1.2, tokens: 13 },
};

for (const [name, surrogate] of Object.entries(surrogates)) {
  test(`logitsLoss, ${name}: every ratio, entropy term and temperature`, () => {
    let seed = 1000;
    let combination = first++;
    for (const ratio of ratios) {
      for (const [entropyName, entropy] of Object.entries(entropyTerms)) {
        for (const temperature of [1, 0.7]) {
          const random = seeded(seed++);
          if (combination++ % oneIn > 0) continue;
          const input: LogitsInput = { ...logitsInput(random), temperature };
          const kl = random.pick(klTerms);
          const config: LossConfig = { ratio, surrogate, aggregation: random.pick(aggregations), kl, entropy };
          checkLogits(input, config, `entropy ${entropyName}, T ${temperature}, ${JSON.stringify(config)}`);
        }
      }
    }
  });
}

test('logitsLoss: every variation', () => {
  let seed = 2000;
  let combination = first++;
  for (const [variation, { config: extra, kl: klExtra, change }] of Object.entries(variations)) {
    for (const [name, surrogate] of Object.entries(surrogates)) {
      const random = seeded(seed++);
      if (combination++ % oneIn > 0) continue;
      const input: LogitsInput = { ...logitsInput(random), temperature: 1.3 };
      change?.(input, random);
      const kl = random.pick(klTerms);
      const config: LossConfig = {
        ratio: random.pick(ratios),
        surrogate,
        aggregation: random.pick(aggregations),
        kl: kl && { ...kl, ...klExtra },
        entropy: { coefficient: 0.1, topQuantile: 0.7 },
        ...extra,
      };
      checkLogits(input, config, `${variation}, ${name}, ${JSON.stringify(config)}`);
    }
  }
});

test('logitsLoss: a padded vocabulary has gradient 0 in the padding', () => {
  const rowStride = vocab + 3;
  const input = logitsInput(seeded(3000));
  const padded = new Float32Array(size * rowStride).fill(NaN);
  for (let row = 0; row < size; row++)
    padded.set(input.logits.subarray(row * vocab, (row + 1) * vocab), row * rowStride);
  const gradient = checkLogits(
    { ...input, shape: { sequences, length, vocab, rowStride }, logits: padded },
    { surrogate: surrogates.clip, entropy: { coefficient: 0.1 } },
    'padded',
  );
  const padding = gradient.filter((_, i) => i % rowStride >= vocab);
  assert.equal(largest(padding), 0);
});

test('the drawn inputs reach the flat and the steep branches of every surrogate', () => {
  for (const [name, surrogate] of Object.entries(surrogates)) {
    let zero = 0;
    let steep = 0;
    for (let seed = 1; seed <= 40; seed++) {
      const gradient = checkPolicy(policyInput(seeded(seed)), { surrogate, aggregation: 'token-mean' }, name);
      zero += gradient.filter((value, i) => mask[i] && value === 0).length;
      steep += gradient.filter((value) => value !== 0).length;
    }
    assert.ok(steep > 100, `${name}: ${steep} tokens with a gradient`);
    if (['clip', 'clip with all parameters', 'gmpo'].includes(name))
      assert.ok(zero > 20, `${name}: ${zero} clipped tokens`);
  }
});
