// A run that is killed (SIGKILL) again and again, at random moments, ends as the run that was left alone, bit for bit.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import test, { after as afterAll, before } from 'node:test';
import { setTimeout as after } from 'node:timers/promises';
import { build } from 'esbuild';
import { root } from '../support/native.js';
import { lastingFiles, readLines, temporaryFolder } from '../support/trainer.js';

/** A bundle, which starts in a fraction of the time that tsx takes. Within the checkout, where it finds packages and the addon. */
const program = join(root, 'build', `killed-run-${process.pid}.mjs`);
before(() =>
  build({
    entryPoints: [join(root, 'test', 'support', 'killed-run.ts')],
    outfile: program,
    bundle: true,
    packages: 'external',
    platform: 'node',
    format: 'esm',
  }),
);
afterAll(() => rmSync(program, { force: true }));

/** Trains, and kills the process `delay` milliseconds after it has begun to train. Whether it came to its end. */
async function run(runDir: string, steps: number, delay: number): Promise<boolean> {
  const args = [program, runDir, String(steps)];
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

const slow = process.env.GROUPGRAD_SLOW_TESTS === '1';
const kills = slow ? 50 : 4;

test(`${kills} kills change nothing`, { timeout: 600_000 }, async (t) => {
  const folder = temporaryFolder(t);
  const [whole, killed] = [join(folder, 'whole'), join(folder, 'killed')];
  const steps = 15 * kills;
  const began = performance.now();
  assert.ok(await run(whole, steps, 300_000));
  const perStep = Math.max(5, (performance.now() - began) / steps);
  const delays: number[] = [];
  let done = false;
  while (!done) {
    // On average as far as the run can go between two kills if there are to be so many of them.
    const delay = delays.length < kills ? Math.random() * 20 * perStep : 300_000;
    done = await run(killed, steps, delay);
    if (!done) delays.push(Math.round(delay));
  }
  t.diagnostic(`killed ${delays.length} times, after ${delays.join(', ')} ms`);
  assert.ok(delays.length >= kills / 2, `killed only ${delays.length} times`);
  assert.deepEqual(lastingFiles(killed), lastingFiles(whole));
  assert.deepEqual(
    readLines(join(killed, 'timing.jsonl')).map(({ step }) => step),
    Array.from({ length: steps }, (_, i) => i + 1),
  );
});
