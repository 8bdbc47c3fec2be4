// Reads a column of a row, given by its name, its path or a function, as a string, a number or chat messages.

import { checkNumber, describe, typeError } from '../base/check.js';
import type { ChatMessage } from '../text/chat-template.js';
import type { Row } from './row-file.js';

/**
 * A column: its name, a path into it (`extra.answer`, `choices.0`), or a function of the row. A column whose name contains a dot
 * takes precedence over a path.
 */
export type Column<R extends object = Row, T = unknown> = string | ((row: R) => T);

/** Where a value comes from, for messages: the file with its line or row, and what the value is for. */
export interface Place {
  where: string;
  field: string;
}

const label = ({ where, field }: Place) => `${where}: ${field}`;

/** TypeError unless `column` is a name or a function. */
export function checkColumn(field: string, column: unknown): void {
  if (typeof column === 'function' || (typeof column === 'string' && column !== '')) return;
  throw typeError(field, 'the name of a column, a path into it, or a function of the row', column);
}

/** The value of a column; undefined if there is none. Errors of a function are prefixed with the place. */
export function readColumn<R extends object>(row: R, column: Column<R>, place: Place): unknown {
  if (typeof column === 'string') return valueAt(row, column);
  try {
    return column(row);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new TypeError(`${label(place)}: the function of the row failed: ${message}`, { cause: error });
  }
}

function valueAt(row: object, path: string): unknown {
  if (Object.hasOwn(row, path)) return (row as Record<string, unknown>)[path];
  let value: unknown = row;
  for (const key of path.split('.')) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return undefined;
    value = (value as Record<string, unknown>)[key];
  }
  return value;
}

/** An error that lists the columns of the row. */
function missing(row: object, column: Column<never>, expected: string, place: Place): TypeError {
  if (typeof column === 'function') return typeError(label(place), `${expected} from the function`, undefined);
  const columns = Object.keys(row).slice(0, 20).join(', ');
  return new TypeError(
    `${label(place)}: expected the column ${describe(column)}, got a row with ${columns || 'no columns'}`,
  );
}

function isMissing(value: unknown): value is undefined | null {
  return value === undefined || value === null;
}

/**
 * The string in a column; a number is converted. RangeError for an integer that a float64 cannot hold exactly, because in a JSON
 * file it has already lost digits.
 */
export function textColumn<R extends object>(row: R, column: Column<R>, place: Place): string {
  const value = readColumn(row, column, place);
  if (value === undefined) throw missing(row, column as Column<never>, 'a string', place);
  return asText(value, place);
}

/** Like `textColumn`, but undefined if there is no such column, or null in it. */
export function optionalText<R extends object>(row: R, column: Column<R>, place: Place): string | undefined {
  const value = readColumn(row, column, place);
  return isMissing(value) ? undefined : asText(value, place);
}

function asText(value: unknown, place: Place): string {
  const text = typeof value === 'number' ? numberText(value, place) : typeof value === 'bigint' ? String(value) : value;
  if (typeof text !== 'string') throw typeError(label(place), 'a string or a number', value);
  if (text === '') throw new RangeError(`${label(place)}: expected a non-empty string, got an empty one`);
  return text;
}

function numberText(value: number, place: Place): string {
  if (!Number.isFinite(value) || (Number.isInteger(value) && !Number.isSafeInteger(value))) {
    throw new RangeError(
      `${label(place)}: expected a string, or a number that float64 holds exactly (integers up to 2^53), got ${value}; write it as a string`,
    );
  }
  return String(value);
}

/** The number in a column, which may be written as a string; undefined if there is none. */
export function optionalNumber<R extends object>(row: R, column: Column<R>, place: Place): number | undefined {
  const value = readColumn(row, column, place);
  if (isMissing(value) || value === '') return undefined;
  const isText = typeof value === 'string' && value.trim() !== '';
  const number = typeof value === 'bigint' || isText ? Number(value) : value;
  if (isText && Number.isNaN(number)) throw typeError(label(place), 'a number', value);
  return checkNumber(label(place), number);
}

/** A prompt: a string or chat messages. */
export function promptColumn<R extends object>(row: R, column: Column<R>, place: Place): string | ChatMessage[] {
  const value = readColumn(row, column, place);
  if (value === undefined) throw missing(row, column as Column<never>, 'a string or chat messages', place);
  if (typeof value === 'string' || typeof value === 'number' || typeof value === 'bigint') return asText(value, place);
  if (!Array.isArray(value)) throw typeError(label(place), 'a string or chat messages', value);
  return checkMessages(value, label(place));
}

/** Chat messages that end before an answer. TypeError or RangeError that names the message. */
function checkMessages(messages: readonly unknown[], field: string): ChatMessage[] {
  if (messages.length === 0) throw new RangeError(`${field}: expected at least one message, got none`);
  const checked = messages.map((message, i) => {
    const at = `${field}[${i}]`;
    if (typeof message !== 'object' || message === null || Array.isArray(message)) {
      throw typeError(at, 'a message: { role, content }', message);
    }
    const { role, content } = message as Record<string, unknown>;
    if (typeof role !== 'string' || role === '') throw typeError(`${at}.role`, 'a string', role);
    if (typeof content !== 'string') throw typeError(`${at}.content`, 'a string', content);
    return { ...message, role, content };
  });
  if (!checked.some(({ role }) => role === 'user')) {
    throw new RangeError(`${field}: expected at least one user message, got none`);
  }
  const last = checked[checked.length - 1].role;
  if (last === 'assistant') {
    throw new RangeError(`${field}: expected a last message that is not the assistant's`);
  }
  return checked;
}
