// Repeats losses on tfjs-node and prints what is left behind, in a process of its own with --expose-gc and `typescript` of native.ts:
// `tensorflow-memory.mjs <steps>`. `growth`: bytes of resident memory a step, for each kind of
// step. `first`: bytes by which the first loss of large logits raised it, beside `gradient`, the bytes of their gradient;
// `later`: by which fifty more did.

import * as tf from '@tensorflow/tfjs-core';

const { presets } = await import('../../src/index.ts');
const { computeAdvantages, grpoLoss, policyLoss, tfjsBridge } = await import('../../src/tfjs/index.ts');
const { startBackend } = await import('../../src/backend/backend.ts');

const steps = Number(process.argv[2]);
await startBackend('tensorflow');
if (tfjsBridge().path !== 'operations') throw new Error(tfjsBridge().detail);

/** Resident memory after garbage collection. A turn of the event loop frees the buffers' memory too. */
async function resident() {
  for (let i = 0; i < 4; i++) {
    globalThis.gc();
    await new Promise((resolve) => setImmediate(resolve));
  }
  return process.memoryUsage.rss();
}

function batchOf(sequences, length, vocab) {
  const tokens = Int32Array.from({ length: sequences * length }, (_, i) => (31 * i) % vocab);
  return { tokens, rewards: Array.from({ length: sequences }, (_, i) => i % 2), advantage: { groupSize: 2, hadw: {} } };
}

const differentiate = (loss, x) => tf.dispose(tf.valueAndGrad(loss)(x));
const large = { batch: batchOf(8, 32, 32_000), x: tf.randomNormal([8, 32, 32_000]) };
const small = { batch: batchOf(4, 8, 64), x: tf.randomNormal([4, 8, 64]) };
const logProbs = tf.randomUniform([4, 8], -3, -1);
const { tokens: _, ...policyBatch } = small.batch;
const mask = tf.ones([4, 8], 'bool');
const oldLogProbs = tf.add(logProbs, 0.1);

const kinds = {
  'loss from logits': () => differentiate((x) => grpoLoss(x, small.batch, presets.dapo), small.x),
  'with a report': () => differentiate((x) => grpoLoss(x, small.batch, presets.dapo, { onResult() {} }), small.x),
  'in place': () => {
    const x = tf.add(small.x, 0);
    differentiate((t) => grpoLoss(t, small.batch, presets.dapo, { inPlace: true }), x);
    x.dispose();
  },
  'with tensors': () =>
    differentiate(
      (x) => policyLoss(x, { ...policyBatch, mask, oldLogProbs }, presets.grpo, { onResult() {} }),
      logProbs,
    ),
  advantages: () => {
    const { accuracy, metrics, ...tensors } = computeAdvantages([0, 1, 1, 1], { groupSize: 2 });
    tf.dispose(tensors);
  },
  'a call that is refused': () => {
    try {
      grpoLoss(small.x, { ...small.batch, tokens: new Int32Array(32).fill(64) }, presets.dapo);
    } catch (error) {
      if (error instanceof RangeError) return;
    }
    throw new Error('expected the call to be refused');
  },
};

const result = {};
for (const call of Object.values(kinds)) for (let i = 0; i < steps / 5; i++) call();

// Logits of half the size first, so that threads and their scratch memory exist.
const half = { batch: batchOf(8, 16, 32_000), x: tf.randomNormal([8, 16, 32_000]) };
differentiate((x) => grpoLoss(x, half.batch, presets.dapo), half.x);
half.x.dispose();
large.x.slice([0, 0, 0], [1, 1, 1]).dispose(); // TensorFlow owns the values from here on
const before = await resident();
const grad = tf.grad((x) => grpoLoss(x, large.batch, presets.dapo))(large.x);
result.gradient = 4 * grad.size;
result.first = (await resident()) - before;
grad.dispose();
const after = await resident();
for (let i = 0; i < 50; i++) differentiate((x) => grpoLoss(x, large.batch, presets.dapo), large.x);
result.later = (await resident()) - after;

result.growth = {};
for (const [name, call] of Object.entries(kinds)) {
  const tensors = tf.memory().numTensors;
  const start = await resident();
  for (let i = 0; i < steps; i++) call();
  result.growth[name] = ((await resident()) - start) / steps;
  if (tf.memory().numTensors !== tensors)
    throw new Error(`${name}: ${tf.memory().numTensors - tensors} tensors are left`);
}
console.log(JSON.stringify(result));
