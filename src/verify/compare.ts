// Decides whether two parsed answers are the same.

import {
  type Environment,
  equalValues,
  evaluate,
  isComplex,
  isConstant,
  isLess,
  isZero,
  minus,
  over,
  times,
  type Value,
} from './evaluate.js';
import { wordsOf } from './normalise.js';
import { Budget, divide, equalRationals, integer, multiply, type Rational, rational, Undecided } from './rational.js';
import type { Answer, Expression } from './syntax.js';
import { unitsAgree } from './units.js';

export interface Tolerance {
  /** Largest relative difference that counts as equality; 0: exact. */
  tolerance: number;
}

/** Units of work of one comparison; an ordinary one takes a few hundred. */
const work = 400_000;

type Item = Exclude<Answer, { kind: 'letters' }>;

/** Undecided if it cannot be decided within bounds. */
export function sameAnswer(gold: Answer, given: Answer, { tolerance }: Tolerance): boolean {
  const comparison = new Comparison(new Budget(work), tolerance);
  return comparison.same(gold, given);
}

/** The exact value of an answer that is a single number, and its unit; undefined for any other. Cheap. */
export function literal(answer: Answer): { value: Rational; unit?: string } | undefined {
  if (answer.kind !== 'expression') return undefined;
  const value = literalValue(answer.value);
  return value && { value, unit: answer.unit };
}

const literalBudget = () => new Budget(2_000);

function literalValue(node: Expression): Rational | undefined {
  if (node.kind === 'number') return node.value;
  if (node.kind !== 'quotient') {
    if (node.kind !== 'product' || node.factors.length !== 2) return undefined;
    const [sign, of] = node.factors;
    if (sign.kind !== 'number' || of.kind !== 'quotient') return undefined;
    const value = literalValue(of);
    return value && multiply(sign.value, value, literalBudget());
  }
  if (node.over.kind !== 'number' || node.under.kind !== 'number' || node.under.value.n === 0n) return undefined;
  return divide(node.over.value, node.under.value, literalBudget());
}

/** Whether numbers with units are the same; 10 % equals both 10 and 0.1. */
export function sameQuantity(
  a: { value: Rational; unit?: string },
  b: { value: Rational; unit?: string },
  tolerance: number,
): boolean {
  const equal = (x: Rational, y: Rational) => equalRationals(x, y) || (tolerance > 0 && isNear(x, y, tolerance));
  return compareWithUnits(a.unit, b.unit, percentAsNumber(a.value) && percentAsNumber(b.value), (left, right) =>
    equal(
      left === 1 ? a.value : multiply(a.value, { n: 1n, d: 100n }, literalBudget()),
      right === 1 ? b.value : multiply(b.value, { n: 1n, d: 100n }, literalBudget()),
    ),
  );
}

/** A number below 1 is hardly meant as a percentage: 0.5 is not 0.5 %. */
const percentAsNumber = ({ n, d }: Rational): boolean => (n < 0n ? -n : n) >= d || n === 0n;

function compareWithUnits(
  a: string | undefined,
  b: string | undefined,
  asNumber: boolean,
  equal: (left: 1 | 100, right: 1 | 100) => boolean,
): boolean {
  if (!unitsAgree(a, b)) return false;
  const [left, right] = [a === 'percent', b === 'percent'];
  if (left === right) return equal(1, 1);
  return (asNumber && equal(1, 1)) || equal(left ? 100 : 1, right ? 100 : 1);
}

function isNear(a: Rational, b: Rational, tolerance: number): boolean {
  const size = (n: bigint) => (n < 0n ? -n : n);
  const difference = size(a.n * b.d - b.n * a.d);
  // tolerance = scale / 2^60, rounded down.
  const scale = BigInt(Math.floor(tolerance * 2 ** 60));
  return difference << 60n <= size(b.n) * a.d * scale || difference << 60n <= size(a.n) * b.d * scale;
}

