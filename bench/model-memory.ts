// The peak tensor memory of a forward and backward pass of the transformer, with the layers' temporaries
// kept and with recomputed layers; in the bytes that tfjs counts, which do not depend on the machine.
//
// usage: tsx bench/model-memory.ts [layers width sequences length]     default 24 128 8 128

import * as tf from '@tensorflow/tfjs-core';
import { startBackend } from '../src/backend/backend.js';
import { presets } from '../src/loss/presets.js';
import { createTransformer } from '../src/model/transformer.js';
import { characterVocabulary } from '../src/text/vocabulary.js';
import { grpoLoss } from '../src/tfjs/index.js';

const [layers = 24, width = 128, sequences = 8, length = 128] = process.argv.slice(2).map(Number);

/** The largest number of bytes that tfjs counts while `work` runs, minus those from before. */
function peakBytes(work: () => void): number {
  const engine = tf.engine() as unknown as { trackTensor(...given: unknown[]): void };
  const { trackTensor } = engine;
  const before = tf.memory().numBytes;
  let peak = before;
  engine.trackTensor = function (...given) {
    trackTensor.apply(this, given);
    peak = Math.max(peak, tf.memory().numBytes);
  };
  try {
    work();
  } finally {
    engine.trackTensor = trackTensor;
  }
  return peak - before;
}

await startBackend('wasm');
const vocabulary = characterVocabulary('0123456789+=');
for (const recompute of [false, true]) {
  const size = { layers, width, heads: 4, keyValueHeads: 4, hidden: Math.round((width * 8) / 3 / 16) * 16, recompute };
  const policy = createTransformer(size, vocabulary, 0);
  const count = sequences * length;
  const tokens = Int32Array.from({ length: count }, (_, i) => i % vocabulary.size);
  const batch = { sequences, length, tokens, starts: new Int32Array(sequences) };
  const advantages = new Float32Array(sequences).fill(1);
  const shape = { sequences, length };
  let start = 0;
  const step = () => {
    start = performance.now();
    const { value, grads } = tf.variableGrads(
      () => grpoLoss(policy.logits(batch), { shape, tokens, advantages }, presets.grpo, { inPlace: true }),
      Object.values(policy.variables),
    );
    value.dataSync();
    tf.dispose([value, grads]);
  };
  step();
  const peak = peakBytes(step);
  const seconds = (performance.now() - start) / 1e3;
  const how = recompute ? 'layers computed again' : 'temporaries kept';
  console.log(`${how}: ${(peak / 1e6).toFixed(0)} MB, ${seconds.toFixed(2)} s, gradients included`);
  policy.dispose();
}
