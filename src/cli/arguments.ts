// Parses command-line arguments with node's own parser; errors are one line.

import { type ParseArgsConfig, parseArgs } from 'node:util';
import { boundsText, checkNumber } from '../base/check.js';

/** Incorrect usage of the command: exit code 2. */
export class UsageError extends Error {
  override name = 'UsageError';
}

type Options = NonNullable<ParseArgsConfig['options']>;
type Parsed<O extends Options> = ReturnType<typeof parseArgs<{ options: O; allowPositionals: true }>>;

/** Flags and positional arguments. UsageError for unknown or empty flags and for too few or too many arguments. */
export function parse<const O extends Options>(
  args: readonly string[],
  names: readonly string[],
  options: O,
): { flags: Parsed<O>['values']; positionals: string[] } {
  let parsed: Parsed<O>;
  try {
    parsed = parseArgs({ args: [...args], options, allowPositionals: true });
  } catch (error) {
    throw new UsageError(inPlainWords(error as Error, Object.keys(options)));
  }
  const { positionals } = parsed;
  if (positionals.length !== names.length) {
    const expected = names.length === 0 ? 'no argument' : names.join(' and ');
    throw new UsageError(`expected ${expected}, got ${positionals.length === 0 ? 'nothing' : positionals.join(' ')}`);
  }
  for (const [name, value] of Object.entries(parsed.values)) {
    if ([value].flat().includes('')) throw new UsageError(`--${name}: expected a value, got ""`);
  }
  return { flags: parsed.values, positionals };
}

/** Rewrites node's messages about flags in the style of the other errors. */
function inPlainWords({ message }: Error, names: readonly string[]): string {
  const unknown = /^Unknown option '(--?([^']*))'/.exec(message);
  if (unknown) {
    const meant = names.find((name) => isOneSlipAway(unknown[2], name));
    return `${unknown[1]}: unknown flag${meant === undefined ? '; see --help' : `; did you mean --${meant}?`}`;
  }
  const missing = /^Option '(?:-\w, )?(--[\w-]+) <value>' argument missing/.exec(message);
  if (missing) return `${missing[1]}: expected a value, got nothing`;
  const needless = /^Option '(?:-\w, )?(--[\w-]+)' does not take an argument/.exec(message);
  return needless ? `${needless[1]}: expected no value` : message;
}

/** Whether one word is a typo of the other (one letter added, missing, changed or two swapped), or its beginning. */
function isOneSlipAway(given: string, name: string): boolean {
  if (given.length > 2 && name.startsWith(given)) return true;
  if (Math.abs(given.length - name.length) > 1) return false;
  let start = 0;
  while (start < given.length && given[start] === name[start]) start++;
  const [own, other] = [given.slice(start), name.slice(start)];
  const isSwap = own[0] === other[1] && own[1] === other[0] && own.slice(2) === other.slice(2);
  return isSwap || own.slice(1) === other.slice(1) || own === other.slice(1) || own.slice(1) === other;
}

/** A number given as a flag. */
export function numberFlag(
  name: string,
  text: string | undefined,
  bounds: Parameters<typeof checkNumber>[2],
): number | undefined {
  if (text === undefined) return undefined;
  const value = text.trim() === '' ? Number.NaN : Number(text);
  try {
    return checkNumber(`--${name}`, value, bounds);
  } catch {
    throw new UsageError(`--${name}: expected ${boundsText(bounds)}, got ${JSON.stringify(text)}`);
  }
}

/** A flag with a fixed set of values. */
export function choiceFlag<const T extends string>(name: string, text: string, choices: readonly T[]): T {
  if (choices.includes(text as T)) return text as T;
  throw new UsageError(`--${name}: expected one of ${choices.join(', ')}, got ${JSON.stringify(text)}`);
}
