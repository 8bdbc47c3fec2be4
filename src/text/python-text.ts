// Strings as in Python: sequences of code points, with Python's white space, and values as str() and json.dumps() write them.
// Chat templates are written for Python, and models were trained on its output.

/** A template value: a JSON value, with floats distinct from integers, or undefined. */
export type PyValue = string | boolean | null | undefined | bigint | PyFloat | PyValue[] | Map<string, PyValue>;

/** A float: 1.0 is not 1. */
export class PyFloat {
  constructor(readonly value: number) {}
}

/** An immutable list, which Python prints and compares differently from a list. */
export class PyTuple<T> extends Array<T> {}

const pythonSpace = String.raw`[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]`;

const isSpace = new RegExp(pythonSpace, 'u');
const leadingSpace = new RegExp(`^${pythonSpace}+`, 'u');
const wordStart = new RegExp(`((?:${pythonSpace}|[-({<[])+)`, 'u');
const otherLineEnds = ['\r', '\v', '\f', '\u001c', '\u001d', '\u001e', '\u0085', '\u2028', '\u2029'];

/** Whether str.splitlines would split anywhere but at \n. */
export function hasOtherLineEnd(text: string): boolean {
  return otherLineEnds.some((end) => text.includes(end));
}

/** str.strip, lstrip and rstrip: white space, or any of the given characters. */
export function strip(text: string, side: 'both' | 'left' | 'right', characters?: string): string {
  if (characters === undefined) {
    const own = side === 'right' ? text : text.replace(leadingSpace, '');
    return side === 'left' ? own : stripRight(own);
  }
  const set = new Set(characters);
  const letters = [...text];
  let start = 0;
  let end = letters.length;
  if (side !== 'right') while (start < end && set.has(letters[start])) start++;
  if (side !== 'left') while (end > start && set.has(letters[end - 1])) end--;
  return letters.slice(start, end).join('');
}

/** Works from the end, because a pattern that ends in $ would be tried at every position. */
function stripRight(text: string): string {
  let end = text.length;
  while (end > 0 && isSpace.test(text[end - 1])) end--;
  return text.slice(0, end);
}

/** str.split. */
export function split(text: string, separator: string | null, limit: number): string[] {
  if (separator === '') throw new Error('split: expected a separator that is not empty');
  if (separator !== null) {
    const parts = text.split(separator);
    return limit < 0 || parts.length <= limit + 1
      ? parts
      : [...parts.slice(0, limit), parts.slice(limit).join(separator)];
  }
  const parts: string[] = [];
  let rest = strip(text, 'left');
  while (rest !== '' && (limit < 0 || parts.length < limit)) {
    const end = rest.search(isSpace);
    if (end === -1) break;
    parts.push(rest.slice(0, end));
    rest = strip(rest.slice(end), 'left');
  }
  // The rest keeps its trailing white space: only the separator is removed.
  return rest === '' ? parts : [...parts, rest];
}

/** str.replace. */
export function replace(text: string, old: string, by: string, count: number): string {
  const most = count < 0 ? Number.POSITIVE_INFINITY : count;
  if (old === '') {
    const letters = [...text];
    const places = Math.min(most, letters.length + 1);
    return letters.map((letter, i) => (i < places ? by : '') + letter).join('') + (places > letters.length ? by : '');
  }
  const parts = text.split(old);
  if (parts.length - 1 <= most) return parts.join(by);
  return [parts.slice(0, most + 1).join(by), ...parts.slice(most + 1)].join(old);
}

/** str.capitalize. */
export function capitalize(text: string): string {
  const [first = '', ...others] = text;
  return titleCase(first) + others.join('').toLowerCase();
}

/** Letters whose title case differs from their upper case are an error, because JavaScript does not know it. */
function titleCase(letter: string): string {
  const upper = letter.toUpperCase();
  if ([...upper].length > 1 || /[\u01c4-\u01cc\u01f1-\u01f3\u10d0-\u10ff\u1f80-\u1fff]/u.test(letter)) {
    throw new Error(`the title case of ${letter} is not supported`);
  }
  return upper;
}

/** str.title, of ASCII: a word is a run of letters. */
export function title(text: string): string {
  if (/[^\x20-\x7e\s]/.test(text)) throw new Error('title: other letters than those of ASCII are not supported');
  return text.replace(/[a-z]+/gi, (word) => word[0].toUpperCase() + word.slice(1).toLowerCase());
}

/** Jinja's filter `title`: words begin after white space, hyphens and opening brackets. */
export function titleWords(text: string): string {
  const parts = text.split(wordStart);
  return parts
    .filter((part) => part !== '')
    .map((part) => {
      const [first, ...others] = part;
      // str.upper, which knows no title case.
      return first.toUpperCase() + others.join('').toLowerCase();
    })
    .join('');
}

/** str(value), as a template prints it. */
export function str(value: PyValue): string {
  if (typeof value === 'string') return value;
  return value === undefined ? '' : repr(value);
}

function repr(value: PyValue): string {
  if (value === undefined) return 'Undefined';
  if (value === null) return 'None';
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (typeof value === 'bigint') return String(value);
  if (typeof value === 'string') return reprText(value);
  if (value instanceof PyFloat) return reprFloat(value.value);
  if (value instanceof PyTuple) return `(${[...value].map(repr).join(', ')}${value.length === 1 ? ',' : ''})`;
  if (Array.isArray(value)) return `[${value.map(repr).join(', ')}]`;
  return `{${[...value].map(([key, own]) => `${reprText(key)}: ${repr(own)}`).join(', ')}}`;
}

const escapes: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t', '\\': '\\\\' };

