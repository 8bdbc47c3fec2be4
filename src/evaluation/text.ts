// Numbers of evaluations and comparisons as text.

import type { Estimate } from './statistics.js';

/** A share in percent: `41.2 [38.0, 44.9]`. */
export function interval({ mean, low, high }: Estimate, signed = false): string {
  if (mean === null) return '–';
  return low === null || high === null
    ? percent(mean, signed)
    : `${percent(mean, signed)} [${percent(low, signed)}, ${percent(high, signed)}]`;
}

export function percent(share: number, signed = false): string {
  const text = (100 * Math.abs(share)).toFixed(1);
  const isZero = Number(text) === 0;
  return `${share < 0 && !isZero ? '−' : signed && !isZero ? '+' : ''}${text}`;
}

export function pText(p: number | null): string {
  return p === null ? '–' : p < 0.001 ? '< 0.001' : p.toFixed(3);
}

/** Cells aligned in columns, one line per row. */
export function layOut(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  return rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column]))
      .join('  ')
      .trimEnd(),
  );
}
