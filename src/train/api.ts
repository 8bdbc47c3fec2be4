// What users of the trainer write and get, in types that stand without tfjs.

import type { DeviceChoice } from '../devices/devices.js';
import type { Metrics } from '../devices/plan.js';
import type { KlEstimator } from '../devices/settings.js';
import type { AnchorOptions } from '../loss/anchor.js';
import type { AdvantageConfig, LossConfig } from '../loss/config.js';
import type { PolicyLike } from '../model/policy-like.js';
import type { AnyReward, Evaluation, Group } from '../rollout/api.js';
import type { Example, Problems } from '../tasks/task.js';

export interface OptimizerOptions {
  /** Default 3e-4. */
  learningRate?: number;
  /** Updates over which the learning rate rises linearly to its full value. Default 0: full from the first update. */
  warmupSteps?: number;
  /** How the learning rate goes on after its warm-up, to 0 at `totalSteps`. Default `constant`. */
  schedule?: 'constant' | 'linear' | 'cosine';
  /** Updates after which `linear` and `cosine` have reached 0; needed with those. */
  totalSteps?: number;
  /** Decay rates of the running means of the gradient and of its square. Default [0.9, 0.999]. */
  betas?: readonly [number, number];
  /** Added to the root of the mean square. Default 1e-8. */
  epsilon?: number;
  /** Share of a weight that decays an update, times the learning rate. Gains (rank 1) do not decay. Default 0. */
  weightDecay?: number;
  /** The gradient of all variables together is scaled down to this norm where it is larger. Default 1. */
  maxGradientNorm?: number;
}

/** Supervised learning on the task's own solutions before the first step of reinforcement. */
export interface WarmStartOptions {
  /** Updates at most. */
  steps: number;
  /** Solutions an update. Default 32. */
  batchSize?: number;
  /** Ends it early, when this share of `problems` is right by greedy generation. Default: it does not end early. */
  until?: number;
  /** Updates between two looks at `until`. Default 25. */
  every?: number;
  /** Problems of such a look, drawn behind those that the warm start may learn from. Default 128. */
  problems?: number;
  optimizer?: OptimizerOptions;
}

export interface TrainerOptions<E extends Example = Example> {
  /** `TransformerPolicy.create(…)`, or a model of one's own through `definePolicy` of groupgrad/tfjs. */
  policy: PolicyLike | Promise<PolicyLike>;
  /** A task, or a `dataset`. Problems without a score of their own are scored by the first reward that grades. */
  train: Problems<E>;
  /** What to evaluate on, by name. */
  evaluate?: Readonly<Record<string, Problems>>;
  /** At least one of whole completions with a weight other than 0. Default: one reward, `accuracy`, the task's own score. */
  rewards?: readonly AnyReward<E>[];

  /** Default 16. */
  promptsPerStep?: number;
  /** Completions a prompt, at least 2. Default 8. */
  groupSize?: number;
  /** Times that a step goes over its completions (TRL's num_iterations, µ of the GRPO paper). Default 1. */
  iterations?: number;
  /** Updates an iteration: the completions are shuffled and dealt out to as many mini-batches. Default 1. */
  miniBatches?: number;
  /**
   * Completions per forward and backward pass at most; a mini-batch adds up as many passes as it takes. Default: as many as
   * `tokensPerMicroBatch` allows.
   */
  microBatchSize?: number;
  /**
   * Tokens per forward and backward pass at most, prompts and padding included: bounds its memory. A mini-batch is sorted by
   * length, the longest completions first, and each pass padded to its own longest, rounded up to a multiple of 4; a single
   * completion may be longer. Default: 4 billion divided by the number of parameters, because signals have to wait for the
   * end of a pass; no limit where `microBatchSize` is given.
   */
  tokensPerMicroBatch?: number;
  /**
   * DAPO's dynamic sampling (arXiv 2503.14476): a step samples up to `maxRounds` times `promptsPerStep` prompts, until as
   * many groups are wanted; it learns from those, and from others only for want of them. Default: none.
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
  /** Shuffle the examples of a task that has an end, anew each time around. Default true. */
  shuffle?: boolean;

