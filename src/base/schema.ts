// Options defined once: a field states an option's type, its check, its default and its meaning. The checks, the settings of a
// run, the types of the options and their documentation are derived from it.

import { type Bounds, checkBoolean, checkChoice, checkKeys, checkNumber, checkObject, limitsText } from './check.js';

/** What is written of an option: in types, help and documentation. */
export interface Described {
  /** The type of the option, as TypeScript; empty for a group without a name of its own. */
  readonly type: string;
  /** The names in `type` that must be imported, and their modules, relative to the folder of the options. */
  readonly imports?: Readonly<Record<string, string>>;
  /** Its meaning, with its unit, as sentences. */
  readonly doc: string;
  /** The range of a number. */
  readonly bounds?: Bounds;
  /** The default: as a value, or as a sentence. Undefined for a required option. */
  readonly fallback?: string;
  /** The options of a group. */
  readonly fields?: Readonly<Record<string, Described>>;
}

/** One option. `Value` is its type once defaults are filled in. */
export interface Field<Value> extends Described {
  /** Checks an option, and fills in defaults. TypeError or RangeError that begins with `path`. */
  resolve(path: string, given: unknown): Value;
}

export type Fields = Readonly<Record<string, Field<unknown>>>;

/** Options under one name. */
export interface Group<F extends Fields, Value = ValuesOf<F>> extends Field<Value> {
  readonly fields: F;
}

/** The settings that result from fields. */
export type ValuesOf<F extends Fields> = { -readonly [Name in keyof F]: F[Name] extends Field<infer V> ? V : never };

interface Stated<T> {
  doc: string;
  /** Omitted for a required option. */
  default?: T;
  /** What the default means, as a sentence without "Default", where the value does not say it. */
  otherwise?: string;
}

interface StatedAbsent {
  doc: string;
  default: null;
  /** What happens without the option, as a sentence without "Default"; may be empty. */
  otherwise: string;
}

/** `undefined` means the default, and so does null if the default is null. */
function meansDefault(given: unknown, fallback: unknown): boolean {
  return fallback !== undefined && (given === undefined || (given === null && fallback === null));
}

function fallbackOf({ default: fallback, otherwise }: Stated<unknown> | StatedAbsent): string | undefined {
  if (otherwise !== undefined || fallback === undefined) return otherwise;
  return typeof fallback === 'string' ? `\`${fallback}\`` : JSON.stringify(fallback);
}

/** A number that is finite in float32. */
export function number(stated: StatedAbsent & Bounds): Field<number | null>;
export function number(stated: Stated<number> & Bounds): Field<number>;
export function number(stated: (Stated<number> | StatedAbsent) & Bounds): Field<number | null> {
  const { doc, default: fallback, min, above, max, below, integer } = stated;
  const bounds = { min, above, max, below, integer };
  return {
    type: 'number',
    doc,
    bounds,
    fallback: fallbackOf(stated),
    resolve: (path, given) =>
      meansDefault(given, fallback) ? (fallback as number | null) : checkNumber(path, given, bounds),
  };
}

/** An integer, at least 1 unless `min` says otherwise. */
export function count(stated: StatedAbsent & { min?: number; max?: number }): Field<number | null>;
export function count(stated: Stated<number> & { min?: number; max?: number }): Field<number>;
export function count(stated: (Stated<number> | StatedAbsent) & { min?: number; max?: number }): Field<number | null> {
  return number({ min: 1, ...(stated as StatedAbsent), integer: true });
}

export function flag(stated: Stated<boolean>): Field<boolean> {
  const { doc, default: fallback } = stated;
  return {
    type: 'boolean',
    doc,
    fallback: fallbackOf(stated),
    resolve: (path, given) => (meansDefault(given, fallback) ? fallback! : checkBoolean(path, given)),
  };
}

/** One of some names. */
export function choice<const T extends string>(choices: readonly T[], stated: Stated<NoInfer<T>>): Field<T> {
  const { doc, default: fallback } = stated;
  return {
    type: choices.map((name) => `'${name}'`).join(' | '),
    doc,
    fallback: fallbackOf(stated),
    resolve: (path, given) => (meansDefault(given, fallback) ? fallback! : checkChoice(path, given, choices)),
  };
}

