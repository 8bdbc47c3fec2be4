// The configuration of `groupgrad compare`.

import type { DataDescription, TaskDescription, TrainConfig } from '../config/define-config.js';
import type { Example, Problems, Task } from '../tasks/index.js';

/** Settings common to every run of a comparison. */
type Common = 'seed' | 'train' | 'shuffle' | 'policy' | 'warmStart' | 'backend' | 'device';

/**
 * Settings of a variant that replace the base's, by path, as for `--set`: `{ groupSize: 16, 'loss.kl.beta': 0.04 }`. A value
 * replaces the whole setting; null removes it.
 */
export type VariantChanges<E extends Example = Example> = {
  readonly [K in keyof Omit<TrainConfig<E>, Common>]?: TrainConfig<E>[K] | null;
} & { readonly [path: `${string}.${string}`]: unknown };

export interface ComparisonConfig<E extends Example = Example> {
  /** What the variants change: a configuration of `groupgrad train` without a seed. */
  base: Omit<TrainConfig<E>, 'seed'>;
  /** By name: letters, digits and any of _ . + -. `{}` is the base unchanged. */
  variants: Readonly<Record<string, VariantChanges<E>>>;
  /** The seeds, or their number, counted from 0. Every seed has its own warm start, problems and random numbers. */
  seeds: number | readonly number[];
  /** The variant that the others are compared with if `pairs` is not given. Default: the first. */
  baseline?: string;
  /** Which variant is compared with which: `[['grpo+hadw', 'grpo'], …]`. Default: each with the baseline. */
  pairs?: readonly (readonly [variant: string, baseline: string])[];
  /** A run ends after the step in which it has sampled this many training tokens, or after `steps`. Default: no token limit. */
  tokens?: number;
  /** Prompts that the variants are measured on while they train. May be left out if there are `benchmarks`. */
  probe?: ProbeConfig;
  /**
   * What every run is evaluated on at its end, and every seed before training, by name. A path stands for the file of the public
   * benchmark of that name: `{ math500: 'math500.jsonl' }` is `{ math500: { data: 'math500.jsonl', benchmark: 'math500', chat:
   * 'auto' } }`. Default: none.
   */
  benchmarks?: Readonly<
    Record<string, string | readonly string[] | Problems | Task | TaskDescription | DataDescription>
  >;
  /** How completions of `benchmarks` are sampled. */
  evaluation?: BenchmarkSampling;
  /**
   * Prompts of the probe by their success before training: the smallest and the largest share of right completions. Prompts in no
   * bucket are set aside. Default: hard [.02, .15], medium [.3, .7], easy [.85, .98].
   */
  buckets?: Readonly<Record<string, readonly [low: number, high: number]>>;
}

export interface BenchmarkSampling {
  /** Completions per problem. Default: what is usual for a public benchmark (32 for AIME), else 1. */
  samples?: number;
  /** Default: 0 (greedy) for one completion per problem, else 1. */
  temperature?: number;
  /** Nucleus sampling: the probability mass that tokens are drawn from, above 0 and at most 1. Default 1. */
  topP?: number;
  /** Longest completion, in tokens. Default: as in training. */
  maxTokens?: number;
  /** At most this many problems of each benchmark, evenly spaced. Default: all of them. */
  size?: number;
}

export interface ProbeConfig {
  /** Where its prompts come from. Without a seed here, each seed of the comparison has its own prompts. */
  task: Task | TaskDescription;
  /** Number of distinct prompts that are measured. Default: all of a finite task, 256 of an infinite one. */
  size?: number;
  /** Completions per prompt in the measurement before training, which decides its bucket. Default 64. */
  measure?: number;
  /** Completions per prompt in every evaluation, at least 8. Default 16. */
  samples?: number;
  /** Steps between two evaluations; there is one before the first step and one at the end as well. Default 25. */
  every?: number;
}

/** Returns a comparison unchanged, with its types checked: `export default defineComparison({ … })`. */
export function defineComparison<E extends Example>(config: ComparisonConfig<E>): ComparisonConfig<E> {
  return config;
}
