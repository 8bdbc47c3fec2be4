// Each task: its problems are as described, and its scorer cannot be tricked.

import assert from 'node:assert/strict';
import test, { describe } from 'node:test';
import { readExpression } from '../../src/tasks/expression.js';
import { type CountdownExample, type Example, type Task, tasks } from '../../src/tasks/index.js';
import { characterVocabulary } from '../../src/text/vocabulary.js';

function examples<E extends Example>(task: Task<E>, count = 300): E[] {
  return Array.from({ length: count }, (_, i) => task.example(i));
}

function reversed(text: string): string {
  return [...text].reverse().join('');
}

/** The two numbers of a prompt such as "12+34=", without leading zeros. */
function operands(prompt: string, operator: string): [number, number] {
  const match = /^(0|[1-9]\d*)(\D)(0|[1-9]\d*)=$/.exec(prompt);
  assert.ok(match && match[2] === operator, prompt);
  return [Number(match[1]), Number(match[3])];
}

/** Every value of a list occurs. */
function assertCovers(found: Iterable<number>, expected: readonly number[]): void {
  assert.deepEqual(
    [...new Set(found)].sort((a, b) => a - b),
    expected,
  );
}

const upTo = (first: number, last: number) => Array.from({ length: last - first + 1 }, (_, i) => first + i);

describe('letters', () => {
  test('copying, reversing and sorting', () => {
    const word = ({ prompt }: Example) => prompt.slice(0, -1);
    for (const e of examples(tasks.copy({ seed: 1 }))) assert.equal(e.answer, word(e));
    for (const e of examples(tasks.reverse({ seed: 1 }))) assert.equal(reversed(e.answer), word(e));
    for (const e of examples(tasks.sort({ seed: 1 }))) {
      assert.deepEqual([...word(e)].sort(), [...e.answer]);
    }
  });

  test('every length occurs, and is the difficulty', () => {
    const drawn = examples(tasks.copy({ seed: 1, length: [3, 7] }));
    assertCovers(
      drawn.map(({ difficulty }) => difficulty),
      upTo(3, 7),
    );
    for (const { prompt, difficulty } of drawn) assert.equal(prompt.length, difficulty + 1);
  });

  test('orderings of the same letters, and a word and its reverse, are never in different splits', () => {
    const words = (make: typeof tasks.sort, split: 'train' | 'held-out') =>
      examples(make({ seed: 1, length: 3, split }), 3000).map(({ prompt }) => prompt.slice(0, -1));
    const letters = (word: string) => [...word].sort().join('');
    const trained = new Set(words(tasks.sort, 'train').map(letters));
    assert.equal(
      words(tasks.sort, 'held-out').some((word) => trained.has(letters(word))),
      false,
    );
    const seen = new Set(words(tasks.reverse, 'train'));
    assert.equal(
      words(tasks.reverse, 'held-out').some((word) => seen.has(reversed(word))),
      false,
    );
  });
});

