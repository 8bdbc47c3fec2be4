// The values of a template and their Python semantics: truth, operators, tests, slices, iteration.

import { compareCodePoints, equal, PyFloat, PyTuple, type PyValue, str } from './python-text.js';

/** Arguments of a call. */
export interface Arguments {
  readonly positional: readonly Value[];
  readonly named: ReadonlyMap<string, Value>;
}

export class PyFunction {
  constructor(readonly call: (args: Arguments) => Value) {}
}

export { PyTuple } from './python-text.js';

/** A namespace, or the `loop` variable: attributes and no keys. */
export class Attributes {
  private readonly values = new Map<string, Value>();

  constructor(readonly isMutable = true) {}

  get(name: string): Value {
    return this.values.get(name);
  }

  set(name: string, value: Value): void {
    this.values.set(name, value);
  }
}

/** The result of `map`, `select` and similar filters: it can be iterated once, and is true even if empty. */
export class PyGenerator {
  constructor(private items: readonly Value[]) {}

  take(): readonly Value[] {
    const { items } = this;
    this.items = [];
    return items;
  }
}

export type Value =
  | string
  | boolean
  | null
  | undefined
  | bigint
  | PyFloat
  | Value[]
  | Map<string, Value>
  | PyFunction
  | Attributes
  | PyGenerator;

/** A value that contains no functions. */
export function plain(value: Value): PyValue {
  if (value instanceof PyFunction || value instanceof Attributes || value instanceof PyGenerator) {
    throw new Error('expected a value, got a function, a namespace or a generator');
  }
  if (Array.isArray(value)) return value.map(plain);
  if (value instanceof Map) return new Map([...value].map(([key, own]) => [key, plain(own)]));
  return value;
}

/** As a template prints it. */
export function print(value: Value): string {
  return typeof value === 'string' ? value : str(plain(value));
}

/** A JavaScript value as json.loads would return it; whole numbers are integers. */
export function fromJavaScript(value: unknown): Value {
  if (typeof value === 'number') return Number.isSafeInteger(value) ? BigInt(value) : new PyFloat(value);
  if (Array.isArray(value)) return value.map(fromJavaScript);
  if (typeof value === 'object' && value !== null) {
    return new Map(Object.entries(value).map(([key, own]) => [key, fromJavaScript(own)]));
  }
  if (value === null || value === undefined || typeof value === 'string' || typeof value === 'boolean') return value;
  throw new Error(`a ${typeof value} cannot be a template value`);
}

export function isTrue(value: Value): boolean {
  if (typeof value === 'bigint') return value !== 0n;
  if (value instanceof PyFloat) return value.value !== 0;
  if (Array.isArray(value)) return value.length > 0;
  if (value instanceof Map) return value.size > 0;
  return Boolean(value);
}

/** The items of a list, characters of a string, keys of a mapping; none for undefined. */
export function iterate(value: Value): readonly Value[] {
  if (value === undefined) return [];
  if (Array.isArray(value)) return value;
  if (value instanceof Map) return [...value.keys()];
  if (typeof value === 'string') return [...value];
  if (value instanceof PyGenerator) return value.take();
  throw new Error('expected something to iterate over');
}

export function lengthOf(value: Value): bigint {
  if (value instanceof PyGenerator || value === null || !['object', 'string', 'undefined'].includes(typeof value)) {
    throw new Error('expected something with a length');
  }
  return BigInt(iterate(value).length);
}

/** An integer or boolean as bigint, a float as number; undefined for anything else. */
function numeric(value: Value): bigint | number | undefined {
  if (typeof value === 'boolean') return value ? 1n : 0n;
  if (typeof value === 'bigint') return value;
  return value instanceof PyFloat ? value.value : undefined;
}

export function add(a: Value, b: Value): Value {
  if (typeof a === 'string' && typeof b === 'string') return a + b;
  if (Array.isArray(a) && Array.isArray(b) && a instanceof PyTuple === b instanceof PyTuple) return a.concat(b);
  return arithmetic('+', a, b);
}

/** A binary operator other than `and` and `or`. */
export function binary(operator: string, a: Value, b: Value): Value {
  switch (operator) {
    case '==':
      return same(a, b);
    case '!=':
      return !same(a, b);
    case 'in':
      return isIn(a, b);
    case 'not in':
      return !isIn(a, b);
    case '~':
      return print(a) + print(b);
    case '+':
      return add(a, b);
    case '<':
      return compare(a, b) < 0;
    case '>':
      return compare(a, b) > 0;
    case '<=':
      return compare(a, b) <= 0;
    case '>=':
      return compare(a, b) >= 0;
    case '*':
      if (typeof a === 'string' && typeof b === 'bigint') return a.repeat(Math.max(0, Number(b)));
      return arithmetic(operator, a, b);
    default:
      return arithmetic(operator, a, b);
  }
}

function same(a: Value, b: Value): boolean {
  const isPlain = (value: Value) =>
    !(value instanceof PyFunction || value instanceof Attributes || value instanceof PyGenerator);
  return isPlain(a) && isPlain(b) ? equal(plain(a), plain(b)) : a === b;
}

