// The common form of argument errors: which field, what was expected, what was given.

export function describe(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (value === null || typeof value === 'boolean' || typeof value === 'number' || typeof value === 'bigint') {
    return String(value);
  }
  if (typeof value === 'string') return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
  if (Array.isArray(value)) return `an array of ${value.length} values`;
  if (isTypedArray(value)) {
    return `${withArticle(String(typedArray.name.call(value)))} of ${typedArray.length.call(value)} values`;
  }
  if (typeof value === 'function') return 'a function';
  if (typeof value === 'symbol') return 'a symbol';
  // A caller's object may hold anything under `constructor`.
  const made = (value as { constructor?: unknown }).constructor;
  const name: unknown = typeof made === 'function' ? made.name : undefined;
  return typeof name === 'string' && name !== '' && name !== 'Object' ? `an object of class ${name}` : 'an object';
}

function withArticle(type: string): string {
  return `${type.startsWith('I') ? 'an' : 'a'} ${type}`;
}

function getter(prototype: object, property: string | symbol): (this: unknown) => unknown {
  return Object.getOwnPropertyDescriptor(prototype, property)!.get!;
}

/** The accessors of all typed arrays, because an array's own properties could be overridden. */
const typedArray = {
  name: getter(Object.getPrototypeOf(Uint8Array.prototype), Symbol.toStringTag),
  length: getter(Object.getPrototypeOf(Uint8Array.prototype), 'length'),
  buffer: getter(Object.getPrototypeOf(Uint8Array.prototype), 'buffer'),
};

export function isTypedArray(value: unknown, kind?: keyof ArrayTypes): boolean {
  const name = typedArray.name.call(value);
  return kind === undefined ? name !== undefined : name === kind;
}

/** For a value of the wrong type. */
export function typeError(field: string, expected: string, actual: unknown): TypeError {
  return new TypeError(`${field}: expected ${expected}, got ${describe(actual)}`);
}

/** For an invalid value of the right type. `actual` is already a description. */
export function rangeError(field: string, expected: string, actual: string): RangeError {
  return new RangeError(`${field}: expected ${expected}, got ${actual}`);
}

export interface Bounds {
  /** Inclusive lower bound. */
  min?: number;
  /** Exclusive lower bound. */
  above?: number;
  /** Inclusive upper bound. */
  max?: number;
  /** Exclusive upper bound. */
  below?: number;
  integer?: boolean;
}

/** `an integer at least 1 and at most 8`, for messages. */
export function boundsText(bounds: Bounds = {}): string {
  const kind = bounds.integer ? 'an integer' : 'a finite number';
  const limits = limitsText(bounds);
  return limits === '' ? kind : `${kind} ${limits}`;
}

/** `at least 1 and at most 8`; empty without limits. */
export function limitsText({ min, above, max, below }: Bounds): string {
  const limits: string[] = [];
  if (min !== undefined) limits.push(`at least ${min}`);
  if (above !== undefined) limits.push(`above ${above}`);
  if (max !== undefined) limits.push(`at most ${max}`);
  if (below !== undefined) limits.push(`below ${below}`);
  return limits.join(' and ');
}

/**
 * A number within bounds that is finite in float32, in which devices compute. TypeError for another type, RangeError for an
 * invalid value (including NaN and infinities).
 */
export function checkNumber(field: string, value: unknown, bounds: Bounds = {}): number {
  if (typeof value !== 'number') throw typeError(field, boundsText(bounds), value);
  const { min, above, max, below, integer } = bounds;
  const overflows = Number.isFinite(value) && !Number.isFinite(Math.fround(value));
  const inside =
    Number.isFinite(value) &&
    !overflows &&
    (!integer || Number.isSafeInteger(value)) &&
    (min === undefined || value >= min) &&
    (above === undefined || value > above) &&
    (max === undefined || value <= max) &&
    (below === undefined || value < below);
  if (!inside) throw rangeError(field, boundsText(bounds), overflows ? `${value}, infinite in float32` : String(value));
  return value;
}

export function checkChoice<const T extends string>(field: string, value: unknown, choices: readonly T[]): T {
  if (typeof value !== 'string' || !choices.includes(value as T)) {
    const expected = `one of ${choices.map((c) => `'${c}'`).join(', ')}`;
    if (typeof value === 'string') throw rangeError(field, expected, describe(value));
    throw typeError(field, expected, value);
  }
  return value as T;
}

export function checkBoolean(field: string, value: unknown): boolean {
  if (typeof value !== 'boolean') throw typeError(field, 'a boolean', value);
  return value;
}

export function checkObject(field: string, value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value) || isTypedArray(value)) {
    throw typeError(field, 'an object', value);
  }
  return value as Record<string, unknown>;
}

/** Rejects misspelt fields, so that `agregation` is an error rather than ignored. */
export function checkKeys(field: string, value: Record<string, unknown>, known: readonly string[]): void {
  for (const key of Object.keys(value)) {
    if (!known.includes(key)) {
      const path = field ? `${field}.${key}` : key;
      throw new TypeError(`${path}: unknown field; expected one of ${known.join(', ')}`);
    }
  }
}

export interface ArrayTypes {
  Float32Array: Float32Array;
  Float64Array: Float64Array;
  Int32Array: Int32Array;
  Uint8Array: Uint8Array;
  Uint16Array: Uint16Array;
}

/**
 * The buffer behind a typed array must be readable and must not change during a native call: shared, resizable and detached
 * buffers are rejected.
 */
export function checkBuffer(field: string, array: ArrayBufferView): void {
  const buffer = array.buffer;
  if (buffer instanceof SharedArrayBuffer) {
    throw new TypeError(`${field}: expected an array over unshared memory, got one over a SharedArrayBuffer`);
  }
  if ((buffer as { resizable?: boolean }).resizable) {
    throw new TypeError(
      `${field}: expected an array over a buffer of fixed size, got one over a resizable ArrayBuffer`,
    );
  }
  if (buffer.byteLength === 0 && isDetached(buffer)) {
    throw new TypeError(`${field}: expected a readable array, got one whose buffer is detached (was it transferred?)`);
  }
}

function isDetached(buffer: ArrayBuffer): boolean {
  try {
    new Uint8Array(buffer);
    return false;
  } catch {
    return true;
  }
}

/** A typed array of one exact kind. `shape` explains the length: "4 sequences x 32". */
export function checkArray<K extends keyof ArrayTypes>(
  field: string,
  value: unknown,
  kind: K,
  length?: number,
  shape?: string,
): ArrayTypes[K] {
  if (!isTypedArray(value, kind)) throw typeError(field, withArticle(kind), value);
  const array = value as ArrayTypes[K];
  if (array.length !== typedArray.length.call(array) || array.buffer !== typedArray.buffer.call(array)) {
    throw new TypeError(
      `${field}: expected ${withArticle(kind)} with its original properties, got one whose properties were redefined`,
    );
  }
  checkBuffer(field, array);
  if (length !== undefined) checkLength(field, array.length, length, shape);
  return array;
}

export function checkLength(field: string, actual: number, expected: number, shape?: string): void {
  if (actual !== expected) {
    throw rangeError(field, `${expected} values${shape ? ` (${shape})` : ''}`, String(actual));
  }
}
