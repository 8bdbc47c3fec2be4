// Settings of public benchmarks, by name: the column names of their usual files, the prompt template, the grader, and the number
// of completions per problem. The user provides the files.

import type { Column } from '../data/columns.js';
import { lastBoxed } from '../verify/extract.js';
import type { GraderName } from '../verify/named.js';

export interface Benchmark {
  /** Problems of the usual test set. */
  problems: number;
  /** The columns of the usual files: the first of these names, case-insensitively, for which the row has a value. */
  prompt: readonly string[];
  /**
   * As `prompt`. A list is joined by commas, also if a CSV file contains it as a string (`['2', '3']`); in a column `solution`
   * only the content of its last \boxed is an answer.
   */
  answer: readonly string[];
  solution: readonly string[];
  /** As `prompt`; in a string such as "Level 5" the number counts. */
  difficulty: readonly string[];
  /** Columns that results are broken down by, of those that a file has. */
  by: readonly string[];
  /** The prompt template. */
  template: string;
  verify: GraderName;
  /** Completions per problem; more if there are few problems. */
  samples: number;
}

/** The prompt of the HA-DW paper (arXiv 2601.08521) for all of them. */
const boxed = "{prompt} Let's think step by step and output the final answer within \\boxed{}.";

/**
 * Columns of the usual copies on Hugging Face and in evaluation suites: HuggingFaceH4/MATH-500 (problem, solution, answer, subject,
 * level), Hendrycks' MATH (problem, level, type, solution), HuggingFaceH4/aime_2024 and AI-MO/aimo-validation-aime and -amc (problem,
 * solution, answer), Maxwell-Jia/AIME_2024 (Problem, Solution, Answer), math-ai/aime24 (problem, and a solution that is \boxed{204}),
 * math-ai/aime25 and MathArena (problem, answer), opencompass/AIME2025 and math-ai/amc23 and minervamath (question, answer),
 * Minerva's own (problem, solution, type). Suites that prepare files rename the answer: ground_truth, expected_answer.
 */
const maths = {
  prompt: ['problem', 'question'],
  answer: ['answer', 'final_answer', 'ground_truth', 'expected_answer', 'solution'],
  solution: ['solution'],
  difficulty: ['level', 'difficulty'],
  by: [],
  template: boxed,
  verify: 'maths',
} as const;

/** Settings by name: `dataset('math500.jsonl', { benchmark: 'math500' })`. */
export const benchmarks = {
  /** Grade-school problems; `answer` holds a solution that ends with `#### 18`. */
  gsm8k: {
    ...maths,
    problems: 1319,
    prompt: ['question', 'problem'],
    answer: ['answer'],
    solution: ['answer'],
    verify: 'gsm8k',
    samples: 1,
  },
  /** 500 problems of MATH's test set, with `level` from 1 to 5 and `subject`, which MATH's own files call `type`. */
  math500: { ...maths, problems: 500, by: ['subject', 'type'], samples: 1 },
  aime24: { ...maths, problems: 30, samples: 32 },
  aime25: { ...maths, problems: 30, samples: 32 },
  amc23: { ...maths, problems: 40, samples: 32 },
  /** Minerva's undergraduate problems (OCW); `type` is the course. */
  minerva: { ...maths, problems: 272, by: ['type'], samples: 4 },
  /** OlympiadBench's open-ended English problems of mathematics without images; `final_answer` is a list of one string. */
  olympiadbench: {
    ...maths,
    problems: 674,
    prompt: ['question', 'problem'],
    answer: ['final_answer', 'answer', 'ground_truth', 'expected_answer', 'solution'],
    by: ['subfield'],
    samples: 1,
  },
} as const satisfies Record<string, Benchmark>;

export type BenchmarkName = keyof typeof benchmarks;

export const benchmarkNames = Object.keys(benchmarks) as BenchmarkName[];

/** The columns of a benchmark's files as functions of a row. */
export function benchmarkColumns(name: BenchmarkName): {
  prompt: Column<object, string>;
  answer: Column<object, string>;
  solution: Column<object, string>;
  difficulty: Column<object, number>;
} {
  const { prompt, answer, solution, difficulty } = benchmarks[name];
  return {
    prompt: (row) => textIn(row, prompt) ?? missing(row, prompt),
    answer: (row) => answerOf(row, answer) ?? missing(row, answer),
    solution: (row) => textIn(row, solution) as string,
    difficulty: (row) => Number(/\d+(\.\d+)?/.exec(textIn(row, difficulty) ?? '0')?.[0] ?? 0),
  };
}

/** The first value among columns, as text. */
function textIn(row: object, names: readonly string[]): string | undefined {
  const columns = new Map(Object.entries(row).map(([column, value]) => [column.toLowerCase(), value as unknown]));
  const value = names.map((name) => columns.get(name)).find((one) => one !== undefined && one !== null && one !== '');
  if (Array.isArray(value)) return value.join(', ');
  return value === undefined ? undefined : String(value);
}

/** A list of quoted texts as Python prints it, `['2', '3']`, as `2, 3`; anything else as it is. */
function withoutList(text: string): string {
  const items = /^\[(?:\s*(?:'[^']*'|"[^"]*")\s*(?:,|(?=\])))+\]$/.test(text) ? text.match(/'[^']*'|"[^"]*"/g)! : null;
  return items ? items.map((item) => item.slice(1, -1).replaceAll('\\\\', '\\')).join(', ') : text;
}

function answerOf(row: object, names: readonly string[]): string | undefined {
  for (const name of names) {
    const value = textIn(row, [name]);
    const answer = value !== undefined && name === 'solution' ? lastBoxed(value) : value && withoutList(value);
    if (answer) return answer;
  }
  return undefined;
}

function missing(row: object, names: readonly string[]): never {
  throw new TypeError(`expected one of the columns ${names.join(', ')}, got a row with ${Object.keys(row).join(', ')}`);
}
