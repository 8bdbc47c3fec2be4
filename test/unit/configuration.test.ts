// What the public functions accept and reject: every preset on every device, and for every field each kind of error with its
// whole message: the field, what was expected, and what was given.

import assert from 'node:assert/strict';
import test, { describe } from 'node:test';
import {
  type AdvantageConfig,
  computeAdvantages,
  devices,
  type LogitsInput,
  type LogitsOptions,
  type LossConfig,
  logitsLoss,
  type PolicyInput,
  type PolicyOptions,
  type PresetName,
  policyLoss,
  presets,
  type Rewards,
  type RunOptions,
} from '../../src/index.js';
import { resolveLoss } from '../../src/loss/config.js';
import { testedDevices } from '../support/devices.js';
import { fill, seeded } from '../support/random.js';

type Fields = Record<string, unknown>;

/** 4 sequences of 32 tokens. */
function policyInput(): PolicyInput {
  const random = seeded(1);
  const values = () => fill(128, () => -random.uniform(0.1, 3));
  return {
    shape: { sequences: 4, length: 32 },
    logProbs: values(),
    oldLogProbs: values(),
    refLogProbs: values(),
    mask: new Uint8Array(128).fill(1),
    advantages: Float32Array.of(1, -1, 0.5, 0),
    tokenWeights: fill(128, () => random.uniform(0.5, 1.5)),
  };
}

/** 2 sequences of 3 tokens over a vocabulary of 5, the last token masked out. */
function logitsInput(): LogitsInput & { logits: Float32Array } {
  const random = seeded(2);
  return {
    shape: { sequences: 2, length: 3, vocab: 5 },
    logits: fill(30, () => random.normal()),
    tokens: Int32Array.of(0, 1, 2, 3, 4, 99),
    mask: Uint8Array.of(1, 1, 1, 1, 1, 0),
    advantages: Float32Array.of(1, -1),
  };
}

const clip = { kind: 'clip', low: 0.2, high: 0.2 };

for (const { name: device, skip } of testedDevices('reference', 'cpu', 'cuda')) {
  describe(`presets on ${device}`, { skip }, () => {
    for (const preset of Object.keys(presets) as PresetName[]) {
      test(`${preset} gives a finite loss and gradient, from log-probs and from logits`, () => {
        const policy = policyLoss(policyInput(), presets[preset], { device });
        assert.ok(Number.isFinite(policy.loss) && policy.loss !== 0);
        assert.ok(policy.gradLogProbs.every(Number.isFinite) && policy.gradLogProbs.some((g) => g !== 0));
        const logits = logitsLoss(logitsInput(), presets[preset], { device });
        assert.ok(Number.isFinite(logits.loss));
        assert.ok(logits.gradLogits.every(Number.isFinite) && logits.gradLogits.some((g) => g !== 0));
        assert.equal(policy.metrics.nonFinite, 0);
        assert.equal(logits.metrics.nonFinite, 0);
      });
    }
  });
}

test('every default is the documented one', () => {
  const plan = resolveLoss({ surrogate: { kind: 'clip', low: 0.1, high: 0.2 } }, 7);
  assert.deepEqual(plan, {
    ratio: 'token',
    surrogate: { kind: 'clip', parameters: Float64Array.of(0.1, 0.2, Infinity, Infinity) },
    aggregation: 'token-mean',
    emptySequences: 'count',
    maxLength: 7,
    logRatioClamp: Infinity,
    offPolicyThreshold: Infinity,
    kl: { beta: 0, estimator: 'k3', importanceWeighted: false, logRatioClamp: Infinity },
    entropy: { coefficient: 0, topQuantile: 1, tokens: NaN, threshold: NaN },
  });
  const parameters = (surrogate: Fields) => [...resolveLoss({ surrogate }, 1).surrogate.parameters];
  assert.deepEqual(parameters({ kind: 'cispo', high: 5 }), [5, Infinity]);
  assert.deepEqual(parameters({ kind: 'sapo' }), [1, 1.05]);
  assert.deepEqual(parameters({ kind: 'vespo' }), [2, 3, 3, 2]);
});

/** A call that must fail, with the type and the whole message of its error. */
type Wrong = [call: () => unknown, type: typeof TypeError | typeof RangeError, message: string];

function refuses(cases: readonly Wrong[]): void {
  for (const [call, { name }, message] of cases) {
    test(message, () => {
      assert.throws(call, { name, message });
    });
  }
}

interface Change {
  input?: Fields;
  config?: Fields;
  options?: Fields;
}

