// The options and results of the trainer, as types that do not need tfjs.

import type { DeviceChoice } from '../devices/devices.js';
import type { Metrics } from '../devices/plan.js';
import type { KlEstimator } from '../devices/settings.js';
import type { AnchorOptions } from '../loss/anchor.js';
import type { AdvantageConfig, LossConfig } from '../loss/config.js';
import type { PolicyLike } from '../model/policy-like.js';
import type { AnyReward, Evaluation, Group } from '../rollout/api.js';
import type { RolloutEngine } from '../rollout/engine.js';
import type { Example, Problems } from '../tasks/task.js';

export interface OptimizerOptions {
  /** Default 3e-4. */
  learningRate?: number;
  /** Updates over which the learning rate rises linearly to its full value. Default 0: full from the first update. */
  warmupSteps?: number;
  /** The learning rate after the warm-up: constant, or falling to 0 at `totalSteps`. Default `constant`. */
  schedule?: 'constant' | 'linear' | 'cosine';
  /** Updates after which `linear` and `cosine` reach 0; required with those. */
  totalSteps?: number;
  /** Decay rates of the running means of the gradient and its square. Default [0.9, 0.999]. */
  betas?: readonly [number, number];
  /** Added to the root of the mean square. Default 1e-8. */
  epsilon?: number;
  /**
   * Decoupled weight decay: each update subtracts this times the learning rate times the weight. Gains (rank 1) do not decay.
   * Default 0.
   */
  weightDecay?: number;
  /** Clips the global norm of the gradient. Default 1. */
  maxGradientNorm?: number;
}

/** Supervised fine-tuning on the task's own solutions before the first step of reinforcement. */
export interface WarmStartOptions {
  /** Maximum number of updates. */
  steps: number;
  /** Solutions per update. Default 32. */
  batchSize?: number;
  /** Stops early when this share of `problems` is right under greedy decoding. Default: no early stop. */
  until?: number;
  /** Updates between two checks of `until`. Default 25. */
  every?: number;
  /** Problems per check, taken after those that the warm start may learn from. Default 128. */
  problems?: number;
  optimizer?: OptimizerOptions;
}

/** How importance weights are bounded: TRL's names. */
export const importanceSamplingModes = ['token_truncate', 'token_mask', 'sequence_truncate', 'sequence_mask'] as const;

/**
 * Importance weights for completions of another engine, whose log-probs differ from the policy's own: the probability under
 * the policy over that under the engine. They multiply the surrogate of each token (`tokenWeights`), as TRL's do. With modes
 * `token_*` each token has its own weight; with `sequence_*` all tokens of a completion have the product of theirs. `*_truncate`
 * bounds weights to [clipMin, clipMax]; `*_mask` sets those outside to 0.
 */
export interface ImportanceSamplingOptions {
  /** Default true. With false there are no weights, and the engine's log-probs are the old ones of the loss. */
  correction?: boolean;
  /** Default `sequence_mask`. */
  mode?: (typeof importanceSamplingModes)[number];
  /** At least 0. Default: no lower bound. */
  clipMin?: number | null;
  /** Above 0. Default 3. null: no upper bound. */
  clipMax?: number | null;
}

export interface TrainerOptions<E extends Example = Example> {
  /** `TransformerPolicy.create(…)`, `PretrainedPolicy.load(…)`, or your own model through `definePolicy` of groupgrad/tfjs. */
  policy: PolicyLike | Promise<PolicyLike>;
  /** A task, or a `dataset`. Problems without their own score are scored by the first reward that is a grader. */
  train: Problems<E>;
  /** What to evaluate on, by name. */
  evaluate?: Readonly<Record<string, Problems>>;
  /**
   * What samples the completions of training: `vllm(…)`, `sglang(…)`, or any other engine. Default: the policy's own sampler, which
   * samples for the warm start and for evaluations in any case.
   */
  rollout?: RolloutEngine;
  /** Only with `rollout`. */
  importanceSampling?: ImportanceSamplingOptions;
  /** At least one of whole completions with a weight other than 0. Default: one reward, `accuracy`, the task's own score. */
  rewards?: readonly AnyReward<E>[];

