// The table of metrics: whatever a call returns or a run records is in it, and whatever is in it is returned or recorded by one.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { before, describe, type TestContext } from 'node:test';
import { startBackend } from '../../src/backend/backend.js';
import {
  charts,
  fillIn,
  findMetric,
  type Metric,
  type MetricName,
  recordedAs,
  metrics as table,
} from '../../src/base/metrics.js';
import {
  type Completion,
  computeAdvantages,
  defineReward,
  defineStepReward,
  devices,
  type GrpoStep,
  type LossConfig,
  policyLoss,
  presets,
  type RolloutEngine,
  type TrainerOptions,
} from '../../src/index.js';
import { surrogateFields } from '../../src/loss/config.js';
import { quickBackend } from '../support/backend.js';
import { communicators } from '../support/communicator.js';
import { root } from '../support/native.js';
import { lengthTask, stepsOf, tinyTrainer } from '../support/trainer.js';

const entries = Object.entries(table) as [MetricName, Metric][];

describe('a recorded name', () => {
  test('is found in the table, with what its placeholders stand for', () => {
    const found = (name: string) => {
      const { name: inTable, values } = findMetric(name)!;
      return [inTable, values];
    };
    assert.deepEqual(found('reward'), ['reward', {}]);
    assert.deepEqual(found('accuracy'), ['accuracy', {}]);
    assert.deepEqual(found('accuracy/2.5'), ['accuracy/<difficulty>', { difficulty: '2.5' }]);
    assert.deepEqual(found('accuracy/1e-7'), ['accuracy/<difficulty>', { difficulty: '1e-7' }]);
    assert.deepEqual(found('rewards/a.b/mean'), ['rewards/<reward>/mean', { reward: 'a.b' }]);
    assert.deepEqual(found('eval/hard-1/accuracy'), ['eval/<evaluation>/accuracy', { evaluation: 'hard-1' }]);
    assert.deepEqual(found('eval/hard/accuracy/-3'), [
      'eval/<evaluation>/accuracy/<difficulty>',
      { evaluation: 'hard', difficulty: '-3' },
    ]);
    assert.deepEqual(found('eval/x/pass@8'), ['eval/<evaluation>/pass@<k>', { evaluation: 'x', k: '8' }]);
    assert.deepEqual(found('health/kl'), ['health/<condition>', { condition: 'kl' }]);
    assert.deepEqual(recordedAs('eval/<evaluation>/accuracy', ['eval/a/accuracy/1', 'eval/b/accuracy', 'reward']), [
      'eval/b/accuracy',
    ]);
  });

  test('that the table does not know is not found', () => {
    const names = [
      '',
      'rewards',
      'accuracy/',
      'accuracy/easy',
      'eval/a/b/accuracy',
      'ratio/median',
      'constructor',
      '__proto__',
    ];
    for (const name of names) assert.equal(findMetric(name), undefined, name);
  });

  test('fills a title in', () => {
    assert.equal(fillIn('Accuracy, <evaluation>', { evaluation: 'a$&b' }), 'Accuracy, a$&b');
  });
});

test('the table names its own metrics and charts: ends of bands, parts of a time, and no chart that draws nothing', () => {
  const names = new Set<string>(Object.keys(table));
  const drawn = new Set<string>();
  for (const [name, { lines = [], within }] of entries) {
    for (const { chart, low = name, high = name } of lines) {
      drawn.add(chart);
      assert.ok(names.has(low) && names.has(high), name);
    }
    assert.ok(within === undefined || names.has(within), name);
  }
  assert.deepEqual([...drawn].sort(), Object.keys(charts).sort());
});

test('a metric of a loss says how it combines', () => {
  for (const [name, { source, combine }] of entries) if (source === 'loss') assert.ok(combine?.microBatches, name);
});

test('the documentation names metrics that are in the table', () => {
  const folders = new Set(entries.flatMap(([name]) => (name.includes('/') ? name.split('/')[0] : [])));
  const pages = readdirSync(join(root, 'docs')).filter((page) => page.endsWith('.md'));
  for (const page of ['../README.md', '../CHANGELOG.md', ...pages]) {
    const text = readFileSync(join(root, 'docs', page), 'utf8');
    for (const [, name] of text.matchAll(/`(\w+\/[\w@<>/]+)`/g)) {
      // `rewards/<name>` is what dynamic sampling calls a reward.
      if (!folders.has(name.split('/')[0]) || /^rewards\/[^/]+$/.test(name)) continue;
      const recorded = name.replaceAll(/<(k|n|difficulty)>/g, '8').replaceAll(/[<>]/g, '');
      assert.ok(findMetric(recorded), `${page}: ${name}`);
    }
  }
});

/** With every option that adds metrics. */
function lossOf(kind: keyof typeof surrogateFields, ratio: LossConfig['ratio']): LossConfig {
  const usual = { clip: { low: 0.2, high: 0.2 }, gmpo: { low: 0.4, high: 0.4 }, cispo: { high: 5 } };
  const surrogate = { kind, ...(usual as Record<string, object>)[kind] } as LossConfig['surrogate'];
  return { ratio, surrogate, kl: { beta: 0.1 }, entropy: { coefficient: 0.01 } };
}

