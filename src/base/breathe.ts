// Long computations give way to the event loop now and then, so that signals and timers are not kept waiting.

const interval = 50; // milliseconds
let last = performance.now();

/** Whether it is time for a turn of the event loop. */
export function isBreathless(): boolean {
  return performance.now() - last >= interval;
}

/**
 * Resolves at once, or after a turn of the event loop when the last one was some time ago. Rejects with the signal's reason
 * when the signal has aborted.
 */
export async function breathe(signal?: AbortSignal): Promise<void> {
  if (isBreathless()) {
    await new Promise((resolve) => setImmediate(resolve));
    last = performance.now();
  }
  signal?.throwIfAborted();
}
