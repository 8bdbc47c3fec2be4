// Arrays in GPU memory, for calls that keep their inputs and results there.
/// <reference lib="esnext.disposable" preserve="true" />

import { checkArray, checkChoice, checkNumber, isTypedArray, typeError } from '../base/check.js';
import { loadCuda } from './load.js';

/** The host array of each type. bfloat16 and float16 are bits in a Uint16Array. */
const hostTypes = {
  float32: Float32Array,
  float64: Float64Array,
  int32: Int32Array,
  uint8: Uint8Array,
  bfloat16: Uint16Array,
  float16: Uint16Array,
} as const;

export type DeviceDtype = keyof typeof hostTypes;

interface HostArrays {
  float32: Float32Array;
  float64: Float64Array;
  int32: Int32Array;
  uint8: Uint8Array;
  bfloat16: Uint16Array;
  float16: Uint16Array;
}

export const deviceDtypes = Object.keys(hostTypes) as DeviceDtype[];

/** The native side's name for memory that holds a type. */
const memoryTypes = {
  float32: 'float32',
  float64: 'float64',
  int32: 'int32',
  uint8: 'uint8',
  bfloat16: 'uint16',
  float16: 'uint16',
} as const;

function cuda() {
  const { addon, detail } = loadCuda();
  if (!addon) throw new RangeError(`DeviceArray: there is no CUDA device: ${detail}`);
  return addon;
}

/** The memory of an array, for the native side. */
export let memoryOf: (array: DeviceArray) => object;

/**
 * A one-dimensional array in GPU memory. The host API accepts it wherever it accepts a typed array, on device 'cuda' (which
 * 'auto' then selects), and returns its results in the same form. Work is ordered: an operation sees what earlier ones wrote, and
 * memory that is freed while an operation still uses it is released after that operation. Only copies to and from the host wait.
 * Free it when you no longer need it, or declare it with `using`; the garbage collector does not know how much memory it holds.
 */
export class DeviceArray<D extends DeviceDtype = DeviceDtype> implements Disposable {
  readonly dtype: D;
  /** Number of values. */
  readonly length: number;
  /** The native memory; null when freed. */
  #memory: object | null;

  private constructor(dtype: D, length: number) {
    this.dtype = dtype;
    this.length = length;
    this.#memory = cuda().allocate({ type: memoryTypes[dtype], length });
  }

  /**
   * An array of `length` values, not initialised.
   * @throws RangeError if there is no CUDA device or not enough memory on it; the process stays usable.
   */
  static allocate<D extends DeviceDtype>(dtype: D, length: number): DeviceArray<D> {
    checkChoice('dtype', dtype, deviceDtypes);
    return new DeviceArray(dtype, checkNumber('length', length, { min: 0, integer: true }));
  }

  /** A copy of a typed array. A Uint16Array needs its dtype: 'bfloat16' or 'float16'. */
  static from<D extends DeviceDtype>(array: HostArrays[D], dtype?: D): DeviceArray<D> {
    const guessed = deviceDtypes.find((name) => isTypedArray(array, hostTypes[name].name as 'Float32Array'));
    if (guessed === undefined) throw typeError('array', 'a typed array of a type that DeviceArray supports', array);
    if (dtype === undefined && hostTypes[guessed] === Uint16Array) {
      throw new TypeError("dtype: expected 'bfloat16' or 'float16' for a Uint16Array, got nothing");
    }
    const device = DeviceArray.allocate((dtype ?? guessed) as D, array.length);
    try {
      device.copyFrom(array);
    } catch (error) {
      device.free();
      throw error;
    }
    return device;
  }

  get byteLength(): number {
    return this.length * hostTypes[this.dtype].BYTES_PER_ELEMENT;
  }

  get freed(): boolean {
    return this.#memory === null;
  }

  /** Overwrites all values with those of a typed array of the same type and length. */
  copyFrom(array: HostArrays[D]): this {
    const checked = checkArray('array', array, hostTypes[this.dtype].name as 'Float32Array', this.length);
    cuda().write(memoryOf(this), checked);
    return this;
  }

  /** A copy of the values on the host. Waits for all operations before it. */
  toArray(): HostArrays[D] {
    const array = new hostTypes[this.dtype](this.length);
    cuda().read(memoryOf(this), array);
    return array as HostArrays[D];
  }

  /** Frees the memory; freeing again does nothing. */
  free(): void {
    if (this.#memory !== null) cuda().free(this.#memory);
    this.#memory = null;
  }

  [Symbol.dispose](): void {
    this.free();
  }

  static {
    memoryOf = (array) => {
      if (array.#memory === null)
        throw new TypeError('DeviceArray: expected one that holds memory, got one that was freed');
      return array.#memory;
    };
  }
}
