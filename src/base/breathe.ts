// Lets long computations yield to the event loop from time to time, so that signals and timers do not have to wait.

const interval = 50; // milliseconds
let last = performance.now();

/** Whether it is time to yield to the event loop. */
export function isBreathless(): boolean {
  return performance.now() - last >= interval;
}

/**
 * Resolves at once, or after yielding to the event loop if the last yield was some time ago. Rejects with the signal's reason if
 * the signal has aborted.
 */
export async function breathe(signal?: AbortSignal): Promise<void> {
  if (isBreathless()) {
    await new Promise((resolve) => setImmediate(resolve));
    last = performance.now();
  }
  signal?.throwIfAborted();
}
