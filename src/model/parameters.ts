// The weights of a model by name, and how its primitives access them.

import * as tf from '@tensorflow/tfjs-core';
import type { Precision } from '../backend/precision.js';
import type { Architecture } from './architecture.js';
import type { Adapter, Linear } from './linear.js';
import type { Computed } from './part.js';
import type { Norm } from './rms-norm.js';
import type { Frequencies } from './rotary.js';

/** The part of an architecture that the model's code reads. */
export type ModelShape = Omit<Architecture, 'family' | 'vocabularySize' | 'maxPositions' | 'endTokens' | 'rotaries'>;

export interface ModelWeights {
  readonly shape: ModelShape;
  /** Frequencies of the layers' rotations, by `layers[i].rotary`; `length` is the longest sequence of the batch. */
  readonly frequencies: (rotary: number, length: number) => Frequencies;
  /** Linear weights are stored as [inputs, outputs] rather than [outputs, inputs]. */
  readonly inputsFirst: boolean;
  /** By the names of `parametersOf`. */
  readonly weights: Readonly<Record<string, tf.Tensor>>;
  /** LoRA, by the names of linear layers. */
  readonly adapters: Readonly<Record<string, Adapter>>;
  /** Names of the weights that are trained; `lora_A` and `lora_B` after the name of a linear layer. */
  readonly trained: ReadonlySet<string>;
  /** Each layer is recomputed in the backward pass, so that only its input is kept. */
  readonly recompute: boolean;
  /** Of its products. Default: the backend's setting. */
  readonly precision?: Precision;
}

/** Suffixes of parameter names after the name of a linear layer or norm, by the primitives' names for them. */
const suffixes: Readonly<Record<string, string>> = { weight: '', bias: '.bias', a: '.lora_A', b: '.lora_B' };

/** A primitive whose gradients have the names of the model's parameters. */
export function asModule(name: string, computed: Computed): Computed {
  const parameter = (own: string) => (Object.hasOwn(suffixes, own) ? `${name}${suffixes[own]}` : own);
  return {
    get value() {
      return computed.value;
    },
    backward: (dy, wanted) => {
      const gradients = tf.tidy(() => computed.backward(dy, (own) => wanted(parameter(own))));
      return Object.fromEntries(Object.entries(gradients).map(([own, gradient]) => [parameter(own), gradient]));
    },
  };
}

/** The linear layer of that name, with its bias and adapter. */
export function linearOf({ weights, adapters, inputsFirst }: ModelWeights, name: string): Linear {
  return {
    weight: weights[name] as tf.Tensor2D,
    inputsFirst,
    bias: weights[`${name}.bias`] as tf.Tensor1D | undefined,
    adapter: adapters[name],
  };
}

export function normOf({ weights, shape }: ModelWeights, name: string): Norm {
  return { weight: weights[name] as tf.Tensor1D, ...shape.norm };
}

/** The trained parameters of a part, whose names begin with `prefix`. */
export function trainedOf(model: ModelWeights, prefix: string): Record<string, tf.Tensor> {
  const found = [...model.trained].filter((name) => name === prefix || name.startsWith(`${prefix}.`));
  return Object.fromEntries(found.map((name) => [name, parameterOf(model, name)]));
}

function parameterOf({ weights, adapters }: ModelWeights, name: string): tf.Tensor {
  const [, module, side] = /^(.*)\.lora_([AB])$/.exec(name) ?? [];
  if (module === undefined) return weights[name];
  return side === 'A' ? adapters[module].a : adapters[module].b;
}
