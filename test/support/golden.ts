// The golden vectors: results of TRL and verl for random inputs, run in float64 (test/golden/*.json), and the mapping of their
// configurations to ours.

import { readFileSync } from 'node:fs';
import type { AdvantageConfig, LogitsInput, LossConfig, PolicyInput, Surrogate } from '../../src/index.js';

interface Named {
  /** Names the case in a failure. */
  name: string;
  /** The test that it belongs to: data set and kind of loss. */
  suite: string;
}

interface GoldenLoss extends Named {
  config: LossConfig;
  loss: number;
  gradient: number[];
  /** Metrics that both define, under our names. */
  metrics: Record<string, number>;
  /** Relative bound of a float64 computation. */
  float64Bound: number;
  /** Relative bound of a float32 computation. */
  float32Bound: number;
}

export interface GoldenLogits extends GoldenLoss {
  input: LogitsInput;
}

export interface GoldenPolicy extends GoldenLoss {
  input: PolicyInput;
  /**
   * Token weights that turn our n_b into verl's n_b + 1e-8. They are exact only in float64; in float32 the difference
   * (1e-8) is below rounding.
   */
  verlWeights?: Float64Array;
}

export interface GoldenAdvantages extends Named {
  rewards: number[];
  config: AdvantageConfig;
  advantages: number[];
  /** HA-DW as its authors compute it: the mean rewards of the batches whose mean is its anchor. */
  history?: number[];
}

function load(file: string): unknown {
  return JSON.parse(readFileSync(new URL(`../golden/${file}`, import.meta.url), 'utf8'));
}

interface TrlConfig {
  klBeta: number;
  clipLow: number;
  clipHigh: number;
  temperature: number;
  lossType: 'grpo' | 'bnpo' | 'dr_grpo' | 'dapo' | 'luspo' | 'cispo' | 'sapo' | 'vespo';
  ratioLevel: 'token' | 'sequence';
  maxLength: number;
  klImportanceWeighted?: boolean;
  entropyCoef?: number;
  delta?: number;
  topEntropyQuantile?: number;
  offPolicyMaskThreshold?: number;
  onPolicy?: boolean;
  tokenWeights?: boolean;
  perTokenAdvantages?: boolean;
}

interface TrlFile {
  sets: {
    shape: { sequences: number; length: number; vocab: number };
    inputs: Record<
      'logits' | 'tokens' | 'mask' | 'oldLogProbs' | 'refLogProbs' | 'advantages' | 'advantagesToken' | 'tokenWeights',
      number[]
    >;
    cases: { config: TrlConfig; loss: number; dLogits: number[]; metrics: Record<string, number> }[];
  }[];
}

const trlAggregation = {
  grpo: 'sequence-mean',
  bnpo: 'token-mean',
  dr_grpo: 'constant',
  dapo: 'token-mean',
  luspo: 'sequence-sum',
  cispo: 'token-mean',
  sapo: 'sequence-mean',
  vespo: 'token-mean',
} as const;

/** Metrics that TRL logs under the same name and definition. */
const trlMetrics = [
  'kl',
  'entropy',
  'clip_ratio/low_mean',
  'clip_ratio/low_min',
  'clip_ratio/high_mean',
  'clip_ratio/high_max',
  'clip_ratio/region_mean',
  'cispo_clip_ratio',
  'vespo/phi_seq_mean',
];

function trlSurrogate(config: TrlConfig): Surrogate {
  const { lossType, clipLow, clipHigh, delta } = config;
  if (lossType === 'cispo') return { kind: 'cispo', high: clipHigh };
  if (lossType === 'sapo') return { kind: 'sapo' };
  if (lossType === 'vespo') return { kind: 'vespo' };
  return { kind: 'clip', low: clipLow, high: clipHigh, ...(delta !== undefined && { max: delta }) };
}

