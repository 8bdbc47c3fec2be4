// tfjs-core's own specs, which its package contains, on our backend: every one that passes on tfjs's CPU backend must pass.
// Both run here, so that the list is never out of date.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import test from 'node:test';
import { loadAddon } from '../../src/devices/load.js';
import { root } from '../support/native.js';

interface Result {
  status: 'passed' | 'failed' | 'pending' | 'excluded';
  message?: string;
}
type Results = Record<string, Result>;

/** Specs that are declared only for a backend named `cpu`. */
const cpuOnly = /^Switching cpu backends /;

const folder = join(root, 'build', 'tfjs-specs');

function why(): string | false {
  const { resolve } = createRequire(import.meta.url);
  for (const name of ['esbuild', 'jasmine-core', '@tensorflow/tfjs-core/dist/tests.js']) {
    try {
      resolve(name);
    } catch {
      return `${name} is not installed`;
    }
  }
  const loaded = loadAddon();
  return loaded.addon ? false : loaded.reason;
}

/** The results of the specs on a backend, in a separate process. */
async function run(backend: string, bundle: string): Promise<Results> {
  const program = [join(root, 'test/tfjs-specs/run.mjs'), backend, folder, bundle];
  const child = spawn(process.execPath, program, {
    env: { ...process.env, GROUPGRAD_SPECS_BACKEND: backend },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let errors = '';
  child.stderr.on('data', (data) => {
    errors += data;
  });
  const status = await new Promise<number | null>((resolve) => child.on('close', resolve));
  assert.equal(status, 0, errors.slice(-2000));
  const file = join(folder, `${backend}.json`);
  assert.ok(existsSync(file));
  return JSON.parse(readFileSync(file, 'utf8')) as Results;
}

test("every spec of tfjs that passes on tfjs's CPU backend passes on groupgrad's", { skip: why() }, async (t) => {
  mkdirSync(folder, { recursive: true });
  const bundle = join(folder, 'specs.cjs');
  const { bundleSpecs } = await import('./bundle.js'); // only if esbuild is installed
  await bundleSpecs(bundle, ['tests']);
  const [cpu, own] = await Promise.all([run('cpu', bundle), run('groupgrad', bundle)]);
  const wanted = Object.keys(cpu).filter((name) => cpu[name].status === 'passed' && !cpuOnly.test(name));
  // 4,161 with tfjs-core 4.22.
  assert.ok(wanted.length > 4000, `only ${wanted.length} specs passed on the CPU backend`);
  const missed = wanted.filter((name) => own[name]?.status !== 'passed');
  t.diagnostic(`${wanted.length - missed.length} of ${wanted.length} specs pass`);
  assert.deepEqual(
    missed.map((name) => `${name}: ${own[name]?.message ?? 'was not run'}`),
    [],
  );
});
