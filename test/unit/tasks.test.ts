// Tasks: the same example for the same index, no problem in two splits, and a scorer that cannot be talked round.

import assert from 'node:assert/strict';
import test, { describe } from 'node:test';
import { characterVocabulary } from '../../src/policy/vocabulary.js';
import { addition, distinctExamples } from '../../src/tasks/index.js';

function operands(prompt: string): [number, number] {
  const match = /^(0|[1-9]\d*)\+(0|[1-9]\d*)=$/.exec(prompt);
  assert.ok(match, prompt);
  return [Number(match[1]), Number(match[2])];
}

describe('addition', () => {
  test('an index and a seed name one example', () => {
    const [first, second] = [addition({ seed: 3 }), addition({ seed: 3 })];
    const indices = [0, 1, 1000, 2 ** 31 - 1];
    const backwards = [...indices].reverse().map((index) => second.example(index));
    assert.deepEqual(
      indices.map((index) => first.example(index)),
      backwards.reverse(),
    );
    const prompts = (seed: number) => Array.from({ length: 20 }, (_, i) => addition({ seed }).example(i).prompt);
    assert.notDeepEqual(prompts(3), prompts(4));
  });

  test('answers are sums from the last digit on, within the characters and lengths that the task states', () => {
    for (const digits of [
      [1, 4],
      [1, 1],
      [2, 3],
    ] as const) {
      const task = addition({ digits, seed: 1 });
      const counts = new Set<number>();
      for (let index = 0; index < 300; index++) {
        const { prompt, answer, solution } = task.example(index);
        const [a, b] = operands(prompt);
        assert.equal(Number([...answer].reverse().join('')), a + b);
        assert.equal(solution, answer);
        assert.ok(prompt.length <= task.maxPromptLength && solution.length <= task.maxSolutionLength);
        assert.ok([...prompt, ...solution].every((character) => task.characters.includes(character)));
        counts.add(String(a).length).add(String(b).length);
      }
      const [fewest, most] = digits;
      assert.deepEqual(
        [...counts].sort(),
        Array.from({ length: most - fewest + 1 }, (_, i) => fewest + i),
      );
    }
  });

  test('difficulty counts columns and carries', () => {
    const task = addition({ digits: [1, 2], seed: 1 });
    const known = new Map(distinctExamples(task, 3000).map(({ prompt, difficulty }) => [prompt, difficulty]));
    const expected: [string, number][] = [
      ['0+0=', 1],
      ['4+5=', 1],
      ['5+5=', 2],
      ['12+34=', 2],
      ['19+1=', 3],
      ['57+68=', 4],
    ];
    const present = expected.filter(([prompt]) => known.has(prompt));
    assert.ok(present.length >= 3, 'enough of the expected problems are drawn');
    for (const [prompt, difficulty] of present) assert.equal(known.get(prompt), difficulty, prompt);
  });

  test('held-out problems are never training problems, whatever the seeds and the order of the operands', () => {
    const key = (prompt: string) =>
      operands(prompt)
        .sort((a, b) => a - b)
        .join('+');
    const keys = (seed: number, split: 'train' | 'held-out', digits: [number, number]) =>
      Array.from({ length: 3000 }, (_, i) => key(addition({ digits, seed, split }).example(i).prompt));
    const train = new Set([...keys(1, 'train', [1, 2]), ...keys(2, 'train', [2, 2])]);
    const heldOut = new Set([...keys(3, 'held-out', [1, 2]), ...keys(1, 'held-out', [2, 2])]);
    assert.ok(train.size > 1000 && heldOut.size > 300);
    assert.deepEqual(
      [...heldOut].filter((problem) => train.has(problem)),
      [],
    );
  });

  test('the scorer gives 1 to the answer alone', () => {
    const task = addition({ seed: 1 });
    const example = { prompt: '57+68=', answer: '521', solution: '521', difficulty: 4 };
    assert.equal(task.score('521', example), 1);
    const wrong = ['', '125', '522', '5210', '0521', '521 ', ' 521', '521\n', '521=', '521521', '521+', '+521', '=521'];
    const sly = ['520+1', '57+68', '521.0', '5.21e2', '0x209', 'example.answer', '521;', '52', '５２１'];
    for (const text of [...wrong, ...sly]) assert.equal(task.score(text, example), 0, JSON.stringify(text));
  });

  test('impossible options and indices are refused by name', () => {
    assert.throws(() => addition({ digits: [0, 2], seed: 1 }), { name: 'RangeError', message: /^digits\[0\]/ });
    assert.throws(() => addition({ digits: [2, 1], seed: 1 }), { name: 'RangeError', message: /^digits\[1\]/ });
    assert.throws(() => addition({ digits: [1, 5], seed: 1 }), { name: 'RangeError', message: /^digits\[1\]/ });
    assert.throws(() => addition({ seed: 1.5 }), { name: 'RangeError', message: /^seed/ });
    assert.throws(() => addition({ seed: 1 }).example(-1), { name: 'RangeError', message: /^index/ });
  });
});

test('distinctExamples gives different problems, and says when there are not so many', () => {
  const task = addition({ digits: [1, 1], seed: 1 });
  const prompts = distinctExamples(task, 60).map(({ prompt }) => prompt);
  assert.equal(new Set(prompts).size, 60);
  assert.throws(() => distinctExamples(task, 101), { name: 'RangeError', message: /^count/ });
});

describe('characterVocabulary', () => {
  test('text survives encoding and decoding, and the end token ends it', () => {
    const vocabulary = characterVocabulary('0123456789+=');
    assert.equal(vocabulary.size, 13);
    const tokens = vocabulary.encode('12+34=');
    assert.equal(vocabulary.decode(tokens), '12+34=');
    assert.equal(vocabulary.decode(Int32Array.of(...tokens.subarray(0, 2), vocabulary.end, ...tokens)), '12');
  });

  test('foreign and repeated characters are refused', () => {
    assert.throws(() => characterVocabulary('01').encode('012'), { name: 'RangeError', message: /^text/ });
    assert.throws(() => characterVocabulary('010'), { name: 'RangeError', message: /^characters/ });
  });
});
