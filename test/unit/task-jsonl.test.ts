// Problems from a file of JSON lines: what is read, what is rejected, and the location in the message.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { after, describe } from 'node:test';
import { tasks } from '../../src/index.js';

const folder = mkdtempSync(join(tmpdir(), 'groupgrad-jsonl-'));
after(() => rmSync(folder, { recursive: true }));

let files = 0;
function file(content: string | Uint8Array): string {
  const path = join(folder, `${files++}.jsonl`);
  writeFileSync(path, content);
  return path;
}

const capitals = file(`{"prompt": "France?", "answer": "Paris", "continent": "Europe", "difficulty": 2}
{"prompt": "Perú?", "answer": "Lima", "solution": "Lima"}\r

{"prompt": "Japan?", "answer": "Tokyo", "solution": "東京, Tokyo"}
`);

describe('jsonl', () => {
  test('reads prompts, answers, solutions, difficulties and all other fields in the order of the file', () => {
    const task = tasks.jsonl({ path: capitals });
    assert.equal(task.size, 3);
    assert.deepEqual(task.example(0), {
      prompt: 'France?',
      answer: 'Paris',
      solution: 'Paris',
      difficulty: 2,
      continent: 'Europe',
    });
    assert.deepEqual(task.example(1), { prompt: 'Perú?', answer: 'Lima', solution: 'Lima', difficulty: 0 });
    assert.equal(task.example(2).solution, '東京, Tokyo');
    assert.throws(() => task.example(3), { name: 'RangeError', message: /^index: .*at most 2, got 3/ });
  });

  test('states the characters and the lengths of the whole file, counted in characters', () => {
    const task = tasks.jsonl({ path: capitals });
    assert.equal(task.characters, [...new Set('France?ParisPerú?LimaJapan?Tokyo東京, ')].sort().join(''));
    assert.equal(task.maxPromptLength, 7);
    assert.equal(task.maxSolutionLength, '東京, Tokyo'.length);
    const emoji = tasks.jsonl({ path: file('{"prompt": "😀😀", "answer": "😀"}') });
    assert.deepEqual([emoji.characters, emoji.maxPromptLength, emoji.maxSolutionLength], ['😀', 2, 1]);
  });

  test("a caller's change to an example does not affect the task", () => {
    const task = tasks.jsonl({ path: capitals });
    task.example(0).answer = 'Rome';
    assert.equal(task.example(0).answer, 'Paris');
  });

  test('only the exact answer scores 1', () => {
    const task = tasks.jsonl({ path: capitals });
    const example = task.example(0);
    assert.equal(task.score('Paris', example), 1);
    for (const text of ['', 'paris', 'Paris.', ' Paris', 'Paris\n', 'Paris or Rome', 'ParisParis', 'Pаris']) {
      assert.equal(task.score(text, example), 0, text);
    }
  });

  test('a user-defined scorer sees all fields, and must return a score in [0, 1]', () => {
    interface Fields {
      continent?: string;
    }
    const task = tasks.jsonl<Fields>({
      path: capitals,
      score: (text, { continent }) => (continent === 'Europe' ? Number(text) : Number.NaN),
    });
    assert.equal(task.score('0.25', task.example(0)), 0.25);
    assert.throws(() => task.score('2', task.example(0)), {
      name: 'RangeError',
      message: /^score: .*at most 1, got 2/,
    });
    assert.throws(() => task.score('1', task.example(1)), { name: 'RangeError', message: /^score/ });
    const text = tasks.jsonl({ path: capitals, score: () => 'yes' as never });
    assert.throws(() => text.score('', text.example(0)), { name: 'TypeError', message: /^score: .*got "yes"/ });
  });

  test('the two splits divide the prompts, and both state the characters and lengths of the whole file', () => {
    const path = file(
      Array.from({ length: 500 }, (_, i) => JSON.stringify({ prompt: `p${i}`, answer: `${i}` })).join('\n'),
    );
    const make = (split?: 'train' | 'held-out') => tasks.jsonl({ path, split });
    const prompts = (task: ReturnType<typeof make>) =>
      Array.from({ length: task.size! }, (_, i) => task.example(i).prompt);
    const [all, train, heldOut] = [make(), make('train'), make('held-out')];
    assert.deepEqual([...prompts(train), ...prompts(heldOut)].sort(), prompts(all).sort());
    // 100 expected, with a standard deviation of sqrt(500 * 0.2 * 0.8) = 9; five of them.
    assert.ok(Math.abs(heldOut.size! - 100) < 45);
    for (const task of [train, heldOut]) {
      assert.equal(task.characters, all.characters);
      assert.equal(task.maxPromptLength, all.maxPromptLength);
    }
  });

  test('given characters are used as they are, and a character outside of them is rejected with its line', () => {
    const characters = `${tasks.jsonl({ path: capitals }).characters}XYZ`;
    assert.equal(tasks.jsonl({ path: capitals, characters }).characters, characters);
    assert.throws(() => tasks.jsonl({ path: capitals, characters: 'FrancePis?' }), {
      name: 'RangeError',
      message: /jsonl:2: expected characters of "FrancePis\?", got "ú"/,
    });
    assert.throws(() => tasks.jsonl({ path: capitals, characters: 'aba' }), {
      message: /^characters: expected distinct characters/,
    });
  });

  test('unreadable content is rejected with the line and the field', () => {
    const good = '{"prompt": "a", "answer": "b"}\n';
    const cases: [string | Uint8Array, RegExp][] = [
      [
        `${good}\n{"prompt": "a"}`,
        /^TypeError: .*jsonl:3: answer: expected the column "answer", got a row with prompt/,
      ],
      ['{"prompt": [3], "answer": "b"}', /^TypeError: .*jsonl:1: prompt: expected a string or a number, got an array/],
      ['{"prompt": "a", "answer": true}', /^TypeError: .*jsonl:1: answer: expected a string or a number, got true/],
      ['{"prompt": "", "answer": "b"}', /^RangeError: .*jsonl:1: prompt: .*non-empty/],
      ['{"prompt": "a", "answer": ""}', /^RangeError: .*jsonl:1: answer: .*non-empty/],
      [
        '{"prompt": "a", "answer": "b", "solution": {}}',
        /^TypeError: .*solution: expected a string or a number, got an object/,
      ],
      ['{"prompt": "a", "answer": "b", "difficulty": "hard"}', /^TypeError: .*difficulty: .*got "hard"/],
      ['{"prompt": "a", "answer": "b", "difficulty": 1e999}', /^RangeError: .*difficulty/],
      [`${good}{"prompt": "a", "ans`, /^TypeError: .*jsonl:2: expected a JSON object, got "{/],
      ['[1]', /^TypeError: .*jsonl:1: expected an object, got an array/],
      ['null', /^TypeError: .*jsonl:1: expected an object, got null/],
      ['\n\n', /^RangeError: path: .*at least one line/],
      ['', /^RangeError: path: .*at least one line/],
      [Uint8Array.of(0x22, 0xff, 0x22), /^TypeError: .*jsonl:1: expected UTF-8 text/],
    ];
    for (const [content, message] of cases) {
      const path = file(content);
      assert.throws(
        () => tasks.jsonl({ path }),
        (error) => message.test(String(error)) || assert.fail(`${message} does not match ${error}`),
      );
    }
    assert.throws(() => tasks.jsonl({ path: join(folder, 'none') }), {
      name: 'TypeError',
      message: /^path: .*: there is no such file$/,
    });
    assert.throws(() => tasks.jsonl({ path: folder }), { name: 'TypeError', message: /^path: .*EISDIR/ });
    assert.throws(() => tasks.jsonl({} as never), { name: 'TypeError', message: /^path: .*got nothing/ });
    assert.throws(() => tasks.jsonl({ path: capitals, score: 1 as never }), { message: /^score: .*a function/ });
    assert.throws(() => tasks.jsonl({ path: capitals, seed: 1 } as never), { message: /^seed: unknown field/ });
    assert.throws(() => tasks.jsonl({ path: file(good), split: heldOutSplitWithoutLines() }), {
      name: 'RangeError',
      message: /problems of the split/,
    });
  });

  test('a prompt of the file can be parsed into its problem, with all of its fields', () => {
    const task = tasks.jsonl({ path: capitals, split: 'train' });
    assert.deepEqual(task.parse!(task.example(1).prompt), task.example(1));
    const [held] = [tasks.jsonl({ path: capitals }).example(0)];
    assert.deepEqual(task.parse!(held.prompt), held);
    assert.equal(task.parse!('Atlantis?'), undefined);
  });

  test('a number is accepted as a string, and null in an optional column means that it is missing', () => {
    const path = file('{"prompt": 3, "answer": 4.5, "solution": null, "difficulty": "2"}');
    assert.deepEqual(tasks.jsonl({ path }).example(0), { prompt: '3', answer: '4.5', solution: '4.5', difficulty: 2 });
  });

  test('a byte-order mark is ignored, and field names like __proto__ are ordinary', () => {
    const path = file('\ufeff{"prompt": "a", "answer": "b", "__proto__": {"answer": "c"}, "constructor": 1}');
    const example = tasks.jsonl({ path }).example(0);
    assert.equal(example.answer, 'b');
    assert.equal(Object.getPrototypeOf(example), Object.prototype);
  });
});

/** The split that has no problems from a file with the single prompt "a". */
function heldOutSplitWithoutLines() {
  const one = file('{"prompt": "a", "answer": "b"}');
  try {
    tasks.jsonl({ path: one, split: 'held-out' });
    return 'train' as const;
  } catch {
    return 'held-out' as const;
  }
}
