// Samples and grades a policy's completions on problems, for evaluations in training and on the command line.

import type { Metrics } from '../devices/plan.js';
import type { Policy } from '../model/policy.js';
import type { Evaluation } from '../rollout/api.js';
import { accuracyByDifficulty, sampleGroups } from '../rollout/rollout.js';
import type { TokenTask } from '../rollout/token-task.js';
import type { Example, Scored, Task } from '../tasks/task.js';
import { type CompletionRecord, groupRecords, summarise } from './records.js';
import { type EvaluationSampling, greedy } from './sampling.js';

export interface CompletionOptions<E extends Example = Example> extends EvaluationSampling {
  /** The index of the first example, if others precede these. Default 0. */
  first?: number;
  /** The columns of a record by which results are broken down. Default: none. */
  columns?: (example: E) => Readonly<Record<string, string>>;
  signal?: AbortSignal;
}

/**
 * First address of evaluations' random numbers; training's prompts never have such high indices. Addresses do not depend on
 * which problems are sampled together, nor on the step, so that policies are compared on the same random numbers.
 */
const firstPrompt = 2 ** 28;

/** The completions of some examples, graded, in order. The signal's reason is thrown if it aborts. */
export async function completeExamples<E extends Example>(
  policy: Policy,
  tokens: TokenTask<E>,
  examples: readonly E[],
  { samples, temperature, topP, seed, first = 0, columns, signal }: CompletionOptions<E>,
): Promise<CompletionRecord[]> {
  const { task, scored } = remembering(tokens.task);
  const groups = await sampleGroups(policy, { ...tokens, task }, examples, {
    groupSize: samples,
    temperature,
    ...(topP < 1 && { topP }),
    seed,
    step: 0,
    firstPrompt: firstPrompt + first,
    signal,
  });
  return groups.flatMap(({ example, completions }, i) => {
    const { prompt, answer, difficulty } = example;
    const own = columns?.(example);
    return completions.map(({ text, tokens: ids, truncated, score }, sample): CompletionRecord => {
      const { extracted, reason } = (truncated ? undefined : scored(example, text)) ?? {};
      return {
        problem: first + i,
        sample,
        prompt,
        answer,
        difficulty,
        ...(own && Object.keys(own).length > 0 && { columns: own }),
        completion: text,
        tokens: ids.length,
        truncated,
        score,
        ...(extracted !== undefined && { extracted }),
        ...(reason !== undefined && { reason }),
      };
    });
  });
}

/** A task that caches its grades, so that completions are graded once. */
function remembering<E extends Example>(task: Task<E>) {
  const known = new Map<E, Map<string, Scored>>();
  const score = async (text: string, example: E) => {
    const texts = known.get(example) ?? new Map<string, Scored>();
    known.set(example, texts);
    const scored = await task.grade!(text, example);
    texts.set(text, scored);
    return scored.score;
  };
  return {
    task: task.grade ? { ...task, score } : task,
    scored: (example: E, text: string) => known.get(example)?.get(text),
  };
}

/** A policy's results on some examples. The signal's reason is thrown if it aborts. */
export async function evaluate<E extends Example>(
  policy: Policy,
  task: TokenTask<E>,
  examples: readonly E[],
  sampling: EvaluationSampling = greedy,
  signal?: AbortSignal,
): Promise<Evaluation> {
  const records = await completeExamples(policy, task, examples, { ...sampling, signal });
  const problems = groupRecords(records);
  const scores = problems.map(({ difficulty, completions }) => ({
    difficulty,
    score: completions.reduce((sum, { score }) => sum + score, 0) / completions.length,
  }));
  const correct = scores.reduce((sum, { score }) => sum + score, 0);
  const count = examples.length;
  const accuracy = correct / count;
  const byDifficulty = accuracyByDifficulty(scores);
  if (sampling.samples === 1) return { correct, count, accuracy, byDifficulty };
  const { estimates, truncated } = summarise(problems, { withParts: false });
  return { correct, count, accuracy, byDifficulty, samples: sampling.samples, estimates, truncated };
}

/**
 * `eval/<name>/accuracy` and `eval/<name>/accuracy/<difficulty>`; with several samples per problem also `eval/<name>/pass@<k>`,
 * `eval/<name>/maj@<n>` and `eval/<name>/truncated`.
 */
export function evaluationMetrics(
  name: string,
  { accuracy, byDifficulty, samples, estimates = {}, truncated }: Evaluation,
): Metrics {
  const metrics: Metrics = { [`eval/${name}/accuracy`]: accuracy };
  for (const part of byDifficulty) metrics[`eval/${name}/accuracy/${part.difficulty}`] = part.accuracy;
  for (const [quantity, { mean }] of Object.entries(estimates)) {
    // The accuracy is the mean over samples.
    if (quantity !== `avg@${samples}`) metrics[`eval/${name}/${quantity}`] = mean!;
  }
  if (truncated !== undefined) metrics[`eval/${name}/truncated`] = truncated;
  return metrics;
}
