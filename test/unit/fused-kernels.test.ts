// Primitives use a fused kernel of the current backend if it has one of their name: with stand-ins on the plain backend,
// each written from its primitive's documentation of inputs, attributes and outputs, a model computes the same as the composed form.
//
// Bound: 1e-5 of the largest value: values of order 1 through about 10 float32 sums of at most 48 terms, in another order.

import assert from 'node:assert/strict';
import test, { afterEach, before } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { startBackend } from '../../src/backend/backend.js';
import { linear } from '../../src/model/linear.js';
import { forget } from '../../src/model/part.js';
import type { Decoder, RefillableDecoder } from '../../src/model/policy.js';
import { createTransformer } from '../../src/model/transformer.js';
import { padPrompts } from '../../src/rollout/sample.js';
import { characterVocabulary } from '../../src/text/vocabulary.js';
import { AdamW } from '../../src/train/adamw.js';
import type { OptimizerSettings } from '../../src/train/options.js';
import { globalNorm } from '../../src/train/update.js';
import { assertArray } from '../support/compare.js';
import { type Attributes, type Primitive, primitives } from '../support/primitives.js';

/** Names of the calls. */
const calls = new Map<string, number>();
const vocabulary = characterVocabulary('abcdef');
const size = { layers: 2, width: 16, heads: 4, keyValueHeads: 2, hidden: 24 };
const tokens = Int32Array.of(0, 0, 1, 2, 3, 4, 6, 5, 3, 3, 2, 1);
const batch = { sequences: 2, length: 6, tokens, starts: Int32Array.of(2, 0) };

function register(kernelName: string, compute = primitives[kernelName]): void {
  tf.registerKernel({
    kernelName,
    backendName: 'cpu',
    kernelFunc: ({ inputs, attrs, backend }) => {
      calls.set(kernelName, (calls.get(kernelName) ?? 0) + 1);
      const cpu = backend as unknown as {
        readSync(id: object): Float32Array;
        makeTensorInfo(shape: readonly number[], dtype: string, values: Float32Array): tf.TensorInfo;
      };
      const entries = Object.entries(inputs) as [string, tf.TensorInfo][];
      const values = Object.fromEntries(entries.map(([name, { dataId }]) => [name, cpu.readSync(dataId)]));
      const shapes = Object.fromEntries(entries.map(([name, { shape }]) => [name, shape]));
      return compute(values, shapes, attrs as Attributes).map(([data, shape]) =>
        cpu.makeTensorInfo(shape, 'float32', Float32Array.from(data)),
      );
    },
  });
}

/** Written from the contract in kv-cache.ts. */
const decodeAttention: Primitive = (inputs, shapes, attributes) => {
  const [heads, keyValueHeads, scale, softCap, window] = ['heads', 'keyValueHeads', 'scale', 'softCap', 'window'].map(
    (name) => Number(attributes[name]),
  );
  const { query, key, value, lengths } = inputs as Record<string, Float32Array>;
  const [rows, width] = shapes.query;
  const headSize = width / heads;
  const mixed = new Float64Array(rows * width);
  /** The `size` numbers of a position, in the memory of the cache. */
  const at = (name: string, row: number, head: number, position: number) => {
    const column = (row * keyValueHeads + head) * 48 + (position % 48);
    return (inputs[`${name}${Math.floor(position / 48)}`] as Float32Array).subarray(
      column * headSize,
      (column + 1) * headSize,
    );
  };
  for (let row = 0; row < rows; row++) {
    const position = lengths[row];
    if (position < 0) continue;
    for (let head = 0; head < keyValueHeads; head++) {
      const own = (row * keyValueHeads + head) * headSize;
      at('keys', row, head, position).set(key.subarray(own, own + headSize));
      at('values', row, head, position).set(value.subarray(own, own + headSize));
    }
    for (let head = 0; head < heads; head++) {
      const shared = Math.floor((head * keyValueHeads) / heads);
      const first = window === 0 ? 0 : Math.max(0, position - window + 1);
      const seen = Array.from({ length: position - first + 1 }, (_, i) => first + i);
      const products = seen.map((other) => {
        const dot = at('keys', row, shared, other).reduce(
          (sum, k, d) => sum + k * query[row * width + head * headSize + d],
          0,
        );
        return softCap === 0 ? dot * scale : softCap * Math.tanh((dot * scale) / softCap);
      });
      const largest = Math.max(...products);
      const total = products.reduce((sum, product) => sum + Math.exp(product - largest), 0);
      seen.forEach((other, i) => {
        at('values', row, shared, other).forEach((v, d) => {
          mixed[row * width + head * headSize + d] += (Math.exp(products[i] - largest) / total) * v;
        });
      });
    }
  }
  return [[mixed, [rows, width]]];
};

