// Checks before a run that involve more than one option: notes, names of metrics, and the tasks' prompts.

import { checkObject, rangeError, typeError } from '../base/check.js';
import { findMetric, type MetricName } from '../base/metrics.js';
import type { Policy } from '../model/policy.js';
import { encodePrompts, tokenTask } from '../rollout/token-task.js';
import type { Parts, Settings } from './options.js';

export function checkNotes(notes: unknown): void {
  checkObject('notes', notes);
  try {
    JSON.stringify(notes);
  } catch (error) {
    throw new TypeError(`notes: expected plain JSON, got something else: ${(error as Error).message}`);
  }
}

/** RangeError if `keepBest` names a metric of an evaluation that does not exist. */
export function checkKeepBest({ checkpoint: { keepBest } }: Settings, { evaluate }: Parts): void {
  if (!keepBest?.startsWith('eval/')) return;
  const accuracies: readonly MetricName[] = ['eval/<evaluation>/accuracy', 'eval/<evaluation>/accuracy/<difficulty>'];
  const found = findMetric(keepBest);
  if (found && accuracies.includes(found.name) && Object.hasOwn(evaluate, found.values.evaluation)) return;
  const known = Object.keys(evaluate).map((task) => `eval/${task}/accuracy`);
  throw rangeError(
    'checkpoint.keepBest',
    known.join(', ') || 'no metric of an evaluation, because evaluate has no tasks',
    `'${keepBest}'`,
  );
}

/** Encodes every task's first prompt, and all prompts of a finite task that does not give its longest, to see that the policy can. */
export async function checkTexts({ train, evaluate }: Parts, policy: Policy, settings: Settings): Promise<void> {
  const named = Object.entries(evaluate).map(([name, task]) => [`evaluate.${name}`, task] as const);
  for (const [field, task] of [['train', train] as const, ...named]) {
    const { prompt } = checkObject(`${field}.example(0)`, task.example(0));
    if (typeof prompt !== 'string') throw typeError(`${field}.example(0).prompt`, 'a string', prompt);
    const count = task.maxPromptLength === undefined ? (task.size ?? 1) : 1;
    const examples = Array.from({ length: count }, (_, i) => task.example(i));
    await encodePrompts(tokenTask(task, policy, settings.sampling), examples);
  }
}
