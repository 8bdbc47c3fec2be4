// How the arithmetic tasks draw and write numbers.
//
// A completion writes a number from its last digit to its first ("57+68=" to "521"), the order in which it is computed: a policy
// that writes one digit at a time then only needs the carry from the previous digit.

import type { Draw } from './generate.js';

/** A number whose number of digits is uniform between fewest and most. */
export function drawNumber(next: Draw, [fewest, most]: readonly [number, number]): number {
  const count = fewest + next(most - fewest + 1);
  const lowest = count === 1 ? 0 : 10 ** (count - 1);
  return lowest + next(10 ** count - lowest);
}

/** A number as completions write it. */
export function lastDigitFirst(value: number): string {
  return [...String(value)].reverse().join('');
}

/** The `Task` fields that describe completions of the arithmetic tasks. */
export const reversedNumbers = {
  notation: 'Numbers are written from the last digit to the first.',
  readAnswer(text: string): string | undefined {
    const answer = finalAnswer(text);
    return answer !== undefined && /^\d+$/.test(answer) ? [...answer].reverse().join('') : undefined;
  },
};

/** Maximum digits of a number in a prompt, so that sums and products of two are exact. */
const maxDigits = 7;

/** The numbers between the operators of a prompt such as "12+34="; undefined if it does not have that form. */
export function readOperands(prompt: string, operator: string): [number, number] | undefined {
  const parts = prompt.endsWith('=') ? prompt.slice(0, -1).split(operator) : [];
  const [a, b] = parts.map(readNumber);
  return parts.length === 2 && a !== undefined && b !== undefined ? [a, b] : undefined;
}

/** A number as prompts write it. */
export function readNumber(text: string): number | undefined {
  return /^(0|[1-9]\d*)$/.test(text) && text.length <= maxDigits ? Number(text) : undefined;
}

/**
 * The answer of a completion: the text after its single '#', or all of it if there is none. Undefined if there are several. The
 * text before the '#' is working, which is not checked.
 */
export function finalAnswer(text: string): string | undefined {
  const parts = text.split('#', 3);
  return parts.length > 2 ? undefined : parts[parts.length - 1];
}
