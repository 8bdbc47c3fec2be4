// What a step learns: the same with and without division into micro-batches, with every preset.

import assert from 'node:assert/strict';
import test, { before, describe } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { startBackend } from '../../src/backend/backend.js';
import { aggregations, klEstimators, ratios } from '../../src/devices/settings.js';
import { type LossConfig, presets } from '../../src/index.js';
import type { Policy, SequenceBatch } from '../../src/model/policy.js';
import { Processes } from '../../src/processes/processes.js';
import type { Group, ScoredCompletion } from '../../src/rollout/api.js';
import { AdamW } from '../../src/train/adamw.js';
import { learn } from '../../src/train/learn.js';
import { combineMetrics } from '../../src/train/metrics.js';
import { resolveSettings } from '../../src/train/options.js';
import { createReference } from '../../src/train/reference-policy.js';
import { assertArray } from '../support/compare.js';
import { seeded } from '../support/random.js';
import { repeats } from '../support/sets.js';
import { tinyPolicy, tinyTask, tinyTrainer, weightsOf } from '../support/trainer.js';

/** Completions of lengths 1 to 5, some truncated, some with an advantage of 0, from a sampler slightly off the policy. */
function groups(isTruncated: (g: number, i: number) => boolean = (_, i) => i === 2): Group[] {
  return [0, 1, 2].map((g) => ({
    example: tinyTask.example(g),
    prompt: Int32Array.of(1 + g, 11, 4, 12).subarray(g),
    completions: [0, 1, 2, 3].map((i): ScoredCompletion => {
      const length = 1 + ((3 * g + 2 * i) % 5);
      return {
        tokens: Int32Array.from({ length }, (_, t) =>
          t === length - 1 && !isTruncated(g, i) ? 0 : 1 + ((g + 5 * i + 3 * t) % 10),
        ),
        logProbs: Float32Array.from({ length }, (_, t) => -2.3 + 0.3 * Math.sin(7 * g + 3 * i + t)),
        truncated: isTruncated(g, i),
        text: '',
        score: 0,
        rewards: {},
        reward: 0,
        advantage: i === 1 ? 0 : Math.cos(g + 2 * i),
      };
    }),
  }));
}

async function learnt(change: Record<string, unknown>, from = groups(), changed = (policy: Policy) => policy) {
  const settings = resolveSettings({
    optimizer: { learningRate: 1e-2, maxGradientNorm: 1e6 },
    sampling: { maxLogProbDifference: 100 },
    ...change,
  });
  const policy = changed(tinyPolicy());
  // The reference has other weights, so that the KL term has a gradient.
  const other = tinyPolicy(9);
  const reference = createReference(other);
  const optimizer = new AdamW(policy.variables, settings.optimizer);
  const held = Object.assign(createReference(policy), { weights: reference.weights });
  const { metrics } = await learn(from, 1, {
    policy,
    optimizer,
    reference: held,
    settings,
    promptLength: 6,
    maxTokens: 5,
    processes: new Processes(),
  });
  // After one update the mean is (1 − β₁) times the gradient.
  const gradient = Object.values(optimizer.means).flatMap((mean) => [...mean.dataSync()]);
  const weights = Object.values(weightsOf(policy)).flatMap((values) => [...values]);
  optimizer.dispose();
  reference.dispose();
  policy.dispose();
  other.dispose();
  return { metrics, gradient, weights };
}

