// The transformer policy and its sampling, on the installed tfjs backends without native code.
//
// Results computed in another order are compared with a bound of 2e-5 of the largest value: values of order 1
// go through about 10 sums of at most 32 terms in float32 (6e-8 each, relative to the terms).

import assert from 'node:assert/strict';
import test, { before, describe } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { startBackend } from '../../src/backend/backend.js';
import type { Policy, SequenceBatch } from '../../src/model/policy.js';
import { createTransformer, type TransformerConfig } from '../../src/model/transformer.js';
import type { Completion, RolloutRequest, SamplingSettings } from '../../src/rollout/engine.js';
import { padPrompts, policySampler } from '../../src/rollout/sample.js';
import { characterVocabulary } from '../../src/text/vocabulary.js';
import { assertArray } from '../support/compare.js';
import { type PlainWeights, plainLogits } from '../support/plain-transformer.js';
import { placesOf, slowBackend } from '../support/sets.js';

const bound = 2e-5;
const size = { layers: 2, width: 16, heads: 2, keyValueHeads: 2, hidden: 24 };
const vocabulary = characterVocabulary('abcdef');
const attentions = {
  'heads with keys of their own': {},
  'heads that share keys': { heads: 4, keyValueHeads: 2 },
};
const prompts = [
  [1, 2, 3, 4, 5],
  [6, 5],
  [3, 3, 3],
].map((tokens) => Int32Array.from(tokens));
const options = { maxTokens: 5, temperature: 0.8, seed: 11, step: 4 };

