// One step of GRPO, from top to bottom: groups of completions with their rewards, advantages (with HA-DW), the fused loss with its
// gradient and the update of the weights, and the metrics.

import { rangeError } from '../base/check.js';
import { NumericFault } from '../base/numeric-fault.js';
import type { Metrics } from '../devices/plan.js';
import type { Policy } from '../model/policy.js';
import type { AnyReward, Group } from '../rollout/api.js';
import type { RolloutEngine } from '../rollout/engine.js';
import { rolloutMetrics, type SamplingProgress, sampleGroups } from '../rollout/rollout.js';
import type { TokenTask } from '../rollout/token-task.js';
import type { Example } from '../tasks/task.js';
import { assignAdvantages } from './advantages.js';
import type { GroupChoice } from './choice.js';
import { secondsSince } from './clock.js';
import { addKlReward } from './kl-reward.js';
import { type Learner, learn } from './learn.js';
import type { Settings } from './options.js';
import type { ExampleOrder } from './order.js';
import type { RewardWeights } from './reward-weights.js';
import type { TrainingState } from './training-state.js';
import { globalNorm } from './update.js';

/** What a step needs. It changes `state` and the policy's weights. */
export interface StepParts<E extends Example> {
  readonly policy: Policy;
  readonly settings: Settings;
  readonly task: TokenTask<E>;
  readonly order: ExampleOrder<E>;
  readonly rewards: readonly AnyReward<E>[];
  /** The weights of `rewards` and of the KL reward. */
  readonly weights: RewardWeights;
  readonly choice: GroupChoice;
  readonly state: TrainingState;
  /** The rollout engine, with the current weights. Adds the time that updating it took to `timing`. */
  engineAt(timing: Metrics, signal: AbortSignal): Promise<RolloutEngine>;
  /** Metrics of all evaluations. */
  evaluate(signal: AbortSignal): Promise<Metrics>;
  /** Called while the step samples; `began` is when this round of sampling began, by `performance.now()`. */
  onSampling(step: number, began: number, progress: SamplingProgress): void;
}

/**
 * Runs the step after `state.counters.step`, which began at `began` by `performance.now()`. Adds sampled groups to `groups` as they
 * arrive. A failure leaves the state partly changed: the caller has to restore it.
 * @throws NumericFault for a reward, loss, gradient or weight that is not finite; the signal's reason.
 */
export async function makeStep<E extends Example>(
  parts: StepParts<E>,
  groups: Group<E>[],
  began: number,
  signal: AbortSignal,
): Promise<{ metrics: Metrics; timing: Metrics }> {
  const { policy, settings, state, choice, weights } = parts;
  const step = state.counters.step + 1;
  const timing: Metrics = {};

  Object.assign(timing, await sample(parts, groups, step, signal));
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
    'groups/resampled': groups.length - settings.promptsPerStep,
    ...evaluated,
  };
  requireMetric(settings.checkpoint.keepBest, metrics);
  timing.tokens_per_second = metrics.tokens / timing['time/step'];
  return { metrics, timing };
}

/** Samples rounds of prompts until there are enough groups that meet the condition of dynamic sampling. Returns the times taken. */
async function sample<E extends Example>(
  parts: StepParts<E>,
  groups: Group<E>[],
  step: number,
  signal: AbortSignal,
): Promise<Metrics> {
  const { policy, settings, task, order, rewards, choice, state, onSampling } = parts;
  const { promptsPerStep, groupSize, dynamicSampling, sampling, seed } = settings;
  const timing: Metrics & Record<'time/sampling' | 'time/rewards', number> = { 'time/sampling': 0, 'time/rewards': 0 };
  const engine = await parts.engineAt(timing, signal);
  for (let round = 0; round < dynamicSampling.maxRounds; round++) {
    const examples = Array.from({ length: promptsPerStep }, () => order.at(state.counters.cursor++));
    const began = performance.now();
    let sampled = { at: began, rewardSeconds: 0 };
    const more = await sampleGroups(policy, task, examples, {
      groupSize,
      temperature: sampling.temperature,
      topP: sampling.topP ?? undefined,
      topK: sampling.topK ?? undefined,
      minP: sampling.minP ?? undefined,
      seed,
      step,
      firstPrompt: groups.length,
      rewards,
      signal,
      engine,
      onProgress: (progress) => onSampling(step, began, progress),
      onSampled: (found, { rewardSeconds }) => {
        groups.push(...found);
        sampled = { at: performance.now(), rewardSeconds };
      },
    });
    await addKlReward(more, learnerOf(parts, signal));
    // Rewards that are computed while the sampler runs take no extra time, unless they occupy the thread.
    timing['time/sampling'] += (sampled.at - began) / 1e3 - sampled.rewardSeconds;
    timing['time/rewards'] += secondsSince(sampled.at) + sampled.rewardSeconds;
    if (choice.areEnough(groups)) break;
  }
  return timing;
}

function learnerOf<E extends Example>({ policy, settings, task, state }: StepParts<E>, signal: AbortSignal): Learner {
  const { promptLength, maxTokens } = task;
  const { optimizer, reference } = state;
  return { policy, optimizer, reference, settings, promptLength, maxTokens, signal };
}

function requireFiniteWeights({ variables }: Policy): void {
  if (!Number.isFinite(globalNorm(Object.values(variables)))) {
    throw new NumericFault('expected finite weights after the update, got non-finite ones');
  }
}

/** `keepBest` must be one of a step's metrics; those of evaluations and difficulties are not present in every step. */
function requireMetric(keepBest: string | null, metrics: Metrics): void {
  if (keepBest === null || keepBest in metrics || /^(eval|accuracy)\//.test(keepBest)) return;
  throw rangeError('checkpoint.keepBest', `a metric (${Object.keys(metrics).join(', ')})`, `'${keepBest}'`);
}
