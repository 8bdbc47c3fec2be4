// The end of a step that takes longer than it may once it is asked to end: a process that is told to end is killed when it
// has not done so in time (Kubernetes: after 30 s).

import type { EventLoopWatch } from './event-loop.js';

/** Seconds that the step at hand may take to end. Together with saving, less than what Kubernetes and its like allow. */
export const usualGrace = 20;

/** Why a step was undone that was at work when the run was to end. */
export class Interrupted extends Error {
  override name = 'Interrupted';
}

/** Aborts when the step at hand must not go on. `release` when no step is at work any more. */
export interface Interruption {
  readonly signal: AbortSignal;
  release(): void;
}

/** The longest that a timer of Node waits, in milliseconds. */
const longestTimer = 2 ** 31 - 1;

/**
 * Aborts `grace` seconds after `request` does. Sooner by the stretch of the event loop that the request may have waited for,
 * and by the longest one so far (`known` seconds before this step), since the timer would wait for the end of the next.
 */
export function interruption(
  request: AbortSignal | undefined,
  grace: number,
  loop: EventLoopWatch,
  known: number,
): Interruption {
  const controller = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const interrupt = () =>
    controller.abort(new Interrupted(`the step did not end within ${grace} s of being asked to: it is undone`));
  const requested = () => {
    const left = 1000 * (grace - loop.justEnded - Math.max(known, loop.longest));
    if (left <= 0) interrupt();
    else if (left <= longestTimer) timer = setTimeout(interrupt, left);
  };
  if (request?.aborted) requested();
  else request?.addEventListener('abort', requested, { once: true });
  return {
    signal: controller.signal,
    release() {
      clearTimeout(timer);
      request?.removeEventListener('abort', requested);
    },
  };
}
