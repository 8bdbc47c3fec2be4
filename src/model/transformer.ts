// The transformer policy: a decoder in the shape of Llama and Qwen, in pure functions over a flat map of named weights.
// RMSNorm before each block, rotary positions, SwiGLU, embeddings tied to the output, no biases.

import * as tf from '@tensorflow/tfjs-core';
import { checkNumber } from '../base/check.js';
import { normal } from '../base/random.js';
import type { Vocabulary } from '../text/vocabulary.js';
import { causalBias } from './attention.js';
import { CachedDecoder } from './decoder.js';
import { forward, type TransformerConfig, type TransformerSize, type Weights } from './forward.js';
import type { Policy, SequenceBatch } from './policy.js';
import { rotation } from './rotary.js';

export type { TransformerConfig, TransformerSize } from './forward.js';

/**
 * A transformer with random weights: the same ones for the same size, vocabulary size and seed, on every backend.
 * TypeError or RangeError for an impossible size.
 */
export function createTransformer(
  { layers, width, heads, keyValueHeads, hidden }: TransformerSize,
  vocabulary: Vocabulary,
  seed: number,
): Policy {
  const size = { layers, width, heads, keyValueHeads, hidden };
  checkSize(size);
  const config = { ...size, vocabulary: vocabulary.size };
  const variables = createWeights(config, seed);
  return {
    vocabulary,
    description: { type: 'transformer', ...size, seed },
    variables,
    // Made by a product, which reads none of what it gave.
    inPlace: true,
    logits: (batch, from = 0) => logits(config, variables, batch, from),
    decode: (prompts, rows, tokens) => new CachedDecoder(config, variables, prompts, rows, tokens),
    dispose: () => tf.dispose(variables),
  };
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
 * Gains start at 1, matrices normal with a variance of one over their inputs: less by twice the number of layers for
 * those that add to the residual stream, which then stays of the same size at any depth.
 */
function initialValues(name: string, shape: number[], config: TransformerConfig, seed: number, index: number) {
  const values = new Float32Array(shape.reduce((a, b) => a * b));
  if (shape.length === 1) return values.fill(1);
  const inputs = name === 'embedding' ? config.width : shape[0];
  const adds = name.endsWith('.output') || name.endsWith('.down');
  const deviation = 1 / Math.sqrt(inputs * (adds ? 2 * config.layers : 1));
  return values.map((_, i) => deviation * normal({ seed, purpose: 'weights', index }, i));
}

/** See `Policy.logits`. */
function logits(config: TransformerConfig, weights: Weights, batch: SequenceBatch, from: number): tf.Tensor2D {
  const { sequences, length, tokens } = batch;
  return tf.tidy(() => {
    const context = {
      sequences,
      heads: config.heads,
      keyValueHeads: config.keyValueHeads,
      bias: causalBias(batch),
      rotation: rotation(config.width / config.heads, 0, length),
    };
    return forward(config, weights, tokens, context, from);
  });
}
