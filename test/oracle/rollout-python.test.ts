// Rollouts by a server that uses transformers and PEFT (test/support/rollout_server.py): adapters written by our
// client are read by another implementation, over a real port and in other processes that are killed.
//
// Bound of log-probs, in nats: 1e-4, as in pretrained-policy.test.ts. Both compute in float32, with a unit roundoff of 6e-8. A logit
// is a sum over 64 products, after 5 layers with sums over at most 172 each: about 10^3 roundings, which add up to 6e-5 relative to
// values of about 1 if all go the same way, and to 9e-5 divided by the temperature 0.7. An estimate, not a proof.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { join } from 'node:path';
import test, { after, before, describe, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startBackend } from '../../src/backend/backend.js';
import {
  defineReward,
  type GrpoStep,
  type GrpoTrainer,
  PretrainedPolicy,
  type RolloutEngine,
  sglang,
  type TrainerOptions,
  vllm,
} from '../../src/index.js';
import { createTrainer } from '../../src/train/grpo.js';
import type { LoadedPolicy } from '../../src/weights/pretrained-policy.js';
import { beginnings, letters, lettersReward, lora, settings, stories } from '../support/beginnings.js';
import { root, typescript } from '../support/native.js';
import { cannotServe, type PythonFault, type PythonServer, startPythonServer } from '../support/python-server.js';
import { slowSet } from '../support/sets.js';
import { readLines, stepsOf, temporaryFolder } from '../support/trainer.js';

const skip =
  slowSet('starts servers that import torch') || (!fs.existsSync(stories) && `${stories} is missing`) || cannotServe();

const bound = 1e-4;

async function open(
  t: TestContext,
  rollout: RolloutEngine | undefined,
  change: Partial<TrainerOptions> = {},
): Promise<GrpoTrainer> {
  const policy = (await PretrainedPolicy.load(stories, { lora })) as LoadedPolicy;
  const trainer = await createTrainer({
    policy,
    train: beginnings,
    rewards: [lettersReward],
    ...settings,
    rollout,
    ...change,
  });
  t.after(() => {
    trainer.dispose();
    policy.dispose();
  });
  return trainer;
}

const meanOf = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;

