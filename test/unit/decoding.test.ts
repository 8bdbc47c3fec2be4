// A row of a decoder computes what a full forward pass over that row computes, whatever its neighbours: bit for bit on
// the backends whose products compute each row independently.

import assert from 'node:assert/strict';
import test, { before, describe } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { startBackend } from '../../src/backend/backend.js';
import { loadAddon } from '../../src/devices/load.js';
import { columnStep } from '../../src/model/attention.js';
import { CachedDecoder } from '../../src/model/decoder.js';
import { batchContext, forward, logitsOf } from '../../src/model/model.js';
import type { ModelShape, ModelWeights } from '../../src/model/parameters.js';
import type { SequenceBatch } from '../../src/model/policy.js';
import { createTransformer } from '../../src/model/transformer.js';
import { padPrompts } from '../../src/rollout/sample.js';
import { characterVocabulary } from '../../src/text/vocabulary.js';
import { slowBackend } from '../support/sets.js';

const vocabulary = { ...characterVocabulary('abcdef'), size: 11 };
const variants: Record<string, { heads: number; keyValueHeads: number; change?: Partial<ModelShape> }> = {
  'a separate head for each': { heads: 2, keyValueHeads: 2 },
  'one head of keys': { heads: 4, keyValueHeads: 1 },
  'a window and a cap in the first layer': {
    heads: 4,
    keyValueHeads: 2,
    change: {
      layers: [
        { rotary: 0, window: 50 },
        { rotary: 0, window: null },
      ],
      attention: { scale: 0.3, softCap: 2 },
    },
  },
};

/** Around the ends of blocks of 48, with a prompt that fills one completely. */
const promptLengths = [1, 47, 48, 49, 100, 131];
const prompts = promptLengths.map((length, i) => tokensOf(length, i));

/** Tokens below 11, different for each `seed`. */
function tokensOf(length: number, seed: number): Int32Array {
  return Int32Array.from({ length }, (_, t) => Math.floor(11 * Math.abs(Math.sin(37 * t + 11 * seed + 1))) % 11);
}

function modelOf({ heads, keyValueHeads, change }: (typeof variants)[string]): { model: ModelWeights; free(): void } {
  const policy = createTransformer({ layers: 2, width: 16, hidden: 24, heads, keyValueHeads }, vocabulary, 3);
  const shape: ModelShape = {
    hiddenSize: 16,
    intermediateSize: 24,
    heads,
    keyValueHeads,
    headSize: 16 / heads,
    layers: [
      { rotary: 0, window: null },
      { rotary: 0, window: null },
    ],
    norm: { epsilon: 1e-5, offset: 0 },
    queryKeyNorms: false,
    postNorms: false,
    biases: { queryKeyValue: false, output: false, feedForward: false },
    activation: 'silu',
    fused: false,
    attention: { scale: 0.5, softCap: null },
    finalSoftCap: null,
    embeddingScale: 1,
    tiedEmbeddings: true,
    ...change,
  };
  const frequencies = Float64Array.from({ length: 8 / heads }, (_, i) => 10_000 ** (-(i * heads) / 8));
  const model: ModelWeights = {
    shape,
    frequencies: () => ({ frequencies, attentionFactor: 1 }),
    inputsFirst: true,
    weights: policy.variables,
    adapters: {},
    trained: new Set(),
    recompute: false,
  };
  return { model, free: () => policy.dispose() };
}

/** Logits [positions, V] of each sequence, from one pass over all of them, which begin at position 0. */
function fullPass(model: ModelWeights, sequences: readonly Int32Array[], extra = 0): Float32Array[] {
  const longest = Math.max(...sequences.map(({ length }) => length));
  const length = Math.ceil((longest + extra) / columnStep) * columnStep;
  const tokens = new Int32Array(sequences.length * length).fill(7);
  sequences.forEach((own, b) => {
    tokens.set(own, b * length);
  });
  const batch: SequenceBatch = {
    sequences: sequences.length,
    length,
    tokens,
    starts: new Int32Array(sequences.length),
  };
  const logits = tf.tidy(() =>
    logitsOf(model, forward(model, tokens, batchContext(model, batch)), { sequences: sequences.length, from: 0 }),
  );
  const values = logits.dataSync<'float32'>().slice();
  logits.dispose();
  return sequences.map((own, b) => values.subarray(b * length * 11, (b * length + own.length) * 11));
}

function rowOf(logits: tf.Tensor2D, row: number): Float32Array {
  return logits.dataSync<'float32'>().slice(row * 11, (row + 1) * 11);
}

