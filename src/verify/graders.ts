// The graders: each extracts the answer from a completion and compares it with the known right one. An empty answer is never
// right, and an undecidable one is rejected.

import { checkBoolean, checkNumber, describe, rangeError, typeError } from '../base/check.js';
import { literal, sameQuantity } from './compare.js';
import { extractAnswer, extractMarked, lastBoxed, trimAnswer } from './extract.js';
import { accept, checkGradeOptions, checkTexts, type Grade, type GradeOptions, refuse, tooLong } from './grade.js';
import { checkSchema, type JsonSchema } from './json-schema.js';
import { isBareAnswer, judgeQuickly } from './judge.js';
import { maxAnswer, normalise, wordsOf } from './normalise.js';
import { parseAnswer } from './parse.js';
import { ask } from './pool.js';
import { Undecided } from './rational.js';

export interface NumericOptions extends GradeOptions {
  /** Largest accepted relative difference from the right number. Default 0: exact. */
  tolerance?: number;
}

/**
 * Grades a mathematical answer by its meaning: numbers exactly, expressions by exact arithmetic at several points, sets,
 * tuples, intervals, matrices and equations by their parts. docs/verify.md lists what is accepted. `gold` is an answer in
 * LaTeX or plain notation, or a solution that ends with one in `\boxed{…}` or after `####`.
 *
 * @example
 * await verify.maths('… so the answer is \\boxed{0.25}.', '\\frac14');   // { correct: true, extracted: '0.25', … }
 */
export async function maths(completion: string, gold: string, options: NumericOptions = {}): Promise<Grade> {
  const { bounds, tolerance } = checkNumeric(completion, gold, options);
  const long = tooLong(completion, bounds);
  if (long) return long;
  const right = normalise(answerOf(gold));
  const isWhole = completion.length <= maxAnswer && right !== '' && normalise(completion) === right;
  const extracted = isWhole ? completion.trim() : extractAnswer(completion, (text) => isBareAnswer(text, right));
  if (extracted === null) return refuse(null, 'no answer was found');
  const pair = { gold: right, given: normalise(extracted), tolerance };
  const judgement = judgeQuickly(pair) ?? (await ask({ kind: 'maths', ...pair }, bounds.timeLimit));
  return { correct: judgement.correct, extracted: shown(extracted), reason: judgement.reason };
}

/** Grades an answer that is a single number, with or without its unit; anything else is rejected. Uses no worker thread.
 *
 * @example
 * await verify.number('That makes $1,250.', '1250');   // correct
 */
export async function number(completion: string, gold: string, options: NumericOptions = {}): Promise<Grade> {
  const { bounds, tolerance } = checkNumeric(completion, gold, options);
  const right = goldNumber(gold, 'gold');
  const long = tooLong(completion, bounds);
  if (long) return long;
  const extracted = extractAnswer(completion, (text) => numberOf(text) !== undefined);
  if (extracted === null) return refuse(null, 'no answer was found');
  const given = numberOf(extracted);
  if (!given) return refuse(shown(extracted), 'the answer is no number');
  return sameQuantity(right, given, tolerance)
    ? accept(shown(extracted), 'the same number')
    : refuse(shown(extracted), 'another number');
}

/** The right number. RangeError that names the field if the text is not a number. */
export function goldNumber(gold: string, field: string) {
  const right = numberOf(answerOf(gold));
  if (!right) throw rangeError(field, 'a number', describe(gold));
  return right;
}

/** `number` for GSM8K, whose column `answer` holds a solution that ends with `#### 18`; the bare number is accepted too. */
export const gsm8k = number;

export interface ChoiceOptions extends GradeOptions {
  /** The texts of the choices A, B, C …; an answer may then be the text of a choice instead of its letter. Default: letters only. */
  choices?: readonly string[];
}

/** Grades the answer to a multiple-choice question. `gold` is a letter, or one of `choices`.
 *
 * @example
 * await verify.choice('The answer is (B).', 'B');                            // correct
 * await verify.choice('\\boxed{Paris}', 'B', { choices: ['Rome', 'Paris'] });  // correct
 */
