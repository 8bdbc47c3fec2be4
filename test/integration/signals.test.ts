// Processes that receive signals in every phase of a run: complete steps are saved in time, and the results do not change.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import { join } from 'node:path';
import test, { describe, type TestContext } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { quickBackend } from '../support/backend.js';
import { root } from '../support/native.js';
import { slowSet } from '../support/sets.js';
import { lastingFiles, temporaryFolder } from '../support/trainer.js';

interface Started {
  child: ChildProcess;
  output: () => string;
  ended: Promise<number | NodeJS.Signals>;
}

function start(t: TestContext, ...args: string[]): Started {
  const program = [join(root, 'dist', 'cli', 'main.js'), ...args];
  const child = spawn(process.execPath, program, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (text) => {
      output += text;
    });
  }
  t.after(() => child.kill('SIGKILL'));
  const ended = new Promise<number | NodeJS.Signals>((resolve) =>
    child.on('close', (code, by) => resolve(code ?? by!)),
  );
  return { child, output: () => output, ended };
}

async function until(condition: () => boolean, { child, output }: Started): Promise<void> {
  while (!condition()) {
    if (child.exitCode !== null || child.signalCode !== null) assert.fail(output());
    await wait(10);
  }
}

/** A fault of a run, from one of its calls on (counted from 1) in a process. */
interface Trouble {
  /** `hang`: waits forever; `busy`: blocks the event loop. */
  kind: 'hang' | 'busy';
  where: 'reward' | 'evaluation';
  from: number;
}

/** Sixteen rewards per step, and twenty scores per evaluation, which is before the first step and in every third. */
function writeConfig(
  t: TestContext,
  change = '',
): { file: string; runDir: string; trouble: (what?: Trouble) => () => number } {
  const folder = temporaryFolder(t);
  const file = join(folder, 'config.ts');
  fs.writeFileSync(
    file,
    `import { appendFileSync, existsSync, readFileSync } from 'node:fs';
    import { defineReward, tasks } from 'groupgrad';
    const folder = ${JSON.stringify(folder)};
    const trouble = existsSync(folder + '/trouble') ? JSON.parse(readFileSync(folder + '/trouble', 'utf8')) : {};
    const calls = { reward: 0, evaluation: 0 };
    const isTroubled = (where, kind) => {
      if (trouble.where !== where || trouble.kind !== kind || calls[where] < trouble.from) return false;
      appendFileSync(folder + '/reached', '.');
      return true;
    };
    const busy = () => { const began = performance.now(); while (performance.now() - began < 400); };
    const evaluation = tasks.addition({ digits: 1, seed: 3, size: 20 });
    export default {
      train: { task: 'addition', digits: 1 },
      evaluate: { same: { ...evaluation, score(text, example) {
        calls.evaluation++;
        if (isTroubled('evaluation', 'busy')) busy();
        return evaluation.score(text, example);
      } } },
      evaluation: { every: 3 },
      policy: { layers: 1, width: 8, heads: 2, hidden: 12 },
      promptsPerStep: 4,
      groupSize: 4,
      iterations: 2,
      hadw: {},
      // Long enough for completions to end; most of them are then scored.
      warmStart: { steps: 30, batchSize: 8, optimizer: { learningRate: 0.02 } },
      loss: { preset: 'grpo', kl: { beta: 0.02 } },
      checkpoint: { every: 1000 },
      backend: '${quickBackend}',
      rewards: [defineReward('length', async ({ completion }) => {
        calls.reward++;
        if (isTroubled('reward', 'hang')) await new Promise(() => setTimeout(() => {}, 1e6));
        if (isTroubled('reward', 'busy')) busy();
        return completion.tokens.length + completion.tokens[0] % 2;
      })],
      ${change}
    };`,
  );
  return {
    file,
    runDir: join(folder, 'run'),
    /** Writes down the fault, and returns how many calls it has affected. */
    trouble(what) {
      fs.rmSync(join(folder, 'reached'), { force: true });
      if (what) fs.writeFileSync(join(folder, 'trouble'), JSON.stringify(what));
      else fs.rmSync(join(folder, 'trouble'));
      return () => fs.statSync(join(folder, 'reached'), { throwIfNoEntry: false })?.size ?? 0;
    },
  };
}

const linesOf = (path: string) => (fs.existsSync(path) ? fs.readFileSync(path, 'utf8').split('\n').length - 1 : 0);
const newest = (runDir: string) => fs.readdirSync(join(runDir, 'checkpoints')).sort().at(-1);

