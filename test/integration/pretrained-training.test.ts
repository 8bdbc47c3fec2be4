// Models from folders in the trainer: with an adapter and in full, warm start, KL, checkpoints for other programs, resuming,
// export.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { join } from 'node:path';
import test, { before, describe, type TestContext } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { startBackend } from '../../src/backend/backend.js';
import { exportRun } from '../../src/cli/export.js';
import { loadRun } from '../../src/cli/saved-run.js';
import {
  defineReward,
  type GrpoTrainer,
  generate,
  type PretrainedOptions,
  PretrainedPolicy,
  presets,
  type TrainerOptions,
  tokenLogProbs,
} from '../../src/index.js';
import { createTrainer } from '../../src/train/grpo.js';
import type { LoadedPolicy } from '../../src/weights/pretrained-policy.js';
import { SafetensorsFile } from '../../src/weights/safetensors-file.js';
import { quickBackend } from '../support/backend.js';
import { noEngine } from '../support/engine.js';
import { tensorsOf, tinyConfig, wordTask, writeModelFolder } from '../support/model-folder.js';
import { repeats } from '../support/sets.js';
import { lastingFiles, readLines, temporaryFolder, weightsOf } from '../support/trainer.js';

const lora = { rank: 2, alpha: 8 };
/** Includes the unembedding. */
const everyLinear = { ...lora, targets: '.*' };

async function open(
  t: TestContext,
  model: string,
  options: PretrainedOptions,
  change: Partial<TrainerOptions> = {},
): Promise<{ trainer: GrpoTrainer; policy: LoadedPolicy }> {
  const policy = (await PretrainedPolicy.load(model, options)) as LoadedPolicy;
  t.after(() => policy.dispose());
  const trainer = await createTrainer({
    policy,
    train: wordTask,
    evaluate: { all: wordTask },
    evaluation: { every: 3 },
    promptsPerStep: 4,
    groupSize: 4,
    sampling: { maxTokens: 4, promptLength: 4 },
    loss: { ...presets.grpo, kl: { beta: 0.1 } },
    hadw: {},
    optimizer: { learningRate: 2e-2 },
    checkpoint: { every: 2 },
    seed: 5,
    ...change,
  });
  t.after(() => trainer.dispose());
  return { trainer, policy };
}

const checkpointOf = (runDir: string, step: number) =>
  join(runDir, `checkpoints/step-${String(step).padStart(8, '0')}`);
const quiet = { output: null };

