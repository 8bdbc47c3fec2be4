// A resumed run equals the uninterrupted run, bit for bit; runs that must not be resumed are rejected; and what the
// guard does about a value that is not finite.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { join } from 'node:path';
import test, { before, describe, type TestContext } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { startBackend } from '../../src/backend/backend.js';
import { defineReward, presets, tasks } from '../../src/index.js';
import type { Policy } from '../../src/model/policy.js';
import { buildReport } from '../../src/report/run/index.js';
import { disk, newestCheckpoint } from '../../src/run/checkpoint.js';
import type { Example } from '../../src/tasks/task.js';
import type { GrpoStep, GrpoTrainer, TrainerOptions } from '../../src/train/api.js';
import { createTrainer } from '../../src/train/grpo.js';
import { quickBackend } from '../support/backend.js';
import { root, typescript } from '../support/native.js';
import { slowSet } from '../support/sets.js';
import {
  lastingFiles,
  lengthTask,
  readLines,
  temporaryFolder,
  tinyOptions,
  tinyPolicy,
  tinyTask,
} from '../support/trainer.js';

/** Uses everything that a checkpoint must store: a finite task, HA-DW, KL, dynamic sampling, the best metric. */
function options(runDir: string, change: Partial<TrainerOptions> = {}): TrainerOptions {
  return tinyOptions({
    train: { ...lengthTask(), size: 10 },
    evaluate: { short: { ...tinyTask, size: 6 } },
    evaluation: { every: 3 },
    loss: { ...presets.grpo, kl: { beta: 0.05 } },
    hadw: { anchor: { window: 3 } },
    dynamicSampling: { maxRounds: 2 },
    iterations: 2,
    miniBatches: 2,
    warmStart: { steps: 3 },
    optimizer: { learningRate: 1e-2, warmupSteps: 4, schedule: 'cosine', totalSteps: 60 },
    checkpoint: { every: 4, keepBest: 'reward' },
    runDir,
    ...change,
  });
}

async function open(t: TestContext, given: TrainerOptions): Promise<GrpoTrainer> {
  const trainer = await createTrainer(given);
  let open = true;
  const dispose = trainer.dispose.bind(trainer);
  trainer.dispose = () => {
    if (open) dispose();
    open = false;
  };
  t.after(() => {
    trainer.dispose();
    trainer.policy.dispose();
  });
  return trainer;
}

async function train(t: TestContext, given: TrainerOptions, max: number): Promise<GrpoStep[]> {
  const trainer = await open(t, given);
  const steps: GrpoStep[] = [];
  try {
    for await (const step of trainer.steps({ max })) steps.push(step);
  } finally {
    trainer.dispose();
  }
  return steps;
}

/** Truncates a file by its last `bytes`. */
function cut(path: string, bytes: number): void {
  fs.truncateSync(path, fs.statSync(path).size - bytes);
}

/** The file that the guard wrote about a step. */
function readFault(runDir: string, step: number): { action: string; groups: { completions: unknown[] }[] } {
  const name = `step-${String(step).padStart(8, '0')}.json`;
  return JSON.parse(fs.readFileSync(join(runDir, 'faults', name), 'utf8'));
}

function checkpoints(runDir: string): string[] {
  return fs.readdirSync(join(runDir, 'checkpoints')).sort();
}

