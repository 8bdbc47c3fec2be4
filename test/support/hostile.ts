// Values that no caller should pass, created anew for each use because some of them are consumed by it.

/** Thrown by getters and proxies below: it must reach the caller unchanged. */
export class Sentinel extends Error {
  override name = 'Sentinel';
}

function sentinel(): never {
  throw new Sentinel('from a getter of the caller');
}

// TypeScript's ES2022 library does not have these parts of Node 20.
const Wasm = (globalThis as unknown as { WebAssembly: { Memory: new (size: object) => { buffer: ArrayBuffer } } })
  .WebAssembly;
type ResizableBuffer = ArrayBuffer & { resize(bytes: number): void };
const Resizable = ArrayBuffer as unknown as new (bytes: number, options: { maxByteLength: number }) => ResizableBuffer;

/** Detaches the memory of an array, as postMessage would. */
export function detach(buffer: ArrayBufferLike): void {
  if (buffer instanceof ArrayBuffer && buffer.byteLength > 0) structuredClone(buffer, { transfer: [buffer] });
}

function detached(length: number): Float32Array {
  const array = new Float32Array(length + 1);
  detach(array.buffer);
  return array;
}

function shrunk(length: number): Float32Array {
  const buffer = new Resizable(4 * length + 4, { maxByteLength: 4 * length + 8 });
  const array = new Float32Array(buffer, 0, length + 1);
  buffer.resize(0);
  return array;
}

const arrayTypes = [
  Int8Array,
  Uint8Array,
  Uint8ClampedArray,
  Int16Array,
  Uint16Array,
  Int32Array,
  Uint32Array,
  Float32Array,
  Float64Array,
  BigInt64Array,
] as const;

/** `n` varies a value: its size, or which of several. */
const makers: Record<string, (n: number) => unknown> = {
  null: () => null,
  undefined: () => undefined,
  symbol: () => Symbol('hostile'),
  number: (n) =>
    [NaN, Infinity, -Infinity, 0, -0, -1, 1, 2, 1.5, 2 ** 31 - 1, 2 ** 31, 2 ** 53, 1e300, 1e-300, 5e-324, -1e300][
      n % 16
    ],
  bigint: (n) => BigInt(n),
  string: (n) => ['', '4', 'clip', 'token', 'mean', 'k3', 'cuda', 'x'.repeat(1000), '\u0000', 'NaN'][n % 10],
  boolean: (n) => n % 2 === 0,
  function: () => () => 4,
  class: () => class {},
  array: (n) => new Array(n % 40).fill(n % 3),
  sparse: () => new Array(2 ** 32 - 1),
  mixed: (n) => [1, 'a', null, Symbol('x'), 2n, undefined, {}].slice(n % 7),
  object: () => ({}),
  bare: () => Object.create(null),
  date: () => new Date(NaN),
  map: () => new Map([['shape', 1]]),
  error: () => new Error('hostile'),
  promise: () => Promise.resolve(1),
  boxed: (n) => [Object(4), Object('clip'), Object(true), Object(Symbol('x'))][n % 4],
  buffer: (n) => new ArrayBuffer(n % 64),
  dataView: (n) => new DataView(new ArrayBuffer(n % 64)),
  nodeBuffer: (n) => Buffer.alloc(n % 64),
  typed: (n) => new arrayTypes[n % 10](Math.floor(n / 10) % 64),
  detached: (n) => detached(n % 64),
  shared: (n) => new Float32Array(new SharedArrayBuffer(4 * (n % 64))),
  resizable: (n) => new Float32Array(new Resizable(4 * (n % 64), { maxByteLength: 1024 })),
  shrunk: (n) => shrunk(n % 64),
  wasm: () => new Float32Array(new Wasm.Memory({ initial: 1 }).buffer, 0, 8),
  posing: () => Object.create(Float32Array.prototype),
  renamed: () => Object.setPrototypeOf(new Float32Array(8), null),
  lying: (n) => Object.defineProperty(new Float32Array(3), 'length', { value: n % 64 }),
  tagged: () => ({ [Symbol.toStringTag]: 'Float32Array', length: 4, buffer: new ArrayBuffer(16) }),
  unprintable: () => ({ toString: sentinel, valueOf: sentinel, [Symbol.toPrimitive]: sentinel }),
  nameless: (n) => ({
    constructor: [null, 5, sentinel, Object.defineProperty(class {}, 'name', { value: Symbol('x') })][n % 4],
  }),
  throwing: () =>
    new Proxy({}, { get: sentinel, ownKeys: sentinel, has: sentinel, getOwnPropertyDescriptor: sentinel }),
  endless: () => new Proxy({}, { get: () => 1 }),
};

export const hostileKinds = Object.keys(makers);

export function hostile(kind: string, n: number): unknown {
  return makers[kind](n);
}

/** Replaces a property by a getter. */
export function replaceByGetter(target: object, property: string, get: () => unknown): void {
  Object.defineProperty(target, property, { get, enumerable: true, configurable: true });
}

/** A getter that throws. */
export const throwing = sentinel;
