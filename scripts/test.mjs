// Runs the tests (node:test), one file per core. Arguments narrow the files: `npm test -- golden anchor`. With
// --require-tensorflow, tests that need tfjs-node fail where they would skip themselves. With --times, what each file took
// is listed at the end. The files of test/gpu run one after the other, before all others: they look at how much memory of
// the GPU is free. Tests of the command line start dist/, which starts faster than the sources; it is built first if a
// source is newer. Tests left to the slow and the training set (test/support/sets.ts) are counted at the end.
//
// It is started with --import scripts/typescript.mjs, which the processes of the files inherit, and with --single-threaded-gc:
// with a file on every core, a collector that uses several takes a fifth more processor time and is no faster.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { compileAll } from './typescript.mjs';

/** The slowest files, the slowest first: they begin first, so that the last core is not left alone with one of them. */
const longest = [
  'native/emulated-cuda',
  'integration/memory',
  'oracle/rollout-python',
  'oracle/mpi',
  'native/programs',
  'native/leaks',
  'native/build',
  'integration/signals',
  'tensorflow/process',
  'integration/three-flags',
  'integration/add-surrogate',
  'integration/compare',
  'integration/paper',
  'integration/kill',
  'integration/package',
  'integration/examples',
  'tensorflow/setup',
  'integration/builtins',
  'integration/gpu-session',
  'unit/rollout-servers',
  'unit/rollouts-ahead',
  'gradient/finite-difference',
  'fuzz/host-api',
  'tensorflow/memory',
  'integration/resume',
  'integration/lock',
  'integration/cuda-benchmark',
  'integration/cli',
  'unit/engine-primitives',
  'unit/decoding',
  'native/threads',
  'oracle/engine-contract',
  'unit/transformer',
].map((name) => join('test', `${name}.test.ts`));
const rank = (file) => (longest.includes(file) ? longest.indexOf(file) : longest.length);

const args = process.argv.slice(2);
const patterns = args.filter((arg) => !arg.startsWith('--'));
if (args.includes('--require-tensorflow')) process.env.GROUPGRAD_REQUIRE_TENSORFLOW = '1';
const files = readdirSync('test', { recursive: true })
  .filter((file) => file.endsWith('.test.ts'))
  .map((file) => join('test', file))
  .filter((file) => patterns.length === 0 || patterns.some((pattern) => file.includes(pattern)))
  .sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
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
await compileAll(['src', 'test', 'examples', 'bench'].filter(existsSync));

/** Milliseconds after which a file that has not ended is ended, and named: longer than any takes on a slow machine. */
const timeout = process.env.GROUPGRAD_TRAINING_TESTS === '1' ? undefined : 20 * 60_000;
/** How many tests were left to each set, by its variable. */
const left = { GROUPGRAD_SLOW_TESTS: 0, GROUPGRAD_TRAINING_TESTS: 0 };
const times = args.includes('--times') ? mkdtempSync(join(tmpdir(), 'groupgrad-times-')) : undefined;
if (times) process.env.GROUPGRAD_TEST_TIMES = times;
const alone = files.filter((file) => file.startsWith(join('test', 'gpu')));
await runFiles(alone, 1);
await runFiles(
  files.filter((file) => !alone.includes(file)),
  availableParallelism(),
);
for (const [variable, count] of Object.entries(left)) {
  if (count > 0) console.log(`${count} tests belong to a longer set and were skipped: ${variable}=1 npm test`);
}
if (times) {
  console.log(listOfTimes(times));
  rmSync(times, { recursive: true });
}

/** Whether a source is newer than dist/. */
function isStale() {
  const built = statSync(join('dist', 'index.js'), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  return readdirSync('src', { recursive: true }).some((file) => statSync(join('src', file)).mtimeMs > built);
}

/** Runs files in one process each, `concurrency` at a time, and reports them. A failure sets the exit status of this process. */
async function runFiles(files, concurrency) {
  if (files.length === 0) return;
  const events = run({ files: files.map((file) => resolve(file)), concurrency, timeout });
  events.on('test:fail', () => {
    process.exitCode = 1;
  });
  events.on('test:pass', ({ skip }) => {
    const [variable] = /GROUPGRAD_(SLOW|TRAINING)_TESTS(?==1$)/.exec(skip) ?? [];
    if (variable) left[variable]++;
  });
  const report = events.compose(spec);
  for await (const text of report) process.stdout.write(text);
}

/** The times written by scripts/test-times.mjs in a folder, as lines, the most processor time first. */
function listOfTimes(folder) {
  const entries = readdirSync(folder)
    .map((name) => JSON.parse(readFileSync(join(folder, name), 'utf8')))
    .sort((a, b) => b.processor - a.processor);
  const seconds = (value) => value.toFixed(1).padStart(8);
  const lines = entries.map((entry) => {
    return `${seconds(entry.processor)} ${seconds(entry.wall)}  ${relative('.', entry.file)}`;
  });
  return ['processor     wall  seconds of each file', ...lines].join('\n');
}
