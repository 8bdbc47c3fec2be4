// Several processes that train one policy, all in this one (support/communicator.ts). MPI itself: oracle/mpi.test.ts.
//
// Bound of a gradient computed by several processes, relative to its norm: both sums have the same terms, one for each token, of at most
// 64 completions of 4 tokens, in another order and in micro-batches of other widths. Each is off by at most n u of the sum of
// its terms' magnitudes, with n ≤ 256 and u = 6e-8, which is 3e-5 relative to that sum; the terms do not cancel by more than a factor of
// 10 in these tests, so that 3e-4 is enough. Values that are means of tokens do not cancel.

import assert from 'node:assert/strict';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { before, describe, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import * as tf from '@tensorflow/tfjs-core';
import { startBackend } from '../../src/backend/backend.js';
import { packageVersion } from '../../src/base/version.js';
import {
  type Completion,
  defineReward,
  type GrpoStep,
  type GrpoTrainer,
  mpi,
  presets,
  type RolloutEngine,
  type TrainerOptions,
} from '../../src/index.js';
import type { Policy } from '../../src/model/policy.js';
import { Processes } from '../../src/processes/processes.js';
import { policySampler } from '../../src/rollout/sample.js';
import { createTrainer } from '../../src/train/grpo.js';
import { communicators } from '../support/communicator.js';
import {
  lastingFiles,
  lengthTask,
  readLines,
  stepsOf,
  temporaryFolder,
  tinyOptions,
  tinyPolicy,
  tinyTrainer,
  weightsOf,
} from '../support/trainer.js';

const bound = 3e-4;

type Change = Partial<TrainerOptions>;

/** What `work` gives in each of `size` processes with their own trainers. */
async function together<T>(
  t: TestContext,
  size: number,
  change: Change | ((rank: number) => Change),
  work: (trainer: GrpoTrainer, rank: number) => Promise<T>,
): Promise<PromiseSettledResult<T>[]> {
  const all = communicators(size).communicators.map(async (communicator, rank) => {
    const own = typeof change === 'function' ? change(rank) : change;
    return work(await tinyTrainer(t, { communicator, ...own }), rank);
  });
  return Promise.allSettled(all);
}

async function valuesOf<T>(results: Promise<PromiseSettledResult<T>[]>): Promise<T[]> {
  return (await results).map((result) => (result.status === 'fulfilled' ? result.value : assert.fail(result.reason)));
}

const messagesOf = async (results: Promise<PromiseSettledResult<unknown>[]>): Promise<string[]> =>
  (await results).map((result) => (result.status === 'rejected' ? String(result.reason) : assert.fail('no error')));

const completionsOf = ({ groups }: GrpoStep) =>
  groups.map(({ prompt, completions }) => ({
    prompt: [...prompt],
    completions: completions.map(({ tokens, rewards, text, truncated }) => ({
      tokens: [...tokens],
      rewards,
      text,
      truncated,
    })),
  }));

function assertNear(value: number, expected: number, relative: number, what: string): void {
  const scale = Math.max(Math.abs(expected), 1e-3);
  assert.ok(Math.abs(value - expected) <= relative * scale, `${what}: ${value}, expected ${expected}`);
}

/** Differs within groups from the first step on, by more than the length. */
const digits = defineReward('digits', ({ completion }) => [...completion.text].filter((c) => c >= '5').length / 4);

/** The policy's own sampler as a rollout engine, with log-probs that are off. */
function engineOf(policy: Policy, asked: number[]): RolloutEngine {
  return {
    name: 'mine',
    async complete(requests, options) {
      asked.push(requests.length);
      const { onCompletion: _, ...rest } = options;
      const completions = await policySampler(policy).complete(requests, rest);
      return completions.map(
        (completion, i): Completion => ({
          ...completion,
          logProbs: completion.logProbs.map((logProb, t) => logProb - 0.05 * ((i + t) % 3)),
        }),
      );
    },
  };
}

/** An update proportional to the gradient, so that errors of the gradient stay as they are. */
const plain = { learningRate: 0.05, epsilon: 1, maxGradientNorm: 100 };

const cases: Record<string, Change> = {
  'DAPO with HA-DW': { loss: presets.dapo },
  'GRPO with a KL term, mini-batches and iterations': {
    loss: { ...presets.grpo, kl: { beta: 0.1 } },
    miniBatches: 3,
    iterations: 2,
  },
  'micro-batches of three': {
    microBatchSize: 3,
    loss: { ...presets.grpo, emptySequences: 'drop' },
    maskTruncated: true,
  },
  'DR-GRPO': { loss: presets.dr_grpo },
  GSPO: { loss: presets.gspo },
  VESPO: { loss: presets.vespo, hadw: undefined },
  'the entropy of the top fifth': { loss: { ...presets.dapo, entropy: { coefficient: 0.01, topQuantile: 0.2 } } },
  'a KL reward': { klReward: { beta: 0.2 } },
  'GDPO with two rewards': {
    rewards: [defineReward('length', ({ score }) => score), digits],
    advantage: { multiObjective: 'normalize-then-sum' },
    hadw: undefined,
  },
  'dynamic sampling': { dynamicSampling: { maxRounds: 3 }, promptsPerStep: 5 },
  'truncated sampling': { sampling: { maxTokens: 4, topP: 0.8 } },
};

describe('several processes that train one policy', () => {
  before(() => startBackend());

  for (const [name, change] of Object.entries(cases)) {
    for (const size of [2, 3]) {
      test(`${size} processes with a part each are one with all: ${name}`, async (t) => {
        const settings: Change = { rewards: [digits], promptsPerStep: 4, groupSize: 4, optimizer: plain, ...change };
        const alone = await tinyTrainer(t, settings);
        const [expected] = await stepsOf(alone, 1);
        const start = weightsOf(tinyPolicyOf(t));
        const steps = await valuesOf(
          together(t, size, settings, async (trainer) => ({
            step: (await stepsOf(trainer, 1))[0],
            weights: weightsOf(trainer.policy),
          })),
        );
        const wanted = weightsOf(alone.policy);
        const moved = Math.hypot(...differencesOf(wanted, start));
        assert.ok(moved > 1e-4, 'the step changes the weights');
        for (const { step, weights } of steps) {
          assert.deepEqual(completionsOf(step), completionsOf(expected));
          assert.deepEqual(weights, steps[0].weights);
          const off = Math.hypot(...differencesOf(weights, wanted));
          assert.ok(off <= bound * moved, `weights are off by ${off}, with a change of ${moved}`);
          assert.deepEqual(Object.keys(step.metrics), Object.keys(expected.metrics));
          for (const [metric, value] of Object.entries(expected.metrics)) {
            assertNear(step.metrics[metric], value, bound, metric);
          }
        }
      });
    }
  }

  test('no tensor is left behind', async (t) => {
    const before = tf.memory().numTensors;
    const change = {
      loss: { ...presets.grpo, kl: { beta: 0.1 } },
      warmStart: { steps: 1, batchSize: 2 },
      microBatchSize: 3,
    };
    await valuesOf(
      together(t, 2, change, async (trainer) => {
        await stepsOf(trainer, 2);
        trainer.dispose();
        trainer.policy.dispose();
      }),
    );
    assert.equal(tf.memory().numTensors, before);
  });

  test('more processes than completions', async (t) => {
    const settings: Change = { rewards: [digits], promptsPerStep: 1, groupSize: 2, optimizer: plain, miniBatches: 2 };
    const alone = await tinyTrainer(t, settings);
    const expected = await stepsOf(alone, 3);
    const results = await valuesOf(
      together(t, 5, settings, async (trainer) => ({
        steps: await stepsOf(trainer, 3),
        weights: weightsOf(trainer.policy),
      })),
    );
    for (const { steps, weights } of results) {
      assert.deepEqual(steps.map(completionsOf), expected.map(completionsOf));
      assert.deepEqual(weights, results[0].weights);
    }
  });

  test('the processes share sampling and passes', async (t) => {
    const sampled: number[][] = [[], []];
    const passes = [0, 0];
    const change = (rank: number): Change => {
      const policy = tinyPolicy();
      const { logits, hidden } = policy;
      assert.equal(hidden === undefined || typeof hidden, typeof hidden);
      const counted: Policy = {
        ...policy,
        logits: (...args) => {
          passes[rank] += args[0].sequences;
          return logits.apply(policy, args);
        },
      };
      const rewards = [
        defineReward('digits', ({ completion }) => {
          sampled[rank].push(completion.tokens.length);
          return completion.tokens.length;
        }),
      ];
      return { policy: counted, rewards, promptsPerStep: 6, groupSize: 4, evaluation: { atStart: false } };
    };
    await valuesOf(together(t, 2, change, (trainer) => stepsOf(trainer, 1)));
    assert.deepEqual(
      sampled.map(({ length }) => length),
      [12, 12],
    );
    assert.deepEqual(passes, [12, 12]);
  });

  test('a rollout engine is asked by the first process alone, and its completions are corrected for by all', async (t) => {
    const asked: number[][] = [[], []];
    const settings = (rank: number): Change => {
      const policy = tinyPolicy();
      return { policy, rollout: engineOf(policy, asked[rank]), rewards: [digits], optimizer: plain };
    };
    const lone: number[] = [];
    const policy = tinyPolicy();
    const alone = await tinyTrainer(t, { ...settings(0), policy, rollout: engineOf(policy, lone) });
    const [expected] = await stepsOf(alone, 1);
    asked[0].length = 0;
    const steps = await valuesOf(together(t, 2, settings, async (trainer) => (await stepsOf(trainer, 1))[0]));
    assert.deepEqual(asked, [lone, []]);
    for (const { metrics } of steps) {
      for (const name of ['sampling/importance_weight_mean', 'sampling/log_prob_difference_max', 'loss', 'grad_norm']) {
        assertNear(metrics[name], expected.metrics[name], bound, name);
      }
    }
    assert.ok(expected.metrics['sampling/log_prob_difference_max'] > 0.09);
  });

  test('one process writes the run folder, and the run goes on bit for bit', async (t) => {
    const folder = temporaryFolder(t);
    const [whole, halves] = [join(folder, 'a'), join(folder, 'b')];
    const settings: Change = { checkpoint: { every: 1 }, loss: { ...presets.dapo, kl: { beta: 0.05 } } };
    const evaluate = { held: lengthTask() };
    const run = (runDir: string, max: number) =>
      valuesOf(
        together(t, 2, { ...settings, evaluate, runDir, evaluation: { every: 2, size: 4 } }, async (trainer) => {
          const steps = await stepsOf(trainer, max);
          trainer.dispose();
          return steps.map(({ metrics }) => metrics);
        }),
      );
    const [first, second] = await run(whole, 4);
    assert.deepEqual(second, first);
    await run(halves, 2);
    await run(halves, 4);
    assert.deepEqual(lastingFiles(halves), lastingFiles(whole));
    assert.deepEqual(
      readLines(join(whole, 'metrics.jsonl')).map(({ step }) => step),
      [0, 1, 2, 3, 4],
    );
    // One process alone goes on with it.
    const alone = await tinyTrainer(t, { ...settings, evaluate, runDir: halves, evaluation: { every: 2, size: 4 } });
    assert.equal(alone.step, 4);
    assert.equal((await stepsOf(alone, 5)).length, 1);
  });

  test('the first process makes the warm start, and the others have its weights', async (t) => {
    const warmStart = { steps: 3, batchSize: 4 };
    const change = (rank: number): Change => {
      const policy = tinyPolicy();
      for (const variable of Object.values(policy.variables)) {
        if (rank === 1) variable.assign(tf.tidy(() => tf.mul(variable, 2)));
      }
      return { policy, warmStart, evaluation: { atStart: false }, rewards: [digits] };
    };
    const weights = await valuesOf(
      together(t, 2, change, async (trainer) => {
        await trainer.start();
        return weightsOf(trainer.policy);
      }),
    );
    const alone = await tinyTrainer(t, { ...change(0), warmStart });
    await alone.start();
    assert.deepEqual(weights, [weightsOf(alone.policy), weightsOf(alone.policy)]);
  });

  for (const rank of [0, 1]) {
    test(`a reward that is not finite in process ${rank} is a step that all leave out`, async (t) => {
      let calls = 0;
      const change = (own: number): Change => ({
        rewards: [
          defineReward('digits', ({ completion }) => (own === rank && calls++ === 3 ? 1e39 : completion.text.length)),
        ],
        optimizer: plain,
      });
      const results = await valuesOf(
        together(t, 2, change, async (trainer) => ({
          steps: await stepsOf(trainer, 3),
          weights: weightsOf(trainer.policy),
        })),
      );
      for (const { steps, weights } of results) {
        assert.deepEqual(
          steps.map(({ fault }) => fault?.replace(`process ${rank}: `, '').slice(0, 27)),
          ['step 1: rewards {"digits":1e', undefined, undefined].map((text) => text?.slice(0, 27)),
        );
        assert.deepEqual(weights, results[0].weights);
      }
      assert.deepEqual(results.map(({ steps }) => completionsOf(steps[2]))[0], completionsOf(results[1].steps[2]));
    });
  }

  test('a terminal shows how many completions of the whole step are done', { timeout: 60_000 }, async (t) => {
    const lines: string[] = [];
    let show!: () => void;
    const shown = new Promise<void>((resolve) => {
      show = resolve;
    });
    const write = (text: string) => {
      lines.push(text);
      if (/step 1: 16 of 16 completions sampled, 8 rewarded$/.test(text)) show();
      return true;
    };
    // The first process is done with its 8 completions. The other one's 8 have no rewards until that is shown.
    const change = (rank: number): Change => ({
      rewards: [defineReward('slow', ({ score }) => (rank === 0 ? score : shown.then(() => score)))],
    });
    await valuesOf(
      together(t, 2, change, (trainer, rank) =>
        trainer.run({ max: 1, output: rank === 0 ? { isTTY: true, columns: 200, write } : null }),
      ),
    );
    const counted = lines.filter((line) => line.includes('sampled'));
    assert.ok(counted.every((line) => line.includes(' of 16 completions sampled')));
  });

  test('a rollback is one of all processes', async (t) => {
    const runDir = join(temporaryFolder(t), 'run');
    let calls = 0;
    const change = (rank: number): Change => ({
      runDir,
      checkpoint: { every: 1 },
      guard: { action: 'rollback' },
      rewards: [
        defineReward('digits', ({ completion }) => (rank === 1 && calls++ === 20 ? 1e39 : completion.text.length)),
      ],
    });
    const results = await valuesOf(
      together(t, 2, change, async (trainer) => ({
        faults: (await stepsOf(trainer, 4)).map(({ fault }) => fault !== undefined),
        weights: weightsOf(trainer.policy),
      })),
    );
    assert.deepEqual(results[1], results[0]);
    assert.deepEqual(results[0].faults.filter(Boolean).length, 1);
  });

  for (const rank of [0, 1]) {
    test(`an error in process ${rank} ends the run of all, with the last complete step saved`, async (t) => {
      const runDir = join(temporaryFolder(t), 'run');
      let calls = 0;
      const change = (own: number): Change => ({
        runDir,
        rewards: [
          defineReward('digits', ({ completion }) => {
            if (own === rank && ++calls === 20) throw new Error('no more rewards');
            return completion.text.length;
          }),
        ],
      });
      const steps = [0, 0];
      const messages = await messagesOf(
        together(t, 2, change, async (trainer, own) => {
          for await (const { index } of trainer.steps({ max: 9 })) steps[own] = index;
        }),
      );
      assert.match(messages[rank], /^Error: .*no more rewards/s);
      assert.match(messages[1 - rank], new RegExp(`^Error: process ${rank}: .*no more rewards`, 's'));
      assert.ok(steps[0] > 0 && steps[0] === steps[1], `${steps}`);
      assert.match(readdirSync(join(runDir, 'checkpoints')).sort().at(-1)!, new RegExp(`0*${steps[0]}$`));
    });
  }

  test('a folder that cannot be written to ends the run of all', async (t) => {
    const runDir = join(temporaryFolder(t), 'run');
    const messages = await messagesOf(
      together(t, 2, { runDir }, async (trainer, rank) => {
        for await (const step of trainer.steps({ max: 3 })) {
          if (step.index !== 1 || rank !== 0) continue;
          const other = await createTrainer(tinyOptions({ runDir, takeOver: true }));
          t.after(() => {
            other.dispose();
            other.policy.dispose();
          });
        }
      }),
    );
    for (const message of messages) assert.match(message, /has lost the folder and writes nothing more/);
    assert.ok(existsSync(join(runDir, 'checkpoints')));
  });

  test('a signal to one process stops all after the same step', async (t) => {
    const results = await valuesOf(
      together(t, 3, {}, async (trainer, rank) => {
        const stop = new AbortController();
        const onStep = ({ index }: GrpoStep) => void (rank === 1 && index === 2 && stop.abort());
        return trainer.run({ max: 9, signal: stop.signal, output: null, onStep });
      }),
    );
    assert.deepEqual(
      results.map(({ steps, ended }) => [steps, ended]),
      [
        [2, 'aborted'],
        [2, 'aborted'],
        [2, 'aborted'],
      ],
    );
  });

  test('a step that one process breaks off is discarded by all', async (t) => {
    const stop = new AbortController();
    const change = (rank: number): Change => ({
      rewards: [
        defineReward('digits', async ({ completion }) => {
          if (rank === 1) stop.abort();
          await new Promise((resolve) => setTimeout(resolve, 20));
          return completion.text.length;
        }),
      ],
    });
    const before = weightsOf(tinyPolicyOf(t));
    const results = await valuesOf(
      together(t, 2, change, async (trainer, rank) => {
        for await (const _ of trainer.steps({ max: 3, grace: 0, ...(rank === 1 && { signal: stop.signal }) }));
        return { step: trainer.step, weights: weightsOf(trainer.policy) };
      }),
    );
    assert.deepEqual(results, [
      { step: 0, weights: before },
      { step: 0, weights: before },
    ]);
  });

  test('a warm start that is broken off in the first process is so in all', async (t) => {
    const stop = new AbortController();
    const train = {
      ...lengthTask(),
      example: (i: number) => {
        if (i > 40) stop.abort();
        return lengthTask().example(i);
      },
    };
    const change = (rank: number): Change => ({
      train: rank === 0 ? train : lengthTask(),
      warmStart: { steps: 40, batchSize: 4 },
    });
    const results = await valuesOf(
      together(t, 2, change, async (trainer, rank) => {
        for await (const _ of trainer.steps({ max: 1, ...(rank === 0 && { signal: stop.signal }) }));
        return trainer.step;
      }),
    );
    assert.deepEqual(results, [0, 0]);
  });

  test('other options in one process are refused by name', async (t) => {
    const messages = await messagesOf(
      together(
        t,
        3,
        (rank) => ({ seed: 7 + Number(rank === 2) }),
        async () => {},
      ),
    );
    for (const message of messages) {
      assert.match(
        message,
        /^Error: expected the same options in every process, got others in process 2: settings.seed: 7, now 8/,
      );
    }
  });

  test('nothing is sampled ahead by several processes, which is said when they begin', async (t) => {
    const rollout: RolloutEngine = {
      name: 'mine',
      keepsVersions: true,
      complete: async () => [],
      update: async () => {},
    };
    const change = { rollout, maxStaleness: 1 };
    for (const message of await messagesOf(together(t, 2, change, async () => {}))) {
      const expected = 'RangeError: maxStaleness: expected 0 with several processes (communicator), got 1';
      assert.equal(message, expected);
    }
    const [alone] = await valuesOf(together(t, 1, change, async ({ step }) => step));
    assert.equal(alone, 0);
  });

  test('a process that cannot begin gives the others the reason', async (t) => {
    const messages = await messagesOf(
      together(
        t,
        2,
        (rank) => (rank === 1 ? { promptsPerStep: 0 } : {}),
        async () => {},
      ),
    );
    assert.match(messages[0], /^Error: process 1: promptsPerStep: expected an integer/);
    assert.match(messages[1], /^RangeError: promptsPerStep/);
  });

  test('a process that leaves the loop alone is an error, not a deadlock', async (t) => {
    const messages = await messagesOf(
      together(t, 2, {}, async (trainer, rank) => {
        for await (const _ of trainer.steps({ max: 3 })) if (rank === 0) break;
      }),
    );
    assert.match(messages[0], /process 0 is at 'end of the steps' and process 1 at 'next step'/);
    assert.match(messages[1], /process 1 is at 'next step' and process 0 at 'end of the steps'/);
  });

  test('failures at once are one for all: an error before an interruption, that before a fault', async () => {
    const all = communicators(3).communicators.map((communicator) => new Processes(communicator));
    const { NumericFault } = await import('../../src/base/numeric-fault.js');
    const { Interrupted } = await import('../../src/base/interruption.js');
    const failing = (errors: (Error | undefined)[]) =>
      Promise.all(
        all.map((processes, rank) =>
          processes
            .agree(async () => {
              if (errors[rank]) throw errors[rank];
              await processes.gather('work', null);
            })
            .then(
              () => 'none',
              (error: Error) => String(error),
            ),
        ),
      );
    const [fault, interrupted] = [new NumericFault('not finite'), new Interrupted('too long')];
    assert.deepEqual(await failing([fault, interrupted, undefined]), [
      'Interrupted: process 1: too long',
      'Interrupted: too long',
      'Interrupted: process 1: too long',
    ]);
    assert.deepEqual(await failing([fault, interrupted, new TypeError('wrong')]), [
      'Error: process 2: wrong',
      'Error: process 2: wrong',
      'TypeError: wrong',
    ]);
    assert.deepEqual(await failing([undefined, fault, undefined]), [
      'NumericFault: process 1: not finite',
      'NumericFault: not finite',
      'NumericFault: process 1: not finite',
    ]);
  });

  test('work ends for each when that of all has, with its own result, and not before a failure elsewhere', async () => {
    const [first, second] = communicators(2).communicators.map((communicator) => new Processes(communicator));
    const signal = () => {
      let send!: () => void;
      const sent = new Promise<void>((resolve) => {
        send = resolve;
      });
      return { send, sent };
    };
    const [reported, finished] = [signal(), signal()];
    const ends: string[] = [];
    const sums = new Set<number>();
    const report = (all: readonly number[]) => {
      sums.add(all[0] + all[1]);
      reported.send();
    };
    const failing = reported.sent.then(() => {
      ends.push('work of the second');
      throw new Error('its own');
    });
    const one = first.whileAllWork(Promise.resolve('own'), () => 1, report).then((value) => ends.push(value));
    await assert.rejects(
      second.whileAllWork(failing, () => 2, report),
      /^Error: its own$/,
    );
    await one;
    assert.deepEqual(ends, ['work of the second', 'own']);
    assert.deepEqual([...sums], [3]);

    const elsewhere = second.agree(() => Promise.reject(new Error('elsewhere')));
    let hasEnded = false;
    const during = first.agree(() => first.whileAllWork(finished.sent, () => 1, report));
    const settled = during.catch(() => {
      hasEnded = true;
    });
    await assert.rejects(elsewhere, /^Error: elsewhere$/);
    await sleep(10);
    assert.ok(!hasEnded, 'its own work still runs');
    finished.send();
    await assert.rejects(during, /^Error: process 1: elsewhere$/);
    await settled;
  });

  test('mpi says how to get its addon', (t) => {
    const folder = temporaryFolder(t);
    const path = join(folder, 'groupgrad-mpi.node');
    const { GROUPGRAD_MPI_ADDON: before } = process.env;
    process.env.GROUPGRAD_MPI_ADDON = path;
    t.after(() => {
      if (before === undefined) delete process.env.GROUPGRAD_MPI_ADDON;
      else process.env.GROUPGRAD_MPI_ADDON = before;
    });
    const remedy = 'Install MPI with its compiler mpicxx .* then type `npm run build:native -- --mpi`';
    assert.throws(mpi, new RegExp(`mpi: there is no addon for MPI at ${path}. ${remedy}`));
    writeFileSync(path, 'no addon');
    assert.throws(mpi, new RegExp(`mpi: ${path} could not be loaded: .*${remedy}`));
    // In place of an addon that was built from older sources.
    const older = join(folder, 'older.cjs');
    const version = packageVersion();
    writeFileSync(older, `module.exports = ${JSON.stringify({ version, start: 1, broadcast: 1, allReduceSum: 1 })};`);
    process.env.GROUPGRAD_MPI_ADDON = older;
    const lacks = 'it lacks allGather, finish, abortAtExit';
    assert.throws(mpi, new RegExp(`mpi: ${older} was built from older sources: ${lacks}. ${remedy}`));
  });

  for (const [communicator, expected] of [
    [3, /^TypeError: communicator: expected an object, got 3/],
    [{}, /^TypeError: communicator\.name/],
    [{ name: 'mine', size: 0, rank: 0 }, /^RangeError: communicator\.size/],
    [{ name: 'mine', size: 2, rank: 2 }, /^RangeError: communicator\.rank: expected a number below its size, 2, got 2/],
    [{ name: 'mine', size: 1, rank: 0, allGather: 1 }, /^TypeError: communicator\.allGather: expected a function/],
  ] as [unknown, RegExp][]) {
    test(`${expected}`, async (t) => {
      await assert.rejects(tinyTrainer(t, { communicator } as Change), (error) => expected.test(String(error)));
    });
  }
});

/** A policy with the weights that a trainer of these tests begins with. */
function tinyPolicyOf(t: TestContext): Policy {
  const policy = tinyPolicy();
  t.after(() => policy.dispose());
  return policy;
}

function differencesOf(a: Record<string, Float32Array>, b: Record<string, Float32Array>): number[] {
  return Object.entries(a).flatMap(([name, values]) => [...values].map((value, i) => value - b[name][i]));
}
