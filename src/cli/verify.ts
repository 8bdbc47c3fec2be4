// `groupgrad verify`: grades the completions in a file, to try a grader before a run; shows where two graders disagree.

import { type Place, textColumn } from '../data/columns.js';
import { formats, openRows, type Row } from '../data/row-file.js';
import type { Grade } from '../verify/grade.js';
import { checkGold, type GraderName, gradeByName, graderNames } from '../verify/named.js';
import { choiceFlag, numberFlag, parse, UsageError } from './arguments.js';
import { shorten } from './terminal.js';
import { asUsageErrors } from './usage-errors.js';

export const help = `groupgrad verify <file> --verify GRADER [flags]

  <file>             completions with their right answers: JSON lines, JSON, CSV or Parquet; such as a run's
                     samples.jsonl
  --verify GRADER    ${graderNames.join(', ')}
  --second GRADER    a second one: shows the completions on which the two disagree
  --expect COLUMN    a column with verdicts (true or false, 1 or 0): shows where the grader disagrees with it
  --completion COLUMN  the completions; default: completion
  --answer COLUMN    the right answers; default: answer
  --format FORMAT    ${formats.join(', ')}; default: by the file's extension
  --show N           at most this many completions are shown; default 10
  --json             one JSON object per completion on standard output, and one with the totals
`;

/** Number of completions graded concurrently. */
const atOnce = 256;

interface Graded {
  where: string;
  completion: string;
  answer: string;
  first: Grade;
  /** The verdict of the second grader, or the one in the file. */
  second?: { correct: boolean; extracted?: string | null; reason: string };
}

export async function verify(args: readonly string[]): Promise<void> {
  const { flags, positionals } = parse(args, ['a file of completions'], {
    verify: { type: 'string' },
    second: { type: 'string' },
    expect: { type: 'string' },
    completion: { type: 'string' },
    answer: { type: 'string' },
    format: { type: 'string' },
    show: { type: 'string' },
    json: { type: 'boolean' },
  });
  if (flags.verify === undefined) throw new UsageError(`--verify: expected one of ${graderNames.join(', ')}`);
  const grader = choiceFlag('verify', flags.verify, graderNames);
  const second = flags.second === undefined ? undefined : choiceFlag('second', flags.second, graderNames);
  if (second !== undefined && flags.expect !== undefined) {
    throw new UsageError('--expect: expected one of --second and --expect, got both');
  }
  if (second === grader) throw new UsageError(`--second: expected a grader other than that of --verify, got ${second}`);
  const show = numberFlag('show', flags.show, { min: 0, integer: true }) ?? 10;
  const format = flags.format === undefined ? undefined : choiceFlag('format', flags.format, formats);
  const columns = { completion: flags.completion ?? 'completion', answer: flags.answer ?? 'answer' };
  const [path] = positionals;
  // Read and check everything before the first verdict.
  const places: string[] = [];
  const file = await asUsageErrors(() =>
    openRows(path, { format }, (row, where) => {
      readRow(row, where, columns, [grader, second], flags.expect);
      places.push(where);
    }),
  );

  const compared = second ?? (flags.expect === undefined ? undefined : `the column ${flags.expect}`);
  const totals = { right: 0, unread: 0, secondRight: 0, disagreements: 0 };
  const reasons = new Map<string, number>();
  const shown: Graded[] = [];
  for (let first = 0; first < file.size; first += atOnce) {
    const rows = Array.from({ length: Math.min(atOnce, file.size - first) }, (_, i) => first + i);
    const graded = await Promise.all(
      rows.map((i) => gradeRow(file.row(i), places[i], columns, { grader, second, expect: flags.expect })),
    );
    for (const one of graded) {
      const key = `${one.first.correct ? 'right' : 'wrong'}: ${one.first.reason}`;
      reasons.set(key, (reasons.get(key) ?? 0) + 1);
      totals.right += Number(one.first.correct);
      totals.unread += Number(one.first.extracted === null);
      totals.secondRight += Number(one.second?.correct ?? false);
      const disagrees = one.second !== undefined && one.second.correct !== one.first.correct;
      totals.disagreements += Number(disagrees);
      if (flags.json) process.stdout.write(`${JSON.stringify(asJson(one, grader, second))}\n`);
      else if ((compared === undefined ? !one.first.correct : disagrees) && shown.length < show) shown.push(one);
    }
  }
  if (flags.json) {
    const { right, unread, secondRight, disagreements } = totals;
    const other = compared === undefined ? {} : { secondRight, disagreements };
    process.stdout.write(`${JSON.stringify({ completions: file.size, right, unread, ...other })}\n`);
    return;
  }
  console.log(`${path}: ${file.size} completions, ${share(totals.right, file.size)} right by ${grader}`);
  for (const [reason, count] of [...reasons].sort(([, a], [, b]) => b - a)) {
    console.log(`  ${String(count).padStart(7)}  ${reason}`);
  }
  if (compared !== undefined) {
    console.log(
      `${share(totals.secondRight, file.size)} right by ${compared}; they disagree on ${totals.disagreements}`,
    );
  }
  if (shown.length > 0) console.log(compared === undefined ? '\nWrong:' : '\nDisagreements:');
  for (const one of shown) console.log(describeGraded(one, grader, compared));
}

