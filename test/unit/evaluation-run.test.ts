// Running evaluations: the same file whatever happened meanwhile, in training, and from the command line, with a page.

import assert from 'node:assert/strict';
import { cpSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { after, before, describe } from 'node:test';
import { startBackend } from '../../src/backend/backend.js';
import { evaluate as evaluateCommand } from '../../src/cli/evaluate.js';
import { completeExamples, evaluate, evaluationMetrics } from '../../src/evaluation/evaluate.js';
import { readEvaluation } from '../../src/evaluation/folder.js';
import { type EvaluationRun, runEvaluation } from '../../src/evaluation/run.js';
import type { Policy } from '../../src/model/policy.js';
import { tokenTask } from '../../src/rollout/token-task.js';
import type { Example, Task } from '../../src/tasks/task.js';
import { createTrainer } from '../../src/train/grpo.js';
import { resolveSettings } from '../../src/train/options.js';
import { quickBackend } from '../support/backend.js';
import { readLines, temporaryFolder, tinyOptions, tinyPolicy, tinyTask } from '../support/trainer.js';

/** Sometimes right, depending on the length, with a grader's reason. */
const task: Task = {
  ...tinyTask,
  grade: async (text) => ({
    score: Number(text.length % 2),
    extracted: text.length > 4 ? null : text,
    reason: 'its length',
  }),
  score: () => assert.fail('what has a grade is scored by it, once'),
};
const sampling = { samples: 3, temperature: 1.5, topP: 1, seed: 5 };

let policy: Policy;
before(async () => {
  await startBackend(quickBackend);
  policy = tinyPolicy();
});
after(() => policy.dispose());

const examples = Array.from({ length: 7 }, (_, i) => task.example(i));
const tokens = (own: Task = task) => tokenTask(own, policy, { promptLength: null, maxTokens: 10 });
const about = { version: '0', title: 'tiny <b>', identity: { model: 'tiny', sampling } };

function run(folder: string, change: Partial<EvaluationRun<Example>> = {}) {
  return runEvaluation(policy, tokens(), examples, { ...sampling, folder, about, batch: 6, ...change });
}

const completionsOf = (folder: string) => readFileSync(join(folder, 'completions.jsonl'), 'utf8');

describe('an evaluation in a folder', () => {
  test('has one line per completion, in order, and a summary and a page', async (t) => {
    const folder = temporaryFolder(t);
    const columns = (example: Example) => ({ 'first <i>': example.prompt[0] });
    const { problems, summary } = await run(folder, { columns });
    const lines = readLines(join(folder, 'completions.jsonl'));
    assert.deepEqual(
      lines.map(({ problem, sample }) => [problem, sample]),
      examples.flatMap((_, i) => [0, 1, 2].map((sample) => [i, sample])),
    );
    assert.deepEqual(
      lines,
      problems.flatMap(({ completions }) => completions),
    );
    const complete = lines.find(({ truncated }) => !truncated)!;
    assert.equal(complete.reason, 'its length');
    assert.deepEqual(complete.columns, { 'first <i>': (complete.prompt as string)[0] });
    assert.ok(lines.every(({ truncated, score, extracted }) => !truncated || (score === 0 && extracted === undefined)));
    const right = lines.filter(({ score }) => score === 1).length;
    assert.ok(right > 0 && right < lines.length, `${right} right: both verdicts must occur`);
    assert.ok(Math.abs(summary.estimates['avg@3'].mean! - right / 21) < 1e-12);
    assert.deepEqual(
      JSON.parse(readFileSync(join(folder, 'summary.json'), 'utf8')),
      JSON.parse(JSON.stringify(summary)),
    );
    const page = readFileSync(join(folder, 'report.html'), 'utf8');
    assert.equal(page.match(/<details class="completion (right|wrong|truncated)">/g)!.length, 21);
    assert.equal(page.match(/<article class="problem( has-(right|wrong|truncated))+">/g)!.length, 7);
    assert.ok(!page.includes('<i>') && !page.includes('tiny <b>'), 'texts are escaped');
  });

  test('is the same file whether it was interrupted, torn or truncated anywhere, and for any batch size', async (t) => {
    const whole = temporaryFolder(t);
    await run(whole);
    const expected = completionsOf(whole);
    const lines = expected.split('\n');
    const cuts = [
      0,
      5,
      lines[0].length + 1,
      lines[0].length + lines[1].length + 9,
      expected.length - 2,
      expected.length,
    ];
    for (const [i, cut] of cuts.entries()) {
      const folder = temporaryFolder(t);
      cpSync(whole, folder, { recursive: true });
      truncateSync(join(folder, 'completions.jsonl'), Buffer.byteLength(expected.slice(0, cut)));
      const asked: number[] = [];
      await run(folder, { batch: [1, 3, 7, 12, 100, 6][i], onProgress: (done) => asked.push(done) });
      assert.equal(completionsOf(folder), expected, `cut at ${cut}`);
      // Complete problems are not sampled again.
      assert.equal(asked[0], Math.floor(expected.slice(0, cut).split('\n').length / 3 - 1e-9));
    }
    const ended = temporaryFolder(t);
    const controller = new AbortController();
    const reason = new Error('ended');
    const onProgress = (done: number) => void (done === 4 && controller.abort(reason));
    await assert.rejects(run(ended, { onProgress, signal: controller.signal }), reason);
    assert.equal(readEvaluation(ended).problems.length, 4);
    assert.ok(expected.startsWith(completionsOf(ended)));
    await run(ended);
    assert.equal(completionsOf(ended), expected);
  });

  test('resumes only with the same identity', async (t) => {
    const folder = temporaryFolder(t);
    await run(folder);
    const other = { ...about, identity: { ...about.identity, sampling: { ...sampling, seed: 6 } } };
    await assert.rejects(run(folder, { about: other }), /sampling\.seed: 5, now 6$/);
    assert.throws(() => readEvaluation(temporaryFolder(t)), {
      name: 'RangeError',
      message: /expected the folder of an evaluation/,
    });
  });
});

describe('evaluation in training', () => {
  test('samples several completions per problem, and reports pass@k, the vote and the truncated share', async (t) => {
    const runDir = temporaryFolder(t);
    const own = tinyPolicy();
    const evaluation = { size: 5, samples: 4, every: 1 };
    const trainer = await createTrainer(tinyOptions({ policy: own, evaluate: { same: task }, evaluation, runDir }));
    await trainer.run({ max: 1, output: null });
    const { same } = await trainer.evaluate();
    trainer.dispose();
    own.dispose();
    const [start, first] = readLines(join(runDir, 'metrics.jsonl'));
    const names = ['accuracy', 'maj@4', 'pass@1', 'pass@2', 'pass@4', 'truncated'].map((name) => `eval/same/${name}`);
    for (const line of [start, first]) {
      const found = Object.keys(line).filter((name) => /^eval\/same\/[^/]+$/.test(name));
      assert.deepEqual(found.sort(), names);
    }
    assert.equal(same.samples, 4);
    assert.equal(first['eval/same/accuracy'], same.accuracy);
    assert.equal(first['eval/same/pass@4'], same.estimates!['pass@4'].mean);
  });

  test('truncates the distribution: with a small top-p only the most likely token is left', async () => {
    const own = { ...sampling, temperature: 1, topP: 1e-6 };
    const records = await completeExamples(policy, tokens(), examples, own);
    const greedily = await completeExamples(policy, tokens(), examples, {
      ...own,
      samples: 1,
      temperature: 0,
      topP: 1,
    });
    assert.deepEqual(
      records.map(({ completion }) => completion),
      greedily.flatMap(({ completion }) => [completion, completion, completion]),
    );
  });

  test('is greedy with one completion, and rejects several that would be identical', async () => {
    assert.deepEqual(resolveSettings({}).evaluation, {
      every: 50,
      size: null,
      atStart: true,
      samples: 1,
      temperature: 0,
      topP: 1,
    });
    assert.equal(resolveSettings({ evaluation: { samples: 2 } }).evaluation.temperature, 1);
    assert.throws(() => resolveSettings({ evaluation: { samples: 2, temperature: 0 } }), {
      name: 'RangeError',
      message: /^evaluation\.temperature: expected a number above 0 for 2 samples/,
    });
    assert.throws(() => resolveSettings({ evaluation: { topP: 0 } }), { message: /^evaluation\.topP: / });
    const result = await evaluate(policy, tokens(tinyTask), examples);
    assert.deepEqual(Object.keys(result).sort(), ['accuracy', 'byDifficulty', 'correct', 'count']);
    assert.ok(Object.keys(evaluationMetrics('x', result)).every((name) => name.startsWith('eval/x/accuracy')));
  });
});

test('groupgrad evaluate: a run on a data file, by column, resumed, and compared with another', async (t) => {
  const folder = temporaryFolder(t);
  const own = tinyPolicy();
  const trainer = await createTrainer(
    tinyOptions({ policy: own, runDir: join(folder, 'run'), evaluation: { atStart: false } }),
  );
  await trainer.start();
  trainer.dispose();
  own.dispose();
  const sums = Array.from({ length: 6 }, (_, i) => ({ sum: `${i}+1=`, result: i + 1, kind: i % 2 ? 'odd' : 'even' }));
  writeFileSync(join(folder, 'sums.jsonl'), sums.map((row) => JSON.stringify(row)).join('\n'));
  const output = async (...args: string[]) => {
    const lines: string[] = [];
    const write = t.mock.method(process.stdout, 'write', (text: string) => Boolean(lines.push(text)));
    const silenced = t.mock.method(process.stderr, 'write', () => true);
    try {
      await evaluateCommand([...args, '--json']);
    } finally {
      write.mock.restore();
      silenced.mock.restore();
    }
    return JSON.parse(lines.findLast((line) => typeof line === 'string' && line.startsWith('{"title"'))!) as Record<
      string,
      unknown
    >;
  };
  const data = ['--data', join(folder, 'sums.jsonl'), '--prompt', 'sum', '--answer', 'result', '--verify', 'number'];
  const common = [
    join(folder, 'run'),
    ...data,
    '--by',
    'kind',
    '--samples',
    '4',
    '--max-tokens',
    '3',
    '--backend',
    'cpu',
  ];
  const first = await output(...common, '--out', join(folder, 'first'));
  assert.deepEqual([first.problems, first.samples, first.title], [6, 4, 'run on sums.jsonl']);
  assert.deepEqual(
    (first.parts as { column: string; value: string; problems: number }[]).map(({ column, value, problems }) => [
      column,
      value,
      problems,
    ]),
    [
      ['kind', 'even', 3],
      ['kind', 'odd', 3],
    ],
  );
  const before = completionsOf(join(folder, 'first'));
  assert.deepEqual(await output(...common, '--out', join(folder, 'first')), first);
  assert.equal(completionsOf(join(folder, 'first')), before);
  const against = ['--against', join(folder, 'first')];
  const second = await output(...common, '--seed', '1', '--out', join(folder, 'second'), ...against);
  assert.equal((second.comparison as { problems: number }).problems, 6);
  assert.match(readFileSync(join(folder, 'second', 'report.html'), 'utf8'), /Against run on sums\.jsonl/);
  const again = await output(join(folder, 'second'), ...against);
  assert.deepEqual(again.comparison, second.comparison);
  await assert.rejects(
    output(join(folder, 'second'), '--samples', '2'),
    /^UsageError: --samples: requires a model or a run/,
  );
});
