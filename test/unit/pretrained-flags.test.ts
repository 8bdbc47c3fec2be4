// `groupgrad train --model --data`: the run that flags describe, and that its configuration can be read again.

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { pretrainedSettings } from '../../src/cli/pretrained-flags.js';
import { loadConfig, resolveConfig } from '../../src/config/load.js';
import { learningRates } from '../../src/config/pretrained.js';
import { resolveParts, resolveSettings } from '../../src/train/options.js';
import { temporaryFolder } from '../support/trainer.js';

const model = fileURLToPath(new URL('../../../shared/models/stories260k', import.meta.url));
const skip = !existsSync(model) && 'no ../shared/models/stories260k';

function problems(folder: string, name: string): string {
  mkdirSync(join(folder, 'sums'), { recursive: true });
  const path = join(folder, 'sums', name);
  writeFileSync(path, Array.from({ length: 60 }, (_, i) => JSON.stringify({ q: `${i} + 1`, a: i + 1 })).join('\n'));
  return path;
}

test('three flags make a run: its policy, both parts of its data, its settings', { skip }, async (t) => {
  const data = problems(temporaryFolder(t), 'train.jsonl');
  const flags = {
    model,
    data: [data],
    prompt: 'q',
    answer: 'a',
    verify: 'number',
    lora: '4',
    dtype: 'bfloat16',
    hadw: true,
    'max-tokens': '9',
  };
  const { from, name, set } = pretrainedSettings(flags)!;
  assert.equal(name, 'sums');
  const { config } = await loadConfig(from, set);
  assert.deepEqual(config.policy, { model, lora: { rank: 4 }, dtype: 'bfloat16' });
  const options = resolveConfig(config);
  const { train, evaluate } = resolveParts(options);
  assert.equal(train.size! + evaluate.heldOut.size!, 60);
  assert.ok(evaluate.heldOut.size! > 0);
  // The model has no chat template: its prompts are plain strings.
  assert.equal(train.example(0).messages, undefined);
  assert.equal(await train.score('It is 1.', train.example(0)), Number(train.example(0).answer === '1'));
  const settings = resolveSettings(options);
  assert.deepEqual([settings.optimizer.learningRate, settings.sampling.maxTokens], [learningRates.lora, 9]);
  assert.notEqual(settings.hadw, null);
});

test('all weights, another file to evaluate on, a chat, and a held-out share', { skip }, async (t) => {
  const folder = temporaryFolder(t);
  const [data, other] = ['own.jsonl', 'test.jsonl'].map((name) => problems(folder, name));
  const flags = { model, data: [data], prompt: 'q', answer: 'a', verify: 'maths' };
  const full = pretrainedSettings({ ...flags, 'eval-data': [other], system: 'Be brief.' })!;
  assert.equal(full.name, 'own');
  const { config } = await loadConfig(full.from, full.set);
  const options = resolveConfig(config);
  assert.deepEqual([options.train.size, options.evaluate!.heldOut.size], [60, 60]);
  assert.deepEqual(options.train.example(3).messages, [
    { role: 'system', content: 'Be brief.' },
    { role: 'user', content: '3 + 1' },
  ]);
  const settings = resolveSettings(options);
  assert.deepEqual([settings.optimizer.learningRate, settings.hadw], [learningRates.full, null]);
  const half = pretrainedSettings({ ...flags, 'hold-out': '0.5' })!;
  const parts = resolveConfig((await loadConfig(half.from, half.set)).config);
  assert.ok(parts.evaluate!.heldOut.size! > 15 && parts.train.size! > 15);
  assert.throws(
    () => pretrainedSettings({ ...flags, 'hold-out': '0.5', 'eval-data': [other] }),
    /^UsageError: --hold-out: /,
  );
  assert.equal(pretrainedSettings({}), undefined);
});
