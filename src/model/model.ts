// A decoder-only language model: token ids to states and logits. One definition serves every family (architecture.ts says
// what differs), training (all positions at once) and sampling (one position per call, with a key-value cache).

import * as tf from '@tensorflow/tfjs-core';
import { causalBias, hasFusedAttention, type Visibility } from './attention.js';
import { type AttentionCache, block, contextTensors, type LayerContext, withTensors } from './block.js';
import { embedding } from './embedding.js';
import { adapterStates } from './linear.js';
import {
  matMul,
  matMulTransposed,
  plusMatMulTransposed,
  type SharedFactor,
  transposedMatMul,
} from './matrix-products.js';
import { asModule, linearOf, type ModelShape, type ModelWeights, normOf, trainedOf } from './parameters.js';
import { type Computed, differentiable, type Gradients, type Keep, sumGradients } from './part.js';
import type { SequenceBatch } from './policy.js';
import { rmsNorm } from './rms-norm.js';
import { type Frequencies, type Rotation, rotation } from './rotary.js';

/** Inputs of a forward pass besides tokens and weights. */
export interface ModelContext {
  sequences: number;
  /** By `layers[i].rotary`. */
  rotations: readonly Rotation[];
  /** By window; null for none. */
  visible: (window: number | null) => Visibility;
  /** Context of one layer, for decoding. */
  cache?: (layer: number) => AttentionCache;
}

/** Rotations and masks for all positions of a batch. Call within tf.tidy. */
export function batchContext({ shape, frequencies }: ModelWeights, batch: SequenceBatch): ModelContext {
  const { sequences, length, starts, contextLength = length } = batch;
  const positions = Array.from({ length }, (_, i) => i);
  const isFused = hasFusedAttention();
  const known = new Map<number | null, Visibility>();
  const startsTensor = tf.tensor1d(starts, 'int32');
  return {
    sequences,
    rotations: rotationsOf(shape, (rotary) => frequencies(rotary, contextLength), positions),
    visible: (window) => {
      const bias = () => (isFused ? {} : { bias: causalBias(batch, window) });
      const found = known.get(window) ?? { ...bias(), starts: startsTensor, window: window ?? 0 };
      known.set(window, found);
      return found;
    },
  };
}

export function rotationsOf(
  { layers, headSize }: ModelShape,
  frequencies: (rotary: number) => Frequencies,
  positions: ArrayLike<number>,
): Rotation[] {
  const rotaries = layers.flatMap(({ rotary }) => (rotary === null ? [] : [rotary]));
  return Array.from({ length: Math.max(-1, ...rotaries) + 1 }, (_, i) => rotation(frequencies(i), headSize, positions));
}

/** States after the last layer, [B * T, D], of token ids [B * T]; before the final norm. */
export function forward(model: ModelWeights, tokens: Int32Array, context: ModelContext): tf.Tensor2D {
  const { shape, weights, recompute, precision } = model;
  const matrix = weights.embedding as tf.Tensor2D;
  const first = trainedOf(model, 'embedding');
  let isTrained = Object.keys(first).length > 0;
  let x = differentiable({ wantsX: false, trained: first, constants: {}, recompute: false, precision }, (_, __, keep) =>
    asModule('embedding', embedding(matrix, shape.embeddingScale, tokens, keep)),
  );
  shape.layers.forEach((layer, i) => {
    const own: LayerContext = {
      sequences: context.sequences,
      rotation: layer.rotary === null ? null : context.rotations[layer.rotary],
      visible: context.visible(layer.window),
      cache: context.cache?.(i),
    };
    const trained = trainedOf(model, `layers.${i}`);
    const input = { x, wantsX: isTrained, trained, constants: contextTensors(own), recompute, precision };
    x = differentiable(input, (given, tensors, keep) =>
      block(model, `layers.${i}`, given!, withTensors(own, tensors), keep),
    );
    isTrained ||= Object.keys(trained).length > 0;
  });
  return x;
}

/** Which rows of the states are read: those of positions from `from` on, or single ones by b * T + t. */
export type Selection = { sequences: number; from: number } | { rows: Int32Array };

/** The states that the unembedding reads: the final norm of selected rows, [N, D]. */
export function finalStates(model: ModelWeights, x: tf.Tensor2D, selection: Selection): tf.Tensor2D {
  const trained = trainedOf(model, 'norm');
  return differentiable(
    { x, wantsX: model.trained.size > 0, trained, constants: {}, recompute: false, precision: model.precision },
    (given, _, keep) => normed(model, select(given!, selection), keep),
  );
}

