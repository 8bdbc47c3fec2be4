// The configuration of a loss: its fields, their ranges and their defaults. Every default is defined here and nowhere else: those of
// the C entry are written from these (`npm run native-defaults`). A configuration is three independent choices (ratio, surrogate,
// aggregation) plus a KL and an entropy term.

import {
  type Bounds,
  checkBoolean,
  checkChoice,
  checkKeys,
  checkNumber,
  checkObject,
  rangeError,
} from '../base/check.js';
import { DeviceArray } from '../devices/device-array.js';
import type { SurrogateKind } from '../devices/reference/surrogate.js';
import {
  type AdvantageSettings,
  type Aggregation,
  aggregations,
  centers,
  type KlEstimator,
  klEstimators,
  type LossPlan,
  type Ratio,
  ratios,
  scales,
} from '../devices/settings.js';

/** A hyperparameter of a surrogate: its range and its default. Without `default` it is required. */
interface Field extends Bounds {
  default?: number;
}

/**
 * The surrogates and their hyperparameters, in the order in which devices receive them. To add one, add its line here,
 * its formula to native/core/surrogate.hpp and its formula to src/devices/reference/surrogate.ts.
 * `Infinity` as a default means "no such bound".
 */
export const surrogateFields = {
  /** PPO's clip (arXiv 1707.06347), asymmetric (DAPO, arXiv 2503.14476), `max`: TRL's delta, `dual`: dual clip (arXiv 1912.09729). */
  clip: {
    low: { min: 0 },
    high: { min: 0 },
    max: { above: 0, default: Infinity },
    dual: { above: 1, default: Infinity },
  },
  /** CISPO (arXiv 2506.13585). `high` is the upper bound itself, the lower one is 1 − low (none by default). */
  cispo: { high: { above: 0 }, low: { min: 0, default: Infinity } },
  /** SAPO (arXiv 2511.20347): a sigmoid gate with one temperature for each sign of the advantage. */
  sapo: { tauPositive: { above: 0, default: 1 }, tauNegative: { above: 0, default: 1.05 } },
  /** GMPO (arXiv 2507.20673): the geometric mean of the clipped ratios; the bounds are on the log-ratio: [−low, high]. */
  gmpo: { low: { min: 0 }, high: { min: 0 } },
  /** VESPO (arXiv 2602.10693): Gamma weighting of the sequence's importance weight; the Positive parameters apply for A ≥ 0. */
  vespo: {
    kPositive: { min: 0, default: 2 },
    lambdaPositive: { min: 0, default: 3 },
    kNegative: { min: 0, default: 3 },
    lambdaNegative: { min: 0, default: 2 },
  },
  /** REINFORCE: −A ℓ. */
  reinforce: {},
} as const satisfies Record<SurrogateKind, Record<string, Field>>;

type Fields = typeof surrogateFields;
type RequiredParameters<F> = { [K in keyof F as F[K] extends { default: number } ? never : K]: number };
type OptionalParameters<F> = { [K in keyof F as F[K] extends { default: number } ? K : never]?: number };

/** One surrogate with its hyperparameters, for example `{ kind: 'clip', low: 0.2, high: 0.28 }`. */
export type Surrogate = {
  [K in SurrogateKind]: { kind: K } & RequiredParameters<Fields[K]> & OptionalParameters<Fields[K]>;
}[SurrogateKind];

export interface KlConfig {
  /** Coefficient; with 0 no KL is computed. */
  beta: number;
  /** Default `k3`. */
  estimator?: KlEstimator;
  /** Multiply by the ratio, with the gradient through it (DeepSeek-V3.2). Default false. */
  importanceWeighted?: boolean;
  /**
   * Clamp of the log-ratio ℓʳ − ℓ to [−c, c], zero gradient through it outside. It bounds k3, which grows like e^c.
   * verl's is 20, as is NeMo-RL's `kl_input_clamp_value`. Default: none.
   */
  logRatioClamp?: number;
}

export interface EntropyConfig {
  /** The mean entropy times this is subtracted from the loss. */
  coefficient: number;
  /** Keep only this fraction of the tokens, those of the highest entropy, in (0, 1]. Default 1. */
  topQuantile?: number;
  /** The number of kept tokens in the whole accumulation window; default: in this batch. */
  tokens?: number;
  /** With `topQuantile`: the global entropy threshold (nats) from which tokens are kept; default: this batch's quantile. */
  threshold?: number;
}

