// Training with operations inside TensorFlow: the same weights, bit for bit, as with typed arrays, and a policy that
// learns.

import assert from 'node:assert/strict';
import test, { describe } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { DifficultyAnchor, type LossConfig, presets } from '../../src/index.js';
import { logitsLoss as throughArrays } from '../../src/tfjs/arrays.js';
import { differentiable } from '../../src/tfjs/differentiable.js';
import { type GrpoBatch, type GrpoReport, grpoLoss, tfjsBridge } from '../../src/tfjs/index.js';
import { type Random, seeded } from '../support/random.js';
import { noTensorflow } from '../support/tensorflow.js';

// A prompt has one right answer, a token sequence; the policy has one matrix for each step of an answer.
const [prompts, groupSize, length, vocab] = [6, 8, 2, 12];
const sequences = prompts * groupSize;
const shape = { sequences, length };
const rows = Array.from({ length: sequences * length }, (_, row) => {
  const [sequence, t] = [Math.floor(row / length), row % length];
  return Math.floor(sequence / groupSize) * length + t;
});
const right = Array.from({ length: prompts * length }, (_, i) => (5 * i + 3) % vocab);

type Loss = (logits: tf.Tensor, batch: GrpoBatch, config: LossConfig, onResult: (r: GrpoReport) => void) => tf.Scalar;

const operation: Loss = (logits, batch, config, onResult) =>
  grpoLoss(logits, batch, config, { onResult, inPlace: true });
const arrays: Loss = (logits, batch, config, onResult) =>
  differentiable(logits, (x) =>
    throughArrays(x, { ...batch, shape: { ...shape, vocab } }, config, { device: 'cpu' }, onResult),
  );

/** A token drawn from softmax(logits). */
function sample(logits: Float32Array, random: Random): number {
  const weights = logits.map(Math.exp);
  let left = random.uniform(
    0,
    weights.reduce((a, b) => a + b),
  );
  for (let token = 0; token < weights.length; token++) {
    left -= weights[token];
    if (left <= 0) return token;
  }
  return weights.length - 1;
}

/** Trains for some steps with samples of a seeded generator. */
function train(loss: Loss, steps: number, config: LossConfig) {
  const random = seeded(11);
  const zeros = tf.zeros([prompts * length, vocab]);
  const table = tf.variable(zeros);
  const optimizer = tf.train.adam(0.1);
  const anchor = new DifficultyAnchor();
  const index = tf.tensor1d(rows, 'int32');
  const rewards: number[] = [];
  const losses: number[] = [];
  for (let step = 0; step < steps; step++) {
    const values = table.dataSync() as Float32Array;
    const tokens = Int32Array.from(rows, (row) => sample(values.subarray(row * vocab, (row + 1) * vocab), random));
    const hits = Array.from(tokens, (token, i) => (token === right[rows[i]] ? 1 : 0));
    const scores = Array.from({ length: sequences }, (_, b) => (hits[2 * b] + hits[2 * b + 1]) / 2);
    const hadw = { anchor: anchor.value };
    const batch: GrpoBatch = { shape, tokens, rewards: scores, advantage: { groupSize, hadw } };
    const cost = optimizer.minimize(
      () =>
        loss(tf.gather(table, index), batch, config, ({ metrics, advantage }) => {
          rewards.push(metrics.reward);
          anchor.observe(advantage!.accuracy);
        }),
      true,
    ) as tf.Scalar;
    losses.push(cost.dataSync()[0]);
    cost.dispose();
  }
  const weights = table.dataSync().slice();
  optimizer.dispose();
  tf.dispose([zeros, table, index]);
  return { rewards, losses, weights };
}

describe('training on TensorFlow', { skip: noTensorflow }, () => {
  test('gives the same weights as typed arrays, bit for bit, for every preset', () => {
    assert.equal(tfjsBridge().path, 'operations');
    for (const [name, config] of Object.entries(presets)) {
      const [ours, theirs] = [operation, arrays].map((loss) =>
        train(loss, 5, { ...config, entropy: { coefficient: 0.01 } }),
      );
      assert.deepEqual(ours, theirs, name);
      assert.ok(
        ours.weights.some((w) => w !== 0),
        name,
      );
    }
  });

  test('raises the reward of an untrained policy, and leaves no tensors', () => {
    const before = tf.memory().numTensors;
    const { rewards } = train(operation, 150, presets.dapo);
    const mean = (values: number[]) => values.reduce((a, b) => a + b) / values.length;
    assert.ok(mean(rewards.slice(0, 5)) < 0.2, `${rewards.slice(0, 5)}`);
    assert.ok(mean(rewards.slice(-5)) > 0.9, `${rewards.slice(-5)}`);
    assert.equal(tf.memory().numTensors, before);
  });
});
