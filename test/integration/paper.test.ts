// Table 1 of the paper as one command, on a tiny model with its own files: killed, continued, extended by a benchmark.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import math from '../../examples/paper/math.js';
import { benchmarks } from '../../src/tasks/benchmarks.js';
import { quickBackend } from '../support/backend.js';
import { callInThread } from '../support/cli.js';
import { elements } from '../support/markup.js';
import { tinyConfig, tinyTokenizer, words, writeModelFolder } from '../support/model-folder.js';
import { root } from '../support/native.js';
import { slowSet } from '../support/sets.js';
import { temporaryFolder } from '../support/trainer.js';

const variants = ['grpo', 'grpo+hadw', 'gspo', 'gspo+hadw', 'dapo', 'dapo+hadw'];

const timeout = 300_000;

/** A small model, its files, and the command that fills the table with it. */
function table(t: TestContext) {
  const folder = temporaryFolder(t);
  // The words of the benchmark's prompt are in its vocabulary.
  const prompt = benchmarks.minerva.template.replace('{prompt} ', '').split(' ');
  const vocab = Object.fromEntries([...new Set(prompt)].map((word, i) => [word, 10 + i]));
  const model = writeModelFolder(join(folder, 'words'), {
    config: { ...tinyConfig, vocab_size: 32 },
    tokenizer: tinyTokenizer({ vocab }),
  });
  const path = (name: string, rows: object[]) => {
    writeFileSync(join(folder, name), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
    return join(folder, name);
  };
  const problems = words.flatMap((a) => words.map((b) => ({ problem: `${a} ${b}`, answer: 'b', type: a })));
  const [train, own] = [path('train.jsonl', problems), path('own.jsonl', problems.slice(0, 20))];
  const settings = (steps: number) => [
    `base.policy.model=${model}`,
    `base.train=${JSON.stringify({ data: train, prompt: 'problem', verify: 'exact' })}`,
    'base.promptsPerStep=4',
    'base.miniBatches=2',
    'base.optimizer.learningRate=0.02',
    'base.optimizer.warmupSteps=0',
    'base.sampling.maxTokens=3',
    'base.sampling.stopTexts=["b"]',
    'base.sampling.promptLength=16',
    `base.steps=${steps}`,
    `base.backend=${quickBackend}`,
    `benchmarks.own=${JSON.stringify({ data: own, prompt: 'problem', verify: 'exact' })}`,
    `benchmarks.minerva=${own}`,
    'evaluation={"samples":4}',
  ];
  const call = (to: string, steps: number, ...more: string[]) => {
    const set = [...settings(steps), ...more].flatMap((one) => ['--set', one]);
    return ['compare', 'examples/paper/math.ts', '--out', to, '--jobs', '2', ...set];
  };
  const compare = (...args: Parameters<typeof call>) => callInThread(...call(...args));
  return { folder, path, problems, own, call, compare };
}

function resultOf(out: string) {
  return JSON.parse(readFileSync(join(out, 'comparison.json'), 'utf8'));
}

test('table 1 of the paper is filled for two methods', { timeout }, (t) => {
  const { folder, compare } = table(t);
  const out = join(folder, 'table');
  const some = ['grpo', 'grpo+hadw'] as const;
  const chosen = JSON.stringify(Object.fromEntries(some.map((name) => [name, math.variants[name]])));
  const { status, stdout, stderr } = compare(out, 1, `variants=${chosen}`, 'pairs=[["grpo+hadw","grpo"]]');
  assert.equal(status, 0, stdout + stderr);
  const { rows, pairs } = resultOf(out).benchmarks;
  assert.deepEqual(
    rows.map((row: { variant: string | null }) => row.variant),
    [null, ...some],
  );
  assert.ok(rows[0].values[0].mean > 0, 'otherwise the table says nothing');
  assert.deepEqual([pairs.length, pairs[0].variant, pairs[0].baseline], [1, 'grpo+hadw', 'grpo']);
  assert.match(stdout, /^grpo\+hadw +\d.* \[.*\] to grpo$/m);
});

const skip = slowSet('makes eight runs');
test('table 1 of the paper is filled for a small model, and resumes', { timeout, skip }, async (t) => {
  const { folder, path, problems, own, call, compare } = table(t);
  const out = join(folder, 'table');

  const nothing = callInThread('compare', 'examples/paper/math.ts');
  assert.equal(nothing.status, 1);
  assert.match(nothing.stderr, /^groupgrad: base\.policy\.model: expected a model's folder with config\.json, got /);

  // Killed while a policy is evaluated on a benchmark.
  const killed = spawn(process.execPath, [join(root, 'dist/cli/main.js'), ...call(out, 2)], { cwd: root });
  const ended = once(killed, 'exit');
  const begun = () => variants.some((variant) => existsSync(join(out, 'runs', variant, 'seed-0/benchmarks')));
  while (!begun() && killed.exitCode === null) await wait(5);
  killed.kill('SIGKILL');
  assert.deepEqual(await ended, [null, 'SIGKILL']);
  const { status, stdout, stderr } = compare(out, 2);
  assert.equal(status, 0, stdout + stderr);

  const { rows, pairs } = resultOf(out).benchmarks;
  assert.deepEqual(
    rows.map((row: { variant: string | null }) => row.variant),
    [null, ...variants],
  );
  for (const { values } of rows) {
    assert.deepEqual(
      values.map(({ benchmark }: { benchmark: string }) => benchmark),
      ['own', 'minerva', 'mean'],
    );
    for (const { mean } of values) assert.ok(mean >= 0 && mean <= 1);
  }
  // Computed from the completions themselves.
  const shareOf = (folder: string) => {
    const lines = readFileSync(join(folder, 'completions.jsonl'), 'utf8').trim().split('\n');
    assert.equal(lines.length, 20 * 4);
    return lines.reduce((sum, line) => sum + JSON.parse(line).score, 0) / lines.length;
  };
  const end = (variant: string, name: string) => join(out, 'runs', variant, 'seed-0/benchmarks/step-2', name);
  variants.forEach((variant, i) => {
    assert.ok(Math.abs(rows[i + 1].values[0].mean - shareOf(end(variant, 'own'))) < 1e-7, variant);
  });
  assert.ok(rows[0].values[0].mean > 0, 'otherwise the table says nothing');
  assert.deepEqual(
    pairs.map((pair: { variant: string; baseline: string }) => [pair.variant, pair.baseline]),
    [
      ['grpo+hadw', 'grpo'],
      ['gspo+hadw', 'gspo'],
      ['dapo+hadw', 'dapo'],
    ],
  );
  assert.ok(Math.abs(pairs[0].values[0].mean - (rows[2].values[0].mean - rows[1].values[0].mean)) < 1e-7);

  // The table as text, in Markdown, and on the page.
  assert.match(stdout, /^variant +own avg@4 +minerva avg@4 +mean +difference of mean$/m);
  assert.match(stdout, /^grpo\+hadw +\d.* \[.*\] to grpo$/m);
  const markdown = readFileSync(join(out, 'benchmarks.md'), 'utf8');
  assert.equal(
    markdown.split('\n').filter((line) => /^\| (before training|(grpo|gspo|dapo)(\+hadw)?) \|/.test(line)).length,
    7,
  );
  const html = readFileSync(join(out, 'report.html'), 'utf8');
  const headings = elements(html).filter(({ name }) => name === 'h2' || name === 'h3');
  assert.deepEqual(headings.map(({ text }) => text).slice(0, 2), ['Benchmarks', 'Differences by benchmark']);
  assert.ok(!headings.some(({ text }) => /Before training|50 %/.test(text)), 'there is no probe');
  for (const text of [html, markdown]) assert.ok(!text.includes(folder), 'no path of the machine');

  // Without the interruption, and without the other variants, it comes to the same, byte for byte.
  const whole = join(folder, 'whole');
  const some = ['grpo', 'dapo+hadw'] as const;
  const two = [
    `variants=${JSON.stringify(Object.fromEntries(some.map((name) => [name, math.variants[name]])))}`,
    'pairs=[]',
  ];
  const uninterrupted = compare(whole, 2, ...two);
  assert.equal(uninterrupted.status, 0, uninterrupted.stderr);
  for (const variant of some) {
    for (const name of ['own', 'minerva']) {
      const file = join(end(variant, name), 'completions.jsonl');
      assert.deepEqual(readFileSync(file), readFileSync(file.replace(out, whole)), `${variant}, ${name}`);
    }
  }

  // A further benchmark is evaluated without training again; more steps are trained, and the table is that of their end.
  const metrics = () => readFileSync(join(whole, 'runs/grpo/seed-0/metrics.jsonl'), 'utf8');
  const before = metrics();
  const further = [...two, `benchmarks.amc23=${own}`];
  const more = compare(whole, 2, ...further);
  assert.equal(more.status, 0, more.stdout + more.stderr);
  assert.match(more.stdout, /^variant +own avg@4 +minerva avg@4 +amc23 avg@4 +mean /m);
  assert.equal(metrics(), before);
  const longer = compare(whole, 3, ...further);
  assert.equal(longer.status, 0, longer.stdout + longer.stderr);
  assert.ok(metrics().startsWith(before), 'the steps that were made are kept');
  assert.equal(metrics().split('\n').length, before.split('\n').length + 1);
  assert.deepEqual(readdirSync(join(whole, 'runs/grpo/seed-0/benchmarks')).sort(), ['step-2', 'step-3']);

  // A benchmark whose file has changed is a different benchmark.
  path('own.jsonl', problems.slice(1, 21));
  const changed = compare(whole, 3, ...two);
  assert.equal(changed.status, 1);
  assert.match(
    changed.stderr,
    /made with another configuration;.*variant or benchmark another name\n {2}benchmarks\.own\.task: the data file \S+own\.jsonl has changed/s,
  );
});
