// `npm run bench:lora`: LoRA on a model in the shape of SmolLM2-135M with random weights, on the backend groupgrad: frozen weights
// stored in float32 and in bfloat16, products in float32 and in bfloat16. The variants take turns in every round. Prints a Markdown table
// of ratios and writes JSON with the machine.
//
//   npm run bench:lora -- --rounds 9 --layers 30
//   npm run bench:lora -- --out file.json    default: bench/results/lora-<cores>-cores.json

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { machine } from '../machine.js';
import { writeModel } from './model-folder.js';
import { program, startPeers, summary, takeTurns, timesAsFast } from './peer.js';

const { values: flags } = parseArgs({
  options: {
    rounds: { type: 'string', default: '9' },
    layers: { type: 'string', default: '30' },
    threads: { type: 'string', default: String(availableParallelism()) },
    out: { type: 'string', default: `bench/results/lora-${availableParallelism()}-cores.json` },
  },
});
const [rounds, threads, layers] = [Number(flags.rounds), Number(flags.threads), Number(flags.layers)];

const requests = [
  { request: 'train 8 128', what: 'forward and backward, 8 × 128 tokens' },
  { request: 'generate 32 32 32', what: 'generation, 32 prompts of 32 tokens, 32 new ones' },
];

const folder = mkdtempSync(join(tmpdir(), 'groupgrad-bench-'));
try {
  writeModel(folder, layers, 'BF16');
  const contender = (dtype: string, precision: string) =>
    program(
      `weights ${dtype}, products ${precision}`,
      'model-tfjs.ts',
      'groupgrad',
      flags.threads,
      flags.layers,
      precision,
      folder,
      dtype,
    );
  const { peers, versions } = await startPeers([
    contender('float32', 'float32'),
    contender('bfloat16', 'float32'),
    contender('float32', 'bfloat16'),
    contender('bfloat16', 'bfloat16'),
  ]);
  const first = peers[0].contender.name;
  const bytes = async () =>
    Object.fromEntries(
      await Promise.all(peers.map(async (peer) => [peer.contender.name, await peer.measure('peak')] as const)),
    );
  const loaded = await bytes();
  const speeds = [];
  for (const { request, what } of requests) {
    const samples = await takeTurns(peers, request, rounds);
    const measured = Object.entries(samples).map(([name, seconds]) => ({
      name,
      ...summary(seconds),
      /** Speed-up over float32 only. */
      ratio: timesAsFast(seconds, samples[first]),
    }));
    speeds.push({ what, measured });
  }
  const peak = await bytes();
  for (const peer of peers) peer.stop();

  const names = peers.map(({ contender: { name } }) => name);
  console.log(`\nRelative to ${first}: peak memory of the process, and how many times as fast; ${rounds} rounds\n`);
  console.log(`| | ${names.join(' | ')} |\n| --- |${' --- |'.repeat(names.length)}`);
  const row = (what: string, cell: (name: string) => number) =>
    console.log(`| ${what} | ${names.map((name) => cell(name).toFixed(2)).join(' | ')} |`);
  row('memory after loading', (name) => loaded[name] / loaded[first]);
  row('memory after all of it', (name) => peak[name] / peak[first]);
  for (const { what, measured } of speeds) row(what, (name) => measured.find((own) => own.name === name)!.ratio);
  mkdirSync(dirname(flags.out), { recursive: true });
  const results = { machine: machine(), threads, rounds, layers, versions, loaded, peak, speeds };
  writeFileSync(flags.out, `${JSON.stringify(results, null, 2)}\n`);
  console.log(`\nwritten to ${flags.out}`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
