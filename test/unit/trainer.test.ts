// The trainer's parts and its loop, on the tfjs backends that are installed without native code.

import assert from 'node:assert/strict';
import test, { before, describe } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { presets } from '../../src/index.js';
import type { Policy } from '../../src/policy/policy.js';
import { createTransformer } from '../../src/policy/transformer.js';
import { addition, type Example, type Task } from '../../src/tasks/index.js';
import { AdamW, type AdamWOptions } from '../../src/trainer/adamw.js';
import { startBackend } from '../../src/trainer/backend.js';
import { completionBatch, spread } from '../../src/trainer/completions.js';
import { evaluate } from '../../src/trainer/evaluate.js';
import { type GrpoOptions, GrpoTrainer } from '../../src/trainer/grpo.js';
import { createProgress } from '../../src/trainer/progress.js';
import { meanReward } from '../../src/trainer/rollout.js';
import { tokenTask } from '../../src/trainer/token-task.js';
import { updatePolicy } from '../../src/trainer/update.js';
import { warmStart } from '../../src/trainer/warm-start.js';
import { assertArray } from '../support/compare.js';

const train = tokenTask(addition({ digits: [1, 1], seed: 1 }));
const optimizer = { learningRate: 1e-2, warmupSteps: 2, weightDecay: 0.1 };

function createPolicy(): Policy {
  return createTransformer({ vocabulary: train.vocabulary.size, layers: 1, width: 8, heads: 2, hidden: 12 }, 3);
}

function grpoOptions(policy: Policy): GrpoOptions {
  const sizes = { promptsPerStep: 4, groupSize: 4, maxRounds: 2, iterations: 2 };
  return { policy, train, ...sizes, loss: presets.dapo, hadw: {}, optimizer, seed: 7 };
}