/** That a run that is continued to some steps equals one that was not interrupted. */
async function assertSame(
  t: TestContext,
  { file, runDir, steps }: { file: string; runDir: string; steps: number },
): Promise<void> {
  const whole = join(temporaryFolder(t), 'whole');
  const runs = [whole, runDir].map((folder) => start(t, 'train', file, '--run', folder, '--steps', String(steps)));
  for (const run of runs) assert.equal(await run.ended, 0, run.output());
  assert.deepEqual(lastingFiles(runDir), lastingFiles(whole));
}

/** How long a process takes to end. The bounds allow for a busy machine; the alternative is an endless wait. */
async function secondsToEnd(t: TestContext, { ended }: Started): Promise<{ code: number | string; seconds: number }> {
  const began = performance.now();
  const code = await ended;
  const seconds = (performance.now() - began) / 1000;
  t.diagnostic(`ended with ${code} after ${seconds.toFixed(2)} s`);
  return { code, seconds };
}

const timeout = 300_000;

describe('a step that does not end', { concurrency: false }, () => {
  for (const [signals, code] of [
    [['SIGTERM', 'SIGTERM'], 143],
    [['SIGINT', 'SIGINT'], 130],
    [['SIGHUP', 'SIGHUP'], 129],
    [['SIGTERM', 'SIGINT'], 130],
  ] as const) {
    const skip = code !== 143 && slowSet('takes the same way as SIGTERM twice');
    test(`is undone by ${signals.join(' and ')}: the steps before it are saved`, { timeout, skip }, async (t) => {
      const { file, runDir, trouble } = writeConfig(t);
      const met = trouble({ kind: 'hang', where: 'reward', from: 3 * 16 + 5 });
      const run = start(t, 'train', file, '--run', runDir);
      await until(() => met() > 0, run);
      run.child.kill(signals[0]);
      await until(() => run.output().includes(`${signals[0]}: finishing the step`), run);
      run.child.kill(signals[1]);
      const { code: ended, seconds } = await secondsToEnd(t, run);
      assert.equal(ended, code, run.output());
      assert.ok(seconds < 20, `${seconds} s`);
      assert.equal(newest(runDir), 'step-00000003');
      assert.ok(!fs.existsSync(join(runDir, 'lock.json')));
      trouble();
      if (code === 143) await assertSame(t, { file, runDir, steps: 5 });
    });
  }

  const skip = slowSet('trains three times');
  test('is undone when its grace period is over', { timeout, skip }, async (t) => {
    const { file, runDir, trouble } = writeConfig(t);
    const met = trouble({ kind: 'hang', where: 'reward', from: 3 * 16 + 1 });
    const run = start(t, 'train', file, '--run', runDir, '--grace', '1.5');
    await until(() => met() > 0, run);
    run.child.kill('SIGTERM');
    const { code, seconds } = await secondsToEnd(t, run);
    assert.equal(code, 143, run.output());
    assert.ok(seconds < 20, `${seconds} s`);
    assert.match(run.output(), /SIGTERM: finishing the step \(at most 1\.5 s\)/);
    assert.match(run.output(), /step 4: the step did not end within 1\.5 s/);
    assert.match(run.output(), /ended by SIGTERM after step 3; see /);
    trouble();
    await assertSame(t, { file, runDir, steps: 5 });
  });

  for (const [what, where, from, made] of [
    ['rewards that keep the event loop busy', 'reward', 3 * 16 + 1, 3],
    ['an evaluation that does', 'evaluation', 1, 2],
  ] as const) {
    const skip = slowSet('trains three times');
    test(`because of ${what} receives the signal between two of them, and is undone in time`, {
      timeout,
      skip,
    }, async (t) => {
      const { file, runDir, trouble } = writeConfig(t, 'evaluation: { every: 3, atStart: false },');
      const met = trouble({ kind: 'busy', where, from });
      const run = start(t, 'train', file, '--run', runDir, '--grace', '1');
      await until(() => met() > 0, run);
      run.child.kill('SIGTERM');
      const { code } = await secondsToEnd(t, run);
      assert.equal(code, 143, run.output());
      // In a second there is time for two of 400 ms, but not for all of them.
      t.diagnostic(`after ${met()} calls of 400 ms`);
      assert.ok(met() <= 8, `${met()} calls`);
      assert.equal(newest(runDir), `step-0000000${made}`);
      trouble();
      await assertSame(t, { file, runDir, steps: made + 2 });
    });
  }

  test('cannot be saved on a failing disk: that is reported, and the exit code is 1', { timeout }, async (t) => {
    const { file, runDir, trouble } = writeConfig(t);
    const met = trouble({ kind: 'hang', where: 'reward', from: 3 * 16 + 1 });
    const run = start(t, 'train', file, '--run', runDir);
    await until(() => met() > 0, run);
    // A file in place of the folder of the next checkpoint.
    fs.rmSync(join(runDir, 'checkpoints'), { recursive: true });
    fs.writeFileSync(join(runDir, 'checkpoints'), '');
    run.child.kill('SIGTERM');
    await until(() => run.output().includes('SIGTERM: finishing'), run);
    run.child.kill('SIGTERM');
    assert.equal(await run.ended, 1, run.output());
    assert.match(run.output(), /^groupgrad: step 3 could not be saved to /m);
  });
});

