// A model folder in Hugging Face's layout: config.json and weights, checked against each other before a weight is read.

import fs from 'node:fs';
import { join } from 'node:path';
import { rangeError } from '../base/check.js';
import type { Json } from '../base/json.js';
import { readJsonFile } from '../base/json-file.js';
import { type Architecture, parametersOf } from '../model/architecture.js';
import { readArchitecture, tensorNames } from '../model/families.js';
import { type FloatType, floatTypes } from './floats.js';
import { quoted, type TensorInfo } from './header.js';
import { ModelFiles } from './model-files.js';

/** A parameter and the location of its values. */
export interface StoredParameter {
  /** groupgrad's name. */
  readonly name: string;
  /** Name of its tensor in the files. */
  readonly tensor: string;
  /** As in the files: [outputs, inputs] for a linear layer. */
  readonly shape: readonly number[];
  readonly type: FloatType;
}

/** Buffers in old files that no model needs. */
const ignoredTensors = /(^|\.)rotary_emb\.inv_freq$/;

/** An open model folder. Holds its files open until `close`. */
export class PretrainedFolder {
  readonly architecture: Architecture;
  /** config.json, unchanged. */
  readonly config: Readonly<Record<string, Json>>;
  readonly files: ModelFiles;
  /** In the order of the model's modules. */
  readonly parameters: readonly StoredParameter[];
  /** Duplicate tensors in the files: an unembedding that is the embedding. */
  readonly copies: readonly StoredParameter[];

  /**
   * Reads the configuration and the headers of the weights, and checks that they fit; no weights are read, except embedding and
   * unembedding if the configuration ties them and the files hold both.
   *
   * @throws TypeError or RangeError, naming what is wrong: an unknown family, a missing file, a tensor that is missing,
   *   unexpected, or of the wrong shape or type
   *
   * @example
   * using folder = new PretrainedFolder('models/Qwen2.5-0.5B-Instruct');
   * for (const { name, tensor } of folder.parameters) load(name, folder.files.readFloats(tensor));
   */
  constructor(readonly path: string) {
    const config = readJsonFile(join(path, 'config.json'));
    if (!config) throw rangeError(path, 'a model folder with config.json', 'none');
    this.config = config;
    const architecture = readArchitecture(config, join(path, 'config.json'));
    this.files = new ModelFiles(path);
    try {
      this.architecture = asStored(architecture, this.files);
      this.parameters = matchTensors(this.architecture, this.files);
      this.copies = copiesOf(this.architecture, this.files, this.parameters);
    } catch (error) {
      this.files.close();
      throw error;
    }
  }

  close(): void {
    this.files.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** As in transformers, files with a different unembedding override a configuration that ties it. */
function asStored(architecture: Architecture, files: ModelFiles): Architecture {
  if (!architecture.tiedEmbeddings) return architecture;
  const untied = { ...architecture, tiedEmbeddings: false };
  const [embedding, unembedding] = unembeddingPair(untied);
  const isOther = files.has(embedding) && files.has(unembedding) && !hasSameValues(files, embedding, unembedding);
  return isOther ? untied : architecture;
}

function unembeddingPair(untied: Architecture): [embedding: string, unembedding: string] {
  const { tensors } = tensorNames(untied);
  return [tensors.get('embedding')!, tensors.get('unembedding')!];
}

function hasSameValues(files: ModelFiles, a: string, b: string): boolean {
  if (files.tensor(a).type !== files.tensor(b).type || files.tensor(a).count !== files.tensor(b).count) return false;
  const pieces = files.bytePieces(b);
  for (const piece of files.bytePieces(a)) {
    if (Buffer.compare(piece, pieces.next().value as Uint8Array) !== 0) return false;
  }
  return true;
}

/** The tensors of all parameters. RangeError if one is missing, unexpected, or not as the configuration says. */
function matchTensors(architecture: Architecture, files: ModelFiles): StoredParameter[] {
  const { tensors, parameters } = tensorNames(architecture);
  const [embedding, unembedding] = unembeddingPair({ ...architecture, tiedEmbeddings: false });
  // A file may hold both tied tensors, or only the unembedding.
  const isTied = architecture.tiedEmbeddings;
  const tensorOf = (parameter: string) => {
    const tensor = tensors.get(parameter)!;
    return isTied && tensor === embedding && !files.has(embedding) && files.has(unembedding) ? unembedding : tensor;
  };
  for (const { name } of files.tensors()) {
    const isKnown = parameters.has(name) || (isTied && name === unembedding) || ignoredTensors.test(name);
    if (!isKnown) {
      throw rangeError(`${files.folder}, tensor ${quoted(name)}`, `a tensor of ${architecture.family}`, 'another');
    }
  }
  return parametersOf(architecture).map(({ name, shape }) => {
    const tensor = tensorOf(name);
    if (!files.has(tensor)) throw rangeError(files.folder, `a tensor ${quoted(tensor)}`, 'none of that name');
    return { name, tensor, shape, type: checkTensor(files, files.tensor(tensor), shape) };
  });
}

/** If embeddings are tied and the files hold both, the one that is not read. */
function copiesOf(
  architecture: Architecture,
  files: ModelFiles,
  parameters: readonly StoredParameter[],
): StoredParameter[] {
  const [, unembedding] = unembeddingPair({ ...architecture, tiedEmbeddings: false });
  const isCopy = architecture.tiedEmbeddings && files.has(unembedding);
  return parameters
    .filter(({ name, tensor }) => isCopy && name === 'embedding' && tensor !== unembedding)
    .map((embedding) => ({ ...embedding, tensor: unembedding }));
}

function checkTensor(files: ModelFiles, { name, type, shape }: TensorInfo, expected: readonly number[]): FloatType {
  const field = `${files.folder}, tensor ${quoted(name)}`;
  const known = floatTypes.find((float) => float === type);
  if (!known) throw rangeError(`${field}, type`, `one of ${floatTypes.join(', ')}`, type);
  if (shape.length !== expected.length || shape.some((size, i) => size !== expected[i])) {
    throw rangeError(`${field}, shape`, `[${expected.join(', ')}] as the configuration says`, `[${shape.join(', ')}]`);
  }
  return known;
}

/** The model's files besides its weights: configuration, tokenizer, chat template. */
const companionNames = [
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer.model',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'vocab.json',
  'merges.txt',
  'chat_template.jinja',
  'chat_template.json',
  'additional_chat_templates',
];

/** Copies configuration and tokenizer unchanged to a folder with other weights. */
export function copyCompanions(from: string, to: string): void {
  fs.mkdirSync(to, { recursive: true });
  for (const name of companionNames) {
    if (fs.existsSync(join(from, name)))
      fs.cpSync(join(from, name), join(to, name), { recursive: true, dereference: true });
  }
}
