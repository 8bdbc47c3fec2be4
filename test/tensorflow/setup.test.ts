// `npm run setup:tensorflow`: nothing to do where tfjs-node works, a clear end where it cannot be had, and, in a project of its
// own, a binding that computes.

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { outputOf, root, run, withFolder } from '../support/native.js';
import { noTensorflow } from '../support/tensorflow.js';

const script = join(root, 'scripts', 'setup-tensorflow.mjs');

function setup(args: readonly string[], cwd = root, env: NodeJS.ProcessEnv = {}) {
  return run(process.execPath, [script, ...args], { cwd, env: { ...process.env, ...env } });
}

test('does nothing where tfjs-node works', { skip: noTensorflow }, () => {
  const result = setup([]);
  assert.equal(result.status, 0, outputOf(result));
  assert.match(
    result.stdout,
    /^setup:tensorflow: @tensorflow\/tfjs-node works already: 4\.\S+, TensorFlow 2\.\S+, on the /,
  );
});

/** A project with tfjs-core alone. */
function inProject(body: (folder: string) => void): void {
  withFolder((folder) => {
    const scope = join(folder, 'node_modules', '@tensorflow');
    mkdirSync(scope, { recursive: true });
    symlinkSync(join(root, 'node_modules', '@tensorflow', 'tfjs-core'), join(scope, 'tfjs-core'));
    writeFileSync(join(folder, 'package.json'), JSON.stringify({ private: true }));
    body(folder);
  });
}

test('says what is missing or wrong', () => {
  const limit = setup(['--time-limit', '0']);
  assert.equal(limit.status, 1);
  assert.match(limit.stderr, /--time-limit: expected a number of seconds above 0, got 0/);
  withFolder((folder) => {
    const result = setup([], folder);
    assert.equal(result.status, 1);
    assert.match(result.stderr, /@tensorflow\/tfjs-core is not in .*node_modules: install it first/);
  });
});

test('where the package cannot be fetched: npm’s reason, and node_modules as it was', () => {
  inProject((folder) => {
    // A registry that refuses every connection.
    const env = { npm_config_registry: 'http://127.0.0.1:9/', npm_config_fetch_retries: '0', npm_config_cache: folder };
    const result = setup([], folder, env);
    assert.equal(result.status, 1, outputOf(result));
    assert.match(result.stderr, /npm could not fetch @tensorflow\/tfjs-node:.*ECONNREFUSED/s);
    assert.ok(!existsSync(join(folder, 'node_modules', '@tensorflow', 'tfjs-node')));
  });
});

const slow = process.env.GROUPGRAD_SLOW_TESTS ? false : 'takes half a minute: set GROUPGRAD_SLOW_TESTS=1';

test('in a project of its own: a binding that computes, beside the project’s tfjs-core', { skip: slow }, (t) => {
  inProject((folder) => {
    const result = setup(['--time-limit', '180'], folder);
    if (result.status !== 0) return t.skip(`it cannot be had here: ${outputOf(result).trim().split('\n').at(-1)}`);
    assert.match(result.stdout, /@tensorflow\/tfjs-node works, by .*: 4\.\S+, TensorFlow 2\.\S+, on the CPU/);
    const again = setup([], folder);
    assert.match(again.stdout, /works already/);
    const program = `
      const core = require('@tensorflow/tfjs-core');
      const tf = require('@tensorflow/tfjs-node');
      console.log(tf.engine() === core.engine() && core.getBackend());`;
    const one = run(process.execPath, ['--preserve-symlinks', '-e', program], { cwd: folder });
    assert.equal(one.stdout.trim(), 'tensorflow', outputOf(one));
  });
});
