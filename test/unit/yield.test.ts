// Yielding to the event loop: concurrent callers share one turn of the loop instead of blocking it one after another.

import assert from 'node:assert/strict';
import test from 'node:test';
import { isYieldDue, yieldToEventLoop } from '../../src/base/yield.js';

function block(milliseconds: number): void {
  const end = performance.now() + milliseconds;
  while (performance.now() < end);
}

test('concurrent long computations yield after each of them', async () => {
  let turns = 0;
  const count = () => {
    turns++;
    next = setImmediate(count);
  };
  let next = setImmediate(count);
  const seen: number[] = [];
  block(60);
  const work = async () => {
    while (isYieldDue()) await yieldToEventLoop();
    seen.push(turns);
    block(60);
  };
  await Promise.all(Array.from({ length: 6 }, work));
  clearImmediate(next);
  assert.equal(new Set(seen).size, 6, `turns of the event loop at which they computed: ${seen.join(', ')}`);
});
