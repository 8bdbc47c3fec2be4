// The loss from token log-probs, its gradient with respect to them, and its metrics. Formulas: docs/losses.md.

import type { Metrics, PolicyPlan, TokenPlan } from '../plan.js';
import { computeAdvantages } from './advantages.js';
import { entropyTerm } from './entropy.js';
import { float32, float64, isFiniteFloat32, type Limit } from './float32.js';
import { klTerms } from './kl.js';
import { newTally, tallyMetrics, tallySequence } from './metrics.js';
import { meanOrZero, ratioGradient, type SequenceRatios, sequenceRatios } from './ratio.js';
import { type SequenceTokens, surrogates } from './surrogate.js';

type Numbers = Float32Array | Float64Array;

export function policyLoss(plan: PolicyPlan): { loss: number; metrics: Metrics; accuracy?: number } {
  const { logProbs, entropies, gradLogProbs, gradEntropies, lossScale } = plan;
  const { accuracy, advantages, metrics: advantageMetrics } = resolveAdvantages(plan);
  const entropy = entropies && entropyTerm(plan, entropies);
  const byEntropy = entropy && gradEntropies && entropy.derivative.map((c) => lossScale * c);
  const gradientScale = gradLogProbs === null ? 0 : lossScale;
  const kept = entropy?.kept ?? null;
  const policy = policyTerms(plan, logProbs, advantages, gradientScale, kept, {
    values: entropies,
    gradient: byEntropy,
  });
  gradLogProbs?.set(policy.gradient);
  if (byEntropy) gradEntropies?.set(byEntropy);

  const loss = policy.loss + (entropy?.loss ?? 0);
  const nonFinite = countLoss(policy.metrics.nonFinite, loss) + (advantageMetrics.nonFinite ?? 0);
  const metrics: Metrics = { ...advantageMetrics, ...policy.metrics, loss, nonFinite };
  if (entropy && plan.metrics) metrics.entropy = entropy.mean;
  return { loss, accuracy, metrics };
}

/** A non-finite loss counts if none of its terms does. */
export function countLoss(nonFinite: number, loss: number): number {
  return nonFinite === 0 && !isFiniteFloat32(loss) ? 1 : nonFinite;
}

/**
 * The advantages of the call: those given, or those computed from its rewards. They are read back from where they were
 * written, so that a fused call equals computeAdvantages followed by a loss, bit for bit.
 */
export function resolveAdvantages(plan: TokenPlan): { advantages: Numbers; accuracy?: number; metrics: Metrics } {
  if (plan.advantage === null) return { advantages: plan.advantages as Numbers, metrics: {} };
  const { output } = plan.advantage;
  return { advantages: output.advantages, ...computeAdvantages(plan.advantage.plan, output) };
}

export interface PolicyTerms {
  loss: number;
  /** ∂loss/∂ℓ, B*T; 0 at masked tokens. */
  gradient: Float64Array;
  /** For each token, whether ∂loss/∂ℓ is finite when computed in float32. */
  finite: boolean[];
  /** Without a KL term's `kl` if the plan requests no metrics. */
  metrics: Metrics;
}

/**
 * Surrogate and KL term of a batch. `gradientScale` multiplies the gradient; with 0 no gradient is computed or counted in
 * `nonFinite`. `kept`: the tokens that entropy.topQuantile keeps (κ); null: every token. `entropies`: the given ones and the
 * gradient with respect to them, which count as log-probs do.
 */
