// The graders: verdicts reasoned by hand, answers of public benchmarks compared with themselves and each other, hostile
// completions, and the worker threads.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { verify } from 'groupgrad';
import { typescript } from '../support/native.js';
import { repeats, slowSet } from '../support/sets.js';

const read = (path: string) =>
  readFileSync(new URL(path, import.meta.url), 'utf8')
    .trimEnd()
    .split('\n');
const cases = read('verify-cases.tsv')
  .slice(1)
  .map((line) => line.split('\t'))
  .map(([gold, completion, right, why]) => ({ gold, completion, right: right === 'yes', why }));

const data = new URL('../../../shared/data/', import.meta.url);
/** One answer per row of a JSON-lines file; undefined if the files are missing. */
function answers(path: string): string[] | undefined {
  const file = new URL(path, data);
  return existsSync(file)
    ? readFileSync(file, 'utf8')
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line).answer)
    : undefined;
}
const math500 = answers('math500/test.jsonl');
const gsm8k = answers('gsm8k/test.jsonl');
const skip = math500 && gsm8k ? false : '../shared/data is missing';

describe('verify.maths', () => {
  test('gives every case the expected verdict', async () => {
    const found = await Promise.all(cases.map(({ completion, gold }) => verify.maths(completion, gold)));
    const wrong = cases.flatMap((one, i) => (found[i].correct === one.right ? [] : [{ ...one, found: found[i] }]));
    assert.deepEqual(wrong, []);
    assert.ok(cases.length >= 200 && cases.filter(({ right }) => !right).length >= cases.length / 3);
  });

  test('the file of cases contains each pair once', () => {
    const pairs = cases.map(({ gold, completion }) => `${gold}\t${completion}`);
    assert.deepEqual(
      pairs.filter((pair, i) => pairs.indexOf(pair) !== i),
      [],
    );
  });

  test('accepts every answer of MATH-500, boxed and as written', { skip }, async () => {
    const graded = await Promise.all(
      math500!.flatMap((answer) => [
        verify.maths(`So it is $\\boxed{${answer}}$.`, answer),
        verify.maths(answer, answer),
      ]),
    );
    assert.deepEqual(
      graded.filter(({ correct }) => !correct),
      [],
    );
  });

  test('accepts every answer of GSM8K, boxed, after its mark and in the solution', { skip }, async () => {
    const graded = await Promise.all(
      gsm8k!.flatMap((solution) => {
        const answer = solution.split('####').at(-1)!.trim();
        return [
          verify.gsm8k(solution, solution),
          verify.gsm8k(`\\boxed{${answer}}`, solution),
          verify.gsm8k(answer, solution),
          verify.maths(solution, answer),
          verify.maths(`\\boxed{${answer}}`, answer),
        ];
      }),
    );
    assert.deepEqual(
      graded.filter(({ correct }) => !correct),
      [],
    );
  });

  const batches = repeats(10, 100);
  test(`accepts no other problem's answer, in ${batches},000 pairs`, { skip }, async () => {
    const all = [...new Set([...math500!, ...gsm8k!.map((solution) => solution.split('####').at(-1)!.trim())])];
    // Every pair is drawn by a fixed generator; equal numbers count as equal in any spelling.
    let state = 15;
    const draw = (n: number) => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return Math.floor((state / 2 ** 32) * n);
    };
    const accepted = new Set<string>();
    for (let batch = 0; batch < batches; batch++) {
      const pairs = Array.from({ length: 1_000 }, () => [all[draw(all.length)], all[draw(all.length)]]).filter(
        ([a, b]) => a !== b,
      );
      const graded = await Promise.all(pairs.map(([gold, other]) => verify.maths(`\\boxed{${other}}`, gold)));
      for (const [i, { correct }] of graded.entries()) if (correct) accepted.add(pairs[i].join(' | '));
    }
    assert.deepEqual(
      [...accepted].filter((pair) => !known.has(pair) && !known.has(pair.split(' | ').reverse().join(' | '))),
      [],
    );
  });

  test('accepts a number within the requested tolerance', async () => {
    assert.equal((await verify.maths('\\boxed{3.14}', '\\pi', { tolerance: 0.001 })).correct, true);
    assert.equal((await verify.maths('\\boxed{3.1}', '\\pi', { tolerance: 0.001 })).correct, false);
    assert.equal((await verify.maths('\\boxed{6366}', '6366.2', { tolerance: 1e-4 })).correct, true);
    assert.equal((await verify.number('6367', '6366.2', { tolerance: 1e-4 })).correct, false);
  });

  test('extracts the answer from a solution given as gold', async () => {
    assert.equal((await verify.maths('\\boxed{5}', 'Because … \\boxed{5}.')).correct, true);
    assert.equal((await verify.maths('\\boxed{5}', 'Because … #### 5')).correct, true);
  });

  test('rejects arguments of the wrong type, by name', async () => {
    await assert.rejects(verify.maths(5 as never, '5'), /^TypeError: completion: expected a string, got 5$/);
    await assert.rejects(verify.maths('5', 5 as never), /^TypeError: gold: expected a string, got 5$/);
    await assert.rejects(verify.maths('5', '5', { timelimit: 5 } as never), /options\.timelimit: unknown field/);
    await assert.rejects(verify.maths('5', '5', { timeLimit: 0 }), RangeError);
    await assert.rejects(verify.maths('5', '5', { tolerance: 1 }), RangeError);
    await assert.rejects(verify.number('5', 'five'), /^RangeError: gold: expected a number, got "five"$/);
    assert.deepEqual(await verify.maths('55555', '55555', { maxLength: 4 }), {
      correct: false,
      extracted: null,
      reason: 'the completion is longer than 4',
    });
  });
});

