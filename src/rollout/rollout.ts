// Rollouts: groups of completions sampled for each prompt, scored and rewarded.

import { NumericFault } from '../base/numeric-fault.js';
import { mean, variance } from '../base/statistics.js';
import type { Metrics } from '../devices/plan.js';
import type { Policy } from '../model/policy.js';
import type { Example } from '../tasks/task.js';
import { completionText } from '../text/tokenizer.js';
import type { AnyReward, Group, RewardSettings, ScoredCompletion } from './api.js';
import type { Completion, RolloutEngine, RolloutOptions, SamplingSettings } from './engine.js';
import { Judging } from './rewards.js';
import { encodePrompts, type TokenTask } from './token-task.js';

export interface SamplingOptions<E extends Example = Example>
  extends Pick<SamplingSettings, 'temperature' | 'topP' | 'topK' | 'minP' | 'seed' | 'step'>,
    Pick<RolloutOptions, 'weights'> {
  /** Completions per prompt. */
  groupSize: number;
  /** Called for every completion, in addition to the task's score. Default: none. */
  rewards?: readonly AnyReward<E>[];
  /** The index of the first prompt, if a step samples its prompts in several calls. Default 0. */
  firstPrompt?: number;
  /** Interrupts sampling; its reason is thrown. */
  signal?: AbortSignal;
  /** The rollout engine. Default: the policy's own sampler. */
  engine?: RolloutEngine;
  /** Time limits of rewards begin no earlier than this. Default: once all completions are sampled. */
  limitsFrom?: Promise<void>;
  /** Called once all completions are sampled, with groups that are still without scores and rewards. */
  onSampled?: (groups: readonly Group<E>[], progress: SamplingProgress) => void;
  /** Called whenever a completion has been sampled or rewarded. */
  onProgress?: (progress: SamplingProgress) => void;
}

export interface SamplingProgress {
  /** Total number of completions. */
  all: number;
  sampled: number;
  /** How many have their score and rewards. */
  rewarded: number;
  /** Seconds for which scores and rewards have occupied the thread. */
  rewardSeconds: number;
}

/**
 * Samples a group for each example, in order, and computes scores and rewards of completions while others are sampled. Results
 * do not depend on timing. A failing score or reward is thrown once all completions are sampled; see `Judging.finish` for the
 * possible errors. NumericFault also if the sum of a completion's rewards is not finite in float32, the precision of the
 * devices.
 */
export async function sampleGroups<E extends Example>(
  policy: Policy,
  task: TokenTask<E>,
  examples: readonly E[],
  {
    groupSize,
    rewards = [],
    firstPrompt = 0,
    engine,
    limitsFrom,
    onSampled,
    onProgress,
    ...options
  }: SamplingOptions<E>,
): Promise<Group<E>[]> {
  const { promptLength, maxTokens, stopTokens, stopTexts, tokenizer } = task;
  const prompts = await encodePrompts(task, examples);
  const requests = prompts.flatMap((prompt, i) =>
    Array.from({ length: groupSize }, (_, sample) => ({ prompt, promptIndex: firstPrompt + i, sample })),
  );
  const texts = new Array<string | undefined>(requests.length);
  let sampled = 0;
  const progress = (): SamplingProgress => ({
    all: requests.length,
    sampled,
    rewarded: judging.judged,
    rewardSeconds: judging.busy / 1e3,
  });
  const report = () => onProgress?.(progress());
  const judging = new Judging(task.task, rewards, {
    groupSize,
    signal: options.signal,
    limitsFrom,
    onJudged: report,
  });
  const onCompletion = (completion: Completion, i: number) => {
    sampled++;
    const text = completionText(tokenizer, completion.tokens, stopTokens);
    texts[i] = text;
    const { tokens, truncated } = completion;
    judging.add(i, { example: examples[Math.floor(i / groupSize)], text, tokens, truncated });
    report();
  };
  const contextLength = promptLength + maxTokens - 1;
  let completions: Completion[];
  try {
    const settings = { ...options, maxTokens, contextLength, stopTokens, stopTexts };
    // Loaded here, because it loads TensorFlow.js, which what only reads evaluations does not need.
    const sampler = engine ?? (await import('./sample.js')).policySampler(policy);
    completions = await sampler.complete(requests, { ...settings, onCompletion });
    // Engines need not call onCompletion.
    for (const [i, completion] of completions.entries()) if (texts[i] === undefined) onCompletion(completion, i);
  } catch (error) {
    await judging.abandon();
    throw error;
  }
  const scored = completions.map(
    (completion, i): ScoredCompletion => ({
      ...completion,
      text: texts[i]!,
      score: Number.NaN,
      rewards: {},
      reward: Number.NaN,
      advantage: 0,
    }),
  );
  const groups = prompts.map((prompt, i) => ({
    example: examples[i],
    prompt,
    completions: scored.slice(i * groupSize, (i + 1) * groupSize),
  }));
  onSampled?.(groups, progress());
  try {
    await judging.finish();
  } finally {
    // Even after a failure, so that the completions can be examined.
    for (const [i, completion] of scored.entries()) Object.assign(completion, judging.judgements[i]);
  }
  // Step rewards only count in the advantages of tokens.
  const whole = rewards.filter((reward) => !('judgeSteps' in reward));
  for (const completion of scored) completion.reward = totalReward(completion, whole);
  return groups;
}

