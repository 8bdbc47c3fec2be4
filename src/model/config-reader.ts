// Reads a Hugging Face configuration key by key: a missing or null key takes its default, one of the wrong type is an error that
// names it.

import { type Bounds, checkBoolean, checkNumber, checkObject, describe, rangeError, typeError } from '../base/check.js';

/** Limit for counts and sizes; no model has larger ones. */
const size: Bounds = { min: 1, max: 2 ** 31 - 1, integer: true };

export class ConfigReader {
  /** @param path the object's name in errors: `config.json` */
  constructor(
    private readonly values: Readonly<Record<string, unknown>>,
    readonly path: string,
  ) {}

  /** The value of a key; undefined if it is missing or null. */
  get(key: string): unknown {
    return Object.hasOwn(this.values, key) ? (this.values[key] ?? undefined) : undefined;
  }

  /** Whether a key is present, even if null. */
  has(key: string): boolean {
    return Object.hasOwn(this.values, key);
  }

  field(key: string): string {
    return `${this.path}, ${key}`;
  }

  /** A whole number of at least 1. */
  size(key: string, fallback?: number): number {
    return checkNumber(this.field(key), this.get(key) ?? fallback, size);
  }

  /** A whole number of at least 1, or null: an explicit null is kept, a missing key takes the default. */
  nullableSize(key: string, fallback: number | null): number | null {
    const value = this.has(key) ? this.get(key) : fallback;
    return value === undefined || value === null ? null : checkNumber(this.field(key), value, size);
  }

  /** A number above 0. */
  positive(key: string, fallback?: number): number {
    return checkNumber(this.field(key), this.get(key) ?? fallback, { above: 0 });
  }

  /** A number above 0, or null: an explicit null is kept, a missing key takes the default. */
  nullablePositive(key: string, fallback: number | null): number | null {
    const value = this.has(key) ? this.get(key) : fallback;
    return value === undefined || value === null ? null : checkNumber(this.field(key), value, { above: 0 });
  }

  boolean(key: string, fallback: boolean): boolean {
    return checkBoolean(this.field(key), this.get(key) ?? fallback);
  }

  text(key: string, fallback?: string): string {
    const value = this.get(key) ?? fallback;
    if (typeof value !== 'string') throw typeError(this.field(key), 'a string', value);
    return value;
  }

  /** A list of at least `length` items, or undefined. */
  list(key: string, length: number): unknown[] | undefined {
    const value = this.get(key);
    if (value === undefined) return undefined;
    if (!Array.isArray(value)) throw typeError(this.field(key), 'a list', value);
    if (value.length < length) throw rangeError(this.field(key), `at least ${length} items`, String(value.length));
    return value.slice(0, length);
  }

  /** A list of exactly `length` numbers above 0. */
  positives(key: string, length: number): number[] {
    const value = this.get(key);
    if (!Array.isArray(value)) throw typeError(this.field(key), `a list of ${length} numbers`, value);
    if (value.length !== length) throw rangeError(this.field(key), `${length} numbers`, describe(value));
    return value.map((item, i) => checkNumber(`${this.field(key)}, number ${i}`, item, { above: 0 }));
  }

  /** A nested object, or undefined if it is missing, null or empty. */
  object(key: string): ConfigReader | undefined {
    const value = this.get(key);
    if (value === undefined) return undefined;
    const object = checkObject(this.field(key), value);
    return Object.keys(object).length === 0 ? undefined : new ConfigReader(object, this.field(key));
  }

  /** This object's keys, with those of another as a fallback. */
  over(other: ConfigReader | undefined): ConfigReader {
    return other ? new ConfigReader({ ...other.values, ...this.values }, this.path) : this;
  }

  /** Token ids: one, a list, or none. */
  tokens(key: string, fallback: readonly number[]): number[] {
    const value = this.has(key) ? this.get(key) : fallback;
    const list = value === undefined ? [] : Array.isArray(value) ? value : [value];
    return list.map((item) => checkNumber(this.field(key), item, { min: 0, max: 2 ** 31 - 1, integer: true }));
  }
}