for (const backend of ['cpu', 'wasm'] as const) {
  describe(`the trainer on ${backend}`, () => {
    before(async () => void (await startBackend(backend)));

    // Float32 state against float64: each step rounds a handful of times, 6e-8 each, of values that may nearly cancel.
    for (const options of [
      { learningRate: 0.1 },
      { learningRate: 0.1, warmupSteps: 3, betas: [0.8, 0.95], epsilon: 1e-3, weightDecay: 0.5 },
      { learningRate: 0.1, warmupSteps: 2, totalSteps: 5 },
    ] satisfies AdamWOptions[]) {
      test(`AdamW follows its recurrence with ${JSON.stringify(options)}`, () => {
        const start = { matrix: [0.5, -1, 2, 0.25], gain: [1, 1.5] };
        const variables = { matrix: variable(start.matrix, [2, 2]), gain: variable(start.gain, [2]) };
        const adam = new AdamW(variables, options);
        const expected = {
          matrix: recurrence(start.matrix, options, true),
          gain: recurrence(start.gain, options, false),
        };
        for (let step = 1; step <= 6; step++) {
          const values = { matrix: [1, -2, 0.1, 0].map((g) => g * Math.cos(step)), gain: [step, -0.5] };
          const gradients = { matrix: tf.tensor2d(values.matrix, [2, 2]), gain: tf.tensor1d(values.gain) };
          adam.update(gradients, 0.5);
          for (const name of ['matrix', 'gain'] as const) {
            const parameters = expected[name](
              step,
              values[name].map((g) => 0.5 * g),
            );
            assertArray(variables[name].dataSync(), parameters, 1e-5, `${name} after step ${step}`);
          }
          tf.dispose(gradients);
        }
        adam.dispose();
        tf.dispose(variables);
      });
    }

    test('an update reports the gradient norm and clips to it', () => {
      const made = variable([3, 4], [2]);
      const policy = { variables: { made } } as unknown as Policy;
      const adam = new AdamW(policy.variables, { learningRate: 0, epsilon: 1 });
      const tensors = tf.memory().numTensors;
      assert.deepEqual(
        updatePolicy(policy, adam, () => halfSquare(made), 1),
        { loss: 12.5, gradientNorm: 5 },
      );
      assert.equal(tf.memory().numTensors, tensors);
      adam.dispose();
      made.dispose();
    });

    test('a loss that is not finite stops the update before it is made', () => {
      const made = variable([3, NaN], [2]);
      const policy = { variables: { made } } as unknown as Policy;
      const adam = new AdamW(policy.variables, { learningRate: 1 });
      const tensors = tf.memory().numTensors;
      assert.throws(
        () => updatePolicy(policy, adam, () => halfSquare(made), 1),
        /finite loss and gradient, got a loss of NaN/,
      );
      assert.equal(made.dataSync()[0], 3);
      assert.equal(tf.memory().numTensors, tensors);
      adam.dispose();
      made.dispose();
    });

    test('no step leaves a tensor behind', () => {
      const policy = createPolicy();
      const before = tf.memory().numTensors;
      const counts: number[] = [];
      for (const _ of warmStart({ policy, train, steps: 3, batchSize: 4, optimizer }))
        counts.push(tf.memory().numTensors);
      assert.equal(tf.memory().numTensors, before);
      const trainer = new GrpoTrainer(grpoOptions(policy));
      for (let step = 0; step < 3; step++) {
        trainer.step();
        counts.push(tf.memory().numTensors);
      }
      trainer.dispose();
      assert.equal(tf.memory().numTensors, before);
      assert.equal(new Set(counts).size, 1, `tensors after each step: ${counts}`);
      policy.dispose();
    });

    test('a warm start that is left early frees its optimiser', () => {
      const policy = createPolicy();
      const tensors = tf.memory().numTensors;
      for (const _ of warmStart({ policy, train, steps: 3, batchSize: 4, optimizer })) break;
      assert.equal(tf.memory().numTensors, tensors);
      policy.dispose();
    });

    test('two runs with one seed are the same, bit for bit', () => {
      const run = () => {
        const policy = createPolicy();
        const losses = [...warmStart({ policy, train, steps: 4, batchSize: 8, optimizer })].map(({ loss }) => loss);
        const trainer = new GrpoTrainer(grpoOptions(policy));
        const texts = [0, 1, 2].map(() => trainer.step().groups.map((group) => group.texts));
        trainer.dispose();
        const weights = Object.values(policy.variables).map((weight) => weight.dataSync().slice());
        policy.dispose();
        return { losses, texts, weights };
      };
      assert.deepEqual(run(), run());
    });

    test('a warm start lowers the cross-entropy, which begins near that of guessing', () => {
      const policy = createPolicy();
      const losses = [...warmStart({ policy, train, steps: 60, batchSize: 16, optimizer })].map(({ loss }) => loss);
      policy.dispose();
      // Logits of a new policy have a variance of about 1, which adds about a half to ln V.
      assert.ok(Math.abs(losses[0] - Math.log(train.vocabulary.size)) < 1, `first loss ${losses[0]}`);
      assert.ok(losses[59] < 0.75 * losses[0], `from ${losses[0]} to ${losses[59]}`);
    });

    test('the log-probs of the sampler are those of the loss: the first ratio is 1', () => {
      const policy = createPolicy();
      const trainer = new GrpoTrainer({ ...grpoOptions(policy), iterations: 1, temperature: 0.7 });
      const { metrics } = trainer.step();
      // Log-probs of order 1 to 10 agree to some units of float32 rounding.
      assert.ok(
        Math.abs(metrics['ratio/min'] - 1) < 1e-5 && Math.abs(metrics['ratio/max'] - 1) < 1e-5,
        JSON.stringify(metrics),
      );
      trainer.dispose();
      policy.dispose();
    });
  });
}