  /** Default 16. */
  promptsPerStep?: number;
  /** Completions per prompt, at least 2. Default 8. */
  groupSize?: number;
  /** Passes of a step over its completions (TRL's num_iterations, µ in the GRPO paper). Default 1. */
  iterations?: number;
  /** Updates per iteration: the completions are shuffled and divided into this many mini-batches. Default 1. */
  miniBatches?: number;
  /**
   * Maximum completions per forward and backward pass; a mini-batch accumulates as many passes as it needs. Default: as many as
   * `tokensPerMicroBatch` allows.
   */
  microBatchSize?: number;
  /**
   * Maximum tokens per forward and backward pass, prompts and padding included: bounds its memory. A mini-batch is sorted by
   * length, the longest completions first, and each pass padded to its own longest, rounded up to a multiple of 4; a single
   * completion may be longer. Default: 4 billion divided by the number of parameters, because signals have to wait for the end of
   * a pass; no limit if `microBatchSize` is given.
   */
  tokensPerMicroBatch?: number;
  /**
   * DAPO's dynamic sampling (arXiv 2503.14476): a step samples up to `maxRounds` times `promptsPerStep` prompts, until
   * `promptsPerStep` groups meet its condition; it learns from those, and from others only if there are too few. Default: none.
   */
  dynamicSampling?: {
    maxRounds: number;
    /**
     * What must differ within a group that is wanted: `reward` (default), `accuracy` (the task's score, as the metric of that name), or
     * a single reward, `rewards/<name>`, which may have weight 0.
     */
    metric?: 'reward' | 'accuracy' | `rewards/${string}`;
    /** Bounds of its mean over the group, both included. Default: none. */
    min?: number;
    max?: number;
  };
  /**
   * Groups whose rewards are all equal have no advantage. `count` (default): their tokens and sequences still count in the denominators of
   * the loss, and in its KL and entropy terms. `drop`: they are left out of the loss, unless it is so with all groups of a step. Needs
   * an `advantage.center` other than 'none'.
   */
  zeroStdGroups?: 'count' | 'drop';
  /** Leave truncated completions out of the loss. Default false. */
  maskTruncated?: boolean;
  /** Shuffle the examples of a finite task, in a new order each epoch. Default true. */
  shuffle?: boolean;

  /** Default `presets.dapo`. */
  loss?: LossConfig;
  /** How advantages are computed, apart from groups and HA-DW; defaults as in `computeAdvantages`. */
  advantage?: Omit<AdvantageConfig, 'groupSize' | 'groupSizes' | 'hadw'> & {
    /**
     * How several rewards become advantages. `sum-then-normalize` (default): advantages of their weighted sum. `normalize-then-sum`:
     * GDPO (arXiv 2601.05242), `computeDecoupledAdvantages`; the rewards of a group count as different if any of them differs.
     */
    multiObjective?: 'sum-then-normalize' | 'normalize-then-sum';
  };
  /**
   * History-aware difficulty weighting: λ, and the anchor, which observes every sampled completion. Default: none. With the
   * anchor `none` every weight is λ: a control that separates the effect of λ from that of the history.
   */
  hadw?: { scale?: number; anchor?: AnchorOptions | 'none' };

  /**
   * The KL divergence from the reference policy (the policy before reinforcement) as one more reward, with the name `kl` and the weight
   * −`beta`: the sum over a completion's tokens of the estimator (`k1` by default) at the policy that sampled it. It is part of every
   * group's rewards, so that these hardly ever are all equal: dynamic sampling then needs a `metric`. Default: none.
   */
  klReward?: { beta: number; estimator?: KlEstimator };

