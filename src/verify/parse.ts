// Parses an answer in the subset of LaTeX and plain notation that answers use. Anything unknown is rejected (Undecided) rather
// than guessed.

import { lex, type Token } from './lex.js';
import { wordsOf } from './normalise.js';
import {
  add,
  Budget,
  divide,
  integer,
  multiply,
  negate,
  parseDecimal,
  type Rational,
  rational,
  Undecided,
} from './rational.js';
import type { Answer, Expression } from './syntax.js';
import { canonicalUnit, isUnitWord } from './units.js';

/** Maximum nesting of brackets. */
const maxDepth = 60;
/** Maximum UTF-16 units of an answer that is parsed; a longer one is only compared as text. */
export const maxParsed = 2_000;

/** Maximum consecutive letters that may be a product of variables at the start of a term. */
const maxLetters = 8;

const relations = new Set(['=', '<', '>', '≤', '≥', '≠', '∈', '≈']);

/** Parses a normalised answer. Undecided if it cannot be parsed. */
export function parseAnswer(normal: string): Answer {
  if (normal === '') throw new Undecided('the answer is empty');
  if (normal.length > maxParsed) throw new Undecided('the answer is too long');
  return new Parser(lex(normal)).answer(normal);
}

const isSign = (token: Token | undefined, ...wanted: string[]): boolean =>
  token?.kind === 'sign' && wanted.includes(token.sign);

const product = (factors: Expression[]): Expression =>
  factors.length === 1 ? factors[0] : { kind: 'product', factors };
const minusOne: Expression = { kind: 'number', value: integer(-1n) };
const negative = (of: Expression): Expression =>
  of.kind === 'number' ? { kind: 'number', value: negate(of.value) } : { kind: 'product', factors: [minusOne, of] };

const isInequality = (answer: Answer): boolean =>
  answer.kind === 'relation' && answer.operators.every((operator) => '<>≤≥'.includes(operator));

class Parser {
  private at = 0;
  private depth = 0;
  private readonly budget = new Budget(20_000);

  constructor(private tokens: Token[]) {}

  answer(normal: string): Answer {
    const { tokens } = this;
    if (tokens.some((token) => token.kind === 'text' || token.kind === 'letters')) {
      const text = this.asText(normal);
      if (text) return text;
    }
    const answer = this.list();
    if (this.at < this.tokens.length) throw new Undecided('something follows the answer');
    return answer;
  }

  /** An answer of words and numbers that is not a mathematical expression. */
  private asText(normal: string): Answer | undefined {
    const only = (...kinds: Token['kind'][]) => this.tokens.every((token) => kinds.includes(token.kind));
    const text = wordsOf(normal);
    if (this.tokens.length === 1 && this.tokens[0].kind === 'letters') {
      const { text: letters } = this.tokens[0];
      return letters.length > 3 ? { kind: 'text', text } : { kind: 'letters', text, value: lettersProduct(letters) };
    }
    if (
      only('text', 'letters') ||
      (this.tokens[0].kind !== 'number' && only('text', 'letters', 'number') && this.tokens[0].kind === 'text')
    ) {
      return { kind: 'text', text };
    }
    return undefined;
  }

  private peek(): Token | undefined {
    return this.tokens[this.at];
  }

  private skip(...wanted: string[]): boolean {
    if (!isSign(this.peek(), ...wanted)) return false;
    this.at++;
    return true;
  }

  private expect(sign: string): void {
    if (!this.skip(sign)) throw new Undecided(`expected ${sign}`);
  }

  private nested<T>(read: () => T): T {
    if (++this.depth > maxDepth) throw new Undecided('too many brackets');
    const result = read();
    this.depth--;
    return result;
  }

  /** Items between commas, or one. */
  private list(): Answer {
    const start = this.at;
    const items = this.items();
    if (items.length === 1) return items[0];
    const separators = this.tokens.slice(start, this.at).filter((token) => isSign(token, ',', ';', '∨'));
    // x < 2 or x > 3
    const areAlternatives = separators.every((token) => isSign(token, '∨')) && items.every(isInequality);
    return areAlternatives ? { kind: 'union', parts: items } : { kind: 'list', items };
  }

