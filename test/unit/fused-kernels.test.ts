// Primitives take a fused kernel of the current backend where it has one of their names: with stand-ins on the plain backend,
// each written from what its primitive says of inputs, attributes and outputs, a model computes what the composed form does.
//
// Bound: 1e-5 of the largest value: values of order 1 through some 10 float32 sums of at most 48 terms, in another order.

import assert from 'node:assert/strict';
import test, { after, before } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { startBackend } from '../../src/backend/backend.js';
import { createTransformer } from '../../src/model/transformer.js';
import { characterVocabulary } from '../../src/text/vocabulary.js';
import { AdamW } from '../../src/train/adamw.js';
import type { OptimizerSettings } from '../../src/train/options.js';
import { globalNorm } from '../../src/train/update.js';
import { assertArray } from '../support/compare.js';
import { type Attributes, primitives } from '../support/primitives.js';

/** What was called, by name. */
const calls = new Map<string, number>();
const vocabulary = characterVocabulary('abcdef');
const size = { layers: 2, width: 16, heads: 4, keyValueHeads: 2, hidden: 24 };
const tokens = Int32Array.of(0, 0, 1, 2, 3, 4, 6, 5, 3, 3, 2, 1);
const batch = { sequences: 2, length: 6, tokens, starts: Int32Array.of(2, 0) };

function register(kernelName: string): void {
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
      return primitives[kernelName](values, shapes, attrs as Attributes).map(([data, shape]) =>
        cpu.makeTensorInfo(shape, 'float32', Float32Array.from(data)),
      );
    },
  });
}

/** Those of the model; the others are the optimiser's. */
const ofModel = Object.keys(primitives).filter((name) => !/adamW|globalNorm/.test(name));

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

before(() => startBackend('cpu'));
after(() => {
  for (const kernelName of Object.keys(primitives)) {
    if (tf.getKernel(kernelName, 'cpu')) tf.unregisterKernel(kernelName, 'cpu');
  }
});

test('every primitive computes by the fused kernels of its name, forward and backward', () => {
  const composed = logitsAndGradients(false);
  for (const name of ofModel) register(name);
  for (const recompute of [false, true]) {
    calls.clear();
    const fused = logitsAndGradients(recompute);
    assert.deepEqual([...calls.keys()].sort(), ofModel.sort());
    for (const [name, values] of Object.entries(composed)) assertArray(fused[name], values, 1e-5, name);
  }
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

test('so do the optimiser and the norm of the gradient', () => {
  const composed = updated();
  for (const name of ['groupgrad.adamW', 'groupgrad.globalNorm']) register(name);
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