/** policyLoss on the valid call above with these fields changed. */
function policy({ input = {}, config = {}, options = {} }: Change): () => unknown {
  return () =>
    policyLoss(
      { ...policyInput(), ...input } as PolicyInput,
      { surrogate: clip, ...config } as LossConfig,
      { device: 'reference', ...options } as PolicyOptions,
    );
}

function logits({ input = {}, config = {}, options = {} }: Change): () => unknown {
  return () =>
    logitsLoss(
      { ...logitsInput(), ...input } as LogitsInput,
      { surrogate: clip, ...config } as LossConfig,
      { device: 'reference', ...options } as LogitsOptions,
    );
}

function advantages(rewards: unknown, config: unknown = { groupSize: 2 }, options: unknown = {}): () => unknown {
  return () => computeAdvantages(rewards as Rewards, config as AdvantageConfig, options as RunOptions);
}

function detached(): Float32Array {
  const array = new Float32Array(128);
  structuredClone(array.buffer, { transfer: [array.buffer] });
  return array;
}

const floats = (length: number) => new Float32Array(length);
const shared = new Float32Array(new SharedArrayBuffer(512));
// TypeScript's ES2022 library does not have resizable buffers, which Node 20 has.
const ResizableBuffer = ArrayBuffer as unknown as new (
  bytes: number,
  options: { maxByteLength: number },
) => ArrayBuffer;
const resizable = new Float32Array(new ResizableBuffer(512, { maxByteLength: 1024 }));

describe('the valid calls that the invalid ones are derived from', () => {
  test('are valid', () => {
    policy({})();
    logits({})();
    advantages([0, 1])();
  });
});

describe('arguments', () => {
  refuses([
    [() => policyLoss(null as never, presets.grpo), TypeError, 'input: expected an object, got null'],
    [() => logitsLoss([] as never, presets.grpo), TypeError, 'input: expected an object, got an array of 0 values'],
    [
      () => policyLoss(new Float32Array(3) as never, presets.grpo),
      TypeError,
      'input: expected an object, got a Float32Array of 3 values',
    ],
    [() => policyLoss(policyInput(), undefined as never), TypeError, 'config: expected an object, got nothing'],
    [() => policyLoss(policyInput(), 'grpo' as never), TypeError, 'config: expected an object, got "grpo"'],
    [() => policyLoss(policyInput(), presets.grpo, null as never), TypeError, 'options: expected an object, got null'],
    [() => logitsLoss(logitsInput(), presets.grpo, 5 as never), TypeError, 'options: expected an object, got 5'],
    [advantages([0, 1], { groupSize: 2 }, null), TypeError, 'options: expected an object, got null'],
    [advantages([0, 1], Symbol('x')), TypeError, 'config: expected an object, got a symbol'],
    [
      advantages([0, 1], new Date(0)),
      TypeError,
      'config: expected exactly one of groupSize and groupSizes, got neither',
    ],
  ]);
});

describe('misspelt fields', () => {
  const tokenFields =
    'shape, oldLogProbs, refLogProbs, mask, advantages, rewards, advantage, tokenWeights, normalizer, sequences';
  refuses([
    [
      policy({ input: { oldLogprobs: floats(128) } }),
      TypeError,
      `oldLogprobs: unknown field; expected one of ${tokenFields}, logProbs`,
    ],
    [
      logits({ input: { logProbs: floats(6) } }),
      TypeError,
      `logProbs: unknown field; expected one of ${tokenFields}, logits, dtype, tokens, temperature`,
    ],
    [
      policy({ input: { shape: { sequences: 4, length: 32, vocab: 5 } } }),
      TypeError,
      'shape.vocab: unknown field; expected one of sequences, length',
    ],
    [
      policy({ config: { agregation: 'token-mean' } }),
      TypeError,
      'config.agregation: unknown field; expected one of ratio, surrogate, aggregation, emptySequences, maxLength, ' +
        'logRatioClamp, offPolicyThreshold, kl, entropy',
    ],
    [
      policy({ config: { surrogate: { ...clip, hi: 1 } } }),
      TypeError,
      'config.surrogate.hi: unknown field; expected one of kind, low, high, max, dual',
    ],
    [
      policy({ config: { surrogate: { kind: 'sapo', tau: 1 } } }),
      TypeError,
      'config.surrogate.tau: unknown field; expected one of kind, tauPositive, tauNegative',
    ],
    [
      policy({ config: { kl: { beta: 1, kind: 'k1' } } }),
      TypeError,
      'config.kl.kind: unknown field; expected one of beta, estimator, importanceWeighted, logRatioClamp',
    ],
    [
      logits({ config: { entropy: { coefficient: 1, quantile: 0.2 } } }),
      TypeError,
      'config.entropy.quantile: unknown field; expected one of coefficient, topQuantile, tokens, threshold',
    ],
    [
      advantages([0, 1], { groupsize: 2 }),
      TypeError,
      'config.groupsize: unknown field; expected one of groupSize, groupSizes, center, scale, ddof, epsilon, hadw, dqw',
    ],
    [
      advantages([0, 1], { groupSize: 2, hadw: { lambda: 1 } }),
      TypeError,
      'config.hadw.lambda: unknown field; expected one of anchor, scale',
    ],
    [
      advantages([0, 1], { groupSize: 2 }, { gradient: true }),
      TypeError,
      'options.gradient: unknown field; expected one of device, threads',
    ],
    [
      logits({ options: { inplace: true } }),
      TypeError,
      'options.inplace: unknown field; expected one of device, threads, gradient, metrics, lossScale, inPlace, gradLogits, zeroed',
    ],
  ]);
});

