// Memory of freed tensors, kept for reuse: the first touch of fresh pages costs more than most operations.

/** Smaller arrays are left to JavaScript: they cost little there. */
const smallest = 4096;

/** Bytes of the size class that holds `bytes`: four classes between powers of two. */
export function sizeClass(bytes: number): number {
  const step = 2 ** (Math.floor(Math.log2(bytes)) - 2);
  return Math.ceil(bytes / step) * step;
}

export class BufferPool {
  /** By size class, least recently used first. */
  private readonly free = new Map<number, ArrayBuffer[]>();
  private held = 0;

  /** `limit`: the maximum number of bytes kept. */
  constructor(public limit: number) {}

  /** Bytes that are kept. */
  get bytes(): number {
    return this.held;
  }

  /** Uninitialised memory for `bytes`. RangeError if there is none. */
  take(bytes: number): ArrayBuffer {
    if (bytes < smallest) return new ArrayBuffer(bytes);
    const size = sizeClass(bytes);
    const buffer = this.free.get(size)?.pop();
    if (!buffer) return new ArrayBuffer(size);
    this.held -= size;
    return buffer;
  }

  /** Takes back memory that will not be read again. */
  give(buffer: ArrayBuffer): void {
    const size = buffer.byteLength;
    if (size < smallest || size > this.limit) return;
    const list = this.free.get(size) ?? [];
    // Moved to the end: classes in use are kept longest.
    this.free.delete(size);
    this.free.set(size, list);
    list.push(buffer);
    this.held += size;
    for (const [oldSize, old] of this.free) {
      while (this.held > this.limit && old.length > 0) {
        old.pop();
        this.held -= oldSize;
      }
      if (this.held <= this.limit) break;
      this.free.delete(oldSize);
    }
  }

  clear(): void {
    this.free.clear();
    this.held = 0;
  }
}