describe('addition and subtraction', () => {
  test('answers are sums and differences from the last digit on', () => {
    for (const digits of [[1, 4], [1, 1], [2, 3], 3] as const) {
      const [fewest, most] = typeof digits === 'number' ? [digits, digits] : digits;
      const counts: number[] = [];
      for (const { prompt, answer, solution } of examples(tasks.addition({ digits, seed: 1 }))) {
        const [a, b] = operands(prompt, '+');
        assert.equal(reversed(answer), String(a + b));
        assert.equal(solution, answer);
        counts.push(String(a).length, String(b).length);
      }
      assertCovers(counts, upTo(fewest, most));
      for (const { prompt, answer } of examples(tasks.subtraction({ digits, seed: 1 }))) {
        const [a, b] = operands(prompt, '-');
        assert.ok(a >= b);
        assert.equal(reversed(answer), String(a - b));
      }
    }
  });

  test('difficulty counts columns and carries or borrows', () => {
    const known = (task: Task, expected: [string, number][]) => {
      const difficulties = new Map(examples(task, 40000).map(({ prompt, difficulty }) => [prompt, difficulty]));
      const present = expected.filter(([prompt]) => difficulties.has(prompt));
      assert.ok(present.length >= 4, 'enough of the expected problems are drawn');
      for (const [prompt, difficulty] of present) assert.equal(difficulties.get(prompt), difficulty, prompt);
    };
    known(tasks.addition({ digits: [1, 2], seed: 1 }), [
      ['0+0=', 1],
      ['4+5=', 1],
      ['5+5=', 2],
      ['12+34=', 2],
      ['19+1=', 3],
      ['57+68=', 4],
      ['99+1=', 4],
    ]);
    known(tasks.subtraction({ digits: [1, 2], seed: 1 }), [
      ['0-0=', 1],
      ['9-5=', 1],
      ['46-12=', 2],
      ['10-1=', 3],
      ['52-38=', 3],
      ['61-7=', 3],
    ]);
  });

  test('held-out problems are never training problems, whatever the digits and the order of the operands', () => {
    const keys = (seed: number, split: 'train' | 'held-out', digits: [number, number]) =>
      examples(tasks.addition({ digits, seed, split }), 3000).map(({ prompt }) =>
        operands(prompt, '+')
          .sort((a, b) => a - b)
          .join('+'),
      );
    const train = new Set([...keys(1, 'train', [1, 2]), ...keys(2, 'train', [2, 2])]);
    const heldOut = new Set([...keys(3, 'held-out', [1, 2]), ...keys(1, 'held-out', [2, 2])]);
    assert.ok(train.size > 1000 && heldOut.size > 300);
    assert.deepEqual(
      [...heldOut].filter((problem) => train.has(problem)),
      [],
    );
  });

  test('the scorer gives 1 only to the exact answer', () => {
    const task = tasks.addition({ seed: 1 });
    const example = { prompt: '57+68=', answer: '521', solution: '521', difficulty: 4 };
    assert.equal(task.score('521', example), 1);
    const wrong = ['', '125', '522', '5210', '0521', '521 ', ' 521', '521\n', '521=', '521521', '521+', '+521', '=521'];
    const sly = [
      '520+1',
      '57+68',
      '521.0',
      '5.21e2',
      '0x209',
      'example.answer',
      '521;',
      '52',
      '５２１',
      '#521',
      '1#521',
    ];
    for (const text of [...wrong, ...sly]) assert.equal(task.score(text, example), 0, JSON.stringify(text));
  });
});

describe('multiplication', () => {
  test('solutions are partial products and sums that lead to the product', () => {
    const difficulties: number[] = [];
    for (const { prompt, answer, solution, difficulty } of examples(
      tasks.multiplication({ seed: 1, digits: [1, 3] }),
    )) {
      const [a, b] = operands(prompt, '*');
      assert.equal(reversed(answer), String(a * b));
      const [working, result] = solution.includes('#') ? solution.split('#') : ['', solution];
      assert.equal(result, answer);
      const products = [...reversed(String(b))].map((digit, place) => a * Number(digit) * 10 ** place);
      const expected: string[] = [];
      products.reduce((total, product) => {
        expected.push(`${reversed(String(total))}+${reversed(String(product))}`);
        return total + product;
      });
      assert.equal(working, expected.join('='));
      difficulties.push(difficulty);
    }
    assertCovers(difficulties, [1, 2, 3, 4, 6, 9]);
  });

  test('the longest solution has the length that the task states', () => {
    const task = tasks.multiplication({ seed: 1, digits: 4 });
    const longest = Math.max(...examples(task, 3000).map(({ solution }) => solution.length));
    assert.equal(longest, task.maxSolutionLength);
  });

  test('working before a single # is not graded; several #, or anything after the answer, are wrong', () => {
    const task = tasks.multiplication({ seed: 1 });
    const example = { prompt: '12*34=', answer: '804', solution: '84+063#804', difficulty: 4 };
    for (const text of ['804', '84+063#804', '#804', '1+1=3#804', '804#804'])
      assert.equal(task.score(text, example), 1, text);
    const wrong = ['804#', '84+063#', '804#801', '1#2#804', '#', '##804', '408', '#0804', '84+063#804+0', '84+063=804'];
    for (const text of wrong) assert.equal(task.score(text, example), 0, text);
  });
});

