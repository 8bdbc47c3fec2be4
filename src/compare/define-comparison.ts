// What a comparison of `groupgrad compare` holds.

import type { TaskDescription, TrainConfig } from '../config/define-config.js';
import type { Example, Task } from '../tasks/index.js';

/** What every run of a comparison has in common. */
type Common = 'seed' | 'train' | 'shuffle' | 'policy' | 'warmStart' | 'backend' | 'device';

/**
 * Settings of a variant in place of the base's, by their paths, as `--set` takes them: `{ groupSize: 16, 'loss.kl.beta': 0.04 }`.
 * A value takes the place of the whole setting; null takes it away.
 */
export type VariantChanges<E extends Example = Example> = {
  readonly [K in keyof Omit<TrainConfig<E>, Common>]?: TrainConfig<E>[K] | null;
} & { readonly [path: `${string}.${string}`]: unknown };

export interface ComparisonConfig<E extends Example = Example> {
  /** What the variants change: a configuration of `groupgrad train` without a seed. */
  base: Omit<TrainConfig<E>, 'seed'>;
  /** By name: letters, digits and any of _ . + -. `{}` is the base as it is. */
  variants: Readonly<Record<string, VariantChanges<E>>>;
  /** The seeds, or how many there are from 0. Every seed has its own warm start, problems and random numbers. */
  seeds: number | readonly number[];
  /** The variant that the others are compared with where `pairs` does not say. Default: the first. */
  baseline?: string;
  /** Which variant is compared with which: `[['grpo+hadw', 'grpo'], …]`. Default: each with the baseline. */
  pairs?: readonly (readonly [variant: string, baseline: string])[];
  /** Tokens sampled in training after which a run ends, within a step, if `steps` has not ended it before. Default: no such end. */
  tokens?: number;
  /** What the variants are measured on. */
  probe: ProbeConfig;
  /**
   * Prompts of the probe by their success before training: the smallest and the largest share of right completions. Prompts
   * of no bucket are left aside. Default: hard [.02, .15], medium [.3, .7], easy [.85, .98].
   */
  buckets?: Readonly<Record<string, readonly [low: number, high: number]>>;
}

export interface ProbeConfig {
  /** Where its prompts come from. With a seed left out, each seed of the comparison has prompts of its own. */
  task: Task | TaskDescription;
  /** Different prompts that are measured. Default: all that the task has; of a task without an end 256. */
  size?: number;
  /** Completions a prompt of the measurement before training, which decides its bucket. Default 64. */
  measure?: number;
  /** Completions a prompt of every evaluation, at least 8. Default 16. */
  samples?: number;
  /** Steps between two evaluations; there is one before the first step and one at the end as well. Default 25. */
  every?: number;
}

/** A comparison as it is, with its types checked: `export default defineComparison({ … })`. */
export function defineComparison<E extends Example>(config: ComparisonConfig<E>): ComparisonConfig<E> {
  return config;
}
