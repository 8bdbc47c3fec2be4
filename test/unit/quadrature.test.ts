// The double exponential rule: known integrals, singular ends, and integrands that it must reject.

import assert from 'node:assert/strict';
import test from 'node:test';
import { integrate } from '../../src/bias/quadrature.js';
import { assertNumber } from '../support/compare.js';

test('smooth integrands to the last digits', () => {
  const known: [string, (x: number) => number, number, number, number][] = [
    ['1', () => 1, 2, 5, 3],
    ['x^7', (x) => x ** 7, 0, 1, 1 / 8],
    ['x^3 over an interval about 0', (x) => x ** 3, -1, 2, 15 / 4],
    ['e^x', Math.exp, -1, 1, Math.E - 1 / Math.E],
    ['1 / (1 + 25 x^2)', (x) => 1 / (1 + 25 * x * x), -1, 1, (2 / 5) * Math.atan(5)],
    ['e^(-x^2)', (x) => Math.exp(-x * x), -6, 6, Math.sqrt(Math.PI)],
    ['sin, which cancels', Math.sin, -2, 2, 0],
  ];
  for (const [name, f, from, to, expected] of known) assertNumber(integrate(f, from, to), expected, 4e-15, name);
});

test('algebraic and logarithmic singularities at the ends', () => {
  // The part closer to the end than e^-690 is left out: for x^(-0.95) that is 20 e^(-690 / 20) of 20.
  for (const power of [-0.5, -0.9, -0.95]) {
    assertNumber(integrate((x) => x ** power, 0, 1) * (1 + power), 1, 4e-15, `x^${power}`);
  }
  assertNumber(
    integrate((x) => Math.log(x), 0, 1),
    -1,
    2e-15,
    'log x',
  );
  assertNumber(
    integrate((x) => Math.sqrt(1 - x * x), -1, 1),
    Math.PI / 2,
    2e-15,
    'half a disc',
  );
});

test('a peak at an end is found, however narrow it is', () => {
  for (const width of [1e-3, 1e-6, 1e-12]) {
    const peak = integrate((x) => Math.exp(-x / width) / width, 0, 1);
    assertNumber(peak, 1, 1e-13, `width ${width}`);
  }
});

test('an empty interval has the integral 0, and f is not evaluated', () => {
  const refuse = () => assert.fail('f was called');
  assert.equal(integrate(refuse, 1, 1), 0);
  assert.equal(integrate(refuse, 1, 0), 0);
});

test('f is never evaluated at an end', () => {
  integrate(
    (x) => {
      assert.ok(x > 0.1 && x < 0.3, `asked for ${x}`);
      return 1 / Math.sqrt(x - 0.1) + 1 / Math.sqrt(0.3 - x);
    },
    0.1,
    0.3,
    1e-6,
  );
});

test('an integral that does not converge is an error', () => {
  assert.throws(() => integrate((x) => (x < 1 / 3 ? 0 : 1), 0, 1), /^Error: the integral from 0 to 1 did not converge/);
  assert.throws(() => integrate(() => Number.NaN, 0, 1), /did not converge/);
});
