// The table of metrics: what each number that a run records means, its unit, how the values of a step's parts combine, and where
// a report shows it. A new metric needs its line here, and the code that computes it.

/**
 * What a metric is a mean of: one weight for each of these in a part. `ratios` and `clips`: a sequence-level ratio is one ratio, and
 * clipped as one, unless tokens are (src/train/metrics.ts). `weights`: VESPO's φ, of sequences or of tokens.
 */
export type MeanOver = 'tokens' | 'ratios' | 'clips' | 'weights' | 'updates';

/** How the values of parts make that of the whole: parts without a token have no minimum and no maximum. */
export type Combination = 'sum' | 'min' | 'max' | MeanOver;

/** A chart of a report. */
export interface MetricChart {
  section: string;
  /** With `<evaluation>`: a chart for each evaluation. */
  title: string;
  subtitle?: string;
  note?: string;
  /** Values that the y axis must contain. */
  yIncludes?: readonly number[];
  /** Its lines are levels of difficulty. */
  ordered?: boolean;
}

const share = [0, 1];

/** The charts of a report, by section, in order; each draws the metrics that name it. */
export const charts = {
  reward: { section: 'Reward', title: 'Reward', subtitle: 'Mean over all completions of a step' },
  rewardStd: { section: 'Reward', title: 'Spread of the reward', subtitle: 'Standard deviation' },
  equalGroups: {
    section: 'Reward',
    title: 'Share of groups without a gradient',
    subtitle: 'All rewards of the group are equal',
    yIncludes: share,
  },
  resampled: {
    section: 'Reward',
    title: 'Groups sampled again',
    subtitle: 'Groups of a step beyond promptsPerStep',
    note:
      'Dynamic sampling draws further rounds of prompts, up to maxRounds, while too few groups have rewards that ' +
      'differ: a group whose rewards are all equal has no gradient. The update takes groups with a gradient first.',
    yIncludes: [0],
  },
  accuracy: { section: 'Accuracy', title: 'Accuracy', subtitle: 'In training and in evaluation', yIncludes: share },
  trainingDifficulty: {
    section: 'Accuracy',
    title: 'Accuracy by difficulty, in training',
    yIncludes: share,
    ordered: true,
  },
  evaluationDifficulty: {
    section: 'Accuracy',
    title: 'Accuracy by difficulty, <evaluation>',
    yIncludes: share,
    ordered: true,
  },
  entropy: { section: 'Policy', title: 'Entropy', subtitle: 'Nats per token', yIncludes: [0] },
  kl: {
    section: 'Policy',
    title: 'KL divergence from the reference policy',
    subtitle: 'Nats per token',
    yIncludes: [0],
  },
  clipped: {
    section: 'Policy',
    title: 'Clipped tokens',
    subtitle: 'Share of all tokens; dashed: the extremes',
    yIncludes: [0],
  },
  logProbDifference: {
    section: 'Policy',
    title: 'Log-probs of sampler and policy',
    subtitle: 'Absolute difference, nats per token',
    yIncludes: [0],
  },
  anchor: {
    section: 'HA-DW',
    title: 'Difficulty anchor',
    subtitle: 'The belief about how often the policy is right, beside the reward',
  },
  hadwWeights: { section: 'HA-DW', title: 'Weights of advantages', subtitle: 'Mean; band: smallest to largest' },
  loss: { section: 'Optimisation', title: 'Loss' },
  gradient: {
    section: 'Optimisation',
    title: 'Norm of the gradient',
    subtitle: 'Before clipping',
    yIncludes: [0],
  },
  learningRate: { section: 'Optimisation', title: 'Learning rate', yIncludes: [0] },
  length: {
    section: 'Completions',
    title: 'Length',
    subtitle: 'Tokens; mean; band: shortest to longest',
    yIncludes: [0],
  },
  truncated: { section: 'Completions', title: 'Share of truncated completions', yIncludes: [0] },
  time: { section: 'Time', title: 'Time of a step', subtitle: 'Seconds', yIncludes: [0] },
  speed: { section: 'Time', title: 'Tokens per second', yIncludes: [0] },
} as const satisfies Record<string, MetricChart>;

export type ChartName = keyof typeof charts;

/** A line of a chart. */
export interface MetricLine {
  chart: ChartName;
  /** In the legend; placeholders stand for their values. */
  name: string;
  /** The metrics at the ends of its band. */
  low?: string;
  high?: string;
  /** Dashed lines follow the others, and are drawn beside those alone. */
  dashed?: boolean;
  /** Default: by its place in the chart. */
  color?: number;
  /** Drawn only if there are several metrics of this family. */
  several?: boolean;
}

