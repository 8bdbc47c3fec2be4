// `npm run bench:matmul`: matrix products of the backend groupgrad beside PyTorch's, tfjs-node's and WebAssembly's, at the
// shapes of training and of decoding. In rounds in which every contender has its turn, each peer in a process of its own that
// waits while others compute, so that what else the machine does meets all of them. Prints a Markdown table of medians and
// their quartiles, and the ratio to PyTorch as the median over rounds; writes JSON with the machine.
//
//   npm run bench:matmul -- --python venv/bin/python --rounds 15
//   npm run bench:matmul -- --out file.json    default: bench/results/matmul-<cores>-cores.json
//
// --python, or GROUPGRAD_TORCH_PYTHON: a Python with PyTorch. Without one, and without tfjs-node, those columns stay empty.

import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { machine } from '../machine.js';

const { values: flags } = parseArgs({
  options: {
    python: { type: 'string', default: process.env.GROUPGRAD_TORCH_PYTHON },
    rounds: { type: 'string', default: '9' },
    threads: { type: 'string', default: String(availableParallelism()) },
    out: { type: 'string', default: `bench/results/matmul-${availableParallelism()}-cores.json` },
  },
});
const [rounds, threads] = [Number(flags.rounds), Number(flags.threads)];

/** M, K, N: of training, then of decoding with weights that are used again and again. */
const shapes = [
  [1008, 1024, 1024],
  [1008, 576, 1536],
  [4088, 896, 4864],
  [28, 896, 4864],
  [56, 576, 49152],
  [1, 896, 4864],
] as const;

interface Contender {
  name: string;
  command: string;
  args: string[];
}

const file = (name: string) => fileURLToPath(new URL(name, import.meta.url));
const tfjs = (backend: string, precision = 'float32'): Contender => ({
  name: precision === 'float32' ? backend : `${backend}, ${precision}`,
  command: process.execPath,
  args: ['--import', 'tsx', file('matmul-tfjs.ts'), backend, precision, String(threads)],
});
const torch = (precision: string): Contender[] =>
  flags.python
    ? [
        {
          name: `PyTorch, ${precision}`,
          command: flags.python,
          args: [file('matmul_torch.py'), precision, String(threads)],
        },
      ]
    : [];
const contenders: Contender[] = [
  tfjs('groupgrad'),
  ...torch('float32'),
  tfjs('groupgrad', 'bfloat16'),
  ...torch('bfloat16'),
  tfjs('tensorflow'),
  tfjs('wasm'),
];

/** A contender's process: given a shape, it answers with the seconds of one product, the best of a short series. */
class Peer {
  private readonly process: ChildProcess;
  private readonly lines: AsyncIterator<string>;

  constructor(readonly contender: Contender) {
    this.process = spawn(contender.command, contender.args, { stdio: ['pipe', 'pipe', 'ignore'] });
    this.lines = createInterface({ input: this.process.stdout! })[Symbol.asyncIterator]();
  }

  /** Its version, or undefined where it cannot run here. */
  async start(): Promise<string | undefined> {
    const { done, value } = await this.lines.next();
    return done ? undefined : value;
  }

  async measure(shape: readonly number[]): Promise<number> {
    this.process.stdin!.write(`${shape.join(' ')}\n`);
    const { done, value } = await this.lines.next();
    if (done) throw new Error(`${this.contender.name} ended`);
    return Number(value);
  }

  stop(): void {
    this.process.stdin!.end();
  }
}

function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = q * (sorted.length - 1);
  const low = Math.floor(at);
  return sorted[low] + (at - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
}

const peers: Peer[] = [];
const versions: Record<string, string> = {};
for (const contender of contenders) {
  const peer = new Peer(contender);
  const version = await peer.start();
  if (version === undefined) {
    console.log(`${contender.name}: not here`);
    continue;
  }
  versions[contender.name] = version;
  peers.push(peer);
}

const results = [];
for (const shape of shapes) {
  const [m, k, n] = shape;
  const samples: Record<string, number[]> = Object.fromEntries(peers.map(({ contender }) => [contender.name, []]));
  for (const peer of peers) await peer.measure(shape); // memory, packing
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < peers.length; i++) {
      const peer = peers[(i + round) % peers.length];
      samples[peer.contender.name].push(await peer.measure(shape));
    }
  }
  const gigaflops = (seconds: number) => (2 * m * k * n) / seconds / 1e9;
  const measured = Object.entries(samples).map(([name, seconds]) => {
    const precision = name.includes('bfloat16') ? 'bfloat16' : 'float32';
    const reference = samples[`PyTorch, ${precision}`];
    return {
      name,
      median: gigaflops(quantile(seconds, 0.5)),
      quartiles: [gigaflops(quantile(seconds, 0.75)), gigaflops(quantile(seconds, 0.25))],
      timesPyTorch:
        reference &&
        quantile(
          seconds.map((s, i) => reference[i] / s),
          0.5,
        ),
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
