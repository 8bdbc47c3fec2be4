// `npm run bench:model`: primitives, an update (forward and backward pass and AdamW), generation of a transformer in the shape of
// SmolLM2-135M, on the backend groupgrad compared with PyTorch with transformers, tfjs-node, and llama.cpp, which take turns in every
// round. Prints a Markdown table and writes JSON with the machine.
//
//   npm run bench:model -- --python venv/bin/python --rounds 9 --layers 30
//   npm run bench:model -- --llama-cpp ../llama    generation by llama.cpp too
//   npm run bench:model -- --only attention    requests that begin so
//   npm run bench:model -- --out file.json     default: bench/results/model-<cores>-cores.json
//
// --python, or GROUPGRAD_TORCH_PYTHON: a Python with PyTorch and transformers.
// --llama-cpp: a folder outside of this package with node-llama-cpp, which holds a build for every platform:
//   npm install --prefix ../llama node-llama-cpp@3.21.1
// Without one of them, or without tfjs-node, those columns are empty.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { machine } from '../machine.js';
import { writeGguf } from './model-folder.js';
import { type Contender, program, pythonProgram, startPeers, summary, takeTurns, timesAsFast } from './peer.js';

const { values: flags } = parseArgs({
  options: {
    python: { type: 'string', default: process.env.GROUPGRAD_TORCH_PYTHON },
    rounds: { type: 'string', default: '9' },
    layers: { type: 'string', default: '30' },
    threads: { type: 'string', default: String(availableParallelism()) },
    'llama-cpp': { type: 'string' },
    only: { type: 'string', default: '' },
    out: { type: 'string', default: `bench/results/model-${availableParallelism()}-cores.json` },
  },
});
const [rounds, threads] = [Number(flags.rounds), Number(flags.threads)];

interface Request {
  /** In the form that the contenders' programs read. */
  request: string;
  what: string;
}

const primitives: Request[] = [
  { request: 'attention 8 128', what: 'attention, 8 × 128' },
  { request: 'attention 2 1024', what: 'attention, 2 × 1024' },
  { request: 'norm 1024 576', what: 'RMSNorm, 1024 × 576' },
  { request: 'gated 1024 1536', what: 'gated unit, 1024 × 1536' },
];
const update: Request = { request: 'update 8 128', what: 'update, 8 × 128 tokens' };
const generation: Request = {
  request: 'generate 32 32 32',
  what: 'generation, 32 prompts of 32 tokens, 32 new ones',
};

const own = (precision: string) =>
  program(nameOf('groupgrad', precision), 'model-tfjs.ts', 'groupgrad', flags.threads, flags.layers, precision);
const torch = (precision: string) =>
  pythonProgram(flags.python, nameOf('PyTorch', precision), 'model_torch.py', flags.threads, flags.layers, precision);
const inFloat32 = [
  own('float32'),
  ...torch('float32'),
  program('tfjs-node', 'model-tfjs.ts', 'tensorflow', flags.threads, flags.layers, 'float32'),
];
const inBfloat16 = [own('bfloat16'), ...torch('bfloat16')];

function nameOf(contender: string, precision: string): string {
  return precision === 'float32' ? contender : `${contender}, ${precision}`;
}

/** llama.cpp with the same number and types of weights, written to `folder`. */
function llama(folder: string): Contender[] {
  const place = flags['llama-cpp'];
  if (place === undefined) return [];
  return (['float32', 'bfloat16'] as const).map((precision) => {
    const file = join(folder, `${precision}.gguf`);
    writeGguf(file, Number(flags.layers), precision === 'float32' ? 'F32' : 'BF16');
    return program(nameOf('llama.cpp', precision), 'model-llama.ts', place, file, flags.threads);
  });
}

interface Measured {
  name: string;
  median: number;
  quartiles: number[];
  /** Speed-up of the backend groupgrad in the same precision. */
  ratio: number;
}
const results: { what: string; measured: Measured[]; peakBytes: Record<string, number> }[] = [];
const versions: Record<string, string> = {};

/** Each group of contenders runs at a time: whole models take memory. */
async function measure(all: readonly Request[], contenders: readonly Contender[]): Promise<void> {
  const requests = all.filter(({ request }) => request.startsWith(flags.only));
  if (requests.length === 0) return;
  const started = await startPeers(contenders);
  Object.assign(versions, started.versions);
  for (const { request, what } of requests) {
    const samples = await takeTurns(started.peers, request, rounds);
    const measured = Object.entries(samples).map(([name, seconds]) => ({
      name,
      ...summary(seconds),
      ratio: timesAsFast(samples[nameOf('groupgrad', name.includes('bfloat16') ? 'bfloat16' : 'float32')], seconds),
    }));
    const peakBytes: Record<string, number> = {};
    for (const peer of started.peers) peakBytes[peer.contender.name] = await peer.measure('peak');
    results.push({ what, measured, peakBytes });
  }
  for (const peer of started.peers) peer.stop();
}

const folder = mkdtempSync(join(tmpdir(), 'groupgrad-bench-'));
try {
  await measure(primitives, inFloat32);
  await measure([update], [...inFloat32, ...inBfloat16]);
  await measure([generation], [...inFloat32, ...inBfloat16, ...llama(folder)]);
} finally {
  rmSync(folder, { recursive: true, force: true });
}

const names = Object.keys(versions);
console.log(`\nMilliseconds, median of ${rounds} rounds (quartiles), ${threads} threads, ${flags.layers} layers;`);
console.log('how many times as fast the backend groupgrad is in the same precision\n');
console.log(`| | ${names.join(' | ')} |`);
console.log(`| --- |${' --- |'.repeat(names.length)}`);
for (const { what, measured, peakBytes } of results) {
  const cells = names.map((name) => {
    const found = measured.find((each) => each.name === name);
    if (!found) return '';
    const ms = (value: number) => (1e3 * value).toPrecision(3);
    const ratio = name.startsWith('groupgrad') ? '' : `, ${found.ratio.toFixed(2)} ×`;
    return `${ms(found.median)} (${found.quartiles.map(ms).join(' to ')})${ratio}`;
  });
  console.log(`| ${what} | ${cells.join(' | ')} |`);
  if (what === update.what) {
    const gigabytes = names.map((name) => (name in peakBytes ? (peakBytes[name] / 1e9).toFixed(2) : ''));
    console.log(`| its peak memory, GB | ${gigabytes.join(' | ')} |`);
  }
}
mkdirSync(dirname(flags.out), { recursive: true });
const layers = Number(flags.layers);
writeFileSync(
  flags.out,
  `${JSON.stringify({ machine: machine(), threads, rounds, layers, versions, results }, null, 2)}\n`,
);
console.log(`\nwritten to ${flags.out}`);
