// Written by `npm run option-types` from src/train/schema.ts, where changes belong.

import type { AnchorOptions, LossConfig } from '../loss/option-types.js';

export interface OptimizerOptions {
  /** At least 0. Default 0.0003. */
  learningRate?: number;
  /** Updates over which the learning rate rises linearly to its full value. At least 0. Default 0. */
  warmupSteps?: number;
  /** The learning rate after the warm-up: constant, or falling to 0 at `totalSteps`. Default `constant`. */
  schedule?: 'constant' | 'linear' | 'cosine';
  /** Updates after which `linear` and `cosine` reach 0; required with those, and more than `warmupSteps`. */
  totalSteps?: number;
  /** Decay rates of the running means of the gradient and its square. Default [0.9, 0.999]. */
  betas?: readonly [number, number];
  /** Added to the root of the mean square. Above 0. Default 1e-8. */
  epsilon?: number;
  /**
   * Decoupled weight decay: each update subtracts this times the learning rate times the weight. Gains (rank 1) do
   * not decay. At least 0. Default 0.
   */
  weightDecay?: number;
  /** Clips the global norm of the gradient. Above 0. Default 1. */
  maxGradientNorm?: number;
}

/** Supervised fine-tuning on the task's own solutions before the first step of reinforcement. */
export interface WarmStartOptions {
  /** Maximum number of updates. */
  steps: number;
  /** Solutions per update. Default 32. */
  batchSize?: number;
  /**
   * Stops early when this share of `problems` is right under greedy decoding. Above 0 and at most 1. Default: no
   * early stop.
   */
  until?: number;
  /** Updates between two checks of `until`. Default 25. */
  every?: number;
  /** Problems per check, taken after those that the warm start may learn from. Default 128. */
  problems?: number;
  optimizer?: OptimizerOptions;
}

/**
 * Importance weights for completions of another engine, whose log-probs differ from the policy's own: the probability
 * under the policy over that under the engine. They multiply the surrogate of each token (`tokenWeights`), as TRL's
 * do.
 */
export interface ImportanceSamplingOptions {
  /**
   * With false there are no weights, and the engine's log-probs serve as the old log-probs of the loss. Default true.
   */
  correction?: boolean;
  /**
   * With `token_*` each token has its own weight; with `sequence_*` all tokens of a completion have the product of
   * theirs. `*_truncate` bounds weights to [clipMin, clipMax]; `*_mask` sets those outside to 0. Default
   * `sequence_mask`.
   */
  mode?: 'token_truncate' | 'token_mask' | 'sequence_truncate' | 'sequence_mask';
  /** At least 0. Default: no lower bound. */
  clipMin?: number;
  /** Above 0; null: no upper bound. Default 3. */
  clipMax?: number | null;
}

/** How advantages are computed, apart from groups and HA-DW. */
export interface AdvantageOptions {
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
  /**
   * DGPO's difficulty-aware question weights (arXiv 2601.20614, eq. 11): a softmax of −mean reward / temperature over
   * the groups with spread, times their number. Not together with `hadw`, which weights by difficulty, too. Default:
   * none.
   */
  dqw?: {
    /** The higher, the closer to 1 all weights are. Above 0. Default 2. */
    temperature?: number;
  };
  /**
   * How several rewards become advantages. `sum-then-normalize`: advantages of their weighted sum.
   * `normalize-then-sum`: GDPO (arXiv 2601.05242), `computeDecoupledAdvantages`; the rewards of a group count as
   * different if any of them differs. Default `sum-then-normalize`.
   */
  multiObjective?: 'sum-then-normalize' | 'normalize-then-sum';
}

