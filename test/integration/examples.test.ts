// The programs of examples/, shortened: they run, print what they should, and leave a run folder.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { quickBackend } from '../support/backend.js';
import { callInThread } from '../support/cli.js';
import { root, typescript } from '../support/native.js';
import { slowSet } from '../support/sets.js';
import { temporaryFolder } from '../support/trainer.js';

function runProgram(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [...typescript, ...args], {
    cwd: root,
    encoding: 'utf8',
    timeout: 180_000,
  });
  assert.equal(status, 0, `${stdout}\n${stderr}`);
  return stdout;
}

/** The arguments of each example besides the run folder, and the pattern of its last line. */
const programs: Record<string, { args: string[]; last: RegExp; needs?: string; waits?: string | false }> = {
  'addition.ts': {
    args: ['2'],
    waits: slowSet('has a long warm start'),
    last: /^max after 2 steps: \d+ of 200 held-out problems right$/,
  },
  'custom-task.ts': { args: ['2'], last: /^\d of 9 right$/ },
  'custom-model.ts': { args: ['2'], last: /^\d+ of 100 right$/ },
  'pretrained.ts': {
    args: ['2'],
    waits: slowSet('trains a language model'),
    last: /^held-out stories: [\d.]+ mention a dog, [\d.]+ end within 100 tokens, [\d.]+ do both$/,
    needs: '../shared/models/stories260k',
  },
  'resume.ts': { args: [], waits: slowSet('trains three times'), last: /^the weights are the same, bit for bit$/ },
};
const configurations = ['dataset.config.ts', 'jsonl.config.ts'];

for (const [name, { args, last, needs, waits }] of Object.entries(programs)) {
  const skip = waits || (needs !== undefined && !existsSync(join(root, needs)) && `${needs} is missing`);
  test(`examples/${name}`, { skip }, (t) => {
    const runDir = join(temporaryFolder(t), 'run');
    const lines = runProgram(join('examples', name), ...args, runDir)
      .trimEnd()
      .split('\n');
    assert.match(lines.at(-1)!, last);
    assert.ok(existsSync(join(runDir, name === 'resume.ts' ? 'stopped' : '', 'config.json')));
  });
}

for (const name of configurations) {
  test(`examples/${name}`, (t) => {
    const runDir = join(temporaryFolder(t), 'run');
    const flags = ['--run', runDir, '--steps', '2', '--set', 'warmStart=null', '--backend', quickBackend];
    const { status, stdout, stderr } = callInThread('train', join('examples', name), ...flags);
    assert.equal(status, 0, `${stdout}\n${stderr}`);
    assert.match(stdout, /\ndone after step 2; see .*\n$/);
    assert.ok(existsSync(join(runDir, 'report.html')));
  });
}

test('examples/comparison.ts', { skip: slowSet('trains four times') }, (t) => {
  const out = join(temporaryFolder(t), 'comparison');
  const small = ['base.steps=4', `base.backend=${quickBackend}`, 'base.warmStart.steps=20', 'seeds=1', 'probe.every=2'];
  const set = small.flatMap((change) => ['--set', change]);
  const printed = runProgram('dist/cli/main.js', 'compare', join('examples', 'comparison.ts'), '--out', out, ...set);
  assert.match(printed, /^4 of 4 runs are finished; see /m);
  assert.ok(existsSync(join(out, 'report.html')));
});

test('every example is run here, or is a study with its own test', () => {
  const data = ['capitals.jsonl', 'sums.csv'];
  const known = [...Object.keys(programs), ...configurations, ...data, 'comparison.ts', 'paper', 'studies'];
  assert.deepEqual(readdirSync(join(root, 'examples')).sort(), known.sort());
});
