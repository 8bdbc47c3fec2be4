// Learns from a step's groups: divides completions into mini-batches and these into micro-batches, computes loss and gradient by
// one fused call per micro-batch, and makes one update per mini-batch.

import { currentBackend } from '../backend/backend.js';
import { NumericFault } from '../base/numeric-fault.js';
import { permutation } from '../base/random.js';
import { yieldToEventLoop } from '../base/yield.js';
import { entropyThreshold } from '../devices/entropy.js';
import type { Metrics } from '../devices/plan.js';
import { lossDefaults } from '../loss/config.js';
import type { LossConfig } from '../loss/option-types.js';
import type { Policy } from '../model/policy.js';
import type { Processes } from '../processes/processes.js';
import type { Group, ScoredCompletion } from '../rollout/api.js';
import { positionsPerPass } from '../rollout/pass-size.js';
import { paddingOf } from '../text/tokenizer.js';
import type { GrpoReport } from '../tfjs/index.js';
import type { AdamW } from './adamw.js';
import { batchLoss, batchValues, lossSource } from './batch-loss.js';
import { type CompletionBatch, type CompletionPair, completionBatch, positionsOf, spread } from './completions.js';
import { importanceWeights, Mismatch } from './importance.js';
import { combineMetrics, type MeasuredLoss, type MetricsPart } from './metrics.js';
import type { Settings } from './options.js';
import type { Reference } from './reference-policy.js';
import { updatePolicy } from './update.js';

export interface Learner {
  policy: Policy;
  optimizer: AdamW;
  /** Required for a KL term and for a KL reward. */
  reference: Reference | undefined;
  settings: Settings;
  /** Maximum length of a prompt and of a completion in tokens. */
  promptLength: number;
  maxTokens: number;
  /** Those that train the policy together. All have the same completions, and each computes the passes of its share. */
  processes: Processes;
  /** Interrupts learning between two micro-batches; its reason is thrown. */
  signal?: AbortSignal;
}

export interface LearnResult {
  /** Of the loss, means over the updates; `grad_norm`, `learning_rate`, `sampling/*`. */
  metrics: Metrics;
  /** Seconds: `time/forward_backward`, of which `time/loss`, and `time/optimizer`. */
  timing: Metrics;
}

/** A completion with its prompt. */
export interface Row {
  prompt: Int32Array;
  completion: ScoredCompletion;
}

/** Log-probs that a step computes before its first update. */
interface GivenLogProbs {
  /** Under the reference policy; undefined without a KL term. */
  reference: Map<ScoredCompletion, Float32Array> | undefined;
  /** For completions of another engine, unless the correction is switched off. */
  corrected: CorrectedSampler | undefined;
}

interface CorrectedSampler {
  /** Under the policy before the step. */
  oldLogProbs: Map<ScoredCompletion, Float32Array>;
  tokenWeights: Map<ScoredCompletion, Float32Array>;
  metrics: Metrics;
}

/** Completions of one forward and backward pass. */
interface MicroBatch extends CompletionBatch {
  rows: readonly Row[];
  /** Number of tokens that count. */
  tokens: number;
}

/**
 * Updates the policy, together with the other processes. `step` addresses the random numbers of the mini-batches. NumericFault if a
 * log-prob, the loss or the gradient is not finite; Error if the sampler's log-probs differ from those of the loss. Earlier updates
 * are not undone.
 */
