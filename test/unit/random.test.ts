// Random numbers: the generator against its authors' known answers, and properties that the package relies on.

import assert from 'node:assert/strict';
import test from 'node:test';
import { fillUniform, integer, normal, threefry, uniform } from '../../src/base/random.js';

test('threefry gives the known answers of Random123 for 4x32 words and 20 rounds', () => {
  const hex = (words: readonly number[]) => words.map((word) => word.toString(16).padStart(8, '0')).join(' ');
  const ones = 0xffffffff;
  assert.equal(hex(threefry([0, 0, 0, 0], [0, 0, 0, 0])), '9c6ca96a e17eae66 fc10ecd4 5256a7d8');
  assert.equal(
    hex(threefry([ones, ones, ones, ones], [ones, ones, ones, ones])),
    '2a881696 57012287 f6c7446e a16a6732',
  );
  assert.equal(
    hex(threefry([0xa4093822, 0x299f31d0, 0x082efa98, 0xec4e6c89], [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344])),
    '59cd1dbb b8879579 86b5d00c ac8b6d84',
  );
});

test('every part of an address changes the number, and nothing else does', () => {
  const stream = { seed: 7, purpose: 'sampling', index: 3 } as const;
  const numbers = [
    uniform(stream, 1, 2, 3),
    uniform({ ...stream, seed: 8 }, 1, 2, 3),
    uniform({ ...stream, seed: 7 + 2 ** 32 }, 1, 2, 3),
    uniform({ ...stream, purpose: 'weights' }, 1, 2, 3),
    uniform({ ...stream, index: 4 }, 1, 2, 3),
    uniform(stream, 2, 2, 3),
    uniform(stream, 1, 3, 3),
    uniform(stream, 1, 2, 4),
  ];
  assert.equal(new Set(numbers).size, numbers.length);
  assert.equal(uniform({ ...stream }, 1, 2, 3), numbers[0]);
});

test('uniform numbers have the mean, variance and bounds of (0, 1), normal ones mean 0 and variance 1', () => {
  const count = 20000;
  const moments = (draw: (i: number) => number) => {
    const values = Array.from({ length: count }, (_, i) => draw(i));
    const mean = values.reduce((a, b) => a + b) / count;
    return { mean, variance: values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / count, values };
  };
  const flat = moments((i) => uniform({ seed: 1, purpose: 'sampling' }, i));
  assert.ok(flat.values.every((v) => v > 0 && v < 1));
  // Five standard errors: sqrt(1/12 / n), and sqrt(1/180 / n) for the variance.
  assert.ok(Math.abs(flat.mean - 0.5) < 5 * Math.sqrt(1 / 12 / count));
  assert.ok(Math.abs(flat.variance - 1 / 12) < 5 * Math.sqrt(1 / 180 / count));
  const bell = moments((i) => normal({ seed: 1, purpose: 'weights' }, i));
  assert.ok(Math.abs(bell.mean) < 5 * Math.sqrt(1 / count));
  assert.ok(Math.abs(bell.variance - 1) < 5 * Math.sqrt(2 / count));
});

test('an array is filled by addresses, two numbers from each, whatever its length', () => {
  const stream = { seed: 3, purpose: 'simulation', index: 8 } as const;
  const fill = (length: number, a: number, c?: number) => {
    const out = new Float64Array(length);
    fillUniform(out, stream, a, c);
    return [...out];
  };
  const seven = fill(7, 5, 2);
  assert.deepEqual(fill(4, 5, 2), seven.slice(0, 4));
  assert.deepEqual(
    [0, 1, 2, 3].map((b) => uniform(stream, 5, b, 2)),
    seven.filter((_, i) => i % 2 === 0),
  );
  assert.equal(new Set([...seven, ...fill(7, 6, 2), ...fill(7, 5, 3), ...fill(7, 5)]).size, 28);
  const many = Array.from({ length: 20000 }, (_, i) => fill(2, i));
  const product = many.reduce((sum, [x, y]) => sum + (x - 0.5) * (y - 0.5), 0) / many.length;
  // Neighbours are uncorrelated: five standard errors of 1 / (12 sqrt(n)).
  assert.ok(Math.abs(product) < 5 / (12 * Math.sqrt(many.length)));
});

test('integers cover their range', () => {
  const seen = new Set(Array.from({ length: 200 }, (_, i) => integer({ seed: 1, purpose: 'examples' }, 5, i)));
  assert.deepEqual([...seen].sort(), [0, 1, 2, 3, 4]);
});
