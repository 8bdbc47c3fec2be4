// The graders that need only a right answer, by name.

import type { Grade } from './grade.js';
import { choice, exact, goldChoice, goldNumber, gsm8k, maths, number } from './graders.js';

const graders = { maths, gsm8k, number, choice, exact } as const;

/** A grader that is selected by name. */
export type GraderName = keyof typeof graders;

export const graderNames = Object.keys(graders) as GraderName[];

/** The verdict of a grader with its default options. */
export function gradeByName(name: GraderName, completion: string, gold: string): Promise<Grade> {
  return graders[name](completion, gold);
}

/** RangeError, before anything is graded, for a right answer that the grader cannot compare with. */
export function checkGold(name: GraderName, gold: string, field = 'gold'): void {
  if (name === 'number' || name === 'gsm8k') goldNumber(gold, field);
  else if (name === 'choice') goldChoice(gold, [], field);
}
