// Splits a normalised answer into tokens: numbers, letters, commands, text, signs.

import { Undecided } from './rational.js';

export type Token =
  /** `repeating` holds the digits under a bar; `spaced` is whether a space precedes. */
  | { kind: 'number'; digits: string; exponent: number; repeating?: string; spaced: boolean }
  | { kind: 'symbol'; name: string }
  | { kind: 'function'; name: string }
  /** Letters that are not a function: a word, or a product of variables. */
  | { kind: 'letters'; text: string }
  | { kind: 'text'; text: string }
  | { kind: 'sign'; sign: string };

const functions = [
  'arcsin',
  'arccos',
  'arctan',
  'sinh',
  'cosh',
  'tanh',
  'sin',
  'cos',
  'tan',
  'cot',
  'sec',
  'csc',
  'exp',
  'ln',
  'log',
  'lg',
  'sqrt',
  'abs',
  'floor',
  'ceil',
  'gcd',
  'lcm',
  'max',
  'min',
];
const greek = new Set(
  (
    'alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau phi varphi chi psi omega ' +
    'Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega hbar ell emptyset varnothing'
  ).split(' '),
);
/** Commands that the parser handles specially, and their aliases. */
const signs: Readonly<Record<string, string>> = {
  frac: 'frac',
  binom: 'binom',
  times: '*',
  cdot: '*',
  ast: '*',
  div: '/',
  pm: '±',
  mp: '∓',
  cup: '∪',
  cap: '∩',
  setminus: '∖',
  backslash: '∖',
  in: '∈',
  le: '≤',
  ge: '≥',
  ne: '≠',
  lt: '<',
  gt: '>',
  lfloor: 'lfloor',
  rfloor: 'rfloor',
  lceil: 'lceil',
  rceil: 'rceil',
  langle: '(',
  rangle: ')',
  lvert: '|',
  rvert: '|',
  vert: '|',
  mid: '|',
  circ: 'circ',
  colon: ':',
  lbrack: '[',
  rbrack: ']',
  choose: 'choose',
  over: 'over',
  approx: '≈',
  to: '→',
  rightarrow: '→',
  prime: "'",
  degree: 'degree',
  And: '∧',
  land: '∧',
  lor: '∨',
  ldots: '…',
  dots: '…',
  cdots: '…',
  overline: 'overline',
  implies: '→',
  equiv: '≡',
  pmod: 'pmod',
  quad: ' ',
  '{': 'set(',
  '}': ')set',
  '|': '‖',
  newrow: 'newrow',
  $: '$',
  '&': '&&',
  '#': '#',
};

/** Maximum number of tokens of an answer. */
const maxTokens = 1_500;