const ofLinear = ['groupgrad.adapterStates', 'groupgrad.linear', 'groupgrad.linearBackward'];
const ofOptimizer = ['groupgrad.adamW', 'groupgrad.globalNorm'];
/** Those of the model below, which has no biases and no adapters. */
const ofModel = Object.keys(primitives).filter((name) => ![...ofLinear, ...ofOptimizer].includes(name));

function logitsAndGradients(recompute: boolean): Record<string, Float32Array> {
  const policy = createTransformer({ ...size, recompute }, vocabulary, 5);
  const coefficients = Float32Array.from({ length: 2 * 4 * vocabulary.size }, (_, i) => Math.sin(3 * i));
  const loss = tf.customGrad((given) => {
    const own = () => tf.tensor(coefficients, (given as tf.Tensor).shape);
    return { value: tf.sum(tf.mul(given as tf.Tensor, own())), gradFunc: (dy) => tf.mul(dy, own()) };
  });
  const { value, grads } = tf.variableGrads(
    () => loss(policy.logits(batch, 2)) as tf.Scalar,
    Object.values(policy.variables),
  );
  const logits = policy.logits(batch, 2);
  const read = (tensor: tf.Tensor) => tensor.dataSync<'float32'>().slice();
  const gradients = Object.entries(policy.variables).map(([name, own]) => [name, read(grads[own.name])] as const);
  const all = { logits: read(logits), ...Object.fromEntries(gradients) };
  tf.dispose([value, grads, logits]);
  policy.dispose();
  return all;
}

/** Logits of rows that are added, removed and extended beyond the ends of blocks, after every change. */
function decodedLogits(): Float32Array {
  const policy = createTransformer(size, vocabulary, 5);
  const prompts = [3, 48, 70, 90].map((length, i) => Int32Array.from({ length }, (_, t) => (t * (i + 2)) % 7));
  const store = policy.decode(padPrompts(prompts, 90, 0), Int32Array.of(0, 1, 2, 3), 60) as RefillableDecoder;
  const decoder = store.select(Int32Array.of(1, 3, 0, 0));
  const all: number[] = [];
  const read = (from: Decoder, rows: number[]) => {
    const values = from.logits.dataSync<'float32'>();
    for (const row of rows) all.push(...values.subarray(row * vocabulary.size, (row + 1) * vocabulary.size));
  };
  for (let t = 0; t < 50; t++) {
    decoder.append(Int32Array.of(t % 7, (t + 1) % 7, t < 7 ? t : -1, (3 * t) % 7));
    read(decoder, t < 7 ? [0, 1, 2, 3] : [0, 1, 3]);
  }
  decoder.replace(Int32Array.of(2, 1), store, Int32Array.of(2, 0));
  read(decoder, [0, 1, 2, 3]);
  const fewer = decoder.select(Int32Array.of(2, 1));
  for (let t = 0; t < 30; t++) {
    fewer.append(Int32Array.of(t % 5, t % 3));
    read(fewer, [0, 1]);
  }
  for (const own of [store, decoder, fewer, policy]) own.dispose();
  return Float32Array.from(all);
}

before(() => startBackend('cpu'));
afterEach(() => {
  for (const kernelName of [...Object.keys(primitives), 'groupgrad.decodeAttention']) {
    if (tf.getKernel(kernelName, 'cpu')) tf.unregisterKernel(kernelName, 'cpu');
  }
});

test('decoding uses its fused kernel, which writes the cache in place', () => {
  const composed = decodedLogits();
  register('groupgrad.decodeAttention', decodeAttention);
  const before = tf.memory().numTensors;
  calls.clear();
  assertArray(decodedLogits(), composed, 1e-5, 'logits');
  assert.equal(calls.get('groupgrad.decodeAttention'), size.layers * 80);
  assert.equal(tf.memory().numTensors, before);
});

