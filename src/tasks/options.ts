// Checks of task options.

import { checkChoice, checkKeys, checkNumber, checkObject, rangeError, typeError } from '../base/check.js';
import { type Split, splits } from './split.js';

/** The options common to all generated tasks. */
export interface GeneratorOptions {
  /** Which problems the order of `example` draws. An integer from 0. */
  seed: number;
  /** Number of problems of the list. Default: infinite. */
  size?: number;
  /**
   * `train` and `held-out` share no problem, whatever their seeds and other options: the problem itself decides its split. One
   * in five is held out. Default `train`.
   */
  split?: Split;
}

/** A count, or the fewest and the most. */
export type Range = number | readonly [fewest: number, most: number];

/** Returns the options after checking their common fields and the names of all fields. */
export function checkOptions<T extends GeneratorOptions>(options: T, own: readonly (keyof T & string)[]): T {
  const o = checkObject('options', options);
  checkKeys('', o, ['seed', 'size', 'split', ...own]);
  checkNumber('seed', o.seed, { min: 0, max: Number.MAX_SAFE_INTEGER, integer: true });
  checkSize(o.size);
  if (o.split !== undefined) checkChoice('split', o.split, splits);
  return options;
}

export function checkSize(size: unknown): void {
  if (size !== undefined) checkNumber('size', size, { min: 1, max: maxSize, integer: true });
}

/** RangeError for an index outside a list of `size` problems. */
export function checkIndex(index: number, size = maxSize): void {
  checkNumber('index', index, { min: 0, max: size - 1, integer: true });
}

/** Random numbers are addressed by 32-bit words. */
const maxSize = 2 ** 31;

export function checkRange(field: string, value: unknown, limits: { min: number; max: number }): [number, number] {
  if (!Array.isArray(value)) {
    if (typeof value !== 'number') throw typeError(field, 'an integer or an array [minimum, maximum]', value);
    const count = checkNumber(field, value, { ...limits, integer: true });
    return [count, count];
  }
  if (value.length !== 2) throw rangeError(field, 'an array [minimum, maximum]', `${value.length} values`);
  const fewest = checkNumber(`${field}[0]`, value[0], { ...limits, integer: true });
  return [fewest, checkNumber(`${field}[1]`, value[1], { min: fewest, max: limits.max, integer: true })];
}

/** "1 digit", "3 digits", "1 to 4 digits". */
export function rangeText([fewest, most]: readonly [number, number], unit: string): string {
  const count = fewest === most ? `${fewest}` : `${fewest} to ${most}`;
  return `${count} ${unit}${most === 1 ? '' : 's'}`;
}