/** Undecided for anything that the parser does not know. */
export function lex(text: string): Token[] {
  const tokens: Token[] = [];
  // Commas within brackets are separators; outside, between groups of three digits, they are part of the number.
  let depth = 0;
  let at = 0;
  const take = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at;
    const match = pattern.exec(text);
    if (match) at += match[0].length;
    return match;
  };
  const brace = (): string => {
    const content = take(/\s*\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}/y);
    if (!content) throw new Undecided('a command without its braces');
    return content[1];
  };
  while (at < text.length) {
    if (tokens.length > maxTokens) throw new Undecided('the answer is too long');
    const spaced = take(/ +/y) !== null;
    if (at >= text.length) break;
    const number = take(depth === 0 ? numberOutside : numberInside);
    if (number) {
      const digits = number[1].replace(/[^\d.]/g, '');
      const repeating = take(/\s?\\overline\s?\{(\d{1,40})\}/y)?.[1];
      const exponent = repeating === undefined ? take(/[eE]([+-]?\d{1,6})(?![\d.])/y)?.[1] : undefined;
      if (repeating !== undefined && !digits.includes('.')) throw new Undecided('a bar over digits');
      tokens.push({ kind: 'number', digits, exponent: Number(exponent ?? 0), repeating, spaced });
      continue;
    }
    const letters = take(/[a-zA-Z]+/y)?.[0];
    if (letters !== undefined) {
      tokens.push(...wordTokens(letters));
      continue;
    }
    const command = take(/\\([a-zA-Z]+|.)/y)?.[1];
    if (command === undefined) {
      const sign = String.fromCodePoint(text.codePointAt(at)!);
      at += sign.length;
      if ('([{'.includes(sign)) depth++;
      if (')]}'.includes(sign)) depth = Math.max(0, depth - 1);
      if (sign === '*' && text[at] === '*') {
        at++;
        tokens.push({ kind: 'sign', sign: '^' });
      } else if ('<>!'.includes(sign) && text[at] === '=') {
        at++;
        tokens.push({ kind: 'sign', sign: { '<': '≤', '>': '≥', '!': '≠' }[sign]! });
      } else tokens.push({ kind: 'sign', sign });
    } else if (/^(?:text|textrm|textbf|textit|textnormal|mbox|hbox|mathrm|operatorname)$/.test(command)) {
      const content = brace().trim();
      if (/^[a-z]{2,6}$/.test(content) && functions.includes(content)) tokens.push({ kind: 'function', name: content });
      else if (content === 'or') tokens.push({ kind: 'sign', sign: '∨' });
      else if (content === 'and' || content === ',') tokens.push({ kind: 'sign', sign: ',' });
      else if (command === 'mathrm' && /^[ei]$/.test(content)) tokens.push({ kind: 'symbol', name: content });
      else if (content !== '' && !/[\p{L}\\]/u.test(content)) tokens.push(...lex(content));
      else if (content !== '') tokens.push({ kind: 'text', text: content });
    } else if (command === 'begin' || command === 'end') tokens.push({ kind: 'sign', sign: `${command} ${brace()}` });
    else if (command === 'mathbb' || command === 'mathcal')
      tokens.push({ kind: 'symbol', name: `\\${command}${brace()}` });
    else if (functions.includes(command)) tokens.push({ kind: 'function', name: command });
    else if (greek.has(command))
      tokens.push({ kind: 'symbol', name: command === 'varnothing' ? 'emptyset' : command.replace(/^var/, '') });
    else if (command === 'pi' || command === 'infty') tokens.push({ kind: 'symbol', name: command });
    else if (Object.hasOwn(signs, command)) {
      if (command === '{') depth++;
      if (command === '}') depth = Math.max(0, depth - 1);
      tokens.push({ kind: 'sign', sign: signs[command] });
    } else throw new Undecided(`\\${command.slice(0, 20)} has no meaning here`);
  }
  return tokens;
}

const numberInside = /(\d+\.(?=\s?\\overline)|(?:\d+(?:\{,\}\d{3})+|\d+)(?:\.\d+)?(?!\d)|\.\d+)/y;
const numberOutside =
  /(\d+\.(?=\s?\\overline)|(?:\d{1,3}(?:(?:,|\{,\})\d{3})+(?!\d)|\d{1,3}(?: \d{3})+(?![\d/])|\d+)(?:\.\d+)?(?!\d)|\.\d+|\d+(?=\.(?!\d)))/y;

/** Functions and constants in a run of letters; else the run itself. */
function wordTokens(letters: string): Token[] {
  if (functions.includes(letters)) return [{ kind: 'function', name: letters }];
  if (letters === 'pi') return [{ kind: 'symbol', name: 'pi' }];
  if (/^(?:inf|infty|infinity|oo)$/i.test(letters)) return [{ kind: 'symbol', name: 'infty' }];
  if (letters === 'or') return [{ kind: 'sign', sign: '∨' }];
  if (letters === 'and') return [{ kind: 'sign', sign: ',' }];
  if (letters === 'U') return [{ kind: 'letters', text: 'U' }];
  if (letters.length === 1) return [{ kind: 'symbol', name: letters }];
  const glued = /^(?:arcsin|arccos|arctan|sin|cos|tan|cot|ln|log|sqrt)(?=[a-z]$)/.exec(letters);
  if (glued)
    return [
      { kind: 'function', name: glued[0] },
      { kind: 'symbol', name: letters.slice(glued[0].length) },
    ];
  return [{ kind: 'letters', text: letters }];
}
