// Strict JSON: what JSON.parse reads, except repeated keys and deep nesting.

import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { parseJson } from '../../src/base/json.js';

/** With ordinary prototypes, so that deepEqual compares contents. */
function plain(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}

test('JSON is read as by JSON.parse', () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 5 }), fc.constantFrom(undefined, 1, '\t'), (value, space) => {
      const text = JSON.stringify(value, null, space);
      assert.deepEqual(plain(parseJson(text)), JSON.parse(text));
    }),
  );
});

test('invalid JSON is rejected', () => {
  const letters = fc.constantFrom(...'{}[]:,"\\ \n0123.eE+-truefalsnu'.split(''), '\\u00e9', '\u0001');
  fc.assert(
    fc.property(fc.array(letters, { maxLength: 8 }), (parts) => {
      const text = parts.join('');
      let expected: unknown;
      try {
        expected = JSON.parse(text);
      } catch {
        assert.throws(() => parseJson(text), SyntaxError, text);
        return;
      }
      assert.deepEqual(plain(parseJson(text)), plain(expected), text);
    }),
    { numRuns: 5000 },
  );
});

test('repeated keys and deep nesting are rejected, __proto__ is a key', () => {
  assert.throws(() => parseJson('{"a":1,"\\u0061":2}'), /position 7: the key "a" occurs twice/);
  assert.throws(() => parseJson('[['.repeat(50)), /nested more than 64 deep/);
  assert.equal(Object.keys(parseJson('{"__proto__":{"x":1}}') as object)[0], '__proto__');
  assert.equal(({} as { x?: number }).x, undefined);
  assert.throws(() => parseJson('{"__proto__":1,"__proto__":2}'), /"__proto__" occurs twice/);
  assert.throws(() => parseJson(`"${'\\'.repeat(9)}"`), /expected a closing '"'/);
  // Long strings do not overflow the stack.
  assert.equal((parseJson(`"${'a'.repeat(2 ** 22)}"`) as string).length, 2 ** 22);
});