/** Answers of different problems that are equal. */
const known = new Set([
  '75^\\circ | 75',
  '30 | 30^\\circ',
  '36 | \\$36',
  'x=5 | 5',
  '1,-2 | -2,1',
  '145^\\circ | 145',
  '1,600 | 1600',
  '90 | 90^\\circ',
  '106^\\circ | 106',
  '15 | 15\\mbox{ cm}^2',
]);

describe('hostile completions', () => {
  const n = 50_000;
  const hostile: Record<string, string> = {
    brackets: `\\boxed{${'('.repeat(n)}1${')'.repeat(n)}}`,
    braces: `\\boxed${'{'.repeat(n)}1${'}'.repeat(n)}`,
    'open boxes': '\\boxed{'.repeat(n),
    'fifty brackets': `\\boxed{${'('.repeat(50)}x${')'.repeat(50)}}`,
    'a tower of exponents': '\\boxed{9^{9^{9^{9^{9^9}}}}}',
    'a tower of e': `\\boxed{${'e^{'.repeat(50)}x${'}'.repeat(50)}}`,
    'a power of a polynomial': '\\boxed{(x+1)^{999999999999}}',
    'a power of a root': '\\boxed{\\sqrt{2}^{999999999}}',
    'a sum of 10^9 terms': '\\boxed{\\sum_{k=1}^{1000000000}\\frac{1}{k}}',
    'a factorial of factorials': '\\boxed{((((9!)!)!)!)!}',
    'a large binomial': '\\boxed{\\binom{999999999}{499999999}}',
    digits: `\\boxed{${'7'.repeat(200_000)}}`,
    'bare digits': '7'.repeat(200_000),
    'a large exponent of ten': '\\boxed{1e999999}',
    'null bytes': '\\boxed{x^2\0}',
    'lone surrogates': '\\boxed{\ud800\udc00\ud800}',
    letters: 'x'.repeat(1_000_000),
    numbers: '1 '.repeat(500_000),
    dollars: '$1 '.repeat(330_000),
    backslashes: '\\'.repeat(1_000_000),
    spaces: `Answer: 1${' '.repeat(1_000_000)}2`,
    'spaces in a box': `\\boxed{1${' '.repeat(900_000)}2}`,
    dots: `1${'.'.repeat(1_000_000)}`,
    stars: `Answer: ${'* '.repeat(500_000)}1`,
    answers: 'answer '.repeat(140_000),
    'nested texts': `\\boxed{${'\\text{'.repeat(20_000)}${'}'.repeat(20_000)}}`,
    separators: `\\boxed{1${',\\!111'.repeat(100_000)}}`,
    functions: `\\boxed{${Array.from({ length: 180 }, (_, i) => `\\sin(${i}x)`).join('+')}}`,
    roots: `\\boxed{${'\\sqrt{2+'.repeat(50)}x${'}'.repeat(50)}}`,
    signs: `\\boxed{${'\\pm'.repeat(600)} x}`,
    'a long list': `\\boxed{${Array.from({ length: 300 }, (_, i) => `x+${i}`).join(',')}}`,
  };
  const gold = 'x^2+\\sqrt{2}';

  test('are rejected well within the limit, by every grader', async () => {
    await verify.maths('\\boxed{\\sqrt{8}}', '2\\sqrt2');
    for (const [name, completion] of Object.entries(hostile)) {
      const start = process.cpuUsage().user;
      const graded = [
        await verify.maths(completion, gold),
        await verify.maths(completion, Array.from({ length: 300 }, (_, i) => `2x-x+${299 - i}+y`).join(',')),
        await verify.gsm8k(completion, '5'),
        await verify.choice(completion, 'B'),
        await verify.exact(completion, '5'),
      ];
      assert.ok(
        graded.every(({ correct }) => !correct),
        name,
      );
      assert.ok(
        graded.every(({ extracted }) => (extracted?.length ?? 0) <= 201),
        name,
      );
      // Processor time, which does not depend on the load of the machine.
      const seconds = (process.cpuUsage().user - start) / 1e6;
      assert.ok(seconds < 5, `${name}: ${seconds} s`);
    }
  });

  test('are limited by work, not by time: the verdict is the same with hardly any time', async () => {
    const graded = await Promise.all([1, 2, 3].map(() => verify.maths(hostile.functions, gold)));
    assert.equal(new Set(graded.map(({ reason }) => reason)).size, 1);
    assert.doesNotMatch(graded[0].reason, /ms/);
  });

  test('a pattern that hangs is stopped, and other calls are still answered', async () => {
    const [hung, fine] = await Promise.all([
      verify.regex(`${'a'.repeat(60)}b`, /^(a+)+$/, { timeLimit: 300 }),
      verify.maths('\\boxed{\\sqrt{8}}', '2\\sqrt2'),
    ]);
    assert.deepEqual([hung.correct, hung.reason], [false, 'no verdict within 300 ms']);
    assert.equal(fine.correct, true);
    assert.equal((await verify.regex('aaa', /^(a+)+$/)).correct, true);
  });

  const skip = slowSet('fills the memory of a worker');
  test('a worker that needs too much memory is stopped, and replaced', { skip }, async () => {
    const large = `[${'{},'.repeat(2_500_000)}{}]`;
    const graded = await verify.json(large, { type: 'array' }, { maxLength: 20_000_000, timeLimit: 120_000 });
    assert.deepEqual([graded.correct, graded.reason], [false, 'the memory limit has been reached']);
    assert.equal((await verify.json('[]', { type: 'array' })).correct, true);
  });
});

