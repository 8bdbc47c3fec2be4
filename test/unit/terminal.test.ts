// Wrapping text to the width of a terminal.

import assert from 'node:assert/strict';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { shortPath, wrap } from '../../src/cli/terminal.js';

test('no line is wider, and no text is lost', () => {
  const word = fc.string({ unit: fc.constantFrom('a', 'b', '/', '.'), minLength: 1, maxLength: 60 });
  const sizes = fc.tuple(fc.integer({ min: 12, max: 80 }), fc.integer({ min: 0, max: 8 }));
  fc.assert(
    fc.property(fc.array(word, { minLength: 1 }), sizes, (words, [width, indent]) => {
      const wrapped = wrap(words.join(' '), { width, indent });
      for (const [i, line] of wrapped.split('\n').entries())
        assert.ok(line.length <= width - (i === 0 ? indent : 0), line);
      assert.equal(wrapped.replaceAll(/\s/g, ''), words.join(''));
    }),
  );
});

test('lines break between words, or within a word at a slash', () => {
  assert.equal(wrap('one two three', { width: 9 }), 'one two\nthree');
  assert.equal(wrap('in /usr/local/lib/it.node', { width: 14, indent: 2 }), 'in\n  /usr/local/\n  lib/it.node');
  assert.equal(wrap('abcdefgh', { width: 5 }), 'abcde\nfgh');
  assert.equal(wrap('one\ntwo', { width: 80 }), 'one\ntwo');
  assert.equal(wrap('', { width: 80 }), '');
});

test('commands are not broken, unless they are wider than a line', () => {
  assert.equal(wrap('then type `npx groupgrad build` there', { width: 24 }), 'then type\n`npx groupgrad build`\nthere');
  assert.equal(wrap('type `npx groupgrad build`.', { width: 14 }), 'type `npx\ngroupgrad\nbuild`.');
  assert.equal(wrap('a `b c', { width: 4 }), 'a `b\nc');
});

test('paths are shortened to what one would type', () => {
  assert.equal(shortPath(join(process.cwd(), 'build', 'x')), join('build', 'x'));
  assert.equal(shortPath(join(homedir(), '.cache', 'x')), join('~', '.cache', 'x'));
  assert.equal(shortPath('/nowhere/x'), '/nowhere/x');
});
