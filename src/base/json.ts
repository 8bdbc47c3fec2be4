// JSON from untrusted files. JSON.parse silently keeps the last of two equal keys and recurses as deep as the file does; here
// duplicate keys and deep nesting are errors, and objects have no prototype, so that `__proto__` is a key like any other.

/** A JSON value. Objects have no prototype. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

const maxDepth = 64;

/**
 * Parses JSON (RFC 8259). SyntaxError, with the position, for anything else, for a key that occurs twice in an object, and
 * for values nested more than 64 deep.
 *
 * @example
 * parseJson('{"a": [1, 2]}');   // { a: [1, 2] }
 * parseJson('{"a": 1, "a": 2}');   // SyntaxError: position 9: the key "a" occurs twice
 */
export function parseJson(text: string): Json {
  return new Parser(text).parse();
}

const numberPattern = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const spacePattern = /[ \t\n\r]*/y;
const literals = { true: true, false: false, null: null } as const;

class Parser {
  private at = 0;

  constructor(private readonly text: string) {}

  parse(): Json {
    const value = this.value(0);
    this.skipSpace();
    if (this.at < this.text.length) this.fail('expected the end of the text');
    return value;
  }

  private value(depth: number): Json {
    if (depth > maxDepth) this.fail(`values are nested more than ${maxDepth} deep`);
    this.skipSpace();
    const next = this.text[this.at];
    if (next === '{') return this.object(depth);
    if (next === '[') return this.array(depth);
    if (next === '"') return this.string();
    for (const [word, value] of Object.entries(literals)) {
      if (this.text.startsWith(word, this.at)) {
        this.at += word.length;
        return value;
      }
    }
    const number = this.match(numberPattern);
    return number === undefined ? this.fail('expected a JSON value') : Number(number);
  }

  private object(depth: number): Json {
    const object: { [key: string]: Json } = Object.create(null);
    this.at++;
    if (this.takes('}')) return object;
    do {
      this.skipSpace();
      const start = this.at;
      const key = this.string();
      if (Object.hasOwn(object, key)) this.fail(`the key ${JSON.stringify(key.slice(0, 100))} occurs twice`, start);
      if (!this.takes(':')) this.fail("expected ':'");
      object[key] = this.value(depth + 1);
    } while (this.takes(','));
    if (!this.takes('}')) this.fail("expected ',' or '}'");
    return object;
  }

  private array(depth: number): Json {
    const array: Json[] = [];
    this.at++;
    if (this.takes(']')) return array;
    do array.push(this.value(depth + 1));
    while (this.takes(','));
    if (!this.takes(']')) this.fail("expected ',' or ']'");
    return array;
  }

  private string(): string {
    const start = this.at;
    if (this.text[start] !== '"') this.fail('expected a string');
    let end = start;
    do end = this.text.indexOf('"', end + 1);
    while (end !== -1 && this.isEscaped(end));
    if (end === -1) this.fail(`expected a closing '"'`, start);
    this.at = end + 1;
    try {
      return JSON.parse(this.text.slice(start, this.at)) as string;
    } catch {
      return this.fail('expected a string with valid escapes and without control characters', start);
    }
  }

  /** Whether an odd number of backslashes precedes a position. */
  private isEscaped(position: number): boolean {
    let before = position;
    while (this.text[before - 1] === '\\') before--;
    return (position - before) % 2 === 1;
  }

  private match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text)?.[0];
    if (found !== undefined) this.at += found.length;
    return found;
  }

  private skipSpace(): void {
    this.match(spacePattern);
  }

  private takes(character: string): boolean {
    this.skipSpace();
    if (this.text[this.at] !== character) return false;
    this.at++;
    return true;
  }

  private fail(message: string, position = this.at): never {
    throw new SyntaxError(`position ${position}: ${message}`);
  }
}
