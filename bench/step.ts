// `npm run bench:step`: whole training steps with a large vocabulary, with the fused loss and with the same loss in tfjs
// operations, on every installed tfjs backend. Everything except the loss is the same code. Prints a Markdown table and writes JSON
// with the machine.
//
//   npm run bench:step -- --vocab 32000 --width 64 --steps 7
//   npm run bench:step -- --out file.json    default: bench/results/step-<cores>-cores.json

import { mkdirSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname } from 'node:path';
import { parseArgs } from 'node:util';
import * as tf from '@tensorflow/tfjs-core';
import { startBackend } from '../src/backend/backend.js';
import { type Backend, backends } from '../src/backend/names.js';
import { type LossConfig, presets } from '../src/index.js';
import type { Policy } from '../src/model/policy.js';
import { createTransformer } from '../src/model/transformer.js';
import { accuracyReward } from '../src/rollout/rewards.js';
import { sampleGroups } from '../src/rollout/rollout.js';
import { tokenTask } from '../src/rollout/token-task.js';
import type { Task } from '../src/tasks/index.js';
import type { Vocabulary } from '../src/text/vocabulary.js';
import { grpoLoss } from '../src/tfjs/index.js';
import { AdamW } from '../src/train/adamw.js';
import { assignAdvantages } from '../src/train/advantages.js';
import { completionBatch, spread } from '../src/train/completions.js';
import { resolveSettings } from '../src/train/options.js';
import { updatePolicy } from '../src/train/update.js';
import { tfjsLogitsLoss } from './baselines/tfjs-loss.js';
import { machine } from './machine.js';

const { values: flags } = parseArgs({
  options: {
    vocab: { type: 'string', default: '32000' },
    width: { type: 'string', default: '64' },
    steps: { type: 'string', default: '7' },
    out: { type: 'string' },
  },
});
const [vocab, width, steps] = [Number(flags.vocab), Number(flags.width), Number(flags.steps)];

/** Token ids written as numbers. */
const vocabulary: Vocabulary = {
  id: `${vocab} numbers`,
  size: vocab,
  end: 0,
  encode: (text) => Int32Array.from(text.split(' '), Number),
  decode: (tokens) => tokens.join(' '),
};

/** Rewards the share of even tokens: groups always have a gradient, and completions rarely end early. */
const task: Task = {
  name: 'even tokens',
  characters: '0123456789 ',
  maxPromptLength: 8,
  maxSolutionLength: 31,
  example: (index) => {
    const prompt = Array.from({ length: 8 }, (_, i) => 1 + ((index * 8 + i) % (vocab - 1))).join(' ');
    return { prompt, answer: '2', solution: '2', difficulty: 0 };
  },
  score: (text) => {
    const tokens = text.split(' ').map(Number);
    return tokens.filter((token) => token % 2 === 0).length / tokens.length;
  },
};

interface Times {
  step: number;
  sampling: number;
  forwardBackward: number;
  optimizer: number;
}

interface Row extends Times {
  backend: string;
  loss: string;
  config: string;
  times: number;
}

const settings = resolveSettings({ promptsPerStep: 4, groupSize: 8 });
/** The fused loss always computes entropies; the other one only if requested. */
const cases: Record<string, { config: LossConfig; metric: boolean }> = {
  'without entropies': { config: presets.dapo, metric: false },
  'entropy as a metric': { config: presets.dapo, metric: true },
  'entropy bonus': { config: { ...presets.dapo, entropy: { coefficient: 0.01 } }, metric: false },
};
type Case = (typeof cases)[string];
const losses = {
  'groupgrad, fused': (logits: tf.Tensor, batch: Parameters<typeof grpoLoss>[1], { config }: Case) =>
    grpoLoss(logits, batch, config, { inPlace: true }),
  'tfjs operations': (logits: tf.Tensor, batch: Parameters<typeof grpoLoss>[1], { config, metric }: Case) => {
    const { sequences, length } = batch.shape!;
    return tfjsLogitsLoss(
      tf.reshape(logits, [sequences, length, vocab]),
      {
        tokens: batch.tokens,
        mask: batch.mask as Uint8Array,
        oldLogProbs: batch.oldLogProbs,
        advantages: batch.advantages!,
      },
      config,
      metric ? () => {} : undefined,
    );
  },
};

type LossName = keyof typeof losses;

interface Learner {
  policy: Policy;
  optimizer: AdamW;
  times: Times[];
}

