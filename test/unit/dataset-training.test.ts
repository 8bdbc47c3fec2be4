// Data sets in training: the trainer scores them by their own verifier or by the first reward that grades, and rejects data sets
// with neither; in plain configurations, file names are relative to the configuration's folder.

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { before } from 'node:test';
import { startBackend } from '../../src/backend/backend.js';
import { changeConfig, readConfig, resolveConfig } from '../../src/config/load.js';
import { dataset, defineReward, rewards } from '../../src/index.js';
import { createTransformer } from '../../src/model/transformer.js';
import { characterVocabulary } from '../../src/text/vocabulary.js';
import { createTrainer } from '../../src/train/grpo.js';
import { resolveParts } from '../../src/train/options.js';
import { quickBackend } from '../support/backend.js';
import { readLines, temporaryFolder, tinySize } from '../support/trainer.js';

before(async () => void (await startBackend(quickBackend)));

function problems(folder: string): string {
  const path = join(folder, 'problems.jsonl');
  const rows = Array.from({ length: 40 }, (_, i) => ({ q: `${i}`, a: i % 10, level: 1 + (i % 2) }));
  writeFileSync(path, rows.map((row) => JSON.stringify(row)).join('\n'));
  return path;
}

test('a run learns from a data set, scored by the reward that grades', async (t) => {
  const folder = temporaryFolder(t);
  const path = problems(folder);
  const columns = { prompt: 'q', answer: 'a', difficulty: 'level' };
  const train = dataset(path, { ...columns, split: { part: 'train', holdOut: 0.25 } });
  const heldOut = dataset(path, { ...columns, split: { part: 'held-out', holdOut: 0.25 } });
  const policy = createTransformer(tinySize, characterVocabulary('0123456789'), 1);
  const runDir = join(folder, 'run');
  const options = {
    policy,
    train,
    evaluate: { heldOut },
    rewards: [rewards.number(), rewards.overlong({ maxTokens: 3, buffer: 2 })],
    promptsPerStep: 4,
    groupSize: 8,
    sampling: { maxTokens: 3 },
    runDir,
  };
  const trainer = await createTrainer(options);
  await trainer.run({ max: 2, output: null });
  const evaluation = await trainer.evaluate();
  trainer.dispose();
  assert.equal(evaluation.heldOut.count, heldOut.size);
  const [start, first] = readLines(join(runDir, 'metrics.jsonl'));
  assert.equal(typeof start['eval/heldOut/accuracy'], 'number');
  assert.equal(first.accuracy, first['rewards/number/mean']);
  // It resumes with the same file, and rejects a different one.
  const again = await createTrainer(options);
  assert.equal(again.step, 2);
  again.dispose();
  writeFileSync(path, '{"q":"1","a":1,"level":1}\n{"q":"2","a":2,"level":1}\n{"q":"3","a":3}');
  const changed = dataset(path, { ...columns, split: { part: 'train', holdOut: 0.25 } });
  await assert.rejects(
    createTrainer({ ...options, train: changed }),
    /data file .*problems\.jsonl has changed: 40 problems/,
  );
  policy.dispose();
});

test('a data set without any score is rejected by name', (t) => {
  const train = dataset(problems(temporaryFolder(t)), { prompt: 'q', answer: 'a' });
  const verified = dataset(train.files, { prompt: 'q', answer: 'a', verify: 'number' });
  const length = defineReward('length', ({ completion }) => completion.tokens.length);
  const message = /^train.score: expected a function, a grader .* or a reward that grades, .* got none$/;
  assert.throws(() => resolveParts({ train }), { name: 'TypeError', message });
  assert.throws(() => resolveParts({ train, rewards: [length, rewards.format()] }), { name: 'TypeError', message });
  assert.throws(() => resolveParts({ train: verified, evaluate: { other: train } }), {
    message: /^evaluate\.other\.score: /,
  });
  assert.equal(resolveParts({ train: verified }).train, verified);
});

test('the score of a reward is its grade, with the answer that it extracted', async (t) => {
  const train = dataset(problems(temporaryFolder(t)), { prompt: 'q', answer: 'a' });
  const parts = resolveParts({ train, rewards: [rewards.repetition(), rewards.maths()] });
  const example = parts.train.example(3);
  assert.deepEqual(await parts.train.grade!('So it is 3.', example), {
    score: 1,
    extracted: '3',
    reason: 'the same after normalisation',
  });
  assert.deepEqual([await parts.train.score('3', example), await parts.train.score('4', example)], [1, 0]);
});

test('a configuration names files relative to its folder, and options of the data set by their path', async (t) => {
  const folder = temporaryFolder(t);
  const path = problems(folder);
  const write = (config: object) => writeFileSync(join(folder, 'own.json'), JSON.stringify(config));
  const columns = { prompt: 'q', answer: 'a', verify: 'gsm8k' };
  write({
    train: { data: 'problems.jsonl', ...columns, split: { part: 'train', holdOut: 0.5 } },
    evaluate: { both: { data: ['problems.jsonl', path], ...columns } },
  });
  const read = await readConfig(join(folder, 'own.json'));
  const { train, evaluate } = resolveConfig(changeConfig(read, []).config);
  assert.ok(train.size! < 40 && train.score !== undefined);
  assert.equal(evaluate!.both.size, 80);
  const changed = changeConfig(read, [`train.data=${path}`, 'train.split.part=held-out']);
  assert.equal(resolveConfig(changed.config).train.size, 40 - train.size!);
  assert.throws(() => resolveConfig(changeConfig(read, ['train.prompt=x']).config), {
    message: /^train: .*problems\.jsonl:1: prompt: expected the column "x"/,
  });
  assert.throws(() => resolveConfig(changeConfig(read, ['train.verify=math']).config), { message: /^train\.verify: / });
});
