// The loss inside TensorFlow.js, on every backend: every way to differentiate it, compared with the host API; memory; errors.

import assert from 'node:assert/strict';
import test, { before, describe } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-wasm';
import {
  computeAdvantages as hostAdvantages,
  logitsLoss as hostLogitsLoss,
  policyLoss as hostPolicyLoss,
  type LogitsInput,
  type LossConfig,
  type PolicyInput,
  presets,
} from '../../src/index.js';
import {
  computeAdvantages,
  type GrpoBatch,
  type GrpoReport,
  grpoLoss,
  type PolicyBatch,
  policyLoss,
} from '../../src/tfjs/index.js';
import { assertArray, assertNumber } from '../support/compare.js';
import { fill, seeded } from '../support/random.js';
import { noTensorflow } from '../support/tensorflow.js';

const [sequences, length, vocab] = [3, 4, 7];
const tokens = sequences * length;
const random = seeded(5);
const logitValues = fill(tokens * vocab, () => random.normal());
const logProbValues = fill(tokens, () => -random.uniform(0.1, 3));
const mask = Uint8Array.from({ length: tokens }, (_, i) => (i % length < 3 ? 1 : 0));
const arrays = {
  mask,
  oldLogProbs: fill(tokens, () => -random.uniform(1, 3)),
  refLogProbs: fill(tokens, () => -random.uniform(1, 3)),
  advantages: Float32Array.of(1, -0.5, 0.25),
  tokenWeights: fill(tokens, () => random.uniform(0.5, 1.5)),
};
const ids = Int32Array.from({ length: tokens }, () => random.integer(0, vocab - 1));
const config: LossConfig = { ...presets.grpo, kl: { beta: 0.1 } };
const withEntropy: LossConfig = { ...config, entropy: { coefficient: 0.05 } };

const logitsInput: LogitsInput & { logits: Float32Array } = {
  ...arrays,
  shape: { sequences, length, vocab },
  logits: logitValues,
  tokens: ids,
};
const policyInput: PolicyInput = { ...arrays, shape: { sequences, length }, logProbs: logProbValues };
const expectedLogits = hostLogitsLoss(logitsInput, withEntropy);
const expectedPolicy = hostPolicyLoss(policyInput, config);

const batch: GrpoBatch = { ...arrays, tokens: ids };
const policyBatch: PolicyBatch = arrays;

/** float32 arithmetic of the backend around a gradient that equals the host's, bit for bit. */
const rounding = 4 * 2 ** -24;

