// A file of rows in JSON lines, JSON, CSV or Parquet. One pass indexes and hashes it; after that, rows are read on demand, so a large
// file is never in memory as a whole.

import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { extname } from 'node:path';
import { deserialize } from 'node:v8';
import { checkChoice, checkKeys, checkObject, describe, rangeError, typeError } from '../base/check.js';
import { decodeText, isUtf16 } from '../base/read-text.js';
import { csvFields } from './csv.js';
import { spoolParquet } from './parquet.js';
import { CsvScanner, JsonArrayScanner, LineScanner, type RecordScanner } from './record-scanner.js';
import { hashFile, openUserFile, pieceSize, SpoolFile, type Storage } from './storage.js';

/**
 * A row: its columns by name. In CSV all values are strings; in Parquet 64-bit integers are bigints, lists arrays, structs objects, and
 * missing values null or undefined.
 */
export type Row = Readonly<Record<string, unknown>>;

export const formats = ['jsonl', 'json', 'csv', 'parquet'] as const;
export type DataFormat = (typeof formats)[number];

export interface RowFileOptions {
  /** Default: by the file's extension; a `.json` file that does not begin with `[` contains JSON lines. */
  format?: DataFormat;
  /** Separates the fields of CSV: one ASCII character. Default: a comma, or a tab in a `.tsv` file. */
  delimiter?: string;
}

export interface RowFile {
  readonly path: string;
  readonly format: DataFormat;
  /** SHA-256 of the whole file, in hexadecimal. */
  readonly sha256: string;
  /** Number of rows. */
  readonly size: number;
  /** Row `index`, from 0. Error if the file has changed since it was opened. */
  row(index: number): Row;
}

/** Called for each row, in order, with its location for messages: `path:line`, or `path, row n` in Parquet. */
export type RowVisitor = (row: Row, where: string) => void;

const formatOfEnding: Readonly<Record<string, DataFormat>> = {
  '.jsonl': 'jsonl',
  '.ndjson': 'jsonl',
  '.json': 'json',
  '.csv': 'csv',
  '.tsv': 'csv',
  '.parquet': 'parquet',
};

/** TypeError or RangeError that names the field. */
export function checkRowFileOptions(options: unknown): RowFileOptions {
  const given = checkObject('options', options);
  checkKeys('', given, ['format', 'delimiter']);
  const { format, delimiter } = given as RowFileOptions;
  if (format !== undefined) checkChoice('format', format, formats);
  if (delimiter !== undefined && typeof delimiter !== 'string') throw typeError('delimiter', 'a character', delimiter);
  if (delimiter !== undefined && !/^[\t\x20-\x7e]$/.test(delimiter.replace('"', '')))
    throw rangeError('delimiter', 'one ASCII character other than the quote', describe(delimiter));
  return { format, delimiter };
}

/**
 * Opens a file of rows and visits each of them once.
 *
 * @throws TypeError or RangeError that names the file and the line or row, if it cannot be read or has no rows; and whatever
 *   `visit` throws
 */
export function openRows(path: string, options: RowFileOptions, visit: RowVisitor): RowFile {
  if (typeof path !== 'string' || path === '') throw typeError('path', 'the path of a file', path);
  const { format: given, delimiter = extname(path).toLowerCase() === '.tsv' ? '\t' : ',' } =
    checkRowFileOptions(options);
  const { format, storage, sha256 } = prepare(path, given);
  const found =
    format === 'parquet' ? indexParquet(path, visit) : indexText(path, storage, scanners[format](delimiter), visit);
  const { index, decode } = found;
  if (index.size === 0) {
    const expected = `a file with at least one ${format === 'jsonl' ? 'line' : 'row'}`;
    throw rangeError('path', expected, `${describe(path)}, which has none`);
  }
  return {
    path,
    format,
    sha256: sha256 ?? found.sha256!,
    size: index.size,
    row: (i) => decode(found.storage.read(index.start(i), index.length(i))),
  };
}

/** The storage that rows are read from, and the file's hash if it is not that of the storage. */
function prepare(
  path: string,
  given: DataFormat | undefined,
): { format: DataFormat; storage: Storage; sha256?: string } {
  const ending = extname(path).toLowerCase();
  if (given === undefined && !Object.hasOwn(formatOfEnding, ending)) {
    const known = Object.keys(formatOfEnding).join(', ');
    throw rangeError('path', `a file name that ends in one of ${known}, or a format`, describe(path));
  }
  let format = given ?? formatOfEnding[ending];
  try {
    const file = openUserFile(path);
    const beginning = file.read(0, Math.min(file.size, pieceSize));
    if (format === 'parquet') return { format, storage: file, sha256: hashFile(path) };
    const wide = isUtf16(beginning);
    const storage = wide ? new SpoolFile((spool) => writeFileSync(spool, decodeText(readFileSync(path)))) : file;
    if (
      given === undefined &&
      format === 'json' &&
      !beginsArray(wide ? storage.read(0, Math.min(storage.size, pieceSize)) : beginning)
    )
      format = 'jsonl';
    return { format, storage, ...(wide && { sha256: hashFile(path) }) };
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const reason = code === 'ENOENT' ? 'there is no such file' : message;
    throw new TypeError(`path: expected a readable file, got ${describe(path)}: ${reason}`, { cause: error });
  }
}