/** Appends each row's own tokens and compares with the full pass at every length; −1 after a row's end. */
function follow(
  decoder: CachedDecoder,
  rows: readonly { prompt: Int32Array; tokens: Int32Array }[],
  expected: Float32Array[],
) {
  const steps = Math.max(...rows.map(({ tokens }) => tokens.length));
  for (let t = 0; t <= steps; t++) {
    if (t > 0) decoder.append(Int32Array.from(rows, ({ tokens }) => tokens[t - 1] ?? -1));
    rows.forEach(({ prompt, tokens }, row) => {
      if (t > tokens.length) return;
      const column = prompt.length + t - 1;
      const own = expected[row].subarray(column * 11, (column + 1) * 11);
      assert.deepEqual(rowOf(decoder.logits, row), own, `row ${row} (${prompt.length} tokens) after ${t} more`);
    });
  }
}

const loaded = loadAddon();
if (loaded.addon) await import('../../src/backend.js');
const backends = {
  cpu: () => startBackend('cpu'),
  wasm: () => startBackend('wasm'),
  groupgrad: () => tf.setBackend('groupgrad'),
};
for (const [backend, start] of Object.entries(backends)) {
  const skip = slowBackend(backend) || (backend === 'groupgrad' && !loaded.addon && loaded.reason);
  describe(`decoding on ${backend}`, { skip }, () => {
    before(async () => void (await start()));

    // Loops in JavaScript are slow.
    for (const [name, variant] of Object.entries(variants).slice(backend === 'cpu' ? 2 : 0)) {
      test(`gives the bits of a full forward pass over each row, ${name}`, () => {
        const { model, free } = modelOf(variant);
        const rows = prompts.map((prompt, i) => ({ prompt, tokens: tokensOf(3 + 8 * ((i * 5) % 7), 20 + i) }));
        const whole = rows.map(({ prompt, tokens }) => Int32Array.of(...prompt, ...tokens));
        const alone = whole.map((sequence) => fullPass(model, [sequence])[0]);
        assert.deepEqual(fullPass(model, whole), alone);
        assert.deepEqual(fullPass(model, whole, 60), alone);
        const decoder = CachedDecoder.start(model, padPrompts(prompts, 140, 4), Int32Array.from(prompts.keys()), 51);
        follow(decoder, rows, alone);
        decoder.dispose();
        free();
      });

      test(`a row that replaces another continues as if it were alone, ${name}`, () => {
        const { model, free } = modelOf(variant);
        const before = tf.memory().numTensors;
        const store = CachedDecoder.start(model, padPrompts(prompts, 131, 0), Int32Array.from(prompts.keys()), 60);
        const decoder = store.select(Int32Array.of(4, 0, 3, 5));
        for (let t = 0; t < 50; t++) decoder.append(Int32Array.of(t % 11, (t + 3) % 11, t < 9 ? 1 : -1, 2));
        decoder.replace(Int32Array.of(2, 0), store, Int32Array.of(2, 1));
        const given = [prompts[1], prompts[2]].map((prompt, i) => ({ prompt, tokens: tokensOf(55, 40 + i) }));
        const expected = given.map(({ prompt, tokens }) => fullPass(model, [Int32Array.of(...prompt, ...tokens)])[0]);
        const chosen = decoder.select(Int32Array.of(0, 2));
        follow(chosen, given, expected);
        for (const own of [chosen, decoder, store]) own.dispose();
        assert.equal(tf.memory().numTensors, before);
        free();
      });
    }

    test("a row accepts as many tokens as fit, and rows of another policy's decoder are rejected", () => {
      const [one, other] = [modelOf(variants['one head of keys']), modelOf(variants['one head of keys'])];
      const batch = padPrompts(prompts.slice(0, 2), 47, 0);
      const decoder = CachedDecoder.start(one.model, batch, Int32Array.of(0, 1), 2);
      decoder.append(Int32Array.of(1, -1));
      decoder.append(Int32Array.of(1, -1));
      assert.throws(() => decoder.append(Int32Array.of(1, -1)), {
        name: 'RangeError',
        message: 'tokens[0]: expected none in a row of 3 tokens, which is full, got 1',
      });
      decoder.append(Int32Array.of(-1, 1));
      const foreign = CachedDecoder.start(other.model, batch, Int32Array.of(0, 1), 2);
      assert.throws(() => decoder.replace(Int32Array.of(0), foreign, Int32Array.of(0)), {
        name: 'TypeError',
        message: 'source: expected a decoder of the same policy, got another',
      });
      for (const own of [decoder, foreign]) own.dispose();
      for (const { free } of [one, other]) free();
    });
  });
}
