// One step of GRPO, from top to bottom: groups of completions with their rewards, advantages (with HA-DW), the fused loss with its
// gradient and the update of the weights, and the metrics.

import { rangeError } from '../base/check.js';
import { findMetric } from '../base/metrics.js';
import { NumericFault } from '../base/numeric-fault.js';
import type { Metrics } from '../devices/plan.js';
import type { Policy } from '../model/policy.js';
import type { Group } from '../rollout/api.js';
import { rolloutMetrics } from '../rollout/rollout.js';
import type { Example } from '../tasks/task.js';
import { assignAdvantages } from './advantages.js';
import { secondsSince } from './clock.js';
import { learn } from './learn.js';
import type { RewardWeights } from './reward-weights.js';
import { learnerOf, type Rollouts, type SamplingParts, stalenessMetrics } from './rollouts.js';
import { globalNorm } from './update.js';

/** What a step is made with. It changes `state` and the policy's weights. */
export interface StepParts<E extends Example> extends SamplingParts<E> {
  /** The weights of `rewards` and of the KL reward. */
  readonly weights: RewardWeights;
  readonly rollouts: Rollouts<E>;
  /** Metrics of all evaluations. */
  evaluate(signal: AbortSignal): Promise<Metrics>;
}

/**
 * Makes the step after `state.counters.step`, which began at `began` of `performance.now()`. Adds what is sampled to `groups`, even
 * if it then fails. A failure leaves the state half changed: the caller restores it.
 * @throws NumericFault for a reward, loss, gradient or weight that is not finite; the signal's reason.
 */
export async function makeStep<E extends Example>(
  parts: StepParts<E>,
  groups: Group<E>[],
  began: number,
  signal: AbortSignal,
): Promise<{ metrics: Metrics; timing: Metrics }> {
  const { policy, settings, state, choice, weights, rollouts } = parts;
  const step = state.counters.step + 1;
  const timing: Metrics = {};

  await rollouts.begin(timing, signal);
  await rollouts.take(groups, timing, signal);
  const chosen = choice.ofStep(groups);

  const sampled = performance.now();
  const advantages = assignAdvantages(groups, chosen, settings, state.anchor, weights);
  timing['time/advantages'] = secondsSince(sampled);

  const learnt = await learn(choice.ofLoss(chosen), step, learnerOf(parts, signal));
  requireFiniteWeights(policy);
  Object.assign(timing, learnt.timing);
  timing['time/step'] = secondsSince(began);

  const evaluated = step % settings.evaluation.every === 0 ? await parts.evaluate(signal) : {};
  const metrics: Metrics = {
    ...advantages,
    frac_reward_zero_std: choice.shareWithoutSpread(groups),
    ...rolloutMetrics(groups, [...weights.whole, ...weights.steps]),
    ...learnt.metrics,
    ...stalenessMetrics(groups, step),
    'groups/resampled': groups.length - settings.promptsPerStep,
    ...evaluated,
  };
  requireMetric(settings.checkpoint.keepBest, metrics);
  timing.tokens_per_second = metrics.tokens / timing['time/step'];
  return { metrics, timing };
}

function requireFiniteWeights({ variables }: Policy): void {
  if (!Number.isFinite(globalNorm(Object.values(variables)))) {
    throw new NumericFault('expected finite weights after the update, got non-finite ones');
  }
}

/** `keepBest` must be one of a step's metrics; those of evaluations and difficulties are not present in every step. */
function requireMetric(keepBest: string | null, metrics: Metrics): void {
  if (keepBest === null || keepBest in metrics || findMetric(keepBest)?.metric.occasional) return;
  throw rangeError('checkpoint.keepBest', `a metric (${Object.keys(metrics).join(', ')})`, `'${keepBest}'`);
}