class Comparison {
  constructor(
    private readonly budget: Budget,
    private readonly tolerance: number,
  ) {}

  same(gold: Answer, given: Answer): boolean {
    if (gold.kind === 'text' || given.kind === 'text') return sameText(gold, given);
    if (gold.kind === 'letters' && given.kind === 'letters' && gold.text === given.text) return true;
    const [a, b] = this.withoutNames(asPoint(exactPart(plain(gold))), asPoint(exactPart(plain(given))));
    return this.sameItems(this.spread(a), this.spread(b));
  }

  /** `x =` and `x \in` before an answer are ignored if the other has none. */
  private withoutNames(gold: Item, given: Item): [Item, Item] {
    const names = (answer: Item) =>
      assigned(answer)?.name ?? (answer.kind === 'list' ? this.commonName(answer.items) : undefined);
    const [a, b] = [names(gold), names(given)];
    if (a !== undefined && b !== undefined && a !== b) return [gold, given];
    const isEquation = (answer: Item) =>
      answer.kind === 'relation' && answer.operators.every((operator) => operator === '=');
    // An equation of two variables may be written in other ways.
    if (a !== undefined && b === undefined && given.kind === 'relation' && isEquation(gold))
      return [gold, this.value(given)];
    if (b !== undefined && a === undefined && gold.kind === 'relation' && isEquation(given))
      return [this.value(gold), given];
    return [this.value(this.unname(gold)), this.value(this.unname(given))];
  }

  private commonName(items: readonly Answer[]): string | undefined {
    const found = items.map((item) => assigned(plain(item))?.name);
    const first = found[0];
    return first !== undefined && found.every((name) => name === first || name === undefined) ? first : undefined;
  }

  private unname(answer: Item): Item {
    const named = assigned(answer);
    if (named) return named.value;
    if (answer.kind !== 'list' || this.commonName(answer.items) === undefined) return answer;
    return { kind: 'list', items: answer.items.map((item) => assigned(plain(item))?.value ?? item) };
  }

  /** The value of a true equation such as `3/6 = 1/2`. */
  private value(answer: Item): Item {
    if (answer.kind !== 'relation' || !answer.operators.every((operator) => operator === '=')) return answer;
    const sides = answer.sides.map(plain);
    const constant = sides.every((side) => side.kind === 'expression' && variablesOf(side.value).size === 0);
    if (!constant) return answer;
    return sides.every((side, i) => i === 0 || this.sameItem(sides[0], side)) ? sides.at(-1)! : answer;
  }

  /** With both values of each `±`. */
  private spread(answer: Item): Item {
    if (answer.kind === 'expression' && hasChoice(answer.value)) return { kind: 'list', items: bothSigns(answer) };
    if ((answer.kind === 'list' || answer.kind === 'set') && answer.items.some((item) => isChoice(plain(item)))) {
      const items = answer.items.flatMap((item) => (isChoice(plain(item)) ? bothSigns(plain(item)) : [item]));
      return { kind: answer.kind, items };
    }
    if (answer.kind === 'tuple' && answer.items.some((item) => isChoice(plain(item)))) {
      const of = (sign: 1 | -1): Answer => ({
        ...answer,
        items: answer.items.map((item) => withSign(plain(item), sign)),
      });
      return { kind: 'list', items: [of(1), of(-1)] };
    }
    return answer;
  }

  private sameItems(a: Item, b: Item): boolean {
    const plural = (answer: Item) => answer.kind === 'list' || answer.kind === 'set';
    const sets = (answer: Item) => answer.kind === 'union' && answer.parts.every((part) => part.kind === 'set');
    // A union of finite sets is a finite set.
    if (sets(a)) return this.sameItems(joined(a), b);
    if (sets(b)) return this.sameItems(a, joined(b));
    if (plural(a) && plural(b)) {
      const [left, right] = [a, b] as { kind: 'list' | 'set'; items: Answer[] }[];
      if (left.kind === 'list' && right.kind === 'list') return this.sameMultiset(left.items, right.items);
      return this.sameMultiset(this.distinct(left.items), this.distinct(right.items));
    }
    if (a.kind === 'set' && a.items.length === 1) return this.same(a.items[0], b);
    if (b.kind === 'set' && b.items.length === 1) return this.same(a, b.items[0]);
    // Three or more in the same order are a vector, with or without brackets.
    if (a.kind === 'tuple' && b.kind === 'list') return a.items.length > 2 && this.sameInOrder(a.items, b.items);
    return this.sameItem(a, b);
  }

