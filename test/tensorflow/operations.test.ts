// The losses as operations inside TensorFlow: every golden vector; the bits of the host API; memory that is reused or in
// place; what the kernels reject; and that no copy of the logits leaves TensorFlow.

import assert from 'node:assert/strict';
import test, { describe } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { loadAddon } from '../../src/devices/load.js';
import {
  computeAdvantages as hostAdvantages,
  logitsLoss as hostLogitsLoss,
  policyLoss as hostPolicyLoss,
  type LogitsInput,
  type LossConfig,
  presets,
} from '../../src/index.js';
import {
  computeAdvantages,
  type GrpoBatch,
  type GrpoReport,
  grpoLoss,
  type PolicyBatch,
  type PolicyReport,
  policyLoss,
  tfjsBridge,
} from '../../src/tfjs/index.js';
import { assertArray, assertLoss, assertNumber } from '../support/compare.js';
import { drawLogits, drawPolicy } from '../support/draw.js';
import { trlCases, verlAdvantageCases, verlLossCases } from '../support/golden.js';
import { fill, type Random, seeded } from '../support/random.js';
import { noTensorflow } from '../support/tensorflow.js';

interface NodeBackend extends tf.KernelBackend {
  executeMultipleOutputs(name: string, attributes: [], inputs: tf.Tensor[], outputs: number): tf.Tensor[];
  binding: Record<string, (...args: never[]) => unknown>;
}

interface Result<Report> {
  loss: number;
  gradient: Float32Array;
  report: Report;
}

/** Loss, gradient and report of one call, whose tensors are freed. */
function differentiate<Report>(
  x: tf.Tensor,
  loss: (x: tf.Tensor, onResult: (report: Report) => void) => tf.Scalar,
): Result<Report> {
  const reports: Report[] = [];
  const { value, grad } = tf.valueAndGrad((t: tf.Tensor) => loss(t, (report) => reports.push(report)))(x);
  const result = {
    loss: value.dataSync()[0],
    gradient: grad.dataSync() as Float32Array,
    report: reports[0],
  };
  assert.equal(reports.length, 1);
  assert.deepEqual(grad.shape, x.shape);
  tf.dispose([x, value, grad]);
  return result;
}

function withoutShape<T extends { shape: unknown }>({ shape: _, ...rest }: T): Omit<T, 'shape'> {
  return rest;
}

/** Some of the arrays of a batch as tensors. */
function withTensors<B extends PolicyBatch>(random: Random, batch: B): { batch: B; made: tf.Tensor[] } {
  const made: tf.Tensor[] = [];
  const entries = Object.entries(batch).map(([field, value]) => {
    if (!ArrayBuffer.isView(value) || field === 'rewards' || random.chance(0.5)) return [field, value];
    const array = value as unknown as Float32Array;
    // A mask may contain any nonzero number; in a tensor of booleans it is 1.
    const mask = field === 'mask' ? (['bool', 'int32', 'float32'] as const)[random.integer(0, 2)] : undefined;
    const dtype = mask ?? (field === 'tokens' ? 'int32' : 'float32');
    const tensor = tf.tensor(mask ? [...array] : array, [array.length], dtype);
    made.push(tensor);
    return [field, tensor];
  });
  return { batch: Object.fromEntries(entries) as B, made };
}

