// LoRA adapters in PEFT's layout: adapter_config.json and adapter_model.safetensors. Read: everything that PEFT 0.21 computes as
// plain LoRA, and nothing else. Written: only what PEFT, vLLM, SGLang and llama.cpp all load, with the same result.

import fs from 'node:fs';
import { join } from 'node:path';
import { checkNumber, describe, rangeError, typeError } from '../base/check.js';
import type { Json } from '../base/json.js';
import { readJsonFile } from '../base/json-file.js';
import type { Architecture } from '../model/architecture.js';
import { patternKeys, selectTargets, type Target, type TargetRules } from './adapter-targets.js';
import { encodeFloats, type FloatType } from './floats.js';
import { quoted } from './header.js';
import { type FloatPiece, SafetensorsFile } from './safetensors-file.js';
import { modelMetadata, syncFolder } from './safetensors-writer.js';
import { safetensorsPieces, type TensorSource } from './tensor-source.js';

const configName = 'adapter_config.json';
const weightsName = 'adapter_model.safetensors';
/** The files of an adapter. */
export const adapterNames = { config: configName, weights: weightsName } as const;

/** The adapter of one linear layer: y = x W + scale × (x A) B. */
export interface AdaptedModule extends Target {
  readonly rank: number;
  /** alpha / rank, or alpha / √rank with rsLoRA. */
  readonly scale: number;
}

/** An open adapter folder. Holds its file open until `close`. */
export class AdapterFolder {
  /** In the model's order. */
  readonly modules: readonly AdaptedModule[];
  private readonly file: SafetensorsFile;

  /**
   * Reads an adapter's configuration and the header of its weights, and checks them against its model.
   *
   * @throws TypeError or RangeError, naming the field, for any kind of adapter but plain LoRA, and for an adapter of a different
   *   model: tensors that are missing, unexpected or of the wrong shape
   *
   * @example
   * using adapter = new AdapterFolder('runs/earlier/adapter', architecture);
   * for (const { module, scale } of adapter.modules) use(module.name, adapter.readA(module.name), scale);
   */
  constructor(
    readonly path: string,
    architecture: Architecture,
  ) {
    const config = readJsonFile(join(path, configName));
    if (!config) throw rangeError(path, `an adapter folder with ${configName}`, 'none');
    refuseVariants(config);
    this.modules = adaptedModules(config, selectTargets(architecture, targetRules(config)));
    if (!fs.existsSync(join(path, weightsName))) throw rangeError(path, weightsName, 'no such file');
    this.file = new SafetensorsFile(join(path, weightsName));
    try {
      this.checkTensors(architecture);
    } catch (error) {
      this.file.close();
      throw error;
    }
  }

  /** A of a module, [rank, inputs]: in the file's order, the transpose of the matrix that x is multiplied by. */
  readA(module: string): Float32Array {
    return this.file.readFloats(tensorName(this.find(module).path, 'A'));
  }

  /** B of a module, [outputs, rank]: in the file's order. */
  readB(module: string): Float32Array {
    return this.file.readFloats(tensorName(this.find(module).path, 'B'));
  }

  /**
   * Beside an adapter of the unembedding PEFT writes the unembedding itself, and reads it in place of the model's. RangeError
   * unless it is the model's, rounded to the type that it is written in.
   *
   * @param own values of a module's weight in the model, in pieces
   */
  checkBase(own: (module: string) => Iterable<FloatPiece>): void {
    for (const { module, path } of this.modules) {
      const name = baseName(path);
      if (!this.file.tensors.has(name)) continue;
      const written = this.file.floatPieces(name);
      const type = this.file.tensor(name).type as FloatType;
      for (const { values } of own(module.name)) {
        const piece: FloatPiece = written.next().value;
        if (Buffer.compare(encodeFloats(type, piece.values), encodeFloats(type, values)) === 0) continue;
        const where = `${this.file.path}, tensor ${quoted(name)}`;
        throw rangeError(where, 'the weights of the model', 'different ones (is it for another model?)');
      }
    }
  }

