// Saves a loaded model: its adapter in PEFT's layout, or its weights in transformers'.

import * as tf from '@tensorflow/tfjs-core';
import { inPrecision } from '../backend/bfloat16.js';
import { type AdapterEntry, adapterFiles, writeAdapter } from './adapter.js';
import { ModelFilesWriter } from './model-files.js';
import { copyCompanions, type StoredParameter } from './pretrained-folder.js';
import type { PretrainedModel } from './pretrained-model.js';

/** Writes the adapter of a model that has one. `base` is the base model named in the adapter's configuration. */
export function saveAdapter(model: PretrainedModel, base: string, to: string): void {
  writeAdapter(to, model.architecture, entriesOf(model), { baseModel: base });
}

/** The same files, for callers that write them elsewhere. */
export function savedAdapter(model: PretrainedModel, base: string): Record<string, Iterable<Uint8Array>> {
  return adapterFiles(model.architecture, entriesOf(model), { baseModel: base });
}

function entriesOf({ adapted, variables }: PretrainedModel): AdapterEntry[] {
  return adapted.map((part) => ({
    ...part,
    a: () => valuesOf(variables[`${part.module.name}.lora_A`]),
    b: () => valuesOf(variables[`${part.module.name}.lora_B`]),
  }));
}

/** Writes weights, with any adapter merged, under the names and in the types of `stored`, and copies `folder`'s other files.
 */
export function saveModel(
  { model }: PretrainedModel,
  { folder, stored }: { folder: string; stored: readonly StoredParameter[] },
  to: string,
): void {
  copyCompanions(folder, to);
  const entries = stored.map(({ tensor, type, shape }) => ({ name: tensor, type, shape }));
  const names = new Map(stored.map(({ tensor, name }) => [tensor, name]));
  const writer = new ModelFilesWriter(to, entries);
  try {
    for (const { name } of writer.tensors) writer.write(name, merged(model, names.get(name)!));
  } catch (error) {
    writer.abort();
    throw error;
  }
  writer.finish();
}

/** W + scale × B A, [outputs, inputs], if the weight has an adapter; else W. */
function merged({ weights, adapters }: PretrainedModel['model'], name: string): Float32Array {
  const weight = weights[name];
  if (!Object.hasOwn(adapters, name)) return valuesOf(weight);
  const { a, b, scale } = adapters[name];
  const product = () => tf.add(weight, tf.mul(tf.matMul(b, a), scale));
  const sum = tf.tidy(() => inPrecision('float32', product));
  try {
    return valuesOf(sum);
  } finally {
    sum.dispose();
  }
}

function valuesOf(tensor: tf.Tensor): Float32Array {
  return tensor.dataSync<'float32'>();
}
