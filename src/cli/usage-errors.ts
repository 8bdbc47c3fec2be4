// Separates usage errors, which exit with code 2 and name the flag, from other errors.

import { UsageError } from './arguments.js';

/** The changes that a call makes to a configuration. */
export interface Changes {
  /** The values of `--set`, in order. */
  set: readonly string[];
  /** Throws if the configuration with the first `count` of these changes is invalid. */
  check: (count: number) => unknown;
}

/** Runs code that depends only on arguments: any error is a usage error. */
export async function asUsageErrors<T>(run: () => T | Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw new UsageError((error as Error).message, { cause: error });
  }
}

/** Runs code that depends on a changed configuration: an error caused by the changes is a usage error. */
export async function changesAsUsageErrors<T>(changes: Changes, run: () => T | Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    const message =
      error instanceof TypeError || error instanceof RangeError ? usageMessage(error.message, changes) : undefined;
    throw message === undefined ? error : new UsageError(message, { cause: error });
  }
}

/** The message with its flag; undefined if no change caused the error. */
function usageMessage(message: string, { set, check }: Changes): string | undefined {
  if (message.startsWith('--')) return message;
  const path = /^[\w.[\]-]+(?=: )/.exec(message)?.[0];
  const isAbout = (assignment: string) => path !== undefined && areRelated(path, assignment.split('=', 1)[0]);
  if (set.some(isAbout)) return `--set ${message}`;
  // A change may be invalid only in combination with others, such as a schedule without its end.
  if (fails(() => check(0))) return undefined;
  const wrong = set.findIndex((_, i) => fails(() => check(i + 1)));
  return wrong < 0 ? undefined : `--set ${set[wrong]}: ${message}`;
}

/** Whether two paths are the same or one contains the other. */
function areRelated(a: string, b: string): boolean {
  const isWithin = (inner: string, outer: string) =>
    inner.startsWith(outer) && /^($|[.[])/.test(inner.slice(outer.length));
  return isWithin(a, b) || isWithin(b, a);
}

function fails(run: () => void): boolean {
  try {
    run();
    return false;
  } catch {
    return true;
  }
}
