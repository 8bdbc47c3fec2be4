// Random requests over all options: every device through the public API against the reference device in float64.
//
// Bounds. u = 2^-24 is half a unit in the last place of float32 around 1.
//  - A log-prob is z − log Σ exp(z): z carries 2u|z| from the float32 temperature, the sum 4u from exp and 4u from
//    accumulation, the result u|ℓ| from storing it. With |z − max| ≤ |ℓ| + ln V that is at most
//     logProbError = u (4|ℓ| + 2 ln V + 8). Given log-probs have no error.
//  - A log-ratio has that error plus u|δ| from its subtraction; a ratio has it relatively. A mean over a sequence does not
//    increase it, VESPO's sum over n tokens does n-fold.
//  - A gradient is a product of a few such factors (ratio, advantage, weight, aggregation factor, p, 1/T), each
//    rounded once: 8 u. The effect of a relative error of the ratio depends on the surrogate: `amplification`.
//  - Terms of opposite sign may cancel, so the error is relative to the largest gradient of each separate term of the loss
//    (surrogate, KL), which the reference device computes as well.
// Comparisons (clipping, thresholds) may be decided differently within these errors of their bound. Draws are of order
// 1 and seeds fixed, so a draw this close to a bound (probability ~1e-6 each) would be a permanent failure.

import assert from 'node:assert/strict';
import test, { describe } from 'node:test';
import type { LogitsPlan, LossScalars, PolicyPlan } from '../../src/devices/plan.js';
import { fromBfloat16 } from '../../src/devices/reference/bfloat16.js';
import { fromFloat16 } from '../../src/devices/reference/float16.js';
import { referenceDevice } from '../../src/devices/reference/index.js';
import {
  type AdvantageResult,
  type DeviceChoice,
  type LogitsInput,
  type LogitsOptions,
  type LossConfig,
  logitsLoss,
  type PolicyInput,
  policyLoss,
} from '../../src/index.js';
import { planLogits, planPolicy } from '../../src/loss/request.js';
import { assertNumber, largest, sumOfAbsolutes } from '../support/compare.js';
import { testedDevices } from '../support/devices.js';
import { drawLogits, drawPolicy } from '../support/draw.js';
import { float64Logits, float64Policy } from '../support/float64.js';
import { seeded } from '../support/random.js';
import { repeats } from '../support/sets.js';

const u = 2 ** -24;
const draws = repeats(200, 400);

/** The separate terms of a loss, as changes to its plan. `unit`: the KL term with k' = 1, for β times the aggregation. */
function terms<P extends PolicyPlan | LogitsPlan>(plan: P): Record<'surrogate' | 'kl' | 'unit', P> {
  const { loss } = plan;
  const noKl = { ...loss.kl, beta: 0 };
  const noEntropy = { ...loss.entropy, coefficient: 0 };
  const advantages = new Float32Array(plan.sequences);
  const unscaled = { ...plan, lossScale: 1 };
  const inert = { ...unscaled, advantage: null, advantages, advantagesPerToken: false };
  return {
    surrogate: { ...unscaled, loss: { ...loss, kl: noKl, entropy: noEntropy } },
    kl: { ...inert, loss: { ...loss, entropy: noEntropy } },
    unit: {
      ...inert,
      loss: { ...loss, kl: { ...loss.kl, estimator: 'k1', importanceWeighted: false }, entropy: noEntropy },
    },
  };
}

/** Sizes of the inputs that errors depend on, over unmasked tokens. */
interface Sizes {
  /** Largest |ℓ|, |ℓ − ℓ°| and |ℓʳ − ℓ|. */
  logProb: number;
  delta: number;
  reference: number;
  /** Largest number of tokens in a sequence. */
  tokens: number;
}

