// Addition and subtraction of two numbers: "12+34=" to "64", "46-12=" to "43".

import { generatedTask } from './generate.js';
import { drawNumber, lastDigitFirst, readOperands, reversedNumbers } from './numbers.js';
import { checkOptions, checkRange, type GeneratorOptions, type Range, rangeText } from './options.js';
import type { Example, GeneratedTask } from './task.js';

export interface DigitsOptions extends GeneratorOptions {
  /** Digits of each number, fewest and most, from 1 to 4. Default [1, 2]. */
  digits?: Range;
}

/**
 * Addition. The answer is written from its last digit to its first. The difficulty is the number of columns plus the number of
 * carries. a + b and b + a are one problem.
 */
export function addition(options: DigitsOptions): GeneratedTask {
  return columnTask('addition', '+', options, {
    order: (x, y) => [x, y],
    result: (x, y) => x + y,
    problem: (x, y) => [Math.min(x, y), Math.max(x, y)],
  });
}

/**
 * Subtraction of the smaller number from the larger. The answer is written from its last digit to its first. The
 * difficulty is the number of columns plus the number of borrows.
 */
export function subtraction(options: DigitsOptions): GeneratedTask {
  return columnTask('subtraction', '-', options, {
    order: (x, y) => [Math.max(x, y), Math.min(x, y)],
    result: (x, y) => x - y,
    problem: (x, y) => [x, y],
  });
}

interface Operation {
  /** The numbers drawn, as they stand in the prompt. */
  order: (x: number, y: number) => [a: number, b: number];
  result: (a: number, b: number) => number;
  problem: (a: number, b: number) => [number, number];
}

function columnTask(name: string, operator: '+' | '-', options: DigitsOptions, operation: Operation): GeneratedTask {
  const digits = checkRange('digits', checkOptions(options, ['digits']).digits ?? [1, 2], { min: 1, max: 4 });
  const most = digits[1];
  const sign = operator === '+' ? 1 : -1;
  const pose = (a: number, b: number): Example => {
    const answer = lastDigitFirst(operation.result(a, b));
    return { prompt: `${a}${operator}${b}=`, answer, solution: answer, difficulty: columnsAndCarries(a, b, sign) };
  };
  return generatedTask<Example>(options, {
    name: `${name} of ${rangeText(digits, 'digit')}`,
    settings: { digits },
    characters: `0123456789${operator}=`,
    maxPromptLength: 2 * most + 2,
    maxSolutionLength: sign > 0 ? most + 1 : most,
    draw(next) {
      const [a, b] = operation.order(drawNumber(next, digits), drawNumber(next, digits));
      return { example: pose(a, b), problem: operation.problem(a, b) };
    },
    parse(prompt) {
      const operands = readOperands(prompt, operator);
      return operands && operation.result(...operands) >= 0 ? pose(...operands) : undefined;
    },
    score: (text, example) => (text === example.answer ? 1 : 0),
    ...reversedNumbers,
  });
}

/** Columns of a ± b and the carries or borrows between them. */
function columnsAndCarries(a: number, b: number, sign: 1 | -1): number {
  let [columns, carries, carry] = [0, 0, 0];
  for (let scale = 1; scale <= Math.max(a, b) || scale === 1; scale *= 10) {
    const column = (Math.floor(a / scale) % 10) + sign * ((Math.floor(b / scale) % 10) + carry);
    carry = column > 9 || column < 0 ? 1 : 0;
    columns++;
    carries += carry;
  }
  return columns + carries;
}