  private items(): Answer[] {
    const items = [this.item()];
    while (this.skip(',', ';', '∨')) {
      // "1, 2, and 3"
      this.skip(',', '∨');
      items.push(this.item());
    }
    return items;
  }

  private item(): Answer {
    const sides = [this.union()];
    const operators: string[] = [];
    for (let token = this.peek(); token?.kind === 'sign' && relations.has(token.sign); token = this.peek()) {
      this.at++;
      operators.push(token.sign);
      sides.push(this.union());
    }
    return operators.length === 0 ? sides[0] : { kind: 'relation', operators, sides };
  }

  private union(): Answer {
    const parts = [this.ratio()];
    const isUnion = () => {
      const token = this.peek();
      return isSign(token, '∪') || (token?.kind === 'letters' && token.text === 'U');
    };
    while (isUnion()) {
      this.at++;
      parts.push(this.ratio());
    }
    return parts.length === 1 ? parts[0] : { kind: 'union', parts };
  }

  private ratio(): Answer {
    const parts = [this.quantity()];
    while (this.skip(':')) parts.push(this.quantity());
    return parts.length === 1 ? parts[0] : { kind: 'ratio', parts };
  }

  /** A value and its unit, or another item that is not an expression. */
  private quantity(): Answer {
    const token = this.peek();
    if (token?.kind === 'text') {
      this.at++;
      const next = this.peek();
      if (
        next !== undefined &&
        !isSign(next, ',', '∨', ')', ')set', ']', '=', '&', 'newrow') &&
        !(next.kind === 'sign' && next.sign.startsWith('end '))
      ) {
        throw new Undecided('words before a value');
      }
      return { kind: 'text', text: wordsOf(token.text) };
    }
    if (isSign(token, '$', '€', '£')) {
      const currency = (token as { sign: string }).sign;
      this.at++;
      const value = this.expression();
      const unit = this.unit();
      if (unit !== undefined && unit !== canonicalUnit(currency)) throw new Undecided('two units');
      return { kind: 'expression', value, unit: canonicalUnit(currency) };
    }
    if (token?.kind === 'symbol' && token.name === '\\mathbbR') {
      this.at++;
      const infinity: Expression = { kind: 'symbol', name: 'infty' };
      const ends = [negative(infinity), infinity].map((value) => ({ kind: 'expression', value }) as const);
      return { kind: 'tuple', open: '(', close: ')', items: ends };
    }
    const signed = isSign(token, '-') && isSign(this.tokens[this.at + 1], '$');
    if (signed) {
      this.at += 2;
      return { kind: 'expression', value: negative(this.expression()), unit: canonicalUnit('$') };
    }
    const bracketed = this.bracketed();
    if (bracketed) return bracketed;
    const digits = this.digits();
    if (digits) return digits;
    const value = this.expression();
    const unit = this.unit();
    return unit === undefined ? { kind: 'expression', value } : { kind: 'expression', value, unit };
  }

