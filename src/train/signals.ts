// SIGINT and SIGTERM for a run: the first asks it to end in good order, the second ends the process at once.

export type StopSignal = 'SIGINT' | 'SIGTERM';

/** What a shell expects of a process that a signal has ended. */
export const exitCodes: Readonly<Record<StopSignal, number>> = { SIGINT: 130, SIGTERM: 143 };

export interface StopRequest {
  /** Aborts with the first signal. */
  readonly signal: AbortSignal;
  /** Which signal that was. */
  readonly received: StopSignal | undefined;
  /** Stops listening. */
  release(): void;
}

export function listenForStop(onFirst: (signal: StopSignal) => void): StopRequest {
  const controller = new AbortController();
  let received: StopSignal | undefined;
  const listener = (signal: StopSignal) => {
    if (received !== undefined) process.exit(exitCodes[signal]);
    received = signal;
    onFirst(signal);
    controller.abort(new Error(signal));
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