/** The settings of a trainer: numbers and names, as a configuration file holds them. */
export interface TrainerSettings {
  /** Default 16. */
  promptsPerStep?: number;
  /** Completions per prompt. At least 2. Default 8. */
  groupSize?: number;
  /** Passes of a step over its completions (TRL's num_iterations, µ in the GRPO paper). Default 1. */
  iterations?: number;
  /** Updates per iteration: the completions are shuffled and divided into this many mini-batches. Default 1. */
  miniBatches?: number;
  /**
   * Maximum completions per forward and backward pass; a mini-batch accumulates as many passes as it needs. Default:
   * as many as `tokensPerMicroBatch` allows.
   */
  microBatchSize?: number;
  /**
   * Maximum tokens per forward and backward pass, prompts and padding included: bounds its memory. A mini-batch is
   * sorted by length, the longest completions first, and each pass padded to its own longest, rounded up to a
   * multiple of 4; a single completion may be longer. Default 4 billion divided by the number of parameters, because
   * signals have to wait for the end of a pass; on the backend `groupgrad` at least 2048, or 300 billion divided by
   * the number of parameters if that is smaller; no limit if `microBatchSize` is given.
   */
  tokensPerMicroBatch?: number;
  /**
   * DAPO's dynamic sampling (arXiv 2503.14476): a step samples up to `maxRounds` times `promptsPerStep` prompts,
   * until `promptsPerStep` groups are accepted; it learns from those, and from others only if there are too few.
   * Default: none.
   */
  dynamicSampling?: {
    maxRounds: number;
    /**
     * What must differ within an accepted group: `reward`, `accuracy` (the task's score, as the metric of that name),
     * or a single reward, `rewards/<name>`, which may have weight 0. Default `reward`.
     */
    metric?: 'reward' | 'accuracy' | `rewards/${string}`;
    /** Lowest mean of the metric over an accepted group. Default: no bound. */
    min?: number;
    /** Highest mean of the metric over an accepted group. Default: no bound. */
    max?: number;
  };
  /**
   * How many steps early the completions of a step are begun, by the weights of that time, while the steps before it
   * train. With 0 each step waits for its own. Only with a `rollout` engine that keeps earlier weights, such as
   * `vllm` and `sglang`: the policy's own sampler cannot sample while it trains. Only 0 with several processes
   * (`communicator`). Default 0.
   */
  maxStaleness?: number;
  /**
   * Groups whose rewards are all equal have no advantage. `count`: their tokens and sequences still count in the
   * denominators of the loss, and in its KL and entropy terms. `drop`: they are left out of the loss, unless all
   * groups of a step are like that. Needs an `advantage.center` other than 'none'. Default `count`.
   */
  zeroStdGroups?: 'count' | 'drop';
  /** Leave truncated completions out of the loss. Default false. */
  maskTruncated?: boolean;
  /** Shuffle the examples of a finite task, in a new order each epoch. Default true. */
  shuffle?: boolean;
  /** Default `presets.dapo`. */
  loss?: LossConfig;
  /** How advantages are computed. */
  advantage?: AdvantageOptions;
  /**
   * History-aware difficulty weighting: λ, and the anchor, which observes every sampled completion. Default: none.
   */
  hadw?: {
    /** λ. Above 0. Default 1.3. */
    scale?: number;
    /**
     * Its options, or `none`: then every weight is λ, a control that separates the effect of λ from that of the
     * history.
     */
    anchor?: AnchorOptions | 'none';
  };
  /**
   * The KL divergence from the reference policy (the policy before reinforcement) as one more reward, with the name
   * `kl` and the weight −`beta`: the sum over a completion's tokens of the estimator at the policy that sampled it.
   * It makes the rewards of a group differ almost always, so dynamic sampling then needs a `metric`. Default: none.
   */
  klReward?: {
    /** Above 0. */
    beta: number;
    /** Default `k1`. */
    estimator?: 'k1' | 'k2' | 'k3';
  };
  sampling?: {
    /** The loss uses the same. At least 0.000001. Default 1. */
    temperature?: number;
    /**
     * Maximum length of a completion in tokens, its end token included. Default: the number of characters of the
     * task's longest solution plus the end token; 256 if the task does not say.
     */
    maxTokens?: number;
    /**
     * Maximum length of a prompt in tokens. Default: the task's longest prompt for a character-level policy if the
     * task says it, else 512.
     */
    promptLength?: number;
    /**
     * Log-probs of the sampler are compared with those of the loss before the first update of a step; a larger
     * difference than this is an error. With `rollout` a larger difference is a warning, and nothing for completions
     * of older weights (`maxStaleness`). On the backend groupgrad any difference is an error if the policy
     * `decodesExactly`. Above 0. Default 0.1.
     */
    maxLogProbDifference?: number;
    /**
     * Truncates the distribution that training samples from to the fewest tokens whose probability reaches this, of
     * those that `topK` leaves. The kept tokens are stored with each completion, and log-probs, ratios, KL and
     * entropies are those of the distribution over them. Evaluations are not affected. Above 0 and at most 1.
     * Default: no truncation.
     */
    topP?: number;
    /** Truncates the distribution, as `topP` does, to this many most likely tokens. Default: no truncation. */
    topK?: number;
    /**
     * Truncates the distribution, after `topK` and `topP`, to tokens at least this many times as likely as the most
     * likely. At least 0 and at most 1. Default: no truncation.
     */
    minP?: number;
    /** Ids that end a completion like the end tokens of the policy. Default: none. */
    stopTokens?: readonly number[];
    /** A completion ends with the token that completes one of these texts, which stays part of it. Default: none. */
    stopTexts?: readonly string[];
  };
  /**
   * Importance weights for completions of another engine, whose log-probs differ from the policy's own: the
   * probability under the policy over that under the engine. They multiply the surrogate of each token
   * (`tokenWeights`), as TRL's do. Default: weights with the defaults below; only with `rollout`.
   */
  importanceSampling?: ImportanceSamplingOptions;
  optimizer?: OptimizerOptions;
  /** Supervised fine-tuning on the task's own solutions before the first step of reinforcement. Default: none. */
  warmStart?: WarmStartOptions;
  evaluation?: {
    /** Steps between two evaluations. Default 50. */
    every?: number;
    /**
     * Maximum number of examples per task; those of a finite task are spread evenly over it. Default: all of a finite
     * task, 256 of an infinite one.
     */
    size?: number;
    /** Also evaluate before the first step. Default true. */
    atStart?: boolean;
    /**
     * Completions per problem. With several, pass@k, the majority vote and the truncated share are reported too.
     * Default 1.
     */
    samples?: number;
    /** At least 0. Default 0 (greedy) for one completion per problem, else 1. */
    temperature?: number;
    /** Nucleus sampling: the probability mass that tokens are drawn from. Above 0 and at most 1. Default 1. */
    topP?: number;
  };
  /** At least 0. Default 0. */
  seed?: number;
  /** Device of the loss. Default `auto`. */
  device?: 'auto' | 'cuda' | 'cpu' | 'reference';
  checkpoint?: {
    /** Steps between two checkpoints. Default 50. */
    every?: number;
    /** How many of the newest checkpoints are kept. Default 2. */
    keepLast?: number;
    /** Also keep the checkpoints of every multiple of this many steps. Default: none. */
    keepEvery?: number;
    /**
     * A metric, such as `eval/hard/accuracy`: the step in which it is highest so far is saved and kept. Default:
     * none.
     */
    keepBest?: string;
    /** Seconds between two checkpoints of the warm start; 0 saves after every update. At least 0. Default 30. */
    warmStartSeconds?: number;
  };
  guard?: {
    /**
     * What to do after a reward, log-prob, loss or gradient that is not finite. `skip`: discard the step and continue
     * with the next prompts. `rollback`: continue from the newest checkpoint. `halt`: end with an error. Default
     * `skip`.
     */
    action?: 'skip' | 'rollback' | 'halt';
    /** How many times this may happen; the next time ends the run. At least 0. Default 10. */
    budget?: number;
  };
  /** Completions per step that are written to samples.jsonl. At least 0. Default 4. */
  samplesPerStep?: number;
}
