// Yielding to the event loop: many that wait for their turn get one turn of the loop, and not one after the other without a pause.

import assert from 'node:assert/strict';
import test from 'node:test';
import { breathe, isBreathless } from '../../src/base/breathe.js';

function block(milliseconds: number): void {
  const end = performance.now() + milliseconds;
  while (performance.now() < end);
}

test('many long computations side by side yield after each of them', async () => {
  let turns = 0;
  const count = () => {
    turns++;
    next = setImmediate(count);
  };
  let next = setImmediate(count);
  const seen: number[] = [];
  block(60);
  const work = async () => {
    while (isBreathless()) await breathe();
    seen.push(turns);
    block(60);
  };
  await Promise.all(Array.from({ length: 6 }, work));
  clearImmediate(next);
  assert.equal(new Set(seen).size, 6, `turns of the event loop at which they computed: ${seen.join(', ')}`);
});
