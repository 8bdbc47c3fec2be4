// Every setting of a trainer, stated once: its type, range, default and meaning. `npm run option-types` writes the types of the
// options from it. The options of loss, advantages, HA-DW and anchor are those of src/loss.

import { checkChoice, checkNumber, rangeError, typeError } from '../base/check.js';
import {
  choice,
  count,
  custom,
  type Field,
  flag,
  group,
  number,
  optional,
  resolveFields,
  type ValuesOf,
} from '../base/schema.js';
import { deviceChoices } from '../devices/devices.js';
import { klEstimators } from '../devices/settings.js';
import { checkEvaluationSampling, greedy, usualTemperature } from '../evaluation/sampling.js';
import { anchorFields } from '../loss/anchor.js';
import { advantageFields, callFields, lossFields, resolveLoss } from '../loss/config.js';
import type { LossConfig } from '../loss/option-types.js';
import { presets, usualPreset } from '../loss/presets.js';
import { checkStops, cutBounds } from '../rollout/engine.js';
import { engineMaximum, maxWork } from '../rollout/pass-bounds.js';
import { usualMaxTokens, usualPromptLength } from '../rollout/token-task.js';

const objectives = ['sum-then-normalize', 'normalize-then-sum'] as const;

const usualBetas = [0.9, 0.999] as const;

export const optimizer = group(
  {
    learningRate: number({ default: 3e-4, min: 0, doc: '' }),
    warmupSteps: count({
      default: 0,
      min: 0,
      doc: 'Updates over which the learning rate rises linearly to its full value.',
    }),
    schedule: choice(['constant', 'linear', 'cosine'], {
      default: 'constant',
      doc: 'The learning rate after the warm-up: constant, or falling to 0 at `totalSteps`.',
    }),
    totalSteps: count({
      default: null,
      otherwise: '',
      doc: 'Updates after which `linear` and `cosine` reach 0; required with those, and more than `warmupSteps`.',
    }),
    betas: custom<[number, number]>({
      type: 'readonly [number, number]',
      doc: 'Decay rates of the running means of the gradient and its square.',
      fallback: `[${usualBetas.join(', ')}]`,
      resolve: (path, given) => checkBetas(path, given ?? usualBetas),
    }),
    epsilon: number({ default: 1e-8, above: 0, doc: 'Added to the root of the mean square.' }),
    weightDecay: number({
      default: 0,
      min: 0,
      doc: 'Decoupled weight decay: each update subtracts this times the learning rate times the weight. Gains (rank 1) do not decay.',
    }),
    maxGradientNorm: number({ default: 1, above: 0, doc: 'Clips the global norm of the gradient.' }),
  },
  { type: 'OptimizerOptions', refine: refineOptimizer },
);

export const warmStart = group(
  {
    steps: count({ doc: 'Maximum number of updates.' }),
    batchSize: count({ default: 32, doc: 'Solutions per update.' }),
    until: number({
      default: null,
      otherwise: 'no early stop',
      above: 0,
      max: 1,
      doc: 'Stops early when this share of `problems` is right under greedy decoding.',
    }),
    every: count({ default: 25, doc: 'Updates between two checks of `until`.' }),
    problems: count({
      default: 128,
      doc: 'Problems per check, taken after those that the warm start may learn from.',
    }),
    optimizer,
  },
  {
    type: 'WarmStartOptions',
    doc: "Supervised fine-tuning on the task's own solutions before the first step of reinforcement.",
  },
);

/** As in TRL. */
const usualClipMax = 3;

/** How importance weights are bounded: TRL's names. */
const importanceSamplingModes = ['token_truncate', 'token_mask', 'sequence_truncate', 'sequence_mask'] as const;

