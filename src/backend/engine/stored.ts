// What the backend holds of a tensor. The kernels that are taken over from the CPU backend read `values`; whoever does may
// keep them (a slice is a view of its tensor there), so that their memory is not used again for another tensor.

import type { backend_util, DataType } from '@tensorflow/tfjs-core';
import type { TensorValues } from '../../devices/load.js';
import type { PackedEntry, PackedHolder } from './packed.js';

type Values = backend_util.BackendValues;

export class Stored implements PackedHolder {
  refCount: number;
  /** Parts of a complex tensor. */
  complexTensorInfos?: { real: never; imag: never };
  /** In place of `held`: float32 values rounded to bfloat16. */
  compressed?: Uint16Array;
  /** Its forms as the right factor of a product. */
  packed?: PackedEntry[];
  private held: Values;
  private own: boolean;

  /** `own`: nobody else holds `values`. */
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

  /** A copy where others must not see the memory itself, else the values. */
  read(): Values {
    return this.own ? (this.held as TensorValues).slice() : this.values;
  }

  /** In place of values that came in another type than the tensor's. */
  replace(values: TensorValues): void {
    this.held = values;
    this.own = false;
  }

  /** The memory, where nobody else can have it. */
  release(): ArrayBuffer | undefined {
    if (!this.own || this.compressed) return undefined;
    this.own = false;
    return (this.held as TensorValues).buffer as ArrayBuffer;
  }
}
