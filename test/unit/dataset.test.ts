// Data sets from files: every format gives the same problems, whatever the chunk size; columns, chats, splits,
// filters and verifiers; and errors name their location.

import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { after, describe } from 'node:test';
import fc from 'fast-check';
import { CsvScanner, JsonArrayScanner, LineScanner, type RecordScanner } from '../../src/data/record-scanner.js';
import { openRows, type Row } from '../../src/data/row-file.js';
import { type BenchmarkName, benchmarks, type DatasetOptions, dataset, type Example, verify } from '../../src/index.js';
import { identifyTask } from '../../src/run/drift.js';
import { sourceOfTask } from '../../src/tasks/source.js';
import type { Task } from '../../src/tasks/task.js';

const folder = mkdtempSync(join(tmpdir(), 'groupgrad-dataset-'));
after(() => rmSync(folder, { recursive: true }));
const parquet = new URL('../golden/parquet/', import.meta.url).pathname;

let files = 0;
function file(content: string | Uint8Array, ending = '.jsonl'): string {
  const path = join(folder, `${files++}${ending}`);
  writeFileSync(path, content);
  return path;
}

function rowsOf(path: string, options = {}): { rows: Row[]; places: string[] } {
  const [rows, places]: [Row[], string[]] = [[], []];
  const opened = openRows(path, options, (row, where) => {
    rows.push(row);
    places.push(where);
  });
  // Rows read again by index equal the rows of the first pass.
  assert.deepEqual(Array.from({ length: opened.size }, (_, i) => opened.row(opened.size - 1 - i)).reverse(), rows);
  return { rows, places };
}

const examplesOf = <E>(task: { size: number; example(index: number): E }) =>
  Array.from({ length: task.size }, (_, i) => task.example(i));