describe('chain', () => {
  test('answers follow the usual precedence, no intermediate total is negative, and the solution contains them', () => {
    const task = tasks.chain({ seed: 1, terms: [2, 6], digits: [1, 2] });
    const counts: number[] = [];
    for (const { prompt, answer, solution, difficulty } of examples(task, 600)) {
      const text = prompt.slice(0, -1);
      const parts = text.split(/(?=[+-])/);
      const totals: bigint[] = [];
      for (let i = 1; i <= parts.length; i++) totals.push(readExpression(parts.slice(0, i).join(''))!.numerator);
      assert.ok(
        totals.every((total) => total >= 0n),
        prompt,
      );
      assert.equal(reversed(answer), String(totals[totals.length - 1]));
      const working = totals.slice(1, -1).map((total) => reversed(String(total)));
      assert.equal(solution, working.length ? `${working.join(';')}#${answer}` : answer);
      const products = text.split('*').length - 1;
      const additions = text.split(/[+-]/).length - 1;
      assert.equal(difficulty, additions + 2 * products);
      counts.push(text.split(/[+*-]/).length);
    }
    assertCovers(counts, upTo(2, 6));
  });

  test('no chain of the same parts, in any order, is in both splits', () => {
    const sorted = (prompt: string) =>
      `+${prompt.slice(0, -1)}`
        .split(/(?=[+-])/)
        .map((part) => part[0] + part.slice(1).split('*').sort().join('*'))
        .sort()
        .join('');
    const problems = (split: 'train' | 'held-out') =>
      new Set(examples(tasks.chain({ seed: 1, terms: [2, 3], split }), 1500).map(({ prompt }) => sorted(prompt)));
    assert.equal(sorted('3*2-4+1='), sorted('1+2*3-4='));
    const [train, heldOut] = [problems('train'), problems('held-out')];
    assert.ok(train.size > 300 && heldOut.size > 50);
    assert.deepEqual(
      [...heldOut].filter((problem) => train.has(problem)),
      [],
    );
  });
});

