// Problems from the user's files: JSON lines, JSON, CSV, Parquet.

import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import {
  checkBoolean,
  checkChoice,
  checkKeys,
  checkNumber,
  checkObject,
  describe,
  rangeError,
  typeError,
} from '../base/check.js';
import { type Column, checkColumn, optionalNumber, optionalText, promptColumn, textColumn } from '../data/columns.js';
import { checkRowFileOptions, openRows, type Row, type RowFile, type RowFileOptions } from '../data/row-file.js';
import type { ChatMessage } from '../text/chat-template.js';
import type { Grade } from '../verify/grade.js';
import { checkGold, type GraderName, gradeByName, graderNames } from '../verify/named.js';
import { type BenchmarkName, benchmarkColumns, benchmarkNames, benchmarks } from './benchmarks.js';
import { checkIndex } from './options.js';
import { type FileSource, withSource } from './source.js';
import { heldOutShare, type Split, splitOf, splits } from './split.js';
import type { Example, Problems, Scored, Task } from './task.js';

/** One row as a problem. */
export interface DatasetExample<R extends object = Row> extends Example {
  /** The row of the file, with all of its columns. */
  row: R;
}

/** A verifier's verdict on a completion: a score from 0 to 1, true or false, or a grade of `verify`. */
export type VerifierResult = number | boolean | Grade;

/** The name of a grader of `verify`, or a function of a completion's text. */
export type Verifier<R extends object = Row> =
  | GraderName
  | ((text: string, example: DatasetExample<R>) => VerifierResult | Promise<VerifierResult>);

export interface DatasetOptions<R extends object = Row> extends RowFileOptions {
  /**
   * Settings of a public benchmark: the columns of its usual files, its prompt template and its grader. Other options take
   * precedence.
   */
  benchmark?: BenchmarkName;
  /** The prompt: a string, or chat messages, the last of which is not the assistant's. Default: the column `prompt`. */
  prompt?: Column<R, string | readonly ChatMessage[]>;
  /** The right answer. Default: the column `answer`. */
  answer?: Column<R, string | number | bigint>;
  /** A correct completion, for a warm start. Default: the column `solution` if there is one, else the answer. */
  solution?: Column<R, string | number | bigint>;
  /** A number, larger for harder problems. Default: the column `difficulty` if there is one, else 0. */
  difficulty?: Column<R, number | bigint | string>;
  /** Applied to string prompts: `{prompt} Put the final answer within \\boxed{}.` Default: the prompt itself. */
  template?: string;
  /** Whether a string prompt becomes a user message. Default: only with `system`. */
  chat?: boolean;
  /** A system message before the prompt. */
  system?: string;
  /**
   * One part of the file: `train`, or `held-out`, which gets the share `holdOut` of all prompts (above 0 and below 1; default
   * 0.2). A hash of the prompt, taken before template and chat, decides, so a prompt is always on the same side, whatever the
   * order, file or format. The held-out part of a smaller share is a subset of that of a larger one. Default: everything.
   */
  split?: Split | { part: Split; holdOut?: number };
  /** Keeps the rows for which it returns true. Default: all. */
  filter?: (row: R) => boolean;
  /** How completions are scored. Default: the benchmark's grader; without one, the run's first reward that is a grader. */
  verify?: Verifier<R>;
}

/** Problems from files. Without a verifier they have no score: a run scores them by its rewards. */
export interface Dataset<R extends object = Row> extends Problems<DatasetExample<R>> {
  readonly size: number;
  /** The paths of the files. */
  readonly files: readonly string[];
}

export type VerifiedDataset<R extends object = Row> = Dataset<R> & Task<DatasetExample<R>>;

const optionNames = [
  'benchmark',
  'prompt',
  'answer',
  'solution',
  'difficulty',
  'template',
  'chat',
  'system',
  'split',
  'filter',
  'verify',
  'format',
  'delimiter',
] as const satisfies (keyof DatasetOptions)[];

/**
 * Problems from one or several files, in order: JSON lines, JSON (an array of objects), CSV or Parquet. Every row is read and
 * checked once when the data set is created, and read again on demand; large files are never in memory as a whole.
 *
 * @throws TypeError or RangeError that names the file, the line or row, and what the column is for
 *
 * @example
 * const train = dataset<{ question: string; answer: string }>('gsm8k/train.jsonl', {
 *   prompt: (row) => [{ role: 'user', content: `${row.question}\nPut the final answer within \\boxed{}.` }],
 *   answer: (row) => row.answer.split('####')[1].trim(),
 *   split: { part: 'train', holdOut: 0.1 },
 * });
 */