const cases = (['cpu', 'wasm'] as const).flatMap((backend) =>
  Object.entries(attentions).map(([name, change]) => [backend, name, { ...size, ...change }] as const),
);
for (const [backend, attention, own] of cases) {
  describe(`the transformer on ${backend}, ${attention}`, { skip: slowBackend(backend) }, () => {
    const config: TransformerConfig = { ...own, vocabulary: vocabulary.size };
    let policy: Policy;
    before(async () => {
      await startBackend(backend);
      policy = createTransformer(own, vocabulary, 5);
    });

    test('computes the same as plain float64 loops', () => {
      const weights = plainWeights(policy);
      for (const tokens of prompts) {
        const expected = plainLogits(config, weights, [...tokens]).flat();
        assertArray(read(policy.logits(unpadded(tokens))), expected, bound, 'logits');
      }
    });

    test('its gradient agrees with finite differences of the float64 loops', () => {
      const tokens = prompts[0];
      const from = 2;
      const coefficients = Float32Array.from({ length: (tokens.length - from) * config.vocabulary }, (_, i) =>
        Math.sin(3 * i),
      );
      const names = Object.keys(policy.variables);
      const { value, grads } = tf.variableGrads(
        () => weightedSum(policy.logits(unpadded(tokens), from), coefficients),
        Object.values(policy.variables),
      );
      const weights = plainWeights(policy);
      const objective = () =>
        plainLogits(config, weights, [...tokens])
          .slice(from)
          .flat()
          .reduce((sum, x, i) => sum + x * coefficients[i], 0);
      for (const name of names) {
        const gradient = grads[policy.variables[name].name].dataSync();
        const all = weights[name];
        const places = placesOf(all.length, 5);
        const expected = places.map((i) => {
          const step = 1e-5;
          const weight = all[i];
          all[i] = weight + step;
          const above = objective();
          all[i] = weight - step;
          const below = objective();
          all[i] = weight;
          return (above - below) / (2 * step);
        });
        assertArray(
          places.map((i) => gradient[i]),
          expected,
          bound,
          name,
        );
      }
      tf.dispose([value, grads]);
    });

    test('a large vocabulary, whose rows are gathered, computes and learns the same as the float64 loops', () => {
      const large = { ...vocabulary, size: 1500 };
      const small = { layers: 1, width: 4, heads: 2, keyValueHeads: 2, hidden: 4 };
      const gathered = createTransformer(small, large, 8);
      const tokens = Int32Array.of(7, 1499, 3, 7);
      const shape = { ...small, vocabulary: large.size };
      const weights = plainWeights(gathered);
      assertArray(
        read(gathered.logits(unpadded(tokens))),
        plainLogits(shape, weights, [...tokens]).flat(),
        bound,
        'logits',
      );
      const coefficients = Float32Array.from({ length: 4 * large.size }, (_, i) => Math.sin(3 * i));
      const { value, grads } = tf.variableGrads(
        () => weightedSum(gathered.logits(unpadded(tokens)), coefficients),
        Object.values(gathered.variables),
      );
      const gradient = grads[gathered.variables.embedding.name].dataSync();
      const objective = () =>
        plainLogits(shape, weights, [...tokens])
          .flat()
          .reduce((sum, x, i) => sum + x * coefficients[i], 0);
      // Rows of a token that occurs twice, of one that occurs once, of the last, and of one that does not occur.
      const places = [7, 3, 1499, 20].flatMap((token) => [0, 1, 2, 3].map((d) => 4 * token + d));
      const expected = places.map((place) => {
        const before = weights.embedding[place];
        const step = 1e-5;
        weights.embedding[place] = before + step;
        const above = objective();
        weights.embedding[place] = before - step;
        const below = objective();
        weights.embedding[place] = before;
        return (above - below) / (2 * step);
      });
      assertArray(
        places.map((place) => gradient[place]),
        expected,
        bound,
        'embedding',
      );
      tf.dispose([value, grads]);
      gathered.dispose();
    });

    test('a later token does not change earlier logits', () => {
      const tokens = Int32Array.from([1, 2, 3, 4]);
      const changed = Int32Array.from([1, 2, 3, 6]);
      const rows = (given: Int32Array) => read(policy.logits(unpadded(given))).subarray(0, 3 * config.vocabulary);
      assert.deepEqual(rows(changed), rows(tokens));
    });

    test('left padding changes nothing, whatever it contains', () => {
      const padded = padPrompts(prompts, 6, 0);
      const other = { ...padded, tokens: padPrompts(prompts, 6, 4).tokens };
      const logits = read(policy.logits(padded));
      const same = read(policy.logits(other));
      prompts.forEach((tokens, b) => {
        const rows = [(b * 6 + padded.starts[b]) * config.vocabulary, (b + 1) * 6 * config.vocabulary] as const;
        assertArray(logits.subarray(...rows), read(policy.logits(unpadded(tokens))), bound, `prompt ${b}`);
        assert.deepEqual(same.subarray(...rows), logits.subarray(...rows));
      });
    });

    test('`from` selects the last positions', () => {
      const batch = padPrompts(prompts, 6, 0);
      const all = read(policy.logits(batch));
      const last = read(policy.logits(batch, 4));
      const expected = prompts.flatMap((_, b) => [...all.subarray((b * 6 + 4) * 7, (b + 1) * 6 * 7)]);
      assertArray(last, expected, bound, 'last columns');
    });

    test('decoding with the cache gives the logits of a full forward pass', () => {
      const rows = Int32Array.from([0, 0, 2, 1]);
      const appended = [
        [1, 2, 3, 4],
        [6, 6, 1, 0],
        [2, 5, 4, 3],
      ].map((tokens) => Int32Array.from(tokens));
      const decoder = policy.decode(padPrompts(prompts, 6, 0), rows, appended.length);
      for (let count = 0; count <= appended.length; count++) {
        if (count > 0) decoder.append(appended[count - 1]);
        const logits = decoder.logits.dataSync();
        rows.forEach((prompt, row) => {
          const tokens = Int32Array.of(...prompts[prompt], ...appended.slice(0, count).map((column) => column[row]));
          const full = read(policy.logits(unpadded(tokens), tokens.length - 1));
          assertArray(logits.subarray(row * 7, (row + 1) * 7), full, bound, `row ${row} after ${count} tokens`);
        });
      }
      assert.throws(() => decoder.append(appended[0]), { name: 'RangeError', message: /^tokens/ });
      decoder.dispose();
    });

    test('sampled log-probs equal recomputed ones', async () => {
      for (const temperature of [0.8, 0]) {
        const completions = await sample(policy, sampleRows(), { ...options, temperature });
        for (const [i, completion] of completions.entries()) {
          assertArray(completion.logProbs, recomputed(policy, i, completion, temperature || 1), bound, `row ${i}`);
        }
      }
    });

    test('a completion is the same however the batch is divided', async () => {
      const rows = sampleRows();
      const whole = await sample(policy, rows, options);
      const single = [];
      for (const row of rows) single.push(...(await sample(policy, [row], options)));
      const pieces = [
        ...(await sample(policy, rows.slice(5), options)),
        ...(await sample(policy, rows.slice(0, 5), options)),
      ];
      assert.deepEqual(single, whole);
      assert.deepEqual([...pieces.slice(-5), ...pieces.slice(0, -5)], whole);
    });

    test('greedy decoding chooses the most likely tokens', async () => {
      const completions = await sample(policy, sampleRows(), { ...options, temperature: 0 });
      for (const [i, { tokens }] of completions.entries()) {
        let context = sampleRows()[i].prompt;
        for (const token of tokens) {
          const logits = read(policy.logits(unpadded(context), context.length - 1));
          assert.equal(token, logits.indexOf(Math.max(...logits)));
          context = Int32Array.of(...context, token);
        }
      }
    });

    test('completions end with the end token or are truncated', async () => {
      const completions = await sample(policy, sampleRows(), options);
      assert.ok(completions.some(({ truncated }) => truncated) && completions.some(({ truncated }) => !truncated));
      for (const { tokens, logProbs, truncated } of completions) {
        assert.equal(tokens.length, logProbs.length);
        assert.equal(tokens.indexOf(vocabulary.end), truncated ? -1 : tokens.length - 1);
        if (truncated) assert.equal(tokens.length, options.maxTokens);
      }
    });

    test('another seed, step or sample gives other completions', async () => {
      const texts = async (change: Partial<typeof options>) =>
        (await sample(policy, sampleRows(), { ...options, ...change })).map(({ tokens }) => tokens.join(' '));
      const [given, again] = [await texts({}), await texts({})];
      const [seed, step] = [await texts({ seed: 12 }), await texts({ step: 5 })];
      assert.deepEqual(again, given);
      assert.notDeepEqual(seed, given);
      assert.notDeepEqual(step, given);
      assert.ok(new Set(given.slice(0, 4)).size > 1);
    });

    test('sampled frequencies are the probabilities', async () => {
      const count = 2000;
      const rows = Array.from({ length: count }, (_, i) => ({ prompt: prompts[1], promptIndex: 0, sample: i }));
      const drawn = await sample(policy, rows, { ...options, maxTokens: 1, temperature: 1 });
      const first = drawn.map(({ tokens }) => tokens[0]);
      const logits = read(policy.logits(unpadded(prompts[1]), 1));
      const weights = [...logits].map((logit) => Math.exp(logit));
      const total = weights.reduce((a, b) => a + b);
      weights.forEach((weight, token) => {
        const p = weight / total;
        const share = first.filter((one) => one === token).length / count;
        // Five standard deviations of a share of `count` draws.
        assert.ok(
          Math.abs(share - p) < 5 * Math.sqrt((p * (1 - p)) / count),
          `token ${token}: ${share}, expected ${p}`,
        );
      });
    });

    test('a non-finite logit anywhere in a row is a fault; a token with logit −∞ is never drawn', async () => {
      const given = (value: number, at: number): Policy => ({
        ...policy,
        decode: (_prompts, rows) => {
          const values = new Float32Array(rows.length * vocabulary.size);
          values[(rows.length - 1) * vocabulary.size + at] = value;
          const logits = tf.tensor2d(values, [rows.length, vocabulary.size]);
          return { logits, append: () => {}, dispose: () => logits.dispose() };
        },
      });
      for (const at of [0, 3, vocabulary.size - 1]) {
        for (const value of [NaN, Infinity]) {
          await assert.rejects(sample(given(value, at), sampleRows(), options), {
            name: 'NumericFault',
            message: /^logits: expected finite values, got non-finite values at position 0 of prompt 2$/,
          });
        }
        const last = (await sample(given(-Infinity, at), sampleRows(), { ...options, maxTokens: 40 })).at(-1)!;
        assert.ok(!last.tokens.includes(at) && last.logProbs.every(Number.isFinite));
      }
    });

    test('no call leaves a tensor behind', async () => {
      const tensors = tf.memory().numTensors;
      const second = createTransformer(own, vocabulary, 6);
      await sample(second, sampleRows(), options);
      read(second.logits(unpadded(prompts[0])));
      const { value, grads } = tf.variableGrads(
        () => weightedSum(second.logits(unpadded(prompts[0])), new Float32Array(5 * 7).fill(1)),
        Object.values(second.variables),
      );
      tf.dispose([value, grads]);
      second.dispose();
      assert.equal(tf.memory().numTensors, tensors);
    });

    test('decoding that fails leaves no tensor behind', () => {
      for (const lost of ['layers.1.attention.value', 'norm']) {
        const policy = createTransformer(own, vocabulary, 1);
        const variables = policy.variables as Record<string, tf.Variable>;
        const before = tf.memory().numTensors;
        const decoder = policy.decode(padPrompts([Int32Array.of(1, 2)], 3, 0), Int32Array.of(0, 0), 2);
        variables[lost].dispose();
        assert.throws(() => policy.decode(padPrompts([Int32Array.of(1, 2)], 3, 0), Int32Array.of(0, 0), 2));
        assert.throws(() => decoder.append(Int32Array.of(1, 1)));
        decoder.dispose();
        assert.equal(tf.memory().numTensors, before - 1, lost);
        policy.dispose();
      }
    });

    test('weights follow from the seed', () => {
      const values = (seed: number) => {
        const made = createTransformer(own, vocabulary, seed);
        const all = Object.values(made.variables).map((variable) => variable.dataSync().slice());
        made.dispose();
        return all;
      };
      assert.deepEqual(values(5), values(5));
      assert.notDeepEqual(values(5), values(6));
    });
  });
}