  /** Default `presets.dapo`. */
  loss?: LossConfig;
  /** Advantages but for their groups and HA-DW; defaults as `computeAdvantages`. */
  advantage?: Omit<AdvantageConfig, 'groupSize' | 'groupSizes' | 'hadw'> & {
    /**
     * What becomes of several rewards. `sum-then-normalize` (default): advantages are of their weighted sum. `normalize-then-sum`:
     * GDPO (arXiv 2601.05242), `computeDecoupledAdvantages`; a group counts as one whose rewards differ where any of them does.
     */
    multiObjective?: 'sum-then-normalize' | 'normalize-then-sum';
  };
  /**
   * History-aware difficulty weighting: λ, and the anchor, which observes every completion sampled. Left out: none. With
   * the anchor `none` every weight is λ: a control, which tells what λ does from what the history does.
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
     * Tokens of a completion at most, its end token included. Default: as many as the task's longest solution has characters, and
     * the end token; 256 where the task does not say.
     */
    maxTokens?: number;
    /** Tokens of a prompt at most. Default: the task's longest prompt for a policy of characters that is told, else 512. */
    promptLength?: number;
    /**
     * Log-probs of the sampler are compared with those of the loss before the first update of a step; a larger difference
     * than this is an error. Default 0.1. On the backend groupgrad any difference is an error where the policy
     * `decodesExactly`.
     */
    maxLogProbDifference?: number;
    /**
     * Cut the distribution that training samples from: to the `topK` most likely tokens, of those to the fewest whose share reaches
     * `topP`, of those to the ones at least `minP` times as likely as the most likely. The tokens that a cut leaves travel with
     * each completion, and log-probs, ratios, KL and entropies are of the distribution over them. Default: no cut. Evaluation
     * takes the most likely token.
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
     * Examples of each task at most; of a task with an end as many, spread evenly over it. Default: all of a task with an end, 256
     * of one without.
     */
    size?: number;
    /** Also before the first step. Default true. */
    atStart?: boolean;
    /** Completions a problem. With several there are pass@k, the vote and the share truncated too. Default 1. */
    samples?: number;
    /** Default: 0, always the most likely token, for one completion a problem, else 1. */
    temperature?: number;
    /** The share of probability that tokens are drawn from, above 0 and at most 1. Default 1. */
    topP?: number;
  };

  /** Default 0. */
  seed?: number;
  /** Of the loss. Default `auto`. */
  device?: DeviceChoice;
  /** Where the run is written. Left out: nowhere, and nothing can be resumed. */
  runDir?: string;
  /**
   * `auto` (default): go on from the newest intact checkpoint of `runDir`, if there is a run. `never`: refuse a folder that
   * holds one. Otherwise the path of a checkpoint to start from, which is copied into `runDir`.
   */
  resume?: 'auto' | 'never' | (string & {});
  /** Resume although configuration, tasks, vocabulary or backend differ from those of the run. Default false. */
  allowDrift?: boolean;
  /**
   * Take `runDir` from another process that is using it. That process then ends with an error before its next write. Default
   * false: the folder is refused while that process is alive.
   */
  takeOver?: boolean;
  checkpoint?: {
    /** Steps between two checkpoints. Default 50. */
    every?: number;
    /** The newest checkpoints that are kept, at least 1. Default 2. */
    keepLast?: number;
    /** Checkpoints of every so many steps are kept as well. Default: none. */
    keepEvery?: number;
    /** A metric, such as `eval/hard/accuracy`: a step in which it is highest so far is saved, and kept. Default: none. */
    keepBest?: string;
    /** Seconds between two checkpoints of the warm start; 0 saves after every update. Default 30. */
    warmStartSeconds?: number;
  };
  guard?: {
    /**
     * What follows a reward, log-prob, loss or gradient that is not finite. `skip` (default): the step changes nothing and
     * the run goes on with the next prompts. `rollback`: it goes on from the newest checkpoint. `halt`: it ends with an
     * error.
     */
    action?: 'skip' | 'rollback' | 'halt';
    /** How often a run may be helped like that; once more ends it. Default 10. */
    budget?: number;
  };
  /** Completions a step that are written to samples.jsonl. Default 4. */
  samplesPerStep?: number;
  /** Whatever else config.json is to say of the run: plain JSON. */
  notes?: Readonly<Record<string, unknown>>;
}

