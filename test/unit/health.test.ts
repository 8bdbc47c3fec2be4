// Warnings of runs that do not learn: when each begins, that it is given once, what it says, and that a resumed run warns
// like an uninterrupted one.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { before, describe } from 'node:test';
import { startBackend } from '../../src/backend/backend.js';
import { defineReward } from '../../src/index.js';
import { createTransformer } from '../../src/model/transformer.js';
import { countdown } from '../../src/tasks/countdown.js';
import { characterVocabulary } from '../../src/text/vocabulary.js';
import { type HealthContext, healthLimits, newHealth, observeHealth, warningsOf } from '../../src/train/health.js';
import { quickBackend } from '../support/backend.js';
import { root } from '../support/native.js';
import { lengthTask, tinyTask, tinyTrainer } from '../support/trainer.js';

const { window, start } = healthLimits;

const context: HealthContext = {
  completions: 128,
  groupSize: 8,
  rewards: [{ name: 'accuracy', weight: 1 }],
  isCentered: true,
  hasWarmStart: true,
  maxTokens: 12,
  updatesPerStep: 2,
  totalUpdates: null,
  maxLogProbDifference: null,
};

/** A step of a healthy run. */
const good = {
  reward: 0.4,
  reward_std: 0.49,
  frac_reward_zero_std: 0.3,
  accuracy: 0.4,
  'rewards/accuracy/mean': 0.4,
  'rewards/accuracy/std': 0.49,
  'completions/mean_length': 6,
  'completions/clipped_ratio': 0.1,
  'clip_ratio/region_mean': 0.02,
  'groups/resampled': 0,
  entropy: 0.8,
  grad_norm: 1.5,
  learning_rate: 1e-3,
};
const skipped = { 'guard/skipped': 1 };
type Step = Record<string, number>;

/** Steps with small changes from one to the next, as in real runs. */
function steps(count: number, change: (i: number) => Step = () => ({}), base: Step = good): Step[] {
  return Array.from({ length: count }, (_, i) => {
    const wobble = 0.01 * Math.sin(7 * i);
    return { ...base, reward: good.reward + wobble, accuracy: good.accuracy + wobble, ...change(i) };
  });
}

interface Told {
  step: number;
  warning: string;
}

/** The warnings over some steps, numbered from 1, and the conditions in each. */
function watch(all: readonly Step[], change: Partial<HealthContext> = {}) {
  const told: Told[] = [];
  const held: string[][] = [];
  let health = newHealth();
  all.forEach((metrics, i) => {
    const frozen = JSON.stringify(health);
    const result = observeHealth(health, i + 1, metrics, { ...context, ...change });
    assert.equal(JSON.stringify(health), frozen, 'the state was changed in place');
    // As in a checkpoint.
    assert.deepEqual(JSON.parse(JSON.stringify(result.health)), result.health);
    health = JSON.parse(JSON.stringify(result.health));
    told.push(...result.warnings.map((warning) => ({ step: i + 1, warning })));
    held.push(Object.keys(result.metrics).map((name) => name.replace('health/', '')));
    assert.ok(Object.values(result.metrics).every((value) => value === 1));
  });
  return { told, held, health, inEffect: warningsOf(health) };
}

/** One warning, at this step and with this text. */
function assertTold({ told }: { told: Told[] }, step: number, text: RegExp): void {
  assert.deepEqual(
    told.map((one) => one.step),
    [step],
    told.map(({ warning }) => warning).join('\n'),
  );
  assert.match(told[0].warning, text);
  assert.ok(told[0].warning.startsWith(`step ${step}: `));
}

