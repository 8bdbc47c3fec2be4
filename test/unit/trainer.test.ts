// The trainer's parts and its loop, on the installed tfjs backends without native code.

import assert from 'node:assert/strict';
import test, { before, describe } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { startBackend } from '../../src/backend/backend.js';
import { loadAddon } from '../../src/devices/load.js';
import { computeAdvantages, DifficultyAnchor, defineReward, presets } from '../../src/index.js';
import type { Policy } from '../../src/model/policy.js';
import type { Group, RewardInput } from '../../src/rollout/api.js';
import { tokenTask } from '../../src/rollout/token-task.js';
import type { Example } from '../../src/tasks/index.js';
import { characterVocabulary, type Vocabulary } from '../../src/text/vocabulary.js';
import { vocabularyTokenizer } from '../../src/text/vocabulary-tokenizer.js';
import { AdamW } from '../../src/train/adamw.js';
import type { GrpoStep, OptimizerOptions, TrainerOptions } from '../../src/train/api.js';
import { completionBatch, spread } from '../../src/train/completions.js';
import { createTrainer } from '../../src/train/grpo.js';
import { resolveSettings } from '../../src/train/options.js';
import { ExampleOrder } from '../../src/train/order.js';
import { createProgress, progressLine } from '../../src/train/progress.js';
import { learningRateAt } from '../../src/train/schedule.js';
import { updatePolicy } from '../../src/train/update.js';
import { warmStart } from '../../src/train/warm-start.js';
import { quickBackend } from '../support/backend.js';
import { assertArray } from '../support/compare.js';
import { slowBackend } from '../support/sets.js';
import {
  lengthTask,
  optimizerSettings,
  stepsOf,
  tinyOptions,
  tinyPolicy,
  tinyTask,
  tinyTrainer,
  weightsOf,
} from '../support/trainer.js';

async function* startWarm(policy: Policy, steps: number, batchSize: number) {
  const settings = resolveSettings({ warmStart: { steps, batchSize, optimizer: { learningRate: 1e-2 } } }).warmStart!;
  const task = tokenTask(tinyTask, policy, { promptLength: null, maxTokens: null });
  const exampleAt = (place: number) => tinyTask.example(place);
  const optimizer = new AdamW(policy.variables, settings.optimizer);
  try {
    yield* warmStart<Example>({ policy, task, exampleAt, settings, device: 'auto', optimizer });
  } finally {
    optimizer.dispose();
  }
}

function rewardsOf(groups: readonly Group[]): number[] {
  return groups.flatMap(({ completions }) => completions.map(({ reward }) => reward));
}