describe('a resumed run', () => {
  before(async () => void (await startBackend(quickBackend)));

  test('equals the uninterrupted run, wherever it was stopped', async (t) => {
    const whole = join(temporaryFolder(t), 'whole');
    await train(t, options(whole), 10);
    const expected = lastingFiles(whole);
    assert.equal(readLines(join(whole, 'metrics.jsonl')).length, 11);
    for (const stops of [[0], [1], [4], [5, 6], [3, 3, 9]]) {
      const runDir = join(temporaryFolder(t), 'stopped');
      for (const max of [...stops, 10]) await train(t, options(runDir), max);
      assert.deepEqual(lastingFiles(runDir), expected, `stopped after ${stops}`);
    }
  });

  const waits = slowSet('makes fourteen steps nine times');
  test('warns like the uninterrupted run: once, and in the same words', { skip: waits }, async (t) => {
    const given = (runDir: string) =>
      options(runDir, { rewards: [defineReward('same', () => 0.5)], evaluate: {}, checkpoint: { every: 4 } });
    const whole = join(temporaryFolder(t), 'whole');
    await train(t, given(whole), 14);
    const expected = lastingFiles(whole);
    const warnings = readLines(join(whole, 'warnings.jsonl'));
    assert.deepEqual(
      warnings.map(({ step }) => step),
      [10],
    );
    assert.match(warnings[0].warning as string, /^step 10: none of the last 10 steps had a gradient/);
    assert.deepEqual(
      readLines(join(whole, 'metrics.jsonl')).map((line) => line['health/no_gradient']),
      Array.from({ length: 14 }, (_, i) => (i + 1 >= 10 ? 1 : undefined)),
    );
    for (const stops of [[10], [3, 9, 13], [2], [9], [11]]) {
      const runDir = join(temporaryFolder(t), 'stopped');
      for (const max of [...stops, 14]) await train(t, given(runDir), max);
      assert.deepEqual(lastingFiles(runDir), expected, `stopped after ${stops}`);
    }
  });

  test('ignores lines that were written after its checkpoint', async (t) => {
    const [whole, runDir] = [join(temporaryFolder(t), 'whole'), join(temporaryFolder(t), 'killed')];
    await train(t, options(whole), 6);
    await train(t, options(runDir), 4);
    // As after a kill in the middle of a line.
    for (const log of ['metrics', 'samples', 'timing'])
      fs.appendFileSync(join(runDir, `${log}.jsonl`), '{"step":5}\n{"st');
    fs.mkdirSync(join(runDir, 'checkpoints', '.new-step-00000005'));
    await train(t, options(runDir), 6);
    assert.deepEqual(lastingFiles(runDir), lastingFiles(whole));
    assert.deepEqual(
      readLines(join(runDir, 'timing.jsonl')).map(({ step }) => step),
      [1, 2, 3, 4, 5, 6],
    );
    assert.ok(!checkpoints(runDir).some((name) => name.startsWith('.')));
  });

  test('uses the newest intact checkpoint and reports the skipped ones', async (t) => {
    const [whole, runDir] = [join(temporaryFolder(t), 'whole'), join(temporaryFolder(t), 'torn')];
    await train(t, options(whole), 10);
    await train(t, options(runDir), 8);
    const newest = join(runDir, 'checkpoints', 'step-00000008');
    cut(join(newest, 'optimizer.safetensors'), 1);
    const trainer = await open(t, options(runDir));
    assert.ok(trainer.step < 8);
    assert.equal(trainer.notices.length, 1);
    assert.match(
      trainer.notices[0],
      /skipped checkpoints .*step-00000008: optimizer\.safetensors: expected \d+ bytes/s,
    );
    trainer.dispose();
    await train(t, options(runDir), 10);
    assert.deepEqual(lastingFiles(runDir), lastingFiles(whole));
  });

  test('rejects a folder without an intact checkpoint, and does not change it', async (t) => {
    const runDir = join(temporaryFolder(t), 'broken');
    await train(t, options(runDir), 4);
    for (const name of checkpoints(runDir)) fs.rmSync(join(runDir, 'checkpoints', name, 'manifest.json'));
    const metrics = fs.readFileSync(join(runDir, 'metrics.jsonl'));
    await assert.rejects(createTrainer(options(runDir)), /none of its checkpoints are intact:\n {2}.*manifest\.json/);
    assert.deepEqual(fs.readFileSync(join(runDir, 'metrics.jsonl')), metrics);
  });

  test('starts again if it had no checkpoint yet', async (t) => {
    const [whole, runDir] = [join(temporaryFolder(t), 'whole'), join(temporaryFolder(t), 'early')];
    await train(t, options(whole), 2);
    const early = await open(t, options(runDir));
    early.dispose();
    fs.appendFileSync(join(runDir, 'metrics.jsonl'), '{"step":0}\n');
    const trainer = await open(t, options(runDir));
    assert.deepEqual(trainer.notices, ['the run had no checkpoint yet and starts again']);
    for await (const _ of trainer.steps({ max: 2 }));
    assert.deepEqual(lastingFiles(runDir), lastingFiles(whole));
  });

  test('is saved however its loop ends', async (t) => {
    const runDir = join(temporaryFolder(t), 'left');
    const trainer = await open(t, options(runDir));
    for await (const step of trainer.steps()) if (step.index === 2) break;
    assert.ok(checkpoints(runDir).includes('step-00000002'));
    const stop = new AbortController();
    for await (const step of trainer.steps({ signal: stop.signal })) if (step.index === 3) stop.abort();
    assert.equal(trainer.step, 3);
    assert.ok(checkpoints(runDir).includes('step-00000003'));
    await assert.rejects(async () => {
      for await (const _ of trainer.steps()) throw new Error('of the caller');
    }, /of the caller/);
    assert.ok(checkpoints(runDir).includes('step-00000004'));
  });

  test('keeps the last, every n-th, and the best of its checkpoints', async (t) => {
    const runDir = join(temporaryFolder(t), 'kept');
    // The reward falls with every step.
    let calls = 0;
    const rewards = [defineReward('falling', () => -calls++)];
    const checkpoint = { every: 1, keepLast: 2, keepEvery: 3, keepBest: 'reward' };
    await train(t, options(runDir, { rewards, checkpoint }), 7);
    const numbers = checkpoints(runDir).map((name) => Number(name.slice(5)));
    assert.deepEqual(numbers, [0, 1, 3, 6, 7]);
  });

  test('broken checkpoints of later steps do not replace intact ones', async (t) => {
    const runDir = join(temporaryFolder(t), 'pushed');
    const checkpoint = { every: 2, keepLast: 3 };
    await train(t, options(runDir, { checkpoint }), 8);
    for (const step of [6, 8]) fs.rmSync(join(runDir, 'checkpoints', `step-0000000${step}`, 'manifest.json'));
    await train(t, options(runDir, { checkpoint: { keepLast: 2 } }), 5);
    assert.equal(newestCheckpoint(join(runDir, 'checkpoints')).found?.step, 5);
  });

  test('a checkpoint that cannot be removed does not undo a step, and is reported', async (t) => {
    const [whole, runDir] = [join(temporaryFolder(t), 'whole'), join(temporaryFolder(t), 'stuck')];
    const checkpoint = { every: 1, keepLast: 1 };
    await train(t, options(whole, { checkpoint }), 5);
    const trainer = await open(t, options(runDir, { checkpoint }));
    const rename = t.mock.method(disk, 'rename', (from: string, to: string) => {
      if (to.includes('.old-')) throw new Error('EBUSY');
      fs.renameSync(from, to);
    });
    for await (const _ of trainer.steps({ max: 3 }));
    rename.mock.restore();
    assert.equal(trainer.notices.length, 3);
    assert.match(trainer.notices[0], /step-00000000: could not be removed: EBUSY/);
    for await (const _ of trainer.steps({ max: 5 }));
    trainer.dispose();
    assert.deepEqual(checkpoints(runDir), ['step-00000005']);
    assert.deepEqual(lastingFiles(runDir), lastingFiles(whole));
  });

  test('begun from a checkpoint of another run, has its own checkpoint from the start', async (t) => {
    const folder = temporaryFolder(t);
    const [from, runDir] = [join(folder, 'from'), join(folder, 'to')];
    await train(t, options(from), 4);
    const trainer = await open(t, options(runDir, { resume: join(from, 'checkpoints', 'step-00000004') }));
    assert.equal(trainer.save(), join(runDir, 'checkpoints', 'step-00000004'));
    trainer.dispose();
    const again = await open(t, options(runDir));
    assert.deepEqual([again.step, again.notices], [4, []]);
  });

  test('the best value of another metric is not compared with that of the current one', async (t) => {
    const runDir = join(temporaryFolder(t), 'best');
    const rewards = [defineReward('long', ({ completion }) => completion.tokens.length)];
    await train(t, options(runDir, { rewards, checkpoint: { keepBest: 'reward', every: 100 } }), 2);
    const accuracy = { keepBest: 'eval/short/accuracy', every: 100 };
    await train(t, options(runDir, { rewards, checkpoint: accuracy }), 4);
    const { counters } = lastingFiles(runDir).state as { counters: { best: { metric: string; step: number } } };
    assert.deepEqual([counters.best.metric, counters.best.step], ['eval/short/accuracy', 3]);
  });

  test('an anchor whose options have changed uses the new ones, with what the old one stored', async (t) => {
    const runDir = join(temporaryFolder(t), 'drifted');
    const steps = await train(t, options(runDir), 4);
    const hadw = { anchor: { window: 2 } } as const;
    const [fifth] = await train(t, options(runDir, { hadw, allowDrift: true }), 5);
    const [third, fourth] = steps.slice(2).map(({ metrics }) => metrics.reward);
    assert.equal(fifth.metrics['hadw/anchor'], (third + fourth) / 2);
    const { anchor } = lastingFiles(runDir).state as { anchor: { window: number } };
    assert.equal(anchor.window, 2);
  });

  test('a start that fails leaves nothing behind: another call starts again', async (t) => {
    const [whole, runDir] = [join(temporaryFolder(t), 'whole'), join(temporaryFolder(t), 'failed')];
    await train(t, options(whole), 2);
    const trainer = await open(t, options(runDir));
    const write = t.mock.method(disk, 'write', () => {
      throw new Error('ENOSPC');
    });
    await assert.rejects(trainer.start(), /step 0 could not be saved .*: ENOSPC/);
    write.mock.restore();
    for await (const _ of trainer.steps({ max: 2 }));
    assert.deepEqual(lastingFiles(runDir), lastingFiles(whole));
  });

  test('save stores the last complete step, also when it is called during another', async (t) => {
    const [whole, runDir] = [join(temporaryFolder(t), 'whole'), join(temporaryFolder(t), 'midst')];
    const reward = (save: () => void) => [
      defineReward('saves', ({ completion }) => {
        save();
        return completion.tokens.length;
      }),
    ];
    await train(t, options(whole, { rewards: reward(() => {}) }), 3);
    const expected = lastingFiles(whole);
    const saved: string[] = [];
    const trainer = await open(
      t,
      options(runDir, {
        rewards: reward(() => {
          if (trainer.step === 3) saved.push(trainer.save());
        }),
        checkpoint: { every: 100 },
      }),
    );
    assert.throws(() => trainer.save(), /expected a run that has begun/);
    for await (const _ of trainer.steps({ max: 4 }));
    assert.equal(saved[0], join(runDir, 'checkpoints', 'step-00000003'));
    const own = newestCheckpoint(join(runDir, 'checkpoints')).found!;
    assert.equal(own.step, 4);
    for (const file of ['weights', 'optimizer'] as const) {
      assert.deepEqual(fs.readFileSync(join(saved[0], `${file}.safetensors`)), expected[file]);
    }
    const cursorOf = (folder: string) =>
      (JSON.parse(fs.readFileSync(join(folder, 'state.json'), 'utf8')) as { counters: { cursor: number } }).counters
        .cursor;
    assert.equal(cursorOf(saved[0]), cursorOf(join(whole, 'checkpoints', 'step-00000003')));
    // And the step during which it was called is not affected.
    await train(t, options(whole, { rewards: reward(() => {}) }), 4);
    assert.deepEqual(lastingFiles(runDir).weights, lastingFiles(whole).weights);
  });

  test('a disposed trainer has saved its last step, changes nothing any more, and says so', async (t) => {
    const runDir = join(temporaryFolder(t), 'disposed');
    const tensors = () => tf.memory().numTensors;
    const policy = tinyPolicy();
    const before = tensors();
    const trainer = await createTrainer(options(runDir, { policy, checkpoint: { every: 100 } }));
    const loop = trainer.steps();
    await loop.next();
    await loop.next();
    const third = loop.next();
    // During step 3, which continues to its end.
    trainer.dispose();
    assert.equal((await third).value?.index, 3);
    assert.equal(tensors(), before);
    assert.equal(newestCheckpoint(join(runDir, 'checkpoints')).found?.step, 3);
    const written = fs.readFileSync(join(runDir, 'metrics.jsonl'), 'utf8');
    await assert.rejects(loop.next(), /expected a live trainer, got one that was disposed/);
    await assert.rejects(trainer.start(), /was disposed/);
    await assert.rejects(trainer.run({ output: null }), /was disposed/);
    assert.throws(() => trainer.save(), /was disposed/);
    trainer.dispose();
    assert.equal(fs.readFileSync(join(runDir, 'metrics.jsonl'), 'utf8'), written);
    assert.ok(!fs.existsSync(join(runDir, 'lock.json')));
    policy.dispose();
  });

  test('a trainer that cannot be created leaves no tensor and no lock behind', async (t) => {
    const runDir = join(temporaryFolder(t), 'unmade');
    await train(t, options(runDir), 1);
    const [policy, tensors] = [tinyPolicy(), tf.memory().numTensors];
    const { norm: _, ...variables } = policy.variables;
    const given = options(runDir, { policy: { ...policy, variables } as Policy, allowDrift: true });
    await assert.rejects(createTrainer(given), /^RangeError: checkpoint, weights/);
    const bad = {
      ...tinyTask,
      size: 3,
      example: (i: number) => (i < 2 ? tinyTask.example(i) : assert.fail('no third')),
    };
    await assert.rejects(createTrainer(options(runDir, { policy, evaluate: { bad }, allowDrift: true })), /no third/);
    assert.equal(tf.memory().numTensors, tensors);
    assert.ok(!fs.existsSync(join(runDir, 'lock.json')));
    policy.dispose();
  });

  test('starts again if its warm start was interrupted before its first update', async (t) => {
    const [whole, runDir] = [join(temporaryFolder(t), 'whole'), join(temporaryFolder(t), 'ended')];
    await train(t, options(whole), 2);
    const trainer = await open(t, options(runDir));
    const tensors = tf.memory().numTensors;
    const stop = new AbortController();
    stop.abort();
    await trainer.start({ signal: stop.signal });
    assert.equal(tf.memory().numTensors, tensors);
    assert.throws(() => trainer.save(), /expected a run that has begun/);
    for (const folder of ['checkpoints', 'warm-start']) assert.ok(!fs.existsSync(join(runDir, folder)));
    for await (const _ of trainer.steps({ max: 2 }));
    assert.deepEqual(lastingFiles(runDir), lastingFiles(whole));
  });

  describe('after a warm start that was interrupted', () => {
    /** Learns for 6 of at most 9 updates: by then half of the problems of every check are right. */
    const warm = (runDir: string, change: Partial<TrainerOptions> = {}) => {
      const train = { ...lengthTask(), size: 10, score: (text: string) => Number(text.length > 0) };
      const optimizer = { learningRate: 0.05, warmupSteps: 3, schedule: 'cosine', totalSteps: 20 } as const;
      const warmStart = { steps: 9, batchSize: 4, until: 0.8, every: 3, problems: 8, optimizer };
      return options(runDir, { train, warmStart, checkpoint: { every: 4, warmStartSeconds: 1000 }, ...change });
    };

    /** Starts, and is interrupted when its progress first shows `text`. Returns the output. */
    async function startUntil(trainer: GrpoTrainer, text: string | RegExp): Promise<string[]> {
      const stop = new AbortController();
      const said: string[] = [];
      const write = (line: string) => {
        said.push(line);
        if (line.match(text)) stop.abort();
      };
      await trainer.start({ signal: stop.signal, output: { write, isTTY: true, columns: 200 } });
      return said;
    }

    const update = (line: string) => Number(/update (\d+) of at most/.exec(line)?.[1] ?? Number.NaN);

    test('at any update, or during a check of its accuracy, it equals the uninterrupted run', async (t) => {
      const whole = join(temporaryFolder(t), 'whole');
      const uninterrupted = await open(t, warm(whole));
      // What it prints about its first evaluation comes afterwards.
      const said = (await startUntil(uninterrupted, /never/)).filter((line) => line.includes('warm start'));
      uninterrupted.dispose();
      const last = update(said.at(-1)!);
      assert.ok(last > 3 && last < 9 && said.at(-1)!.includes('% right'), `ended with ${said.at(-1)}`);
      await train(t, warm(whole), 2);
      const expected = lastingFiles(whole);
      for (let updates = 1; updates <= last; updates++) {
        const runDir = join(temporaryFolder(t), 'ended');
        const first = await open(t, warm(runDir));
        await startUntil(first, `update ${updates} of at most`);
        assert.equal(first.step, 0);
        first.dispose();
        const folder = join(runDir, 'warm-start', `step-0000000${updates}`);
        assert.ok(fs.existsSync(join(folder, 'manifest.json')), folder);
        const second = await open(t, warm(runDir));
        assert.deepEqual(second.notices, []);
        const after = await startUntil(second, /never/);
        assert.match(after[0], new RegExp(`warm start: continuing after update ${updates}`));
        for await (const _ of second.steps({ max: 2 }));
        second.dispose();
        assert.deepEqual(lastingFiles(runDir), expected, `ended after update ${updates}`);
        assert.ok(!fs.existsSync(join(runDir, 'warm-start')));
      }
    });

    test('the same trainer continues as well, and leaves no tensor behind', async (t) => {
      const [whole, runDir] = [join(temporaryFolder(t), 'whole'), join(temporaryFolder(t), 'ended')];
      await train(t, warm(whole), 2);
      const [policy, tensors] = [tinyPolicy(), tf.memory().numTensors];
      const trainer = await createTrainer(warm(runDir, { policy }));
      await startUntil(trainer, 'update 2 of at most');
      await startUntil(trainer, 'update 5 of at most');
      for await (const _ of trainer.steps({ max: 2 }));
      trainer.dispose();
      assert.deepEqual(lastingFiles(runDir), lastingFiles(whole));
      const other = await createTrainer(warm(join(temporaryFolder(t), 'other'), { policy }));
      await startUntil(other, 'update 2 of at most');
      other.dispose();
      assert.equal(tf.memory().numTensors, tensors);
      policy.dispose();
    });

    test('during its first evaluation, it equals that run too', async (t) => {
      const [whole, runDir] = [join(temporaryFolder(t), 'whole'), join(temporaryFolder(t), 'ended')];
      await train(t, warm(whole), 2);
      const stop = new AbortController();
      let asked = 0;
      const short = {
        ...tinyTask,
        size: 6,
        score: (text: string, example: Example) => {
          // During the evaluation.
          if (++asked === 3) stop.abort();
          return tinyTask.score(text, example);
        },
      };
      const evaluated = { evaluate: { short } };
      const first = await open(t, warm(runDir, evaluated));
      await first.start({ signal: stop.signal });
      assert.ok(asked < 6, `${asked} completions were scored`);
      first.dispose();
      assert.ok(fs.existsSync(join(runDir, 'warm-start')) && !fs.existsSync(join(runDir, 'checkpoints')));
      await train(t, warm(runDir, evaluated), 2);
      assert.deepEqual(lastingFiles(runDir), lastingFiles(whole));
    });

    test('a failure of the warm start is reported, and its progress is saved', async (t) => {
      const [whole, runDir] = [join(temporaryFolder(t), 'whole'), join(temporaryFolder(t), 'failed')];
      await train(t, warm(whole), 1);
      let asked = -Infinity;
      const example = (index: number) => (++asked > 17 ? assert.fail('no such example') : lengthTask().example(index));
      const trainer = await open(t, warm(runDir, { train: { ...warm(runDir).train, example } }));
      asked = 0;
      await assert.rejects(trainer.steps().next(), /no such example/);
      trainer.dispose();
      const saved = fs.readdirSync(join(runDir, 'warm-start'));
      assert.deepEqual(saved, ['step-00000002']);
      await train(t, warm(runDir), 1);
      assert.deepEqual(lastingFiles(runDir), lastingFiles(whole));
    });

    test('the warm start is saved every few seconds, and the last intact checkpoint is used', async (t) => {
      const [whole, runDir] = [join(temporaryFolder(t), 'whole'), join(temporaryFolder(t), 'often')];
      await train(t, warm(whole), 1);
      const often = warm(runDir, { checkpoint: { every: 4, warmStartSeconds: 0 } });
      const trainer = await open(t, often);
      await startUntil(trainer, 'update 5 of at most');
      trainer.dispose();
      assert.deepEqual(fs.readdirSync(join(runDir, 'warm-start')), ['step-00000004', 'step-00000005']);
      cut(join(runDir, 'warm-start', 'step-00000005', 'weights.safetensors'), 1);
      const second = await open(t, warm(runDir));
      assert.match(second.notices[0], /skipped checkpoints .*step-00000005: weights\.safetensors: expected/s);
      for await (const _ of second.steps({ max: 1 }));
      assert.deepEqual(lastingFiles(runDir), lastingFiles(whole));
    });

    test('it can be continued in another folder, and without its warm start if drift is allowed', async (t) => {
      const folder = temporaryFolder(t);
      const [whole, from, to, other] = ['whole', 'from', 'to', 'other'].map((name) => join(folder, name));
      await train(t, warm(whole), 1);
      const trainer = await open(t, warm(from));
      await startUntil(trainer, 'update 2 of at most');
      trainer.dispose();
      await train(t, warm(to, { resume: from }), 1);
      assert.deepEqual(lastingFiles(to).weights, lastingFiles(whole).weights);
      await assert.rejects(train(t, warm(to, { resume: from }), 1), /contains a run whose newest checkpoint is/);
      await train(
        t,
        warm(other, { resume: join(from, 'warm-start', 'step-00000002'), warmStart: undefined, allowDrift: true }),
        1,
      );
      const { updates } = lastingFiles(other).state as { updates: number };
      assert.equal(updates, 4);
      await assert.rejects(
        train(t, warm(from, { warmStart: { steps: 8 } }), 1),
        /settings\.warmStart\.steps: 9, now 8/,
      );
    });
  });

  describe('interrupted in a step', () => {
    /** Its third step never ends: a reward waits forever and ignores the signal. */
    const hanging = (reached: () => void) => {
      let calls = 0;
      return [
        defineReward('hangs', ({ completion }) => {
          if (++calls <= 32) return completion.tokens.length;
          reached();
          return new Promise<number>(() => {});
        }),
      ];
    };
    const plain = { dynamicSampling: undefined, checkpoint: { every: 100 } } as const;
    const counting = [defineReward('hangs', ({ completion }) => completion.tokens.length)];

    for (const grace of [0, 0.2]) {
      test(`the step is undone after ${grace} s, and the state before it saved`, async (t) => {
        const [whole, runDir] = [join(temporaryFolder(t), 'whole'), join(temporaryFolder(t), 'undone')];
        await train(t, options(whole, { ...plain, rewards: counting }), 4);
        const stop = new AbortController();
        let told = 0;
        const rewards = hanging(() => {
          if (told === 0) told = performance.now();
          stop.abort();
        });
        const trainer = await open(t, options(runDir, { ...plain, rewards }));
        const made: number[] = [];
        for await (const step of trainer.steps({ signal: stop.signal, grace })) made.push(step.index);
        const waited = (performance.now() - told) / 1000;
        assert.deepEqual([made, trainer.step], [[1, 2], 2]);
        assert.ok(waited >= grace - 0.15 && waited < grace + 10, `after ${waited} s`);
        trainer.dispose();
        assert.equal(newestCheckpoint(join(runDir, 'checkpoints')).found?.step, 2);
        await train(t, options(runDir, { ...plain, rewards: counting }), 4);
        assert.deepEqual(lastingFiles(runDir), lastingFiles(whole));
      });
    }

    for (const excuse of ['null', 'zero'] as const) {
      test(`none of its rewards count as ${excuse} because of that`, async (t) => {
        const stop = new AbortController();
        const rewards = [
          defineReward(
            'hangs',
            () => {
              stop.abort();
              return new Promise<number>(() => {});
            },
            { onError: excuse },
          ),
        ];
        const trainer = await open(t, options(join(temporaryFolder(t), 'run'), { ...plain, rewards }));
        for await (const _ of trainer.steps({ signal: stop.signal, grace: 0 })) assert.fail('a step');
        assert.equal(trainer.step, 0);
      });
    }

    test('the step is finished if it ends in time, even with a long grace period', async (t) => {
      const trainer = await open(t, options(join(temporaryFolder(t), 'run'), plain));
      const stop = new AbortController();
      for await (const { index } of trainer.steps({ signal: stop.signal, grace: Infinity }))
        if (index === 2) stop.abort();
      assert.equal(trainer.step, 2);
      await assert.rejects(trainer.steps({ grace: -1 }).next(), /^RangeError: grace: expected/);
      await assert.rejects(trainer.run({ grace: '3' as never }), /^TypeError: grace: expected/);
    });

    test('its evaluation and its passes are undone too, with the logs', async (t) => {
      for (const where of ['evaluation', 'update', 'score'] as const) {
        const [whole, runDir] = [join(temporaryFolder(t), 'whole'), join(temporaryFolder(t), 'undone')];
        const stop = new AbortController();
        let isArmed = false;
        const abortIn = (place: string) => {
          if (isArmed && place === where) stop.abort();
        };
        const given = (own = tinyPolicy()): Partial<TrainerOptions> => ({
          ...plain,
          train: {
            ...lengthTask(),
            size: 10,
            score: (text) => {
              abortIn('score');
              return Number(text.length === 1);
            },
          },
          evaluate: {
            short: {
              ...tinyTask,
              size: 6,
              score: () => {
                abortIn('evaluation');
                return 0;
              },
            },
          },
          policy: {
            ...own,
            logits: (...args) => {
              abortIn('update');
              return own.logits(...args);
            },
          } as Policy,
        });
        await train(t, options(whole, given()), 4);
        const trainer = await open(t, options(runDir, given()));
        for await (const { index } of trainer.steps({ signal: stop.signal, grace: 0 })) isArmed = index === 2;
        assert.equal(trainer.step, 2, where);
        trainer.dispose();
        isArmed = false;
        await train(t, options(runDir, given()), 4);
        assert.deepEqual(lastingFiles(runDir), lastingFiles(whole), where);
      }
    });
  });

  test('rejects differences, by name, unless drift is allowed', async (t) => {
    const runDir = join(temporaryFolder(t), 'run');
    await train(t, options(runDir), 1);
    const config = fs.readFileSync(join(runDir, 'config.json'), 'utf8');
    const differs = async (change: Partial<TrainerOptions>, message: RegExp) => {
      const given = options(runDir, change);
      await assert.rejects(createTrainer(given), message);
      assert.equal(fs.readFileSync(join(runDir, 'config.json'), 'utf8'), config);
    };
    await differs({ groupSize: 8 }, /begun with other settings or data.*\n {2}settings\.groupSize: 4, now 8$/);
    await differs(
      { loss: presets.grpo, seed: 8 },
      /settings\.loss\.kl: .*, now nothing\n {2}settings\.seed: 7, now 8$/,
    );
    await differs({ train: { ...lengthTask(), size: 11 } }, /train\.size: 10, now 11/);
    const other = { ...lengthTask(), size: 10, example: (i: number) => tinyTask.example(i + 1) };
    await differs({ train: other }, /train\.examples: /);
    await differs({ rewards: [defineReward('accuracy', () => 1, { weight: 2 })] }, /rewards: /);
    await differs({ policy: tinyPolicy(4) }, /policy\.seed: 3, now 4/);
    // Settings for storing and evaluating a run do not affect what it learns.
    const change = { checkpoint: { every: 9 }, evaluation: { every: 7, size: 2 }, notes: { why: 'a test' } };
    const kept = await open(t, options(runDir, change));
    assert.deepEqual(kept.notices, []);
    kept.dispose();
    const drifted = await open(t, options(runDir, { groupSize: 8, allowDrift: true }));
    assert.match(drifted.notices[0], /continues with other settings or data .*settings\.groupSize: 4, now 8/s);
    drifted.dispose();
  });

  describe('whose data has changed', () => {
    const line = (i: number) => `{"prompt":"${i}+1=","answer":"${i % 10}"}\n`;
    const content = Array.from({ length: 60 }, (_, i) => line(i)).join('');

    function files(t: TestContext) {
      const folder = temporaryFolder(t);
      const [path, evaluated, runDir] = ['train.jsonl', 'evaluate.jsonl', 'run'].map((name) => join(folder, name));
      fs.writeFileSync(path, content);
      fs.writeFileSync(evaluated, content);
      const { characters } = tinyTask;
      const given = (change: Partial<TrainerOptions> = {}) =>
        options(runDir, {
          train: tasks.jsonl({ path, characters, split: 'train' }),
          evaluate: { short: tasks.jsonl({ path: evaluated, characters }) },
          evaluation: { size: 3 },
          warmStart: undefined,
          sampling: { promptLength: 6, maxTokens: 4 },
          ...change,
        });
      return { path, evaluated, runDir, given };
    }

    test('is rejected with the file, its hashes and its numbers of problems', async (t) => {
      const { path, evaluated, runDir, given } = files(t);
      await train(t, given(), 1);
      const config = fs.readFileSync(join(runDir, 'config.json'), 'utf8');
      const hash = (text: string) => `SHA-256 ${createHash('sha256').update(text).digest('hex').slice(0, 12)}…`;
      for (const [changed, where] of [
        [path, 'train'],
        [evaluated, 'evaluate.short'],
      ]) {
        for (const [now, count] of [
          [content.replace(line(55), '{"prompt":"55+1=","answer":"9"}\n'), 60],
          [content + line(60), 61],
        ] as const) {
          fs.writeFileSync(changed, now);
          await assert.rejects(createTrainer(given()), (error: Error) => {
            const message = `  ${where}: the data file ${changed} has changed: 60 problems, ${hash(content)}, now ${count} problems, ${hash(now)}`;
            assert.ok(error.message.includes(`or allowDrift\n${message}`), error.message);
            return true;
          });
          assert.equal(fs.readFileSync(join(runDir, 'config.json'), 'utf8'), config);
        }
        fs.writeFileSync(changed, content);
      }
      fs.writeFileSync(path, content + line(60));
      const drifted = await open(t, given({ allowDrift: true }));
      assert.match(
        drifted.notices[0],
        /continues with other settings or data than it was begun with\n {2}train: the data file .*, now 61 problems/,
      );
      drifted.dispose();
      // From now on it is compared with its current data.
      const again = await open(t, given());
      assert.deepEqual(again.notices, []);
    });

    test('is reported during a warm start too', async (t) => {
      const { path, given } = files(t);
      const warmStart = { steps: 5, batchSize: 4 };
      const trainer = await open(t, given({ warmStart }));
      const stop = new AbortController();
      const write = (text: string) => text.includes('update 2 ') && stop.abort();
      await trainer.start({ signal: stop.signal, output: { write, isTTY: true } });
      trainer.dispose();
      fs.writeFileSync(path, content.replace(line(55), line(56)));
      await assert.rejects(createTrainer(given({ warmStart })), /train: the data file .* has changed/);
    });

    test('since an earlier version, which compared eight problems, is rejected or reported', async (t) => {
      const { path, runDir, given } = files(t);
      await train(t, given(), 1);
      const at = join(runDir, 'config.json');
      const config = JSON.parse(fs.readFileSync(at, 'utf8')) as { identity: Record<string, Record<string, unknown>> };
      const old = (task: Record<string, unknown>, name: string) => {
        const { source: _, examples, ...rest } = task;
        return { ...rest, name, examples: (examples as { first: string }).first };
      };
      config.identity.train = old(config.identity.train, path);
      config.identity.evaluate = {
        short: old(config.identity.evaluate.short as Record<string, unknown>, 'evaluate.jsonl'),
      };
      fs.writeFileSync(at, JSON.stringify(config));
      // Among the first eight.
      fs.writeFileSync(path, content.replace(line(0), line(60)));
      await assert.rejects(createTrainer(given()), /\n {2}train\.examples: the first 8 hash to/);
      fs.writeFileSync(path, content);
      const trainer = await open(t, given());
      assert.deepEqual(
        trainer.notices.map((notice) => notice.replace(/^.*?: /, '')),
        [
          'begun by a version that compared only the first eight problems of each task; changes to the other problems cannot be detected this time',
        ],
      );
      for await (const _ of trainer.steps({ max: 2 }));
      trainer.dispose();
      const next = await open(t, given());
      assert.deepEqual(next.notices, []);
      next.dispose();
      fs.writeFileSync(path, content + line(60));
      await assert.rejects(createTrainer(given()), /train: the data file .* has changed/);
    });
  });

  test('rejects a policy of another shape even if drift is allowed', async (t) => {
    const runDir = join(temporaryFolder(t), 'run');
    await train(t, options(runDir), 1);
    const policy = tinyPolicy();
    const { norm: _, ...variables } = policy.variables;
    await assert.rejects(
      createTrainer(options(runDir, { policy: { ...policy, variables } as Policy, allowDrift: true })),
      {
        name: 'RangeError',
        message: /^checkpoint, weights: expected no norm \[8\]/,
      },
    );
    policy.dispose();
  });

  test("with 'never', a folder that contains a run, or something else, is rejected", async (t) => {
    const runDir = join(temporaryFolder(t), 'run');
    await train(t, options(runDir, { resume: 'never' }), 1);
    await assert.rejects(createTrainer(options(runDir, { resume: 'never' })), /already contains a run/);
    fs.rmSync(join(runDir, 'config.json'));
    fs.rmSync(join(runDir, 'checkpoints'), { recursive: true });
    await assert.rejects(createTrainer(options(runDir)), /logs but no config\.json/);
  });

  test('can begin from a checkpoint of another folder, but not from an earlier one of its own', async (t) => {
    const folder = temporaryFolder(t);
    const [from, runDir, whole] = [join(folder, 'from'), join(folder, 'to'), join(folder, 'whole')];
    await train(t, options(from), 8);
    await train(t, options(whole), 10);
    const resume = join(from, 'checkpoints', 'step-00000008');
    await train(t, options(runDir, { resume }), 10);
    const { logs: _, ...state } = lastingFiles(runDir).state as Record<string, unknown>;
    const { logs: __, ...expected } = lastingFiles(whole).state as Record<string, unknown>;
    assert.deepEqual(state, expected);
    assert.deepEqual(lastingFiles(runDir).weights, lastingFiles(whole).weights);
    assert.deepEqual(
      readLines(join(runDir, 'metrics.jsonl')),
      readLines(join(whole, 'metrics.jsonl')).filter(({ step }) => (step as number) > 8),
    );
    await train(t, options(runDir), 11);
    const past = join(runDir, 'checkpoints', 'step-00000010');
    await assert.rejects(createTrainer(options(runDir, { resume: past })), /newest checkpoint is .*step-00000011/);
    await assert.rejects(createTrainer(options(runDir, { resume: join(folder, 'nowhere') })), /no such checkpoint/);
  });

  test('two trainers cannot use one folder', async (t) => {
    const runDir = join(temporaryFolder(t), 'run');
    const first = await open(t, options(runDir));
    await assert.rejects(
      createTrainer(options(runDir)),
      new RegExp(`process ${process.pid} on .* is training in this folder`),
    );
    first.dispose();
    const second = await open(t, options(runDir));
    second.dispose();
    // A lock whose process has gone is taken over, and so is an incomplete lock.
    for (const lock of [{ pid: 2 ** 30, host: fs.readFileSync('/etc/hostname', 'utf8').trim(), started: null }, {}]) {
      fs.writeFileSync(join(runDir, 'lock.json'), JSON.stringify(lock));
      const third = await open(t, options(runDir));
      third.dispose();
    }
    assert.ok(!fs.existsSync(join(runDir, 'lock.json')));
  });
});

