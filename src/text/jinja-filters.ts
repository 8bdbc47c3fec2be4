// Jinja's filters, as used by chat templates (https://jinja.palletsprojects.com/en/stable/templates/#builtin-filters), with
// transformers' tojson.

import {
  type Arguments,
  Attributes,
  compare,
  isTrue,
  iterate,
  lengthOf,
  PyFunction,
  PyGenerator,
  PyTuple,
  plain,
  print,
  test,
  type Value,
} from './jinja-values.js';
import { capitalize, dumps, hasOtherLineEnd, PyFloat, replace, strip, titleWords } from './python-text.js';

type Filter = (value: Value, args: Bound) => Value;

/** Positional and named arguments. */
class Bound {
  private readonly used = new Set<string>();

  constructor(
    private readonly filter: string,
    private readonly args: Arguments,
  ) {}

  /** The argument at a position or with a name; undefined if it is omitted. */
  get(place: number, name: string): Value {
    this.used.add(name);
    return place < this.args.positional.length ? this.args.positional[place] : this.args.named.get(name);
  }

  /** Positional arguments from an index on. */
  from(place: number): readonly Value[] {
    return this.args.positional.slice(place);
  }

  named(name: string): Value {
    this.used.add(name);
    return this.args.named.get(name);
  }

  /** Error for unexpected arguments: positions beyond `places`, or an unknown name. */
  check(places: number): this {
    const extra = [...this.args.named.keys()].find((name) => !this.used.has(name));
    if (extra !== undefined) throw new Error(`the filter ${this.filter}: unknown argument ${extra}`);
    if (this.args.positional.length > places) throw new Error(`the filter ${this.filter}: too many arguments`);
    return this;
  }
}

function text(name: string, value: Value): string {
  if (typeof value !== 'string') throw new Error(`the filter ${name}: expected a string`);
  return value;
}

/** The attribute path of an item: `function.name`. */
function reach(item: Value, path: Value): Value {
  const parts = typeof path === 'bigint' ? [path] : text('attribute', path).split('.');
  let value = item;
  for (const part of parts) {
    if (value === undefined) throw new Error(`${String(path)} is undefined`);
    if (value instanceof Map) value = value.get(String(part));
    else if (value instanceof Attributes) value = value.get(String(part));
    else if (Array.isArray(value) && /^\d+$/.test(String(part))) value = value[Number(part)];
    else value = undefined;
  }
  return value;
}

function jsonFilter(value: Value, args: Bound): Value {
  const indent = args.get(1, 'indent') ?? null;
  const separators = args.get(2, 'separators') ?? null;
  if (indent !== null && typeof indent !== 'bigint') throw new Error('tojson: expected an integer as indent');
  if (separators !== null && !(Array.isArray(separators) && separators.length === 2)) {
    throw new Error('tojson: expected two separators');
  }
  const options = {
    ensureAscii: isTrue(args.get(0, 'ensure_ascii')),
    indent: indent === null ? null : Number(indent),
    separators: separators && ([text('tojson', separators[0]), text('tojson', separators[1])] as const),
    sortKeys: isTrue(args.get(3, 'sort_keys')),
  };
  args.check(4);
  return dumps(plain(value), options);
}

/** Python's int(): for a string, digits with an optional sign and surrounding white space. */
function toInteger(value: Value, fallback: Value): Value {
  if (typeof value === 'bigint') return value;
  if (typeof value === 'boolean') return value ? 1n : 0n;
  if (value === undefined) throw new Error('int: expected a value, got one that is not defined');
  if (typeof value === 'string') {
    const own = strip(value, 'both');
    if (/^[+-]?\d+$/.test(own)) return BigInt(own.replace(/^\+/, ''));
  }
  const float = toFloat(value, null);
  return float instanceof PyFloat && Number.isFinite(float.value) ? BigInt(Math.trunc(float.value)) : fallback;
}

