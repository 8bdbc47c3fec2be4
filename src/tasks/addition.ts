// Addition of two numbers: "12+34=" to "46".

import { checkChoice, checkNumber } from '../loss/check.js';
import { integer, type Stream, uniform } from '../random.js';
import type { Example, Task } from './task.js';

export interface AdditionOptions {
  /** Digits of each number, fewest and most, from 1 to 4. Default [1, 2]. */
  digits?: readonly [fewest: number, most: number];
  /** Which problems the order of `example` draws. */
  seed: number;
  /**
   * `train` and `held-out` have no problem in common, whatever their seeds and digits; a + b and b + a count as one
   * problem. One in five is held out. Default `train`.
   */
  split?: 'train' | 'held-out';
}

const heldOutShare = 0.2;
/** The split is the same for every seed of a task. */
const splitStream: Stream = { seed: 0, purpose: 'split' };

/**
 * Addition. The answer is written from its last digit to its first ("57+68=" to "521"), the order in which it is
 * worked out: a policy that writes one digit at a time then needs only the carry from the digit before.
 * The difficulty is the number of columns to be added plus the number of carries.
 */
export function addition({ digits = [1, 2], seed, split = 'train' }: AdditionOptions): Task {
  const fewest = checkNumber('digits[0]', digits[0], { min: 1, max: 4, integer: true });
  const most = checkNumber('digits[1]', digits[1], { min: fewest, max: 4, integer: true });
  checkNumber('seed', seed, { min: 0, max: Number.MAX_SAFE_INTEGER, integer: true });
  checkChoice('split', split, ['train', 'held-out']);
  const stream: Stream = { seed, purpose: 'examples' };

  /** A number whose count of digits is as likely as any other. */
  const operand = (index: number, attempt: number, which: number) => {
    const count = fewest + integer(stream, most - fewest + 1, index, attempt, 2 * which);
    const lowest = count === 1 ? 0 : 10 ** (count - 1);
    return lowest + integer(stream, 10 ** count - lowest, index, attempt, 2 * which + 1);
  };

  return {
    name: `addition of ${fewest === most ? '' : `${fewest} to `}${most} digits`,
    characters: '0123456789+=',
    maxPromptLength: 2 * most + 2,
    maxSolutionLength: most + 1,
    example(index) {
      checkNumber('index', index, { min: 0, max: 2 ** 31 - 1, integer: true });
      for (let attempt = 0; ; attempt++) {
        const [a, b] = [operand(index, attempt, 0), operand(index, attempt, 1)];
        if (isHeldOut(a, b) === (split === 'held-out')) return additionExample(a, b);
      }
    },
    score: (text, example) => (text === example.answer ? 1 : 0),
  };
}

function isHeldOut(a: number, b: number): boolean {
  return uniform(splitStream, Math.min(a, b), Math.max(a, b)) < heldOutShare;
}

function additionExample(a: number, b: number): Example {
  const answer = [...String(a + b)].reverse().join('');
  return { prompt: `${a}+${b}=`, answer, solution: answer, difficulty: columnsAndCarries(a, b) };
}

function columnsAndCarries(a: number, b: number): number {
  let [columns, carries, carry] = [0, 0, 0];
  for (let scale = 1; scale <= Math.max(a, b) || scale === 1; scale *= 10) {
    const sum = (Math.floor(a / scale) % 10) + (Math.floor(b / scale) % 10) + carry;
    carry = sum > 9 ? 1 : 0;
    columns++;
    carries += carry;
  }
  return columns + carries;
}