const addon = loadAddon();
for (const backend of ['cpu', 'wasm', 'groupgrad'] as const) {
  const skip = slowBackend(backend) || (backend === 'groupgrad' && !addon.addon && addon.reason);
  describe(`the trainer on ${backend}`, { skip }, () => {
    before(async () => void (await startBackend(backend)));

    // Float32 state compared with float64: each step rounds a few times, 6e-8 each, values that may nearly cancel.
    for (const options of [
      { learningRate: 0.1 },
      { learningRate: 0.1, warmupSteps: 3, betas: [0.8, 0.95], epsilon: 1e-3, weightDecay: 0.5 },
      { learningRate: 0.1, warmupSteps: 2, schedule: 'linear', totalSteps: 5 },
      { learningRate: 0.1, warmupSteps: 2, schedule: 'cosine', totalSteps: 5 },
    ] satisfies OptimizerOptions[]) {
      test(`AdamW follows its recurrence with ${JSON.stringify(options)}`, () => {
        const start = { matrix: [0.5, -1, 2, 0.25], gain: [1, 1.5] };
        const variables = { matrix: variable(start.matrix, [2, 2]), gain: variable(start.gain, [2]) };
        const adam = new AdamW(variables, optimizerSettings(options));
        const expected = {
          matrix: recurrence(start.matrix, options, true),
          gain: recurrence(start.gain, options, false),
        };
        for (let step = 1; step <= 6; step++) {
          const values = { matrix: [1, -2, 0.1, 0].map((g) => g * Math.cos(step)), gain: [step, -0.5] };
          const gradients = { matrix: tf.tensor2d(values.matrix, [2, 2]), gain: tf.tensor1d(values.gain) };
          adam.update(gradients, 0.5);
          for (const name of ['matrix', 'gain'] as const) {
            const parameters = expected[name](
              step,
              values[name].map((g) => 0.5 * g),
            );
            assertArray(variables[name].dataSync(), parameters, 1e-5, `${name} after step ${step}`);
          }
          tf.dispose(gradients);
        }
        adam.dispose();
        tf.dispose(variables);
      });
    }

    test('an update accumulates its micro-batches, reports the norm of the gradient and clips to it', async () => {
      const made = variable([3, 4], [2]);
      const policy = { variables: { made } } as unknown as Policy;
      const adam = new AdamW(policy.variables, optimizerSettings({ learningRate: 1e-3, maxGradientNorm: 0.5 }));
      const tensors = tf.memory().numTensors;
      const half = () => tf.tidy(() => halfSquare(made, 0.5));
      const { loss, gradientNorm } = await updatePolicy(policy, adam, [half, half]);
      assert.deepEqual({ loss, gradientNorm }, { loss: 12.5, gradientNorm: 5 });
      assert.equal(tf.memory().numTensors, tensors);
      // The mean after one update is (1 − β₁) of the clipped gradient, (3, 4) times 0.5 / 5.
      assertArray(adam.means.made.dataSync(), [0.03, 0.04], 1e-6, 'mean');
      adam.dispose();
      made.dispose();
    });

    test('a non-finite loss stops the update before it is made', async () => {
      const made = variable([3, NaN], [2]);
      const policy = { variables: { made } } as unknown as Policy;
      const adam = new AdamW(policy.variables, optimizerSettings({}));
      const tensors = tf.memory().numTensors;
      await assert.rejects(updatePolicy(policy, adam, [() => halfSquare(made, 1)]), {
        name: 'NumericFault',
        message: /finite loss and gradient, got a loss of NaN/,
      });
      assert.equal(made.dataSync()[0], 3);
      assert.equal(tf.memory().numTensors, tensors);
      adam.dispose();
      made.dispose();
    });

    test('no step leaves a tensor behind', async () => {
      const policy = tinyPolicy();
      const before = tf.memory().numTensors;
      const counts: number[] = [];
      for await (const _ of startWarm(policy, 3, 4)) counts.push(tf.memory().numTensors);
      assert.equal(tf.memory().numTensors, before);
      const trainer = await createTrainer(
        tinyOptions({ policy, iterations: 2, miniBatches: 2, microBatchSize: 3, evaluate: { one: tinyTask } }),
      );
      for await (const _ of trainer.steps({ max: 3 })) counts.push(tf.memory().numTensors);
      trainer.dispose();
      assert.equal(tf.memory().numTensors, before);
      assert.equal(new Set(counts.slice(0, 3)).size, 1, `tensors after each update: ${counts}`);
      assert.equal(new Set(counts.slice(3)).size, 1, `tensors after each step: ${counts}`);
      policy.dispose();
    });

    test('a failing step leaves no tensor behind, wherever it fails', async () => {
      const policy = tinyPolicy();
      const failing = (where: string): Partial<TrainerOptions> => {
        let calls = 0;
        const isSecond = () => ++calls === 2;
        const fail = (): never => {
          throw new Error('it broke');
        };
        if (where === 'reward') return { rewards: [defineReward('broken', () => (calls++ < 20 ? calls % 2 : fail()))] };
        const logits: Policy['logits'] = (...args) => {
          const all = policy.logits(...args);
          if (!isSecond()) return all;
          if (where === 'logits') fail();
          if (where === 'shape') return tf.tidy(() => tf.slice(all, [0, 0], [-1, 5]));
          const faulty = Float32Array.from({ length: all.size }, () => NaN);
          return tf.tensor2d(faulty, all.shape);
        };
        return { policy: { ...policy, logits } as Policy };
      };
      for (const where of ['logits', 'shape', 'values', 'reward']) {
        const before = tf.memory().numTensors;
        const given = tinyOptions({ policy, loss: presets.grpo, guard: { action: 'halt' }, ...failing(where) });
        const trainer = await createTrainer(given);
        const counts: number[] = [tf.memory().numTensors];
        await assert.rejects(async () => {
          for await (const _ of trainer.steps({ max: 3 })) counts.push(tf.memory().numTensors);
        }, where);
        counts.push(tf.memory().numTensors);
        trainer.dispose();
        assert.equal(new Set(counts).size, 1, `${where}: tensors after each step: ${counts}`);
        assert.equal(tf.memory().numTensors, before, where);
      }
      policy.dispose();
    });

    test('an interrupted warm start frees its optimizer', async () => {
      const policy = tinyPolicy();
      const tensors = tf.memory().numTensors;
      for await (const _ of startWarm(policy, 3, 4)) break;
      assert.equal(tf.memory().numTensors, tensors);
      policy.dispose();
    });

    test('two runs with one seed are identical, bit for bit', async () => {
      const run = async () => {
        const trainer = await createTrainer(
          tinyOptions({ warmStart: { steps: 4, batchSize: 8 }, iterations: 2, miniBatches: 3 }),
        );
        const steps = await stepsOf(trainer, 3);
        const weights = weightsOf(trainer.policy);
        trainer.dispose();
        trainer.policy.dispose();
        return { metrics: steps.map(({ metrics }) => metrics), groups: steps.map(({ groups }) => groups), weights };
      };
      assert.deepEqual(await run(), await run());
    });

    test('a warm start lowers the cross-entropy, which begins near that of guessing', async () => {
      const policy = tinyPolicy();
      const losses: number[] = [];
      for await (const { loss } of startWarm(policy, 60, 16)) losses.push(loss!);
      const size = policy.logitsSize;
      policy.dispose();
      // Logits of a new policy have a variance of about 1, which adds about a half to ln V.
      assert.ok(Math.abs(losses[0] - Math.log(size)) < 1, `first loss ${losses[0]}`);
      assert.ok(losses[59] < 0.75 * losses[0], `from ${losses[0]} to ${losses[59]}`);
    });

    test("the sampler's log-probs equal those of the loss: the first ratio is 1", async (t) => {
      const trainer = await tinyTrainer(t, { sampling: { temperature: 0.7 } });
      const [{ metrics }] = await stepsOf(trainer, 1);
      // Log-probs of order 1 to 10 agree to a few units of float32 rounding.
      assert.ok(
        Math.abs(metrics['ratio/min'] - 1) < 1e-5 && Math.abs(metrics['ratio/max'] - 1) < 1e-5,
        JSON.stringify(metrics),
      );
      assert.ok(metrics['sampling/log_prob_difference_max'] < 1e-5);
      assert.ok(metrics['sampling/log_prob_difference_mean'] <= metrics['sampling/log_prob_difference_max']);
    });
  });
}