describe('a warm start', { concurrency: false }, () => {
  const warm = `
    warmStart: { steps: 200, until: 0.999, every: 20, problems: 8, batchSize: 4, optimizer: { learningRate: 0.003, warmupSteps: 5 } },
  `;
  const updates = (run: Started) =>
    Number(/update (\d+) of at most/.exec(run.output().split('warm start').at(-1)!)?.[1] ?? 0);

  for (const [signal, code] of [
    ['SIGTERM', 143],
    ['SIGINT', 130],
    ['SIGKILL', 'SIGKILL'],
  ] as const) {
    const skip = slowSet('trains twice and more');
    test(`that ${signal} has ended goes on where it was saved`, { timeout, skip }, async (t) => {
      const { file, runDir } = writeConfig(t, warm);
      // Only the process that is killed saves every update.
      const often = signal === 'SIGKILL' ? ['--set', 'checkpoint.warmStartSeconds=0'] : [];
      const run = start(t, 'train', file, '--run', runDir, ...often);
      await until(() => updates(run) >= 80, run);
      run.child.kill(signal);
      assert.equal(await run.ended, code, run.output());
      const [saved] = fs
        .readdirSync(join(runDir, 'warm-start'))
        .filter((name) => !name.startsWith('.'))
        .reverse();
      const made = Number(saved.slice(5));
      assert.ok(made >= 79 && made < 200, saved);
      assert.ok(!fs.existsSync(join(runDir, 'metrics.jsonl')) || linesOf(join(runDir, 'metrics.jsonl')) === 0);
      const second = start(t, 'train', file, '--run', runDir, '--steps', '1');
      assert.equal(await second.ended, 0, second.output());
      assert.match(second.output(), new RegExp(`^warm start: continuing after update ${made}$`, 'm'));
      if (signal !== 'SIGINT') await assertSame(t, { file, runDir, steps: 3 });
    });
  }

  const skip = slowSet('trains three times');
  test('and its first evaluation are ended at once, by one signal', { timeout, skip }, async (t) => {
    const { file, runDir, trouble } = writeConfig(t);
    const met = trouble({ kind: 'busy', where: 'evaluation', from: 1 });
    const run = start(t, 'train', file, '--run', runDir);
    await until(() => met() > 0, run);
    run.child.kill('SIGTERM');
    const { code } = await secondsToEnd(t, run);
    assert.equal(code, 143, run.output());
    assert.ok(met() <= 6, `${met()} calls`);
    assert.deepEqual(fs.readdirSync(join(runDir, 'warm-start')), ['step-00000030']);
    trouble();
    await assertSame(t, { file, runDir, steps: 2 });
  });
});

test('the last evaluation is skipped on a signal: the run is complete', { timeout }, async (t) => {
  const { file, runDir, trouble } = writeConfig(t, 'evaluation: { atStart: false },');
  const met = trouble({ kind: 'busy', where: 'evaluation', from: 1 });
  const run = start(t, 'train', file, '--run', runDir, '--steps', '2', '--json');
  await until(() => met() > 0, run);
  run.child.kill('SIGTERM');
  const { code } = await secondsToEnd(t, run);
  assert.equal(code, 143, run.output());
  assert.ok(met() <= 6, `${met()} calls`);
  assert.equal(newest(runDir), 'step-00000002');
  assert.match(run.output(), /"ended":"max","steps":2,.*"evaluation":\{\}/);
});