export interface LossConfig {
  /** Default `token`. */
  ratio?: Ratio;
  surrogate: Surrogate;
  /** Default `token-mean`. */
  aggregation?: Aggregation;
  /** Whether a sequence without a masked-in token counts in B. Default `count`, as in TRL; verl drops it. */
  emptySequences?: 'count' | 'drop';
  /** For aggregation `constant`; default: the padded length T. */
  maxLength?: number;
  /** Clamp of the log-ratio to [−c, c], zero gradient outside. Default: none. */
  logRatioClamp?: number;
  /**
   * Off-policy sequence mask (DeepSeek-V3.2): A < 0 tokens of a sequence whose mean ℓ° − ℓ exceeds this are dropped. Default:
   * none.
   */
  offPolicyThreshold?: number;
  kl?: KlConfig;
  entropy?: EntropyConfig;
}

/** Without a KL or an entropy term, what stands for it: bounds that are off are infinite, and NaN is for the batch to decide. */
export const lossDefaults = {
  ratio: 'token',
  aggregation: 'token-mean',
  emptySequences: 'count',
  logRatioClamp: Infinity,
  offPolicyThreshold: Infinity,
  kl: { beta: 0, estimator: 'k3', importanceWeighted: false, logRatioClamp: Infinity },
  entropy: { coefficient: 0, topQuantile: 1, tokens: NaN, threshold: NaN },
} as const satisfies Omit<LossPlan, 'surrogate' | 'maxLength'>;

/** Of HA-DW and DGPO where they are asked for; without an anchor the batch's own mean is one. */
export const advantageDefaults = {
  center: 'mean',
  scale: 'group-std',
  ddof: 1,
  epsilon: 1e-4,
  hadw: { anchor: NaN, scale: 1.3 },
  dqw: { temperature: 2 },
} as const satisfies AdvantageSettings;

/** Of inputs and options of every call. */
export const callDefaults = { temperature: 1, metrics: true, lossScale: 1 } as const;
export const callBounds = { temperature: { min: 1e-6 }, lossScale: { min: 2 ** -126 } } as const satisfies Record<
  string,
  Bounds
>;

/** Validates a configuration and fills in its defaults. `length` is T, the default of `maxLength`. */
export function resolveLoss(config: unknown, length: number): LossPlan {
  const c = checkObject('config', config);
  checkKeys('config', c, [
    'ratio',
    'surrogate',
    'aggregation',
    'emptySequences',
    'maxLength',
    'logRatioClamp',
    'offPolicyThreshold',
    'kl',
    'entropy',
  ]);
  return {
    ratio: choice('config.ratio', c.ratio, lossDefaults.ratio, ratios),
    surrogate: resolveSurrogate(c.surrogate),
    aggregation: choice('config.aggregation', c.aggregation, lossDefaults.aggregation, aggregations),
    emptySequences: choice('config.emptySequences', c.emptySequences, lossDefaults.emptySequences, ['count', 'drop']),
    maxLength: number('config.maxLength', c.maxLength, length, { min: 1 }),
    logRatioClamp: number('config.logRatioClamp', c.logRatioClamp, lossDefaults.logRatioClamp, { above: 0 }),
    offPolicyThreshold: number('config.offPolicyThreshold', c.offPolicyThreshold, lossDefaults.offPolicyThreshold, {}),
    kl: resolveKl(c.kl),
    entropy: resolveEntropy(c.entropy),
  };
}

function resolveSurrogate(value: unknown): LossPlan['surrogate'] {
  const s = checkObject('config.surrogate', value);
  const kind = checkChoice('config.surrogate.kind', s.kind, Object.keys(surrogateFields) as SurrogateKind[]);
  const fields = Object.entries<Field>(surrogateFields[kind]);
  checkKeys('config.surrogate', s, ['kind', ...fields.map(([name]) => name)]);
  const parameters = fields.map(([name, { default: fallback, ...bounds }]) => {
    const given = s[name];
    return given === undefined && fallback !== undefined
      ? fallback
      : checkNumber(`config.surrogate.${name}`, given, bounds);
  });
  return { kind, parameters: Float64Array.from(parameters) };
}

function resolveKl(value: unknown): LossPlan['kl'] {
  const usual = lossDefaults.kl;
  if (value === undefined) return { ...usual };
  const k = checkObject('config.kl', value);
  checkKeys('config.kl', k, ['beta', 'estimator', 'importanceWeighted', 'logRatioClamp']);
  return {
    beta: checkNumber('config.kl.beta', k.beta, { min: 0 }),
    estimator: choice('config.kl.estimator', k.estimator, usual.estimator, klEstimators),
    importanceWeighted:
      k.importanceWeighted === undefined
        ? usual.importanceWeighted
        : checkBoolean('config.kl.importanceWeighted', k.importanceWeighted),
    logRatioClamp: number('config.kl.logRatioClamp', k.logRatioClamp, usual.logRatioClamp, { above: 0 }),
  };
}