describe('the reinforcement loop', () => {
  before(async () => void (await startBackend('cpu')));

  test('the anchor is the mean reward of the steps before', () => {
    const policy = createPolicy();
    const task = { ...train, task: { ...train.task, score: (text: string) => (text.startsWith('1') ? 1 : 0) } };
    const trainer = new GrpoTrainer({ ...grpoOptions(policy), train: task, maxRounds: 1 });
    const [first, second, third] = [trainer.step(), trainer.step(), trainer.step()];
    assert.equal(third.metrics['hadw/anchor'], (meanReward(first.groups) + meanReward(second.groups)) / 2);
    trainer.dispose();
    policy.dispose();
  });

  test('a step samples further rounds for want of groups whose rewards differ, up to its bound', () => {
    const count = (score: Task['score'], maxRounds: number) => {
      const policy = createPolicy();
      // Long enough for this policy to end its completions: truncated ones are not scored.
      const task = { ...train, maxTokens: 60, task: { ...train.task, score } };
      const trainer = new GrpoTrainer({ ...grpoOptions(policy), train: task, maxRounds });
      const { groups, metrics } = trainer.step();
      trainer.dispose();
      policy.dispose();
      const prompts = groups.map((group) => group.example.prompt);
      assert.deepEqual(
        prompts,
        prompts.map((_, i) => train.task.example(i).prompt),
      );
      return { groups: groups.length, idle: metrics.frac_reward_zero_std };
    };
    assert.deepEqual(
      count(() => 0, 3),
      { groups: 12, idle: 1 },
    );
    assert.deepEqual(
      count(() => 0, 1),
      { groups: 4, idle: 1 },
    );
    let calls = 0;
    assert.deepEqual(
      count(() => calls++ % 2, 3),
      { groups: 4, idle: 0 },
    );
  });

  test('a truncated completion gets no reward, whatever its text', () => {
    const policy = createPolicy();
    const always = { ...train, task: { ...train.task, score: () => 1 } };
    const trainer = new GrpoTrainer({ ...grpoOptions(policy), train: always });
    const { groups, metrics } = trainer.step();
    const completions = groups.flatMap((group) => group.completions);
    const rewards = groups.flatMap((group) => group.rewards);
    assert.deepEqual(
      rewards,
      completions.map(({ truncated }) => (truncated ? 0 : 1)),
    );
    assert.ok(metrics['completions/clipped_ratio'] > 0);
    assert.equal(metrics['completions/clipped_ratio'], 1 - metrics.reward);
    trainer.dispose();
    policy.dispose();
  });

  test('reinforcement raises the reward of a task that is easy to please', () => {
    const policy = createPolicy();
    const task = { ...train, task: { ...train.task, score: (text: string) => (text === '7' ? 1 : 0) } };
    const trainer = new GrpoTrainer({ ...grpoOptions(policy), train: task, optimizer: { learningRate: 2e-2 } });
    const rewards = Array.from({ length: 40 }, () => trainer.step().metrics.reward);
    const examples: Example[] = Array.from({ length: 20 }, (_, i) => train.task.example(i));
    assert.ok(rewards[0] < 0.3 && rewards[39] > 0.9, rewards.join(' '));
    assert.deepEqual(evaluate(policy, task, examples), { correct: 20, count: 20, accuracy: 1 });
    trainer.dispose();
    policy.dispose();
  });

  test('impossible options are refused by name', () => {
    const policy = createPolicy();
    const make = (change: Partial<GrpoOptions>) => () => new GrpoTrainer({ ...grpoOptions(policy), ...change });
    assert.throws(make({ groupSize: 1 }), { name: 'RangeError', message: /^groupSize/ });
    assert.throws(make({ promptsPerStep: 0 }), { name: 'RangeError', message: /^promptsPerStep/ });
    assert.throws(make({ temperature: 0 }), { name: 'RangeError', message: /^temperature/ });
    assert.throws(make({ optimizer: { learningRate: -1 } }), { name: 'RangeError', message: /^learningRate/ });
    assert.throws(make({ optimizer: { learningRate: 1, betas: [0.9, 1] } }), {
      name: 'RangeError',
      message: /^betas\[1\]/,
    });
    policy.dispose();
  });
});

