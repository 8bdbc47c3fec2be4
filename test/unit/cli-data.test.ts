// What `groupgrad data` and `groupgrad verify` report about a file.

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { data } from '../../src/cli/data.js';
import { verify } from '../../src/cli/verify.js';
import { ColumnSummaries, runLength, spreadOf, TextIndex } from '../../src/data/inspect.js';
import { temporaryFolder } from '../support/trainer.js';

/** The JSON that a command writes: one value, or one per line. */
async function output(t: TestContext, command: (args: readonly string[]) => Promise<void>, ...args: string[]) {
  const written: string[] = [];
  const mock = t.mock.method(process.stdout, 'write', (text: string) => Boolean(written.push(text)));
  try {
    await command([...args, '--json']);
  } finally {
    mock.mock.restore();
  }
  return written.filter((text) => typeof text === 'string' && text.startsWith('{')).map((text) => JSON.parse(text));
}

test('groupgrad data: columns, lengths, examples, duplicates and overlap', async (t) => {
  const folder = temporaryFolder(t);
  const rows = [
    { question: 'What is 1 + 1?', answer: 2, level: 'easy' },
    { question: 'what is 1+1', answer: 2, level: null },
    { question: 'What is 1 + 1?', answer: 2 },
    { question: 'Name a colour.', answer: 'red' },
  ];
  const [path, other] = ['own.jsonl', 'other.jsonl'].map((name) => join(folder, name));
  writeFileSync(path, rows.map((row) => JSON.stringify(row)).join('\n'));
  writeFileSync(other, '{"question":"NAME a colour","answer":"blue"}\n{"question":"x","answer":"y"}');
  const columns = ['--prompt', 'question', '--answer', 'answer', '--template', '{prompt} Now:', '--against', other];
  const [found] = await output(t, data, path, ...columns, '--show', '1');
  assert.deepEqual([found.file.rows, found.file.format], [4, 'jsonl']);
  const [question, answer, level] = found.columns;
  assert.deepEqual(question.types, { text: 4 });
  assert.equal(question.different, 3);
  assert.deepEqual(question.length, { min: 11, median: 14, p95: 14, max: 14 });
  assert.deepEqual(answer.types, { integer: 3, text: 1 });
  assert.deepEqual([level.types, level.missing], [{ text: 1 }, 3]);
  assert.deepEqual(
    [found.problems, found.unit, found.examples],
    [4, 'characters', [{ prompt: 'What is 1 + 1? Now:', answer: '2' }]],
  );
  assert.deepEqual([found.duplicates.same, found.duplicates.alike, found.duplicates.shown.length], [1, 1, 1]);
  const [{ problems, same, alike, sharing }] = found.overlap;
  assert.deepEqual([problems, same, alike, sharing], [2, 0, 1, 0]);
});

test('texts that share consecutive words are found, unless they are short', () => {
  const words = Array.from({ length: runLength + 3 }, (_, i) => `word${i}`);
  const index = new TextIndex(true);
  index.add(words.join(' '), 'there');
  index.add('short text', 'elsewhere');
  assert.deepEqual(index.find(words.join(' ')), { likeness: 'same', where: 'there' });
  assert.deepEqual(index.find(`${words.join(', ').toUpperCase()}!`), { likeness: 'alike', where: 'there' });
  assert.deepEqual(index.find(`Now ${words.slice(2, 2 + runLength).join(' ')} then`), {
    likeness: 'shares words',
    where: 'there',
  });
  assert.equal(index.find(words.slice(1, runLength).join(' ')), undefined);
  assert.equal(index.find('a short text'), undefined);
  assert.equal(index.find('?!'), undefined);
});

test('columns count types and different values; lengths have quantiles', () => {
  const columns = new ColumnSummaries();
  const values = [1n, 2, 2.5, true, [1], { a: 1n }, new Date(0), 'ü', undefined, null];
  for (const value of values) columns.add({ value });
  assert.deepEqual(columns.summaries(), [
    {
      name: 'value',
      types: { integer: 2, number: 1, boolean: 1, list: 1, object: 1, date: 1, text: 1 },
      missing: 2,
      different: 8,
      length: { min: 1, median: 1, p95: 1, max: 1 },
      examples: ['1', '2'],
    },
  ]);
  assert.deepEqual(spreadOf(Array.from({ length: 100 }, (_, i) => 100 - i)), { min: 1, median: 50, p95: 95, max: 100 });
  assert.equal(spreadOf([]), undefined);
});

test('groupgrad verify: grades with reasons, and shows where two graders or the file disagree', async (t) => {
  const path = join(temporaryFolder(t), 'graded.csv');
  writeFileSync(
    path,
    'completion,answer,ok\nIt is \\boxed{4}.,4,true\n"x = 1/2, so \\boxed{2/4}",0.5,0\n,7,false\nred,red,1\n',
  );
  const lines = await output(t, verify, path, '--verify', 'maths', '--expect', 'ok');
  assert.deepEqual(
    lines.slice(0, -1).map(({ correct, second }) => [correct, second.correct]),
    [
      [true, true],
      [true, false],
      [false, false],
      [true, true],
    ],
  );
  assert.deepEqual(lines.at(-1), { completions: 4, right: 3, unread: 1, secondRight: 2, disagreements: 1 });
  const [first] = await output(t, verify, path, '--verify', 'exact', '--second', 'maths');
  assert.deepEqual([first.grader, first.extracted, first.second.grader], ['exact', '4', 'maths']);
  await assert.rejects(verify([path, '--verify', 'number']), /graded\.csv:5: answer: expected a number, got "red"$/);
  await assert.rejects(
    verify([path, '--verify', 'maths', '--expect', 'answer']),
    /csv:2: answer: expected true or false, 1 or 0, got "4"$/,
  );
});
