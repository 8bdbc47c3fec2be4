// A run folder that is taken over: its previous owner writes nothing more to it, and its new owner continues unaffected.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { join } from 'node:path';
import test, { before, describe, type TestContext } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { startBackend } from '../../src/backend/backend.js';
import { defineReward } from '../../src/index.js';
import { disk } from '../../src/run/checkpoint.js';
import type { TrainerOptions } from '../../src/train/api.js';
import { createTrainer, type RunTrainer } from '../../src/train/grpo.js';
import { quickBackend } from '../support/backend.js';
import { root } from '../support/native.js';
import { slowSet } from '../support/sets.js';
import { lastingFiles, readLines, temporaryFolder, tinyOptions } from '../support/trainer.js';

describe('a trainer whose folder was taken over', () => {
  before(async () => void (await startBackend(quickBackend)));

  const options = (runDir: string, change: Partial<TrainerOptions> = {}) =>
    tinyOptions({ runDir, checkpoint: { every: 1 }, guard: { action: 'rollback' }, ...change });

  async function open(t: TestContext, given: TrainerOptions): Promise<RunTrainer> {
    const trainer = await createTrainer(given);
    t.after(() => {
      trainer.dispose();
      trainer.policy.dispose();
    });
    return trainer;
  }

  /** The contents of a folder, except for the lock. */
  function contents(runDir: string): Record<string, string> {
    const names = fs.readdirSync(runDir, { recursive: true }) as string[];
    const files = names.filter((name) => name !== 'lock.json' && fs.statSync(join(runDir, name)).isFile());
    return Object.fromEntries(files.map((name) => [name, fs.readFileSync(join(runDir, name), 'latin1')]));
  }

  async function trainTo(trainer: RunTrainer, max: number): Promise<void> {
    for await (const _ of trainer.steps({ max }));
  }

  const lost = /^Error: .*: this process has lost the folder and writes nothing more to it: process \d+ on /;

  test('writes nothing more, whatever it was about to write', async (t) => {
    const [whole, runDir] = [join(temporaryFolder(t), 'whole'), join(temporaryFolder(t), 'run')];
    let fails: 'not' | 'throws' | 'faulty' = 'not';
    const rewards = [
      defineReward('one', ({ completion }) => {
        if (fails === 'throws') throw new Error('of the reward');
        return fails === 'faulty' ? Number.NaN : completion.tokens.length;
      }),
    ];
    await trainTo(await open(t, options(whole, { rewards })), 5);
    const robbed: RunTrainer[] = [];
    for (let i = 0; i < 4; i++) {
      const trainer = await open(t, options(runDir, { rewards, takeOver: i > 0 }));
      await trainTo(trainer, i);
      robbed.push(trainer);
    }
    const last = await open(t, options(runDir, { rewards, takeOver: true }));
    const unchanged = contents(runDir);
    const [first, second, third, fourth] = robbed;
    await assert.rejects(trainTo(first, 9), lost);
    fails = 'throws';
    // The error names what ended it, and says that nothing more could be saved.
    await assert.rejects(trainTo(second, 9), /of the reward/);
    fails = 'faulty';
    await assert.rejects(trainTo(third, 9), lost);
    fails = 'not';
    await assert.rejects(fourth.run({ max: 9, output: null }), lost);
    assert.throws(() => fourth.confirm(), lost);
    for (const trainer of robbed) trainer.dispose();
    assert.deepEqual(contents(runDir), unchanged);
    await trainTo(last, 5);
    assert.deepEqual(lastingFiles(runDir), lastingFiles(whole));
  });

  test('while saving, does not put a checkpoint there', async (t) => {
    const runDir = join(temporaryFolder(t), 'run');
    const trainer = await open(t, options(runDir));
    await trainTo(trainer, 1);
    const write = disk.write;
    t.mock.method(disk, 'write', (path: string, pieces: Iterable<Uint8Array>) => {
      write(path, pieces);
      if (path.endsWith('manifest.json')) fs.writeFileSync(join(runDir, 'lock.json'), '');
    });
    await assert.rejects(trainTo(trainer, 2), /its lock, .*lock\.json, was overwritten/);
    assert.ok(!fs.readdirSync(join(runDir, 'checkpoints')).includes('step-00000002'));
  });

  test('whose files the other process removes while it saves, reports only the other process', async (t) => {
    const runDir = join(temporaryFolder(t), 'run');
    const trainer = await open(t, options(runDir));
    await trainTo(trainer, 1);
    t.mock.method(disk, 'write', () => {
      fs.writeFileSync(join(runDir, 'lock.json'), '');
      throw new Error('ENOENT: no such file or directory');
    });
    await assert.rejects(trainTo(trainer, 2), (error: Error) => {
      assert.match(error.message, /its lock, .*lock\.json, was overwritten/);
      assert.doesNotMatch(error.message, /could not be saved|ENOENT/);
      return true;
    });
  });

  test('was rejected before, and is rejected again without takeOver', async (t) => {
    const runDir = join(temporaryFolder(t), 'run');
    await open(t, options(runDir));
    await assert.rejects(createTrainer(options(runDir)), /is training in this folder.*takeOver: true/);
    await open(t, options(runDir, { takeOver: true }));
    await assert.rejects(createTrainer(options(runDir, { takeOver: 1 as never })), /^TypeError: takeOver: expected/);
  });
});

