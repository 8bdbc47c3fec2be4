// `npm run setup:tensorflow`: does nothing if tfjs-node works, fails with a clear message if it cannot be installed, and, in a
// separate project, builds a binding that computes.

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { outputOf, root, run, withFolder } from '../support/native.js';
import { slowSet } from '../support/sets.js';
import { noTensorflow } from '../support/tensorflow.js';

const script = join(root, 'scripts', 'setup-tensorflow.mjs');

function setup(args: readonly string[], cwd = root, env: NodeJS.ProcessEnv = {}) {
  return run(process.execPath, [script, ...args], { cwd, env: { ...process.env, ...env } });
}

test('does nothing if tfjs-node works', { skip: noTensorflow }, () => {
  const result = setup([]);
  assert.equal(result.status, 0, outputOf(result));
  assert.match(
    result.stdout,
    /^setup:tensorflow: @tensorflow\/tfjs-node already works: 4\.\S+, TensorFlow 2\.\S+, on the /,
  );
});

const npmEnvironment = { npm_config_audit: 'false', npm_config_fund: 'false', npm_config_prefer_offline: 'true' };

/** npm as a user runs it, not as a child of the npm that runs this test. */
function npm(args: readonly string[], cwd: string) {
  const own = Object.entries(process.env).filter(([name]) => !/^npm_/.test(name));
  return run('npm', args, { cwd, env: { ...Object.fromEntries(own), ...npmEnvironment } });
}

/** A project with tfjs-core only. Returns the reason if it cannot be created. */
function inProject(body: (folder: string) => void): string | undefined {
  return withFolder((folder) => {
    writeFileSync(join(folder, 'package.json'), JSON.stringify({ name: 'project', private: true }));
    const installed = npm(['install', '@tensorflow/tfjs-core@4.22.0'], folder);
    if (installed.status !== 0)
      return `the registry cannot be reached: ${outputOf(installed).trim().split('\n').at(-1)}`;
    body(folder);
    return undefined;
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

for (const [loglevel, skip] of [
  ['silent', false],
  ['notice', slowSet('fails as under log level silent')],
] as const) {
  const what = `where the package cannot be fetched: npm’s reason, under log level ${loglevel} too, and all as it was`;
  test(what, { skip }, (t) => {
    const missing = inProject((folder) => {
      const before = readFileSync(join(folder, 'package.json'), 'utf8');
      // A registry that refuses every connection. `npm run -s` sets the log level.
      const registry = { npm_config_registry: 'http://127.0.0.1:9/', npm_config_fetch_retries: '0' };
      const env = { ...registry, npm_config_cache: join(folder, 'cache'), npm_config_loglevel: loglevel };
      const result = setup([], folder, env);
      assert.equal(result.status, 1, outputOf(result));
      assert.match(result.stderr, /npm could not fetch @tensorflow\/tfjs-node:.*ECONNREFUSED/s);
      assert.ok(!existsSync(join(folder, 'node_modules', '@tensorflow', 'tfjs-node')));
      assert.equal(readFileSync(join(folder, 'package.json'), 'utf8'), before);
    });
    if (missing) t.skip(missing);
  });
}

test('if it cannot be built: the reasons, and it is not left in package.json', {
  skip: slowSet('tries to build for a minute'),
}, (t) => {
  const missing = inProject((folder) => {
    // A Python without pip, and no wheel unpacked yet.
    const env = { PYTHON: 'false', XDG_CACHE_HOME: join(folder, 'cache') };
    const result = setup(['--wheel', '--time-limit', '60'], folder, env);
    assert.equal(result.status, 1, outputOf(result));
    assert.match(result.stderr, /does not work\.\s+TensorFlow 2\.\S+ from its wheel: false -m pip download/);
    assert.ok(!existsSync(join(folder, 'node_modules', '@tensorflow', 'tfjs-node')));
    const { dependencies, optionalDependencies } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as {
      dependencies: object;
      optionalDependencies?: object;
    };
    assert.deepEqual(Object.keys(dependencies), ['@tensorflow/tfjs-core']);
    assert.deepEqual(Object.keys(optionalDependencies ?? {}), []);
  });
  if (missing) t.skip(missing);
});

test('in a separate project: a binding that computes with the project’s tfjs-core, and stays installed', {
  skip: slowSet('takes half a minute'),
}, (t) => {
  const missing = inProject((folder) => {
    const result = setup(['--time-limit', '180'], folder);
    if (result.status !== 0) return t.skip(`it cannot be had here: ${outputOf(result).trim().split('\n').at(-1)}`);
    assert.match(result.stdout, /@tensorflow\/tfjs-node works, by .*: 4\.\S+, TensorFlow 2\.\S+, on the CPU/);
    const again = setup([], folder);
    assert.match(again.stdout, /already works/);
    const program = `
      const core = require('@tensorflow/tfjs-core');
      const tf = require('@tensorflow/tfjs-node');
      console.log(tf.engine() === core.engine() && core.getBackend());`;
    const compute = () => run(process.execPath, ['-e', program], { cwd: folder });
    assert.equal(compute().stdout.trim(), 'tensorflow', outputOf(compute()));

    mkdirSync(join(folder, 'other'));
    writeFileSync(join(folder, 'other', 'package.json'), JSON.stringify({ name: 'other', version: '1.0.0' }));
    const other = npm(['install', './other'], folder);
    assert.equal(other.status, 0, outputOf(other));
    assert.doesNotMatch(outputOf(other), /removed/);
    assert.equal(compute().stdout.trim(), 'tensorflow', outputOf(compute()));
  });
  if (missing) t.skip(missing);
});
