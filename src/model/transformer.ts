// The transformer policy: a decoder in the style of Llama and Qwen with random weights. RMSNorm before each block, rotary
// positions, SwiGLU, embeddings tied to the output, no biases.

import * as tf from '@tensorflow/tfjs-core';
import { checkPrecision, currentPrecision, describePrecision } from '../backend/bfloat16.js';
import type { Precision } from '../backend/precision.js';
import { checkNumber } from '../base/check.js';
import { normal } from '../base/random.js';
import type { Vocabulary } from '../text/vocabulary.js';
import { vocabularyTokenizer } from '../text/vocabulary-tokenizer.js';
import { CachedDecoder } from './decoder.js';
import { hiddenStates } from './hidden-states.js';
import { batchLogits } from './model.js';
import type { ModelShape, ModelWeights } from './parameters.js';
import type { VocabularyPolicy } from './policy.js';

/** The size of a transformer; every field a positive integer. */
export interface TransformerSize {
  layers: number;
  /** Width of the residual stream, D: a multiple of twice the number of heads. */
  width: number;
  heads: number;
  /** Heads of keys and values, K, a divisor of `heads`: each serves heads / K query heads. */
  keyValueHeads: number;
  /** Width of the feed-forward blocks. */
  hidden: number;
}

export interface TransformerSettings extends TransformerSize {
  /** Recompute each layer in the backward pass: less memory, more time, the same gradient. Default false. */
  recompute?: boolean;
  /** Of its products. Default: the backend's setting. */
  precision?: Precision;
}

export interface TransformerConfig extends TransformerSize {
  /** Number of token ids, V. */
  vocabulary: number;
}

/**
 * A transformer with random weights: the same ones for the same size, vocabulary size and seed, on every backend. TypeError or
 * RangeError for an invalid size, or a precision that the backend does not have.
 */
export function createTransformer(
  {
    layers,
    width,
    heads,
    keyValueHeads,
    hidden,
    recompute = false,
    precision = currentPrecision(),
  }: TransformerSettings,
  vocabulary: Vocabulary,
  seed: number,
): VocabularyPolicy {
  const size = { layers, width, heads, keyValueHeads, hidden };
  checkSize(size);
  checkPrecision('precision', precision);
  const variables = createWeights({ ...size, vocabulary: vocabulary.size }, seed);
  const model: ModelWeights = {
    shape: shapeOf(size),
    frequencies: () => rotaryFrequencies(width / heads),
    inputsFirst: true,
    weights: variables,
    adapters: {},
    trained: new Set(Object.keys(variables)),
    recompute,
    precision,
  };
  return {
    vocabulary,
    tokenizer: vocabularyTokenizer(vocabulary),
    logitsSize: vocabulary.size,
    description: { type: 'transformer', ...size, seed, ...describePrecision(precision) },
    variables,
    // Logits come from a matrix product, whose gradient does not read its output.
    inPlace: true,
    logits: (batch, from = 0) => batchLogits(model, batch, from),
    hidden: (batch, from = 0) => hiddenStates(model, batch, from),
    decodesExactly: true,
    decode: (prompts, rows, tokens) => CachedDecoder.start(model, prompts, rows, tokens),
    dispose: () => tf.dispose(variables),
  };
}

const epsilon = 1e-5;
const theta = 10_000;

function shapeOf({ layers, width, heads, keyValueHeads, hidden }: TransformerSize): ModelShape {
  return {
    hiddenSize: width,
    intermediateSize: hidden,
    heads,
    keyValueHeads,
    headSize: width / heads,
    layers: Array.from({ length: layers }, () => ({ rotary: 0, window: null })),
    norm: { epsilon, offset: 0 },
    queryKeyNorms: false,
    postNorms: false,
    biases: { queryKeyValue: false, output: false, feedForward: false },
    activation: 'silu',
    fused: false,
    attention: { scale: 1 / Math.sqrt(width / heads), softCap: null },
    finalSoftCap: null,
    embeddingScale: 1,
    tiedEmbeddings: true,
  };
}

function rotaryFrequencies(headSize: number) {
  const half = headSize / 2;
  return { frequencies: Float64Array.from({ length: half }, (_, i) => theta ** (-i / half)), attentionFactor: 1 };
}

function checkSize(size: TransformerSize): void {
  for (const [field, value] of Object.entries(size)) checkNumber(field, value, { min: 1, integer: true });
  if (size.width % (2 * size.heads) !== 0) {
    throw new RangeError(`width: expected a multiple of twice the ${size.heads} heads, got ${size.width}`);
  }
  if (size.heads % size.keyValueHeads !== 0) {
    throw new RangeError(`keyValueHeads: expected a divisor of the ${size.heads} heads, got ${size.keyValueHeads}`);
  }
}

/** Name and shape of every weight, in order. Matrices are [inputs, outputs], the embedding [V, D]. */
function weightShapes(config: TransformerConfig): [name: string, shape: number[]][] {
  const { vocabulary, layers, width, heads, keyValueHeads, hidden } = config;
  const shared = (keyValueHeads * width) / heads;
  const layer = (n: number): [string, number[]][] => [
    [`layers.${n}.attention.norm`, [width]],
    [`layers.${n}.attention.query`, [width, width]],
    [`layers.${n}.attention.key`, [width, shared]],
    [`layers.${n}.attention.value`, [width, shared]],
    [`layers.${n}.attention.output`, [width, width]],
    [`layers.${n}.feedforward.norm`, [width]],
    [`layers.${n}.feedforward.gate`, [width, hidden]],
    [`layers.${n}.feedforward.up`, [width, hidden]],
    [`layers.${n}.feedforward.down`, [hidden, width]],
  ];
  const all = Array.from({ length: layers }, (_, n) => layer(n)).flat();
  return [['embedding', [vocabulary, width]], ...all, ['norm', [width]]];
}

function createWeights(config: TransformerConfig, seed: number): Record<string, tf.Variable> {
  const entries = weightShapes(config).map(([name, shape], index) => {
    const values = tf.tensor(initialValues(name, shape, config, seed, index), shape);
    const variable = tf.variable(values);
    values.dispose();
    return [name, variable] as const;
  });
  return Object.fromEntries(entries);
}

/**
 * Gains start at 1, matrices normal with variance 1 / inputs, divided by twice the number of layers for those that add to the
 * residual stream, which keeps its size the same at any depth.
 */
function initialValues(name: string, shape: number[], config: TransformerConfig, seed: number, index: number) {
  const values = new Float32Array(shape.reduce((a, b) => a * b));
  if (shape.length === 1) return values.fill(1);
  const inputs = name === 'embedding' ? config.width : shape[0];
  const adds = name.endsWith('.output') || name.endsWith('.down');
  const deviation = 1 / Math.sqrt(inputs * (adds ? 2 * config.layers : 1));
  return values.map((_, i) => deviation * normal({ seed, purpose: 'weights', index }, i));
}
