// On the backend groupgrad the sampler's numbers equal the trainer's, bit for bit: logits through the key-value cache equal those
// of a whole forward pass, alone or with other sequences, on one thread or several, in both precisions, with every weight trained
// and with an adapter on weights stored in bfloat16; for every family of tiny checkpoints, and for a small Llama.

import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { describe } from 'node:test';
import { fileURLToPath } from 'node:url';
import * as tf from '@tensorflow/tfjs-core';
import { CachedDecoder } from '../../src/model/decoder.js';
import { batchContext, forward, logitsOf } from '../../src/model/model.js';
import type { ModelWeights } from '../../src/model/parameters.js';
import { padPrompts } from '../../src/rollout/sample.js';
import { AdamW } from '../../src/train/adamw.js';
import { PretrainedFolder } from '../../src/weights/pretrained-folder.js';
import { type LoadOptions, loadModel, type PretrainedModel } from '../../src/weights/pretrained-model.js';
import { engine as api, noEngine, useEngine } from '../support/engine.js';
import { seeded } from '../support/random.js';
import { repeats } from '../support/sets.js';

const shared = fileURLToPath(new URL('../../../shared/', import.meta.url));
const families = join(shared, 'golden/hf');
const skip = noEngine
  ? noEngine
  : existsSync(families)
    ? false
    : 'the folders of tiny checkpoints are not next to the repository';

const folders = skip
  ? []
  : [
      ...readdirSync(families)
        .filter((name) => existsSync(join(families, name, 'config.json')))
        .map((name) => join(families, name)),
      ...(existsSync(join(shared, 'models/stories260k')) ? [join(shared, 'models/stories260k')] : []),
    ];

const kinds: Record<string, Partial<LoadOptions>> = {
  'every weight trained': {},
  'an adapter on weights in bfloat16': { lora: { rank: 4 }, type: 'BF16' },
};
const untiedKinds: typeof kinds = {
  'an adapter of the unembedding too': { lora: { rank: 4, targets: '.*' }, type: 'BF16' },
};

/** [prompt, continuation]: across the ends of blocks of the cache, and of keys, if the model's context is long enough. */
function sequencesOf(vocabulary: number, longest: number): { prompt: Int32Array; rest: Int32Array }[] {
  const random = seeded(5);
  const tokens = (length: number) => Int32Array.from({ length }, () => random.integer(0, vocabulary - 1));
  return [
    [1, 12],
    [40, 12],
    [7, 3],
    [longest - 20, 20],
  ].map(([prompt, rest]) => ({ prompt: tokens(prompt), rest: tokens(rest) }));
}

/** Enough to move every weight from where it was loaded. */
const updates = repeats(5, 20);

const bits = (values: Float32Array) => Buffer.from(values.buffer, values.byteOffset, values.byteLength);

/** Logits [tokens, V] of each sequence in one pass. */
function fullPass(model: ModelWeights, sequences: readonly Int32Array[]): Float32Array[] {
  const length = Math.max(...sequences.map((own) => own.length));
  const tokens = new Int32Array(sequences.length * length);
  sequences.forEach((own, b) => {
    tokens.set(own, b * length);
  });
  const batch = { sequences: sequences.length, length, tokens, starts: new Int32Array(sequences.length) };
  const logits = tf.tidy(() =>
    logitsOf(model, forward(model, tokens, batchContext(model, batch)), { sequences: sequences.length, from: 0 }),
  );
  const values = logits.dataSync<'float32'>().slice();
  const size = logits.shape[1];
  logits.dispose();
  return sequences.map((own, b) => values.subarray(b * length * size, (b * length + own.length) * size));
}

