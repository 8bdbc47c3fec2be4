// The transformer's logits and gradients on WebAssembly, bit for bit: digests of the first release. The
// backend's arithmetic is the same on every machine; a change here makes committed studies irreproducible.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import test, { before } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { startBackend } from '../../src/backend/backend.js';
import { createTransformer } from '../../src/model/transformer.js';
import { padPrompts } from '../../src/rollout/sample.js';
import { characterVocabulary } from '../../src/text/vocabulary.js';

const cases = [
  { heads: 2, keyValueHeads: 2, layers: 2, width: 16, hidden: 24, digests: ['013e465f5152f349', 'b0175fd47ee462fd'] },
  { heads: 4, keyValueHeads: 2, layers: 3, width: 32, hidden: 40, digests: ['4075fb4f98f43949', 'b8de40e6b21d29fa'] },
];
const rowsAreGathered = [
  { ...cases[0], digests: ['88e8ef4b8c3f8bdc', '137eb95fc7385b8c'] },
  { ...cases[1], digests: ['dff7701ebef460c9', 'e8bbb7850f0b1337'] },
];
const characters = characterVocabulary('abcdef');
const all = [
  ...cases.map((own) => ({ ...own, vocabulary: characters })),
  ...rowsAreGathered.map((own) => ({ ...own, vocabulary: { ...characters, size: 1500 } })),
];

before(() => startBackend('wasm'));

for (const { digests, vocabulary, ...size } of all) {
  for (const recompute of [false, true]) {
    const name = `${size.layers} layers, ${vocabulary.size} tokens, ${recompute ? 'computed again' : 'kept'}`;
    test(`logits and gradients have the bits of the first release: ${name}`, () => {
      const policy = createTransformer({ ...size, recompute }, vocabulary, 5);
      const prompts = [
        [1, 2, 3, 4, 5],
        [6, 5],
        [3, 3, 3],
      ].map((tokens) => Int32Array.from(tokens));
      const batch = padPrompts(prompts, 6, 0);
      const logits = policy.logits(batch);
      const { value, grads } = tf.variableGrads(
        () => weightedSum(policy.logits(batch, 2)),
        Object.values(policy.variables),
      );
      const gradients = Object.entries(policy.variables).flatMap(([own, variable]) => [own, grads[variable.name]]);
      assert.deepEqual([digest([logits]), digest(gradients)], digests);
      tf.dispose([value, grads, logits]);
      policy.dispose();
    });
  }
}

function digest(parts: readonly (string | tf.Tensor)[]): string {
  const hash = createHash('sha256');
  for (const part of parts) {
    hash.update(typeof part === 'string' ? part : new Uint8Array(part.dataSync<'float32'>().slice().buffer));
  }
  return hash.digest('hex').slice(0, 16);
}

/** Σ sin(3i) x_i with its own gradient: tfjs-core registers none on Node. */
function weightedSum(x: tf.Tensor): tf.Scalar {
  const coefficients = () =>
    tf.tensor(
      Float32Array.from({ length: x.size }, (_, i) => Math.sin(3 * i)),
      x.shape,
    );
  const operation = tf.customGrad((given) => ({
    value: tf.sum(tf.mul(given as tf.Tensor, coefficients())),
    gradFunc: (dy) => tf.mul(dy, coefficients()),
  }));
  return operation(x) as tf.Scalar;
}