  private sameItem(a: Item, b: Item): boolean {
    this.budget.spend(1);
    const [x, y] = [asIntervals(a, this), asIntervals(b, this)];
    if (x && y) return this.sameMultiset(x, y, (p, q) => this.sameTuple(p as Tuple, q as Tuple));
    if (a.kind === 'matrix' && b.kind === 'tuple') return this.sameInOrder(vectorOf(a), b.items);
    if (a.kind === 'tuple' && b.kind === 'matrix') return this.sameInOrder(a.items, vectorOf(b));
    if (a.kind !== b.kind) return false;
    switch (a.kind) {
      case 'expression':
        return this.sameExpression(a, b as typeof a);
      case 'tuple':
        return this.sameTuple(a, b as typeof a);
      case 'list':
        return this.sameMultiset(a.items, (b as typeof a).items);
      case 'set':
        return this.sameMultiset(this.distinct(a.items), this.distinct((b as typeof a).items));
      case 'union':
        return this.sameMultiset(a.parts, (b as typeof a).parts);
      case 'matrix': {
        const rows = (b as typeof a).rows;
        return a.rows.length === rows.length && a.rows.every((row, i) => this.sameInOrder(row, rows[i]));
      }
      case 'ratio':
        return this.sameInOrder(a.parts, (b as typeof a).parts);
      case 'digits':
        return a.digits === (b as typeof a).digits && a.base === (b as typeof a).base;
      case 'relation':
        return this.sameRelation(a, b as typeof a);
      case 'text':
        return sameText(a, b);
    }
  }

  sameTuple(a: Tuple, b: Tuple): boolean {
    // Brackets denote an interval only around two values.
    const ends = a.items.length !== 2 || (a.open === b.open && a.close === b.close);
    return ends && this.sameInOrder(a.items, b.items);
  }

  private sameInOrder(a: readonly Answer[], b: readonly Answer[]): boolean {
    return a.length === b.length && a.every((item, i) => this.same(item, b[i]));
  }

  /** The same items in any order. */
  private sameMultiset(
    a: readonly Answer[],
    b: readonly Answer[],
    same = (x: Answer, y: Answer) => this.same(x, y),
  ): boolean {
    if (a.length !== b.length) return false;
    const rest = [...b];
    return a.every((item) => {
      const at = rest.findIndex((other) => same(item, other));
      if (at >= 0) rest.splice(at, 1);
      return at >= 0;
    });
  }

  private distinct(items: readonly Answer[]): Answer[] {
    const found: Answer[] = [];
    for (const item of items) if (!found.some((other) => this.same(other, item))) found.push(item);
    return found;
  }

  private sameExpression(a: Quantity, b: Quantity): boolean {
    const [x, y] = [literal(a), literal(b)];
    if (x && y) return sameQuantity(x, y, this.tolerance);
    const asNumber = !(x && !percentAsNumber(x.value)) && !(y && !percentAsNumber(y.value));
    return compareWithUnits(a.unit, b.unit, asNumber, (left, right) =>
      this.sameValue(scaled(a.value, left), scaled(b.value, right)),
    );
  }

  private sameValue(a: Expression, b: Expression): boolean {
    const infinities = [infinity(a), infinity(b)];
    if (infinities[0] !== 0 || infinities[1] !== 0) return infinities[0] === infinities[1];
    return this.atPoints([a, b], ([x, y]) => equalValues(x, y, this.budget) || this.isNear(x, y));
  }

