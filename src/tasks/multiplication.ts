// Multiplication of two numbers, worked out by partial products: "12*34=" to "84+063#804".

import type { DigitsOptions } from './addition.js';
import { generatedTask } from './generate.js';
import { drawNumber, finalAnswer, lastDigitFirst, readOperands, reversedNumbers } from './numbers.js';
import { checkOptions, checkRange, rangeText } from './options.js';
import type { Example, GeneratedTask } from './task.js';

/**
 * Multiplication. Numbers of a completion are written from their last digit to their first. The solution adds up the
 * partial products of the second number's digits, from the last, with a total between additions, then '#' and the answer; with
 * one digit it is only the answer. The difficulty is the product of the numbers of digits: the digit products that the school
 * method takes. a * b and b * a are one problem.
 */
export function multiplication(options: DigitsOptions): GeneratedTask {
  const digits = checkRange('digits', checkOptions(options, ['digits']).digits ?? [1, 2], { min: 1, max: 4 });
  const most = digits[1];
  const pose = (a: number, b: number): Example => {
    const answer = lastDigitFirst(a * b);
    const difficulty = String(a).length * String(b).length;
    return { prompt: `${a}*${b}=`, answer, solution: partialProducts(a, b) + answer, difficulty };
  };
  return generatedTask<Example>(options, {
    name: `multiplication of ${rangeText(digits, 'digit')}`,
    settings: { digits },
    characters: '0123456789*+=#',
    maxPromptLength: 2 * most + 2,
    maxSolutionLength: longestSolution(most),
    draw(next) {
      const [a, b] = [drawNumber(next, digits), drawNumber(next, digits)];
      return { example: pose(a, b), problem: [Math.min(a, b), Math.max(a, b)] };
    },
    parse(prompt) {
      const operands = readOperands(prompt, '*');
      return operands && pose(...operands);
    },
    score: (text, example) => (finalAnswer(text) === example.answer ? 1 : 0),
    ...reversedNumbers,
  });
}

/** The working: "p+q#" or "p+q=t+r#", p, q, r the partial products and t the total of the first two. */
function partialProducts(a: number, b: number): string {
  const products = [...String(b)].reverse().map((digit, place) => a * Number(digit) * 10 ** place);
  if (products.length === 1) return '';
  let total = products[0];
  let text = lastDigitFirst(total);
  products.slice(1).forEach((product, i) => {
    if (i > 0) text += `=${lastDigitFirst(total)}`;
    text += `+${lastDigitFirst(product)}`;
    total += product;
  });
  return `${text}#`;
}

/** Partial product k of n digits by n has at most n + 1 + k digits, and so does the total up to it. */
function longestSolution(n: number): number {
  if (n === 1) return 2;
  let length = n + 1;
  for (let k = 1; k < n; k++) length += 1 + (n + 1 + k);
  for (let k = 1; k < n - 1; k++) length += 1 + (n + 1 + k);
  return length + 1 + 2 * n;
}
