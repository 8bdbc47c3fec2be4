// The backend's data of a tensor. The kernels inherited from the CPU backend read `values` and may keep them (a slice is a view
// of its tensor there), so their memory is then not reused for another tensor.

import type { backend_util, DataType } from '@tensorflow/tfjs-core';
import type { TensorValues } from '../../devices/load.js';
import type { PackedEntry, PackedHolder } from './packed.js';

type Values = backend_util.BackendValues;

export class Stored implements PackedHolder {
  refCount: number;
  /** Parts of a complex tensor. */
  complexTensorInfos?: { real: never; imag: never };
  /** Replaces `held`: float32 values rounded to bfloat16. */
  compressed?: Uint16Array;
  /** Its forms as the right factor of a product. */
  packed?: PackedEntry[];
  private held: Values;
  private own: boolean;

  /** `own`: nothing else references `values`. */
  constructor(
    values: Values,
    readonly dtype: DataType,
    { refCount = 1, own = false } = {},
  ) {
    this.held = values;
    this.own = own;
    this.refCount = refCount;
  }

  static compressed(bits: Uint16Array, expand: (bits: Uint16Array) => Float32Array): Stored {
    const stored = new Stored(null as unknown as Values, 'float32');
    stored.compressed = bits;
    stored.expand = expand;
    return stored;
  }
  private expand?: (bits: Uint16Array) => Float32Array;

  get values(): Values {
    if (this.compressed) return this.expand!(this.compressed);
    this.own = false;
    return this.held;
  }

  /** The values for an operation that keeps no reference to them. */
  peek(): Values {
    return this.compressed ? this.expand!(this.compressed) : this.held;
  }

  /** The values, or a copy if the memory itself must not be exposed. */
  read(): Values {
    return this.own ? (this.held as TensorValues).slice() : this.values;
  }

  /** Replaces values that were given in a different type from the tensor's. */
  replace(values: TensorValues): void {
    this.held = values;
    this.own = false;
  }

  /** The memory, if nothing else can reference it. */
  release(): ArrayBuffer | undefined {
    if (!this.own || this.compressed) return undefined;
    this.own = false;
    return (this.held as TensorValues).buffer as ArrayBuffer;
  }
}
