// Random valid requests over all options of policyLoss and logitsLoss. Masked tokens have values that must not be read.

import { toBfloat16 } from '../../src/devices/reference/bfloat16.js';
import { toFloat16 } from '../../src/devices/reference/float16.js';
import { referenceDevice } from '../../src/devices/reference/index.js';
import { aggregations, centers, klEstimators, ratios, scales } from '../../src/devices/settings.js';
import type {
  AdvantageConfig,
  LogitsInput,
  LogitsOptions,
  LossConfig,
  PolicyInput,
  PolicyOptions,
} from '../../src/index.js';
import { planLogits } from '../../src/loss/request.js';
import { float64Logits } from './float64.js';
import { fill, type Random } from './random.js';
import { drawSurrogate } from './surrogates.js';

export interface Draw<I, O> {
  input: I;
  config: LossConfig;
  options: O;
}

function drawConfig(random: Random, length: number): LossConfig {
  return {
    surrogate: drawSurrogate(random),
    ratio: random.pick(ratios),
    aggregation: random.pick(aggregations),
    ...(random.chance(0.5) && { emptySequences: random.pick(['count', 'drop'] as const) }),
    ...(random.chance(0.3) && { maxLength: length + random.integer(0, 5) }),
    ...(random.chance(0.3) && { logRatioClamp: random.uniform(0.1, 1) }),
    ...(random.chance(0.3) && { offPolicyThreshold: random.uniform(-0.2, 0.3) }),
    ...(random.chance(0.6) && {
      kl: {
        beta: random.pick([0, 0.04, 0.5]),
        estimator: random.pick(klEstimators),
        importanceWeighted: random.chance(0.5),
        ...(random.chance(0.3) && { logRatioClamp: random.uniform(0.1, 1) }),
      },
    }),
  };
}

function drawMask(random: Random, sequences: number, length: number): Uint8Array | undefined {
  if (random.chance(0.2)) return undefined;
  if (random.chance(0.03)) return new Uint8Array(sequences * length);
  const mask = new Uint8Array(sequences * length);
  for (let b = 0; b < sequences; b++) {
    const end = random.chance(0.15) ? 0 : random.integer(0, length); // sometimes empty
    for (let t = 0; t < end; t++) mask[b * length + t] = random.chance(0.9) ? random.pick([1, 1, 255]) : 0;
  }
  return mask;
}

function drawRewards(random: Random, sequences: number): { rewards: number[]; advantage: AdvantageConfig } {
  const groupSizes: number[] = [];
  for (let left = sequences; left > 0; left -= groupSizes[groupSizes.length - 1]) {
    groupSizes.push(random.integer(1, Math.min(left, 4)));
  }
  const binary = random.chance(0.5);
  const anchor = random.pick([undefined, 0.3]);
  return {
    rewards: Array.from({ length: sequences }, () => {
      if (random.chance(0.1)) return NaN;
      return binary ? random.integer(0, 1) : random.uniform(-1, 1);
    }),
    advantage: {
      ...(random.chance(0.5) ? { groupSizes: Int32Array.from(groupSizes) } : { groupSize: sequences }),
      center: random.pick(centers),
      scale: random.pick(scales),
      ddof: random.pick([0, 1] as const),
      epsilon: random.pick([1e-4, 0.1]),
      ...random.pick([{}, { hadw: { anchor, scale: random.uniform(0.8, 1.5) } }, { dqw: { temperature: 0.5 } }]),
    },
  };
}

/** The common inputs of both losses, apart from the log-probs of the policy. */
function drawTokens(random: Random, sequences: number, length: number, logProbs: ArrayLike<number>, mask?: Uint8Array) {
  const size = sequences * length;
  const hidden = (values: Float32Array) => values.map((value, i) => (mask && !mask[i] ? NaN : value));
  const around = (spread: number) => hidden(fill(size, () => 0).map((_, i) => logProbs[i] + spread * random.normal()));
  const advantage = () => (random.chance(0.15) ? 0 : random.normal());
  const oldSpread = random.pick([0.05, 0.4]);
  return {
    ...(mask && { mask }),
    ...(random.chance(0.85) && { oldLogProbs: around(oldSpread) }),
    refLogProbs: around(0.5),
    ...(random.chance(0.35)
      ? drawRewards(random, sequences)
      : { advantages: random.chance(0.6) ? fill(sequences, advantage) : hidden(fill(size, advantage)) }),
    ...(random.chance(0.3) && {
      tokenWeights: hidden(fill(size, () => (random.chance(0.1) ? 0 : random.uniform(0.3, 2)))),
    }),
    ...(random.chance(0.3) && { normalizer: random.uniform(1, 60) }),
    ...(random.chance(0.3) && { sequences: random.integer(1, 12) }),
  };
}

