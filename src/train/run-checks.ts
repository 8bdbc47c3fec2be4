// What is checked of a run before it begins that no single option tells: notes, names of metrics, and the tasks' texts.

import { checkObject, rangeError, typeError } from '../base/check.js';
import type { Policy } from '../model/policy.js';
import { encodePrompts, tokenTask } from '../rollout/token-task.js';
import type { Parts, Settings } from './options.js';

export function checkNotes(notes: unknown): void {
  checkObject('notes', notes);
  try {
    JSON.stringify(notes);
  } catch (error) {
    throw new TypeError(`notes: expected plain JSON, got what is none: ${(error as Error).message}`);
  }
}

/** A metric of an evaluation must be one of an evaluation that there is. */
export function checkKeepBest({ checkpoint: { keepBest } }: Settings, { evaluate }: Parts): void {
  if (!keepBest?.startsWith('eval/')) return;
  const [, name] = /^eval\/([^/]+)\/accuracy(\/[^/]+)?$/.exec(keepBest) ?? [];
  if (name !== undefined && Object.hasOwn(evaluate, name)) return;
  const known = Object.keys(evaluate).map((task) => `eval/${task}/accuracy`);
  throw rangeError(
    'checkpoint.keepBest',
    known.join(', ') || 'no evaluation without tasks in evaluate',
    `'${keepBest}'`,
  );
}

/** Every task's first prompt must be one that the policy can read, and all prompts of a list that states no longest one. */
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