/** `null` means no bound; `clipMax` has one by default. */
export const importanceSampling = group(
  {
    correction: flag({
      default: true,
      doc: "With false there are no weights, and the engine's log-probs serve as the old log-probs of the loss.",
    }),
    mode: choice(importanceSamplingModes, {
      default: 'sequence_mask',
      doc: 'With `token_*` each token has its own weight; with `sequence_*` all tokens of a completion have the product of theirs. `*_truncate` bounds weights to [clipMin, clipMax]; `*_mask` sets those outside to 0.',
    }),
    clipMin: number({ default: null, otherwise: 'no lower bound', min: 0, doc: '' }),
    clipMax: custom<number | null>({
      type: 'number | null',
      doc: 'Above 0; null: no upper bound.',
      fallback: String(usualClipMax),
      resolve: (path, given = usualClipMax) => (given === null ? null : checkNumber(path, given, { above: 0 })),
    }),
  },
  {
    type: 'ImportanceSamplingOptions',
    doc: "Importance weights for completions of another engine, whose log-probs differ from the policy's own: the probability under the policy over that under the engine. They multiply the surrogate of each token (`tokenWeights`), as TRL's do.",
    refine: refineImportanceSampling,
  },
);

const text = (path: string, given: unknown): string => {
  if (typeof given !== 'string' || given === '') throw typeError(path, 'a non-empty string', given);
  return given;
};

const optionalText = (doc: string, otherwise: string, type = 'string'): Field<string | null> =>
  custom({
    type,
    doc,
    fallback: otherwise,
    resolve: (path, given) => (given === undefined || given === null ? null : text(path, given)),
  });

const dynamicSampling = group(
  {
    maxRounds: count({ doc: '' }),
    metric: optionalText(
      "What must differ within an accepted group: `reward`, `accuracy` (the task's score, as the metric of that name), or a single reward, `rewards/<name>`, which may have weight 0.",
      '`reward`',
      `'reward' | 'accuracy' | \`rewards/$\{string}\``,
    ),
    min: number({ default: null, otherwise: 'no bound', doc: 'Lowest mean of the metric over an accepted group.' }),
    max: number({ default: null, otherwise: 'no bound', doc: 'Highest mean of the metric over an accepted group.' }),
  },
  {
    refine: (values, path) => {
      const { min, max } = values;
      if (min !== null && max !== null && min > max) {
        throw rangeError(`${path}.max`, `at least min (${min})`, String(max));
      }
      return values;
    },
  },
);

/** What the trainer counts itself. */
const counted = ['tokens', 'threshold'] as const;
const { tokens: _tokens, threshold: _threshold, ...ofEntropy } = lossFields.entropy.fields;

const { groupSize: _size, groupSizes: _sizes, hadw: weighting, ...ofAdvantages } = advantageFields;

export const advantage = group(
  {
    ...ofAdvantages,
    multiObjective: custom<'normalize-then-sum' | undefined>({
      type: objectives.map((name) => `'${name}'`).join(' | '),
      doc: 'How several rewards become advantages. `sum-then-normalize`: advantages of their weighted sum. `normalize-then-sum`: GDPO (arXiv 2601.05242), `computeDecoupledAdvantages`; the rewards of a group count as different if any of them differs.',
      fallback: `\`${objectives[0]}\``,
      // Omitted if it is the default, because runs of earlier versions do not have it.
      resolve: (path, given) =>
        given !== undefined && checkChoice(path, given, objectives) === 'normalize-then-sum'
          ? 'normalize-then-sum'
          : undefined,
    }),
  },
  { type: 'AdvantageOptions', doc: 'How advantages are computed.', refine: refineAdvantage },
);

const anchor = custom<ValuesOf<typeof anchorFields> | 'none'>({
  type: "AnchorOptions | 'none'",
  imports: { AnchorOptions: '../loss/option-types.js' },
  doc: 'Its options, or `none`: then every weight is λ, a control that separates the effect of λ from that of the history.',
  fallback: '',
  fields: anchorFields,
  resolve: (path, given = {}) =>
    typeof given === 'string' ? checkChoice(path, given, ['none']) : resolveFields(anchorFields, path, given),
});

/** Examples of a task without an end that an evaluation takes, where no number is given. */
export const usualEvaluationSize = 256;

const inBillions = (value: number) => `${value / 1e9} billion`;

