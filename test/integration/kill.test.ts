// A run that is killed (SIGKILL) repeatedly at random moments ends like an uninterrupted run, bit for bit.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import test, { after as afterAll, before, type TestContext } from 'node:test';
import { setTimeout as after } from 'node:timers/promises';
import { build } from 'esbuild';
import { root } from '../support/native.js';
import { slowSet } from '../support/sets.js';
import { lastingFiles, readLines, temporaryFolder } from '../support/trainer.js';

/** Bundles, which start in a fraction of the time that tsx takes. Within the checkout, where they find packages and the addon. */
const programs = join(root, 'build', `killed-runs-${process.pid}`);
before(() =>
  build({
    entryPoints: ['killed-run.ts', 'killed-model-run.ts'].map((name) => join(root, 'test', 'support', name)),
    outdir: programs,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    packages: 'external',
    platform: 'node',
    format: 'esm',
  }),
);
afterAll(() => rmSync(programs, { recursive: true, force: true }));

const never = Number.POSITIVE_INFINITY;
const linesOf = (path: string) => (existsSync(path) ? readFileSync(path, 'utf8').split('\n').length - 1 : 0);

/**
 * Trains, and kills the process when its run has made `kill` steps, and up to `later` milliseconds after that: counted by
 * what it has written, so that a busy machine makes no difference. Whether it came to its end.
 */
async function run(program: string, runDir: string, steps: number, kill = never, later = 0): Promise<boolean> {
  const args = [join(programs, program), runDir, String(steps)];
  const child = spawn(process.execPath, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
  let errors = '';
  child.stderr.on('data', (text) => {
    errors += text;
  });
  const ended = new Promise<{ code: number | null; signal: string | null }>((resolve) => {
    child.on('close', (code, signal) => resolve({ code, signal }));
  });
  const training = new Promise((resolve) => child.stdout.once('data', resolve));
  await Promise.race([training, ended]);
  if (kill === never) await ended;
  const isRunning = () => child.exitCode === null && child.signalCode === null;
  while (isRunning() && linesOf(join(runDir, 'metrics.jsonl')) < kill) await after(1);
  await after(later * Math.random());
  child.kill('SIGKILL');
  const { code, signal } = await ended;
  assert.ok(code === 0 || signal === 'SIGKILL', `exit status ${code}: ${errors}`);
  return code === 0;
}

async function killsChangeNothing(t: TestContext, kills: number): Promise<void> {
  const folder = temporaryFolder(t);
  const [whole, killed] = [join(folder, 'whole'), join(folder, 'killed')];
  const steps = 15 * kills;
  const began = performance.now();
  assert.ok(await run('killed-run.mjs', whole, steps));
  const perStep = (performance.now() - began) / steps;
  // Before the first step, which is in the warm start or before it, and so far from the end that it does not come before them.
  const others = Array.from({ length: kills - 1 }, () => Math.floor(Math.random() * (steps - 15)));
  const planned = [0, ...others.sort((a, b) => a - b)];
  const made: number[] = [];
  for (const kill of planned) {
    if (await run('killed-run.mjs', killed, steps, kill, perStep)) break;
    made.push(linesOf(join(killed, 'metrics.jsonl')));
  }
  t.diagnostic(`killed ${made.length} times, after ${made.join(', ')} lines`);
  assert.ok(made.length >= kills / 2, `killed only ${made.length} times`);
  assert.ok(await run('killed-run.mjs', killed, steps));
  assert.deepEqual(lastingFiles(killed), lastingFiles(whole));
  assert.deepEqual(
    readLines(join(killed, 'timing.jsonl')).map(({ step }) => step),
    Array.from({ length: steps }, (_, i) => i + 1),
  );
}

test('3 kills change nothing', { timeout: 600_000 }, (t) => killsChangeNothing(t, 3));

test('20 kills change nothing', { timeout: 600_000, skip: slowSet('takes a minute') }, (t) =>
  killsChangeNothing(t, 20),
);

const stories = join(root, '../shared/models/stories260k');

test('a run that trains a model from a folder is killed, and resumes bit for bit', {
  timeout: 600_000,
  skip: slowSet('loads a model five times') || (!existsSync(stories) && `${stories} is missing`),
}, async (t) => {
  const folder = temporaryFolder(t);
  const [whole, killed] = [join(folder, 'whole'), join(folder, 'killed')];
  const steps = 6;
  const began = performance.now();
  assert.ok(await run('killed-model-run.mjs', whole, steps));
  const perStep = (performance.now() - began) / (steps + 2);
  let kills = 0;
  for (const kill of [1, 2, 4]) {
    if (!(await run('killed-model-run.mjs', killed, steps, kill, perStep))) kills++;
  }
  assert.ok(kills > 0);
  await run('killed-model-run.mjs', killed, steps);
  assert.deepEqual(lastingFiles(killed), lastingFiles(whole));
});
