// A device's input (a validated request with every default filled in) and output. The native addon and the reference device
// implement the same functions over these.

import type { AdvantageSettings, LossPlan } from './settings.js';

/** Rewards and their groups. Group g holds rewards[offsets[g] .. offsets[g + 1]). NaN means "no verdict". */
export interface AdvantagePlan {
  rewards: Float64Array;
  offsets: Int32Array;
  /** Whether the rewards were given in float32, which sets how far apart equal ones may be (src/base/spread.ts). */
  singlePrecision: boolean;
  settings: AdvantageSettings;
}

/** Where a device writes advantages. */
export interface AdvantageOutput {
  /** One per reward, with HA-DW applied. */
  advantages: Float32Array | Float64Array;
  /** HA-DW weights Φ, one per reward; all 1 without HA-DW. */
  weights: Float32Array | Float64Array;
  /** One per group; NaN for a group without a verdict. */
  groupMean: Float32Array | Float64Array;
  groupStd: Float32Array | Float64Array;
  /** 1 for a group with a non-zero advantage. */
  active: Uint8Array;
}

/** Sizes, configuration and options of a loss: a plan without its arrays. */
export interface TokenSettings {
  sequences: number;
  length: number;
  advantagesPerToken: boolean;
  /** For a fused call: rewards of the B sequences, and where the statistics are written. */
  advantage: { plan: AdvantagePlan; output: AdvantageOutput } | null;
  /** Global denominators; NaN: this batch decides. */
  normalizer: number;
  globalSequences: number;
  loss: LossPlan;
  /** False: rows whose gradient is known to be zero may be skipped. */
  metrics: boolean;
  /** Multiplies the gradient before it is rounded to the type of its array. */
  lossScale: number;
  /** Maximum number of threads; 0: the device's choice. */
  threads: number;
}

/** The per-token inputs of a loss: B*T values each, row-major. */
export interface TokenFields<Floats, Bytes> {
  oldLogProbs: Floats | null;
  refLogProbs: Floats | null;
  /** null: every token counts. */
  mask: Bytes | null;
  /** B or B*T values; null if they come from `advantage`. */
  advantages: Floats | null;
  tokenWeights: Floats | null;
}

export interface TokenPlan extends TokenSettings, TokenFields<Float32Array, Uint8Array> {}

export interface PolicyPlan extends TokenPlan {
  logProbs: Float32Array;
  /** B*T, in nats; null: no entropy term. */
  entropies: Float32Array | null;
  /** B*T, written; null: no gradient. */
  gradLogProbs: Float32Array | Float64Array | null;
  /** The same; also null without an entropy term. */
  gradEntropies: Float32Array | Float64Array | null;
}

export const logitsDtypes = ['float32', 'bfloat16', 'float16'] as const;
export type LogitsDtype = (typeof logitsDtypes)[number];

export interface LogitsSettings extends TokenSettings {
  vocab: number;
  /** Distance between the starts of two rows, in values; at least vocab. */
  rowStride: number;
  dtype: LogitsDtype;
  temperature: number;
}

export interface LogitsPlan extends TokenPlan, LogitsSettings {
  /** float32: Float32Array; bfloat16 (the upper halves of float32) and float16: bits in a Uint16Array. Length B*T*rowStride. */
  logits: Float32Array | Uint16Array;
  tokens: Int32Array;
  /** Same layout as `logits`, and may be the same memory; null: no gradient. */
  gradLogits: Float32Array | Float64Array | Uint16Array | null;
  /** Whether gradLogits already holds zeros. */
  zeroed: boolean;
  /** B*T, written; 0 at masked tokens. */
  logProbs: Float32Array | Float64Array;
  /** B*T, written, in nats; 0 at masked tokens. */
  entropies: Float32Array | Float64Array;
}

/** Rows of logits for which a gradient is written. */
export type LogitsLayout = Pick<
  LogitsPlan,
  'vocab' | 'rowStride' | 'dtype' | 'temperature' | 'logits' | 'tokens' | 'mask' | 'lossScale'
>;

/** From the gradient with respect to log-probs and entropies, one value per row each, to the gradient with respect to logits. */
export interface LogitsBackwardPlan extends LogitsLayout {
  rows: number;
  gradLogProbs: Float32Array;
  /** null: 0 everywhere. */
  gradEntropies: Float32Array | null;
  /** As in LogitsPlan. */
  gradLogits: Float32Array | Float64Array | Uint16Array;
  zeroed: boolean;
  threads: number;
}

/** A loss from hidden states and the unembedding that turns them into logits. */
export interface LinearPlan extends TokenPlan {
  /** D. */
  hiddenSize: number;
  vocab: number;
  temperature: number;
  /** Logits are softCap tanh(x / softCap) of products x; Infinity: x. */
  softCap: number;
  /** [B*T, D]. */
  hidden: Float32Array;
  /** [V, D]. */
  unembedding: Float32Array;
  tokens: Int32Array;
  /** Rows whose logits are in memory at once: a multiple of `linearBlockRows`. */
  chunkRows: number;
  /** [B*T, D] and [V, D], zeros; null: not computed. */
  gradHidden: Float32Array | Float64Array | null;
  gradUnembedding: Float32Array | Float64Array | null;
  /** As in LogitsPlan. */
  logProbs: Float32Array | Float64Array;
  entropies: Float32Array | Float64Array;
}

/** Scalar results by metric name. */
export type Metrics = Record<string, number>;

export interface LossScalars {
  loss: number;
  metrics: Metrics;
}

/** The operations that a device implements. All are synchronous. */
export interface Device {
  computeAdvantages(plan: AdvantagePlan, output: AdvantageOutput): { accuracy: number; metrics: Metrics };
  policyLoss(plan: PolicyPlan): LossScalars & { accuracy?: number };
  logitsLoss(plan: LogitsPlan): LossScalars & { accuracy?: number };
  logitsBackward(plan: LogitsBackwardPlan): { metrics: Metrics };
  /** Null if the device has no matrix products. */
  linearLoss: ((plan: LinearPlan) => LossScalars & { accuracy?: number }) | null;
}
