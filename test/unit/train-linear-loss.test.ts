// The trainer's loss from final states: the gradients of all weights equal those from logits, the chunk size does not change the bits,
// and [rows, V] is never in memory.

import assert from 'node:assert/strict';
import test, { after, before, describe } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { startBackend } from '../../src/backend/backend.js';
import { type LossConfig, presets } from '../../src/index.js';
import { linearLoss } from '../../src/model/linear-loss.js';
import type { HiddenStates, SequenceBatch } from '../../src/model/policy.js';
import { createTransformer } from '../../src/model/transformer.js';
import { characterVocabulary } from '../../src/text/vocabulary.js';
import { type GrpoReport, grpoLoss } from '../../src/tfjs/index.js';
import { noEngine } from '../support/engine.js';
import { fill, seeded } from '../support/random.js';

const sequences = 5;
const columns = 40;
const from = 7;
const length = columns - from;
const vocab = 90;
const vocabulary = { ...characterVocabulary('abcdef'), size: vocab };
const size = { layers: 2, width: 16, heads: 2, keyValueHeads: 2, hidden: 24 };

function draw(seed: number) {
  const random = seeded(seed);
  const ids = (n: number) => Int32Array.from({ length: n }, () => random.integer(0, vocab - 1));
  const input: SequenceBatch = {
    sequences,
    length: columns,
    tokens: ids(sequences * columns),
    starts: new Int32Array(sequences),
  };
  const rows = sequences * length;
  const about = () => fill(rows, () => -Math.log(vocab) + 0.3 * random.normal());
  const batch = {
    shape: { sequences, length },
    tokens: ids(rows),
    mask: Uint8Array.from({ length: rows }, (_, i) => Number(i % 5 !== 2)),
    temperature: 0.9,
    oldLogProbs: about(),
    refLogProbs: about(),
    advantages: fill(sequences, () => random.normal()),
  };
  return { input, batch };
}

const configs: Record<string, LossConfig> = {
  dapo: presets.dapo,
  gspo: {
    ...presets.gspo,
    surrogate: { kind: 'clip', low: 0.2, high: 0.2 },
    kl: { beta: 0.1, importanceWeighted: true },
  },
  entropy: { ...presets.grpo, entropy: { coefficient: 0.1, topQuantile: 0.5 } },
};

function gradients(variables: Record<string, tf.Variable>, loss: () => tf.Scalar) {
  const { value, grads } = tf.variableGrads(loss, Object.values(variables));
  const result = Object.fromEntries(
    Object.entries(variables).map(([name, variable]) => [
      name,
      grads[variable.name].dataSync().slice() as Float32Array,
    ]),
  );
  const scalar = value.dataSync()[0];
  tf.dispose([value, grads]);
  return { loss: scalar, gradients: result };
}

function assertClose(actual: Float32Array, expected: Float32Array, bound: number, label: string): void {
  assert.equal(actual.length, expected.length, label);
  const most = expected.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
  assert.ok(most > 0, `${label}: there is a gradient`);
  expected.forEach((x, i) => {
    assert.ok(Math.abs(actual[i] - x) <= bound * most, `${label}[${i}]: ${actual[i]}, not ${x}`);
  });
}