export async function learn(groups: readonly Group[], step: number, learner: Learner): Promise<LearnResult> {
  const { settings, optimizer, policy, processes, signal } = learner;
  const rows = groups.flatMap(({ prompt, completions }) => completions.map((completion) => ({ prompt, completion })));
  const given: GivenLogProbs = {
    reference: settings.loss.kl?.beta ? await referenceLogProbs(rows, learner) : undefined,
    corrected: settings.importanceSampling?.correction ? await correctSampler(rows, learner) : undefined,
  };
  const updates: MetricsPart[] = [];
  const timing = { 'time/forward_backward': 0, 'time/loss': 0, 'time/optimizer': 0 };
  let mismatch: Metrics = {};
  for (let iteration = 0; iteration < settings.iterations; iteration++) {
    for (const miniBatch of dealOut(rows, settings, step, iteration)) {
      const microBatches = split(ownShare(miniBatch, learner), learner).map((some) => microBatch(some, learner));
      const shared = await sharedByMicroBatches(microBatches, miniBatch, learner);
      const reports: GrpoReport[] = [];
      const losses = microBatches.map((batch) => () => {
        const source = lossSource(policy, batch);
        const start = performance.now();
        const input = { ...lossInput(batch, settings, given), ...shared.input };
        const loss = batchLoss(source, policy, batch, input, shared.config, {
          device: settings.device,
          onResult: (report) => void reports.push(report),
        });
        timing['time/loss'] += (performance.now() - start) / 1e3;
        requireFinite(reports.at(-1)!);
        return loss;
      });
      const learningRate = optimizer.learningRate;
      const result = await updatePolicy(policy, optimizer, losses, { processes, signal });
      timing['time/forward_backward'] += result.forwardBackward;
      timing['time/optimizer'] += result.optimizer;
      if (updates.length === 0) {
        mismatch = given.corrected?.metrics ?? (await samplerMismatch(microBatches, reports, learner));
      }
      const parts = (await processes.gather('metrics of the loss', partsOf(microBatches, reports))).flat();
      updates.push(metricsOfUpdate(parts, measured(miniBatch, settings), result.gradientNorm, learningRate));
    }
  }
  // Sampled tokens are the step's; those of the loss would count a completion once an iteration.
  const { tokens: _, nonFinite: __, ...metrics } = combineMetrics(updates, measured(rows, settings), 'updates');
  return { metrics: { ...metrics, ...mismatch }, timing };
}

/** The mini-batches of an iteration. With one, the completions stay in order. */
function dealOut(rows: readonly Row[], { miniBatches, seed }: Settings, step: number, iteration: number): Row[][] {
  if (miniBatches === 1) return [[...rows]];
  const order = permutation({ seed, purpose: 'minibatches', index: step }, rows.length, iteration);
  const shuffled = Array.from(order, (index) => rows[index]);
  const count = Math.min(miniBatches, rows.length);
  const bound = (i: number) => Math.floor((i * rows.length) / count);
  return Array.from({ length: count }, (_, i) => shuffled.slice(bound(i), bound(i + 1)));
}

/** The rows whose passes this process makes: each of the longest rows belongs to another process than the one before. */
function ownShare(rows: readonly Row[], { settings, processes: { rank, size } }: Learner): readonly Row[] {
  if (size === 1) return rows;
  return longestFirst(rows, settings).flatMap(({ row }, i) => (i % size === rank ? row : []));
}

function longestFirst(rows: readonly Row[], settings: Settings): { row: Row; positions: number }[] {
  return rows
    .map((row) => ({ row, positions: positionsOf(pairOf(row, settings)) }))
    .sort((a, b) => b.positions - a.positions);
}

/**
 * The micro-batches of some rows: the longest rows first, as many in each as `microBatchSize` and `tokensPerMicroBatch` allow.
 * Rows of equal length stay in order.
 */
function split(rows: readonly Row[], { policy, settings }: Learner): Row[][] {
  const { microBatchSize, tokensPerMicroBatch } = settings;
  const usual = microBatchSize === null ? positionsPerPass(policy, 'forward and backward') : Infinity;
  const most = { rows: microBatchSize ?? Infinity, tokens: tokensPerMicroBatch ?? usual };
  const batches: Row[][] = [];
  let positions = 0;
  for (const { row, positions: own } of longestFirst(rows, settings)) {
    const last = batches.at(-1);
    if (last && last.length < most.rows && (last.length + 1) * positions <= most.tokens) last.push(row);
    else {
      batches.push([row]);
      positions = own;
    }
  }
  return batches;
}

function pairOf({ prompt, completion: { tokens, truncated, kept } }: Row, settings: Settings): CompletionPair {
  return { prompt, completion: tokens, masked: truncated && settings.maskTruncated, kept };
}

function microBatch(rows: readonly Row[], { promptLength, maxTokens, policy, settings }: Learner): MicroBatch {
  const pairs = rows.map((row) => pairOf(row, settings));
  const contextLength = promptLength + maxTokens - 1;
  const batch = completionBatch(pairs, { padding: paddingOf(policy.tokenizer), contextLength });
  return { ...batch, rows, tokens: batch.mask.reduce((sum, m) => sum + m, 0) };
}

function lossInput(batch: MicroBatch, settings: Settings, { reference, corrected }: GivenLogProbs) {
  const { rows, shape, targets, mask } = batch;
  const completions = rows.map(({ completion }) => completion);
  const of = (values: (completion: ScoredCompletion) => Float32Array) => spread(completions.map(values), batch);
  return {
    shape,
    tokens: targets,
    mask,
    temperature: settings.sampling.temperature,
    oldLogProbs: of((completion) => corrected?.oldLogProbs.get(completion) ?? completion.logProbs),
    ...(corrected && { tokenWeights: of((completion) => corrected.tokenWeights.get(completion)!) }),
    ...(reference && { refLogProbs: of((completion) => reference.get(completion)!) }),
    advantages: advantagesOf(completions, batch),
  };
}