describe('countdown', () => {
  const task = tasks.countdown({ seed: 1, numbers: [2, 5] });

  test('every problem can be solved with the numbers of the prompt, and every count is equally likely', () => {
    const counts = new Map<number, number>();
    for (const e of examples(task, 1000)) {
      const [, numbers, target] = /^([\d,]+)=(\d+):$/.exec(e.prompt)!;
      assert.deepEqual(numbers.split(',').map(Number), e.numbers);
      assert.equal(Number(target), e.target);
      assert.ok(e.target >= 1 && e.target <= 99 && e.numbers.every((n) => n >= 1 && n <= 25));
      assert.equal(task.score(e.answer, e), 1, e.prompt);
      assert.equal(e.difficulty, e.numbers.length);
      counts.set(e.difficulty, (counts.get(e.difficulty) ?? 0) + 1);
    }
    // 250 expected, with a standard deviation of sqrt(1000 * 1/4 * 3/4) = 14; five of them.
    for (const count of upTo(2, 5)) assert.ok(Math.abs(counts.get(count)! - 250) < 70, `${count} numbers`);
  });

  test('all four operations and parentheses occur', () => {
    const all = examples(task, 1000)
      .map(({ answer }) => answer)
      .join('');
    for (const character of '+-*/()') assert.ok(all.includes(character), character);
  });

  test('a target in the tens can be built even from five large numbers', () => {
    const hard = tasks.countdown({ seed: 1, numbers: 5, maxNumber: 99, maxTarget: 10, split: 'held-out' });
    for (const e of examples(hard, 100)) assert.equal(hard.score(e.answer, e), 1);
  });

  const example: CountdownExample = {
    prompt: '3,7,7,25=46:',
    answer: '25+3*7',
    solution: '25+3*7',
    difficulty: 4,
    numbers: [3, 7, 7, 25],
    target: 28,
  };

  test('any expression that uses each number once and reaches the target is right', () => {
    const right = ['25+3*7/7', '3+25*7/7', '7/7*25+3', '((25))+(3*(7/7))', '7*(25+3)/7', '25+3+7-7', '3/7*7+25'];
    for (const text of right) assert.equal(task.score(text, example), 1, text);
    // 1/3 is not an integer, but the arithmetic is exact.
    const thirds = { ...example, numbers: [1, 3, 3, 2], target: 2 };
    assert.equal(task.score('1/3*3*2', thirds), 1);
    assert.equal(task.score('2/(1/3*3)', thirds), 1);
  });

  test('numbers left out, used twice or not given, and other forms and texts are wrong', () => {
    const wrong = [
      '28', // not given
      '25+3', // 7 and 7 left out
      '25+3*7-7*1', // 1 not given
      '25+3+7-7+0', // 0 not given
      '25+3*7/7/1',
      '25+3+7-7+7-7', // used twice
      '257/7+3-2', // digits joined
      '25+3+7-7=28', // an equation
      '28=25+3+7-7',
      '25+3+7-7;25+3+7-7', // two answers
      '25+3+7-7 25+3+7-7',
      '25+3+7-7 ',
      ' 25+3+7-7',
      '25 + 3 + 7 - 7',
      '25+3+7-7\n',
      '25+3+7-7.',
      '25+03+7-7', // leading zeros
      '+25+3+7-7', // signs
      '-7+25+3+7',
      '25+3--7-7',
      '25+3+(-7)+7',
      '(25+3+7-7', // parentheses
      '25+3+7-7)',
      '()25+3+7-7',
      '(25)(3)+7-7',
      '25+3+(7-7)()',
      '25+3+7−7', // a minus sign that is not ASCII
      '２5+3+7-7', // a fullwidth digit
      '25+3×7÷7',
      '25+3**7/7',
      '25+3^7/7',
      '25+3+7%7',
      '25.0+3+7-7',
      '2.5e1+3+7-7',
      '0x19+3+7-7',
      '25+3/(7-7)', // division by zero
      '25n+3n+7n-7n',
      '25+3+7-7//',
      '25+3+7-7/*',
      '[25+3+7-7]',
      'Math.max(25,3,7,7)+3',
      'process.exit(0)',
    ];
    for (const text of wrong) assert.equal(task.score(text, example), 0, text);
  });

  test('hostile texts are rejected quickly', () => {
    const deep = 10 ** 6;
    const texts = ['('.repeat(deep), '1+'.repeat(deep), '9'.repeat(deep), `${'('.repeat(60)}25+3+7-7${')'.repeat(60)}`];
    const start = process.cpuUsage().user;
    for (const text of texts.slice(0, 3)) assert.equal(task.score(text, example), 0);
    assert.equal(task.score(texts[3], example), 1);
    assert.equal(task.score('9'.repeat(128), example), 0);
    assert.equal(task.score('('.repeat(128), example), 0);
    // Time that grew with the square of a length would be minutes.
    const seconds = (process.cpuUsage().user - start) / 1e6;
    assert.ok(seconds < 10, `${seconds} s`);
  });

  test('the order of the numbers does not move a problem into the other split', () => {
    const keys = (split: 'train' | 'held-out') =>
      examples(tasks.countdown({ seed: 1, numbers: 2, maxNumber: 12, split }), 1500).map(
        ({ numbers, target }) => `${[...numbers].sort((a, b) => a - b)}=${target}`,
      );
    const train = new Set(keys('train'));
    assert.equal(
      keys('held-out').some((key) => train.has(key)),
      false,
    );
  });
});

describe('expressions', () => {
  const value = (text: string) => {
    const read = readExpression(text);
    return read && Number(read.numerator) / Number(read.denominator);
  };

  test('have the usual precedence and associativity', () => {
    const known: [string, number][] = [
      ['0', 0],
      ['2+3*4', 14],
      ['2*3+4', 10],
      ['(2+3)*4', 20],
      ['8-3-2', 3],
      ['8-(3-2)', 7],
      ['16/4/2', 2],
      ['16/(4/2)', 8],
      ['7/2', 3.5],
      ['3-8', -5],
      ['1/(2-3)', -1],
    ];
    for (const [text, expected] of known) assert.equal(value(text), expected, text);
  });

  test('list the numbers in order', () => {
    assert.deepEqual(readExpression('(3+10)*3')!.numbers, [3, 10, 3]);
  });
});