for (const backend of ['cpu', 'wasm', 'groupgrad'] as const) {
  describe(`the loss from final states on ${backend}`, { skip: backend === 'groupgrad' && noEngine }, () => {
    let policy: ReturnType<typeof createTransformer>;
    before(async () => {
      await startBackend(backend);
      policy = createTransformer(size, vocabulary, 3);
    });
    after(() => policy.dispose());

    const linear = (input: SequenceBatch, batch: ReturnType<typeof draw>['batch'], config: LossConfig, options = {}) =>
      gradients(policy.variables as Record<string, tf.Variable>, () =>
        linearLoss(policy.hidden!(input, from), batch, config, options),
      );

    test('gradients of all weights, loss and metrics equal those from logits', () => {
      for (const [name, config] of Object.entries(configs)) {
        const { input, batch } = draw(1);
        const reports: GrpoReport[] = [];
        const onResult = (report: GrpoReport) => void reports.push(report);
        const expected = gradients(policy.variables as Record<string, tf.Variable>, () =>
          grpoLoss(policy.logits(input, from), batch, config, { onResult }),
        );
        const actual = linear(input, batch, config, { onResult });
        assert.ok(Math.abs(actual.loss - expected.loss) <= 1e-6 * (1 + Math.abs(expected.loss)), name);
        for (const [weight, gradient] of Object.entries(expected.gradients)) {
          assertClose(actual.gradients[weight], gradient, 1e-5, `${name}, ${weight}`);
        }
        assertClose(reports[1].logProbs, reports[0].logProbs, 1e-6, `${name}: logProbs`);
        // There a row of a product does not depend on the others, so the bits are those of the sampler too.
        if (backend === 'groupgrad') assert.deepEqual(reports[1].logProbs, reports[0].logProbs, name);
        assertClose(reports[1].entropies, reports[0].entropies, 1e-6, `${name}: entropies`);
        for (const [metric, value] of Object.entries(reports[0].metrics)) {
          assert.ok(Math.abs(reports[1].metrics[metric] - value) <= 1e-5 * (1 + Math.abs(value)), `${name}: ${metric}`);
        }
      }
    });

    test('the chunk size does not change the bits', () => {
      const { input, batch } = draw(2);
      for (const masked of [true, false]) {
        const { mask, ...all } = batch;
        const own = masked ? batch : { ...all, mask: new Uint8Array(mask.length).fill(1) };
        const first = linear(input, own, configs.entropy, { chunkRows: 128 });
        for (const chunkRows of [1, 256, 1000, undefined]) {
          assert.deepEqual(linear(input, own, configs.entropy, { chunkRows }), first, String(chunkRows));
        }
      }
    });

    test('with a soft cap, and an unembedding that is not trained', () => {
      const random = seeded(4);
      const { batch } = draw(3);
      const rows = sequences * length;
      const [states, matrix] = [
        tf.variable(
          tf.tensor2d(
            fill(rows * 6, () => random.normal()),
            [rows, 6],
          ),
        ),
        tf.variable(
          tf.tensor2d(
            fill(vocab * 6, () => random.normal()),
            [vocab, 6],
          ),
        ),
      ];
      const capped = () => {
        const product = tf.matMul(states as unknown as tf.Tensor2D, matrix as unknown as tf.Tensor2D, false, true);
        return tf.mul(tf.tanh(tf.div(product, 2)), 2);
      };
      const hidden: HiddenStates = {
        states: states as unknown as tf.Tensor2D,
        unembedding: matrix as unknown as tf.Tensor2D,
        trainsUnembedding: true,
        softCap: 2,
      };
      const expected = gradients({ states, matrix }, () => grpoLoss(capped(), batch, configs.entropy));
      const both = gradients({ states, matrix }, () => linearLoss(hidden, batch, configs.entropy));
      for (const name of ['states', 'matrix']) assertClose(both.gradients[name], expected.gradients[name], 1e-5, name);
      const one = gradients({ states }, () =>
        linearLoss({ ...hidden, trainsUnembedding: false }, batch, configs.entropy),
      );
      assert.deepEqual(one.gradients.states, both.gradients.states);
      const scaled = gradients({ states, matrix }, () => tf.mul(linearLoss(hidden, batch, configs.entropy), 3));
      assertClose(
        scaled.gradients.matrix,
        both.gradients.matrix.map((x) => 3 * x),
        1e-6,
        'three times the loss',
      );
      tf.dispose([states, matrix]);
    });

    test('frees its memory, also when it throws and without a tape; tensors never have the size [rows, V]', async () => {
      const { input, batch } = draw(5);
      linear(input, batch, configs.dapo);
      await Promise.resolve();
      const before = tf.memory().numTensors;
      linear(input, batch, configs.dapo);
      tf.tidy(() => void linearLoss(policy.hidden!(input, from), batch, configs.dapo));
      await Promise.resolve();
      assert.equal(tf.memory().numTensors, before);

      // If the loss throws, tfjs keeps what the model's own operations saved: update.ts frees that.
      const [rows, width, large] = [sequences * length, 2, 20_000];
      const variables = [tf.variable(tf.zeros([rows, width])), tf.variable(tf.ones([large, width]))];
      const [states, unembedding] = variables as unknown as tf.Tensor2D[];
      const hidden: HiddenStates = { states, unembedding, trainsUnembedding: true };
      const differentiate = (own: typeof batch, options = {}) =>
        tf.variableGrads(() => linearLoss(hidden, own, configs.dapo, { chunkRows: 128, ...options }), variables);
      const fail = () => {
        throw new Error('no more');
      };
      const made = tf.memory().numTensors;
      assert.throws(() => differentiate({ ...batch, tokens: new Int32Array(3) }), /^RangeError: tokens: /);
      assert.throws(() => differentiate(batch, { onResult: fail }), /^Error: no more/);
      await Promise.resolve();
      assert.equal(tf.memory().numTensors, made);

      const held = tf.memory().numBytes;
      const profile = await tf.profile(() => {
        const { value, grads } = differentiate(batch);
        tf.dispose([value, grads]);
        return tf.scalar(0);
      });
      tf.dispose([variables, profile.result]);
      const whole = 4 * rows * large;
      // One block's logits or gradient and its factors; the whole would be 1.3 times that.
      const block = 4 * 128 * large;
      assert.ok(
        profile.peakBytes - held < 1.25 * block && profile.peakBytes - held < whole,
        `${profile.peakBytes - held} bytes`,
      );
    });
  });
}