describe('a run', () => {
  test('that is healthy has no warnings and no metrics of them', () => {
    const { told, held, health } = watch(steps(100));
    assert.deepEqual(told, []);
    assert.ok(held.every((names) => names.length === 0));
    assert.equal(health.learned, 100);
  });

  test('that learns is healthy: rewards and accuracy rise, length and entropy fall', () => {
    const learning = steps(200, (i) => {
      const share = i / 200;
      return {
        reward: 0.2 + 0.7 * share,
        accuracy: 0.2 + 0.7 * share,
        'completions/mean_length': 12 - 9 * share,
        'completions/clipped_ratio': 0.5 - 0.5 * share,
        entropy: 1.5 * Math.exp(-4 * share),
        frac_reward_zero_std: 0.2 + 0.7 * share,
        kl: 2 * share,
      };
    });
    assert.deepEqual(watch(learning).told, []);
  });

  test('gets a warning about no gradient once all groups were without spread for the window', () => {
    const equal = { frac_reward_zero_std: 1, reward: 0, accuracy: 0, grad_norm: 0 };
    const run = watch([...steps(7, () => ({ accuracy: 0.05, reward: 0.05 })), ...steps(30, () => equal)]);
    assertTold(
      run,
      7 + window,
      /none of the last 10 steps had a gradient to learn from: in every group all rewards were equal/,
    );
    assert.match(
      run.told[0].warning,
      /mean reward 0, 0\.0 % right\); try easier problems, a longer warmStart, groups larger than 8/,
    );
    assert.deepEqual(run.held[7 + window - 2], []);
    assert.deepEqual(run.held[7 + window - 1], ['no_gradient']);
    assert.deepEqual(run.held.at(-1), ['no_gradient']);
    assert.equal(run.health.learned, 7);
    assert.deepEqual(run.inEffect, [run.told[0].warning]);
  });

  test('says what causes it', () => {
    const text = (change: Step, more: Partial<HealthContext> = {}) =>
      watch(
        steps(window, () => change),
        more,
      ).told[0]?.warning;
    const equal = { frac_reward_zero_std: 1, grad_norm: 0 };
    assert.match(
      text({ ...equal, reward: 0, accuracy: 0 }, { hasWarmStart: false }),
      /a policy that is never right has nothing to reinforce: give it a warmStart, easier problems/,
    );
    assert.match(
      text({ ...equal, reward: 1, accuracy: 1 }),
      /the task is learnt: end the run, or go on with harder problems/,
    );
    assert.match(text({ ...equal, reward: 0.5, accuracy: 0.5 }), /a problem is always right or always wrong/);
    assert.match(text({ ...equal, reward: Number.NaN, accuracy: 0.5 }), /no reward applied to any completion/);
    assert.match(text({ grad_norm: 0 }), /it was 0 although rewards differ; are all tokens masked/);
    // The gradient of an entropy bonus or a KL term does not come from rewards.
    assert.match(text({ frac_reward_zero_std: 1, reward: 0, accuracy: 0 }), /in every group all rewards were equal/);
    // Without a centre, equal rewards have a gradient.
    assert.equal(text({ frac_reward_zero_std: 1 }, { isCentered: false }), undefined);
    assert.match(
      text({ ...equal, reward: 0, accuracy: 0 }, { isCentered: false }),
      /in every group all rewards were equal/,
    );
  });

  test('gets a warning when the guard skips every step, and when it skips half of them', () => {
    const all = watch(Array.from({ length: window + 5 }, () => skipped));
    assertTold(all, window, /the guard skipped each of the last 10 steps: nothing is learnt; faults\//);
    assert.equal(all.health.learned, 0);
    const half = watch([...steps(20), ...steps(20).flatMap((step) => [skipped, step])]);
    assertTold(half, 20 + window - 1, /the guard skipped 5 of the last 10 steps/);
    const few = watch([...steps(20), ...steps(20).flatMap((step) => [skipped, step, step])]);
    assert.deepEqual(few.told, []);
    const idle = { frac_reward_zero_std: 1, grad_norm: 0, accuracy: 0.5 };
    const both = watch(Array.from({ length: window }, (_, i) => (i % 2 ? skipped : steps(1, () => idle)[0])));
    assertTold(both, window, /had a gradient to learn from, 5 were skipped by the guard: in every group/);
  });

  test('gets another warning only when a condition returns after it was absent for the window', () => {
    const equal = { frac_reward_zero_std: 1, grad_norm: 0 };
    const times = (gap: number) =>
      watch([...steps(15, () => equal), ...steps(gap), ...steps(30, () => equal)]).told.map(({ step }) => step);
    assert.deepEqual(times(1), [10, 15 + 1 + window]);
    // A condition that comes and goes: skipped shares around a half.
    const shares = [0, 1, 0, 1, 0, 1, 0, 1, 0, 0, 1, 0, 1, 0, 1, 0, 1, 0, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1];
    const flicker = watch([...steps(10), ...shares.map((is) => (is ? skipped : steps(1)[0]))]);
    assert.equal(flicker.told.length, 1, flicker.told.map(({ warning }) => warning).join('\n'));
    const gone = flicker.held.filter((names) => names.length === 0).length;
    assert.ok(gone > 10 && gone < 39);
    // Absent for long enough.
    const rested = watch([...steps(12, () => equal), ...steps(40), ...steps(12, () => equal)]);
    assert.deepEqual(
      rested.told.map(({ step }) => step),
      [10, 62],
    );
    assert.deepEqual(watch([...steps(12, () => equal), ...steps(window)]).inEffect, []);
    assert.equal(watch([...steps(12, () => equal), ...steps(window - 1)]).inEffect.length, 1);
  });

  test('gets a warning when nothing is ever right, and when nothing is right any more', () => {
    const wrong = { accuracy: 0, reward: -0.1 };
    const run = watch(
      steps(window, () => wrong),
      {
        rewards: [
          { name: 'brief', weight: 0.1 },
          { name: 'mere', weight: 0 },
        ],
        hasWarmStart: false,
      },
    );
    assertTold(
      run,
      window,
      /none of the 1280 completions of the last 10 steps was right: the policy learns only what else 'brief' may pay for; /,
    );
    assert.match(run.told[0].warning, /give it a warmStart/);
    assert.deepEqual(run.held.at(-1), ['zero_accuracy']);
    const resampled = watch(steps(window, () => ({ ...wrong, 'groups/resampled': 2 })));
    assert.match(resampled.told[0].warning, /none of the 1440 completions/);
    const later = watch([...steps(20), ...steps(20, () => ({ accuracy: 0 }))]);
    assert.match(
      later.told.find(({ step }) => step === 20 + window)!.warning,
      /was right, where 4\d\.\d % were before: what is learnt is something else/,
    );
  });

  test('gets a warning about reward hacking, with the rewards that rose', () => {
    const rewards = [
      { name: 'correct', weight: 1 },
      { name: 'brief', weight: 0.1 },
      { name: 'cost', weight: -1 },
    ];
    const gamed = (rises: number) => (i: number) => ({
      reward: 0.1 + Math.min(i, 20) * rises + 0.005 * Math.sin(5 * i),
      reward_std: 0.2,
      accuracy: 0.1 + 0.005 * Math.sin(3 * i),
      'rewards/correct/mean': 0.1 + 0.005 * Math.sin(3 * i),
      'rewards/correct/std': 0.3,
      'rewards/brief/mean': i * rises,
      'rewards/brief/std': 0.1,
      'rewards/cost/mean': 0.5 + i * rises,
      'rewards/cost/std': 0.1,
    });
    const run = watch(steps(40, gamed(0.02)), { rewards });
    assertTold(
      run,
      start + window,
      /the reward has risen from 0\.14\d* to 0\.2\d+ and accuracy has not \(1\d\.\d % in the first 5 steps/,
    );
    assert.match(run.told[0].warning, /the policy gets better at '(correct', ')?brief' alone/);
    assert.doesNotMatch(run.told[0].warning, /'cost'/);
    // Chance is not a rise, and a rise of both is not a rise of only one.
    assert.deepEqual(watch(steps(40, gamed(0)), { rewards }).told, []);
    const both = steps(40, (i) => ({ ...gamed(0.02)(i), accuracy: 0.1 + 0.02 * i }));
    assert.deepEqual(watch(both, { rewards }).told, []);
    // If everything is right already, accuracy cannot rise.
    const solved = steps(40, (i) => ({ ...gamed(0.02)(i), accuracy: 0.97 }));
    assert.deepEqual(watch(solved, { rewards }).told, []);
  });

  test('gets a warning about completions that shrink without being right more often', () => {
    const shrinking = (i: number) => ({ 'completions/mean_length': Math.max(1, 12 - i) });
    assertTold(
      watch(steps(40, shrinking)),
      start + window,
      /completions have shrunk from 10 to 3\.1 tokens and accuracy has not risen/,
    );
    const learning = steps(40, (i) => ({ ...shrinking(i), accuracy: 0.4 + 0.01 * i, reward: 0.4 + 0.01 * i }));
    assert.deepEqual(watch(learning).told, []);
  });

  test('gets a warning about completions that do not end', () => {
    const never = watch(steps(20, () => ({ 'completions/clipped_ratio': 0.95 })));
    assertTold(
      never,
      window,
      /95\.0 % of the completions of the last 10 steps were cut off at 12 tokens \(sampling\.maxTokens\)/,
    );
    assert.deepEqual(watch(steps(20, () => ({ 'completions/clipped_ratio': 0.85 }))).told, []);
    const growing = watch(steps(60, (i) => ({ 'completions/clipped_ratio': Math.min(0.6, 0.02 * i) })));
    assert.equal(growing.told.length, 1);
    assert.match(
      growing.told[0].warning,
      /truncated completions have risen from 4\.0 % to 3\d\.\d %: completions grow into/,
    );
  });

  test('gets a warning about a policy that stops exploring, that diverges, or whose ratios are clipped', () => {
    const sharp = { entropy: 0.001, accuracy: 0.3, frac_reward_zero_std: 0.9 };
    assertTold(
      watch([...steps(5), ...steps(20, () => sharp)]),
      start + window,
      /entropy has fallen from 0\.8 to 0\.001 nats/,
    );
    assert.deepEqual(watch([...steps(5), ...steps(20, () => ({ ...sharp, accuracy: 0.8 }))]).told, []);
    assertTold(
      watch(steps(20, (i) => ({ kl: 0.2 * i }))),
      start + window,
      /the policy is 1\.9 nats per token from its reference/,
    );
    assertTold(
      watch(steps(20, () => ({ 'clip_ratio/region_mean': 0.7 }))),
      window,
      /70\.0 % of the ratios were clipped/,
    );
  });

  test('gets a warning about falling accuracy', () => {
    const fallen = watch([...steps(30), ...steps(30, () => ({ accuracy: 0.1, reward: 0.1 }))]);
    assert.equal(fallen.told.length, 1);
    assert.match(fallen.told[0].warning, /accuracy has fallen from 4\d\.\d % at its best to 1\d\.\d %/);
  });

  test('gets a warning at once about a learning rate that has reached 0', () => {
    const over = watch([...steps(8), ...steps(4, () => ({ learning_rate: 0 }))], { totalUpdates: 16 });
    assertTold(over, 9, /optimizer\.totalSteps counts updates, of which there are 2 a step: 16 of them are 8 steps/);
    assert.equal(over.health.learned, 8);
    assertTold(watch(steps(2, () => ({ learning_rate: 0 }))), 1, /the learning rate is 0: nothing is learnt/);
  });

  test('is warned of log-probs that differ at once, where no older weights than its own explain it', () => {
    const differs = { 'sampling/log_prob_difference_max': 0.5 };
    const limit = { maxLogProbDifference: 0.1 };
    assert.deepEqual(
      watch(
        steps(2, () => differs),
        limit,
      ).held,
      [['log_prob_difference'], ['log_prob_difference']],
    );
    const ahead = watch(
      steps(4, (i) => ({ ...differs, 'sampling/staleness_max': i % 2 })),
      limit,
    );
    assert.deepEqual(ahead.held, [['log_prob_difference'], [], ['log_prob_difference'], []]);
    assert.equal(ahead.told.length, 1);
  });

  test('is warned of one of several rewards that says the same of everything', () => {
    const rewards = [
      { name: 'format', weight: 0.5 },
      { name: 'right', weight: 1 },
      { name: 'mere', weight: 0 },
    ];
    const means = (format: number, std: number) => ({
      'rewards/format/mean': format,
      'rewards/format/std': std,
      'rewards/right/mean': 0.3,
      'rewards/right/std': 0.4,
      'rewards/mere/mean': 1,
      'rewards/mere/std': 0,
    });
    const run = watch(
      steps(20, () => means(0.1 + 0.2, 3e-17)),
      { rewards },
    );
    assertTold(
      run,
      window,
      /in the last 10 steps 'format' was 0\.3 for every completion: it teaches nothing, and all that is learnt is 'right'/,
    );
    const none = watch(
      steps(20, () => means(Number.NaN, 0)),
      { rewards },
    );
    assertTold(none, window, /'format' applied to no completion/);
    assert.deepEqual(
      watch(
        steps(20, () => means(0.3, 0.1)),
        { rewards },
      ).told,
      [],
    );
    assert.deepEqual(
      watch(
        steps(20, () => ({ ...means(1, 0), accuracy: 1 })),
        { rewards },
      ).told,
      [],
    );
  });
});

test('the documentation names every condition and its thresholds', () => {
  const source = readFileSync(join(root, 'src', 'train', 'health.ts'), 'utf8');
  const docs = readFileSync(join(root, 'docs', 'trainer.md'), 'utf8');
  const names = [...source.matchAll(/look\('(\w+)'/g)].map(([, name]) => name);
  const documented = [...docs.matchAll(/^\| `health\/(\w+)` \|/gm)].map(([, name]) => name);
  assert.deepEqual(documented.sort(), names.sort());
  const rowOf = (name: string) => docs.split('\n').find((line) => line.startsWith(`| \`health/${name}\``))!;
  const { truncated, truncatedRise, entropy, kl, accuracyFall, solved, standardErrors } = healthLimits;
  assert.ok(
    rowOf('no_gradient').includes(`last ${window} steps`) && rowOf('no_gradient').includes(`${100 * solved} %`),
  );
  assert.ok(rowOf('truncated').includes(`${100 * truncated} %`));
  assert.ok(rowOf('length_limit').includes(`${100 * truncatedRise} percentage points`));
  assert.ok(rowOf('entropy_collapse').includes(`${100 * entropy} %`));
  assert.ok(rowOf('kl').includes(`${kl} nat a token`));
  assert.ok(rowOf('accuracy_fall').includes(`${100 * accuracyFall} percentage points`));
  assert.ok(rowOf('reward_without_accuracy').includes(`${standardErrors} standard errors`));
  assert.ok(docs.includes(`the last ${window} steps with that of the run's first ${start}`));
});

describe('the trainer', () => {
  before(async () => void (await startBackend(quickBackend)));

  test('warns about rewards that are all equal: in steps, in progress, in its result', async (t) => {
    const trainer = await tinyTrainer(t, { rewards: [defineReward('same', () => 0.5)] });
    const lines: string[] = [];
    const begun: string[][] = [];
    const result = await trainer.run({
      max: window + 3,
      output: { write: (text: string) => lines.push(text) },
      onStep: ({ warnings, metrics, index }) => {
        begun.push(warnings);
        assert.equal(metrics['health/no_gradient'], index >= window ? 1 : undefined);
      },
    });
    assert.equal(result.learned, 0);
    assert.equal(result.warnings.length, 1);
    assert.match(
      result.warnings[0],
      /^step 10: none of the last 10 steps had a gradient .* \(mean reward 0\.5, \d+\.\d % right\)/,
    );
    assert.deepEqual(
      begun.map((warnings) => warnings.length),
      Array.from({ length: window + 3 }, (_, i) => Number(i === window - 1)),
    );
    assert.equal(lines.filter((line) => line === `warning: ${result.warnings[0]}\n`).length, 1);
  });

  test('warns about a guard that skips everything', async (t) => {
    const rewards = [defineReward('broken', () => Number.NaN)];
    const trainer = await tinyTrainer(t, { rewards, guard: { budget: 100 } });
    const { learned, skipped, warnings } = await trainer.run({ max: window, output: null });
    assert.deepEqual({ learned, skipped }, { learned: 0, skipped: window });
    assert.match(warnings[0], /^step 10: the guard skipped each of the last 10 steps/);
  });

  test('warns about a policy that begins with random weights and only learns brevity', async (t) => {
    // What README used to show: no warm start, and a length reward that is paid for wrong answers too.
    const train = countdown({ numbers: [3, 4], maxTarget: 99, seed: 1 });
    const policy = createTransformer(
      { layers: 1, width: 16, heads: 2, keyValueHeads: 2, hidden: 24 },
      characterVocabulary(train.characters),
      42,
    );
    const trainer = await tinyTrainer(t, {
      policy,
      train,
      rewards: [
        defineReward('correct', ({ score }) => score),
        defineReward('brief', ({ completion }) => -completion.tokens.length / 64, { weight: 0.1 }),
      ],
      promptsPerStep: 8,
      groupSize: 8,
      sampling: {},
      optimizer: { learningRate: 1e-2 },
    });
    const begun: Record<string, number> = {};
    const texts: string[] = [];
    await trainer.run({
      max: start + window + 1,
      output: null,
      onStep: ({ index, metrics, warnings }) => {
        texts.push(...warnings);
        for (const name of Object.keys(metrics)) {
          if (name.startsWith('health/')) begun[name.slice(7)] ??= index;
        }
      },
    });
    assert.equal(begun.zero_accuracy, window, texts.join('\n'));
    assert.equal(begun.length_collapse, start + window, texts.join('\n'));
    assert.equal(begun.reward_without_accuracy, start + window, texts.join('\n'));
    assert.ok(texts.some((text) => /the policy gets better at 'brief' alone/.test(text)));
  });

  test('counts the steps that changed the weights, and warns if none does', async (t) => {
    const trainer = await tinyTrainer(t, { train: { ...lengthTask(), score: (text) => text.length / 5 } });
    const { learned, warnings } = await trainer.run({ max: 12, output: null });
    assert.equal(learned, 12);
    assert.deepEqual(warnings, []);
  });

  test('reports a warm start that ends below its goal', async (t) => {
    const trainer = await tinyTrainer(t, {
      train: tinyTask,
      warmStart: { steps: 4, until: 0.9, every: 2, problems: 8 },
    });
    await trainer.start();
    assert.match(
      trainer.notices[0],
      /^the warm start ended after 4 updates with [\d.]+ % right, below 90\.0 % \(warmStart\.until\); give it more steps/,
    );
  });
});
