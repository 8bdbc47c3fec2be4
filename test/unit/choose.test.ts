// Choosing tokens: the same choices whether probabilities are read as a whole or in blocks.

import assert from 'node:assert/strict';
import test, { before, describe } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { startBackend } from '../../src/backend/backend.js';
import { normal } from '../../src/base/random.js';
import { chooseTokens } from '../../src/rollout/choose.js';
import { slowBackend } from '../support/sets.js';

/** Read as a whole; 40 blocks of 50; 29 of 1733; a prime, which has no blocks. */
const vocabularies = [7, 2000, 50257, 1031];

/**
 * A uniform number may fall on either side of a border between tokens by the rounding of the sums before it: float32
 * probabilities (exp and division, 3 roundings each) and totals of blocks, all at most 1.
 */
const border = 2e-6;

for (const backend of ['cpu', 'wasm'] as const) {
  describe(`choosing tokens on ${backend}`, { skip: slowBackend(backend) }, () => {
    before(() => startBackend(backend));

    for (const vocabulary of vocabularies) {
      for (const temperature of [1, 0.7]) {
        test(`a uniform number chooses the token whose interval contains it, V = ${vocabulary}, temperature ${temperature}`, () => {
          const uniforms = [0, 1e-9, 0.2, 0.5, 0.77, 0.999999, 1 - 2 ** -53];
          const rows = uniforms.map((_, row) => logitsOf(vocabulary, row));
          const { tokens, probabilities } = choose(rows, temperature, Float64Array.from(uniforms));
          for (const [row, uniform] of uniforms.entries()) {
            const exact = softmax(rows[row], temperature);
            const before = exact.slice(0, tokens[row]).reduce((a, b) => a + b, 0);
            assert.ok(
              before - border <= uniform,
              `row ${row}: ${before} before token ${tokens[row]}, uniform ${uniform}`,
            );
            assert.ok(
              uniform <= before + exact[tokens[row]] + border,
              `row ${row}: token ${tokens[row]}, uniform ${uniform}`,
            );
            assert.ok(Math.abs(probabilities[row] - exact[tokens[row]]) <= 1e-5 * exact[tokens[row]], `row ${row}`);
          }
        });
      }

      test(`without uniform numbers the most likely token is chosen, the first of several, V = ${vocabulary}`, () => {
        const rows = [0, 1, 2].map((row) => logitsOf(vocabulary, row));
        const [first, last] = [3, vocabulary - 1];
        for (const place of [first, last]) rows[1][place] = 9;
        rows[2][last] = 9;
        const { tokens } = choose(rows, 1);
        assert.deepEqual([...tokens], [rows[0].indexOf(Math.max(...rows[0])), first, last]);
      });

      test(`tokens with probability 0 are not drawn, V = ${vocabulary}`, () => {
        const only = Math.floor(0.6 * vocabulary);
        const row = new Float32Array(vocabulary).fill(-Infinity);
        row[only] = 0;
        const uniforms = Float64Array.of(0, 0.5, 1 - 2 ** -53);
        const { tokens, probabilities } = choose([row, row, row], 1, uniforms);
        assert.deepEqual([...tokens], [only, only, only]);
        assert.deepEqual([...probabilities], [1, 1, 1]);
      });

      test(`ids that are not allowed are not chosen, but count in the softmax, V = ${vocabulary}`, () => {
        const allowed = Math.floor(0.7 * vocabulary);
        const row = logitsOf(vocabulary, 0);
        // Most of the probability is on ids that are not allowed.
        row.fill(9, allowed);
        const all = softmax(row, 1);
        const kept = all.slice(0, allowed).reduce((sum, value) => sum + value, 0);
        const uniforms = Float64Array.from({ length: 40 }, (_, i) => (i + 0.5) / 40);
        const { tokens, probabilities } = choose(
          [...uniforms].map(() => row),
          1,
          uniforms,
          allowed,
        );
        uniforms.forEach((uniform, i) => {
          const until = (end: number) => all.slice(0, end).reduce((sum, value) => sum + value, 0) / kept;
          assert.ok(tokens[i] < allowed);
          assert.ok(until(tokens[i]) <= uniform + 1e-5 && uniform - 1e-5 <= until(tokens[i] + 1), `uniform ${uniform}`);
          assert.ok(Math.abs(probabilities[i] / all[tokens[i]] - 1) < 1e-4);
        });
        const best = choose([row], 1, undefined, allowed);
        assert.equal(best.tokens[0], all.indexOf(Math.max(...all.slice(0, allowed))));
      });

      test(`a row with a non-finite logit has no probabilities, and other rows are unaffected, V = ${vocabulary}`, () => {
        for (const bad of [NaN, Infinity]) {
          const rows = [0, 1, 2].map((row) => logitsOf(vocabulary, row));
          rows[1][vocabulary - 2] = bad;
          for (const uniforms of [undefined, Float64Array.of(0.1, 0.2, 0.3)]) {
            const { probabilities } = choose(rows, 1, uniforms);
            assert.deepEqual([...probabilities].map(Number.isNaN), [false, true, false]);
          }
        }
      });
    }

    test('leaves no tensor behind', () => {
      const logits = tf.tensor2d(logitsOf(2000, 0), [1, 2000]);
      const { numTensors } = tf.memory();
      chooseTokens(logits, 0.5, { uniforms: Float64Array.of(0.5) });
      assert.equal(tf.memory().numTensors, numTensors);
      logits.dispose();
    });
  });
}

function choose(rows: Float32Array[], temperature: number, uniforms?: Float64Array, allowed?: number) {
  const all = new Float32Array(rows.length * rows[0].length);
  for (const [i, row] of rows.entries()) all.set(row, i * row.length);
  const logits = tf.tensor2d(all, [rows.length, rows[0].length]);
  try {
    return chooseTokens(logits, temperature, { uniforms, allowed });
  } finally {
    logits.dispose();
  }
}

const drawn = new Map<string, Float32Array>();

/** A copy of what is drawn once. */
function logitsOf(vocabulary: number, row: number): Float32Array {
  const key = `${vocabulary}, ${row}`;
  const stream = { seed: 3, purpose: 'weights', index: row } as const;
  if (!drawn.has(key))
    drawn.set(
      key,
      new Float32Array(vocabulary).map((_, v) => 2 * normal(stream, v)),
    );
  return drawn.get(key)!.slice();
}

function softmax(logits: Float32Array, temperature: number): Float64Array {
  const max = Math.max(...logits);
  const weights = Float64Array.from(logits, (logit) => Math.exp((logit - max) / temperature));
  const total = weights.reduce((a, b) => a + b);
  return weights.map((weight) => weight / total);
}
