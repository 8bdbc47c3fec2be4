// Warnings of a run that does not learn, or learns something else than right answers, while it is at work. They depend on
// the metrics of its steps alone, and their state is part of a checkpoint: a run that goes on warns as if it had not stopped.

import type { MetricName } from '../base/metrics.js';
import { mean, variance } from '../base/statistics.js';
import type { Metrics } from '../devices/plan.js';
import type { Health, WatchedMetrics } from '../run/state.js';

/** Windows and thresholds of all warnings. docs/trainer.md says what each is for. */
export const healthLimits = {
  /** Steps that means are taken over, that a condition must last before it is reported, and be gone before it is reported again. */
  window: 10,
  /** The first steps of a run, with which later ones are compared. */
  start: 5,
  /** Share of skipped steps. */
  skipped: 0.5,
  /** Share of right completions from which there is nothing left to learn, and a constant reward is no fault. */
  solved: 0.99,
  /** A rise of the reward: in standard deviations of single rewards, and in standard errors of the difference of means. */
  rewardRise: 0.25,
  standardErrors: 3,
  /** A rise of the accuracy that counts as one; it must also be more than two standard errors. */
  accuracyRise: 0.02,
  /** Accuracy from which it can hardly rise any more. */
  accuracyCeiling: 0.95,
  /** A fall of the accuracy from its best: by so much, and below this share of it. */
  accuracyFall: 0.2,
  accuracyShare: 0.5,
  /** Share of the first completions' length. */
  length: 0.5,
  /** Share of truncated completions: near 1, and a rise of it. */
  truncated: 0.9,
  truncatedRise: 0.25,
  /** Share of the first steps' entropy, where less than half of the completions are right. */
  entropy: 0.05,
  entropyAccuracy: 0.5,
  /** Nats per token. */
  kl: 1,
  /** Share of tokens whose ratio is clipped. */
  clipped: 0.5,
} as const;

/** What warnings need to know of a run besides its metrics. */
export interface HealthContext {
  /** Completions of a step without resampled groups, and of a group. */
  completions: number;
  groupSize: number;
  rewards: readonly { name: string; weight: number }[];
  /** Whether equal rewards of a group are advantages of 0. */
  isCentered: boolean;
  hasWarmStart: boolean;
  /** Tokens of a completion at most. */
  maxTokens: number;
  /** Updates per step. */
  updatesPerStep: number;
  /** Updates after which the learning rate is 0; null: none. */
  totalUpdates: number | null;
  /** The largest difference between log-probs of another rollout engine and the policy's; null: the policy samples itself. */
  maxLogProbDifference: number | null;
}

export interface HealthResult {
  health: Health;
  /** `health/<name>`: 1 for each condition that holds; none for a run in good health. */
  metrics: Metrics;
  /** The warnings that begin with this step. */
  warnings: string[];
}

export function newHealth(): Health {
  return { learned: 0, made: 0, first: [], recent: [], bestAccuracy: null, warnings: {} };
}

/** The warnings in effect, in the order in which they began. */
export function warningsOf({ warnings }: Health): string[] {
  return Object.values(warnings).map(({ text }) => text);
}

/** Looks at a step's metrics. Changes nothing that it is given. */
export function observeHealth(before: Health, step: number, metrics: Metrics, context: HealthContext): HealthResult {
  const { window, start } = healthLimits;
  const row = watch(metrics, context);
  const recent = [...before.recent, row].slice(-window);
  const made = before.made + Number(!isSkipped(row));
  const isFirst = !isSkipped(row) && made <= start;
  const first = isFirst ? [...before.first, row] : before.first;
  const view = new View({ ...before, made, first, recent }, context);
  const found = conditions(view);
  const warnings = { ...before.warnings };
  const begun: string[] = [];
  for (const [name, text] of Object.entries(found)) {
    if (!(name in warnings)) begun.push(`step ${step}: ${text}`);
    warnings[name] = { text: warnings[name]?.text ?? `step ${step}: ${text}`, quiet: 0 };
  }
  for (const [name, { text, quiet }] of Object.entries(warnings)) {
    if (name in found) continue;
    if (quiet + 1 >= window) delete warnings[name];
    else warnings[name] = { text, quiet: quiet + 1 };
  }
  const accuracy = recent.length === window ? view.recently('accuracy') : Number.NaN;
  const best = Math.max(accuracy, before.bestAccuracy ?? -Infinity);
  const health: Health = {
    learned: before.learned + Number(changesWeights(row)),
    made,
    first,
    recent,
    bestAccuracy: Number.isFinite(best) ? best : before.bestAccuracy,
    warnings,
  };
  const names = Object.keys(found).map((name) => [`health/${name}`, 1] as const);
  return { health, metrics: Object.fromEntries(names), warnings: begun };
}