/** The names that all devices return, by who computes them. */
function returned(): { advantages: Set<string>; loss: Set<string> } {
  const names = { advantages: new Set<string>(), loss: new Set<string>() };
  const rewards = [1, 0, 1, 1];
  const four = () => Float32Array.of(-1, -2, -1, -3);
  for (const { name: device } of devices().filter(({ available }) => available)) {
    for (const config of [{}, { hadw: {} }, { dqw: {} }]) {
      const { metrics } = computeAdvantages(rewards, { groupSize: 2, ...config }, { device });
      for (const name of Object.keys(metrics)) names.advantages.add(name);
    }
    for (const kind of Object.keys(surrogateFields) as (keyof typeof surrogateFields)[]) {
      const input = {
        shape: { sequences: 2, length: 2 },
        logProbs: four(),
        entropies: four().map(Math.abs),
        refLogProbs: four(),
        advantages: Float32Array.of(1, -1),
      };
      const { metrics } = policyLoss(input, lossOf(kind, 'token'), { device });
      for (const name of Object.keys(metrics)) names.loss.add(name);
    }
  }
  return names;
}

test('what devices return is in the table, with its source', () => {
  const names = returned();
  for (const source of ['advantages', 'loss'] as const) {
    // Values that are not finite are counted by both.
    const own = [...names[source]].filter((name) => source === 'loss' || name !== 'nonFinite');
    for (const name of own) assert.equal(findMetric(name)?.metric.source, source, name);
  }
});

describe('a run', () => {
  before(async () => void (await startBackend(quickBackend)));

  const correct = defineReward('correct', ({ score }) => score);
  const long = defineReward('long', ({ completion }) => completion.tokens.length / 4, { weight: 0.5 });
  const steps = defineStepReward('steps', ({ completion: { tokens } }) => [
    { end: 1, reward: tokens[0] % 2 },
    ...(tokens.length > 1 ? [{ end: tokens.length, reward: 0 }] : []),
  ]);
  /** Ends completions at once, or after a token, with log-probs that are not the policy's. */
  const engine: RolloutEngine = {
    name: 'test',
    complete: async (requests) =>
      requests.map(({ sample }): Completion => {
        const tokens = sample % 2 === 0 ? [3, 2] : [4, 5, 2];
        return {
          tokens: Int32Array.from(tokens),
          logProbs: new Float32Array(tokens.length).fill(-1),
          truncated: false,
        };
      }),
    update: async () => {},
  };

  const runs: Record<string, Partial<TrainerOptions> & { processes?: number }> = {
    'clip and HA-DW, with evaluations and micro-batches': {
      loss: { ...presets.dapo, kl: { beta: 0.01 }, entropy: { coefficient: 0.01 } },
      rewards: [correct, long],
      evaluate: { heldOut: lengthTask() },
      evaluation: { every: 1, size: 4, samples: 2 },
      dynamicSampling: { maxRounds: 2 },
      miniBatches: 2,
      microBatchSize: 3,
    },
    'cispo and DGPO': {
      loss: presets.cispo,
      hadw: undefined,
      advantage: { scale: 'group-mad', dqw: {} },
      miniBatches: 2,
    },
    'gspo by micro-batches': { loss: presets.gspo, microBatchSize: 3, iterations: 2 },
    'gmpo by micro-batches': { loss: presets.gmpo, microBatchSize: 3, iterations: 2 },
    'vespo and rewards of steps': { loss: presets.vespo, rewards: [correct, steps], microBatchSize: 3, miniBatches: 2 },
    'a rollout engine': { rollout: engine },
    'completions sampled ahead': { rollout: { ...engine, keepsVersions: true }, maxStaleness: 1 },
    'two processes': { processes: 2 },
    'a learning rate of 0': { optimizer: { learningRate: 0 } },
    'a reward that is not finite': { rewards: [defineReward('odd', () => Number.NaN)] },
  };

  /** The first step of process 0. */
  async function firstStep(t: TestContext, { processes = 1, ...options }: (typeof runs)[string]): Promise<GrpoStep[]> {
    const own = communicators(processes).communicators.map(async (communicator) =>
      stepsOf(await tinyTrainer(t, { ...options, communicator }), 1),
    );
    return (await Promise.all(own))[0];
  }

  test('records what is in the table, in the file that it names; and all that is there is recorded or returned', async (t) => {
    const { advantages, loss } = returned();
    const seen = new Set([...advantages, ...loss].map((name) => findMetric(name)!.name));
    for (const [what, options] of Object.entries(runs)) {
      for (const { metrics, timing } of await firstStep(t, options)) {
        for (const [recorded, inTiming] of [
          [metrics, false],
          [timing, true],
        ] as const) {
          for (const name of Object.keys(recorded)) {
            const found = findMetric(name);
            assert.ok(found, `${what}: ${name}`);
            assert.equal(found.metric.source === 'clock', inTiming, `${what}: ${name}`);
            seen.add(found.name);
          }
        }
      }
    }
    assert.deepEqual([...seen].sort(), Object.keys(table).sort());
  });
});