/** A gradient that changes every weight, as training may. */
function train({ model, variables }: PretrainedModel, steps: number): void {
  const optimizer = new AdamW(variables, {
    learningRate: 1e-3,
    schedule: 'constant',
    warmupSteps: 0,
    totalSteps: null,
    betas: [0.9, 0.999],
    epsilon: 1e-8,
    weightDecay: 0.1,
    maxGradientNorm: 1,
  });
  const tokens = Int32Array.from({ length: 24 }, (_, i) => (7 * i) % 13);
  const batch = { sequences: 2, length: 12, tokens, starts: new Int32Array(2) };
  for (let step = 0; step < steps; step++) {
    const square = tf.customGrad((given, save) => {
      const logits = given as tf.Tensor;
      (save as unknown as (tensors: tf.Tensor[]) => void)([logits]);
      return {
        value: tf.sum(tf.square(logits)),
        gradFunc: (dy: tf.Tensor, [kept]: tf.Tensor[]) => tf.mul(tf.mul(dy, 2), kept),
      };
    });
    const { value, grads } = tf.variableGrads(
      () =>
        square(
          logitsOf(model, forward(model, tokens, batchContext(model, batch)), { sequences: 2, from: 0 }),
        ) as tf.Scalar,
      Object.values(variables),
    );
    optimizer.update(Object.fromEntries(Object.entries(variables).map(([name, { name: own }]) => [name, grads[own]])));
    tf.dispose([value, grads]);
  }
  optimizer.dispose();
}

describe('sampler and trainer on the backend groupgrad', { skip }, () => {
  useEngine();

  for (const path of folders) {
    const name = path.split('/').at(-1)!;
    const { tie_word_embeddings: isTied } = JSON.parse(readFileSync(join(path, 'config.json'), 'utf8'));
    for (const [kind, options] of Object.entries({ ...kinds, ...(isTied ? {} : untiedKinds) })) {
      test(`agree to the last bit: ${name}, ${kind}, after ${updates} updates`, () => {
        const folder = new PretrainedFolder(path);
        const pretrained = loadModel(folder, { ...options, seed: 0, recompute: true });
        folder.close();
        assert.equal(api!.isCompressed(pretrained.model.weights.embedding), options.type === 'BF16');
        const { model } = pretrained;
        const config = JSON.parse(readFileSync(join(path, 'config.json'), 'utf8')) as Record<string, number>;
        const longest = Math.min(140, config.max_position_embeddings ?? 140);
        train(pretrained, updates);
        const sequences = sequencesOf(config.vocab_size, longest);
        const whole = sequences.map(({ prompt, rest }) => Int32Array.of(...prompt, ...rest));
        for (const precision of ['float32', 'bfloat16'] as const) {
          api!.setPrecision(precision);
          api!.configureEngine({ threads: 1 });
          const expected = fullPass(model, whole);
          assert.ok(expected[0].every(Number.isFinite));
          for (const threads of [1, 2]) {
            api!.configureEngine({ threads });
            const what = `${precision}, ${threads} threads`;
            const same = (actual: Float32Array, row: number, from: number, label: string) =>
              assert.ok(
                bits(actual).equals(bits(expected[row].subarray(from, from + actual.length))),
                `${what}: ${label}, sequence ${row}`,
              );
            fullPass(model, whole).forEach((values, row) => {
              same(values, row, 0, 'all sequences');
            });
            whole.forEach((own, row) => {
              same(fullPass(model, [own])[0], row, 0, 'a sequence alone');
            });
            const prompts = padPrompts(
              sequences.map(({ prompt }) => prompt),
              longest,
              0,
            );
            const rows = Int32Array.from(sequences.keys());
            const decoder = CachedDecoder.start(model, prompts, rows, 20);
            const size = expected[0].length / whole[0].length;
            for (let t = 0; ; t++) {
              const logits = decoder.logits.dataSync<'float32'>();
              sequences.forEach(({ prompt, rest }, row) => {
                if (t > rest.length) return;
                const own = logits.subarray(row * size, (row + 1) * size);
                same(own, row, (prompt.length + t - 1) * size, `token ${t} through the cache`);
              });
              if (t === 20) break;
              decoder.append(Int32Array.from(sequences, ({ rest }) => rest[t] ?? -1));
            }
            decoder.dispose();
          }
        }
        pretrained.dispose();
      });
    }
  }
});
