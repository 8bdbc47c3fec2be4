// Rollouts: groups of completions sampled for each prompt, scored and rewarded.

import { NumericFault } from '../base/numeric-fault.js';
import type { Metrics } from '../devices/plan.js';
import type { Policy } from '../model/policy.js';
import type { Example } from '../tasks/task.js';
import { completionText } from '../text/tokenizer.js';
import type { AnyReward, Group, RewardSettings, ScoredCompletion, StepVerdict } from './api.js';
import type { RolloutEngine, SamplingSettings } from './engine.js';
import { type Answer, askRewards, askScores } from './rewards.js';
import { policySampler } from './sample.js';
import { encodePrompts, type TokenTask } from './token-task.js';

export interface SamplingOptions
  extends Pick<SamplingSettings, 'temperature' | 'topP' | 'topK' | 'minP' | 'seed' | 'step'> {
  /** Completions a prompt. */
  groupSize: number;
  /** The number of the first prompt, where a step's prompts are sampled in several calls. Default 0. */
  firstPrompt?: number;
  /** Interrupts the sampling: its reason is thrown. */
  signal?: AbortSignal;
  /** What samples; default: the policy's own sampler. */
  engine?: RolloutEngine;
}

/** Samples a group for each example, in order, with the task's scores and without rewards. */
export async function sampleGroups<E extends Example>(
  policy: Policy,
  task: TokenTask<E>,
  examples: readonly E[],
  { groupSize, firstPrompt = 0, engine = policySampler(policy), ...options }: SamplingOptions,
): Promise<Group<E>[]> {
  const { promptLength, maxTokens, stopTokens, stopTexts } = task;
  const prompts = await encodePrompts(task, examples);
  const requests = prompts.flatMap((prompt, i) =>
    Array.from({ length: groupSize }, (_, sample) => ({ prompt, promptIndex: firstPrompt + i, sample })),
  );
  const contextLength = promptLength + maxTokens - 1;
  const completions = await engine.complete(requests, { ...options, maxTokens, contextLength, stopTokens, stopTexts });
  const sampled = completions.map((completion, i) => ({
    ...completion,
    text: completionText(task.tokenizer, completion.tokens, task.stopTokens),
    example: examples[Math.floor(i / groupSize)],
  }));
  const scores = await askScores(task.task, sampled, options.signal);
  const scored = sampled.map(({ example: _, ...completion }, i) => ({
    ...completion,
    score: scores[i],
    rewards: {},
    reward: Number.NaN,
    advantage: 0,
  }));
  return prompts.map((prompt, i) => ({
    example: examples[i],
    prompt,
    completions: scored.slice(i * groupSize, (i + 1) * groupSize),
  }));
}

/**
 * Asks every reward about every completion and adds the verdicts up, in place. NumericFault where a sum is not finite in
 * float32, in which devices compute; see `askRewards` for what else it throws, and for `signal`.
 */
export async function rewardGroups<E extends Example>(
  groups: readonly Group<E>[],
  rewards: readonly AnyReward<E>[],
  signal?: AbortSignal,
): Promise<void> {
  const questions = groups.map(({ example, completions }) => ({
    prompt: example.prompt,
    completions: completions.map(({ text, tokens, truncated, score }) => ({ text, tokens, truncated, score })),
    example,
  }));
  const verdicts = await askRewards(rewards, questions, signal);
  groups
    .flatMap(({ completions }) => completions)
    .forEach((completion, i) => {
      const answers = rewards.map(({ name }, r): [string, Answer] => [name, verdicts[r][i]]);
      completion.rewards = Object.fromEntries(
        answers.map(([name, answer]) => [name, isSteps(answer) ? sum(answer.map(({ reward }) => reward)) : answer]),
      );
      const steps = answers.filter((entry): entry is [string, readonly StepVerdict[]] => isSteps(entry[1]));
      if (steps.length > 0) completion.steps = Object.fromEntries(steps);
      completion.reward = totalReward(
        completion,
        rewards.filter((reward) => !('judgeSteps' in reward)),
      );
    });
}

function isSteps(answer: Answer): answer is readonly StepVerdict[] {
  return typeof answer === 'object' && answer !== null;
}

function sum(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0);
}

/** The weighted sum of the rewards that apply; NaN when none with a weight does. */
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

/** Metrics of the completions and their rewards; `reward` and its like come with the advantages. */
export function rolloutMetrics(groups: readonly Group[], rewards: readonly Pick<RewardSettings, 'name'>[]): Metrics {
  const completions = groups.flatMap((group) => group.completions);
  const lengths = completions.map(({ tokens }) => tokens.length);
  const metrics: Metrics = {};
  for (const { name } of rewards) {
    const values = completions.map((completion) => completion.rewards[name]).filter((value) => value !== null);
    metrics[`rewards/${name}/mean`] = mean(values);
    metrics[`rewards/${name}/std`] = deviation(values);
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

/** Mean score for each difficulty there is, in ascending order. */
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

/** NaN of no values. */
export function mean(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0) / values.length;
}

/** Standard deviation with ddof 1; 0 of fewer than two values. */
function deviation(values: readonly number[]): number {
  if (values.length < 2) return 0;
  const center = mean(values);
  return Math.sqrt(values.reduce((sum, value) => sum + (value - center) ** 2, 0) / (values.length - 1));
}
