// `groupgrad compare`: paired runs in separate processes, stopped in every way and continued.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { after, describe } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { quickBackend } from '../support/backend.js';
import { callInThread } from '../support/cli.js';
import { elements } from '../support/markup.js';
import { root } from '../support/native.js';
import { slowSet } from '../support/sets.js';
import { readLines } from '../support/trainer.js';

const folder = mkdtempSync(join(tmpdir(), 'groupgrad-compare-'));
after(() => rmSync(folder, { recursive: true, force: true }));

/** Arms of bandits, after a warm start too short to find them: there are prompts in every bucket. */
const task = { task: 'bandit', probabilities: [0.1, 0.5, 0.9], arms: 10, contexts: 4 };
const tiny = {
  base: {
    train: task,
    policy: { layers: 1, width: 8, heads: 2, hidden: 12 },
    warmStart: { steps: 60, optimizer: { learningRate: 0.003 } },
    groupSize: 4,
    promptsPerStep: 6,
    loss: 'grpo',
    optimizer: { learningRate: 0.01 },
    checkpoint: { every: 7 },
    backend: quickBackend,
    steps: 60,
  },
  variants: { plain: {}, weighted: { hadw: {} } },
  seeds: 2,
  buckets: { low: [0, 0.4], high: [0.4, 1] },
  probe: { task: { ...task, size: 12 }, measure: 16, samples: 8, every: 20 },
};

function write(name: string, comparison: object): string {
  const file = join(folder, name);
  writeFileSync(file, JSON.stringify(comparison));
  return file;
}

