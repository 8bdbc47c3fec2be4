// `groupgrad train --model … --data … --lora 16 --hadw` with a model that writes English: a data set that it can learn, and one that
// it cannot.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { colourProblems } from '../support/colours.js';
import { root } from '../support/native.js';
import { readLines, temporaryFolder } from '../support/trainer.js';

const shared = join(root, '../shared');
const model = join(shared, 'models/stories260k');
const gsm8k = join(shared, 'data/gsm8k/train.jsonl');
const slow = process.env.GROUPGRAD_SLOW_TESTS === '1';
const skip = (file: string) =>
  !slow ? 'it trains for a minute: set GROUPGRAD_SLOW_TESTS=1' : !existsSync(file) && `there is no ${file}`;

function train(...args: string[]) {
  const program = join(root, 'dist/cli/main.js');
  return spawnSync(process.execPath, [program, 'train', '--model', model, ...args], { encoding: 'utf8' });
}

test('raises the held-out reward of problems that the model can learn, and writes a report', {
  skip: skip(model),
}, (t) => {
  const folder = temporaryFolder(t);
  const data = join(folder, 'colours.jsonl');
  writeFileSync(data, colourProblems());
  const runDir = join(folder, 'run');
  const problems = ['--data', data, '--prompt', 'question', '--answer', 'answer', '--verify', 'exact'];
  const own = [
    ...['--max-tokens', '8', '--set', 'sampling.stopTexts=["."]'],
    ...['--set', 'optimizer.learningRate=2e-3', '--set', 'loss.kl.beta=0.05'],
  ];
  const run = ['--steps', '50', '--run', runDir];
  const { status, stdout, stderr } = train(...problems, '--lora', '16', '--hadw', ...own, ...run);
  assert.equal(status, 0, stdout + stderr);
  const evaluations = readLines(join(runDir, 'metrics.jsonl')).flatMap(
    (line) => (line['eval/heldOut/accuracy'] as number | undefined) ?? [],
  );
  // A guess among six colours is right in 17 % of problems.
  t.diagnostic(`held out: ${evaluations.join(', ')}`);
  assert.equal(evaluations[0], 0);
  const last = /^heldOut: (\d+\.\d) % of (\d+) right$/m.exec(stdout)!;
  assert.ok(Number(last[1]) >= 40, stdout);
  assert.ok(Number(last[2]) >= 30, stdout);
  assert.match(readFileSync(join(runDir, 'report.html'), 'utf8'), /heldOut/);
});

test('reports early that problems are too hard for the model to learn anything', {
  skip: skip(gsm8k),
}, (t) => {
  const runDir = join(temporaryFolder(t), 'run');
  const problems = ['--data', gsm8k, '--prompt', 'question', '--answer', 'answer', '--verify', 'gsm8k'];
  const small = ['--max-tokens', '16', '--set', 'promptsPerStep=2', '--set', 'evaluation.size=4'];
  const { status, stdout, stderr } = train(
    ...problems,
    ...['--lora', '16', '--hadw', ...small, '--steps', '11', '--run', runDir],
  );
  const [first] = readLines(join(runDir, 'warnings.jsonl')).map(({ warning }) => String(warning));
  assert.match(
    first,
    /^step 10: none of the last 10 steps had a gradient to learn from: .* \(mean reward 0, 0\.0 % right\)/,
  );
  assert.match(stdout, /warning: step 10: none of the last 10 steps had a gradient/);
  assert.match(stderr, /nothing was learnt: none of its 11 steps changed the weights/);
  // A run that changed nothing is not a success.
  assert.equal(status, 1, stdout + stderr);
});
