// The value of an expression: an exact rational if possible, else a complex number of balls. Functions take their principal
// values; roots of odd degree of negative numbers are real.

import {
  addBalls,
  atanBall,
  type Ball,
  containsZero,
  divideBalls,
  equalBalls,
  expBall,
  fromRational,
  lnBall,
  multiplyBalls,
  negateBall,
  one,
  pi,
  sinCosBall,
  sqrtBall,
  zero,
} from './ball.js';
import {
  add,
  type Budget,
  divide,
  equalRationals,
  exactRoot,
  integer,
  maxBits,
  multiply,
  power,
  type Rational,
  rational,
  Undecided,
} from './rational.js';
import type { Expression } from './syntax.js';

/** An exact rational, or a complex number; without `im` it is real. */
export type Value = { q: Rational } | { re: Ball; im?: Ball };

export interface Environment {
  /** Values of the variables. */
  variables: ReadonlyMap<string, Value>;
  /** The sign chosen for `±`: 1 or -1. */
  sign: 1 | -1;
  budget: Budget;
}

export function evaluate(node: Expression, env: Environment): Value {
  const { budget } = env;
  budget.spend(1);
  switch (node.kind) {
    case 'number':
      return { q: node.value };
    case 'choice':
      return { q: integer(BigInt(node.sign * env.sign)) };
    case 'symbol':
      return symbol(node.name, env);
    case 'sum':
      return node.terms.map((term) => evaluate(term, env)).reduce((a, b) => plus(a, b, budget));
    case 'product':
      return node.factors.map((factor) => evaluate(factor, env)).reduce((a, b) => times(a, b, budget));
    case 'quotient':
      return over(evaluate(node.over, env), evaluate(node.under, env), budget);
    case 'power':
      return raise(evaluate(node.base, env), evaluate(node.exponent, env), budget);
    case 'root':
      return root(evaluate(node.of, env), evaluate(node.degree, env), budget);
    case 'call':
      return call(
        node.name,
        node.of.map((argument) => evaluate(argument, env)),
        budget,
      );
  }
}

const constants: Readonly<Record<string, (budget: Budget) => Value>> = {
  pi: (budget) => ({ re: pi(budget) }),
  e: (budget) => ({ re: expBall(one, budget) }),
  i: () => ({ re: zero, im: one }),
};

/** Names of constants, which are not variables. */
export const isConstant = (name: string): boolean => Object.hasOwn(constants, name);

function symbol(name: string, env: Environment): Value {
  const value = env.variables.get(name);
  if (value) return value;
  if (isConstant(name)) return constants[name](env.budget);
  throw new Undecided(`${name} has no value`);
}

const tooLargeForExact = ({ n, d }: Rational, budget: Budget): boolean => {
  budget.spend(0.1);
  return n > exactLimit || n < -exactLimit || d > exactLimit;
};
const exactLimit = 1n << BigInt(maxBits / 4);

const toComplex = (a: Value, budget: Budget): { re: Ball; im?: Ball } =>
  'q' in a ? { re: fromRational(a.q, budget) } : a;

/** A zero imaginary part is omitted. */
function complex(re: Ball, im: Ball | undefined): Value {
  return im === undefined || (im.m === 0n && im.r === -Infinity) ? { re } : { re, im };
}

export function plus(a: Value, b: Value, budget: Budget): Value {
  if ('q' in a && 'q' in b) return { q: add(a.q, b.q, budget) };
  const [x, y] = [toComplex(a, budget), toComplex(b, budget)];
  const im = x.im && y.im ? addBalls(x.im, y.im, budget) : (x.im ?? y.im);
  return complex(addBalls(x.re, y.re, budget), im);
}

const minusOne: Value = { q: integer(-1n) };
export const minus = (a: Value, b: Value, budget: Budget): Value => plus(a, times(minusOne, b, budget), budget);

export function times(a: Value, b: Value, budget: Budget): Value {
  if ('q' in a && 'q' in b) return { q: multiply(a.q, b.q, budget) };
  if (('q' in a && a.q.n === 0n) || ('q' in b && b.q.n === 0n)) return { q: integer(0n) };
  const [x, y] = [toComplex(a, budget), toComplex(b, budget)];
  const of = (p: Ball, q: Ball) => multiplyBalls(p, q, budget);
  if (!x.im && !y.im) return { re: of(x.re, y.re) };
  const [xi, yi] = [x.im ?? zero, y.im ?? zero];
  const re = addBalls(of(x.re, y.re), negateBall(of(xi, yi)), budget);
  return complex(re, addBalls(of(x.re, yi), of(xi, y.re), budget));
}