/** Medians of both losses. They take turns, step by step, so that other load on the machine affects both. */
async function measure(kind: Case): Promise<Record<LossName, Times>> {
  const names = Object.keys(losses) as LossName[];
  const learners = names.map((): Learner => {
    const policy = createTransformer(
      { layers: 2, width, heads: 4, keyValueHeads: 4, hidden: 2 * width },
      vocabulary,
      1,
    );
    return { policy, optimizer: new AdamW(policy.variables, settings.optimizer), times: [] };
  });
  // The first two steps fill caches and pools.
  for (let step = 0; step < steps + 2; step++) {
    for (const [i, learner] of learners.entries()) {
      const times = await makeStep(learner, losses[names[i]], kind, step);
      if (step >= 2) learner.times.push(times);
    }
  }
  for (const { policy, optimizer } of learners) {
    optimizer.dispose();
    policy.dispose();
  }
  return Object.fromEntries(names.map((name, i) => [name, medians(learners[i].times)])) as Record<LossName, Times>;
}

async function makeStep(
  { policy, optimizer }: Learner,
  loss: (typeof losses)[LossName],
  kind: Case,
  step: number,
): Promise<Times> {
  const tokens = tokenTask(task, policy, { promptLength: null, maxTokens: null });
  const began = performance.now();
  const examples = Array.from({ length: settings.promptsPerStep }, (_, i) => task.example(4 * step + i));
  const options = { groupSize: 8, temperature: 1, seed: 1, step, rewards: [accuracyReward] };
  let sampled = began;
  const groups = await sampleGroups(policy, tokens, examples, {
    ...options,
    onSampled: () => {
      sampled = performance.now();
    },
  });
  assignAdvantages(groups, groups, settings, undefined, { whole: [accuracyReward], steps: [] });
  const rows = groups.flatMap(({ prompt, completions }) => completions.map((own) => ({ prompt, own })));
  const completions = completionBatch(
    rows.map(({ prompt, own }) => ({ prompt, completion: own.tokens })),
    { padding: vocabulary.end, contextLength: tokens.promptLength + tokens.maxTokens - 1 },
  );
  const { input, from, shape, targets, mask } = completions;
  const batch = {
    shape,
    tokens: targets,
    mask,
    oldLogProbs: spread(
      rows.map(({ own }) => own.logProbs),
      completions,
    ),
    advantages: Float32Array.from(rows, ({ own }) => own.advantage),
  };
  const update = await updatePolicy(policy, optimizer, [
    () => loss(policy.logits(input, from), batch, kind) as tf.Scalar,
  ]);
  return {
    step: performance.now() - began,
    sampling: sampled - began,
    forwardBackward: 1e3 * update.forwardBackward,
    optimizer: 1e3 * update.optimizer,
  };
}

function medians(all: readonly Times[]): Times {
  const median = (name: keyof Times) => {
    const sorted = all.map((times) => times[name]).sort((x, y) => x - y);
    return sorted[Math.floor(sorted.length / 2)];
  };
  return {
    step: median('step'),
    sampling: median('sampling'),
    forwardBackward: median('forwardBackward'),
    optimizer: median('optimizer'),
  };
}

const rows: Row[] = [];
const skipped: { backend: string; reason: string }[] = [];
/** The plain cpu backend takes minutes per step. */
for (const backend of backends.filter((name) => name !== 'cpu') as Backend[]) {
  try {
    await startBackend(backend);
  } catch (error) {
    skipped.push({ backend, reason: (error as Error).message.split('\n').at(-1)!.trim() });
    continue;
  }
  for (const [name, kind] of Object.entries(cases)) {
    const measured = await measure(kind).catch((error: Error) => {
      skipped.push({ backend: `${backend}, ${name}`, reason: error.message.split('\n')[0] });
    });
    if (!measured) continue;
    const fused = measured['groupgrad, fused'].step;
    for (const [loss, times] of Object.entries(measured)) {
      rows.push({ backend, loss, config: name, ...times, times: times.step / fused });
    }
  }
}

const number = (value: number) => value.toLocaleString('en', { maximumSignificantDigits: 3, useGrouping: false });
console.log(`\n### Whole steps, V = ${vocab}, 32 completions of 32 tokens, width ${width}\n`);
console.log('| backend | loss | | step ms | sampling | forward and backward | optimiser | times the fused loss |');
console.log('| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |');
for (const { backend, loss, config, step, sampling, forwardBackward, optimizer, times } of rows) {
  const values = [step, sampling, forwardBackward, optimizer, times].map(number).join(' | ');
  console.log(`| ${backend} | ${loss} | ${config} | ${values} |`);
}
for (const { backend, reason } of skipped) console.log(`\nNot measured: ${backend}: ${reason}`);

const out = flags.out ?? `bench/results/step-${availableParallelism()}-cores.json`;
mkdirSync(dirname(out), { recursive: true });
const result = { date: new Date().toISOString(), machine: machine(), vocab, width, rows, skipped };
writeFileSync(out, `${JSON.stringify(result, null, 1)}\n`);
console.log(`\nWritten to ${out}`);
