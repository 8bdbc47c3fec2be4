// The weights of a model folder in Hugging Face's layout: model.safetensors, or shards with model.safetensors.index.json,
// which says which shard holds which tensor. Opening reads only the shards' headers; writing streams.

import fs from 'node:fs';
import { basename, join } from 'node:path';
import { describe, rangeError } from '../base/check.js';
import type { Json } from '../base/json.js';
import { readJsonFile } from '../base/json-file.js';
import { quoted, sizeOf, type TensorEntry, type TensorInfo } from './header.js';
import { type FloatPiece, type Part, SafetensorsFile } from './safetensors-file.js';
import { modelMetadata, SafetensorsWriter, syncFolder } from './safetensors-writer.js';

const singleName = 'model.safetensors';
const indexName = 'model.safetensors.index.json';
const shardPattern = /^model-\d{5}-of-\d{5}\.safetensors$/;

/** Hugging Face's limit on a shard. */
const defaultShardBytes = 5e9;

/** An index names at most this many shards: each is held open. */
const maxShards = 1000;

/** The tensors of a model folder, from one or several files. Holds the files open until `close`. */
export class ModelFiles {
  private readonly owners = new Map<string, SafetensorsFile>();
  private readonly files: SafetensorsFile[] = [];

  /**
   * Opens a folder and checks that index and shards agree.
   *
   * @throws RangeError, naming the file, if there are no weights, a shard is missing or outside the folder, or a tensor is listed
   *   but absent, in a different shard, or not listed
   */
  constructor(readonly folder: string) {
    try {
      // As in transformers, a single file takes precedence over an index.
      if (fs.existsSync(join(folder, singleName))) this.openSingle();
      else if (fs.existsSync(join(folder, indexName))) this.openShards();
      else throw rangeError(folder, `${singleName} or ${indexName}`, describeWeights(folder));
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Every tensor, shard by shard in the order of the files. */
  *tensors(): Generator<TensorInfo> {
    for (const file of this.files) yield* file.tensors.values();
  }

  has(name: string): boolean {
    return this.owners.has(name);
  }

  /** RangeError if no file has a tensor of that name. */
  tensor(name: string): TensorInfo {
    return this.owner(name).tensor(name);
  }

  /** As `SafetensorsFile.readFloats`. */
  readFloats(name: string, part?: Part, into?: Float32Array): Float32Array {
    return this.owner(name).readFloats(name, part, into);
  }

  /** As `SafetensorsFile.readBfloat16`. */
  readBfloat16(name: string): Uint16Array {
    return this.owner(name).readBfloat16(name);
  }

  /** As `SafetensorsFile.floatPieces`. */
  floatPieces(name: string, pieceLength?: number): Generator<FloatPiece> {
    return this.owner(name).floatPieces(name, pieceLength);
  }

  /** As `SafetensorsFile.bytePieces`. */
  bytePieces(name: string, pieceBytes?: number): Generator<Uint8Array> {
    return this.owner(name).bytePieces(name, pieceBytes);
  }

  /** Names of the files in the folder, in order. */
  get names(): string[] {
    return this.files.map(({ path }) => basename(path));
  }

  close(): void {
    for (const file of this.files) file.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  private owner(name: string): SafetensorsFile {
    const file = this.owners.get(name);
    if (!file) throw rangeError(this.folder, `a tensor ${quoted(name)}`, 'none of that name');
    return file;
  }

  private openSingle(): void {
    const file = this.open(singleName);
    for (const name of file.tensors.keys()) this.owners.set(name, file);
  }

  private openShards(): void {
    const map = readIndex(this.folder);
    const shards = [...new Set(map.values())].sort();
    if (shards.length > maxShards) throw rangeError(indexName, `at most ${maxShards} shards`, String(shards.length));
    for (const shard of shards) {
      const file = this.open(shard);
      for (const name of file.tensors.keys()) {
        const listed = map.get(name);
        if (listed !== shard) {
          const got = listed === undefined ? 'none in the index' : `${describe(listed)} in the index`;
          throw rangeError(`${file.path}, ${quoted(name)}`, `this shard in ${indexName}`, got);
        }
        this.owners.set(name, file);
      }
    }
    for (const [name, shard] of map) {
      if (!this.owners.has(name))
        throw rangeError(`${indexName}, ${quoted(name)}`, `a tensor in ${shard}`, 'none there');
    }
  }

  private open(name: string): SafetensorsFile {
    const path = join(this.folder, name);
    if (!fs.existsSync(path)) throw rangeError(indexName, `a shard ${quoted(name)} in ${this.folder}`, 'no such file');
    const file = new SafetensorsFile(path);
    this.files.push(file);
    return file;
  }
}

function describeWeights(folder: string): string {
  const weights = fs.readdirSync(folder).filter((name) => /\.(safetensors|bin|gguf|pt|pth)$/.test(name));
  return weights.length > 0 ? weights.join(', ') : 'no weights';
}

/** The index's map of tensor names to the names of shards, which must be plain names within the folder. */
function readIndex(folder: string): Map<string, string> {
  const index = readJsonFile(join(folder, indexName));
  const map = index?.weight_map;
  if (!isObject(map)) throw rangeError(`${indexName}, weight_map`, 'an object', describe(map));
  return new Map(
    Object.entries(map).map(([tensor, shard]) => {
      const field = `${indexName}, weight_map, ${quoted(tensor)}`;
      const isPlain =
        typeof shard === 'string' &&
        shard === basename(shard) &&
        !/[\\\0]/.test(shard) &&
        shard.endsWith('.safetensors');
      if (!isPlain) throw rangeError(field, 'the name of a .safetensors file in the same folder', quoted(shard));
      return [tensor, shard];
    }),
  );
}

function isObject(value: Json | undefined): value is { [key: string]: Json } {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * The weights of a model folder being written: one file, or shards with an index. Give each tensor's values in the order of
 * `tensors`, then `finish`; `abort` removes what was written. Files appear under their names once all are on disk, the index
 * last.
 *
 * @example
 * const writer = new ModelFilesWriter('out', entries);
 * for (const { name } of writer.tensors) writer.write(name, await valuesOf(name));
 * writer.finish();
 */
export class ModelFilesWriter {
  /** In the order in which values must be given. */
  readonly tensors: readonly TensorInfo[];
  private readonly shards: SafetensorsWriter[] = [];
  private readonly shardOf = new Map<string, SafetensorsWriter>();
  private readonly totalBytes: number;

  /**
   * @param maxShardBytes maximum bytes of tensors per file; a larger tensor gets its own file. Default 5 GB
   * @throws RangeError if the folder holds weights under other names, which readers would take as part of these
   */
  constructor(
    readonly folder: string,
    entries: readonly TensorEntry[],
    maxShardBytes = defaultShardBytes,
  ) {
    const groups = intoShards(entries, maxShardBytes);
    const names = groups.map((_, i) => shardName(i, groups.length));
    fs.mkdirSync(folder, { recursive: true });
    checkNoOthers(folder, names);
    try {
      for (const [i, group] of groups.entries()) {
        const shard = new SafetensorsWriter(join(folder, names[i]), group, { metadata: modelMetadata });
        this.shards.push(shard);
        for (const { name } of shard.tensors) {
          if (this.shardOf.has(name)) throw rangeError(`tensor ${quoted(name)}`, 'a unique name', 'one already in use');
          this.shardOf.set(name, shard);
        }
      }
    } catch (error) {
      this.abort();
      throw error;
    }
    this.tensors = this.shards.flatMap((shard) => shard.tensors);
    this.totalBytes = this.tensors.reduce((sum, { start, end }) => sum + end - start, 0);
  }

  /** As `SafetensorsWriter.write`. */
  write(name: string, values: Float32Array): void {
    this.guarded(() => this.shard(name).write(name, values));
  }

  /** As `SafetensorsWriter.writeBytes`. */
  writeBytes(name: string, bytes: Uint8Array): void {
    this.guarded(() => this.shard(name).writeBytes(name, bytes));
  }

  /** When this returns, all files are complete, on disk and under their names. */
  finish(): void {
    this.guarded(() => {
      for (const shard of this.shards) shard.close();
      for (const shard of this.shards) shard.place();
      if (this.shards.length > 1) this.writeIndex();
      syncFolder(this.folder);
    });
  }

  abort(): void {
    for (const shard of this.shards) shard.abort();
  }

  private writeIndex(): void {
    const map = Object.fromEntries([...this.shardOf].map(([name, { path }]) => [name, basename(path)]));
    const index = { metadata: { total_size: this.totalBytes }, weight_map: map };
    const temporary = join(this.folder, `.${indexName}.new`);
    const file = fs.openSync(temporary, 'w');
    try {
      fs.writeFileSync(file, `${JSON.stringify(index, null, 2)}\n`);
      fs.fsyncSync(file);
    } finally {
      fs.closeSync(file);
    }
    fs.renameSync(temporary, join(this.folder, indexName));
  }

  private shard(name: string): SafetensorsWriter {
    const shard = this.shardOf.get(name);
    if (!shard) throw rangeError('name', 'a tensor of the entries', quoted(name));
    return shard;
  }

  private guarded(action: () => void): void {
    try {
      action();
    } catch (error) {
      this.abort();
      throw error;
    }
  }
}

function shardName(index: number, count: number): string {
  const digits = (value: number) => String(value).padStart(5, '0');
  return count === 1 ? singleName : `model-${digits(index + 1)}-of-${digits(count)}.safetensors`;
}

/** Groups of consecutive entries, each up to the limit; at least one group. */
function intoShards(entries: readonly TensorEntry[], maxBytes: number): TensorEntry[][] {
  if (!(maxBytes > 0)) throw rangeError('maxShardBytes', 'a number above 0', String(maxBytes));
  const groups: TensorEntry[][] = [[]];
  let bytes = 0;
  for (const entry of entries) {
    const own = sizeOf(`tensor ${quoted(entry.name)}`, entry.type, entry.shape).bytes;
    if (bytes > 0 && bytes + own > maxBytes) {
      groups.push([]);
      bytes = 0;
    }
    groups.at(-1)!.push(entry);
    bytes += own;
  }
  return groups;
}

function checkNoOthers(folder: string, names: readonly string[]): void {
  const own = new Set([...names, ...(names.length > 1 ? [indexName] : [])]);
  const other = fs
    .readdirSync(folder)
    .find((name) => !own.has(name) && (name === singleName || name === indexName || shardPattern.test(name)));
  if (other !== undefined) throw rangeError(folder, `a folder without other weights`, describe(other));
}
