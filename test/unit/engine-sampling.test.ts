// Drawing tokens by the backend's own kernel: the tokens, log-probs and kept ids of the operations that other backends compose it of,
// to the last bit, whatever the batch, the place of a row in it, and the threads.

import assert from 'node:assert/strict';
import test, { before, describe } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { composedDraw, type Drawing, type Drawn, drawTokens } from '../../src/rollout/draw.js';
import type { Cut } from '../../src/rollout/engine.js';
import {
  engine as api,
  instructionSets as sets,
  noEngine as skip,
  slowInstructionSet,
  useEngine,
} from '../support/engine.js';
import { type Random, seeded } from '../support/random.js';

/** Read whole; blocks; a prime; longer than a piece of a sum, with blocks and without. */
const vocabularies = [1, 7, 1031, 2000, 50_257, 65_537, 70_000];

const cuts: Record<string, Cut> = {
  none: {},
  'top-k': { topK: 5 },
  'top-k of one': { topK: 1 },
  'top-k of more than there are': { topK: 10 ** 6 },
  'top-p': { topP: 0.8 },
  'top-p of little': { topP: 1e-9 },
  'top-p of nearly all': { topP: 1 - 1e-12 },
  'min-p': { minP: 0.05 },
  'min-p of the most likely': { minP: 1 },
  'all of them': { topK: 40, topP: 0.9, minP: 0.01 },
  'top-p and min-p': { topP: 0.95, minP: 0.02 },
};

function drawLogits(random: Random, rows: number, vocabulary: number): Float32Array {
  const values = new Float32Array(rows * vocabulary);
  for (let row = 0; row < rows; row++) {
    const own = values.subarray(row * vocabulary, (row + 1) * vocabulary);
    const spread = random.pick([0, 0.01, 1, 4, 30]);
    // Rounded ones have equals.
    const rounds = random.chance(0.3);
    own.forEach((_, v) => {
      const value = spread * random.normal();
      own[v] = rounds ? Math.round(value) : value;
    });
    if (random.chance(0.2)) for (let i = 0; i < 3; i++) own[random.integer(0, vocabulary - 1)] = -Infinity;
    if (random.chance(0.1)) own[random.integer(0, vocabulary - 1)] = random.pick([NaN, Infinity]);
    if (random.chance(0.1)) own.fill(-Infinity, 1);
  }
  return values;
}

function drawingOf(random: Random, rows: number, vocabulary: number, cut: Cut, temperature: number): Drawing {
  const wanted = Array.from({ length: rows }, () => random.chance(0.9));
  const uniforms = Array.from({ length: rows }, () =>
    random.pick([0, random.uniform(), random.uniform(), 1 - 2 ** -53]),
  );
  const allowed = random.chance(0.5) ? vocabulary : random.integer(1, vocabulary);
  return { temperature, cut, allowed, wanted: (row) => wanted[row], uniform: (row) => uniforms[row], device: 'auto' };
}

/** What is promised of rows that are wanted. */
function results({ tokens, logProbs, kept }: Drawn, { wanted }: Drawing, first = 0): object[] {
  return Array.from(tokens, (token, i) => {
    if (!wanted(first + i)) return {};
    if (token < 0) return { token };
    return { token, logProb: Buffer.from(logProbs.slice(i, i + 1).buffer).toString('hex'), kept: kept?.[i] };
  });
}

describe('drawing tokens on the backend groupgrad', { skip }, () => {
  useEngine();

  for (const instructionSet of sets) {
    describe(instructionSet, { skip: slowInstructionSet(instructionSet) }, () => {
      before(() => api!.configureEngine({ instructionSet, threads: 2 }));

      for (const [name, cut] of Object.entries(cuts)) {
        test(`has the bits of separate operations: cut ${name}`, () => {
          const random = seeded(name.length);
          for (const vocabulary of vocabularies) {
            const isLarge = vocabulary > 10_000;
            for (const temperature of isLarge ? [random.pick([0, 0.3, 1, 1.7])] : [0, 0.3, 1, 1.7]) {
              const rows = random.integer(1, isLarge ? 3 : 9);
              const values = drawLogits(random, rows, vocabulary);
              const logits = tf.tensor2d(values, [rows, vocabulary]);
              const drawing = drawingOf(random, rows, vocabulary, cut, temperature);
              const what = `V = ${vocabulary}, temperature ${temperature}, ids below ${drawing.allowed}`;
              const wanted = results(composedDraw(logits, drawing), drawing);
              const { numTensors } = tf.memory();
              for (const threads of [1, 2]) {
                api!.configureEngine({ threads });
                assert.deepEqual(results(drawTokens(logits, drawing), drawing), wanted, what);
              }
              assert.equal(tf.memory().numTensors, numTensors, what);
              // A row by itself.
              const row = rows - 1;
              const alone = tf.tensor2d(values.slice(row * vocabulary), [1, vocabulary]);
              const own: Drawing = {
                ...drawing,
                wanted: () => drawing.wanted(row),
                uniform: () => drawing.uniform(row),
              };
              assert.deepEqual(results(drawTokens(alone, own), own), [wanted[row]], `${what}, alone`);
              tf.dispose([logits, alone]);
            }
          }
        });
      }
    });
  }

  test('reads logits where they are: neither copies them nor makes tensors', () => {
    const logits = tf.randomNormal<tf.Rank.R2>([4, 3000]);
    const read = tf.backend().readSync;
    tf.backend().readSync = () => assert.fail('logits were read');
    try {
      const drawing: Drawing = {
        temperature: 1,
        cut: { topP: 0.9 },
        allowed: 3000,
        wanted: () => true,
        uniform: () => 0.5,
        device: 'auto',
      };
      assert.equal(drawTokens(logits, drawing).tokens.length, 4);
      assert.equal(drawTokens(logits, { ...drawing, temperature: 0 }).kept, undefined);
    } finally {
      tf.backend().readSync = read;
      logits.dispose();
    }
  });

  test('log-probs come from the device that is asked for', () => {
    const logits = tf.randomNormal<tf.Rank.R2>([3, 500]);
    const drawing: Drawing = {
      temperature: 0.7,
      cut: {},
      allowed: 500,
      wanted: () => true,
      uniform: (row) => row / 3,
      device: 'reference',
    };
    const [reference, auto] = [drawTokens(logits, drawing), drawTokens(logits, { ...drawing, device: 'auto' })];
    assert.deepEqual(reference, composedDraw(logits, drawing));
    assert.deepEqual(reference.tokens, auto.tokens);
    logits.dispose();
  });

  test('a temperature that log-probs cannot have is refused by name', () => {
    const logits = tf.zeros<tf.Rank.R2>([1, 5]);
    const drawing: Drawing = {
      temperature: 1e-9,
      cut: {},
      allowed: 5,
      wanted: () => true,
      uniform: () => 0.5,
      device: 'auto',
    };
    const expected = { name: 'RangeError', message: /^temperature: expected/ };
    assert.throws(() => drawTokens(logits, drawing), expected);
    assert.throws(() => composedDraw(logits, drawing), expected);
    logits.dispose();
  });
});
