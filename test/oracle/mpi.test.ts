// Several trainers over MPI itself: processes that mpirun starts, with the addon that `groupgrad build --mpi` compiles. What the
// trainer does with a communicator is in unit/processes.test.ts, with its bounds.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { before, describe, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startBackend } from '../../src/backend/backend.js';
import { buildMpiAddon } from '../../src/devices/build.js';
import { defineReward } from '../../src/index.js';
import { exists, outputOf, root, run as runCommand } from '../support/native.js';
import { slowSet } from '../support/sets.js';
import { readLines, stepsOf, temporaryFolder, tinyTrainer, weightsOf } from '../support/trainer.js';

const launcher = process.env.GROUPGRAD_MPIRUN ?? 'mpirun';
const wrapper = process.env.MPICXX ?? 'mpicxx';
const missing = [launcher, wrapper].filter((name) => !exists(name));
const skip = slowSet('starts processes by MPI') || (missing.length > 0 && `${missing.join(' and ')} not found`);

/** A zombie has ended: who should have asked for its code may be gone. */
const lives = (pid: number) => {
  const { status, stdout } = spawnSync('ps', ['-o', 'stat=', '-p', String(pid)], { encoding: 'utf8' });
  return status === 0 && !stdout.startsWith('Z');
};

interface Trained {
  completions: unknown[];
  weights: Record<string, number[]>;
}

