// The policy's own sampler as a rollout engine: a completion depends only on its request, comes with the tokens that it was drawn from,
// and has the log-probs of the loss.

import assert from 'node:assert/strict';
import test, { before, describe } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { startBackend } from '../../src/backend/backend.js';
import { normal } from '../../src/base/random.js';
import { loadAddon } from '../../src/devices/load.js';
import { columnStep } from '../../src/model/attention.js';
import type { Policy, RefillableDecoder } from '../../src/model/policy.js';
import { createTransformer } from '../../src/model/transformer.js';
import { keptTokens } from '../../src/rollout/cut.js';
import type { Completion, RolloutRequest, SamplingSettings } from '../../src/rollout/engine.js';
import { keepOnly } from '../../src/rollout/kept-tokens.js';
import { logProbsOf } from '../../src/rollout/log-probs.js';
import { policySampler } from '../../src/rollout/sample.js';
import { characterVocabulary } from '../../src/text/vocabulary.js';
import { repeats, slowSet } from '../support/sets.js';

const size = { layers: 2, width: 16, heads: 4, keyValueHeads: 2, hidden: 24 };
const vocabulary = characterVocabulary('abcdefghij');
const V = vocabulary.size;
const plain: SamplingSettings = { maxTokens: 30, temperature: 1.3, seed: 5, step: 2 };
/** Some end at once, some at `maxTokens`; with prompts on both sides of the end of a block. */
const prompts = [3, 45, 1, 20, 47, 96, 7].map((length, i) =>
  Int32Array.from({ length }, (_, t) => 1 + ((t * (i + 3) + i) % 10)),
);
const requests: RolloutRequest[] = prompts.flatMap((prompt, promptIndex) =>
  [0, 1, 2].map((sample) => ({ prompt, promptIndex, sample })),
);
const settings: Record<string, SamplingSettings> = {
  'the whole distribution': plain,
  'a cut distribution': { ...plain, topK: 8, topP: 0.9, minP: 0.02 },
  'the most likely tokens': { ...plain, temperature: 0 },
};

