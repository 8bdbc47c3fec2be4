// The syntax tree of an answer, from the parser to the comparison.

import type { Rational } from './rational.js';

export type Expression =
  | { kind: 'number'; value: Rational }
  | { kind: 'symbol'; name: string }
  | { kind: 'sum'; terms: Expression[] }
  | { kind: 'product'; factors: Expression[] }
  | { kind: 'quotient'; over: Expression; under: Expression }
  | { kind: 'power'; base: Expression; exponent: Expression }
  | { kind: 'root'; of: Expression; degree: Expression }
  | { kind: 'call'; name: string; of: Expression[] }
  /** ± or ∓, with the same choice throughout an item; -1 for ∓. */
  | { kind: 'choice'; sign: 1 | -1 };

export type Answer =
  | { kind: 'expression'; value: Expression; unit?: string }
  /** Lower case. */
  | { kind: 'text'; text: string }
  /** Letters without a command: a word, or a product of variables. */
  | { kind: 'letters'; text: string; value: Expression }
  /** Separated by commas or words, in no order. */
  | { kind: 'list'; items: Answer[] }
  | { kind: 'set'; items: Answer[] }
  /** A point, a vector or an interval. */
  | { kind: 'tuple'; open: '(' | '['; close: ')' | ']'; items: Answer[] }
  | { kind: 'union'; parts: Answer[] }
  | { kind: 'matrix'; rows: Answer[][] }
  | { kind: 'relation'; operators: string[]; sides: Answer[] }
  /** Times of day and proportions. */
  | { kind: 'ratio'; parts: Answer[] }
  /** Digits with a base other than ten. */
  | { kind: 'digits'; digits: string; base: string };
