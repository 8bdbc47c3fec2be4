// The options of losses, advantages and calls, each stated once: its type, range, default and meaning. Checks and settings are derived
// from them here; `npm run option-types` writes their types, `npm run native-defaults` the defaults of the C entry. A configuration of a
// loss is three independent choices (ratio, surrogate, aggregation) plus a KL and an entropy term.

import { type Bounds, checkChoice, checkKeys, checkNumber, checkObject, rangeError } from '../base/check.js';
import {
  choice,
  count,
  custom,
  type Described,
  documentationOf,
  type Field,
  flag,
  number,
  omittable,
  resolveFields,
} from '../base/schema.js';
import { DeviceArray } from '../devices/device-array.js';
import type { SurrogateKind } from '../devices/reference/surrogate.js';
import {
  type AdvantageSettings,
  aggregations,
  centers,
  klEstimators,
  type LossPlan,
  ratios,
  scales,
} from '../devices/settings.js';

/** A hyperparameter of a surrogate: its range, meaning and default. Without `default` it is required. */
interface Parameter extends Bounds {
  doc: string;
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
    low: { min: 0, doc: 'The ratio is clipped below 1 − low.' },
    high: { min: 0, doc: 'The ratio is clipped above 1 + high.' },
    max: { above: 0, default: Infinity, doc: "Upper bound of the unclipped ratio: TRL's delta." },
    dual: {
      above: 1,
      default: Infinity,
      doc: 'With A < 0 the loss is at most −dual · A: dual clip (arXiv 1912.09729).',
    },
  },
  /** CISPO (arXiv 2506.13585). `high` is the upper bound itself, the lower one is 1 − low (none by default). */
  cispo: {
    high: { above: 0, doc: 'Upper bound of the ratio itself.' },
    low: { min: 0, default: Infinity, doc: 'Lower bound of the ratio: 1 − low.' },
  },
  /** SAPO (arXiv 2511.20347): a sigmoid gate with one temperature for each sign of the advantage. */
  sapo: {
    tauPositive: { above: 0, default: 1, doc: "The gate's temperature where A > 0." },
    tauNegative: { above: 0, default: 1.05, doc: "The gate's temperature elsewhere." },
  },
  /** GMPO (arXiv 2507.20673): the geometric mean of the clipped ratios; the bounds are on the log-ratio: [−low, high]. */
  gmpo: {
    low: { min: 0, doc: 'The log-ratio is clipped below −low.' },
    high: { min: 0, doc: 'The log-ratio is clipped above high.' },
  },
  /** VESPO (arXiv 2602.10693): Gamma weighting of the sequence's importance weight; the Positive parameters apply for A ≥ 0. */
  vespo: {
    kPositive: { min: 0, default: 2, doc: 'k where A ≥ 0.' },
    lambdaPositive: { min: 0, default: 3, doc: 'λ where A ≥ 0.' },
    kNegative: { min: 0, default: 3, doc: 'k where A < 0.' },
    lambdaNegative: { min: 0, default: 2, doc: 'λ where A < 0.' },
  },
  /** REINFORCE: −A ℓ. */
  reinforce: {},
} as const satisfies Record<SurrogateKind, Record<string, Parameter>>;

type Surrogates = typeof surrogateFields;
type RequiredParameters<F> = { [K in keyof F as F[K] extends { default: number } ? never : K]: number };
type OptionalParameters<F> = { [K in keyof F as F[K] extends { default: number } ? K : never]?: number };

/** One surrogate with its hyperparameters, for example `{ kind: 'clip', low: 0.2, high: 0.28 }`. */
export type Surrogate = {
  [K in SurrogateKind]: { kind: K } & RequiredParameters<Surrogates[K]> & OptionalParameters<Surrogates[K]>;
}[SurrogateKind];

const kinds = Object.keys(surrogateFields) as SurrogateKind[];

function parametersOf(kind: SurrogateKind): [name: string, field: Field<number>][] {
  return Object.entries<Parameter>(surrogateFields[kind]).map(([name, stated]) => [
    name,
    number({ ...stated, ...(stated.default === Infinity && { otherwise: 'no such bound' }) }),
  ]);
}

/** By kind: the fields of the parameters, and the names of all that may be given. */
const surrogates = new Map(
  kinds.map((kind) => {
    const parameters = parametersOf(kind);
    return [kind, { parameters, names: ['kind', ...parameters.map(([name]) => name)] }];
  }),
);

/** A parameter has one description, which says what it means for each kind that has it. */
function describeSurrogates(): Record<string, Described> {
  const described: Record<string, Described> = {
    kind: {
      type: kinds.map((kind) => `'${kind}'`).join(' | '),
      doc: 'Which surrogate; the others are its parameters.',
    },
  };
  for (const [kind, { parameters }] of surrogates) {
    for (const [name, field] of parameters) {
      const earlier = described[name] ? `${described[name].doc} ` : '';
      described[name] = { type: field.type, doc: `${earlier}\`${kind}\`: ${documentationOf(field)}` };
    }
  }
  return described;
}

