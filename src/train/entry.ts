// The trainer as the package's root exports it: TensorFlow.js, which programs that train nothing need not have, is loaded
// when a policy or a trainer is made.

import { withTfjs } from '../base/missing-tfjs.js';
import type { PolicyLike } from '../model/policy-like.js';
import type { TransformerPolicyOptions } from '../model/transformer-options.js';
import type { Example } from '../tasks/task.js';
import type { GrpoTrainer as Trainer, TrainerOptions } from './api.js';

/** A run of GRPO. */
export type GrpoTrainer<E extends Example = Example> = Trainer<E>;

export const GrpoTrainer = {
  /**
   * A trainer that begins a run, or goes on with the one that `runDir` holds.
   * @throws TypeError or RangeError that names the option, what was expected and what came; Error where a run must not be
   *   gone on with.
   */
  async create<E extends Example>(options: TrainerOptions<E>): Promise<GrpoTrainer<E>> {
    const { createTrainer } = await withTfjs('the trainer', () => import('./grpo.js'));
    return createTrainer(options);
  },
} as const;

export const TransformerPolicy = {
  /**
   * A decoder-only transformer with random weights (RMSNorm, rotary positions, SwiGLU, tied embeddings), on the fastest tfjs
   * backend that is installed unless one runs already.
   * @throws TypeError or RangeError that names the option, what was expected and what came.
   */
  async create(options: TransformerPolicyOptions): Promise<PolicyLike> {
    const { createTransformerPolicy } = await withTfjs(
      'the transformer policy',
      () => import('../model/transformer-policy.js'),
    );
    return createTransformerPolicy(options);
  },
} as const;