test('every primitive uses the fused kernels of its name, forward and backward', () => {
  const composed = logitsAndGradients(false);
  for (const name of ofModel) register(name);
  for (const recompute of [false, true]) {
    calls.clear();
    const fused = logitsAndGradients(recompute);
    assert.deepEqual([...calls.keys()].sort(), ofModel.sort());
    for (const [name, values] of Object.entries(composed)) assertArray(fused[name], values, 1e-5, name);
  }
});

/** Values and all gradients of linear layers with what they may have. */
function linearLayers(): Record<string, Float32Array> {
  const draw = (seed: number, rows: number, columns: number) =>
    tf.tensor2d(
      Float32Array.from({ length: rows * columns }, (_, i) => Math.sin(1.7 * i + seed)),
      [rows, columns],
    );
  const results: Record<string, Float32Array> = {};
  for (const inputsFirst of [false, true]) {
    for (const [hasBias, rank] of [
      [true, 0],
      [false, 3],
      [true, 5],
    ] as const) {
      tf.tidy(() => {
        const weight = inputsFirst ? draw(1, 7, 9) : draw(1, 9, 7);
        const bias = hasBias ? tf.reshape<tf.Rank.R1>(draw(2, 1, 9), [9]) : undefined;
        const adapter = rank > 0 ? { a: draw(3, rank, 7), b: draw(4, 9, rank), scale: 0.3 } : undefined;
        const layer = linear(draw(5, 11, 7), { weight, inputsFirst, bias, adapter }, forget);
        const dy = draw(6, 11, 9);
        for (const wanted of ['x', 'weight', 'bias', 'a', 'b', 'all']) {
          const gradients = layer.backward(dy, (name) => wanted === 'all' || name === wanted);
          for (const [name, gradient] of Object.entries({ value: layer.value, ...gradients })) {
            results[`${inputsFirst} ${hasBias} ${rank} ${wanted} ${name}`] = gradient.dataSync<'float32'>().slice();
          }
        }
      });
    }
  }
  return results;
}

test('so do linear layers with biases and adapters, each gradient only where it is wanted', () => {
  const composed = linearLayers();
  for (const name of ofLinear) register(name);
  calls.clear();
  const fused = linearLayers();
  assert.deepEqual([...calls.keys()].sort(), ofLinear);
  assert.deepEqual(Object.keys(fused).sort(), Object.keys(composed).sort());
  for (const [name, values] of Object.entries(composed)) assertArray(fused[name], values, 1e-5, name);
});

function updated(): Float32Array[] {
  const variables = { a: tf.variable(tf.tensor2d([1, -2, 3, 0.5], [2, 2])), b: tf.variable(tf.tensor1d([4, -1])) };
  const settings: OptimizerSettings = {
    learningRate: 0.1,
    schedule: 'constant',
    warmupSteps: 0,
    betas: [0.9, 0.99],
    epsilon: 1e-8,
    weightDecay: 0.1,
    maxGradientNorm: 1,
    totalSteps: null,
  };
  const optimizer = new AdamW(variables, settings);
  const norms: number[] = [];
  for (const factor of [1, -0.5, 3]) {
    tf.tidy(() => {
      const gradients = { a: tf.mul(variables.a, factor), b: tf.tensor1d([0.25 * factor, factor]) };
      norms.push(globalNorm(Object.values(gradients)));
      optimizer.update(gradients, 0.7);
    });
  }
  const tensors = [variables, optimizer.means, optimizer.squares].flatMap((own) => Object.values(own));
  const values = [Float32Array.from(norms), ...tensors.map((tensor) => tensor.dataSync<'float32'>().slice())];
  optimizer.dispose();
  tf.dispose(variables);
  return values;
}

test('so do the optimizer and the norm of the gradient', () => {
  const composed = updated();
  for (const name of ofOptimizer) register(name);
  calls.clear();
  const fused = updated();
  assert.deepEqual([...calls].sort(), [
    ['groupgrad.adamW', 6],
    ['groupgrad.globalNorm', 3],
  ]);
  composed.forEach((values, i) => {
    assert.ok(values.every(Number.isFinite));
    assertArray(fused[i], values, 1e-6, `tensor ${i}`);
  });
});