  private isNear(a: Value, b: Value): boolean {
    if (this.tolerance === 0) return false;
    const limit: Value = { q: rational(BigInt(Math.floor(this.tolerance * 2 ** 60)), 1n << 60n, this.budget) };
    const size = (value: Value) => evaluateAbs(value, this.budget);
    const difference = size(minus(a, b, this.budget));
    return (
      isLess(difference, times(limit, size(a), this.budget), this.budget) ||
      isLess(difference, times(limit, size(b), this.budget), this.budget)
    );
  }

  /**
   * Whether `holds` is true of the values at every point tried; a point outside the domain of the first expression does
   * not count. Undecided when too few points are inside.
   */
  private atPoints(of: readonly Expression[], holds: (values: Value[]) => boolean): boolean {
    const names = [...new Set(of.flatMap((node) => [...variablesOf(node)]))].sort();
    const discrete = of.some(needsIntegers);
    const imaginary = of.some((node) => [...symbolsOf(node)].includes('i'));
    const wanted = names.length === 0 ? 1 : 5;
    let inside = 0;
    for (let point = 0; point < (names.length === 0 ? 1 : 24) && inside < wanted; point++) {
      const variables = new Map(names.map((name, i) => [name, { q: coordinate(point, i, discrete) }] as const));
      const env: Environment = { variables, sign: 1, budget: this.budget };
      let first: Value;
      try {
        first = evaluate(of[0], env);
      } catch (error) {
        if (!(error instanceof Undecided) || names.length === 0) throw error;
        this.budget.spend(10);
        continue;
      }
      if (names.length > 0 && !imaginary && isComplex(first)) continue;
      if (!holds([first, ...of.slice(1).map((node) => evaluate(node, env))])) return false;
      inside++;
    }
    if (inside < Math.min(wanted, 3)) throw new Undecided('too few points lie in the domain');
    return true;
  }

  /** Equations up to a factor, inequalities up to a positive one. */
  private sameRelation(a: Relation, b: Relation): boolean {
    const [x, y] = [a, b].map((relation) => this.oneSided(relation));
    if (!x || !y) {
      return (
        a.operators.length === b.operators.length &&
        a.operators.every((operator, i) => operator === b.operators[i]) &&
        this.sameInOrder(a.sides, b.sides)
      );
    }
    if (x.operator !== y.operator) return false;
    // A contradiction or a tautology is not an answer.
    const { budget } = this;
    let ratio: Value | undefined;
    const same = this.atPoints([x.difference, y.difference], ([p, q]) => {
      if (isZero(p, budget) || isZero(q, budget)) return isZero(p, budget) && isZero(q, budget);
      const quotient = over(p, q, budget);
      const first = ratio === undefined;
      ratio ??= quotient;
      return first || equalValues(ratio, quotient, budget);
    });
    if (!same || ratio === undefined) return false;
    return x.operator === '=' || x.operator === '≠' || isLess({ q: integer(0n) }, ratio, budget);
  }

  /** A relation as `difference` against 0, with < or ≤ only; undefined if it is something else. */
  private oneSided(relation: Relation): { operator: string; difference: Expression } | undefined {
    if (relation.operators.length !== 1) return undefined;
    const [operator] = relation.operators;
    const [left, right] = relation.sides.map(plain);
    if (left.kind !== 'expression' || right.kind !== 'expression' || !['=', '≠', '<', '>', '≤', '≥'].includes(operator))
      return undefined;
    if (!unitsAgree(left.unit, right.unit) || hasChoice(left.value) || hasChoice(right.value)) return undefined;
    const turned = operator === '>' || operator === '≥';
    const [low, high] = turned ? [right.value, left.value] : [left.value, right.value];
    const negative: Expression = { kind: 'product', factors: [{ kind: 'number', value: integer(-1n) }, high] };
    return {
      operator: { '>': '<', '≥': '≤' }[operator] ?? operator,
      difference: { kind: 'sum', terms: [low, negative] },
    };
  }