const loaded = loadAddon();
if (loaded.addon) await import('../../src/backend.js');
const backends = {
  wasm: () => startBackend('wasm'),
  groupgrad: () => tf.setBackend('groupgrad'),
};
for (const [backend, start] of Object.entries(backends)) {
  const skip = backend === 'groupgrad' && !loaded.addon ? loaded.reason : false;
  describe(`sampling on ${backend}`, { skip }, () => {
    /** One after the other takes longest. */
    const rowsAtOnce = [20, 5, 1].slice(0, backend === 'wasm' ? repeats(1, 3) : 3);
    let policy: Policy;
    before(async () => {
      await start();
      policy = createTransformer(size, vocabulary, 5);
    });

    for (const [name, own] of Object.entries(settings)) {
      const slow = backend === 'wasm' && own !== plain && slowSet('the other settings on the other backend');
      test(`a completion does not depend on the other rows: ${name}`, { skip: slow }, async () => {
        const whole = await policySampler(policy).complete(requests, own);
        const lengths = whole.map(({ tokens }) => tokens.length);
        assert.ok(own.temperature === 0 || new Set(lengths).size > 5, `${lengths}`);
        const fixed = await policySampler(withoutRefilling(policy)).complete(requests, own);
        assert.deepEqual(fixed, whole);
        for (const rows of rowsAtOnce) {
          assert.deepEqual(await policySampler(policy, { rows }).complete(requests, own), whole, `${rows} rows`);
        }
        const order = requests.map((_, i) => (i * 8 + 3) % requests.length);
        const shuffled = await policySampler(policy, { rows: 4 }).complete(
          order.map((i) => requests[i]),
          own,
        );
        order.forEach((i, place) => {
          assert.deepEqual(shuffled[place], whole[i]);
        });
        for (const i of [0, 7, 16]) {
          assert.deepEqual(await policySampler(policy).complete([requests[i]], own), [whole[i]]);
        }
      });

      test(`log-probs equal those of the loss from a full forward pass, bit for bit: ${name}`, async () => {
        const completions = await policySampler(policy, { rows: 6 }).complete(requests, own);
        completions.forEach((completion, i) => {
          assert.deepEqual(
            completion.logProbs,
            recomputed(policy, requests[i].prompt, completion, own.temperature || 1),
          );
        });
      });
    }

    test('prompts are read once, and no more rows are decoded at once than requested', async () => {
      let [read, most] = [0, 0];
      const seen = (decoder: RefillableDecoder): RefillableDecoder => {
        most = Math.max(most, decoder.logits.shape[0]);
        return decoder;
      };
      const counted = {
        ...policy,
        decode: ((...args) => {
          read += args[0].sequences;
          const decoder = policy.decode(...args) as RefillableDecoder;
          const select = decoder.select.bind(decoder);
          decoder.select = (rows) => seen(select(rows));
          return decoder;
        }) as Policy['decode'],
      };
      for (const rows of [1, 4, 21]) {
        [read, most] = [0, 0];
        await policySampler(counted, { rows }).complete(requests, plain);
        assert.deepEqual([read, most], [prompts.length, rows]);
      }
    });

    test('completions end with any end token, stop token or stop text; all others are truncated', async () => {
      const ends: Policy = { ...policy, tokenizer: { ...policy.tokenizer, endTokens: [0, 4] } };
      const own = { ...plain, stopTokens: [7], stopTexts: ['ab', 'j', 'cec'] };
      const completions = await policySampler(ends).complete(requests, own);
      const reasons = completions.map(({ tokens, truncated }) => {
        const text = vocabulary.decode(tokens.filter((id) => id !== 0));
        const before = vocabulary.decode(tokens.subarray(0, -1));
        assert.ok(!tokens.subarray(0, -1).some((id) => [0, 4, 7].includes(id)));
        assert.ok(!own.stopTexts.some((stop) => before.includes(stop)));
        const last = tokens[tokens.length - 1];
        const reason = [0, 4, 7].includes(last) ? last : own.stopTexts.find((stop) => text.endsWith(stop));
        assert.equal(truncated, reason === undefined);
        if (truncated) assert.equal(tokens.length, own.maxTokens);
        return reason;
      });
      for (const reason of [0, 4, 7, 'j']) assert.ok(reasons.includes(reason), `none ended by ${reason}: ${reasons}`);
    });

    test('ids beyond the size of the tokenizer are never sampled, with any truncation', async () => {
      const padded: Policy = { ...policy, tokenizer: { ...policy.tokenizer, vocabularySize: 6, endTokens: [0] } };
      for (const own of Object.values(settings)) {
        const completions = await policySampler(padded).complete(requests, own);
        assert.ok(completions.every(({ tokens }) => tokens.every((id) => id < 6)));
        for (const { kept, logProbs, tokens } of completions) {
          assert.ok(!kept || kept.ids.every((id) => id < 6));
          assert.ok(logProbs.length === tokens.length && logProbs.every(Number.isFinite));
        }
      }
      await assert.rejects(policySampler(padded).complete(requests, { ...plain, stopTokens: [2, 6] }), {
        name: 'RangeError',
        message: 'sampling.stopTokens[1]: expected a token id from 0 to 5, got 6',
      });
    });

    test('a truncation keeps the tokens that it should, and tokens are drawn with their probability', async () => {
      const count = 3000;
      const many = Array.from({ length: count }, (_, sample) => ({ prompt: prompts[0], promptIndex: 0, sample }));
      const own = { ...plain, maxTokens: 1, topP: 0.7 };
      const drawn = await policySampler(policy).complete(many, own);
      const probabilities = softmax(lastLogits(policy, prompts[0]), own.temperature);
      const kept = byDefinition(probabilities, V, own);
      const total = kept.reduce((sum, id) => sum + probabilities[id], 0);
      assert.ok(kept.length > 2 && kept.length < V);
      for (const completion of drawn) assert.deepEqual([...completion.kept!.ids], kept);
      for (const id of kept) {
        const p = probabilities[id] / total;
        const share = drawn.filter(({ tokens }) => tokens[0] === id).length / count;
        // Five standard deviations.
        assert.ok(Math.abs(share - p) < 5 * Math.sqrt((p * (1 - p)) / count), `token ${id}: ${share}, expected ${p}`);
      }
    });

    test('completions are reported as they end, a signal interrupts, and nothing is left behind', async () => {
      const tensors = tf.memory().numTensors;
      const done = new Map<number, Completion>();
      const onCompletion = (completion: Completion, index: number) => void done.set(index, completion);
      const completions = await policySampler(policy, { rows: 3 }).complete(requests, { ...plain, onCompletion });
      assert.deepEqual(
        completions.map((_, i) => done.get(i)),
        completions,
      );
      assert.ok([...done.keys()].some((index, i) => index !== i));
      for (const own of [policy, withoutRefilling(policy)]) {
        const abort = new AbortController();
        const stopped = policySampler(own, { rows: 3 }).complete(requests, {
          ...plain,
          signal: abort.signal,
          onCompletion: (_, index) => index === 3 && abort.abort(new Error('enough')),
        });
        await assert.rejects(stopped, { message: 'enough' });
      }
      assert.equal(tf.memory().numTensors, tensors);
      assert.deepEqual(await policySampler(policy).complete([], plain), []);
    });
  });
}