/** The settings of a trainer, by name. */
export const trainerFields = {
  promptsPerStep: count({ default: 16, doc: '' }),
  groupSize: count({ default: 8, min: 2, doc: 'Completions per prompt.' }),
  iterations: count({
    default: 1,
    doc: "Passes of a step over its completions (TRL's num_iterations, µ in the GRPO paper).",
  }),
  miniBatches: count({
    default: 1,
    doc: 'Updates per iteration: the completions are shuffled and divided into this many mini-batches.',
  }),
  microBatchSize: count({
    default: null,
    otherwise: 'as many as `tokensPerMicroBatch` allows',
    doc: 'Maximum completions per forward and backward pass; a mini-batch accumulates as many passes as it needs.',
  }),
  tokensPerMicroBatch: count({
    default: null,
    otherwise: `${inBillions(maxWork['forward and backward'])} divided by the number of parameters, because signals have to wait for the end of a pass; on the backend \`groupgrad\` at least ${engineMaximum.positions}, or ${inBillions(engineMaximum.work['forward and backward'])} divided by the number of parameters if that is smaller; no limit if \`microBatchSize\` is given`,
    doc: 'Maximum tokens per forward and backward pass, prompts and padding included: bounds its memory. A mini-batch is sorted by length, the longest completions first, and each pass padded to its own longest, rounded up to a multiple of 4; a single completion may be longer.',
  }),
  dynamicSampling: custom<NonNullable<ReturnType<typeof dynamicSampling.resolve>>>({
    ...dynamicSampling,
    doc: "DAPO's dynamic sampling (arXiv 2503.14476): a step samples up to `maxRounds` times `promptsPerStep` prompts, until `promptsPerStep` groups are accepted; it learns from those, and from others only if there are too few.",
    fallback: 'none',
    resolve: (path, given) => dynamicSampling.resolve(path, given ?? { maxRounds: 1 }),
  }),
  maxStaleness: custom<number | null>({
    type: 'number',
    doc: "How many steps early the completions of a step are begun, by the weights of that time, while the steps before it train. With 0 each step waits for its own. Only with a `rollout` engine that keeps earlier weights, such as `vllm` and `sglang`: the policy's own sampler cannot sample while it trains. Only 0 with several processes (`communicator`).",
    fallback: '0',
    // Null where it is the default: runs that earlier versions began do not have it.
    resolve: (path, given) => checkNumber(path, given ?? 0, { min: 0, integer: true }) || null,
  }),
  zeroStdGroups: custom<'drop' | null>({
    type: "'count' | 'drop'",
    doc: "Groups whose rewards are all equal have no advantage. `count`: their tokens and sequences still count in the denominators of the loss, and in its KL and entropy terms. `drop`: they are left out of the loss, unless all groups of a step are like that. Needs an `advantage.center` other than 'none'.",
    fallback: '`count`',
    // Null if it is the default, because runs of earlier versions do not have it.
    resolve: (path, given) =>
      (given ?? undefined) !== undefined && checkChoice(path, given, ['count', 'drop']) === 'drop' ? 'drop' : null,
  }),
  maskTruncated: flag({ default: false, doc: 'Leave truncated completions out of the loss.' }),
  shuffle: flag({ default: true, doc: 'Shuffle the examples of a finite task, in a new order each epoch.' }),
  loss: custom<LossConfig>({
    type: 'LossConfig',
    imports: { LossConfig: '../loss/option-types.js' },
    doc: '',
    fallback: `\`presets.${usualPreset}\``,
    fields: {
      ...lossFields,
      maxLength: { ...lossFields.maxLength, fallback: '`sampling.maxTokens`' },
      entropy: { ...lossFields.entropy, fields: ofEntropy },
    },
    resolve: (path, given) => resolveLossOption(path, given ?? presets[usualPreset]),
  }),
  advantage,
  hadw: optional(
    group(
      { scale: weighting.fields.scale, anchor },
      {
        doc: 'History-aware difficulty weighting: λ, and the anchor, which observes every sampled completion.',
      },
    ),
    'none',
  ),
  klReward: optional(
    group(
      {
        beta: number({ above: 0, doc: '' }),
        estimator: choice(klEstimators, { default: 'k1', doc: '' }),
      },
      {
        doc: "The KL divergence from the reference policy (the policy before reinforcement) as one more reward, with the name `kl` and the weight −`beta`: the sum over a completion's tokens of the estimator at the policy that sampled it. It makes the rewards of a group differ almost always, so dynamic sampling then needs a `metric`.",
      },
    ),
    'none',
  ),
  sampling: group(
    {
      temperature: { ...callFields.temperature, doc: 'The loss uses the same.' },
      maxTokens: count({
        default: null,
        otherwise: `the number of characters of the task's longest solution plus the end token; ${usualMaxTokens} if the task does not say`,
        doc: 'Maximum length of a completion in tokens, its end token included.',
      }),
      promptLength: count({
        default: null,
        otherwise: `the task's longest prompt for a character-level policy if the task says it, else ${usualPromptLength}`,
        doc: 'Maximum length of a prompt in tokens.',
      }),
      maxLogProbDifference: number({
        default: 0.1,
        above: 0,
        doc: 'Log-probs of the sampler are compared with those of the loss before the first update of a step; a larger difference than this is an error. With `rollout` a larger difference is a warning, and nothing for completions of older weights (`maxStaleness`). On the backend groupgrad any difference is an error if the policy `decodesExactly`.',
      }),
      topP: number({
        default: null,
        otherwise: 'no truncation',
        ...cutBounds.topP,
        doc: 'Truncates the distribution that training samples from to the fewest tokens whose probability reaches this, of those that `topK` leaves. The kept tokens are stored with each completion, and log-probs, ratios, KL and entropies are those of the distribution over them. Evaluations are not affected.',
      }),
      topK: number({
        default: null,
        otherwise: 'no truncation',
        ...cutBounds.topK,
        doc: 'Truncates the distribution, as `topP` does, to this many most likely tokens.',
      }),
      minP: number({
        default: null,
        otherwise: 'no truncation',
        ...cutBounds.minP,
        doc: 'Truncates the distribution, after `topK` and `topP`, to tokens at least this many times as likely as the most likely.',
      }),
      stopTokens: custom<readonly number[] | null>({
        type: 'readonly number[]',
        doc: 'Ids that end a completion like the end tokens of the policy.',
        fallback: 'none',
        resolve: (path, given) => stops(path, 'stopTokens', given) as readonly number[] | null,
      }),
      stopTexts: custom<readonly string[] | null>({
        type: 'readonly string[]',
        doc: 'A completion ends with the token that completes one of these texts, which stays part of it.',
        fallback: 'none',
        resolve: (path, given) => stops(path, 'stopTexts', given) as readonly string[] | null,
      }),
    },
    {},
  ),
  importanceSampling: optional(importanceSampling, 'weights with the defaults below; only with `rollout`'),
  optimizer,
  warmStart: optional(warmStart, 'none'),
  evaluation: group(
    {
      every: count({ default: 50, doc: 'Steps between two evaluations.' }),
      size: count({
        default: null,
        otherwise: `all of a finite task, ${usualEvaluationSize} of an infinite one`,
        doc: 'Maximum number of examples per task; those of a finite task are spread evenly over it.',
      }),
      atStart: flag({ default: true, doc: 'Also evaluate before the first step.' }),
      samples: count({
        default: greedy.samples,
        doc: 'Completions per problem. With several, pass@k, the majority vote and the truncated share are reported too.',
      }),
      temperature: number({
        default: null,
        otherwise: `${usualTemperature(1)} (greedy) for one completion per problem, else ${usualTemperature(2)}`,
        min: 0,
        doc: '',
      }),
      topP: number({
        default: greedy.topP,
        above: 0,
        max: 1,
        doc: 'Nucleus sampling: the probability mass that tokens are drawn from.',
      }),
    },
    {
      refine: ({ temperature, ...values }, path) =>
        checkEvaluationSampling(`${path}.`, {
          ...values,
          temperature: temperature ?? usualTemperature(values.samples),
        }),
    },
  ),
  seed: count({ default: 0, min: 0, doc: '' }),
  device: choice(deviceChoices, { default: 'auto', doc: 'Device of the loss.' }),
  checkpoint: group(
    {
      every: count({ default: 50, doc: 'Steps between two checkpoints.' }),
      keepLast: count({ default: 2, doc: 'How many of the newest checkpoints are kept.' }),
      keepEvery: count({
        default: null,
        otherwise: 'none',
        doc: 'Also keep the checkpoints of every multiple of this many steps.',
      }),
      keepBest: optionalText(
        'A metric, such as `eval/hard/accuracy`: the step in which it is highest so far is saved and kept.',
        'none',
      ),
      warmStartSeconds: number({
        default: 30,
        min: 0,
        doc: 'Seconds between two checkpoints of the warm start; 0 saves after every update.',
      }),
    },
    {},
  ),
  guard: group(
    {
      action: choice(['skip', 'rollback', 'halt'], {
        default: 'skip',
        doc: 'What to do after a reward, log-prob, loss or gradient that is not finite. `skip`: discard the step and continue with the next prompts. `rollback`: continue from the newest checkpoint. `halt`: end with an error.',
      }),
      budget: count({
        default: 10,
        min: 0,
        doc: 'How many times this may happen; the next time ends the run.',
      }),
    },
    {},
  ),
  samplesPerStep: count({ default: 4, min: 0, doc: 'Completions per step that are written to samples.jsonl.' }),
};

