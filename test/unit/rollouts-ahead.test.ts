// Completions sampled ahead of their step (maxStaleness): that they are, with which weights, and what does not depend on it. What is
// at work at the same time is known from the order of requests, never from time: where nothing overlaps, these tests wait forever.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { join } from 'node:path';
import test, { before, describe, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import * as tf from '@tensorflow/tfjs-core';
import { startBackend } from '../../src/backend/backend.js';
import { NumericFault } from '../../src/base/numeric-fault.js';
import { threefry } from '../../src/base/random.js';
import {
  defineReward,
  type GrpoStep,
  PretrainedPolicy,
  type RolloutEngine,
  type RolloutOptions,
  type RolloutWeights,
  sglang,
  type TrainerOptions,
} from '../../src/index.js';
import { ServerFault, ServerPool } from '../../src/rollout/servers.js';
import type { Task } from '../../src/tasks/index.js';
import { createTrainer } from '../../src/train/grpo.js';
import { ExampleOrder } from '../../src/train/order.js';
import type { LoadedPolicy } from '../../src/weights/pretrained-policy.js';
import { quickBackend } from '../support/backend.js';
import type { Body, FakeServer } from '../support/fake-server.js';
import { words, wordTask } from '../support/model-folder.js';
import { lora, often, open, patience, type Scene, scene, vllmOf } from '../support/rollout-scene.js';
import { slowSet } from '../support/sets.js';
import { lastingFiles, readLines, stepsOf, tinyOptions } from '../support/trainer.js';

const quiet = { output: null };
const [seed, promptsPerStep, groupSize] = [5, 2, 4];
const completionsPerStep = promptsPerStep * groupSize;
/** For tests that would otherwise wait forever. */
const within = { timeout: 300_000 };
const another = slowSet('another number of steps ahead');

/** Prompts that do not repeat within a few steps. */
const manyWords: Task = {
  ...wordTask,
  size: 49,
  example: (i) => ({ ...wordTask.example(0), prompt: `${words[i % 7]} ${words[Math.floor(i / 7)]}` }),
};
const order = new ExampleOrder(manyWords, true, seed);

interface Place {
  step: number;
  prompt: number;
  sample: number;
  attempt: number;
}

/** Which completion a request asks for, by its seed. */
const places = new Map<number, Place>();
for (let step = 1; step <= 8; step++) {
  for (let prompt = 0; prompt < 4 * promptsPerStep; prompt++) {
    for (let sample = 0; sample < groupSize; sample++) {
      for (let attempt = 0; attempt <= patience.retries; attempt++) {
        const [word] = threefry([seed, 0, step, attempt], [prompt, sample, 0, 0]);
        places.set(word >>> 1, { step, prompt, sample, attempt });
      }
    }
  }
}

function placeOf(body: Body): Place | undefined {
  return places.get(body.seed ?? body.sampling_params.sampling_seed);
}

type Outcome = Awaited<ReturnType<NonNullable<FakeServer['onCompletion']>>>;

/** Calls `gate` before the completions of steps, not of probes; counts those that were asked for, by step. */
function listen(
  { servers: [server] }: Scene,
  gate: (place: Place, body: Body) => Promise<Outcome> = async () => undefined,
): { asked: Map<number, number>; models: Map<number, Set<string>> } {
  const asked = new Map<number, number>();
  const models = new Map<number, Set<string>>();
  server.onCompletion = async (body) => {
    const place = placeOf(body);
    if (!place) return undefined;
    asked.set(place.step, (asked.get(place.step) ?? 0) + 1);
    models.set(place.step, (models.get(place.step) ?? new Set()).add(body.model ?? ''));
    return gate(place, body);
  };
  return { asked, models };
}

class Latch {
  open!: () => void;
  readonly opened = new Promise<undefined>((resolve) => {
    this.open = () => resolve(undefined);
  });
}

async function until(isSo: () => boolean): Promise<undefined> {
  while (!isSo()) await sleep(1);
  return undefined;
}

function isLast({ prompt, sample }: Place): boolean {
  return prompt === promptsPerStep - 1 && sample === groupSize - 1;
}

function openAhead(t: TestContext, at: Scene, maxStaleness: number, change: Partial<TrainerOptions> = {}) {
  const usual = { rollout: vllmOf(at), train: manyWords, promptsPerStep, groupSize, seed };
  return open(t, at.model, { ...usual, maxStaleness, ...change });
}

function promptsOf(steps: readonly GrpoStep[]): string[][] {
  return steps.map(({ groups }) => groups.map(({ example }) => example.prompt));
}

function versionsOf({ groups }: GrpoStep): (number | undefined)[] {
  return [...new Set(groups.flatMap(({ completions }) => completions.map(({ version }) => version)))];
}

/** An engine in this process; `update` and `wait` are called before it goes on. */
function engineOf(
  update: (weights: RolloutWeights, inUse: readonly RolloutWeights[]) => void,
  wait: (options: RolloutOptions) => Promise<void> = async () => {},
): RolloutEngine {
  return {
    name: 'mine',
    keepsVersions: true,
    update: async (weights, { inUse = [] }) => update(weights, inUse),
    complete: async (requests, options) => {
      await wait(options);
      const sequences = requests.map(({ prompt, sample }) => Int32Array.of(...prompt, 3 + (sample % 3), 2));
      const all = await options.weights!.logProbs(sequences, 1);
      return all.map((logProbs, i) => ({
        tokens: sequences[i].slice(-2),
        logProbs: logProbs.slice(-2),
        truncated: false,
      }));
    },
  };
}

describe('completions sampled ahead', () => {
  before(() => startBackend(quickBackend));

  for (const maxStaleness of [1, 2, 3]) {
    test(`of ${maxStaleness} steps are asked for while the steps before train, with the weights of then`, {
      ...within,
      skip: maxStaleness === 3 && another,
    }, async (t) => {
      const [at, max] = [await scene(t), 6];
      const { asked, models } = listen(at, async (place) => {
        // The last completion of a step waits until all are asked for that may be sampled while it trains.
        const ahead = Math.min(max, place.step + maxStaleness);
        return isLast(place) ? until(() => (asked.get(ahead) ?? 0) >= completionsPerStep) : undefined;
      });
      const trainer = await openAhead(t, at, maxStaleness, { runDir: join(at.parent, 'run') });
      const steps: GrpoStep[] = [];
      for await (const step of trainer.steps({ max })) {
        steps.push(step);
        assert.equal(asked.get(step.index + maxStaleness + 1), undefined, 'never further ahead');
      }
      for (const step of steps) {
        const staleness = Math.min(maxStaleness, step.index - 1);
        const version = step.index - 1 - staleness;
        assert.deepEqual(versionsOf(step), [version]);
        assert.equal(step.metrics['sampling/staleness_mean'], staleness);
        assert.equal(step.metrics['sampling/staleness_max'], staleness);
        assert.ok(step.timing.sampled_ahead >= 0);
        // Versions on servers are counted from 1.
        const names = [...models.get(step.index)!];
        assert.deepEqual(
          names.map((name) => name.replace(/^.*-/, '')),
          [String(version + 1)],
        );
        assert.equal(asked.get(step.index), completionsPerStep, 'each once');
      }
      const [server] = at.servers;
      assert.deepEqual(server.lostInUse, []);
      assert.ok(server.mostLoaded <= maxStaleness + 2, `${server.mostLoaded} adapters at once`);
      for (const line of readLines(join(at.parent, 'run/samples.jsonl'))) {
        assert.equal(line.version, Math.max(0, (line.step as number) - 1 - maxStaleness));
      }
    });
  }

  test(
    'with 0 nothing is asked for before its step, and nothing is recorded that was not before',
    within,
    async (t) => {
      const at = await scene(t);
      const { asked } = listen(at);
      const files: unknown[] = [];
      for (const [name, change] of Object.entries({ without: {}, with: { maxStaleness: 0 } })) {
        const runDir = join(at.parent, name);
        asked.clear();
        const trainer = await openAhead(t, at, 0, { maxStaleness: undefined, runDir, ...change });
        for await (const step of trainer.steps({ max: 3 })) {
          assert.equal(asked.get(step.index + 1), undefined);
          assert.deepEqual(versionsOf(step), [undefined]);
          assert.ok(Object.keys({ ...step.metrics, ...step.timing }).every((key) => !/stale|ahead/.test(key)));
        }
        trainer.dispose();
        files.push(lastingFiles(runDir));
        const config = JSON.parse(fs.readFileSync(join(runDir, 'config.json'), 'utf8')) as {
          identity: { settings: Record<string, unknown> };
        };
        assert.equal(config.identity.settings.maxStaleness, null);
      }
      assert.deepEqual(files[0], files[1]);
    },
  );

  for (const [what, maxStaleness, dynamicSampling] of [
    ['one step', 1, undefined],
    ['two steps', 2, undefined],
    ['two steps of dynamic sampling', 2, { maxRounds: 3, min: 0.4 }],
  ] as const) {
    const skip = maxStaleness === 2 && !dynamicSampling && another;
    test(`${what} ahead: a run does not depend on which answers come first`, { ...within, skip }, async (t) => {
      const files: unknown[] = [];
      const taken: string[][][] = [];
      for (const name of ['one', 'other']) {
        const at = await scene(t);
        // Answers come in another order each time.
        listen(at, async () => void (await sleep(20 * Math.random())) as undefined);
        const runDir = join(at.parent, name);
        const trainer = await openAhead(t, at, maxStaleness, { runDir, dynamicSampling });
        taken.push(promptsOf(await stepsOf(trainer, 5)));
        trainer.dispose();
        files.push(lastingFiles(runDir));
      }
      assert.deepEqual(taken[0], taken[1]);
      assert.deepEqual(files[0], files[1]);
      // In the order of a run that samples nothing ahead, none left out.
      const all = taken[0].flat();
      assert.deepEqual(
        all,
        all.map((_, i) => order.at(i).prompt),
      );
      const sizes = new Set(taken[0].map(({ length }) => length));
      assert.equal(sizes.size > 1, dynamicSampling !== undefined, `groups of steps: ${[...sizes].join(', ')}`);
    });
  }

  test('a run that is stopped while completions of later steps are at work asks for them again', within, async (t) => {
    const checkpoint = { every: 1, keepLast: 9 };
    const stateAfter = (runDir: string, step: number) => {
      const folder = join(runDir, 'checkpoints', `step-${String(step).padStart(8, '0')}`);
      const { counters, anchor, updates } = JSON.parse(fs.readFileSync(join(folder, 'state.json'), 'utf8')) as {
        counters: Record<string, unknown>;
        anchor: unknown;
        updates: number;
      };
      const weights = fs.readFileSync(join(folder, 'weights.safetensors'));
      return { counters: { ...counters, seconds: 0 }, anchor, updates, weights };
    };
    const whole = await scene(t);
    const uncut = await openAhead(t, whole, 1, { runDir: join(whole.parent, 'run'), checkpoint });
    const all = await stepsOf(uncut, 4);

    const at = await scene(t);
    const runDir = join(at.parent, 'run');
    const held = new Latch();
    const { asked } = listen(at, async ({ step }) => (step === 3 ? held.opened : undefined));
    const controller = new AbortController();
    const trainer = await openAhead(t, at, 1, { runDir, checkpoint });
    const first: GrpoStep[] = [];
    for await (const step of trainer.steps({ max: 4, signal: controller.signal })) {
      first.push(step);
      if (step.index === 2) {
        await until(() => asked.get(3) === completionsPerStep);
        controller.abort();
      }
    }
    assert.equal(trainer.step, 2);
    await until(() => at.servers[0].abandoned === completionsPerStep);
    held.open();
    trainer.dispose();
    // The cursor, the anchor and the weights are those of step 2, whatever was sampled ahead.
    assert.deepEqual(stateAfter(runDir, 2), stateAfter(join(whole.parent, 'run'), 2));

    asked.clear();
    const resumed = await openAhead(t, at, 1, { runDir, checkpoint });
    const rest = await stepsOf(resumed, 4);
    assert.deepEqual(promptsOf([...first, ...rest]), promptsOf(all));
    assert.deepEqual(rest.map(versionsOf), [[2], [2]]);
    assert.deepEqual([asked.get(3), asked.get(4)], [completionsPerStep, completionsPerStep]);
    const counters = (dir: string) => {
      const { cursor, step } = stateAfter(dir, 4).counters as Record<string, unknown>;
      return { cursor, step };
    };
    assert.deepEqual(counters(runDir), counters(join(whole.parent, 'run')));
    const lines = readLines(join(runDir, 'metrics.jsonl'));
    assert.deepEqual(
      lines.map(({ step }) => step).filter((step) => step !== 0),
      [1, 2, 3, 4],
    );
  });

  for (const [what, outcome, expected] of [
    ['a status of 500', 500, /status 500/],
    ['a closed connection', 'close', /POST http/],
    ['a refusal', 400, /status 400/],
  ] as const) {
    const skip = outcome === 400 && slowSet('another status');
    test(`${what} for a later step ends the run at that step`, { ...within, skip }, async (t) => {
      const at = await scene(t);
      const answered = new Latch();
      listen(at, async (place) => {
        if (place.step !== 3) return undefined;
        await answered.opened;
        return outcome;
      });
      const trainer = await openAhead(t, at, 2, { runDir: join(at.parent, 'run') });
      const steps: number[] = [];
      await assert.rejects(async () => {
        for await (const { index } of trainer.steps({ max: 5 })) {
          steps.push(index);
          // Steps 1 and 2 have their completions.
          if (index === 2) answered.open();
        }
      }, expected);
      assert.deepEqual(steps, [1, 2]);
      assert.equal(trainer.step, 2);
    });
  }

  test('faults that pass are waited for', within, async (t) => {
    const at = await scene(t);
    const outcomes = ['close', 500, 429] as const;
    const { asked } = listen(at, async ({ step, attempt, sample }) =>
      step > 1 && attempt === 0 && sample === 0 ? outcomes[step % 3] : undefined,
    );
    const trainer = await openAhead(t, at, 2);
    const steps = await stepsOf(trainer, 4);
    assert.deepEqual(promptsOf(steps), promptsOf(await stepsOf(await openAhead(t, await scene(t), 0), 4)));
    assert.ok(asked.get(3)! > completionsPerStep, 'some were asked for again');
  });

  test('a signal without grace ends a step that waits, and all requests', within, async (t) => {
    const at = await scene(t);
    const { asked } = listen(at, async ({ step }) => (step === 1 ? undefined : new Latch().opened));
    const controller = new AbortController();
    const trainer = await openAhead(t, at, 2, { runDir: join(at.parent, 'run') });
    const result = trainer.run({
      max: 5,
      signal: controller.signal,
      grace: 0,
      ...quiet,
      onStep: ({ index }) => {
        assert.equal(index, 1);
        void until(() => [2, 3, 4].every((step) => asked.get(step) === completionsPerStep)).then(() =>
          controller.abort(),
        );
      },
    });
    assert.equal((await result).ended, 'aborted');
    assert.equal(trainer.step, 1);
    await until(() => at.servers[0].abandoned === 3 * completionsPerStep);
  });

  test('a signal stops at once what later steps need, and the step at work has its own', within, async (t) => {
    const at = await scene(t);
    const controller = new AbortController();
    const { asked } = listen(at, async (place) => {
      if (place.step > 1) return new Latch().opened;
      if (!isLast(place)) return undefined;
      await until(() => asked.get(2) === completionsPerStep);
      controller.abort();
      // Nothing but the signal ends those of step 2.
      return until(() => at.servers[0].abandoned === completionsPerStep);
    });
    const trainer = await openAhead(t, at, 1);
    const result = await trainer.run({ max: 5, signal: controller.signal, ...quiet });
    assert.equal(result.steps, 1);
  });

  for (const action of ['skip', 'rollback'] as const) {
    const skip = action === 'rollback' && slowSet('another action');
    test(`a reward that is NaN two steps ahead: the guard's ${action} falls on its step`, {
      ...within,
      skip,
    }, async (t) => {
      const run = async (maxStaleness: number) => {
        const at = await scene(t);
        const bad = order.at(2 * promptsPerStep).prompt;
        const reward = defineReward('c', (input) =>
          input.prompt === bad ? Number.NaN : (often.judge(input) as number),
        );
        const runDir = join(at.parent, 'run');
        const options = { rewards: [reward], guard: { action }, checkpoint: { every: 1 }, runDir };
        const trainer = await openAhead(t, at, maxStaleness, options);
        const steps = await stepsOf(trainer, 5);
        const faults = fs.readdirSync(join(runDir, 'faults'));
        assert.equal(faults.length, 1);
        const fault = JSON.parse(fs.readFileSync(join(runDir, 'faults', faults[0]), 'utf8')) as {
          step: number;
          groups: { example: { prompt: string } }[];
        };
        assert.equal(fault.step, 3);
        assert.deepEqual(
          fault.groups.map(({ example }) => example.prompt),
          [2 * promptsPerStep, 2 * promptsPerStep + 1].map((place) => order.at(place).prompt),
        );
        return steps;
      };
      const [sync, ahead] = [await run(0), await run(2)];
      const indices = action === 'skip' ? [1, 2, 3, 4, 5] : [1, 2, 2, 3, 4, 5];
      for (const steps of [sync, ahead])
        assert.deepEqual(
          steps.map(({ index }) => index),
          indices,
        );
      assert.deepEqual(promptsOf(ahead), promptsOf(sync));
      assert.deepEqual(
        ahead.map(({ fault }) => fault !== undefined),
        indices.map((_, i) => i === 2),
      );
      // After a rollback the run begins anew with the weights that it has.
      const expected = action === 'skip' ? [[0], [0], [], [1], [2]] : [[0], [0], [], [2], [2], [2]];
      assert.deepEqual(ahead.map(versionsOf), expected);
    });
  }

  test(
    'rewards are asked for while the step before trains, and their time runs when their step waits',
    within,
    async (t) => {
      const at = await scene(t);
      const own = new Set(Array.from({ length: promptsPerStep }, (_, i) => order.at(promptsPerStep + i).prompt));
      const committed = new Latch();
      let early = 0;
      const patient = defineReward(
        'c',
        async (input) => {
          if (own.has(input.prompt)) {
            early++;
            await committed.opened;
          }
          return often.judge(input) as number;
        },
        { timeLimit: 40 },
      );
      // Step 1 lasts until rewards of step 2 are at work, and longer than these may take.
      listen(at, async (place) => {
        if (place.step !== 1 || !isLast(place)) return undefined;
        await until(() => early > 0);
        await sleep(120);
        return undefined;
      });
      const trainer = await openAhead(t, at, 1, { rewards: [patient] });
      const steps: GrpoStep[] = [];
      for await (const step of trainer.steps({ max: 2 })) {
        steps.push(step);
        committed.open();
      }
      assert.equal(steps.length, 2);

      const slow = defineReward('slow', () => new Promise<number>(() => {}), { timeLimit: 40 });
      const stuck = await openAhead(t, await scene(t), 1, { rewards: [slow] });
      await assert.rejects(stepsOf(stuck, 2), /no verdict within 40 ms/);
    },
  );

  test(
    'old log-probs are those of the policy before the step; weights show how far it has moved since',
    within,
    async (t) => {
      const of = async (maxStaleness: number, change: Partial<TrainerOptions> = {}) => {
        const trainer = await openAhead(t, await scene(t), maxStaleness, change);
        return (await stepsOf(trainer, 3))[2].metrics;
      };
      const change = { importanceSampling: { mode: 'token_truncate' } } as const;
      const sync = await of(0, change);
      const ahead = await of(1, change);
      assert.ok(sync['sampling/log_prob_difference_max'] < 1e-4);
      assert.ok(ahead['sampling/log_prob_difference_max'] > 1e-2, `${ahead['sampling/log_prob_difference_max']}`);
      assert.ok(ahead['sampling/importance_weight_max'] > 1.01);
      // The first ratio of a step is that of a policy to itself.
      for (const name of ['ratio/min', 'ratio/max'])
        assert.ok(Math.abs(ahead[name] - 1) < 1e-4, `${name}: ${ahead[name]}`);
      assert.equal(ahead['health/log_prob_difference'], undefined);
      // Without the correction it is that to the one that sampled.
      const uncorrected = await of(1, { importanceSampling: { correction: false } });
      assert.ok(uncorrected['ratio/max'] > 1.01, `${uncorrected['ratio/max']}`);
    },
  );

  test('a policy learns from what was sampled ahead', { skip: slowSet('makes ten steps of 32') }, async (t) => {
    const at = await scene(t);
    const trainer = await open(t, at.model, { rollout: vllmOf(at), maxStaleness: 1, groupSize: 8 });
    const rewards = (await stepsOf(trainer, 10)).map(({ metrics }) => metrics.reward);
    const meanOf = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;
    const rise = meanOf(rewards.slice(-3)) - meanOf(rewards.slice(0, 3));
    assert.ok(rise > 0.2, `the reward rises by ${rise}`);
  });

  test(
    'an older version is loaded again by a server that is restarted, from a folder that was kept',
    within,
    async (t) => {
      const at = await scene(t);
      const [server] = at.servers;
      let isRestarted = false;
      const { asked } = listen(at, async (place) => {
        // A completion of step 4 waits until step 6 is asked for, whose weights are two versions newer, and finds its own gone.
        if (place.step !== 4 || !isLast(place) || isRestarted) return undefined;
        await until(() => (asked.get(6) ?? 0) > 0);
        isRestarted = true;
        server.restart();
        return undefined;
      });
      const trainer = await openAhead(t, at, 2, { rollout: vllmOf(at, { keepLast: 1 }) });
      const steps = await stepsOf(trainer, 6);
      assert.ok(isRestarted);
      assert.deepEqual(versionsOf(steps[3]), [1]);
      assert.deepEqual(versionsOf(steps[5]), [3]);
      const loads = server.requests
        .filter(({ path }) => path === '/v1/load_lora_adapter')
        .map(({ body }) => body.lora_name);
      assert.ok(loads.filter((name) => name.endsWith('-2')).length === 2, loads.join(', '));
    },
  );

  for (const maxStaleness of [1, 2]) {
    test(`whole models ${maxStaleness} ahead: a server gets the next one when it is done with the one before`, {
      ...within,
      skip: maxStaleness === 2 && another,
    }, async (t) => {
      const at = await scene(t);
      const [server] = at.servers;
      const { asked } = listen(at, async (place) => {
        // While step 1 trains, the others are asked for.
        if (place.step === 1 && isLast(place))
          await until(() => (asked.get(1 + maxStaleness) ?? 0) === completionsPerStep);
        return undefined;
      });
      const rollout = sglang({
        urls: [server.url],
        model: 'tiny',
        weightsFolder: join(at.parent, 'weights'),
        ...patience,
      });
      const trainer = await open(
        t,
        at.model,
        { rollout, train: manyWords, promptsPerStep, groupSize, seed, maxStaleness },
        {},
      );
      const steps = await stepsOf(trainer, 5);
      assert.deepEqual(
        steps.map(versionsOf),
        [1, 2, 3, 4, 5].map((step) => [Math.max(0, step - 1 - maxStaleness)]),
      );
      assert.deepEqual(server.lostInUse, []);
      const updates = server.requests.filter(({ path }) => path === '/update_weights_from_disk');
      assert.equal(updates.length, 5 - maxStaleness);
      const prompts = promptsOf(steps).flat();
      assert.deepEqual(
        prompts,
        prompts.map((_, i) => order.at(i).prompt),
      );
    });
  }

  test('servers let go of all versions when steps end, those that sample ahead among them', within, async (t) => {
    const at = await scene(t);
    const [server] = at.servers;
    const held = new Latch();
    const { asked } = listen(at, async ({ step }) => (step > 3 ? held.opened : undefined));
    const trainer = await openAhead(t, at, 2);
    for await (const { index } of trainer.steps()) {
      if (index < 3) continue;
      await until(() => asked.has(4));
      assert.ok(server.loaded.length > 1, `${server.loaded}`);
      break;
    }
    held.open();
    assert.deepEqual(server.loaded, []);
    assert.equal((await stepsOf(trainer, 5)).length, 2, 'they load what goes on');
    assert.deepEqual(server.loaded, []);
  });

  test('a trainer that is disposed of stops what is at work and keeps no memory', within, async (t) => {
    const { model } = await scene(t);
    const tensors: number[] = [];
    // The first run warms up what tfjs keeps.
    for (let run = 0; run < 2; run++) {
      const waiting = new Set<number>();
      let stopped = 0;
      const updates: RolloutWeights[] = [];
      const update = (weights: RolloutWeights, inUse: readonly RolloutWeights[]) => {
        assert.deepEqual(inUse, updates.slice(-2));
        updates.push(weights);
      };
      const engine = engineOf(update, async ({ step, signal, weights }) => {
        assert.equal(weights, updates[Math.max(0, step - 3)]);
        if (step < 3) return;
        waiting.add(step);
        await new Promise((resolve) => signal!.addEventListener('abort', resolve));
        stopped++;
        signal!.throwIfAborted();
      });
      const policy = (await PretrainedPolicy.load(model, { lora })) as LoadedPolicy;
      const trainer = await createTrainer({
        policy,
        train: manyWords,
        rewards: [often],
        promptsPerStep,
        groupSize,
        sampling: { maxTokens: 4, promptLength: 4 },
        klReward: { beta: 0.01 },
        rollout: engine,
        maxStaleness: 2,
      });
      await assert.rejects(async () => {
        for await (const { index } of trainer.steps({ max: 5 })) {
          if (index < 2) continue;
          await until(() => waiting.size === 2);
          trainer.dispose();
          await assert.rejects(updates[0].logProbs([Int32Array.of(1, 3)], 1), /expected weights in use/);
          policy.dispose();
        }
      }, /expected a live trainer/);
      assert.equal(stopped, 2);
      tensors.push(tf.memory().numTensors);
    }
    assert.equal(tensors[1], tensors[0]);
  });

  test('weights that cannot be given to the engine end the run at the step that they were for', within, async (t) => {
    let updates = 0;
    const engine = engineOf(() => {
      if (++updates === 3) throw new Error('no space left');
    });
    const trainer = await openAhead(t, await scene(t), 2, { rollout: engine });
    const steps: number[] = [];
    await assert.rejects(async () => {
      for await (const { index } of trainer.steps({ max: 9 })) steps.push(index);
    }, /no space left/);
    // The third version is that of step 5.
    assert.deepEqual(steps, [1, 2, 3, 4]);
    assert.equal(updates, 3, 'nothing is begun after that');
  });

  test('weights that are no numbers: the guard skips that step, and its prompts come next', within, async (t) => {
    const run = async (maxStaleness: number, failing: number) => {
      let updates = 0;
      const engine = engineOf(() => {
        if (++updates === failing) throw new NumericFault('log-probs that are not finite');
      });
      const trainer = await openAhead(t, await scene(t), maxStaleness, { rollout: engine });
      return stepsOf(trainer, 7);
    };
    const [sync, ahead] = [await run(0, 5), await run(2, 3)];
    assert.deepEqual(promptsOf(ahead), promptsOf(sync));
    assert.deepEqual(
      ahead.map(({ fault }) => fault !== undefined),
      [false, false, false, false, true, false, false],
    );
    assert.deepEqual(
      promptsOf(ahead).flat(),
      Array.from({ length: 6 * promptsPerStep }, (_, i) => order.at(i).prompt),
    );
  });

  test('a server that dies costs what it had not finished of any step', within, async (t) => {
    const at = await scene(t, {}, {});
    const [, two] = at.servers;
    const { asked } = listen(at);
    two.onCompletion = async (body) => {
      // It dies while completions of two steps are at work.
      if (placeOf(body)?.step === 3) two.faults.isDead = true;
      return undefined;
    };
    const trainer = await openAhead(t, at, 2, { rollout: vllmOf(at, { concurrency: 4 }) });
    const steps = await stepsOf(trainer, 4);
    assert.ok(two.faults.isDead);
    assert.ok(asked.get(4)! === completionsPerStep);
    assert.deepEqual(
      promptsOf(steps).flat(),
      Array.from({ length: 4 * promptsPerStep }, (_, i) => order.at(i).prompt),
    );
    for (const { groups } of steps) for (const { completions } of groups) assert.equal(completions.length, groupSize);
  });

  test('evaluations and a warm start use the policy itself, between and beside', within, async (t) => {
    const at = await scene(t);
    const { asked } = listen(at);
    const trainer = await openAhead(t, at, 1, {
      warmStart: { steps: 2, batchSize: 2 },
      evaluate: { words: wordTask },
      evaluation: { every: 1 },
    });
    await trainer.start();
    assert.equal(asked.size, 0, 'nothing is sampled before the first step');
    const steps = await stepsOf(trainer, 3);
    for (const { metrics } of steps) assert.ok('eval/words/accuracy' in metrics);
    // What it evaluates is the policy after the step: the same again, at rest.
    const { words: again } = await trainer.evaluate();
    assert.equal(steps[2].metrics['eval/words/accuracy'], again.accuracy);
  });

  for (const [change, expected] of [
    [
      { maxStaleness: 1 },
      /^RangeError: maxStaleness: expected 0 without rollout, since the policy's own sampler .*, got 1$/,
    ],
    [{ maxStaleness: -1 }, /^RangeError: maxStaleness: expected an integer at least 0/],
    [{ maxStaleness: 0.5 }, /^RangeError: maxStaleness: expected an integer at least 0/],
    [{ maxStaleness: '1' }, /^TypeError: maxStaleness: expected an integer at least 0, got "1"/],
    [
      { maxStaleness: 2, rollout: { name: 'mine', complete: async () => [], update: async () => {} } },
      /^RangeError: maxStaleness: expected 0 with mine, .*keepsVersions.*, got 2$/,
    ],
    [
      { maxStaleness: 1, rollout: { name: 'mine', complete: async () => [], keepsVersions: true } },
      /^RangeError: maxStaleness: expected 0 with mine/,
    ],
  ] as const) {
    test(`${expected}`, async () => {
      const options = tinyOptions(change as unknown as Partial<TrainerOptions>);
      await assert.rejects(createTrainer(options), expected);
      (options.policy as LoadedPolicy).dispose();
    });
  }
});

describe('calls of servers that overlap', () => {
  before(() => startBackend(quickBackend));

  const job = <T>(group: number, run: (url: string, signal: AbortSignal) => Promise<T>) => ({
    group,
    run: (url: string, _: number, signal: AbortSignal) => run(url, signal),
  });

  test('share the concurrency, and those that began first go first', async () => {
    const pool = new ServerPool({ urls: ['a'], concurrency: 2, ...patience });
    const begun: string[] = [];
    let [atOnce, most] = [0, 0];
    const jobs = (name: string) =>
      Array.from({ length: 5 }, (_, i) =>
        job(i, async () => {
          begun.push(name);
          most = Math.max(most, ++atOnce);
          await sleep(2);
          atOnce--;
          return name;
        }),
      );
    const results = await Promise.all(['x', 'y', 'z'].map((name) => pool.run(jobs(name))));
    assert.equal(most, 2);
    assert.equal(begun.join(''), 'xxxxxyyyyyzzzzz');
    assert.deepEqual(
      results.map(([first]) => first),
      ['x', 'y', 'z'],
    );
  });

  test('an end of one leaves the other alone', async () => {
    const pool = new ServerPool({ urls: ['a'], concurrency: 2, ...patience });
    const controller = new AbortController();
    const reason = new Error('enough');
    const stuck = pool.run([job(0, (_, signal) => sleep(60_000, 1, { signal }))], { signal: controller.signal });
    const other = pool.run(Array.from({ length: 3 }, (_, i) => job(i, async () => i)));
    const failing = pool.run([job(0, () => Promise.reject(new TypeError('a fault of its own')))]);
    await assert.rejects(failing, /a fault of its own/);
    controller.abort(reason);
    await assert.rejects(stuck, (error) => error === reason);
    assert.deepEqual(await other, [0, 1, 2]);
  });

  test('a server that is down fails all of them, and gets another chance with the next', async () => {
    const pool = new ServerPool({ urls: ['a', 'b'], concurrency: 4, backOff: 1, retries: 2 });
    let isDown = true;
    const jobs = Array.from({ length: 6 }, (_, i) =>
      job(i, async () => {
        await sleep(1);
        if (isDown) throw new ServerFault('down');
        return i;
      }),
    );
    const calls = await Promise.allSettled([pool.run(jobs), pool.run(jobs), pool.run(jobs)]);
    for (const call of calls) {
      assert.equal(call.status, 'rejected');
      assert.match(String((call as PromiseRejectedResult).reason), /no server works any more|has failed 3 times: down/);
    }
    isDown = false;
    assert.deepEqual(await pool.run(jobs), [0, 1, 2, 3, 4, 5]);
  });

  test('one that fails while another tries the same server goes on when that is over', async () => {
    const pool = new ServerPool({ urls: ['a'], concurrency: 1, backOff: 1, retries: 3 });
    let failures = 2;
    const first = pool.run([
      job(0, async () => {
        await sleep(1);
        if (failures-- > 0) throw new ServerFault('down');
        return 'first';
      }),
    ]);
    const second = pool.run([job(0, async () => 'second')]);
    assert.deepEqual(await Promise.all([first, second]), [['first'], ['second']]);
  });

  test('versions are asked for by name; a load that ends with another call is begun again', within, async (t) => {
    const at = await scene(t);
    const [server] = at.servers;
    const policy = (await PretrainedPolicy.load(at.model, { lora })) as LoadedPolicy;
    t.after(() => policy.dispose());
    const weights = (): RolloutWeights => ({
      run: 'a',
      tokenizer: policy.tokenizer,
      logitsSize: policy.logitsSize,
      temperature: 1,
      probes: [Int32Array.of(1, 4, 5)],
      saveAdapter: (folder) => policy.save(folder),
      logProbs: async (sequences) => sequences.map(({ length }) => new Float32Array(length - 1).fill(-2.7)),
    });
    const settings = { maxTokens: 3, temperature: 1, seed, step: 1 };
    const requests = [{ prompt: Int32Array.of(1, 4), promptIndex: 0, sample: 0 }];
    const [older, newer] = [weights(), weights()];

    // The probe of the first call is held until that call is aborted; the second waits for the same load.
    let probes = 0;
    const controller = new AbortController();
    const loose: RolloutEngine = vllmOf(at, { maxProbeDifference: 99 });
    await loose.update!(older, {});
    server.onCompletion = async (body) => (placeOf(body) || ++probes > 1 ? undefined : new Latch().opened);
    const first = loose.complete(requests, { ...settings, signal: controller.signal });
    const second = loose.complete(requests, settings);
    const refused = assert.rejects(first, /enough/);
    await until(() => probes === 1);
    controller.abort(new Error('enough'));
    await refused;
    assert.equal((await second).length, 1);
    server.onCompletion = undefined;

    await loose.update!(newer, { inUse: [older] });
    const asked = async (options: { weights?: RolloutWeights }) => {
      await loose.complete(requests, { ...settings, ...options });
      const completions = server.requests.filter(
        ({ path, body }) => path === '/v1/completions' && body.seed !== undefined && placeOf(body),
      );
      return completions.at(-1)!.body.model!.slice(-1);
    };
    assert.equal(await asked({ weights: older }), '1');
    assert.equal(await asked({ weights: newer }), '2');
    assert.equal(await asked({}), '2');
    const newest = weights();
    await loose.update!(newest, { inUse: [newer] });
    await assert.rejects(asked({ weights: older }), /weights of an update .* got some that are no longer in use/);
    assert.equal(await asked({}), '3');
    assert.deepEqual(
      server.loaded.map((name) => name.slice(-1)),
      ['2', '3'],
    );
  });
});
