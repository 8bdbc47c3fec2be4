// The reinforcement loop: sample groups, score them, one fused call for advantages (with HA-DW), loss and gradient, update.

import { type AnchorOptions, DifficultyAnchor } from '../loss/anchor.js';
import { checkNumber } from '../loss/check.js';
import type { AdvantageConfig, LossConfig } from '../loss/config.js';
import type { Metrics } from '../loss/plan.js';
import type { Policy } from '../policy/policy.js';
import { grpoLoss } from '../tfjs/index.js';
import { AdamW, type AdamWOptions } from './adamw.js';
import { completionBatch, spread } from './completions.js';
import { collectRollout, type Group, isInformative, meanReward, rolloutMetrics } from './rollout.js';
import type { TokenTask } from './token-task.js';
import { updatePolicy } from './update.js';

export interface GrpoOptions {
  policy: Policy;
  train: TokenTask;
  /** The task's examples are taken in order from this one on. Default 0. */
  firstExample?: number;
  /** Prompts that an update learns from. */
  promptsPerStep: number;
  /** Completions a prompt, at least 2. */
  groupSize: number;
  /**
   * Rounds of `promptsPerStep` prompts that a step samples at most, until as many groups as that have rewards that differ
   * (DAPO's dynamic sampling, arXiv 2503.14476): an update then learns from those, and from others only for want of them.
   * Default 1: from every group.
   */
  maxRounds?: number;
  loss: LossConfig;
  /** Advantages but for their group size and HA-DW; defaults as `computeAdvantages`. */
  advantage?: Omit<AdvantageConfig, 'groupSize' | 'groupSizes' | 'hadw'>;
  /** History-aware difficulty weighting: λ and its anchor, which observes every group sampled. Left out: none. */
  hadw?: { scale?: number; anchor?: AnchorOptions };
  /** Updates a step (TRL's num_iterations, µ of the GRPO paper). Default 1. */
  iterations?: number;
  /** Sampling temperature, above 0; the loss uses the same. Default 1. */
  temperature?: number;
  optimizer: AdamWOptions;
  /** Default 1. */
  maxGradientNorm?: number;
  /** Of the sampling. */
  seed: number;
}

export interface GrpoStep {
  /** From 0. */
  step: number;
  /** Every group sampled. */
  groups: Group[];
  /** Of the loss and its advantages in the step's last update, `grad_norm`, and `rolloutMetrics` of every group sampled. */
  metrics: Metrics;
}

/** A run of GRPO. Owns the optimiser's state: `dispose` frees it, not the policy. */
export class GrpoTrainer {
  private readonly options: Required<Omit<GrpoOptions, 'hadw' | 'firstExample' | 'optimizer'>>;
  private readonly hadwScale: number | undefined;
  private readonly anchor: DifficultyAnchor | undefined;
  private readonly optimizer: AdamW;
  /** Steps made so far. */
  private steps = 0;
  /** The next example to be sampled. */
  private cursor: number;

  /** RangeError or TypeError for an impossible option. */
  constructor({
    firstExample = 0,
    maxRounds = 1,
    advantage = {},
    hadw,
    iterations = 1,
    temperature = 1,
    optimizer,
    maxGradientNorm = 1,
    ...required
  }: GrpoOptions) {
    this.options = {
      ...required,
      promptsPerStep: checkNumber('promptsPerStep', required.promptsPerStep, { min: 1, integer: true }),
      groupSize: checkNumber('groupSize', required.groupSize, { min: 2, integer: true }),
      maxRounds: checkNumber('maxRounds', maxRounds, { min: 1, integer: true }),
      advantage,
      iterations: checkNumber('iterations', iterations, { min: 1, integer: true }),
      temperature: checkNumber('temperature', temperature, { above: 0 }),
      maxGradientNorm: checkNumber('maxGradientNorm', maxGradientNorm, { above: 0 }),
    };
    this.hadwScale = hadw?.scale;
    this.anchor = hadw && new DifficultyAnchor(hadw.anchor);
    this.optimizer = new AdamW(required.policy.variables, optimizer);
    this.cursor = checkNumber('firstExample', firstExample, { min: 0, integer: true });
  }

  /** Samples groups and updates the policy. */
  step(): GrpoStep {
    const { promptsPerStep, iterations } = this.options;
    const groups = this.sampleGroups();
    const { anchor } = this;
    if (anchor?.timing === 'posterior') anchor.observe(meanReward(groups));
    const loss = this.lossOf([...groups].sort(informativeFirst).slice(0, promptsPerStep));
    if (anchor?.timing === 'prior') anchor.observe(meanReward(groups));

    let metrics: Metrics = {};
    for (let iteration = 0; iteration < iterations; iteration++) metrics = this.update(loss);
    return { step: this.steps++, groups, metrics: { ...metrics, ...rolloutMetrics(groups) } };
  }

  dispose(): void {
    this.optimizer.dispose();
  }

  private sampleGroups(): Group[] {
    const { policy, train, promptsPerStep, groupSize, maxRounds, temperature, seed } = this.options;
    const groups: Group[] = [];
    for (let round = 0; round < maxRounds; round++) {
      const examples = Array.from({ length: promptsPerStep }, () => train.task.example(this.cursor++));
      const sampling = { groupSize, temperature, seed, step: this.steps, firstPrompt: groups.length };
      groups.push(...collectRollout(policy, train, examples, sampling));
      if (groups.filter(isInformative).length >= promptsPerStep) break;
    }
    return groups;
  }

  /** The loss of some groups. It keeps their advantages: the anchor is the one of now. */
  private lossOf(groups: readonly Group[]) {
    const { policy, train, groupSize, temperature, advantage, loss } = this.options;
    const { input, from, shape, targets, mask } = completionBatch(
      groups.flatMap(({ prompt, completions }) => completions.map(({ tokens }) => ({ prompt, completion: tokens }))),
      { promptLength: train.promptLength, length: train.maxTokens, padding: train.vocabulary.end },
    );
    const logProbs = groups.flatMap(({ completions }) => completions.map((completion) => completion.logProbs));
    const hadw = this.anchor && { scale: this.hadwScale, anchor: this.anchor.value };
    const batch = {
      shape,
      tokens: targets,
      mask,
      temperature,
      oldLogProbs: spread(logProbs, shape.length),
      rewards: groups.flatMap(({ rewards }) => rewards),
      advantage: { ...advantage, groupSize, ...(hadw && { hadw }) },
    };
    return (onResult: (report: { metrics: Metrics }) => void) =>
      grpoLoss(policy.logits(input, from), batch, loss, { onResult });
  }

  private update(loss: ReturnType<GrpoTrainer['lossOf']>): Metrics {
    const { policy, maxGradientNorm } = this.options;
    let metrics: Metrics = {};
    const keep = (report: { metrics: Metrics }) => {
      metrics = report.metrics;
    };
    const { gradientNorm } = updatePolicy(policy, this.optimizer, () => loss(keep), maxGradientNorm);
    return { ...metrics, grad_norm: gradientNorm };
  }
}

/** Sorting is stable: groups of a kind stay in order. */
function informativeFirst(a: Group, b: Group): number {
  return Number(isInformative(b)) - Number(isInformative(a));
}
