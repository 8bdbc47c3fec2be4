// Problems of one's own, from a file of JSON lines: {"prompt": "2+2=", "answer": "4"}.

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { checkChoice, checkKeys, checkNumber, checkObject, describe, rangeError, typeError } from '../base/check.js';
import { decodeText } from '../base/read-text.js';
import { checkIndex } from './options.js';
import { type FileSource, withSource } from './source.js';
import { type Split, splitOf, splits } from './split.js';
import type { Example, Task } from './task.js';

export interface JsonlOptions<Fields extends object = Record<string, unknown>> {
  /**
   * The file: UTF-8, or UTF-16 with a byte-order mark; one JSON object a line, blank lines are skipped. It is read once, when the
   * task is made. A relative path is one from the working directory; in a configuration's `{ task: 'jsonl', path }` from the
   * configuration's own folder.
   */
  path: string;
  /**
   * `held-out` takes one prompt in five, chosen by the prompt's text, and `train` the others, so that the two have no prompt
   * in common. Default: every line.
   */
  split?: Split;
  /**
   * Every character that may occur. Files that one policy shall read must be given the same. Default: the characters of
   * the whole file's prompts and solutions.
   */
  characters?: string;
  /** The reward of a completion's text, in [0, 1]. Default: 1 when it is the answer, character by character, else 0. */
  score?: (text: string, example: Example & Fields) => number;
}

/**
 * A task from a file, in the file's order. Each line holds `prompt` and `answer` (text), and may hold `solution` (text;
 * default the answer), `difficulty` (a number; default 0) and whatever else a scorer or reward wants to see in the example.
 * @throws TypeError or RangeError that names the line and the field.
 */
export function jsonl<Fields extends object = Record<string, unknown>>(
  options: JsonlOptions<Fields>,
): Task<Example & Fields> {
  const o = checkObject('options', options);
  checkKeys('', o, ['path', 'split', 'characters', 'score']);
  const { path, split, characters, score } = o as unknown as JsonlOptions<Fields>;
  if (typeof path !== 'string') throw typeError('path', 'the path of a file', path);
  if (split !== undefined) checkChoice('split', split, splits);
  if (score !== undefined && typeof score !== 'function') throw typeError('score', 'a function', score);
  const { lines, sha256 } = readLines(path);
  const known = characters === undefined ? charactersOf(lines) : checkCharacters(path, lines, characters);
  const chosen = lines.filter(({ example }) => split === undefined || splitOf(example.prompt) === split);
  if (chosen.length === 0) throw rangeError(path, `problems of the split '${split}'`, 'none');
  const examples = chosen.map(({ example }) => example as Example & Fields);
  const longest = (field: 'prompt' | 'solution') =>
    lines.reduce((most, { example }) => Math.max(most, [...example[field]].length), 0);
  const task: Task<Example & Fields> = {
    name: basename(path),
    characters: known,
    maxPromptLength: longest('prompt'),
    maxSolutionLength: longest('solution'),
    size: examples.length,
    example(index) {
      checkIndex(index, examples.length);
      return { ...examples[index] };
    },
    parse(prompt) {
      const line = lines.find(({ example }) => example.prompt === prompt);
      return line && { ...(line.example as Example & Fields) };
    },
    score(text, example) {
      if (!score) return text === example.answer ? 1 : 0;
      return checkNumber('score', score(text, example), { min: 0, max: 1 });
    },
  };
  const source: FileSource = { file: path, sha256, problems: lines.length, split: split ?? null };
  return withSource(task, source);
}

interface Line {
  number: number;
  example: Example;
}

function readLines(path: string): { lines: Line[]; sha256: string } {
  let content: Buffer;
  let text: string;
  try {
    content = readFileSync(path);
    text = decodeText(content);
  } catch (error) {
    throw new TypeError(
      `path: expected a UTF-8 file that can be read, got ${describe(path)}: ${(error as Error).message}`,
    );
  }
  const lines = text.split(/\r?\n/).flatMap((line, i): Line[] => {
    return line.trim() === '' ? [] : [{ number: i + 1, example: readLine(`${path}:${i + 1}`, line) }];
  });
  if (lines.length === 0)
    throw rangeError('path', 'a file with at least one line', `${describe(path)}, which has none`);
  return { lines, sha256: createHash('sha256').update(content).digest('hex') };
}

function readLine(where: string, line: string): Example {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    throw new TypeError(`${where}: expected a JSON object, got ${describe(line)}: ${(error as Error).message}`);
  }
  const fields = checkObject(where, value);
  const text = (field: string) => {
    const content = fields[field];
    if (typeof content !== 'string') throw typeError(`${where}: ${field}`, 'a text', content);
    if (content === '') throw rangeError(`${where}: ${field}`, 'a text that is not empty', 'an empty one');
    return content;
  };
  const answer = text('answer');
  return {
    ...fields,
    prompt: text('prompt'),
    answer,
    solution: fields.solution === undefined ? answer : text('solution'),
    difficulty: fields.difficulty === undefined ? 0 : checkNumber(`${where}: difficulty`, fields.difficulty),
  };
}

function textsOf({ prompt, answer, solution }: Example): string {
  return prompt + answer + solution;
}

function charactersOf(lines: readonly Line[]): string {
  const found = new Set(lines.flatMap(({ example }) => [...new Set(textsOf(example))]));
  return [...found].sort((a, b) => a.codePointAt(0)! - b.codePointAt(0)!).join('');
}

function checkCharacters(path: string, lines: readonly Line[], characters: unknown): string {
  if (typeof characters !== 'string') throw typeError('characters', 'a text', characters);
  const known = new Set(characters);
  if (known.size !== [...characters].length) {
    throw rangeError('characters', 'no character twice', describe(characters));
  }
  for (const { number, example } of lines) {
    for (const character of textsOf(example)) {
      if (!known.has(character)) {
        throw rangeError(`${path}:${number}`, `characters of ${describe(characters)}`, describe(character));
      }
    }
  }
  return characters;
}
