// A policy from a model folder: weights, tokenizer, adapter, and their description in a run folder.

import fs from 'node:fs';
import { join, resolve } from 'node:path';
import type * as tf from '@tensorflow/tfjs-core';
import { ensureBackend } from '../backend/backend.js';
import { checkPrecision, currentPrecision, describePrecision } from '../backend/bfloat16.js';
import { type Precision, precisions } from '../backend/precision.js';
import {
  checkBoolean,
  checkChoice,
  checkKeys,
  checkNumber,
  checkObject,
  rangeError,
  typeError,
} from '../base/check.js';
import { fileSha256 } from '../base/file-hash.js';
import { parameterCount } from '../model/architecture.js';
import { CachedDecoder } from '../model/decoder.js';
import { hiddenStates } from '../model/hidden-states.js';
import { batchLogits } from '../model/model.js';
import type { ModelWeights } from '../model/parameters.js';
import type { Policy } from '../model/policy.js';
import { HuggingFaceTokenizer } from '../text/hugging-face-tokenizer.js';
import { idTokenizer } from '../text/id-tokenizer.js';
import type { Tokenizer } from '../text/tokenizer.js';
import { readEndTokens } from '../text/tokenizer-files.js';
import { adapterNames } from './adapter.js';
import type { FloatType } from './floats.js';
import { PretrainedFolder, type StoredParameter } from './pretrained-folder.js';
import { loadModel, type PretrainedModel } from './pretrained-model.js';
import {
  type LoraOptions,
  type PretrainedOptions,
  type PretrainedPolicy,
  type SaveOptions,
  type WeightType,
  weightTypes,
} from './pretrained-options.js';
import { saveAdapter, savedAdapter, saveModel } from './save-pretrained.js';

/** The policy with its tensors. */
export interface LoadedPolicy extends PretrainedPolicy, Policy {
  readonly weightCount: number;
  readonly description: PretrainedDescription;
}

/** The content of `description`. */
export interface PretrainedDescription extends Record<string, unknown> {
  type: 'pretrained';
  /** Where it was loaded from; the rest says what was loaded. */
  folder: string;
  family: string;
  /** SHA-256 of the files, in hexadecimal. */
  config: string;
  weights: Readonly<Record<string, string>>;
  /** null if the folder has no tokenizer.json. */
  tokenizer: string | null;
  dtype: WeightType | null;
  /** Of its products. Omitted: float32. */
  precision?: Precision;
  /** null if every weight is trained. */
  lora: { rank: number; alpha: number | null; targets: string | readonly string[]; seed: number } | AdapterFiles | null;
}

/** An adapter that training continues from. */
interface AdapterFiles {
  config: string;
  weights: string;
}

const floatTypeOf: Readonly<Record<WeightType, FloatType>> = { float32: 'F32', bfloat16: 'BF16', float16: 'F16' };

const optionNames = ['lora', 'adapter', 'dtype', 'precision', 'seed', 'backend', 'recompute', 'onProgress'] as const;

/** See `PretrainedPolicy.load`. */
export async function loadPretrainedPolicy(path: string, options: PretrainedOptions = {}): Promise<LoadedPolicy> {
  if (typeof path !== 'string' || path === '') throw typeError('folder', 'the path of a model folder', path);
  const { lora, adapter, dtype, seed = 0, backend, recompute = true, onProgress } = checkOptions(options);
  const folder = new PretrainedFolder(path);
  try {
    const tokenizer = await loadTokenizer(folder);
    await ensureBackend(backend);
    const { precision = currentPrecision() } = options;
    checkPrecision('precision', precision);
    const type = dtype && floatTypeOf[dtype];
    const description = describeFiles(folder, { lora, adapter, dtype, precision, seed });
    const loaded = loadModel(folder, { lora, adapter, type, seed, recompute, precision, onProgress });
    const stored = [...folder.parameters, ...folder.copies].map((own) => ({ ...own, type: type ?? own.type }));
    return { ...policyOf(loaded), ...filesOf(loaded, { folder: resolve(path), stored }), tokenizer, description };
  } finally {
    folder.close();
  }
}

/** The parts of a policy that describe and save it. */
function filesOf(model: PretrainedModel, source: { folder: string; stored: readonly StoredParameter[] }) {
  const { architecture, variables, adapted } = model;
  const { folder } = source;
  const isAdapted = adapted.length > 0;
  return {
    folder,
    weightCount: parameterCount(architecture),
    trainedCount: Object.values(variables).reduce((sum, { size }) => sum + size, 0),
    ...(isAdapted && { checkpointFiles: () => savedAdapter(model, folder) }),
    save: async (to: string, given: SaveOptions = {}) => {
      const { merge = false } = checkSave(to, given);
      if (isAdapted && !merge) return saveAdapter(model, folder, to);
      if (resolve(to) === folder) throw rangeError('folder', 'another folder than the loaded one', to);
      saveModel(model, source, to);
    },
  };
}