const watched: readonly MetricName[] = [
  'accuracy',
  'clip_ratio/region_mean',
  'completions/clipped_ratio',
  'completions/mean_length',
  'entropy',
  'frac_reward_zero_std',
  'grad_norm',
  'groups/resampled',
  'guard/skipped',
  'kl',
  'learning_rate',
  'reward',
  'reward_std',
  'sampling/log_prob_difference_max',
  'sampling/staleness_max',
];

/** The metrics that warnings depend on, as JSON can hold them. */
function watch(metrics: Metrics, { rewards }: HealthContext): WatchedMetrics {
  const ofRewards = rewards.flatMap(({ name }) => [`rewards/${name}/mean`, `rewards/${name}/std`]);
  const names = [...watched, ...ofRewards].filter((name) => name in metrics);
  return Object.fromEntries(names.map((name) => [name, Number.isFinite(metrics[name]) ? metrics[name] : null]));
}

function isSkipped(row: WatchedMetrics): boolean {
  return row['guard/skipped'] === 1;
}

/** A gradient, and a learning rate to follow it with. */
function changesWeights({ grad_norm, learning_rate }: WatchedMetrics): boolean {
  return (grad_norm ?? 0) > 0 && (learning_rate ?? 0) > 0;
}

/** The steps that a condition looks at. */
class View {
  /** The newest steps, and those of them that were not skipped. */
  readonly recent: readonly WatchedMetrics[];
  private readonly made: readonly WatchedMetrics[];

  constructor(
    private readonly health: Health,
    readonly context: HealthContext,
  ) {
    this.recent = health.recent;
    this.made = health.recent.filter((row) => !isSkipped(row));
  }

  get isFull(): boolean {
    return this.recent.length === healthLimits.window;
  }

  get bestAccuracy(): number {
    return this.health.bestAccuracy ?? 0;
  }

  /** Whether the newest steps are behind the first ones, and none of them was skipped. */
  get canCompare(): boolean {
    const { window, start } = healthLimits;
    return this.made.length === window && this.health.made >= start + window;
  }

  recently(name: string): number {
    return mean(valuesOf(this.made, name));
  }

  atStart(name: string): number {
    return mean(valuesOf(this.health.first, name));
  }

  /** How far the mean has risen since the first steps, and that in standard errors. */
  rise(name: string): { difference: number; standardErrors: number } {
    const [before, now] = [valuesOf(this.health.first, name), valuesOf(this.made, name)];
    const difference = mean(now) - mean(before);
    const error = Math.sqrt(variance(before) / before.length + variance(now) / now.length);
    return { difference, standardErrors: difference / error };
  }

  /** Whether the accuracy is not above that of the first steps by more than chance would have it. */
  get hasAccuracyStayed(): boolean {
    const { difference, standardErrors } = this.rise('accuracy');
    return difference <= healthLimits.accuracyRise || standardErrors <= 2;
  }

  every(test: (row: WatchedMetrics) => boolean): boolean {
    return this.isFull && this.recent.every(test);
  }

  count(test: (row: WatchedMetrics) => boolean): number {
    return this.recent.filter(test).length;
  }
}

