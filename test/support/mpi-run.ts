// A process of several that mpirun starts: `mpi-run.ts <what> <folder> [<steps>]`. Writes what it has found into
// <folder>/rank-<number>.json, and its process id into <folder>/pid-<number> before it begins.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startBackend } from '../../src/backend/backend.js';
import { type Communicator, defineReward, GrpoTrainer, mpi } from '../../src/index.js';
import { tinyOptions, weightsOf } from './trainer.js';

const [what, folder, steps] = process.argv.slice(2);
const communicator = mpi();
const { rank, size } = communicator;
writeFileSync(join(folder, `pid-${rank}`), String(process.pid));
const tell = (found: unknown) => writeFileSync(join(folder, `rank-${rank}.json`), JSON.stringify(found));

/** What each operation gives, also where nothing or much is sent, and how often a timer has run meanwhile. */
async function operations({ allGather, broadcast, allReduceSum, name }: Communicator): Promise<unknown> {
  const gathered: number[][] = [];
  for (const length of [0, rank, 3 * rank, 100_000 * (rank + 1)]) {
    const all = await allGather(new Uint8Array(length).fill(rank + 1));
    gathered.push(all.flatMap((bytes) => [bytes.length, bytes.reduce((sum, value) => sum + value, 0)]));
  }
  const values = Float32Array.from({ length: 2_000_000 }, (_, i) => (rank + 1) * (i % 1000));
  // A part of a buffer, so that an offset counts.
  await allReduceSum(values.subarray(1000, 1_900_000));
  const sent = Float32Array.of(rank, 10 * rank);
  await broadcast(sent, size - 1);
  let ticks = 0;
  const timer = setInterval(() => ticks++, 10);
  if (rank === 0) await sleep(500);
  const began = process.cpuUsage();
  await allGather(new Uint8Array(1));
  const { user, system } = process.cpuUsage(began);
  clearInterval(timer);
  return {
    name,
    size,
    gathered,
    sums: [values[999], values[1999], values[1_899_999], values[1_900_999]],
    sent: [...sent],
    ticks,
    busy: (user + system) / 1e6,
  };
}

async function train(): Promise<unknown> {
  await startBackend();
  let calls = 0;
  const trainer = await GrpoTrainer.create({
    ...tinyOptions(),
    communicator,
    rewards: [
      defineReward('digits', async ({ completion }) => {
        if (what === 'slow') await sleep(20);
        if (what === 'throw' && rank === 1 && ++calls === 20) throw new Error('no more rewards');
        if (what === 'exit' && rank === 1 && ++calls === 20) process.exit(3);
        return [...completion.text].filter((character) => character >= '5').length / 4;
      }),
    ],
    optimizer: { learningRate: 0.05, epsilon: 1, maxGradientNorm: 100 },
    checkpoint: { every: 1 },
    runDir: join(folder, 'run'),
  });
  const completions: unknown[] = [];
  for await (const { groups } of trainer.steps({ max: Number(steps) })) {
    completions.push(groups.map((group) => group.completions.map(({ tokens }) => [...tokens])));
  }
  const weights = Object.entries(weightsOf(trainer.policy)).map(([name, values]) => [name, [...values]]);
  trainer.dispose();
  return { completions, weights: Object.fromEntries(weights) };
}

tell(await (what === 'operations' ? operations(communicator) : train()));
