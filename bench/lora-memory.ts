// `npm run bench:lora-memory`: the memory of a process that trains a model of Qwen2.5-0.5B's shape with random weights by LoRA of
// rank 16: loading, and one update on completions of random tokens with the default options of a run. Prints a table and writes
// JSON with the machine.
//
//   npm run bench:lora-memory -- --backend tensorflow --lengths 512,1024
//   npm run bench:lora-memory -- --passes default,8      completions per pass
//   npm run bench:lora-memory -- --out file.json     default: bench/results/lora-memory-<backend>.json
//
// Each case runs in a separate process, because a process does not return all of its memory. Linux only.

import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import * as tf from '@tensorflow/tfjs-core';
import { startBackend } from '../src/backend/backend.js';
import type { Backend } from '../src/backend/names.js';
import { integer, uniform } from '../src/base/random.js';
import { parametersOf } from '../src/model/architecture.js';
import { readArchitecture, tensorNames } from '../src/model/families.js';
import { Processes } from '../src/processes/processes.js';
import type { Group } from '../src/rollout/api.js';
import { learn } from '../src/train/learn.js';
import { resolveSettings } from '../src/train/options.js';
import { TrainingState } from '../src/train/training-state.js';
import { loadPretrainedPolicy } from '../src/weights/pretrained-policy.js';
import { SafetensorsWriter } from '../src/weights/safetensors-writer.js';
import { machine, status } from './machine.js';

const config = {
  model_type: 'qwen2',
  architectures: ['Qwen2ForCausalLM'],
  hidden_size: 896,
  intermediate_size: 4864,
  num_hidden_layers: 24,
  num_attention_heads: 14,
  num_key_value_heads: 2,
  vocab_size: 151_936,
  max_position_embeddings: 32_768,
  rms_norm_eps: 1e-6,
  rope_theta: 1_000_000,
  tie_word_embeddings: true,
  eos_token_id: 1,
};

const weights = { seed: 1, purpose: 'weights', index: 0 } as const;
const texts = { seed: 2, purpose: 'sampling', index: 0 } as const;

interface Case {
  folder: string;
  backend: Backend;
  sequences: number;
  /** Length of a prompt with its completion in tokens. */
  length: number;
  /** Completions per pass; null: the default of a run. */
  microBatchSize: number | null;
}

interface Measured extends Omit<Case, 'folder'> {
  loadedBytes: number;
  peakBytes: number;
  tensorBytes: number;
  seconds: number;
}

/** Random weights, in BF16 as the model is published, and a tokenizer of a few words. */
function writeModel(folder: string): void {
  const architecture = readArchitecture(config);
  const { tensors } = tensorNames(architecture);
  const entries = parametersOf(architecture).map(({ name, shape }) => ({
    name: tensors.get(name)!,
    type: 'BF16' as const,
    shape,
  }));
  const writer = new SafetensorsWriter(join(folder, 'model.safetensors'), entries, { metadata: { format: 'pt' } });
  // Random numbers are repeated with an odd period, so that writing takes only seconds.
  const numbers = Float32Array.from({ length: 1_000_003 }, (_, i) => uniform(weights, i) - 0.5);
  for (const { name, shape } of writer.tensors) {
    const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
    const spread = shape.length === 1 ? 0 : 0.04;
    const mean = name.includes('norm') ? 1 : 0;
    for (let i = 0; i < values.length; i++) values[i] = mean + spread * numbers[i % numbers.length];
    writer.write(name, values);
  }
  writer.finish();
  const json = (name: string, value: object) => writeFileSync(join(folder, name), JSON.stringify(value));
  const words = ['<pad>', '</s>', 'a', 'b'];
  json('config.json', config);
  json('tokenizer_config.json', { eos_token: '</s>', pad_token: '<pad>' });
  json('tokenizer.json', {
    version: '1.0',
    truncation: null,
    normalizer: null,
    post_processor: null,
    added_tokens: words.slice(0, 2).map((content, id) => ({ id, content, special: true })),
    pre_tokenizer: { type: 'WhitespaceSplit' },
    decoder: { type: 'ByteLevel' },
    model: { type: 'WordLevel', vocab: Object.fromEntries(words.map((word, id) => [word, id])), unk_token: 'a' },
  });
}