describe('sudoku', () => {
  const sees = (a: number, b: number) =>
    a % 4 === b % 4 || a >> 2 === b >> 2 || (a >> 3 === b >> 3 && (a & 2) === (b & 2));

  /** Solutions of a puzzle, by trying every digit in every blank. */
  function solutions(puzzle: string): string[] {
    const cell = puzzle.indexOf('.');
    if (cell < 0) return [puzzle];
    return ['1', '2', '3', '4'].flatMap((digit) => {
      const clashes = [...puzzle].some((other, i) => other === digit && sees(i, cell));
      return clashes ? [] : solutions(puzzle.slice(0, cell) + digit + puzzle.slice(cell + 1));
    });
  }

  test('every puzzle has exactly one solution and the stated number of blanks, each equally likely', () => {
    const counts = new Map<number, number>();
    for (const { prompt, answer, difficulty } of examples(tasks.sudoku({ seed: 1, blanks: [2, 12] }), 1100)) {
      const puzzle = prompt.slice(0, -1);
      assert.deepEqual(solutions(puzzle), [answer]);
      assert.equal(puzzle.split('.').length - 1, difficulty);
      counts.set(difficulty, (counts.get(difficulty) ?? 0) + 1);
    }
    // 100 expected, with a standard deviation of sqrt(1100 * 1/11 * 10/11) = 9.5; five of them.
    for (const blanks of upTo(2, 12)) assert.ok(Math.abs(counts.get(blanks)! - 100) < 48, `${blanks} blanks`);
  });

  test('no solution of a training puzzle is the solution of a held-out one', () => {
    const grids = (seed: number, split: 'train' | 'held-out') =>
      new Set(examples(tasks.sudoku({ seed, split }), 2000).map(({ answer }) => answer));
    const [train, heldOut] = [grids(1, 'train'), grids(2, 'held-out')];
    assert.equal(train.size + heldOut.size, 288);
    assert.equal(
      [...heldOut].some((grid) => train.has(grid)),
      false,
    );
  });

  test('only the full grid is right', () => {
    const task = tasks.sudoku({ seed: 1 });
    const example = { prompt: '', answer: '1234341221434321', solution: '', difficulty: 4 };
    assert.equal(task.score('1234341221434321', example), 1);
    for (const text of ['1234 3412 2143 4321', '1234341221434312', '1234\n3412\n2143\n4321', '....', '1'.repeat(16)]) {
      assert.equal(task.score(text, example), 0);
    }
  });
});

describe('bandit', () => {
  test('the share of winning arms is the probability, and the scorer knows which they are', () => {
    const probabilities = [0.02, 0.5, 1];
    const task = tasks.bandit({ seed: 1, probabilities, contexts: 3 });
    const arms = task.characters.slice('0123456789:='.length);
    assert.equal(arms.length, 50);
    for (const [i, e] of examples(task, 30).entries()) {
      const winning = [...arms].filter((arm) => task.score(arm, e) === 1);
      assert.equal(winning.length / 50, probabilities[i % 3]);
      assert.equal(e.probability, probabilities[i % 3]);
      assert.equal(winning.join(''), e.winners);
      assert.equal(e.difficulty, 50 - winning.length);
      assert.equal(e.prompt, `${i % 3}:${Math.floor(i / 3) % 3}=`);
      assert.ok(e.prompt.length <= task.maxPromptLength);
      for (const text of ['', e.winners, `${e.answer}${e.answer}`, `${e.answer} `, '0', '=', 'é']) {
        assert.equal(task.score(text, e), e.winners.length === 1 && text === e.winners ? 1 : 0, text);
      }
    }
  });

  test('a prompt has the same winners at every index; other contexts and seeds have others', () => {
    const winners = (seed: number, index: number) =>
      tasks.bandit({ seed, probabilities: [0.5], contexts: 2 }).example(index).winners;
    assert.equal(winners(1, 0), winners(1, 2));
    assert.notEqual(winners(1, 0), winners(1, 1));
    assert.notEqual(winners(1, 0), winners(2, 0));
  });
});

describe('characterVocabulary', () => {
  test('text can be encoded and decoded, and ends with the end token', () => {
    const vocabulary = characterVocabulary('0123456789+=');
    assert.equal(vocabulary.size, 13);
    const tokens = vocabulary.encode('12+34=');
    assert.equal(vocabulary.decode(tokens), '12+34=');
    assert.equal(vocabulary.decode(Int32Array.of(...tokens.subarray(0, 2), vocabulary.end, ...tokens)), '12');
  });

  test('unknown and repeated characters are rejected', () => {
    assert.throws(() => characterVocabulary('01').encode('012'), { name: 'RangeError', message: /^text/ });
    assert.throws(() => characterVocabulary('010'), { name: 'RangeError', message: /^characters/ });
  });
});