const tiny = {
  train: { task: 'addition', digits: 1 },
  policy: { layers: 1, width: 8, heads: 2, hidden: 12 },
  promptsPerStep: 4,
  groupSize: 4,
  loss: 'grpo',
  // The cpu backend prints a message on standard error.
  backend: quickBackend,
};

interface Started {
  child: ChildProcess;
  output: () => string;
  ended: Promise<number | null>;
}

describe('groupgrad', () => {
  function start(t: TestContext, wrapper: readonly string[], ...args: string[]): Started {
    const program = [process.execPath, join(root, 'dist', 'cli', 'main.js'), ...args];
    const [command, ...rest] = [...wrapper, ...program];
    const child = spawn(command, rest, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (text) => {
        output += text;
      });
    }
    t.after(() => child.kill('SIGKILL'));
    return { child, output: () => output, ended: new Promise((resolve) => child.on('close', resolve)) };
  }

  async function until(condition: () => boolean, { child, output }: Started): Promise<void> {
    while (!condition()) {
      if (child.exitCode !== null) assert.fail(output());
      await wait(20);
    }
  }

  const write = (t: TestContext, config: object) => {
    const file = join(temporaryFolder(t), 'config.json');
    fs.writeFileSync(file, JSON.stringify(config));
    return file;
  };
  const linesOf = (path: string) => (fs.existsSync(path) ? fs.readFileSync(path, 'utf8').split('\n').length - 1 : 0);

  test('train --take-over: the other process ends with an error, and the result of the run does not change', async (t) => {
    // Step 8 has a gradient. A run without one ends with an error, and this one is interrupted at any step after the 20th.
    const file = write(t, { ...tiny, seed: 4, checkpoint: { every: 5 } });
    const [whole, runDir] = [join(temporaryFolder(t), 'whole'), join(temporaryFolder(t), 'run')];
    const metrics = join(runDir, 'metrics.jsonl');
    const first = start(t, [], 'train', file, '--run', runDir);
    await until(() => linesOf(metrics) > 20, first);
    const refused = start(t, [], 'train', file, '--run', runDir, '--steps', '60');
    assert.equal(await refused.ended, 1);
    assert.match(refused.output(), new RegExp(`^groupgrad: .*: process ${first.child.pid} on .*--take-over`));
    const second = start(t, [], 'train', file, '--run', runDir, '--steps', '5000', '--take-over');
    assert.equal(await first.ended, 1);
    assert.match(
      first.output(),
      new RegExp(
        `groupgrad: .*writes nothing more to it: process ${second.child.pid} on .*, is training in this folder now\n$`,
      ),
    );
    const taken = linesOf(metrics);
    await until(() => linesOf(metrics) > taken + 5, second);
    second.child.kill('SIGTERM');
    assert.equal(await second.ended, 143, second.output());
    const made = readLines(metrics).length;
    const undisturbed = start(t, [], 'train', file, '--run', whole, '--steps', String(made));
    assert.equal(await undisturbed.ended, 0, undisturbed.output());
    assert.deepEqual(lastingFiles(runDir), lastingFiles(whole));
  });

  const flags = ['--pid', '--fork', '--mount-proc', '--kill-child'];
  const probe = spawnSync('unshare', [...flags, 'true'], { encoding: 'utf8' });
  const skip =
    probe.status === 0 ? false : `unshare ${flags.join(' ')}: ${probe.error?.message ?? probe.stderr.trim()}`;

  const waits = skip || slowSet('starts six processes');
  test('train in two containers: the second one is rejected, whichever it is', { skip: waits }, async (t) => {
    const file = write(t, tiny);
    for (const [one, other] of [
      [[], ['unshare', ...flags]],
      [['unshare', ...flags], []],
      [
        ['unshare', ...flags],
        ['unshare', ...flags],
      ],
    ]) {
      const runDir = join(temporaryFolder(t), 'run');
      const first = start(t, one, 'train', file, '--run', runDir);
      await until(() => linesOf(join(runDir, 'metrics.jsonl')) > 1, first);
      const second = start(t, other, 'train', file, '--run', runDir, '--steps', '60');
      assert.equal(await second.ended, 1, second.output());
      assert.match(
        second.output(),
        /\(another container of this machine\).*is training in this folder; its last heartbeat was/,
      );
      first.child.kill('SIGKILL');
      await first.ended;
    }
  });

  test('compare --take-over: the other comparison and its runs end, and this one continues them', {
    timeout: 300_000,
    skip: slowSet('starts seven processes'),
  }, async (t) => {
    const folder = temporaryFolder(t);
    const [file, out, go] = ['comparison.ts', 'out', 'go'].map((name) => join(folder, name));
    // The fifth step waits for a file.
    fs.writeFileSync(
      file,
      `import { existsSync } from 'node:fs';
      import { defineReward } from 'groupgrad';
      const task = { task: 'bandit', arms: 10, probabilities: [0.5] };
      let calls = 0;
      export default {
        base: {
          ...${JSON.stringify({ ...tiny, steps: 7 })},
          train: task,
          rewards: [defineReward('score', async ({ score }) => {
            if (++calls > 64) while (!existsSync(${JSON.stringify(go)})) await new Promise((r) => setTimeout(r, 50));
            return score;
          })],
        },
        variants: { plain: {}, weighted: { hadw: {} } },
        seeds: 1,
        buckets: { everything: [0, 1] },
        probe: { task: { ...task, size: 1 }, measure: 8, samples: 8, every: 5000 },
      };`,
    );
    const runs = ['plain', 'weighted'].map((variant) => join(out, 'runs', variant, 'seed-0'));
    const isWaiting = (run: string) => linesOf(join(run, 'metrics.jsonl')) === 4;
    const ownerOf = (run: string) => /"pid":(\d+)/.exec(fs.readFileSync(join(run, 'lock.json'), 'utf8'))?.[1];
    const owners = () => runs.map(ownerOf);
    const first = start(t, [], 'compare', file, '--out', out, '--jobs', '2');
    await until(() => runs.every(isWaiting), first);
    const before = owners();
    const refused = start(t, [], 'compare', file, '--out', out);
    assert.equal(await refused.ended, 1);
    assert.match(refused.output(), new RegExp(`^groupgrad: .*: process ${first.child.pid} on .*--take-over`));
    const second = start(t, [], 'compare', file, '--out', out, '--jobs', '2', '--take-over');
    await until(() => owners().every((pid, i) => pid !== before[i]) && runs.every(isWaiting), second);
    fs.writeFileSync(go, '');
    assert.equal(await first.ended, 1, first.output());
    assert.match(
      first.output(),
      /^groupgrad: .*writes nothing more to it: process \d+ on .* is training in this folder now$/m,
    );
    assert.equal(await second.ended, 0, second.output());
    for (const run of runs) {
      assert.deepEqual(
        readLines(join(run, 'metrics.jsonl')).map(({ step }) => step),
        [1, 2, 3, 4, 5, 6, 7],
      );
    }
  });
});
