// When a step must end, and what delays signals.

import assert from 'node:assert/strict';
import test, { describe, type TestContext } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import { EventLoopWatch } from '../../src/base/event-loop.js';
import { Interrupted, interruption } from '../../src/base/interruption.js';
import type { Policy } from '../../src/model/policy.js';
import { positionsPerPass, sequencesPerDecodingStep, sequencesPerPass } from '../../src/rollout/pass-size.js';
import { noEngine as skip } from '../support/engine.js';

function busy(milliseconds: number): void {
  const began = performance.now();
  while (performance.now() - began < milliseconds);
}

function watch(t: TestContext): EventLoopWatch {
  const loop = new EventLoopWatch();
  t.after(() => loop.stop());
  return loop;
}

test('the longest blocked time of the event loop is measured, and the last one separately', async (t) => {
  const loop = watch(t);
  await wait(60);
  const before = loop.longest;
  assert.deepEqual(loop.longest, before, 'asking makes no stretch');
  busy(400);
  await new Promise((resolve) => setImmediate(resolve));
  const { justEnded, longest } = loop;
  assert.ok(justEnded > 0.3 && longest >= justEnded, `${justEnded} and ${longest}`);
  // Turns without a blocked time of that length, however busy the machine is.
  for (let turns = 0; loop.justEnded > 0.3; turns++) {
    assert.ok(turns < 100);
    await wait(25);
  }
  assert.ok(loop.longest >= longest);
});

describe('a step that is asked to end', () => {
  /** A simulated event loop, in seconds. */
  const loop = (justEnded: number, longest: number) => ({ justEnded, longest }) as EventLoopWatch;

  /** Seconds from the request to the interruption; undefined if there is none within a second. */
  async function delay(grace: number, watched: EventLoopWatch, known: number): Promise<number | undefined> {
    const request = new AbortController();
    const { signal, release } = interruption(request.signal, grace, watched, known);
    assert.equal(signal.aborted, false);
    const began = performance.now();
    request.abort();
    while (!signal.aborted && performance.now() - began < 1000) await wait(5);
    release();
    if (!signal.aborted) return undefined;
    assert.ok(signal.reason instanceof Interrupted);
    assert.match(signal.reason.message, new RegExp(`did not end within ${grace} s`));
    return (performance.now() - began) / 1000;
  }

  for (const [what, grace, watched, known, expected] of [
    ['after its grace', 0.3, loop(0, 0), 0, 0.3],
    ['at once without one', 0, loop(0, 0), 0, 0],
    ['sooner by what the request has waited for', 20.3, loop(20, 0), 0, 0.3],
    ['sooner by the longest stretch of the step, which may come again', 7.3, loop(0, 7), 3, 0.3],
    ['sooner by the longest stretch of the steps before', 7.3, loop(0, 3), 7, 0.3],
    ['sooner by both', 20.3, loop(12, 8), 2, 0.3],
    ['at once when the next stretch may last too long', 20, loop(3, 18), 0, 0],
  ] as const) {
    test(`is interrupted ${what}`, async () => {
      const seconds = await delay(grace, watched, known);
      assert.ok(seconds !== undefined && seconds >= expected - 0.01, `after ${seconds} s`);
      // The machine may be slow, but not that slow.
      assert.ok(seconds < expected + 0.6, `after ${seconds} s`);
    });
  }

  test('is not interrupted with an infinite grace period, or one longer than timers allow', async () => {
    assert.equal(await delay(Infinity, loop(0, 0), 0), undefined);
    assert.equal(await delay(1e9, loop(0, 0), 0), undefined);
  });

  test('counts from a request that came before the step', async () => {
    const { signal, release } = interruption(AbortSignal.abort(), 0, loop(0, 0), 0);
    assert.equal(signal.aborted, true);
    release();
  });

  test('ignores requests after its release', async () => {
    const request = new AbortController();
    const first = interruption(request.signal, 0, loop(0, 0), 0);
    const second = interruption(request.signal, 0.1, loop(0, 0), 0);
    first.release();
    request.abort();
    second.release();
    await wait(200);
    assert.deepEqual([first.signal.aborted, second.signal.aborted], [false, false]);
  });
});

describe('the size of a pass', () => {
  const policy = (...sizes: number[]) =>
    ({ variables: Object.fromEntries(sizes.map((size, i) => [i, { size }])) }) as unknown as Policy;
  const both = 'forward and backward';

  test('is as many sequences as its parameters and their length allow, and at least one', async () => {
    await tf.setBackend('cpu');
    assert.equal(sequencesPerPass(policy(300, 100), 10, both), 1e6);
    assert.equal(sequencesPerPass(policy(300, 100), 10, 'forward'), 3e6);
    assert.equal(sequencesPerPass(policy(4_800_000), 32, both), 26);
    assert.equal(sequencesPerPass(policy(135e6), 61, both), 1);
    assert.equal(sequencesPerPass(policy(1e9), 4, both), 1);
    assert.equal(sequencesPerPass(policy(1e9), 5, both), 1);
  });

  test('is larger on the backend groupgrad, up to 2,048 positions and a number of operations', { skip }, async () => {
    await tf.setBackend('groupgrad');
    assert.equal(positionsPerPass(policy(4_800_000), both), 2048);
    assert.equal(positionsPerPass(policy(135e6), both), 2048);
    assert.equal(sequencesPerPass(policy(135e6), 61, both), 33);
    assert.equal(positionsPerPass(policy(500e6), both), 600);
    assert.equal(positionsPerPass(policy(500e6), 'forward'), 1800);
    assert.equal(positionsPerPass(policy(8e9), both), 37);
    assert.equal(sequencesPerPass(policy(8e9), 400, both), 1);
    // Small policies have larger passes on every backend.
    assert.equal(positionsPerPass(policy(300, 100), both), 1e7);
  });

  test('of decoding does not depend on the backend, because its cache takes memory', { skip }, async () => {
    for (const backend of ['cpu', 'groupgrad']) {
      await tf.setBackend(backend);
      assert.deepEqual(
        [300, 135e6, 500e6, 1e11].map((size) => sequencesPerDecodingStep(policy(size))),
        [4e7, 88, 24, 1],
      );
    }
  });
});