export function policyTerms(
  plan: TokenPlan,
  logProbs: Numbers,
  advantages: Numbers,
  gradientScale: number,
  kept: readonly boolean[] | null,
  entropies: { values: Numbers | null; gradient: Numbers | null } = { values: null, gradient: null },
): PolicyTerms {
  const { sequences, length } = plan;
  const gradient = new Float64Array(sequences * length);
  const finite = new Array<boolean>(sequences * length).fill(true);
  const tally = newTally();
  let loss = 0;
  let nonFinite = 0;

  const indices: number[][] = []; // of each sequence's masked-in tokens
  for (let b = 0; b < sequences; b++) indices.push(maskedInTokens(plan, b));
  const scaleOf = aggregationScale(plan, indices);

  indices.forEach((sequence, b) => {
    const n = sequence.length;
    if (n === 0) {
      tally.emptySequences += 1;
      return;
    }
    const ratios = sequenceRatios(plan, logProbs, sequence);
    const termsIn = (limit: Limit) =>
      sequenceTerms(plan, sequenceTokens(plan, logProbs, advantages, kept, sequence, ratios, limit), sequence, ratios);
    const terms = termsIn(float64);
    const inFloat32 = areModerate(terms) ? terms : termsIn(float32);
    const scale = scaleOf(n);
    const slope = ({ own, shared }: SequenceTerms, t: number) => gradientScale * scale * (own[t] + shared[t]);
    sequence.forEach((i, t) => {
      loss += scale * terms.value[t];
      gradient[i] = slope(terms, t);
      finite[i] = isFiniteFloat32(slope(inFloat32, t));
    });
    // Counted at its origin: values that follow from a non-finite input or term are not counted again.
    nonFinite +=
      countInputs(plan, logProbs, entropies.values, advantages, sequence, b) ||
      inFloat32.nonFinite ||
      countIn(sequence, (i) => gradientScale !== 0 && !finite[i]) +
        countIn(sequence, (i) => entropies.gradient !== null && !isFiniteFloat32(entropies.gradient[i]));
    tallySequence(tally, plan, terms.tokens, ratios, terms.phi, terms.kl);
  });

  return { loss, gradient, finite, metrics: { ...tallyMetrics(tally, plan), loss, nonFinite } };
}

/** A sequence's contribution to the loss, before the aggregation's factor; every array has one entry per token. */
interface SequenceTerms {
  tokens: SequenceTokens;
  value: number[];
  /** The part of a token's gradient from its own terms, and the part from all tokens of the sequence. */
  own: number[];
  shared: number[];
  phi?: number[];
  /** Before β. */
  kl?: number[];
  /** Number of tokens with a value or a derivative that overflows float32. */
  nonFinite: number;
}

/** Whether all values are so small that none of their products comes near float32's range. */
function areModerate({ tokens, value, own, phi, kl }: SequenceTerms): boolean {
  const { ratio, delta, advantage, weight, logProb } = tokens;
  const sizes = [ratio, delta.map(Math.exp), advantage, weight, logProb, value, own, phi ?? [], kl ?? []];
  return sizes.every((values) => values.every((x) => Math.abs(x) < 1e9));
}

function sequenceTerms(
  plan: TokenPlan,
  tokens: SequenceTokens,
  sequence: readonly number[],
  ratios: SequenceRatios,
): SequenceTerms {
  const { loss: config, oldLogProbs, refLogProbs } = plan;
  const { beta } = config.kl;
  const { kind, parameters } = config.surrogate;
  const surrogate = surrogates[kind](tokens, parameters);
  const of = (values: Float32Array) => sequence.map((i) => values[i]);
  const old = oldLogProbs === null ? tokens.logProb : of(oldLogProbs);
  const kl =
    beta === 0 ? null : klTerms(config, tokens.logProb, of(refLogProbs as Float32Array), old, ratios, tokens.limit);

  const byLogRatio = surrogate.byLogRatio.map((slope, t) => (ratios.logSlope[t] === 0 ? 0 : slope));
  const throughRatio = ratioGradient(config.ratio, byLogRatio);
  const terms: SequenceTerms = {
    tokens,
    value: [],
    own: [],
    shared: [],
    phi: surrogate.phi,
    kl: kl?.value,
    nonFinite: 0,
  };
  for (let t = 0; t < sequence.length; t++) {
    const klValue = kl === null ? 0 : beta * kl.value[t];
    const klGradient = kl === null ? 0 : beta * kl.gradient[t];
    const [fromSelf, fromAll] = config.ratio === 'sequence' ? [0, throughRatio[t]] : [throughRatio[t], 0];
    terms.value.push(surrogate.value[t] + klValue);
    terms.own.push(surrogate.byLogProb[t] + fromSelf + (kl?.shared ? 0 : klGradient));
    terms.shared.push((surrogate.shared?.[t] ?? 0) + fromAll + (kl?.shared ? klGradient : 0));
    // k itself too: devices multiply by β only after k may have overflowed.
    const parts = [kl?.value[t] ?? 0, terms.value[t], terms.own[t], byLogRatio[t]];
    if (!parts.every(isFiniteFloat32)) terms.nonFinite += 1;
  }
  return terms;
}

