// The configuration of the ladder study: what it varies, and names that its parts share.

import type { AdvantageConfig, AnchorOptions } from 'groupgrad';

/** What advantages are divided by: `none` is the paper's estimator r − p̂, `group-std` is GRPO's. */
export type AdvantageScale = Extract<AdvantageConfig['scale'], 'none' | 'group-std'>;

export interface StudyConfiguration {
  /** Seed of the simulation with a fixed policy; the learning runs have their own seeds. */
  seed: number;
  arms: number;
  /** The success probability of each rung's prompts, for the uniform policy. */
  rungs: readonly number[];
  /** Prompts of each rung in a batch. */
  mixtures: Readonly<Record<string, readonly number[]>>;
  groupSizes: readonly number[];
  advantageScales: readonly AdvantageScale[];
  /** Values of λ. */
  hadwScales: readonly number[];
  /** λ where only one is examined. */
  hadwScale: number;
  anchors: Readonly<Record<string, AnchorOptions>>;
  simulation: {
    /** Batches that count, and earlier ones that only fill the anchor's history. */
    batches: number;
    warmup: number;
    anchors: readonly string[];
  };
  learning: {
    seeds: number;
    /** Answers sampled for each prompt over a run, whatever the group size. */
    samplesPerPrompt: number;
    /** Learning rate of plain gradient ascent on a prompt's mean over its group. */
    learningRate: number;
    groupSize: number;
    mixture: string;
    /** The anchor where only one is examined. */
    anchor: string;
    /** Points of a curve. */
    points: number;
  };
}