/** Who computes it: the advantages or the loss of a call or a step, the trainer, an evaluation, or the clock. */
export type MetricSource = 'advantages' | 'loss' | 'trainer' | 'evaluation' | 'clock';

export interface Metric {
  /** Those of the clock are in timing.jsonl, all others in metrics.jsonl. */
  source: MetricSource;
  /** `share`: from 0 to 1. `1`: without a unit. */
  unit: string;
  /** What it means, as Markdown. */
  doc: string;
  /**
   * How it combines over the micro-batches of an update, unless the update computes it, and over the updates of a step. Left out of
   * metrics that are computed once, of all completions of a step.
   */
  combine?: { microBatches?: Combination; updates: Combination };
  /** Where a report draws it. Metrics that no chart draws have charts of their own, in the section "Other metrics". */
  lines?: readonly MetricLine[];
  /** Where else a report shows it, in place of a chart. */
  shownIn?: string;
  /** Whether it has a row in a report's summary. */
  summary?: boolean;
  /** The label of its tile at the top of a report. */
  tile?: string;
  /** Measured now and then, such as by evaluations: a step that lacks it is no sign of a wrong name. */
  occasional?: boolean;
  /** It is part of the time that this metric measures. */
  within?: string;
}

const combining = (combination: Combination) => ({ microBatches: combination, updates: combination });

/**
 * All metrics by name. A name with placeholders, such as `rewards/<reward>/mean`, stands for a family. Their order is that of
 * reports and docs/metrics.md.
 */
