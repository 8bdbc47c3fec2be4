// Scores and rewards are computed while completions are still being sampled: what that changes (when they run) and what it
// does not (results, errors, time limits, interruption).

import assert from 'node:assert/strict';
import test, { before, describe } from 'node:test';
import { setTimeout as after, setImmediate as turn } from 'node:timers/promises';
import { startBackend } from '../../src/backend/backend.js';
import { Interrupted } from '../../src/base/interruption.js';
import { NumericFault } from '../../src/base/numeric-fault.js';
import { defineReward, type Reward, verify } from '../../src/index.js';
import type { Completion, RolloutEngine, RolloutOptions, RolloutRequest } from '../../src/rollout/engine.js';
import { type SamplingOptions, type SamplingProgress, sampleGroups } from '../../src/rollout/rollout.js';
import { tokenTask } from '../../src/rollout/token-task.js';
import { tinyPolicy, tinyTask, tinyTrainer } from '../support/trainer.js';

type Complete = (tell: (index: number) => Completion, options: RolloutOptions, count: number) => Promise<Completion[]>;

/** An engine whose completion `i` is the token of a digit. */
function engineOf(complete: Complete): RolloutEngine {
  return {
    name: 'own',
    complete: (requests: readonly RolloutRequest[], options: RolloutOptions) => {
      const tell = (index: number) => {
        const completion = {
          tokens: Int32Array.of(1 + (index % 4)),
          logProbs: Float32Array.of(-1),
          truncated: index === 5,
        };
        options.onCompletion?.(completion, index);
        return completion;
      };
      return complete(tell, options, requests.length);
    },
  };
}

const inOrder = engineOf(async (tell, _, count) => Array.from({ length: count }, (_, i) => tell(i)));

function busy(milliseconds: number): void {
  const end = performance.now() + milliseconds;
  while (performance.now() < end);
}

