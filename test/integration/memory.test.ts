// A thousand steps of a nano policy: as many tensors as before, and no more memory.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import test from 'node:test';
import { outputOf, root, run, typescript } from '../support/native.js';
import { slowSet } from '../support/sets.js';
import { temporaryFolder } from '../support/trainer.js';

const steps = 1000;
/**
 * Bytes a step. The least that a step could leave behind by mistake, its groups or one tensor of the policy, is more than ten
 * kilobytes. What the collector and malloc keep for themselves grows by less once a few hundred steps have been made.
 */
const allowed = 4096;

function reasonToSkip(packageName: string): string | false {
  const waits = slowSet('takes minutes');
  if (waits) return waits;
  try {
    createRequire(import.meta.url).resolve(packageName);
    return false;
  } catch {
    return `${packageName} is not installed`;
  }
}

for (const [backend, packageName] of [
  ['wasm', '@tensorflow/tfjs-backend-wasm'],
  ['tensorflow', '@tensorflow/tfjs-node'],
]) {
  const skip = reasonToSkip(packageName);
  test(`${steps} steps on ${backend} leave no tensor and no memory behind`, { skip, timeout: 600_000 }, (t) => {
    const flags = ['--expose-gc', '--max-semi-space-size=1', ...typescript];
    const args = ['test/support/long-run.ts', backend, String(steps), temporaryFolder(t)];
    const result = run(process.execPath, [...flags, ...args], { cwd: root, timeout: 600 });
    assert.equal(result.status, 0, outputOf(result));
    const states = JSON.parse(result.stdout) as { step: number; tensors: number; resident: number }[];
    assert.equal(states.length, steps / 100);
    assert.equal(new Set(states.map(({ tensors }) => tensors)).size, 1, result.stdout);
    const [from, to] = [states.find(({ step }) => step === 500)!, states.at(-1)!];
    const growth = (to.resident - from.resident) / (to.step - from.step);
    t.diagnostic(`${growth.toFixed(0)} bytes a step; ${(to.resident / 2 ** 20).toFixed(0)} MiB resident`);
    assert.ok(growth < allowed, `grew by ${growth} bytes a step: ${result.stdout}`);
  });
}
