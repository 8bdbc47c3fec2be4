// The learning curve of GRPO with HA-DW on a small Llama, with the Python server of the tests (test/support/rollout_server.py)
// and with the policy's own sampler, over seeds. Both have the same seeds, but a server draws other random numbers: differences
// are those of independent runs.
//
// usage: tsx bench/rollout-curves.ts [seeds] [steps]     default 12 12; GROUPGRAD_PYTHON names a Python with torch, transformers and peft
//
// Writes bench/results/rollout-curves.json, after the seeds that it holds already. Rewards are means over the 24 completions of a
// step; the statistics take one value per seed, the mean over a third of the steps.

import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startBackend } from '../src/backend/backend.js';
import { estimate, signFlipTest } from '../src/evaluation/statistics.js';
import { GrpoTrainer, PretrainedPolicy, type RolloutEngine, vllm } from '../src/index.js';
import { beginnings, lettersReward, lora, settings, stories } from '../test/support/beginnings.js';
import { startPythonServer } from '../test/support/python-server.js';
import { machine } from './machine.js';

const [seedCount, steps] = [Number(process.argv[2] ?? 12), Number(process.argv[3] ?? 12)];
const root = fileURLToPath(new URL('..', import.meta.url));
const seeds = Array.from({ length: seedCount }, (_, i) => i + 1);

interface Curve {
  rewards: number[];
  /** The largest difference of log-probs of a sampled token in each step. */
  differences: number[];
}

async function curve(seed: number, rollout?: RolloutEngine): Promise<Curve> {
  const policy = await PretrainedPolicy.load(stories, { lora, seed });
  const trainer = await GrpoTrainer.create({
    policy,
    train: beginnings,
    rewards: [lettersReward],
    ...settings,
    seed,
    ...(rollout && { rollout }),
  });
  const made: Curve = { rewards: [], differences: [] };
  for await (const { metrics } of trainer.steps({ max: steps })) {
    made.rewards.push(metrics.reward);
    made.differences.push(metrics['sampling/log_prob_difference_max']);
  }
  trainer.dispose();
  policy.dispose();
  return made;
}

const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
const deviation = (values: readonly number[]) =>
  Math.sqrt(values.reduce((sum, value) => sum + (value - mean(values)) ** 2, 0) / (values.length - 1));

const path = join(root, 'bench/results/rollout-curves.json');
interface Run {
  seed: number;
  own: Curve;
  server: Curve;
}
const runs: Run[] = [];
if (existsSync(path)) {
  const before = JSON.parse(readFileSync(path, 'utf8')) as { settings: unknown; steps: number; runs: Run[] };
  const isSame = before.steps === steps && JSON.stringify(before.settings) === JSON.stringify(settings);
  if (isSame) runs.push(...before.runs);
}

/** Steps from the first to the last, counted from 1. */
const parts = [...Array.from({ length: 3 }, (_, i) => [(i * steps) / 3 + 1, ((i + 1) * steps) / 3]), [1, steps]];
const round = (_: string, value: unknown) => (typeof value === 'number' ? Number(value.toPrecision(5)) : value);

/** What the runs say together, also while there are still some to come. */
function write(): void {
  const summary = parts.map(([first, last]) => {
    const of = (which: 'own' | 'server') => runs.map((run) => mean(run[which].rewards.slice(first - 1, last)));
    const [own, served] = [of('own'), of('server')];
    const differences = served.map((value, i) => value - own[i]);
    return {
      steps: `${first} to ${last}`,
      own: { mean: mean(own), deviation: deviation(own) },
      server: { mean: mean(served), deviation: deviation(served) },
      difference: estimate(differences),
      p: signFlipTest(differences).p,
      /** What would be found in four of five such experiments, at 5 %: 2.8 standard errors. */
      detectable: (2.8 * deviation(differences)) / Math.sqrt(differences.length),
    };
  });
  const result = {
    machine: machine(),
    model: `stories260k, LoRA of rank ${lora.rank}`,
    settings,
    steps,
    summary,
    runs,
  };
  writeFileSync(path, `${JSON.stringify(result, round, 1)}\n`);
  console.table(
    summary.map(({ steps: part, own, server: served, difference, p, detectable }) => ({
      steps: part,
      own: own.mean.toFixed(3),
      server: served.mean.toFixed(3),
      difference: `${difference.mean!.toFixed(3)} [${difference.low!.toFixed(3)}, ${difference.high!.toFixed(3)}]`,
      p: p!.toFixed(3),
      detectable: detectable.toFixed(3),
    })),
  );
}

await startBackend('wasm');
const server = await startPythonServer(stories);
const adapters = mkdtempSync(join(tmpdir(), 'groupgrad-curves-'));
try {
  for (const seed of seeds.filter((each) => !runs.some((run) => run.seed === each))) {
    const adapterFolder = join(adapters, String(seed));
    const engine = vllm({ urls: [server.url], model: 'stories260k', adapterFolder, concurrency: 4 });
    // In turns, so that other load on the machine affects both equally.
    const order = seed % 2 === 0 ? (['own', 'server'] as const) : (['server', 'own'] as const);
    const made: Partial<Record<'own' | 'server', Curve>> = {};
    for (const which of order) made[which] = await curve(seed, which === 'server' ? engine : undefined);
    runs.push({ seed, own: made.own!, server: made.server! });
    const shown = (['own', 'server'] as const).map((which) => `${which} ${mean(made[which]!.rewards).toFixed(3)}`);
    console.log(`seed ${seed}: mean reward ${shown.join(', ')}`);
    if (runs.length > 1) write();
  }
} finally {
  await server.end();
  rmSync(adapters, { recursive: true, force: true });
}