describe('workers', () => {
  const root = fileURLToPath(new URL('../../', import.meta.url));
  const run = (script: string) =>
    spawnSync(process.execPath, [...typescript, '--input-type=module', '-e', script], {
      cwd: root,
      encoding: 'utf8',
      timeout: 60_000,
    });

  test('none starts for answers that are equal as text or as a number, and none keeps the process alive', () => {
    const script = `
      import { verify } from 'groupgrad';
      import { syncBuiltinESMExports } from 'node:module';
      import threads from 'node:worker_threads';
      const quick = await Promise.all([verify.maths('\\\\boxed{0.25}', '1/4'), verify.maths('\\\\boxed{x+1}', 'x+1'), verify.maths('5', '6'), verify.gsm8k('#### 5', '5')]);
      const before = process.getActiveResourcesInfo().filter((name) => /worker|MessagePort/i.test(name)).length;
      const slow = await verify.maths('\\\\boxed{1+x}', 'x+1');
      const verdicts = [...quick, slow].map(({ correct }) => correct);
      console.log(JSON.stringify({ verdicts, before }));
    `;
    const { stdout, status, stderr } = run(script);
    assert.equal(status, 0, stderr);
    assert.deepEqual(JSON.parse(stdout), { verdicts: [true, true, false, true, true], before: 0 });
  });
});