  sampling?: {
    /** Above 0; the loss uses the same. Default 1. */
    temperature?: number;
    /**
     * Maximum length of a completion in tokens, its end token included. Default: the number of characters of the task's longest
     * solution plus the end token; 256 if the task does not say.
     */
    maxTokens?: number;
    /**
     * Maximum length of a prompt in tokens. Default: the task's longest prompt for a character-level policy if the task says it,
     * else 512.
     */
    promptLength?: number;
    /**
     * Log-probs of the sampler are compared with those of the loss before the first update of a step; a larger difference
     * than this is an error. Default 0.1. On the backend groupgrad any difference is an error if the policy `decodesExactly`.
     * With `rollout` a larger difference is a warning.
     */
    maxLogProbDifference?: number;
    /**
     * Truncate the distribution that training samples from: to the `topK` most likely tokens, of those to the fewest whose
     * probability reaches `topP`, of those to the ones at least `minP` times as likely as the most likely. The kept tokens are
     * stored with each completion, and log-probs, ratios, KL and entropies are those of the distribution over them. Default: no
     * truncation. Evaluations are not affected.
     */
    topP?: number;
    topK?: number;
    minP?: number;
    /** Ids that end a completion like the end tokens of the policy. Default: none. */
    stopTokens?: readonly number[];
    /** A completion ends with the token that completes one of these texts, which stays part of it. Default: none. */
    stopTexts?: readonly string[];
  };
  optimizer?: OptimizerOptions;
  /** Default: none. */
  warmStart?: WarmStartOptions;
  evaluation?: {
    /** Steps between two evaluations. Default 50. */
    every?: number;
    /**
     * Maximum number of examples per task; those of a finite task are spread evenly over it. Default: all of a finite task, 256
     * of an infinite one.
     */
    size?: number;
    /** Also evaluate before the first step. Default true. */
    atStart?: boolean;
    /** Completions per problem. With several, pass@k, the majority vote and the truncated share are reported too. Default 1. */
    samples?: number;
    /** Default: 0 (greedy) for one completion per problem, else 1. */
    temperature?: number;
    /** Nucleus sampling: the probability mass that tokens are drawn from, above 0 and at most 1. Default 1. */
    topP?: number;
  };

  /** Default 0. */
  seed?: number;
  /** Device of the loss. Default `auto`. */
  device?: DeviceChoice;
  /** The run folder. Default: nothing is written, and the run cannot be resumed. */
  runDir?: string;
  /**
   * `auto` (default): resume from the newest intact checkpoint of `runDir`, if there is a run. `never`: reject a folder that
   * holds one. Otherwise the path of a checkpoint to start from, which is copied into `runDir`.
   */
  resume?: 'auto' | 'never' | (string & {});
  /** Resume even if configuration, tasks, vocabulary or backend differ from those of the run. Default false. */
  allowDrift?: boolean;
  /**
   * Take `runDir` from another process that is using it. That process then ends with an error before its next write. Default
   * false: the folder is rejected while that process is alive.
   */
  takeOver?: boolean;
  checkpoint?: {
    /** Steps between two checkpoints. Default 50. */
    every?: number;
    /** How many of the newest checkpoints are kept, at least 1. Default 2. */
    keepLast?: number;
    /** Also keep the checkpoints of every multiple of this many steps. Default: none. */
    keepEvery?: number;
    /** A metric, such as `eval/hard/accuracy`: the step in which it is highest so far is saved and kept. Default: none. */
    keepBest?: string;
    /** Seconds between two checkpoints of the warm start; 0 saves after every update. Default 30. */
    warmStartSeconds?: number;
  };
  guard?: {
    /**
     * What to do after a reward, log-prob, loss or gradient that is not finite. `skip` (default): discard the step and continue
     * with the next prompts. `rollback`: continue from the newest checkpoint. `halt`: end with an error.
     */
    action?: 'skip' | 'rollback' | 'halt';
    /** How many times this may happen; the next time ends the run. Default 10. */
    budget?: number;
  };
  /** Completions per step that are written to samples.jsonl. Default 4. */
  samplesPerStep?: number;
  /** Additional entries for config.json: plain JSON. */
  notes?: Readonly<Record<string, unknown>>;
}