export async function choice(completion: string, gold: string, options: ChoiceOptions = {}): Promise<Grade> {
  checkTexts(completion, gold);
  const bounds = checkGradeOptions(options, ['choices']);
  const { choices = [] } = options;
  if (!Array.isArray(choices) || choices.some((text) => typeof text !== 'string'))
    throw typeError('options.choices', 'an array of strings', choices);
  if (choices.length > 26) throw rangeError('options.choices', 'at most 26 strings', String(choices.length));
  const { letters, texts, right } = goldChoice(gold, choices, 'gold');
  const long = tooLong(completion, bounds);
  if (long) return long;
  const extracted = extractMarked(completion) ?? statedChoice(completion) ?? bareChoice(completion);
  if (extracted === null || extracted === '') return refuse(extracted, 'no answer was found');
  const given = letterOf(extracted, letters, texts);
  if (given === undefined) return refuse(shown(extracted), 'the answer is none of the choices');
  return given === right ? accept(given, 'the right choice') : refuse(given, 'another choice');
}

/** The letter of the right choice. RangeError that names the field if the text is not one of the choices. */
export function goldChoice(gold: string, choices: readonly string[], field: string) {
  const texts = choices.map(wordsOf);
  const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ'.slice(0, choices.length || 26);
  const right = letterOf(gold, letters, texts);
  if (right === undefined) {
    const expected = choices.length ? `a letter from A to ${letters.at(-1)}, or one of the choices` : 'a letter';
    throw rangeError(field, expected, describe(gold));
  }
  return { letters, texts, right };
}

/** The letter of `B`, `(b)`, `B. Paris`, `Paris`; undefined if text and letter disagree, or two are named. */
function letterOf(answer: string, letters: string, texts: readonly string[]): string | undefined {
  const words = wordsOf(normalise(answer.slice(0, 500)));
  const same = texts.flatMap((text, i) => (text !== '' && text === words ? [letters[i]] : []));
  if (same.length === 1) return same[0];
  const lettered = /^(?:(?:option|choice|answer)\s+)?[([]?\s*([a-z])\s*(?:[)\].:]+|$)\s*(?:(?:-\s*)?(\S.*))?$/s.exec(
    words,
  );
  const letter = lettered?.[1].toUpperCase();
  if (letter === undefined || !letters.includes(letter)) return undefined;
  const text = lettered?.[2];
  if (text === undefined) return letter;
  const named = texts[letters.indexOf(letter)];
  // Without texts to compare with, words after the letter count as its text, but another letter is a second answer.
  return named === undefined
    ? /(?:^|[\s(])[a-z]\s*[).\]]|\b(?:or|and)\s+\(?[a-z]\b/.test(text)
      ? undefined
      : letter
    : text === named
      ? letter
      : undefined;
}

