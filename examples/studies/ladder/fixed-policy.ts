// Advantages of a policy that does not change, by simulation: batches of prompts go through computeAdvantages with a live
// DifficultyAnchor, whose noise is part of the results.

import { DifficultyAnchor } from 'groupgrad';
import { type Stream, uniform } from '../../../src/base/random.js';
import { computeAnchored } from './anchored.js';
import type { AdvantageScale, StudyConfiguration } from './configuration.js';
import {
  binomial,
  expectations,
  groupCases,
  groupRewards,
  levelOf,
  type Mixture,
  type Situation,
  stepAlongGradient,
} from './exact.js';
import { meanOf, sum } from './statistics.js';

export interface Setting {
  mixture: string;
  groupSize: number;
  scale: AdvantageScale;
  anchor: string;
}

/** The number of right answers of each prompt in each batch, and the resulting rewards. */
interface Draws {
  /** The rung of each prompt. */
  rungs: Int32Array;
  right: Int32Array[];
  rewards: Float64Array[];
}

/** A mean over groups, its distance from its exact value, and the exact standard error of that distance. */
export interface Comparison {
  simulated: number;
  exact: number;
  error: number;
}

export interface SimulatedRung {
  p: number;
  /** λ = 1; see Expectations. */
  right: Comparison;
  wrong: Comparison;
  gradient: Comparison;
}

export interface Simulation extends Setting {
  /** The true mean success of a batch. */
  level: number;
  /** The anchor when it was used: its mean minus the level, and its standard deviation. */
  anchorBias: number;
  anchorDeviation: number;
  rungs: SimulatedRung[];
  /** The largest distance of a simulated mean from its exact value, in standard errors. */
  largest: number;
}

/** Every setting, each compared with the expectations for an anchor that equals the level. */
export function simulate(config: StudyConfiguration): Simulation[] {
  return Object.entries(config.mixtures).flatMap(([mixture, prompts], m) =>
    config.groupSizes.flatMap((groupSize) => {
      const stream: Stream = { seed: config.seed, purpose: 'study', index: 1 + 100 * m + groupSize };
      const draws = draw(config, { rungs: config.rungs, prompts }, groupSize, stream);
      return config.advantageScales.flatMap((scale) =>
        config.simulation.anchors.map((anchor) =>
          simulateSetting(config, { rungs: config.rungs, prompts }, draws, { mixture, groupSize, scale, anchor }),
        ),
      );
    }),
  );
}

function draw({ simulation }: StudyConfiguration, mixture: Mixture, groupSize: number, stream: Stream): Draws {
  const rungs = Int32Array.from(mixture.prompts.flatMap((count, rung) => Array<number>(count).fill(rung)));
  const right: Int32Array[] = [];
  const rewards: Float64Array[] = [];
  for (let batch = 0; batch < simulation.warmup + simulation.batches; batch++) {
    const counts = rungs.map((rung, prompt) =>
      binomialQuantile(groupSize, mixture.rungs[rung], uniform(stream, batch, prompt)),
    );
    right.push(counts);
    rewards.push(Float64Array.from([...counts].flatMap((count) => groupRewards(count, groupSize))));
  }
  return { rungs, right, rewards };
}

/** The smallest k with P(at most k right answers) ≥ u. */
function binomialQuantile(n: number, p: number, u: number): number {
  let [k, below] = [0, binomial(n, 0, p)];
  while (k < n && below < u) below += binomial(n, ++k, p);
  return k;
}

function simulateSetting(
  config: StudyConfiguration,
  mixture: Mixture,
  { rungs, right, rewards }: Draws,
  setting: Setting,
): Simulation {
  const { groupSize, scale } = setting;
  const level = levelOf(mixture);
  const anchor = new DifficultyAnchor(config.anchors[setting.anchor]);
  const situations = mixture.rungs.map((p): Situation => ({ p, groupSize, scale, anchor: level }));
  const tallies = situations.map(() => ({ groups: 0, rightCount: 0, right: 0, wrongCount: 0, wrong: 0, step: 0 }));
  const used: number[] = [];
  rewards.forEach((batch, b) => {
    const { advantages, active, anchor: current } = computeAnchored(batch, { groupSize, scale }, anchor, 1);
    if (b < config.simulation.warmup) return;
    used.push(current);
    rungs.forEach((rung, prompt) => {
      const tally = tallies[rung];
      tally.groups += 1;
      if (active[prompt] === 0) return;
      const count = right[b][prompt];
      const a = { right: advantages[prompt * groupSize], wrong: advantages[(prompt + 1) * groupSize - 1] };
      tally.rightCount += count;
      tally.right += count * a.right;
      tally.wrongCount += groupSize - count;
      tally.wrong += (groupSize - count) * a.wrong;
      tally.step += stepAlongGradient(situations[rung], { right: count, advantages: a });
    });
  });

  const compared = situations.map((situation, rung): SimulatedRung => {
    const tally = tallies[rung];
    const exact = expectations(situation);
    const cases = groupCases(situation);
    /** The variance of one group's contribution to Σ count (A − E[A]), the error of a mean over answers. */
    const variance = (count: (right: number) => number, which: 'right' | 'wrong') =>
      sum(cases, (c) => c.probability * (count(c.right) * (c.advantages[which] - exact[which])) ** 2);
    const overAnswers = (which: 'right' | 'wrong', answers: number, total: number): Comparison => ({
      simulated: total / answers,
      exact: exact[which],
      error: Math.sqrt(tally.groups * variance((k) => (which === 'right' ? k : groupSize - k), which)) / answers,
    });
    return {
      p: situation.p,
      right: overAnswers('right', tally.rightCount, tally.right),
      wrong: overAnswers('wrong', tally.wrongCount, tally.wrong),
      gradient: {
        simulated: tally.step / tally.groups,
        exact: exact.gradient,
        error: exact.gradientDeviation / Math.sqrt(tally.groups),
      },
    };
  });
  const anchorMean = meanOf(used);
  return {
    ...setting,
    level,
    anchorBias: anchorMean.mean - level,
    anchorDeviation: anchorMean.error * Math.sqrt(used.length),
    rungs: compared,
    largest: Math.max(...compared.flatMap((r) => [r.right, r.wrong, r.gradient].map(distance))),
  };
}

/** In standard errors. */
export function distance({ simulated, exact, error }: Comparison): number {
  return Math.abs(simulated - exact) / error;
}
