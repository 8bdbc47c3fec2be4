// SIGINT, SIGTERM and SIGHUP (the terminal was closed): the first asks a run to end cleanly, the second makes it save the last
// complete state and exit at once, a third ends the process immediately.

export type StopSignal = 'SIGHUP' | 'SIGINT' | 'SIGTERM';

/** Exit codes that shells use for processes ended by a signal. */
export const exitCodes: Readonly<Record<StopSignal, number>> = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 };

export interface StopRequest {
  /** Aborts with the first signal. */
  readonly signal: AbortSignal;
  /** The first signal. */
  readonly received: StopSignal | undefined;
  /** Stops listening. */
  release(): void;
}

export interface StopListeners {
  onFirst(signal: StopSignal): void;
  /** Saves the last complete state. The process exits when it returns or resolves; with code 1 and a message if it fails. */
  onSecond(signal: StopSignal): void | Promise<void>;
}

export function listenForStop({ onFirst, onSecond }: StopListeners): StopRequest {
  const controller = new AbortController();
  let received: StopSignal | undefined;
  let isEnding = false;
  const listener = (signal: StopSignal) => {
    if (received === undefined) {
      received = signal;
      onFirst(signal);
      controller.abort(new Error(signal));
    } else if (isEnding) process.exit(exitCodes[signal]);
    else {
      isEnding = true;
      end(signal, onSecond);
    }
  };
  const signals = Object.keys(exitCodes) as StopSignal[];
  for (const signal of signals) process.on(signal, listener);
  return {
    signal: controller.signal,
    get received() {
      return received;
    },
    release: () => {
      for (const signal of signals) process.removeListener(signal, listener);
    },
  };
}

function end(signal: StopSignal, save: StopListeners['onSecond']): void {
  const failed = (error: unknown) => {
    process.stderr.write(`groupgrad: ${(error as Error).message}\n`);
    process.exit(1);
  };
  try {
    const saved = save(signal);
    // Exit synchronously if possible, so that the running step cannot continue.
    if (saved === undefined) process.exit(exitCodes[signal]);
    saved.then(() => process.exit(exitCodes[signal]), failed);
  } catch (error) {
    failed(error);
  }
}