  /** Words after a value, up to the next separator. */
  private unit(): string | undefined {
    const start = this.at;
    const degree = this.degree();
    if (degree) {
      const scale = this.peek();
      if (scale?.kind === 'symbol' && /^[CFK]$/.test(scale.name)) {
        this.at++;
        return `°${scale.name}`;
      }
      if (this.isUnitStart()) throw new Undecided('two units');
      return 'degree';
    }
    if (this.skip('%')) return 'percent';
    if (!this.isUnitStart()) return undefined;
    const parts: string[] = [];
    while (this.at < this.tokens.length) {
      const token = this.tokens[this.at];
      if (token.kind === 'text' || token.kind === 'letters') parts.push(token.text);
      else if (isSign(token, '/', '*', '^')) parts.push((token as { sign: string }).sign);
      else if (isSign(token, '-') && parts.at(-1) === '^') parts[parts.length - 1] = '^-';
      else if (isSign(token, '{', '}')) {
        // The braces of an exponent.
      } else if (token.kind === 'number' && /^\^-?$/.test(parts.at(-1) ?? '')) parts[parts.length - 1] += token.digits;
      else if (token.kind === 'symbol' && /^[/*]$/.test(parts.at(-1) ?? '')) parts.push(token.name);
      else break;
      this.at++;
    }
    const unit = canonicalUnit(parts.join(' '));
    if (unit === undefined) throw new Undecided(`${JSON.stringify(parts.join(' ').slice(0, 40))} after a value`);
    if (this.at === start) return undefined;
    return unit;
  }

  private isUnitStart(): boolean {
    const token = this.peek();
    return token?.kind === 'text' || (token?.kind === 'letters' && token.text !== 'U');
  }

  /** ^\circ, ^{\circ}, \degree */
  private degree(): boolean {
    const rest = this.tokens.slice(this.at, this.at + 4).map((token) => (token.kind === 'sign' ? token.sign : ' '));
    const width =
      rest[0] === 'degree'
        ? 1
        : rest[0] !== '^'
          ? 0
          : rest[1] === 'circ'
            ? 2
            : rest[1] === '{' && rest[2] === 'circ' && rest[3] === '}'
              ? 4
              : 0;
    this.at += width;
    return width > 0;
  }

  /** Sets, tuples, intervals and matrices that are a whole item; undefined if the brackets belong to an expression. */
  private bracketed(): Answer | undefined {
    const token = this.peek();
    if (token?.kind !== 'sign') return undefined;
    const start = this.at;
    if (token.sign === 'set(') {
      return this.nested(() => {
        this.at++;
        const items = isSign(this.peek(), ')set') ? [] : this.items();
        this.expect(')set');
        return { kind: 'set', items } as const;
      });
    }
    if (token.sign.startsWith('begin ')) return this.matrix(token.sign.slice(6));
    if (token.sign !== '(' && token.sign !== '[' && token.sign !== '{') return undefined;
    if (!this.hasCommaInside()) return undefined;
    return this.nested(() => {
      this.at++;
      const items = this.items();
      if (token.sign === '{') {
        this.expect('}');
        return { kind: 'set', items } as const;
      }
      const close = isSign(this.peek(), ')') ? ')' : ']';
      if (items.length < 2) {
        this.at = start;
        return undefined;
      }
      this.expect(close);
      return { kind: 'tuple', open: token.sign as '(' | '[', close, items } as const;
    });
  }

  /** Whether the current bracket directly contains a comma. */
  private hasCommaInside(): boolean {
    let depth = 0;
    for (let at = this.at; at < this.tokens.length; at++) {
      const token = this.tokens[at];
      this.budget.spend(0.1);
      if (isSign(token, '(', '[', '{', 'set(')) depth++;
      else if (isSign(token, ')', ']', '}', ')set')) depth--;
      else if (depth === 1 && isSign(token, ',', ';')) return true;
      if (depth === 0) return false;
    }
    return false;
  }

  private matrix(name: string): Answer {
    if (!/^(?:[pbB]?matrix|smallmatrix|array)$/.test(name)) throw new Undecided(`an environment ${name.slice(0, 20)}`);
    this.at++;
    // The columns of an array.
    if (name === 'array' && this.skip('{'))
      while (!this.skip('}')) if (this.at++ >= this.tokens.length) throw new Undecided('an open brace');
    return this.nested(() => {
      const rows: Answer[][] = [[]];
      for (;;) {
        if (isSign(this.peek(), `end ${name}`)) break;
        rows.at(-1)!.push(this.item());
        if (this.skip('&')) continue;
        if (!this.skip('newrow')) break;
        if (!isSign(this.peek(), `end ${name}`)) rows.push([]);
      }
      this.expect(`end ${name}`);
      if (rows[0].length === 0 || rows.some((row) => row.length !== rows[0].length))
        throw new Undecided('an uneven matrix');
      return { kind: 'matrix', rows } as const;
    });
  }

  /** 52_8, 4210_{5}, A3_{16} */
  private digits(): Answer | undefined {
    let at = this.at;
    let digits = '';
    for (let token = this.tokens[at]; token && digits.length < 100; token = this.tokens[++at]) {
      if (token.kind === 'number' && token.exponent === 0 && !token.spaced) digits += token.digits;
      else if (token.kind === 'number' && token.exponent === 0 && digits === '') digits += token.digits;
      else if (
        (token.kind === 'symbol' || token.kind === 'letters') &&
        /^[A-F]+$/.test(token.kind === 'symbol' ? token.name : token.text)
      ) {
        digits += token.kind === 'symbol' ? token.name : token.text;
      } else break;
    }
    if (!/\d/.test(digits) || !isSign(this.tokens[at], '_')) return undefined;
    this.at = at + 1;
    const braces = this.skip('{');
    const base = this.peek();
    this.at++;
    if (braces) this.expect('}');
    const named = base?.kind === 'text' || base?.kind === 'letters' ? wordsOf(base.text) : '';
    const names = ['two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten', 'eleven', 'twelve'];
    const value =
      base?.kind === 'number' ? base.digits : names.includes(named) ? String(names.indexOf(named) + 2) : undefined;
    if (value === undefined) throw new Undecided('a number with an index');
    if (value === '10' && /^\d+$/.test(digits)) {
      return { kind: 'expression', value: { kind: 'number', value: parseDecimal(digits, 0, this.budget) } };
    }
    return { kind: 'digits', digits: digits.replace(/^0+(?=.)/, ''), base: value };
  }

  private expression(): Expression {
    return this.nested(() => {
      const terms: Expression[] = [];
      for (;;) {
        const sign = this.peek();
        if (isSign(sign, '+', '-', '±', '∓')) this.at++;
        else if (terms.length > 0) break;
        const term = this.term();
        if (isSign(sign, '-')) terms.push(negative(term));
        else if (isSign(sign, '±')) terms.push(product([{ kind: 'choice', sign: 1 }, term]));
        else if (isSign(sign, '∓')) terms.push(product([{ kind: 'choice', sign: -1 }, term]));
        else terms.push(term);
      }
      return terms.length === 1 ? terms[0] : ({ kind: 'sum', terms } as const);
    });
  }

  private term(): Expression {
    let factors = [this.factor()];
    for (;;) {
      if (this.skip('*')) factors.push(this.signedFactor());
      else if (this.skip('/')) factors = [{ kind: 'quotient', over: product(factors), under: this.signedFactor() }];
      else if (this.startsFactor()) {
        const token = this.peek()!;
        if (token.kind === 'number') throw new Undecided('a number after a value');
        factors.push(this.factor());
      } else return product(factors);
    }
  }

  private signedFactor(): Expression {
    if (this.skip('-')) return negative(this.factor());
    this.skip('+');
    return this.factor();
  }

  private startsFactor(): boolean {
    const token = this.peek();
    if (token === undefined || token.kind === 'text') return false;
    if (token.kind === 'letters') return !isUnitWord(token.text) && token.text.length <= 3 && token.text !== 'U';
    if (token.kind !== 'sign') return true;
    if (token.sign === '|') return this.bars === 0;
    if (token.sign === '[' || token.sign === '(' || token.sign === '{') return !this.hasCommaInside();
    return ['frac', 'binom', 'lfloor', 'lceil'].includes(token.sign);
  }

  /** Number of open absolute-value bars. */
  private bars = 0;

  private factor(): Expression {
    let base = this.primary();
    for (;;) {
      if (this.degreeAhead() || !isSign(this.peek(), '^', '!')) {
        // Part of an angle within an expression; at its end it is a unit.
        return base;
      }
      if (this.skip('!')) {
        if (isSign(this.peek(), '!')) throw new Undecided('a double factorial');
        base = { kind: 'call', name: 'factorial', of: [base] };
      } else {
        this.at++;
        // a^b^c is a^(b^c).
        const exponent = this.exponent();
        base = { kind: 'power', base, exponent };
        if (isSign(this.peek(), '^') && !this.degreeAhead()) throw new Undecided('an exponent after an exponent');
      }
    }
  }

  private degreeAhead(): boolean {
    const { at } = this;
    const found = this.degree();
    this.at = at;
    return found;
  }

  private exponent(): Expression {
    if (this.skip('{')) {
      const value = this.expression();
      this.expect('}');
      return value;
    }
    if (this.skip('-')) return negative(this.primary());
    const base = this.primary();
    return this.skip('^') ? this.nested(() => ({ kind: 'power', base, exponent: this.exponent() }) as const) : base;
  }

  private primary(): Expression {
    const token = this.peek();
    this.at++;
    switch (token?.kind) {
      case 'number':
        return this.mixed(token);
      case 'symbol':
        return this.symbol(token.name);
      case 'letters':
        if (token.text.length > maxLetters) throw new Undecided(`the word ${JSON.stringify(token.text.slice(0, 20))}`);
        // One by one, so that an exponent applies only to the last.
        this.tokens.splice(--this.at, 1, ...Array.from(token.text, (name) => ({ kind: 'symbol', name }) as const));
        return this.primary();
      case 'function':
        return this.call(token.name);
      case 'sign':
        return this.nested(() => this.signed(token.sign));
      default:
        throw new Undecided('the answer ends early');
    }
  }

  private signed(sign: string): Expression {
    if (sign === '(' || sign === '[' || sign === '{') {
      const outer = this.bars;
      this.bars = 0;
      const value = this.expression();
      if (sign === '{' && this.skip('choose')) {
        const under = this.expression();
        this.expect('}');
        return { kind: 'call', name: 'binomial', of: [value, under] };
      }
      if (sign === '{' && this.skip('over')) {
        const under = this.expression();
        this.expect('}');
        return { kind: 'quotient', over: value, under };
      }
      this.bars = outer;
      this.expect({ '(': ')', '[': ']', '{': '}' }[sign]);
      return value;
    }
    if (sign === 'frac') return { kind: 'quotient', over: this.argument(), under: this.argument() };
    if (sign === 'binom') return { kind: 'call', name: 'binomial', of: [this.argument(), this.argument()] };
    if (sign === '|') {
      this.bars++;
      const of = this.expression();
      this.bars--;
      this.expect('|');
      return { kind: 'call', name: 'abs', of: [of] };
    }
    if (sign === 'lfloor' || sign === 'lceil') {
      const of = this.expression();
      this.expect(sign === 'lfloor' ? 'rfloor' : 'rceil');
      return { kind: 'call', name: sign === 'lfloor' ? 'floor' : 'ceil', of: [of] };
    }
    throw new Undecided(`${JSON.stringify(sign.slice(0, 20))} has no meaning there`);
  }

  /** The argument of \frac and \sqrt: a group, or one digit or letter. */
  private argument(): Expression {
    const token = this.peek();
    if (this.skip('{')) {
      const value = this.expression();
      this.expect('}');
      return value;
    }
    if (token?.kind === 'number' && /^\d/.test(token.digits) && token.exponent === 0) {
      const [first, rest] = [token.digits[0], token.digits.slice(1)];
      if (rest === '') this.at++;
      else if (/^\d+$/.test(rest)) this.tokens[this.at] = { ...token, digits: rest, spaced: false };
      else throw new Undecided('a command without its braces');
      return { kind: 'number', value: integer(BigInt(first)) };
    }
    if (token?.kind === 'symbol') {
      this.at++;
      return this.symbol(token.name);
    }
    if (token?.kind === 'letters') throw new Undecided('a command without its braces');
    return this.primary();
  }

  /** A number, with the fraction that makes it a mixed one: 1\frac{4}{5}, 1 4/5. */
  private mixed(token: Token & { kind: 'number' }): Expression {
    const value = this.value(token);
    if (/\./.test(token.digits) || token.exponent !== 0) return { kind: 'number', value };
    const [next, slash, under] = this.tokens.slice(this.at, this.at + 3);
    if (isSign(next, 'frac')) {
      const start = this.at++;
      const fraction = [this.argument(), this.argument()];
      const [over, below] = fraction.map((part) =>
        part.kind === 'number' && part.value.d === 1n ? part.value : undefined,
      );
      if (over && below && over.n > 0n && below.n > 0n) {
        return { kind: 'number', value: add(value, divide(over, below, this.budget), this.budget) };
      }
      this.at = start;
    } else if (next?.kind === 'number' && next.spaced && isSign(slash, '/') && under?.kind === 'number') {
      this.at += 3;
      const fraction = divide(this.value(next), this.value(under), this.budget);
      return { kind: 'number', value: add(value, fraction, this.budget) };
    }
    return { kind: 'number', value };
  }

  private value({ digits, exponent, repeating }: Token & { kind: 'number' }): Rational {
    const value = parseDecimal(digits, exponent, this.budget);
    if (repeating === undefined) return value;
    // 0.1(6) is 0.1 + 6/9 of its last place.
    const place = 10n ** BigInt(digits.split('.')[1]?.length ?? 0);
    const period = rational(BigInt(repeating), 10n ** BigInt(repeating.length) - 1n, this.budget);
    return add(value, multiply(period, rational(1n, place, this.budget), this.budget), this.budget);
  }

  private symbol(name: string): Expression {
    if (name.startsWith('\\')) throw new Undecided(`${name} has no value`);
    let full = name;
    if (this.skip('_')) {
      const braces = this.skip('{');
      const index = this.peek();
      this.at++;
      if (index?.kind === 'number') full += `_${index.digits}`;
      else if (index?.kind === 'symbol') full += `_${index.name}`;
      else if (index?.kind === 'letters' || index?.kind === 'text') full += `_${index.text}`;
      else throw new Undecided('an index');
      if (braces) this.expect('}');
    }
    while (this.skip("'")) full += "'";
    return { kind: 'symbol', name: full };
  }

  private call(name: string): Expression {
    if (name === 'sqrt') {
      let degree: Expression = { kind: 'number', value: integer(2n) };
      // \sqrt[3]{x}; sqrt[...] of plain text does not occur.
      if (this.skip('[')) {
        degree = this.expression();
        this.expect(']');
      }
      return { kind: 'root', of: this.argument(), degree };
    }
    let base: Expression | undefined;
    if (name === 'log' && this.skip('_')) base = this.argument();
    let exponent: Expression | undefined;
    if (isSign(this.peek(), '^') && !this.degreeAhead()) {
      this.at++;
      exponent = this.exponent();
    }
    const of = this.callArguments();
    if (base) of.push(base);
    const inverse = exponent?.kind === 'number' && exponent.value.n === -1n && exponent.value.d === 1n;
    if (inverse) {
      if (!['sin', 'cos', 'tan'].includes(name)) throw new Undecided('an inverse function');
      return { kind: 'call', name: `arc${name}`, of };
    }
    const value: Expression = { kind: 'call', name, of };
    return exponent ? { kind: 'power', base: value, exponent } : value;
  }

  /** In brackets, or the product that follows up to the next function. */
  private callArguments(): Expression[] {
    if (isSign(this.peek(), '(') && ['gcd', 'lcm', 'max', 'min'].includes(this.nameBefore())) {
      this.at++;
      const of = [this.expression()];
      while (this.skip(',')) of.push(this.expression());
      this.expect(')');
      return of;
    }
    if (isSign(this.peek(), '(', '[', '{', '|')) return [this.angle(this.primaryWithPower())];
    const factors = [this.primaryWithPower()];
    for (
      let token = this.peek();
      this.startsFactor() && token?.kind !== 'function' && !isSign(token, '(', '[');
      token = this.peek()
    ) {
      factors.push(this.primaryWithPower());
    }
    let of = product(factors);
    if (isSign(this.peek(), '/') && this.tokens[this.at + 1]?.kind === 'number') {
      this.at++;
      of = { kind: 'quotient', over: of, under: this.primaryWithPower() };
    }
    return [this.angle(of)];
  }

  private nameBefore(): string {
    const token = this.tokens[this.at - 1];
    return token?.kind === 'function' ? token.name : '';
  }

  /** Degrees within an expression are an angle. */
  private angle(of: Expression): Expression {
    if (!this.degree()) return of;
    return {
      kind: 'quotient',
      over: product([of, { kind: 'symbol', name: 'pi' }]),
      under: { kind: 'number', value: integer(180n) },
    };
  }

  private primaryWithPower(): Expression {
    const base = this.primary();
    if (!isSign(this.peek(), '^') || this.degreeAhead()) return base;
    this.at++;
    return { kind: 'power', base, exponent: this.exponent() };
  }
}

function lettersProduct(letters: string): Expression {
  return product(Array.from(letters, (name) => ({ kind: 'symbol', name }) as const));
}
