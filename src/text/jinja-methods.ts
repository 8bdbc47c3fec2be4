// The methods of Python's strings, dicts and lists that templates call.

import { type Arguments, fromJavaScript, iterate, PyFunction, PyTuple, type Value } from './jinja-values.js';
import { capitalize, replace, split, strip, title } from './python-text.js';

type Method<T> = (own: T, args: Arguments) => Value;

function textOf(name: string, value: Value): string {
  if (typeof value !== 'string') throw new Error(`${name}: expected a string`);
  return value;
}

function noNames(name: string, { named }: Arguments): void {
  if (named.size > 0) throw new Error(`${name}: named arguments are not supported`);
}

/** Whether any of the given strings, one or a list, matches. */
function anyText(name: string, { positional }: Arguments, fits: (text: string) => boolean): boolean {
  if (positional.length !== 1) throw new Error(`${name}: expected one argument`);
  const [given] = positional;
  return (Array.isArray(given) ? given : [given]).some((text) => fits(textOf(name, text)));
}

function stripped(name: string, side: Parameters<typeof strip>[1]): Method<string> {
  return (text, { positional }) => {
    const [characters = null] = positional;
    return strip(text, side, characters === null ? undefined : textOf(name, characters));
  };
}

function wholeNumber(name: string, value: Value): number {
  if (typeof value !== 'bigint') throw new Error(`${name}: expected an integer`);
  return Number(value);
}

const textMethods: Readonly<Record<string, Method<string>>> = {
  strip: stripped('strip', 'both'),
  lstrip: stripped('lstrip', 'left'),
  rstrip: stripped('rstrip', 'right'),
  upper: (text) => text.toUpperCase(),
  lower: (text) => text.toLowerCase(),
  capitalize: (text) => capitalize(text),
  title: (text) => title(text),
  startswith: (text, args) => anyText('startswith', args, (start) => text.startsWith(start)),
  endswith: (text, args) => anyText('endswith', args, (end) => text.endsWith(end)),
  removeprefix: (text, { positional: [start] }) =>
    text.startsWith(textOf('removeprefix', start)) ? text.slice((start as string).length) : text,
  removesuffix: (text, { positional: [end] }) =>
    end !== '' && text.endsWith(textOf('removesuffix', end)) ? text.slice(0, -(end as string).length) : text,
  split: (text, { positional: [separator = null, limit = -1n] }) =>
    split(text, separator === null ? null : textOf('split', separator), wholeNumber('split', limit)),
  replace: (text, { positional: [old, by, count = -1n] }) =>
    replace(text, textOf('replace', old), textOf('replace', by), wholeNumber('replace', count)),
  find: (text, { positional }) => {
    if (positional.length !== 1) throw new Error('find: expected one argument');
    const at = text.indexOf(textOf('find', positional[0]));
    return BigInt(at === -1 ? -1 : [...text.slice(0, at)].length);
  },
  count: (text, { positional }) => {
    const [part] = positional;
    if (positional.length !== 1 || part === '') throw new Error('count: expected one non-empty string');
    return BigInt(text.split(textOf('count', part)).length - 1);
  },
  join: (text, { positional: [parts] }) =>
    iterate(parts)
      .map((part) => textOf('join', part))
      .join(text),
};

const mapMethods: Readonly<Record<string, Method<Map<string, Value>>>> = {
  get: (map, { positional: [key, fallback = null] }) => {
    const value = typeof key === 'string' && map.has(key) ? map.get(key) : undefined;
    return value === undefined ? fallback : value;
  },
  items: (map) => [...map].map(([key, value]) => PyTuple.of<Value>(key, value)),
  keys: (map) => [...map.keys()].map(fromJavaScript),
  values: (map) => [...map.values()],
};

/** Attributes of Python's types that are not supported here; a template must not get something else instead. */
const unknownAttributes = {
  text: new Set(
    'casefold center encode expandtabs format format_map index isalnum isalpha isascii isdecimal isdigit isidentifier islower isnumeric isprintable isspace istitle isupper ljust maketrans partition rfind rindex rjust rpartition rsplit splitlines swapcase translate zfill'.split(
      ' ',
    ),
  ),
  map: new Set('clear copy fromkeys pop popitem setdefault update'.split(' ')),
  list: new Set('append clear copy count extend index insert pop remove reverse sort'.split(' ')),
};

/** The method of that name; undefined if Python has none. Error for one that Python has and that is not supported here. */
export function methodOf(owner: Value, name: string): PyFunction | undefined {
  if (typeof owner === 'string') return bound(textMethods, unknownAttributes.text, owner, name);
  if (owner instanceof Map) return bound(mapMethods, unknownAttributes.map, owner, name);
  if (Array.isArray(owner)) return bound({}, unknownAttributes.list, owner, name);
  return undefined;
}

function bound<T>(
  methods: Readonly<Record<string, Method<T>>>,
  unknown: ReadonlySet<string>,
  owner: T,
  name: string,
): PyFunction | undefined {
  if (unknown.has(name) || name.startsWith('__')) throw new Error(`the attribute ${name} is not supported`);
  if (!Object.hasOwn(methods, name)) return undefined;
  return new PyFunction((args) => {
    noNames(name, args);
    return methods[name](owner, args);
  });
}
