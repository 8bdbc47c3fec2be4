// Exact expectations of advantages: the groups with 1 … G − 1 right answers go through computeAdvantages, and
// their probabilities are binomial. Groups whose answers are all right or all wrong have no advantage.

import { computeAdvantages } from 'groupgrad';
import type { AdvantageScale } from './configuration.js';
import { sum } from './statistics.js';

export interface Situation {
  /** The true success probability of the prompt, in (0, 1). */
  p: number;
  groupSize: number;
  scale: AdvantageScale;
  /** C of HA-DW, with λ = 1; omitted: advantages without its weights. */
  anchor?: number;
}

/** A group with a gradient. */
export interface GroupCase {
  /** Right answers, from 1 to G − 1. */
  right: number;
  probability: number;
  /** The advantage of a right and of a wrong answer, at λ = 1. */
  advantages: { right: number; wrong: number };
}

/** Expectations at λ = 1. λ multiplies all of `right` … `gradientDeviation`. */
export interface Expectations {
  /** Share of groups with a gradient, P(S). */
  active: number;
  /** Mean advantage of right and of wrong answers in such groups. */
  right: number;
  wrong: number;
  /** The same with equal weight for every group, however many of its answers are right: the paper's E[· | S], with r fixed. */
  rightByGroup: number;
  wrongByGroup: number;
  /**
   * The expected policy gradient over all groups, including those without one, in units of the gradient of true
   * advantages. Both have the same direction: an answer only counts as right or wrong, and
   * E[∇ log π | right] = ∇p / p, E[∇ log π | wrong] = −∇p / (1 − p).
   */
  gradient: number;
  /** Standard deviation of one group's step along ∇p in a policy of two answers, a right and a wrong one; same units. */
  gradientDeviation: number;
  /** Over answers in groups with a gradient: means of A², of A times the true advantage, of the true advantage squared. */
  square: number;
  withTruth: number;
  truthSquare: number;
}

/**
 * The true advantages r − p, or (r − p) / √(p (1 − p)) if those of groups are divided by their deviation; 0 if all
 * answers are equal.
 */
export function trueAdvantages(p: number, scale: AdvantageScale): { right: number; wrong: number } {
  const unit = trueUnit(p, scale);
  if (unit === 0) return { right: 0, wrong: 0 };
  return { right: (1 - p) / unit, wrong: -p / unit };
}

function trueUnit(p: number, scale: AdvantageScale): number {
  return scale === 'none' ? 1 : Math.sqrt(p * (1 - p));
}

/** Probability of k right answers of n. Products of at most a few dozen factors: nothing cancels. */
export function binomial(n: number, k: number, p: number): number {
  let value = (1 - p) ** (n - k);
  for (let i = 1; i <= k; i++) value *= ((n - k + i) / i) * p;
  return value;
}

export function groupCases({ p, groupSize, scale, anchor }: Situation): GroupCase[] {
  const counts = Array.from({ length: groupSize - 1 }, (_, i) => i + 1);
  const rewards = counts.flatMap((right) => groupRewards(right, groupSize));
  const hadw = anchor === undefined ? undefined : { anchor, scale: 1 };
  const { advantages } = computeAdvantages(rewards, { groupSize, scale, hadw }, { device: 'reference' });
  return counts.map((right, g) => ({
    right,
    probability: binomial(groupSize, right, p),
    advantages: { right: advantages[g * groupSize], wrong: advantages[(g + 1) * groupSize - 1] },
  }));
}

/** The rewards of a group, the right answers first. */
export function groupRewards(right: number, groupSize: number): number[] {
  return Array.from({ length: groupSize }, (_, i) => (i < right ? 1 : 0));
}

/**
 * A group's step along ∇p, in units of the expected gradient of true advantages: in a policy of two answers,
 * or otherwise the mean over which right and which wrong answers were drawn.
 */
export function stepAlongGradient(
  { p, groupSize, scale }: Situation,
  { right, advantages }: Pick<GroupCase, 'right' | 'advantages'>,
): number {
  const share = right / groupSize;
  const step = (share * advantages.right) / p - ((1 - share) * advantages.wrong) / (1 - p);
  // With true advantages its expectation is (1 − p) + p divided by the unit of the advantages.
  return step * trueUnit(p, scale);
}