export interface GrpoStep<E extends Example = Example> {
  /** From 1. */
  index: number;
  /** As in metrics.jsonl. */
  metrics: Metrics;
  /** As in timing.jsonl: seconds, and tokens a second. */
  timing: Metrics;
  /** Every group sampled. */
  groups: Group<E>[];
  /** What has begun to go wrong with this step, in plain words; see docs/trainer.md. Usually none. */
  warnings: string[];
  /** Why the step changed nothing, where the guard skipped it or rolled the run back. */
  fault?: string;
}

export interface StepsOptions {
  /** The run ends after this many steps, those before a resumption included. Default: it does not end. */
  max?: number;
  /** Ends the run after the step at hand, which is saved. */
  signal?: AbortSignal;
  /**
   * Seconds that the running step may take to finish after `signal` has aborted. A step that takes longer is discarded, and the
   * state before it is saved. 0 discards it at once; Infinity always waits. Default 20.
   */
  grace?: number;
}

/** A stream that progress is written to, usually process.stdout; on a terminal a line stays put. */
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
  /** Steps made in all. */
  steps: number;
  /** Why the run ended: `max` was reached, `signal` was aborted, or the process was told to end. */
  ended: 'max' | 'aborted' | 'SIGHUP' | 'SIGINT' | 'SIGTERM';
  /** Of the last step; empty when there was none. */
  metrics: Metrics;
  /** Steps that changed the weights, of all that the run has made. */
  learned: number;
  /** Steps that the guard skipped, of all that the run has made. */
  skipped: number;
  /** The warnings in effect at the end. */
  warnings: string[];
}

/** A run of GRPO. */
export interface GrpoTrainer<E extends Example = Example> {
  /** Steps made so far, those before a resumption included. */
  readonly step: number;
  readonly policy: PolicyLike;
  /**
   * What there was to be told about the run folder: checkpoints passed over or not to be removed, differences allowed, files made
   * again that were removed while the run was at work; and of a warm start that ended short of its aim.
   */
  readonly notices: readonly string[];
  /** Warm start and first evaluation, where the run has not begun yet. `steps` and `run` do it by themselves. */
  start(options?: StartOptions): Promise<void>;
  /** Steps one after another. However the loop ends, the last complete step is saved. */
  steps(options?: StepsOptions): AsyncGenerator<GrpoStep<E>, void, void>;
  /**
   * Steps with progress on a terminal. On SIGINT, SIGTERM or SIGHUP the running step is finished, if that takes no longer than
   * `grace`, and saved, and `process.exitCode` is set to 130, 143 or 129. A second signal saves the state before the running step
   * and ends the process. Writes report.html.
   */
  run(options?: RunOptions): Promise<RunResult>;
  /** Completions of the tasks of `evaluate`, sampled as `evaluation` says, by name. Throws the reason of `signal` if that aborts. */
  evaluate(options?: { signal?: AbortSignal }): Promise<Record<string, Evaluation>>;
  /**
   * Saves a checkpoint of the last complete step, or of the warm start's last update, and returns its folder. May be called
   * while a step is running. Throws an Error before the run has begun.
   */
  save(): string;
  /**
   * Frees the optimiser's memory, not the policy's, and lets go of the run folder: when a step is at work, once it is complete
   * and saved. The trainer cannot be trained or saved any more. Disposing again does nothing.
   */
  dispose(): void;
}
