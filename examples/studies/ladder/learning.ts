// Tabular softmax policies that learn the ladder: one row of logits for each prompt, from the uniform policy, by plain
// gradient ascent on Σ A log π. Prompts share only the anchor, and the true success is known at every step.

import { computeAdvantages, DifficultyAnchor, tasks } from 'groupgrad';
import { type Stream, uniform } from '../../../src/base/random.js';
import { computeAnchored } from './anchored.js';
import type { AdvantageScale, StudyConfiguration } from './configuration.js';
import { trueAdvantages } from './exact.js';
import { sum } from './statistics.js';

/** A method of learning. Omitted parts are not used. */
export interface Method {
  name: string;
  mixture: string;
  groupSize: number;
  scale: AdvantageScale;
  /** Default `mean`. */
  center?: 'leave-one-out';
  /** λ and the name of the anchor. */
  hadw?: { scale: number; anchor: string };
  /** Advantages without HA-DW's weights, but with the same root mean square as with them in each batch. */
  sizeAlone?: boolean;
  /** A factor of the advantages; with plain gradient ascent equivalent to a larger learning rate. */
  factor?: number;
  /** A factor of the number of samples of a run. */
  samples?: number;
  /** True advantages instead of estimated ones: of `all` answers, or of those in groups with a gradient (`active`). */
  truth?: 'all' | 'active';
}

export interface LearningRun {
  /** Mean true success over all prompts, and over those of each rung, after 0, 1, … steps. */
  success: number[];
  rungs: number[][];
  /** Root mean square over steps of the anchor minus the true mean success before the step; NaN without an anchor. */
  anchorError: number;
}

/** Tabular policies of prompts that share nothing. */
export interface Policies {
  /** `prompts` rows of `arms`: logits, and their softmax. */
  logits: Float64Array;
  probabilities: Float64Array;
  arms: number;
}

/** The prompts of a batch, ordered by rung. */
interface Prompts {
  /** The index of each rung's first prompt, and the number of all prompts. */
  starts: number[];
  /** Whether an arm wins, one row per prompt. */
  wins: Uint8Array[];
}

/** Random numbers that answers are drawn with: for each step, a number in (0, 1) for each answer of each prompt. */
export type Uniforms = readonly Float64Array[];

export function drawUniforms(seed: number, steps: number, prompts: number, groupSize: number): Uniforms {
  const stream: Stream = { seed, purpose: 'study' };
  return Array.from({ length: steps }, (_, step) =>
    Float64Array.from({ length: prompts * groupSize }, (_, i) =>
      uniform(stream, step, Math.floor(i / groupSize), i % groupSize),
    ),
  );
}

export function stepsOf({ learning }: StudyConfiguration, { groupSize, samples = 1 }: Method): number {
  return (samples * learning.samplesPerPrompt) / groupSize;
}

/** `uniforms`: {@link drawUniforms} of this seed and group size, shared by all methods, which makes comparisons paired. */
export function learn(config: StudyConfiguration, method: Method, seed: number, uniforms: Uniforms): LearningRun {
  const { learningRate } = config.learning;
  const { groupSize, truth, factor = 1 } = method;
  const prompts = promptsOf(config, config.mixtures[method.mixture], seed);
  const count = prompts.wins.length;
  const policies = uniformPolicies(count, config.arms);
  const success = prompts.wins.map((wins, prompt) => successOf(policies, prompt, wins));
  const anchor = method.hadw && new DifficultyAnchor(config.anchors[method.hadw.anchor]);

  const run: LearningRun = { success: [], rungs: config.rungs.map(() => []), anchorError: Number.NaN };
  const record = () => {
    run.success.push(meanBetween(success, 0, count));
    run.rungs.forEach((curve, rung) => {
      curve.push(meanBetween(success, prompts.starts[rung], prompts.starts[rung + 1]));
    });
  };
  record();
  const steps = stepsOf(config, method);
  let anchorSquares = 0;
  const answers = new Int32Array(count * groupSize);
  const rewards = new Float64Array(count * groupSize);
  for (let step = 0; step < steps; step++) {
    for (let i = 0; i < answers.length; i++) {
      const prompt = Math.floor(i / groupSize);
      answers[i] = drawArm(policies, prompt, uniforms[step][i]);
      rewards[i] = prompts.wins[prompt][answers[i]];
    }
    const estimated = estimate(method, rewards, anchor);
    if (anchor) anchorSquares += (estimated.anchor - run.success[step]) ** 2;
    for (let prompt = 0; prompt < count; prompt++) {
      if (estimated.active[prompt] === 0 && truth !== 'all') continue;
      const group = { start: prompt * groupSize, end: (prompt + 1) * groupSize };
      const advantages = truth
        ? Float64Array.from(rewards.subarray(group.start, group.end), (reward) =>
            reward === 1
              ? trueAdvantages(success[prompt], method.scale).right
              : trueAdvantages(success[prompt], method.scale).wrong,
          )
        : estimated.advantages.subarray(group.start, group.end);
      ascend(policies, prompt, answers.subarray(group.start, group.end), advantages, learningRate * factor);
      success[prompt] = successOf(policies, prompt, prompts.wins[prompt]);
    }
    record();
  }
  if (anchor) run.anchorError = Math.sqrt(anchorSquares / steps);
  return run;
}