  /** Whether one end of an interval is below the other, as required. */
  isBelow(a: Expression, b: Expression): boolean {
    const [x, y] = [infinity(a), infinity(b)];
    if (x !== 0 || y !== 0) return x < y;
    const env: Environment = { variables: new Map(), sign: 1, budget: this.budget };
    return isLess(evaluate(a, env), evaluate(b, env), this.budget);
  }
}

type Tuple = Extract<Answer, { kind: 'tuple' }>;
type Relation = Extract<Answer, { kind: 'relation' }>;
type Quantity = Extract<Answer, { kind: 'expression' }>;

const plain = (answer: Answer): Item =>
  answer.kind === 'letters' ? { kind: 'expression', value: answer.value } : answer;

function sameText(a: Answer, b: Answer): boolean {
  const [x, y] = [textOf(a), textOf(b)];
  return x !== undefined && x !== '' && x === y;
}

function textOf(answer: Answer): string | undefined {
  if (answer.kind === 'text' || answer.kind === 'letters') return wordsOf(answer.text);
  return answer.kind === 'expression' && answer.value.kind === 'symbol' && answer.unit === undefined
    ? answer.value.name.toLowerCase()
    : undefined;
}

/** The name and the value of `x = 5`, `f(x) = 2x`, `x \in [0, 1]`, `(x, y) = (1, 2)`. */
function assigned(answer: Item): { name: string; value: Item } | undefined {
  if (answer.kind !== 'relation') return undefined;
  const [operator] = answer.operators;
  if (operator !== '=' && operator !== '∈' && operator !== '≈') return undefined;
  const name = nameOf(plain(answer.sides[0]));
  if (name === undefined) return undefined;
  const sides = answer.sides.slice(1);
  const value: Item =
    sides.length === 1 ? plain(sides[0]) : { kind: 'relation', operators: answer.operators.slice(1), sides };
  return { name, value };
}

/** `3\sqrt2 \approx 4.24` without the approximation. */
function exactPart(answer: Item): Item {
  if (answer.kind !== 'relation') return answer;
  const at = answer.operators.indexOf('≈');
  if (at < 0 || (at === 0 && nameOf(plain(answer.sides[0])) !== undefined)) return answer;
  if (at === 0) return plain(answer.sides[0]);
  return { kind: 'relation', operators: answer.operators.slice(0, at), sides: answer.sides.slice(0, at + 1) };
}

/** `x = 2, y = 3` and `(x, y) = (2, 3)` in one form, with the names in alphabetical order. */
function asPoint(answer: Item): Item {
  const equations = answer.kind === 'list' ? answer.items.map((item) => assigned(plain(item))) : [];
  if (answer.kind === 'relation' && answer.operators.join() === '=') {
    const [names, values] = answer.sides.map(plain);
    if (names.kind !== 'tuple' || values.kind !== 'tuple' || names.items.length !== values.items.length) return answer;
    equations.push(
      ...names.items.map((name, i) => {
        const known = nameOf(plain(name));
        return known === undefined ? undefined : { name: known, value: plain(values.items[i]) };
      }),
    );
  }
  const found = equations.flatMap((equation) => equation ?? []);
  const names = found.map(({ name }) => name);
  if (found.length < 2 || found.length < equations.length || new Set(names).size < names.length) return answer;
  found.sort((a, b) => (a.name < b.name ? -1 : 1));
  const tuple = (items: Answer[]): Answer => ({ kind: 'tuple', open: '(', close: ')', items });
  const left = found.map(({ name }): Answer => ({ kind: 'expression', value: { kind: 'symbol', name } }));
  return { kind: 'relation', operators: ['='], sides: [tuple(left), tuple(found.map(({ value }) => value))] };
}

