// The HA-DW difficulty anchor: a running estimate of how often the policy is right (arXiv 2601.08521, section 3.1).

import { checkNumber, checkObject, typeError } from '../base/check.js';
import { choice, count, number, resolveFields } from '../base/schema.js';
import { mean } from '../base/statistics.js';
import type { AnchorOptions } from './option-types.js';

export const anchorFields = {
  update: choice(['window', 'kalman'], {
    default: 'window',
    doc: "`window`: the mean of the last `window` batch accuracies (the paper's hard update, eq. 134). `kalman`: C ← (1 − g) C + g y with gain g = η·σ, σ the population standard deviation of the last `window` anchors (soft update, eq. 8–12), clamped to [minGain, 1], because with a gain of η·σ an anchor that was constant once would stay constant forever; the first `window` values are the running mean of the observations.",
  }),
  window: count({ default: 10, max: 1e6, doc: 'Batches of history.' }),
  eta: number({ default: 1, min: 0, doc: 'kalman only.' }),
  minGain: number({ default: 0.05, above: 0, max: 1, doc: 'kalman only.' }),
  timing: choice(['prior', 'posterior'], {
    default: 'prior',
    doc: "When the caller observes a batch: `prior` after its advantages were computed (C⁻, the paper's text), `posterior` before (the batch counts in its own anchor, the authors' code). The anchor itself computes the same either way; the trainer uses this to choose the order, and it is kept in the state.",
  }),
};

/** A {@link DifficultyAnchor} as JSON: options and history. Save it with every checkpoint. */
export interface AnchorState extends Required<AnchorOptions> {
  /** Number of batches observed. */
  observed: number;
  /** window: the last accuracies; kalman: the last anchors. Oldest first, at most `window`. */
  history: number[];
}

/**
 * Tracks the policy's level over batches. `value` is undefined before the first observation: HA-DW then uses the batch's
 * own mean.
 * @throws TypeError or RangeError that names the option.
 */
export class DifficultyAnchor {
  #state: AnchorState;

  constructor(options: AnchorOptions = {}) {
    this.#state = { ...resolveFields(anchorFields, 'options', options), observed: 0, history: [] };
  }

  get timing(): 'prior' | 'posterior' {
    return this.#state.timing;
  }

  /** The anchor C, in the rewards' unit; undefined before the first observation. */
  get value(): number | undefined {
    const { update, history } = this.#state;
    if (history.length === 0) return undefined;
    return update === 'window' ? mean(history) : history[history.length - 1];
  }

  /** Records one batch: the mean raw reward over the whole batch (all processes), before any KL shaping. */
  observe(accuracy: number): void {
    const y = checkNumber('accuracy', accuracy);
    const state = this.#state;
    const { update, window, eta, minGain, history, observed } = state;
    let next = y;
    if (update === 'kalman' && observed > 0) {
      const current = history[history.length - 1];
      const gain =
        observed < window ? 1 / (observed + 1) : Math.min(1, Math.max(minGain, eta * populationStd(history)));
      next = current + gain * (y - current);
    }
    state.observed = observed + 1;
    state.history = [...history, next].slice(-window);
  }

  toJSON(): AnchorState {
    return { ...this.#state, history: [...this.#state.history] };
  }

  /** Restores an anchor from {@link toJSON}. */
  static fromJSON(state: AnchorState): DifficultyAnchor {
    const s = { ...checkObject('state', state) };
    const anchor = new DifficultyAnchor(resolveFields(anchorFields, 'state', s, ['observed', 'history']));
    const { observed, history } = s;
    if (!Array.isArray(history)) throw typeError('state.history', 'an array of numbers', history);
    const values = history.map((v, i) => checkNumber(`state.history[${i}]`, v));
    const count = checkNumber('state.observed', observed, { min: 0, integer: true });
    const expected = Math.min(count, anchor.#state.window);
    if (values.length !== expected) {
      throw new RangeError(
        `state.history: expected ${expected} values after ${count} observations, got ${values.length}`,
      );
    }
    anchor.#state.observed = count;
    anchor.#state.history = values;
    return anchor;
  }
}

function populationStd(values: readonly number[]): number {
  const center = mean(values);
  return Math.sqrt(mean(values.map((v) => (v - center) ** 2)));
}
