// The norm of a gradient: its value, and that it needs the memory of only one tensor's squares.

import assert from 'node:assert/strict';
import test, { before, describe } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { startBackend } from '../../src/backend/backend.js';
import { globalNorm } from '../../src/train/update.js';

for (const backend of ['cpu', 'wasm'] as const) {
  describe(`the norm of many tensors on ${backend}`, () => {
    before(() => startBackend(backend));

    test('is the root of the sum of all squares, and stores the squares of one tensor at a time', async () => {
      const count = 1000;
      const tensors = [1, 2, 3, 4].map((factor) =>
        tf.tensor1d(Float32Array.from({ length: count }, (_, i) => factor * Math.sin(i))),
      );
      const expected = Math.hypot(...tensors.flatMap((tensor) => [...tensor.dataSync()]));
      const before = tf.memory().numBytes;
      let norm = 0;
      const { peakBytes } = await tf.profile(() => {
        norm = globalNorm(tensors);
        return tf.scalar(0);
      });
      assert.ok(Math.abs(norm / expected - 1) < 1e-5, `${norm}, expected ${expected}`);
      // Squares of one tensor, and some scalars.
      assert.ok(peakBytes - before <= 4 * count + 100, `${peakBytes - before} bytes`);
      tf.dispose(tensors);
    });
  });
}