describe('a run folder that is removed during the run', () => {
  before(async () => void (await startBackend(quickBackend)));

  const plain = { evaluate: {}, evaluation: undefined, checkpoint: { every: 100 } } as const;

  /** Six steps, with something done to the folder after each; returns the trainer's notices and its weights. */
  async function interfere(t: TestContext, runDir: string, after: (step: number) => void) {
    const trainer = await open(t, options(runDir, plain));
    for await (const { index } of trainer.steps({ max: 6 })) after(index);
    const folder = trainer.save();
    const notices = [...trainer.notices];
    trainer.dispose();
    return { notices, folder };
  }

  test("is recreated and reported, and the run's state is not lost", async (t) => {
    const [whole, runDir] = [join(temporaryFolder(t), 'whole'), join(temporaryFolder(t), 'removed')];
    await train(t, options(whole, plain), 8);
    for (const last of [1, 3, 6]) {
      fs.rmSync(runDir, { recursive: true, force: true });
      const { notices, folder } = await interfere(t, runDir, (step) => {
        if (step === last) fs.rmSync(runDir, { recursive: true });
      });
      assert.equal(notices.length, 1, notices.join('\n'));
      assert.match(
        notices[0],
        new RegExp(
          `removed: metrics.jsonl, samples.jsonl, timing.jsonl, warnings.jsonl, config.json removed or replaced .* up to step ${last}$`,
        ),
      );
      assert.ok(folder.endsWith('step-00000006') && fs.existsSync(join(folder, 'manifest.json')));
      const kept = readLines(join(runDir, 'metrics.jsonl')).map(({ step }) => step);
      assert.deepEqual(kept, [1, 2, 3, 4, 5, 6].slice(last));
      assert.ok(!fs.existsSync(join(runDir, 'lock.json')));
      assert.ok(fs.readdirSync(runDir).some((name) => name.startsWith('events.out.tfevents')));
      await train(t, options(runDir, plain), 8);
      assert.deepEqual(lastingFiles(runDir).weights, lastingFiles(whole).weights);
    }
  });

  test('a single file, or its replacement by another, is noticed too', async (t) => {
    const runDir = join(temporaryFolder(t), 'run');
    const log = join(runDir, 'metrics.jsonl');
    const { notices } = await interfere(t, runDir, (step) => {
      if (step === 2) fs.rmSync(log);
      if (step === 3) fs.rmSync(join(runDir, 'config.json'));
      if (step === 4) {
        fs.writeFileSync(`${log}.new`, fs.readFileSync(log));
        fs.renameSync(`${log}.new`, log);
      }
      if (step === 5) fs.rmSync(join(runDir, 'checkpoints'), { recursive: true });
    });
    assert.deepEqual(
      notices.map((notice) => /run: (.*) removed or replaced .* up to step (\d)/.exec(notice)?.slice(1)),
      [
        ['metrics.jsonl', '2'],
        ['config.json', '3'],
        ['metrics.jsonl', '4'],
      ],
    );
    assert.deepEqual(
      readLines(log).map(({ step }) => step),
      [3, 4, 5, 6],
    );
    assert.deepEqual(checkpoints(runDir), ['step-00000006']);
  });

  test('a checkpoint that is missing when the run ends is saved again', async (t) => {
    const runDir = join(temporaryFolder(t), 'run');
    const trainer = await open(t, options(runDir, plain));
    for await (const _ of trainer.steps({ max: 2 }));
    fs.rmSync(runDir, { recursive: true });
    assert.ok(fs.existsSync(join(trainer.save(), 'weights.safetensors')));
    assert.match(trainer.notices[0], /removed or replaced/);
  });

  test('a process that has taken over the folder keeps it, and the run ends with an error', async (t) => {
    const runDir = join(temporaryFolder(t), 'run');
    const trainer = await open(t, options(runDir, plain));
    const loop = trainer.steps();
    await loop.next();
    fs.rmSync(runDir, { recursive: true });
    const program = `
      import { mkdirSync } from 'node:fs';
      import { lockRun } from './src/run/run-lock.ts';
      mkdirSync(${JSON.stringify(runDir)});
      lockRun(${JSON.stringify(runDir)});
      console.log('locked');
      setInterval(() => {}, 1000);`;
    const other = spawn(process.execPath, [...typescript, '--input-type=module', '-e', program], { cwd: root });
    t.after(() => other.kill());
    await new Promise((resolve) => other.stdout.once('data', resolve));
    await assert.rejects(loop.next(), new RegExp(`process ${other.pid} on .* is training in this folder`));
    assert.deepEqual(fs.readdirSync(runDir), ['lock.json']);
  });
});