describe('verify.choice', () => {
  const choices = ['Rome', 'Paris', 'the letter A', 'Oslo'];
  const table: [completion: string, gold: string, right: boolean, choices?: string[]][] = [
    ['B', 'B', true],
    ['The answer is (B).', 'B', true],
    ['The answer is (B).', 'C', false],
    ['**Answer: B**', 'B', true],
    ['Answer: (b)', 'B', true],
    ['\\boxed{\\text{(B)}}', 'B', true],
    ['\\boxed{B}', '(B)', true],
    ['\\boxed{\\textbf{(B)}\\ 5}', 'B', true],
    ['I considered A and C, but the correct option is B', 'B', true],
    ['A is wrong. The correct answer is: C', 'C', true],
    ['The answer is A or B', 'A', false],
    ['\\boxed{A, B}', 'A', false],
    ['\\boxed{A \\text{ or } B}', 'A', false],
    ['Because it is a city', 'A', false],
    ['', 'A', false],
    ['\\boxed{}', 'A', false],
    ['\\boxed{Paris}', 'B', true, choices],
    ['\\boxed{paris}', 'Paris', true, choices],
    ['\\boxed{B. Paris}', 'B', true, choices],
    ['\\boxed{A. Paris}', 'A', false, choices],
    ['\\boxed{A. Paris}', 'B', false, choices],
    ['\\boxed{the letter A}', 'C', true, choices],
    ['\\boxed{the letter A}', 'A', false, choices],
    ['\\boxed{E}', 'B', false, choices],
    ['Madrid', 'B', false, choices],
    ['Paris', 'B', true, choices],
  ];
  for (const [completion, gold, right, texts] of table) {
    test(`${JSON.stringify(completion)} for ${gold} is ${right ? 'right' : 'wrong'}`, async () => {
      const graded = await verify.choice(completion, gold, texts ? { choices: texts } : {});
      assert.equal(graded.correct, right, graded.reason);
    });
  }

  test('requires a gold among the choices', async () => {
    await assert.rejects(
      verify.choice('A', 'Madrid', { choices }),
      /gold: expected a letter from A to D, or one of the choices, got "Madrid"/,
    );
    await assert.rejects(verify.choice('A', 'E', { choices }), RangeError);
    await assert.rejects(verify.choice('A', ''), RangeError);
  });
});

describe('verify.exact', () => {
  test('compares the marked answer, or the whole completion, exactly', async () => {
    const grade = async (...args: Parameters<typeof verify.exact>) => (await verify.exact(...args)).correct;
    assert.equal(await grade('Answer: cab', 'cab'), true);
    assert.equal(await grade(' cab\n', 'cab'), true);
    assert.equal(await grade('Cab', 'cab'), false);
    assert.equal(await grade('Cab', 'cab', { caseSensitive: false }), true);
    assert.equal(await grade('cab!', 'cab'), false);
    assert.equal(await grade('', ''), false);
    assert.equal(await grade('e\u0301', '\u00e9'), true);
  });
});

describe('verify.regex', () => {
  test('matches anywhere, unless anchored, and never an empty completion', async () => {
    const grade = async (...args: Parameters<typeof verify.regex>) => (await verify.regex(...args)).correct;
    assert.equal(await grade('abc 12', /\d+/), true);
    assert.equal(await grade('abc 12', '^\\d+$'), false);
    assert.equal(await grade('', /.*/), false);
    await assert.rejects(verify.regex('a', '('), /^RangeError: pattern: expected a regular expression/);
    await assert.rejects(verify.regex('a', 5 as never), TypeError);
  });
});