function toFloat(value: Value, fallback: Value): Value {
  if (value instanceof PyFloat) return value;
  if (typeof value === 'bigint' || typeof value === 'boolean') return new PyFloat(Number(value));
  if (value === undefined) throw new Error('float: expected a value, got one that is not defined');
  if (typeof value !== 'string') return fallback;
  const own = strip(value, 'both');
  if (/[^\x20-\x7e]|_|^[+-]?(inf|nan)/i.test(own)) throw new Error('float: a number in this spelling is not supported');
  return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(own) ? new PyFloat(Number(own)) : fallback;
}

/** Puts `width` spaces or a given text before every line but the first and empty ones. */
function indent(value: Value, args: Bound): Value {
  const own = print(value);
  const width = args.get(0, 'width') ?? 4n;
  const [first, blank] = [isTrue(args.get(1, 'first')), isTrue(args.get(2, 'blank'))];
  args.check(3);
  if (hasOtherLineEnd(own)) throw new Error('indent: line ends other than \\n are not supported');
  const space = typeof width === 'bigint' ? ' '.repeat(Number(width)) : text('indent', width);
  return own
    .split('\n')
    .map((line, i) => ((i === 0 && !first) || (line === '' && !blank) ? line : space + line))
    .join('\n');
}

/** Strings ignoring case, as Jinja sorts and compares by default. */
function folded(value: Value, isCaseSensitive: boolean): Value {
  return typeof value === 'string' && !isCaseSensitive ? value.toLowerCase() : value;
}

function sortFilter(value: Value, args: Bound): Value {
  const isReversed = isTrue(args.get(0, 'reverse'));
  const isCaseSensitive = isTrue(args.get(1, 'case_sensitive'));
  const attribute = args.get(2, 'attribute') ?? null;
  args.check(3);
  const key = (item: Value) => folded(attribute === null ? item : reach(item, attribute), isCaseSensitive);
  return sorted(iterate(value), key, isReversed);
}

/** Stable, also in reverse. */
function sorted(items: readonly Value[], key: (item: Value) => Value, isReversed: boolean): Value[] {
  return [...items].sort((a, b) => (isReversed ? compare(key(b), key(a)) : compare(key(a), key(b))));
}

function dictSort(value: Value, args: Bound): Value {
  if (!(value instanceof Map)) throw new Error('dictsort: expected a mapping');
  const isCaseSensitive = isTrue(args.get(0, 'case_sensitive'));
  const by = args.get(1, 'by') ?? 'key';
  const isReversed = isTrue(args.get(2, 'reverse'));
  args.check(3);
  if (by !== 'key' && by !== 'value') throw new Error("dictsort: expected 'key' or 'value'");
  const pairs = [...value].map(([key, own]) => PyTuple.of<Value>(key, own));
  return sorted(pairs, (pair) => folded((pair as Value[])[by === 'key' ? 0 : 1], isCaseSensitive), isReversed);
}

function unique(value: Value, args: Bound): Value {
  const isCaseSensitive = isTrue(args.get(0, 'case_sensitive'));
  const attribute = args.get(1, 'attribute') ?? null;
  args.check(2);
  const seen: Value[] = [];
  const items = iterate(value).filter((item) => {
    const key = folded(attribute === null ? item : reach(item, attribute), isCaseSensitive);
    const isNew = !seen.some((own) => test('eq', own, key));
    if (isNew) seen.push(key);
    return isNew;
  });
  return new PyGenerator(items);
}

/** Jinja's map and select treat every false value, None included, as empty. */
function ofTrue(value: Value): readonly Value[] {
  return isTrue(value) ? iterate(value) : [];
}

/** select, reject, selectattr, rejectattr. */
function selecting(isWanted: boolean, hasAttribute: boolean): Filter {
  return (value, args) => {
    const attribute = hasAttribute ? args.get(0, '') : null;
    const [name, ...others] = args.from(hasAttribute ? 1 : 0);
    args.check(Number.POSITIVE_INFINITY);
    const passes = (item: Value) => {
      const own = hasAttribute ? reach(item, attribute) : item;
      return name === undefined ? isTrue(own) : test(text('select', name), own, ...others);
    };
    return new PyGenerator(ofTrue(value).filter((item) => passes(item) === isWanted));
  };
}