export const metrics = {
  reward: {
    source: 'advantages',
    unit: 'reward',
    doc: 'Mean over all completions with a verdict.',
    lines: [
      { chart: 'reward', name: 'reward' },
      { chart: 'anchor', name: 'reward', dashed: true, color: 6 },
    ],
    summary: true,
    tile: 'Reward',
  },
  reward_std: {
    source: 'advantages',
    unit: 'reward',
    doc: 'Their standard deviation (ddof 1).',
    lines: [{ chart: 'rewardStd', name: 'reward' }],
  },
  'rewards/<reward>/mean': {
    source: 'trainer',
    unit: 'reward',
    doc: 'Mean of one reward over the completions to which it applies, without its weight.',
    lines: [{ chart: 'reward', name: '<reward>', several: true }],
  },
  'rewards/<reward>/std': {
    source: 'trainer',
    unit: 'reward',
    doc: 'Its standard deviation (ddof 1).',
    lines: [{ chart: 'rewardStd', name: '<reward>', several: true }],
  },
  accuracy: {
    source: 'trainer',
    unit: 'share',
    doc: "Mean of the task's score over all completions, sampled as in training.",
    lines: [{ chart: 'accuracy', name: 'training' }],
    summary: true,
    tile: 'Accuracy in training',
  },
  'accuracy/<difficulty>': {
    source: 'trainer',
    unit: 'share',
    doc: 'The same for problems of one difficulty.',
    lines: [{ chart: 'trainingDifficulty', name: '<difficulty>' }],
    occasional: true,
  },
  'eval/<evaluation>/accuracy': {
    source: 'evaluation',
    unit: 'share',
    doc: "Mean of the task's score in an evaluation: greedy, or over several samples per problem.",
    lines: [{ chart: 'accuracy', name: '<evaluation>' }],
    summary: true,
    tile: 'Accuracy, <evaluation>',
    occasional: true,
  },
  'eval/<evaluation>/accuracy/<difficulty>': {
    source: 'evaluation',
    unit: 'share',
    doc: 'The same for problems of one difficulty.',
    lines: [{ chart: 'evaluationDifficulty', name: '<difficulty>' }],
    occasional: true,
  },
  'eval/<evaluation>/pass@<k>': {
    source: 'evaluation',
    unit: 'share',
    doc: 'With several samples per problem: the probability that at least one of k is right ([evaluation.md](evaluation.md)).',
    occasional: true,
  },
  'eval/<evaluation>/maj@<k>': {
    source: 'evaluation',
    unit: 'share',
    doc: 'With several samples per problem: the share of problems whose most frequent answer is right.',
    occasional: true,
  },
  'eval/<evaluation>/truncated': {
    source: 'evaluation',
    unit: 'share',
    doc: 'With several samples per problem: the share of truncated completions.',
    occasional: true,
  },
  frac_reward_zero_std: {
    source: 'advantages',
    unit: 'share',
    doc: 'Share of the groups whose rewards are all equal, which have no gradient.',
    lines: [{ chart: 'equalGroups', name: 'share' }],
    summary: true,
  },
  'groups/resampled': {
    source: 'trainer',
    unit: 'groups',
    doc: 'Groups that further rounds of dynamic sampling added to the `promptsPerStep` of a step.',
    lines: [{ chart: 'resampled', name: 'groups' }],
  },
  entropy: {
    source: 'loss',
    unit: 'nats per token',
    doc: 'Mean entropy over all tokens that count. Omitted with `metrics: false`, which allows rows without a gradient to be skipped.',
    combine: combining('tokens'),
    lines: [{ chart: 'entropy', name: 'entropy' }],
    summary: true,
  },
  kl: {
    source: 'loss',
    unit: 'nats per token',
    doc: 'With a KL term: the mean of its estimator over all tokens that count. Omitted with `metrics: false`.',
    combine: combining('tokens'),
    lines: [{ chart: 'kl', name: 'KL' }],
    summary: true,
  },
  approx_kl: {
    source: 'loss',
    unit: 'nats per token',
    doc: 'Mean of −δ, which estimates KL(policy that sampled ‖ policy).',
    combine: combining('tokens'),
  },
  'clip_ratio/region_mean': {
    source: 'loss',
    unit: 'share',
    doc: 'clip and gmpo: share of the tokens whose ratio is clipped, below or above; of sequences, for a sequence-level ratio with one advantage per sequence.',
    combine: combining('clips'),
    lines: [{ chart: 'clipped', name: 'either', color: 0 }],
  },
  'clip_ratio/low_mean': {
    source: 'loss',
    unit: 'share',
    doc: 'The part of it that is clipped below, with A < 0.',
    combine: combining('clips'),
    lines: [{ chart: 'clipped', name: 'below', color: 1 }],
  },
  'clip_ratio/high_mean': {
    source: 'loss',
    unit: 'share',
    doc: 'The part of it that is clipped above, with A > 0.',
    combine: combining('clips'),
    lines: [{ chart: 'clipped', name: 'above', color: 2 }],
  },
  'clip_ratio/low_min': {
    source: 'loss',
    unit: 'share',
    doc: 'The smallest share of a sequence that is clipped below; of sequences with a token that counts.',
    combine: combining('min'),
    lines: [{ chart: 'clipped', name: 'below, least', color: 1, dashed: true }],
  },
  'clip_ratio/high_max': {
    source: 'loss',
    unit: 'share',
    doc: 'The largest share of a sequence that is clipped above; of sequences with a token that counts.',
    combine: combining('max'),
    lines: [{ chart: 'clipped', name: 'above, most', color: 2, dashed: true }],
  },
  cispo_clip_ratio: {
    source: 'loss',
    unit: 'share',
    doc: 'cispo: share with ρ > `high` and A > 0, of what `clip_ratio/*` counts.',
    combine: combining('clips'),
  },
  'vespo/phi_seq_mean': {
    source: 'loss',
    unit: '1',
    doc: 'vespo: mean φ of the sequences; of the tokens, where each has its own advantage.',
    combine: combining('weights'),
  },
  'ratio/mean': {
    source: 'loss',
    unit: '1',
    doc: 'Mean of the importance ratios; a sequence-level ratio counts once per sequence.',
    combine: combining('ratios'),
  },
  'ratio/min': { source: 'loss', unit: '1', doc: 'The smallest of them.', combine: combining('min') },
  'ratio/max': { source: 'loss', unit: '1', doc: 'The largest of them.', combine: combining('max') },
  'sampling/log_prob_difference_mean': {
    source: 'trainer',
    unit: 'nats',
    doc: 'Mean absolute difference between the log-probs of the sampler and those of the loss before the first update.',
    lines: [{ chart: 'logProbDifference', name: 'mean' }],
  },
  'sampling/log_prob_difference_max': {
    source: 'trainer',
    unit: 'nats',
    doc: 'The largest of these differences.',
    lines: [{ chart: 'logProbDifference', name: 'largest' }],
  },
  'sampling/importance_weight_mean': {
    source: 'trainer',
    unit: '1',
    doc: 'With `rollout`: mean of the importance weights of tokens ([rollout.md](rollout.md#mismatch)).',
  },
  'sampling/importance_weight_min': { source: 'trainer', unit: '1', doc: 'The smallest of them.' },
  'sampling/importance_weight_max': { source: 'trainer', unit: '1', doc: 'The largest of them.' },
  'sampling/importance_weight_clipped': {
    source: 'trainer',
    unit: 'share',
    doc: 'Share of the tokens whose weight was bounded or set to 0.',
  },
  'sampling/staleness_mean': {
    source: 'trainer',
    unit: 'steps',
    doc: 'With `maxStaleness`: how many steps older the weights are that sampled a completion, over completions.',
  },
  'sampling/staleness_max': { source: 'trainer', unit: 'steps', doc: 'The largest of them.' },
  loss: {
    source: 'loss',
    unit: '1',
    doc: 'The loss. Losses of micro-batches have the denominators of their update, so that they add up.',
    combine: { microBatches: 'sum', updates: 'tokens' },
    lines: [{ chart: 'loss', name: 'loss' }],
    summary: true,
  },
  grad_norm: {
    source: 'trainer',
    unit: '1',
    doc: 'Global norm of the gradient before it is clipped.',
    combine: { updates: 'updates' },
    lines: [{ chart: 'gradient', name: 'norm' }],
    summary: true,
  },
  learning_rate: {
    source: 'trainer',
    unit: '1',
    doc: 'Learning rate of the update.',
    combine: { updates: 'updates' },
    lines: [{ chart: 'learningRate', name: 'rate' }],
  },
  'hadw/anchor': {
    source: 'advantages',
    unit: 'reward',
    doc: 'With HA-DW: the anchor that the weights were computed with.',
    lines: [{ chart: 'anchor', name: 'anchor' }],
    summary: true,
  },
  'hadw/weight_mean': {
    source: 'advantages',
    unit: '1',
    doc: 'Mean of the weights Φ of completions with a verdict.',
    lines: [{ chart: 'hadwWeights', name: 'weight', low: 'hadw/weight_min', high: 'hadw/weight_max' }],
  },
  'hadw/weight_min': { source: 'advantages', unit: '1', doc: 'The smallest of them.' },
  'hadw/weight_max': { source: 'advantages', unit: '1', doc: 'The largest of them.' },
  'dqw/weight_mean': {
    source: 'advantages',
    unit: '1',
    doc: "Mean of DGPO's question weights of completions with a verdict.",
  },
  'dqw/weight_min': { source: 'advantages', unit: '1', doc: 'The smallest of them.' },
  'dqw/weight_max': { source: 'advantages', unit: '1', doc: 'The largest of them.' },
  'completions/mean_length': {
    source: 'trainer',
    unit: 'tokens',
    doc: 'Mean length of the completions, end token included.',
    lines: [{ chart: 'length', name: 'tokens', low: 'completions/min_length', high: 'completions/max_length' }],
    summary: true,
  },
  'completions/min_length': { source: 'trainer', unit: 'tokens', doc: 'The shortest length.' },
  'completions/max_length': { source: 'trainer', unit: 'tokens', doc: 'The longest length.' },
  'completions/clipped_ratio': {
    source: 'trainer',
    unit: 'share',
    doc: 'Share of the completions that reached their limit without an end: they are truncated.',
    lines: [{ chart: 'truncated', name: 'share' }],
    summary: true,
  },
  tokens: {
    source: 'loss',
    unit: 'tokens',
    doc: 'Of a loss, the tokens that count (masked in). In metrics.jsonl, the tokens that were sampled in the step.',
    combine: combining('sum'),
  },
  nonFinite: {
    source: 'loss',
    unit: 'values',
    doc: 'How many values are not finite ([losses.md](losses.md#metrics)). Not recorded: the guard stops such a step.',
    combine: combining('sum'),
  },
  'guard/skipped': {
    source: 'trainer',
    unit: '0 or 1',
    doc: '1 for a step that the guard skipped, which has no other metrics.',
  },
  'health/<condition>': {
    source: 'trainer',
    unit: '0 or 1',
    doc: '1 for a step in which the condition of a [warning](trainer.md#when-a-run-does-not-learn) holds.',
    shownIn: 'Warnings',
  },
  'time/sampling': {
    source: 'clock',
    unit: 'seconds',
    doc: 'Sampling of the completions.',
    lines: [{ chart: 'time', name: 'sampling' }],
  },
  'time/rewards': {
    source: 'clock',
    unit: 'seconds',
    doc: 'Scores and rewards, without what they do [during sampling](trainer.md#rewards-during-sampling).',
    lines: [{ chart: 'time', name: 'rewards' }],
  },
  'time/waiting': {
    source: 'clock',
    unit: 'seconds',
    doc: "With several trainers: how long process 0 waited for the others' completions.",
    lines: [{ chart: 'time', name: 'waiting' }],
  },
  'time/advantages': {
    source: 'clock',
    unit: 'seconds',
    doc: 'Advantages, and the choice of groups.',
    lines: [{ chart: 'time', name: 'advantages' }],
  },
  'time/forward_backward': {
    source: 'clock',
    unit: 'seconds',
    doc: 'Forward and backward passes, the loss included.',
    lines: [{ chart: 'time', name: 'forward and backward' }],
  },
  'time/loss': {
    source: 'clock',
    unit: 'seconds',
    doc: 'The loss from the logits or the hidden states on.',
    lines: [{ chart: 'time', name: 'loss' }],
    within: 'time/forward_backward',
  },
  'time/optimizer': {
    source: 'clock',
    unit: 'seconds',
    doc: 'Updates of the weights.',
    lines: [{ chart: 'time', name: 'optimiser' }],
  },
  'time/engine_update': {
    source: 'clock',
    unit: 'seconds',
    doc: 'With `rollout`: giving the weights to the engine.',
    lines: [{ chart: 'time', name: 'engine_update' }],
  },
  sampled_ahead: {
    source: 'clock',
    unit: 'seconds',
    doc: 'With `maxStaleness`: how long completions were sampled before their step waited for them; `time/sampling` is the wait.',
  },
  'time/step': {
    source: 'clock',
    unit: 'seconds',
    doc: 'The whole step, without evaluations.',
    shownIn: 'Time',
  },
  time: {
    source: 'clock',
    unit: 'seconds',
    doc: 'Since the run began, across resumptions.',
    shownIn: 'Time',
  },
  tokens_per_second: {
    source: 'clock',
    unit: 'tokens per second',
    doc: 'Sampled tokens over `time/step`.',
    lines: [{ chart: 'speed', name: 'tokens per second' }],
  },
  event_loop_blocked: {
    source: 'clock',
    unit: 'seconds',
    doc: 'The longest time in the step during which a signal had to wait.',
  },
} as const satisfies Record<string, Metric>;