describe('learning', () => {
  before(async () => void (await startBackend('wasm')));

  const losses: Record<string, LossConfig> = {
    ...presets,
    'grpo with KL and entropy': { ...presets.grpo, kl: { beta: 0.3 }, entropy: { coefficient: 0.1 } },
    'dapo with a top quantile': { ...presets.dapo, entropy: { coefficient: 0.1, topQuantile: 0.4 } },
    'dapo with a top quantile and no bonus': { ...presets.dapo, entropy: { coefficient: 0, topQuantile: 0.4 } },
    'grpo that drops empty sequences': { ...presets.grpo, emptySequences: 'drop' },
    'dr_grpo with a length of its own': { ...presets.dr_grpo, maxLength: 77 },
    'gspo with KL': { ...presets.gspo, kl: { beta: 0.3, importanceWeighted: true } },
  };
  for (const [name, loss] of Object.entries(losses)) {
    for (const maskTruncated of [false, true]) {
      test(`micro-batches add up to the whole batch: ${name}${maskTruncated ? ', with truncated ones masked' : ''}`, async () => {
        const whole = await learnt({ loss, maskTruncated });
        assert.ok(
          whole.gradient.some((g) => Math.abs(g) > 1e-6),
          'the gradient is 0',
        );
        for (const microBatchSize of [1, 5, 12]) {
          const cut = await learnt({ loss, maskTruncated, microBatchSize });
          // Sums of up to 12 terms in float32 in another order.
          assertArray(cut.gradient, whole.gradient, 2e-5, `gradient in micro-batches of ${microBatchSize}`);
          for (const [metric, value] of Object.entries(whole.metrics)) {
            // The whole batch computes each metric as a float64 mean over tokens or sequences; parts are weighted.
            const error = Math.abs(cut.metrics[metric] - value);
            assert.ok(
              error <= 2e-5 * Math.max(1, Math.abs(value)),
              `${metric}: ${cut.metrics[metric]}, whole ${value}`,
            );
          }
        }
      });
    }
  }

  test('micro-batches add up, whatever the loss, also over several updates', async () => {
    for (let seed = 0; seed < repeats(10, 40); seed++) {
      const random = seeded(seed);
      const share = random.pick([0.1, 0.5, 0.9]);
      const truncated = Array.from({ length: 12 }, () => random.chance(share));
      const sampled = () => groups((g, i) => truncated[4 * g + i]);
      const loss: LossConfig = {
        ...random.pick(Object.values(presets)),
        ratio: random.pick(ratios),
        aggregation: random.pick(aggregations),
        emptySequences: random.pick(['count', 'drop']),
        ...(random.chance(0.5) && { kl: { beta: 0.3, estimator: random.pick(klEstimators) } }),
        ...(random.chance(0.6) && { entropy: { coefficient: 0.2, topQuantile: random.pick([0.2, 0.7, 1]) } }),
        ...(random.chance(0.3) && { offPolicyThreshold: 0.1 }),
      };
      const change = {
        loss,
        // An epsilon so large that an update is proportional to its gradient: 0 / 0 would be arbitrary.
        optimizer: { learningRate: 0.1, epsilon: 1, maxGradientNorm: 1e6 },
        sampling: { temperature: random.pick([0.6, 1, 1.7]), maxLogProbDifference: 100 },
        maskTruncated: random.chance(0.7),
        iterations: random.pick([1, 2]),
        miniBatches: random.pick([1, 2, 3]),
      };
      const whole = await learnt(change, sampled());
      const cut = await learnt({ ...change, microBatchSize: random.pick([1, 2, 3, 5]) }, sampled());
      const about = `seed ${seed}: ${JSON.stringify(change)}`;
      assertArray(cut.gradient, whole.gradient, 2e-5, about);
      for (const [metric, value] of Object.entries(whole.metrics)) {
        const error = Math.abs(cut.metrics[metric] - value);
        assert.ok(
          error <= 2e-5 * Math.max(1, Math.abs(value)),
          `${metric}: ${cut.metrics[metric]}, ${value}; ${about}`,
        );
      }
    }
  });

  test('micro-batches are filled up to the token limit, the longest completions first, and add up', async () => {
    const loss = { ...presets.dr_grpo, kl: { beta: 0.3 } };
    const whole = await learnt({ loss });
    for (const [budget, size] of [
      [1, undefined],
      [20, undefined],
      [37, 3],
      [1000, 5],
      [1000, undefined],
    ] as const) {
      const passes: SequenceBatch[] = [];
      const given = { loss, tokensPerMicroBatch: budget, ...(size && { microBatchSize: size }) };
      const cut = await learnt(given, groups(), (policy) => ({
        ...policy,
        logits: (batch, from) => {
          passes.push(batch);
          return policy.logits(batch, from);
        },
      }));
      assertArray(cut.gradient, whole.gradient, 2e-5, `gradient in micro-batches of ${budget} tokens`);
      // Each pass occurs twice: for the reference's log-probs, and for the loss.
      const shapes = passes.map(({ sequences, length }) => [sequences, length]);
      const own = shapes.slice(shapes.length / 2);
      assert.deepEqual(own, shapes.slice(0, shapes.length / 2));
      assert.equal(
        own.reduce((sum, [sequences]) => sum + sequences, 0),
        12,
      );
      own.forEach(([sequences, length], i) => {
        assert.ok(sequences * length <= budget || sequences === 1, `${shapes}`);
        assert.ok(sequences <= (size ?? 12) && length <= (own[i - 1]?.[1] ?? 8), `${shapes}`);
        // Another row would have exceeded the limit.
        const isFull = sequences === size || (sequences + 1) * length > budget;
        assert.ok(isFull || i === own.length - 1, `${shapes}`);
      });
      assert.ok(passes.every(({ starts }) => starts.every((start) => start === 0)));
    }
  });

  test('a truncated distribution is learnt from as if the kept tokens were the whole vocabulary', async () => {
    // Of 13 ids the last two are removed.
    const ids = Int32Array.from({ length: 11 }, (_, id) => id);
    const cut = groups().map((group) => ({
      ...group,
      completions: group.completions.map((own) => {
        const offsets = Int32Array.from({ length: own.tokens.length + 1 }, (_, t) => t * ids.length);
        return { ...own, kept: { ids: Int32Array.from([...own.tokens].flatMap(() => [...ids])), offsets } };
      }),
    }));
    const loss = { ...presets.grpo, kl: { beta: 0.3 }, entropy: { coefficient: 0.1, topQuantile: 0.5 } };
    const whole = await learnt({ loss }, cut);
    const withoutTwo = (policy: Policy): Policy => ({
      ...policy,
      logits: (...args) => tf.add(policy.logits(...args), [...ids.map(() => 0), -1e9, -1e9]),
    });
    const expected = await learnt({ loss }, groups(), withoutTwo);
    assert.deepEqual(whole, expected);
    const plain = await learnt({ loss });
    assert.ok(whole.gradient.some((g, i) => Math.abs(g - plain.gradient[i]) > 1e-3));
    for (const microBatchSize of [1, 5]) {
      const parts = await learnt({ loss, microBatchSize }, cut);
      assertArray(parts.gradient, whole.gradient, 2e-5, `gradient in micro-batches of ${microBatchSize}`);
    }
  });

  test('mini-batches divide the completions, differently in each iteration, with one update each', async () => {
    const once = await learnt({ loss: presets.grpo });
    const one = await learnt({ loss: presets.grpo, iterations: 1, miniBatches: 3 });
    const two = await learnt({ loss: presets.grpo, iterations: 2, miniBatches: 3 });
    assert.notDeepEqual(one.weights, once.weights);
    assert.notDeepEqual(two.weights, one.weights);
    // More mini-batches than completions: one completion each.
    const most = await learnt({ loss: presets.grpo, miniBatches: 100 });
    assert.ok(most.weights.every(Number.isFinite));
  });

  test('a masked truncated completion has no gradient', async () => {
    const loss = { ...presets.dapo };
    const all = groups();
    const masked = await learnt({ loss, maskTruncated: true });
    const unmasked = await learnt({ loss, maskTruncated: false });
    assert.ok(all.some(({ completions }) => completions.some(({ truncated }) => truncated)));
    assert.notDeepEqual(masked.gradient, unmasked.gradient);
  });

  for (const name of Object.keys(presets) as (keyof typeof presets)[]) {
    test(`preset ${name} trains, with and without HA-DW`, async (t) => {
      for (const hadw of [undefined, { anchor: { update: 'kalman' } } as const]) {
        const trainer = await tinyTrainer(t, { loss: presets[name], hadw, iterations: 2, miniBatches: 2 });
        const before = weightsOf(trainer.policy);
        for await (const { metrics } of trainer.steps({ max: 2 })) {
          assert.ok(Number.isFinite(metrics.loss) && metrics.grad_norm > 0, JSON.stringify(metrics));
          assert.equal('hadw/anchor' in metrics, hadw !== undefined);
        }
        assert.notDeepEqual(weightsOf(trainer.policy), before);
      }
    });
  }

  test('the reference of the KL term is the policy before reinforcement', async (t) => {
    const loss = { ...presets.grpo, kl: { beta: 0.1 } };
    const trainer = await tinyTrainer(t, { loss, warmStart: { steps: 3 } });
    const kl: number[] = [];
    for await (const { metrics } of trainer.steps({ max: 3 })) kl.push(metrics.kl);
    assert.equal(kl[0], 0);
    assert.ok(kl[1] > 0 && kl[2] > 0, kl.join(' '));
  });
});

