// A contender of model.ts and lora.ts: parts of a transformer on a tfjs backend. Reads one request per line, responds with seconds, or
// with bytes to `peak`.
// `model-tfjs.ts <backend> <threads> <layers> <precision>`, or `… <precision> <folder> <dtype>` for an adapter on a folder's model

import { createInterface } from 'node:readline';
import * as tf from '@tensorflow/tfjs-core';
import { startBackend } from '../../src/backend/backend.js';
import type { Backend } from '../../src/backend/names.js';
import { type Precision, presets, type WeightType } from '../../src/index.js';
import { attention, causalBias, hasFusedAttention } from '../../src/model/attention.js';
import { gatedUnit } from '../../src/model/gated-unit.js';
import { type Computed, forget } from '../../src/model/part.js';
import type { Policy, SequenceBatch } from '../../src/model/policy.js';
import { rmsNorm } from '../../src/model/rms-norm.js';
import { createTransformer } from '../../src/model/transformer.js';
import type { Vocabulary } from '../../src/text/vocabulary.js';
import { grpoLoss } from '../../src/tfjs/index.js';
import { AdamW } from '../../src/train/adamw.js';
import { resolveSettings } from '../../src/train/options.js';
import { loadPretrainedPolicy } from '../../src/weights/pretrained-policy.js';
import { seconds } from './timing.js';

const [backend, threads, layers, precision, folder, dtype] = process.argv.slice(2) as [
  Backend,
  string,
  string,
  Precision,
  string | undefined,
  WeightType,
];
const started = await startBackend(backend);
if (backend === 'groupgrad') {
  const { configureEngine } = await import('../../src/backend.js');
  configureEngine({ threads: Number(threads) });
}
console.log(`${started.package}, tfjs-core ${tf.version_core}`);

/** The shape of SmolLM2-135M, with the requested number of layers. */
const size = { layers: Number(layers), width: 576, heads: 9, keyValueHeads: 3, hidden: 1536 };
const [vocab, headSize] = [49_152, 64];
const vocabulary: Vocabulary = {
  id: 'numbers',
  size: vocab,
  end: 0,
  encode: (text) => Int32Array.from(text.split(' '), Number),
  decode: (tokens) => tokens.join(' '),
};
let made: Policy | undefined;
if (folder !== undefined) {
  made = await loadPretrainedPolicy(folder, { lora: { rank: 16 }, dtype, precision });
}
const policy = () => {
  made ??= createTransformer({ ...size, precision }, vocabulary, 1);
  return made;
};

const batchOf = (sequences: number, length: number): SequenceBatch => ({
  sequences,
  length,
  tokens: Int32Array.from({ length: sequences * length }, (_, i) => (7919 * i) % vocab),
  starts: new Int32Array(sequences),
});

/** Value and gradients of a primitive. */
function both(compute: () => Computed): () => void {
  return () =>
    tf.tidy(() => {
      const { value, backward } = compute();
      backward(value, () => true);
    });
}

/** A loss's gradients by tfjs's names of the variables. */
function gradientsOf(sequences: number, length: number): () => tf.NamedTensorMap {
  const batch = batchOf(sequences, length);
  const input = {
    shape: { sequences, length },
    tokens: batch.tokens,
    mask: new Uint8Array(sequences * length).fill(1),
    advantages: new Float32Array(sequences).fill(1),
  };
  return () => {
    const { value, grads } = tf.variableGrads(
      () => grpoLoss(policy().logits(batch), input, presets.reinforce, { inPlace: true }) as tf.Scalar,
      Object.values(policy().variables),
    );
    value.dataSync();
    value.dispose();
    return grads;
  };
}

const kinds: Record<string, (...numbers: number[]) => () => void> = {
  attention: (sequences, length) => {
    const rows = sequences * length;
    const [query, key, value] = [size.heads, size.keyValueHeads, size.keyValueHeads].map((heads) =>
      tf.randomNormal<tf.Rank.R2>([rows, heads * headSize]),
    );
    const batch = batchOf(sequences, length);
    const bias = hasFusedAttention() ? {} : { bias: causalBias(batch, null) };
    const visible = { ...bias, starts: tf.tensor1d(batch.starts, 'int32'), window: 0 };
    const shape = { ...size, sequences, scale: headSize ** -0.5, softCap: null };
    return both(() => attention(query, key, value, visible, shape, forget));
  },
  norm: (rows, width) => {
    const x = tf.randomNormal<tf.Rank.R2>([rows, width]);
    const norm = { weight: tf.ones<tf.Rank.R1>([width]), epsilon: 1e-5, offset: 0 } as const;
    return both(() => rmsNorm(x, norm, forget));
  },
  gated: (rows, width) => {
    const [gate, up] = [tf.randomNormal<tf.Rank.R2>([rows, width]), tf.randomNormal<tf.Rank.R2>([rows, width])];
    return both(() => gatedUnit(gate, up, 'silu', forget));
  },
  train: (sequences, length) => {
    const gradients = gradientsOf(sequences, length);
    return () => tf.dispose(gradients());
  },
  update: (sequences, length) => {
    const gradients = gradientsOf(sequences, length);
    const { variables } = policy();
    const optimizer = new AdamW(variables, resolveSettings({}).optimizer);
    return () => {
      const own = gradients();
      optimizer.update(
        Object.fromEntries(Object.entries(variables).map(([name, variable]) => [name, own[variable.name]])),
      );
      tf.dispose(own);
    };
  },
  generate: (rows, prompt, tokens) => () => {
    const decoder = policy().decode(
      batchOf(rows, prompt),
      Int32Array.from({ length: rows }, (_, i) => i),
      tokens,
    );
    for (let i = 0; i < tokens; i++) {
      const best = tf.tidy(() => tf.argMax(decoder.logits, 1).dataSync<'int32'>());
      if (i + 1 < tokens) decoder.append(best.slice());
    }
    decoder.dispose();
  },
};

const ready = new Map<string, () => void>();
for await (const line of createInterface({ input: process.stdin })) {
  if (line === 'peak') {
    console.log(1024 * process.resourceUsage().maxRSS);
    continue;
  }
  const [kind, ...numbers] = line.split(' ');
  const work = ready.get(line) ?? kinds[kind](...numbers.map(Number));
  ready.set(line, work);
  console.log(seconds(work));
}
