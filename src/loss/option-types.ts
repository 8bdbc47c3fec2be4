// Written by `npm run option-types` from src/loss/config.ts and src/loss/anchor.ts, where changes belong.

import type { DeviceArray } from '../devices/device-array.js';
import type { Surrogate } from './config.js';

export interface KlConfig {
  /** Coefficient; with 0 no KL is computed. At least 0. */
  beta: number;
  /** Schulman's estimator of KL(policy ‖ reference). Default `k3`. */
  estimator?: 'k1' | 'k2' | 'k3';
  /** Multiply by the ratio, with the gradient through it (DeepSeek-V3.2). Default false. */
  importanceWeighted?: boolean;
  /**
   * Clamp of the log-ratio ℓʳ − ℓ to [−c, c], zero gradient through it outside. It bounds k3, which grows like e^c.
   * verl's is 20, as is NeMo-RL's `kl_input_clamp_value`. Above 0. Default: none.
   */
  logRatioClamp?: number;
}

export interface EntropyConfig {
  /** The mean entropy times this is subtracted from the loss. */
  coefficient: number;
  /** Keep only this fraction of the tokens, those of the highest entropy. Above 0 and at most 1. Default 1. */
  topQuantile?: number;
  /** The number of kept tokens in the whole accumulation window. At least 0. Default: those of this batch. */
  tokens?: number;
  /**
   * With `topQuantile`: the global entropy threshold (nats) from which tokens are kept. Default: this batch's
   * quantile.
   */
  threshold?: number;
}

export interface LossConfig {
  /**
   * Which importance ratio: per token, per sequence (GSPO), or GSPO's value with a per-token gradient (GSPO-token).
   * Default `token`.
   */
  ratio?: 'token' | 'sequence' | 'sequence-token';
  /** The objective of a token, with its parameters. */
  surrogate: Surrogate;
  /** How token losses become one number; formulas in docs/losses.md. Default `token-mean`. */
  aggregation?: 'sequence-mean' | 'token-mean' | 'sequence-sum' | 'constant';
  /** Whether a sequence without a masked-in token counts in B; it does in TRL, verl drops it. Default `count`. */
  emptySequences?: 'count' | 'drop';
  /** For aggregation `constant`. At least 1. Default: the padded length T. */
  maxLength?: number;
  /** Clamp of the log-ratio to [−c, c], zero gradient outside. Above 0. Default: none. */
  logRatioClamp?: number;
  /**
   * Off-policy sequence mask (DeepSeek-V3.2): A < 0 tokens of a sequence whose mean ℓ° − ℓ exceeds this are dropped.
   * Default: none.
   */
  offPolicyThreshold?: number;
  /** The KL term. Default: none. */
  kl?: KlConfig;
  /** The entropy term. Default: none. */
  entropy?: EntropyConfig;
}

/** How rewards become advantages. Group sizes: exactly one of `groupSize` and `groupSizes`. */
export interface AdvantageConfig {
  /** Responses per prompt; the number of rewards must be a multiple of it. */
  groupSize?: number;
  /** Ragged groups: the size of each, in order; their sum is the number of rewards. */
  groupSizes?: Int32Array;
  /** What is subtracted from a reward. Default `mean`. */
  center?: 'mean' | 'leave-one-out' | 'none';
  /**
   * What the difference is divided by; `group-mad` is the mean absolute deviation of the group. Default `group-std`.
   */
  scale?: 'group-std' | 'group-mad' | 'batch-std' | 'none';
  /** Standard deviations divide by n − ddof. Default 1. */
  ddof?: 0 | 1;
  /**
   * Added to the standard or mean absolute deviation. The default is TRL's; verl's is 1e-6. At least 0. Default
   * 0.0001.
   */
  epsilon?: number;
  /** History-aware difficulty weighting (arXiv 2601.08521, eq. 13–17). Default: none. */
  hadw?: {
    /**
     * The policy's level, usually `anchor.value`. With rewards in a DeviceArray it may also be a DeviceArray of one
     * float64, which is read when the operation runs. Default: the batch's own mean reward.
     */
    anchor?: number | DeviceArray | undefined;
    /** λ. Above 0. Default 1.3. */
    scale?: number;
  };
  /**
   * DGPO's difficulty-aware question weights (arXiv 2601.20614, eq. 11): a softmax of −mean reward / temperature over
   * the groups with spread, times their number. Not together with `hadw`, which weights by difficulty, too. Default:
   * none.
   */
  dqw?: {
    /** The higher, the closer to 1 all weights are. Above 0. Default 2. */
    temperature?: number;
  };
}

export interface AnchorOptions {
  /**
   * `window`: the mean of the last `window` batch accuracies (the paper's hard update, eq. 134). `kalman`: C ← (1 −
   * g) C + g y with gain g = η·σ, σ the population standard deviation of the last `window` anchors (soft update, eq.
   * 8–12), clamped to [minGain, 1], because with a gain of η·σ an anchor that was constant once would stay constant
   * forever; the first `window` values are the running mean of the observations. Default `window`.
   */
  update?: 'window' | 'kalman';
  /** Batches of history. At least 1 and at most 1000000. Default 10. */
  window?: number;
  /** kalman only. At least 0. Default 1. */
  eta?: number;
  /** kalman only. Above 0 and at most 1. Default 0.05. */
  minGain?: number;
  /**
   * When the caller observes a batch: `prior` after its advantages were computed (C⁻, the paper's text), `posterior`
   * before (the batch counts in its own anchor, the authors' code). The anchor itself computes the same either way;
   * the trainer uses this to choose the order, and it is kept in the state. Default `prior`.
   */
  timing?: 'prior' | 'posterior';
}

/** Numbers and switches of calls; each call takes some of them. */
export interface CallOptions {
  /** Logits are divided by it. At least 0.000001. Default 1. */
  temperature?: number;
  /**
   * Logits are softCap · tanh(x / softCap) of the products x, as in Gemma 2 (`final_logit_softcapping`). Above 0.
   * Default: none.
   */
  softCap?: number;
  /** Maximum number of threads. Results do not depend on it. At least 1 and at most 1024. Default: one per core. */
  threads?: number;
  /**
   * The gradient is multiplied by it before it is rounded to its array's type; loss and metrics are not. float16
   * needs it with large vocabularies and denominators; a power of two keeps every bit. Divide it out again in float32
   * (docs/losses.md, "Loss scale"). The least, 2^-126, is the smallest normal float32. At least
   * 1.1754943508222875e-38. Default 1.
   */
  lossScale?: number;
  /** False: only the loss and its metrics. Default true. */
  gradient?: boolean;
  /** True: the gradient overwrites the logits and is returned in the same array. Default false. */
  inPlace?: boolean;
  /** True: the given `gradLogits` holds zeros, so rows without a gradient need not be written. Default false. */
  zeroed?: boolean;
  /**
   * False: rows that cannot have a gradient may be skipped, and the metrics `kl` and `entropy` are omitted. Default
   * true.
   */
  metrics?: boolean;
  /**
   * Rows whose logits are in memory at once, rounded up to a multiple of 128. A soft cap doubles the memory. No bit
   * of the results depends on it. Default: as many as fit in 256 MiB, at least 128.
   */
  chunkRows?: number;
}