test('metrics of parts: sums, extremes, means over tokens or sequences', () => {
  const part = (value: number, tokens: number, sequences: number) => ({
    metrics: { loss: value, kl: value, 'ratio/min': value, 'clip_ratio/high_max': value, 'clip_ratio/low_mean': value },
    tokens,
    sequences,
    present: tokens === 0 ? 0 : sequences,
  });
  // A part without tokens only counts in its sequences.
  const parts = [part(1, 3, 1), part(2, 1, 3), part(9, 0, 0)];
  const measured = (loss: LossConfig, advantagesPerToken = false) => ({ ...loss, advantagesPerToken });
  const expected = {
    loss: 12,
    kl: 1.25,
    'ratio/min': 1,
    'clip_ratio/high_max': 2,
    'clip_ratio/low_mean': 1.25,
  };
  assert.deepEqual(combineMetrics(parts, measured(presets.grpo), 'microBatches'), expected);
  assert.deepEqual(combineMetrics(parts, measured(presets.grpo), 'updates'), { ...expected, loss: 1.25 });
  const gspo = combineMetrics(parts, measured(presets.gspo), 'microBatches');
  assert.deepEqual([gspo['clip_ratio/low_mean'], gspo.kl], [1.75, 1.25]);
  const perToken = combineMetrics(parts, measured(presets.gspo, true), 'microBatches');
  assert.equal(perToken['clip_ratio/low_mean'], 1.25);
  // VESPO's weights are of sequences, those without a token included, or of tokens.
  const weights = parts.map((one, i) => ({ ...one, metrics: { 'vespo/phi_seq_mean': i } }));
  const phi = (tokens: boolean) =>
    combineMetrics(weights, measured(presets.vespo, tokens), 'updates')['vespo/phi_seq_mean'];
  assert.deepEqual([phi(false), phi(true)], [0.75, 0.25]);
  const rates = parts.map((one, i) => ({ ...one, metrics: { learning_rate: i, grad_norm: 2 * i } }));
  assert.deepEqual(combineMetrics(rates, measured(presets.grpo), 'updates'), { learning_rate: 1, grad_norm: 2 });
  assert.throws(() => combineMetrics(rates, measured(presets.grpo), 'microBatches'), /learning_rate: the table/);
});
