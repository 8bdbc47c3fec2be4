// Runs the tests (node:test through tsx), one file per core. Arguments narrow the files: `npm test -- golden anchor`. With
// --require-tensorflow, tests that need tfjs-node fail where they would skip themselves. The files of test/gpu run one
// after the other, before all others: they look at how much memory of the GPU is free. Tests of the command line start
// dist/, which starts faster than the sources; it is built first if a source is newer.

import { spawnSync } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';

const args = process.argv.slice(2);
const patterns = args.filter((arg) => !arg.startsWith('--'));
const required = args.includes('--require-tensorflow') ? { GROUPGRAD_REQUIRE_TENSORFLOW: '1' } : {};
const files = readdirSync('test', { recursive: true })
  .filter((file) => file.endsWith('.test.ts'))
  .map((file) => join('test', file))
  .filter((file) => patterns.length === 0 || patterns.some((pattern) => file.includes(pattern)))
  .sort();
if (files.length === 0) {
  console.error(`no test file matches ${patterns.join(', ')}`);
  process.exit(1);
}
const usesDist = files.some((file) => /^test.(integration|tensorflow)/.test(file));
if (usesDist && isStale()) {
  const { status } = spawnSync(process.execPath, [join('scripts', 'prepare.mjs')], {
    stdio: 'inherit',
    env: { ...process.env, npm_command: 'run' },
  });
  if (status !== 0) process.exit(1);
}
const alone = files.filter((file) => file.startsWith(join('test', 'gpu')));
const together = files.filter((file) => !alone.includes(file));
const statuses = [run(alone, '--test-concurrency=1'), run(together, `--test-concurrency=${availableParallelism()}`)];
process.exit(statuses.find((status) => status !== 0) ?? 0);

/** Whether a source is newer than dist/. */
function isStale() {
  const built = statSync(join('dist', 'index.js'), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  return readdirSync('src', { recursive: true }).some((file) => statSync(join('src', file)).mtimeMs > built);
}

/** Runs files in one process of node:test; the exit status. */
function run(files, ...options) {
  if (files.length === 0) return 0;
  const { status } = spawnSync(process.execPath, ['--import', 'tsx', '--test', ...options, ...files], {
    stdio: 'inherit',
    env: { ...process.env, ...required },
  });
  return status ?? 1;
}
