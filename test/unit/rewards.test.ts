// Reward functions: verdicts, weights, limits, and the consequences of a failure.

import assert from 'node:assert/strict';
import test, { before, describe } from 'node:test';
import { setTimeout as after } from 'node:timers/promises';
import { startBackend } from '../../src/backend/backend.js';
import {
  defineGroupReward,
  defineReward,
  type GroupReward,
  type GroupRewardInput,
  type GrpoStep,
  type Reward,
  type RewardInput,
  type Verdict,
} from '../../src/index.js';
import type { RewardOptions } from '../../src/rollout/rewards.js';
import { quickBackend } from '../support/backend.js';
import { askRewards, type RewardQuestion } from '../support/rewards.js';
import { tinyTask, tinyTrainer } from '../support/trainer.js';

function questions(count: number, groupSize = 1): RewardQuestion<never>[] {
  return Array.from({ length: count }, (_, g) => ({
    completions: Array.from({ length: groupSize }, (_, i) => groupSize * g + i).map((i) => ({
      text: String(i),
      tokens: Int32Array.of(i),
      truncated: false,
      score: i % 2,
    })),
    example: { ...tinyTask.example(0), prompt: '1+2=' } as never,
  }));
}

/** Verdicts of one reward. */
async function askReward(reward: Reward<never>, asked: RewardQuestion<never>[]) {
  return (await askRewards([reward], asked))[0];
}

const number = ({ completion }: RewardInput) => Number(completion.text);