function nameOf(side: Item): string | undefined {
  if (side.kind === 'tuple') {
    const names = side.items.map((item) => nameOf(plain(item)));
    return names.includes(undefined) ? undefined : `(${names.join(',')})`;
  }
  if (side.kind !== 'expression' || side.unit !== undefined) return undefined;
  const { value } = side;
  if (value.kind === 'symbol') return isConstant(value.name) ? undefined : value.name;
  if (value.kind !== 'product' || value.factors.length !== 2) return undefined;
  // f(x), read as a product; also a product of two variables such as AB, a length.
  const [f, x] = value.factors;
  return f.kind === 'symbol' && x.kind === 'symbol' && !isConstant(f.name) ? `${f.name}(${x.name})` : undefined;
}

function joined(answer: Item): Item {
  return answer.kind === 'union'
    ? { kind: 'set', items: answer.parts.flatMap((part) => (part.kind === 'set' ? part.items : [])) }
    : answer;
}

/** The entries of a column, or of a row. */
function vectorOf(matrix: Extract<Answer, { kind: 'matrix' }>): Answer[] {
  return matrix.rows.length === 1
    ? matrix.rows[0]
    : matrix.rows.every((row) => row.length === 1)
      ? matrix.rows.map((row) => row[0])
      : [];
}

/** The intervals of a union, of an interval, or of an inequality between constants. */
function asIntervals(answer: Item, comparison: Comparison): Tuple[] | undefined {
  if (answer.kind === 'union') {
    const parts = answer.parts.map((part) => asIntervals(plain(part), comparison));
    return parts.includes(undefined) ? undefined : (parts as Tuple[][]).flat();
  }
  if (answer.kind === 'tuple') return answer.items.length === 2 ? [answer] : undefined;
  if (answer.kind !== 'relation') return undefined;
  const sides = answer.sides.map(plain);
  const values = sides.map((side) => (side.kind === 'expression' && side.unit === undefined ? side.value : undefined));
  if (values.includes(undefined)) return undefined;
  const known = values as Expression[];
  const isVariable = (node: Expression) => node.kind === 'symbol' && !isConstant(node.name) && node.name !== 'infty';
  const at = known.findIndex(isVariable);
  if (at < 0 || known.some((node, i) => i !== at && variablesOf(node).size > 0)) return undefined;
  const infinite = (sign: 1 | -1): Answer => ({
    kind: 'expression',
    value: {
      kind: 'product',
      factors: [
        { kind: 'number', value: integer(BigInt(sign)) },
        { kind: 'symbol', name: 'infty' },
      ],
    },
  });
  let low: [Answer, boolean] = [infinite(-1), false];
  let high: [Answer, boolean] = [infinite(1), false];
  if (known.length > 3 || (known.length === 3 && at !== 1)) return undefined;
  for (const [i, operator] of answer.operators.entries()) {
    if (!['<', '≤', '>', '≥'].includes(operator)) return undefined;
    const other = i < at ? i : i + 1;
    const closed = operator === '≤' || operator === '≥';
    // The other side is a lower bound of the variable: a < x, x > a.
    const below = operator === '<' || operator === '≤' ? other < at : other > at;
    if (below) low = [sides[other], closed];
    else high = [sides[other], closed];
  }
  if (
    known.length === 3 &&
    !(low[0].kind === 'expression' && high[0].kind === 'expression' && comparison.isBelow(low[0].value, high[0].value))
  )
    return undefined;
  return [{ kind: 'tuple', open: low[1] ? '[' : '(', close: high[1] ? ']' : ')', items: [low[0], high[0]] }];
}

/** 1, -1, or 0 for what is finite. */
function infinity(node: Expression): number {
  if (node.kind === 'symbol') return node.name === 'infty' ? 1 : 0;
  if (node.kind !== 'product' || node.factors.length !== 2) return 0;
  const [sign, of] = node.factors;
  return sign.kind === 'number' && of.kind === 'symbol' && of.name === 'infty' ? (sign.value.n < 0n ? -1 : 1) : 0;
}

const isChoice = (answer: Item): boolean => answer.kind === 'expression' && hasChoice(answer.value);