describe('several trainers by MPI', { skip, timeout: 600_000 }, () => {
  let addon: string;
  before(async () => {
    await startBackend();
    ({ addon } = await buildMpiAddon(join(root, 'build', 'mpi-test')));
  });

  const start = (what: string, folder: string, { size = 2, steps = 3 } = {}) =>
    launch([join(root, 'test', 'support', 'mpi-run.ts'), what, folder, String(steps)], size);

  function launch(program: readonly string[], size = 2) {
    const args = ['-n', String(size), process.execPath, '--import', 'tsx', ...program];
    const env = {
      ...process.env,
      GROUPGRAD_MPI_ADDON: addon,
      // Open MPI's: tests run in containers, with few cores.
      OMPI_ALLOW_RUN_AS_ROOT: '1',
      OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: '1',
      OMPI_MCA_rmaps_base_oversubscribe: '1',
    };
    const child: ChildProcess = spawn(launcher, args, { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout!, child.stderr!])
      stream.setEncoding('utf8').on('data', (text) => (output += text));
    return { child, ended: once(child, 'close').then(([code]) => ({ code: code as number, output })) };
  }

  async function run(t: TestContext, what: string, options: Parameters<typeof start>[2] = {}) {
    const folder = temporaryFolder(t);
    const { code, output } = await start(what, folder, options).ended;
    assert.equal(code, 0, output);
    return Array.from({ length: options.size ?? 2 }, (_, rank) => found(folder, rank));
  }

  const found = (folder: string, rank: number): unknown =>
    JSON.parse(readFileSync(join(folder, `rank-${rank}.json`), 'utf8'));

  test('groupgrad build --mpi puts the addon where it is looked for', (t) => {
    const path = join(temporaryFolder(t), 'elsewhere', 'mpi.node');
    const env = { ...process.env, GROUPGRAD_MPI_ADDON: path };
    const built = runCommand(process.execPath, ['--import', 'tsx', 'src/cli/main.ts', 'build', '--mpi'], { env });
    assert.equal(built.status, 0, outputOf(built));
    assert.ok(built.stdout.trim().endsWith(path), built.stdout);
    const say = "import { mpi } from './src/index.ts'; const { rank, size } = mpi(); console.log(rank, size)";
    const alone = runCommand(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', say], { env });
    assert.equal(alone.stdout.trim(), '0 1', outputOf(alone));
  });

  for (const size of [1, 2, 3]) {
    test(`${size} processes: what is gathered, sent and added up`, async (t) => {
      const results = (await run(t, 'operations', { size })) as Record<string, unknown>[];
      const ranks = Array.from({ length: size }, (_, rank) => rank);
      const total = (size * (size + 1)) / 2;
      for (const [rank, { gathered, sums, sent, ticks, busy, name }] of results.entries()) {
        assert.deepEqual(
          gathered,
          [() => 0, (r: number) => r, (r: number) => 3 * r, (r: number) => 100_000 * (r + 1)].map((length) =>
            ranks.flatMap((r) => [length(r), length(r) * (r + 1)]),
          ),
        );
        // Outside the part that is added up, values are this process's own.
        assert.deepEqual(sums, [(rank + 1) * 999, total * 999, total * 999, (rank + 1) * 999]);
        assert.deepEqual(sent, [size - 1, 10 * (size - 1)]);
        if (rank === 0) t.diagnostic(String(name));
        else {
          assert.ok((ticks as number) > 10, `a process that waits runs timers: ${ticks}`);
          assert.ok((busy as number) < 0.25, `waiting for half a second took ${busy} s of the processor`);
        }
      }
    });
  }

  test('two processes train what one does', async (t) => {
    const [first, second] = (await run(t, 'train', { steps: 1 })) as Trained[];
    assert.deepEqual(second, first);
    const alone = await tinyTrainer(t, {
      rewards: [defineReward('digits', ({ completion }) => [...completion.text].filter((c) => c >= '5').length / 4)],
      optimizer: { learningRate: 0.05, epsilon: 1, maxGradientNorm: 100 },
    });
    const start = weightsOf(alone.policy);
    const steps = await stepsOf(alone, 1);
    const completions = steps.map(({ groups }) =>
      groups.map((group) => group.completions.map(({ tokens }) => [...tokens])),
    );
    assert.deepEqual(first.completions, completions);
    const after = weightsOf(alone.policy);
    const distance = (weights: Record<string, ArrayLike<number>>) =>
      Math.hypot(...Object.entries(after).flatMap(([name, values]) => [...values].map((v, i) => v - weights[name][i])));
    assert.ok(distance(start) > 1e-4);
    assert.ok(distance(first.weights) <= 3e-4 * distance(start), `${distance(first.weights)}`);
  });

  test('groupgrad train: one process prints and writes, and the same command resumes', async (t) => {
    const folder = temporaryFolder(t);
    const config = join(folder, 'mine.config.ts');
    const lines = [
      "import { defineConfig, mpi } from 'groupgrad';",
      "const train = { task: 'sort', length: [1, 2] } as const;",
      "const policy = { preset: 'nano' } as const;",
      'export default defineConfig({ train, policy, promptsPerStep: 2, groupSize: 2, communicator: mpi() });',
    ];
    writeFileSync(config, lines.join('\n'));
    const runDir = join(folder, 'run');
    for (const steps of [1, 2]) {
      const program = [join(root, 'src/cli/main.ts'), 'train', config, '--steps', String(steps), '--run', runDir];
      const { code, output } = await launch(program).ended;
      assert.equal(code, 0, output);
      assert.equal(output.split('done after step').length, 2, output);
      assert.match(output, new RegExp(`done after step ${steps}; see`));
    }
    assert.deepEqual(
      readLines(join(runDir, 'metrics.jsonl'))
        .map(({ step }) => step)
        .filter((step) => step !== 0),
      [1, 2],
    );
  });

  test('the same command gives the same bits', async (t) => {
    const [one] = await run(t, 'train', { size: 3 });
    const [two] = await run(t, 'train', { size: 3 });
    assert.deepEqual(two, one);
  });

  test('an error in one process ends all, with the last complete step saved', async (t) => {
    const folder = temporaryFolder(t);
    const { code, output } = await start('throw', folder, { steps: 20 }).ended;
    assert.notEqual(code, 0);
    assert.match(output, /process 1: .*no more rewards/s);
    const lines = readLines(join(folder, 'run', 'metrics.jsonl'));
    const saved = readdirSync(join(folder, 'run', 'checkpoints'))
      .sort()
      .at(-1)!;
    assert.match(saved, new RegExp(`0*${lines.at(-1)!.step as number}$`));
  });

  test('a process that exits ends all', async (t) => {
    const { code } = await start('exit', temporaryFolder(t), { steps: 20 }).ended;
    assert.notEqual(code, 0);
  });

  for (const rank of [0, 1]) {
    test(`kill -9 of process ${rank}: the others end, and the same command goes on`, async (t) => {
      const folder = temporaryFolder(t);
      const metrics = join(folder, 'run', 'metrics.jsonl');
      const first = start('slow', folder, { steps: 6 });
      while (first.child.exitCode === null && !(existsSync(metrics) && readLines(metrics).length >= 2)) await sleep(5);
      process.kill(Number(readFileSync(join(folder, `pid-${rank}`), 'utf8')), 'SIGKILL');
      assert.notEqual((await first.ended).code, 0);
      const other = Number(readFileSync(join(folder, `pid-${1 - rank}`), 'utf8'));
      for (let waited = 0; lives(other) && waited < 10_000; waited += 50) await sleep(50);
      assert.ok(!lives(other), 'the other process lives');
      const second = await start('slow', folder, { steps: 6 }).ended;
      assert.equal(second.code, 0, second.output);
      assert.deepEqual(
        readLines(metrics)
          .map(({ step }) => step)
          .filter((step) => step !== 0),
        [1, 2, 3, 4, 5, 6],
      );
      assert.deepEqual(found(folder, 1), found(folder, 0));
    });
  }
});