const surrogate = custom<LossPlan['surrogate']>({
  type: 'Surrogate',
  imports: { Surrogate: './config.js' },
  doc: 'The objective of a token, with its parameters.',
  fields: describeSurrogates(),
  resolve: (path, given) => {
    const values = checkObject(path, given);
    const kind = checkChoice(`${path}.kind`, values.kind, kinds);
    const { parameters, names } = surrogates.get(kind)!;
    checkKeys(path, values, names);
    const resolved = new Float64Array(parameters.length);
    parameters.forEach(([name, field], i) => {
      resolved[i] = field.resolve(`${path}.${name}`, values[name]);
    });
    return { kind, parameters: resolved };
  },
});

export const klFields = {
  beta: number({ min: 0, doc: 'Coefficient; with 0 no KL is computed.' }),
  estimator: choice(klEstimators, { default: 'k3', doc: "Schulman's estimator of KL(policy ‖ reference)." }),
  importanceWeighted: flag({
    default: false,
    doc: 'Multiply by the ratio, with the gradient through it (DeepSeek-V3.2).',
  }),
  logRatioClamp: number({
    default: Infinity,
    otherwise: 'none',
    above: 0,
    doc: "Clamp of the log-ratio ℓʳ − ℓ to [−c, c], zero gradient through it outside. It bounds k3, which grows like e^c. verl's is 20, as is NeMo-RL's `kl_input_clamp_value`.",
  }),
};

const keptTokens = number({
  default: NaN,
  otherwise: 'those of this batch',
  min: 0,
  doc: 'The number of kept tokens in the whole accumulation window.',
});

export const entropyFields = {
  coefficient: number({ doc: 'The mean entropy times this is subtracted from the loss.' }),
  topQuantile: number({
    default: 1,
    above: 0,
    max: 1,
    doc: 'Keep only this fraction of the tokens, those of the highest entropy.',
  }),
  // An empty window divides by 1.
  tokens: custom<number>({ ...keptTokens, resolve: (path, given) => Math.max(1, keptTokens.resolve(path, given)) }),
  threshold: number({
    default: NaN,
    otherwise: "this batch's quantile",
    doc: 'With `topQuantile`: the global entropy threshold (nats) from which tokens are kept.',
  }),
};

/** Bounds that are off are infinite, and NaN is for the call to decide. */
export const lossFields = {
  ratio: choice(ratios, {
    default: 'token',
    doc: "Which importance ratio: per token, per sequence (GSPO), or GSPO's value with a per-token gradient (GSPO-token).",
  }),
  surrogate,
  aggregation: choice(aggregations, {
    default: 'token-mean',
    doc: 'How token losses become one number; formulas in docs/losses.md.',
  }),
  emptySequences: choice(['count', 'drop'], {
    default: 'count',
    doc: 'Whether a sequence without a masked-in token counts in B; it does in TRL, verl drops it.',
  }),
  maxLength: number({
    default: NaN,
    otherwise: 'the padded length T',
    min: 1,
    doc: 'For aggregation `constant`.',
  }),
  logRatioClamp: number({
    default: Infinity,
    otherwise: 'none',
    above: 0,
    doc: 'Clamp of the log-ratio to [−c, c], zero gradient outside.',
  }),
  offPolicyThreshold: number({
    default: Infinity,
    otherwise: 'none',
    doc: 'Off-policy sequence mask (DeepSeek-V3.2): A < 0 tokens of a sequence whose mean ℓ° − ℓ exceeds this are dropped.',
  }),
  kl: omittable(klFields, {
    type: 'KlConfig',
    doc: 'The KL term.',
    off: resolveFields(klFields, 'kl', { beta: 0 }),
    otherwise: 'none',
  }),
  entropy: omittable(entropyFields, {
    type: 'EntropyConfig',
    doc: 'The entropy term.',
    off: resolveFields(entropyFields, 'entropy', { coefficient: 0 }),
    otherwise: 'none',
  }),
};

const { surrogate: _required, ...optional } = lossFields;

/** The settings of a loss without options, apart from its surrogate; without a KL or an entropy term, what stands for it. */
export const lossDefaults: Omit<LossPlan, 'surrogate'> = resolveFields(optional, 'config', {});

/** Validates a configuration and fills in its defaults. `length` is T, the default of `maxLength`. */
export function resolveLoss(config: unknown, length: number, path = 'config'): LossPlan {
  const plan = resolveFields(lossFields, path, config);
  if (Number.isNaN(plan.maxLength)) plan.maxLength = length;
  return plan;
}

/** The limit for sequences, tokens per sequence, and vocabulary entries; their products are only bounded by memory. */
export const maxDimension = 2 ** 31 - 1;
export const dimension = count({ max: maxDimension, doc: '' });

