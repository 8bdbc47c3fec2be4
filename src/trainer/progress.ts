// Progress for people: one line that stays put on a terminal, a few plain lines elsewhere.

import type { WriteStream } from 'node:tty';

export interface Progress {
  /** Shows the state. Where output is not a terminal, only milestones are printed. */
  update(text: string, milestone: boolean): void;
  /** Leaves a line for good. */
  print(text: string): void;
}

/** Progress on a stream, usually process.stdout. */
export function createProgress(
  stream: NodeJS.WritableStream & Partial<Pick<WriteStream, 'isTTY' | 'columns'>>,
): Progress {
  const eraseLine = '\r\x1b[2K';
  const print = (text: string) => void stream.write(`${stream.isTTY ? eraseLine : ''}${text}\n`);
  return {
    print,
    update(text, milestone) {
      if (!stream.isTTY) {
        if (milestone) print(text);
        return;
      }
      // A line that wraps could not be erased.
      stream.write(eraseLine + text.slice(0, (stream.columns ?? 80) - 1));
    },
  };
}
