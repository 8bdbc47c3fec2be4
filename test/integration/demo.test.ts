// A shortened demo: its output, and that its exit status agrees with its last lines. Whether reinforcement works in
// full is checked by running it (`npm run demo`).

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import test from 'node:test';
import { quickBackend } from '../support/backend.js';

function runDemo(...flags: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['dist/demo.js', ...flags], {
    encoding: 'utf8',
    timeout: 120_000,
  });
  return { status, stdout, stderr };
}

test('prints device, backend, a few lines of progress and both accuracies, and exits by them', () => {
  const { status, stdout, stderr } = runDemo('--steps', '2', '--backend', quickBackend);
  const lines = stdout.trimEnd().split('\n');
  assert.match(lines[0], new RegExp(`^loss on device \\w+ \\(.*\\); policy on tfjs backend ${quickBackend}`), stderr);
  assert.ok(lines.length < 20 && !stdout.includes('\x1b'), stdout);
  const right = (when: string) =>
    Number(new RegExp(`^held out, ${when} reinforcement: +(\\d+) of 400 right`, 'm').exec(stdout)?.[1]);
  assert.ok(right('before') >= 80, stdout);
  assert.equal(status, right('after') > right('before') ? 0 : 1, stdout);
  // The last line distinguishes the training reward from the accuracy on new problems.
  const percent = (when: string) => `${(right(when) / 4).toFixed(1)} %`;
  assert.ok(lines.at(-1)?.includes(`${percent('before')} before reinforcement, ${percent('after')} after`), stdout);
  assert.match(
    lines.at(-1)!,
    /^accuracy on 400 problems that training never saw.*; reward of the last training step: \d\.\d\d/,
  );
});

test('rejects invalid flags with one line', () => {
  for (const flags of [['--steps', 'many'], ['--backend', 'webgl'], ['--colour']]) {
    const { status, stderr } = runDemo(...flags);
    assert.equal(status, 1);
    assert.match(stderr, /^demo: .*\n$/, stderr);
  }
});