export function dataset<R extends object = Row>(
  paths: string | readonly string[],
  options: DatasetOptions<R> & { verify: Verifier<R> },
): VerifiedDataset<R>;
export function dataset<R extends object = Row>(
  paths: string | readonly string[],
  options?: DatasetOptions<R>,
): Dataset<R>;
export function dataset<R extends object = Row>(
  paths: string | readonly string[],
  options: DatasetOptions<R> = {},
): Dataset<R> {
  const files = checkPaths(paths);
  const checked = checkDatasetOptions(options);
  const { filter, verify, split } = checked;
  /** Rows that are problems, numbered across all files. */
  const chosen: number[] = [];
  let seen = 0;
  let filtered = 0;
  const digest = createHash('sha256');
  const opened = files.map((path) =>
    openRows(path, checked.reading, (content, where) => {
      const row = seen++;
      if (!isWanted(filter, content as R, where)) return void filtered++;
      const { example, key } = readExample(content as R, checked, where);
      if (split && splitOf(key, split.holdOut) !== split.part) return;
      if (typeof verify === 'string') checkGold(verify, example.answer, `${where}: answer`);
      const { row: _, ...asked } = example;
      digest.update(
        `${JSON.stringify(asked, (_, value: unknown) => (typeof value === 'bigint' ? `${value}n` : value))}\n`,
      );
      chosen.push(row);
    }),
  );
  const name = files.map((path) => basename(path)).join(', ');
  if (chosen.length === 0) {
    const expected = split ? `problems of the split '${split.part}'` : 'a row that the filter keeps';
    throw rangeError(files.join(', '), expected, `none of ${seen} rows, of which the filter leaves out ${filtered}`);
  }
  const read = (index: number) => {
    let [file, row] = [0, chosen[index]];
    while (row >= opened[file].size) row -= opened[file++].size;
    return readExample(opened[file].row(row) as R, checked, `${files[file]}, row ${row + 1}`).example;
  };
  const task: Dataset<R> = {
    name,
    size: chosen.length,
    files,
    example(index) {
      checkIndex(index, chosen.length);
      return read(index);
    },
    parse(prompt) {
      for (let i = 0; i < chosen.length; i++) {
        const example = read(i);
        if (example.prompt === prompt) return example;
      }
      return undefined;
    },
    ...(verify !== undefined && graded(verify)),
  };
  return withSource(task, sourceOf(files, opened, checked, digest.digest('hex')));
}

interface CheckedOptions<R extends object> {
  benchmark: BenchmarkName | undefined;
  prompt: Column<R>;
  answer: Column<R>;
  solution: Column<R>;
  difficulty: Column<R>;
  template: string;
  chat: boolean;
  system: string | undefined;
  split: { part: Split; holdOut: number } | undefined;
  filter: ((row: R) => boolean) | undefined;
  verify: Verifier<R> | undefined;
  reading: RowFileOptions;
}

const usualColumns = { prompt: 'prompt', answer: 'answer', solution: 'solution', difficulty: 'difficulty' };

const placeholder = '{prompt}';

function checkPaths(paths: unknown): readonly string[] {
  const files = Array.isArray(paths) ? [...(paths as unknown[])] : [paths];
  if (files.length === 0) throw rangeError('paths', 'at least one path of a file', 'none');
  return files.map((path, i) => {
    if (typeof path !== 'string' || path === '')
      throw typeError(Array.isArray(paths) ? `paths[${i}]` : 'path', 'the path of a file', path);
    return path;
  });
}

function checkDatasetOptions<R extends object>(options: DatasetOptions<R>): CheckedOptions<R> {
  const given = checkObject('options', options) as DatasetOptions<R>;
  checkKeys('', given as Record<string, unknown>, optionNames);
  const { benchmark } = given;
  if (benchmark !== undefined) checkChoice('benchmark', benchmark, benchmarkNames);
  const usual = benchmark === undefined ? usualColumns : benchmarkColumns(benchmark);
  const known = benchmark === undefined ? undefined : benchmarks[benchmark];
  const { template = known?.template ?? placeholder, verify = known?.verify } = given;
  const { system, filter, format, delimiter, split } = given;
  const columns = {
    prompt: given.prompt ?? usual.prompt,
    answer: given.answer ?? usual.answer,
    solution: given.solution ?? usual.solution,
    difficulty: given.difficulty ?? usual.difficulty,
  };
  for (const [field, column] of Object.entries(columns)) checkColumn(field, column);
  if (typeof template !== 'string') throw typeError('template', 'a string', template);
  if (!template.includes(placeholder))
    throw rangeError('template', `a string that contains ${placeholder}`, describe(template));
  if (system !== undefined && (typeof system !== 'string' || system === ''))
    throw typeError('system', 'a string', system);
  const chat = given.chat === undefined ? system !== undefined : checkBoolean('chat', given.chat);
  if (system !== undefined && !chat) throw rangeError('chat', 'true with a system message', 'false');
  if (filter !== undefined && typeof filter !== 'function') throw typeError('filter', 'a function of the row', filter);
  if (verify !== undefined && typeof verify !== 'function') checkChoice('verify', verify, graderNames);
  return {
    benchmark,
    ...columns,
    template,
    chat,
    system,
    split: split === undefined ? undefined : checkSplit(split),
    filter,
    verify,
    reading: checkRowFileOptions({ format, delimiter }),
  };
}

