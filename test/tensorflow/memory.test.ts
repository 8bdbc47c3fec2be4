// Memory on TensorFlow: flat over many thousands of steps, and never more than one gradient of large logits.

import assert from 'node:assert/strict';
import test from 'node:test';
import { outputOf, root, run, typescript } from '../support/native.js';
import { noTensorflow } from '../support/tensorflow.js';

const steps = 20_000;
// Bytes per step. The least that a step could leak is a tensor: its handle, shape and values take
// more than 200. The memory that the collector and malloc keep was at most 31 in a few runs.
const allowed = 128;

test(`${steps} steps of each kind leak no memory; the first gradient takes only its own size`, {
  skip: noTensorflow,
}, (t) => {
  const program = ['--expose-gc', '--max-semi-space-size=1', ...typescript, 'test/support/tensorflow-memory.mjs'];
  const result = run(process.execPath, [...program, String(steps)], { cwd: root, timeout: 240 });
  assert.equal(result.status, 0, outputOf(result));
  t.diagnostic(result.stdout.trim());
  const { gradient, first, later, growth } = JSON.parse(result.stdout) as {
    gradient: number;
    first: number;
    later: number;
    growth: Record<string, number>;
  };
  // Buffers consist of whole huge pages.
  assert.ok(first <= gradient + 2 ** 22, `the first gradient of ${gradient} bytes took ${first}`);
  assert.ok(later <= 2 ** 22, `fifty more took ${later}`);
  assert.equal(Object.keys(growth).length, 6);
  for (const [kind, bytes] of Object.entries(growth))
    assert.ok(bytes < allowed, `${kind}: grew by ${bytes} bytes per step`);
});
