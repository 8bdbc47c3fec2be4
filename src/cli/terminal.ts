// Text within the width of a terminal.

import { homedir } from 'node:os';
import { isAbsolute, relative, sep } from 'node:path';

/** The width of the terminal that standard output is; 80 elsewhere. */
export function terminalWidth(): number {
  return Math.max(40, process.stdout.columns ?? 80);
}

/** In place of a space at which a line is not broken; occurs in no text. */
const noBreak = '\0';

/**
 * Text in lines of at most `width` columns, all but the first indented by `indent`. A word that is longer is broken, at a
 * slash where it has one. What stands between backticks is broken only where it does not fit into a line: a command that is
 * copied from two lines would be run as two.
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

/** A path as short as it can be typed: from the working directory, or from the home folder. */
export function shortPath(path: string): string {
  const within = (folder: string) => {
    const way = relative(folder, path);
    return way !== '' && !way.startsWith('..') && !isAbsolute(way) ? way : undefined;
  };
  const fromHome = within(homedir());
  return within(process.cwd()) ?? (fromHome === undefined ? path : `~${sep}${fromHome}`);
}

/** A text in one line, as JSON, with its end where it is longer than `most` characters: answers come last. */
export function shorten(text: string, most: number): string {
  const whole = [...text];
  return JSON.stringify(whole.length <= most ? text : `…${whole.slice(-most).join('')}`);
}
