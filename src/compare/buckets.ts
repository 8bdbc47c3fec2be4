// Buckets of prompts by their success before training.

import { checkNumber, checkObject, describe, rangeError, typeError } from '../base/check.js';

/** The smallest and the largest share of right completions, by name; in ascending order, without overlap. */
export type Buckets = Readonly<Record<string, readonly [low: number, high: number]>>;

/** All bucketed prompts together, in results. */
export const everything = 'all';

const usual: Buckets = { hard: [0.02, 0.15], medium: [0.3, 0.7], easy: [0.85, 0.98] };

/** TypeError or RangeError that names the bucket. */
export function checkBuckets(value: unknown): Buckets {
  if (value === undefined) return usual;
  const buckets = Object.entries(checkObject('buckets', value)).map(([name, range]) => {
    if (!/^[\w-]+$/.test(name) || name === everything) {
      throw rangeError('buckets', `names of letters, digits, _ and -, other than '${everything}'`, describe(name));
    }
    const field = `buckets.${name}`;
    if (!Array.isArray(range) || range.length !== 2) throw typeError(field, '[low, high]', range);
    const low = checkNumber(`${field}[0]`, range[0], { min: 0, max: 1 });
    return { name, low, high: checkNumber(`${field}[1]`, range[1], { min: low, max: 1 }) };
  });
  if (buckets.length === 0) throw rangeError('buckets', 'at least one', 'none');
  buckets.sort((a, b) => a.low - b.low || a.high - b.high);
  buckets.forEach(({ name, low }, i) => {
    const before = buckets[i - 1];
    if (before && low < before.high) {
      throw rangeError(
        `buckets.${name}`,
        `a lower end of at least ${before.high}, the upper end of ${before.name}`,
        String(low),
      );
    }
  });
  return Object.fromEntries(buckets.map(({ name, low, high }) => [name, [low, high]]));
}

/** The bucket that contains a share of right completions: the lower one if two touch there; null if there is none. */
export function bucketOf(buckets: Buckets, share: number): string | null {
  const found = Object.entries(buckets).find(([, [low, high]]) => share >= low && share <= high);
  return found?.[0] ?? null;
}
