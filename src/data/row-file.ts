// A file of rows in JSON lines, JSON, CSV or Parquet, read by an index of where its rows lie: one pass finds and hashes them all, and
// after that a row is read when it is asked for. A large file is never in memory as a whole.

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
 * A row: its columns by name. CSV holds texts alone; of Parquet 64-bit integers are bigints, lists arrays, structs objects, and what
 * is missing is null or undefined.
 */
export type Row = Readonly<Record<string, unknown>>;

export const formats = ['jsonl', 'json', 'csv', 'parquet'] as const;
export type DataFormat = (typeof formats)[number];

export interface RowFileOptions {
  /** Default: by the file's ending; a `.json` file that does not begin with `[` holds JSON lines. */
  format?: DataFormat;
  /** Between the fields of CSV: one character of ASCII. Default: a comma, in a `.tsv` file a tab. */
  delimiter?: string;
}

export interface RowFile {
  readonly path: string;
  readonly format: DataFormat;
  /** SHA-256 of the whole file, in hexadecimal. */
  readonly sha256: string;
  /** Number of rows. */
  readonly size: number;
  /** Row `index`, from 0. Error where the file has been changed since it was opened. */
  row(index: number): Row;
}

/** Called for each row, in order, with where it stands for messages: `path:line`, in Parquet `path, row n`. */
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
    throw rangeError('delimiter', 'one character of ASCII but the quote', describe(delimiter));
  return { format, delimiter };
}

/**
 * Opens a file of rows and visits all of them once.
 *
 * @throws TypeError or RangeError, naming the file and the line or row, where it cannot be read or holds no row; and whatever
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

/** What the bytes of a file are read from; the hash where they are not the file's own. */
function prepare(
  path: string,
  given: DataFormat | undefined,
): { format: DataFormat; storage: Storage; sha256?: string } {
  const ending = extname(path).toLowerCase();
  if (given === undefined && !Object.hasOwn(formatOfEnding, ending)) {
    const known = Object.keys(formatOfEnding).join(', ');
    throw rangeError('path', `a file that ends in one of ${known}, or a format`, describe(path));
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
    throw new TypeError(`path: expected a file that can be read, got ${describe(path)}: ${reason}`, { cause: error });
  }
}

function beginsArray(bytes: Buffer): boolean {
  return /^\ufeff?\s*\[/.test(bytes.toString('utf8'));
}

/** Where rows lie: 12 bytes each. */
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

/** A format of text: where its records are, and what a record holds. */
interface TextFormat {
  scanner: RecordScanner;
  /** The row of a record's text; undefined for a record that is none. SyntaxError or TypeError without the place. */
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
          throw new SyntaxError(`expected ${names.length} fields, as many as columns, got ${fields.length}`);
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
    if (trimmed.indexOf(name) < i) throw new SyntaxError(`expected no column twice, got ${describe(name)}`);
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
    throw new SyntaxError('expected UTF-8 text, got other bytes');
  }
}

function indexText(path: string, storage: Storage & { size: number }, format: TextFormat, visit: RowVisitor): Indexed {
  const { scanner, read } = format;
  const index = new RowIndex();
  const hash = createHash('sha256');
  /** Bytes of a byte-order mark, which positions of the scanner leave out. */
  let mark = 0;
  /** The bytes from `from` on: the record at hand, and what has been read behind it. */
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
      // Scanners know the line, not the file.
      throw error instanceof SyntaxError ? new TypeError(`${path}:${error.message}`) : error;
    }
  };
  for (let at = 0; at < storage.size; ) {
    // A record that is longer than what is read at once is not copied for every piece of it.
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

/** What `run` gives; its SyntaxErrors with the place before them. */
function within<T>(where: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    throw error instanceof SyntaxError ? new TypeError(`${where}: ${error.message}`) : error;
  }
}