export function trlCases(): GoldenLogits[] {
  const { sets } = load('trl.json') as TrlFile;
  return sets.flatMap(({ shape, inputs, cases }, set) =>
    cases.map(({ config, loss, dLogits, metrics }, index): GoldenLogits => {
      const { lossType } = config;
      const { sequences, length, vocab } = shape;
      return {
        suite: `trl set ${set} (${sequences} x ${length} x ${vocab}), ${lossType}`,
        name: `trl set ${set} case ${index} ${JSON.stringify(config)}`,
        input: {
          shape,
          logits: Float32Array.from(inputs.logits),
          tokens: Int32Array.from(inputs.tokens),
          mask: Uint8Array.from(inputs.mask),
          ...(!config.onPolicy && { oldLogProbs: Float32Array.from(inputs.oldLogProbs) }),
          refLogProbs: Float32Array.from(inputs.refLogProbs),
          advantages: Float32Array.from(config.perTokenAdvantages ? inputs.advantagesToken : inputs.advantages),
          ...(config.tokenWeights && { tokenWeights: Float32Array.from(inputs.tokenWeights) }),
          temperature: config.temperature,
        },
        config: {
          ratio: config.ratioLevel,
          surrogate: trlSurrogate(config),
          aggregation: trlAggregation[lossType],
          maxLength: config.maxLength,
          kl: { beta: config.klBeta, importanceWeighted: config.klImportanceWeighted ?? false },
          entropy: { coefficient: config.entropyCoef ?? 0, topQuantile: config.topEntropyQuantile ?? 1 },
          ...(config.offPolicyMaskThreshold !== undefined && { offPolicyThreshold: config.offPolicyMaskThreshold }),
        },
        loss,
        gradient: dLogits,
        metrics: Object.fromEntries(Object.entries(metrics).filter(([name]) => trlMetrics.includes(name))),
        float64Bound: 1e-12,
        float32Bound: lossType === 'vespo' ? 5e-6 : 2e-6,
      };
    }),
  );
}

type VerlLossKind = 'vanilla' | 'gspo' | 'sapo' | 'gpg' | 'geo_mean' | 'cispo';

interface VerlFile {
  advantages: {
    prompts: number;
    groupSize: number;
    cases: {
      estimator: 'grpo' | 'rloo' | 'ha-dw';
      kind: string;
      rewards: number[];
      groupSize: number;
      config: { normalizeByStd?: boolean; epsilon?: number; scale?: number; anchor?: number; history?: number[] };
      advantages: number[];
    }[];
  }[];
  losses: {
    shape: { sequences: number; length: number };
    logProbs: number[];
    oldLogProbs: number[];
    mask: number[];
    advantages: number[];
    cases: {
      loss: VerlLossKind | 'kl_cov';
      aggregation: 'token-mean' | 'seq-mean-token-sum' | 'seq-mean-token-mean' | 'seq-mean-token-sum-norm';
      clipLow: number;
      clipHigh: number;
      value: number;
      dLogProbs: number[];
      metrics: Record<string, number>;
    }[];
  }[];
}

const verlAggregation = {
  'token-mean': 'token-mean',
  'seq-mean-token-sum': 'sequence-sum',
  'seq-mean-token-mean': 'sequence-mean',
  'seq-mean-token-sum-norm': 'constant', // maxLength: the padded length, our default
} as const;

/** verl clamps the log-ratio to this in the losses with `logRatioClamp`. */
const logRatioClamp = 20;

function verlConfig(
  kind: VerlLossKind,
  aggregation: keyof typeof verlAggregation,
  low: number,
  high: number,
): LossConfig {
  const common = { aggregation: verlAggregation[aggregation], emptySequences: 'drop' } as const;
  switch (kind) {
    case 'vanilla':
      return { ...common, surrogate: { kind: 'clip', low, high, dual: 3 }, logRatioClamp };
    case 'gspo':
      return {
        ...common,
        aggregation: 'sequence-mean',
        ratio: 'sequence-token',
        surrogate: { kind: 'clip', low, high },
      };
    case 'sapo':
      return { ...common, aggregation: 'sequence-mean', surrogate: { kind: 'sapo' }, logRatioClamp };
    case 'gpg':
      return { ...common, surrogate: { kind: 'reinforce' } };
    case 'geo_mean':
      return { ...common, aggregation: 'sequence-mean', surrogate: { kind: 'gmpo', low, high } };
    case 'cispo':
      return { ...common, surrogate: { kind: 'cispo', low, high: 1 + high }, logRatioClamp };
  }
}

