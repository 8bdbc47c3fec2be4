// Finds the records of a text file: the lines of JSON lines, the elements of a JSON array, the records of CSV. Each scanner reads a
// file's bytes once, in chunks of any size, and never stores more than the current record. In UTF-8 no byte of a multi-byte character
// equals an ASCII character, so bytes can be compared without decoding.

/** The bytes [start, end) of a record, and the number of its first line, from 1. */
export interface RecordSpan {
  start: number;
  end: number;
  line: number;
}

export interface RecordScanner {
  /** Scans the next bytes; calls `emit` for every record that ends in them. */
  feed(bytes: Uint8Array, emit: (span: RecordSpan) => void): void;
  /** Called at the end of the file. SyntaxError, with the line, if a record or the whole array is incomplete. */
  finish(emit: (span: RecordSpan) => void): void;
  /** Start of the current record: bytes from here on are still needed. */
  readonly needed: number;
}

const newline = 0x0a;
const quote = 0x22;
const backslash = 0x5c;

function isSpace(byte: number): boolean {
  return byte === 0x20 || byte === newline || byte === 0x0d || byte === 0x09;
}

/** Lines. Blank lines are records too; the reader skips them. */
export class LineScanner implements RecordScanner {
  private position = 0;
  private line = 1;
  needed = 0;

  feed(bytes: Uint8Array, emit: (span: RecordSpan) => void): void {
    for (let from = 0; ; ) {
      const at = bytes.indexOf(newline, from);
      if (at < 0) break;
      emit({ start: this.needed, end: this.position + at, line: this.line++ });
      this.needed = this.position + at + 1;
      from = at + 1;
    }
    this.position += bytes.length;
  }

  finish(emit: (span: RecordSpan) => void): void {
    if (this.position > this.needed) emit({ start: this.needed, end: this.position, line: this.line });
  }
}

/** Records of CSV (RFC 4180): line breaks within quotes belong to a field. In a field that does not begin with a quote, quotes are text. */
export class CsvScanner implements RecordScanner {
  private position = 0;
  private line = 1;
  private firstLine = 1;
  private state: 'fieldStart' | 'plain' | 'quoted' | 'quoteInQuoted' = 'fieldStart';
  needed = 0;

  constructor(private readonly delimiter: number) {}

  feed(bytes: Uint8Array, emit: (span: RecordSpan) => void): void {
    let { state } = this;
    for (let i = 0; i < bytes.length; i++) {
      const byte = bytes[i];
      if (byte === newline) this.line++;
      if (state === 'quoted') {
        if (byte === quote) state = 'quoteInQuoted';
      } else if (byte === quote && state !== 'plain') {
        state = 'quoted';
      } else if (byte === newline) {
        emit({ start: this.needed, end: this.position + i, line: this.firstLine });
        this.needed = this.position + i + 1;
        this.firstLine = this.line;
        state = 'fieldStart';
      } else state = byte === this.delimiter ? 'fieldStart' : 'plain';
    }
    this.state = state;
    this.position += bytes.length;
  }

  finish(emit: (span: RecordSpan) => void): void {
    if (this.state === 'quoted') throw new SyntaxError(`${this.firstLine}: expected a closing quote of the field`);
    if (this.position > this.needed) emit({ start: this.needed, end: this.position, line: this.firstLine });
  }
}

/** The elements of a JSON array. Their contents are not checked here. */
export class JsonArrayScanner implements RecordScanner {
  private position = 0;
  private line = 1;
  private depth = 0;
  private inString = false;
  private escaped = false;
  private ended = false;
  /** Start of the current element; -1 between elements. */
  private start = -1;
  private startLine = 1;
  /** End of its last byte that is not white space. */
  private end = 0;
  private elements = 0;

  get needed(): number {
    return this.start < 0 ? this.position : this.start;
  }

  feed(bytes: Uint8Array, emit: (span: RecordSpan) => void): void {
    for (let i = 0; i < bytes.length; i++) {
      const byte = bytes[i];
      if (byte === newline) this.line++;
      if (this.inString) {
        if (this.escaped) this.escaped = false;
        else if (byte === backslash) this.escaped = true;
        else if (byte === quote) this.inString = false;
        this.end = this.position + i + 1;
        continue;
      }
      if (isSpace(byte)) continue;
      if (this.ended) throw new SyntaxError(`${this.line}: expected nothing after the end of the array`);
      if (this.depth === 0) {
        if (byte !== 0x5b) throw new SyntaxError(`${this.line}: expected '['`);
        this.depth = 1;
        continue;
      }
      const closes = byte === 0x5d || byte === 0x7d;
      if (this.depth === 1 && (byte === 0x2c || byte === 0x5d)) {
        // `[]` is an empty array, but an empty element next to a comma is an error.
        if (this.start >= 0) emit({ start: this.start, end: this.end, line: this.startLine });
        else if (byte === 0x2c || this.elements > 0) throw new SyntaxError(`${this.line}: expected a value`);
        this.elements++;
        this.start = -1;
        this.ended = byte === 0x5d;
        continue;
      }
      if (this.start < 0) {
        this.start = this.position + i;
        this.startLine = this.line;
      }
      this.end = this.position + i + 1;
      if (byte === quote) this.inString = true;
      else if (byte === 0x5b || byte === 0x7b) this.depth++;
      else if (closes) this.depth--;
    }
    this.position += bytes.length;
  }

  finish(): void {
    if (!this.ended) throw new SyntaxError(`${this.line}: expected ']' at the end of the array`);
  }
}
