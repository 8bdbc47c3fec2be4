// CPU time per sampled token with the transformer's cache: the cost of a decoding step with few filled positions of few,
// with few of many, and with many filled. The cases take turns in one process, so that other load on the machine affects all of them.
//
// usage: tsx bench/sampling.ts [backend rows rounds]     default wasm 64 2

import * as tf from '@tensorflow/tfjs-core';
import { startBackend } from '../src/backend/backend.js';
import type { Backend } from '../src/backend/names.js';
import { createTransformer } from '../src/model/transformer.js';
import { padPrompts } from '../src/rollout/sample.js';
import { characterVocabulary } from '../src/text/vocabulary.js';

const [backend = 'wasm', rows = '64', rounds = '5'] = process.argv.slice(2);
/** Tokens of the prompt, and capacity for more. */
const cases = [
  { filled: 16, room: 16 },
  { filled: 16, room: 2016 },
  { filled: 2016, room: 16 },
];
const tokensARound = 6;

if (backend === 'groupgrad') {
  await import('../src/backend.js');
  await tf.setBackend(backend);
} else await startBackend(backend as Backend);
const vocabulary = characterVocabulary('0123456789+=');
const policy = createTransformer({ layers: 4, width: 128, heads: 4, keyValueHeads: 4, hidden: 352 }, vocabulary, 0);
const decoders = cases.map(({ filled, room }) => {
  const prompt = Int32Array.from({ length: filled }, (_, t) => t % vocabulary.size);
  return policy.decode(padPrompts([prompt], filled, 0), new Int32Array(Number(rows)), room);
});
const tokens = Int32Array.from({ length: Number(rows) }, (_, row) => row % vocabulary.size);
const times = cases.map(() => [] as number[]);

/** Milliseconds of CPU time of all threads. */
function cpuTime(work: () => void): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e3;
}

const token = (i: number) => {
  decoders[i].append(tokens);
  decoders[i].logits.dataSync();
};
// Compiles what is compiled at first use.
for (const i of cases.keys()) token(i);
const each = Math.min(Number(rounds), Math.floor((cases[0].room - 1) / tokensARound) || 1);
for (let round = 0; round < each; round++) {
  for (const i of cases.keys()) {
    const spent = cpuTime(() => {
      for (let t = 0; t < tokensARound; t++) token(i);
    });
    times[i].push(spent / tokensARound);
  }
}
cases.forEach(({ filled, room }, i) => {
  const median = times[i].sort((a, b) => a - b)[Math.floor(times[i].length / 2)];
  console.log(`${filled} of ${filled + room} columns filled: ${median.toFixed(0)} ms of CPU a token at ${rows} rows`);
});