describe('operations inside TensorFlow', { skip: noTensorflow }, () => {
  test('are registered on this backend', () => {
    const { path, detail } = tfjsBridge();
    assert.equal(path, 'operations', detail);
    assert.match(detail, /^GroupgradLogitsLoss_\d+_\d+_\d+ and relatives in TensorFlow 2\.\d+\.\d+, for CPU/);
  });

  test('golden vectors of TRL through tf.valueAndGrad', () => {
    for (const golden of trlCases()) {
      const { input, config, float32Bound: bound, name } = golden;
      const { sequences, length, vocab } = input.shape;
      const { logits, ...rest } = withoutShape(input);
      const x = tf.tensor3d(logits as Float32Array, [sequences, length, vocab]);
      const batch = rest as GrpoBatch;
      const { loss, gradient, report } = differentiate<GrpoReport>(x, (t, onResult) =>
        grpoLoss(t, batch, config, { onResult }),
      );
      assertArray(gradient, golden.gradient, bound, `${name}: gradient`);
      assertLoss(loss, golden.loss, golden.gradient, bound, `${name}: loss`);
      for (const [metric, expected] of Object.entries(golden.metrics)) {
        const allowed = metric.includes('clip_ratio') ? 1e-12 : bound * Math.max(1, Math.abs(expected));
        assertNumber(report.metrics[metric], expected, allowed, `${name}: ${metric}`);
      }
    }
  });

  test('golden vectors of verl through tf.valueAndGrad', () => {
    for (const golden of verlLossCases()) {
      const { sequences, length } = golden.input.shape;
      const { logProbs, ...batch } = withoutShape(golden.input);
      const x = tf.tensor2d(logProbs, [sequences, length]);
      const { loss, gradient } = differentiate<PolicyReport>(x, (t, onResult) =>
        policyLoss(t, batch, golden.config, { onResult }),
      );
      assertArray(gradient, golden.gradient, golden.float32Bound, `${golden.name}: gradient`);
      assertLoss(loss, golden.loss, golden.gradient, golden.float32Bound, `${golden.name}: loss`);
    }
    for (const golden of verlAdvantageCases()) {
      tf.tidy(() => {
        const { advantages } = computeAdvantages(golden.rewards, golden.config);
        const actual = advantages.dataSync();
        golden.advantages.forEach((expected, i) => {
          assertNumber(actual[i], expected, 1e-6, `${golden.name}: advantages[${i}]`);
        });
      });
    }
  });

  test('random losses of both kinds have the bits and the reports of the host API', () => {
    for (let seed = 0; seed < 300; seed++) {
      const random = seeded(seed);
      const before = tf.memory().numTensors;
      const policy = drawPolicy(random);
      const { logProbs, ...rest } = withoutShape(policy.input);
      const { threads } = policy.options;
      const { sequences, length } = policy.input.shape;
      const { batch, made } = withTensors<PolicyBatch>(random, rest);
      const { gradLogProbs, ...report } = hostPolicyLoss(policy.input, policy.config, { device: 'cpu', threads });
      const ours = differentiate<PolicyReport>(tf.tensor2d(logProbs, [sequences, length]), (t, onResult) =>
        policyLoss(t, batch, policy.config, { threads, onResult }),
      );
      assert.deepEqual(
        ours,
        { loss: Math.fround(report.loss), gradient: gradLogProbs, report },
        `policy, seed ${seed}`,
      );
      tf.dispose(made);

      const draw = drawLogits(random);
      if ((draw.input.dtype ?? 'float32') !== 'float32') continue;
      // Tensors have no padding columns.
      const { vocab, rowStride = vocab, ...shape } = draw.input.shape;
      const rows = shape.sequences * shape.length;
      const logits = new Float32Array(rows * vocab);
      for (let row = 0; row < rows; row++) {
        const from = row * rowStride;
        logits.set((draw.input.logits as Float32Array).subarray(from, from + vocab), row * vocab);
      }
      const input: LogitsInput = { ...draw.input, shape: { ...shape, vocab }, logits };
      const expected = hostLogitsLoss(input, draw.config, { device: 'cpu' });
      const { logits: _, ...others } = withoutShape(input);
      const flat = random.chance(0.5);
      const x = flat ? tf.tensor2d(logits, [rows, vocab]) : tf.tensor3d(logits, [shape.sequences, shape.length, vocab]);
      const drawn = withTensors<GrpoBatch>(random, { ...(others as GrpoBatch), ...(flat && { shape }) });
      const fromLogits = differentiate<GrpoReport>(x, (t, onResult) =>
        grpoLoss(t, drawn.batch, draw.config, { onResult }),
      );
      const { gradLogits, ...logitsReport } = expected;
      assert.deepEqual(
        fromLogits,
        { loss: Math.fround(expected.loss), gradient: gradLogits, report: logitsReport },
        `logits, seed ${seed}`,
      );
      tf.dispose(drawn.made);
      assert.equal(tf.memory().numTensors, before, `tensors are left, seed ${seed}`);
    }
  });

  test('advantages with HA-DW have the bits of the host API', () => {
    const random = seeded(1);
    for (let i = 0; i < 50; i++) {
      const rewards = fill(24, () => (random.chance(0.1) ? NaN : random.integer(0, 3) / 3));
      const config = { groupSize: random.pick([2, 4, 6]), hadw: random.chance(0.5) ? { anchor: 0.4 } : undefined };
      const host = hostAdvantages(rewards, config, { device: 'cpu' });
      for (const given of [rewards, tf.tensor1d(rewards)]) {
        const { accuracy, metrics, ...tensors } = computeAdvantages(given, config);
        assert.deepEqual({ accuracy, metrics }, { accuracy: host.accuracy, metrics: host.metrics });
        for (const [name, tensor] of Object.entries(tensors)) {
          assert.deepEqual(tensor.dataSync(), host[name as 'advantages'], name);
        }
        tf.dispose(tensors);
        tf.dispose(given);
      }
    }
    assert.throws(() => computeAdvantages(tf.tensor1d([0, Infinity]), { groupSize: 2 }), {
      name: 'RangeError',
      message: 'rewards[1]: expected a finite reward, or NaN for no verdict, got Infinity',
    });
  });

  /** Without the diff of a failing deepEqual, which would have millions of lines. */
  function sameBits(tensor: tf.Tensor, expected: Float32Array | Uint16Array): void {
    const actual = tensor.dataSync() as Float32Array;
    const bytes = (a: ArrayBufferView) => Buffer.from(a.buffer, a.byteOffset, a.byteLength);
    assert.ok(bytes(actual).equals(bytes(expected)), 'other bits');
  }

  /** Rows of a real vocabulary's size, so that every thread works and the gradient's memory is reused. */
  function large(seed: number, spread = 4): { input: LogitsInput & { logits: Float32Array }; batch: GrpoBatch } {
    const random = seeded(seed);
    const [sequences, length, vocab] = [4, 8, 20_000];
    const batch = {
      tokens: Int32Array.from({ length: sequences * length }, () => random.integer(0, vocab - 1)),
      advantages: fill(sequences, () => random.normal()),
    };
    const logits = fill(sequences * length * vocab, () => random.uniform(-spread, spread));
    return { input: { ...batch, shape: { sequences, length, vocab }, logits }, batch };
  }
  const asTensor = ({ shape, logits }: ReturnType<typeof large>['input']) =>
    tf.tensor3d(logits.slice(), [shape.sequences, shape.length, shape.vocab]);
  const gradientOf = (x: tf.Tensor, batch: GrpoBatch, config: LossConfig = presets.dapo, inPlace = false) =>
    tf.grad((t) => grpoLoss(t, batch, config, { inPlace }))(x);

  test('denormal numbers in the gradient are kept on every thread', () => {
    // p down to e^-86 times 1/32 is below the smallest normal float32.
    const { input, batch } = large(3, 43);
    const expected = hostLogitsLoss(input, presets.dapo, { device: 'cpu' }).gradLogits as Float32Array;
    assert.ok(expected.some((g) => g !== 0 && Math.abs(g) < 2 ** -126));
    const x = asTensor(input);
    const gradient = gradientOf(x, batch);
    sameBits(gradient, expected);
    tf.dispose([x, gradient]);
  });

  test('gradients that exist at the same time have separate memory; that of a freed one is reused', () => {
    const draws = [4, 5, 6].map((seed) => large(seed));
    const expected = draws.map(({ input }) => hostLogitsLoss(input, presets.dapo, { device: 'cpu' }).gradLogits);
    const tensors = draws.map(({ input }) => asTensor(input));
    for (let round = 0; round < 3; round++) {
      const gradients = tensors.map((x, i) => gradientOf(x, draws[i].batch));
      gradients.forEach((gradient, i) => {
        sameBits(gradient, expected[i]);
      });
      tf.dispose(gradients);
    }
    tf.dispose(tensors);
  });

  test('in place: the same bits, in the memory of the logits', () => {
    const { input, batch } = large(7);
    const expected = hostLogitsLoss(input, presets.dapo, { device: 'cpu' }).gradLogits;
    const made = asTensor(input);
    const x = tf.add(made, 0);
    const gradient = gradientOf(x, batch, presets.dapo, true);
    sameBits(gradient, expected);
    sameBits(x, expected);
    x.dispose();
    sameBits(gradient, expected); // memory that lives as long as either tensor
    const variable = tf.variable(made);
    assert.throws(() => gradientOf(variable, batch, presets.dapo, true), {
      name: 'TypeError',
      message: 'options.inPlace: expected false, because the logits are a variable, got true',
    });
    tf.dispose([made, gradient, variable]);
  });

  test('in place: other inputs in the same memory are rejected', () => {
    const x = tf.tensor3d(new Float32Array(6), [2, 3, 1]);
    const batch = {
      tokens: new Int32Array(6),
      advantages: Float32Array.of(1, 1),
      oldLogProbs: tf.reshape(x, [2, 3]),
    };
    assert.throws(() => gradientOf(x, batch, presets.grpo, true), {
      name: 'RangeError',
      message: 'logits: expected memory apart from the other inputs because of inPlace, got an overlapping range',
    });
    tf.dispose([x, batch.oldLogProbs, gradientOf(x, batch, presets.grpo)]);
  });

  test('a device requested by name: cpu means these operations, reference does not, cuda is not available', () => {
    const { input, batch } = large(8);
    const small = { ...input, shape: { sequences: 4, length: 8, vocab: 7 }, logits: input.logits.slice(0, 4 * 8 * 7) };
    const tokens = batch.tokens as Int32Array;
    const ids = { ...batch, tokens: tokens.map((t) => t % 7) };
    const calls: string[] = [];
    const backend = tf.backend() as NodeBackend;
    const run = backend.executeMultipleOutputs;
    backend.executeMultipleOutputs = function (name, ...rest) {
      calls.push(name);
      return run.call(this, name, ...rest);
    };
    try {
      tf.tidy(() => {
        for (const device of ['cpu', 'reference'] as const) {
          const { gradLogits } = hostLogitsLoss({ ...small, tokens: ids.tokens }, presets.grpo, { device });
          const gradient = tf.grad((t) => grpoLoss(t, ids, presets.grpo, { device }))(asTensor(small));
          assert.deepEqual(gradient.dataSync(), gradLogits);
        }
        assert.throws(() => grpoLoss(asTensor(small), ids, presets.grpo, { device: 'cuda' }), {
          name: 'RangeError',
          message: /^options\.device: 'cuda' is not available/,
        });
      });
      assert.equal(calls.filter((name) => name.startsWith('GroupgradLogitsLoss')).length, 1);
    } finally {
      backend.executeMultipleOutputs = run;
    }
  });

  test('no values of the logits or their gradient pass between TensorFlow and JavaScript', () => {
    const backend = tf.backend() as NodeBackend;
    const { binding } = backend;
    const { input, batch } = large(9);
    const features = tf.randomNormal([32, 3]) as tf.Tensor2D;
    const weights = tf.variable(tf.randomNormal([3, 20_000]) as tf.Tensor2D);
    tf.matMul(features, weights).dispose(); // TensorFlow receives their values at their first use
    const shape = { sequences: 4, length: 8 };
    /** The largest typed array that passed, in values. */
    const largestPassed = (loss: (logits: tf.Tensor) => tf.Scalar): number => {
      let largest = 0;
      const note = (values: readonly unknown[]) => {
        for (const value of values) {
          if (ArrayBuffer.isView(value)) largest = Math.max(largest, (value as Float32Array).length);
        }
      };
      const watched = (name: string) => ({
        value: (...args: never[]) => {
          const result = binding[name](...args);
          note([...args, result]);
          return result;
        },
      });
      backend.binding = Object.create(binding, {
        createTensor: watched('createTensor'),
        tensorDataSync: watched('tensorDataSync'),
      });
      try {
        const { value, grads } = tf.variableGrads(() => loss(tf.matMul(features, weights)), [weights]);
        assert.ok(Number.isFinite(value.dataSync()[0]));
        tf.dispose([value, grads]);
      } finally {
        backend.binding = binding;
      }
      return largest;
    };
    const onResult = () => {};
    const full = { ...batch, shape };
    assert.ok(largestPassed((logits) => grpoLoss(logits, full, presets.dapo, { onResult })) < 1000);
    // With typed arrays, the same check sees them pass.
    const { device } = { device: 'reference' } as const;
    assert.equal(
      largestPassed((logits) => grpoLoss(logits, full, presets.dapo, { device })),
      input.logits.length,
    );
    tf.dispose([features, weights]);
  });

  describe('kernels reject input that JavaScript never passes', () => {
    const { addon } = loadAddon();
    const backend = noTensorflow ? undefined : (tf.backend() as NodeBackend);
    const registration = noTensorflow ? undefined : addon!.tensorflow.register();
    const names = registration && 'operations' in registration ? registration.operations : undefined;
    const floats = (...values: number[]) => tf.tensor1d(values, 'float32');
    const none = () => tf.tensor(new Float32Array(0), [0], 'float32');
    const request = () => {
      const plans: Int32Array[] = [];
      const { packLogits } = addon!.tensorflow;
      addon!.tensorflow.packLogits = (plan) => {
        plans.push(packLogits(plan));
        return plans[0];
      };
      try {
        const x = tf.tensor3d([1, 2, 3, 4], [1, 2, 2]);
        tf.dispose([grpoLoss(x, { tokens: Int32Array.of(0, 1), advantages: Float32Array.of(1) }, presets.grpo), x]);
      } finally {
        addon!.tensorflow.packLogits = packLogits;
      }
      return plans[0];
    };
    const run = (changes: { [index: number]: () => tf.Tensor }) =>
      tf.tidy(() => {
        const inputs = [
          tf.tensor3d([1, 2, 3, 4], [1, 2, 2]),
          none(),
          none(),
          tf.tensor(new Uint8Array(0), [0], 'bool'),
          none(),
          floats(1),
          tf.tensor1d(request(), 'int32'),
          tf.tensor1d([0, 1], 'int32'),
        ];
        for (const [index, make] of Object.entries(changes)) inputs[Number(index)] = make();
        return backend!.executeMultipleOutputs(names!.logitsLoss, [], inputs, 3)[0].dataSync()[0];
      });
    const packed = (change: (words: Int32Array) => Int32Array) => () => tf.tensor1d(change(request().slice()), 'int32');
    const refusal = 'request: expected a request packed by this version of groupgrad';
    const cases: [string, { [index: number]: () => tf.Tensor }, string][] = [
      [
        'an id beyond the vocabulary',
        { 7: () => tf.tensor1d([0, 2], 'int32') },
        'tokens[1]: expected an id from 0 to 1, got 2',
      ],
      ['a negative id', { 7: () => tf.tensor1d([-1, 0], 'int32') }, 'tokens[0]: expected an id from 0 to 1, got -1'],
      ['too few ids', { 7: () => tf.tensor1d([0], 'int32') }, 'tokens: expected 2 values, got 1'],
      ['too many logits', { 0: () => tf.zeros([5]) }, 'logits: expected 4 values, got 5'],
      ['too few old log-probs', { 1: () => floats(1) }, 'oldLogProbs: expected 2 values, got 1'],
      ['too long a mask', { 3: () => tf.zeros([3], 'bool') }, 'mask: expected 2 values, got 3'],
      ['no advantages', { 5: none }, 'advantages: expected 1 values, got 0'],
      ['an empty request', { 6: () => tf.tensor1d([], 'int32') }, refusal],
      ['a request of noise', { 6: () => tf.tensor1d(new Int32Array(200).fill(0x7fffffff), 'int32') }, refusal],
      ['a request cut short', { 6: packed((words) => words.slice(0, -1)) }, refusal],
      ['a request with more behind it', { 6: packed((words) => Int32Array.of(...words, 0)) }, refusal],
    ];
    test('and accept what it passes', () => assert.ok(Number.isFinite(run({}))));
    for (const [what, changes, message] of cases) {
      test(what, () => {
        assert.throws(
          () => run(changes),
          (error: Error) => {
            assert.ok(error.message.startsWith(`Invalid TF_Status: 3\nMessage: ${message}`), error.message);
            return true;
          },
        );
      });
    }
    test('a tensor of another type', () => {
      assert.throws(() => run({ 0: () => tf.zeros([1, 2, 2], 'int32') }), /float/);
    });
  });
});