/** The settings of a run, defaults filled in: plain JSON, as config.json holds it. */
export type Settings = ValuesOf<typeof trainerFields>;

function refineOptimizer<O extends { schedule: string; totalSteps: number | null; warmupSteps: number }>(
  values: O,
  path: string,
): O {
  const { schedule, totalSteps, warmupSteps } = values;
  if (totalSteps !== null) checkNumber(`${path}.totalSteps`, totalSteps, { min: warmupSteps + 1, integer: true });
  if ((totalSteps === null) !== (schedule === 'constant')) {
    const expected =
      schedule === 'constant' ? `nothing with schedule 'constant'` : `a count with schedule '${schedule}'`;
    throw typeError(`${path}.totalSteps`, expected, totalSteps ?? undefined);
  }
  return values;
}

function refineImportanceSampling<O extends { mode: string; clipMin: number | null; clipMax: number | null }>(
  values: O,
  path: string,
): O {
  const { mode, clipMin, clipMax } = values;
  if (clipMin !== null && clipMax !== null && clipMin >= clipMax) {
    throw rangeError(`${path}.clipMin`, `a number below clipMax (${clipMax})`, String(clipMin));
  }
  if (mode.endsWith('_truncate') && clipMin === null && clipMax === null) {
    throw rangeError(`${path}.clipMax`, `a bound with mode '${mode}'`, 'null without a clipMin');
  }
  return values;
}

