// The benchmark results of a comparison as tables of text cells, for a terminal, Markdown and the page.

import { interval, percent } from '../evaluation/text.js';
import { type BenchmarkResults, type BenchmarkValue, overall } from './benchmark-results.js';
import type { ComparisonResult } from './result.js';

export interface TextTable {
  title: string;
  head: string[];
  rows: string[][];
}

/** Explains the intervals to the reader. */
export function benchmarkNote({ configuration: { seeds } }: ComparisonResult): string {
  const more =
    seeds.length > 1
      ? ' “Over seeds”: how it would vary with other seeds, on these problems.'
      : ' One seed says nothing about how it would vary with others.';
  return (
    'Percent of completions that are right; differences in percentage points, paired by seed and problem. Intervals are 95 % ' +
    `bootstrap intervals over problems: how a result of these runs would vary with other problems of the kind.${more}`
  );
}

/** For a comparison with benchmarks: one row per variant, then the differences of each pair by benchmark. */
export function benchmarkTables({ configuration: plan, benchmarks }: ComparisonResult): TextTable[] {
  const isEmpty = benchmarks?.rows.every(({ values }) => values.every(({ mean }) => mean === null)) ?? true;
  if (benchmarks === undefined || isEmpty) return [];
  const names = benchmarks.rows[0].values.map(({ benchmark }) => benchmark);
  const heads = names.map((name) => {
    if (name === overall) return overall;
    const { samples, temperature } = plan.benchmarks[name];
    return `${name} avg@${samples}${temperature === 0 ? ' (greedy)' : ''}`;
  });
  const [last] = names.slice(-1);
  const results: TextTable = {
    title: 'Benchmarks',
    head: ['variant', ...heads, `difference of ${last}`],
    rows: benchmarks.rows.map(({ variant, values }) => [
      variant ?? 'before training',
      ...values.map(({ mean }) => (mean === null ? '–' : percent(mean))),
      differenceTo(benchmarks, variant, last),
    ]),
  };
  const several = plan.seeds.length > 1;
  const differences: TextTable = {
    title: 'Differences by benchmark',
    head: ['variant − baseline', 'benchmark', 'difference', ...(several ? ['over seeds', 'by seed'] : [])],
    rows: benchmarks.pairs.flatMap(({ variant, baseline, values }) =>
      values.map((value) => [
        `${variant} − ${baseline}`,
        value.benchmark,
        difference(value),
        ...(several
          ? [
              value.overSeeds.low === null ? '–' : interval({ mean: value.mean, ...value.overSeeds }, true),
              value.values.map((seed) => (seed === null ? '–' : percent(seed, true))).join(' '),
            ]
          : []),
      ]),
    ),
  };
  return [results, ...(benchmarks.pairs.length > 0 ? [differences] : [])];
}

/** The difference in the first pair that contains a variant. */
function differenceTo({ pairs }: BenchmarkResults, variant: string | null, name: string): string {
  const pair = pairs.find((one) => one.variant === variant);
  if (!pair) return '';
  return `${difference(pair.values.find(({ benchmark }) => benchmark === name)!)} to ${pair.baseline}`;
}

function difference({ mean, overProblems }: BenchmarkValue): string {
  return interval({ mean, ...overProblems }, true);
}

/** The contents of benchmarks.md. */
export function benchmarkMarkdown(title: string, result: ComparisonResult): string {
  const tables = benchmarkTables(result).map(({ title: name, head, rows }) =>
    [`## ${name}`, '', row(head), row(head.map(() => '---')), ...rows.map(row)].join('\n'),
  );
  return `${[`# ${title}`, ...tables, benchmarkNote(result), ...result.notes.map((note) => `- ${note}`)].join('\n\n')}\n`;
}

function row(cells: readonly string[]): string {
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
}