describe('the reinforcement loop', () => {
  before(async () => void (await startBackend(quickBackend)));

  test('a step reports how long it has blocked the event loop, and a notice says that signals have to wait', async (t) => {
    // The clock is put ahead; nothing is handled meanwhile, as if the reward had computed for so long.
    let [ahead, milliseconds] = [0, 0];
    const now = performance.now.bind(performance);
    t.mock.method(performance, 'now', () => now() + ahead);
    const busy = defineReward('busy', ({ completion }) => {
      ahead += milliseconds;
      milliseconds = 0;
      return completion.tokens.length;
    });
    const trainer = await tinyTrainer(t, { promptsPerStep: 1, groupSize: 2, rewards: [busy] });
    const loop = trainer.steps();
    const blocked = async (before: number) => {
      milliseconds = before;
      return ((await loop.next()).value as GrpoStep).timing.event_loop_blocked;
    };
    const [shortly, long] = [await blocked(400), await blocked(5200)];
    assert.ok(shortly > 0.35 && shortly < 5, `${shortly} s`);
    assert.ok(long > 5.1, `${long} s`);
    assert.equal(trainer.notices.length, 1);
    assert.match(
      trainer.notices[0],
      /^a step blocks the event loop for \d+\.\d s at a time, during which signals have to wait/,
    );
    await blocked(0);
    assert.equal(trainer.notices.length, 1);
    await loop.return();
  });

  for (const timing of ['prior', 'posterior'] as const) {
    test(`the anchor in ${timing} order`, async (t) => {
      const trainer = await tinyTrainer(t, { hadw: { anchor: { timing, update: 'kalman', window: 2, eta: 3 } } });
      const steps = await stepsOf(trainer, 4);
      const anchor = new DifficultyAnchor({ timing, update: 'kalman', window: 2, eta: 3 });
      for (const { metrics } of steps) {
        if (timing === 'posterior') anchor.observe(metrics.reward);
        // Before any observation HA-DW uses the batch's own mean.
        assert.equal(metrics['hadw/anchor'], anchor.value ?? metrics.reward);
        if (timing === 'prior') anchor.observe(metrics.reward);
      }
    });
  }

  test("with the anchor 'none' advantages are λ times those without HA-DW", async (t) => {
    const first = async (hadw: TrainerOptions['hadw']) => {
      const [{ groups, metrics }] = await stepsOf(await tinyTrainer(t, { hadw }), 1);
      return { metrics, advantages: groups.flatMap((g) => g.completions.map(({ advantage }) => advantage)) };
    };
    const [plain, scaled] = [await first(undefined), await first({ scale: 1.5, anchor: 'none' })];
    assert.deepEqual(
      scaled.advantages,
      plain.advantages.map((advantage) => 1.5 * advantage),
    );
    assert.ok(plain.advantages.some((advantage) => advantage !== 0));
    assert.equal('hadw/anchor' in scaled.metrics, false);
  });

  test("DGPO's question weights use the groups that the step learns from", async (t) => {
    const advantage = { scale: 'group-mad', dqw: { temperature: 0.5 } } as const;
    // Additional rounds: groups that were sampled but are not learnt from do not count in the softmax.
    const change = { hadw: undefined, dynamicSampling: { maxRounds: 4 }, advantage };
    const [{ groups, metrics }] = await stepsOf(await tinyTrainer(t, change), 1);
    const rewards = groups.flatMap(({ completions }) => completions.map(({ reward }) => reward));
    const groupSize = groups[0].completions.length;
    const expected = computeAdvantages(rewards, { groupSize, ...advantage });
    assert.deepEqual(
      groups.flatMap(({ completions }) => completions.map((completion) => completion.advantage)),
      [...expected.advantages],
    );
    assert.ok(metrics['dqw/weight_max'] > metrics['dqw/weight_min']);
    assert.equal(metrics['dqw/weight_max'], expected.metrics['dqw/weight_max']);
  });

  test('a step samples more rounds if too few groups have different rewards, up to its bound', async (t) => {
    const count = async (score: () => number, maxRounds: number) => {
      // Long enough for this policy to end its completions: truncated ones score 0.
      const trainer = await tinyTrainer(t, {
        train: { ...tinyTask, score },
        sampling: { maxTokens: 60 },
        dynamicSampling: { maxRounds },
      });
      const [{ groups, metrics }] = await stepsOf(trainer, 1);
      const prompts = groups.map((group) => group.example.prompt);
      assert.deepEqual(
        prompts,
        prompts.map((_, i) => tinyTask.example(i).prompt),
      );
      assert.equal(metrics['groups/resampled'], groups.length - 4);
      return { groups: groups.length, idle: metrics.frac_reward_zero_std };
    };
    assert.deepEqual(await count(() => 0, 3), { groups: 12, idle: 1 });
    assert.deepEqual(await count(() => 0, 1), { groups: 4, idle: 1 });
    let calls = 0;
    assert.deepEqual(await count(() => calls++ % 2, 3), { groups: 4, idle: 0 });
  });

  test('rewards that differ only by rounding are equal', async (t) => {
    let calls = 0;
    const sum = defineReward('sum', () => (calls++ % 2 ? 0.1 + 0.2 : 0.3));
    const trainer = await tinyTrainer(t, { rewards: [sum], dynamicSampling: { maxRounds: 2 } });
    const [{ groups, metrics }] = await stepsOf(trainer, 1);
    assert.deepEqual([groups.length, metrics.frac_reward_zero_std], [8, 1]);
    assert.ok(groups.every(({ completions }) => completions.every(({ advantage }) => advantage === 0)));
  });

  test('the step learns from the groups whose rewards differ', async (t) => {
    // Rewards differ in every second group of four; HA-DW with the mean of the chosen groups as anchor shows which those
    // were: the mean of all eight groups is 3/4, that of the four with both answers 1/2.
    let drawn = 0;
    const example = (index: number) => ({ ...tinyTask.example(index), difficulty: drawn++ });
    const train = { ...tinyTask, example, score: () => 0 };
    const members = new Map<Example, number>();
    const verdict = ({ example }: RewardInput) => {
      const member = members.get(example) ?? 0;
      members.set(example, member + 1);
      return example.difficulty % 2 === 0 ? member % 2 : 1;
    };
    const trainer = await tinyTrainer(t, {
      train,
      rewards: [defineReward('half', verdict)],
      dynamicSampling: { maxRounds: 2 },
    });
    drawn = 0;
    const [{ groups, metrics }] = await stepsOf(trainer, 1);
    assert.equal(groups.length, 8);
    assert.equal(metrics.reward, 0.75);
    assert.equal(metrics['hadw/anchor'], 0.5);
    const live = groups.map(({ completions }) => completions.every(({ advantage }) => advantage !== 0));
    assert.deepEqual(live, [true, false, true, false, true, false, true, false]);
  });

  test('a truncated completion scores 0, whatever its text', async (t) => {
    const trainer = await tinyTrainer(t, { train: { ...tinyTask, score: () => 1 } });
    const [{ groups, metrics }] = await stepsOf(trainer, 1);
    const completions = groups.flatMap((group) => group.completions);
    assert.deepEqual(
      rewardsOf(groups),
      completions.map(({ truncated }) => (truncated ? 0 : 1)),
    );
    assert.ok(metrics['completions/clipped_ratio'] > 0 && metrics['completions/clipped_ratio'] < 1);
    assert.equal(metrics['completions/clipped_ratio'], 1 - metrics.reward);
    assert.equal(metrics.accuracy, metrics.reward);
  });

  test('reinforcement raises the reward of an easy task', async (t) => {
    const task = { ...tinyTask, score: (text: string) => (text === '7' ? 1 : 0), size: 20 };
    const trainer = await tinyTrainer(t, {
      train: task,
      evaluate: { same: task },
      promptsPerStep: 8,
      sampling: {},
      optimizer: { learningRate: 2e-2 },
    });
    const rewards = (await stepsOf(trainer, 40)).map(({ metrics }) => metrics.reward);
    assert.ok(rewards[0] < 0.3 && rewards[39] > 0.9, rewards.join(' '));
    const { same } = await trainer.evaluate();
    assert.deepEqual(
      { ...same, byDifficulty: undefined },
      { correct: 20, count: 20, accuracy: 1, byDifficulty: undefined },
    );
    assert.equal(
      same.byDifficulty.reduce((sum, { count }) => sum + count, 0),
      20,
    );
  });

  test('a policy whose decode computes something else than its logits is an error', async (t) => {
    const policy = tinyPolicy();
    const other = tinyPolicy(4);
    t.after(() => other.dispose());
    const inexact = { ...policy, decode: other.decode, decodesExactly: false } as Policy;
    const trainer = await tinyTrainer(t, { policy: inexact });
    await assert.rejects(stepsOf(trainer, 1), /log-probs differ .* more than sampling.maxLogProbDifference \(0.1\)/);
    assert.equal(trainer.step, 0);
  });

  test("before the first update the loss sees the sampler's log-probs, bit for bit, also of truncated distributions", async (t) => {
    const cuts = [{}, { topP: 0.8, topK: 9 }, { minP: 0.05, temperature: 1.7, stopTokens: [3], stopTexts: ['41'] }];
    for (const cut of cuts) {
      const trainer = await tinyTrainer(t, {
        policy: tinyPolicy(),
        sampling: { maxTokens: 6, ...cut },
        tokensPerMicroBatch: 40,
        loss: { ...presets.grpo, kl: { beta: 0.1 } },
      });
      for (const { index, metrics, groups } of await stepsOf(trainer, 3)) {
        assert.equal(metrics['sampling/log_prob_difference_max'], 0);
        assert.ok(index > 1 || metrics.kl === 0, `${metrics.kl}`);
        assert.deepEqual([metrics['ratio/min'], metrics['ratio/max']], [1, 1]);
        const all = groups.flatMap(({ completions }) => completions);
        assert.equal(
          all.every(({ kept }) => kept !== undefined),
          cut.topP !== undefined || cut.minP !== undefined,
        );
        if (cut.stopTokens) assert.ok(all.every(({ tokens }) => !tokens.subarray(0, -1).includes(3)));
      }
    }
  });

  test('impossible options are rejected by name', async () => {
    const policy = tinyPolicy();
    const refused = (change: Partial<TrainerOptions> | Record<string, unknown>, field: string, name = 'RangeError') =>
      assert.rejects(createTrainer({ ...tinyOptions({ policy }), ...change } as TrainerOptions), (error: Error) => {
        assert.ok(error.message.startsWith(field) && error.name === name, `${field}: ${error.name}: ${error.message}`);
        return true;
      });
    await refused({ groupSize: 1 }, 'groupSize: expected an integer at least 2, got 1');
    await refused({ promptsPerStep: 0 }, 'promptsPerStep');
    await refused({ promptPerStep: 4 }, 'promptPerStep: unknown field', 'TypeError');
    await refused({ sampling: { temperature: 0 } }, 'sampling.temperature');
    await refused({ tokensPerMicroBatch: 0 }, 'tokensPerMicroBatch: expected an integer at least 1, got 0');
    await refused({ sampling: { topP: 0 } }, 'sampling.topP: expected a finite number above 0 and at most 1, got 0');
    await refused({ sampling: { topK: 1.5 } }, 'sampling.topK: expected an integer at least 1, got 1.5');
    await refused({ sampling: { minP: 2 } }, 'sampling.minP: expected a finite number at least 0 and at most 1, got 2');
    await refused({ sampling: { stopTexts: ['a', ''] } }, 'sampling.stopTexts[1]: expected a non-empty string');
    await refused({ sampling: { stopTokens: 4 } }, 'sampling.stopTokens: expected an array of token ids', 'TypeError');
    await refused({ sampling: { top_p: 1 } }, 'sampling.top_p: unknown field', 'TypeError');
    await refused({ sampling: { promptLength: 2 } }, 'addition of 1 digit, prompt: expected 1 to 2 tokens');
    await refused({ optimizer: { learningRate: -1 } }, 'optimizer.learningRate');
    await refused({ optimizer: { betas: [0.9, 1] } }, 'optimizer.betas[1]');
    await refused({ optimizer: { schedule: 'cosine' } }, 'optimizer.totalSteps', 'TypeError');
    await refused({ optimizer: { totalSteps: 5 } }, 'optimizer.totalSteps', 'TypeError');
    await refused({ loss: { surrogate: { kind: 'clip', low: -1, high: 1 } } }, 'loss.surrogate.low');
    await refused(
      { loss: { surrogate: { kind: 'reinforce' }, entropy: { coefficient: 1, tokens: 3 } } },
      'loss.entropy.tokens',
      'TypeError',
    );
    await refused({ hadw: { scale: 0 } }, 'hadw.scale');
    await refused({ hadw: {}, advantage: { dqw: {} } }, 'advantage.dqw');
    await refused({ hadw: undefined, advantage: { dqw: { temperature: -1 } } }, 'advantage.dqw.temperature');
    await refused({ hadw: { anchor: { window: 0 } } }, 'hadw.anchor.window');
    await refused({ hadw: { anchor: 'mean' as 'none' } }, 'hadw.anchor');
    await refused({ advantage: { groupSize: 4 } }, 'advantage.groupSize: unknown field', 'TypeError');
    await refused({ rewards: [] }, 'rewards', 'TypeError');
    await refused({ rewards: [() => 1] }, 'rewards[0]', 'TypeError');
    await refused({ rewards: [{ name: 'one', judge: () => 1 }] }, 'rewards[0].weight', 'TypeError');
    await refused({ rewards: [{ ...defineReward('one', () => 1), concurrency: 0 }] }, 'rewards[0].concurrency');
    await refused(
      { rewards: [defineReward('one', () => 1, { weight: 0 })] },
      'rewards: expected at least one reward of whole completions',
    );
    await refused({ dynamicSampling: {} }, 'dynamicSampling.maxRounds', 'TypeError');
    await refused({ resume: 'runs/other' }, "resume: expected 'auto' or 'never' without a runDir");
    await refused({ notes: { size: 1n } }, 'notes: expected plain JSON', 'TypeError');
    await refused({ train: { ...tinyTask, score: undefined } }, 'train.score', 'TypeError');
    await refused({ evaluate: { 'a/b': tinyTask } }, 'evaluate');
    await refused({ guard: { action: 'rollback' } }, 'guard.action');
    const keepBest = { checkpoint: { keepBest: 'eval/hard/accuracy' } };
    await refused(keepBest, 'checkpoint.keepBest: expected no metric of an evaluation');
    await refused(
      { ...keepBest, evaluate: { easy: tinyTask } },
      'checkpoint.keepBest: expected eval/easy/accuracy, got',
    );
    for (const keepBest of ['eval/easy/acuracy', 'eval/easy', 'eval/toString/accuracy']) {
      await refused(
        { checkpoint: { keepBest }, evaluate: { easy: tinyTask } },
        'checkpoint.keepBest: expected eval/easy',
      );
    }
    await refused({ warmStart: {} }, 'warmStart.steps', 'TypeError');
    await refused({ resume: 3 }, 'resume', 'TypeError');
    await refused({ policy: { ...policy, logits: undefined } }, 'policy.logits', 'TypeError');
    await refused(
      { train: lengthTask({ ...tinyTask, example: () => ({ ...tinyTask.example(0), prompt: '1*2' }) }) },
      'addition of 1 digit, prompt "1*2"',
    );
    await refused(
      { evaluate: { late: { ...tinyTask, example: async () => tinyTask.example(0) } } },
      'evaluate.late.example(0).prompt: expected a string, got nothing',
      'TypeError',
    );
    policy.dispose();
    await refused({}, 'policy.variables.embedding: expected a live variable, got one that was disposed');
  });

  test('impossible options of a loop are rejected by name', async (t) => {
    const trainer = await tinyTrainer(t);
    const refused = async (options: object, message: RegExp) => {
      await assert.rejects(trainer.run(options), message);
      await assert.rejects(trainer.steps(options).next(), message);
    };
    await refused({ maximum: 3 }, /^TypeError: maximum: unknown field; expected one of max, signal/);
    await refused({ max: 1.5 }, /^RangeError: max/);
    await refused({ max: null }, /^TypeError: max/);
    await refused({ signal: new AbortController() }, /^TypeError: signal: expected an AbortSignal/);
    await assert.rejects(trainer.start({ max: 3 } as object), /^TypeError: max: unknown field/);
    await assert.rejects(trainer.run({ output: 3 as never }), /^TypeError: output/);
    await assert.rejects(trainer.run({ onStep: 3 as never }), /^TypeError: onStep/);
    assert.equal(trainer.step, 0);
  });

  test('only one loop and one start can run at a time', async (t) => {
    const trainer = await tinyTrainer(t, { warmStart: { steps: 2 } });
    const starting = trainer.start();
    await assert.rejects(trainer.start(), /expected an idle trainer/);
    await assert.rejects(trainer.steps().next(), /expected an idle trainer/);
    await starting;
    const loop = trainer.steps();
    await loop.next();
    await assert.rejects(trainer.steps().next(), /expected no other running loop over this trainer/);
    await loop.return();
    assert.equal((await trainer.steps().next()).value?.index, 2);
  });

  test('a policy that is disposed during a run ends the run with an error that says so', async (t) => {
    const trainer = await createTrainer(tinyOptions());
    t.after(() => trainer.dispose());
    const loop = trainer.steps();
    await loop.next();
    trainer.policy.dispose();
    await assert.rejects(loop.next(), /^RangeError: policy\.variables\.embedding: expected a live variable/);
  });

  test('a keepBest metric that no step has ends the run in the first step', async (t) => {
    const trainer = await tinyTrainer(t, { checkpoint: { keepBest: 'rewrd' } });
    await assert.rejects(
      stepsOf(trainer, 1),
      /^RangeError: checkpoint\.keepBest: expected a metric \(.*reward.*\), got 'rewrd'$/,
    );
    assert.equal(trainer.step, 0);
  });

  test('a vocabulary that returns invalid ids or text is rejected when they occur', async (t) => {
    const words = characterVocabulary(tinyTask.characters);
    const refused = async (change: Record<string, unknown>, message: RegExp, options: Partial<TrainerOptions> = {}) => {
      const policy = tinyPolicy();
      t.after(() => policy.dispose());
      const vocabulary = { ...words, ...change } as Vocabulary;
      const given = {
        ...tinyOptions({ ...options }),
        policy: { ...policy, vocabulary, tokenizer: vocabularyTokenizer(vocabulary) } as Policy,
      };
      const run = async () => stepsOf(await createTrainer(given), 1);
      await assert.rejects(run, (error) => message.test(String(error)) || assert.fail(`${error}`));
    };
    const text = 'TypeError: policy\\.vocabulary\\.decode of the tokens';
    // When the policy is given: before anything is sampled.
    for (const decoded of [undefined, null, 7, ['7'], Promise.resolve('7')]) {
      await refused({ decode: () => decoded }, new RegExp(`^${text} 0: expected a string, got `));
    }
    // Later, for some tokens only.
    await refused(
      { decode: (tokens: Int32Array) => (tokens.length > 1 ? undefined : words.decode(tokens)) },
      new RegExp(`^${text} [\\d, ]+: expected a string, got nothing`),
    );
    const prompt = /^addition of 1 digit, prompt "\d\+\d=": policy\.vocabulary\.encode\("\d\+\d="\): expected /.source;
    for (const [encoded, expected] of [
      [undefined, 'an Int32Array, got nothing'],
      [[1, 2], 'an Int32Array, got an array of 2 values'],
      [Float32Array.of(1), 'an Int32Array, got a Float32Array of 1 values'],
    ] as const) {
      await refused({ encode: () => encoded }, new RegExp(`^TypeError: ${prompt.slice(1)}${expected}`));
    }
    for (const id of [-1, words.size]) {
      const outside = new RegExp(`^RangeError: ${prompt.slice(1)}token ids from 0 to ${words.size - 1}, got ${id}`);
      await refused({ encode: () => Int32Array.of(1, id) }, outside);
    }
    // Solutions, which only a warm start encodes.
    await refused(
      { encode: (given: string) => (given.endsWith('=') ? words.encode(given) : Int32Array.of(99)) },
      /^RangeError: policy\.vocabulary\.encode\("\d+"\): expected token ids from 0 to 12, got 99/,
      { warmStart: { steps: 1 } },
    );
  });

  test('a policy that returns no logits, or logits of other rows, is rejected by name', async (t) => {
    const refused = async (change: (policy: Policy) => Partial<Policy>, message: RegExp) => {
      const policy = tinyPolicy();
      t.after(() => policy.dispose());
      const given = tinyOptions({ policy: { ...policy, ...change(policy) } as Policy });
      const run = async () => stepsOf(await createTrainer(given), 1);
      await assert.rejects(run, (error) => message.test(String(error)) || assert.fail(`${error}`));
    };
    const gives = (logits: (own: tf.Tensor2D) => unknown) => (policy: Policy) => ({
      logits: ((...args) => logits(policy.logits(...args))) as Policy['logits'],
    });
    await refused(
      gives(() => undefined),
      /^TypeError: policy: expected logits in a tensor, got nothing$/,
    );
    await refused(
      gives(async (own) => own),
      /^TypeError: policy: expected logits in a tensor, got an object of class Promise$/,
    );
    const shapes = /^RangeError: policy: expected logits of shape \[80, 13\] \(rows, vocabulary\), got /.source;
    await refused(
      gives((own) => tf.slice(own, [0, 0], [-1, 12])),
      new RegExp(`${shapes}\\[80, 12\\]$`),
    );
    await refused(
      gives((own) =>
        tf.pad2d(own, [
          [0, 0],
          [0, 3],
        ]),
      ),
      new RegExp(`${shapes}\\[80, 16\\]$`),
    );
    await refused(
      gives((own) => tf.slice(own, [1, 0])),
      new RegExp(`${shapes}\\[79, 13\\]$`),
    );
    await refused(
      gives((own) => tf.reshape(own, [16, 5, 13])),
      new RegExp(`${shapes}\\[16, 5, 13\\]$`),
    );
    await refused(
      gives((own) => tf.cast(own, 'int32')),
      /^RangeError: policy: expected float32 logits, got dtype int32$/,
    );
    await refused(
      () => ({ decode: (() => undefined) as never }),
      /^TypeError: policy\.decode: expected an object, got nothing/,
    );
    await refused(
      () => ({ decode: (() => ({ logits: tf.zeros([16, 13]), dispose: () => {} })) as never }),
      /^TypeError: policy\.decode\(…\)\.append: expected a function, got nothing/,
    );
    // A decoder that fails later.
    await refused(
      (policy) => ({
        decode: ((...args) => {
          const decoder = policy.decode(...args);
          return {
            get logits() {
              return decoder.logits;
            },
            append(tokens: Int32Array) {
              decoder.append(tokens);
              (decoder as { logits: unknown }).logits = tf.zeros([16, 2]);
            },
            dispose: () => decoder.dispose(),
          };
        }) as Policy['decode'],
      }),
      /^RangeError: policy: expected logits of shape \[16, 13\] \(rows, vocabulary\), got \[16, 2\]$/,
    );
  });

  test('a policy whose logits do not have the stated size is rejected', async (t) => {
    const policy = tinyPolicy();
    const wide = { ...policy, logitsSize: 20 } as Policy;
    await assert.rejects(stepsOf(await tinyTrainer(t, { policy: wide }), 1), {
      name: 'RangeError',
      message: 'policy: expected logits of shape [16, 20] (rows, vocabulary), got [16, 13]',
    });
  });
});

