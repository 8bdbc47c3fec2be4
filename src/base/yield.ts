// Lets long computations yield to the event loop from time to time, so that signals and timers do not have to wait.

const interval = 50; // milliseconds
let last = performance.now();
/** The pending yield, shared by all concurrent callers, so that `last` is the time of the last turn of the event loop. */
let turn: Promise<void> | undefined;

/** Whether it is time to yield to the event loop. */
export function isYieldDue(): boolean {
  return performance.now() - last >= interval;
}

/**
 * Resolves at once, or after yielding to the event loop if the last yield was some time ago. Rejects with the signal's reason if
 * the signal has aborted.
 */
export async function yieldToEventLoop(signal?: AbortSignal): Promise<void> {
  if (isYieldDue()) {
    turn ??= new Promise((resolve) => {
      setImmediate(() => {
        turn = undefined;
        last = performance.now();
        resolve();
      });
    });
    await turn;
  }
  signal?.throwIfAborted();
}