describe('rows of a file', () => {
  const expected = [
    { question: 'a, "b"', answer: '1' },
    { question: 'two\nlines', answer: '½' },
    { question: '東京', answer: '' },
  ];
  const csv = 'question,answer\r\n"a, ""b""",1\r\n\r\n"two\nlines",½\r\n東京,\r\n';
  const lines = expected.map((row) => JSON.stringify(row)).join('\n');

  test('are the same in JSON lines, JSON and CSV, with and without byte-order marks and with any line ends', () => {
    const array = `\n[ ${expected.map((row) => JSON.stringify(row, null, 2)).join(' , ')} ]\n`;
    const paths = [
      file(lines),
      file(`\ufeff${lines}\r\n\r\n`),
      file(lines.replaceAll('\n', '\r\n'), '.ndjson'),
      file(lines, '.json'),
      file(array, '.json'),
      file(`\ufeff${array}`, '.json'),
      file(Buffer.from(`\ufeff${array}`, 'utf16le'), '.json'),
      file(Buffer.from(`\ufeff${lines}`, 'utf16le')),
      file(csv, '.csv'),
      file(`\ufeff${csv}`, '.CSV'),
      file(csv.trimEnd(), '.csv'),
      file('question\tanswer\n"a, ""b"""\t1\n"two\nlines"\t½\n東京\t', '.tsv'),
    ];
    for (const path of paths) assert.deepEqual(rowsOf(path).rows, expected, path);
    assert.deepEqual(
      rowsOf(
        file(
          csv.replaceAll(',1', ';1').replaceAll('n,a', 'n;a').replaceAll(',½', ';½').replaceAll('京,', '京;'),
          '.txt',
        ),
        { format: 'csv', delimiter: ';' },
      ).rows,
      expected,
    );
    assert.deepEqual(
      rowsOf(paths[8]).places.map((place) => place.slice(paths[8].length)),
      [':2', ':4', ':6'],
    );
  });

  test('quotes within an unquoted CSV field are text, and an empty array has no rows', () => {
    assert.deepEqual(rowsOf(file('a,b\n5" pipe,x "y" z\n', '.csv')).rows, [{ a: '5" pipe', b: 'x "y" z' }]);
    assert.throws(() => rowsOf(file('[ ]', '.json')), { name: 'RangeError', message: /at least one row/ });
  });

  test('in Parquet are the same for all codecs, with nested columns, bigints, nulls and dates', () => {
    for (const codec of ['none', 'snappy', 'gzip', 'brotli', 'zstd', 'lz4']) {
      const { rows, places } = rowsOf(join(parquet, `${codec}.parquet`));
      assert.equal(rows.length, 7);
      assert.match(places[3], /parquet, row 4$/);
      assert.deepEqual(rows[4], {
        question: 'What is 4 + 4?',
        answer: 8n,
        large: 2n ** 60n + 4n,
        share: 0.5,
        hint: 'twice 4 – ½',
        extra: { level: 4, source: { name: 'made up' } },
        choices: ['4', '8'],
        messages: [
          { role: 'system', content: 'Be brief.' },
          { role: 'user', content: 'What is 4 + 4?' },
        ],
        day: new Date('2024-01-05'),
      });
      assert.equal(rows[3].hint ?? null, null);
    }
    const { rows } = rowsOf(join(parquet, 'groups.parquet'));
    assert.deepEqual(
      rows.map(({ prompt }) => prompt),
      Array.from({ length: 250 }, (_, i) => `p${i}`),
    );
  });

  test('do not depend on how the bytes are divided into chunks', () => {
    const array = '[{"a":"]},\\"[\\\\"}, 5 ,"x,", [1,[2]], {"b":[{}]}\n]';
    const cases: [() => RecordScanner, string, string[]][] = [
      [() => new LineScanner(), 'a\n\nbc\r\nd', ['a', '', 'bc\r', 'd']],
      [() => new CsvScanner(0x2c), 'a,"b\n""c""\n",d\n"",e"\n"f', ['a,"b\n""c""\n",d', '"",e"']],
      [() => new JsonArrayScanner(), array, ['{"a":"]},\\"[\\\\"}', '5', '"x,"', '[1,[2]]', '{"b":[{}]}']],
    ];
    for (const [make, text, expectedRecords] of cases) {
      const bytes = Buffer.from(text);
      for (let size = 1; size <= bytes.length; size++) {
        const scanner = make();
        const found: string[] = [];
        const emit = ({ start, end }: { start: number; end: number }) => {
          found.push(bytes.subarray(start, end).toString());
        };
        for (let at = 0; at < bytes.length; at += size) {
          const before = scanner.needed;
          scanner.feed(bytes.subarray(at, at + size), emit);
          assert.ok(scanner.needed >= before && scanner.needed <= at + size);
        }
        if (text.endsWith('"f')) assert.throws(() => scanner.finish(emit), /^SyntaxError: 5: expected a closing quote/);
        else scanner.finish(emit);
        assert.deepEqual(found, expectedRecords);
      }
    }
  });

  test('survive a round trip through CSV and JSON, whatever they contain', () => {
    const field = fc.string({
      unit: fc.constantFrom('a', '"', ',', '\n', '\r\n', ' ', '½', '\\', '[', '}'),
      minLength: 1,
    });
    const quoted = (text: string) => `"${text.replaceAll('"', '""')}"`;
    fc.assert(
      fc.property(fc.array(fc.tuple(field, field), { minLength: 1, maxLength: 5 }), (pairs) => {
        const given = pairs.map(([a, b]) => ({ a, b }));
        assert.deepEqual(
          rowsOf(file(`a,b\n${pairs.map((pair) => pair.map(quoted).join()).join('\n')}`, '.csv')).rows,
          given,
        );
        assert.deepEqual(rowsOf(file(JSON.stringify(given), '.json')).rows, given);
      }),
      { numRuns: 60, seed: 1 },
    );
  });

  test('longer than a chunk are read completely', () => {
    const given = Array.from({ length: 4 }, (_, i) => ({ prompt: `${i}`.repeat(3_000_000 + i), answer: `${i}` }));
    for (const path of [
      file(given.map((row) => JSON.stringify(row)).join('\n')),
      file(JSON.stringify(given), '.json'),
    ]) {
      assert.deepEqual(rowsOf(path).rows, given);
    }
  });

  test('invalid rows are rejected with their line', () => {
    const cases: [string, string | Uint8Array, RegExp][] = [
      ['.jsonl', '{"a":1}\n{"a":', /^TypeError: .*jsonl:2: expected a JSON object, got "\{\\"a\\":"/],
      ['.jsonl', '{"a":1}\n[2]', /^TypeError: .*jsonl:2: expected an object, got an array/],
      ['.jsonl', Uint8Array.of(0x22, 0xff, 0x22), /^TypeError: .*jsonl:1: expected UTF-8/],
      ['.json', '[{"a":1},\n]', /^TypeError: .*json:2: expected a value/],
      ['.json', '[{"a":1}\n', /^TypeError: .*json:2: expected ']'/],
      ['.json', '[{"a":1}]\n\n{}', /^TypeError: .*json:3: expected nothing after/],
      ['.json', '[{"a":1},\n\n{"b" 2}]', /^TypeError: .*json:3: expected a JSON object/],
      ['.json', '{\n"a": 1}', /^TypeError: .*json:1: expected a JSON object/],
      ['.csv', 'a,b\n1,2\n3\n', /^TypeError: .*csv:3: expected 2 fields, one per column, got 1/],
      ['.csv', 'a,b\n1,2\n"3,4\n5,6', /^TypeError: .*csv:3: expected a closing quote of the field/],
      ['.csv', 'a,b\n"1"2,3', /^TypeError: .*csv:2: expected "," after the closing quote of field 1/],
      ['.csv', 'a,a\n1,2', /^TypeError: .*csv:1: expected distinct column names, got "a" twice/],
      ['.csv', 'a,\n1,2', /^TypeError: .*csv:1: expected a name for column 2/],
      ['.csv', 'a,b\n', /^RangeError: path: .*at least one row/],
      ['.jsonl', '\n \n', /^RangeError: path: .*at least one line/],
      [
        '.txt',
        'x',
        /^RangeError: path: expected a file name that ends in one of \.jsonl, .*\.parquet, or a format, got /,
      ],
      ['.parquet', 'PAR1 no', /^RangeError: .*parquet: expected a readable Parquet file, got /],
    ];
    for (const [ending, content, message] of cases) {
      const path = file(content, ending);
      assert.throws(
        () => rowsOf(path),
        (error) => message.test(String(error)) || assert.fail(`${message} does not match ${error}`),
      );
    }
    assert.throws(() => rowsOf(join(folder, 'none.csv')), {
      name: 'TypeError',
      message: /^path: .*: there is no such file$/,
    });
    assert.throws(() => rowsOf(folder, { format: 'json' }), { name: 'TypeError', message: /^path: .*EISDIR/ });
    assert.throws(() => rowsOf(file('a'), { format: 'xml' as never }), { name: 'RangeError', message: /^format: / });
    for (const delimiter of ['', ';;', '"', '½']) {
      assert.throws(() => rowsOf(file('a', '.csv'), { delimiter }), { name: 'RangeError', message: /^delimiter: / });
    }
  });

  test('of a small file are kept in memory; a large file that has changed is not read', () => {
    const small = file('{"a":1}\n{"a":2}\n');
    const large = file(`{"a":1}\n{"a":2,"b":"${'b'.repeat(2 ** 25)}"}\n`);
    const [held, opened] = [small, large].map((path) => openRows(path, {}, () => {}));
    for (const path of [small, large]) writeFileSync(path, '{"a":7}\n');
    assert.deepEqual(held.row(1), { a: 2 });
    assert.throws(() => opened.row(1), {
      name: 'Error',
      message: /expected the file that the data set was created from; it has changed since/,
    });
  });
});

