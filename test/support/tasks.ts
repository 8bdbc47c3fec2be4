// Every generated task, easy and hard, for tests that run on all of them.

import { tasks } from '../../src/index.js';
import type { Example, GeneratedTask, Split } from '../../src/tasks/index.js';

export type MakeTask = (options: { seed: number; size?: number; split?: Split }) => GeneratedTask<Example>;

/** All tasks that have a split. */
export const generated: Record<string, MakeTask> = {
  copy: (o) => tasks.copy(o),
  'copy of 32': (o) => tasks.copy({ ...o, length: 32 }),
  reverse: (o) => tasks.reverse(o),
  sort: (o) => tasks.sort({ ...o, length: [2, 12] }),
  addition: (o) => tasks.addition(o),
  'addition of 4 digits': (o) => tasks.addition({ ...o, digits: 4 }),
  subtraction: (o) => tasks.subtraction({ ...o, digits: [1, 4] }),
  multiplication: (o) => tasks.multiplication(o),
  'multiplication of 4 digits': (o) => tasks.multiplication({ ...o, digits: [1, 4] }),
  chain: (o) => tasks.chain(o),
  'chain of 8': (o) => tasks.chain({ ...o, terms: [2, 8], digits: [1, 2] }),
  countdown: (o) => tasks.countdown(o),
  'countdown with 5': (o) => tasks.countdown({ ...o, numbers: [2, 5], maxNumber: 99, maxTarget: 9999 }),
  sudoku: (o) => tasks.sudoku(o),
  'sudoku with 12': (o) => tasks.sudoku({ ...o, blanks: [2, 12] }),
};