describe('parsing prompts and answers', () => {
  test('arithmetic: numbers are read in reverse, after the working', () => {
    const { addition, subtraction, multiplication, chain } = tasks;
    const cases: [Task, string, solution: string, answer: string][] = [
      [addition({ seed: 0 }), '12+34=', '64', '46'],
      [addition({ seed: 0 }), '0+0=', '0', '0'],
      [addition({ seed: 0 }), '9999999+1=', '00000001', '10000000'],
      [subtraction({ seed: 0 }), '52-38=', '41', '14'],
      [subtraction({ seed: 0 }), '100-100=', '0', '0'],
      [multiplication({ seed: 0 }), '12*34=', '84+063#804', '408'],
      [multiplication({ seed: 0 }), '7*8=', '65', '56'],
      [chain({ seed: 0 }), '8+3*4-5=', '02#51', '15'],
      [chain({ seed: 0 }), '2*3=', '6', '6'],
    ];
    for (const [task, prompt, solution, answer] of cases) {
      const example = task.parse!(prompt)!;
      assert.equal(example.solution, solution);
      assert.equal(task.readAnswer!(solution), answer);
      assert.equal(task.score(solution, example), 1);
    }
    for (const text of ['', '4=', '1#2#3', 'x', '4+', '-4']) {
      assert.equal(addition({ seed: 0 }).readAnswer!(text), undefined, text);
    }
    const none: [Task, string[]][] = [
      [addition({ seed: 0 }), ['01+2=', '1+2+3=', '+2=', '1-2=', '12345678+1=', '1 + 2=', '1+2', '１+2=']],
      [subtraction({ seed: 0 }), ['3-4=', '1--2=']],
      [multiplication({ seed: 0 }), ['1*2*3=', '*2=']],
      [chain({ seed: 0 }), ['3=', '1-2+5=', '01+2=', '1+=', '1++2=', '1*2', '1/2=']],
    ];
    for (const [task, prompts] of none) {
      for (const prompt of prompts) assert.equal(task.parse!(prompt), undefined, `${task.name}: ${prompt}`);
    }
  });

  test('the other tasks', () => {
    assert.equal(tasks.copy({ seed: 0 }).parse!('dog=')?.answer, 'dog');
    assert.equal(tasks.reverse({ seed: 0 }).parse!('dog=')?.answer, 'god');
    assert.equal(tasks.sort({ seed: 0 }).parse!('dog=')?.answer, 'dgo');
    assert.equal(tasks.copy({ seed: 0 }).parse!('Dog='), undefined);
    assert.equal(tasks.sudoku({ seed: 0 }).parse!('21.....1...4431.=')?.answer, '2143342112344312');
    // No grid fits, or several do.
    for (const prompt of ['11..............=', '................=', '21.....1...4431=']) {
      assert.equal(tasks.sudoku({ seed: 0 }).parse!(prompt), undefined, prompt);
    }
    const countdown = tasks.countdown({ seed: 0 });
    for (const prompt of ['3,7,25=46:', '24,19,13,2=8:', '1,1=2:', '9,8,7,6,5=777:']) {
      const example = countdown.parse!(prompt)!;
      assert.equal(countdown.score(example.answer, example), 1, prompt);
    }
    for (const prompt of ['1,1=9:', '3=3:', '0,1=1:', '1,2,3,4,5,6=21:', '1,2=3', '100,1=99:']) {
      assert.equal(countdown.parse!(prompt), undefined, prompt);
    }
    const ladder = tasks.bandit({ seed: 4, contexts: 2 });
    for (let i = 0; i < 14; i++) assert.deepEqual(ladder.parse!(ladder.example(i).prompt), ladder.example(i));
    for (const prompt of ['7:0=', '0:2=', '00:0=', '0:0', 'a:0='])
      assert.equal(ladder.parse!(prompt), undefined, prompt);
  });
});
