// Numbers and tables of the studies, as in docs/hadw.md.

export interface Table {
  title: string;
  /** Markdown. */
  lines: string[];
}

/** `value` with a fixed number of digits and a true minus sign. */
export function digits(value: number, count: number): string {
  return value
    .toFixed(count)
    .replace(/^-(0\.?0*)$/, '$1')
    .replace('-', '−');
}

/** The same with a plus sign above 0. */
export function signed(value: number, count: number): string {
  const text = digits(value, count);
  return text.startsWith('−') || Number(text) === 0 ? text : `+${text}`;
}

/** The first column contains names, the others numbers. */
export function table(title: string, head: readonly string[], rows: readonly (readonly string[])[]): Table {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return { title, lines: [line(head), line(head.map((_, i) => (i === 0 ? '---' : '---:'))), ...rows.map(line)] };
}