function reprText(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const letters = Array.from(text, (letter) => {
    if (letter === quote) return `\\${letter}`;
    if (Object.hasOwn(escapes, letter)) return escapes[letter];
    if (letter === ' ' || !/[\p{C}\p{Z}]/u.test(letter)) return letter;
    const code = letter.codePointAt(0)!;
    const hex = (width: number) => code.toString(16).padStart(width, '0');
    return code < 0x100 ? `\\x${hex(2)}` : code < 0x10000 ? `\\u${hex(4)}` : `\\U${hex(8)}`;
  });
  return quote + letters.join('') + quote;
}

/** The shortest digits that round-trip, as in JavaScript; exponents from 1e16 on and below 1e-4, with at least two digits. */
function reprFloat(value: number): string {
  if (Number.isNaN(value)) return 'nan';
  if (!Number.isFinite(value)) return value > 0 ? 'inf' : '-inf';
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e16 || size < 1e-4)) {
    const [digits, exponent] = value.toExponential().split('e');
    const [sign, power] = [exponent[0], exponent.slice(1)];
    return `${digits}e${sign}${power.padStart(2, '0')}`;
  }
  const digits = Object.is(value, -0) ? '-0' : String(value);
  return digits.includes('.') ? digits : `${digits}.0`;
}

export interface DumpOptions {
  ensureAscii: boolean;
  indent: number | null;
  separators: readonly [item: string, key: string] | null;
  sortKeys: boolean;
}

/** json.dumps. */
export function dumps(value: PyValue, options: DumpOptions): string {
  const { indent, separators } = options;
  const [item, key] = separators ?? [indent === null ? ', ' : ',', ': '];
  const text = (own: string) => {
    const quoted = JSON.stringify(own);
    if (!options.ensureAscii) return quoted;
    return quoted.replace(/[\x7f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
  };
  const write = (own: PyValue, depth: number): string => {
    const enclose = (open: string, parts: string[], close: string) => {
      if (parts.length === 0) return open + close;
      if (indent === null) return open + parts.join(item) + close;
      const line = `\n${' '.repeat(indent * (depth + 1))}`;
      return `${open}${line}${parts.join(item + line)}\n${' '.repeat(indent * depth)}${close}`;
    };
    if (own === undefined) throw new Error('tojson: expected a value, got one that is not defined');
    if (own === null) return 'null';
    if (typeof own === 'boolean' || typeof own === 'bigint') return String(own);
    if (typeof own === 'string') return text(own);
    if (own instanceof PyFloat) return dumpFloat(own.value);
    if (Array.isArray(own))
      return enclose(
        '[',
        own.map((part) => write(part, depth + 1)),
        ']',
      );
    const entries = [...own];
    if (options.sortKeys) entries.sort(([a], [b]) => compareCodePoints(a, b));
    return enclose(
      '{',
      entries.map(([name, part]) => text(name) + key + write(part, depth + 1)),
      '}',
    );
  };
  return write(value, 0);
}

function dumpFloat(value: number): string {
  if (Number.isNaN(value)) return 'NaN';
  return Number.isFinite(value) ? reprFloat(value) : value > 0 ? 'Infinity' : '-Infinity';
}

/** Compares strings in Python's order, by code points; JavaScript compares UTF-16 units. */
export function compareCodePoints(a: string, b: string): number {
  const [left, right] = [[...a], [...b]];
  for (let i = 0; i < Math.min(left.length, right.length); i++) {
    const difference = left[i].codePointAt(0)! - right[i].codePointAt(0)!;
    if (difference !== 0) return difference;
  }
  return left.length - right.length;
}

/** Python's ==: numbers and booleans by value, everything else by type and content. */
export function equal(a: PyValue, b: PyValue): boolean {
  const [left, right] = [number(a), number(b)];
  if (left !== undefined || right !== undefined) return left === right;
  if (Array.isArray(a)) {
    if (!Array.isArray(b) || a instanceof PyTuple !== b instanceof PyTuple || a.length !== b.length) return false;
    return a.every((own, i) => equal(own, b[i]));
  }
  if (a instanceof Map) {
    return b instanceof Map && a.size === b.size && [...a].every(([key, own]) => b.has(key) && equal(own, b.get(key)));
  }
  return a === b;
}

function number(value: PyValue): number | undefined {
  if (typeof value === 'boolean' || typeof value === 'bigint') return Number(value);
  return value instanceof PyFloat ? value.value : undefined;
}

const months = 'January February March April May June July August September October November December'.split(' ');
const days = 'Sunday Monday Tuesday Wednesday Thursday Friday Saturday'.split(' ');

/** datetime.strftime in the C locale. Error for a directive that templates do not use. */
export function strftime(date: Date, format: string): string {
  const two = (value: number) => String(value).padStart(2, '0');
  const hour = date.getHours() % 12 || 12;
  const directives: Readonly<Record<string, string>> = {
    Y: String(date.getFullYear()),
    y: two(date.getFullYear() % 100),
    m: two(date.getMonth() + 1),
    d: two(date.getDate()),
    H: two(date.getHours()),
    I: two(hour),
    M: two(date.getMinutes()),
    S: two(date.getSeconds()),
    p: date.getHours() < 12 ? 'AM' : 'PM',
    B: months[date.getMonth()],
    b: months[date.getMonth()].slice(0, 3),
    A: days[date.getDay()],
    a: days[date.getDay()].slice(0, 3),
    '-d': String(date.getDate()),
    '-m': String(date.getMonth() + 1),
    '%': '%',
  };
  return format.replace(/%(-?.|$)/gs, (directive, name: string) => {
    if (!Object.hasOwn(directives, name)) throw new Error(`strftime_now: the directive ${directive} is not known`);
    return directives[name];
  });
}
