// A comparison's summary as text for a terminal.

import { interval, layOut, percent, pText } from '../evaluation/text.js';
import { benchmarkNote, benchmarkTables } from './benchmark-table.js';
import type { ComparisonResult } from './result.js';
import type { PairSummary, TimeToHalf, VariantSummary } from './summary.js';

/** Lines of text. */
export function summaryTable(result: ComparisonResult): string {
  const { configuration, seeds, summary, notes } = result;
  const lines: string[] = [];
  const tables = benchmarkTables(result);
  for (const { title, head, rows } of tables) lines.push(title, '', ...layOut([head, ...rows]), '');
  if (tables.length > 0) lines.push(benchmarkNote(result), '');
  const measured = seeds.filter(({ state }) => state === 'measured');
  if (measured.length > 0 && configuration.probe) {
    const counts = Object.keys(measured[0].buckets).map((bucket) => {
      const prompts = measured.map(({ buckets }) => buckets[bucket].prompts);
      return `${bucket} ${range(prompts)}`;
    });
    lines.push(`Prompts per seed: ${counts.join(', ')}; in no bucket ${range(measured.map(({ aside }) => aside))}`, '');
  }
  const variantRows = summary.variants.filter(({ quantities }) => quantities['pass@1'].mean !== null);
  if (variantRows.length > 0) {
    lines.push('At the end, mean over seeds with its 95 % interval', '');
    lines.push(
      ...layOut([['variant', 'bucket', 'pass@1', 'pass@8', 'steps to 50 %'], ...variantRows.map(variantCells)]),
      '',
    );
  }
  const pairRows = summary.pairs.filter(({ quantities }) => quantities['pass@1'].mean !== null);
  if (pairRows.length > 0) {
    lines.push('Differences, paired by seed', '');
    const head = ['variant − baseline', 'bucket', 'pass@1', 'p', 'at equal tokens', 'over the run', 'by seed'];
    lines.push(...layOut([head, ...pairRows.map(pairCells)]), '');
  }
  return [...lines, ...notes].join('\n').trimEnd();
}

function variantCells({ variant, bucket, quantities, half }: VariantSummary): string[] {
  return [variant, bucket, interval(quantities['pass@1']), interval(quantities['pass@8']), halfText(half)];
}

function pairCells({ variant, baseline, bucket, quantities }: PairSummary): string[] {
  const { p } = quantities['pass@1'];
  return [
    `${variant} − ${baseline}`,
    bucket,
    interval(quantities['pass@1'], true),
    pText(p),
    interval(quantities['pass@1/equal_tokens'], true),
    interval(quantities['pass@1/mean'], true),
    seedList(quantities['pass@1'].values),
  ];
}

export function seedList(values: readonly (number | null)[]): string {
  return values.map((value) => (value === null ? '–' : percent(value, true))).join(' ');
}

/** `120 (4 of 5)`; `not reached (1 of 5)` if the median run never did. */
export function halfText({ reached, runs, median_steps }: TimeToHalf): string {
  if (runs === 0) return '–';
  return `${median_steps ?? 'not reached'} (${reached} of ${runs})`;
}

function range(values: readonly number[]): string {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return low === high ? String(low) : `${low} to ${high}`;
}