describe('dataset', () => {
  interface Problem {
    question: string;
    answer: string | number;
    extra?: { answer: number; level: string };
  }
  const path = file(
    [
      { question: 'What is 1 + 1?', answer: 'It is two.\n#### 2', extra: { answer: 2, level: '3' } },
      { question: 'What is 2 + 2?', answer: 4, extra: { answer: 4, level: '1.5' } },
      { question: '7?', answer: '7', extra: { answer: 7, level: '2' }, 'extra.answer': 'with a dot' },
    ]
      .map((row) => JSON.stringify(row))
      .join('\n'),
  );
  const columns = { prompt: 'question', answer: 'answer' } as const;

  test('takes columns by name, path and function; numbers become strings', () => {
    const byName = dataset(path, columns);
    assert.equal(byName.size, 3);
    assert.deepEqual(byName.example(1), {
      prompt: 'What is 2 + 2?',
      answer: '4',
      solution: '4',
      difficulty: 0,
      row: { question: 'What is 2 + 2?', answer: 4, extra: { answer: 4, level: '1.5' } },
    });
    const byPath = dataset(path, { prompt: 'question', answer: 'extra.answer', difficulty: 'extra.level' });
    assert.deepEqual(
      examplesOf(byPath).map(({ answer, difficulty }) => [answer, difficulty]),
      [
        ['2', 3],
        ['4', 1.5],
        // A column with exactly this name takes precedence.
        ['with a dot', 2],
      ],
    );
    const byFunction = dataset<Problem>(path, {
      prompt: ({ question }) => `Q: ${question}`,
      answer: ({ answer }) => String(answer).split('####').at(-1)!.trim(),
      solution: 'answer',
      difficulty: ({ question }) => BigInt(question.length),
    });
    assert.deepEqual(
      [byFunction.example(0).prompt, byFunction.example(0).answer, byFunction.example(0).solution],
      ['Q: What is 1 + 1?', '2', 'It is two.\n#### 2'],
    );
    assert.equal(byFunction.example(2).difficulty, 2);
    assert.deepEqual(byFunction.parse!('Q: 7?'), byFunction.example(2));
    assert.equal(byFunction.parse!('7?'), undefined);
  });

  test('reads the columns prompt, answer, solution and difficulty by default', () => {
    const own = file(
      '{"prompt":"p","answer":"a","solution":"s","difficulty":2}\n{"prompt":"q","answer":"b","solution":null}',
    );
    assert.deepEqual(
      examplesOf(dataset(own)).map(({ row: _, ...rest }) => rest),
      [
        { prompt: 'p', answer: 'a', solution: 's', difficulty: 2 },
        { prompt: 'q', answer: 'b', solution: 'b', difficulty: 0 },
      ],
    );
  });

  test('makes chats of strings with a template and a system message, and takes messages as they are', () => {
    const template = '{prompt} Answer within \\boxed{}: $& {prompt}';
    const plain = dataset(path, { ...columns, template }).example(2);
    assert.deepEqual([plain.prompt, plain.messages], ['7? Answer within \\boxed{}: $& 7?', undefined]);
    assert.deepEqual(dataset(path, { ...columns, chat: true }).example(2).messages, [{ role: 'user', content: '7?' }]);
    const system = { role: 'system', content: 'Be brief.' };
    assert.deepEqual(dataset(path, { ...columns, system: 'Be brief.' }).example(2).messages, [
      system,
      { role: 'user', content: '7?' },
    ]);
    const messages = dataset(join(parquet, 'zstd.parquet'), { prompt: 'messages', answer: 'large' }).example(3);
    assert.deepEqual(messages.messages, [system, { role: 'user', content: 'What is 3 + 3?' }]);
    assert.equal(messages.prompt, 'What is 3 + 3?');
    assert.equal(messages.answer, '1152921504606846979');
    const refused: [unknown, RegExp][] = [
      [[], /prompt: expected at least one message/],
      [['hello'], /prompt\[0\]: expected a message: .*got "hello"/],
      [[{ role: 'user' }], /prompt\[0\]\.content: expected a string, got nothing/],
      [[{ role: 'system', content: 'x' }], /prompt: expected at least one user message/],
      [
        [
          { role: 'user', content: 'x' },
          { role: 'assistant', content: 'y' },
        ],
        /expected a last message that is not the assistant/,
      ],
      [true, /prompt: expected a string or chat messages, got true/],
    ];
    for (const [prompt, message] of refused) {
      assert.throws(() => dataset(path, { prompt: () => prompt as never, answer: 'answer' }), { message });
    }
  });

  test('reads several files one after another, of different formats', () => {
    const csv = file('question,answer\neight?,8\n', '.csv');
    const both = dataset([csv, path, csv], columns);
    assert.deepEqual(
      examplesOf(both).map(({ answer }) => answer),
      ['8', 'It is two.\n#### 2', '4', '7', '8'],
    );
    assert.deepEqual(both.files, [csv, path, csv]);
  });

  test('holds out by the prompt only: in every order, format and file, before template and chat', () => {
    const prompts = Array.from({ length: 2000 }, (_, i) => `problem ${i}`);
    const forward = file(prompts.map((prompt) => JSON.stringify({ prompt, answer: '1' })).join('\n'));
    const backward = file(
      `prompt,answer\n${[...prompts]
        .reverse()
        .map((prompt) => `${prompt},2`)
        .join('\n')}`,
      '.csv',
    );
    const part = (from: string, options: DatasetOptions) =>
      examplesOf(dataset(from, options)).map(({ row }) => row.prompt as string);
    const train = part(forward, { split: { part: 'train', holdOut: 0.1 } });
    const heldOut = part(forward, { split: { part: 'held-out', holdOut: 0.1 } });
    assert.deepEqual([...train, ...heldOut].sort(), [...prompts].sort());
    // 200 expected, with a standard deviation of sqrt(2000 * 0.1 * 0.9) = 13.4; five of them.
    assert.ok(Math.abs(heldOut.length - 200) < 68, String(heldOut.length));
    const other = part(backward, { split: { part: 'held-out', holdOut: 0.1 }, template: 'Now: {prompt}', chat: true });
    assert.deepEqual(other.sort(), [...heldOut].sort());
    const more = new Set(part(forward, { split: 'held-out' }));
    assert.ok(heldOut.every((prompt) => more.has(prompt)) && more.size > heldOut.length);
  });

  test('leaves out the rows that the filter rejects', () => {
    const some = dataset<Problem>(path, { ...columns, filter: ({ answer }) => typeof answer === 'string' });
    assert.deepEqual(
      examplesOf(some).map(({ row }) => row.question),
      ['What is 1 + 1?', '7?'],
    );
    assert.throws(() => dataset(path, { ...columns, filter: () => false }), {
      name: 'RangeError',
      message: /expected a row that the filter keeps, got none of 3 rows, of which the filter leaves out 3/,
    });
    assert.throws(() => dataset(path, { ...columns, filter: (() => 1) as never }), {
      message: /jsonl:1: filter: .*boolean, got 1/,
    });
  });

  test('scores by its verifier: a name, a function, a grade', async () => {
    const named = dataset(path, { ...columns, verify: 'gsm8k' });
    assert.equal(await named.score('That is \\boxed{2}.', named.example(0)), 1);
    assert.equal(await named.score('That is \\boxed{3}.', named.example(0)), 0);
    assert.equal('score' in dataset(path, columns), false);
    const own = dataset<Problem>(path, {
      ...columns,
      verify: (text, { row }) => (text === row.question ? 0.5 : text === 'x'),
    });
    assert.deepEqual([await own.score('7?', own.example(2)), await own.score('x', own.example(2))], [0.5, 1]);
    const graded = dataset(path, {
      ...columns,
      verify: (text, { answer }) => verify.maths(text, answer, { tolerance: 0.1 }),
    });
    assert.deepEqual(
      [await graded.score('7.1', graded.example(2)), await graded.score('8', graded.example(2))],
      [1, 0],
    );
    const wrong = dataset(path, { ...columns, verify: () => 2 });
    await assert.rejects(async () => wrong.score('x', wrong.example(0)), {
      name: 'RangeError',
      message: /^verify: .*got 2/,
    });
    assert.throws(() => dataset(path, { prompt: 'question', answer: 'question', verify: 'number' }), {
      name: 'RangeError',
      message: /jsonl:1: answer: expected a number, got "What is 1/,
    });
  });

  test('is rejected with the file, the line, the column, what was expected and what was given', () => {
    const bad = (row: object) => file(`{"question":"q","answer":"a"}\n${JSON.stringify(row)}`);
    const cases: [string, DatasetOptions, RegExp][] = [
      [
        bad({ question: 'q', reply: 'a' }),
        columns,
        /^TypeError: .*jsonl:2: answer: expected the column "answer", got a row with question, reply$/,
      ],
      [
        bad({ question: 'q', answer: '' }),
        columns,
        /^RangeError: .*jsonl:2: answer: expected a non-empty string, got an empty one$/,
      ],
      [
        bad({ question: 'q', answer: null }),
        columns,
        /^TypeError: .*jsonl:2: answer: expected a string or a number, got null$/,
      ],
      [
        bad({ question: 'q', answer: [1] }),
        columns,
        /^TypeError: .*jsonl:2: answer: expected a string or a number, got an array/,
      ],
      [
        file('{"question":"q","answer":12345678901234567890}'),
        columns,
        /^RangeError: .*jsonl:1: answer: .*exact.*write it as a string$/,
      ],
      [
        path,
        { ...columns, difficulty: 'question' },
        /^TypeError: .*jsonl:1: difficulty: expected a number, got "What is 1/,
      ],
      [
        path,
        { ...columns, answer: 'extra.reply' },
        /^TypeError: .*jsonl:1: answer: expected the column "extra.reply", got a row with question, answer, extra$/,
      ],
      [
        path,
        { ...columns, answer: (row) => (row.none as string).trim() },
        /^TypeError: .*jsonl:1: answer: the function of the row failed: Cannot read/,
      ],
      [
        path,
        { ...columns, answer: () => undefined as never },
        /^TypeError: .*jsonl:1: answer: expected a string from the function, got nothing$/,
      ],
      [path, { ...columns, answer: 3 as never }, /^TypeError: answer: expected the name of a column, .*got 3/],
      [path, { ...columns, template: 'no place' }, /^RangeError: template: /],
      [path, { ...columns, system: 'x', chat: false }, /^RangeError: chat: expected true with a system message/],
      [path, { ...columns, split: 'test' as never }, /^RangeError: split: /],
      [path, { ...columns, split: { part: 'train', holdOut: 1 } }, /^RangeError: split.holdOut: .*below 1, got 1/],
      [path, { ...columns, verify: 'math' as never }, /^RangeError: verify: expected one of 'maths'/],
      [path, { ...columns, promt: 'x' } as never, /^TypeError: promt: unknown field/],
      [[] as never, columns, /^RangeError: paths: /],
    ];
    for (const [from, options, message] of cases) {
      assert.throws(
        () => dataset(from, options),
        (error) => message.test(String(error)) || assert.fail(`${message} does not match ${error}`),
      );
    }
  });

  test("identifies a run by the whole file's hash and by the results of columns and functions", () => {
    const identify = (options: DatasetOptions, from: string | string[] = path) =>
      identifyTask({ score: () => 0, ...dataset(from, options) } as Task);
    const source = (options: DatasetOptions, from: string | string[] = path) =>
      sourceOfTask(dataset(from, options)) as Record<string, unknown>;
    const moved = file(readFileSync(path));
    const [one, two] = [source(columns), source(columns, moved)];
    assert.equal(one!.sha256, two!.sha256);
    assert.notEqual(source(columns, file(`${readFileSync(path)}\n`))!.sha256, one!.sha256);
    assert.notDeepEqual(source({ ...columns, filter: (row) => row.answer !== 4 })!.asked, one!.asked);
    assert.notDeepEqual(
      source({ ...columns, answer: () => 'x' })!.asked,
      source({ ...columns, answer: () => 'y' })!.asked,
    );
    assert.notEqual(source(columns, [path, moved])!.sha256, one!.sha256);
    // It is written to a run's config.json, including bigints in rows.
    const wide = identify({ prompt: 'question', answer: 'large' }, join(parquet, 'gzip.parquet'));
    assert.deepEqual(JSON.parse(JSON.stringify(wide)).source, wide.source);
  });

  test('provides the columns, prompts and graders of benchmarks by name', async () => {
    const boxed = " Let's think step by step and output the final answer within \\boxed{}.";
    const cases: [BenchmarkName, object, Partial<Example>, string][] = [
      [
        'gsm8k',
        { question: 'q', answer: 'It is\n#### 1,000' },
        { answer: 'It is\n#### 1,000', solution: 'It is\n#### 1,000' },
        '#### 1000',
      ],
      [
        'math500',
        { problem: 'q', answer: '\\frac12', solution: 's', level: 3, subject: 'A' },
        { solution: 's', difficulty: 3 },
        '\\boxed{0.5}',
      ],
      [
        'math500',
        { problem: 'q', solution: 'so \\boxed{\\frac{1}{2}}', level: 'Level 5' },
        { answer: '\\frac{1}{2}', difficulty: 5 },
        '\\boxed{0.5}',
      ],
      ['aime24', { Problem: 'q', Answer: 33, ID: '1' }, { answer: '33', solution: '33' }, '\\boxed{033}'],
      ['aime25', { question: 'q', answer: '588' }, { answer: '588' }, '\\boxed{588}'],
      ['amc23', { question: 'q', answer: 27.5, id: 1 }, { answer: '27.5' }, '\\boxed{\\frac{55}{2}}'],
      ['minerva', { problem: 'q', solution: 'so \\boxed{4.5e33}' }, { answer: '4.5e33' }, '\\boxed{4.5e33}'],
      [
        'olympiadbench',
        { question: 'q', final_answer: ['2', '3'], solution: ['a', 'b'], difficulty: 'Competition' },
        { answer: '2, 3', difficulty: 0 },
        '\\boxed{2,3}',
      ],
    ];
    for (const [benchmark, row, expected, right] of cases) {
      const task = dataset(file(JSON.stringify(row)), { benchmark });
      const example = task.example(0);
      assert.equal(example.prompt, `q${boxed}`);
      for (const [field, value] of Object.entries(expected))
        assert.equal(example[field as keyof Example], value, benchmark);
      assert.equal(await task.score!(right, example), 1, benchmark);
      assert.equal(await task.score!('\\boxed{1234567}', example), 0, benchmark);
    }
    assert.deepEqual(
      cases.map(([name]) => name).filter((name, i, all) => all.indexOf(name) === i),
      Object.keys(benchmarks),
    );
    const own = dataset(file('{"problem":"q","answer":"a"}'), {
      benchmark: 'math500',
      template: '{prompt}!',
      verify: 'exact',
    });
    assert.equal(own.example(0).prompt, 'q!');
    assert.equal(await own.score!('A', own.example(0)), 0);
    assert.throws(() => dataset(file('{"task":"q","answer":"a"}'), { benchmark: 'aime24' }), {
      message: /jsonl:1: prompt: .*expected one of the columns problem, question, got a row with task, answer/,
    });
    assert.throws(() => dataset(path, { benchmark: 'aime' as never }), { name: 'RangeError', message: /^benchmark: / });
  });

  test('reads the rows of the common copies of benchmarks', async () => {
    const cases: [string, BenchmarkName, object, string][] = [
      ['openai/gsm8k', 'gsm8k', { question: 'q', answer: 'So 2*9=<<2*9=18>>18.\n#### 18' }, '18'],
      [
        'HuggingFaceH4/MATH-500',
        'math500',
        {
          problem: 'q',
          solution: '\\boxed{7}',
          answer: '\\left( 3, 2 \\right)',
          subject: 'Algebra',
          level: 2,
          unique_id: 'a',
        },
        '(3,2)',
      ],
      [
        'MATH',
        'math500',
        { problem: 'q', level: 'Level 5', type: 'Algebra', solution: '1, \\fbox{2} so $\\boxed{5}$.' },
        '5',
      ],
      [
        'HuggingFaceH4/aime_2024',
        'aime24',
        { id: 60, problem: 'q', solution: 'it is $\\boxed{204}$', answer: '204', url: 'u', year: '2024' },
        '204',
      ],
      [
        'AI-MO/aimo-validation-aime',
        'aime24',
        { id: 0, problem: 'q', solution: '\\boxed{116}', answer: '116', url: 'u' },
        '116',
      ],
      ['Maxwell-Jia/AIME_2024', 'aime24', { ID: '2024-I-1', Problem: 'q', Solution: 's', Answer: 73 }, '73'],
      ['math-ai/aime24', 'aime24', { id: 60, problem: 'q', solution: '\\boxed{025}', url: 'u' }, '25'],
      ['math-ai/aime25', 'aime25', { problem: 'q', answer: '70', id: '0' }, '70'],
      ['MathArena/aime_2025', 'aime25', { problem_idx: 1, problem: 'q', answer: 70, problem_type: ['Algebra'] }, '70'],
      ['opencompass/AIME2025', 'aime25', { question: 'q', answer: '588' }, '588'],
      ['AI-MO/aimo-validation-amc', 'amc23', { id: 0, problem: 'q', answer: 142.0, url: 'u' }, '142'],
      ['math-ai/amc23', 'amc23', { id: 0, question: 'q', answer: '27.0', url: 'u' }, '27'],
      ['a suite with lists', 'amc23', { question: 'q', answer: ['27.0'] }, '27'],
      ['Qwen2.5-Math amc23', 'amc23', { id: 0, problem: 'q', answer: 27.0, url: 'u', question: 'q' }, '27'],
      [
        'Minerva',
        'minerva',
        { problem: 'q', solution: '=\\boxed{1.6} \\mathrm{~cm}', type: 'Astronomy', idx: 0 },
        '1.6',
      ],
      ['math-ai/minervamath', 'minerva', { question: 'q', answer: '1.6' }, '1.6'],
      [
        'Hothan/OlympiadBench',
        'olympiadbench',
        {
          id: 1606,
          question: 'q',
          solution: ['long'],
          final_answer: ['$-1$, $2$'],
          context: null,
          image_1: null,
          is_multiple_answer: true,
          unit: null,
          answer_type: 'Numerical',
          subfield: 'Algebra',
          difficulty: 'Competition',
        },
        '2,-1',
      ],
      ['the same in CSV', 'olympiadbench', { question: 'q', final_answer: "['$\\\\frac{1}{2}$']", context: '' }, '0.5'],
      ['prepared by a suite', 'olympiadbench', { problem: 'q', ground_truth: '2' }, '2'],
      ['NeMo-Skills', 'aime25', { id: 'a', problem: 'q', expected_answer: '70' }, '70'],
    ];
    for (const [copy, benchmark, row, right] of cases) {
      const task = dataset(file(JSON.stringify(row)), { benchmark });
      const example = task.example(0);
      assert.match(example.prompt, /^q Let's/, copy);
      assert.equal(await task.score!(`\\boxed{${right}}`, example), 1, `${copy}: ${example.answer}`);
      assert.equal(await task.score!('\\boxed{7}', example), 0, copy);
    }
    // An interval is not a list.
    const interval = dataset(file('{"question":"q","final_answer":"[1, 2]"}'), { benchmark: 'olympiadbench' });
    assert.equal(interval.example(0).answer, '[1, 2]');
  });

  const gsm8k = new URL('../../../shared/data/gsm8k/train.jsonl', import.meta.url).pathname;
  test('reads all of GSM8K and MATH-500, and each answer is right by its own grader', {
    skip: !existsSync(gsm8k) && 'no ../shared/data',
  }, async () => {
    const train = dataset(gsm8k, { prompt: 'question', answer: 'answer', verify: 'gsm8k' });
    assert.equal(train.size, 7473);
    const math = dataset(gsm8k.replace('gsm8k/train', 'math500/test'), {
      prompt: 'problem',
      answer: 'answer',
      difficulty: 'level',
      verify: 'maths',
    });
    assert.equal(math.size, 500);
    for (const task of [train, math]) {
      for (let i = 0; i < 50; i++) {
        const example = task.example(9 * i);
        const own = /#### (.*)/.exec(example.answer)?.[1] ?? example.answer;
        assert.equal(await task.score(`So it is \\boxed{${own}}.`, example), 1, example.answer);
      }
    }
  });
});