const hadwFields = {
  // May be a DeviceArray typed as a number: only the CUDA device's own functions read it.
  anchor: custom<number>({
    type: 'number | DeviceArray | undefined',
    imports: { DeviceArray: '../devices/device-array.js' },
    doc: "The policy's level, usually `anchor.value`. With rewards in a DeviceArray it may also be a DeviceArray of one float64, which is read when the operation runs.",
    fallback: "the batch's own mean reward",
    resolve: (path, given) => {
      if (given === undefined) return NaN;
      return given instanceof DeviceArray ? (given as unknown as number) : checkNumber(path, given);
    },
  }),
  scale: number({ default: 1.3, above: 0, doc: 'λ.' }),
};

const dqwFields = {
  temperature: number({ default: 2, above: 0, doc: 'The higher, the closer to 1 all weights are.' }),
};

export const advantageFields = {
  groupSize: custom<number | undefined>({
    type: 'number',
    doc: 'Responses per prompt; the number of rewards must be a multiple of it.',
    fallback: '',
    resolve: (path, given) => (given === undefined ? undefined : dimension.resolve(path, given)),
  }),
  // Checked after the rewards, because a typed array could be detached while the caller's code runs.
  groupSizes: custom<unknown>({
    type: 'Int32Array',
    doc: 'Ragged groups: the size of each, in order; their sum is the number of rewards.',
    fallback: '',
    resolve: (_path, given) => given,
  }),
  center: choice(centers, { default: 'mean', doc: 'What is subtracted from a reward.' }),
  scale: choice(scales, {
    default: 'group-std',
    doc: 'What the difference is divided by; `group-mad` is the mean absolute deviation of the group.',
  }),
  ddof: custom<0 | 1>({
    ...(number({
      default: 1,
      min: 0,
      max: 1,
      integer: true,
      doc: 'Standard deviations divide by n − ddof.',
    }) as Field<0 | 1>),
    type: '0 | 1',
    bounds: undefined,
  }),
  epsilon: number({
    default: 1e-4,
    min: 0,
    doc: "Added to the standard or mean absolute deviation. The default is TRL's; verl's is 1e-6.",
  }),
  hadw: omittable(hadwFields, {
    doc: 'History-aware difficulty weighting (arXiv 2601.08521, eq. 13–17).',
    off: null,
    otherwise: 'none',
  }),
  dqw: omittable(dqwFields, {
    doc: "DGPO's difficulty-aware question weights (arXiv 2601.20614, eq. 11): a softmax of −mean reward / temperature over the groups with spread, times their number. Not together with `hadw`, which weights by difficulty, too.",
    off: null,
    otherwise: 'none',
  }),
};

/** Validates how advantages are computed and fills in defaults; of the sizes of groups only what does not depend on the rewards. */
export function resolveAdvantage(
  path: string,
  config: unknown,
): AdvantageSettings & { groupSize: number | undefined; groupSizes: unknown } {
  const settings = resolveFields(advantageFields, path, config);
  if (settings.hadw && settings.dqw) throw bothWeightings(`${path}.dqw`);
  return settings;
}

/** `field`: that of `dqw`. */
export function bothWeightings(field: string): RangeError {
  return rangeError(field, 'either hadw or dqw, because each weights by difficulty', 'both');
}

/** Numbers and switches of calls: options, and inputs that are not arrays. */
export const callFields = {
  temperature: number({ default: 1, min: 1e-6, doc: 'Logits are divided by it.' }),
  softCap: number({
    default: Infinity,
    otherwise: 'none',
    above: 0,
    doc: 'Logits are softCap · tanh(x / softCap) of the products x, as in Gemma 2 (`final_logit_softcapping`).',
  }),
  // 0 lets the device decide.
  threads: number({
    default: 0,
    otherwise: 'one per core',
    min: 1,
    max: 1024,
    integer: true,
    doc: 'Maximum number of threads. Results do not depend on it.',
  }),
  lossScale: number({
    default: 1,
    min: 2 ** -126,
    doc: 'The gradient is multiplied by it before it is rounded to its array\'s type; loss and metrics are not. float16 needs it with large vocabularies and denominators; a power of two keeps every bit. Divide it out again in float32 (docs/losses.md, "Loss scale"). The least, 2^-126, is the smallest normal float32.',
  }),
  gradient: flag({ default: true, doc: 'False: only the loss and its metrics.' }),
  inPlace: flag({
    default: false,
    doc: 'True: the gradient overwrites the logits and is returned in the same array.',
  }),
  zeroed: flag({
    default: false,
    doc: 'True: the given `gradLogits` holds zeros, so rows without a gradient need not be written.',
  }),
  metrics: flag({
    default: true,
    doc: 'False: rows that cannot have a gradient may be skipped, and the metrics `kl` and `entropy` are omitted.',
  }),
  chunkRows: custom<number | undefined>({
    type: 'number',
    doc: 'Rows whose logits are in memory at once, rounded up to a multiple of 128. A soft cap doubles the memory. No bit of the results depends on it.',
    fallback: 'as many as fit in 256 MiB, at least 128',
    resolve: (path, given) => (given === undefined ? undefined : dimension.resolve(path, given)),
  }),
};
