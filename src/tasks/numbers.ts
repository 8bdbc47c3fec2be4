// How the arithmetic tasks draw and write numbers.
//
// A completion writes a number from its last digit to its first ("57+68=" to "521"), the order in which it is worked
// out: a policy that writes one digit at a time then needs only the carry from the digit before.

import type { Draw } from './generate.js';

/** A number whose count of digits, between fewest and most, is as likely as any other. */
export function drawNumber(next: Draw, [fewest, most]: readonly [number, number]): number {
  const count = fewest + next(most - fewest + 1);
  const lowest = count === 1 ? 0 : 10 ** (count - 1);
  return lowest + next(10 ** count - lowest);
}

/** A number as completions write it. */
export function lastDigitFirst(value: number): string {
  return [...String(value)].reverse().join('');
}

/** What the arithmetic tasks tell about their completions: for `Task`. */
export const reversedNumbers = {
  notation: 'Numbers are written from the last digit to the first.',
  readAnswer(text: string): string | undefined {
    const answer = finalAnswer(text);
    return answer !== undefined && /^\d+$/.test(answer) ? [...answer].reverse().join('') : undefined;
  },
};

/** Digits of a number in a prompt at most, so that sums and products of two are exact. */
const mostDigits = 7;

/** The numbers between the operators of a prompt such as "12+34="; undefined where it is not of that form. */
export function readOperands(prompt: string, operator: string): [number, number] | undefined {
  const parts = prompt.endsWith('=') ? prompt.slice(0, -1).split(operator) : [];
  const [a, b] = parts.map(readNumber);
  return parts.length === 2 && a !== undefined && b !== undefined ? [a, b] : undefined;
}

/** A number as prompts write it. */
export function readNumber(text: string): number | undefined {
  return /^(0|[1-9]\d*)$/.test(text) && text.length <= mostDigits ? Number(text) : undefined;
}

/**
 * What a completion answers: what follows its one '#', or all of it when it has none. Undefined when it has several.
 * What stands before the '#' is working, which nobody reads.
 */
export function finalAnswer(text: string): string | undefined {
  const parts = text.split('#', 3);
  return parts.length > 2 ? undefined : parts[parts.length - 1];
}