/** The conditions that hold, by name, with what there is to be said of them. */
function conditions(view: View): Record<string, string> {
  const found: Record<string, string> = {};
  const look = (name: string, text: string | undefined) => {
    if (text !== undefined) found[name] = text;
  };
  look('zero_learning_rate', zeroLearningRate(view));
  look('no_gradient', noGradient(view));
  // What follows from the lack of a gradient is not reported as well.
  if (!('no_gradient' in found)) {
    look('skipped', skipped(view));
    look('zero_accuracy', zeroAccuracy(view));
    if (!('zero_accuracy' in found)) look('idle_reward', idleReward(view));
    look('clipped_ratios', clippedRatios(view));
  }
  look('log_prob_difference', logProbDifference(view));
  look('truncated', truncated(view));
  look('accuracy_fall', accuracyFall(view));
  if (view.canCompare) {
    look('reward_without_accuracy', rewardWithoutAccuracy(view));
    look('length_collapse', lengthCollapse(view));
    if (!('truncated' in found)) look('length_limit', lengthLimit(view));
    look('entropy_collapse', entropyCollapse(view));
    look('kl', klBlowUp(view));
  }
  return found;
}

const { window: windowSteps } = healthLimits;

function zeroLearningRate({ recent, context: { totalUpdates, updatesPerStep } }: View): string | undefined {
  if (recent[recent.length - 1].learning_rate !== 0) return undefined;
  if (totalUpdates === null) return 'the learning rate is 0: nothing is learnt; set optimizer.learningRate';
  return (
    `the learning rate has come to its end at 0: nothing more is learnt; optimizer.totalSteps counts updates, of which ` +
    `there are ${updatesPerStep} a step: ${totalUpdates} of them are ${number(totalUpdates / updatesPerStep)} steps`
  );
}

function noGradient(view: View): string | undefined {
  const { context } = view;
  const isEqual = (row: WatchedMetrics) => row.frac_reward_zero_std === 1;
  const isIdle = (row: WatchedMetrics) =>
    isSkipped(row) || !((row.grad_norm ?? 0) > 0) || (isEqual(row) && context.isCentered);
  if (!view.every(isIdle)) return undefined;
  const skippedSteps = view.count(isSkipped);
  if (skippedSteps === windowSteps) {
    return `the guard skipped each of the last ${windowSteps} steps: nothing is learnt; faults/ holds what it caught`;
  }
  const [reward, accuracy] = [view.recently('reward'), view.recently('accuracy')];
  const lead =
    skippedSteps === 0
      ? `none of the last ${windowSteps} steps had a gradient to learn from`
      : `none of the last ${windowSteps} steps had a gradient to learn from, ${skippedSteps} were skipped by the guard`;
  if (Number.isNaN(reward)) {
    return `${lead}: no reward applied to any completion (every verdict was null); see that the rewards return numbers`;
  }
  if (view.count(isEqual) === 0) {
    return `${lead}: it was 0 although rewards differ; are all tokens masked (maskTruncated) or clipped?`;
  }
  const equal = `${lead}: in every group all rewards were equal (mean reward ${number(reward)}, ${percent(accuracy)} right)`;
  if (accuracy >= healthLimits.solved)
    return `${equal}; the task is learnt: end the run, or go on with harder problems`;
  return `${equal}; ${advice(view, accuracy)}`;
}

/** What to do about a policy that is never, or hardly ever, rewarded. */
function advice({ context: { hasWarmStart, groupSize } }: View, accuracy: number): string {
  const others = `groups larger than ${groupSize}, or a reward that also pays for coming near`;
  if (accuracy > 0) return `a problem is always right or always wrong: try other problems, ${others}`;
  if (hasWarmStart) return `try easier problems, a longer warmStart, ${others}`;
  return `a policy that is never right has nothing to reinforce: give it a warmStart, easier problems, ${others}`;
}

function skipped(view: View): string | undefined {
  const count = view.count(isSkipped);
  if (!view.isFull || count < healthLimits.skipped * windowSteps) return undefined;
  return `the guard skipped ${count} of the last ${windowSteps} steps; faults/ holds what it caught`;
}