/** One advantage per completion, or one per token if there are step rewards. */
function advantagesOf(completions: readonly ScoredCompletion[], batch: MicroBatch): Float32Array {
  const ofTokens = completions.flatMap(({ tokenAdvantages }) => tokenAdvantages ?? []);
  if (ofTokens.length === completions.length) return spread(ofTokens, batch);
  return Float32Array.from(completions, ({ advantage }) => advantage);
}

/**
 * The denominators of the whole mini-batch, with which the losses and gradients of its micro-batches, and those of other processes,
 * add up to its own.
 */
async function sharedByMicroBatches(
  batches: readonly MicroBatch[],
  miniBatch: readonly Row[],
  learner: Learner,
): Promise<{ input: { normalizer?: number; sequences?: number }; config: LossConfig }> {
  const { settings, processes } = learner;
  const loss = lossOf(learner);
  if (batches.length === 1 && processes.size === 1) return { input: {}, config: loss };
  const counting = miniBatch.map((row) => pairOf(row, settings)).filter(({ masked }) => !masked);
  const tokens = counting.reduce((sum, { completion }) => sum + completion.length, 0);
  const sequences = loss.emptySequences === 'drop' ? counting.length : miniBatch.length;
  const input = { normalizer: tokens, sequences };
  if (loss.entropy === undefined) return { input, config: loss };
  const { topQuantile = lossDefaults.entropy.topQuantile } = loss.entropy;
  if (topQuantile === 1 || tokens === 0) return { input, config: { ...loss, entropy: { ...loss.entropy, tokens } } };
  const own: number[] = [];
  for (const batch of batches) {
    tokenValues(batch, learner).entropies.forEach((entropy, i) => {
      if (batch.mask[i] !== 0) own.push(entropy);
    });
    await yieldToEventLoop(learner.signal);
  }
  const entropies = (await processes.gather('entropies', own)).flat();
  const threshold = entropyThreshold(entropies, topQuantile);
  const kept = entropies.filter((entropy) => entropy >= threshold).length;
  return { input, config: { ...loss, entropy: { ...loss.entropy, tokens: kept, threshold } } };
}

/** The loss, with a `maxLength` that does not depend on the lengths of a batch's rows. */
function lossOf({ settings: { loss }, maxTokens }: Learner): LossConfig {
  return loss.aggregation === 'constant' ? { ...loss, maxLength: loss.maxLength ?? maxTokens } : loss;
}

/** Number of sequences with a token that counts. */
function present({ rows, shape, mask }: MicroBatch): number {
  return rows.filter((_, b) => mask.subarray(b * shape.length, (b + 1) * shape.length).includes(1)).length;
}

/** Log-probs and entropies of a batch's tokens under the current policy, computed by the code of the loss. */
function tokenValues(
  batch: MicroBatch,
  { policy, settings }: Learner,
): { logProbs: Float32Array; entropies: Float32Array } {
  const { sampling, device } = settings;
  const report = batchValues(policy, batch, { temperature: sampling.temperature, device });
  requireFinite(report);
  return report;
}

/** Log-probs of each completion's tokens under the reference policy. */
export async function referenceLogProbs(
  rows: readonly Row[],
  learner: Learner,
): Promise<Map<ScoredCompletion, Float32Array>> {
  const { reference } = learner;
  if (!reference) throw new Error('reference: expected a reference policy for the KL term, got none');
  return logProbsOfRows(rows, learner, (compute) => reference.with(compute));
}

/** Log-probs of each completion; the processes share the passes. `within` may put other weights into the policy while it computes. */
async function logProbsOfRows(
  rows: readonly Row[],
  learner: Learner,
  within: <V>(compute: () => V) => V,
): Promise<Map<ScoredCompletion, Float32Array>> {
  const placeOf = new Map(rows.map(({ completion }, place) => [completion, place]));
  const own: [place: number, logProbs: Float32Array][] = [];
  for (const some of split(ownShare(rows, learner), learner)) {
    const batch = microBatch(some, learner);
    const { logProbs } = within(() => tokenValues(batch, learner));
    some.forEach(({ completion }, b) => {
      const first = b * batch.shape.length + batch.offsets[b];
      own.push([placeOf.get(completion)!, logProbs.slice(first, first + completion.tokens.length)]);
    });
    // The policy has its own weights again here, so a signal handler may save them while the event loop turns.
    await yieldToEventLoop(learner.signal);
  }
  const all = (await learner.processes.gather('log-probs', own)).flat();
  return new Map(all.map(([place, logProbs]) => [rows[place].completion, logProbs]));
}