/** The weighted sum of the rewards that apply; NaN if no reward with a weight does. */
function totalReward({ rewards }: ScoredCompletion, all: readonly RewardSettings[]): number {
  const applying = all.filter(({ name, weight }) => weight !== 0 && rewards[name] !== null);
  if (applying.length === 0) return Number.NaN;
  const total = applying.reduce((sum, { name, weight }) => sum + weight * rewards[name]!, 0);
  if (!Number.isFinite(Math.fround(total))) {
    throw new NumericFault(
      `rewards ${JSON.stringify(rewards)}: expected a weighted sum finite in float32, got ${total}`,
    );
  }
  return total;
}

/** Metrics of the completions and their rewards; `reward` and `reward_std` are added with the advantages. */
export function rolloutMetrics(groups: readonly Group[], rewards: readonly Pick<RewardSettings, 'name'>[]): Metrics {
  const completions = groups.flatMap((group) => group.completions);
  const lengths = completions.map(({ tokens }) => tokens.length);
  const metrics: Metrics = {};
  for (const { name } of rewards) {
    const values = completions.map((completion) => completion.rewards[name]).filter((value) => value !== null);
    metrics[`rewards/${name}/mean`] = mean(values);
    metrics[`rewards/${name}/std`] = Math.sqrt(variance(values));
  }
  metrics['completions/mean_length'] = mean(lengths);
  metrics['completions/min_length'] = lengths.reduce((a, b) => Math.min(a, b));
  metrics['completions/max_length'] = lengths.reduce((a, b) => Math.max(a, b));
  metrics['completions/clipped_ratio'] = mean(completions.map(({ truncated }) => Number(truncated)));
  metrics.tokens = lengths.reduce((sum, length) => sum + length, 0);
  const scored = groups.flatMap((group) =>
    group.completions.map(({ score }) => ({ difficulty: group.example.difficulty, score })),
  );
  metrics.accuracy = mean(scored.map(({ score }) => score));
  for (const { difficulty, accuracy } of accuracyByDifficulty(scored)) metrics[`accuracy/${difficulty}`] = accuracy;
  return metrics;
}

/** Mean score for each difficulty that occurs, in ascending order. */
export function accuracyByDifficulty(
  scored: readonly { difficulty: number; score: number }[],
): { difficulty: number; count: number; accuracy: number }[] {
  const byDifficulty = new Map<number, number[]>();
  for (const { difficulty, score } of scored) {
    const scores = byDifficulty.get(difficulty);
    if (scores) scores.push(score);
    else byDifficulty.set(difficulty, [score]);
  }
  return [...byDifficulty]
    .sort(([a], [b]) => a - b)
    .map(([difficulty, scores]) => ({ difficulty, count: scores.length, accuracy: mean(scores) }));
}