test('the learning rate rises, stays or falls, and is 0 after totalSteps', () => {
  const rates = (optimizer: OptimizerOptions, count: number) =>
    Array.from({ length: count }, (_, i) =>
      learningRateAt(i + 1, optimizerSettings({ learningRate: 8, ...optimizer })),
    );
  assert.deepEqual(rates({}, 2), [8, 8]);
  assert.deepEqual(rates({ warmupSteps: 4 }, 6), [2, 4, 6, 8, 8, 8]);
  assert.deepEqual(rates({ warmupSteps: 1, schedule: 'linear', totalSteps: 5 }, 7), [8, 8, 6, 4, 2, 0, 0]);
  assertArray(rates({ schedule: 'cosine', totalSteps: 4 }, 6), [8, 6.82842712, 4, 1.17157288, 0, 0], 1e-8, 'cosine');
});

test('a finite task is shuffled anew each epoch; an infinite one is used in its order', () => {
  const finite = { ...tinyTask, size: 10, example: (index: number) => ({ ...tinyTask.example(0), difficulty: index }) };
  const order = new ExampleOrder(finite, true, 5);
  const round = (n: number) => Array.from({ length: 10 }, (_, i) => order.at(10 * n + i).difficulty);
  const [first, second] = [round(0), round(1)];
  assert.deepEqual([...first].sort(), [...Array(10).keys()]);
  assert.deepEqual([...second].sort(), [...Array(10).keys()]);
  assert.notDeepEqual(first, second);
  assert.deepEqual(round(0), first);
  assert.deepEqual(
    Array.from({ length: 12 }, (_, i) => new ExampleOrder(finite, false, 5).at(i).difficulty),
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1],
  );
  assert.deepEqual(new ExampleOrder(tinyTask, true, 5).at(17), tinyTask.example(17));
});

