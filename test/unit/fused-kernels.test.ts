// Primitives take a fused kernel of the current backend where it has one of their names: with stand-ins on the plain backend,
// each written from what its primitive says of inputs, attributes and outputs, a model computes what the composed form does.
//
// Bound: 1e-5 of the largest value: values of order 1 through some 10 float32 sums of at most 48 terms, in another order.

import assert from 'node:assert/strict';
import test, { afterEach, before } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { startBackend } from '../../src/backend/backend.js';
import type { Decoder, RefillableDecoder } from '../../src/model/policy.js';
import { createTransformer } from '../../src/model/transformer.js';
import { padPrompts } from '../../src/rollout/sample.js';
import { characterVocabulary } from '../../src/text/vocabulary.js';
import { assertArray } from '../support/compare.js';

type Attributes = Record<string, number | boolean>;
type Rows = Float32Array;

/** What was called, by name. */
const calls = new Map<string, number>();
const vocabulary = characterVocabulary('abcdef');
const size = { layers: 2, width: 16, heads: 4, keyValueHeads: 2, hidden: 24 };
const tokens = Int32Array.of(0, 0, 1, 2, 3, 4, 6, 5, 3, 3, 2, 1);
const batch = { sequences: 2, length: 6, tokens, starts: Int32Array.of(2, 0) };

/** A kernel on arrays. */
type Compute = (
  inputs: Record<string, Rows>,
  shapes: Record<string, number[]>,
  attributes: Attributes,
) => [Rows, number[]][];

function register(kernelName: string, compute: Compute): void {
  tf.registerKernel({
    kernelName,
    backendName: 'cpu',
    kernelFunc: ({ inputs, attrs, backend }) => {
      calls.set(kernelName, (calls.get(kernelName) ?? 0) + 1);
      const cpu = backend as unknown as {
        readSync(id: object): Rows;
        makeTensorInfo(shape: number[], dtype: string, values: Rows): tf.TensorInfo;
      };
      const entries = Object.entries(inputs) as [string, tf.TensorInfo][];
      const values = Object.fromEntries(entries.map(([name, { dataId }]) => [name, cpu.readSync(dataId)]));
      const shapes = Object.fromEntries(entries.map(([name, { shape }]) => [name, shape]));
      return compute(values, shapes, attrs as Attributes).map(([data, shape]) =>
        cpu.makeTensorInfo(shape, 'float32', data),
      );
    },
  });
}

const kernels: Record<string, Compute> = {
  'groupgrad.rmsNorm': ({ x, weight }, { x: [rows, width] }, { epsilon, offset }) => {
    const scale = Float32Array.from({ length: rows }, (_, n) => {
      const row = x.subarray(n * width, (n + 1) * width);
      return 1 / Math.sqrt(row.reduce((sum, v) => sum + v * v, 0) / width + Number(epsilon));
    });
    const value = x.map((v, i) => v * scale[Math.floor(i / width)] * (weight[i % width] + Number(offset)));
    return [
      [value, [rows, width]],
      [scale, [rows, 1]],
    ];
  },
  'groupgrad.rmsNormBackward': ({ dy, x, weight, scale }, { x: [rows, width] }, { offset, wantsWeight }) => {
    const dx = new Float32Array(rows * width);
    const dWeight = new Float32Array(width);
    for (let n = 0; n < rows; n++) {
      const unit = (d: number) => x[n * width + d] * scale[n];
      const dUnit = (d: number) => dy[n * width + d] * (weight[d] + Number(offset));
      let along = 0;
      for (let d = 0; d < width; d++) along += (dUnit(d) * unit(d)) / width;
      for (let d = 0; d < width; d++) {
        dx[n * width + d] = (dUnit(d) - unit(d) * along) * scale[n];
        dWeight[d] += dy[n * width + d] * unit(d);
      }
    }
    return wantsWeight
      ? [
          [dx, [rows, width]],
          [dWeight, [width]],
        ]
      : [[dx, [rows, width]]];
  },
  'groupgrad.rotary': ({ x, cos, sin }, { x: shape, cos: [count, headSize] }, { width, inverse }) => {
    const half = Number(width) / 2;
    const value = x.map((v, i) => {
      const place = i % headSize;
      if (place >= Number(width)) return v;
      const row = (Math.floor(i / shape[1]) % count) * headSize + place;
      const other = place < half ? -x[i + half] : x[i - half];
      return v * cos[row] + (inverse ? -1 : 1) * other * sin[row];
    });
    return [[value, shape]];
  },
  'groupgrad.gatedUnit': ({ gate, up }, { gate: shape }) => [
    [gate.map((g, i) => (g / (1 + Math.exp(-g))) * up[i]), shape],
  ],
  'groupgrad.gatedUnitBackward': ({ dy, gate, up }, { gate: shape }) => {
    const sigmoid = gate.map((g) => 1 / (1 + Math.exp(-g)));
    const slope = (i: number) => sigmoid[i] * (1 + gate[i] * (1 - sigmoid[i]));
    return [
      [dy.map((d, i) => d * up[i] * slope(i)), shape],
      [dy.map((d, i) => d * gate[i] * sigmoid[i]), shape],
    ];
  },
  'groupgrad.attention': (inputs, shapes, attributes) => {
    const { heads, rows, headSize, probabilities } = scores(inputs, shapes, attributes);
    const mixed = new Float32Array(rows * heads * headSize);
    const logSumExp = new Float32Array(rows * heads);
    probabilities((row, head, other, sharedHead, p, total) => {
      logSumExp[row * heads + head] = total;
      const values = shapes.value[1];
      for (let d = 0; d < headSize; d++) {
        mixed[(row * heads + head) * headSize + d] += p * inputs.value[other * values + sharedHead * headSize + d];
      }
    });
    return [
      [mixed, [rows, heads * headSize]],
      [logSumExp, [rows, heads]],
    ];
  },
  'groupgrad.attentionBackward': (inputs, shapes, attributes) => {
    const { heads, rows, headSize, probabilities } = scores(inputs, shapes, attributes);
    const { dy, query, key, value, mixed } = inputs;
    const width = shapes.key[1];
    const d = {
      query: new Float32Array(query.length),
      key: new Float32Array(key.length),
      value: new Float32Array(value.length),
    };
    probabilities((row, head, other, sharedHead, p) => {
      const [at, from] = [(row * heads + head) * headSize, other * width + sharedHead * headSize];
      let slope = 0;
      for (let i = 0; i < headSize; i++) slope += dy[at + i] * (value[from + i] - mixed[at + i]);
      for (let i = 0; i < headSize; i++) {
        d.value[from + i] += p * dy[at + i];
        d.query[at + i] += p * slope * Number(attributes.scale) * key[from + i];
        d.key[from + i] += p * slope * Number(attributes.scale) * query[at + i];
      }
    });
    return [
      [d.query, [rows, heads * headSize]],
      [d.key, shapes.key],
      [d.value, shapes.value],
    ];
  },
};