function sizesOf(plan: PolicyPlan | LogitsPlan): Sizes {
  const { logProbs, oldLogProbs, refLogProbs, mask, sequences, length } = plan;
  const sizes: Sizes = { logProb: 0, delta: 0, reference: 0, tokens: 0 };
  for (let b = 0; b < sequences; b++) {
    let tokens = 0;
    for (let i = b * length; i < (b + 1) * length; i++) {
      if (mask && !mask[i]) continue;
      tokens += 1;
      sizes.logProb = Math.max(sizes.logProb, Math.abs(logProbs[i]));
      if (oldLogProbs) sizes.delta = Math.max(sizes.delta, Math.abs(logProbs[i] - oldLogProbs[i]));
      if (refLogProbs) sizes.reference = Math.max(sizes.reference, Math.abs(logProbs[i] - refLogProbs[i]));
    }
    sizes.tokens = Math.max(sizes.tokens, tokens);
  }
  return sizes;
}

/** The factor by which a relative error of the ratio grows in the surrogate and its gradient. */
function amplification(plan: PolicyPlan | LogitsPlan, sizes: Sizes): number {
  const { kind, parameters } = plan.loss.surrogate;
  switch (kind) {
    case 'sapo': // d log(σ σ' ρ) / d log ρ
      return 1 + Math.max(...parameters) * Math.exp(sizes.delta);
    case 'vespo': // d log φ / d log v = k − λ v; for large v φ vanishes, and so does φ λ v: λ v counts up to 3
      return sizes.tokens * (3 + 3 * Math.exp(1));
    default:
      return 1;
  }
}

/** Absolute bound of a log-prob, relative ones of a ratio and of each term's gradient. */
interface Bounds {
  logProb: number;
  ratio: number;
  surrogate: number;
  kl: number;
}

function boundsOf(plan: PolicyPlan | LogitsPlan, sizes: Sizes, vocab: number): Bounds {
  const logProb = vocab > 0 ? u * (4 * sizes.logProb + 2 * Math.log(vocab) + 8) : 0;
  const ratio = logProb + u * (8 + sizes.delta);
  return {
    logProb,
    ratio,
    surrogate: amplification(plan, sizes) * ratio + 8 * u,
    kl: ratio + logProb + u * (8 + sizes.reference),
  };
}

/** Absolute bounds of a gradient's values and of the loss: the size of each separate term times the term's relative bound. */
function tolerance(plan: PolicyPlan | LogitsPlan, sizes: Sizes, bounds: Bounds): { gradient: number; loss: number } {
  const alone = terms(plan);
  const gradientOf = (part: PolicyPlan | LogitsPlan): Float64Array => {
    const logProbs = plan.logProbs as Float32Array;
    const gradLogProbs = new Float64Array(logProbs.length);
    referenceDevice.policyLoss({ ...part, logProbs, gradLogProbs, entropies: null, gradEntropies: null });
    return gradLogProbs;
  };
  const surrogate = gradientOf(alone.surrogate);
  const kl = gradientOf(alone.kl);
  const unit = gradientOf(alone.unit);
  // Σ |w A| times the aggregation: if every ratio is clipped, the gradient is 0 and the loss is not.
  const reinforce = { kind: 'reinforce' as const, parameters: new Float64Array(0) };
  const flat = gradientOf({ ...alone.surrogate, loss: { ...alone.surrogate.loss, surrogate: reinforce } });

  const largestRatio = Math.exp(sizes.delta);
  // k' and k'' are at most e^d, k at most e^d + |d|; ρ multiplies them if they are importance-weighted.
  const klFactor =
    Math.exp(sizes.reference) * (plan.loss.kl.importanceWeighted ? (1 + sizes.reference) * largestRatio : 1);
  const forLoss =
    bounds.surrogate * ((1 + sizes.logProb) * sumOfAbsolutes(surrogate) + 4 * sumOfAbsolutes(flat)) +
    bounds.kl * ((1 + sizes.reference) * sumOfAbsolutes(kl) + klFactor * sumOfAbsolutes(unit));
  // A token's gradient from its whole sequence is a sum over tokens whose advantages may differ in sign.
  const shared = plan.loss.ratio === 'sequence' || plan.loss.surrogate.kind === 'gmpo';
  const surrogateScale = largest(surrogate) + (shared ? largestRatio * largest(flat) : 0);
  const forGradient = bounds.surrogate * surrogateScale + bounds.kl * (largest(kl) + klFactor * largest(unit));
  if (!('vocab' in plan)) return { gradient: plan.lossScale * forGradient, loss: forLoss };

  // Then the logits: ∂ℓ/∂x = ([j = token] − p) / T and ∂H/∂x = −p (log p + H) / T. With p near 1 or the row near
  // uniform they are small differences of numbers of order 1, so those numbers are the scale.
  const { coefficient, tokens, topQuantile } = plan.loss.entropy;
  const masked = plan.mask === null ? plan.tokens.length : plan.mask.filter((m) => m !== 0).length;
  const kept = Math.max(1, Number.isNaN(tokens) ? Math.floor(topQuantile * masked) : tokens);
  const entropy = (entropyBound(plan.vocab) * Math.abs(coefficient)) / kept;
  return {
    // Twice: bounds.surrogate and bounds.kl also cover p, which has the error of a log-prob.
    gradient: (plan.lossScale * (2 * forGradient + entropy)) / plan.temperature,
    loss: forLoss + entropy * masked,
  };
}