test('a batch has each prompt from position 0, its completion after it, and a mask over the targets', () => {
  const pairs = [
    { prompt: Int32Array.of(1, 2, 3), completion: Int32Array.of(4, 5, 9) },
    { prompt: Int32Array.of(6, 7), completion: Int32Array.of(9) },
    { prompt: Int32Array.of(2, 3, 4, 5), completion: Int32Array.of(4, 5, 6), masked: true },
  ];
  const batch = completionBatch(pairs, { padding: 0, contextLength: 20 });
  assert.deepEqual(batch, {
    input: {
      sequences: 3,
      // The longest has 4 + 3 − 1 positions; the length of batches is a multiple of 4.
      length: 8,
      tokens: Int32Array.of(...[1, 2, 3, 4, 5, 0, 0, 0], ...[6, 7, 0, 0, 0, 0, 0, 0], ...[2, 3, 4, 5, 4, 5, 0, 0]),
      starts: Int32Array.of(0, 0, 0),
      contextLength: 20,
    },
    // The last position of the shortest prompt.
    from: 1,
    shape: { sequences: 3, length: 7 },
    offsets: Int32Array.of(1, 0, 2),
    targets: Int32Array.of(...[0, 4, 5, 9, 0, 0, 0], ...[9, 0, 0, 0, 0, 0, 0], ...[0, 0, 4, 5, 6, 0, 0]),
    mask: Uint8Array.of(...[0, 1, 1, 1, 0, 0, 0], ...[1, 0, 0, 0, 0, 0, 0], ...[0, 0, 0, 0, 0, 0, 0]),
  });
  assert.deepEqual(
    spread([Float32Array.of(-1, -2, -3), Float32Array.of(-4)], { ...batch, shape: { sequences: 2, length: 5 } }),
    Float32Array.of(0, -1, -2, -3, 0, -4, 0, 0, 0, 0),
  );
  const kept = { ids: Int32Array.of(4, 5, 9, 9), offsets: Int32Array.of(0, 1, 3, 4) };
  const cut = completionBatch([{ ...pairs[0], kept }, pairs[1]], { padding: 0, contextLength: 20 });
  assert.deepEqual(
    Array.from(cut.kept!, (ids) => ids && [...ids]),
    [undefined, [4], [5, 9], [9], ...new Array(10)],
  );
});

