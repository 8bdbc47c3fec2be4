// The settings of losses and advantages as devices receive them, with every default filled in, and the names they use.

import type { SurrogateKind } from './reference/surrogate.js';

export const ratios = ['token', 'sequence', 'sequence-token'] as const;
/** Which importance ratio: per token, per sequence (GSPO), or GSPO's value with a per-token gradient (GSPO-token). */
export type Ratio = (typeof ratios)[number];

export const aggregations = ['sequence-mean', 'token-mean', 'sequence-sum', 'constant'] as const;
/** How token losses become one number; formulas in docs/losses.md. */
export type Aggregation = (typeof aggregations)[number];

export const klEstimators = ['k1', 'k2', 'k3'] as const;
/** Schulman's estimators of KL(policy ‖ reference). */
export type KlEstimator = (typeof klEstimators)[number];

/** A configuration with every default filled in: what devices receive. Bounds that are off are infinite. */
export interface LossPlan {
  ratio: Ratio;
  surrogate: { kind: SurrogateKind; parameters: Float64Array };
  aggregation: Aggregation;
  emptySequences: 'count' | 'drop';
  maxLength: number;
  logRatioClamp: number;
  offPolicyThreshold: number;
  /** beta 0: no KL term. */
  kl: { beta: number; estimator: KlEstimator; importanceWeighted: boolean; logRatioClamp: number };
  /** coefficient 0: no entropy term. `tokens` and `threshold` are NaN if this batch decides. */
  entropy: { coefficient: number; topQuantile: number; tokens: number; threshold: number };
}

/**
 * Whether a loss clips sequences as a whole. GMPO clips tokens whatever the ratio is, and so does every surrogate where tokens have
 * advantages of their own.
 */
export function clipsSequences(
  { ratio, surrogate }: { ratio: Ratio; surrogate: { kind: SurrogateKind } },
  advantagesPerToken: boolean,
): boolean {
  return ratio !== 'token' && surrogate.kind !== 'gmpo' && !advantagesPerToken;
}

export const centers = ['mean', 'leave-one-out', 'none'] as const;
export const scales = ['group-std', 'group-mad', 'batch-std', 'none'] as const;

/** Advantage configuration with defaults filled in: what devices receive. */
export interface AdvantageSettings {
  center: (typeof centers)[number];
  scale: (typeof scales)[number];
  ddof: number;
  epsilon: number;
  /** `anchor` NaN: the batch's own mean. */
  hadw: { anchor: number; scale: number } | null;
  /** Null with `hadw`. */
  dqw: { temperature: number } | null;
}