describe('shape', () => {
  const dimension = 'an integer at least 1 and at most 2147483647';
  const withShape = (shape: unknown) => policy({ input: { shape } });
  refuses([
    [withShape(undefined), TypeError, 'shape: expected an object, got nothing'],
    [withShape([4, 32]), TypeError, 'shape: expected an object, got an array of 2 values'],
    [withShape({ length: 32 }), TypeError, `shape.sequences: expected ${dimension}, got nothing`],
    [withShape({ sequences: '4', length: 32 }), TypeError, `shape.sequences: expected ${dimension}, got "4"`],
    [withShape({ sequences: 4n, length: 32 }), TypeError, `shape.sequences: expected ${dimension}, got 4`],
    [withShape({ sequences: 0, length: 32 }), RangeError, `shape.sequences: expected ${dimension}, got 0`],
    [withShape({ sequences: 4, length: -1 }), RangeError, `shape.length: expected ${dimension}, got -1`],
    [withShape({ sequences: 4, length: 1.5 }), RangeError, `shape.length: expected ${dimension}, got 1.5`],
    [withShape({ sequences: 4, length: NaN }), RangeError, `shape.length: expected ${dimension}, got NaN`],
    [withShape({ sequences: 4, length: 2 ** 31 }), RangeError, `shape.length: expected ${dimension}, got 2147483648`],
    [
      logits({ input: { shape: { sequences: 2, length: 3, vocab: 0 } } }),
      RangeError,
      `shape.vocab: expected ${dimension}, got 0`,
    ],
    [
      logits({ input: { shape: { sequences: 2, length: 3, vocab: 5, rowStride: 4 } } }),
      RangeError,
      'shape.rowStride: expected an integer at least 5 and at most 2147483647, got 4',
    ],
    [
      logits({ input: { shape: { sequences: 2, length: 3, vocab: 5, rowStride: 8 } } }),
      RangeError,
      'logits: expected 48 values (2 sequences x 3 x 8), got 30',
    ],
    [
      logits({ input: { shape: { sequences: 2 ** 31 - 1, length: 2 ** 31 - 1, vocab: 2 ** 31 - 1 } } }),
      RangeError,
      // 2^62 rounded to float64
      'advantages: expected 4611686014132420600 values (2147483647 sequences, or 2147483647 x 2147483647), got 2',
    ],
  ]);
});