describe('scores and rewards while others are sampled', () => {
  const policy = (() => {
    let made: ReturnType<typeof tinyPolicy> | undefined;
    return () => (made ??= tinyPolicy());
  })();
  before(async () => void (await startBackend('cpu')));

  function sample(engine: RolloutEngine, rewards: Reward[], change: Partial<SamplingOptions> = {}) {
    const scored = { ...tinyTask, score: async (text: string) => (text === '1' ? 1 : 0) };
    const task = tokenTask(scored, policy(), { promptLength: null, maxTokens: null });
    const examples = [0, 1].map((index) => tinyTask.example(index));
    const options = { groupSize: 4, temperature: 1, seed: 1, step: 1, engine, rewards, ...change };
    return sampleGroups(policy(), task, examples, options);
  }

  test('a completion is scored and rewarded before the next one is sampled', { timeout: 10_000 }, async () => {
    const asked: number[] = [];
    let heard = () => {};
    const engine = engineOf(async (tell, _, count) => {
      const completions: Completion[] = [];
      for (let i = 0; i < count; i++) {
        const answered = new Promise<void>((resolve) => (heard = resolve));
        completions.push(tell(i));
        // Without overlap this waits forever.
        await answered;
      }
      return completions;
    });
    const reward = defineReward('own', ({ completion }) => {
      heard();
      return asked.push(completion.tokens[0]);
    });
    const groups = await sample(engine, [reward]);
    assert.equal(asked.length, 8);
    assert.deepEqual(
      groups.flatMap(({ completions }) => completions.map(({ reward }) => reward)),
      [1, 2, 3, 4, 5, 6, 7, 8],
    );
  });

  test('results do not depend on the order in which completions end or verdicts arrive', async () => {
    const backwards = engineOf(async (tell, _, count) => {
      const completions = new Array<Completion>(count);
      for (let i = count - 1; i >= 0; i--) {
        completions[i] = tell(i);
        if (i % 3 === 0) await after(2);
      }
      return completions;
    });
    const silent = engineOf(async (tell, options, count) => {
      options.onCompletion = undefined;
      return Array.from({ length: count }, (_, i) => tell(i));
    });
    const rewards = (delay: (index: number) => number) => [
      defineReward('token', async ({ completion }) => {
        await after(delay(completion.tokens[0]));
        return completion.tokens[0];
      }),
      defineReward('some', ({ completion, score }) => (completion.truncated ? null : score), { weight: 0.5 }),
    ];
    const expected = await sample(
      inOrder,
      rewards(() => 0),
    );
    assert.deepEqual(Object.keys(expected[0].completions[0].rewards), ['token', 'some']);
    assert.deepEqual(
      await sample(
        backwards,
        rewards((token) => 10 - 2 * token),
      ),
      expected,
    );
    assert.deepEqual(
      await sample(
        silent,
        rewards((token) => token),
      ),
      expected,
    );
  });

  test('a time limit begins when all are sampled: a blocked thread fails no reward, and one that hangs still ends', async () => {
    const holding = engineOf(async (tell, _, count) => {
      const completions = [tell(0)];
      await turn();
      for (let i = 1; i < count; i++) {
        busy(30);
        completions.push(tell(i));
        await turn();
      }
      return completions;
    });
    const slow = defineReward('slow', () => after(5, 1), { timeLimit: 20 });
    const groups = await sample(holding, [slow]);
    assert.ok(groups.every(({ completions }) => completions.every(({ reward }) => reward === 1)));
    const hanging = defineReward('hanging', () => new Promise<number>(() => {}), { timeLimit: 20 });
    await assert.rejects(sample(holding, [hanging]), /reward 'hanging' .*: no verdict within 20 ms$/);
  });

  test('a failure is reported when all are sampled, with what is known of the groups, and stops further calls', async () => {
    let told = 0;
    let groups: unknown[] = [];
    const engine = engineOf(async (tell, _, count) => {
      const completions: Completion[] = [];
      for (let i = 0; i < count; i++) {
        completions.push(tell(i));
        told++;
        await after(2);
      }
      return completions;
    });
    let calls = 0;
    const broken = defineReward('broken', () => (++calls === 3 ? Number.NaN : 1));
    const onSampled = (found: readonly unknown[]) => (groups = [...found]);
    await assert.rejects(sample(engine, [broken], { onSampled }), (error) => error instanceof NumericFault);
    assert.deepEqual([told, calls, groups.length], [8, 3, 2]);
    const [{ completions }] = groups as Awaited<ReturnType<typeof sample>>;
    assert.deepEqual(
      completions.map(({ rewards }) => rewards.broken ?? null),
      [1, 1, null, null],
    );
    assert.deepEqual(
      completions.slice(0, 3).map(({ score }) => score),
      [0, 1, 0],
    );
  });

  test('a sampling that fails or is interrupted stops every reward, and its error is the one reported', async () => {
    for (const [error, expected] of [
      [new NumericFault('logits'), 'sampling has failed'],
      [new Interrupted('enough'), 'the step was interrupted'],
    ] as const) {
      const controller = new AbortController();
      const engine = engineOf(async (tell, { signal }) => {
        tell(0);
        tell(1);
        await after(5);
        if (error instanceof Interrupted) controller.abort(error);
        signal!.throwIfAborted();
        throw error;
      });
      const reasons: string[] = [];
      let atWork = 0;
      const waiting = defineReward('waiting', async ({ signal }) => {
        atWork++;
        await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
        reasons.push((signal.reason as Error).message);
        atWork--;
        return 1;
      });
      await assert.rejects(sample(engine, [waiting], { signal: controller.signal }), error);
      await turn();
      assert.deepEqual([atWork, reasons], [0, [expected, expected]]);
    }
  });

  test('reports how many are sampled and how many have all of their verdicts', async () => {
    const seen: SamplingProgress[] = [];
    const holding = () => {
      busy(1);
      return 1;
    };
    const rewards = [defineReward('one', () => after(2, 1)), defineReward('two', holding)];
    await sample(inOrder, rewards, { onProgress: (progress) => seen.push(progress) });
    assert.deepEqual(
      seen.map(({ all, sampled, rewarded }) => [all, sampled, rewarded]),
      [...Array(8).keys()].map((i) => [8, i + 1, 0]).concat([...Array(8).keys()].map((i) => [8, 8, i + 1])),
    );
    assert.ok(seen.at(-1)!.rewardSeconds >= 0.008 && seen[7].rewardSeconds === 0);
  });

  test('a terminal shows the progress of a long step, in one line', async (t) => {
    const trainer = await tinyTrainer(t, {
      rewards: [defineReward('slow', ({ score }) => after(300, score), { concurrency: 4 })],
    });
    const lines: string[] = [];
    const output = { isTTY: true, write: (text: string) => lines.push(text) > 0 };
    await trainer.run({ max: 1, output });
    assert.ok(
      lines.some((line) => /step 1: 16 of 16 completions sampled, [1-9]\d* rewarded$/.test(line)),
      JSON.stringify(lines),
    );
  });
});

test('a grader that has answered in time does not fail, however long the thread was blocked', async () => {
  const ask = () => verify.maths('\\boxed{x^2 + 2x + 1}', '(x+1)^2', { timeLimit: 100 });
  // The workers have started.
  assert.equal((await verify.maths('\\boxed{x^2 + 2x + 1}', '(x+1)^2')).correct, true);
  for (let i = 0; i < 3; i++) {
    const answer = ask();
    await turn();
    busy(300);
    assert.deepEqual((await answer).correct, true);
  }
});