/** H = log Σ − Σ p z: the errors of a log-prob, weighted with p |z|, whose sum is of the order of ln V. */
function entropyBound(vocab: number): number {
  return 16 * u * (1 + Math.log(vocab));
}

/** Metrics by the error of the averaged values. Counts and values from rewards are float64 everywhere. */
function assertMetrics(
  actual: Record<string, number>,
  expected: Record<string, number>,
  { sizes, bounds, loss, vocab }: { sizes: Sizes; bounds: Bounds; loss: number; vocab: number },
  label: string,
): void {
  assert.deepEqual(Object.keys(actual).sort(), Object.keys(expected).sort(), `${label}: names of metrics`);
  const largestRatio = Math.exp(sizes.delta);
  const allowed: Record<string, number> = {
    loss,
    kl: bounds.kl * (1 + sizes.reference) * Math.exp(sizes.reference) * largestRatio,
    entropy: vocab > 0 ? entropyBound(vocab) : 0,
    approx_kl: bounds.logProb + u * sizes.delta,
    'ratio/mean': bounds.ratio * largestRatio,
    'ratio/min': bounds.ratio * largestRatio,
    'ratio/max': bounds.ratio * largestRatio,
    'vespo/phi_seq_mean': bounds.surrogate * Math.max(1, expected['vespo/phi_seq_mean'] ?? 0),
  };
  for (const [name, value] of Object.entries(expected)) {
    assertNumber(actual[name], value, allowed[name] ?? 1e-12 * Math.max(1, Math.abs(value)), `${label}: ${name}`);
  }
}

function assertWithin(actual: ArrayLike<number>, expected: ArrayLike<number>, allowed: number, label: string): void {
  assert.equal(actual.length, expected.length, `${label}: length`);
  for (let i = 0; i < expected.length; i++) assertNumber(actual[i], expected[i], allowed, `${label}[${i}]`);
}

/** The advantages of a fused call: float64 inside every device, rounded once to float32. */
function assertFused(
  actual: AdvantageResult | undefined,
  plan: PolicyPlan | LogitsPlan,
  expected: LossScalars & { accuracy?: number },
  label: string,
): void {
  if (plan.advantage === null) {
    assert.equal(actual, undefined, `${label}: advantage`);
    return;
  }
  assert.ok(actual, `${label}: advantage`);
  const { output } = plan.advantage;
  for (const name of ['advantages', 'weights', 'groupMean', 'groupStd'] as const) {
    assertWithin(actual[name], output[name], u * largest(output[name]), `${label}: advantage.${name}`);
  }
  assert.deepEqual(actual.active, output.active, `${label}: advantage.active`);
  assertNumber(actual.accuracy, expected.accuracy as number, 1e-12, `${label}: accuracy`);
}