function beginsArray(bytes: Buffer): boolean {
  return /^\ufeff?\s*\[/.test(bytes.toString('utf8'));
}

/** The positions of rows: 12 bytes each. */
class RowIndex {
  private starts = new Float64Array(1024);
  private lengths = new Uint32Array(1024);
  size = 0;

  add(start: number, length: number): void {
    if (this.size === this.starts.length) {
      const [starts, lengths] = [new Float64Array(2 * this.size), new Uint32Array(2 * this.size)];
      starts.set(this.starts);
      lengths.set(this.lengths);
      [this.starts, this.lengths] = [starts, lengths];
    }
    this.starts[this.size] = start;
    this.lengths[this.size++] = length;
  }

  start(index: number): number {
    return this.starts[index];
  }

  length(index: number): number {
    return this.lengths[index];
  }
}

interface Indexed {
  index: RowIndex;
  storage: Storage;
  decode: (bytes: Buffer) => Row;
  sha256?: string;
}

function indexParquet(path: string, visit: RowVisitor): Indexed {
  const { storage, lengths } = spoolParquet(path);
  const index = new RowIndex();
  const decode = (bytes: Buffer) => deserialize(bytes) as Row;
  let start = 0;
  for (const [i, length] of lengths.entries()) {
    index.add(start, length);
    visit(decode(storage.read(start, length)), `${path}, row ${i + 1}`);
    start += length;
  }
  return { index, storage, decode };
}

/** A text format: how to find its records and how to read one. */
interface TextFormat {
  scanner: RecordScanner;
  /** The row in a record; undefined if the record has none. SyntaxError or TypeError without the location. */
  read(text: string): Row | undefined;
}

const scanners = {
  jsonl: (): TextFormat => ({
    scanner: new LineScanner(),
    read: (text) => (text.trim() === '' ? undefined : readJson(text)),
  }),
  json: (): TextFormat => ({ scanner: new JsonArrayScanner(), read: readJson }),
  csv: (delimiter: string): TextFormat => {
    let names: string[] | undefined;
    return {
      scanner: new CsvScanner(delimiter.charCodeAt(0)),
      read(text) {
        if (text.trim() === '') return undefined;
        const fields = csvFields(text, delimiter);
        if (names === undefined) {
          names = checkNames(fields);
          return undefined;
        }
        if (fields.length !== names.length) {
          throw new SyntaxError(`expected ${names.length} fields, one per column, got ${fields.length}`);
        }
        return Object.fromEntries(names.map((name, i) => [name, fields[i]]));
      },
    };
  },
};

function checkNames(names: readonly string[]): string[] {
  const trimmed = names.map((name) => name.trim());
  for (const [i, name] of trimmed.entries()) {
    if (name === '') throw new SyntaxError(`expected a name for column ${i + 1} in the first row, got an empty one`);
    if (trimmed.indexOf(name) < i) throw new SyntaxError(`expected distinct column names, got ${describe(name)} twice`);
  }
  return trimmed;
}

function readJson(text: string): Row {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new SyntaxError(`expected a JSON object, got ${describe(text)}: ${(error as Error).message}`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new SyntaxError(`expected an object, got ${describe(value)}`);
  }
  return value as Row;
}

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function decodeRecord(bytes: Buffer): string {
  try {
    return decoder.decode(bytes);
  } catch {
    throw new SyntaxError('expected UTF-8 text, got invalid bytes');
  }
}

function indexText(path: string, storage: Storage & { size: number }, format: TextFormat, visit: RowVisitor): Indexed {
  const { scanner, read } = format;
  const index = new RowIndex();
  const hash = createHash('sha256');
  /** Length of the byte-order mark, which the scanner's positions do not include. */
  let mark = 0;
  /** The bytes from `from` on: the current record and what follows it in the last chunk. */
  let held: Buffer = Buffer.alloc(0);
  let from = 0;
  const emit = ({ start, end, line }: { start: number; end: number; line: number }) => {
    const where = `${path}:${line}`;
    const row = within(where, () => read(decodeRecord(held.subarray(start - from, end - from))));
    if (row === undefined) return;
    index.add(mark + start, end - start);
    visit(row, where);
  };
  const scan = (run: () => void) => {
    try {
      run();
    } catch (error) {
      // Scanners know the line, but not the file.
      throw error instanceof SyntaxError ? new TypeError(`${path}:${error.message}`) : error;
    }
  };
  for (let at = 0; at < storage.size; ) {
    // The chunk grows with the record, so that a long record is not copied again for every chunk.
    let piece = storage.read(at, Math.min(Math.max(pieceSize, held.length), storage.size - at));
    hash.update(piece);
    if (at === 0 && piece[0] === 0xef && piece[1] === 0xbb && piece[2] === 0xbf) {
      mark = 3;
      piece = piece.subarray(mark);
      at = mark;
    }
    at += piece.length;
    held = held.length === 0 ? piece : Buffer.concat([held, piece]);
    scan(() => scanner.feed(piece, emit));
    held = held.subarray(scanner.needed - from);
    from = scanner.needed;
  }
  scan(() => scanner.finish(emit));
  return {
    index,
    storage,
    decode: (bytes) => within(path, () => read(decodeRecord(bytes))!),
    sha256: hash.digest('hex'),
  };
}

/** The result of `run`; its SyntaxErrors become TypeErrors with the location. */
function within<T>(where: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    throw error instanceof SyntaxError ? new TypeError(`${where}: ${error.message}`) : error;
  }
}