function isIn(a: Value, b: Value): boolean {
  if (typeof b === 'string') {
    if (typeof a !== 'string') throw new Error('in: expected a string to look for in a string');
    return b.includes(a);
  }
  if (b instanceof Map) return typeof a === 'string' && b.has(a);
  return iterate(b).some((own) => same(a, own));
}

/** Below 0, 0 or above 0. Compares numbers with numbers, and strings with strings by code points. */
export function compare(a: Value, b: Value): number {
  if (typeof a === 'string' && typeof b === 'string') return compareCodePoints(a, b);
  const [left, right] = [numeric(a), numeric(b)];
  if (left === undefined || right === undefined) throw new Error('expected two numbers or two strings to compare');
  return left < right ? -1 : left > right ? 1 : 0;
}

function arithmetic(operator: string, a: Value, b: Value): Value {
  const [left, right] = [numeric(a), numeric(b)];
  if (left === undefined || right === undefined) throw new Error(`${operator}: expected two numbers`);
  if ((operator === '/' || operator === '//' || operator === '%') && Number(right) === 0) {
    throw new Error(`${operator}: division by zero`);
  }
  const isWhole = typeof left === 'bigint' && typeof right === 'bigint';
  if (isWhole && operator !== '/' && !(operator === '**' && right < 0n)) return whole(operator, left, right);
  const [x, y] = [Number(left), Number(right)];
  switch (operator) {
    case '+':
      return new PyFloat(x + y);
    case '-':
      return new PyFloat(x - y);
    case '*':
      return new PyFloat(x * y);
    case '/':
      return new PyFloat(x / y);
    case '//':
      return new PyFloat(Math.floor(x / y));
    default:
      throw new Error(`${operator} of floats is not supported`);
  }
}

function whole(operator: string, a: bigint, b: bigint): bigint {
  switch (operator) {
    case '+':
      return a + b;
    case '-':
      return a - b;
    case '*':
      return a * b;
    case '**':
      return a ** b;
    case '//':
      return floorDivide(a, b);
    case '%':
      return a - floorDivide(a, b) * b;
    default:
      throw new Error(`the operator ${operator} is not supported`);
  }
}

/** Rounds down; JavaScript rounds towards zero. */
function floorDivide(a: bigint, b: bigint): bigint {
  const quotient = a / b;
  return a % b !== 0n && a < 0n !== b < 0n ? quotient - 1n : quotient;
}

/** `value is name`, or with an argument as `selectattr` calls it. */
export function test(name: string, value: Value, ...args: readonly Value[]): boolean {
  const isNumber = numeric(value) !== undefined;
  const two = (operator: string) => {
    if (args.length !== 1) throw new Error(`the test ${name}: expected one argument, got ${args.length}`);
    return isTrue(binary(operator, value, args[0]));
  };
  switch (name) {
    case 'defined':
      return value !== undefined;
    case 'undefined':
      return value === undefined;
    case 'none':
      return value === null;
    case 'true':
      return value === true;
    case 'false':
      return value === false;
    case 'boolean':
      return typeof value === 'boolean';
    case 'string':
      return typeof value === 'string';
    case 'number':
      return isNumber;
    case 'integer':
      return typeof value === 'bigint';
    case 'float':
      return value instanceof PyFloat;
    case 'mapping':
      return value instanceof Map;
    case 'sequence':
      return value === undefined || typeof value === 'string' || Array.isArray(value) || value instanceof Map;
    case 'iterable':
      return test('sequence', value) || value instanceof PyGenerator;
    case 'callable':
      return value instanceof PyFunction;
    case 'odd':
      return same(binary('%', value, 2n), 1n);
    case 'even':
      return same(binary('%', value, 2n), 0n);
    case 'eq':
    case 'equalto':
    case '==':
      return two('==');
    case 'ne':
    case '!=':
      return two('!=');
    case 'in':
      return two('in');
    default:
      throw new Error(`the test ${name} is not supported`);
  }
}

/** value[start:stop:step]. */
export function sliced(value: Value, start: Value, stop: Value, step: Value): Value {
  const items = typeof value === 'string' ? [...value] : value;
  if (!Array.isArray(items)) throw new Error('expected a list or a string to slice');
  const part = slice(items as Value[], bound(start), bound(stop), bound(step) ?? 1);
  if (typeof value === 'string') return (part as string[]).join('');
  return value instanceof PyTuple ? PyTuple.of(...part) : part;
}

function bound(value: Value): number | undefined {
  if (value === null) return undefined;
  if (typeof value !== 'bigint') throw new Error('expected integers in a slice');
  return Number(value);
}

function slice<T>(items: readonly T[], start: number | undefined, stop: number | undefined, step: number): T[] {
  if (step === 0) throw new Error('expected a step that is not 0 in a slice');
  const [low, high] = step > 0 ? [0, items.length] : [-1, items.length - 1];
  const place = (given: number | undefined, fallback: number) => {
    if (given === undefined) return fallback;
    return Math.min(Math.max(given < 0 ? given + items.length : given, low), high);
  };
  const [from, to] = [place(start, step > 0 ? low : high), place(stop, step > 0 ? high : low)];
  const part: T[] = [];
  for (let i = from; step > 0 ? i < to : i > to; i += step) part.push(items[i]);
  return part;
}
