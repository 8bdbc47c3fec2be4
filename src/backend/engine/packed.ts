// Right factors of products in the engine's own layout. Packing costs as much as multiplying by a few dozen rows, so a tensor
// that is used repeatedly is packed once; tensors are immutable, and the packed form is freed with the tensor.

import type { EngineAddon, PackedMatrix } from '../../devices/load.js';

export interface PackedEntry {
  /** Precision, sizes and strides. */
  key: string;
  /** Undefined after the first use, which packs temporarily: most right factors are used once. */
  matrix?: PackedMatrix;
  used: number;
}

/** Holder of a tensor's packed forms. */
export interface PackedHolder {
  packed?: PackedEntry[];
}

export class PackedCache {
  /** Holders with a matrix, least recently used first. */
  private readonly entries = new Set<PackedEntry>();
  private held = 0;
  private clock = 0;

  /** `limit`: the maximum number of bytes kept. */
  constructor(
    private readonly engine: EngineAddon,
    public limit: number,
  ) {}

  /** Bytes that are kept. */
  get bytes(): number {
    return this.held;
  }

  /** The packed form under `key`, created by `pack` from the second use on if `worthwhile`. */
  find(stored: PackedHolder, key: string, worthwhile: boolean, pack: () => PackedMatrix): PackedMatrix | undefined {
    stored.packed ??= [];
    let entry = stored.packed.find((candidate) => candidate.key === key);
    const known = entry !== undefined;
    if (!entry) {
      entry = { key, used: 0 };
      stored.packed.push(entry);
    }
    entry.used = ++this.clock;
    if (entry.matrix) {
      this.entries.delete(entry);
      this.entries.add(entry);
      return entry.matrix;
    }
    if (!known || !worthwhile) return undefined;
    const matrix = pack();
    if (!this.makeRoom(matrix.bytes)) {
      this.engine.freePacked(matrix);
      return undefined;
    }
    entry.matrix = matrix;
    this.entries.add(entry);
    this.held += matrix.bytes;
    return matrix;
  }

  /** Called when a tensor is disposed of. */
  drop(stored: PackedHolder): void {
    for (const entry of stored.packed ?? []) this.remove(entry);
    stored.packed = undefined;
  }

  clear(): void {
    for (const entry of [...this.entries]) this.remove(entry);
  }

  /**
   * Only matrices that were not used for a while are evicted: a model that does not fit would otherwise evict every matrix just
   * before its next use.
   */
  private makeRoom(bytes: number): boolean {
    if (bytes > this.limit) return false;
    for (const entry of this.entries) {
      if (this.held + bytes <= this.limit) return true;
      if (this.clock - entry.used < 4 * this.entries.size) return false;
      this.remove(entry);
    }
    return this.held + bytes <= this.limit;
  }

  private remove(entry: PackedEntry): void {
    if (!entry.matrix) return;
    this.held -= entry.matrix.bytes;
    this.engine.freePacked(entry.matrix);
    entry.matrix = undefined;
    this.entries.delete(entry);
  }
}