export interface GrpoStep<E extends Example = Example> {
  /** Counted from 1. */
  index: number;
  /** As in metrics.jsonl. */
  metrics: Metrics;
  /** As in timing.jsonl: seconds, and tokens per second. */
  timing: Metrics;
  /** Every group sampled. */
  groups: Group<E>[];
  /** Problems that began with this step, in plain words; see docs/trainer.md. Usually none. */
  warnings: string[];
  /** Why the guard skipped the step or rolled the run back, if it did. */
  fault?: string;
}

export interface StepsOptions {
  /** The run ends after this many steps, including those before it was resumed. Default: it does not end. */
  max?: number;
  /** Ends the run after the current step, which is saved. */
  signal?: AbortSignal;
  /**
   * Seconds that the running step may take to finish after `signal` has aborted. A step that takes longer is discarded, and the
   * state before it is saved. 0 discards it at once; Infinity always waits. Default 20.
   */
  grace?: number;
}

/** A stream that progress is written to, usually process.stdout; on a terminal one line is updated in place. */
export interface Output {
  write(text: string): unknown;
  isTTY?: boolean;
  columns?: number;
}

export interface StartOptions {
  /** Where progress is shown. Default: nowhere. */
  output?: Output | null;
  /** Interrupts the warm start and the first evaluation. The warm start's progress is saved, and the next call continues. */
  signal?: AbortSignal;
}

export interface RunOptions extends StepsOptions {
  /** Where progress is shown; null: nowhere. Default process.stdout. */
  output?: Output | null;
  /** Called after every step. */
  onStep?: (step: GrpoStep) => void;
}

export interface RunResult {
  /** Total number of steps. */
  steps: number;
  /** Why the run ended: `max` was reached, `signal` was aborted, or the process received a signal. */
  ended: 'max' | 'aborted' | 'SIGHUP' | 'SIGINT' | 'SIGTERM';
  /** Metrics of the last step; empty if there was none. */
  metrics: Metrics;
  /** Steps that changed the weights, over the whole run. */
  learned: number;
  /** Steps that the guard skipped, over the whole run. */
  skipped: number;
  /** The warnings that still hold at the end. */
  warnings: string[];
}

/** A run of GRPO. */
export interface GrpoTrainer<E extends Example = Example> {
  /** Steps made so far, including those before the run was resumed. */
  readonly step: number;
  readonly policy: PolicyLike;
  /**
   * Notices about the run folder: checkpoints that were skipped or could not be removed, allowed differences, files that were
   * recreated after being removed during the run; and about a warm start that ended short of `until`.
   */
  readonly notices: readonly string[];
  /** Runs the warm start and the first evaluation if the run has not begun yet. `steps` and `run` call it themselves. */
  start(options?: StartOptions): Promise<void>;
  /** Steps one after another. However the loop ends, the last complete step is saved. */
  steps(options?: StepsOptions): AsyncGenerator<GrpoStep<E>, void, void>;
  /**
   * Steps with progress on a terminal. On SIGINT, SIGTERM or SIGHUP the running step is finished, if that takes no longer than
   * `grace`, and saved, and `process.exitCode` is set to 130, 143 or 129. A second signal saves the state before the running step
   * and exits. Writes report.html.
   */
  run(options?: RunOptions): Promise<RunResult>;
  /**
   * Evaluates the tasks of `evaluate` with the settings of `evaluation`; results by name. Throws the reason of `signal` if it
   * aborts.
   */
  evaluate(options?: { signal?: AbortSignal }): Promise<Record<string, Evaluation>>;
  /**
   * Saves a checkpoint of the last complete step, or of the warm start's last update, and returns its folder. May be called
   * while a step is running. Throws an Error before the run has begun.
   */
  save(): string;
  /**
   * Frees the optimiser's memory, not the policy's, and releases the run folder; if a step is running, once it is complete and
   * saved. The trainer cannot train or save any more. Disposing again does nothing.
   */
  dispose(): void;
}
