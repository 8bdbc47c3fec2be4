// `npm run bench:matmul`: matrix products of the backend groupgrad compared with PyTorch's, tfjs-node's and WebAssembly's, at the
// shapes of training and of decoding. Contenders take turns in every round, each in a separate process that
// waits while others compute, so that other load on the machine affects all of them. Prints a Markdown table of medians and
// their quartiles, and the ratio to PyTorch as the median over rounds; writes JSON with the machine.
//
//   npm run bench:matmul -- --python venv/bin/python --rounds 15
//   npm run bench:matmul -- --out file.json    default: bench/results/matmul-<cores>-cores.json
//
// --python, or GROUPGRAD_TORCH_PYTHON: a Python with PyTorch. Without one, or without tfjs-node, those columns are empty.

import { mkdirSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname } from 'node:path';
import { parseArgs } from 'node:util';
import { machine } from '../machine.js';
import { type Contender, program, pythonProgram, quantile, startPeers, takeTurns, timesAsFast } from './peer.js';

const { values: flags } = parseArgs({
  options: {
    python: { type: 'string', default: process.env.GROUPGRAD_TORCH_PYTHON },
    rounds: { type: 'string', default: '9' },
    threads: { type: 'string', default: String(availableParallelism()) },
    out: { type: 'string', default: `bench/results/matmul-${availableParallelism()}-cores.json` },
  },
});
const [rounds, threads] = [Number(flags.rounds), Number(flags.threads)];

/** M, K, N: of training, then of decoding, whose weights are used repeatedly. */
const shapes = [
  [1008, 1024, 1024],
  [1008, 576, 1536],
  [4088, 896, 4864],
  [28, 896, 4864],
  [56, 576, 49152],
  [1, 896, 4864],
] as const;

const tfjs = (backend: string, precision = 'float32'): Contender => {
  const name = precision === 'float32' ? backend : `${backend}, ${precision}`;
  return program(name, 'matmul-tfjs.ts', backend, precision, String(threads));
};
const torch = (precision: string): Contender[] =>
  pythonProgram(flags.python, `PyTorch, ${precision}`, 'matmul_torch.py', precision, String(threads));
const contenders: Contender[] = [
  tfjs('groupgrad'),
  ...torch('float32'),
  tfjs('groupgrad', 'bfloat16'),
  ...torch('bfloat16'),
  tfjs('tensorflow'),
  tfjs('wasm'),
];

const { peers, versions } = await startPeers(contenders);
const results = [];
for (const shape of shapes) {
  const [m, k, n] = shape;
  const samples = await takeTurns(peers, shape.join(' '), rounds);
  const gigaflops = (seconds: number) => (2 * m * k * n) / seconds / 1e9;
  const measured = Object.entries(samples).map(([name, seconds]) => {
    const precision = name.includes('bfloat16') ? 'bfloat16' : 'float32';
    const reference = samples[`PyTorch, ${precision}`];
    return {
      name,
      median: gigaflops(quantile(seconds, 0.5)),
      quartiles: [gigaflops(quantile(seconds, 0.75)), gigaflops(quantile(seconds, 0.25))],
      timesPyTorch: reference && timesAsFast(seconds, reference),
    };
  });
  results.push({ shape, measured });
}
for (const peer of peers) peer.stop();

const names = peers.map(({ contender }) => contender.name);
console.log(
  `\nGFLOP/s, median of ${rounds} rounds (quartiles), ${threads} threads; times PyTorch in the same precision\n`,
);
console.log(`| M × K × N | ${names.join(' | ')} |`);
console.log(`| --- |${' --- |'.repeat(names.length)}`);
for (const { shape, measured } of results) {
  const cells = measured.map(({ name, median, quartiles, timesPyTorch }) => {
    const ratio = timesPyTorch && !name.startsWith('PyTorch') ? `, ${timesPyTorch.toFixed(2)} ×` : '';
    return `${median.toFixed(0)} (${quartiles.map((q) => q.toFixed(0)).join(' to ')})${ratio}`;
  });
  console.log(`| ${shape.join(' × ')} | ${cells.join(' | ')} |`);
}
mkdirSync(dirname(flags.out), { recursive: true });
writeFileSync(flags.out, `${JSON.stringify({ machine: machine(), threads, rounds, versions, results }, null, 2)}\n`);
console.log(`\nwritten to ${flags.out}`);