/** All except kl_cov, which we do not have. */
export function verlLossCases(): GoldenPolicy[] {
  const { losses } = load('verl.json') as VerlFile;
  return losses.flatMap(({ shape, cases, ...inputs }, set) =>
    cases.flatMap((golden, index): GoldenPolicy[] => {
      const { loss: kind, aggregation, clipLow, clipHigh } = golden;
      if (kind === 'kl_cov') return [];
      const config = verlConfig(kind, aggregation, clipLow, clipHigh);
      const mask = Uint8Array.from(inputs.mask);
      const tokens = mask.reduce((sum, m) => sum + m, 0);
      const metrics: Record<string, number> = {};
      // verl's masked mean divides by the count + 1e-8.
      const unmean = (tokens + 1e-8) / tokens;
      if ('actor/ppo_kl' in golden.metrics) metrics.approx_kl = golden.metrics['actor/ppo_kl'] * unmean;
      if (kind === 'vanilla') metrics['clip_ratio/region_mean'] = golden.metrics['actor/pg_clipfrac'] * unmean;
      return [
        {
          suite: `verl set ${set} (${shape.sequences} x ${shape.length}), ${kind}`,
          name: `verl set ${set} case ${index} ${kind} ${aggregation} low ${clipLow} high ${clipHigh}`,
          input: {
            shape,
            logProbs: Float32Array.from(inputs.logProbs),
            oldLogProbs: Float32Array.from(inputs.oldLogProbs),
            mask,
            advantages: Float32Array.from(inputs.advantages),
          },
          config,
          loss: golden.value,
          gradient: golden.dLogProbs,
          metrics,
          ...(config.aggregation === 'sequence-mean' && { verlWeights: verlWeights(mask, shape.length) }),
          // geo_mean divides by n_b + 1e-8 again, in the exponent: S (1 − 1e-8 / n_b) with |S| below 1 here, and in
          // the gradient ∂S/∂ℓ = 1 / (n_b + 1e-8).
          float64Bound: kind === 'geo_mean' ? 2e-8 : 1e-12,
          float32Bound: 2e-6,
        },
      ];
    }),
  );
}

function verlWeights(mask: Uint8Array, length: number): Float64Array {
  return Float64Array.from(mask, (_, i) => {
    const start = i - (i % length);
    const n = mask.subarray(start, start + length).reduce((sum, m) => sum + m, 0);
    return n / (n + 1e-8);
  });
}

export function verlAdvantageCases(): GoldenAdvantages[] {
  const { advantages } = load('verl.json') as VerlFile;
  return advantages.flatMap(({ prompts, groupSize, cases }) =>
    cases.map(({ estimator, kind, rewards, config, advantages: expected }, index): GoldenAdvantages => {
      const common = { groupSize, epsilon: config.epsilon ?? 0 };
      const ours: Record<typeof estimator, AdvantageConfig> = {
        grpo: { ...common, scale: config.normalizeByStd ? 'group-std' : 'none' },
        rloo: { ...common, center: 'leave-one-out', scale: 'none' },
        'ha-dw': { ...common, hadw: { anchor: config.anchor, scale: config.scale } },
      };
      return {
        suite: `verl advantages (${prompts} groups of ${groupSize}), ${estimator}`,
        name: `verl advantages (${prompts} x ${groupSize}) case ${index} ${estimator} ${kind} ${JSON.stringify(config)}`,
        rewards,
        config: ours[estimator],
        advantages: expected,
        ...(config.history && { history: config.history }),
      };
    }),
  );
}