function zeroAccuracy(view: View): string | undefined {
  if (!view.every((row) => row.accuracy === 0)) return undefined;
  const { completions, groupSize, rewards } = view.context;
  const resampled = view.recent.reduce((sum, row) => sum + (row['groups/resampled'] ?? 0), 0);
  const sampled = windowSteps * completions + resampled * groupSize;
  const lead = `none of the ${sampled} completions of the last ${windowSteps} steps was right`;
  if (view.bestAccuracy > 0) {
    return `${lead}, where ${percent(view.bestAccuracy)} were before: what is learnt is something else; go back to an earlier checkpoint`;
  }
  const paying = rewards.filter(({ weight }) => weight !== 0).map(({ name }) => `'${name}'`);
  return `${lead}: the policy learns only what else ${paying.join(', ')} may pay for; ${advice(view, 0)}`;
}

/** Of several rewards, those that say the same of every completion. */
function idleReward(view: View): string | undefined {
  const { rewards } = view.context;
  const paying = rewards.filter(({ weight }) => weight !== 0).map(({ name }) => name);
  if (paying.length < 2 || view.recently('accuracy') >= healthLimits.solved) return undefined;
  const verdict = (row: WatchedMetrics, name: string) => row[`rewards/${name}/mean`] ?? null;
  const [oldest] = view.recent;
  const isIdle = (row: WatchedMetrics, name: string) =>
    !isSkipped(row) &&
    isNegligible(row[`rewards/${name}/std`] ?? 0, verdict(oldest, name) ?? 0) &&
    isSame(verdict(row, name), verdict(oldest, name));
  const idle = paying.filter((name) => view.every((row) => isIdle(row, name)));
  if (idle.length === 0 || idle.length === paying.length) return undefined;
  const texts = idle.map((name) => {
    const value = verdict(oldest, name);
    return value === null
      ? `'${name}' applied to no completion`
      : `'${name}' was ${number(value)} for every completion`;
  });
  const others = paying.filter((name) => !idle.includes(name)).map((name) => `'${name}'`);
  return `in the last ${windowSteps} steps ${texts.join(', ')}: it teaches nothing, and all that is learnt is ${others.join(', ')}`;
}

function clippedRatios(view: View): string | undefined {
  const share = view.recently('clip_ratio/region_mean');
  if (!view.isFull || !(share >= healthLimits.clipped)) return undefined;
  return (
    `${percent(share)} of the ratios were clipped in the last ${windowSteps} steps, and have no gradient: the policy moves too far ` +
    'from the one that sampled; lower optimizer.learningRate, iterations or miniBatches'
  );
}

function logProbDifference({ recent, context: { maxLogProbDifference } }: View): string | undefined {
  const newest = recent[recent.length - 1];
  const difference = newest['sampling/log_prob_difference_max'] ?? 0;
  if (maxLogProbDifference === null || difference <= maxLogProbDifference) return undefined;
  // The policy has changed since, as it should.
  if ((newest['sampling/staleness_max'] ?? 0) > 0) return undefined;
  return (
    `the rollout engine's log-probs differ from the policy's by up to ${number(difference)}, more than ` +
    `sampling.maxLogProbDifference (${maxLogProbDifference}): see sampling/log_prob_difference_mean and the shares of importance ` +
    'weights, and whether the engine computes in a low precision'
  );
}

function truncated(view: View): string | undefined {
  const share = view.recently('completions/clipped_ratio');
  if (!view.isFull || !(share >= healthLimits.truncated)) return undefined;
  return (
    `${percent(share)} of the completions of the last ${windowSteps} steps were cut off at ${view.context.maxTokens} tokens ` +
    `(sampling.maxTokens), and score 0; allow more, or begin with a policy that ends its answers (warmStart)`
  );
}

function accuracyFall(view: View): string | undefined {
  const { accuracyFall: fall, accuracyShare } = healthLimits;
  const [best, now] = [view.bestAccuracy, view.recently('accuracy')];
  if (!view.isFull || !(best - now >= fall && now < accuracyShare * best)) return undefined;
  return (
    `accuracy has fallen from ${percent(best)} at its best to ${percent(now)} (means of ${windowSteps} steps): go back to an ` +
    'earlier checkpoint (checkpoint.keepBest keeps the best one), with a lower learning rate or a KL term'
  );
}

