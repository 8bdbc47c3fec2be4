// A thousand steps of a nano policy: the number of tensors and the memory do not grow.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import test from 'node:test';
import { outputOf, root, run, typescript } from '../support/native.js';
import { slowSet } from '../support/sets.js';
import { temporaryFolder } from '../support/trainer.js';

const steps = 1000;
/**
 * Bytes per step. The least that a step could leak by mistake, its groups or one tensor of the policy, is more than ten
 * kilobytes. The collector's and malloc's own memory grows by up to five after a few hundred steps.
 */
const allowed = 8192;

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
    t.diagnostic(`${growth.toFixed(0)} bytes per step; ${(to.resident / 2 ** 20).toFixed(0)} MiB resident`);
    assert.ok(growth < allowed, `grew by ${growth} bytes per step: ${result.stdout}`);
  });
}
