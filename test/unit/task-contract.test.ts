// What every generated task guarantees: the same example for the same seed and index on every machine, no problem in two
// splits, right solutions, and correct sizes.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import test, { describe } from 'node:test';
import { type Task, tasks } from '../../src/index.js';
import { distinctExamples } from '../../src/tasks/index.js';
import { generated } from '../support/tasks.js';

/** The first problems and some later ones. */
const indices = [...Array.from({ length: 300 }, (_, i) => i), 4095, 10 ** 6 + 7, 2 ** 31 - 1];

function digest(task: Task): string {
  const examples = indices.map((index) => task.example(index));
  return createHash('sha256').update(JSON.stringify(examples)).digest('hex').slice(0, 16);
}

// A changed digest means that earlier runs and evaluations can no longer be compared with new ones.
const pinned: Record<string, string> = {
  copy: '2ff4a5b96076ee0c',
  'copy of 32': '85be1bbbcc58b0f3',
  reverse: '555251afa956aa4c',
  sort: '34fe15086f089765',
  addition: '07a7598abd744351',
  'addition of 4 digits': '32c78871aec1142e',
  subtraction: '6735facffb401fbc',
  multiplication: 'e5fd1aad31e65399',
  'multiplication of 4 digits': '17bddf10b0311481',
  chain: 'eca6a661ef21e9ff',
  'chain of 8': '2408bac751e24614',
  countdown: '98f51b2b7c9254b1',
  'countdown with 5': 'de56f4a84c962d78',
  sudoku: '174d3a2f4c36106a',
  'sudoku with 12': '54247cad032aa498',
  bandit: 'd31256a8ca9a4552',
};

test('index i of seed s is always the same example', () => {
  const found = Object.fromEntries(
    Object.entries({ ...generated, bandit: (o: { seed: number }) => tasks.bandit({ ...o, contexts: 50 }) }).map(
      ([name, make]) => [name, digest(make({ seed: 2 ** 40 + 1 }))],
    ),
  );
  assert.deepEqual(found, pinned);
});

for (const [name, make] of Object.entries(generated)) {
  describe(name, () => {
    test('a prompt can be parsed into its problem, other texts cannot', () => {
      const task = make({ seed: 5 });
      for (let i = 0; i < 200; i++) {
        const example = task.example(i);
        const parsed = task.parse!(example.prompt)!;
        // Countdown has several answers, so another one may be found.
        if (!name.startsWith('countdown')) assert.deepEqual(parsed, example);
        else assert.deepEqual({ ...parsed, answer: '', solution: '' }, { ...example, answer: '', solution: '' });
        assert.equal(task.score(parsed.solution, parsed), 1);
        assert.equal(task.score(parsed.answer, example), 1);
        if (task.readAnswer) assert.equal(task.readAnswer(example.solution), task.readAnswer(example.answer));
        for (const other of [
          example.prompt.slice(0, -1),
          `${example.prompt}=`,
          ` ${example.prompt}`,
          example.solution,
        ]) {
          assert.equal(task.parse!(other), undefined, other);
        }
      }
      assert.equal(task.parse!(''), undefined);
      assert.equal(task.notation === undefined, task.readAnswer === undefined);
    });

    test('an example depends on the seed, but not on the order in which examples are requested', () => {
      const some = [0, 1, 7, 1000, 2 ** 31 - 1];
      const task = make({ seed: 3 });
      const backwards = [...some].reverse().map((index) => make({ seed: 3 }).example(index));
      assert.deepEqual(
        some.map((index) => task.example(index)),
        backwards.reverse(),
      );
      const prompts = (seed: number) => Array.from({ length: 20 }, (_, i) => make({ seed }).example(i).prompt);
      assert.notDeepEqual(prompts(3), prompts(4));
      assert.notDeepEqual(prompts(3), prompts(3 + 2 ** 32));
    });

    test('solutions and answers score 1, within the characters and lengths that the task states', () => {
      const task = make({ seed: 1 });
      const characters = new Set(task.characters);
      assert.ok(characters.size <= 64 && characters.size === task.characters.length);
      for (const index of indices) {
        const example = task.example(index);
        const { prompt, answer, solution, difficulty } = example;
        assert.equal(task.score(answer, example), 1, prompt);
        assert.equal(task.score(solution, example), 1, prompt);
        assert.ok(prompt.length <= task.maxPromptLength, prompt);
        assert.ok(solution.length <= task.maxSolutionLength, solution);
        assert.ok([...prompt, ...solution].every((character) => characters.has(character)));
        assert.ok(Number.isSafeInteger(difficulty) && difficulty > 0);
      }
    });

    test('no prompt of one split is in the other, whatever the seeds', () => {
      const prompts = (seed: number, split: 'train' | 'held-out') =>
        indices.map((index) => make({ seed, split }).example(index).prompt);
      const train = new Set([...prompts(1, 'train'), ...prompts(2, 'train')]);
      const heldOut = new Set([...prompts(1, 'held-out'), ...prompts(5, 'held-out')]);
      assert.deepEqual(
        [...heldOut].filter((prompt) => train.has(prompt)),
        [],
      );
      assert.deepEqual(
        new Set(indices.map((index) => make({ seed: 1 }).example(index).prompt)),
        new Set(prompts(1, 'train')),
      );
    });

    test('a size ends the list and does not change any example', () => {
      const [endless, finite] = [make({ seed: 1 }), make({ seed: 1, size: 5 })];
      assert.equal(endless.size, undefined);
      assert.equal(finite.size, 5);
      assert.deepEqual(finite.example(4), endless.example(4));
      assert.throws(() => finite.example(5), { name: 'RangeError', message: /^index: .*at most 4, got 5/ });
      for (const index of [-1, 0.5, 2 ** 31, Number.NaN]) {
        assert.throws(() => endless.example(index), { name: 'RangeError', message: /^index/ });
      }
    });

    test('the scorer rejects every form of the answer with additions', () => {
      const task = make({ seed: 1 });
      for (let index = 0; index < 50; index++) {
        const example = task.example(index);
        const { prompt, answer } = example;
        for (const text of disguises(prompt, answer)) {
          assert.equal(task.score(text, example), 0, `${prompt} ${JSON.stringify(text)}`);
        }
      }
    });
  });
}