test('a truncation agrees with its definition, on flat, peaked and tied distributions', () => {
  const cuts = [
    { topK: 1 },
    { topK: 7 },
    { topK: 5000 },
    { topP: 1e-6 },
    { topP: 0.5 },
    { topP: 0.95 },
    { topP: 0.9999999 },
    { minP: 0.1 },
    { minP: 1 },
    { topK: 20, topP: 0.8 },
    { topK: 30, topP: 0.9, minP: 0.2 },
    { topP: 0.99, minP: 0.01 },
  ];
  for (const count of [1, 2, 50, 3001]) {
    for (const width of [0, 0.5, 4]) {
      const logits = Float64Array.from({ length: count }, (_, v) =>
        // Every third is tied with its neighbour; some have probability 0.
        v % 7 === 6
          ? -Infinity
          : width * normal({ seed: 1, purpose: 'weights', index: count }, v % 3 === 2 ? v - 1 : v),
      );
      const probabilities = Float32Array.from(softmax(logits, 1));
      for (const allowed of new Set([count, Math.ceil(0.7 * count)])) {
        for (const cut of cuts) {
          const name = `${JSON.stringify(cut)} of ${allowed} of ${count}, width ${width}`;
          assert.deepEqual(
            [...keptTokens(probabilities, allowed, cut)],
            byDefinition(probabilities, allowed, cut),
            name,
          );
        }
      }
    }
  }
});

test('invalid settings and requests are rejected by name', async () => {
  await startBackend('wasm');
  const policy = createTransformer(size, vocabulary, 5);
  const refused = async (change: object, message: string, given: readonly object[] = requests) => {
    const promise = policySampler(policy).complete(given as RolloutRequest[], { ...plain, ...change });
    await assert.rejects(promise, { message });
  };
  await refused({ topP: 0 }, 'sampling.topP: expected a finite number above 0 and at most 1, got 0');
  await refused({ topP: 1.1 }, 'sampling.topP: expected a finite number above 0 and at most 1, got 1.1');
  await refused({ topK: 0 }, 'sampling.topK: expected an integer at least 1, got 0');
  await refused({ minP: -1 }, 'sampling.minP: expected a finite number at least 0 and at most 1, got -1');
  await refused({ maxTokens: 0 }, 'sampling.maxTokens: expected an integer at least 1, got 0');
  await refused({ temperature: -1 }, 'sampling.temperature: expected a finite number at least 0, got -1');
  await refused({ stopTexts: [''] }, 'sampling.stopTexts[0]: expected a non-empty string, got ""');
  await refused({ stopTexts: 'ab' }, 'sampling.stopTexts: expected an array of strings, got "ab"');
  await refused({ stopTokens: [1, 99] }, 'sampling.stopTokens[1]: expected a token id from 0 to 10, got 99');
  const one = { prompt: Int32Array.of(1, 2), promptIndex: 0, sample: 0 };
  await refused(
    {},
    'requests[1].prompt: expected the same tokens as in the other requests of prompt 0, got different ones',
    [one, { ...one, prompt: Int32Array.of(1, 3) }],
  );
  await refused({}, 'requests[0].prompt: expected at least one token, got none', [
    { ...one, prompt: new Int32Array(0) },
  ]);
  await refused({}, 'requests[0].prompt: expected token ids from 0 to 10, got 11', [
    { ...one, prompt: Int32Array.of(11) },
  ]);
  await refused({}, 'requests[0].prompt: expected an Int32Array, got an array of 1 values', [{ ...one, prompt: [1] }]);
  await refused({}, 'requests[0].sample: expected an integer at least 0 and at most 2147483647, got -1', [
    { ...one, sample: -1 },
  ]);
  assert.throws(() => policySampler(policy, { rows: 0 }), { message: 'rows: expected an integer at least 1, got 0' });
  policy.dispose();
});

