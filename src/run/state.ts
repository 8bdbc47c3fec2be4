// What a checkpoint keeps of a run besides its configuration.

import type { AnchorState } from '../loss/anchor.js';
import type { TensorSource } from '../weights/tensor-source.js';

/** What warnings depend on, besides a step's own metrics: plain JSON, in which null stands for what is not finite. */
export interface Health {
  /** Steps that changed the weights. */
  learned: number;
  /** Steps that the guard did not skip. */
  made: number;
  /** Of the first of those, and of the newest steps: the metrics that are watched. */
  first: WatchedMetrics[];
  recent: WatchedMetrics[];
  /** The highest mean accuracy over as many steps as `recent` holds at most; null before there was one. */
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
  /** Steps made. */
  step: number;
  /** Examples taken. */
  cursor: number;
  /** Times that the guard helped. */
  faults: number;
  /** Seconds of training, those before a resumption included. */
  seconds: number;
  /** The highest value of `checkpoint.keepBest`'s metric, and the step that it was reached in. */
  best: { metric: string; step: number; value: number } | null;
  health: Health;
}

/** What a checkpoint holds. */
export interface SavedState {
  weights: TensorSource;
  optimizer: TensorSource;
  /** null without a KL term, and where the policy is its own reference with its adapter off. */
  reference: TensorSource | null;
  /** Further files for others to read, by name; written, and not read again. */
  files: Readonly<Record<string, Iterable<Uint8Array>>>;
  /** Whether the warm start is not finished: `optimizer` and `counters.updates` are then those of its own optimizer. */
  isWarmStart: boolean;
  counters: Counters & { updates: number; anchor: AnchorState | null };
}
