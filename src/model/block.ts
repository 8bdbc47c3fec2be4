// One layer of the model: x + attention(norm(x)), then the same with the feed-forward block; in some families with a second norm
// before each sum. The unit of recomputation (gradient checkpointing).

import * as tf from '@tensorflow/tfjs-core';
import { type AttentionShape, attention, type Visibility } from './attention.js';
import { gatedUnit } from './gated-unit.js';
import { linear } from './linear.js';
import { asModule, linearOf, type ModelWeights, normOf } from './parameters.js';
import { type Computed, type Gradients, type Keep, sumGradients, type Wanted } from './part.js';
import { rmsNorm } from './rms-norm.js';
import { type Rotation, rotary } from './rotary.js';

export interface LayerContext {
  sequences: number;
  /** null: positions are not encoded in this layer. */
  rotation: Rotation | null;
  visible: Visibility;
  /** Decoding. No gradients are computed then. */
  cache?: AttentionCache;
}

/** Replaces attention in decoding and stores keys and values: kv-cache.ts. */
export interface AttentionCache {
  /** From queries [N, H * size], keys and values [N, K * size] to [N, H * size]. */
  attend(
    query: tf.Tensor2D,
    key: tf.Tensor2D,
    value: tf.Tensor2D,
    visible: Visibility,
    shape: AttentionShape,
  ): tf.Tensor2D;
}

/** The tensors of a context that a backward pass needs. */
export function contextTensors({ rotation, visible: { bias, starts } }: LayerContext): tf.NamedTensorMap {
  const { cos, sin, rotateHalf } = rotation ?? {};
  return { starts, ...(bias && { bias }), ...(rotation && { cos: cos!, sin: sin!, rotateHalf: rotateHalf! }) };
}

/** A context with its tensors replaced. */
export function withTensors({ rotation, visible, ...rest }: LayerContext, tensors: tf.NamedTensorMap): LayerContext {
  const { starts, bias, cos, sin, rotateHalf } = tensors as unknown as Visibility & Rotation;
  return {
    ...rest,
    visible: { ...visible, starts, bias },
    rotation: rotation && { ...rotation, cos, sin, rotateHalf },
  };
}

/** The layer named `name`, applied to x [B * T, D]. Gradients: `x` and the layer's parameters. */
export function block(model: ModelWeights, name: string, x: tf.Tensor2D, context: LayerContext, keep: Keep): Computed {
  const mixing = residual(model, `${name}.attention`, x, keep, (states, module) =>
    selfAttention(model, module, states, context, keep),
  );
  const middle = mixing.value;
  const feeding = residual(model, `${name}.feedforward`, middle, keep, (states, module) =>
    feedForward(model, module, states, keep),
  );
  return {
    get value() {
      return feeding.value;
    },
    backward: (dy, wanted) => {
      const wantsMiddle = wanted('x') || isAnyTrained(model, `${name}.attention`);
      const { x: dMiddle, ...fed } = feeding.backward(dy, (own) => (own === 'x' ? wantsMiddle : wanted(own)));
      return { ...fed, ...(dMiddle && mixing.backward(dMiddle as tf.Tensor2D, wanted)) };
    },
  };
}

function isAnyTrained({ trained }: ModelWeights, prefix: string): boolean {
  return [...trained].some((name) => name.startsWith(`${prefix}.`));
}

/** x + inner(norm(x)), with a norm after `inner` in families that have one. */
function residual(
  model: ModelWeights,
  name: string,
  x: tf.Tensor2D,
  keep: Keep,
  inner: (states: tf.Tensor2D, name: string) => Computed,
): Computed {
  const normed = asModule(`${name}.norm`, rmsNorm(x, normOf(model, `${name}.norm`), keep));
  const computed = inner(normed.value, name);
  const post = model.shape.postNorms
    ? asModule(`${name}.postNorm`, rmsNorm(computed.value, normOf(model, `${name}.postNorm`), keep))
    : undefined;
  return {
    get value() {
      return tf.add<tf.Tensor2D>(x, (post ?? computed).value);
    },
    backward: (dy, wanted) => {
      const behind = post ? post.backward(dy, orX(wanted)) : { x: dy };
      const { x: dInner, ...afterwards } = behind as Gradients;
      const wantsNormed = wanted('x') || wanted(`${name}.norm`);
      const within = computed.backward(dInner as tf.Tensor2D, (own) => (own === 'x' ? wantsNormed : wanted(own)));
      const { x: dNormed, ...trained } = within;
      const { x: dx, ...norm } = dNormed ? normed.backward(dNormed as tf.Tensor2D, wanted) : {};
      return { ...afterwards, ...trained, ...norm, ...(wanted('x') && { x: tf.add(dy, dx!) }) };
    },
  };
}

/** The wanted gradients, plus that of x. */
function orX(wanted: Wanted): Wanted {
  return (name) => name === 'x' || wanted(name);
}

