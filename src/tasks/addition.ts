// Addition and subtraction of two numbers: "12+34=" to "64", "46-12=" to "43".

import { type Draw, generatedTask } from './generate.js';
import { drawNumber, lastDigitFirst } from './numbers.js';
import { checkOptions, checkRange, type GeneratorOptions, type Range, rangeText } from './options.js';
import type { Example, Task } from './task.js';

export interface DigitsOptions extends GeneratorOptions {
  /** Digits of each number, fewest and most, from 1 to 4. Default [1, 2]. */
  digits?: Range;
}

/**
 * Addition. The answer is written from its last digit to its first. The difficulty is the number of columns to be added
 * plus the number of carries. a + b and b + a are one problem.
 */
export function addition(options: DigitsOptions): Task {
  return columnTask('addition', '+', 1, options, (next, digits) => {
    const [a, b] = [drawNumber(next, digits), drawNumber(next, digits)];
    return { a, b, result: a + b, problem: [Math.min(a, b), Math.max(a, b)] };
  });
}

/**
 * Subtraction of the smaller number from the larger. The answer is written from its last digit to its first. The
 * difficulty is the number of columns plus the number of borrows.
 */
export function subtraction(options: DigitsOptions): Task {
  return columnTask('subtraction', '-', -1, options, (next, digits) => {
    const [x, y] = [drawNumber(next, digits), drawNumber(next, digits)];
    const [a, b] = [Math.max(x, y), Math.min(x, y)];
    return { a, b, result: a - b, problem: [a, b] };
  });
}

interface Operands {
  a: number;
  b: number;
  result: number;
  problem: [number, number];
}

function columnTask(
  name: string,
  operator: '+' | '-',
  sign: 1 | -1,
  options: DigitsOptions,
  operands: (next: Draw, digits: [number, number]) => Operands,
): Task {
  const digits = checkRange('digits', checkOptions(options, ['digits']).digits ?? [1, 2], { min: 1, max: 4 });
  const most = digits[1];
  return generatedTask<Example>(options, {
    name: `${name} of ${rangeText(digits, 'digit')}`,
    characters: `0123456789${operator}=`,
    maxPromptLength: 2 * most + 2,
    maxSolutionLength: sign > 0 ? most + 1 : most,
    draw(next) {
      const { a, b, result, problem } = operands(next, digits);
      const answer = lastDigitFirst(result);
      const difficulty = columnsAndCarries(a, b, sign);
      return { example: { prompt: `${a}${operator}${b}=`, answer, solution: answer, difficulty }, problem };
    },
    score: (text, example) => (text === example.answer ? 1 : 0),
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