export function expectations(situation: Situation): Expectations {
  const { p, groupSize, scale } = situation;
  const truth = trueAdvantages(p, scale);
  const cases = groupCases(situation);
  const mean = (weight: (c: GroupCase) => number, value: (c: GroupCase) => number) =>
    sum(cases, (c) => weight(c) * value(c)) / sum(cases, weight);
  const byGroup = (c: GroupCase) => c.probability;
  const perAnswer = (value: (advantage: number, truth: number) => number) =>
    mean(
      byGroup,
      ({ right, advantages }) =>
        (right * value(advantages.right, truth.right) + (groupSize - right) * value(advantages.wrong, truth.wrong)) /
        groupSize,
    );
  const gradient = sum(cases, (c) => c.probability * stepAlongGradient(situation, c));
  const gradientSquare = sum(cases, (c) => c.probability * stepAlongGradient(situation, c) ** 2);
  return {
    active: sum(cases, byGroup),
    right: mean(
      (c) => c.probability * c.right,
      (c) => c.advantages.right,
    ),
    wrong: mean(
      (c) => c.probability * (groupSize - c.right),
      (c) => c.advantages.wrong,
    ),
    rightByGroup: mean(byGroup, (c) => c.advantages.right),
    wrongByGroup: mean(byGroup, (c) => c.advantages.wrong),
    gradient,
    gradientDeviation: Math.sqrt(gradientSquare - gradient ** 2),
    square: perAnswer((a) => a ** 2),
    withTruth: perAnswer((a, t) => a * t),
    truthSquare: perAnswer((_, t) => t ** 2),
  };
}

/** The root mean squared distance of λ A from the true advantage, over answers in groups with a gradient. */
export function errorAt({ square, withTruth, truthSquare }: Expectations, lambda: number): number {
  return Math.sqrt(lambda ** 2 * square - 2 * lambda * withTruth + truthSquare);
}

/** The λ that removes the bias of right answers, of wrong ones, and of the gradient, and the λ that minimises the error. */
export function bestScales(situation: Situation) {
  const truth = trueAdvantages(situation.p, situation.scale);
  const e = expectations(situation);
  return {
    right: truth.right / e.right,
    wrong: truth.wrong / e.wrong,
    gradient: 1 / e.gradient,
    error: e.withTruth / e.square,
  };
}

/**
 * The interval of λ in which HA-DW's advantage of a right or of a wrong answer is closer to the true one than
 * the advantage without HA-DW: |E[Φ Â | S] − A| < |E[Â | S] − A|, with the paper's own E[· | S].
 */
export function nearerScales(situation: Situation) {
  const truth = trueAdvantages(situation.p, situation.scale);
  const weighted = expectations(situation);
  const plain = expectations({ ...situation, anchor: undefined });
  const range = (a: number, unweighted: number, atOne: number): [number, number] => {
    const bias = Math.abs(unweighted - a);
    return [Math.max(0, (Math.abs(a) - bias) / Math.abs(atOne)), (Math.abs(a) + bias) / Math.abs(atOne)];
  };
  return {
    right: range(truth.right, plain.rightByGroup, weighted.rightByGroup),
    wrong: range(truth.wrong, plain.wrongByGroup, weighted.wrongByGroup),
  };
}

/** The prompts of a batch: their number for each success probability. */
export interface Mixture {
  rungs: readonly number[];
  prompts: readonly number[];
}

/** The true mean success of a batch. */
export function levelOf({ rungs, prompts }: Mixture): number {
  return sum(rungs, (p, i) => prompts[i] * p) / sum(prompts, (n) => n);
}

/** The {@link expectations} of a batch at a λ; default: the λ that minimises `error`. */
export function mixtureExpectations(mixture: Mixture, situation: Omit<Situation, 'p'>, lambda?: number) {
  const cells = mixture.rungs.map((p, i) => ({
    p,
    prompts: mixture.prompts[i],
    ...expectations({ ...situation, p }),
  }));
  type Cell = (typeof cells)[number];
  const active = sum(cells, (c) => c.prompts * c.active);
  const perAnswer = (value: (c: Cell) => number) => sum(cells, (c) => c.prompts * c.active * value(c)) / active;
  const perPrompt = (value: (c: Cell) => number) =>
    sum(cells, (c) => c.prompts * value(c)) / sum(mixture.prompts, (n) => n);
  const used = lambda ?? perAnswer((c) => c.withTruth) / perAnswer((c) => c.square);
  // Prompts share no logits, and |∇p|² of a uniform policy over n arms is p (1 − p) / n: products of gradients are sums.
  const product = (value: (c: Cell) => number) => perPrompt((c) => value(c) * c.p * (1 - c.p));
  const length = (c: Cell) => c.gradient / trueUnit(c.p, situation.scale);
  return {
    lambda: used,
    /** The root mean squared distance from the true advantage, over answers in groups with a gradient. */
    error: Math.sqrt(perAnswer((c) => errorAt(c, used) ** 2)),
    /** The λ that minimises the mean squared difference of the prompts' `gradient` from 1. */
    gradientLambda: perPrompt((c) => c.gradient) / perPrompt((c) => c.gradient ** 2),
    /** Cosine between the batch's expected gradient and the gradient of its mean success, for the uniform policy. */
    gradientCosine: product(length) / Math.sqrt(product(() => 1) * product((c) => length(c) ** 2)),
  };
}
