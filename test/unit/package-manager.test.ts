// Which package manager a project uses, and the commands for it.

import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { addCommand, packageManager, runCommand } from '../../src/base/package-manager.js';
import { withFolder } from '../support/native.js';

function withAgent<T>(agent: string | undefined, body: () => T): T {
  const before = process.env.npm_config_user_agent;
  const set = (value: string | undefined) => {
    if (value === undefined) delete process.env.npm_config_user_agent;
    else process.env.npm_config_user_agent = value;
  };
  set(agent);
  try {
    return body();
  } finally {
    set(before);
  }
}

const lockFiles = [
  ['package-lock.json', 'npm'],
  ['npm-shrinkwrap.json', 'npm'],
  ['pnpm-lock.yaml', 'pnpm'],
  ['yarn.lock', 'yarn'],
  ['bun.lock', 'bun'],
  ['bun.lockb', 'bun'],
] as const;

for (const [file, expected] of lockFiles) {
  test(`${file} in the folder or above: ${expected}`, () => {
    withFolder((folder) => {
      writeFileSync(join(folder, file), '');
      const below = join(folder, 'packages', 'one');
      mkdirSync(below, { recursive: true });
      writeFileSync(join(below, 'package.json'), '{}');
      for (const agent of [undefined, 'npm/11.6.0 node/v22.0.0 linux x64']) {
        assert.equal(
          withAgent(agent, () => packageManager(folder)),
          expected,
        );
        assert.equal(
          withAgent(agent, () => packageManager(below)),
          expected,
        );
      }
      // The program that runs the process decides, except for npx, which works in every project.
      assert.equal(
        withAgent('pnpm/10.1.0 npm/? node/v22.0.0 linux x64', () => packageManager(folder)),
        'pnpm',
      );
    });
  });
}

test('packageManager in package.json takes precedence over lock files; without either it is npm', () => {
  withFolder((folder) => {
    const find = () => withAgent(undefined, () => packageManager(folder));
    assert.equal(find(), 'npm');
    writeFileSync(join(folder, 'yarn.lock'), '');
    writeFileSync(join(folder, 'package.json'), JSON.stringify({ packageManager: 'pnpm@10.1.0' }));
    assert.equal(find(), 'pnpm');
    for (const text of [
      '{}',
      '{ not JSON',
      JSON.stringify({ packageManager: 5 }),
      JSON.stringify({ packageManager: 'cargo@1' }),
    ]) {
      writeFileSync(join(folder, 'package.json'), text);
      assert.equal(find(), 'yarn', text);
    }
  });
});

test('the commands', () => {
  const typed = (['npm', 'pnpm', 'yarn', 'bun'] as const).map((manager) => [
    addCommand(['a', 'b'], manager),
    runCommand('groupgrad doctor', manager),
  ]);
  assert.deepEqual(typed, [
    ['npm install a b', 'npx groupgrad doctor'],
    ['pnpm add a b', 'pnpm exec groupgrad doctor'],
    ['yarn add a b', 'yarn groupgrad doctor'],
    ['bun add a b', 'bunx groupgrad doctor'],
  ]);
});
