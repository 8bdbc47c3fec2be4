// Importance weights that correct for the difference between an engine's log-probs and the policy's own (TRL's
// vllm_importance_sampling_*).

import type { Metrics } from '../devices/plan.js';
import type { Settings } from './options.js';

/** Bounds of importance weights: settings without `correction`. */
export type ImportanceBounds = Omit<NonNullable<Settings['importanceSampling']>, 'correction'>;

/**
 * The weight of each token of a completion, from its log-probs under the policy and under the engine that sampled it.
 *
 * @returns the weights, and in `clipped` how many of them were bounded or set to 0
 */
export function importanceWeights(
  own: Float32Array,
  sampler: Float32Array,
  { mode, clipMin, clipMax }: ImportanceBounds,
): { weights: Float32Array; clipped: number } {
  const [least, most] = [clipMin ?? 0, clipMax ?? Infinity];
  const differences = Float64Array.from(own, (logProb, t) => logProb - sampler[t]);
  if (mode.startsWith('sequence')) differences.fill(differences.reduce((a, b) => a + b, 0));
  let clipped = 0;
  const weights = Float32Array.from(differences, (difference) => {
    const ratio = Math.exp(difference);
    if (ratio >= least && ratio <= most) return ratio;
    clipped++;
    return mode.endsWith('mask') ? 0 : Math.min(most, Math.max(least, ratio));
  });
  return { weights, clipped };
}

/** Collects log-prob differences and weights over the tokens of a step. */
export class Mismatch {
  private sum = 0;
  private count = 0;
  largest = 0;
  private readonly weights = { sum: 0, count: 0, clipped: 0, min: Infinity, max: -Infinity };

  add(sampler: number, own: number): void {
    const difference = Math.abs(sampler - own);
    this.sum += difference;
    this.count++;
    this.largest = Math.max(this.largest, difference);
  }

  addWeights({ weights, clipped }: { weights: Float32Array; clipped: number }): void {
    const all = this.weights;
    for (const weight of weights) {
      all.sum += weight;
      all.min = Math.min(all.min, weight);
      all.max = Math.max(all.max, weight);
    }
    all.count += weights.length;
    all.clipped += clipped;
  }

  metrics(): Metrics {
    const { sum, count, clipped, min, max } = this.weights;
    return {
      'sampling/log_prob_difference_mean': this.count === 0 ? 0 : this.sum / this.count,
      'sampling/log_prob_difference_max': this.largest,
      ...(count > 0 && {
        'sampling/importance_weight_mean': sum / count,
        'sampling/importance_weight_min': min,
        'sampling/importance_weight_max': max,
        'sampling/importance_weight_clipped': clipped / count,
      }),
    };
  }
}