describe('per-token arrays', () => {
  const shape = '(4 sequences x 32)';
  refuses([
    [
      policy({ input: { oldLogProbs: floats(127) } }),
      RangeError,
      'oldLogProbs: expected 128 values (4 sequences x 32), got 127',
    ],
    [policy({ input: { logProbs: floats(129) } }), RangeError, `logProbs: expected 128 values ${shape}, got 129`],
    [policy({ input: { refLogProbs: floats(0) } }), RangeError, `refLogProbs: expected 128 values ${shape}, got 0`],
    [policy({ input: { tokenWeights: floats(4) } }), RangeError, `tokenWeights: expected 128 values ${shape}, got 4`],
    [policy({ input: { mask: new Uint8Array(4) } }), RangeError, `mask: expected 128 values ${shape}, got 4`],
    [policy({ input: { logProbs: undefined } }), TypeError, 'logProbs: expected a Float32Array, got nothing'],
    [
      policy({ input: { logProbs: new Float64Array(128) } }),
      TypeError,
      'logProbs: expected a Float32Array, got a Float64Array of 128 values',
    ],
    [
      policy({ input: { logProbs: new Array(128).fill(0) } }),
      TypeError,
      'logProbs: expected a Float32Array, got an array of 128 values',
    ],
    [
      policy({ input: { oldLogProbs: new DataView(new ArrayBuffer(512)) } }),
      TypeError,
      'oldLogProbs: expected a Float32Array, got an object of class DataView',
    ],
    [
      policy({ input: { mask: floats(128) } }),
      TypeError,
      'mask: expected a Uint8Array, got a Float32Array of 128 values',
    ],
    [
      policy({ input: { mask: new Uint8ClampedArray(128) } }),
      TypeError,
      'mask: expected a Uint8Array, got a Uint8ClampedArray of 128 values',
    ],
    [
      policy({ input: { logProbs: detached() } }),
      TypeError,
      'logProbs: expected a readable array, got one whose buffer is detached (was it transferred?)',
    ],
    [
      policy({ input: { logProbs: shared } }),
      TypeError,
      'logProbs: expected an array over unshared memory, got one over a SharedArrayBuffer',
    ],
    [
      policy({ input: { logProbs: resizable } }),
      TypeError,
      'logProbs: expected an array over a buffer of fixed size, got one over a resizable ArrayBuffer',
    ],
    [
      policy({ config: { kl: { beta: 0.1 } }, input: { refLogProbs: undefined } }),
      TypeError,
      'refLogProbs: expected a Float32Array because config.kl.beta is 0.1, got nothing',
    ],
  ]);
});

describe('logits and tokens', () => {
  refuses([
    [logits({ input: { logits: floats(29) } }), RangeError, 'logits: expected 30 values (2 sequences x 3 x 5), got 29'],
    [
      logits({ input: { logits: new Uint16Array(30) } }),
      TypeError,
      'logits: expected a Float32Array, got a Uint16Array of 30 values',
    ],
    [
      logits({ input: { dtype: 'bfloat16' } }),
      TypeError,
      'logits: expected a Uint16Array, got a Float32Array of 30 values',
    ],
    [
      logits({ input: { dtype: 'float8' } }),
      RangeError,
      `dtype: expected one of 'float32', 'bfloat16', 'float16', got "float8"`,
    ],
    [logits({ input: { dtype: 16 } }), TypeError, `dtype: expected one of 'float32', 'bfloat16', 'float16', got 16`],
    [
      logits({ input: { tokens: [0, 1, 2, 3, 4, 0] } }),
      TypeError,
      'tokens: expected an Int32Array, got an array of 6 values',
    ],
    [
      logits({ input: { tokens: new Int32Array(5) } }),
      RangeError,
      'tokens: expected 6 values (2 sequences x 3), got 5',
    ],
    [
      logits({ input: { tokens: Int32Array.of(0, 1, 5, 3, 4, 0) } }),
      RangeError,
      'tokens[2]: expected an id from 0 to 4, got 5',
    ],
    [
      logits({ input: { tokens: Int32Array.of(0, -1, 2, 3, 4, 0) } }),
      RangeError,
      'tokens[1]: expected an id from 0 to 4, got -1',
    ],
    [
      logits({ input: { temperature: 0 } }),
      RangeError,
      'temperature: expected a finite number at least 0.000001, got 0',
    ],
    [
      logits({ input: { temperature: Infinity } }),
      RangeError,
      'temperature: expected a finite number at least 0.000001, got Infinity',
    ],
    [
      logits({ input: { temperature: '1' } }),
      TypeError,
      'temperature: expected a finite number at least 0.000001, got "1"',
    ],
  ]);

  test('ids outside the vocabulary are allowed where the mask is 0', () => {
    for (const id of [5, -1, 2 ** 31 - 1, -(2 ** 31)]) {
      const { logProbs } = logits({ input: { tokens: Int32Array.of(0, 1, 2, 3, 4, id) } })() as {
        logProbs: Float32Array;
      };
      assert.equal(logProbs[5], 0);
    }
  });
});