export function over(a: Value, b: Value, budget: Budget): Value {
  if ('q' in a && 'q' in b) return { q: divide(a.q, b.q, budget) };
  const y = toComplex(b, budget);
  if (!y.im) {
    const x = toComplex(a, budget);
    return complex(divideBalls(x.re, y.re, budget), x.im && divideBalls(x.im, y.re, budget));
  }
  const norm = addBalls(multiplyBalls(y.re, y.re, budget), multiplyBalls(y.im, y.im, budget), budget);
  const top = toComplex(times(a, { re: y.re, im: negateBall(y.im) }, budget), budget);
  return complex(divideBalls(top.re, norm, budget), top.im && divideBalls(top.im, norm, budget));
}

function raise(a: Value, b: Value, budget: Budget): Value {
  if ('q' in b && b.q.d === 1n) return raiseToInteger(a, b.q.n, budget);
  if ('q' in b && 'q' in a && b.q.d <= 64n && a.q.n > 0n) {
    const exact = exactRoot(a.q, Number(b.q.d), budget);
    if (exact) return { q: power(exact, b.q.n, budget) };
  }
  if ('q' in a && a.q.n === 0n) {
    if ('q' in b && b.q.n > 0n) return a;
    throw new Undecided('a power of 0');
  }
  if ('q' in b && b.q.d === 2n) return raiseToInteger(squareRoot(a, budget), b.q.n, budget);
  return exponential(times(b, logarithm(a, budget), budget), budget);
}

function raiseToInteger(a: Value, exponent: bigint, budget: Budget): Value {
  if ('q' in a) return { q: power(a.q, exponent, budget) };
  const count = exponent < 0n ? -exponent : exponent;
  if (count > 1n << 20n) throw new Undecided('a power is too large');
  let result: Value = { q: integer(1n) };
  let square: Value = a;
  for (let rest = Number(count); rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) result = times(result, square, budget);
    if (rest > 1) square = times(square, square, budget);
  }
  return exponent < 0n ? over({ q: integer(1n) }, result, budget) : result;
}

function root(of: Value, degree: Value, budget: Budget): Value {
  if (!('q' in degree) || degree.q.d !== 1n || degree.q.n < 2n || degree.q.n > 1_000n) {
    if ('q' in degree) throw new Undecided('a root of that degree');
    return raise(of, over({ q: integer(1n) }, degree, budget), budget);
  }
  const k = Number(degree.q.n);
  if ('q' in of) {
    const exact = exactRoot(of.q, k, budget);
    if (exact) return { q: exact };
  }
  if (k === 2) return squareRoot(of, budget);
  const isNegative = 'q' in of ? of.q.n < 0n : !of.im && of.re.m < 0n && !containsZero(of.re);
  if (isNegative && k % 2 === 1) return times(minusOne, root(times(minusOne, of, budget), degree, budget), budget);
  return exponential(times({ q: rational(1n, degree.q.n, budget) }, logarithm(of, budget), budget), budget);
}

function squareRoot(of: Value, budget: Budget): Value {
  if ('q' in of) {
    const exact = exactRoot(of.q, 2, budget);
    if (exact) return { q: exact };
  }
  const { re, im } = toComplex(of, budget);
  if (im) return exponential(times({ q: rational(1n, 2n, budget) }, logarithm(of, budget), budget), budget);
  if (re.m < 0n && !containsZero(re)) return { re: zero, im: sqrtBall(negateBall(re), budget) };
  return { re: sqrtBall(re, budget) };
}

function exponential(a: Value, budget: Budget): Value {
  if ('q' in a && a.q.n === 0n) return { q: integer(1n) };
  const { re, im } = toComplex(a, budget);
  const size = expBall(re, budget);
  if (!im) return { re: size };
  const [sine, cosine] = sinCosBall(im, budget);
  return complex(multiplyBalls(size, cosine, budget), multiplyBalls(size, sine, budget));
}

/** The principal value. */
function logarithm(a: Value, budget: Budget): Value {
  if ('q' in a && a.q.n === a.q.d) return { q: integer(0n) };
  const { re, im } = toComplex(a, budget);
  if (!im)
    return re.m < 0n && !containsZero(re)
      ? { re: lnBall(negateBall(re), budget), im: pi(budget) }
      : { re: lnBall(re, budget) };
  const norm = addBalls(multiplyBalls(re, re, budget), multiplyBalls(im, im, budget), budget);
  const half = lnBall(norm, budget);
  return { re: { ...half, e: half.e - 1, r: half.r - 1 }, im: angleOf(re, im, budget) };
}

