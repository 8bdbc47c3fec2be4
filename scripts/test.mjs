// Runs the tests (node:test through tsx), one file per core. Arguments narrow the files: `npm test -- golden anchor`. With
// --require-tensorflow, tests that need tfjs-node fail where they would skip themselves. With --times, what each file took
// is listed at the end. The files of test/gpu run one after the other, before all others: they look at how much memory of
// the GPU is free. Tests of the command line start dist/, which starts faster than the sources; it is built first if a
// source is newer.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';

const args = process.argv.slice(2);
const patterns = args.filter((arg) => !arg.startsWith('--'));
if (args.includes('--require-tensorflow')) process.env.GROUPGRAD_REQUIRE_TENSORFLOW = '1';
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

const times = args.includes('--times') ? mkdtempSync(join(tmpdir(), 'groupgrad-times-')) : undefined;
if (times) process.env.GROUPGRAD_TEST_TIMES = times;
const alone = files.filter((file) => file.startsWith(join('test', 'gpu')));
await runFiles(alone, 1);
await runFiles(
  files.filter((file) => !alone.includes(file)),
  availableParallelism(),
);
if (times) {
  console.log(listOfTimes(times));
  rmSync(times, { recursive: true });
}

/** Whether a source is newer than dist/. */
function isStale() {
  const built = statSync(join('dist', 'index.js'), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  return readdirSync('src', { recursive: true }).some((file) => statSync(join('src', file)).mtimeMs > built);
}

/** Runs files in one process each, `concurrency` at a time, and reports them. A failure is the exit status of this process. */
async function runFiles(files, concurrency) {
  if (files.length === 0) return;
  const events = run({ files: files.map((file) => resolve(file)), concurrency });
  events.on('test:fail', () => {
    process.exitCode = 1;
  });
  const report = events.compose(spec);
  for await (const text of report) process.stdout.write(text);
}

/** What scripts/test-times.mjs wrote in a folder, as lines, the most processor time first. */
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