/** The advantages of a batch, and the anchor that they were computed with, which then observes the batch. */
function estimate(
  { scale, center, groupSize, hadw, sizeAlone }: Method,
  rewards: Float64Array,
  anchor?: DifficultyAnchor,
) {
  const device = { device: 'reference' } as const;
  const plain = { groupSize, scale, center };
  if (!hadw || !anchor) return { ...computeAdvantages(rewards, plain, device), anchor: Number.NaN };
  const weighted = computeAnchored(rewards, plain, anchor, hadw.scale);
  if (!sizeAlone) return weighted;
  const unweighted = computeAdvantages(rewards, plain, device);
  const times = rootMeanSquare(weighted.advantages) / rootMeanSquare(unweighted.advantages);
  const advantages = unweighted.advantages.map((a) => a * times);
  return { ...weighted, advantages };
}

/** 1 if all are 0: a batch in which no group has a gradient has nothing to scale. */
function rootMeanSquare(values: Float32Array): number {
  const squares = values.reduce((total, a) => total + a * a, 0);
  return Math.sqrt(squares / values.length) || 1;
}

/** One step along the gradient of mean A log π over a group: Σ A (1[arm] − π) / G for each arm. */
export function ascend(
  { logits, probabilities, arms }: Policies,
  prompt: number,
  answers: Int32Array,
  advantages: Float32Array | Float64Array,
  learningRate: number,
): void {
  const rate = learningRate / answers.length;
  const total = sum([...advantages], (a) => a);
  const row = prompt * arms;
  for (let arm = 0; arm < arms; arm++) logits[row + arm] -= rate * total * probabilities[row + arm];
  answers.forEach((arm, i) => {
    logits[row + arm] += rate * advantages[i];
  });
  softmax(logits.subarray(row, row + arms), probabilities.subarray(row, row + arms));
}

export function uniformPolicies(prompts: number, arms: number): Policies {
  const size = prompts * arms;
  return { logits: new Float64Array(size), probabilities: new Float64Array(size).fill(1 / arms), arms };
}

function softmax(logits: Float64Array, probabilities: Float64Array): void {
  const largest = logits.reduce((a, b) => Math.max(a, b));
  let total = 0;
  for (let i = 0; i < logits.length; i++) {
    probabilities[i] = Math.exp(logits[i] - largest);
    total += probabilities[i];
  }
  for (let i = 0; i < logits.length; i++) probabilities[i] /= total;
}

function promptsOf({ rungs, arms }: StudyConfiguration, counts: readonly number[], seed: number): Prompts {
  const task = tasks.bandit({ seed, probabilities: rungs, arms, contexts: Math.max(...counts) });
  const prompts: Prompts = { starts: [0], wins: [] };
  counts.forEach((count, rung) => {
    for (let context = 0; context < count; context++) {
      const example = task.example(context * rungs.length + rung);
      prompts.wins.push(Uint8Array.from(armNames(task.characters, arms), (arm) => task.score(arm, example)));
    }
    prompts.starts.push(prompts.wins.length);
  });
  return prompts;
}

function meanBetween(values: readonly number[], start: number, end: number): number {
  let total = 0;
  for (let i = start; i < end; i++) total += values[i];
  return total / (end - start);
}

/** The task's characters end with the names of its arms. */
function armNames(characters: string, arms: number): string[] {
  return [...characters].slice(-arms);
}

/** The probabilities of all arms may add up to slightly more than 1. */
function successOf({ probabilities, arms }: Policies, prompt: number, wins: Uint8Array): number {
  return Math.min(
    1,
    wins.reduce((total, win, arm) => total + win * probabilities[prompt * arms + arm], 0),
  );
}

/** The first arm at which the cumulative probability exceeds u; rounding may leave u above the sum. */
function drawArm({ probabilities, arms }: Policies, prompt: number, u: number): number {
  let below = 0;
  for (let arm = 0; arm < arms - 1; arm++) {
    below += probabilities[prompt * arms + arm];
    if (u < below) return arm;
  }
  return arms - 1;
}