describe('a disk that is full', () => {
  before(async () => void (await startBackend(quickBackend)));

  function noSpace(): never {
    throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
  }

  for (const file of ['weights.safetensors', 'optimizer.safetensors', 'state.json', 'manifest.json']) {
    const skip = !/weights|state/.test(file) && slowSet('another file');
    test(`while ${file} is written: nothing saved before is lost, and the run continues when there is space`, {
      skip,
    }, async (t) => {
      const [whole, runDir] = [join(temporaryFolder(t), 'whole'), join(temporaryFolder(t), 'full')];
      await train(t, options(whole, { checkpoint: { every: 2 } }), 5);
      await train(t, options(runDir, { checkpoint: { every: 2 } }), 2);
      const write = t.mock.method(disk, 'write', (path: string, pieces: Iterable<Uint8Array>) => {
        const bytes = Buffer.concat([...pieces]);
        if (!path.endsWith(file)) return fs.writeFileSync(path, bytes);
        fs.writeFileSync(path, bytes.subarray(0, bytes.length / 2));
        return noSpace();
      });
      await assert.rejects(train(t, options(runDir, { checkpoint: { every: 2 } }), 5), (error: Error) => {
        // The error that ended the run, and that its last complete step, 3, could not be saved either.
        assert.match(
          error.message,
          /^step 4 could not be saved to .*: ENOSPC.*\nstep 3 could not be saved to .*: ENOSPC/,
        );
        return true;
      });
      write.mock.restore();
      assert.deepEqual(newestCheckpoint(join(runDir, 'checkpoints')).found?.step, 2);
      await train(t, options(runDir, { checkpoint: { every: 2 } }), 5);
      assert.deepEqual(lastingFiles(runDir), lastingFiles(whole));
    });
  }

  test('while a log is written: the step is undone, and the run continues when there is space', async (t) => {
    const [whole, runDir] = [join(temporaryFolder(t), 'whole'), join(temporaryFolder(t), 'full')];
    await train(t, options(whole), 4);
    const trainer = await open(t, options(runDir));
    await assert.rejects(async () => {
      for await (const step of trainer.steps({ max: 4 })) {
        if (step.index !== 2) continue;
        const before = fs.writeFileSync;
        t.mock.method(fs, 'writeFileSync', (target: fs.PathOrFileDescriptor, data: string) => {
          if (typeof target !== 'number' || !data.toString().startsWith('{"step":3')) return before(target, data);
          fs.writeSync(target, data.slice(0, 20));
          return noSpace();
        });
      }
    }, /ENOSPC/);
    t.mock.restoreAll();
    trainer.dispose();
    assert.deepEqual(
      readLines(join(runDir, 'metrics.jsonl')).map(({ step }) => step),
      [0, 1, 2],
    );
    await train(t, options(runDir), 4);
    assert.deepEqual(lastingFiles(runDir), lastingFiles(whole));
  });
});

