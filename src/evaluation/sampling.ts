// How the completions of an evaluation are sampled.

import { rangeError } from '../base/check.js';

export interface EvaluationSampling {
  /** Completions a problem. */
  samples: number;
  /** 0: always the most likely token; then there is one completion a problem. */
  temperature: number;
  /** The share of probability that tokens are drawn from; 1: all of it. */
  topP: number;
  seed: number;
}

/** Always the most likely token. */
export const greedy: EvaluationSampling = { samples: 1, temperature: 0, topP: 1, seed: 0 };

/** The temperature where none is given. */
export function usualTemperature(samples: number): number {
  return samples === 1 ? greedy.temperature : 1;
}

/** RangeError, within `at`, for several completions that would be one and the same. */
export function checkEvaluationSampling<T extends Omit<EvaluationSampling, 'seed'>>(at: string, sampling: T): T {
  const { samples, temperature } = sampling;
  if (samples > 1 && temperature === 0) {
    throw rangeError(`${at}temperature`, `a number above 0 for ${samples} samples, which would all be the same`, '0');
  }
  return sampling;
}
