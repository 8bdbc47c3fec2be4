// The tfjs backend `groupgrad`: the CPU backend's storage, typed arrays, with the memory of freed tensors reused, and native
// kernels (kernels/) in addition to the kernels that it inherits.

import { totalmem } from 'node:os';
import { MathBackendCPU } from '@tensorflow/tfjs-backend-cpu';
import { type backend_util, type DataType, engine, type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { EngineAddon, TensorValues } from '../../devices/load.js';
import type { Precision } from '../precision.js';
import { BufferPool } from './buffers.js';
import { PackedCache } from './packed.js';
import { Stored } from './stored.js';

type DataId = TensorInfo['dataId'];

/** Numeric arguments of a call, in reused memory. */
export class Numbers {
  private memory = new Float64Array(64);

  of(...values: number[]): Float64Array {
    if (values.length > this.memory.length) this.memory = new Float64Array(2 * values.length);
    this.memory.set(values);
    return this.memory;
  }
}

const arrays = { float32: Float32Array, int32: Int32Array, bool: Uint8Array };
/** The types that native kernels accept. */
export type NativeType = keyof typeof arrays;
type ValuesOf<T extends NativeType> = { float32: Float32Array; int32: Int32Array; bool: Uint8Array }[T];

export function isNative(dtype: string): dtype is NativeType {
  return dtype in arrays;
}

export class EngineBackend extends MathBackendCPU {
  readonly numbers = new Numbers();
  /** Limits for cached memory, as shares of this machine's memory. */
  readonly pool = new BufferPool(totalmem() / 8);
  readonly packed: PackedCache;
  precision: Precision = 'float32';
  /** Bytes of tensors in bfloat16. */
  private compressedBytes = 0;

  constructor(readonly engine: EngineAddon) {
    super();
    this.packed = new PackedCache(engine, totalmem() / 4);
  }

  stored(dataId: DataId): Stored {
    return this.data.get(dataId) as unknown as Stored;
  }

  private store(dataId: DataId, stored: Stored): void {
    this.data.set(dataId, stored as unknown as ReturnType<typeof this.data.get>);
  }

  /** Like the CPU backend's, without its advice to install another backend. */
  override write(values: backend_util.BackendValues, _shape: number[], dtype: DataType): DataId {
    const dataId = {};
    this.store(dataId, new Stored(values, dtype));
    return dataId;
  }

  override move(
    dataId: DataId,
    values: backend_util.BackendValues,
    _shape: number[],
    dtype: DataType,
    refCount: number,
  ): void {
    this.store(dataId, new Stored(values, dtype, { refCount }));
  }

  override readSync(dataId: DataId): backend_util.BackendValues {
    const stored = this.stored(dataId);
    if (stored.dtype === 'complex64') return super.readSync(dataId);
    return util.convertBackendValuesAndArrayBuffer(stored.read(), stored.dtype);
  }

  override async read(dataId: DataId): Promise<backend_util.BackendValues> {
    return this.readSync(dataId);
  }

  override disposeData(dataId: DataId, force = false): boolean {
    const stored = this.data.has(dataId) ? this.stored(dataId) : undefined;
    const gone = super.disposeData(dataId, force);
    if (gone && stored) {
      this.compressedBytes -= stored.compressed?.byteLength ?? 0;
      this.packed.drop(stored);
      const buffer = stored.release();
      if (buffer) this.pool.give(buffer);
    }
    return gone;
  }

  override dispose(): void {
    this.packed.clear();
    this.pool.clear();
  }

  override memory() {
    const { compressedBytes } = this;
    return { ...super.memory(), pooledBytes: this.pool.bytes, packedBytes: this.packed.bytes, compressedBytes };
  }

  /** Uninitialised memory for a tensor's values. RangeError if there is none. */
  allocate<T extends NativeType>(dtype: T, size: number): ValuesOf<T> {
    const Values = arrays[dtype];
    const bytes = size * Values.BYTES_PER_ELEMENT;
    return new Values(this.takeBuffer(bytes), 0, size) as ValuesOf<T>;
  }

  private takeBuffer(bytes: number): ArrayBuffer {
    try {
      return this.pool.take(bytes);
    } catch {
      // The cached memory may be what is missing.
      this.packed.clear();
      this.pool.clear();
    }
    try {
      return this.pool.take(bytes);
    } catch (error) {
      throw new RangeError(`not enough memory for a tensor of ${bytes} bytes`, { cause: error });
    }
  }

  /** A tensor over values that nothing else references: those of allocate(). */
  wrap(shape: readonly number[], dtype: NativeType, values: TensorValues): TensorInfo {
    const dataId = {};
    this.store(dataId, new Stored(values, dtype, { own: true }));
    return { dataId, shape: [...shape], dtype };
  }

  /** The same values with another shape. */
  share({ dataId, dtype }: TensorInfo, shape: readonly number[]): TensorInfo {
    this.incRef(dataId);
    return { dataId, shape: [...shape], dtype };
  }

  /** A tensor's values for an operation that keeps no reference to them; its dtype is `dtype`. */
  values<T extends NativeType>(tensor: TensorInfo, dtype: T): ValuesOf<T> {
    const stored = this.stored(tensor.dataId);
    const values = stored.peek();
    const Values = arrays[dtype];
    if (values instanceof Values) return values as ValuesOf<T>;
    // The CPU backend casts some types by changing only the dtype.
    const converted = Values.from(values as ArrayLike<number>);
    if (stored.dtype === dtype) stored.replace(converted);
    return converted as ValuesOf<T>;
  }

  floats(tensor: TensorInfo): Float32Array {
    return this.values(tensor, 'float32');
  }

  /** Float32 values of bfloat16 ones. */
  expand = (bits: Uint16Array): Float32Array => {
    const values = new Float32Array(bits.length);
    // Not `numbers`, which a kernel may have filled for a call whose arguments it is still collecting.
    this.engine.cast(Float64Array.of(bits.length), bits, values);
    return values;
  };

  /** A tensor of the same values rounded to bfloat16, in half the memory. */
  compress(tensor: TensorInfo): TensorInfo {
    const values = this.floats(tensor);
    const bits = new Uint16Array(values.length);
    this.engine.cast(this.numbers.of(values.length), values, bits);
    return this.fromBfloat16(bits, tensor.shape);
  }

  /** A float32 tensor over values in bfloat16 that nothing else changes. */
  fromBfloat16(bits: Uint16Array, shape: readonly number[]): TensorInfo {
    const dataId = {};
    this.store(dataId, Stored.compressed(bits, this.expand));
    this.compressedBytes += bits.byteLength;
    return { dataId, shape: [...shape], dtype: 'float32' };
  }
}

/** tfjs's current backend, if it is this one. */
export function currentEngineBackend(): EngineBackend | undefined {
  const current = engine().backendName ? engine().backend : undefined;
  return current instanceof EngineBackend ? current : undefined;
}