/** Logits [N, V] of selected rows. `shared` is the unembedding if it is used for many calls. */
export function logitsOf(
  model: ModelWeights,
  x: tf.Tensor2D,
  selection: Selection,
  shared?: SharedFactor,
): tf.Tensor2D {
  const name = unembeddingName(model.shape);
  const trained = { ...trainedOf(model, 'norm'), ...trainedOf(model, name) };
  return differentiable(
    { x, wantsX: model.trained.size > 0, trained, constants: {}, recompute: false, precision: model.precision },
    (given, _, keep) => {
      const states = normed(model, select(given!, selection), keep);
      const logits = unembed(states.value, model, keep, shared);
      return {
        value: logits.value,
        backward: (dy, wanted) => {
          const { x: dStates, ...rest } = asModule(name, logits).backward(dy, (own) => own === 'x' || wanted(own));
          return { ...rest, ...states.backward(dStates as tf.Tensor2D, wanted) };
        },
      };
    },
  );
}

/** See `Policy.logits`. */
export function batchLogits(model: ModelWeights, batch: SequenceBatch, from: number): tf.Tensor2D {
  const { sequences, tokens } = batch;
  return tf.tidy(() => logitsOf(model, forward(model, tokens, batchContext(model, batch)), { sequences, from }));
}

/** The parameter whose rows are multiplied with the final states. */
export function unembeddingName({ tiedEmbeddings }: ModelShape): string {
  return tiedEmbeddings ? 'embedding' : 'unembedding';
}

function normed(model: ModelWeights, selected: Computed, keep: Keep): Computed {
  const states = asModule('norm', rmsNorm(selected.value, normOf(model, 'norm'), keep));
  return {
    value: states.value,
    backward: (dy, wanted) => {
      const { x: dSelected, ...rest } = states.backward(dy, wanted);
      return { ...rest, ...(dSelected && selected.backward(dSelected as tf.Tensor2D, wanted)) };
    },
  };
}

/** The adapter's term is that of `hiddenStates`, with its scale on [N, rank] rather than on [N, V]. */
function unembed(x: tf.Tensor2D, model: ModelWeights, keep: Keep, shared?: SharedFactor): Computed {
  const { finalSoftCap } = model.shape;
  const { weight, adapter } = linearOf(model, unembeddingName(model.shape));
  const keptX = keep(x);
  const based = shared ? shared.product(x) : matMulTransposed(x, weight);
  const low = adapter && adapterStates(x, adapter, keep);
  const keptLow = low && keep(low.value);
  const product = low ? plusMatMulTransposed(based, low.value, adapter.b) : based;
  const tanh = finalSoftCap === null ? undefined : tf.tanh<tf.Tensor2D>(tf.div(product, finalSoftCap));
  const keptTanh = tanh && keep(tanh);
  return {
    value: tanh ? tf.mul(tanh, finalSoftCap!) : product,
    backward: (dy, wanted) => {
      const dProduct = keptTanh ? tf.mul<tf.Tensor2D>(dy, tf.sub(1, tf.square(keptTanh()))) : dy;
      const gradients: Gradients = {};
      if (wanted('x')) gradients.x = matMul(dProduct, weight);
      if (wanted('weight')) gradients.weight = transposedMatMul(dProduct, keptX());
      if (!low) return gradients;
      if (wanted('b')) gradients.b = transposedMatMul(dProduct, keptLow!());
      const { x: byAdapter, ...rest } = low.backward(matMul(dProduct, adapter.b), wanted);
      const dx = sumGradients([gradients.x, byAdapter] as (tf.Tensor2D | undefined)[]);
      return { ...gradients, ...rest, ...(dx && { x: dx }) };
    },
  };
}

function select(x: tf.Tensor2D, selection: Selection): Computed {
  return 'rows' in selection ? selectRows(x, selection.rows) : selectFrom(x, selection);
}

/** Positions from `from` on of each sequence. */
function selectFrom(x: tf.Tensor2D, { sequences, from }: { sequences: number; from: number }): Computed {
  const [rows, width] = x.shape;
  const length = rows / sequences;
  const selected = tf.slice(tf.reshape(x, [sequences, length, width]), [0, from, 0]);
  return {
    value: tf.reshape(selected, [sequences * (length - from), width]),
    backward: (dy) => {
      const dSelected = tf.reshape(dy, [sequences, length - from, width]);
      const before = tf.zeros([sequences, from, width]);
      return { x: tf.reshape(from === 0 ? dSelected : tf.concat([before, dSelected], 1), [rows, width]) };
    },
  };
}

/** Single rows, each at most once. The gradient gathers too, because not every backend has scatter kernels. */
function selectRows(x: tf.Tensor2D, selected: Int32Array): Computed {
  const [rows, width] = x.shape;
  return {
    value: tf.gather(x, tf.tensor1d(selected, 'int32')),
    backward: (dy) => {
      const places = new Int32Array(rows).fill(selected.length);
      selected.forEach((row, place) => {
        places[row] = place;
      });
      return { x: tf.gather(tf.concat([dy, tf.zeros([1, width])]), tf.tensor1d(places, 'int32')) };
    },
  };
}
