// The loss from token log-probs, its gradient with respect to them, and its metrics. Formulas: docs/losses.md.

import type { Metrics, PolicyPlan, TokenPlan } from '../plan.js';
import { computeAdvantages } from './advantages.js';
import { klTerms } from './kl.js';
import { newTally, tallyMetrics, tallySequence } from './metrics.js';
import { mean, ratioGradient, type SequenceRatios, sequenceRatios } from './ratio.js';
import { type SequenceTokens, surrogates } from './surrogate.js';

type Numbers = Float32Array | Float64Array;

export function policyLoss(plan: PolicyPlan): { loss: number; metrics: Metrics; accuracy?: number } {
  const { accuracy, advantages, metrics: advantageMetrics } = resolveAdvantages(plan);
  const { loss, gradient, metrics } = policyTerms(plan, plan.logProbs, advantages, null);
  plan.gradLogProbs?.set(gradient);
  const badLogProbs = count(plan.logProbs.length, (i) => isIn(plan, i) && !Number.isFinite(plan.logProbs[i]));
  const nonFinite = metrics.nonFinite + badLogProbs + (advantageMetrics.nonFinite ?? 0);
  return { loss, accuracy, metrics: { ...advantageMetrics, ...metrics, nonFinite } };
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
  /** Without a KL term's `kl` when the plan wants no metrics; `nonFinite` counts all inputs but the log-probs. */
  metrics: Metrics;
}

/**
 * Surrogate and KL term of a batch. `kept` is what entropy.topQuantile leaves (κ); null: every token.
 */
export function policyTerms(
  plan: TokenPlan,
  logProbs: Numbers,
  advantages: Numbers,
  kept: readonly boolean[] | null,
): PolicyTerms {
  const { sequences, length, loss: config } = plan;
  const { beta } = config.kl;
  const { kind, parameters } = config.surrogate;
  const gradient = new Float64Array(sequences * length);
  const tally = newTally();
  let loss = 0;

  const indices: number[][] = []; // of each sequence's masked-in tokens
  for (let b = 0; b < sequences; b++) indices.push(maskedInTokens(plan, b));
  const scaleOf = aggregationScale(plan, indices);

  for (const sequence of indices) {
    const n = sequence.length;
    if (n === 0) {
      tally.emptySequences += 1;
      continue;
    }
    const ratios = sequenceRatios(plan, logProbs, sequence);
    const tokens = sequenceTokens(plan, logProbs, advantages, kept, sequence, ratios);
    const surrogate = surrogates[kind](tokens, parameters);
    const of = (values: ArrayLike<number>) => sequence.map((i) => values[i]);
    const kl =
      beta === 0
        ? null
        : klTerms(
            config,
            tokens.logProb,
            of(plan.refLogProbs as Float32Array),
            of(plan.oldLogProbs ?? logProbs),
            ratios,
          );

    const scale = scaleOf(n);
    const byLogRatio: number[] = [];
    const byLogProb: number[] = [];
    for (let t = 0; t < n; t++) {
      loss += scale * surrogate.value[t];
      byLogRatio.push(scale * surrogate.byLogRatio[t]);
      byLogProb.push(scale * surrogate.byLogProb[t]);
      if (kl !== null) {
        loss += scale * beta * kl.value[t];
        byLogProb[t] += scale * beta * kl.gradient[t];
      }
    }
    const throughRatio = ratioGradient(config.ratio, byLogRatio, ratios);
    for (let t = 0; t < n; t++) gradient[sequence[t]] = byLogProb[t] + throughRatio[t];

    tallySequence(tally, plan, tokens, ratios, surrogate.phi, kl?.value);
  }

  const metrics = tallyMetrics(tally, plan);
  metrics.loss = loss;
  metrics.nonFinite = countNonFinite(plan, advantages, indices);
  return { loss, gradient, metrics };
}

/** Whether the token counts; where it does not, none of its values may be read. */
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

function count(length: number, isCounted: (index: number) => boolean): number {
  let total = 0;
  for (let i = 0; i < length; i++) if (isCounted(i)) total += 1;
  return total;
}

/** The advantage of a token. */
function advantageAt(plan: TokenPlan, advantages: Numbers, token: number): number {
  return advantages[plan.advantagesPerToken ? token : Math.floor(token / plan.length)];
}

/** By what a token's loss is multiplied in the sum, as a function of its sequence's n_b (docs/losses.md, "Aggregation"). */
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
): SequenceTokens {
  const advantage = sequence.map((i) => advantageAt(plan, advantages, i));
  const weight = sequence.map((i) => (plan.tokenWeights === null ? 1 : plan.tokenWeights[i]));
  // Off-policy sequence mask (DeepSeek-V3.2, arXiv 2512.02556): the mean of ℓ° − ℓ has grown too large.
  const offPolicy = -mean(ratios.raw) > plan.loss.offPolicyThreshold;
  const dropped = sequence.map((i, t) => (kept !== null && !kept[i]) || (offPolicy && advantage[t] < 0));
  return {
    logProb: sequence.map((i) => logProbs[i]),
    delta: ratios.delta,
    deltaSlope: ratios.deltaSlope,
    ratio: ratios.log.map(Math.exp),
    advantage,
    weight,
    live: sequence.map((_, t) => advantage[t] !== 0 && !dropped[t]),
  };
}

/** Non-finite values among the masked-in inputs, log-probs apart. A sequence's advantage counts once. */
function countNonFinite(plan: TokenPlan, advantages: Numbers, indices: readonly number[][]): number {
  const { oldLogProbs, refLogProbs, tokenWeights, advantagesPerToken } = plan;
  const inputs = [oldLogProbs, plan.loss.kl.beta !== 0 ? refLogProbs : null, tokenWeights];
  let total = 0;
  indices.forEach((sequence, b) => {
    for (const input of inputs) {
      if (input !== null) total += sequence.filter((i) => !Number.isFinite(input[i])).length;
    }
    if (advantagesPerToken) total += sequence.filter((i) => !Number.isFinite(advantages[i])).length;
    else if (sequence.length > 0 && !Number.isFinite(advantages[b])) total += 1;
  });
  return total;
}