describe('rollouts by transformers and PEFT', { skip, timeout: 1_800_000 }, () => {
  let server: PythonServer;
  let second: PythonServer;
  before(async () => {
    await startBackend('wasm');
    [server, second] = await Promise.all([startPythonServer(stories), startPythonServer(stories)]);
  });
  after(async () => {
    await Promise.all([server?.end(), second?.end()]);
  });
  const vllmOf = (adapterFolder: string, servers = [server], retries = 4) =>
    vllm({ urls: servers.map(({ url }) => url), model: 'stories260k', adapterFolder, concurrency: 4, retries });

  test('the server ends at several tokens, masks ids, divides by the temperature, and rejects what it does not know', async (t) => {
    const folder = temporaryFolder(t);
    const policy = (await PretrainedPolicy.load(stories, { lora })) as LoadedPolicy;
    t.after(() => policy.dispose());
    await policy.save(join(folder, 'one'));
    assert.equal((await server.ask('/health')).status, 200);
    const load = { lora_name: 'one', lora_path: join(folder, 'one') };
    assert.equal((await server.ask('/v1/load_lora_adapter', load)).status, 200);
    assert.deepEqual(await server.loaded(), ['one']);
    assert.equal((await server.ask('/v1/load_lora_adapter', load)).status, 400);
    assert.equal((await server.ask('/v1/load_lora_adapter', { lora_name: 'none', lora_path: folder })).status, 404);

    const complete = async (change: object) => {
      const usual = { model: 'one', prompt: [1, 403, 407], max_tokens: 6, temperature: 0.5, seed: 3, logprobs: 0 };
      const { status, answer } = await server.ask('/v1/completions', { ...usual, ignore_eos: true, ...change });
      if (status !== 200) return { status };
      const [choice] = (answer as { choices: Record<string, unknown>[] }).choices;
      const { token_logprobs } = choice.logprobs as { token_logprobs: number[] };
      return { status, tokens: choice.token_ids as number[], finish: choice.finish_reason, logProbs: token_logprobs };
    };
    const whole = await complete({});
    assert.equal(whole.finish, 'length');
    assert.deepEqual(await complete({}), whole);
    for (const at of [1, 3]) {
      const ended = await complete({ stop_token_ids: [whole.tokens![at], 511] });
      const first = whole.tokens!.indexOf(whole.tokens![at]);
      assert.deepEqual([ended.tokens, ended.finish], [whole.tokens!.slice(0, first + 1), 'stop']);
    }
    const only = Object.fromEntries(Array.from({ length: 512 }, (_, id) => [id, -1000]).filter(([id]) => id !== 77));
    assert.deepEqual((await complete({ logit_bias: only })).tokens, Array(6).fill(77));
    assert.equal((await complete({ model: 'two' })).status, 404);
    assert.equal((await complete({ prompt: [512] })).status, 400);
    assert.equal((await complete({ top_p: 0.9 })).status, 400);

    assert.equal((await server.ask('/v1/unload_lora_adapter', { lora_name: 'one' })).status, 200);
    assert.equal((await server.ask('/v1/unload_lora_adapter', { lora_name: 'one' })).status, 404);
    assert.deepEqual(await server.loaded(), []);
  });

  for (const kind of ['vllm', 'sglang'] as const) {
    test(`${kind}: every version's log-probs equal the trainer's, at a temperature`, async (t) => {
      const adapterFolder = join(temporaryFolder(t), 'adapters');
      const urls = [server.url];
      const earlier = await server.loaded();
      const rollout =
        kind === 'vllm' ? vllmOf(adapterFolder) : sglang({ urls, model: 'stories260k', adapterFolder, concurrency: 4 });
      const trainer = await open(t, rollout, { sampling: { ...settings.sampling, temperature: 0.7 } });
      const steps: GrpoStep[] = [];
      for await (const step of trainer.steps({ max: 3 })) {
        steps.push(step);
        const newest = fs.readdirSync(adapterFolder).sort().slice(-1);
        assert.deepEqual(await server.loaded(), [...earlier, ...newest]);
      }
      const differences = steps.map(({ metrics }) => metrics['sampling/log_prob_difference_max']);
      t.diagnostic(
        `largest differences of log-probs: ${differences.map((value) => value.toExponential(1)).join(', ')}`,
      );
      assert.ok(Math.max(...differences) < bound, `${differences}`);
      const gradients = steps.map(({ metrics }) => metrics.grad_norm);
      assert.ok(Math.max(...gradients) > 0, 'no version differs from the first');
      assert.deepEqual(await server.loaded(), earlier);
    });
  }

  test('ahead of their step completions are those of the version before', async (t) => {
    const adapterFolder = join(temporaryFolder(t), 'adapters');
    const earlier = await server.loaded();
    const trainer = await open(t, vllmOf(adapterFolder), { maxStaleness: 1 });
    const steps: GrpoStep[] = [];
    let loaded: string[] = [];
    for await (const step of trainer.steps({ max: 4 })) {
      steps.push(step);
      loaded = await server.loaded();
    }
    const versions = steps.map(({ groups }) => [
      ...new Set(groups.flatMap(({ completions }) => completions.map(({ version }) => version))),
    ]);
    assert.deepEqual(versions, [[0], [0], [1], [2]]);
    // Of the policy itself only in step 1: from then on it has learnt since.
    const differences = steps.map(({ metrics }) => metrics['sampling/log_prob_difference_max']);
    t.diagnostic(`differences of log-probs: ${differences.map((value) => value.toExponential(1)).join(', ')}`);
    assert.ok(differences[0] < bound, `${differences}`);
    for (const difference of differences.slice(1)) assert.ok(difference > bound, `${differences}`);
    // Steps 1 and 2 share a version, and no step comes after the last.
    assert.deepEqual(loaded, [...earlier, ...fs.readdirSync(adapterFolder).sort().slice(-2)]);
    assert.deepEqual(await server.loaded(), earlier);
  });

  for (const [fault, temperature, expected, step] of [
    ['other-adapter', 1, /computes with different weights|computes without the adapter/, 0],
    // A new adapter has no effect: until the first update a server that ignores it cannot be detected.
    ['ignores-loads', 1, /computes without the adapter.*on average/, 1],
    ['first-adapter', 1, /still computes with version groupgrad-|computes without the adapter/, 1],
    ['no-temperature', 0.5, /log-probs are those at temperature 1, not 0.5.*on average/, 0],
  ] as [PythonFault, number, RegExp, number][]) {
    test(`${fault}: the run ends before step ${step + 1} is made`, async (t) => {
      await server.setFault(fault);
      t.after(() => server.setFault(null));
      const trainer = await open(t, vllmOf(join(temporaryFolder(t), 'adapters')), {
        sampling: { ...settings.sampling, temperature },
        optimizer: { learningRate: 0.05 },
      });
      await assert.rejects(stepsOf(trainer, 3), expected);
      assert.equal(trainer.step, step);
    });
  }

  test('kill -9 of the trainer: it resumes, and the adapters of the dead process are removed', async (t) => {
    const folder = temporaryFolder(t);
    const [runDir, adapters] = [join(folder, 'run'), join(folder, 'adapters')];
    const metrics = join(runDir, 'metrics.jsonl');
    const earlier = await server.loaded();
    const start = () => {
      const program = join(root, 'test/support/killed-model-run.ts');
      const args = [...typescript, program, runDir, '5', server.url, adapters];
      const child = spawn(process.execPath, args, { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] });
      t.after(() => child.kill('SIGKILL'));
      return { child, exited: once(child, 'exit') };
    };
    const first = start();
    while (first.child.exitCode === null && !(fs.existsSync(metrics) && readLines(metrics).length >= 2)) await sleep(5);
    first.child.kill('SIGKILL');
    assert.deepEqual(await first.exited, [null, 'SIGKILL']);
    const before = fs.readdirSync(adapters);
    assert.ok(before.length > 0);
    assert.deepEqual(await start().exited, [0, null]);
    const kept = fs.readdirSync(adapters);
    assert.equal(kept.length, 2);
    assert.deepEqual(
      kept.filter((name) => before.includes(name)),
      [],
    );
    assert.deepEqual(await server.loaded(), earlier);
    assert.deepEqual(
      readLines(metrics).map(({ step }) => step),
      [1, 2, 3, 4, 5],
    );
  });

  test("the reward rises with the server and with the policy's own sampler", async (t) => {
    const rise = async (seed: number, rollout?: RolloutEngine) => {
      const trainer = await open(t, rollout, { seed });
      const steps = await stepsOf(trainer, 12);
      if (rollout) {
        const difference = Math.max(...steps.map(({ metrics }) => metrics['sampling/log_prob_difference_max']));
        assert.ok(difference < bound, `log-probs differ by ${difference}`);
      }
      const rewards = steps.map(({ metrics }) => metrics.reward);
      t.diagnostic(`seed ${seed}, ${rollout ? 'server' : 'own'}: ${rewards.map((r) => r.toFixed(2)).join(' ')}`);
      return meanOf(rewards.slice(-3)) - meanOf(rewards.slice(0, 3));
    };
    for (const seed of [1, 2, 3]) {
      const own = await rise(seed);
      const served = await rise(seed, vllmOf(join(temporaryFolder(t), 'adapters')));
      assert.ok(own > 0.3 && served > 0.3, `seed ${seed}: the reward rises by ${own} and ${served}`);
    }
  });

  /** A server that is killed once six completions of a run were rewarded; `back` restarts it on its port. */
  async function mortal(t: TestContext) {
    let mortal = await startPythonServer(stories);
    t.after(() => mortal.end());
    let done = 0;
    const killing = defineReward('letters', ({ completion }) => {
      if (++done === 24 + 6) mortal.kill();
      return letters(completion.text);
    });
    const back = async () => {
      mortal = await startPythonServer(stories, Number(new URL(mortal.url).port));
      return mortal;
    };
    return { url: mortal.url, killing, back, gone: () => done >= 24 + 6 };
  }

  const stepNumbers = (runDir: string) =>
    readLines(join(runDir, 'metrics.jsonl'))
      .map(({ step }) => step as number)
      .filter((step) => step > 0);

  test('kill -9 of the only server in a step: it is restarted, gets the adapter again, and the run continues', async (t) => {
    const { url, killing, back, gone } = await mortal(t);
    const folder = temporaryFolder(t);
    const rollout = vllm({
      urls: [url],
      model: 'stories260k',
      adapterFolder: join(folder, 'adapters'),
      concurrency: 4,
    });
    const trainer = await open(t, rollout, { rewards: [killing], runDir: join(folder, 'run') });
    const steps: GrpoStep[] = [];
    let loaded: string[] = [];
    const restarted = (async () => {
      while (!gone()) await sleep(5);
      return back();
    })();
    for await (const step of trainer.steps({ max: 3 })) {
      steps.push(step);
      if (step.index >= 2) loaded = await (await restarted).loaded();
    }
    assert.deepEqual(stepNumbers(join(folder, 'run')), [1, 2, 3]);
    for (const { groups, metrics } of steps) {
      assert.deepEqual(
        groups.map(({ completions }) => completions.length),
        [8, 8, 8],
      );
      assert.ok(metrics['sampling/log_prob_difference_max'] < bound);
    }
    assert.equal(loaded.length, 1);
  });

  test('kill -9 of the only server, which stays away too long: the run ends, and is resumed when it is back', async (t) => {
    const { url, killing, back } = await mortal(t);
    const folder = temporaryFolder(t);
    const change = { rewards: [killing], runDir: join(folder, 'run') };
    const engine = () =>
      vllm({ urls: [url], model: 'stories260k', adapterFolder: join(folder, 'adapters'), retries: 2, backOff: 20 });
    const first = await open(t, engine(), change);
    await assert.rejects(stepsOf(first, 4), /no server works any more|has failed 3 times/);
    assert.equal(first.step, 1);
    first.dispose();
    assert.deepEqual(stepNumbers(change.runDir), [1]);
    const server = await back();
    const second = await open(t, engine(), change);
    assert.equal(second.step, 1);
    const steps = await stepsOf(second, 4);
    assert.deepEqual(stepNumbers(change.runDir), [1, 2, 3, 4]);
    assert.ok(Math.max(...steps.map(({ metrics }) => metrics['sampling/log_prob_difference_max'])) < bound);
    // Nothing is left loaded behind the run's end.
    assert.deepEqual(await server.loaded(), []);
  });

  // The last test: the second server does not come back.
  test('kill -9 of a server in the middle of a step costs only what it had not finished', async (t) => {
    let done = 0;
    const killing = defineReward('letters', ({ completion }) => {
      if (++done === 6) second.kill();
      return letters(completion.text);
    });
    const rollout = vllmOf(join(temporaryFolder(t), 'adapters'), [server, second]);
    const runDir = join(temporaryFolder(t), 'run');
    const trainer = await open(t, rollout, { rewards: [killing], runDir });
    const steps = await stepsOf(trainer, 3);
    for (const { groups, metrics } of steps) {
      assert.deepEqual(
        groups.map(({ completions }) => completions.length),
        [8, 8, 8],
      );
      assert.ok(metrics['sampling/log_prob_difference_max'] < bound);
    }
    await assert.rejects(second.ask('/health'));
    assert.deepEqual(
      readLines(join(runDir, 'metrics.jsonl'))
        .filter(({ step }) => (step as number) > 0)
        .map(({ step }) => step),
      [1, 2, 3],
    );
  });
});