function mapping(value: Value, args: Bound): Value {
  const attribute = args.named('attribute');
  const items = ofTrue(value);
  if (attribute !== undefined) {
    const fallback = args.named('default');
    args.check(0);
    return new PyGenerator(
      items.map((item) => {
        const own = reach(item, attribute);
        return own === undefined ? fallback : own;
      }),
    );
  }
  const [name, ...positional] = args.from(0);
  args.check(Number.POSITIVE_INFINITY);
  return new PyGenerator(items.map((item) => applyFilter(text('map', name), item, { positional, named: new Map() })));
}

function join(value: Value, args: Bound): Value {
  const separator = print(args.get(0, 'd') ?? '');
  const attribute = args.get(1, 'attribute') ?? null;
  args.check(2);
  return iterate(value)
    .map((item) => print(attribute === null ? item : reach(item, attribute)))
    .join(separator);
}

/** A filter without arguments. */
function bare(change: (value: Value) => Value): Filter {
  return (value, args) => {
    args.check(0);
    return change(value);
  };
}

/** A string filter: its input is converted to a string first. */
function ofText(change: (own: string) => string): Filter {
  return bare((value) => change(print(value)));
}

const filters: Readonly<Record<string, Filter>> = {
  trim: (value, args) => {
    const characters = args.get(0, 'chars') ?? null;
    args.check(1);
    return strip(print(value), 'both', characters === null ? undefined : text('trim', characters));
  },
  upper: ofText((own) => own.toUpperCase()),
  lower: ofText((own) => own.toLowerCase()),
  capitalize: ofText(capitalize),
  title: ofText(titleWords),
  string: ofText((own) => own),
  length: bare(lengthOf),
  count: bare(lengthOf),
  first: bare((value) => iterate(value)[0]),
  last: bare((value) => {
    if (value instanceof PyGenerator) throw new Error('last: expected a list or a string');
    return iterate(value).at(-1);
  }),
  reverse: bare((value) => {
    if (typeof value === 'string') return [...value].reverse().join('');
    return new PyGenerator([...iterate(value)].reverse());
  }),
  list: bare((value) => [...iterate(value)]),
  items: bare((value) => {
    if (value === undefined) return new PyGenerator([]);
    if (!(value instanceof Map)) throw new Error('items: expected a mapping');
    return new PyGenerator([...value].map(([key, own]) => PyTuple.of<Value>(key, own)));
  }),
  join,
  int: (value, args) => {
    const fallback = args.get(0, 'default') ?? 0n;
    args.check(1);
    return toInteger(value, fallback);
  },
  float: (value, args) => {
    const fallback = args.get(0, 'default') ?? new PyFloat(0);
    args.check(1);
    return toFloat(value, fallback);
  },
  abs: bare((value) => {
    if (typeof value === 'bigint') return value < 0n ? -value : value;
    if (value instanceof PyFloat) return new PyFloat(Math.abs(value.value));
    throw new Error('abs: expected a number');
  }),
  default: orDefault,
  d: orDefault,
  tojson: jsonFilter,
  map: mapping,
  select: selecting(true, false),
  reject: selecting(false, false),
  selectattr: selecting(true, true),
  rejectattr: selecting(false, true),
  replace: (value, args) => {
    const [old, by] = [args.get(0, 'old'), args.get(1, 'new')];
    const count = args.get(2, 'count') ?? -1n;
    args.check(3);
    if (typeof count !== 'bigint') throw new Error('replace: expected an integer');
    return replace(print(value), print(old), print(by), Number(count));
  },
  indent,
  sort: sortFilter,
  dictsort: dictSort,
  unique,
};

function orDefault(value: Value, args: Bound): Value {
  const fallback = args.get(0, 'default_value') ?? '';
  const isByTruth = isTrue(args.get(1, 'boolean'));
  args.check(2);
  return value === undefined || (isByTruth && !isTrue(value)) ? fallback : value;
}

/** `value | name(args)`. Error for an unsupported filter. */
export function applyFilter(name: string, value: Value, args: Arguments): Value {
  if (!Object.hasOwn(filters, name)) throw new Error(`the filter ${name} is not supported`);
  if (value instanceof PyFunction) throw new Error(`the filter ${name}: expected a value, got a function`);
  return filters[name](value, new Bound(name, args));
}
