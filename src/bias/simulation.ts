// The bias of group-relative advantages in simulated groups, whose means, advantages and gradients come from computeAdvantages
// itself. A seed gives the same groups, whatever else is simulated.

import { fillUniform, type Stream } from '../base/random.js';
import { computeAdvantages } from '../loss/losses.js';

export interface Experiment {
  groupSize: number;
  /** Number of groups. */
  samples: number;
  seed: number;
  /** Distinguishes experiments with the same group size: each has its own random numbers. An integer from 0 to 999. */
  point: number;
  /** The expectation of a reward. */
  mean: number;
  /** Turns a uniform number from (0, 1) into a reward. */
  reward: (share: number) => number;
  /** Groups with max − min > sigma count. Default: those that have a gradient. */
  sigma?: number;
  /** Margins ε by which an advantage must be misjudged to count. */
  epsilons: readonly number[];
}

export interface Observed {
  /** Number of groups that count, on which the other results are based. */
  inside: number;
  /** p̂, the mean reward of a group. */
  baseline: Estimate;
  /** A − Â of a group's best response. */
  bias: Estimate;
  /** Shares of groups with Â < A − ε and with Â > A + ε, one per ε. */
  underestimated: number[];
  overestimated: number[];
}

export interface Estimate {
  mean: number;
  /** Standard deviation of a single value. */
  standardDeviation: number;
}

/** Advantages are float32 numbers of order 1: smaller differences count as equal. */
const rounding = 1e-6;

/** Rewards per call, which bounds the memory. */
const batch = 2 ** 16;

/** The results of `samples` groups. */
export function simulate(experiment: Experiment): Observed {
  const { groupSize, samples, mean, reward, sigma, epsilons, point } = experiment;
  const stream = streamOf(experiment);
  const uniform = new Float64Array(groupSize);
  const baseline = new Moments();
  const bias = new Moments();
  const counts = { under: epsilons.map(() => 0), over: epsilons.map(() => 0) };
  const step = Math.max(1, Math.floor(batch / groupSize));
  for (let start = 0; start < samples; start += step) {
    const groups = Math.min(step, samples - start);
    const rewards = new Float64Array(groups * groupSize);
    for (let group = 0; group < groups; group++) {
      fillUniform(uniform, stream, start + group, point);
      for (let i = 0; i < groupSize; i++) rewards[group * groupSize + i] = reward(uniform[i]);
    }
    const { advantages, groupMean, active } = computeAdvantages(rewards, { groupSize, scale: 'none' });
    for (let group = 0; group < groups; group++) {
      const { best, spread } = bestOf(rewards, group * groupSize, groupSize);
      if (sigma === undefined ? active[group] === 0 : spread <= sigma) continue;
      const error = rewards[best] - mean - advantages[best];
      baseline.add(groupMean[group]);
      bias.add(error);
      epsilons.forEach((epsilon, i) => {
        if (error > epsilon + rounding) counts.under[i]++;
        if (-error > epsilon + rounding) counts.over[i]++;
      });
    }
  }
  const inside = baseline.count;
  const share = (count: number) => count / inside;
  return {
    inside,
    baseline: baseline.estimate(),
    bias: bias.estimate(),
    underestimated: counts.under.map(share),
    overestimated: counts.over.map(share),
  };
}

/** p of the averages begins at this share of its interval: below it groups with a gradient would be too rare. */
const lowest = 1e-4;

/**
 * The share of prompts whose advantages are underestimated, with p uniform on (0, limit): for each of `samples` prompts groups
 * are drawn until one has a gradient.
 */
export function simulateAverage(
  experiment: Pick<Experiment, 'groupSize' | 'samples' | 'seed' | 'point'> & { limit: number },
): number {
  const { groupSize, samples, point, limit } = experiment;
  const stream = streamOf(experiment);
  const address = (round: number) => 1000 + 100 * point + round;
  const one = new Float64Array(1);
  let underestimated = 0;
  let waiting = Array.from({ length: samples }, (_, prompt) => {
    fillUniform(one, stream, prompt, address(0));
    return { prompt, p: limit * (lowest + (1 - lowest) * one[0]) };
  });
  for (let round = 1; waiting.length > 0; round++) {
    // Twice as many groups per prompt in each round: few calls, and only a few more groups than needed.
    const tries = 2 ** (round - 1);
    const uniform = new Float64Array(tries * groupSize);
    const step = Math.max(1, Math.floor(batch / uniform.length));
    const left: typeof waiting = [];
    for (let start = 0; start < waiting.length; start += step) {
      const prompts = waiting.slice(start, start + step);
      const rewards = new Float64Array(prompts.length * uniform.length);
      prompts.forEach(({ prompt, p }, i) => {
        fillUniform(uniform, stream, prompt, address(round));
        for (let j = 0; j < uniform.length; j++) rewards[i * uniform.length + j] = uniform[j] < p ? 1 : 0;
      });
      const { advantages, active } = computeAdvantages(rewards, { groupSize, scale: 'none' });
      prompts.forEach((waiter, i) => {
        const first = active.subarray(i * tries, (i + 1) * tries).indexOf(1);
        if (first < 0) {
          left.push(waiter);
          return;
        }
        const { best } = bestOf(rewards, (i * tries + first) * groupSize, groupSize);
        if (rewards[best] - waiter.p - advantages[best] > rounding) underestimated++;
      });
    }
    waiting = left;
  }
  return underestimated / samples;
}

function streamOf({ seed, groupSize }: Pick<Experiment, 'seed' | 'groupSize'>): Stream {
  return { seed, purpose: 'simulation', index: groupSize };
}

/** The index of a group's largest reward, and its difference from the smallest. */
function bestOf(rewards: Float64Array, start: number, groupSize: number): { best: number; spread: number } {
  let [best, worst] = [start, start];
  for (let i = start + 1; i < start + groupSize; i++) {
    if (rewards[i] > rewards[best]) best = i;
    if (rewards[i] < rewards[worst]) worst = i;
  }
  return { best, spread: rewards[best] - rewards[worst] };
}

/** Mean and standard deviation of a stream of numbers (Welford). */
class Moments {
  count = 0;
  #mean = 0;
  #squares = 0;

  add(value: number): void {
    this.count++;
    const difference = value - this.#mean;
    this.#mean += difference / this.count;
    this.#squares += difference * (value - this.#mean);
  }

  estimate(): Estimate {
    const mean = this.count > 0 ? this.#mean : Number.NaN;
    return { mean, standardDeviation: this.count > 1 ? Math.sqrt(this.#squares / (this.count - 1)) : Number.NaN };
  }
}
