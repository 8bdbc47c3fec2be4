// Memory of freed tensors, kept for the next ones: the first touch of fresh pages costs more than most operations.

/** Smaller arrays are left to JavaScript: they cost little there. */
const smallest = 4096;

/** Bytes of the size class that holds `bytes`: four classes between powers of two. */
export function sizeClass(bytes: number): number {
  const step = 2 ** (Math.floor(Math.log2(bytes)) - 2);
  return Math.ceil(bytes / step) * step;
}

export class BufferPool {
  /** By size class, the one that was used longest ago first. */
  private readonly free = new Map<number, ArrayBuffer[]>();
  private held = 0;

  /** `limit`: the most bytes that are kept. */
  constructor(public limit: number) {}

  /** Bytes that are kept. */
  get bytes(): number {
    return this.held;
  }

  /** Memory for `bytes`, whose contents are left open. RangeError where there is none. */
  take(bytes: number): ArrayBuffer {
    if (bytes < smallest) return new ArrayBuffer(bytes);
    const size = sizeClass(bytes);
    const buffer = this.free.get(size)?.pop();
    if (!buffer) return new ArrayBuffer(size);
    this.held -= size;
    return buffer;
  }

  /** Takes back memory that nobody will read again. */
  give(buffer: ArrayBuffer): void {
    const size = buffer.byteLength;
    if (size < smallest || size > this.limit) return;
    const list = this.free.get(size) ?? [];
    // Into the last place: classes that are in use stay there.
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
