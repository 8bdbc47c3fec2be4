// Verifiable tasks.

import { addition, subtraction } from './addition.js';
import { bandit } from './bandit.js';
import { chain } from './chain.js';
import { countdown } from './countdown.js';
import { jsonl } from './jsonl.js';
import { copy, reverse, sort } from './letters.js';
import { multiplication } from './multiplication.js';
import { sudoku } from './sudoku.js';

export { addition, type DigitsOptions } from './addition.js';
export type { BanditExample, BanditOptions } from './bandit.js';
export { type Benchmark, type BenchmarkName, benchmarks } from './benchmarks.js';
export type { ChainOptions } from './chain.js';
export type { CountdownExample, CountdownOptions } from './countdown.js';
export {
  type Dataset,
  type DatasetExample,
  type DatasetOptions,
  dataset,
  type VerifiedDataset,
  type Verifier,
  type VerifierResult,
} from './dataset.js';
export type { JsonlOptions } from './jsonl.js';
export type { LettersOptions } from './letters.js';
export type { GeneratorOptions, Range } from './options.js';
export type { Split } from './split.js';
export type { SudokuOptions } from './sudoku.js';
export { distinctExamples, type Example, type GeneratedTask, type Problems, type Scored, type Task } from './task.js';

/** All tasks by their names: `tasks.countdown({ numbers: [3, 4], seed: 1 })`. */
export const tasks = {
  addition,
  bandit,
  chain,
  copy,
  countdown,
  jsonl,
  multiplication,
  reverse,
  sort,
  subtraction,
  sudoku,
} as const;