test('a batch holds each prompt, its completion one column later, and a mask over the completion', () => {
  const pairs = [
    { prompt: Int32Array.of(1, 2, 3), completion: Int32Array.of(4, 5, 0) },
    { prompt: Int32Array.of(6), completion: Int32Array.of(0) },
  ];
  const batch = completionBatch(pairs, { promptLength: 3, length: 3, padding: 0 });
  assert.deepEqual(batch, {
    input: {
      sequences: 2,
      length: 5,
      tokens: Int32Array.of(1, 2, 3, 4, 5, 0, 0, 6, 0, 0),
      starts: Int32Array.of(0, 2),
    },
    from: 2,
    shape: { sequences: 2, length: 3 },
    targets: Int32Array.of(4, 5, 0, 0, 0, 0),
    mask: Uint8Array.of(1, 1, 1, 1, 0, 0),
  });
  assert.deepEqual(
    spread([Float32Array.of(-1, -2, -3), Float32Array.of(-4)], 3),
    Float32Array.of(-1, -2, -3, -4, 0, 0),
  );
});

test('progress stays on one line of a terminal, and prints milestones alone elsewhere', () => {
  const written = (isTTY: boolean) => {
    const parts: string[] = [];
    const stream = { isTTY, columns: 10, write: (text: string) => parts.push(text) };
    const progress = createProgress(stream as unknown as NodeJS.WriteStream);
    progress.update('one', false);
    progress.update('two is too long', true);
    progress.print('end');
    return parts.join('');
  };
  assert.equal(written(true), '\r\x1b[2Kone\r\x1b[2Ktwo is to\r\x1b[2Kend\n');
  assert.equal(written(false), 'two is too long\nend\n');
});

test('a backend that is not there is refused with the packages that would bring it', async () => {
  await assert.rejects(startBackend('webgl' as never), { name: 'RangeError', message: /^backend/ });
});

function variable(values: number[], shape: number[]): tf.Variable {
  return tf.tidy(() => tf.variable(tf.tensor(values, shape)));
}

/** Σ x² / 2 with its own gradient x: tfjs-core registers none on Node. */
function halfSquare(x: tf.Tensor): tf.Scalar {
  const operation = tf.customGrad((given, save) => {
    (save as (tensors: tf.Tensor[]) => void)([given as tf.Tensor]);
    return {
      value: tf.div(tf.sum(tf.square(given as tf.Tensor)), 2),
      gradFunc: (dy, saved) => tf.mul(dy, (saved as tf.Tensor[])[0]),
    };
  });
  return operation(x) as tf.Scalar;
}

/** AdamW (arXiv 1711.05101, algorithm 2) on one parameter vector: the parameters after each step. */
function recurrence(start: number[], options: AdamWOptions, decays: boolean) {
  const { learningRate, warmupSteps = 0, totalSteps, betas = [0.9, 0.999], epsilon = 1e-8, weightDecay = 0 } = options;
  const x = [...start];
  const m = start.map(() => 0);
  const v = start.map(() => 0);
  return (step: number, gradient: number[]) => {
    let rate = step <= warmupSteps ? (learningRate * step) / warmupSteps : learningRate;
    if (totalSteps !== undefined && step > warmupSteps) {
      rate = Math.max(0, (learningRate * (totalSteps + 1 - step)) / (totalSteps + 1 - warmupSteps));
    }
    gradient.forEach((g, i) => {
      m[i] = betas[0] * m[i] + (1 - betas[0]) * g;
      v[i] = betas[1] * v[i] + (1 - betas[1]) * g * g;
      const unbiased = m[i] / (1 - betas[0] ** step) / (Math.sqrt(v[i] / (1 - betas[1] ** step)) + epsilon);
      x[i] -= rate * (unbiased + (decays ? weightDecay * x[i] : 0));
    });
    return x;
  };
}
