// Long computations give way to the event loop now and then, so that signals and timers are not kept waiting.

const interval = 50; // milliseconds
let last = performance.now();

/** Resolves at once, or after a turn of the event loop when the last one was some time ago. */
export async function breathe(): Promise<void> {
  if (performance.now() - last < interval) return;
  await new Promise((resolve) => setImmediate(resolve));
  last = performance.now();
}