/** Loads the model and updates its adapter once, on groups of the requested length. */
async function measure({ folder, ...what }: Case): Promise<Measured> {
  const { backend, sequences, length, microBatchSize } = what;
  await startBackend(backend);
  const loaded = await loadPretrainedPolicy(folder, { lora: { rank: 16 } });
  // Nothing is sampled: log-probs of −1 replace the sampler's, and may differ from those of the loss.
  const policy: typeof loaded = Object.create(loaded, { decodesExactly: { value: false } });
  const loadedBytes = status('VmRSS');
  const settings = resolveSettings({
    promptsPerStep: 1,
    groupSize: sequences,
    ...(microBatchSize !== null && { microBatchSize }),
    sampling: { maxLogProbDifference: 1e6 },
  });
  const state = new TrainingState(policy, settings);
  const promptLength = 64;
  const maxTokens = length - promptLength + 1;
  const ids = (count: number, row: number) =>
    Int32Array.from({ length: count }, (_, i) => integer(texts, config.vocab_size, i, row));
  const completions = Array.from({ length: sequences }, (_, i) => ({
    tokens: ids(maxTokens, i),
    logProbs: new Float32Array(maxTokens).fill(-1),
    truncated: true,
    text: '',
    score: i % 2,
    rewards: {},
    reward: i % 2,
    advantage: i % 2 === 0 ? -1 : 1,
  }));
  const group = {
    example: { prompt: '', answer: '', difficulty: 1 },
    prompt: ids(promptLength, sequences),
    completions,
  };
  const start = performance.now();
  const { optimizer } = state;
  await learn([group as unknown as Group], 1, {
    policy,
    optimizer,
    reference: undefined,
    settings,
    promptLength,
    maxTokens,
    processes: new Processes(),
  });
  const seconds = (performance.now() - start) / 1e3;
  return { ...what, loadedBytes, peakBytes: status('VmHWM'), tensorBytes: tf.memory().numBytes, seconds };
}

async function compare(): Promise<void> {
  const { values: flags } = parseArgs({
    options: {
      backend: { type: 'string', default: 'groupgrad' },
      lengths: { type: 'string', default: '512,1024' },
      passes: { type: 'string', default: 'default,8' },
      out: { type: 'string' },
    },
  });
  const folder = mkdtempSync(join(tmpdir(), 'groupgrad-lora-memory-'));
  const results: Measured[] = [];
  try {
    writeModel(folder);
    console.log(
      `backend ${flags.backend}, LoRA of rank 16 on Qwen2.5-0.5B's shape, float32, 8 completions per update\n`,
    );
    console.log('| tokens of a completion and its prompt | completions per pass | loaded | peak | seconds |');
    console.log('| --- | --- | --- | --- | --- |');
    for (const length of flags.lengths.split(',').map(Number)) {
      for (const pass of flags.passes.split(',')) {
        const microBatchSize = pass === 'default' ? null : Number(pass);
        const child = fork(fileURLToPath(import.meta.url));
        child.send({ folder, backend: flags.backend as Backend, sequences: 8, length, microBatchSize } satisfies Case);
        const ended = once(child, 'exit').then(([code]) => {
          throw new Error(`the process of ${length} tokens ended with ${code}`);
        });
        const [measured] = (await Promise.race([once(child, 'message'), ended])) as [Measured];
        ended.catch(() => {});
        results.push(measured);
        const gigabytes = (bytes: number) => `${(bytes / 1e9).toFixed(2)} GB`;
        const { loadedBytes, peakBytes, seconds } = measured;
        console.log(
          `| ${length} | ${microBatchSize ?? 'default'} | ${gigabytes(loadedBytes)} | ${gigabytes(peakBytes)} | ${seconds.toFixed(0)} |`,
        );
      }
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
  const out = flags.out ?? `bench/results/lora-memory-${flags.backend}.json`;
  mkdirSync(dirname(out), { recursive: true });
  writeFileSync(out, `${JSON.stringify({ machine: machine(), results }, null, 2)}\n`);
  console.log(`\nwritten to ${out}`);
}

if (process.send) {
  const [asked] = (await once(process, 'message')) as [Case];
  const measured = await measure(asked);
  process.send(measured, () => process.disconnect());
} else await compare();