/** "the answer is (B)", "correct option: C" */
function statedChoice(text: string): string | null {
  let found: string | null = null;
  for (const match of text.matchAll(
    /\b(?:answer|option|choice)(?:\s{1,4}is)?\s{0,4}:?\s{0,4}[*_$]{0,3}(?:\\text\{)?([([]?[A-Z][)\]]?)(?![\w'])(?!\s{0,4}(?:or|and|,|\/)\s{0,4}[([]?[A-Z]\b)/g,
  ))
    found = match[1];
  return found;
}

/** The last line, if it is short: the completion "B", or "(B) Paris". */
function bareChoice(text: string): string | null {
  const last = text.trimEnd().slice(-500);
  return trimAnswer(last.slice(last.lastIndexOf('\n') + 1)) || null;
}

export interface ExactOptions extends GradeOptions {
  /** Whether upper and lower case differ. Default true. */
  caseSensitive?: boolean;
}

/**
 * Accepts an answer that is identical to `gold` up to surrounding spaces: the content of the last `\boxed{…}` or after
 * "Answer:", or the whole completion.
 */
export async function exact(completion: string, gold: string, options: ExactOptions = {}): Promise<Grade> {
  checkTexts(completion, gold);
  const { bounds, caseSensitive } = checkExactOptions(options);
  const right = gold.trim();
  const long = tooLong(completion, bounds);
  if (long) return long;
  const whole = completion.trim();
  const extracted = extractMarked(completion) ?? whole;
  if (extracted === '') return refuse(null, 'no answer was found');
  const form = (text: string) => (caseSensitive ? text.normalize('NFC') : text.normalize('NFC').toLowerCase());
  const same = [extracted, whole].some((text) => form(text) === form(right));
  return same ? accept(shown(extracted), 'the same text') : refuse(shown(extracted), 'another text');
}

/** TypeError or RangeError that names the field. */
export function checkExactOptions(options: ExactOptions) {
  const bounds = checkGradeOptions(options, ['caseSensitive']);
  const { caseSensitive = true } = options;
  return { bounds, caseSensitive: checkBoolean('options.caseSensitive', caseSensitive) };
}

/**
 * Accepts a completion in which a regular expression matches, anywhere unless it is anchored. It runs in a worker thread, which
 * is terminated if it takes longer than `timeLimit`. An empty completion is rejected.
 */
export async function regex(completion: string, pattern: RegExp | string, options: GradeOptions = {}): Promise<Grade> {
  checkTexts(completion);
  const bounds = checkGradeOptions(options);
  const { source, flags } = checkPattern('pattern', pattern);
  const long = tooLong(completion, bounds);
  if (long) return long;
  if (completion.trim() === '') return refuse(null, 'the completion is empty');
  const { correct, reason } = await ask({ kind: 'regex', source, flags, text: completion }, bounds.timeLimit);
  return { correct, extracted: shown(completion), reason };
}

export function checkPattern(field: string, pattern: unknown): RegExp {
  if (pattern instanceof RegExp) return pattern;
  if (typeof pattern !== 'string') throw typeError(field, 'a regular expression or its source', pattern);
  try {
    return new RegExp(pattern, 'u');
  } catch (error) {
    throw rangeError(field, 'a regular expression', (error as Error).message);
  }
}

/**
 * Accepts a completion that is JSON, bare or in its last fenced block, and valid under `schema`, a subset of JSON Schema 2020-12
 * (docs/verify.md lists the keywords). TypeError for any other keyword.
 */
export async function json(completion: string, schema: JsonSchema, options: GradeOptions = {}): Promise<Grade> {
  checkTexts(completion);
  const bounds = checkGradeOptions(options);
  checkSchema('schema', schema);
  const long = tooLong(completion, bounds);
  if (long) return long;
  const text = fencedBlock(completion) ?? completion.trim();
  if (text === '') return refuse(null, 'the completion is empty');
  const { correct, reason } = await ask({ kind: 'json', schema: JSON.stringify(schema), text }, bounds.timeLimit);
  return { correct, extracted: shown(text), reason };
}

/** The content of the last block between lines of three backticks. */
function fencedBlock(text: string): string | null {
  const end = text.lastIndexOf('\n```');
  const start = end < 0 ? -1 : text.lastIndexOf('```', end - 1);
  if (start < 0) return null;
  const newline = text.indexOf('\n', start);
  return newline < 0 || newline > end ? null : text.slice(newline + 1, end).trim();
}

/** The options of `maths`, `gsm8k` and `number`. TypeError or RangeError that names the field. */
export function checkNumericOptions(options: NumericOptions) {
  const bounds = checkGradeOptions(options, ['tolerance']);
  const { tolerance = 0 } = options;
  checkNumber('options.tolerance', tolerance, { min: 0, below: 1 });
  return { bounds, tolerance };
}

function checkNumeric(completion: unknown, gold: unknown, options: NumericOptions) {
  checkTexts(completion, gold);
  return checkNumericOptions(options);
}

/** The answer in a data set's column; in a worked solution, the part marked as the answer. */
function answerOf(gold: string): string {
  return lastBoxed(gold) || (gold.includes('####') ? gold.slice(gold.lastIndexOf('####') + 4) : gold).trim();
}

function numberOf(text: string) {
  try {
    return literal(parseAnswer(normalise(text)));
  } catch (error) {
    if (!(error instanceof Undecided)) throw error;
    return undefined;
  }
}

/** Grades are stored and logged, so the extracted answer is shortened. */
function shown(text: string): string {
  return text.length > 200 ? `${text.slice(0, 200).replace(/[\ud800-\udbff]$/, '')}…` : text;
}