function angleOf(re: Ball, im: Ball, budget: Budget): Ball {
  if (!containsZero(re) && re.m > 0n) return atanBall(divideBalls(im, re, budget), budget);
  if (containsZero(im)) throw new Undecided('an angle is not known well enough');
  // atan2 by the reciprocal: ±π/2 - atan(re / im).
  const quarter = pi(budget);
  const half = { ...quarter, e: quarter.e - 1, r: quarter.r - 1 };
  return addBalls(
    im.m > 0n ? half : negateBall(half),
    negateBall(atanBall(divideBalls(re, im, budget), budget)),
    budget,
  );
}

function real(a: Value, budget: Budget): Ball {
  const { re, im } = toComplex(a, budget);
  if (im) throw new Undecided('a function of a complex number');
  return re;
}

type Call = (of: Value[], budget: Budget) => Value;

const unary =
  (of: (a: Ball, budget: Budget) => Ball): Call =>
  ([a], budget) => ({ re: of(real(a, budget), budget) });
const sine = (a: Ball, budget: Budget) => sinCosBall(a, budget)[0];
const cosine = (a: Ball, budget: Budget) => sinCosBall(a, budget)[1];
const arcsine = (a: Ball, budget: Budget): Ball => {
  const rest = addBalls(one, negateBall(multiplyBalls(a, a, budget)), budget);
  const root = sqrtBall(rest, budget);
  if (containsZero(root)) {
    const quarter = pi(budget);
    return { ...(a.m > 0n ? quarter : negateBall(quarter)), e: quarter.e - 1, r: Math.max(quarter.r, root.r) };
  }
  return atanBall(divideBalls(a, root, budget), budget);
};
const hyperbolic =
  (sign: 1 | -1) =>
  (a: Ball, budget: Budget): Ball => {
    const other = expBall(negateBall(a), budget);
    const sum = addBalls(expBall(a, budget), sign > 0 ? other : negateBall(other), budget);
    return { ...sum, e: sum.e - 1, r: sum.r - 1 };
  };

const calls: Readonly<Record<string, Call>> = {
  sin: unary(sine),
  cos: unary(cosine),
  tan: unary((a, budget) => divideBalls(sine(a, budget), cosine(a, budget), budget)),
  cot: unary((a, budget) => divideBalls(cosine(a, budget), sine(a, budget), budget)),
  sec: unary((a, budget) => divideBalls(one, cosine(a, budget), budget)),
  csc: unary((a, budget) => divideBalls(one, sine(a, budget), budget)),
  arcsin: unary(arcsine),
  arccos: unary((a, budget) => {
    const quarter = pi(budget);
    return addBalls({ ...quarter, e: quarter.e - 1, r: quarter.r - 1 }, negateBall(arcsine(a, budget)), budget);
  }),
  arctan: unary(atanBall),
  sinh: unary(hyperbolic(-1)),
  cosh: unary(hyperbolic(1)),
  tanh: unary((a, budget) => divideBalls(hyperbolic(-1)(a, budget), hyperbolic(1)(a, budget), budget)),
  exp: ([a], budget) => exponential(a, budget),
  ln: ([a], budget) => logarithm(a, budget),
  lg: ([a], budget) => logarithmToBase(a, { q: integer(10n) }, budget),
  // Without a base: base ten.
  log: ([a, base = { q: integer(10n) }], budget) => logarithmToBase(a, base, budget),
  abs: ([a], budget) => {
    if ('q' in a) return { q: { n: a.q.n < 0n ? -a.q.n : a.q.n, d: a.q.d } };
    if (!a.im) return { re: a.re.m < 0n ? negateBall(a.re) : a.re };
    const norm = addBalls(multiplyBalls(a.re, a.re, budget), multiplyBalls(a.im, a.im, budget), budget);
    return { re: sqrtBall(norm, budget) };
  },
  floor: ([a], budget) => ({ q: integer(floor(a, budget)) }),
  ceil: ([a], budget) => ({ q: integer(-floor(times(minusOne, a, budget), budget)) }),
  factorial: ([a], budget) => ({ q: factorial(a, budget) }),
  binomial: ([n, k], budget) => ({ q: binomial(n, k, budget) }),
  gcd: (of, budget) => ({ q: integer(of.map((a) => whole(a)).reduce((a, b) => gcd(a, b, budget))) }),
  lcm: (of, budget) => {
    const values = of.map((a) => whole(a));
    if (values.includes(0n)) return { q: integer(0n) };
    return values
      .map((n) => ({ q: integer(n < 0n ? -n : n) }))
      .reduce((a, b) => {
        const common = gcd(a.q.n, b.q.n, budget);
        return { q: multiply(a.q, integer(b.q.n / common), budget) };
      });
  },
  max: (of, budget) => of.reduce((a, b) => (isLess(a, b, budget) ? b : a)),
  min: (of, budget) => of.reduce((a, b) => (isLess(b, a, budget) ? b : a)),
};