/** Old log-probs and importance weights of completions that another engine has sampled. */
async function correctSampler(rows: readonly Row[], learner: Learner): Promise<CorrectedSampler> {
  const { importanceSampling, maskTruncated } = learner.settings;
  // Log-probs of masked completions are computed but not used.
  const oldLogProbs = await logProbsOfRows(rows, learner, (compute) => compute());
  const tokenWeights = new Map<ScoredCompletion, Float32Array>();
  const mismatch = new Mismatch();
  for (const [completion, own] of oldLogProbs) {
    const result = importanceWeights(own, completion.logProbs, importanceSampling!);
    tokenWeights.set(completion, result.weights);
    if (completion.truncated && maskTruncated) continue;
    mismatch.addWeights(result);
    for (const [t, logProb] of completion.logProbs.entries()) mismatch.add(logProb, own[t]);
  }
  return { oldLogProbs, tokenWeights, metrics: mismatch.metrics() };
}

function requireFinite({ metrics }: { metrics: Metrics }): void {
  if (metrics.nonFinite > 0) {
    const what = 'finite logits, log-probs, advantages, losses and gradients';
    throw new NumericFault(`expected ${what}, got ${metrics.nonFinite} values that are not`);
  }
}

/** The difference between the sampler's log-probs and those of the loss before the first update. */
async function samplerMismatch(
  batches: readonly MicroBatch[],
  reports: readonly GrpoReport[],
  { policy, settings: { sampling, importanceSampling }, processes }: Learner,
): Promise<Metrics> {
  const sampled: number[] = [];
  const computed: number[] = [];
  batches.forEach(({ rows, shape, offsets, mask }, i) => {
    rows.forEach(({ completion }, b) => {
      completion.logProbs.forEach((logProb, t) => {
        const place = b * shape.length + offsets[b] + t;
        if (!mask[place]) return;
        sampled.push(logProb);
        computed.push(reports[i].logProbs[place]);
      });
    });
  });
  const mismatch = new Mismatch();
  for (const own of await processes.gather('log-probs of the loss', { sampled, computed })) {
    for (const [t, logProb] of own.sampled.entries()) mismatch.add(logProb, own.computed[t]);
  }
  const { largest } = mismatch;
  // Other engines compute in other precisions: health.ts warns of large differences.
  if (importanceSampling) return mismatch.metrics();
  const isExact = policy.decodesExactly === true && currentBackend() === 'groupgrad';
  if (largest > (isExact ? 0 : sampling.maxLogProbDifference)) {
    const what = `the sampler's log-probs differ from those of the loss by up to ${largest.toPrecision(3)}`;
    throw new Error(
      isExact
        ? `${what}; on the backend groupgrad they must be bit-equal if the policy decodes exactly (decodesExactly)`
        : `${what}, more than sampling.maxLogProbDifference (${sampling.maxLogProbDifference}): does the policy's decode ` +
            'compute the same as its logits, without dropout or other randomness?',
    );
  }
  return mismatch.metrics();
}

function measured(rows: readonly Row[], { loss }: Settings): MeasuredLoss {
  return { ...loss, advantagesPerToken: rows.some(({ completion }) => completion.tokenAdvantages !== undefined) };
}

function partsOf(batches: readonly MicroBatch[], reports: readonly GrpoReport[]): MetricsPart[] {
  return batches.map((batch, i) => ({
    metrics: reports[i].metrics,
    tokens: batch.tokens,
    sequences: batch.shape.sequences,
    present: present(batch),
  }));
}

function metricsOfUpdate(
  parts: readonly MetricsPart[],
  loss: MeasuredLoss,
  gradientNorm: number,
  learningRate: number,
): MetricsPart {
  const total = (unit: 'tokens' | 'sequences' | 'present') => parts.reduce((sum, part) => sum + part[unit], 0);
  const metrics = combineMetrics(parts, loss, 'microBatches');
  return {
    metrics: { ...metrics, grad_norm: gradientNorm, learning_rate: learningRate },
    tokens: total('tokens'),
    sequences: total('sequences'),
    present: total('present'),
  };
}
