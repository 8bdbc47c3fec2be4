// Whether an addon fits this code. One built from older sources can have the same version, but lack exports.

import { packageVersion } from '../base/version.js';

/** The names of a mirror's members. A record, because the type checker then requires each of them. */
export type MemberNames<T> = Readonly<Record<keyof T, true>>;

/** The names that `exports` has no value for, after `prefix`. */
export function missingExports<T>(exports: Partial<T> | undefined, names: MemberNames<T>, prefix = ''): string[] {
  return (Object.keys(names) as (keyof T & string)[])
    .filter((name) => exports?.[name] === undefined)
    .map((name) => prefix + name);
}

/** Names shown of those that an addon lacks. */
const maxShown = 5;

/** Why an addon does not fit, as what follows its path; undefined if it does. `missing`: the exports that it lacks. */
export function misfit(version: string | undefined, missing: readonly string[]): string | undefined {
  if (version !== packageVersion()) return `was built for groupgrad ${version}, this is ${packageVersion()}`;
  if (missing.length === 0) return undefined;
  const more = missing.length > maxShown ? ` and ${missing.length - maxShown} more` : '';
  return `was built from older sources: it lacks ${missing.slice(0, maxShown).join(', ')}${more}`;
}