/** The parts that compute. With an adapter, `reference` is the model without it. */
function policyOf({ architecture, model, variables, adapted, dispose }: PretrainedModel) {
  let current: ModelWeights = model;
  const base: ModelWeights = { ...model, adapters: {}, trained: new Set() };
  const reference = <T>(compute: () => T): T => {
    current = base;
    try {
      return compute();
    } finally {
      current = model;
    }
  };
  return {
    logitsSize: architecture.vocabularySize,
    variables,
    // Logits come from a product or a cap, whose gradients do not read their outputs.
    inPlace: true,
    logits: (...[batch, from = 0]: Parameters<Policy['logits']>): tf.Tensor2D => batchLogits(current, batch, from),
    hidden: (...[batch, from = 0]: Parameters<Policy['logits']>) => hiddenStates(current, batch, from),
    decodesExactly: true,
    decode: (...[prompts, rows, tokens]: Parameters<Policy['decode']>) =>
      CachedDecoder.start(current, prompts, rows, tokens),
    ...(adapted.length > 0 && { reference }),
    dispose,
  };
}

function checkOptions(options: PretrainedOptions): PretrainedOptions {
  const o = checkObject('options', options);
  checkKeys('', o, optionNames);
  const { lora, adapter, dtype, precision, seed, recompute, onProgress } = o;
  if (lora !== undefined) checkLora(lora);
  if (adapter !== undefined && (typeof adapter !== 'string' || adapter === '')) {
    throw typeError('adapter', 'the path of a PEFT folder', adapter);
  }
  if (dtype !== undefined) checkChoice('dtype', dtype, weightTypes);
  if (precision !== undefined) checkChoice('precision', precision, precisions);
  if (seed !== undefined) checkNumber('seed', seed, { min: 0, integer: true });
  if (recompute !== undefined) checkBoolean('recompute', recompute);
  if (onProgress !== undefined && typeof onProgress !== 'function') {
    throw typeError('onProgress', 'a function', onProgress);
  }
  return options;
}

function checkLora(value: unknown): void {
  const lora = checkObject('lora', value);
  checkKeys('lora', lora, ['rank', 'alpha', 'targets']);
  checkNumber('lora.rank', lora.rank, { min: 1, integer: true });
  if (lora.alpha !== undefined) checkNumber('lora.alpha', lora.alpha, { above: 0 });
  const { targets } = lora;
  const isList = Array.isArray(targets) && targets.length > 0 && targets.every((end) => typeof end === 'string');
  if (targets !== undefined && typeof targets !== 'string' && !isList) {
    throw typeError('lora.targets', `'all-linear', a regular expression as a string, or an array of names`, targets);
  }
}

function checkSave(folder: unknown, options: SaveOptions): SaveOptions {
  if (typeof folder !== 'string' || folder === '') throw typeError('folder', 'the path of a folder', folder);
  const { merge } = checkObject('options', options);
  checkKeys('', options as Record<string, unknown>, ['merge']);
  if (merge !== undefined) checkBoolean('merge', merge);
  return options;
}

async function loadTokenizer({ path, architecture }: PretrainedFolder): Promise<Tokenizer> {
  const { vocabularySize, endTokens } = architecture;
  if (fs.existsSync(join(path, 'tokenizer.json'))) {
    return HuggingFaceTokenizer.load(path, { endTokens, modelSize: vocabularySize });
  }
  const ends = [...endTokens, ...readEndTokens(path)].filter((id) => id < vocabularySize);
  return idTokenizer(path, vocabularySize, ends);
}

function describeFiles(
  { path, architecture, files }: PretrainedFolder,
  { lora, adapter, dtype, precision = 'float32', seed = 0 }: PretrainedOptions,
): PretrainedDescription {
  const hash = (name: string, folder = path) => fileSha256(join(folder, name));
  const tokenizer = join(path, 'tokenizer.json');
  return {
    type: 'pretrained',
    folder: resolve(path),
    family: architecture.family,
    config: hash('config.json'),
    weights: Object.fromEntries(files.names.map((name) => [name, hash(name)])),
    tokenizer: fs.existsSync(tokenizer) ? fileSha256(tokenizer) : null,
    dtype: dtype ?? null,
    ...describePrecision(precision),
    lora: adapter === undefined ? describeLora(lora, seed) : describeAdapter(adapter),
  };
}

function describeLora(lora: LoraOptions | undefined, seed: number): PretrainedDescription['lora'] {
  if (!lora) return null;
  const { rank, alpha = null, targets = 'all-linear' } = lora;
  return { rank, alpha, targets, seed };
}

function describeAdapter(folder: string): AdapterFiles {
  // A folder without these files is rejected later, with a better message.
  const hash = (name: string) => (fs.existsSync(join(folder, name)) ? fileSha256(join(folder, name)) : '');
  return { config: hash(adapterNames.config), weights: hash(adapterNames.weights) };
}
