// The guard against values that are not finite: decides what happens after a step that met one.

import type { NumericFault } from '../base/numeric-fault.js';
import type { Group } from '../rollout/api.js';
import type { Run } from '../run/run.js';
import type { Settings } from './options.js';

export interface GuardedRun extends Readonly<Settings['guard']> {
  /** Where the step's completions are written; undefined in a run without a folder. */
  files: Run | undefined;
}

/**
 * Writes the completions of a failed step, and decides how the run continues: without the step, or from its newest
 * checkpoint. `before` is the number of steps that failed before.
 * @returns the action, the number of faults including this one, and a message that describes it.
 * @throws Error if the run must end: by its settings, or because the budget of faults is used up.
 */
export function guard(
  fault: NumericFault,
  step: number,
  groups: readonly Group[],
  before: number,
  { action, budget, files }: GuardedRun,
): { action: 'skip' | 'rollback'; faults: number; message: string } {
  const faults = before + 1;
  const path = files?.writeFault(step, {
    step,
    reason: fault.message,
    action: faults > budget ? 'halt' : action,
    groups: groups.map(describeGroup),
  });
  const message = `step ${step}: ${fault.message}${path ? `; its completions are in ${path}` : ''}`;
  if (action === 'halt') throw new Error(message, { cause: fault });
  if (faults > budget) throw new Error(`${message}; the guard's budget of ${budget} is used up`, { cause: fault });
  return { action, faults, message };
}

/** A group as written to a fault file. JSON has no NaN: values that are not finite are written as strings. */
function describeGroup({ example, completions }: Group): unknown {
  const plain = (value: number) => (Number.isFinite(value) ? value : String(value));
  return {
    example,
    completions: completions.map((completion) => ({
      ...completion,
      tokens: [...completion.tokens],
      logProbs: [...completion.logProbs].map(plain),
      ...(completion.tokenAdvantages && { tokenAdvantages: [...completion.tokenAdvantages].map(plain) }),
      reward: plain(completion.reward),
    })),
  };
}
