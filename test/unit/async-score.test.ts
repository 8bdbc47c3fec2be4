// A task's score may be a promise: the run is the same as with a synchronous score, and failures end the step.

import assert from 'node:assert/strict';
import test, { before, describe } from 'node:test';
import { startBackend } from '../../src/backend/backend.js';
import { NumericFault } from '../../src/base/numeric-fault.js';
import { type JudgedCompletion, Judging } from '../../src/rollout/rewards.js';
import type { Example, Task } from '../../src/tasks/task.js';
import { createTrainer } from '../../src/train/grpo.js';
import { quickBackend } from '../support/backend.js';
import { tinyPolicy, tinyTask } from '../support/trainer.js';

const delayed = async <T>(value: T, milliseconds: number) => {
  await new Promise((done) => setTimeout(done, milliseconds));
  return value;
};

const completions = (texts: readonly string[]) =>
  texts.map((text) => ({ example: tinyTask.example(0), text, tokens: Int32Array.of(1), truncated: false }));

/** The scores of completions that were all sampled at once. */
async function askScores(
  task: Pick<Task, 'name' | 'score'>,
  asked: readonly JudgedCompletion<Example>[],
  signal?: AbortSignal,
): Promise<number[]> {
  const judging = new Judging(task, [], { groupSize: asked.length, signal });
  for (const [i, completion] of asked.entries()) judging.add(i, completion);
  await judging.finish();
  return judging.judgements.map(({ score }) => score);
}

const scorer = (score: Task['score']) => ({ name: 'own', score });

describe('a score that is a promise', () => {
  before(async () => void (await startBackend(quickBackend)));

  test('gives the same steps and evaluations as a synchronous score', async () => {
    const run = async (task: Task) => {
      const policy = tinyPolicy();
      const trainer = await createTrainer({
        policy,
        train: task,
        evaluate: { same: task },
        promptsPerStep: 2,
        groupSize: 3,
        evaluation: { size: 4 },
      });
      const steps: unknown[] = [];
      for await (const { metrics } of trainer.steps({ max: 2 })) steps.push(metrics);
      const evaluation = await trainer.evaluate();
      trainer.dispose();
      policy.dispose();
      return { steps, evaluation };
    };
    const atOnce = await run(tinyTask);
    const later = await run({
      ...tinyTask,
      score: (text, example) => delayed(tinyTask.score(text, example) as number, 1),
    });
    assert.deepEqual(later, atOnce);
  });

  test('scores run concurrently, keep their order, and skip truncated completions', async () => {
    let [open, most] = [0, 0];
    const task = scorer(async (text) => {
      most = Math.max(most, ++open);
      await delayed(null, 12 - 4 * Number(text));
      open--;
      return Number(text) / 4;
    });
    const asked = [...completions(['0', '1', '2']), { ...completions(['3'])[0], truncated: true }];
    assert.deepEqual(await askScores(task, asked), [0, 0.25, 0.5, 0]);
    assert.equal(most, 3);
  });

  test('fails the step, with a name, if it is not a number in [0, 1], and passes on errors of the task', async () => {
    const own = new TypeError('mine');
    const cases: [Task['score'], RegExp | Error][] = [
      [async () => 2, /^RangeError: own, score of the completion "x" to ".*at most 1, got 2/],
      [async () => Number.NaN, /^NumericFault: own, score .*expected a finite number, got NaN/],
      [async () => 'right' as never, /^TypeError: own, score .*got "right"/],
      [() => Promise.reject(own), own],
    ];
    for (const [score, expected] of cases) {
      await assert.rejects(askScores(scorer(score), completions(['x'])), (error: Error) => {
        if (expected instanceof RegExp) assert.match(error.toString(), expected);
        else assert.equal(error, expected);
        assert.equal(error instanceof NumericFault, error.name === 'NumericFault');
        return true;
      });
    }
  });

  test('does not delay a signal', async () => {
    const controller = new AbortController();
    const reason = new Error('enough');
    setTimeout(() => controller.abort(reason), 5);
    const never = scorer(() => new Promise<number>(() => {}));
    await assert.rejects(askScores(never, completions(['x']), controller.signal), reason);
  });
});