describe('verify.json', () => {
  const grade = async (completion: string, schema: Parameters<typeof verify.json>[1]) =>
    (await verify.json(completion, schema)).correct;

  test('reads bare JSON, or the last fenced block', async () => {
    assert.equal(await grade('[1]', { type: 'array' }), true);
    assert.equal(await grade('Here:\n```json\n{"a": 1}\n```\nDone.', { required: ['a'] }), true);
    assert.equal(await grade('Here: [1]', true), false);
    assert.equal(await grade('', true), false);
  });

  test('applies each keyword as the standard defines it', async () => {
    const table: [Parameters<typeof verify.json>[1], valid: unknown[], invalid: unknown[]][] = [
      [{ type: 'integer' }, [1, 1.0, -3], [1.5, '1', null]],
      [{ type: ['string', 'null'] }, ['a', null], [1, []]],
      [{ enum: [1, { a: [2] }] }, [1, { a: [2] }], [2, { a: [3] }, { a: [2], b: 1 }]],
      [{ const: null }, [null], [0, false]],
      [{ minimum: 1, exclusiveMaximum: 3 }, [1, 2.9, 'x'], [0, 3]],
      [{ maximum: 3, exclusiveMinimum: 1 }, [1.1, 3], [1, 3.1]],
      [{ multipleOf: 0.1 }, [0.3, 7, 0], [0.35]],
      [{ minLength: 2, maxLength: 3 }, ['ab', '😀😀😀', 5], ['a', 'abcd', '😀']],
      [{ pattern: '^a' }, ['ab', 1], ['ba']],
      [
        { minItems: 1, maxItems: 2, uniqueItems: true },
        [[1], [1, '1']],
        [
          [],
          [1, 2, 3],
          [
            { a: 1, b: 2 },
            { b: 2, a: 1 },
          ],
        ],
      ],
      [{ prefixItems: [{ type: 'string' }], items: { type: 'number' } }, [['a', 1, 2], []], [[1], ['a', 'b']]],
      [{ contains: { const: 5 } }, [[1, 5]], [[], [1]]],
      [{ required: ['a'], minProperties: 1, maxProperties: 2 }, [{ a: 1 }], [{}, { b: 1 }, { a: 1, b: 2, c: 3 }]],
      [
        { properties: { a: { type: 'string' } }, additionalProperties: false },
        [{}, { a: 'x' }],
        [{ a: 1 }, { a: 'x', b: 1 }, { toString: 1 }],
      ],
      [{ propertyNames: { maxLength: 1 } }, [{ a: 1 }], [{ ab: 1 }]],
      [{ allOf: [{ minimum: 1 }, { maximum: 2 }] }, [1, 2], [0, 3]],
      [{ anyOf: [{ type: 'string' }, { minimum: 5 }] }, ['a', 5], [4]],
      [{ oneOf: [{ minimum: 1 }, { maximum: 2 }] }, [0, 3], [1, 2]],
      [{ not: { type: 'null' } }, [0], [null]],
      [false, [], [1]],
    ];
    for (const [schema, valid, invalid] of table) {
      for (const value of valid)
        assert.equal(
          await grade(JSON.stringify(value), schema),
          true,
          `${JSON.stringify(value)} by ${JSON.stringify(schema)}`,
        );
      for (const value of invalid)
        assert.equal(
          await grade(JSON.stringify(value), schema),
          false,
          `${JSON.stringify(value)} by ${JSON.stringify(schema)}`,
        );
    }
  });

  test('rejects a schema with keywords that it does not support', async () => {
    await assert.rejects(
      verify.json('1', { properties: { a: { format: 'date' } } }),
      /schema\.properties\.a\.format: unknown keyword/,
    );
    await assert.rejects(verify.json('1', { type: 'float' }), /schema\.type: expected one of null/);
    await assert.rejects(verify.json('1', { pattern: '(' }), RangeError);
    await assert.rejects(verify.json('1', null as never), TypeError);
  });
});
