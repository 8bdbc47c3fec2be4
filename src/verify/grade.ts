// What a grader returns, and the bounds that all graders share.

import { checkKeys, checkNumber, checkObject, typeError } from '../base/check.js';

/** A grader's verdict on one completion. */
export interface Grade {
  correct: boolean;
  /** The answer extracted from the completion; null if there is none. */
  extracted: string | null;
  /** The reason for the verdict, in a few words. */
  reason: string;
}

/** Bounds of a grader. */
export interface GradeOptions {
  /**
   * Milliseconds after which a worker that has not answered is terminated and the answer rejected. A backstop: the graders count
   * their own operations and stop long before, so that verdicts do not depend on the machine. Default 5,000.
   */
  timeLimit?: number;
  /** In UTF-16 units; a longer completion is rejected unread. Default 4,000,000. */
  maxLength?: number;
}

export type Bounds = Required<GradeOptions>;

/** The options of every grader, with defaults; `known` names the grader's own. TypeError or RangeError that names the field. */
export function checkGradeOptions(options: unknown, known: readonly string[] = []): Bounds {
  const given = checkObject('options', options);
  checkKeys('options', given, ['timeLimit', 'maxLength', ...known]);
  const { timeLimit = 5_000, maxLength = 4_000_000 } = given as GradeOptions;
  checkNumber('options.timeLimit', timeLimit, { above: 0, max: 2 ** 31 - 1 });
  checkNumber('options.maxLength', maxLength, { min: 1, integer: true });
  return { timeLimit, maxLength };
}

/** TypeError that names the one that is not a string. */
export function checkTexts(completion: unknown, gold: unknown = ''): void {
  if (typeof completion !== 'string') throw typeError('completion', 'a string', completion);
  if (typeof gold !== 'string') throw typeError('gold', 'a string', gold);
}

export const accept = (extracted: string, reason: string): Grade => ({ correct: true, extracted, reason });
export const refuse = (extracted: string | null, reason: string): Grade => ({ correct: false, extracted, reason });

export function tooLong(completion: string, { maxLength }: Bounds): Grade | undefined {
  return completion.length > maxLength ? refuse(null, `the completion is longer than ${maxLength}`) : undefined;
}