/** A request for an assertion message, without its arrays. */
function describeDraw(seed: number, request: object): string {
  const text = JSON.stringify(request, (_, value) => (ArrayBuffer.isView(value) ? value.constructor.name : value));
  return `seed ${seed} ${text}`;
}

/**
 * The error of rounding to nearest: bfloat16 has 8 significant bits, float16 has 11 down to its spacing of 2^-24.
 */
function roundingOf(dtype: LogitsInput['dtype'], value: number): number {
  if (dtype === 'bfloat16') return value * 2 ** -8;
  return dtype === 'float16' ? Math.max(value * 2 ** -11, 2 ** -25) : 0;
}

/** With a loss scale in two of three requests with a gradient. */
function scaled<O extends { gradient?: boolean }>(seed: number, options: O): O & { lossScale?: number } {
  const lossScale = [undefined, 256, 0.37][seed % 3];
  return lossScale === undefined || options.gradient === false ? options : { ...options, lossScale };
}

/** One request on a device compared with the reference. */
function checkLogits(
  device: DeviceChoice,
  input: LogitsInput,
  config: LossConfig,
  options: LogitsOptions,
  label: string,
): void {
  const { vocab } = input.shape;
  const widen = { float32: (x: number) => x, bfloat16: fromBfloat16, float16: fromFloat16 }[input.dtype ?? 'float32'];
  const exactLogits = Float32Array.from(input.logits, widen);
  const { gradLogits: _, ...rest } = options;
  const plan = float64Logits(
    planLogits({ ...input, dtype: 'float32', logits: exactLogits }, config, { ...rest, inPlace: false }),
  );
  const expected = referenceDevice.logitsLoss(plan);
  // The arrays of the draw are not changed, so that the request can be repeated.
  const logits = input.logits.slice();
  const given = options.gradLogits?.slice();
  const actual = logitsLoss({ ...input, logits }, config, { ...options, gradLogits: given, device });

  const sizes = sizesOf(plan);
  const bounds = boundsOf(plan, sizes, vocab);
  const allowed = tolerance(plan, sizes, bounds);
  assertNumber(actual.loss, expected.loss, allowed.loss, `${label}: loss`);
  assertFused(actual.advantage, plan, expected, label);

  if (options.gradient === false) assert.equal(actual.gradLogits, undefined, `${label}: gradLogits`);
  else {
    if (options.inPlace) assert.equal(actual.gradLogits, logits, `${label}: in place`);
    if (given) assert.equal(actual.gradLogits, given, `${label}: the array given`);
    for (let i = 0; i < logits.length; i++) {
      const rounding = roundingOf(input.dtype, Math.abs(plan.gradLogits[i]));
      const value = widen(actual.gradLogits![i]);
      assertNumber(value, plan.gradLogits[i], allowed.gradient + rounding, `${label}: gradLogits[${i}]`);
    }
  }
  if (options.metrics === false) {
    assert.equal('kl' in actual.metrics || 'entropy' in actual.metrics, false, `${label}: kl and entropy`);
    return; // the device chooses which rows it reads
  }
  assertWithin(actual.logProbs, plan.logProbs, bounds.logProb, `${label}: logProbs`);
  assertWithin(actual.entropies, plan.entropies, entropyBound(vocab), `${label}: entropies`);
  assertMetrics(actual.metrics, expected.metrics, { sizes, bounds, loss: allowed.loss, vocab }, label);
}

