// The options and results of the trainer, as types that do not need tfjs.

import type { Metrics } from '../devices/plan.js';
import type { PolicyLike } from '../model/policy-like.js';
import type { Communicator } from '../processes/communicator.js';
import type { AnyReward, Evaluation, Group } from '../rollout/api.js';
import type { RolloutEngine } from '../rollout/engine.js';
import type { Example, Problems } from '../tasks/task.js';
import type { TrainerSettings } from './option-types.js';

export type {
  AdvantageOptions,
  ImportanceSamplingOptions,
  OptimizerOptions,
  TrainerSettings,
  WarmStartOptions,
} from './option-types.js';

export interface TrainerOptions<E extends Example = Example> extends TrainerSettings {
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
  /**
   * Joins several processes that train one policy, each with the same options: `mpi()`, or another communicator. Each samples its share
   * of the prompts and makes its share of the passes; process 0 evaluates, logs and saves. `start`, `steps` and `run` are then to be
   * called by all, in the same order. Default: none.
   */
  communicator?: Communicator;
  /** At least one of whole completions with a weight other than 0. Default: one reward, `accuracy`, the task's own score. */
  rewards?: readonly AnyReward<E>[];
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
  /**
   * Why the run ended: `max` was reached, `signal` was aborted (of several processes: in one of them), or the process received a
   * signal.
   */
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
   * while a step is running. Throws an Error before the run has begun, and in all of several processes but the first.
   */
  save(): string;
  /**
   * Frees the optimiser's memory, not the policy's, and releases the run folder; if a step is running, once it is complete and
   * saved. The trainer cannot train or save any more. Disposing again does nothing.
   */
  dispose(): void;
}
