// What a checkpoint keeps of a run besides its configuration.

import type { AnchorState } from '../loss/anchor.js';
import type { Arrays } from '../weights/safetensors.js';

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
}

/** What a checkpoint holds. */
export interface SavedState {
  weights: Arrays;
  optimizer: Arrays;
  /** null without a KL term. */
  reference: Arrays | null;
  counters: Counters & { updates: number; anchor: AnchorState | null };
}