function bothSigns(answer: Item): Answer[] {
  return [withSign(answer, 1), withSign(answer, -1)];
}

function withSign(answer: Item, sign: 1 | -1): Answer {
  return answer.kind === 'expression' ? { ...answer, value: resolve(answer.value, sign) } : answer;
}

function resolve(node: Expression, sign: 1 | -1): Expression {
  return mapExpression(node, (part) =>
    part.kind === 'choice' ? { kind: 'number', value: integer(BigInt(part.sign * sign)) } : undefined,
  );
}

const hasChoice = (node: Expression): boolean => some(node, (part) => part.kind === 'choice');
const needsIntegers = (node: Expression): boolean =>
  some(
    node,
    (part) => part.kind === 'call' && ['factorial', 'binomial', 'floor', 'ceil', 'gcd', 'lcm'].includes(part.name),
  );

function symbolsOf(node: Expression): Set<string> {
  const names = new Set<string>();
  some(node, (part) => {
    if (part.kind === 'symbol') names.add(part.name);
    return false;
  });
  return names;
}

function variablesOf(node: Expression): Set<string> {
  return new Set([...symbolsOf(node)].filter((name) => !isConstant(name) && name !== 'infty'));
}

function childrenOf(node: Expression): Expression[] {
  switch (node.kind) {
    case 'sum':
      return node.terms;
    case 'product':
      return node.factors;
    case 'quotient':
      return [node.over, node.under];
    case 'power':
      return [node.base, node.exponent];
    case 'root':
      return [node.of, node.degree];
    case 'call':
      return node.of;
    default:
      return [];
  }
}

function some(node: Expression, test: (node: Expression) => boolean): boolean {
  return test(node) || childrenOf(node).some((child) => some(child, test));
}

function mapExpression(node: Expression, change: (node: Expression) => Expression | undefined): Expression {
  const changed = change(node);
  if (changed) return changed;
  const of = (child: Expression) => mapExpression(child, change);
  switch (node.kind) {
    case 'sum':
      return { kind: 'sum', terms: node.terms.map(of) };
    case 'product':
      return { kind: 'product', factors: node.factors.map(of) };
    case 'quotient':
      return { kind: 'quotient', over: of(node.over), under: of(node.under) };
    case 'power':
      return { kind: 'power', base: of(node.base), exponent: of(node.exponent) };
    case 'root':
      return { kind: 'root', of: of(node.of), degree: of(node.degree) };
    case 'call':
      return { kind: 'call', name: node.name, of: node.of.map(of) };
    default:
      return node;
  }
}

function scaled(of: Expression, divisor: 1 | 100): Expression {
  return divisor === 1 ? of : { kind: 'quotient', over: of, under: { kind: 'number', value: integer(100n) } };
}

function evaluateAbs(value: Value, budget: Budget): Value {
  const variables = new Map([['x', value]]);
  return evaluate({ kind: 'call', name: 'abs', of: [{ kind: 'symbol', name: 'x' }] }, { variables, sign: 1, budget });
}

/**
 * A coordinate of a point to compare at: fractions of small primes, so that different expressions agree there only by
 * contrivance; alternating in sign; whole numbers if a function requires them.
 */
function coordinate(point: number, variable: number, discrete: boolean): Rational {
  if (discrete) return integer(BigInt(3 + ((point * 7 + variable * 5) % 23)));
  const numerators = [17n, 29n, 11n, 37n, 23n, 41n, 13n, 31n, 43n, 19n, 47n];
  const denominators = [19n, 13n, 7n, 23n, 31n, 11n, 29n, 17n, 41n];
  const n = numerators[(point * 3 + variable * 5) % numerators.length];
  const d = denominators[(point * 5 + variable * 2 + 1) % denominators.length];
  const negative = [false, true, variable % 2 === 1, variable % 2 === 0][point % 4];
  const sign = negative ? -1n : 1n;
  return n === d ? { n: sign * 53n, d } : { n: sign * n, d };
}
