// Scorers with texts that try to get a reward: for any text the score is 0 or 1, computed quickly, and 1 only if an
// independent parser finds the text right.

import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { readExpression } from '../../src/tasks/expression.js';
import { type CountdownExample, type Example, type Task, tasks } from '../../src/tasks/index.js';
import { generated } from '../support/tasks.js';

const runs = Number(process.env.GROUPGRAD_FUZZ_RUNS ?? 3000);

/** Characters of tasks, their look-alikes, and strings that often break programs. */
const character = fc.oneof(
  { weight: 8, arbitrary: fc.constantFrom(...'0123456789+-*/()=#,;:. ') },
  { weight: 1, arbitrary: fc.constantFrom(...'−×÷٣３²½\n\t\u00a0\u200b\u0000eExn_^%&|!~[]{}"\'`$\\') },
  { weight: 1, arbitrary: fc.string({ unit: 'binary', minLength: 1, maxLength: 1 }) },
);
const noise = fc.array(character, { maxLength: 40 }).map((parts) => parts.join(''));

test('no text makes a scorer throw, vary, or reward anything but the answer', () => {
  for (const make of Object.values(generated)) {
    const task = make({ seed: 1 });
    const isExact = !task.characters.includes('#') && !task.name.startsWith('countdown');
    fc.assert(
      fc.property(fc.nat(1000), noise, fc.nat(60), fc.boolean(), (index, extra, cut, insert) => {
        const example = task.example(index);
        const { solution } = example;
        const at = Math.min(cut, solution.length);
        const text = insert ? solution.slice(0, at) + extra + solution.slice(at) : extra;
        const score = task.score(text, example);
        assert.ok(score === 0 || score === 1);
        if (isExact) assert.equal(score, text === example.answer ? 1 : 0);
      }),
      { numRuns: Math.ceil(runs / 10), seed: 1 },
    );
  }
});

test('countdown rewards exactly the expressions that an independent parser finds right', () => {
  const task: Task<CountdownExample> = tasks.countdown({ seed: 1, numbers: [2, 5] });
  let right = 0;
  const mutation = fc.record({ at: fc.nat(20), remove: fc.nat(2), insert: fc.array(character, { maxLength: 2 }) });
  fc.assert(
    fc.property(fc.nat(2000), fc.array(mutation, { maxLength: 2 }), fc.boolean(), (index, mutations, wrap) => {
      const example = task.example(index);
      let text = example.answer;
      for (const { at, remove, insert } of mutations) {
        text = text.slice(0, at) + insert.join('') + text.slice(at + remove);
      }
      if (wrap) text = `(${text})`;
      const expected = isRight(text, example);
      right += expected;
      assert.equal(task.score(text, example), expected, text);
    }),
    { numRuns: runs, seed: 1 },
  );
  // Both verdicts must have occurred.
  assert.ok(right > runs / 10 && right < (9 * runs) / 10, `${right} of ${runs} were right`);
});

test('very long texts are scored quickly', () => {
  const long = 2 ** 20;
  const texts = ['(', ')', '1', '#', '=', '1+', '(1)', '😀', '-'].map((part) => part.repeat(long));
  const start = process.cpuUsage().user;
  for (const make of Object.values(generated)) {
    const task: Task<Example> = make({ seed: 1 });
    for (const text of texts) assert.equal(task.score(text, task.example(0)), 0);
  }
  for (const text of texts) assert.equal(readExpression(text), undefined);
  // Time that grew with the square of a length would be minutes.
  const seconds = (process.cpuUsage().user - start) / 1e6;
  assert.ok(seconds < 20, `${seconds} s`);
});

/**
 * Checks an answer in another way than the package does: a regular expression for the tokens, two stacks for the order,
 * and floating-point arithmetic, which counts a result with a rounding error as right.
 */
function isRight(text: string, { numbers, target }: CountdownExample): 0 | 1 {
  const tokens = text.match(/\d+|[-+*/()]/g) ?? [];
  if (tokens.join('') !== text || text.length > 128) return 0;
  const used = tokens.filter((token) => /^\d/.test(token));
  if (used.some((token) => /^0\d/.test(token))) return 0;
  const sorted = (values: readonly (string | number)[]) => [...values].map(Number).sort((a, b) => a - b);
  if (JSON.stringify(sorted(used)) !== JSON.stringify(sorted(numbers))) return 0;

  const binding: Record<string, number> = { '+': 1, '-': 1, '*': 2, '/': 2 };
  const values: number[] = [];
  const operators: string[] = [];
  const apply = () => {
    const operator = operators.pop()!;
    const [b, a] = [values.pop()!, values.pop()!];
    values.push(operator === '+' ? a + b : operator === '-' ? a - b : operator === '*' ? a * b : a / b);
  };
  let wantsValue = true;
  for (const token of tokens) {
    if (/^\d/.test(token)) {
      if (!wantsValue) return 0;
      values.push(Number(token));
      wantsValue = false;
    } else if (token === '(') {
      if (!wantsValue) return 0;
      operators.push(token);
    } else if (token === ')') {
      if (wantsValue) return 0;
      while (operators.length > 0 && operators[operators.length - 1] !== '(') apply();
      if (operators.pop() !== '(') return 0;
    } else {
      if (wantsValue) return 0;
      while (operators.length > 0 && binding[operators[operators.length - 1]] >= binding[token]) apply();
      operators.push(token);
      wantsValue = true;
    }
  }
  if (wantsValue || operators.includes('(')) return 0;
  while (operators.length > 0) apply();
  return Math.abs(values[0] - target) < 1e-9 ? 1 : 0;
}
