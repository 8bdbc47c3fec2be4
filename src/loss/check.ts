// The one vocabulary of argument errors: which field, what was expected, what came.

export function describe(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (value === null || typeof value === 'boolean' || typeof value === 'number' || typeof value === 'bigint') {
    return String(value);
  }
  if (typeof value === 'string') return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
  if (Array.isArray(value)) return `an array of ${value.length} values`;
  if (ArrayBuffer.isView(value)) {
    const length = (value as unknown as { length?: number }).length;
    return length === undefined ? `a ${value.constructor.name}` : `a ${value.constructor.name} of ${length} values`;
  }
  if (typeof value === 'function') return 'a function';
  if (typeof value === 'symbol') return 'a symbol';
  return `a ${(value as object).constructor?.name ?? 'object without a prototype'}`;
}

/** Wrong kind of thing. */
export function typeError(field: string, expected: string, actual: unknown): TypeError {
  return new TypeError(`${field}: expected ${expected}, got ${describe(actual)}`);
}

/** Right kind of thing, impossible value. `actual` is text when it is already a description. */
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
  integer?: boolean;
}

function boundsText({ min, above, max, integer }: Bounds): string {
  const kind = integer ? 'an integer' : 'a finite number';
  const limits: string[] = [];
  if (min !== undefined) limits.push(`at least ${min}`);
  if (above !== undefined) limits.push(`above ${above}`);
  if (max !== undefined) limits.push(`at most ${max}`);
  return limits.length ? `${kind} ${limits.join(' and ')}` : kind;
}

/** A finite number within bounds. TypeError for another type, RangeError for another value (NaN and infinities included). */
export function checkNumber(field: string, value: unknown, bounds: Bounds = {}): number {
  if (typeof value !== 'number') throw typeError(field, boundsText(bounds), value);
  const { min, above, max, integer } = bounds;
  const inside =
    Number.isFinite(value) &&
    (!integer || Number.isSafeInteger(value)) &&
    (min === undefined || value >= min) &&
    (above === undefined || value > above) &&
    (max === undefined || value <= max);
  if (!inside) throw rangeError(field, boundsText(bounds), String(value));
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
  if (typeof value !== 'object' || value === null || Array.isArray(value) || ArrayBuffer.isView(value)) {
    throw typeError(field, 'an object', value);
  }
  return value as Record<string, unknown>;
}

/** Refuses misspelt fields, so that `agregation` is an error rather than a default. */
export function checkKeys(field: string, value: Record<string, unknown>, known: readonly string[]): void {
  for (const key of Object.keys(value)) {
    if (!known.includes(key)) {
      const path = field ? `${field}.${key}` : key;
      throw new TypeError(`${path}: unknown field; expected one of ${known.join(', ')}`);
    }
  }
}

interface ArrayTypes {
  Float32Array: Float32Array;
  Float64Array: Float64Array;
  Int32Array: Int32Array;
  Uint8Array: Uint8Array;
  Uint16Array: Uint16Array;
}

const tag = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), Symbol.toStringTag)!.get!;

/**
 * The buffer behind a typed array must stay as it is for the length of a native call and must be readable at all:
 * shared, resizable and detached buffers are refused.
 */
export function checkBuffer(field: string, array: ArrayBufferView): void {
  const buffer = array.buffer;
  if (!(buffer instanceof ArrayBuffer)) {
    throw new TypeError(
      `${field}: expected an array over memory of its own, got one over a shared ${buffer.constructor.name}`,
    );
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
  if (!ArrayBuffer.isView(value) || tag.call(value) !== kind) throw typeError(field, `a ${kind}`, value);
  const array = value as unknown as ArrayTypes[K];
  checkBuffer(field, array);
  if (length !== undefined) checkLength(field, array.length, length, shape);
  return array;
}

export function checkLength(field: string, actual: number, expected: number, shape?: string): void {
  if (actual !== expected) {
    throw rangeError(field, `${expected} values${shape ? ` (${shape})` : ''}`, String(actual));
  }
}
