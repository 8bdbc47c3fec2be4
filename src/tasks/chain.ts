// Chained arithmetic, worked out by running totals: "8+3*4-5=" to "02#51".

import { type Draw, generatedTask } from './generate.js';
import { drawNumber, finalAnswer, lastDigitFirst, readNumber, reversedNumbers } from './numbers.js';
import { checkOptions, checkRange, type GeneratorOptions, type Range, rangeText } from './options.js';
import type { Example, GeneratedTask } from './task.js';

export interface ChainOptions extends GeneratorOptions {
  /** Numbers of a chain, fewest and most, from 2 to 8. Default [2, 4]. */
  terms?: Range;
  /** Digits of each number, fewest and most, from 1 to 2. Default 1. */
  digits?: Range;
}

/**
 * Sums, differences and products of two factors, products first as usual; no running total is negative. Numbers of a
 * completion are written from their last digit to their first. The solution is the running totals except the first and the last,
 * joined by ';', then '#' and the answer; only the answer if there are no such totals. The difficulty is the number of
 * operations, products counted twice. Chains that differ in the order of their parts or of factors are one problem.
 */
export function chain(options: ChainOptions): GeneratedTask {
  const o = checkOptions(options, ['terms', 'digits']);
  const terms = checkRange('terms', o.terms ?? [2, 4], { min: 2, max: 8 });
  const digits = checkRange('digits', o.digits ?? 1, { min: 1, max: 2 });
  const [fewest, most] = terms;
  const largest = 10 ** digits[1] - 1;
  // A total is largest when all numbers are in products.
  const totalLength = String(Math.floor(most / 2) * largest ** 2 + (most % 2) * largest).length;
  return generatedTask<Example>(options, {
    name: `chains of ${rangeText(terms, 'number')} of ${rangeText(digits, 'digit')}`,
    settings: { terms, digits },
    characters: '0123456789+-*=;#',
    maxPromptLength: most * digits[1] + most,
    maxSolutionLength: (most - 2) * (totalLength + 1) + totalLength,
    draw(next) {
      const chain = drawChain(next, fewest + next(most - fewest + 1), digits);
      return { example: pose(chain), problem: chain.parts.sort().join('') };
    },
    parse(prompt) {
      const chain = readChain(prompt);
      return chain && pose(chain);
    },
    score: (text, example) => (finalAnswer(text) === example.answer ? 1 : 0),
    ...reversedNumbers,
  });
}

interface Chain {
  text: string;
  /** After each part. */
  totals: number[];
  difficulty: number;
}

function pose({ text, totals, difficulty }: Chain): Example {
  const answer = lastDigitFirst(totals[totals.length - 1]);
  const working = totals.slice(1, -1).map(lastDigitFirst).join(';');
  return { prompt: `${text}=`, answer, solution: working ? `${working}#${answer}` : answer, difficulty };
}

/** A chain parsed from its prompt: at least two numbers, no total negative. */
function readChain(prompt: string): Chain | undefined {
  if (!/^\d+([+*-]\d+)+=$/.test(prompt)) return undefined;
  const text = prompt.slice(0, -1);
  let [total, difficulty] = [0, -1];
  const totals: number[] = [];
  for (const [, sign, product] of `+${text}`.matchAll(/([+-])([\d*]+)/g)) {
    const factors = product.split('*').map(readNumber);
    const value = factors.reduce<number>((all, factor) => all * (factor ?? Number.NaN), 1);
    total += sign === '-' ? -value : value;
    if (!(total >= 0 && total <= Number.MAX_SAFE_INTEGER)) return undefined;
    totals.push(total);
    difficulty += 1 + 2 * (factors.length - 1);
  }
  return { text, totals, difficulty };
}

function drawChain(next: Draw, numbers: number, digits: readonly [number, number]): Chain & { parts: string[] } {
  let text = '';
  let [total, difficulty] = [0, 0];
  const totals: number[] = [];
  /** Each with its sign, factors in ascending order. */
  const parts: string[] = [];
  for (let left = numbers; left > 0; ) {
    const isProduct = left > 1 && next(3) === 0;
    const factors = Array.from({ length: isProduct ? 2 : 1 }, () => drawNumber(next, digits));
    const value = factors.reduce((product, factor) => product * factor);
    const isFirst = left === numbers;
    const sign = !isFirst && next(2) === 0 && value <= total ? '-' : '+';
    text += (isFirst ? '' : sign) + factors.join('*');
    total += sign === '-' ? -value : value;
    totals.push(total);
    parts.push(sign + [...factors].sort((a, b) => a - b).join('*'));
    difficulty += (isFirst ? 0 : 1) + (isProduct ? 2 : 0);
    left -= factors.length;
  }
  return { text, parts, totals, difficulty };
}