test('impossible sizes and prompts are rejected by name', () => {
  assert.throws(() => createTransformer({ ...size, layers: 0 }, vocabulary, 1), {
    name: 'RangeError',
    message: /^layers/,
  });
  assert.throws(() => createTransformer({ ...size, heads: 3 }, vocabulary, 1), {
    name: 'RangeError',
    message: /^width/,
  });
  assert.throws(() => createTransformer({ ...size, heads: 2, keyValueHeads: 4 }, vocabulary, 1), {
    name: 'RangeError',
    message: 'keyValueHeads: expected a divisor of the 2 heads, got 4',
  });
  assert.throws(() => padPrompts([new Int32Array(0)], 3, 0), { name: 'RangeError', message: /^prompts\[0\]/ });
  assert.throws(() => padPrompts([new Int32Array(4)], 3, 0), { name: 'RangeError', message: /^prompts\[0\]/ });
});

function unpadded(tokens: Int32Array): SequenceBatch {
  return { sequences: 1, length: tokens.length, tokens, starts: Int32Array.of(0) };
}

function sample(
  policy: Policy,
  requests: readonly RolloutRequest[],
  settings: SamplingSettings,
): Promise<Completion[]> {
  return policySampler(policy).complete(requests, settings);
}

/** Four samples of each prompt. */
function sampleRows(): RolloutRequest[] {
  return prompts.flatMap((prompt, promptIndex) => [0, 1, 2, 3].map((sample) => ({ prompt, promptIndex, sample })));
}

