// The contents of a checkpoint, apart from the run's configuration.

import type { AnchorState } from '../loss/anchor.js';
import type { TensorSource } from '../weights/tensor-source.js';

/** The state that warnings depend on, besides a step's own metrics: plain JSON, with null for values that are not finite. */
export interface Health {
  /** Number of steps that changed the weights. */
  learned: number;
  /** Number of steps that the guard did not skip. */
  made: number;
  /** The watched metrics of the first of those steps, and of the newest. */
  first: WatchedMetrics[];
  recent: WatchedMetrics[];
  /** The highest mean accuracy over as many steps as `recent` can hold; null before there was one. */
  bestAccuracy: number | null;
  /** The warnings in effect by name, in the order in which they began. */
  warnings: Record<string, WarningState>;
}

export type WatchedMetrics = Record<string, number | null>;

export interface WarningState {
  text: string;
  /** Steps since its condition last held. */
  quiet: number;
}

/** Counts of a run: plain JSON. */
export interface Counters {
  /** Number of steps. */
  step: number;
  /** Number of examples taken. */
  cursor: number;
  /** Number of faults that the guard caught. */
  faults: number;
  /** Seconds of training, including those before the run was resumed. */
  seconds: number;
  /** The highest value of `checkpoint.keepBest`'s metric, and its step. */
  best: { metric: string; step: number; value: number } | null;
  health: Health;
}

/** The contents of a checkpoint. */
export interface SavedState {
  weights: TensorSource;
  optimizer: TensorSource;
  /** null without a KL term, and if the reference is the policy without its adapter. */
  reference: TensorSource | null;
  /** Additional files for other programs, by name; written, but not read again. */
  files: Readonly<Record<string, Iterable<Uint8Array>>>;
  /** Whether the warm start is not finished: `optimizer` and `counters.updates` are then those of its own optimizer. */
  isWarmStart: boolean;
  counters: Counters & { updates: number; anchor: AnchorState | null };
}
