// The reference policy of the KL term and of the KL reward: the policy with its weights before reinforcement.

import * as tf from '@tensorflow/tfjs-core';
import type { Policy } from '../model/policy.js';
import type { Settings } from './options.js';

export interface Reference {
  /** Under the variables' names; omitted if the policy without its adapter is the reference. */
  readonly weights?: Readonly<Record<string, tf.Tensor>>;
  /** The result of `compute` under the reference policy. */
  with<T>(compute: () => T): T;
  dispose(): void;
}

/** Whether a run has a reference policy. */
export function needsReference({ loss, klReward }: Pick<Settings, 'loss' | 'klReward'>): boolean {
  return (loss.kl?.beta ?? 0) !== 0 || klReward !== null;
}

/** The policy's weights as they are, for later. Memory is shared until an update replaces them. */
export function holdWeights(policy: Policy): Reference {
  return new WeightsReference(policy);
}

/** The policy as it is becomes the reference; one with an adapter is it with the adapter off, whatever the adapter holds. */
export function createReference(policy: Policy): Reference {
  if (!policy.reference) return new WeightsReference(policy);
  return { with: (compute) => policy.reference!(compute), dispose: () => {} };
}

/** Owns a copy of the policy's weights: `dispose` frees it. */
class WeightsReference implements Reference {
  /** Under the variables' names. */
  readonly weights: Readonly<Record<string, tf.Tensor>>;
  private isDisposed = false;

  constructor(private readonly policy: Policy) {
    this.weights = Object.fromEntries(
      Object.entries(policy.variables).map(([name, variable]) => [name, tf.keep(tf.clone(variable))]),
    );
  }

  /** The result of `compute` with the reference's weights in the policy. They are swapped, not copied. */
  with<T>(compute: () => T): T {
    if (this.isDisposed) throw new Error('expected weights in use, got some that were disposed of');
    const entries = Object.entries(this.policy.variables);
    const own = entries.map(([, variable]) => tf.keep(tf.clone(variable)));
    try {
      for (const [name, variable] of entries) variable.assign(this.weights[name]);
      return compute();
    } finally {
      entries.forEach(([, variable], i) => {
        variable.assign(own[i]);
      });
      tf.dispose(own);
    }
  }

  dispose(): void {
    this.isDisposed = true;
    tf.dispose(this.weights as Record<string, tf.Tensor>);
  }
}