function readRow(
  row: Row,
  where: string,
  columns: { completion: string; answer: string },
  graders: readonly (GraderName | undefined)[],
  expect: string | undefined,
) {
  const place = (field: string): Place => ({ where, field });
  const answer = textColumn(row, columns.answer, place('answer'));
  for (const grader of graders) if (grader !== undefined) checkGold(grader, answer, `${where}: answer`);
  // An empty completion is valid.
  const completion = row[columns.completion] === '' ? '' : textColumn(row, columns.completion, place('completion'));
  const expected = expect === undefined ? undefined : verdictOf(row[expect], `${where}: ${expect}`);
  return { answer, completion, expected };
}

/** Reads true and false as JSON, numbers and CSV write them. */
function verdictOf(value: unknown, field: string): boolean {
  const known = new Map<unknown, boolean>([true, 1, 1n, '1', 'true'].map((one) => [one, true]));
  for (const one of [false, 0, 0n, '0', 'false']) known.set(one, false);
  const verdict = known.get(typeof value === 'string' ? value.toLowerCase() : value);
  if (verdict === undefined) {
    throw new TypeError(`${field}: expected true or false, 1 or 0, got ${JSON.stringify(value) ?? 'nothing'}`);
  }
  return verdict;
}

async function gradeRow(
  row: Row,
  where: string,
  columns: { completion: string; answer: string },
  { grader, second, expect }: { grader: GraderName; second?: GraderName; expect?: string },
): Promise<Graded> {
  const { answer, completion, expected } = readRow(row, where, columns, [], expect);
  const [first, other] = await Promise.all([
    gradeByName(grader, completion, answer),
    second && gradeByName(second, completion, answer),
  ]);
  const stated = expected === undefined ? undefined : { correct: expected, reason: 'according to the file' };
  return { where, completion, answer, first, second: other ?? stated };
}

function asJson({ where, completion, answer, first, second }: Graded, grader: string, other: string | undefined) {
  return {
    where,
    completion,
    answer,
    grader,
    ...first,
    ...(second && { second: { ...(other && { grader: other }), ...second } }),
  };
}

function share(count: number, total: number): string {
  return `${count} (${((100 * count) / total).toFixed(1)} %)`;
}

function describeGraded({ where, completion, answer, first, second }: Graded, grader: string, other?: string): string {
  const verdict = (name: string, { correct, extracted, reason }: NonNullable<Graded['second']>) =>
    `  ${name}: ${correct ? 'right' : 'wrong'}, ${reason}${extracted == null ? '' : `; it reads ${shorten(extracted, 60)}`}`;
  return [
    `${where}: the answer is ${shorten(answer, 60)}`,
    `  completion: ${shorten(completion, 200)}`,
    verdict(grader, first),
    ...(second ? [verdict(other!, second)] : []),
  ].join('\n');
}
