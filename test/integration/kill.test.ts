// A run that is killed (SIGKILL) repeatedly at random moments ends like an uninterrupted run, bit for bit.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
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

/** Trains, and kills the process `delay` milliseconds after training has begun. Returns whether the run was completed. */
async function run(program: string, runDir: string, steps: number, delay: number): Promise<boolean> {
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
  await Promise.race([after(delay, undefined, { ref: false }), ended]);
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
  assert.ok(await run('killed-run.mjs', whole, steps, 300_000));
  const perStep = Math.max(5, (performance.now() - began) / steps);
  const delays: number[] = [];
  let done = false;
  while (!done) {
    // On average the distance that the run must cover between two of so many kills.
    const delay = delays.length < kills ? Math.random() * 20 * perStep : 300_000;
    done = await run('killed-run.mjs', killed, steps, delay);
    if (!done) delays.push(Math.round(delay));
  }
  t.diagnostic(`killed ${delays.length} times, after ${delays.join(', ')} ms`);
  assert.ok(delays.length >= kills / 2, `killed only ${delays.length} times`);
  assert.deepEqual(lastingFiles(killed), lastingFiles(whole));
  assert.deepEqual(
    readLines(join(killed, 'timing.jsonl')).map(({ step }) => step),
    Array.from({ length: steps }, (_, i) => i + 1),
  );
}

test('4 kills change nothing', { timeout: 600_000 }, (t) => killsChangeNothing(t, 4));

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
  assert.ok(await run('killed-model-run.mjs', whole, steps, 300_000));
  const perStep = Math.max(50, (performance.now() - began) / (steps + 2));
  let kills = 0;
  for (; kills < 3 && !(await run('killed-model-run.mjs', killed, steps, (1 + Math.random()) * perStep)); kills++);
  assert.ok(kills > 0);
  await run('killed-model-run.mjs', killed, steps, 300_000);
  assert.deepEqual(lastingFiles(killed), lastingFiles(whole));
});