describe('configuration', () => {
  const surrogate = (fields: Fields) => policy({ config: { surrogate: fields } });
  refuses([
    [policy({ config: { surrogate: undefined } }), TypeError, 'config.surrogate: expected an object, got nothing'],
    [policy({ config: { surrogate: 'clip' } }), TypeError, 'config.surrogate: expected an object, got "clip"'],
    [
      surrogate({ kind: 'ppo' }),
      RangeError,
      `config.surrogate.kind: expected one of 'clip', 'cispo', 'sapo', 'gmpo', 'vespo', 'reinforce', got "ppo"`,
    ],
    [
      surrogate({ kind: 'constructor' }),
      RangeError,
      `config.surrogate.kind: expected one of 'clip', 'cispo', 'sapo', 'gmpo', 'vespo', 'reinforce', got "constructor"`,
    ],
    [
      surrogate({ kind: 'clip', low: 0.2 }),
      TypeError,
      'config.surrogate.high: expected a finite number at least 0, got nothing',
    ],
    [
      surrogate({ kind: 'clip', low: -0.1, high: 0.2 }),
      RangeError,
      'config.surrogate.low: expected a finite number at least 0, got -0.1',
    ],
    [
      surrogate({ kind: 'clip', low: 0.2, high: NaN }),
      RangeError,
      'config.surrogate.high: expected a finite number at least 0, got NaN',
    ],
    [
      surrogate({ kind: 'clip', low: 0.2, high: 1e300 }),
      RangeError,
      'config.surrogate.high: expected a finite number at least 0, got 1e+300, infinite in float32',
    ],
    [surrogate({ ...clip, max: 0 }), RangeError, 'config.surrogate.max: expected a finite number above 0, got 0'],
    [surrogate({ ...clip, dual: 1 }), RangeError, 'config.surrogate.dual: expected a finite number above 1, got 1'],
    [surrogate({ kind: 'cispo' }), TypeError, 'config.surrogate.high: expected a finite number above 0, got nothing'],
    [
      surrogate({ kind: 'sapo', tauPositive: 0 }),
      RangeError,
      'config.surrogate.tauPositive: expected a finite number above 0, got 0',
    ],
    [
      surrogate({ kind: 'gmpo', low: 0.4 }),
      TypeError,
      'config.surrogate.high: expected a finite number at least 0, got nothing',
    ],
    [
      surrogate({ kind: 'vespo', kNegative: -1 }),
      RangeError,
      'config.surrogate.kNegative: expected a finite number at least 0, got -1',
    ],
    [
      policy({ config: { ratio: 'tokens' } }),
      RangeError,
      `config.ratio: expected one of 'token', 'sequence', 'sequence-token', got "tokens"`,
    ],
    [
      policy({ config: { ratio: null } }),
      TypeError,
      `config.ratio: expected one of 'token', 'sequence', 'sequence-token', got null`,
    ],
    [
      policy({ config: { aggregation: 'mean' } }),
      RangeError,
      `config.aggregation: expected one of 'sequence-mean', 'token-mean', 'sequence-sum', 'constant', got "mean"`,
    ],
    [
      policy({ config: { emptySequences: true } }),
      TypeError,
      `config.emptySequences: expected one of 'count', 'drop', got true`,
    ],
    [policy({ config: { maxLength: 0 } }), RangeError, 'config.maxLength: expected a finite number at least 1, got 0'],
    [
      policy({ config: { logRatioClamp: 0 } }),
      RangeError,
      'config.logRatioClamp: expected a finite number above 0, got 0',
    ],
    [
      policy({ config: { offPolicyThreshold: Infinity } }),
      RangeError,
      'config.offPolicyThreshold: expected a finite number, got Infinity',
    ],
    [policy({ config: { kl: 0.1 } }), TypeError, 'config.kl: expected an object, got 0.1'],
    [policy({ config: { kl: {} } }), TypeError, 'config.kl.beta: expected a finite number at least 0, got nothing'],
    [
      policy({ config: { kl: { beta: -1 } } }),
      RangeError,
      'config.kl.beta: expected a finite number at least 0, got -1',
    ],
    [
      policy({ config: { kl: { beta: 1, estimator: 'k4' } } }),
      RangeError,
      `config.kl.estimator: expected one of 'k1', 'k2', 'k3', got "k4"`,
    ],
    [
      policy({ config: { kl: { beta: 1, importanceWeighted: 1 } } }),
      TypeError,
      'config.kl.importanceWeighted: expected a boolean, got 1',
    ],
    [
      policy({ config: { kl: { beta: 1, logRatioClamp: 0 } } }),
      RangeError,
      'config.kl.logRatioClamp: expected a finite number above 0, got 0',
    ],
    [
      policy({ config: { kl: { beta: 1, logRatioClamp: '20' } } }),
      TypeError,
      'config.kl.logRatioClamp: expected a finite number above 0, got "20"',
    ],
    [logits({ config: { entropy: [] } }), TypeError, 'config.entropy: expected an object, got an array of 0 values'],
    [
      logits({ config: { entropy: {} } }),
      TypeError,
      'config.entropy.coefficient: expected a finite number, got nothing',
    ],
    [
      logits({ config: { entropy: { coefficient: NaN } } }),
      RangeError,
      'config.entropy.coefficient: expected a finite number, got NaN',
    ],
    [
      logits({ config: { entropy: { coefficient: 1, topQuantile: 0 } } }),
      RangeError,
      'config.entropy.topQuantile: expected a finite number above 0 and at most 1, got 0',
    ],
    [
      logits({ config: { entropy: { coefficient: 1, topQuantile: 1.01 } } }),
      RangeError,
      'config.entropy.topQuantile: expected a finite number above 0 and at most 1, got 1.01',
    ],
    [
      logits({ config: { entropy: { coefficient: 1, tokens: -1 } } }),
      RangeError,
      'config.entropy.tokens: expected a finite number at least 0, got -1',
    ],
    [
      logits({ config: { entropy: { coefficient: 1, threshold: Infinity } } }),
      RangeError,
      'config.entropy.threshold: expected a finite number, got Infinity',
    ],
    [
      policy({ config: { entropy: { coefficient: 0.1 } } }),
      RangeError,
      'config.entropy: expected no entropy term, because entropies need logits: use logitsLoss',
    ],
    [
      policy({ config: { entropy: { coefficient: 0, topQuantile: 0.5 } } }),
      RangeError,
      'config.entropy: expected no entropy term, because entropies need logits: use logitsLoss',
    ],
  ]);

  test('policyLoss accepts an entropy term with coefficient 0', () => {
    policy({ config: { entropy: { coefficient: 0 } } })();
  });
});

