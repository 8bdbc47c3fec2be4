// The shortened demo on TensorFlow: it says that its loss is an operation.

import assert from 'node:assert/strict';
import test from 'node:test';
import { outputOf, root, run } from '../support/native.js';
import { noTensorflow } from '../support/tensorflow.js';

test('the demo trains through operations inside TensorFlow', { skip: noTensorflow }, () => {
  const args = ['dist/demo.js', '--steps', '2', '--backend', 'tensorflow'];
  const result = run(process.execPath, args, { cwd: root, timeout: 240 });
  // TensorFlow's own messages about the processor.
  assert.doesNotMatch(outputOf(result), /cpu_feature_guard|rebuild TensorFlow/);
  const [first] = result.stdout.split('\n');
  assert.match(
    first,
    /policy on tfjs backend tensorflow \(.*\), loss as an operation inside TensorFlow$/,
    outputOf(result),
  );
  assert.match(result.stdout, /^held out, after reinforcement: +\d+ of 400 right/m, outputOf(result));
});
