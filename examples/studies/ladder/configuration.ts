// What the ladder study is made of: what it varies, and the words that its parts share.

import type { AdvantageConfig, AnchorOptions } from 'groupgrad';

/** What advantages are divided by: `none` is the paper's estimator r − p̂, `group-std` is GRPO's. */
export type AdvantageScale = Extract<AdvantageConfig['scale'], 'none' | 'group-std'>;

export interface StudyConfiguration {
  /** Of the simulation with a fixed policy; the seeds of the learning runs are their own. */
  seed: number;
  arms: number;
  /** The success probability of each rung's prompts, for the uniform policy. */
  rungs: readonly number[];
  /** Prompts of each rung in a batch. */
  mixtures: Readonly<Record<string, readonly number[]>>;
  groupSizes: readonly number[];
  advantageScales: readonly AdvantageScale[];
  /** λ. */
  hadwScales: readonly number[];
  /** λ where only one is looked at. */
  hadwScale: number;
  anchors: Readonly<Record<string, AnchorOptions>>;
  simulation: {
    /** Batches that count, and those before them that only fill the anchor's history. */
    batches: number;
    warmup: number;
    anchors: readonly string[];
  };
  learning: {
    seeds: number;
    /** Answers sampled for each prompt over a run, whatever the group size. */
    samplesPerPrompt: number;
    /** Of plain gradient ascent on a prompt's mean over its group. */
    learningRate: number;
    groupSize: number;
    mixture: string;
    /** The anchor where only one is looked at. */
    anchor: string;
    /** Points of a curve. */
    points: number;
  };
}
