// The KL divergence from the reference policy as one of the rewards of a completion, instead of a term of the loss.

import { NumericFault } from '../base/numeric-fault.js';
import { klEstimate } from '../devices/reference/kl.js';
import type { Group, ScoredCompletion } from '../rollout/api.js';
import { type Learner, referenceLogProbs } from './learn.js';
import type { Settings } from './options.js';

/** Name of the KL reward among the rewards of a completion. */
export const klRewardName = 'kl';

/**
 * Adds to each completion's rewards its KL estimate, summed over its tokens under the policy that sampled it, and subtracts beta times
 * the estimate from its reward. Completions without a verdict are left as they are. NumericFault if a reward is then not finite in
 * float32; the reason of `learner.signal` when it aborts.
 */
export async function addKlReward(groups: readonly Group[], learner: Learner): Promise<void> {
  const { settings } = learner;
  const { klReward } = settings;
  if (!klReward) return;
  const rows = groups.flatMap(({ prompt, completions }) => completions.map((completion) => ({ prompt, completion })));
  // Includes completions that the loss leaves out, because they count in the means of their groups.
  const all = { ...learner, settings: { ...settings, maskTruncated: false } };
  const reference = await referenceLogProbs(rows, all);
  for (const { completion } of rows) {
    if (Number.isNaN(completion.reward)) {
      completion.rewards[klRewardName] = null;
      continue;
    }
    const kl = klOf(completion, reference.get(completion)!, klReward.estimator);
    completion.rewards[klRewardName] = kl;
    completion.reward -= klReward.beta * kl;
    if (!Number.isFinite(Math.fround(completion.reward))) {
      throw new NumericFault(`klReward: expected a reward finite in float32, got ${completion.reward}`);
    }
  }
}

function klOf(
  { logProbs }: ScoredCompletion,
  reference: Float32Array,
  estimator: NonNullable<Settings['klReward']>['estimator'],
): number {
  return logProbs.reduce((sum, logProb, t) => sum + klEstimate(estimator, reference[t] - logProb), 0);
}
