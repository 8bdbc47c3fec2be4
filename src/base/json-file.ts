// The small JSON files of a model folder.

import fs from 'node:fs';
import { basename } from 'node:path';
import { checkObject, rangeError } from './check.js';
import { type Json, parseJson } from './json.js';

/** Far above any configuration. */
const maxBytes = 64 * 2 ** 20;

/**
 * The object in a JSON file; undefined if there is no such file.
 *
 * @throws TypeError or RangeError, naming the file, if it is too large or is not a JSON object
 */
export function readJsonFile(path: string): { [key: string]: Json } | undefined {
  let size: number;
  try {
    size = fs.statSync(path).size;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  const name = basename(path);
  if (size > maxBytes) throw rangeError(name, `at most ${maxBytes} bytes`, String(size));
  let value: Json;
  try {
    value = parseJson(fs.readFileSync(path, 'utf8'));
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw rangeError(path, 'JSON', error.message);
  }
  return checkObject(name, value) as { [key: string]: Json };
}