test('verdicts are in the order of the calls, whatever the order in which they arrive', async () => {
  const reward = defineReward('late', async (input) => {
    await after(10 - number(input));
    return number(input);
  });
  assert.deepEqual(await askReward(reward, questions(9)), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
});

test('no more concurrent calls than its concurrency', async () => {
  let [now, most] = [0, 0];
  const judge = async () => {
    most = Math.max(most, ++now);
    await after(2);
    now--;
    return null;
  };
  assert.deepEqual(
    await askReward(defineReward('few', judge, { concurrency: 3 }), questions(10)),
    Array(10).fill(null),
  );
  assert.equal(most, 3);
});

describe('a reward that fails', () => {
  const fails: Record<string, (input: RewardInput) => unknown> = {
    'throws 3': (input) => {
      if (number(input) === 3) throw new Error('throws 3');
      return 1;
    },
    'rejects 3': async (input) => {
      if (number(input) === 3) throw new Error('rejects 3');
      return 1;
    },
    'no verdict within 20 ms': (input) => (number(input) === 3 ? new Promise(() => {}) : 1),
    'verdict: expected a number or null, got nothing': (input) => (number(input) === 3 ? undefined : 1),
    'verdict: expected a number or null, got "1"': (input) => (number(input) === 3 ? '1' : 1),
  };
  for (const [message, judge] of Object.entries(fails)) {
    const make = (onError: RewardOptions['onError']) =>
      defineReward('one', judge as Reward['judge'], { timeLimit: 20, onError });
    test(`${message}: it ends the run, or counts as null or 0`, async () => {
      await assert.rejects(askReward(make('throw'), questions(5)), (error: Error) => {
        assert.equal(error.message, `reward 'one' of the completion "3" to "1+2=": ${message}`);
        return true;
      });
      assert.deepEqual(await askReward(make('null'), questions(5)), [1, 1, 1, null, 1]);
      assert.deepEqual(await askReward(make('zero'), questions(5)), [1, 1, 1, 0, 1]);
    });
  }

  test('its time limit aborts its signal, and so does the failure of another', async () => {
    const aborted: string[] = [];
    const judge = ({ completion: { text }, signal }: RewardInput) =>
      new Promise<number>((_, reject) => {
        signal.addEventListener('abort', () => {
          aborted.push(`${text}: ${(signal.reason as Error).message}`);
        });
        if (text === '2') setTimeout(() => reject(new Error('no')), 5);
      });
    await assert.rejects(askReward(defineReward('one', judge), questions(3)), /"2" to "1\+2=": no/);
    assert.deepEqual(aborted, ['0: another verdict stopped the run', '1: another verdict stopped the run']);
    await askReward(defineReward('one', judge, { timeLimit: 3, onError: 'null' }), questions(1));
    assert.deepEqual(aborted.slice(2), ['0: no verdict within 3 ms']);
  });

  for (const value of [NaN, Infinity, -Infinity]) {
    test(`${value} is left to the guard, whatever its onError says`, async () => {
      for (const onError of ['throw', 'null', 'zero'] as const) {
        const reward = defineReward('one', () => value, { onError });
        await assert.rejects(askReward(reward, questions(1)), {
          name: 'NumericFault',
          message: /expected a finite number/,
        });
      }
    });
  }
});

test('the verdict that stops a run stops every reward, and is the one that is reported', async () => {
  const calls: string[] = [];
  const slow = defineReward(
    'slow',
    ({ completion: { text }, signal }) => {
      calls.push(text);
      return new Promise<number>((_, reject) => {
        signal.addEventListener('abort', () => reject(new Error('slow was told to stop')));
      });
    },
    { concurrency: 2 },
  );
  const excused = defineReward('excused', slow.judge, { concurrency: 1, onError: 'null' });
  const failing = defineReward('failing', async () => {
    await after(5);
    throw new Error('out of order');
  });
  await assert.rejects(askRewards([slow, excused, failing], questions(9)), /reward 'failing' .*: out of order$/);
  // No further calls, not even of the reward with onError. A turn of the event loop may come between first calls.
  await after(20);
  assert.deepEqual(calls.sort(), ['0', '0', '1']);
});

test('a reward may modify its tokens', async () => {
  const asked = questions(3);
  const spoil = ({ completion }: RewardInput) => {
    const [first] = completion.tokens;
    completion.tokens.fill(99);
    completion.text = 'spoilt';
    return first;
  };
  const [one, two] = await askRewards([defineReward('one', spoil), defineReward('two', spoil)], asked);
  assert.deepEqual(
    [one, two],
    [
      [0, 1, 2],
      [0, 1, 2],
    ],
  );
  assert.deepEqual(asked, questions(3));
});

describe('a reward that sees its whole group', () => {
  const numbers = ({ completions }: GroupRewardInput) => completions.map(({ text }) => Number(text));
  const ask = async (reward: GroupReward<never>, asked: RewardQuestion<never>[]) =>
    (await askRewards([reward], asked))[0];

  test('is called once per group, and gives a verdict for each completion, in order', async () => {
    const seen: { prompt: string; score: number[]; texts: string[] }[] = [];
    const rank = defineGroupReward('rank', async (input) => {
      await after(10 - numbers(input)[0]);
      const { prompt, completions } = input;
      seen.push({ prompt, score: completions.map(({ score }) => score), texts: completions.map(({ text }) => text) });
      assert.equal(input.example.prompt, '1+2=');
      return numbers(input).map((own) => numbers(input).filter((other) => other > own).length);
    });
    const [ranks, single] = await askRewards([rank, defineReward('own', number)], questions(3, 3));
    assert.deepEqual(ranks, [2, 1, 0, 2, 1, 0, 2, 1, 0]);
    assert.deepEqual(single, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert.equal(seen.length, 3);
    assert.deepEqual(
      seen.find(({ texts }) => texts[0] === '3'),
      {
        prompt: '1+2=',
        score: [1, 0, 1],
        texts: ['3', '4', '5'],
      },
    );
  });

  test('may modify its tokens', async () => {
    const asked = questions(2, 2);
    const spoil = defineGroupReward('spoil', ({ completions }) =>
      completions.map((completion) => {
        completion.tokens.fill(99);
        completion.text = 'spoilt';
        return null;
      }),
    );
    assert.deepEqual(await ask(spoil, asked), [null, null, null, null]);
    assert.deepEqual(asked, questions(2, 2));
  });

  const fails: [message: RegExp, judge: (input: GroupRewardInput) => unknown][] = [
    [/throws/, () => assert.fail('throws')],
    [/no verdict within 20 ms/, () => new Promise(() => {})],
    [/verdicts: expected an array of 2, one for each completion, got an array of 1/, () => [1]],
    [/verdicts: expected an array of 2, one for each completion, got/, () => 1],
    [/verdicts\[1\]: expected a number or null, got "1"/, () => [1, '1']],
    [/verdicts\[0\]: expected a number or null, got nothing/, () => new Array(2)],
  ];
  for (const [message, judge] of fails) {
    test(`that fails by ${message}`, async () => {
      const define = (onError: 'throw' | 'null' | 'zero') =>
        defineGroupReward<never>(
          'bad',
          (input) => (input.completions[0].text === '2' ? judge(input as never) : [1, null]) as Verdict[],
          { onError, timeLimit: 20 },
        );
      await assert.rejects(ask(define('throw'), questions(2, 2)), (error: Error) => {
        assert.match(error.message, /^reward 'bad' of the completions of "1\+2="/);
        assert.match(error.message, message);
        return true;
      });
      assert.deepEqual(await ask(define('null'), questions(2, 2)), [1, null, null, null]);
      assert.deepEqual(await ask(define('zero'), questions(2, 2)), [1, null, 0, 0]);
    });
  }

  test('leaves a verdict that is not finite to the guard, whatever onError says', async () => {
    const infinite = defineGroupReward('infinite', () => [1, Infinity], { onError: 'null' });
    await assert.rejects(ask(infinite, questions(1, 2)), { name: 'NumericFault', message: /got Infinity/ });
  });
});

test('slow synchronous rewards yield to the event loop', async () => {
  const busy = defineReward('busy', () => {
    const end = performance.now() + 5;
    while (performance.now() < end);
    return 1;
  });
  let turns = 0;
  const timer = setInterval(() => turns++, 1);
  await askReward(busy, questions(100));
  clearInterval(timer);
  assert.ok(turns > 0);
});

test('impossible definitions are rejected by name', () => {
  const refused = (make: () => unknown, name: string, message: RegExp) => assert.throws(make, { name, message });
  refused(() => defineReward('a b', number), 'RangeError', /^name/);
  refused(() => defineReward('one', 3 as never), 'TypeError', /^reward "one": expected a function/);
  refused(() => defineGroupReward('one', undefined as never), 'TypeError', /^reward "one": expected a function/);
  refused(() => defineGroupReward('one', () => [], { weight: NaN }), 'RangeError', /^reward "one".weight/);
  refused(() => defineReward('one', number, { weight: NaN }), 'RangeError', /^reward "one".weight/);
  refused(() => defineReward('one', number, { timeLimit: 0 }), 'RangeError', /^reward "one".timeLimit/);
  refused(() => defineReward('one', number, { concurrency: 0 }), 'RangeError', /^reward "one".concurrency/);
  refused(() => defineReward('one', number, { onError: 'skip' as never }), 'RangeError', /^reward "one".onError/);
  refused(() => defineReward('one', number, { wait: 1 } as never), 'TypeError', /^reward "one".wait: unknown field/);
});

describe('rewards of a step', () => {
  before(async () => void (await startBackend(quickBackend)));

  async function firstStep(t: Parameters<typeof tinyTrainer>[0], rewards: (Reward | GroupReward)[]): Promise<GrpoStep> {
    const trainer = await tinyTrainer(t, { rewards });
    for await (const step of trainer.steps({ max: 1 })) return step;
    throw new Error('no step');
  }

  test('may be of whole groups: the shortest of the completions', async (t) => {
    const shortest = defineGroupReward('shortest', ({ completions }) => {
      const lengths = completions.map(({ tokens }) => tokens.length);
      return lengths.map((length) => Number(length === Math.min(...lengths)));
    });
    const { groups, metrics } = await firstStep(t, [shortest]);
    for (const { completions } of groups) {
      const least = Math.min(...completions.map(({ tokens }) => tokens.length));
      assert.deepEqual(
        completions.map(({ reward }) => reward),
        completions.map(({ tokens }) => Number(tokens.length === least)),
      );
    }
    assert.equal(metrics['rewards/shortest/mean'], metrics.reward);
  });

  test('are added up by their weights; weight 0 makes only a metric; null does not apply', async (t) => {
    const isLong = ({ completion }: RewardInput) => completion.tokens.length > 2;
    const step = await firstStep(t, [
      defineReward('length', ({ completion }) => completion.tokens.length, { weight: 0.5 }),
      defineReward('long', (input) => (isLong(input) ? 1 : null), { weight: -2 }),
      defineReward('watched', () => 100, { weight: 0 }),
    ]);
    const completions = step.groups.flatMap((group) => group.completions);
    assert.ok(new Set(completions.map(({ tokens }) => tokens.length)).size > 1);
    for (const { reward, rewards, tokens } of completions) {
      const long = tokens.length > 2;
      assert.deepEqual(rewards, { length: tokens.length, long: long ? 1 : null, watched: 100 });
      assert.equal(reward, tokens.length / 2 - (long ? 2 : 0));
    }
    const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;
    const { metrics } = step;
    assert.equal(metrics['rewards/length/mean'], mean(completions.map(({ tokens }) => tokens.length)));
    assert.equal(metrics['rewards/long/mean'], 1);
    assert.equal(metrics['rewards/long/std'], 0);
    assert.equal(metrics['rewards/watched/mean'], 100);
    assert.ok(Math.abs(metrics.reward - mean(completions.map(({ reward }) => reward))) < 1e-12);
  });

  test('without any verdict there is no advantage', async (t) => {
    const step = await firstStep(t, [
      defineReward('some', ({ completion: { tokens } }) => (tokens[0] % 2 ? null : tokens[0])),
      defineReward('watched', () => 1, { weight: 0 }),
    ]);
    const completions = step.groups.flatMap((group) => group.completions);
    const without = completions.filter(({ rewards }) => rewards.some === null);
    assert.ok(without.length > 0 && without.length < completions.length);
    for (const { reward, advantage } of without) assert.deepEqual([reward, advantage], [NaN, 0]);
    assert.ok(completions.some(({ advantage }) => advantage !== 0));
  });

  test('a sum that float32 cannot represent is left to the guard', async (t) => {
    for (const [one, other] of [
      [1e300, 0],
      [1e308, 1e308],
      [1e308, -1e308],
    ]) {
      const step = await firstStep(t, [
        defineReward('one', () => one, { weight: 10 }),
        defineReward('other', () => other, { weight: 10 }),
      ]);
      assert.match(step.fault!, /^step 1: rewards \{"one":.*: expected a weighted sum finite in float32, got /);
    }
  });

  test('an invalid score is rejected: of another type or range, or left to the guard', async (t) => {
    const scored = async (score: unknown) => {
      const train = { ...tinyTask, score: () => score as number };
      const rewards = [defineReward('length', ({ completion }) => completion.tokens.length)];
      const trainer = await tinyTrainer(t, { train, rewards, sampling: { maxTokens: 60 } });
      for await (const { fault } of trainer.steps({ max: 1 })) return fault;
    };
    const field = /^addition of 1 digit, score of the completion ".*" to ".*": expected a finite number at least 0 and/;
    await assert.rejects(scored(true), { name: 'TypeError', message: field });
    await assert.rejects(scored(Promise.resolve('1')), { name: 'TypeError', message: /got "1"$/ });
    await assert.rejects(scored(undefined), { name: 'TypeError', message: /got nothing$/ });
    await assert.rejects(scored(7), { name: 'RangeError', message: field });
    assert.match((await scored(NaN))!, /^step 1: addition of 1 digit, score .*: expected a finite number, got NaN/);
  });

  test('the task scores each completion once, and rewards get the score', async (t) => {
    const seen: number[] = [];
    let calls = 0;
    const trainer = await tinyTrainer(t, {
      train: { ...tinyTask, score: () => ++calls / 1000 },
      rewards: [defineReward('seen', ({ score }) => seen.push(score))],
    });
    for await (const { groups } of trainer.steps({ max: 1 })) {
      // Completions are scored in the order in which they end.
      const scores = groups.flatMap(({ completions }) => completions.map(({ score }) => score));
      assert.deepEqual(scores.sort(), seen.sort());
      assert.equal(new Set(scores.filter((score) => score > 0)).size, calls);
    }
    assert.equal(seen.filter((score) => score > 0).length, calls);
  });
});
