// The architecture of a decoder-only language model as plain data: sizes, norms, biases, rotary positions, windows, caps, tying.
// A family (families.ts) reads it from a configuration; the model's code depends on nothing else.

import { rangeError } from '../base/check.js';
import type { RotaryParameters } from './rotary-parameters.js';

export const familyNames = ['llama', 'qwen2', 'qwen3', 'smollm3', 'mistral', 'gemma2', 'gemma3_text', 'phi3'] as const;
/** A family by its `model_type` in config.json. */
export type FamilyName = (typeof familyNames)[number];

export type Activation = 'silu' | 'gelu_pytorch_tanh';

export interface LayerArchitecture {
  /** Rotary positions of this layer: an index into `rotaries`, or null if queries and keys are not rotated. */
  readonly rotary: number | null;
  /** A query attends to keys at positions above its own minus this number; null: to all earlier ones. */
  readonly window: number | null;
}

export interface Architecture {
  readonly family: FamilyName;
  /** Rows of the embedding. May exceed the tokenizer's vocabulary; the extra ids are padding. */
  readonly vocabularySize: number;
  readonly hiddenSize: number;
  /** Width between the projections of a feed-forward block. */
  readonly intermediateSize: number;
  readonly heads: number;
  /** Heads of keys and values, each shared by heads / keyValueHeads heads of queries. */
  readonly keyValueHeads: number;
  /** Independent of hiddenSize / heads in some families. */
  readonly headSize: number;
  /** The longest sequence that the model supports. */
  readonly maxPositions: number;
  readonly layers: readonly LayerArchitecture[];
  readonly rotaries: readonly RotaryParameters[];
  /** RMSNorm: x / sqrt(mean(x^2) + epsilon) in float32, times weight + offset (1 in the Gemma families, else 0). */
  readonly norm: { readonly epsilon: number; readonly offset: 0 | 1 };
  /** An RMSNorm over each head of queries and keys, before the rotation. */
  readonly queryKeyNorms: boolean;
  /** A second norm after attention and after the feed-forward block, before each is added to the residual stream. */
  readonly postNorms: boolean;
  readonly biases: { readonly queryKeyValue: boolean; readonly output: boolean; readonly feedForward: boolean };
  readonly activation: Activation;
  /** Query, key and value are one projection with their rows in this order, and so are gate and up. */
  readonly fused: boolean;
  /** Scores are queries · keys × scale, then softCap × tanh(scores / softCap) if there is a cap, then the mask. */
  readonly attention: { readonly scale: number; readonly softCap: number | null };
  /** Logits become finalSoftCap × tanh(logits / finalSoftCap); null for none. */
  readonly finalSoftCap: number | null;
  /** Embeddings are multiplied by this, rounded to the computation's type. */
  readonly embeddingScale: number;
  /** The unembedding is the embedding. */
  readonly tiedEmbeddings: boolean;
  /** Ids that end a sequence, according to the configuration. */
  readonly endTokens: readonly number[];
}

/** A part of the model with its own weights. */
export interface Module {
  /** groupgrad's name: `layers.3.attention.query`. */
  readonly name: string;
  readonly kind: 'embedding' | 'linear' | 'norm';
  /** [outputs, inputs] of a linear layer as stored in files, [rows, width] of an embedding, [width] of a norm. */
  readonly shape: readonly number[];
  readonly bias: boolean;
}

/** The parts of a model, from input to output; every layer's together. */
export function modulesOf(architecture: Architecture): Module[] {
  const { vocabularySize, hiddenSize, tiedEmbeddings } = architecture;
  const layers = architecture.layers.flatMap((_, layer) => layerModules(architecture, `layers.${layer}`));
  const rows = [vocabularySize, hiddenSize];
  const unembedding: Module = { name: 'unembedding', kind: 'linear', shape: rows, bias: false };
  return [
    { name: 'embedding', kind: 'embedding', shape: rows, bias: false },
    ...layers,
    norm('norm', hiddenSize),
    ...(tiedEmbeddings ? [] : [unembedding]),
  ];
}

function norm(name: string, width: number): Module {
  return { name, kind: 'norm', shape: [width], bias: false };
}

function layerModules(architecture: Architecture, layer: string): Module[] {
  const { hiddenSize, intermediateSize, heads, keyValueHeads, headSize, biases, fused } = architecture;
  const linear = (name: string, outputs: number, inputs: number, bias: boolean): Module => ({
    name: `${layer}.${name}`,
    kind: 'linear',
    shape: [outputs, inputs],
    bias,
  });
  const queries = heads * headSize;
  const keys = keyValueHeads * headSize;
  const bias = biases.queryKeyValue;
  const projections = fused
    ? [linear('attention.queryKeyValue', queries + 2 * keys, hiddenSize, bias)]
    : [
        linear('attention.query', queries, hiddenSize, bias),
        linear('attention.key', keys, hiddenSize, bias),
        linear('attention.value', keys, hiddenSize, bias),
      ];
  const gates = fused
    ? [linear('feedforward.gateUp', 2 * intermediateSize, hiddenSize, biases.feedForward)]
    : [
        linear('feedforward.gate', intermediateSize, hiddenSize, biases.feedForward),
        linear('feedforward.up', intermediateSize, hiddenSize, biases.feedForward),
      ];
  const only = (condition: boolean, ...modules: Module[]) => (condition ? modules : []);
  return [
    norm(`${layer}.attention.norm`, hiddenSize),
    ...projections,
    ...only(
      architecture.queryKeyNorms,
      norm(`${layer}.attention.queryNorm`, headSize),
      norm(`${layer}.attention.keyNorm`, headSize),
    ),
    linear('attention.output', hiddenSize, queries, biases.output),
    ...only(architecture.postNorms, norm(`${layer}.attention.postNorm`, hiddenSize)),
    norm(`${layer}.feedforward.norm`, hiddenSize),
    ...gates,
    linear('feedforward.down', hiddenSize, intermediateSize, biases.feedForward),
    ...only(architecture.postNorms, norm(`${layer}.feedforward.postNorm`, hiddenSize)),
  ];
}

/** One tensor of weights. */
export interface Parameter {
  /** The module's name; with `.bias` for its bias. */
  readonly name: string;
  readonly module: Module;
  /** As stored in files. */
  readonly shape: readonly number[];
}

/** Every tensor of a model, in the order of its modules. */
export function parametersOf(architecture: Architecture): Parameter[] {
  return modulesOf(architecture).flatMap((module): Parameter[] => {
    const weight = { name: module.name, module, shape: module.shape };
    return module.bias ? [weight, { name: `${module.name}.bias`, module, shape: [module.shape[0]] }] : [weight];
  });
}

/** Number of weights. */
export function parameterCount(architecture: Architecture): number {
  return parametersOf(architecture).reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
}

/** The layer's rotary parameters; null if it has none. RangeError for a layer that does not exist. */
export function rotaryOf({ layers, rotaries }: Architecture, layer: number): RotaryParameters | null {
  const found = layers[layer];
  if (!found) throw rangeError('layer', `one of the ${layers.length} layers`, String(layer));
  return found.rotary === null ? null : rotaries[found.rotary];
}
