// Whose mistake an error is: that of the call, which then exits with 2 and is named by its flag, or that of something else.

import { UsageError } from './arguments.js';

/** What a call has changed about a configuration. */
export interface Changes {
  /** Of `--set`, in order. */
  set: readonly string[];
  /** Throws where the configuration with the first `count` of these changes is wrong. */
  check: (count: number) => unknown;
}

/** Runs what depends on arguments alone: whatever it throws is a mistake of the call. */
export async function blamingCall<T>(run: () => T | Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw new UsageError((error as Error).message, { cause: error });
  }
}

/** Runs what depends on a changed configuration: an error that the changes have made is a mistake of the call. */
export async function blamingChanges<T>(changes: Changes, run: () => T | Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    const message =
      error instanceof TypeError || error instanceof RangeError ? mistake(error.message, changes) : undefined;
    throw message === undefined ? error : new UsageError(message, { cause: error });
  }
}

/** The message with the flag in it that it is about; undefined where it is about none. */
function mistake(message: string, { set, check }: Changes): string | undefined {
  if (message.startsWith('--')) return message;
  const path = /^[\w.[\]-]+(?=: )/.exec(message)?.[0];
  const isAbout = (assignment: string) => path !== undefined && areRelated(path, assignment.split('=', 1)[0]);
  if (set.some(isAbout)) return `--set ${message}`;
  // A value may be wrong together with others, such as a schedule without its end.
  if (fails(() => check(0))) return undefined;
  const wrong = set.findIndex((_, i) => fails(() => check(i + 1)));
  return wrong < 0 ? undefined : `--set ${set[wrong]}: ${message}`;
}

/** Whether one path is the other's or lies within it. */
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
