// What the command line loads: TensorFlow.js takes longer to load than all of groupgrad, and only what computes with a policy
// needs it.

import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import test, { describe } from 'node:test';
import { outputOf, root, run, typescript } from '../support/native.js';

/** Makes the import of every package of TensorFlow.js an error. */
const hooks = `export const resolve = (name, context, next) => {
  if (name.startsWith('@tensorflow/')) throw new Error('loads ' + name + ' from ' + context.parentURL);
  return next(name, context);
};`;
const dataUrl = (program: string) => `data:text/javascript,${encodeURIComponent(program)}`;
const withoutTfjs = dataUrl(`import { register } from 'node:module'; register(${JSON.stringify(dataUrl(hooks))});`);

function groupgrad(...args: string[]) {
  return run(process.execPath, [...typescript, '--import', withoutTfjs, join(root, 'src', 'cli', 'main.ts'), ...args]);
}

describe('without TensorFlow.js', () => {
  const samples = join(root, 'examples', 'sums.csv');
  for (const [args, output] of [
    [['--help'], /^groupgrad <command>/],
    [['--version'], /^\d+\.\d+\.\d+\n$/],
    [['train', '--help'], /^groupgrad train /],
    [['settings', 'groupSize'], /^groupSize {2}/],
    [['data', samples], /sums\.csv/],
    [['verify', '--help'], /^groupgrad verify /],
  ] as [string[], RegExp][]) {
    test(`groupgrad ${args.map((arg) => arg.replace(root, '')).join(' ')}`, () => {
      const result = groupgrad(...args);
      assert.equal(result.status, 0, outputOf(result));
      assert.match(result.stdout, output);
    });
  }

  test('what computes fails: the import is noticed', () => {
    const result = groupgrad('train', 'bandit', '--dry-run');
    assert.equal(result.status, 1, outputOf(result));
    assert.match(result.stderr, /^groupgrad: loads @tensorflow\/tfjs-core from /);
  });

  test('the modules of all commands', () => {
    // Loaded by the commands that need a policy, when they do.
    const onDemand = ['main.ts', 'saved-run.ts'];
    const files = readdirSync(join(root, 'src', 'cli')).filter((file) => !onDemand.includes(file));
    assert.ok(files.length >= 20, String(files));
    const program = files.map((file) => `await import('./src/cli/${file}');`).join('\n');
    const result = run(process.execPath, [
      ...typescript,
      '--import',
      withoutTfjs,
      '--input-type=module',
      '-e',
      program,
    ]);
    assert.equal(result.status, 0, outputOf(result));
  });
});
