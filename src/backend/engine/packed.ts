// Right factors of products in the engine's own layout. Packing costs as much as multiplying by a few dozen rows, so that a
// tensor that is used again is packed once; tensors do not change, and the packed form goes when the tensor does.

import type { EngineAddon, PackedMatrix } from '../../devices/load.js';

export interface PackedEntry {
  /** Precision, sizes and strides. */
  key: string;
  /** Undefined after the first use, which packs for itself: most right factors are used once. */
  matrix?: PackedMatrix;
  used: number;
}

/** What holds a tensor's packed forms. */
export interface PackedHolder {
  packed?: PackedEntry[];
}

export class PackedCache {
  /** Those that hold a matrix, the one that was used longest ago first. */
  private readonly entries = new Set<PackedEntry>();
  private held = 0;
  private clock = 0;

  /** `limit`: the most bytes that are kept. */
  constructor(
    private readonly engine: EngineAddon,
    public limit: number,
  ) {}

  /** Bytes that are kept. */
  get bytes(): number {
    return this.held;
  }

  /** The packed form under `key`, from the second use on where `worthwhile`; `pack` makes it. */
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

  /** When a tensor is disposed of. */
  drop(stored: PackedHolder): void {
    for (const entry of stored.packed ?? []) this.remove(entry);
    stored.packed = undefined;
  }

  clear(): void {
    for (const entry of [...this.entries]) this.remove(entry);
  }

  /**
   * Only what was not used for a while makes room: a model that does not fit would otherwise throw out every matrix just
   * before its turn.
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
