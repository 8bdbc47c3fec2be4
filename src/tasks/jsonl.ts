// Problems for a character-level policy from the user's JSON-lines file: {"prompt": "2+2=", "answer": "4"}. Read like a data set,
// with the additional information that such a policy needs: the characters and lengths of the texts.

import { basename } from 'node:path';
import { checkChoice, checkKeys, checkNumber, checkObject, describe, rangeError, typeError } from '../base/check.js';
import { optionalNumber, optionalText, textColumn } from '../data/columns.js';
import { openRows, type Row } from '../data/row-file.js';
import { checkIndex } from './options.js';
import { type FileSource, withSource } from './source.js';
import { type Split, splitOf, splits } from './split.js';
import type { Example, Task } from './task.js';

export interface JsonlOptions<Fields extends object = Record<string, unknown>> {
  /**
   * The file: UTF-8, or UTF-16 with a byte-order mark; one JSON object per line, blank lines are skipped. It is read and checked
   * once, when the task is created, and row by row after that. A relative path is relative to the working directory; in a
   * configuration's `{ task: 'jsonl', path }`, to the configuration's folder.
   */
  path: string;
  /**
   * `held-out` takes one prompt in five, chosen by the prompt's text, and `train` the others, so the two share no prompt.
   * Default: every line.
   */
  split?: Split;
  /**
   * Every character that may occur. Use the same for all files that one policy reads. Default: the characters of the whole
   * file's prompts and solutions.
   */
  characters?: string;
  /** The reward of a completion's text, in [0, 1]. Default: 1 if it is exactly the answer, else 0. */
  score?: (text: string, example: Example & Fields) => number;
}

/**
 * A task from a file, in the file's order. Each line holds `prompt` and `answer` (a string or a number), and may hold `solution`
 * (the same types; default: the answer), `difficulty` (a number; default 0) and any other fields for scorers and rewards to see
 * in the example. For other columns and formats, chats and graders, see `dataset`.
 * @throws TypeError or RangeError that names the line and the field.
 */
export function jsonl<Fields extends object = Record<string, unknown>>(
  options: JsonlOptions<Fields>,
): Task<Example & Fields> {
  const o = checkObject('options', options);
  checkKeys('', o, ['path', 'split', 'characters', 'score']);
  const { path, split, characters, score } = o as unknown as JsonlOptions<Fields>;
  if (split !== undefined) checkChoice('split', split, splits);
  if (score !== undefined && typeof score !== 'function') throw typeError('score', 'a function', score);
  const known = characters === undefined ? undefined : checkCharacters(characters);
  const found = new Set<string>();
  const chosen: number[] = [];
  let [seen, maxPromptLength, maxSolutionLength] = [0, 0, 0];
  const file = openRows(path, { format: 'jsonl' }, (row, where) => {
    const { prompt, answer, solution } = readExample(row, where);
    for (const character of prompt + answer + solution) {
      if (known && !known.has(character)) {
        throw rangeError(where, `characters of ${describe(characters)}`, describe(character));
      }
      found.add(character);
    }
    maxPromptLength = Math.max(maxPromptLength, [...prompt].length);
    maxSolutionLength = Math.max(maxSolutionLength, [...solution].length);
    if (split === undefined || splitOf(prompt) === split) chosen.push(seen);
    seen++;
  });
  if (chosen.length === 0) throw rangeError(path, `problems of the split '${split}'`, 'none');
  const read = (row: number) => readExample(file.row(row), `${path}, row ${row + 1}`) as Example & Fields;
  const task: Task<Example & Fields> = {
    name: basename(path),
    characters: characters ?? [...found].sort((a, b) => a.codePointAt(0)! - b.codePointAt(0)!).join(''),
    maxPromptLength,
    maxSolutionLength,
    size: chosen.length,
    example(index) {
      checkIndex(index, chosen.length);
      return read(chosen[index]);
    },
    parse(prompt) {
      for (let row = 0; row < file.size; row++) {
        const example = read(row);
        if (example.prompt === prompt) return example;
      }
      return undefined;
    },
    score(text, example) {
      if (!score) return text === example.answer ? 1 : 0;
      return checkNumber('score', score(text, example), { min: 0, max: 1 });
    },
  };
  const source: FileSource = { file: path, sha256: file.sha256, problems: file.size, split: split ?? null };
  return withSource(task, source);
}

function readExample(row: Row, where: string): Example {
  const place = (field: string) => ({ where, field });
  const answer = textColumn(row, 'answer', place('answer'));
  return {
    ...row,
    prompt: textColumn(row, 'prompt', place('prompt')),
    answer,
    solution: optionalText(row, 'solution', place('solution')) ?? answer,
    difficulty: optionalNumber(row, 'difficulty', place('difficulty')) ?? 0,
  };
}

function checkCharacters(characters: unknown): Set<string> {
  if (typeof characters !== 'string') throw typeError('characters', 'a string', characters);
  const known = new Set(characters);
  if (known.size !== [...characters].length) {
    throw rangeError('characters', 'distinct characters', describe(characters));
  }
  return known;
}