/** An option with its own check; `resolve` gets `undefined` if the option is not given. */
export function custom<T>(field: Field<T>): Field<T> {
  return field;
}

/** Options under one name, each with its default; `refine` checks them together. */
export function group<F extends Fields, V = ValuesOf<F>>(
  fields: F,
  stated: { doc?: string; type?: string; refine?: (values: ValuesOf<F>, path: string) => V } = {},
): Group<F, V> {
  return {
    type: stated.type ?? '',
    doc: stated.doc ?? '',
    fallback: '',
    fields,
    resolve: (path, given) => {
      const values = resolveFields(fields, path, given ?? {}) as ValuesOf<F>;
      return stated.refine ? stated.refine(values, path) : (values as V);
    },
  };
}

/** A group that may be omitted as a whole, which gives null. */
export function optional<F extends Fields, V>(field: Group<F, V>, otherwise: string): Group<F, V | null> {
  return {
    ...field,
    fallback: otherwise,
    resolve: (path, given) => (given === undefined || given === null ? null : field.resolve(path, given)),
  };
}

/** Options of something that is off without them: `off` then stands for their settings. */
export function omittable<F extends Fields, Off extends object | null>(
  fields: F,
  { off, otherwise, doc = '', type = '' }: { off: Off; otherwise: string; doc?: string; type?: string },
): Group<F, ValuesOf<F> | Off> {
  return {
    type,
    doc,
    fallback: otherwise,
    fields,
    resolve: (path, given) => (given === undefined ? off && { ...off } : resolveFields(fields, path, given)),
  };
}

/** The settings of an object of options. `others` are further valid names, which are ignored. */
export function resolveFields<F extends Fields>(
  fields: F,
  path: string,
  given: unknown,
  others: readonly string[] = [],
): ValuesOf<F> {
  const values = checkObject(path || 'options', given);
  const { names, isConstant, defaults } = prepare(fields);
  checkKeys(path, values, others.length === 0 ? names : [...names, ...others]);
  const settings = { ...defaults };
  for (let i = 0; i < names.length; i++) {
    const name = names[i];
    const value = values[name];
    if (value === undefined && isConstant[i]) continue;
    settings[name] = fields[name].resolve(path ? `${path}.${name}` : name, value);
  }
  return settings as ValuesOf<F>;
}

interface Prepared {
  names: readonly string[];
  isConstant: readonly boolean[];
  /** In the order of `names`; undefined where a default is not a constant. */
  defaults: Readonly<Record<string, unknown>>;
}

const prepared = new WeakMap<Fields, Prepared>();

/** Defaults that are the same in every call are found once: checks must not take long beside a loss on a small batch. */
function prepare(fields: Fields): Prepared {
  const known = prepared.get(fields);
  if (known) return known;
  const names = Object.keys(fields);
  const constants = names.map((name) => {
    const field = fields[name];
    const value = field.fallback === undefined || field.fields ? undefined : field.resolve(name, undefined);
    return typeof value === 'object' && value !== null ? undefined : value;
  });
  const result = {
    names,
    isConstant: constants.map((value) => value !== undefined),
    defaults: Object.fromEntries(names.map((name, i) => [name, constants[i]])),
  };
  prepared.set(fields, result);
  return result;
}

/** What a field means, its range and its default, as one text. */
export function documentationOf({ doc, bounds, fallback }: Described): string {
  const isValue = /^(`|\[|-?\d|true$|false$)/.test(fallback ?? '');
  return [doc, rangeOf(bounds), fallback ? `Default${isValue ? '' : ':'} ${fallback}.` : '']
    .filter((text) => text !== '')
    .join(' ');
}

/** `At least 0 and at most 1.`; empty for any finite number, and for a count from 1. */
function rangeOf(bounds: Bounds = {}): string {
  const { min, max, integer } = bounds;
  const text = integer && min === 1 && max === undefined ? '' : limitsText(bounds);
  return text === '' ? '' : `${text[0].toUpperCase()}${text.slice(1)}.`;
}
