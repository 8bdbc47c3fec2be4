// Summaries of the columns in a file of rows, and detection of texts that occur twice or in another file too.

import { createHash } from 'node:crypto';
import { describe } from '../base/check.js';
import type { Row } from './row-file.js';

/** The distribution of a list of numbers, such as lengths. */
export interface Spread {
  min: number;
  median: number;
  /** 95 % are at most this. */
  p95: number;
  max: number;
}

/** The distribution of some numbers; undefined if there are none. */
export function spreadOf(values: readonly number[]): Spread | undefined {
  if (values.length === 0) return undefined;
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.ceil(share * sorted.length) - 1];
  return { min: sorted[0], median: at(0.5), p95: at(0.95), max: sorted[sorted.length - 1] };
}

export interface ColumnSummary {
  name: string;
  /** How many rows have a value of each type: text, number, integer, boolean, list, object, … */
  types: Record<string, number>;
  /** Rows without the column, or with null in it. */
  missing: number;
  /** Number of different values; null if there are more than are counted. */
  different: number | null;
  /** Lengths of strings, in characters. */
  length?: Spread;
  /** The first two different values, shortened. */
  examples: string[];
}

const maxDistinct = 10_000;
const exampleLength = 60;

/** Collects the columns of rows, one row at a time. */
export class ColumnSummaries {
  private rows = 0;
  private readonly columns = new Map<
    string,
    { types: Map<string, number>; values: Set<string> | null; lengths: number[]; examples: string[] }
  >();

  add(row: Row): void {
    this.rows++;
    for (const [name, value] of Object.entries(row)) {
      let column = this.columns.get(name);
      if (!column) {
        column = { types: new Map(), values: new Set(), lengths: [], examples: [] };
        this.columns.set(name, column);
      }
      if (value === null || value === undefined) continue;
      const type = typeName(value);
      column.types.set(type, (column.types.get(type) ?? 0) + 1);
      if (typeof value === 'string') column.lengths.push([...value].length);
      const text = shown(value);
      if (column.examples.length < 2 && !column.examples.includes(text)) column.examples.push(text);
      column.values?.add(keyOf(value));
      if (column.values && column.values.size > maxDistinct) column.values = null;
    }
  }

  summaries(): ColumnSummary[] {
    return [...this.columns].map(([name, { types, values, lengths, examples }]) => {
      const there = [...types.values()].reduce((sum, count) => sum + count, 0);
      const length = spreadOf(lengths);
      return {
        name,
        types: Object.fromEntries(types),
        missing: this.rows - there,
        different: values?.size ?? null,
        ...(length && { length }),
        examples,
      };
    });
  }
}

function typeName(value: unknown): string {
  if (typeof value === 'string') return 'text';
  if (typeof value === 'bigint') return 'integer';
  if (typeof value === 'number') return Number.isInteger(value) ? 'integer' : 'number';
  if (typeof value === 'boolean') return 'boolean';
  if (Array.isArray(value)) return 'list';
  if (value instanceof Date) return 'date';
  return ArrayBuffer.isView(value) ? 'bytes' : 'object';
}

function asJson(value: unknown): string {
  return (
    JSON.stringify(value, (_, part: unknown) => (typeof part === 'bigint' ? String(part) : part)) ?? describe(value)
  );
}

function shown(value: unknown): string {
  const text = typeof value === 'object' && !ArrayBuffer.isView(value) ? asJson(value) : describe(value);
  const whole = [...text];
  return whole.length <= exampleLength ? text : `${whole.slice(0, exampleLength).join('')}…`;
}

/** A short key that is different for different values. */
function keyOf(value: unknown): string {
  const text = typeof value === 'string' ? value : asJson(value);
  return text.length <= 40
    ? `${typeName(value)} ${text}`
    : createHash('sha256').update(text).digest('base64').slice(0, 16);
}

/** The words of a text without case, punctuation and spaces, whose changes do not make another problem. */
function plainWords(text: string): string[] {
  return (
    text
      .normalize('NFKC')
      .toLowerCase()
      .match(/[\p{L}\p{N}]+/gu) ?? []
  );
}

/** Length of a sequence of words that two unrelated texts rarely share: the one GPT-3's authors used (arXiv 2005.14165, appendix C). */
export const runLength = 13;

/** How two texts match: exactly; except for case, punctuation and spaces; or in 13 consecutive words. */
export type Likeness = 'same' | 'alike' | 'shares words';

/** An index of texts that others are compared with. Stores hashes, not texts. */
export class TextIndex {
  private readonly exact = new Map<string, string>();
  private readonly plain = new Map<string, string>();
  private readonly runs = new Map<string, string>();

  /** `withRuns`: also look for shared sequences of words. */
  constructor(private readonly withRuns: boolean) {}

  /** Adds a text and its location. Entries that exist already are kept. */
  add(text: string, where: string): void {
    const words = plainWords(text);
    const put = (map: Map<string, string>, key: string) => {
      if (!map.has(key)) map.set(key, where);
    };
    put(this.exact, hash(text));
    put(this.plain, hash(words.join(' ')));
    if (this.withRuns) for (const run of runsOf(words)) put(this.runs, run);
  }

  /** The closest match of a text in the index. */
  find(text: string): { likeness: Likeness; where: string } | undefined {
    const words = plainWords(text);
    const same = this.exact.get(hash(text));
    if (same !== undefined) return { likeness: 'same', where: same };
    const alike = words.length > 0 ? this.plain.get(hash(words.join(' '))) : undefined;
    if (alike !== undefined) return { likeness: 'alike', where: alike };
    if (!this.withRuns) return undefined;
    for (const run of runsOf(words)) {
      const where = this.runs.get(run);
      if (where !== undefined) return { likeness: 'shares words', where };
    }
    return undefined;
  }
}

function* runsOf(words: readonly string[]): Generator<string> {
  for (let i = 0; i + runLength <= words.length; i++) yield hash(words.slice(i, i + runLength).join(' '));
}

/** 96 bits: enough that no two texts of a data set collide by chance. */
function hash(text: string): string {
  return createHash('sha256').update(text).digest('base64').slice(0, 16);
}