describe('advantages, rewards and groups', () => {
  const none = { advantages: undefined };
  const rewards = [0, 1, 0, 1];
  refuses([
    [policy({ input: none }), TypeError, 'advantages: expected exactly one of advantages and rewards, got neither'],
    [
      policy({ input: { rewards, advantage: { groupSize: 2 } } }),
      TypeError,
      'advantages: expected exactly one of advantages and rewards, got both',
    ],
    [
      policy({ input: { advantage: { groupSize: 2 } } }),
      TypeError,
      'advantage: expected it only together with rewards, got advantages',
    ],
    [
      policy({ input: { advantages: floats(5) } }),
      RangeError,
      'advantages: expected 128 values (4 sequences, or 4 x 32), got 5',
    ],
    [
      policy({ input: { advantages: new Float64Array(4) } }),
      TypeError,
      'advantages: expected a Float32Array, got a Float64Array of 4 values',
    ],
    [policy({ input: { ...none, rewards } }), TypeError, 'advantage: expected an object, got nothing'],
    [
      policy({ input: { ...none, rewards: [0, 1], advantage: { groupSize: 2 } } }),
      RangeError,
      'rewards: expected 4 values (one per sequence), got 2',
    ],
    [
      policy({ input: { ...none, rewards, advantage: { groupSize: 3 } } }),
      RangeError,
      'advantage.groupSize: expected a divisor of the 4 rewards, got 3',
    ],
    [
      policy({ input: { ...none, rewards, advantage: { groupSize: 2, center: 'median' } } }),
      RangeError,
      `advantage.center: expected one of 'mean', 'leave-one-out', 'none', got "median"`,
    ],
    [advantages('1'), TypeError, 'rewards: expected a Float32Array, a Float64Array or an array of numbers, got "1"'],
    [
      advantages(new Int32Array(2)),
      TypeError,
      'rewards: expected a Float32Array, a Float64Array or an array of numbers, got an Int32Array of 2 values',
    ],
    [advantages([0, '1']), TypeError, 'rewards[1]: expected a number, got "1"'],
    // biome-ignore lint/suspicious/noSparseArray: a hole is what is tested
    [advantages([0, , 1, 1]), TypeError, 'rewards[1]: expected a number, got nothing'],
    [advantages([]), RangeError, 'rewards: expected at least one reward, got none'],
    [advantages(new Float32Array()), RangeError, 'rewards: expected at least one reward, got none'],
    [
      advantages([0, -Infinity]),
      RangeError,
      'rewards[1]: expected a finite reward, or NaN for no verdict, got -Infinity',
    ],
    [
      advantages(Float32Array.of(Infinity, 0)),
      RangeError,
      'rewards[0]: expected a finite reward, or NaN for no verdict, got Infinity',
    ],
    [
      advantages(detached()),
      TypeError,
      'rewards: expected a readable array, got one whose buffer is detached (was it transferred?)',
    ],
    [advantages([0, 1], {}), TypeError, 'config: expected exactly one of groupSize and groupSizes, got neither'],
    [
      advantages([0, 1], { groupSize: 2, groupSizes: Int32Array.of(2) }),
      TypeError,
      'config: expected exactly one of groupSize and groupSizes, got both',
    ],
    [
      advantages([0, 1], { groupSize: 0 }),
      RangeError,
      'config.groupSize: expected an integer at least 1 and at most 2147483647, got 0',
    ],
    [
      advantages([0, 1], { groupSizes: [2] }),
      TypeError,
      'config.groupSizes: expected an Int32Array, got an array of 1 values',
    ],
    [
      advantages([0, 1], { groupSizes: Int32Array.of(2, 0) }),
      RangeError,
      'config.groupSizes[1]: expected an integer at least 1 and at most 2147483647, got 0',
    ],
    [
      advantages([0, 1], { groupSizes: Int32Array.of(1) }),
      RangeError,
      'config.groupSizes: expected sizes that add up to the 2 rewards, got 1',
    ],
    [
      advantages([0, 1], { groupSizes: Int32Array.of(1, 2) }),
      RangeError,
      'config.groupSizes: expected sizes that add up to the 2 rewards, got more',
    ],
    [
      advantages([0, 1], { groupSize: 2, scale: 'std' }),
      RangeError,
      `config.scale: expected one of 'group-std', 'group-mad', 'batch-std', 'none', got "std"`,
    ],
    [
      advantages([0, 1], { groupSize: 2, ddof: 2 }),
      RangeError,
      'config.ddof: expected an integer at least 0 and at most 1, got 2',
    ],
    [
      advantages([0, 1], { groupSize: 2, epsilon: -1e-4 }),
      RangeError,
      'config.epsilon: expected a finite number at least 0, got -0.0001',
    ],
    [advantages([0, 1], { groupSize: 2, hadw: 0.5 }), TypeError, 'config.hadw: expected an object, got 0.5'],
    [advantages([0, 1], { groupSize: 2, dqw: 2 }), TypeError, 'config.dqw: expected an object, got 2'],
    [
      advantages([0, 1], { groupSize: 2, dqw: { T: 2 } }),
      TypeError,
      'config.dqw.T: unknown field; expected one of temperature',
    ],
    [
      advantages([0, 1], { groupSize: 2, dqw: { temperature: 0 } }),
      RangeError,
      'config.dqw.temperature: expected a finite number above 0, got 0',
    ],
    [
      advantages([0, 1], { groupSize: 2, hadw: {}, dqw: {} }),
      RangeError,
      'config.dqw: expected either hadw or dqw, because each weights by difficulty, got both',
    ],
    [
      advantages([0, 1], { groupSize: 2, hadw: { anchor: NaN } }),
      RangeError,
      'config.hadw.anchor: expected a finite number, got NaN',
    ],
    [
      advantages([0, 1], { groupSize: 2, hadw: { scale: 0 } }),
      RangeError,
      'config.hadw.scale: expected a finite number above 0, got 0',
    ],
    [policy({ input: { normalizer: -1 } }), RangeError, 'normalizer: expected a finite number at least 0, got -1'],
    [policy({ input: { normalizer: null } }), TypeError, 'normalizer: expected a finite number at least 0, got null'],
    [policy({ input: { sequences: NaN } }), RangeError, 'sequences: expected a finite number at least 0, got NaN'],
  ]);
});