/** A random request with one NaN: the same count and the same kind of loss; other sequences stay finite. */
function checkNaN(device: DeviceChoice, seed: number): void {
  const random = seeded(seed);
  const draw = random.chance(0.5) ? drawPolicy(random) : drawLogits(random);
  const input: PolicyInput | LogitsInput = draw.input;
  const { sequences, length } = input.shape;
  const { oldLogProbs, refLogProbs, tokenWeights, mask } = input;
  const rows = Array.from({ length: sequences * length }, (_, i) => i).filter((i) => mask?.[i] !== 0);
  if (rows.length === 0) return;
  const row = random.pick(rows);

  if ('logits' in input) {
    if ((input.dtype ?? 'float32') !== 'float32' || draw.options.metrics === false) return;
    const { vocab, rowStride = vocab } = input.shape;
    input.logits[row * rowStride + random.integer(0, vocab - 1)] = NaN;
  } else {
    const candidates = [input.logProbs, oldLogProbs, refLogProbs, tokenWeights].filter((array) => array !== undefined);
    random.pick(candidates)[row] = NaN;
  }
  const run = (on: DeviceChoice) => {
    if ('logits' in input) {
      const { loss, metrics, gradLogits } = logitsLoss(input, draw.config, { device: on });
      return { loss, metrics, gradient: gradLogits };
    }
    const { loss, metrics, gradLogProbs } = policyLoss(input, draw.config, { device: on });
    return { loss, metrics, gradient: gradLogProbs };
  };
  const expected = run('reference');
  const actual = run(device);
  const label = describeDraw(seed, { input, config: draw.config, row });
  assert.equal(actual.metrics.nonFinite, expected.metrics.nonFinite, `${label}: nonFinite`);
  assert.equal(Number.isNaN(actual.loss), Number.isNaN(expected.loss), `${label}: loss ${actual.loss}`);
  const perSequence = actual.gradient.length / sequences;
  const hit = Math.floor(row / length);
  const elsewhere = actual.gradient.filter((_, i) => Math.floor(i / perSequence) !== hit);
  assert.ok(elsewhere.every(Number.isFinite), `${label}: gradient of another sequence`);
}

/**
 * A random request with values of every size in some places, so that something overflows or is not finite from the start: the
 * same count on every device. Two devices may differ within rounding of float32's largest number, and within a factor of 128
 * of it, because they sum so many values in float32 or in float64; the inputs stay below.
 */
function checkExtremes(device: DeviceChoice, seed: number): number {
  const random = seeded(seed);
  const draw = random.chance(0.6) ? drawPolicy(random) : drawLogits(random);
  const input: PolicyInput | LogitsInput = draw.input;
  const { kl } = draw.config;
  if (kl && random.chance(0.5)) kl.beta = 10 ** random.uniform(-30, 30);
  const extreme = () =>
    random.chance(0.2) ? random.pick([NaN, Infinity, -Infinity]) : random.pick([1, -1]) * 10 ** random.uniform(-30, 36);
  const logProb = () => (random.chance(0.1) ? random.pick([NaN, -Infinity]) : -(10 ** random.uniform(0, 3)));
  const change = (values: Float32Array | undefined, value: () => number) => {
    for (let n = random.integer(0, 2); values && n > 0; n--) values[random.integer(0, values.length - 1)] = value();
  };
  if ('logProbs' in input) change(input.logProbs, logProb);
  change(input.oldLogProbs, logProb);
  change(input.refLogProbs, logProb);
  change(input.advantages, extreme);
  change(input.tokenWeights, () => Math.abs(extreme()));
  if (input.rewards && random.chance(0.5)) {
    const size = 10 ** random.uniform(0, 300);
    input.rewards = Array.from(input.rewards, (reward) => reward * size);
  }
  const run = (on: DeviceChoice) => {
    const options = { device: on };
    const result =
      'logits' in input ? logitsLoss(input, draw.config, options) : policyLoss(input, draw.config, options);
    return { ...result, gradient: 'gradLogits' in result ? result.gradLogits : result.gradLogProbs };
  };
  const expected = run('reference');
  const actual = run(device);
  const label = describeDraw(seed, { input, config: draw.config });
  assert.equal(actual.metrics.nonFinite, expected.metrics.nonFinite, `${label}: nonFinite`);
  // No non-finite result is left uncounted.
  const dtype = ('dtype' in input && input.dtype) || 'float32';
  const widen = { float32: (x: number) => x, bfloat16: fromBfloat16, float16: fromFloat16 }[dtype];
  const finite = Array.from(actual.gradient as Float32Array, widen).every(Number.isFinite);
  const fused = actual.advantage ? [...actual.advantage.advantages, ...actual.advantage.weights] : [];
  const all = finite && Number.isFinite(actual.loss) && fused.every(Number.isFinite);
  assert.ok(all || actual.metrics.nonFinite > 0, `${label}: not finite and not counted, loss ${actual.loss}`);
  return actual.metrics.nonFinite;
}