  close(): void {
    this.file.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  private find(module: string): AdaptedModule {
    const found = this.modules.find(({ module: { name } }) => name === module);
    if (!found) throw rangeError('module', `a module that ${this.path} adapts`, quoted(module));
    return found;
  }

  private checkTensors(architecture: Architecture): void {
    const expected = new Map(
      this.modules.flatMap(({ module, path, rank }) => [
        [tensorName(path, 'A'), [rank, module.shape[1]]],
        [tensorName(path, 'B'), [module.shape[0], rank]],
      ]),
    );
    const bases = new Map(
      this.modules
        .filter(({ module }) => module.name === 'unembedding')
        .map((own) => [baseName(own.path), own.module.shape]),
    );
    for (const name of this.file.tensors.keys()) {
      if (expected.has(name) || bases.has(name)) continue;
      const wanted = `a tensor of the modules of ${architecture.family} that ${configName} names`;
      throw rangeError(
        `${this.file.path}, tensor ${quoted(name)}`,
        wanted,
        'a different one (is it for another model?)',
      );
    }
    for (const [name, shape] of [...expected, ...[...bases].filter(([name]) => this.file.tensors.has(name))]) {
      const found = this.file.tensor(name);
      if (found.shape.length !== 2 || found.shape.some((size, i) => size !== shape[i])) {
        const got = `[${found.shape.join(', ')}] (is it for another model?)`;
        throw rangeError(`${this.file.path}, tensor ${quoted(name)}, shape`, `[${shape.join(', ')}]`, got);
      }
    }
  }
}

function tensorName(path: string, matrix: 'A' | 'B'): string {
  return `base_model.model.${path}.lora_${matrix}.weight`;
}

/** A module's own weight, which PEFT writes for the unembedding alone. */
function baseName(path: string): string {
  return `base_model.model.${path}.base_layer.weight`;
}

/** Keys that are read, or that do not affect what a plain LoRA adapter computes with given weights. */
const readableKeys = new Set([
  'alpha_pattern',
  'auto_mapping',
  'base_model_name_or_path',
  'bias',
  'corda_config',
  'ensure_weight_tying',
  'eva_config',
  'exclude_modules',
  'inference_mode',
  'init_lora_weights',
  'layers_pattern',
  'layers_to_transform',
  'loftq_config',
  'lora_alpha',
  'lora_dropout',
  'lora_ga_config',
  'megatron_core',
  'peft_type',
  'peft_version',
  'qalora_group_size',
  'r',
  'rank_pattern',
  'revision',
  'runtime_config',
  'target_modules',
  'task_type',
  'use_rslora',
]);

/** Initialisations that do not change the base model's weights. */
const plainInitialisations = [true, false, 'gaussian', 'eva', 'orthogonal'];

function refuseVariants(config: Readonly<Record<string, Json>>): void {
  const field = (key: string) => `${configName}, ${key}`;
  const { peft_type: type, task_type: task = null, bias = 'none', init_lora_weights: initial = true } = config;
  if (type !== 'LORA') throw rangeError(field('peft_type'), "'LORA'", describe(type));
  if (task !== null && task !== 'CAUSAL_LM') throw rangeError(field('task_type'), "'CAUSAL_LM'", describe(task));
  if (bias !== 'none') throw rangeError(field('bias'), "'none'", describe(bias));
  if (initial !== null && !plainInitialisations.includes(initial as string)) {
    throw rangeError(field('init_lora_weights'), 'one that leaves the base model as it is', describe(initial));
  }
  for (const [key, value] of Object.entries(config)) {
    if (readableKeys.has(key) || isUnset(value)) continue;
    throw rangeError(field(key), 'a plain LoRA adapter without it', describe(value));
  }
}

/** Whether a value is what PEFT writes for an unused option. */
function isUnset(value: Json): boolean {
  return value === null || value === false || (typeof value === 'object' && Object.keys(value).length === 0);
}

function targetRules(config: Readonly<Record<string, Json>>): TargetRules {
  const texts = (key: string) => textOrTexts(`${configName}, ${key}`, config[key]);
  const targets = texts('target_modules');
  if (targets === undefined)
    throw typeError(`${configName}, target_modules`, 'a string or an array of strings', undefined);
  const pattern = texts('layers_pattern');
  return {
    targets,
    exclude: texts('exclude_modules'),
    layers: layerNumbers(config.layers_to_transform),
    layersPattern: typeof pattern === 'string' ? [pattern] : pattern,
  };
}

function textOrTexts(field: string, value: Json | undefined): string | string[] | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === 'string') return value;
  if (Array.isArray(value) && value.every((item) => typeof item === 'string')) return value;
  throw typeError(field, 'a string or an array of strings', value);
}

function layerNumbers(value: Json | undefined): number[] | undefined {
  if (value === undefined || value === null) return undefined;
  const list = Array.isArray(value) ? value : [value];
  return list.map((item) => checkNumber(`${configName}, layers_to_transform`, item, { min: 0, integer: true }));
}

function adaptedModules(config: Readonly<Record<string, Json>>, targets: readonly Target[]): AdaptedModule[] {
  const rank = checkNumber(`${configName}, r`, config.r, { min: 1, integer: true });
  const alpha = checkNumber(`${configName}, lora_alpha`, config.lora_alpha, { above: 0 });
  const ranks = patterns(config, 'rank_pattern', targets);
  const alphas = patterns(config, 'alpha_pattern', targets);
  const isStabilised = config.use_rslora === true;
  return targets.map((target) => {
    const own = ranks.get(target.path) ?? rank;
    checkNumber(`${configName}, rank_pattern`, own, { min: 1, integer: true });
    const ownAlpha = alphas.get(target.path) ?? alpha;
    return { ...target, rank: own, scale: ownAlpha / (isStabilised ? Math.sqrt(own) : own) };
  });
}

/** The value of a pattern table for each path that matches one. */
function patterns(
  config: Readonly<Record<string, Json>>,
  key: string,
  targets: readonly Target[],
): Map<string, number> {
  const field = `${configName}, ${key}`;
  const table = config[key] ?? {};
  if (typeof table !== 'object' || Array.isArray(table)) throw typeError(field, 'an object', table);
  const keys = patternKeys(field, Object.keys(table), targets);
  return new Map(
    [...keys].map(([path, own]) => [path, checkNumber(`${field}, ${describe(own)}`, table[own], { above: 0 })]),
  );
}