function drawOptions(random: Random): PolicyOptions {
  return {
    ...(random.chance(0.3) && { threads: random.integer(1, 3) }),
    ...(random.chance(0.15) && { metrics: false }),
  };
}

export function drawPolicy(random: Random): Draw<PolicyInput, PolicyOptions> {
  const sequences = random.integer(1, 6);
  // Sometimes longer than a device is likely to process at once.
  const length = random.chance(0.05) ? random.integer(500, 1100) : random.integer(1, 40);
  const mask = drawMask(random, sequences, length);
  const logProbs = fill(sequences * length, () => -random.uniform(0, 5));
  const tokens = drawTokens(random, sequences, length, logProbs, mask);
  return {
    input: {
      shape: { sequences, length },
      logProbs: logProbs.map((value, i) => (mask && !mask[i] ? NaN : value)),
      ...tokens,
    },
    config: drawConfig(random, length),
    options: { ...drawOptions(random), ...(random.chance(0.1) && { gradient: false }) },
  };
}

export function drawLogits(random: Random): Draw<LogitsInput, LogitsOptions> {
  const sequences = random.integer(1, 5);
  const length = random.integer(1, 9);
  const rows = sequences * length;
  const vocab = random.pick([1, 2, 3, 7, 16, 33, 129, 600]);
  const rowStride = random.chance(0.3) ? vocab + random.integer(1, 9) : vocab;
  const mask = drawMask(random, sequences, length);
  const dtype = random.pick(['float32', 'float32', 'float32', 'bfloat16', 'float16'] as const);
  const spread = random.pick([0.5, 2, 4]);
  // Not for 16 bits: away from 0 they are so coarse that two rows would be permutations of each other and their entropies,
  // equal except for rounding, would be on different sides of a threshold.
  const offset = dtype === 'float32' ? random.pick([0, 0, -300, 50]) : 0;

  // NaN wherever nothing may be read: masked rows and padding columns.
  const values = fill(rows * rowStride, () => offset + spread * random.normal());
  const readable = (i: number) => mask?.[Math.floor(i / rowStride)] !== 0 && i % rowStride < vocab;
  const float32 = values.map((value, i) => (readable(i) ? value : NaN));
  const logits =
    dtype === 'float32' ? float32 : Uint16Array.from(float32, dtype === 'float16' ? toFloat16 : toBfloat16);
  const tokens = Int32Array.from({ length: rows }, (_, row) =>
    mask && !mask[row] ? -7 : random.integer(0, vocab - 1),
  );
  const shape = { sequences, length, vocab, ...(rowStride !== vocab && { rowStride }) };
  const temperature = random.pick([1, 1, 0.7, 1.3]);

  const base: LogitsInput = {
    shape,
    logits,
    ...(dtype !== 'float32' && { dtype }),
    tokens,
    temperature,
    ...(mask && { mask }),
  };
  const plan = planLogits({ ...base, advantages: new Float32Array(sequences) }, { surrogate: { kind: 'reinforce' } });
  const exact = { ...float64Logits(plan), gradLogits: null };
  referenceDevice.logitsLoss(exact);

  return {
    input: { ...base, ...drawTokens(random, sequences, length, exact.logProbs, mask) },
    config: {
      ...drawConfig(random, length),
      ...(random.chance(0.6) && {
        entropy: {
          coefficient: random.pick([0, 0.01, -0.3]),
          ...(random.chance(0.5) && { topQuantile: random.uniform(0.1, 1) }),
          ...(random.chance(0.3) && { tokens: random.integer(0, 40) }),
          ...(random.chance(0.3) && { threshold: random.uniform(0, Math.log(vocab) + 0.1) }),
        },
      }),
    },
    options: {
      ...drawOptions(random),
      ...random.pick([{}, {}, { inPlace: true }, { gradient: false }, { gradLogits: logits.slice().fill(1) }]),
    },
  };
}
