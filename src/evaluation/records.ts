// The data of an evaluation: one record per completion, and the summary of all.

import { typeError } from '../base/check.js';
import { answerKey } from '../verify/judge.js';
import { passAtK } from './estimators.js';
import { type Estimate, estimate } from './statistics.js';

/** One completion, as in completions.jsonl. */
export interface CompletionRecord {
  /** The index of the problem, from 0, and of its completion. */
  problem: number;
  sample: number;
  prompt: string;
  answer: string;
  difficulty: number;
  /** Values, as text, of the columns by which results are broken down, if any. */
  columns?: Readonly<Record<string, string>>;
  completion: string;
  /** Tokens of the completion, the end token included. */
  tokens: number;
  truncated: boolean;
  /** In [0, 1]; 0 for a truncated completion. */
  score: number;
  /** The answer that the grader extracted; null if it found none, omitted if the task does not report it. */
  extracted?: string | null;
  /** The grader's reason, if it gives one. */
  reason?: string;
}

/** The completions of one problem, in their order. */
export interface ProblemRecord
  extends Pick<CompletionRecord, 'problem' | 'prompt' | 'answer' | 'difficulty' | 'columns'> {
  completions: readonly CompletionRecord[];
}

/** Estimates over problems, by name: `avg@8`, `pass@1`, `pass@8`, `maj@8`. */
export type Estimates = Record<string, Estimate>;

export interface EvaluationPart {
  /** The column of the part, and its value. */
  column: string;
  value: string;
  problems: number;
  estimates: Estimates;
}

export interface EvaluationSummary {
  problems: number;
  /** Completions per problem. */
  samples: number;
  /** Over all problems, with 95 % intervals over problems. */
  estimates: Estimates;
  /** The truncated share of completions. */
  truncated: number;
  /** Mean number of tokens per completion. */
  tokens: number;
  /** By difficulty, if problems differ in it, and by the requested columns. */
  parts: EvaluationPart[];
}

/** Completions by problem. Records come in the order of problems and samples. */
export function groupRecords(records: Iterable<CompletionRecord>): ProblemRecord[] {
  const problems: (ProblemRecord & { completions: CompletionRecord[] })[] = [];
  for (const record of records) {
    const last = problems.at(-1);
    if (last?.problem === record.problem) last.completions.push(record);
    else {
      const { problem, prompt, answer, difficulty, columns } = record;
      problems.push({ problem, prompt, answer, difficulty, ...(columns && { columns }), completions: [record] });
    }
  }
  return problems;
}

/** The k of pass@k for n samples: powers of two, and n. */
export function passCounts(samples: number): number[] {
  const counts: number[] = [];
  for (let k = 1; k < samples; k *= 2) counts.push(k);
  return [...counts, samples];
}

/** Grades are right or wrong: a score of 1 counts as right. */
export const isRight = ({ score }: Pick<CompletionRecord, 'score'>): boolean => score === 1;

/**
 * The majority vote of a problem's completions: 1 if the most frequent answer is right, 0 if it is not; with a tie, the share of
 * right ones among the tied answers (the expectation of drawing one of them). A truncated completion or one without an answer has
 * no vote. All right answers count as one, however they are written; wrong ones are equal if they are the same number, or the
 * same text after normalisation.
 */
export function majority(completions: readonly CompletionRecord[]): number {
  const votes = new Map<string, number>();
  for (const { truncated, extracted, completion, ...rest } of completions) {
    if (truncated || extracted === null) continue;
    // The key of right answers differs from that of any wrong one.
    const key = isRight(rest) ? 'right' : `wrong ${extracted === undefined ? completion.trim() : answerKey(extracted)}`;
    votes.set(key, (votes.get(key) ?? 0) + 1);
  }
  const most = Math.max(0, ...votes.values());
  if (most === 0) return 0;
  const first = [...votes].filter(([, count]) => count === most).map(([key]) => key);
  return first.includes('right') ? 1 / first.length : 0;
}

/** The value of each quantity for one problem. */
export function problemValues({ completions }: ProblemRecord): Record<string, number> {
  const n = completions.length;
  const right = completions.filter(isRight).length;
  const values: Record<string, number> = { [`avg@${n}`]: completions.reduce((sum, { score }) => sum + score, 0) / n };
  if (n === 1) return values;
  for (const k of passCounts(n)) values[`pass@${k}`] = passAtK(n, right, k);
  values[`maj@${n}`] = majority(completions);
  return values;
}

function estimatesOf(problems: readonly ProblemRecord[]): Estimates {
  const values = problems.map(problemValues);
  const names = Object.keys(values[0] ?? {});
  return Object.fromEntries(names.map((name) => [name, estimate(values.map((one) => one[name]))]));
}

/**
 * The summary of an evaluation. TypeError if problems differ in their number of completions: the estimates need the same number
 * for each.
 */
export function summarise(problems: readonly ProblemRecord[], { withParts = true } = {}): EvaluationSummary {
  const samples = problems[0]?.completions.length ?? 0;
  const uneven = problems.find(({ completions }) => completions.length !== samples);
  if (uneven) {
    throw typeError(`problem ${uneven.problem}`, `${samples} completions like the other problems`, uneven.completions);
  }
  const completions = problems.flatMap((one) => one.completions);
  const share = (count: number) => count / completions.length;
  return {
    problems: problems.length,
    samples,
    estimates: estimatesOf(problems),
    truncated: share(completions.filter(({ truncated }) => truncated).length),
    tokens: share(completions.reduce((sum, { tokens }) => sum + tokens, 0)),
    parts: withParts ? partsOf(problems) : [],
  };
}

/** Parts by difficulty and columns, in the order of their values. */
function partsOf(problems: readonly ProblemRecord[]): EvaluationPart[] {
  const columns = new Map<string, Map<string, ProblemRecord[]>>();
  const put = (column: string, value: string, problem: ProblemRecord) => {
    const parts = columns.get(column) ?? new Map<string, ProblemRecord[]>();
    columns.set(column, parts);
    const part = parts.get(value);
    if (part) part.push(problem);
    else parts.set(value, [problem]);
  };
  for (const problem of problems) {
    put('difficulty', String(problem.difficulty), problem);
    for (const [column, value] of Object.entries(problem.columns ?? {})) put(column, value, problem);
  }
  if (columns.get('difficulty')?.size === 1) columns.delete('difficulty');
  return [...columns].flatMap(([column, parts]) =>
    [...parts]
      .sort(([a], [b]) => a.localeCompare(b, 'en', { numeric: true }))
      .map(([value, some]) => ({ column, value, problems: some.length, estimates: estimatesOf(some) })),
  );
}