/** A policy whose decoders have only the methods of `Decoder`. */
function withoutRefilling(policy: Policy): Policy {
  const decode: Policy['decode'] = (...args) => {
    const decoder = policy.decode(...args);
    return {
      get logits() {
        return decoder.logits;
      },
      append: (tokens) => decoder.append(tokens),
      dispose: () => decoder.dispose(),
    };
  };
  return { ...policy, decode };
}

/** Logits of each token of a completion, from one pass over its prompt and the completion. */
function logitsOf(policy: Policy, prompt: Int32Array, tokens: Int32Array): Float32Array {
  const sequence = Int32Array.of(...prompt, ...tokens.subarray(0, -1));
  const length = Math.ceil(sequence.length / columnStep) * columnStep;
  const padded = new Int32Array(length);
  padded.set(sequence);
  const logits = policy.logits({ sequences: 1, length, tokens: padded, starts: Int32Array.of(0) }, prompt.length - 1);
  const values = logits.dataSync<'float32'>().slice(0, tokens.length * V);
  logits.dispose();
  return values;
}

function lastLogits(policy: Policy, prompt: Int32Array): Float32Array {
  return logitsOf(policy, prompt, Int32Array.of(0));
}

function recomputed(
  policy: Policy,
  prompt: Int32Array,
  { tokens, kept }: Completion,
  temperature: number,
): Float32Array {
  const logits = logitsOf(policy, prompt, tokens);
  const ids = kept && Array.from(tokens, (_, t) => kept.ids.subarray(kept.offsets[t], kept.offsets[t + 1]));
  return logProbsOf(ids ? keepOnly(logits, V, ids) : logits, tokens, temperature, 'auto');
}

function softmax(logits: ArrayLike<number>, temperature: number): Float64Array {
  const scaled = Float64Array.from(logits, (logit) => logit / temperature);
  const max = scaled.reduce((a, b) => Math.max(a, b));
  const weights = scaled.map((value) => Math.exp(value - max));
  const total = weights.reduce((a, b) => a + b);
  return weights.map((weight) => weight / total);
}

/** Top-k, top-p and min-p in sequence, by sorting everything. */
function byDefinition(
  probabilities: Float32Array | Float64Array,
  allowed: number,
  { topK, topP = 1, minP = 0 }: { topK?: number; topP?: number; minP?: number },
): number[] {
  const sorted = Array.from({ length: allowed }, (_, id) => id)
    .filter((id) => probabilities[id] > 0)
    .sort((a, b) => probabilities[b] - probabilities[a] || a - b)
    .slice(0, topK);
  const sum = (ids: number[]) => ids.reduce((total, id) => total + probabilities[id], 0);
  const share = topP * sum(sorted);
  const most =
    topP === 1 ? sorted.length : sorted.findIndex((_, i) => sum(sorted.slice(0, i + 1)) >= share * (1 - 1e-12)) + 1;
  return sorted
    .slice(0, most)
    .filter((id) => probabilities[id] >= minP * probabilities[sorted[0]])
    .sort((a, b) => a - b);
}
