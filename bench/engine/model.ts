// `npm run bench:model`: primitives, forward and backward pass, generation of a transformer in the shape of SmolLM2-135M, on
// the backend groupgrad compared with PyTorch with transformers, and tfjs-node, which take turns in every round. Prints a
// Markdown table and writes JSON with the machine.
//
//   npm run bench:model -- --python venv/bin/python --rounds 9 --layers 30
//   npm run bench:model -- --only attention    requests that begin so
//   npm run bench:model -- --out file.json     default: bench/results/model-<cores>-cores.json
//
// --python, or GROUPGRAD_TORCH_PYTHON: a Python with PyTorch and transformers. Without one, or without tfjs-node, those
// columns are empty.

import { mkdirSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname } from 'node:path';
import { parseArgs } from 'node:util';
import { machine } from '../machine.js';
import { program, pythonProgram, startPeers, summary, takeTurns, timesAsFast } from './peer.js';

const { values: flags } = parseArgs({
  options: {
    python: { type: 'string', default: process.env.GROUPGRAD_TORCH_PYTHON },
    rounds: { type: 'string', default: '9' },
    layers: { type: 'string', default: '30' },
    threads: { type: 'string', default: String(availableParallelism()) },
    only: { type: 'string', default: '' },
    out: { type: 'string', default: `bench/results/model-${availableParallelism()}-cores.json` },
  },
});
const [rounds, threads] = [Number(flags.rounds), Number(flags.threads)];

/** Each forward and backward, except for generation: in the form that the contenders' programs read. */
const requests = [
  { request: 'attention 8 128', what: 'attention, 8 × 128' },
  { request: 'attention 2 1024', what: 'attention, 2 × 1024' },
  { request: 'norm 1024 576', what: 'RMSNorm, 1024 × 576' },
  { request: 'gated 1024 1536', what: 'gated unit, 1024 × 1536' },
  { request: 'train 8 128', what: 'model, 8 × 128 tokens' },
  { request: 'generate 32 32 32', what: 'generation, 32 prompts of 32 tokens, 32 new ones' },
].filter(({ request }) => request.startsWith(flags.only));

const { peers, versions } = await startPeers([
  program('groupgrad', 'model-tfjs.ts', 'groupgrad', flags.threads, flags.layers),
  ...pythonProgram(flags.python, 'PyTorch', 'model_torch.py', flags.threads, flags.layers),
  program('tfjs-node', 'model-tfjs.ts', 'tensorflow', flags.threads, flags.layers),
]);
const results = [];
for (const { request, what } of requests) {
  const samples = await takeTurns(peers, request, rounds);
  const measured = Object.entries(samples).map(([name, seconds]) => ({
    name,
    ...summary(seconds),
    /** Speed-up of the backend groupgrad. */
    ratio: samples.groupgrad && timesAsFast(samples.groupgrad, seconds),
  }));
  results.push({ what, measured });
}
for (const peer of peers) peer.stop();

const names = peers.map(({ contender }) => contender.name);
console.log(`\nMilliseconds, median of ${rounds} rounds (quartiles), ${threads} threads, ${flags.layers} layers;`);
console.log('how many times as fast the backend groupgrad is\n');
console.log(`| | ${names.join(' | ')} |`);
console.log(`| --- |${' --- |'.repeat(names.length)}`);
for (const { what, measured } of results) {
  const cells = names.map((name) => {
    const own = measured.find((each) => each.name === name);
    if (!own) return '';
    const ms = (value: number) => (1e3 * value).toPrecision(3);
    const ratio = name === 'groupgrad' || own.ratio === undefined ? '' : `, ${own.ratio.toFixed(2)} ×`;
    return `${ms(own.median)} (${own.quartiles.map(ms).join(' to ')})${ratio}`;
  });
  console.log(`| ${what} | ${cells.join(' | ')} |`);
}
mkdirSync(dirname(flags.out), { recursive: true });
const layers = Number(flags.layers);
writeFileSync(
  flags.out,
  `${JSON.stringify({ machine: machine(), threads, rounds, layers, versions, results }, null, 2)}\n`,
);
console.log(`\nwritten to ${flags.out}`);
