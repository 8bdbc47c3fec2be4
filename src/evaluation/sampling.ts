// How the completions of an evaluation are sampled.

import { rangeError } from '../base/check.js';

export interface EvaluationSampling {
  /** Completions per problem. */
  samples: number;
  /** 0: greedy decoding, with one completion per problem. */
  temperature: number;
  /** Nucleus sampling: the probability mass that tokens are drawn from; 1: all of it. */
  topP: number;
  seed: number;
}

/** Greedy decoding. */
export const greedy: EvaluationSampling = { samples: 1, temperature: 0, topP: 1, seed: 0 };

/** The default temperature. */
export function usualTemperature(samples: number): number {
  return samples === 1 ? greedy.temperature : 1;
}

/** RangeError, with the prefix `at`, for several completions that would be identical. */
export function checkEvaluationSampling<T extends Omit<EvaluationSampling, 'seed'>>(at: string, sampling: T): T {
  const { samples, temperature } = sampling;
  if (samples > 1 && temperature === 0) {
    throw rangeError(`${at}temperature`, `a number above 0 for ${samples} samples, which would all be the same`, '0');
  }
  return sampling;
}