function rewardWithoutAccuracy(view: View): string | undefined {
  const { rewardRise, standardErrors: least, accuracyCeiling } = healthLimits;
  const { difference, standardErrors } = view.rise('reward');
  const rises = difference > rewardRise * view.atStart('reward_std') && standardErrors > least;
  if (!rises || !view.hasAccuracyStayed || view.atStart('accuracy') >= accuracyCeiling) return undefined;
  const risen = view.context.rewards
    .filter(({ name, weight }) => weight * view.rise(`rewards/${name}/mean`).difference > 0)
    .map(({ name }) => `'${name}'`);
  return (
    `the reward has risen from ${number(view.atStart('reward'))} to ${number(view.recently('reward'))} and accuracy has not ` +
    `(${change(view, 'accuracy', percent)}): the policy gets better at ${risen.join(', ') || 'the rewards'} alone; look at samples.jsonl, ` +
    'lower those weights, or let those rewards pay for right answers only'
  );
}

function lengthCollapse(view: View): string | undefined {
  const length = 'completions/mean_length';
  if (!(view.recently(length) < healthLimits.length * view.atStart(length)) || !view.hasAccuracyStayed)
    return undefined;
  return (
    `completions have shrunk from ${number(view.atStart(length))} to ${number(view.recently(length))} tokens and accuracy has not ` +
    `risen (${change(view, 'accuracy', percent)}): being short pays more than being right; lower the weight of a reward for ` +
    'brevity, or pay it for right answers only'
  );
}

function lengthLimit(view: View): string | undefined {
  const name = 'completions/clipped_ratio';
  if (!(view.rise(name).difference >= healthLimits.truncatedRise)) return undefined;
  return (
    `truncated completions have risen from ${percent(view.atStart(name))} to ${percent(view.recently(name))}: completions grow into ` +
    `their limit of ${view.context.maxTokens} tokens (sampling.maxTokens); allow more, or see what rewards length`
  );
}

function entropyCollapse(view: View): string | undefined {
  const { entropy, entropyAccuracy } = healthLimits;
  const [before, now] = [view.atStart('entropy'), view.recently('entropy')];
  if (!(now < entropy * before) || !(view.recently('accuracy') < entropyAccuracy)) return undefined;
  return (
    `entropy has fallen from ${number(before)} to ${number(now)} nats per token with ${percent(view.recently('accuracy'))} right: ` +
    'completions of a prompt are nearly all the same, and there is little left to learn from; add an entropy bonus ' +
    '(loss.entropy), or lower the learning rate'
  );
}

function klBlowUp(view: View): string | undefined {
  const kl = view.recently('kl');
  if (!(kl > healthLimits.kl) || !view.hasAccuracyStayed) return undefined;
  return (
    `the policy is ${number(kl)} nats per token from its reference (KL) and accuracy has not risen (${change(view, 'accuracy', percent)}): ` +
    'raise loss.kl.beta, or lower the learning rate'
  );
}

/** The means of the first steps and of the newest. */
function change(view: View, name: string, text: (value: number) => string): string {
  const { start: startSteps } = healthLimits;
  return `${text(view.atStart(name))} in the first ${startSteps} steps, ${text(view.recently(name))} in the last ${windowSteps}`;
}

function valuesOf(rows: readonly WatchedMetrics[], name: string): number[] {
  return rows.flatMap((row) => row[name] ?? []);
}

/** A deviation that is rounding: of 0, or of a value that float64 sums of its like differ from by some units. */
function isNegligible(deviation: number, value: number): boolean {
  return deviation <= 1e-9 * Math.max(1, Math.abs(value));
}

function isSame(a: number | null, b: number | null): boolean {
  return a === b || (a !== null && b !== null && isNegligible(Math.abs(a - b), a));
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

/** Three digits: `0.0123`, `12.3`. */
function number(value: number): string {
  return String(Number(value.toPrecision(3)));
}