function call(name: string, of: Value[], budget: Budget): Value {
  if (!Object.hasOwn(calls, name)) throw new Undecided(`the function ${name}`);
  return calls[name](of, budget);
}

function logarithmToBase(a: Value, base: Value, budget: Budget): Value {
  // Exact where it is an integer, so that log_2 8 is 3.
  if ('q' in a && 'q' in base && base.q.d === 1n && base.q.n > 1n && a.q.n > 0n) {
    const [n, sign] = a.q.d === 1n ? [a.q.n, 1n] : [a.q.d, -1n];
    if (a.q.d === 1n || a.q.n === 1n) {
      let [rest, count] = [n, 0n];
      while (rest % base.q.n === 0n) {
        budget.spend(1);
        rest /= base.q.n;
        count++;
      }
      if (rest === 1n) return { q: integer(sign * count) };
    }
  }
  return over(logarithm(a, budget), logarithm(base, budget), budget);
}

function whole(a: Value): bigint {
  if (!('q' in a) || a.q.d !== 1n) throw new Undecided('a function of whole numbers');
  return a.q.n;
}

function gcd(a: bigint, b: bigint, budget: Budget): bigint {
  let [x, y] = [a < 0n ? -a : a, b < 0n ? -b : b];
  while (y > 0n) {
    budget.spend(1);
    [x, y] = [y, x % y];
  }
  return x;
}

function floor(a: Value, budget: Budget): bigint {
  if ('q' in a) return (a.q.n - (((a.q.n % a.q.d) + a.q.d) % a.q.d)) / a.q.d;
  const ball = real(a, budget);
  if (ball.e > 1_000 || ball.r > -20) throw new Undecided('a number is not known well enough');
  const down = ball.e >= 0 ? ball.m << BigInt(ball.e) : ball.m >> BigInt(-ball.e);
  const around = (b: bigint) => addBalls(ball, negateBall(fromRational(integer(b), budget)), budget);
  if (containsZero(around(down)) || containsZero(around(down + 1n)))
    throw new Undecided('a number is not known well enough');
  return down;
}

function factorial(a: Value, budget: Budget): Rational {
  const n = whole(a);
  if (n < 0n || n > 1_500n) throw new Undecided('a factorial is too large');
  let result = 1n;
  budget.spend(Number(n));
  for (let k = 2n; k <= n; k++) result *= k;
  return rational(result, 1n, budget);
}

function binomial(top: Value, bottom: Value, budget: Budget): Rational {
  const [n, k] = [whole(top), whole(bottom)];
  if (n < 0n || k < 0n || n > 10_000n) throw new Undecided('a binomial coefficient is too large');
  if (k > n) return integer(0n);
  const count = k < n - k ? k : n - k;
  budget.spend(Number(count) * 2);
  let result = 1n;
  for (let j = 1n; j <= count; j++) result = (result * (n - count + j)) / j;
  return rational(result, 1n, budget);
}

/** Undecided for complex numbers, and for two that cannot be distinguished. */
export function isLess(a: Value, b: Value, budget: Budget): boolean {
  if ('q' in a && 'q' in b) return a.q.n * b.q.d < b.q.n * a.q.d;
  const difference = addBalls(real(b, budget), negateBall(real(a, budget)), budget);
  if (containsZero(difference)) throw new Undecided('two values cannot be distinguished');
  return difference.m > 0n;
}

/** Undecided if the precision is insufficient. */
export function equalValues(a: Value, b: Value, budget: Budget): boolean {
  if ('q' in a && 'q' in b) return equalRationals(a.q, b.q);
  const [x, y] = [toComplex(a, budget), toComplex(b, budget)];
  return equalBalls(x.re, y.re, budget) && equalBalls(x.im ?? zero, y.im ?? zero, budget);
}

export const isZero = (a: Value, budget: Budget): boolean => equalValues(a, { q: integer(0n) }, budget);

/** Whether a value has an imaginary part that is certainly not 0. */
export const isComplex = (a: Value): boolean => !('q' in a) && a.im !== undefined && !containsZero(a.im);

/** Exact values that have become long continue as balls, because the points of comparison are arbitrary anyway. */
export function shorten(a: Value, budget: Budget): Value {
  return 'q' in a && tooLargeForExact(a.q, budget) ? toComplex(a, budget) : a;
}
