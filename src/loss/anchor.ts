// The HA-DW difficulty anchor: a running estimate of how often the policy is right (arXiv 2601.08521, section 3.1).

import { checkChoice, checkKeys, checkNumber, checkObject, typeError } from '../base/check.js';
import { mean } from '../base/statistics.js';

export const anchorUpdates = ['window', 'kalman'] as const;
export const anchorTimings = ['prior', 'posterior'] as const;

export interface AnchorOptions {
  /**
   * `window` (default): the mean of the last `window` batch accuracies (the paper's hard update, eq. 134).
   * `kalman`: C ← (1 − g) C + g y with gain g = η·σ, σ the population standard deviation of the last `window` anchors
   * (soft update, eq. 8–12), clamped to [minGain, 1], because with a gain of η·σ an anchor that was constant once would stay
   * constant forever; the first `window` values are the running mean of the observations.
   */
  update?: (typeof anchorUpdates)[number];
  /** Batches of history. Default 10. */
  window?: number;
  /** kalman only. Default 1. */
  eta?: number;
  /** kalman only, in (0, 1]. Default 0.05. */
  minGain?: number;
  /**
   * When the caller observes a batch: `prior` (default) after its advantages were computed (C⁻, the paper's text), `posterior`
   * before (the batch counts in its own anchor, the authors' code). The anchor itself computes the same either way; the trainer
   * uses this to choose the order, and it is kept in the state.
   */
  timing?: (typeof anchorTimings)[number];
}

/** A {@link DifficultyAnchor} as JSON: options and history. Save it with every checkpoint. */
export interface AnchorState {
  update: 'window' | 'kalman';
  window: number;
  eta: number;
  minGain: number;
  timing: 'prior' | 'posterior';
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
    const o = { ...checkObject('options', options) };
    checkKeys('options', o, optionNames);
    this.#state = { ...resolveOptions('options', o), observed: 0, history: [] };
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
    checkKeys('state', s, [...optionNames, 'observed', 'history']);
    const { observed, history, ...options } = s;
    const anchor = new DifficultyAnchor(resolveOptions('state', options));
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

const optionNames = ['update', 'window', 'eta', 'minGain', 'timing'] as const;

/** Checks options and fills in their defaults; `field` is their name in messages. */
function resolveOptions(field: string, options: AnchorOptions): Required<AnchorOptions> {
  const { update = 'window', window = 10, eta = 1, minGain = 0.05, timing = 'prior' } = options;
  return {
    update: checkChoice(`${field}.update`, update, anchorUpdates),
    window: checkNumber(`${field}.window`, window, { min: 1, max: 1e6, integer: true }),
    eta: checkNumber(`${field}.eta`, eta, { min: 0 }),
    minGain: checkNumber(`${field}.minGain`, minGain, { above: 0, max: 1 }),
    timing: checkChoice(`${field}.timing`, timing, anchorTimings),
  };
}

function populationStd(values: readonly number[]): number {
  const center = mean(values);
  return Math.sqrt(mean(values.map((v) => (v - center) ** 2)));
}
