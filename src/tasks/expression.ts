// Arithmetic expressions: the exact value of a text such as "(3+7)*25/2", found by parsing it, never by executing it.

export interface Expression {
  /** The value is the first divided by the second, which is not 0; not in lowest terms. */
  numerator: bigint;
  denominator: bigint;
  /** The numbers of the text, from left to right. */
  numbers: number[];
}

/** Longer texts have no value, so parsing takes bounded time and depth. */
const maxLength = 128;

/**
 * Reads `sum := product (('+' | '-') product)*`, `product := factor (('*' | '/') factor)*`,
 * `factor := number | '(' sum ')'`, `number := '0' | [1-9][0-9]*` in ASCII, with nothing between or around them. Undefined for
 * every other text, for a division by zero, and beyond 128 characters.
 */
export function readExpression(text: string): Expression | undefined {
  if (text.length > maxLength) return undefined;
  const numbers: number[] = [];
  let at = 0;

  const factor = (): Fraction | undefined => {
    if (text[at] === '(') {
      at++;
      const inner = sum();
      if (text[at] !== ')') return undefined;
      at++;
      return inner;
    }
    const start = at;
    while (isDigit(text[at])) at++;
    const digits = text.slice(start, at);
    if (digits === '' || (digits.length > 1 && digits[0] === '0')) return undefined;
    numbers.push(Number(digits));
    return [BigInt(digits), 1n];
  };

  /** Operands of one precedence, from left to right. */
  const series = (operand: () => Fraction | undefined, operators: string) => (): Fraction | undefined => {
    let left = operand();
    while (left && at < text.length && operators.includes(text[at])) {
      const operator = text[at++];
      const right = operand();
      left = right && combine(left, operator, right);
    }
    return left;
  };
  const product = series(factor, '*/');
  const sum: () => Fraction | undefined = series(product, '+-');

  const value = sum();
  return value && at === text.length ? { numerator: value[0], denominator: value[1], numbers } : undefined;
}

type Fraction = readonly [numerator: bigint, denominator: bigint];

function combine([a, b]: Fraction, operator: string, [c, d]: Fraction): Fraction | undefined {
  if (operator === '+') return [a * d + c * b, b * d];
  if (operator === '-') return [a * d - c * b, b * d];
  if (operator === '*') return [a * c, b * d];
  return c === 0n ? undefined : [a * d, b * c];
}

function isDigit(character: string | undefined): boolean {
  return character !== undefined && character >= '0' && character <= '9';
}