/** The values of a tensor, which is freed. */
function read(tensor: tf.Tensor): Float32Array {
  const values = tensor.dataSync<'float32'>().slice();
  tensor.dispose();
  return values;
}

function plainWeights(policy: Policy): PlainWeights {
  const entries = Object.entries(policy.variables).map(([name, variable]) => [
    name,
    Float64Array.from(variable.dataSync()),
  ]);
  return Object.fromEntries(entries) as PlainWeights;
}

/** Σ coefficient * x with its own gradient: tfjs-core registers none on Node. */
function weightedSum(x: tf.Tensor, coefficients: Float32Array): tf.Scalar {
  const operation = tf.customGrad((given) => ({
    value: tf.sum(tf.mul(given as tf.Tensor, tf.tensor(coefficients, x.shape))),
    gradFunc: (dy) => tf.mul(dy, tf.tensor(coefficients, x.shape)),
  }));
  return operation(x) as tf.Scalar;
}

/** Log-probs of a completion from one forward pass over prompt and completion. */
function recomputed(policy: Policy, row: number, { tokens }: Completion, temperature: number): number[] {
  const { prompt } = sampleRows()[row];
  const logits = read(policy.logits(unpadded(Int32Array.of(...prompt, ...tokens.subarray(0, -1))), prompt.length - 1));
  return [...tokens].map((token, t) => {
    const z = [...logits.subarray(t * 7, (t + 1) * 7)].map((logit) => logit / temperature);
    return z[token] - Math.log(z.reduce((sum, value) => sum + Math.exp(value), 0));
  });
}
