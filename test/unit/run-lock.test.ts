// The lock of a run folder, taken by two processes at the same moment.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { lockRun } from '../../src/run/run-lock.js';
import { temporaryFolder } from '../support/trainer.js';

const dead = JSON.stringify({ pid: 2 ** 30, host: hostname(), started: null });
const alive = JSON.stringify({ pid: process.ppid, host: hostname(), started: null });

/** A folder with a lock that reads as `before` until it has been read, by when a rival has put its own in its place. */
function contested(t: TestContext, before: string): string {
  const folder = temporaryFolder(t);
  const path = join(folder, 'lock.json');
  fs.writeFileSync(path, before);
  const read = fs.readFileSync;
  let reads = 0;
  t.mock.method(fs, 'readFileSync', (...args: Parameters<typeof read>) => {
    const text = read(...args);
    if (args[0] === path && reads++ === 0) fs.writeFileSync(path, alive);
    return text;
  });
  return folder;
}

for (const [what, before] of Object.entries({
  'that the other has just taken over from a dead process': dead,
  'that the other has created and not written yet': '',
})) {
  test(`of two that take a lock at once, one does not get it: one ${what}`, (t) => {
    const folder = contested(t, before);
    assert.throws(() => lockRun(folder), new RegExp(`process ${process.ppid} on .* is training in this folder`));
    t.mock.restoreAll();
    assert.deepEqual(fs.readdirSync(folder), ['lock.json']);
    assert.equal(fs.readFileSync(join(folder, 'lock.json'), 'utf8'), alive);
  });
}

test('half a lock, which a power cut may leave, is taken over, and so is one of a dead process', (t) => {
  const folder = temporaryFolder(t);
  for (const left of ['', '{"pid":', '{}', 'null', dead]) {
    fs.writeFileSync(join(folder, 'lock.json'), left);
    lockRun(folder)();
    assert.deepEqual(fs.readdirSync(folder), []);
  }
});

test('who lets go of a lock leaves that of another alone', (t) => {
  const folder = temporaryFolder(t);
  const unlock = lockRun(folder);
  fs.writeFileSync(join(folder, 'lock.json'), alive);
  unlock();
  assert.deepEqual(fs.readdirSync(folder), ['lock.json']);
  fs.rmSync(join(folder, 'lock.json'));
  unlock();
});
