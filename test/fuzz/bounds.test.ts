// A call writes only within its arrays: the quick counterpart of the fuzzer under sanitizers (test/native/programs.test.ts),
// with the built addon.

import assert from 'node:assert/strict';
import test from 'node:test';
import { loadAddon } from '../../src/devices/load.js';
import { logitsLoss } from '../../src/index.js';
import { drawLogits } from '../support/draw.js';
import { seeded } from '../support/random.js';

const loaded = loadAddon();

test('the gradient in place of logits does not change the memory around them', {
  skip: loaded.addon ? false : loaded.reason,
}, () => {
  // More than the widest vector that a kernel stores, on either side.
  const margin = 64;
  const sentinel = 12345;
  let changed = 0;
  for (let seed = 1; seed <= 500; seed++) {
    const { input, config, options } = drawLogits(seeded(seed));
    const { gradLogits: _, ...rest } = options;
    const { length } = input.logits;
    const Numbers = input.logits.constructor as Float32ArrayConstructor;
    const memory = new Numbers(length + 2 * margin).fill(sentinel);
    memory.set(input.logits, margin);
    const logits = memory.subarray(margin, margin + length);
    logitsLoss({ ...input, logits }, config, { ...rest, gradient: true, inPlace: true, device: 'cpu' });
    if (logits.some((value, i) => value !== input.logits[i])) changed++;
    for (let i = 0; i < margin; i++) {
      assert.equal(memory[i], sentinel, `seed ${seed}: ${margin - i} before the logits`);
      assert.equal(memory[margin + length + i], sentinel, `seed ${seed}: ${i} after the logits`);
    }
  }
  assert.ok(changed > 400, `${changed} gradients were written`);
});
