// Time of a step whose completions come from servers, sampled in its own time and ahead of it (maxStaleness). The servers are simulated:
// they answer all completions of a step after a fixed time, a multiple of what a step trains for, and use no processor. Runs take turns, so
// that other load on the machine affects all equally; figures are ratios to the run of the same turn that samples nothing ahead.
//
// usage: tsx bench/rollouts-ahead.ts [--backend groupgrad] [--steps 8] [--rounds 5] [--out file.json]

import { writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { startBackend } from '../src/backend/backend.js';
import type { Backend } from '../src/backend/names.js';
import type { RolloutEngine, Task } from '../src/index.js';
import { createTransformer } from '../src/model/transformer.js';
import { characterVocabulary } from '../src/text/vocabulary.js';
import { createTrainer } from '../src/train/grpo.js';
import { machine } from './machine.js';

const { values } = parseArgs({
  options: {
    backend: { type: 'string', default: 'groupgrad' },
    steps: { type: 'string', default: '8' },
    rounds: { type: 'string', default: '5' },
    out: { type: 'string' },
  },
});
const [steps, rounds] = [Number(values.steps), Number(values.rounds)];
const length = 32;

if (values.backend === 'groupgrad') await import('../src/backend.js');
await startBackend(values.backend as Backend);

const vocabulary = characterVocabulary('0123456789+=');
const task: Task = {
  name: 'digits',
  characters: '0123456789+=',
  maxPromptLength: 4,
  maxSolutionLength: length,
  example: (i) => ({ prompt: String(1000 + (i % 9000)), answer: '', solution: '', difficulty: 0 }),
  score: (text) => [...text].filter((character) => character === '7').length / length,
};

/** Servers that take `delay` milliseconds for a step. */
function simulated(delay: number): RolloutEngine {
  return {
    name: 'simulated',
    keepsVersions: true,
    update: async () => {},
    complete: async (requests, { signal }) => {
      await sleep(delay, undefined, { signal });
      return requests.map(({ promptIndex, sample }) => ({
        tokens: Int32Array.from({ length }, (_, t) => 1 + ((promptIndex * 7 + sample * 3 + t) % (vocabulary.size - 1))),
        logProbs: new Float32Array(length).fill(-Math.log(vocabulary.size)),
        truncated: true,
      }));
    },
  };
}

/** Mean milliseconds of a step, of those after the first few, in which there is nothing sampled ahead yet. */
async function stepTime(delay: number, maxStaleness: number): Promise<number> {
  const policy = createTransformer({ layers: 2, width: 64, heads: 4, keyValueHeads: 4, hidden: 176 }, vocabulary, 1);
  const trainer = await createTrainer({
    policy,
    train: task,
    promptsPerStep: 4,
    groupSize: 8,
    sampling: { maxTokens: length },
    rollout: simulated(delay),
    importanceSampling: { mode: 'token_truncate' },
    microBatchSize: 4,
    evaluation: { atStart: false },
    maxStaleness,
  });
  const first = maxStaleness + 1;
  let began = 0;
  for await (const { index } of trainer.steps({ max: first + steps })) if (index === first) began = performance.now();
  const time = (performance.now() - began) / steps;
  trainer.dispose();
  policy.dispose();
  return time;
}

function median(numbers: readonly number[]): number {
  return [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)];
}

await stepTime(0, 0);
const training = await stepTime(0, 0);
const rows: { delay: number; maxStaleness: number; ratio: number; ratios: number[] }[] = [];
for (const delay of [0.5, 1, 2]) {
  const ratios: Record<number, number[]> = { 1: [], 2: [] };
  for (let round = 0; round < rounds; round++) {
    const base = await stepTime(delay * training, 0);
    for (const maxStaleness of [1, 2])
      ratios[maxStaleness].push((await stepTime(delay * training, maxStaleness)) / base);
  }
  for (const maxStaleness of [1, 2]) {
    const all = ratios[maxStaleness];
    rows.push({ delay, maxStaleness, ratio: median(all), ratios: all });
    const spread = `${Math.min(...all).toFixed(2)} to ${Math.max(...all).toFixed(2)}`;
    console.log(
      `sampling ${delay} times as long as training, maxStaleness ${maxStaleness}: ${median(all).toFixed(2)} of the time (${spread})`,
    );
  }
}
console.log(`a step trains for ${training.toFixed(0)} ms`);
if (values.out) {
  const result = { date: new Date().toISOString(), machine: machine(), backend: values.backend, training, steps, rows };
  writeFileSync(values.out, `${JSON.stringify(result, null, 1)}\n`);
}