function resolveEntropy(value: unknown): LossPlan['entropy'] {
  const usual = lossDefaults.entropy;
  if (value === undefined) return { ...usual };
  const e = checkObject('config.entropy', value);
  checkKeys('config.entropy', e, ['coefficient', 'topQuantile', 'tokens', 'threshold']);
  return {
    coefficient: checkNumber('config.entropy.coefficient', e.coefficient),
    topQuantile: number('config.entropy.topQuantile', e.topQuantile, usual.topQuantile, { above: 0, max: 1 }),
    tokens: Math.max(1, number('config.entropy.tokens', e.tokens, usual.tokens, { min: 0 })),
    threshold: number('config.entropy.threshold', e.threshold, usual.threshold, {}),
  };
}

function number(field: string, value: unknown, fallback: number, bounds: Bounds): number {
  return value === undefined ? fallback : checkNumber(field, value, bounds);
}

function choice<const T extends string>(field: string, value: unknown, fallback: NoInfer<T>, choices: readonly T[]): T {
  return value === undefined ? fallback : checkChoice(field, value, choices);
}

/** How rewards become advantages. Group sizes: exactly one of `groupSize` and `groupSizes`. */
export interface AdvantageConfig {
  /** Responses per prompt; the number of rewards must be a multiple of it. */
  groupSize?: number;
  /** Ragged groups: the size of each, in order; their sum is the number of rewards. */
  groupSizes?: Int32Array;
  /** What is subtracted from a reward. Default `mean`. */
  center?: (typeof centers)[number];
  /** What the difference is divided by; `group-mad` is the mean absolute deviation of the group. Default `group-std`. */
  scale?: (typeof scales)[number];
  /** Standard deviations divide by n − ddof. Default 1. */
  ddof?: 0 | 1;
  /** Added to the standard or mean absolute deviation. Default 1e-4, as in TRL; verl uses 1e-6. */
  epsilon?: number;
  /** History-aware difficulty weighting (arXiv 2601.08521, eq. 13–17). Default: none. */
  hadw?: {
    /**
     * The policy's level, usually `anchor.value`; default: the batch's own mean reward. With rewards in a DeviceArray it may
     * also be a DeviceArray of one float64, which is read when the operation runs.
     */
    anchor?: number | DeviceArray | undefined;
    /** λ. Default 1.3. */
    scale?: number;
  };
  /**
   * DGPO's difficulty-aware question weights (arXiv 2601.20614, eq. 11): a softmax of −mean reward / temperature over the groups
   * with spread, times their number. Not together with `hadw`, which weights by difficulty, too. Default: none.
   */
  dqw?: {
    /** Default 2. The higher, the closer to 1 all weights are. */
    temperature?: number;
  };
}

export function resolveAdvantage(field: string, config: unknown): AdvantageSettings {
  const c = checkObject(field, config);
  checkKeys(field, c, ['groupSize', 'groupSizes', 'center', 'scale', 'ddof', 'epsilon', 'hadw', 'dqw']);
  const hadw = c.hadw === undefined ? null : checkObject(`${field}.hadw`, c.hadw);
  if (hadw) checkKeys(`${field}.hadw`, hadw, ['anchor', 'scale']);
  const dqw = c.dqw === undefined ? null : checkObject(`${field}.dqw`, c.dqw);
  if (dqw) checkKeys(`${field}.dqw`, dqw, ['temperature']);
  if (hadw && dqw) throw bothWeightings(`${field}.dqw`);
  const usual = advantageDefaults;
  return {
    center: choice(`${field}.center`, c.center, usual.center, centers),
    scale: choice(`${field}.scale`, c.scale, usual.scale, scales),
    ddof: number(`${field}.ddof`, c.ddof, usual.ddof, { min: 0, max: 1, integer: true }),
    epsilon: number(`${field}.epsilon`, c.epsilon, usual.epsilon, { min: 0 }),
    hadw: hadw && {
      anchor: resolveAnchor(`${field}.hadw.anchor`, hadw.anchor),
      scale: number(`${field}.hadw.scale`, hadw.scale, usual.hadw.scale, { above: 0 }),
    },
    dqw: dqw && {
      temperature: number(`${field}.dqw.temperature`, dqw.temperature, usual.dqw.temperature, { above: 0 }),
    },
  };
}

/** `field`: that of `dqw`. */
export function bothWeightings(field: string): RangeError {
  return rangeError(field, 'either hadw or dqw, because each weights by difficulty', 'both');
}

/** May be a DeviceArray typed as a number: only the CUDA device's own functions read it. */
function resolveAnchor(field: string, anchor: unknown): number {
  if (anchor instanceof DeviceArray) return anchor as unknown as number;
  return number(field, anchor, advantageDefaults.hadw.anchor, {});
}