describe('the guard', () => {
  before(async () => void (await startBackend(quickBackend)));

  /**
   * A reward that is not finite for the last completion of these attempts at a step, counted from 1. An earlier
   * failure would stop the calls, and they would no longer tell which attempt it is.
   */
  function faulty(attempts: readonly number[], value = NaN) {
    let calls = 0;
    return defineReward('faulty', ({ completion }) => {
      const [attempt, isLast] = [Math.ceil(++calls / 16), calls % 16 === 0];
      return isLast && attempts.includes(attempt) ? value : completion.tokens.length;
    });
  }

  const plain = { dynamicSampling: undefined, evaluate: {}, evaluation: undefined } as const;

  test('skips the step: nothing changes except the number of examples taken', async (t) => {
    const runDir = join(temporaryFolder(t), 'run');
    const steps = await train(t, options(runDir, { ...plain, rewards: [faulty([2, 4])] }), 4);
    assert.deepEqual(
      steps.map(({ fault }) => fault !== undefined),
      [false, true, false, true],
    );
    assert.match(
      steps[1].fault!,
      /^step 2: reward 'faulty' .* got NaN; its completions are in .*step-00000002\.json; skipped$/,
    );
    assert.deepEqual(steps[1].metrics, { 'guard/skipped': 1 });
    assert.deepEqual(readLines(join(runDir, 'metrics.jsonl'))[1], { step: 2, 'guard/skipped': 1 });
    const fault = readFault(runDir, 2);
    assert.equal(fault.groups.length, 4);
    assert.equal(fault.groups[0].completions.length, 4);
    assert.equal(fault.action, 'skip');
    assert.match(await buildReport(runDir), /<h2>Guard<\/h2>.*step 2: reward .* The guard skipped the step\./s);
    // Step 3 used the prompts after those of step 2, and the optimizer made no update in between.
    const { counters, updates } = lastingFiles(runDir).state as { counters: Record<string, number>; updates: number };
    assert.deepEqual([counters.cursor, counters.faults, updates], [3 * 32 + 16, 2, 8]);
  });

  test('ends the run when its budget is used up, with the state saved', async (t) => {
    const runDir = join(temporaryFolder(t), 'run');
    const given = options(runDir, { ...plain, rewards: [faulty([2, 3])], guard: { budget: 1 } });
    await assert.rejects(train(t, given, 5), /^Error: step 3: .*the guard's budget of 1 is used up$/);
    assert.equal(checkpoints(runDir).at(-1), 'step-00000002');
    const actions = [2, 3].map((step) => readFault(runDir, step).action);
    assert.deepEqual(actions, ['skip', 'halt']);
  });

  test('halts', async (t) => {
    const runDir = join(temporaryFolder(t), 'run');
    const given = options(runDir, { ...plain, rewards: [faulty([2], Infinity)], guard: { action: 'halt' } });
    await assert.rejects(
      train(t, given, 5),
      /^Error: step 2: reward 'faulty' .* got Infinity; its completions are in /,
    );
    assert.equal(checkpoints(runDir).at(-1), 'step-00000001');
    assert.equal(readFault(runDir, 2).action, 'halt');
  });

  test('rolls back to the newest checkpoint and continues with other prompts', async (t) => {
    const runDir = join(temporaryFolder(t), 'run');
    const given = options(runDir, {
      ...plain,
      rewards: [faulty([4])],
      guard: { action: 'rollback' },
      checkpoint: { every: 2 },
    });
    const steps = await train(t, given, 5);
    assert.deepEqual(
      steps.map(({ index }) => index),
      [1, 2, 3, 2, 3, 4, 5],
    );
    assert.match(steps[3].fault!, /rolled back to step 2$/);
    assert.equal(readFault(runDir, 4).action, 'rollback');
    assert.notDeepEqual(
      steps[4].groups.map(({ prompt }) => prompt),
      steps[2].groups.map(({ prompt }) => prompt),
    );
    assert.deepEqual(
      readLines(join(runDir, 'metrics.jsonl')).map(({ step }) => step),
      [1, 2, 3, 4, 5],
    );
  });

  test('non-finite logits, while sampling or in the loss, do not change the weights', async (t) => {
    for (const method of ['decode', 'logits'] as const) {
      const runDir = join(temporaryFolder(t), 'run');
      const [policy, broken] = [tinyPolicy(), tinyPolicy(5)];
      const { norm } = broken.variables;
      tf.tidy(() => norm.assign(tf.fill(norm.shape as number[], NaN)));
      let calls = 0;
      const given = {
        ...policy,
        [method]: (...args: never[]) => {
          const own = (calls++ === 1 ? broken : policy)[method] as (...all: never[]) => unknown;
          return own(...args);
        },
      } as unknown as Policy;
      const steps = await train(
        t,
        options(runDir, { ...plain, policy: given, warmStart: undefined, loss: presets.grpo }),
        3,
      );
      assert.equal(steps.filter(({ fault }) => fault !== undefined).length, 1, method);
      assert.match(steps.find(({ fault }) => fault)!.fault!, /finite/);
      const weights = lastingFiles(runDir).weights as Buffer;
      assert.ok(weights.length > 0);
      broken.dispose();
    }
  });

  test('a reward that throws ends the run with the last complete step saved', async (t) => {
    const runDir = join(temporaryFolder(t), 'run');
    let calls = 0;
    const rewards = [
      defineReward('fragile', () => {
        if (calls++ === 40) throw new Error('it broke');
        return calls % 2;
      }),
    ];
    await assert.rejects(train(t, options(runDir, { ...plain, rewards }), 5), /reward 'fragile' .*: it broke$/);
    assert.equal(checkpoints(runDir).at(-1), 'step-00000002');
    assert.equal(readLines(join(runDir, 'metrics.jsonl')).length, 2);
  });
});