describe('models from folders in the trainer', () => {
  before(() => startBackend(quickBackend));

  for (const [kind, options] of [
    ['an adapter', { lora }],
    ['an adapter of the unembedding too', { lora: everyLinear }],
    ['every weight', {}],
  ] as const) {
    test(`a run that trains ${kind} and is resumed ends like an uninterrupted run, bit for bit`, async (t) => {
      const parent = temporaryFolder(t);
      const model = writeModelFolder(join(parent, 'model'));
      const [whole, parts] = [join(parent, 'whole'), join(parent, 'parts')];
      const warmStart = { steps: 4, batchSize: 4 };
      const once = await open(t, model, options, { runDir: whole, warmStart });
      await once.trainer.run({ max: 5, ...quiet });
      for (const max of [1, 3, 5]) {
        const { trainer } = await open(t, model, options, { runDir: parts, warmStart });
        await trainer.run({ max, ...quiet });
        trainer.dispose();
      }
      assert.deepEqual(lastingFiles(parts), lastingFiles(whole));
      const metrics = readLines(join(whole, 'metrics.jsonl'));
      // The reference is the model before reinforcement; with an adapter, also before the warm start.
      const kl = metrics.filter(({ step }) => (step as number) > 0).map((line) => line.kl as number);
      assert.ok(kl.at(-1)! > 1e-6, `KL ${kl.join(', ')}`);
      if (kind === 'every weight') assert.ok(Math.abs(kl[0]) < 1e-6, `KL of the first step ${kl[0]}`);
    });
  }

  test('with an adapter, only A and B have gradient, moments, snapshot and checkpoint, and there is no copy of the reference', async (t) => {
    const parent = temporaryFolder(t);
    const model = writeModelFolder(join(parent, 'model'));
    const runDir = join(parent, 'run');
    const { trainer, policy } = await open(t, model, { lora }, { runDir });
    const before = tf.memory().numTensors;
    await trainer.run({ max: 2, ...quiet });
    assert.equal(tf.memory().numTensors, before);
    const folder = checkpointOf(runDir, 2);
    const names = (file: string) => {
      using opened = new SafetensorsFile(join(folder, file));
      return [...opened.tensors.keys()];
    };
    assert.ok(names('weights.safetensors').length > 0);
    for (const name of [...names('weights.safetensors'), ...names('optimizer.safetensors')])
      assert.match(name, /\.lora_[AB]$/);
    assert.ok(!fs.existsSync(join(folder, 'reference.safetensors')));
    // config.json identifies the frozen weights by their SHA-256.
    const config = JSON.parse(fs.readFileSync(join(runDir, 'config.json'), 'utf8'));
    assert.match(config.identity.policy.weights['model.safetensors'], /^[0-9a-f]{64}$/);
    // The checkpoint itself is an adapter folder.
    const ids = [Int32Array.of(1, 3, 4, 5, 6)];
    const again = await PretrainedPolicy.load(model, { adapter: folder });
    t.after(() => again.dispose());
    assert.deepEqual(weightsOf(again), weightsOf(policy));
    assert.deepEqual(await tokenLogProbs(again, ids), await tokenLogProbs(policy, ids));
    const base = await PretrainedPolicy.load(model);
    t.after(() => base.dispose());
    assert.notDeepEqual(await tokenLogProbs(base, ids), await tokenLogProbs(policy, ids));
  });

  test('reinforcement and a warm start from solutions raise the reward', async (t) => {
    const model = writeModelFolder(join(temporaryFolder(t), 'model'));
    for (const options of [{ lora }, {}].slice(0, repeats(1, 2))) {
      const { trainer, policy } = await open(t, model, options, {
        loss: presets.dapo,
        groupSize: 8,
        rewards: [defineReward('begins', ({ completion }) => Number(completion.text.startsWith('c')))],
      });
      const first = async () => {
        const completions = await generate(policy, ['a b', 'c a'], { maxTokens: 1, samples: 50 });
        return completions.filter(({ tokens }) => tokens[0] === 5).length / 100;
      };
      const start = await first();
      await trainer.run({ max: 25, ...quiet });
      const end = await first();
      assert.ok(end >= start + 0.3, `from ${start} to ${end}`);
      trainer.dispose();
      const warm = await open(t, model, options, {
        warmStart: { steps: 60, batchSize: 9, optimizer: { learningRate: 2e-2 } },
      });
      await warm.trainer.start();
      const [{ tokens }] = await generate(warm.policy, ['a b'], { maxTokens: 4, temperature: 0 });
      assert.deepEqual([...tokens], [5, 2]);
    }
  });

  test('a run resumes with the model in another place, but not with another model', async (t) => {
    const parent = temporaryFolder(t);
    const model = writeModelFolder(join(parent, 'model'));
    const runDir = join(parent, 'run');
    const first = await open(t, model, { lora }, { runDir });
    await first.trainer.run({ max: 2, ...quiet });
    first.trainer.dispose();
    fs.renameSync(model, join(parent, 'moved'));
    const second = await open(t, join(parent, 'moved'), { lora }, { runDir });
    assert.equal(second.trainer.step, 2);
    second.trainer.dispose();
    const tensors = tensorsOf(tinyConfig);
    tensors['model.norm.weight'].values[0] *= 1.5;
    writeModelFolder(model, { tensors });
    await assert.rejects(
      open(t, model, { lora }, { runDir }),
      /begun with other settings or data[\s\S]*policy\.weights\.model\.safetensors/,
    );
    (await loadRun(runDir, {})).policy.dispose();
    writeModelFolder(join(parent, 'moved'), { tensors });
    await assert.rejects(loadRun(runDir, {}), /expected the files that .* was begun with, got different ones/);
  });

  test('a run resumes only with the same type of weights and precision of products', {
    skip: noEngine,
  }, async (t) => {
    await startBackend('groupgrad');
    try {
      const parent = temporaryFolder(t);
      const model = writeModelFolder(join(parent, 'model'), { type: 'BF16' });
      const runDir = join(parent, 'run');
      const options = { lora, dtype: 'bfloat16', precision: 'bfloat16' } as const;
      const begun = await open(t, model, options, { runDir });
      await begun.trainer.run({ max: 2, ...quiet });
      begun.trainer.dispose();
      const { policy: saved } = JSON.parse(fs.readFileSync(join(runDir, 'config.json'), 'utf8')).identity;
      assert.deepEqual([saved.dtype, saved.precision], ['bfloat16', 'bfloat16']);
      const refused: [change: PretrainedOptions, message: RegExp][] = [
        [{ precision: 'float32' }, /policy\.precision: "bfloat16", now nothing/],
        [{ precision: undefined }, /policy\.precision: "bfloat16", now nothing/],
        [{ dtype: 'float32' }, /policy\.dtype: "bfloat16", now "float32"/],
        [{ dtype: undefined }, /policy\.dtype: "bfloat16", now null/],
      ];
      for (const [change, message] of refused) {
        await assert.rejects(open(t, model, { ...options, ...change }, { runDir }), message);
      }
      const again = await open(t, model, options, { runDir });
      assert.equal(again.trainer.step, 2);
      again.trainer.dispose();
      // Loaded by another program, it is the same policy.
      const ids = [Int32Array.of(1, 3, 4, 5, 6)];
      const { policy } = await loadRun(runDir, {});
      assert.equal((policy as LoadedPolicy).description.precision, 'bfloat16');
      assert.deepEqual(await tokenLogProbs(policy, ids), await tokenLogProbs(again.policy, ids));
      policy.dispose();
      // A run that was begun in float32 has no entry, as before the option existed.
      const plain = join(parent, 'plain');
      (await open(t, model, { lora }, { runDir: plain })).trainer.dispose();
      await assert.rejects(
        open(t, model, { lora, precision: 'bfloat16' }, { runDir: plain }),
        /policy\.precision: nothing, now "bfloat16"/,
      );
    } finally {
      await startBackend(quickBackend);
    }
  });

  test('a run is exported as an adapter, merged, and in full', async (t) => {
    const parent = temporaryFolder(t);
    const model = writeModelFolder(join(parent, 'model'));
    const log = t.mock.method(console, 'log', () => {});
    const ids = [Int32Array.of(1, 3, 4, 5, 6)];
    for (const [name, options] of [
      ['adapter', { lora }],
      ['head', { lora: everyLinear }],
      ['full', {}],
    ] as const) {
      const runDir = join(parent, name);
      const { trainer, policy } = await open(t, model, options, { runDir });
      await trainer.run({ max: 2, ...quiet });
      trainer.dispose();
      const expected = await tokenLogProbs(policy, ids);
      const load = async (folder: string, more: PretrainedOptions = {}) => {
        const loaded = await PretrainedPolicy.load(folder, more);
        t.after(() => loaded.dispose());
        return tokenLogProbs(loaded, ids);
      };
      const [own, merged] = [join(parent, `${name}-own`), join(parent, `${name}-merged`)];
      await exportRun([runDir, '--to', own]);
      await exportRun([runDir, '--to', merged, '--merge']);
      assert.deepEqual(await (name === 'full' ? load(own) : load(model, { adapter: own })), expected);
      const [values] = await load(merged);
      for (const [i, value] of values.entries()) assert.ok(Math.abs(value - expected[0][i]) < 1e-4);
    }
    assert.match(String(log.mock.calls[0].arguments[0]), /adapter-own: step 2 of .*step-00000002/);
    await assert.rejects(exportRun([join(parent, 'full')]), /--to: expected the path of a folder/);
  });
});
