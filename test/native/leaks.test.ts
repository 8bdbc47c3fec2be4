// Resident memory stays flat over 10^5 calls of each kind, including rejected ones.

import assert from 'node:assert/strict';
import test from 'node:test';
import { loadAddon } from '../../src/devices/load.js';
import { outputOf, root, run, typescript } from '../support/native.js';
import { slowSet } from '../support/sets.js';

/**
 * Bytes per call, as the median over parts of the calls. The least that a call could leak is an object that it made or a
 * reference to one: a typed array with its buffer takes more than 200 bytes, a reference 64 plus the object. The memory that the
 * collector and malloc keep was between -19 and 10 over 10^5 calls, and at most 727 over 2000, so the
 * quick test finds only larger leaks.
 */
const allowed = { 2000: 3000, 100000: 32 };

const loaded = loadAddon();
const noAddon = loaded.addon ? false : loaded.reason;

for (const [calls, bound] of Object.entries(allowed)) {
  const skip = noAddon || (calls === '100000' && slowSet('takes half a minute'));
  test(`${calls} calls of each kind leave no memory behind`, { skip }, (t) => {
    const program = ['--expose-gc', '--max-semi-space-size=1', ...typescript, 'test/support/leak.mjs', calls];
    const result = run(process.execPath, program, { cwd: root, timeout: 120 });
    assert.equal(result.status, 0, outputOf(result));
    const growth = JSON.parse(result.stdout) as Record<string, number>;
    t.diagnostic(`bytes per call: ${result.stdout.trim()}`);
    assert.equal(Object.keys(growth).length, 8);
    for (const [kind, bytes] of Object.entries(growth)) {
      assert.ok(bytes < bound, `${kind}: grew by ${bytes} bytes per call`);
    }
  });
}
