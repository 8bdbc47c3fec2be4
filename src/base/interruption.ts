// Interrupts a step that takes too long to finish after a stop request, because a process that does not exit in time is killed:
// by Kubernetes, for example, after 30 s.

import type { EventLoopWatch } from './event-loop.js';

/** Default grace period in seconds. Leaves time to save within the 30 s that Kubernetes and similar systems allow. */
export const usualGrace = 20;

/** Thrown by a step that was interrupted. */
export class Interrupted extends Error {
  override name = 'Interrupted';
}

/** `signal` aborts when the step must stop. `release` frees the timer once the step has ended. */
export interface Interruption {
  readonly signal: AbortSignal;
  release(): void;
}

/** Node's longest timer, in milliseconds. */
const longestTimer = 2 ** 31 - 1;

/**
 * Aborts `grace` seconds after `request`. Subtracts the time for which the event loop was blocked when the request arrived, and
 * the longest such time so far (`known` in earlier steps), because the loop may be blocked as long again when the timer is due.
 */
export function interruption(
  request: AbortSignal | undefined,
  grace: number,
  loop: EventLoopWatch,
  known: number,
): Interruption {
  const controller = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const interrupt = () => controller.abort(new Interrupted(`the step did not end within ${grace} s and was discarded`));
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
