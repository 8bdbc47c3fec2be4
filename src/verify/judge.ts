// The verdict on an extracted answer. Pure and bounded: the calling thread uses `judgeQuickly`, workers `judgeFully`.

import { literal, sameAnswer, sameQuantity } from './compare.js';
import { maxAnswer, normalise, textKey, wordsOf } from './normalise.js';
import { parseAnswer } from './parse.js';
import { Undecided } from './rational.js';
import type { Answer } from './syntax.js';

export interface Judgement {
  correct: boolean;
  reason: string;
}

/** A pair of answers, normalised. */
export interface Pair {
  gold: string;
  given: string;
  tolerance: number;
}

const equal: Judgement = { correct: true, reason: 'the same after normalisation' };

/** Decides pairs that need no arithmetic beyond two rational numbers; undefined if they need more. */
export function judgeQuickly({ gold, given, tolerance }: Pair): Judgement | undefined {
  if (given === '') return { correct: false, reason: 'the answer is empty' };
  if (textKey(gold) === textKey(given)) return equal;
  const read = readBoth(gold, given);
  if ('correct' in read) return read;
  const [a, b] = [literal(read.gold), literal(read.given)];
  if (!a || !b) return undefined;
  const correct = sameQuantity(a, b, tolerance);
  return { correct, reason: correct ? 'the same number' : 'another number' };
}

export function judgeFully({ gold, given, tolerance }: Pair): Judgement {
  const read = readBoth(gold, given);
  if ('correct' in read) return read;
  try {
    const correct = sameAnswer(read.gold, read.given, { tolerance });
    return { correct, reason: correct ? 'equal in value' : 'not equal in value' };
  } catch (error) {
    return undecided(error);
  }
}

/** Both answers as data, or a verdict if one of them can only be compared as words. */
function readBoth(gold: string, given: string): { gold: Answer; given: Answer } | Judgement {
  try {
    return { gold: parseAnswer(gold), given: parseAnswer(given) };
  } catch (error) {
    const words = gold.length <= maxAnswer && given.length <= maxAnswer ? wordsOf(gold) : '';
    if (words !== '' && /\p{L}{2}/u.test(words) && words === wordsOf(given))
      return { correct: true, reason: 'the same words' };
    return undecided(error);
  }
}

function undecided(error: unknown): Judgement {
  if (!(error instanceof Undecided)) throw error;
  return { correct: false, reason: `undecided: ${error.message}` };
}

/**
 * A key shared by answers that are the same number, or the same after normalisation, for counting votes. Other answers of equal
 * value, such as 1 + x and x + 1, have different keys.
 */
export function answerKey(answer: string): string {
  const normal = normalise(answer.slice(0, maxAnswer));
  try {
    const number = literal(parseAnswer(normal));
    if (number) return `${number.value.n}/${number.value.d} ${number.unit ?? ''}`;
  } catch (error) {
    if (!(error instanceof Undecided)) throw error;
  }
  return textKey(normal);
}

/** Whether a text is nothing but an answer: it can be parsed, and is not a sentence. */
export function isBareAnswer(text: string, gold: string): boolean {
  const normal = normalise(text);
  if (textKey(normal) === textKey(gold)) return true;
  try {
    const answer = parseAnswer(normal);
    return answer.kind !== 'text' || !/\s\S+\s/.test(answer.text);
  } catch (error) {
    if (!(error instanceof Undecided)) throw error;
    // Without words it is a formula that cannot be parsed, not a sentence that ends in a number.
    return !/[a-zA-Z]{2}/.test(normal.replace(/\\[a-zA-Z]+/g, ''));
  }
}