test('progress stays on one line of a terminal, and prints only milestones elsewhere', () => {
  const written = (isTTY: boolean) => {
    const parts: string[] = [];
    const stream = { isTTY, columns: 10, write: (text: string) => parts.push(text) };
    const progress = createProgress(stream);
    progress.update('one', false);
    progress.update('two is too long', true);
    progress.print('end');
    return parts.join('');
  };
  assert.equal(written(true), '\r\x1b[2Kone\r\x1b[2Ktwo is to\r\x1b[2Kend\n');
  assert.equal(written(false), 'two is too long\nend\n');
});

test('a step is shown in one line', () => {
  const metrics = { reward: 0.5, entropy: NaN, 'eval/hard/accuracy': 0.25, 'eval/hard/accuracy/3': 1 };
  const step = { index: 10, metrics, timing: { tokens_per_second: 1234.5 }, groups: [], warnings: [] };
  assert.equal(progressLine(step, 30, 12), 'step 10/30  reward 0.500  hard 0.250  1235 tokens/s  4 min left');
  assert.equal(progressLine({ ...step, metrics: {}, timing: {} }, undefined, 1), 'step 10');
});

test('every evaluation stays in the terminal, and on other output', async (t) => {
  for (const isTTY of [true, false]) {
    const parts: string[] = [];
    const output = { isTTY, columns: 200, write: (text: string) => parts.push(text) };
    const evaluate = { hard: lengthTask({ ...tinyTask, size: 4 }) };
    const trainer = await tinyTrainer(t, { evaluate, evaluation: { every: 2, atStart: true } });
    await trainer.run({ max: 5, output });
    const kept = parts.filter((text) => text.endsWith('\n') && text.includes('hard '));
    assert.deepEqual(
      kept.map((text) => /step (\d+)/.exec(text)![1]),
      ['0', '2', '4'],
      parts.join(''),
    );
  }
});