interface Ended {
  status: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

function start(...args: string[]): { child: ChildProcess; ended: Promise<Ended> } {
  const program = [join(root, 'dist', 'cli', 'main.js')];
  const child = spawn(process.execPath, [...program, ...args], { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (text) => {
    stdout += text;
  });
  child.stderr.on('data', (text) => {
    stderr += text;
  });
  const ended = new Promise<Ended>((resolve) => {
    child.on('close', (status, signal) => resolve({ status, signal, stdout, stderr }));
  });
  return { child, ended };
}

const groupgrad = (...args: string[]) => start(...args).ended;

interface Result {
  notes: string[];
  seeds: { seed: number; prompts: number; aside: number; buckets: Record<string, { prompts: number }> }[];
  runs: {
    variant: string;
    seed: number;
    state: string;
    steps: number;
    tokens: number;
    seconds: number;
    curve: { steps: number[]; tokens: number[]; buckets: Record<string, { 'pass@1': (number | null)[] }> };
  }[];
  summary: unknown;
}

/** The results of a comparison that do not depend on the clock or the machine. */
function lasting(out: string): Omit<Result, 'machine'> {
  const { machine: _, ...result } = JSON.parse(readFileSync(join(out, 'comparison.json'), 'utf8')) as Result & {
    machine: unknown;
  };
  return { ...result, runs: result.runs.map((run) => ({ ...run, seconds: 0 })) };
}

/** Nothing where the lock has gone meanwhile. */
function ownerOf(lock: string): number | undefined {
  const text = existsSync(lock) ? readFileSync(lock, 'utf8') : '';
  return Number(/"pid":(\d+)/.exec(text)?.[1]) || undefined;
}

function isAlive(pid: number | undefined): boolean {
  try {
    return pid !== undefined && process.kill(pid, 0);
  } catch {
    return false;
  }
}

const whole = join(folder, 'whole');
const file = write('tiny.json', tiny);

describe('a comparison', () => {
  test('makes every run, and says what they came to', async () => {
    const { status, stdout, stderr } = callInThread('compare', file, '--out', whole);
    assert.equal(status, 0, stdout + stderr);
    for (const line of ['start of seed 0', 'start of seed 1', 'plain, seed 0', 'weighted, seed 1']) {
      assert.match(stdout, new RegExp(`^${line}: done in `, 'm'));
    }
    assert.match(stdout, /^plain +all +\d.*^weighted − plain +low .*^4 of 4 runs are finished; see /ms);
    const { runs, seeds, notes } = lasting(whole);
    assert.deepEqual(
      runs.map(({ variant, seed, state, steps }) => [variant, seed, state, steps]),
      [
        ['plain', 0, 'finished', 60],
        ['weighted', 0, 'finished', 60],
        ['plain', 1, 'finished', 60],
        ['weighted', 1, 'finished', 60],
      ],
    );
    for (const { curve, tokens } of runs) {
      assert.deepEqual(curve.steps, [0, 20, 40, 60]);
      assert.equal(curve.tokens.at(-1), tokens);
    }
    for (const { prompts, aside, buckets } of seeds) {
      assert.deepEqual([prompts, aside, buckets.low.prompts + buckets.high.prompts], [12, 0, 12]);
    }
    // Otherwise the tests below would compare nothing.
    assert.ok(seeds.every(({ buckets }) => buckets.low.prompts > 0 && buckets.high.prompts > 0));
    assert.equal(notes.length, 1);
  });

  test('variants of a seed begin with the same weights, use the same prompts, and are measured in the same way', () => {
    const { runs } = lasting(whole);
    const [plain, weighted] = runs;
    assert.deepEqual(plain.curve.buckets.all['pass@1'][0], weighted.curve.buckets.all['pass@1'][0]);
    const samples = (variant: string) => readLines(join(whole, 'runs', variant, 'seed-0', 'samples.jsonl'));
    const prompts = (variant: string) => samples(variant).map(({ prompt }) => prompt);
    assert.ok(prompts('plain').length > 100);
    assert.deepEqual(prompts('plain'), prompts('weighted'));
    const [first, other] = [samples('plain'), samples('weighted')].map((all) => all.filter(({ step }) => step === 1));
    // Sampled from the same weights with the same random numbers; after that they differ.
    assert.deepEqual(
      first.map(({ completion }) => completion),
      other.map(({ completion }) => completion),
    );
    assert.notDeepEqual(plain.curve, weighted.curve);
  });

  test('has a self-contained page, and results without local paths', () => {
    const html = readFileSync(join(whole, 'report.html'), 'utf8');
    const headings = elements(html).filter(({ name }) => name === 'h2');
    assert.deepEqual(
      headings.map(({ text }) => text.replace(/ \(.*/, '')),
      [
        'Curves, low',
        'Curves, high',
        'Curves, all buckets together',
        'Before training',
        'Variants',
        'Differences',
        'Steps to 50 %',
        'Runs',
        'Configuration',
      ],
    );
    assert.doesNotMatch(html, /https?:|url\(|@import|src=|href=|\bon\w+=|style=/i);
    for (const name of ['report.html', 'comparison.json']) {
      const text = readFileSync(join(whole, name), 'utf8');
      for (const path of [folder, root]) assert.ok(!text.includes(path), `${path} in ${name}`);
    }
  });

  test('when finished, runs nothing again; groupgrad report writes the same', async () => {
    const before = lasting(whole);
    const written = statSync(join(whole, 'runs', 'plain', 'seed-0', 'finished.json')).mtimeMs;
    rmSync(join(whole, 'comparison.json'));
    const { status, stdout } = callInThread('report', whole);
    assert.deepEqual([status, stdout], [0, `${join(whole, 'report.html')}\n`]);
    assert.deepEqual(lasting(whole), before);
    const again = callInThread('compare', file, '--out', whole, '--json');
    assert.equal(again.status, 0, again.stderr);
    assert.deepEqual(JSON.parse(again.stdout), before.summary);
    assert.match(again.stderr, /^4 of 4 runs are finished\n4 of 4 runs are finished; see .*\n$/);
    assert.equal(statSync(join(whole, 'runs', 'plain', 'seed-0', 'finished.json')).mtimeMs, written);
  });

  test('when killed and stopped in the middle, has the same results in the end, bit for bit', {
    timeout: 120_000,
  }, async (t) => {
    const out = join(folder, 'interrupted');
    const one = ['--set', 'seeds=1'];
    const lengths: number[] = [];
    /** Starts the comparison and ends it when a run has made some more steps. */
    const interrupt = async (signal: NodeJS.Signals, steps: number): Promise<Ended> => {
      const { child, ended } = start('compare', file, '--out', out, '--jobs', '2', ...one);
      const made = () =>
        ['plain', 'weighted'].map((variant) => {
          const path = join(out, 'runs', variant, 'seed-0', 'metrics.jsonl');
          return existsSync(path) ? readFileSync(path, 'utf8').split('\n').length - 1 : 0;
        });
      while (Math.max(...made()) < steps && child.exitCode === null) await wait(10);
      child.kill(signal);
      const result = await ended;
      lengths.push(Math.max(...made()));
      return result;
    };
    assert.equal((await interrupt('SIGKILL', 10)).signal, 'SIGKILL');
    // Its processes find that they are alone, save and end.
    const locks = (readdirSync(out, { recursive: true }) as string[]).filter((name) => name.endsWith('lock.json'));
    const owners = locks.map((name) => ownerOf(join(out, name)));
    while (owners.some(isAlive)) await wait(10);
    const stopped = await interrupt('SIGINT', 30);
    assert.equal(stopped.status, 130, stopped.stdout + stopped.stderr);
    assert.match(stopped.stdout, /^SIGINT: finishing the running steps/m);
    assert.ok(!existsSync(join(out, 'lock.json')));
    t.diagnostic(`ended after ${lengths.join(' and ')} of 60 steps`);
    assert.ok(lengths.every((length) => length < 60));
    assert.match(stopped.stdout, /^Unfinished runs, which are not part of any mean: /m);
    const last = callInThread('compare', file, '--out', out, ...one);
    assert.equal(last.status, 0, last.stdout + last.stderr);
    const [again, uninterrupted] = [lasting(out), lasting(whole)];
    assert.deepEqual(again.seeds, uninterrupted.seeds.slice(0, 1));
    assert.deepEqual(
      again.runs,
      uninterrupted.runs.filter(({ seed }) => seed === 0),
    );
  });

  // The second one continues from the first.
  const waits = slowSet('starts ten processes');
  test('accepts another variant and another seed, and makes only their runs', { skip: waits }, async () => {
    const variants = { ...tiny.variants, double: { groupSize: 8, promptsPerStep: 3, steps: 20 } };
    const more = write('more.json', { ...tiny, variants, seeds: [0, 2], pairs: [['double', 'weighted']] });
    const before = lasting(whole);
    const { status, stdout, stderr } = callInThread('compare', more, '--out', whole);
    assert.equal(status, 0, stdout + stderr);
    const done = [...stdout.matchAll(/^(.*): done in/gm)].map(([, name]) => name).sort();
    assert.deepEqual(done, [
      'double, seed 0',
      'double, seed 2',
      'plain, seed 2',
      'start of seed 2',
      'weighted, seed 2',
    ]);
    const now = lasting(whole);
    const same = (result: Result) => result.runs.filter(({ variant, seed }) => seed === 0 && variant !== 'double');
    assert.deepEqual(same(now), same(before));
    assert.match(stdout, /^double − weighted +low /m);
  });

  test('can be extended to a later end, and is rejected with another base', { skip: waits }, async () => {
    const longer = write('longer.json', { ...tiny, base: { ...tiny.base, steps: 70 }, seeds: [0] });
    const { status, stdout, stderr } = callInThread('compare', longer, '--out', whole);
    assert.equal(status, 0, stdout + stderr);
    const [plain] = lasting(whole).runs;
    assert.deepEqual([plain.state, plain.curve.steps], ['finished', [0, 20, 40, 60, 70]]);
    const metrics = readLines(join(whole, 'runs', 'plain', 'seed-0', 'metrics.jsonl'));
    assert.deepEqual(
      metrics.map(({ step }) => step),
      Array.from({ length: 70 }, (_, i) => i + 1),
    );

    const other = callInThread('compare', file, '--out', whole, '--set', 'base.warmStart.steps=50');
    assert.equal(other.status, 1);
    assert.match(
      other.stderr,
      /^groupgrad: .*: its runs were made with another configuration;.*\n {2}warmStart\.steps: 60, now 50\n$/,
    );
    assert.equal(lasting(whole).runs.length, 2, 'the results are as they were');
  });
});

test('a failing run does not end the others, is reported, and is tried again by the same command', async () => {
  const out = join(folder, 'failing');
  const broken = join(folder, 'broken.ts');
  writeFileSync(
    broken,
    `import { existsSync } from 'node:fs';
    import { defineComparison, defineReward } from 'groupgrad';
    const mended = existsSync(${JSON.stringify(join(folder, 'mended'))});
    let calls = 0;
    const reward = defineReward('own', ({ score }) => {
      if (++calls > 100 && !mended) throw new Error('out of order');
      return score;
    });
    export default defineComparison({
      ...(${JSON.stringify({ ...tiny, base: { ...tiny.base, steps: 8 } })}),
      seeds: 1,
      variants: { broken: { rewards: [reward] }, plain: {} },
    });`,
  );
  const first = callInThread('compare', broken, '--out', out);
  assert.equal(first.status, 1, first.stdout + first.stderr);
  assert.match(first.stdout, /^broken, seed 0: failed: reward 'own' .*: out of order$/m);
  assert.match(first.stdout, /^plain, seed 0: done in /m);
  assert.match(first.stdout, /^Unfinished runs, which are not part of any mean: broken, seed 0\.$/m);
  assert.match(first.stderr, /^groupgrad: broken, seed 0: failed; run the same command to try again\n$/);
  writeFileSync(join(folder, 'mended'), '');
  const second = callInThread('compare', broken, '--out', out);
  assert.equal(second.status, 0, second.stdout + second.stderr);
  assert.doesNotMatch(second.stdout, /^plain, seed 0: done/m);

  // A task whose code has changed is detected by its prompts.
  const probe = join(out, 'starts', 'seed-0', 'probe.json');
  writeFileSync(probe, readFileSync(probe, 'utf8').replace(/"prompt": "/, '"prompt": "9'));
  const third = callInThread('compare', broken, '--out', out, '--set', 'base.steps=9', '--jobs', '1');
  assert.equal(third.status, 1);
  assert.match(third.stdout, /^plain, seed 0: failed: probe\.task: its prompts are not the ones that were measured: /m);
});

test('a seed whose start fails is reported; the others continue', {
  skip: slowSet('starts six processes'),
}, async () => {
  const out = join(folder, 'half');
  const file = join(folder, 'half.ts');
  writeFileSync(
    file,
    `import { defineComparison, tasks, TransformerPolicy } from 'groupgrad';
    const train = tasks.bandit(${JSON.stringify({ ...task, task: undefined, seed: 1 })});
    let made = 0;
    export default defineComparison({
      ...(${JSON.stringify({ ...tiny, base: { ...tiny.base, steps: 2 } })}),
      base: {
        ...(${JSON.stringify({ ...tiny.base, steps: 2, policy: undefined })}),
        train,
        policy: () => {
          if (process.env.GROUPGRAD_TEST_SEED === 'fail') throw new Error('no policy');
          return TransformerPolicy.create({ layers: 1, width: 8, heads: 2, hidden: 12, vocabulary: train.characters });
        },
      },
      seeds: [0],
      buckets: { none: [0.999, 1], some: [0, 0.9] },
      tokens: 100,
    });`,
  );
  process.env.GROUPGRAD_TEST_SEED = 'fail';
  const failed = await groupgrad('compare', file, '--out', out).finally(() => delete process.env.GROUPGRAD_TEST_SEED);
  assert.equal(failed.status, 1, failed.stdout + failed.stderr);
  assert.match(failed.stdout, /^start of seed 0: failed: no policy$/m);
  assert.match(failed.stdout, /^Seeds without a start: seed 0\.$/m);
  assert.match(failed.stdout, /^Missing runs: plain, seed 0; weighted, seed 0\.$/m);
  assert.ok(!existsSync(join(out, 'runs')));

  // A user-defined policy, an empty bucket, and an end by tokens: 24 completions of at most 2 tokens per step.
  const { status, stdout, stderr } = await groupgrad('compare', file, '--out', out, '--set', 'base.steps=100');
  assert.equal(status, 0, stdout + stderr);
  assert.match(stdout, /^No prompts in bucket none \(0\.999 to 1\): seed 0\./m);
  for (const { tokens, steps, curve } of lasting(out).runs) {
    assert.ok(tokens >= 100 && curve.tokens.at(-1) === tokens, `${tokens} tokens`);
    const sampled = readLines(join(out, 'runs', 'plain', 'seed-0', 'metrics.jsonl')).map(
      (line) => line.tokens as number,
    );
    assert.equal(sampled.length, steps);
    assert.ok(tokens - sampled.at(-1)! < 100, 'it ended with the step that reached the budget');
  }
  const less = await groupgrad('compare', file, '--out', out, '--set', 'tokens=20', '--set', 'base.steps=100');
  assert.equal(less.status, 1);
  assert.match(
    less.stdout,
    /^plain, seed 0: failed: .*: has already sampled \d+ tokens, more than a run that ends at 20$/m,
  );
});

test('a dry run checks everything, lists the runs, and writes nothing', async () => {
  const out = join(folder, 'dry');
  const { status, stdout } = callInThread('compare', file, '--out', out, '--dry-run', '--json');
  assert.equal(status, 0);
  const { starts, runs } = JSON.parse(stdout) as { starts: number[]; runs: { seed: number; variant: string }[] };
  assert.deepEqual([starts, runs.length], [[0, 1], 4]);
  assert.ok(!existsSync(out));
  const wrong = callInThread('compare', file, '--out', out, '--set', 'pairs=[["weigthed","plain"]]');
  assert.equal(wrong.status, 2);
  assert.match(
    wrong.stderr,
    /^groupgrad: --set pairs\[0\]\[0\]: expected one of 'plain', 'weighted', got "weigthed"\n$/,
  );
  assert.match(callInThread('compare', file, '--jobs', '0').stderr, /^groupgrad: --jobs: expected an integer/);
  assert.match(callInThread('compare', 'nowhere.ts').stderr, /^groupgrad: nowhere\.ts: no such file\n$/);
  assert.deepEqual(readdirSync(folder).includes('dry'), false);
});