/** The answer with additions, and texts that only resemble it. */
function disguises(prompt: string, answer: string): string[] {
  const around = [
    '\n',
    '\r',
    '\t',
    ' ',
    '\u00a0',
    '\u200b',
    '\ufeff',
    '\u0000',
    '=',
    '.',
    ';',
    ',',
    '?',
    '!',
    '\u0301',
  ];
  const wide = [...answer].map((c) => String.fromCodePoint(c.charCodeAt(0) + 0xfee0)).join('');
  return [
    ...around.flatMap((extra) => [answer + extra, extra + answer, `${answer}${extra}${answer}`]),
    ...['the answer is ', 'answer:', '\\boxed{', '<answer>', '"', prompt].flatMap((word) => [
      word + answer,
      answer + word,
    ]),
    '',
    ' ',
    prompt,
    answer + answer,
    answer.slice(0, -1),
    `${answer}#${answer}#${answer}`,
    wide,
    answer.replace(/./u, (c) => String.fromCodePoint(c.charCodeAt(0) + 0xfee0)),
    answer.replace(/\d/g, (d) => String.fromCodePoint(0x0660 + Number(d))).replace(/[a-z]/, 'а'),
    'example.answer',
    '[object Object]',
    'true',
  ].filter((text) => text !== answer);
}

test('invalid options are rejected by name', () => {
  const seed = 1;
  const cases: [() => unknown, RegExp][] = [
    [() => tasks.copy({ seed, length: 0 }), /^RangeError: length: .*got 0/],
    [() => tasks.copy({ seed, length: [1, 33] }), /^RangeError: length\[1\]/],
    [() => tasks.copy({ seed, length: [5, 4] }), /^RangeError: length\[1\]: .*at least 5/],
    [() => tasks.copy({ seed, length: [1] as never }), /^RangeError: length: .*got 1 values/],
    [() => tasks.copy({ seed, length: '3' as never }), /^TypeError: length: .*got "3"/],
    [() => tasks.copy({} as never), /^TypeError: seed: .*got nothing/],
    [() => tasks.copy({ seed: -1 }), /^RangeError: seed/],
    [() => tasks.copy({ seed, size: 0 }), /^RangeError: size/],
    [() => tasks.copy({ seed, split: 'test' as never }), /^RangeError: split: expected one of 'train', 'held-out'/],
    [() => tasks.copy({ seed, lenght: 3 } as never), /^TypeError: lenght: unknown field/],
    [() => tasks.copy(3 as never), /^TypeError: options: expected an object, got 3/],
    [() => tasks.addition({ seed, digits: 5 }), /^RangeError: digits/],
    [() => tasks.multiplication({ seed, digits: [0, 2] }), /^RangeError: digits\[0\]/],
    [() => tasks.chain({ seed, terms: 1 }), /^RangeError: terms/],
    [() => tasks.chain({ seed, digits: 3 }), /^RangeError: digits/],
    [() => tasks.countdown({ seed, numbers: 6 }), /^RangeError: numbers/],
    [() => tasks.countdown({ seed, maxNumber: 100 }), /^RangeError: maxNumber/],
    [() => tasks.countdown({ seed, maxTarget: 9 }), /^RangeError: maxTarget/],
    [() => tasks.sudoku({ seed, blanks: 13 }), /^RangeError: blanks/],
    [() => tasks.bandit({ seed, arms: 51 }), /^RangeError: arms/],
    [() => tasks.bandit({ seed, contexts: 0 }), /^RangeError: contexts/],
    [() => tasks.bandit({ seed, probabilities: [] }), /^RangeError: probabilities: expected 1 to 100 values, got 0/],
    [() => tasks.bandit({ seed, probabilities: [0.5, 0.03] }), /^RangeError: probabilities\[1\]: .*1\/50, got 0.03/],
    [() => tasks.bandit({ seed, probabilities: [0] }), /^RangeError: probabilities\[0\]/],
    [() => tasks.bandit({ seed, probabilities: 0.5 as never }), /^TypeError: probabilities/],
    [() => tasks.bandit({ seed, split: 'train' } as never), /^TypeError: split: unknown field/],
  ];
  for (const [make, message] of cases) {
    assert.throws(make, (error) => message.test(String(error)) || assert.fail(`${message} does not match ${error}`));
  }
});

test('distinctExamples returns different problems, and says if there are not enough', () => {
  const task = tasks.addition({ digits: [1, 1], seed: 1 });
  const prompts = distinctExamples(task, 60).map(({ prompt }) => prompt);
  assert.equal(new Set(prompts).size, 60);
  assert.throws(() => distinctExamples(task, 101), { name: 'RangeError', message: /^count/ });
  assert.throws(() => distinctExamples(tasks.addition({ seed: 1, size: 4 }), 5), {
    message: /^count: .*at most the 4/,
  });
});