test('the evaluation after the last step is printed once, as the result', async (t) => {
  for (const isTTY of [true, false]) {
    const parts: string[] = [];
    const output = { isTTY, columns: 200, write: (text: string) => parts.push(text) };
    const evaluate = { hard: lengthTask({ ...tinyTask, size: 4 }), easy: lengthTask({ ...tinyTask, size: 3 }) };
    const trainer = await tinyTrainer(t, { evaluate, evaluation: { every: 2, atStart: false } });
    const { metrics } = await trainer.run({ max: 4, output });
    const kept = parts.filter((text) => text.endsWith('\n')).map((text) => text.slice(isTTY ? 5 : 0, -1));
    assert.match(kept.at(-4)!, /^step 2\/4 .* hard \d\.\d{3} {2}easy \d\.\d{3}/);
    assert.match(kept.at(-3)!, /^step 4\/4 {2}reward .* tokens\/s$/);
    assert.doesNotMatch(kept.at(-3)!, /hard|easy/);
    const percent = (name: string) => (100 * metrics[`eval/${name}/accuracy`]).toFixed(1);
    assert.deepEqual(kept.slice(-2), [
      `hard: ${percent('hard')} % of 4 right`,
      `easy: ${percent('easy')} % of 3 right`,
    ]);
  }
});