function checkBetas(path: string, value: unknown): [number, number] {
  if (!Array.isArray(value) || value.length !== 2) throw typeError(path, 'two numbers', value);
  const [first, second] = value.map((beta, i) => {
    const checked = checkNumber(`${path}[${i}]`, beta, { min: 0 });
    if (checked >= 1) throw rangeError(`${path}[${i}]`, 'a number below 1', String(checked));
    return checked;
  });
  return [first, second];
}

function stops(path: string, name: 'stopTokens' | 'stopTexts', given: unknown): unknown {
  const value = given ?? null;
  checkStops(path.slice(0, -name.length), { stopTokens: null, stopTexts: null, [name]: value });
  return value;
}

function resolveLossOption(path: string, given: unknown): LossConfig {
  resolveLoss(given, 1, path);
  const { entropy } = given as LossConfig;
  for (const name of counted) {
    const value = entropy?.[name];
    if (value !== undefined)
      throw typeError(`${path}.entropy.${name}`, 'nothing, because the trainer counts them itself', value);
  }
  return JSON.parse(JSON.stringify(given)) as LossConfig;
}

function refineAdvantage(
  {
    dqw,
    multiObjective,
    ...values
  }: ValuesOf<typeof ofAdvantages> & { multiObjective: 'normalize-then-sum' | undefined },
  path: string,
) {
  if (multiObjective && values.center === 'none') {
    throw rangeError(`${path}.center`, `'mean' or 'leave-one-out' with multiObjective 'normalize-then-sum'`, `'none'`);
  }
  return { ...values, ...(dqw && { dqw }), ...(multiObjective && { multiObjective }) };
}