for (const backend of ['cpu', 'wasm', 'tensorflow']) {
  describe(`on the ${backend} backend`, { skip: backend === 'tensorflow' && noTensorflow }, () => {
    before(async () => {
      assert.ok(await tf.setBackend(backend));
      await tf.ready();
    });

    const logits3 = () => tf.tensor3d(logitValues.slice(), [sequences, length, vocab]);
    const logProbs2 = () => tf.tensor2d(logProbValues.slice(), [sequences, length]);

    test('tf.grad gives the gradient of the host API, bit for bit', () => {
      tf.tidy(() => {
        const byLogits = tf.grad((x) => grpoLoss(x, batch, withEntropy))(logits3());
        assert.deepEqual(byLogits.shape, [sequences, length, vocab]);
        assert.deepEqual(byLogits.dataSync(), expectedLogits.gradLogits);
        const byLogProbs = tf.grad((x) => policyLoss(x, policyBatch, config))(logProbs2());
        assert.deepEqual(byLogProbs.shape, [sequences, length]);
        assert.deepEqual(byLogProbs.dataSync(), expectedPolicy.gradLogProbs);
      });
    });

    test('tf.valueAndGrads returns the loss too, and only the logits get a gradient', () => {
      tf.tidy(() => {
        const old = tf.tensor2d(arrays.oldLogProbs, [sequences, length]);
        const loss = (x: tf.Tensor, oldLogProbs: tf.Tensor) =>
          tf.add(grpoLoss(x, { ...batch, oldLogProbs }, withEntropy), tf.mul(0, tf.sum(oldLogProbs))) as tf.Scalar;
        const { value, grads } = tf.valueAndGrads(loss)([logits3(), old]);
        assert.equal(value.dataSync()[0], Math.fround(expectedLogits.loss));
        assert.deepEqual(grads[0].dataSync(), expectedLogits.gradLogits);
        assert.ok(grads[1].dataSync().every((g) => g === 0));
      });
    });

    test('tf.variableGrads reaches the variables that the logits are computed from', () => {
      tf.tidy(() => {
        const features = fill(tokens * 2, () => random.normal());
        const x = tf.tensor2d(features, [tokens, 2]);
        const weights = tf.variable(tf.randomNormal([2, vocab], 0, 1, 'float32', 3) as tf.Tensor2D);
        const { value, grads } = tf.variableGrads(() =>
          grpoLoss(tf.matMul(x, weights), { ...batch, shape: { sequences, length } }, withEntropy),
        );
        const logits = tf.matMul(x, weights).dataSync() as Float32Array;
        const host = hostLogitsLoss({ ...logitsInput, logits: logits.slice() }, withEntropy);
        assert.equal(value.dataSync()[0], Math.fround(host.loss));
        const chained = tf.matMul(x, tf.tensor2d(host.gradLogits, [tokens, vocab]), true);
        assertArray(grads[weights.name].dataSync(), chained.dataSync(), rounding, 'gradient');
        weights.dispose();
      });
    });

    test('Optimizer.minimize lowers the loss', () => {
      for (const [shape, loss] of [
        [[sequences, length, vocab], (x: tf.Tensor) => grpoLoss(x, batch, withEntropy)],
        [[sequences, length], (x: tf.Tensor) => policyLoss(x, policyBatch, config)],
      ] as const) {
        const values = shape.length === 3 ? logitValues : logProbValues;
        const x = tf.variable(tf.tensor(values.slice(), [...shape]));
        const optimizer = tf.train.sgd(0.5);
        const losses: number[] = [];
        for (let step = 0; step < 6; step++) {
          const value = optimizer.minimize(() => loss(x), true) as tf.Scalar;
          losses.push(value.dataSync()[0]);
          value.dispose();
        }
        for (let step = 1; step < losses.length; step++) assert.ok(losses[step] < losses[step - 1], losses.join(', '));
        optimizer.dispose();
        x.dispose();
      }
    });

    test('an upstream gradient is multiplied in: the loss times 3, and added to other terms', () => {
      tf.tidy(() => {
        const tripled = tf.grad((x) => tf.mul(grpoLoss(x, batch, withEntropy), 3))(logits3());
        const three = expectedLogits.gradLogits.map((g) => 3 * g);
        assertArray(tripled.dataSync(), three, rounding, 'tripled');
        const more = tf.grad((x) => tf.add(grpoLoss(x, batch, withEntropy), tf.sum(tf.square(x))))(logits3());
        const sum = expectedLogits.gradLogits.map((g, i) => g + 2 * logitValues[i]);
        assertArray(more.dataSync(), sum, rounding, 'with a square added');
        const twice = tf.grad((x) =>
          tf.sub(policyLoss(x, policyBatch, config), tf.mul(0.5, policyLoss(x, policyBatch, presets.reinforce))),
        )(logProbs2());
        const other = hostPolicyLoss(policyInput, presets.reinforce).gradLogProbs;
        const difference = expectedPolicy.gradLogProbs.map((g, i) => g - 0.5 * other[i]);
        assertArray(twice.dataSync(), difference, 4 * rounding, 'two losses');
      });
    });

    test('logits are not modified, with and without a gradient', () => {
      tf.tidy(() => {
        const logits = logits3();
        grpoLoss(logits, batch, withEntropy);
        tf.grad((x) => grpoLoss(x, batch, withEntropy))(logits);
        assert.deepEqual(logits.dataSync(), logitValues);
        const given = logitValues.slice(); // memory that the cpu backend takes over without a copy
        tf.grad((x) => grpoLoss(x, batch, withEntropy))(tf.tensor3d(given, [sequences, length, vocab]));
        assert.deepEqual(given, logitValues);
        const logProbs = logProbs2();
        tf.grad((x) => policyLoss(x, policyBatch, config))(logProbs);
        assert.deepEqual(logProbs.dataSync(), logProbValues);
      });
    });

    test('in place: the same gradient, even if the logits are overwritten', () => {
      tf.tidy(() => {
        const options = { inPlace: true };
        const gradient = tf.grad((x) => grpoLoss(x, batch, withEntropy, options))(logits3());
        assert.deepEqual(gradient.dataSync(), expectedLogits.gradLogits);
        const features = tf.eye(tokens);
        const shaped = { ...batch, shape: { sequences, length } };
        const flat = tf.reshape(logits3(), [tokens, vocab]) as tf.Tensor2D;
        const through = tf.grad((w) => grpoLoss(tf.matMul(features, w as tf.Tensor2D), shaped, withEntropy, options));
        assertArray(through(flat).dataSync(), expectedLogits.gradLogits, rounding, 'through a product');
        assert.deepEqual(flat.dataSync(), logitValues);
      });
    });

    test("computeAdvantages returns tensors equal to the host API's arrays", () => {
      const before = tf.memory().numTensors;
      const rewards = [0, 1, 1, 1, 0, NaN];
      const settings = { groupSize: 3, hadw: { anchor: 0.3 } };
      const host = hostAdvantages(rewards, settings);
      const given = tf.tensor1d(rewards);
      for (const values of [rewards, Float64Array.from(rewards), given]) {
        const { accuracy, metrics, ...tensors } = computeAdvantages(values, settings);
        assert.deepEqual({ accuracy, metrics }, { accuracy: host.accuracy, metrics: host.metrics });
        for (const name of ['advantages', 'weights', 'groupMean', 'groupStd', 'active'] as const) {
          assert.deepEqual(tensors[name].shape, [host[name].length], name);
          assert.deepEqual(tensors[name].dtype, name === 'active' ? 'bool' : 'float32', name);
          assert.deepEqual(tensors[name].dataSync(), host[name], name);
        }
        tf.dispose(tensors);
      }
      assert.throws(
        () =>
          computeAdvantages(
            tf.tidy(() => tf.cast(given, 'int32')),
            settings,
          ),
        {
          name: 'RangeError',
          message: 'rewards: expected a float32 tensor, got dtype int32',
        },
      );
      assert.throws(() => computeAdvantages(rewards, { groupSize: 4 }), {
        name: 'RangeError',
        message: 'config.groupSize: expected a divisor of the 6 rewards, got 4',
      });
      given.dispose();
      assert.ok(tf.memory().numTensors <= before + 1); // the tensor that was rejected
    });

    test('logits of rank 2 and 3 give the same', () => {
      tf.tidy(() => {
        const flat = tf.reshape(logits3(), [tokens, vocab]);
        const loss = (x: tf.Tensor) => grpoLoss(x, { ...batch, shape: { sequences, length } }, withEntropy);
        assert.equal(loss(flat).dataSync()[0], loss(logits3()).dataSync()[0]);
        const gradient = tf.grad(loss)(flat);
        assert.deepEqual(gradient.shape, [tokens, vocab]);
        assert.deepEqual(gradient.dataSync(), expectedLogits.gradLogits);
        const column = tf.reshape(logProbs2(), [tokens, 1]);
        const shaped = { ...policyBatch, shape: { sequences, length } };
        assert.equal(policyLoss(column, shaped, config).dataSync()[0], Math.fround(expectedPolicy.loss));
      });
    });

    test('arrays of the batch may be tensors', () => {
      tf.tidy(() => {
        const shape: [number, number] = [sequences, length];
        const tensors = {
          oldLogProbs: tf.tensor2d(arrays.oldLogProbs, shape),
          refLogProbs: tf.tensor2d(arrays.refLogProbs, shape),
          tokenWeights: tf.tensor2d(arrays.tokenWeights, shape),
          advantages: tf.tensor1d(arrays.advantages),
        };
        const masks = [
          tf.tensor2d([...mask], shape, 'bool'),
          tf.tensor2d([...mask], shape, 'int32'),
          tf.tensor2d([...mask], shape, 'float32'),
        ];
        for (const m of masks) {
          const all = { ...tensors, mask: m, tokens: tf.tensor2d(ids, shape, 'int32') };
          const gradient = tf.grad((x) => grpoLoss(x, all, withEntropy))(logits3());
          assert.deepEqual(gradient.dataSync(), expectedLogits.gradLogits);
          const { tokens: _, ...policyTensors } = all;
          const byLogProbs = tf.grad((x) => policyLoss(x, policyTensors, config))(logProbs2());
          assert.deepEqual(byLogProbs.dataSync(), expectedPolicy.gradLogProbs);
        }
      });
    });

    test('a tensor may be flat or have a last dimension of 1', () => {
      const perToken = [[sequences, length], [tokens], [sequences, length, 1], [tokens, 1]];
      const perSequence = [[sequences], [sequences, 1]];
      tf.tidy(() => {
        const spread = Float32Array.from({ length: tokens }, (_, i) => arrays.advantages[Math.floor(i / length)]);
        for (const rank of [2, 3]) {
          const logits = tf.reshape(logits3(), rank === 3 ? [sequences, length, vocab] : [tokens, vocab]);
          const shaped = { ...batch, shape: { sequences, length } };
          for (const shape of perToken) {
            for (const advantages of [
              ...perSequence.map((s) => tf.tensor(arrays.advantages, s)),
              tf.tensor(spread, shape),
            ]) {
              const all = {
                ...shaped,
                tokens: tf.tensor(ids, shape, 'int32'),
                mask: tf.tensor([...mask], shape, 'bool'),
                oldLogProbs: tf.tensor(arrays.oldLogProbs, shape),
                refLogProbs: tf.tensor(arrays.refLogProbs, shape),
                tokenWeights: tf.tensor(arrays.tokenWeights, shape),
                advantages,
              };
              const gradient = tf.grad((x) => grpoLoss(x, all, withEntropy))(logits);
              assert.deepEqual(gradient.dataSync(), expectedLogits.gradLogits, `[${shape}], rank ${rank}`);
              const { tokens: _, ...policyTensors } = all;
              const logProbs = tf.reshape(logProbs2(), shape);
              const byLogProbs = tf.grad((x) => policyLoss(x, policyTensors, config))(logProbs);
              assert.deepEqual(byLogProbs.dataSync(), expectedPolicy.gradLogProbs, `[${shape}]`);
            }
          }
        }
        const rewards = tf.tensor2d([0, 1, 1, 1, 0, 0], [2, 3]);
        const { groupMean } = computeAdvantages(rewards, { groupSize: 3 });
        assertArray(groupMean.dataSync(), [2 / 3, 1 / 3], rounding, 'groups by row');
      });
    });

    test('a tensor of the right size in another layout is rejected, with any container', () => {
      const expected = `a tensor of shape [${sequences}, ${length}] or [${tokens}]`;
      const wrong = [
        [length, sequences],
        [1, tokens],
        [sequences, 2, 2],
        [tokens, 1, 1],
        [1, sequences, length],
      ];
      const fields = {
        tokens: (shape: number[]) => tf.tensor(ids, shape, 'int32'),
        mask: (shape: number[]) => tf.tensor([...mask], shape, 'bool'),
        oldLogProbs: (shape: number[]) => tf.tensor(arrays.oldLogProbs, shape),
        refLogProbs: (shape: number[]) => tf.tensor(arrays.refLogProbs, shape),
        tokenWeights: (shape: number[]) => tf.tensor(arrays.tokenWeights, shape),
        advantages: (shape: number[]) => tf.zeros(shape),
      };
      tf.tidy(() => {
        for (const [field, make] of Object.entries(fields)) {
          for (const shape of wrong) {
            const error = { name: 'RangeError', message: `${field}: expected ${expected}, got [${shape.join(', ')}]` };
            const changed = { ...batch, shape: { sequences, length }, [field]: make(shape) };
            assert.throws(() => grpoLoss(logits3(), changed, withEntropy), error);
            assert.throws(() => grpoLoss(tf.reshape(logits3(), [tokens, vocab]), changed, withEntropy), error);
            assert.throws(() => grpoLoss(logits3(), changed, withEntropy, { device: 'reference' }), error);
            if (field === 'tokens') continue;
            const { tokens: _, ...policy } = changed;
            assert.throws(() => policyLoss(logProbs2(), policy as PolicyBatch, config), error);
          }
        }
        assert.throws(() => grpoLoss(logits3(), { ...batch, advantages: tf.zeros([1, sequences]) }, config), {
          name: 'RangeError',
          message: `advantages: expected a tensor of shape [${sequences}], got [1, ${sequences}]`,
        });
        for (const shape of wrong) {
          const transposed = tf.reshape(logProbs2(), shape);
          assert.throws(() => policyLoss(transposed, { ...policyBatch, shape: { sequences, length } }, config), {
            name: 'RangeError',
            message: `logProbs: expected ${expected}, got [${shape.join(', ')}]`,
          });
        }
        assert.throws(() => computeAdvantages(tf.zeros([3, 2]), { groupSize: 3 }), {
          name: 'RangeError',
          message: 'rewards: expected a tensor of shape [6] or [2, 3], got [3, 2]',
        });
        assert.throws(() => computeAdvantages(tf.zeros([2, 3]), { groupSizes: Int32Array.of(2, 4) }), {
          name: 'RangeError',
          message: 'rewards: expected a tensor of shape [6], got [2, 3]',
        });
      });
    });

    test('rewards instead of advantages, and a device, are passed on', () => {
      tf.tidy(() => {
        const { advantages: _, ...rest } = batch;
        const rewarded = { ...rest, rewards: [1, 0, 0.5], advantage: { groupSize: 3 } };
        const { advantages: __, ...input } = logitsInput;
        const options = { device: 'reference' } as const;
        const host = hostLogitsLoss({ ...input, rewards: [1, 0, 0.5], advantage: { groupSize: 3 } }, config, options);
        const gradient = tf.grad((x) => grpoLoss(x, rewarded, config, options))(logits3());
        assert.deepEqual(gradient.dataSync(), host.gradLogits);
      });
    });

    test('onResult gets metrics, log-probs and entropies, once per forward pass and before the loss is returned', () => {
      tf.tidy(() => {
        const reports: GrpoReport[] = [];
        const gradient = tf.grad((x) => {
          const loss = grpoLoss(x, batch, withEntropy, { onResult: (report) => reports.push(report) });
          assert.equal(reports.length, 1);
          return loss;
        });
        gradient(logits3());
        const { gradLogits: _, ...report } = expectedLogits;
        assert.deepEqual(reports, [report]);
        const metrics: unknown[] = [];
        policyLoss(logProbs2(), policyBatch, config, { onResult: (report) => metrics.push(report.metrics) });
        assert.deepEqual(metrics, [expectedPolicy.metrics]);
      });
    });

    test('without a tape it is an ordinary number', () => {
      const logits = logits3();
      const before = tf.memory().numTensors;
      const loss = grpoLoss(logits, batch, withEntropy);
      assert.deepEqual(loss.shape, []);
      assertNumber(loss.dataSync()[0], expectedLogits.loss, 2 ** -24 * Math.abs(expectedLogits.loss), 'loss');
      assert.equal(tf.memory().numTensors, before + 1);
      tf.dispose([loss, logits]);
    });

    test('tensors do not accumulate, inside and outside of tf.tidy', () => {
      const logits = logits3();
      const logProbs = logProbs2();
      const weights = tf.variable(logits3());
      const optimizer = tf.train.sgd(0.1);
      const steps: Record<string, () => void> = {
        'loss, disposed': () => grpoLoss(logits, batch, withEntropy).dispose(),
        'loss, in tidy': () => tf.tidy(() => void policyLoss(logProbs, policyBatch, config)),
        gradient: () =>
          tf
            .grad((x) => grpoLoss(x, batch, withEntropy))(logits)
            .dispose(),
        'gradient times 3': () =>
          tf
            .grad((x) => tf.mul(3, policyLoss(x, policyBatch, config)))(logProbs)
            .dispose(),
        'gradient, in tidy': () => tf.tidy(() => void tf.grad((x) => grpoLoss(x, batch, config))(logits)),
        variableGrads: () => {
          const { value, grads } = tf.variableGrads(() => grpoLoss(weights, batch, config), [weights]);
          tf.dispose([value, grads]);
        },
        minimize: () => void optimizer.minimize(() => grpoLoss(weights, batch, config)),
        'a batch of tensors': () => {
          const advantages = tf.tensor1d(arrays.advantages);
          grpoLoss(logits, { ...batch, advantages }, config).dispose();
          advantages.dispose();
        },
        'a refused call': () => void assert.throws(() => grpoLoss(logits, { ...batch, mask: mask.slice(1) }, config)),
        'a refused call on a tape': () =>
          void assert.throws(() => tf.grad((x) => grpoLoss(x, { ...batch, mask: mask.slice(1) }, config))(logits)),
      };
      for (const [name, step] of Object.entries(steps)) {
        step();
        const before = tf.memory();
        for (let i = 0; i < 5; i++) step();
        const { numTensors, numBytes, numDataBuffers } = tf.memory();
        assert.deepEqual(
          { numTensors, numBytes, numDataBuffers },
          { numTensors: before.numTensors, numBytes: before.numBytes, numDataBuffers: before.numDataBuffers },
          name,
        );
      }
      optimizer.dispose();
      tf.dispose([logits, logProbs, weights]);
    });

    test('a function that throws after the loss leaves nothing behind', async () => {
      const [logits, logProbs, weights] = [logits3(), logProbs2(), tf.variable(logits3())];
      const optimizer = tf.train.sgd(0.1);
      const thrown = new Error('after the loss');
      const fails = (loss: tf.Scalar): tf.Scalar => {
        if (loss.rank === 0) throw thrown;
        return loss;
      };
      const calls: Record<string, () => unknown> = {
        'tf.grad of logits': () => tf.grad((x) => fails(grpoLoss(x, batch, withEntropy)))(logits),
        'tf.grad in place': () => tf.grad((x) => fails(grpoLoss(x, batch, config, { inPlace: true })))(logits),
        'tf.grad of log-probs': () => tf.grad((x) => fails(policyLoss(x, policyBatch, config)))(logProbs),
        'tf.grad after two losses': () =>
          tf.grad((x) => {
            const first = grpoLoss(x, batch, config);
            return tf.add(first, fails(grpoLoss(x, batch, config))) as tf.Scalar;
          })(logits),
        'tf.valueAndGrads': () => tf.valueAndGrads((x) => fails(grpoLoss(x, batch, config)))([logits]),
        'tf.variableGrads': () => tf.variableGrads(() => fails(grpoLoss(weights, batch, config)), [weights]),
        'tf.variableGrads in tidy': () =>
          tf.tidy(() => tf.variableGrads(() => fails(grpoLoss(weights, batch, config)), [weights])),
        'Optimizer.minimize': () => optimizer.minimize(() => fails(grpoLoss(weights, batch, config))),
        onResult: () => {
          const onResult = () => {
            throw thrown;
          };
          tf.grad((x) => grpoLoss(x, batch, config, { onResult }))(logits);
        },
      };
      for (const [name, call] of Object.entries(calls)) {
        const before = tf.memory();
        for (let i = 0; i < 3; i++) assert.throws(call, (error) => error === thrown, name);
        // Inside TensorFlow, without a surrounding scope, the gradient is freed when the synchronous code has ended.
        if (backend === 'tensorflow' && /^(tf.valueAndGrads|tf.variableGrads|Optimizer.minimize)$/.test(name))
          await null;
        const { numTensors, numBytes, numDataBuffers } = tf.memory();
        assert.deepEqual(
          { numTensors, numBytes, numDataBuffers },
          { numTensors: before.numTensors, numBytes: before.numBytes, numDataBuffers: before.numDataBuffers },
          name,
        );
      }
      optimizer.dispose();
      tf.dispose([logits, logProbs, weights]);
    });

    test('the gradient is freed after the backward pass, not by a scope around many of them', () => {
      const weights = tf.variable(logits3());
      tf.tidy(() => {
        const before = tf.memory().numTensors;
        for (let i = 0; i < 3; i++) {
          const { value, grads } = tf.variableGrads(() => grpoLoss(weights, batch, config), [weights]);
          tf.dispose([value, grads]);
          assert.equal(tf.memory().numTensors, before);
        }
      });
      weights.dispose();
    });

    describe('rejects', () => {
      const refused = (call: () => unknown, name: string, message: string) => {
        test(message, () => {
          tf.tidy(() => void assert.throws(call, { name, message }));
        });
      };
      // Tensors can be created only once the backend has started.
      const withBatch = (change: () => object) => () =>
        grpoLoss(logits3(), { ...batch, ...change() } as GrpoBatch, config);
      const given = { sequences, length };

      refused(
        () => grpoLoss(logitValues as unknown as tf.Tensor, batch, config),
        'TypeError',
        'logits: expected a tensor, got a Float32Array of 84 values',
      );
      refused(
        () => grpoLoss(tf.cast(logits3(), 'int32'), batch, config),
        'RangeError',
        'logits: expected a float32 tensor, got dtype int32',
      );
      refused(
        () => grpoLoss(tf.zeros([2, 2, 2, 2]), batch, config),
        'RangeError',
        'logits: expected shape [B, T, V] or [B*T, V], got [2, 2, 2, 2]',
      );
      refused(
        () => grpoLoss(tf.zeros([tokens, vocab]), batch, config),
        'TypeError',
        'shape: expected B and T, which logits of rank 2 do not determine, got nothing',
      );
      refused(
        () => grpoLoss(tf.zeros([tokens + 1, vocab]), { ...batch, shape: given }, config),
        'RangeError',
        'logits: expected 84 values (3 sequences x 4 x 7), got 91',
      );
      refused(
        () => grpoLoss(logits3(), { ...batch, shape: { sequences: 4, length: 3 } }, config),
        'RangeError',
        'logits: expected the shape [4, 3, V] of batch.shape, got [3, 4, 7]',
      );
      refused(
        () => grpoLoss(logits3(), null as unknown as GrpoBatch, config),
        'TypeError',
        'batch: expected an object, got null',
      );
      refused(
        () => grpoLoss(logits3(), batch, config, null as never),
        'TypeError',
        'options: expected an object, got null',
      );
      refused(
        () => grpoLoss(logits3(), batch, config, { gradient: false } as never),
        'TypeError',
        'options.gradient: unknown field; expected one of device, threads, inPlace, onResult',
      );
      refused(
        () => grpoLoss(logits3(), batch, config, { onResult: 'log' } as never),
        'TypeError',
        'options.onResult: expected a function, got "log"',
      );
      refused(
        withBatch(() => ({ tokens: tf.tensor1d([...ids], 'float32') })),
        'RangeError',
        'tokens: expected an int32 tensor, got dtype float32',
      );
      refused(
        withBatch(() => ({ tokens: ids.slice(1) })),
        'RangeError',
        'tokens: expected 12 values (3 sequences x 4), got 11',
      );
      refused(
        withBatch(() => ({ tokens: undefined })),
        'TypeError',
        'tokens: expected an Int32Array, got nothing',
      );
      refused(
        withBatch(() => ({ advantages: tf.tensor1d([1, 2, 3], 'int32') })),
        'RangeError',
        'advantages: expected a float32 tensor, got dtype int32',
      );
      refused(
        withBatch(() => ({ oldLogProbs: tf.zeros([sequences, length + 1]) })),
        'RangeError',
        'oldLogProbs: expected 12 values (3 sequences x 4), got 15',
      );
      refused(
        withBatch(() => ({ mask: tf.zeros([2]) })),
        'RangeError',
        'mask: expected 12 values (3 sequences x 4), got 2',
      );
      refused(
        () => policyLoss(tf.zeros([tokens]), policyBatch, config),
        'RangeError',
        'logProbs: expected shape [B, T], or batch.shape to go with it, got [12]',
      );
      refused(
        () => policyLoss(tf.zeros([tokens], 'int32'), { ...policyBatch, shape: given }, config),
        'RangeError',
        'logProbs: expected a float32 tensor, got dtype int32',
      );
      refused(
        () => policyLoss(logProbValues as unknown as tf.Tensor, { ...policyBatch, shape: given }, config),
        'TypeError',
        'logProbs: expected a tensor, got a Float32Array of 12 values',
      );
      refused(
        () => policyLoss(logProbs2(), policyBatch, withEntropy),
        'RangeError',
        'config.entropy: expected no entropy term, because entropies need logits: use logitsLoss',
      );
    });
  });
}