function selfAttention(
  model: ModelWeights,
  name: string,
  x: tf.Tensor2D,
  { sequences, rotation, visible, cache }: LayerContext,
  keep: Keep,
): Computed {
  const { heads, keyValueHeads, attention: scores } = model.shape;
  const projected = projections(model, name, x, keep);
  const [query, key] = (['query', 'key'] as const).map((which) =>
    positioned(model, `${name}.${which}Norm`, projected.value[which], rotation, keep),
  );
  const shape = { sequences, heads, keyValueHeads, scale: scores.scale, softCap: scores.softCap };
  const inputs = [query.value, key.value, projected.value.value] as const;
  const mixed: Computed = cache
    ? { value: cache.attend(...inputs, visible, shape), backward: noBackward }
    : attention(...inputs, visible, shape, keep);
  const output = asModule(`${name}.output`, linear(mixed.value, linearOf(model, `${name}.output`), keep));
  return {
    get value() {
      return output.value;
    },
    backward: (dy, wanted) => {
      const { x: dMixed, ...outputs } = output.backward(dy, orX(wanted));
      const all: Wanted = () => true;
      const { query: dQuery, key: dKey, value: dValue } = mixed.backward(dMixed as tf.Tensor2D, all);
      const { x: dq, ...queryNorm } = query.backward(dQuery as tf.Tensor2D, orX(wanted));
      const { x: dk, ...keyNorm } = key.backward(dKey as tf.Tensor2D, orX(wanted));
      const projections = projected.backward({ query: dq, key: dk, value: dValue } as Projected, wanted);
      return { ...outputs, ...queryNorm, ...keyNorm, ...projections };
    },
  };
}

function noBackward(): never {
  throw new Error('decoding: expected no gradient computation');
}

type Projected = Record<'query' | 'key' | 'value', tf.Tensor2D>;

/** Queries, keys and values of all heads, [B * T, heads * head size] each: from three projections, or from one. */
function projections(model: ModelWeights, name: string, x: tf.Tensor2D, keep: Keep) {
  const { heads, keyValueHeads, headSize, fused } = model.shape;
  const map = (own: string) => asModule(`${name}.${own}`, linear(x, linearOf(model, `${name}.${own}`), keep));
  if (fused) {
    const all = map('queryKeyValue');
    const sizes = [heads * headSize, keyValueHeads * headSize, keyValueHeads * headSize];
    const [query, key, value] = tf.split(all.value, sizes, 1) as tf.Tensor2D[];
    return {
      value: { query, key, value },
      backward: (d: Projected, wanted: Wanted) => all.backward(tf.concat([d.query, d.key, d.value], 1), wanted),
    };
  }
  const [query, key, value] = ['query', 'key', 'value'].map(map);
  return {
    value: { query: query.value, key: key.value, value: value.value },
    backward: (d: Projected, wanted: Wanted) => {
      const parts = [query.backward(d.query, wanted), key.backward(d.key, wanted), value.backward(d.value, wanted)];
      return { ...Object.assign({}, ...parts), ...summedX(parts) };
    },
  };
}

/** The sum of the gradients of x from several projections; undefined if it is not wanted. */
function summedX(parts: readonly Gradients[]): Gradients {
  const x = sumGradients(parts.map((part) => part.x));
  return x ? { x } : {};
}

/** Queries or keys with the norm of their heads, in families that have one, and rotated. */
function positioned(
  model: ModelWeights,
  normName: string,
  x: tf.Tensor2D,
  rotation: Rotation | null,
  keep: Keep,
): Computed {
  const norm = model.shape.queryKeyNorms ? headNorm(model, normName, x, keep) : undefined;
  const normed = norm ? norm.value : x;
  const rotated = rotation && rotary(normed, rotation, keep);
  return {
    value: rotated ? rotated.value : normed,
    backward: (dy, wanted) => {
      const dNormed = rotated ? (rotated.backward(dy, wanted).x as tf.Tensor2D) : dy;
      return norm ? norm.backward(dNormed, wanted) : { x: dNormed };
    },
  };
}

function headNorm(model: ModelWeights, name: string, x: tf.Tensor2D, keep: Keep): Computed {
  const heads: [number, number] = [x.size / model.shape.headSize, model.shape.headSize];
  const normed = asModule(name, rmsNorm(tf.reshape(x, heads), normOf(model, name), keep));
  return {
    value: tf.reshape(normed.value, x.shape),
    backward: (dy, wanted) => {
      const { x: dx, ...weight } = normed.backward(tf.reshape(dy, heads), wanted);
      return { ...weight, ...(dx && { x: tf.reshape(dx, dy.shape) }) };
    },
  };
}

function feedForward(model: ModelWeights, name: string, x: tf.Tensor2D, keep: Keep): Computed {
  const { activation, fused, intermediateSize } = model.shape;
  const map = (own: string) => asModule(`${name}.${own}`, linear(x, linearOf(model, `${name}.${own}`), keep));
  const maps = fused ? [map('gateUp')] : [map('gate'), map('up')];
  const [gate, up] = fused
    ? (tf.split(maps[0].value, [intermediateSize, intermediateSize], 1) as tf.Tensor2D[])
    : maps.map(({ value }) => value);
  const unit = gatedUnit(gate, up, activation, keep);
  const down = asModule(`${name}.down`, linear(unit.value, linearOf(model, `${name}.down`), keep));
  return {
    get value() {
      return down.value;
    },
    backward: (dy, wanted) => {
      const { x: dUnit, ...downs } = down.backward(dy, orX(wanted));
      const { gate: dGate, up: dUp } = unit.backward(dUnit as tf.Tensor2D, orX(wanted));
      const dMaps = fused ? [tf.concat([dGate, dUp], 1)] : [dGate, dUp];
      const parts = maps.map((own, i) => own.backward(dMaps[i] as tf.Tensor2D, wanted));
      return { ...downs, ...Object.assign({}, ...parts), ...summedX(parts) };
    },
  };
}
