// A subset of JSON Schema (draft 2020-12): the keywords below, each as the standard defines it. An unknown keyword is an
// error, not a constraint that is silently not checked.

import { checkObject, describe, rangeError, typeError } from '../base/check.js';
import type { Judgement } from './judge.js';

export type JsonSchema = boolean | { [keyword: string]: unknown };

/** Annotations, which do not affect validity. */
const annotations = new Set([
  'title',
  'description',
  'examples',
  'default',
  '$comment',
  '$schema',
  'deprecated',
  'readOnly',
  'writeOnly',
]);
const types = ['null', 'boolean', 'object', 'array', 'number', 'integer', 'string'];
const maxDepth = 200;

const count = (field: string, value: unknown) => {
  if (!Number.isSafeInteger(value) || (value as number) < 0) throw typeError(field, 'an integer at least 0', value);
};
const finite = (field: string, value: unknown) => {
  if (typeof value !== 'number' || !Number.isFinite(value)) throw typeError(field, 'a finite number', value);
};
const schemas = (field: string, value: unknown, depth: number) => {
  if (!Array.isArray(value) || value.length === 0) throw typeError(field, 'an array of schemas', value);
  for (const [i, one] of value.entries()) checkSchema(`${field}[${i}]`, one, depth + 1);
};
const schemasByName = (field: string, value: unknown, depth: number) => {
  for (const [name, one] of Object.entries(checkObject(field, value))) checkSchema(`${field}.${name}`, one, depth + 1);
};
const oneSchema = (field: string, value: unknown, depth: number) => checkSchema(field, value, depth + 1);

const keywords: Readonly<Record<string, (field: string, value: unknown, depth: number) => void>> = {
  type: (field, value) => {
    const all = Array.isArray(value) ? value : [value];
    for (const one of all)
      if (!types.includes(one as string))
        throw typeError(field, `one of ${types.join(', ')}, or an array of them`, one);
  },
  enum: (field, value) => {
    if (!Array.isArray(value)) throw typeError(field, 'an array', value);
  },
  const: () => {},
  minimum: finite,
  maximum: finite,
  exclusiveMinimum: finite,
  exclusiveMaximum: finite,
  multipleOf: (field, value) => {
    finite(field, value);
    if ((value as number) <= 0) throw rangeError(field, 'a number above 0', describe(value));
  },
  minLength: count,
  maxLength: count,
  pattern: (field, value) => {
    if (typeof value !== 'string') throw typeError(field, 'a regular expression as a string', value);
    try {
      new RegExp(value, 'u');
    } catch (error) {
      throw rangeError(field, 'a regular expression', (error as Error).message);
    }
  },
  minItems: count,
  maxItems: count,
  uniqueItems: (field, value) => {
    if (typeof value !== 'boolean') throw typeError(field, 'a boolean', value);
  },
  items: oneSchema,
  prefixItems: schemas,
  contains: oneSchema,
  minProperties: count,
  maxProperties: count,
  required: (field, value) => {
    if (!Array.isArray(value) || value.some((name) => typeof name !== 'string'))
      throw typeError(field, 'an array of strings', value);
  },
  properties: schemasByName,
  additionalProperties: oneSchema,
  propertyNames: oneSchema,
  allOf: schemas,
  anyOf: schemas,
  oneOf: schemas,
  not: oneSchema,
};

/** TypeError or RangeError that names the path of an unknown keyword or an invalid value. */
export function checkSchema(field: string, schema: unknown, depth = 0): asserts schema is JsonSchema {
  if (depth > maxDepth) throw rangeError(field, `at most ${maxDepth} schemas within each other`, 'more');
  if (typeof schema === 'boolean') return;
  for (const [name, value] of Object.entries(checkObject(field, schema))) {
    if (annotations.has(name)) continue;
    if (!Object.hasOwn(keywords, name))
      throw new TypeError(`${field}.${name}: unknown keyword; expected one of ${Object.keys(keywords).join(', ')}`);
    keywords[name](`${field}.${name}`, value, depth);
  }
}

/** Whether a text is JSON that is valid under a checked schema. */
export function judgeJson(text: string, schema: JsonSchema): Judgement {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { correct: false, reason: 'no JSON' };
  }
  const issue = findIssue(value, schema, '$', 0);
  return issue === undefined ? { correct: true, reason: 'valid' } : { correct: false, reason: issue };
}

function typeOf(value: unknown): string {
  return value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value;
}

const hasType = (value: unknown, type: string): boolean =>
  type === 'integer' ? Number.isInteger(value) : typeOf(value) === type;

function equalJson(a: unknown, b: unknown, depth = 0): boolean {
  if (a === b) return true;
  if (typeOf(a) !== typeOf(b) || typeof a !== 'object' || a === null || depth > maxDepth) return false;
  const [x, y] = [Object.entries(a), b as Record<string, unknown>];
  return (
    x.length === Object.keys(y).length &&
    x.every(([key, value]) => Object.hasOwn(y, key) && equalJson(value, y[key], depth + 1))
  );
}