test('an unavailable backend is rejected with the packages that provide it', async () => {
  await assert.rejects(startBackend('webgl' as never), { name: 'RangeError', message: /^backend/ });
});

function variable(values: number[], shape: number[]): tf.Variable {
  return tf.tidy(() => tf.variable(tf.tensor(values, shape)));
}

/** scale * Σ x² / 2 with its own gradient: tfjs-core registers none on Node. */
function halfSquare(x: tf.Tensor, scale: number): tf.Scalar {
  const operation = tf.customGrad((given, save) => {
    (save as (tensors: tf.Tensor[]) => void)([given as tf.Tensor]);
    return {
      value: tf.mul(tf.sum(tf.square(given as tf.Tensor)), scale / 2),
      gradFunc: (dy, saved) => tf.mul(tf.mul(dy, scale), (saved as tf.Tensor[])[0]),
    };
  });
  return operation(x) as tf.Scalar;
}

/** AdamW (arXiv 1711.05101, algorithm 2) on one parameter vector: the parameters after each step. */
function recurrence(start: number[], options: OptimizerOptions, decays: boolean) {
  const { betas = [0.9, 0.999], epsilon = 1e-8, weightDecay = 0 } = options;
  const x = [...start];
  const m = start.map(() => 0);
  const v = start.map(() => 0);
  return (step: number, gradient: number[]) => {
    const rate = learningRateAt(step, optimizerSettings(options));
    gradient.forEach((g, i) => {
      m[i] = betas[0] * m[i] + (1 - betas[0]) * g;
      v[i] = betas[1] * v[i] + (1 - betas[1]) * g * g;
      const unbiased = m[i] / (1 - betas[0] ** step) / (Math.sqrt(v[i] / (1 - betas[1] ** step)) + epsilon);
      x[i] -= rate * (unbiased + (decays ? weightDecay * x[i] : 0));
    });
    return x;
  };
}