function checkSplit(split: unknown): { part: Split; holdOut: number } {
  if (typeof split === 'string') return { part: checkChoice('split', split, splits), holdOut: heldOutShare };
  const given = checkObject('split', split);
  checkKeys('split', given, ['part', 'holdOut']);
  const { part, holdOut = heldOutShare } = given;
  checkChoice('split.part', part, splits);
  return { part: part as Split, holdOut: checkNumber('split.holdOut', holdOut, { above: 0, below: 1 }) };
}

function isWanted<R extends object>(filter: ((row: R) => boolean) | undefined, row: R, where: string): boolean {
  if (!filter) return true;
  let wanted: unknown;
  try {
    wanted = filter(row);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new TypeError(`${where}: filter: the function of the row failed: ${message}`, { cause: error });
  }
  return checkBoolean(`${where}: filter`, wanted);
}

/** A row as a problem, and the text that decides which side of a split it is on. */
function readExample<R extends object>(
  row: R,
  options: CheckedOptions<R>,
  where: string,
): { example: DatasetExample<R>; key: string } {
  const { template, chat, system } = options;
  const place = (field: string) => ({ where, field });
  const given = promptColumn(row, options.prompt, place('prompt'));
  const answer = textColumn(row, options.answer, place('answer'));
  const rest = {
    answer,
    solution: optionalText(row, options.solution, place('solution')) ?? answer,
    difficulty: optionalNumber(row, options.difficulty, place('difficulty')) ?? 0,
    row,
  };
  if (typeof given !== 'string') {
    const prompt = given.findLast(({ role }) => role === 'user')!.content as string;
    const messages = system === undefined ? given : [{ role: 'system', content: system }, ...given];
    return { example: { prompt, messages, ...rest }, key: prompt };
  }
  const prompt = template.replaceAll(placeholder, () => given);
  const messages = [
    ...(system === undefined ? [] : [{ role: 'system', content: system }]),
    { role: 'user', content: prompt },
  ];
  return { example: { prompt, ...(chat && { messages }), ...rest }, key: given };
}

/** Score and grade by a verifier. They throw a TypeError or RangeError for an invalid verdict. */
function graded<R extends object>(verify: Verifier<R>) {
  const grade = async (text: string, example: DatasetExample<R>): Promise<Scored> => {
    const given: unknown = await (typeof verify === 'function'
      ? verify(text, example)
      : gradeByName(verify, text, example.answer));
    if (typeof given !== 'object' || given === null) return { score: scoreOf(given) };
    const { correct, extracted, reason } = given as Partial<Grade>;
    return { score: scoreOf(correct), extracted, reason };
  };
  return { grade, score: async (text: string, example: DatasetExample<R>) => (await grade(text, example)).score };
}

function scoreOf(verdict: unknown): number {
  return typeof verdict === 'boolean' ? Number(verdict) : checkNumber('verify', verdict, { min: 0, max: 1 });
}

function sourceOf<R extends object>(
  files: readonly string[],
  opened: readonly RowFile[],
  { benchmark, prompt, answer, solution, difficulty, template, chat, system, split, verify }: CheckedOptions<R>,
  problems: string,
): FileSource & Readonly<Record<string, unknown>> {
  const named = (value: unknown) => (typeof value === 'function' ? 'a function' : value);
  const [first, ...others] = opened.map(({ sha256 }) => sha256);
  return {
    file: files.join(', '),
    sha256:
      others.length === 0
        ? first
        : createHash('sha256')
            .update([first, ...others].join())
            .digest('hex'),
    problems: opened.reduce((sum, { size }) => sum + size, 0),
    split: split?.part ?? null,
    ...(split && { holdOut: split.holdOut }),
    ...(benchmark && { benchmark }),
    columns: { prompt: named(prompt), answer: named(answer), solution: named(solution), difficulty: named(difficulty) },
    template,
    chat,
    system: system ?? null,
    verify: named(verify) ?? null,
    /** Hash of all problems as they are posed, after functions and filters. */
    asked: problems,
  };
}