const length = (text: string): number => Array.from(text).length;

/** The first violation, with its path; undefined for a valid value. */
function findIssue(value: unknown, schema: JsonSchema, path: string, depth: number): string | undefined {
  if (depth > maxDepth) return `${path}: nested too deep`;
  if (schema === true) return undefined;
  if (schema === false) return `${path}: not allowed`;
  const s = schema as Record<string, never>;
  const within = (inner: unknown, of: JsonSchema, at: string) => findIssue(inner, of, at, depth + 1);
  const isValid = (of: JsonSchema) => within(value, of, path) === undefined;
  if (s.type !== undefined && ![s.type].flat().some((type) => hasType(value, type)))
    return `${path}: expected ${[s.type].flat().join(' or ')}, got ${typeOf(value)}`;
  if (s.enum !== undefined && !(s.enum as unknown[]).some((one) => equalJson(one, value)))
    return `${path}: not one of the values allowed`;
  if ('const' in s && !equalJson(s.const, value)) return `${path}: not the value expected`;
  if (typeof value === 'number') {
    if (value < s.minimum || value <= s.exclusiveMinimum) return `${path}: too small`;
    if (value > s.maximum || value >= s.exclusiveMaximum) return `${path}: too large`;
    if (s.multipleOf !== undefined && !isMultiple(value, s.multipleOf))
      return `${path}: not a multiple of ${s.multipleOf}`;
  }
  if (typeof value === 'string') {
    if (length(value) < s.minLength) return `${path}: too short`;
    if (length(value) > s.maxLength) return `${path}: too long`;
    if (s.pattern !== undefined && !new RegExp(s.pattern, 'u').test(value))
      return `${path}: does not match the pattern`;
  }
  if (Array.isArray(value)) {
    if (value.length < s.minItems) return `${path}: too few items`;
    if (value.length > s.maxItems) return `${path}: too many items`;
    if (s.uniqueItems && hasDuplicates(value)) return `${path}: items are repeated`;
    if (s.contains !== undefined && !value.some((item) => within(item, s.contains, path) === undefined))
      return `${path}: an item is missing`;
    const prefix: JsonSchema[] = s.prefixItems ?? [];
    for (const [i, item] of value.entries()) {
      const of = prefix[i] ?? s.items;
      const issue = of === undefined ? undefined : within(item, of, `${path}[${i}]`);
      if (issue) return issue;
    }
  }
  if (typeOf(value) === 'object') {
    const issue = findIssueOfObject(value as Record<string, unknown>, s, path, within);
    if (issue) return issue;
  }
  for (const of of (s.allOf ?? []) as JsonSchema[]) {
    const issue = within(value, of, path);
    if (issue) return issue;
  }
  if (s.anyOf !== undefined && !(s.anyOf as JsonSchema[]).some(isValid))
    return `${path}: none of the alternatives fits`;
  if (s.oneOf !== undefined && (s.oneOf as JsonSchema[]).filter(isValid).length !== 1)
    return `${path}: not exactly one of the alternatives fits`;
  if (s.not !== undefined && isValid(s.not)) return `${path}: fits what it must not`;
  return undefined;
}

function findIssueOfObject(
  object: Record<string, unknown>,
  s: Record<string, never>,
  path: string,
  within: (inner: unknown, of: JsonSchema, at: string) => string | undefined,
): string | undefined {
  const names = Object.keys(object);
  for (const name of (s.required ?? []) as string[])
    if (!Object.hasOwn(object, name)) return `${path}.${name}: missing`;
  if (names.length < s.minProperties) return `${path}: too few properties`;
  if (names.length > s.maxProperties) return `${path}: too many properties`;
  const properties = (s.properties ?? {}) as Record<string, JsonSchema>;
  for (const name of names) {
    const at = `${path}.${name.slice(0, 40)}`;
    const of = Object.hasOwn(properties, name) ? properties[name] : s.additionalProperties;
    const issue =
      (s.propertyNames === undefined ? undefined : within(name, s.propertyNames, at)) ??
      (of === undefined ? undefined : within(object[name], of, at));
    if (issue) return issue;
  }
  return undefined;
}

/** 0.3 is a multiple of 0.1, although not in binary. */
function isMultiple(value: number, of: number): boolean {
  const quotient = value / of;
  return Math.abs(quotient - Math.round(quotient)) <= Math.abs(quotient) * 2 ** -50;
}

function hasDuplicates(items: readonly unknown[]): boolean {
  const seen = new Set<string>();
  for (const item of items) {
    const key = JSON.stringify(item, sorted);
    if (seen.has(key)) return true;
    seen.add(key);
  }
  return false;
}

function sorted(_: string, value: unknown): unknown {
  if (typeOf(value) !== 'object') return value;
  return Object.fromEntries(Object.entries(value as object).sort(([a], [b]) => (a < b ? -1 : 1)));
}