/** Whether the token counts; if not, none of its values may be read. */
export function isIn(plan: TokenPlan, token: number): boolean {
  return plan.mask === null || plan.mask[token] !== 0;
}

function maskedInTokens(plan: TokenPlan, sequence: number): number[] {
  const tokens: number[] = [];
  for (let t = 0; t < plan.length; t++) {
    const index = sequence * plan.length + t;
    if (isIn(plan, index)) tokens.push(index);
  }
  return tokens;
}

/** The advantage of a token. */
function advantageAt(plan: TokenPlan, advantages: Numbers, token: number): number {
  return advantages[plan.advantagesPerToken ? token : Math.floor(token / plan.length)];
}

/** The factor of a token's loss in the sum, as a function of its sequence's n_b (docs/losses.md, "Aggregation"). */
function aggregationScale(plan: TokenPlan, indices: readonly number[][]): (n: number) => number {
  const { aggregation, emptySequences, maxLength } = plan.loss;
  const present = indices.filter((sequence) => sequence.length > 0).length;
  const ownSequences = Math.max(emptySequences === 'drop' ? present : plan.sequences, 1);
  const ownTokens = Math.max(
    indices.reduce((sum, sequence) => sum + sequence.length, 0),
    1,
  );
  const B = Number.isNaN(plan.globalSequences) ? ownSequences : plan.globalSequences;
  const N = Number.isNaN(plan.normalizer) ? ownTokens : plan.normalizer;
  switch (aggregation) {
    case 'sequence-mean':
      return (n) => 1 / (B * Math.max(n, 1));
    case 'token-mean':
      return () => 1 / N;
    case 'sequence-sum':
      return () => 1 / B;
    case 'constant':
      return () => 1 / (B * maxLength);
  }
}

function sequenceTokens(
  plan: TokenPlan,
  logProbs: Numbers,
  advantages: Numbers,
  kept: readonly boolean[] | null,
  sequence: readonly number[],
  ratios: SequenceRatios,
  limit: Limit,
): SequenceTokens {
  const advantage = sequence.map((i) => advantageAt(plan, advantages, i));
  const weight = sequence.map((i) => (plan.tokenWeights === null ? 1 : plan.tokenWeights[i]));
  // Off-policy sequence mask (DeepSeek-V3.2, arXiv 2512.02556): the mean of ℓ° − ℓ has grown too large.
  const offPolicy = -meanOrZero(ratios.raw) > plan.loss.offPolicyThreshold;
  const dropped = sequence.map((i, t) => (kept !== null && !kept[i]) || (offPolicy && advantage[t] < 0));
  return {
    logProb: sequence.map((i) => logProbs[i]),
    delta: ratios.delta,
    deltaSlope: ratios.deltaSlope,
    ratio: ratios.log.map((x) => limit(Math.exp(x))),
    advantage,
    weight,
    live: sequence.map((_, t) => advantage[t] !== 0 && !dropped[t]),
    limit,
  };
}

function countIn(sequence: readonly number[], isCounted: (token: number) => boolean): number {
  return sequence.filter(isCounted).length;
}

/**
 * Number of non-finite values among a sequence's inputs. Its advantage counts once, and an entropy only if its log-prob does not
 * count: a row of logits without a distribution has neither.
 */
function countInputs(
  plan: TokenPlan,
  logProbs: Numbers,
  entropies: Numbers | null,
  advantages: Numbers,
  sequence: readonly number[],
  b: number,
): number {
  const { oldLogProbs, refLogProbs, tokenWeights, advantagesPerToken } = plan;
  const perToken = [logProbs, oldLogProbs, plan.loss.kl.beta !== 0 ? refLogProbs : null, tokenWeights];
  if (advantagesPerToken) perToken.push(advantages);
  let total = !advantagesPerToken && !Number.isFinite(advantages[b]) ? 1 : 0;
  for (const input of perToken) {
    if (input !== null) total += countIn(sequence, (i) => !Number.isFinite(input[i]));
  }
  if (entropies !== null) {
    total += countIn(sequence, (i) => !Number.isFinite(entropies[i]) && Number.isFinite(logProbs[i]));
  }
  return total;
}