describe('options', () => {
  const threads = 'options.threads: expected an integer at least 1 and at most 1024';
  const both = logitsInput();
  const memory = new Float32Array(64);
  const pair = new Float32Array(256);
  refuses([
    [policy({ options: { threads: 0 } }), RangeError, `${threads}, got 0`],
    [logits({ options: { threads: 1.5 } }), RangeError, `${threads}, got 1.5`],
    [advantages([0, 1], { groupSize: 2 }, { threads: 2000 }), RangeError, `${threads}, got 2000`],
    [policy({ options: { gradient: 'no' } }), TypeError, 'options.gradient: expected a boolean, got "no"'],
    [policy({ options: { metrics: null } }), TypeError, 'options.metrics: expected a boolean, got null'],
    [logits({ options: { inPlace: 1 } }), TypeError, 'options.inPlace: expected a boolean, got 1'],
    [
      logits({ options: { inPlace: true, gradient: false } }),
      TypeError,
      'options.inPlace: expected false together with gradient: false, got true',
    ],
    [
      logits({ options: { inPlace: true, gradLogits: floats(30) } }),
      TypeError,
      'options.gradLogits: expected it only without inPlace',
    ],
    [
      logits({ options: { gradient: false, gradLogits: floats(30) } }),
      TypeError,
      'options.gradLogits: expected it only without gradient: false',
    ],
    [
      policy({ options: { gradient: false, gradLogProbs: floats(128) } }),
      TypeError,
      'options.gradLogProbs: expected it only without gradient: false',
    ],
    [
      policy({ input: { oldLogProbs: pair.subarray(0, 128) }, options: { gradLogProbs: pair.subarray(127, 255) } }),
      RangeError,
      'options.gradLogProbs: expected memory apart from oldLogProbs, got an overlapping range',
    ],
    [
      policy({ input: { logProbs: pair.subarray(0, 128) }, options: { gradLogProbs: pair.subarray(0, 128) } }),
      RangeError,
      'options.gradLogProbs: expected memory apart from logProbs, got an overlapping range',
    ],
    [
      logits({ options: { gradLogits: floats(29) } }),
      RangeError,
      'options.gradLogits: expected 30 values (2 sequences x 3 x 5), got 29',
    ],
    [
      logits({ options: { gradLogits: new Uint16Array(30) } }),
      TypeError,
      'options.gradLogits: expected a Float32Array, got a Uint16Array of 30 values',
    ],
    [
      logits({ input: { logits: memory.subarray(0, 30) }, options: { gradLogits: memory.subarray(29, 59) } }),
      RangeError,
      'options.gradLogits: expected memory apart from logits, got an overlapping range',
    ],
    [
      logits({
        input: { tokens: new Int32Array(memory.buffer, 0, 6) },
        options: { gradLogits: memory.subarray(5, 35) },
      }),
      RangeError,
      'options.gradLogits: expected memory apart from tokens, got an overlapping range',
    ],
    [
      logits({
        input: { logits: memory.subarray(0, 30), mask: new Uint8Array(memory.buffer, 114, 6) },
        options: { inPlace: true },
      }),
      RangeError,
      'logits: expected memory apart from mask, got an overlapping range',
    ],
  ]);

  test('gradLogProbs is written to and returned', () => {
    const given = floats(128).fill(7);
    const { gradLogProbs } = policyLoss(policyInput(), presets.grpo, { device: 'reference', gradLogProbs: given });
    assert.equal(gradLogProbs, given);
    assert.deepEqual(given, policyLoss(policyInput(), presets.grpo, { device: 'reference' }).gradLogProbs);
  });

  test('gradLogits may be the logits, or another part of their buffer', () => {
    const apart = logitsLoss(both, presets.grpo, { device: 'reference' }).gradLogits;
    const same = both.logits.slice();
    logitsLoss({ ...both, logits: same }, presets.grpo, { device: 'reference', gradLogits: same });
    assert.deepEqual(same, apart);
    const beside = new Float32Array(60);
    beside.set(both.logits);
    const input = { ...both, logits: beside.subarray(0, 30) };
    const result = logitsLoss(input, presets.grpo, { device: 'reference', gradLogits: beside.subarray(30) });
    assert.equal(result.gradLogits.buffer, beside.buffer);
    assert.deepEqual(beside.slice(30), apart);
  });
});

