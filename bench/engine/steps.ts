// `npm run bench:steps`: whole GRPO steps (sampling and update) on every installed tfjs backend, which take turns in every round: of the
// demo's transformer (16 prompts × 4 completions), or by LoRA of a model folder (8 prompts × 8 completions of 100 tokens). Prints a
// Markdown table and writes JSON with the machine.
//
//   npm run bench:steps -- --rounds 15
//   npm run bench:steps -- --model models/stories260k --out bench/results/steps-stories260k-2-cores.json
//   npm run bench:steps -- --out file.json    default: bench/results/steps-<cores>-cores.json

import { mkdirSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname } from 'node:path';
import { parseArgs } from 'node:util';
import { machine } from '../machine.js';
import { program, quantile, startPeers, takeTurns, timesAsFast } from './peer.js';

const { values: flags } = parseArgs({
  options: {
    rounds: { type: 'string', default: '11' },
    model: { type: 'string' },
    threads: { type: 'string', default: String(availableParallelism()) },
    out: { type: 'string', default: `bench/results/steps-${availableParallelism()}-cores.json` },
  },
});
const [rounds, threads] = [Number(flags.rounds), Number(flags.threads)];
/** Of a round. */
const steps = flags.model ? 2 : 5;

const { peers, versions } = await startPeers(
  ['groupgrad', 'tensorflow', 'wasm'].map((backend) =>
    program(backend, 'steps-tfjs.ts', backend, flags.threads, ...(flags.model ? [flags.model] : [])),
  ),
);
const samples = await takeTurns(peers, String(steps), rounds);
for (const peer of peers) peer.stop();

const rows = Object.entries(samples).map(([name, seconds]) => ({
  name,
  median: quantile(seconds, 0.5),
  quartiles: [quantile(seconds, 0.25), quantile(seconds, 0.75)],
  /** Speed-up of the backend groupgrad. */
  ratio: samples.groupgrad && timesAsFast(samples.groupgrad, seconds),
}));
console.log(`\nSeconds per step, median of ${rounds} rounds of ${steps} steps, ${threads} threads\n`);
console.log('| backend | seconds (quartiles) | groupgrad is faster by |');
console.log('| --- | --- | --- |');
for (const { name, median, quartiles, ratio } of rows) {
  const times = ratio === undefined || name === 'groupgrad' ? '' : `${ratio.toFixed(2)} ×`;
  console.log(`| ${name} | ${median.toFixed(3)} (${quartiles.map((q) => q.toFixed(3)).join(' to ')}) | ${times} |`);
}
mkdirSync(dirname(flags.out), { recursive: true });
writeFileSync(
  flags.out,
  `${JSON.stringify({ machine: machine(), threads, rounds, steps, versions, rows }, null, 2)}\n`,
);
console.log(`\nwritten to ${flags.out}`);