/** Written from the contract in kv-cache.ts. */
const decodeAttention: Compute = (inputs, shapes, attributes) => {
  const [heads, keyValueHeads, scale, softCap, window] = ['heads', 'keyValueHeads', 'scale', 'softCap', 'window'].map(
    (name) => Number(attributes[name]),
  );
  const { query, key, value, lengths } = inputs;
  const [rows, width] = shapes.query;
  const headSize = width / heads;
  const mixed = new Float32Array(rows * width);
  /** The `size` numbers of a position, in the memory of the cache. */
  const at = (name: string, row: number, head: number, position: number) => {
    const column = (row * keyValueHeads + head) * 48 + (position % 48);
    return inputs[`${name}${Math.floor(position / 48)}`].subarray(column * headSize, (column + 1) * headSize);
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

type Visit = (row: number, head: number, other: number, sharedHead: number, p: number, logSumExp: number) => void;

/** Visits every pair that may see one another, with its probability. */
function scores(
  { query, key, starts }: Record<string, Rows>,
  shapes: Record<string, number[]>,
  attributes: Attributes,
) {
  const [sequences, heads, keyValueHeads, scale] = ['sequences', 'heads', 'keyValueHeads', 'scale'].map((name) =>
    Number(attributes[name]),
  );
  const [rows, width] = shapes.query;
  const headSize = width / heads;
  const length = rows / sequences;
  const probabilities = (visit: Visit) => {
    for (let row = 0; row < rows; row++) {
      const [b, t] = [Math.floor(row / length), row % length];
      for (let head = 0; head < heads; head++) {
        const sharedHead = Math.floor((head * keyValueHeads) / heads);
        // A row of padding sees itself, so that its values stay finite.
        const first = Math.min(starts[b], t);
        const all = Array.from({ length: t - first + 1 }, (_, i) => {
          const other = b * length + first + i;
          let dot = 0;
          for (let d = 0; d < headSize; d++) {
            dot += query[row * width + head * headSize + d] * key[other * shapes.key[1] + sharedHead * headSize + d];
          }
          return { other, score: dot * scale };
        });
        const largest = Math.max(...all.map(({ score }) => score));
        const total = largest + Math.log(all.reduce((sum, { score }) => sum + Math.exp(score - largest), 0));
        for (const { other, score } of all) visit(row, head, other, sharedHead, Math.exp(score - total), total);
      }
    }
  };
  return { heads, rows, headSize, probabilities };
}

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

/** Logits of rows that come, go and grow over the ends of blocks, after every change. */
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
  for (const kernelName of [...Object.keys(kernels), 'groupgrad.decodeAttention']) {
    if (tf.getKernel(kernelName, 'cpu')) tf.unregisterKernel(kernelName, 'cpu');
  }
});

test('decoding computes by its fused kernel, which writes the cache in place', () => {
  const composed = decodedLogits();
  register('groupgrad.decodeAttention', decodeAttention);
  const before = tf.memory().numTensors;
  calls.clear();
  assertArray(decodedLogits(), composed, 1e-5, 'logits');
  assert.equal(calls.get('groupgrad.decodeAttention'), size.layers * 80);
  assert.equal(tf.memory().numTensors, before);
});

test('every primitive computes by the fused kernels of its name, forward and backward', () => {
  const composed = logitsAndGradients(false);
  for (const [name, compute] of Object.entries(kernels)) register(name, compute);
  for (const recompute of [false, true]) {
    calls.clear();
    const fused = logitsAndGradients(recompute);
    assert.deepEqual([...calls.keys()].sort(), Object.keys(kernels).sort());
    for (const [name, values] of Object.entries(composed)) assertArray(fused[name], values, 1e-5, name);
  }
});