/** The written values of an adapted module. */
export interface AdapterEntry extends AdaptedModule {
  /** [rank, inputs], computed on demand. */
  readonly a: () => Float32Array;
  /** [outputs, rank]. */
  readonly b: () => Float32Array;
}

export interface AdapterOptions {
  /** The adapter's base model: a name or a folder. */
  baseModel?: string | null;
  /** Type of the weights. Default F32. */
  type?: FloatType;
}

/**
 * The files of an adapter in PEFT's layout, by name, piece by piece, the configuration last. Every engine must compute the same
 * with it, so all modules get one rank and one alpha: smaller ranks are padded with zeros, and a scale that differs from the
 * first module's is folded into B. Scales of rsLoRA are folded into alpha.
 *
 * @param entries the modules, at least one
 */
export function adapterFiles(
  architecture: Architecture,
  entries: readonly AdapterEntry[],
  { baseModel = null, type = 'F32' }: AdapterOptions = {},
): Record<string, Iterable<Uint8Array>> {
  if (entries.length === 0) throw rangeError('entries', 'at least one adapted module', 'none');
  const rank = Math.max(...entries.map((entry) => entry.rank));
  const { scale } = entries[0];
  const tensors = new Map(
    entries.flatMap((entry) => {
      const [outputs, inputs] = entry.module.shape;
      const a = { shape: [rank, inputs], values: () => padRows(entry.a(), rank * inputs) };
      const b = { shape: [outputs, rank], values: () => padColumns(entry, rank, entry.scale / scale) };
      return [
        [tensorName(entry.path, 'A'), a],
        [tensorName(entry.path, 'B'), b],
      ] as const;
    }),
  );
  const source: TensorSource = {
    shapes: Object.fromEntries([...tensors].map(([name, { shape }]) => [name, shape])),
    read: (name) => tensors.get(name)!.values(),
  };
  const targets = shortestTargets(
    architecture,
    entries.map(({ path }) => path),
  );
  const config = adapterConfig(targets, rank, scale * rank, baseModel);
  return {
    [weightsName]: safetensorsPieces(source, { metadata: modelMetadata, type }),
    [configName]: [Buffer.from(`${JSON.stringify(config, null, 2)}\n`)],
  };
}

/** Writes an adapter: each file appears under its name once it is on disk. See `adapterFiles`. */
export function writeAdapter(
  folder: string,
  architecture: Architecture,
  entries: readonly AdapterEntry[],
  options: AdapterOptions = {},
): void {
  const files = adapterFiles(architecture, entries, options);
  fs.mkdirSync(folder, { recursive: true });
  for (const [name, pieces] of Object.entries(files)) writeFile(folder, name, pieces);
  syncFolder(folder);
}

function adapterConfig(targets: readonly string[], rank: number, alpha: number, baseModel: string | null) {
  return {
    alpha_pattern: {},
    auto_mapping: null,
    base_model_name_or_path: baseModel,
    bias: 'none',
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: true,
    layers_pattern: null,
    layers_to_transform: null,
    lora_alpha: alpha,
    lora_dropout: 0,
    modules_to_save: null,
    peft_type: 'LORA',
    r: rank,
    rank_pattern: {},
    revision: null,
    target_modules: targets,
    task_type: 'CAUSAL_LM',
    use_dora: false,
    use_rslora: false,
  };
}

/** The suffixes of the paths (`q_proj`), as PEFT writes them, if they select the same modules; else the whole paths. */
function shortestTargets(architecture: Architecture, paths: readonly string[]): string[] {
  const ends = [...new Set(paths.map((path) => path.slice(path.lastIndexOf('.') + 1)))].sort();
  const isSame = selectTargets(architecture, { targets: ends }).length === paths.length;
  return isSame ? ends : [...paths];
}

function padRows(values: Float32Array, length: number): Float32Array {
  if (values.length === length) return values;
  const padded = new Float32Array(length);
  padded.set(values);
  return padded;
}

function padColumns({ b, rank: own }: AdapterEntry, rank: number, factor: number): Float32Array {
  const values = b();
  if (own === rank && factor === 1) return values;
  const padded = new Float32Array((values.length / own) * rank);
  for (let i = 0; i < values.length; i++) padded[Math.floor(i / own) * rank + (i % own)] = factor * values[i];
  return padded;
}

function writeFile(folder: string, name: string, pieces: Iterable<Uint8Array>): void {
  const temporary = join(folder, `.${name}.new`);
  const file = fs.openSync(temporary, 'w');
  try {
    for (const piece of pieces) fs.writeFileSync(file, piece);
    fs.fsyncSync(file);
  } catch (error) {
    fs.rmSync(temporary, { force: true });
    throw error;
  } finally {
    fs.closeSync(file);
  }
  fs.renameSync(temporary, join(folder, name));
}