for (const { name: device, skip } of testedDevices('reference', 'cpu', 'cuda')) {
  describe(`${device} compared with the reference in float64`, { skip }, () => {
    test(`policyLoss: ${draws} random requests`, () => {
      for (let seed = 1; seed <= draws; seed++) {
        const { input, config, options: drawn } = drawPolicy(seeded(seed));
        const options = scaled(seed, drawn);
        const label = describeDraw(seed, { input, config, options });
        const plan = float64Policy(planPolicy(input, config, options));
        const expected = referenceDevice.policyLoss(plan);
        const actual = policyLoss(input, config, { ...options, device });

        const sizes = sizesOf(plan);
        const bounds = boundsOf(plan, sizes, 0);
        const allowed = tolerance(plan, sizes, bounds);
        assertNumber(actual.loss, expected.loss, allowed.loss, `${label}: loss`);
        if (options.gradient === false) assert.equal(actual.gradLogProbs, undefined, `${label}: gradLogProbs`);
        else assertWithin(actual.gradLogProbs!, plan.gradLogProbs, allowed.gradient, `${label}: gradLogProbs`);
        assertFused(actual.advantage, plan, expected, label);
        if (options.metrics !== false) {
          assertMetrics(actual.metrics, expected.metrics, { sizes, bounds, loss: allowed.loss, vocab: 0 }, label);
        } else assert.equal('kl' in actual.metrics, false, `${label}: kl`);
      }
    });

    test(`logitsLoss: ${draws} random requests`, () => {
      for (let seed = 1; seed <= draws; seed++) {
        const { input, config, options: drawn } = drawLogits(seeded(seed));
        const options = scaled(seed, drawn);
        checkLogits(device, input, config, options, describeDraw(seed, { input, config, options }));
      }
    });

    test(`one NaN among the inputs: counted, and in the loss if it is in the reference's, ${draws} random requests`, () => {
      for (let seed = 1; seed <= draws; seed++) checkNaN(device, seed);
    });

    test(`values of every size: the same count of non-finite values, ${3 * draws} random requests`, () => {
      let counted = 0;
      for (let seed = 1; seed <= 3 * draws; seed++) counted += Number(checkExtremes(device, seed) > 0);
      assert.ok(counted > draws / 2 && counted < 2.5 * draws, `${counted} requests with something to count`);
    });

    for (const [vocab, dtype] of [
      [50257, 'float32'],
      [151936, 'bfloat16'],
    ] as const) {
      test(`logitsLoss: a vocabulary of ${vocab}, ${dtype}`, () => {
        const random = seeded(vocab);
        const rows = 6;
        const values = Float32Array.from({ length: rows * vocab }, () => 3 * random.normal());
        const input: LogitsInput = {
          shape: { sequences: 2, length: 3, vocab },
          logits:
            dtype === 'float32' ? values : Uint16Array.from(new Uint32Array(values.buffer), (bits) => bits >>> 16),
          dtype,
          tokens: Int32Array.from({ length: rows }, () => random.integer(0, vocab - 1)),
          advantages: Float32Array.of(0.8, -1.1),
        };
        checkLogits(
          device,
          input,
          { surrogate: { kind: 'sapo' }, entropy: { coefficient: 0.1 } },
          {},
          `vocabulary ${vocab}`,
        );
      });
    }
  });
}
