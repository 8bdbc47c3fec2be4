// Wraps text to the width of a terminal.

import { homedir } from 'node:os';
import { isAbsolute, relative, sep } from 'node:path';

/** The width of the terminal that standard output is connected to; 80 if it is not one. */
export function terminalWidth(): number {
  return Math.max(40, process.stdout.columns ?? 80);
}

/** The widest line of a command's help. */
export const helpWidth = 120;

/** Stands for a space at which a line must not be broken; never occurs in text. */
const noBreak = '\0';

/**
 * Text in lines of at most `width` columns, all but the first indented by `indent`. Longer words are broken, preferably after a
 * slash. Text between backticks is broken only if it does not fit on one line, because a command copied from two lines would be
 * run as two.
 */
export function wrap(text: string, { width = terminalWidth(), indent = 0 } = {}): string {
  const room = width - indent;
  const lines: string[] = [];
  for (const paragraph of text.split('\n')) {
    let line = '';
    const words = paragraph.replaceAll(/`[^`]+`/g, (command) =>
      command.length <= room ? command.replaceAll(' ', noBreak) : command,
    );
    for (const word of words.split(' ').flatMap((each) => pieces(each, room))) {
      const joined = line === '' || word.isContinued ? line + word.text : `${line} ${word.text}`;
      if (joined.length <= room) line = joined;
      else {
        lines.push(line);
        line = word.text;
      }
    }
    lines.push(line);
  }
  return lines.join(`\n${' '.repeat(indent)}`).replaceAll(noBreak, ' ');
}

function pieces(word: string, room: number): { text: string; isContinued: boolean }[] {
  const result: { text: string; isContinued: boolean }[] = [];
  for (let rest = word; rest !== '' || result.length === 0; ) {
    const slash = rest.lastIndexOf('/', room - 1);
    const length = rest.length <= room ? rest.length : slash > 0 ? slash + 1 : room;
    result.push({ text: rest.slice(0, length), isContinued: result.length > 0 });
    rest = rest.slice(length);
  }
  return result;
}

/** The shortest way to type a path: relative to the working directory or to the home folder. */
export function shortPath(path: string): string {
  const within = (folder: string) => {
    const way = relative(folder, path);
    return way !== '' && !way.startsWith('..') && !isAbsolute(way) ? way : undefined;
  };
  const fromHome = within(homedir());
  return within(process.cwd()) ?? (fromHome === undefined ? path : `~${sep}${fromHome}`);
}

/** A text in one line, as JSON; only its end if it is longer than `most` characters, since answers come last. */
export function shorten(text: string, most: number): string {
  const whole = [...text];
  return JSON.stringify(whole.length <= most ? text : `…${whole.slice(-most).join('')}`);
}
