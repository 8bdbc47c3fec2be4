// Countdown: an expression that reaches a target with all the given numbers. "3,7,25=46:" to "25+3*7".

import { checkNumber } from '../base/check.js';
import { readExpression } from './expression.js';
import { type Draw, generatedTask, tryOften } from './generate.js';
import { checkOptions, checkRange, type GeneratorOptions, type Range, rangeText } from './options.js';
import type { Example, GeneratedTask } from './task.js';

export interface CountdownOptions extends GeneratorOptions {
  /** How many numbers are given, fewest and most, from 2 to 5. Default [3, 4]. */
  numbers?: Range;
  /** Numbers are drawn from 1 to this, at most 99. Default 25. */
  maxNumber?: number;
  /** Targets are from 1 to this, at most 9999. Default 99. */
  maxTarget?: number;
}

export interface CountdownExample extends Example {
  numbers: readonly number[];
  target: number;
}

/**
 * Countdown. An answer uses every given number exactly once, with + - * / and parentheses, and equals the target exactly
 * (in rational arithmetic). The target is computed from an expression, so an answer exists; the difficulty is the number of given
 * numbers. The same numbers in another order are the same problem.
 */
export function countdown(options: CountdownOptions): GeneratedTask<CountdownExample> {
  const o = checkOptions(options, ['numbers', 'maxNumber', 'maxTarget']);
  const count = checkRange('numbers', o.numbers ?? [3, 4], { min: 2, max: 5 });
  const maxNumber = checkNumber('maxNumber', o.maxNumber ?? 25, { min: 2, max: 99, integer: true });
  const maxTarget = checkNumber('maxTarget', o.maxTarget ?? 99, { min: 10, max: 9999, integer: true });
  const [fewest, most] = count;
  const numbersLength = most * String(maxNumber).length + (most - 1);
  return generatedTask<CountdownExample>(options, {
    name: `countdown with ${rangeText(count, 'number')}`,
    settings: { numbers: count, maxNumber, maxTarget },
    characters: '0123456789+-*/()=,:',
    maxPromptLength: numbersLength + 1 + String(maxTarget).length + 1,
    // Every operation but the last may need parentheses.
    maxSolutionLength: numbersLength + 2 * (most - 2),
    draw(next) {
      const length = fewest + next(most - fewest + 1);
      const built = tryOften(() => {
        const numbers = Array.from({ length }, () => 1 + next(maxNumber));
        const expression = drawExpression(next, numbers, maxTarget);
        return expression && { ...expression, numbers };
      });
      if (!built) return undefined;
      const { numbers, value: target, text } = built;
      const prompt = `${numbers.join(',')}=${target}:`;
      return {
        example: { prompt, answer: text, solution: text, difficulty: numbers.length, numbers, target },
        problem: `${sorted(numbers)}=${target}`,
      };
    },
    parse(prompt) {
      const [, list, goal] = /^([1-9]\d?(?:,[1-9]\d?){1,4})=([1-9]\d{0,3}):$/.exec(prompt) ?? [];
      if (list === undefined) return undefined;
      const [numbers, target] = [list.split(',').map(Number), Number(goal)];
      const text = findExpression(numbers.map(asPart), target);
      if (text === undefined) return undefined;
      return { prompt, answer: text, solution: text, difficulty: numbers.length, numbers, target };
    },
    score(text, { numbers, target }) {
      const expression = readExpression(text);
      if (!expression || sorted(expression.numbers) !== sorted(numbers)) return 0;
      return expression.numerator === BigInt(target) * expression.denominator ? 1 : 0;
    },
  });
}

function sorted(numbers: readonly number[]): string {
  return [...numbers].sort((a, b) => a - b).join(',');
}

/** Part of an expression. Sums and differences bind with 1, products and quotients with 2, numbers with 3. */
interface Part {
  value: number;
  text: string;
  binding: 1 | 2 | 3;
}

/** Joins random parts until one is left. All intermediate values are positive integers. */
function drawExpression(next: Draw, numbers: readonly number[], maxTarget: number): Part | undefined {
  const parts = numbers.map(asPart);
  while (parts.length > 1) {
    const [a] = parts.splice(next(parts.length), 1);
    const [b] = parts.splice(next(parts.length), 1);
    const joined = joins(a, b).filter(({ value }) => parts.length > 0 || value <= maxTarget);
    if (joined.length === 0) return undefined;
    parts.push(joined[next(joined.length)]);
  }
  return parts[0].value <= maxTarget ? parts[0] : undefined;
}

function asPart(value: number): Part {
  return { value, text: String(value), binding: 3 };
}

/** An expression of all parts with the target as its value, all intermediate values positive integers, if there is one. */
function findExpression(parts: readonly Part[], target: number): string | undefined {
  if (parts.length === 1) return parts[0].value === target ? parts[0].text : undefined;
  for (let i = 0; i < parts.length; i++) {
    for (let j = 0; j < i; j++) {
      const others = parts.filter((_, k) => k !== i && k !== j);
      for (const joined of joins(parts[i], parts[j])) {
        const found = findExpression([...others, joined], target);
        if (found !== undefined) return found;
      }
    }
  }
  return undefined;
}

function joins(x: Part, y: Part): Part[] {
  const [a, b] = x.value >= y.value ? [x, y] : [y, x];
  const results = [join(a, '+', b, a.value + b.value), join(a, '*', b, a.value * b.value)];
  if (a.value > b.value) results.push(join(a, '-', b, a.value - b.value));
  if (b.value > 1 && a.value % b.value === 0) results.push(join(a, '/', b, a.value / b.value));
  return results;
}

function join(left: Part, operator: '+' | '-' | '*' | '/', right: Part, value: number): Part {
  const binding = operator === '+' || operator === '-' ? 1 : 2;
  const leftText = left.binding < binding ? `(${left.text})` : left.text;
  // An operand after '-' or '/' needs parentheses; after '+' and '*' the order does not matter.
  const loose = right.binding < binding || (right.binding === binding && (operator === '-' || operator === '/'));
  return { value, text: `${leftText}${operator}${loose ? `(${right.text})` : right.text}`, binding };
}