describe('devices', () => {
  const known = new Map(devices().map((device) => [device.name, device]));
  const names = `'auto', 'cuda', 'cpu', 'reference'`;
  refuses([
    [policy({ options: { device: 'gpu' } }), RangeError, `options.device: expected one of ${names}, got "gpu"`],
    [logits({ options: { device: 0 } }), TypeError, `options.device: expected one of ${names}, got 0`],
    [
      advantages([0, 1], { groupSize: 2 }, { device: 'tpu' }),
      RangeError,
      `options.device: expected one of ${names}, got "tpu"`,
    ],
  ]);

  test('there are three, in the order in which auto tries them', () => {
    assert.deepEqual([...known.keys()], ['cuda', 'cpu', 'reference']);
    for (const { detail } of known.values()) assert.ok(detail.length > 0);
  });

  test('an unavailable device says why', {
    skip: known.get('cuda')?.available && 'there is a CUDA device',
  }, () => {
    const message = `options.device: 'cuda' is not available: ${known.get('cuda')?.detail}`;
    for (const call of [policy, logits]) {
      assert.throws(call({ options: { device: 'cuda' } }), { name: 'RangeError', message });
    }
    assert.throws(advantages([0, 1], { groupSize: 2 }, { device: 'cuda' }), { name: 'RangeError', message });
  });
});
