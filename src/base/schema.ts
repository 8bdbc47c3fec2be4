// Options defined once: a field states an option's type, its check, its default and its meaning. The checks, the settings of a
// run, the types of the options and their documentation are derived from it.

import { type Bounds, checkBoolean, checkChoice, checkKeys, checkNumber, checkObject } from './check.js';

/** One option. `Value` is its type once defaults are filled in. */
export interface Field<Value> {
  /** The type of the option, as TypeScript. */
  readonly type: string;
  /** The names in `type` that must be imported, and their modules, relative to the folder of the options. */
  readonly imports?: Readonly<Record<string, string>>;
  /** Its meaning, with its unit, as sentences. */
  readonly doc: string;
  /** The default: as a value, or as a sentence. Undefined for a required option. */
  readonly fallback?: string;
  /** The options of a group. */
  readonly fields?: Fields;
  /** Checks an option, and fills in defaults. TypeError or RangeError that begins with `path`. */
  resolve(path: string, given: unknown): Value;
}

export type Fields = Readonly<Record<string, Field<unknown>>>;

/** The settings that result from fields. */
export type ValuesOf<F extends Fields> = { -readonly [Name in keyof F]: F[Name] extends Field<infer V> ? V : never };

interface Stated<T> {
  doc: string;
  /** Omitted for a required option. */
  default?: T;
}

interface StatedAbsent {
  doc: string;
  default: null;
  /** What happens without the option, as a sentence without "Default"; may be empty. */
  otherwise: string;
}

/** `undefined` means the default, and so does null if the default is null. */
function orDefault<T>(stated: Stated<T> | StatedAbsent, given: unknown, check: () => T): T | null {
  const isDefault = given === undefined || (given === null && stated.default === null);
  return isDefault && stated.default !== undefined ? stated.default : check();
}

function fallbackOf(stated: Stated<unknown> | StatedAbsent): string | undefined {
  if ('otherwise' in stated) return stated.otherwise;
  const { default: fallback } = stated;
  return fallback === undefined
    ? undefined
    : typeof fallback === 'string'
      ? `\`${fallback}\``
      : JSON.stringify(fallback);
}

/** A number that is finite in float32. */
export function number(stated: StatedAbsent & Bounds): Field<number | null>;
export function number(stated: Stated<number> & Bounds): Field<number>;
export function number(stated: (Stated<number> | StatedAbsent) & Bounds): Field<number | null> {
  const { min, above, max, below, integer } = stated;
  return {
    type: 'number',
    doc: stated.doc,
    fallback: fallbackOf(stated),
    resolve: (path, given) =>
      orDefault(stated, given, () => checkNumber(path, given, { min, above, max, below, integer })),
  };
}

/** An integer, at least 1 unless `min` says otherwise. */
export function count(stated: StatedAbsent & { min?: number }): Field<number | null>;
export function count(stated: Stated<number> & { min?: number }): Field<number>;
export function count(stated: (Stated<number> | StatedAbsent) & { min?: number }): Field<number | null> {
  return number({ min: 1, ...(stated as StatedAbsent), integer: true });
}

export function flag(stated: Stated<boolean>): Field<boolean> {
  return {
    type: 'boolean',
    doc: stated.doc,
    fallback: fallbackOf(stated),
    resolve: (path, given) => orDefault(stated, given, () => checkBoolean(path, given))!,
  };
}

/** One of some names. */
export function choice<const T extends string>(choices: readonly T[], stated: Stated<NoInfer<T>>): Field<T> {
  return {
    type: choices.map((name) => `'${name}'`).join(' | '),
    doc: stated.doc,
    fallback: fallbackOf(stated),
    resolve: (path, given) => orDefault(stated, given, () => checkChoice(path, given, choices))!,
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
): Field<V> & { fields: F } {
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
export function optional<V, F extends Fields>(field: Field<V> & { fields: F }, otherwise: string): Field<V | null> {
  return {
    ...field,
    fallback: otherwise,
    resolve: (path, given) => (given === undefined || given === null ? null : field.resolve(path, given)),
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
  checkKeys(path, values, [...Object.keys(fields), ...others]);
  return Object.fromEntries(
    Object.entries(fields).map(([name, field]) => [name, field.resolve(path ? `${path}.${name}` : name, values[name])]),
  ) as ValuesOf<F>;
}

/** What a field means and its default, as one text. */
export function documentationOf({ doc, fallback }: Pick<Field<unknown>, 'doc' | 'fallback'>): string {
  if (!fallback) return doc;
  const isValue = /^(`|\[|-?\d|true$|false$)/.test(fallback);
  const text = `Default${isValue ? '' : ':'} ${fallback}.`;
  return doc === '' ? text : `${doc} ${text}`;
}
