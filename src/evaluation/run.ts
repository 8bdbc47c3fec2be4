// Runs or resumes an evaluation and writes its page.

import { rangeError } from '../base/check.js';
import type { Policy } from '../model/policy.js';
import { writePage } from '../report/page.js';
import { encodePrompts, type TokenTask } from '../rollout/token-task.js';
import type { Example } from '../tasks/task.js';
import { type CompletionOptions, completeExamples } from './evaluate.js';
import { EvaluationFolder, type EvaluationIdentity, readEvaluation, reportPath } from './folder.js';
import { renderEvaluation, type ShownComparison } from './page.js';
import { comparePaired } from './paired.js';
import { type EvaluationSummary, groupRecords, type ProblemRecord, summarise } from './records.js';

/** Completions that are sampled and written together: enough to keep a decoder busy, few enough that little is lost at an end. */
export const usualBatch = 256;

export interface EvaluationRun<E extends Example> extends Omit<CompletionOptions<E>, 'first'> {
  folder: string;
  /** What must match the folder when an evaluation resumes. */
  about: EvaluationIdentity;
  /** Number of completions that are sampled and written together. */
  batch: number;
  takeOver?: boolean;
  /** Problems done, after each batch and at the start. */
  onProgress?: (done: number) => void;
}

/**
 * Evaluates a policy on examples, resuming where the folder's completions end. Writes completions.jsonl incrementally, one line
 * per completion in the order of problems, the same whether or not it was interrupted. The signal's reason is thrown if it
 * aborts; complete problems are kept.
 */
export async function runEvaluation<E extends Example>(
  policy: Policy,
  task: TokenTask<E>,
  examples: readonly E[],
  { folder, about, batch, takeOver, onProgress, ...options }: EvaluationRun<E>,
): Promise<{ problems: ProblemRecord[]; summary: EvaluationSummary }> {
  const { samples } = options;
  const held = new EvaluationFolder(folder, about, { samples, takeOver });
  try {
    const sized = await fitPrompts(task, examples);
    const problemsAtOnce = Math.max(1, Math.floor(batch / samples));
    for (let first = held.records.length / samples; first < examples.length; first += problemsAtOnce) {
      onProgress?.(first);
      const some = examples.slice(first, first + problemsAtOnce);
      held.add(await completeExamples(policy, sized, some, { ...options, first }));
    }
    onProgress?.(examples.length);
    const problems = groupRecords(held.records);
    const summary = summarise(problems);
    held.writeSummary(summary);
    await writePage(reportPath(folder), renderEvaluation(readEvaluation(folder), summary));
    return { problems, summary };
  } finally {
    held.close();
  }
}

/**
 * Increases the maximum prompt length to that of the longest prompt, so that all can be evaluated. RangeError or TypeError for one that
 * cannot be encoded.
 */
async function fitPrompts<E extends Example>(task: TokenTask<E>, examples: readonly E[]): Promise<TokenTask<E>> {
  const prompts = await encodePrompts({ ...task, promptLength: Number.MAX_SAFE_INTEGER } as TokenTask, examples);
  return { ...task, promptLength: prompts.reduce((most, { length }) => Math.max(most, length), 1) };
}

/** Compares the evaluations of two folders, and writes the page of the second with the comparison in it. */
export async function compareFolders(before: string, after: string): Promise<ShownComparison> {
  const [there, here] = [readEvaluation(before), readEvaluation(after)];
  for (const [folder, { problems }] of [
    [before, there],
    [after, here],
  ] as const) {
    if (problems.length === 0) throw rangeError(folder, 'an evaluation with completions', 'one without');
  }
  const shown = { against: there.title, comparison: comparePaired(there.problems, here.problems) };
  await writePage(reportPath(after), renderEvaluation(here, summarise(here.problems), shown));
  return shown;
}
