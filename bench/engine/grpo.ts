// `npm run bench:grpo`: whole GRPO steps of a transformer in the shape of SmolLM2-135M, all weights trained: 4 prompts of 30
// tokens × 8 completions of 32, in float32, sampled and trained on by the backend groupgrad and by TRL with transformers, in
// rounds in which each has its turn. Passes have the trainer's default size, which for this model is all completions in one, as
// in TRL; in `small passes` each completion has its own. Prints a Markdown table and writes JSON with the machine.
//
//   npm run bench:grpo -- --python venv/bin/python --rounds 5 --layers 30
//   npm run bench:grpo -- --out file.json    default: bench/results/grpo-<cores>-cores.json
//
// --python, or GROUPGRAD_TORCH_PYTHON: a Python with PyTorch, transformers, TRL and datasets. Without one its rows stay empty.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { machine } from '../machine.js';
import { writeModel } from './model-folder.js';
import { program, pythonProgram, startPeers, summary, takeTurns, timesAsFast } from './peer.js';

const { values: flags } = parseArgs({
  options: {
    python: { type: 'string', default: process.env.GROUPGRAD_TORCH_PYTHON },
    rounds: { type: 'string', default: '5' },
    layers: { type: 'string', default: '30' },
    threads: { type: 'string', default: String(availableParallelism()) },
    out: { type: 'string', default: `bench/results/grpo-${availableParallelism()}-cores.json` },
  },
});
const [rounds, threads, layers] = [Number(flags.rounds), Number(flags.threads), Number(flags.layers)];

const folder = mkdtempSync(join(tmpdir(), 'groupgrad-bench-'));
try {
  writeModel(folder, layers, 'F32');
  const { peers, versions } = await startPeers([
    program('groupgrad', 'grpo-tfjs.ts', folder, 'float32', flags.threads),
    program('groupgrad, bfloat16 products', 'grpo-tfjs.ts', folder, 'bfloat16', flags.threads),
    program('groupgrad, small passes', 'grpo-tfjs.ts', folder, 'float32', flags.threads, '64'),
    ...pythonProgram(flags.python, 'TRL', 'grpo_trl.py', folder, flags.threads),
  ]);
  const samples = await takeTurns(peers, 'step', rounds);
  const rows = [];
  for (const peer of peers) {
    const { name } = peer.contender;
    const seconds = samples[name];
    /** How many times as fast groupgrad is in float32. */
    const ratio = timesAsFast(samples[peers[0].contender.name], seconds);
    rows.push({ name, ...summary(seconds), ratio, peakBytes: await peer.measure('peak') });
  }
  for (const peer of peers) peer.stop();

  console.log(`\nA GRPO step, ${layers} layers, ${threads} threads, median of ${rounds} rounds (quartiles)\n`);
  console.log('| | seconds | groupgrad is faster by | peak memory, GB |\n| --- | --- | --- | --- |');
  for (const { name, median, quartiles, ratio, peakBytes } of rows) {
    const spread = quartiles.map((quartile) => quartile.toFixed(2)).join(' to ');
    const times = name === rows[0].name ? '' : `${ratio.toFixed(2)} ×`;
    console.log(`| ${name} | ${median.toFixed(2)} (${spread}) | ${times} | ${(peakBytes / 1e9).toFixed(2)} |`);
  }
  mkdirSync(dirname(flags.out), { recursive: true });
  writeFileSync(
    flags.out,
    `${JSON.stringify({ machine: machine(), threads, rounds, layers, versions, rows }, null, 2)}\n`,
  );
  console.log(`\nwritten to ${flags.out}`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
