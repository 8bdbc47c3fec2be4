// Prints by how many bytes a process's peak memory grows when it computes the loss from hidden states on the CPU device:
// `peak-of-linear-loss.ts <rows> <vocabulary> <rows of a chunk>`.

import { linearLoss, presets } from '../../src/index.js';
import { growthOfPeak } from './peak-memory.js';
import { seeded } from './random.js';

const [rows, vocab, chunkRows] = process.argv.slice(2).map(Number);
const random = seeded(30);
const normal = (length: number) => Float32Array.from({ length }, () => random.normal());
const [sequences, hiddenSize] = [4, 2];
const input = {
  shape: { sequences, length: rows / sequences, hiddenSize, vocab },
  hidden: normal(rows * hiddenSize),
  unembedding: normal(vocab * hiddenSize),
  tokens: Int32Array.from({ length: rows }, () => random.integer(0, vocab - 1)),
  oldLogProbs: new Float32Array(rows).fill(-Math.log(vocab)),
  advantages: normal(sequences),
};
const config = { ...presets.gspo, entropy: { coefficient: 0.01 } };
const compute = (mask?: Uint8Array) => linearLoss({ ...input, mask }, config, { device: 'cpu', chunkRows });
// Code that is compiled and scratch memory that stays do not count.
if (chunkRows < rows) compute(new Uint8Array(rows).fill(1, 0, chunkRows));
console.log(await growthOfPeak(() => compute()));