/** A metric, or a family of metrics. */
export type MetricName = keyof typeof metrics;

/** What a placeholder stands for. Rewards and evaluations have names of letters, digits and any of _ . - */
const placeholders: Readonly<Record<string, string>> = {
  reward: '.+',
  evaluation: '[^/]+',
  difficulty: '-?\\d+(?:\\.\\d+)?(?:e[+-]?\\d+)?',
  k: '\\d+',
  condition: '.+',
};

/** The families, with what their names match; no name matches two of them. */
const families = Object.keys(metrics)
  .filter((name) => name.includes('<'))
  .map((name) => {
    const pattern = name.replaceAll(/<(\w+)>/g, (_, placeholder) => `(?<${placeholder}>${placeholders[placeholder]})`);
    return { name: name as MetricName, pattern: new RegExp(`^${pattern}$`) };
  });

export interface FoundMetric {
  /** As in the table. */
  name: MetricName;
  metric: Metric;
  /** What its placeholders stand for, by name. */
  values: Readonly<Record<string, string>>;
}

/** What the table says of a recorded name; undefined for one that is not in it. */
export function findMetric(recorded: string): FoundMetric | undefined {
  if (Object.hasOwn(metrics, recorded) && !recorded.includes('<')) {
    const name = recorded as MetricName;
    return { name, metric: metrics[name], values: {} };
  }
  for (const { name, pattern } of families) {
    const match = pattern.exec(recorded);
    if (match) return { name, metric: metrics[name], values: { ...match.groups } };
  }
  return undefined;
}

/** Those of some recorded names that are of a metric or a family, in order. */
export function recordedAs(name: MetricName, recorded: Iterable<string>): string[] {
  return [...recorded].filter((one) => findMetric(one)?.name === name);
}

/** A text with placeholders replaced by their values. */
export function fillIn(text: string, values: FoundMetric['values']): string {
  return text.replaceAll(/<(\w+)>/g, (placeholder, name) => values[name] ?? placeholder);
}