describe('a comparison', { concurrency: false }, () => {
  /** The fifth step of its variants waits forever if a file says so. */
  function writeComparison(t: TestContext): { file: string; out: string; at: (place: string) => string } {
    const folder = temporaryFolder(t);
    const file = join(folder, 'comparison.ts');
    fs.writeFileSync(
      file,
      `import { existsSync, writeFileSync } from 'node:fs';
      import { defineReward } from 'groupgrad';
      const folder = ${JSON.stringify(folder)};
      const task = { task: 'bandit', probabilities: [0.5], arms: 10 };
      let calls = 0;
      export default {
        base: {
          train: task,
          policy: { layers: 1, width: 8, heads: 2, hidden: 12 },
          warmStart: { steps: 2 },
          promptsPerStep: 4,
          groupSize: 4,
          loss: 'grpo',
          checkpoint: { every: 1000 },
          backend: '${quickBackend}',
          steps: 7,
          rewards: [defineReward('score', async ({ score }) => {
            if (++calls > 64 && existsSync(folder + '/hang')) {
              writeFileSync(folder + '/reached-' + process.pid, '');
              await new Promise(() => setTimeout(() => {}, 1e6));
            }
            return score;
          })],
        },
        variants: { plain: {}, weighted: { hadw: {} } },
        seeds: 1,
        buckets: { everything: [0, 1] },
        probe: { task: { ...task, size: 1 }, measure: 8, samples: 8, every: 5000 },
      };`,
    );
    return { file, out: join(folder, 'out'), at: (place) => join(folder, place) };
  }

  const runs = (out: string) => ['plain', 'weighted'].map((variant) => join(out, 'runs', variant, 'seed-0'));

  /** Both of its runs have made four steps, and do not finish the fifth. */
  async function hangInBoth(t: TestContext, ...flags: string[]) {
    const { file, out, at } = writeComparison(t);
    fs.writeFileSync(at('hang'), '');
    const comparison = start(t, 'compare', file, '--out', out, '--jobs', '2', ...flags);
    const reached = () => fs.readdirSync(at('')).filter((name) => name.startsWith('reached-'));
    await until(() => reached().length === 2, comparison);
    const children = reached().map((name) => Number(name.slice(8)));
    return { comparison, file, out, at, children };
  }

  const savedSteps = (out: string) => runs(out).map((run) => Number(newest(run)!.slice(5)));

  const waits = slowSet('starts five processes and more');
  test('saves its runs without their endless steps, on a second signal', { timeout, skip: waits }, async (t) => {
    const { comparison, file, out, at } = await hangInBoth(t);
    comparison.child.kill('SIGTERM');
    await until(() => comparison.output().includes('SIGTERM: finishing the running steps (at most 20 s)'), comparison);
    comparison.child.kill('SIGTERM');
    const { code, seconds } = await secondsToEnd(t, comparison);
    assert.equal(code, 143, comparison.output());
    assert.ok(seconds < 20, `${seconds} s`);
    assert.deepEqual(savedSteps(out), [4, 4]);
    assert.ok(!fs.existsSync(join(out, 'lock.json')));
    for (const run of runs(out)) assert.ok(!fs.existsSync(join(run, 'lock.json')));
    fs.rmSync(at('hang'));
    const again = start(t, 'compare', file, '--out', out, '--jobs', '2');
    assert.equal(await again.ended, 0, again.output());
    const whole = at('whole');
    const once = start(t, 'compare', file, '--out', whole, '--jobs', '2');
    assert.equal(await once.ended, 0, once.output());
    runs(out).forEach((run, i) => {
      assert.deepEqual(lastingFiles(run), lastingFiles(runs(whole)[i]));
    });
  });

  test('saves them when their grace period is over', { timeout, skip: waits }, async (t) => {
    const { comparison, out } = await hangInBoth(t, '--grace', '0.5');
    comparison.child.kill('SIGINT');
    const { code, seconds } = await secondsToEnd(t, comparison);
    assert.equal(code, 130, comparison.output());
    assert.ok(seconds < 20, `${seconds} s`);
    assert.deepEqual(savedSteps(out), [4, 4]);
  });

  test('that is killed leaves processes behind that save their runs and end', { timeout, skip: waits }, async (t) => {
    const { comparison, out, children } = await hangInBoth(t);
    comparison.child.kill('SIGKILL');
    assert.equal(await comparison.ended, 'SIGKILL');
    const isAlive = (pid: number) => {
      try {
        return process.kill(pid, 0);
      } catch {
        return false;
      }
    };
    while (children.some(isAlive)) await wait(20);
    assert.deepEqual(savedSteps(out), [4, 4]);
    for (const run of runs(out)) assert.ok(!fs.existsSync(join(run, 'lock.json')));
  });
});
