// Rollouts by servers: vLLM's and SGLang's routes on real ports, with real adapters, and all failures.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { join } from 'node:path';
import test, { before, describe } from 'node:test';
import { startBackend } from '../../src/backend/backend.js';
import {
  type Completion,
  defineReward,
  type GrpoStep,
  type GrpoTrainer,
  PretrainedPolicy,
  presets,
  type RolloutEngine,
  sglang,
  type TrainerOptions,
  type VllmOptions,
  vllm,
} from '../../src/index.js';
import type { Policy } from '../../src/model/policy.js';
import { tokenLogProbsOf } from '../../src/rollout/generate.js';
import { hasStayed } from '../../src/rollout/probe.js';
import { policySampler } from '../../src/rollout/sample.js';
import { ServerPool } from '../../src/rollout/servers.js';
import { createTrainer } from '../../src/train/grpo.js';
import type { LoadedPolicy } from '../../src/weights/pretrained-policy.js';
import { quickBackend } from '../support/backend.js';
import { fakeServer } from '../support/fake-server.js';
import { tensorsOf, writeModelFolder } from '../support/model-folder.js';
import { lora, open, patience, scene, sceneConfig, vllmOf } from '../support/rollout-scene.js';
import { slowSet } from '../support/sets.js';
import { readLines, stepsOf, tinyOptions } from '../support/trainer.js';

const quiet = { output: null };

function assertBelow(value: number, bound: number, what = 'value'): void {
  assert.ok(value < bound, `${what}: ${value}, expected less than ${bound}`);
}

/** The message of the error that a step ends with. */
async function failure(trainer: GrpoTrainer): Promise<string> {
  return stepsOf(trainer, 3).then(
    () => assert.fail('expected an error'),
    (error: Error) => error.message,
  );
}

describe('rollouts by servers', () => {
  before(() => startBackend(quickBackend));

  for (const kind of ['vllm', 'sglang'] as const) {
    test(`${kind} samples with each version of the adapter, and unloads the earlier ones`, async (t) => {
      const at = await scene(t);
      const [server] = at.servers;
      const urls = [server.url];
      const rollout =
        kind === 'vllm' ? vllmOf(at) : sglang({ urls, model: 'tiny', adapterFolder: at.adapters, ...patience });
      const sampling = { maxTokens: 4, promptLength: 4, temperature: 0.7, stopTokens: [9] };
      const trainer = await open(t, at.model, { rollout, sampling, runDir: join(at.parent, 'run') });
      const steps: GrpoStep[] = [];
      for await (const step of trainer.steps({ max: 4 })) {
        steps.push(step);
        assert.deepEqual(server.loaded, fs.readdirSync(at.adapters).sort().slice(-1));
      }
      for (const { metrics } of steps) {
        // As in pretrained.test.ts: the same arithmetic in another order.
        assertBelow(metrics['sampling/log_prob_difference_max'], 1e-4, 'difference');
        assertBelow(Math.abs(metrics['sampling/importance_weight_mean'] - 1), 1e-3, 'weights');
        assert.equal(metrics['sampling/importance_weight_clipped'], 0);
      }
      assertBelow(-Math.max(...steps.map(({ metrics }) => metrics.grad_norm)), 0, 'gradients');
      assert.deepEqual(server.loaded, []);
      const folders = fs.readdirSync(at.adapters).sort();
      assert.equal(folders.length, 2);
      assert.deepEqual(fs.readdirSync(join(at.adapters, folders[0])).sort(), [
        'adapter_config.json',
        'adapter_model.safetensors',
      ]);
      const completions = server.requests.filter(({ path, body }) =>
        kind === 'vllm' ? body.logprobs === 0 : path === '/generate' && body.logprob_start_len === undefined,
      );
      // 4 probes and 16 completions per step.
      assert.equal(completions.length, 4 * (4 + 16));
      const { body } = completions.at(-1)!;
      const settings = kind === 'vllm' ? body : body.sampling_params;
      assert.equal(settings.temperature, 0.7);
      assert.equal(settings.top_p, 1);
      assert.equal(settings.top_k, kind === 'vllm' ? 0 : -1);
      assert.deepEqual(settings.stop_token_ids, [2, 9]);
      const config = JSON.parse(fs.readFileSync(join(at.parent, 'run/config.json'), 'utf8')) as {
        identity: { rollout: unknown };
      };
      assert.deepEqual(config.identity.rollout, { name: kind, model: 'tiny', loads: 'adapter' });
    });
  }

  test('sglang loads whole models', async (t) => {
    const at = await scene(t);
    const folder = join(at.parent, 'weights');
    const rollout = sglang({ urls: [at.servers[0].url], model: 'tiny', weightsFolder: folder, ...patience });
    const trainer = await open(t, at.model, { rollout }, {});
    for (const { metrics } of await stepsOf(trainer, 3)) {
      assertBelow(metrics['sampling/log_prob_difference_max'], 1e-4, 'difference');
    }
    assert.equal(fs.readdirSync(folder).length, 2);
    const updates = at.servers[0].requests.filter(({ path }) => path === '/update_weights_from_disk');
    assert.equal(updates.length, 3);
  });

  test('a resumed run unloads from servers what the previous process had loaded', async (t) => {
    const at = await scene(t);
    const runDir = join(at.parent, 'run');
    // A process that is killed lets go of nothing.
    const killed = Object.assign(vllmOf(at), { release: undefined });
    const first = await open(t, at.model, { rollout: killed, runDir });
    await first.run({ max: 2, ...quiet });
    first.dispose();
    const before = at.servers[0].loaded;
    assert.equal(before.length, 1);
    const second = await open(t, at.model, { rollout: vllmOf(at), runDir });
    for await (const _ of second.steps({ max: 3 })) {
      assert.equal(at.servers[0].loaded.length, 1);
      assert.notDeepEqual(at.servers[0].loaded, before);
      assert.deepEqual(fs.readdirSync(at.adapters), at.servers[0].loaded);
    }
    assert.equal(second.step, 3);
    assert.deepEqual(at.servers[0].loaded, []);
  });

  test('servers that see the folder under another path get that path, and one that does not see it ends the run', async (t) => {
    const at = await scene(t);
    const seen = join(at.parent, 'mounted');
    fs.mkdirSync(at.adapters);
    fs.symlinkSync(at.adapters, seen);
    const trainer = await open(t, at.model, { rollout: vllmOf(at, { serverFolder: `${seen}/` }) });
    assert.equal((await stepsOf(trainer, 1)).length, 1);
    const paths = at.servers[0].requests.flatMap(({ path, body }) => (path.includes('/load') ? body.lora_path : []));
    assert.deepEqual(
      paths,
      fs.readdirSync(at.adapters).map((name) => `${seen}/${name}`),
    );
    const elsewhere = vllmOf(at, { serverFolder: join(at.parent, 'nowhere'), retries: 1 });
    assert.match(await failure(await open(t, at.model, { rollout: elsewhere })), /load_lora_adapter: status .*nowhere/);
  });

  test('servers let go of the last version when steps end, and load the next with the next steps', async (t) => {
    const at = await scene(t, {}, {});
    const loaded = () => at.servers.map((server) => server.loaded.length);
    const stop = new AbortController();
    const stopping = defineReward('c', ({ completion }) => {
      if (trainer.step === 3) stop.abort();
      return completion.text.length;
    });
    const trainer = await open(t, at.model, { rollout: vllmOf(at), rewards: [stopping] });
    for await (const _ of trainer.steps({ max: 2 })) assert.deepEqual(loaded(), [1, 1]);
    assert.deepEqual(loaded(), [0, 0]);
    for await (const _ of trainer.steps({ max: 9 })) {
      assert.deepEqual(loaded(), [1, 1]);
      break;
    }
    assert.deepEqual(loaded(), [0, 0]);
    for await (const _ of trainer.steps({ signal: stop.signal, grace: 0 })) assert.fail('the step was broken off');
    assert.equal(trainer.step, 3);
    assert.deepEqual(loaded(), [0, 0]);
  });

  test('servers let go of versions that end a run, and one that is gone does not hold up its end', async (t) => {
    const at = await scene(t, {}, { adapter: 'none' });
    const trainer = await open(t, at.model, { rollout: vllmOf(at), optimizer: { learningRate: 0.3 } });
    assert.match(await failure(trainer), /computes without the adapter/);
    assert.deepEqual(
      at.servers.map(({ loaded }) => loaded),
      [[], []],
    );
    const rewards = [
      defineReward('c', ({ completion }) => {
        at.servers[0].faults.isDead = true;
        return completion.text.length;
      }),
    ];
    const lone = { ...at, servers: [at.servers[0]] };
    const other = await open(t, at.model, { rollout: vllmOf(lone), rewards });
    const began = performance.now();
    assert.match(await failure(other), /no server works any more|has failed/);
    // Far less than the time limit of a completion.
    assertBelow(performance.now() - began, 30_000, 'milliseconds');
  });

  for (const [what, faults, sampling, expected] of [
    ['without the adapter', { adapter: 'none' }, {}, /computes without the adapter.*on average/],
    [
      'with the adapter of the first step',
      { adapter: 'first' },
      {},
      /still computes with version groupgrad-|computes without the adapter/,
    ],
    ['with ids beyond the vocabulary', { id: 99 }, {}, /expected token ids from 0 to 15, got 99: does the server/],
    [
      'with log-probs at temperature 1',
      { withoutTemperature: true },
      { temperature: 0.5 },
      /log-probs are those at temperature 1, not 0.5.*on average/,
    ],
  ] as const) {
    test(`a server that responds ${what} ends the run with the numbers`, async (t) => {
      const at = await scene(t, faults);
      const rollout = vllmOf(at, { maxProbeDifference: 10 });
      const trainer = await open(t, at.model, {
        rollout,
        sampling: { maxTokens: 4, promptLength: 4, ...sampling },
        optimizer: { learningRate: 0.3 },
      });
      assert.match(await failure(trainer), expected);
    });
  }

  test('a server with another model is detected in the first step', async (t) => {
    const at = await scene(t);
    const tensors = tensorsOf(sceneConfig);
    for (const { values } of Object.values(tensors)) (values as Float32Array).reverse();
    const other = writeModelFolder(join(at.parent, 'other'), { config: sceneConfig, tensors });
    const server = await fakeServer(t, other);
    const trainer = await open(t, at.model, { rollout: vllmOf({ ...at, servers: [server] }) });
    assert.match(await failure(trainer), /computes with different weights: the mean difference is above 0.1/);
    assert.equal(trainer.step, 0);
  });

  test('a stale cache is detected in the log-probs of sampled tokens', async (t) => {
    const at = await scene(t, { isCacheStale: true });
    const trainer = await open(t, at.model, { rollout: vllmOf(at), optimizer: { learningRate: 1 } });
    assert.match(await failure(trainer), /log-probs of sampled tokens are different/);
  });

  for (const [what, faults] of [
    ['a status of 500', { status: { code: 500, times: 3 } }],
    ['closed connections', { closed: 3 }],
    ['too many requests', { status: { code: 429, times: 2 } }],
  ] as const) {
    test(`waits for ${what}`, async (t) => {
      const at = await scene(t, structuredClone(faults));
      const trainer = await open(t, at.model, { rollout: vllmOf(at, { concurrency: 2 }) });
      const [step] = await stepsOf(trainer, 1);
      assert.equal(step.groups.flatMap(({ completions }) => completions).length, 16);
    });
  }

  test('a response that takes too long is a fault, and repeated faults end the run', async (t) => {
    const at = await scene(t, { delay: 2000 });
    const trainer = await open(t, at.model, { rollout: vllmOf(at, { timeLimit: 300, retries: 1 }) });
    assert.match(await failure(trainer), /all servers have failed|has failed 2 times.*no response within 300 ms/);
  });

  test('a restarted server gets the adapter again', async (t) => {
    const at = await scene(t);
    const [server] = at.servers;
    let seen = 0;
    const restarting = defineReward('length', ({ completion }) => {
      if (++seen === 5) server.restart();
      return completion.tokens.length;
    });
    const rollout = vllmOf(at, { concurrency: 2 });
    const trainer = await open(t, at.model, { rollout, rewards: [restarting] });
    const [step] = await stepsOf(trainer, 1);
    assert.equal(step.groups.length, 4);
    assert.equal(server.requests.filter(({ path }) => path === '/v1/load_lora_adapter').length, 2);
  });

  test('groups are distributed over servers, and a server that dies costs only what it had not finished', async (t) => {
    const at = await scene(t, {}, {});
    const [one, two] = at.servers;
    let done = 0;
    const rewards = [
      defineReward('length', ({ completion }) => {
        if (++done === 6) two.faults.isDead = true;
        return completion.tokens.length;
      }),
    ];
    const rollout = vllmOf(at, { concurrency: 2 });
    const trainer = await open(t, at.model, { rollout, rewards, groupSize: 8 });
    const [first, second] = await stepsOf(trainer, 2);
    for (const { groups } of [first, second]) {
      assert.equal(groups.length, 4);
      assert.equal(groups.flatMap(({ completions }) => completions).length, 32);
    }
    // Nothing that was finished is sampled again: 64 completions and the probes, of two versions for one server.
    assertBelow(-two.completions, 0, 'completions');
    const probes = 4 * (2 + 1);
    assert.equal(one.completions + two.completions, 64 + probes);
  });

  test('two servers do nearly twice the work of one, and groups stay together', async () => {
    const work = async (urls: string[]) => {
      const places: [string, number][] = [];
      const [now, most]: Record<string, number>[] = [{}, {}];
      const jobs = Array.from({ length: 64 }, (_, i) => ({
        group: Math.floor(i / 8),
        run: async (url: string) => {
          places.push([url, Math.floor(i / 8)]);
          now[url] = (now[url] ?? 0) + 1;
          most[url] = Math.max(most[url] ?? 0, now[url]);
          await new Promise((resolve) => setTimeout(resolve, 20));
          now[url]--;
          return i;
        },
      }));
      const pool = new ServerPool({ urls, concurrency: 4, ...patience });
      assert.deepEqual(
        await pool.run(jobs),
        jobs.map((_, i) => i),
      );
      return { most, places };
    };
    assert.deepEqual((await work(['a'])).most, { a: 4 });
    const two = await work(['a', 'b']);
    // Each is as busy as the one was, and has nearly half of the work: counted, since the time also depends on the machine.
    assert.deepEqual(two.most, { a: 4, b: 4 });
    const shares = ['a', 'b'].map((url) => two.places.filter(([place]) => place === url).length);
    assert.ok(Math.min(...shares) > 64 / 3, `${shares} requests`);
    // A server that has nothing to do takes over: of 8 groups at most a few are shared.
    const kinds = new Set(two.places.map(([url, group]) => `${url} ${group}`));
    assert.ok(kinds.size <= 10, `${kinds.size} pairs of server and group`);
  });

  test('an abort ends the requests that are under way, with its reason', async (t) => {
    const at = await scene(t, { delay: 60_000 });
    const engine = vllmOf(at);
    const policy = (await PretrainedPolicy.load(at.model, { lora })) as LoadedPolicy;
    t.after(() => policy.dispose());
    await engine.update!(
      {
        run: 'a',
        tokenizer: policy.tokenizer,
        logitsSize: policy.logitsSize,
        temperature: 1,
        probes: [],
        saveAdapter: (folder) => policy.save(folder),
        logProbs: async () => [],
      },
      {},
    );
    const controller = new AbortController();
    const reason = new Error('enough');
    setTimeout(() => controller.abort(reason), 50);
    const requests = [{ prompt: Int32Array.of(1, 4), promptIndex: 0, sample: 0 }];
    const began = performance.now();
    const settings = { maxTokens: 3, temperature: 1, seed: 0, step: 0, signal: controller.signal };
    await assert.rejects(engine.complete(requests, settings), (error) => error === reason);
    // Far less than the answers take, however busy the machine.
    assertBelow(performance.now() - began, 30_000, 'milliseconds');
    await assert.rejects(engine.complete(requests, { ...settings, signal: undefined, topP: 0.5 }), /^RangeError: topP/);
  });

  test('a key comes from the environment and appears in no file and no error', async (t) => {
    const key = 'sk-very-secret-0123456789';
    process.env.TEST_ROLLOUT_KEY = key;
    t.after(() => {
      delete process.env.TEST_ROLLOUT_KEY;
    });
    const at = await scene(t, {}, {});
    const runDir = join(at.parent, 'run');
    const rollout = vllmOf(at, { apiKeyVariable: 'TEST_ROLLOUT_KEY', retries: 0 });
    const trainer = await open(t, at.model, { rollout, runDir });
    await trainer.run({ max: 1, ...quiet });
    for (const { requests } of at.servers)
      assert.deepEqual([...new Set(requests.map((one) => one.key))], [`Bearer ${key}`]);
    for (const { faults } of at.servers) faults.status = { code: 401, times: 99, text: `${'x'.repeat(45)} no ${key}` };
    const error = await failure(trainer);
    assert.match(error, /status 401/);
    assert.ok(!error.includes(key.slice(0, 8)), error);
    for (const file of fs.readdirSync(runDir, { recursive: true, encoding: 'utf8' })) {
      const path = join(runDir, file);
      if (fs.statSync(path).isFile()) assert.ok(!fs.readFileSync(path).includes(key), file);
    }
  });

  const skip = slowSet('makes twenty steps of 32');
  test('training gets what the policy itself would have sampled', { skip }, async (t) => {
    const at = await scene(t);
    const rises = async (rollout?: RolloutEngine) => {
      const trainer = await open(t, at.model, { rollout, groupSize: 8 });
      const rewards = (await stepsOf(trainer, 10)).map(({ metrics }) => metrics.reward);
      const meanOf = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;
      return meanOf(rewards.slice(-3)) - meanOf(rewards.slice(0, 3));
    };
    const [own, served] = [await rises(), await rises(vllmOf(at))];
    assert.ok(own > 0.2 && served > 0.2, `the reward rises by ${own} and ${served}`);
  });
});

describe('options of rollouts', () => {
  before(() => startBackend(quickBackend));
  const usual = { urls: ['http://127.0.0.1:1'], model: 'm', adapterFolder: 'a' };

  for (const [options, expected] of [
    [{ ...usual, urls: [] }, /^TypeError: urls: expected at least one URL/],
    [{ ...usual, urls: ['127.0.0.1'] }, /^TypeError: urls\[0\]: expected an http or https URL/],
    [{ ...usual, urls: ['http://u:secret@h'] }, /^RangeError: urls\[0\]: expected a URL without user, (?!.*secret)/],
    [{ ...usual, urls: ['http://h', 'http://h/'] }, /^RangeError: urls\[1\]: expected another server/],
    [{ ...usual, model: '' }, /^TypeError: model: expected a non-empty string/],
    [{ ...usual, adapterFolder: undefined }, /^TypeError: adapterFolder: expected a non-empty string, got nothing/],
    [{ ...usual, weightsFolder: 'b' }, /^TypeError: weightsFolder: unknown field/],
    [{ ...usual, timeLimit: 1e6 }, /^RangeError: timeLimit: expected an integer at least 1 and at most 300000/],
    [{ ...usual, concurency: 1 }, /^TypeError: concurency: unknown field/],
  ] as const) {
    test(`${expected}`, () => {
      assert.throws(() => vllm(options as unknown as VllmOptions), expected);
    });
  }

  test('sglang takes adapters or whole models', () => {
    const { adapterFolder: _, ...without } = usual;
    assert.throws(
      () => sglang(without),
      /^TypeError: options: expected either adapterFolder or weightsFolder, got neither/,
    );
    assert.throws(() => sglang({ ...usual, weightsFolder: 'b' }), /got both/);
  });

  for (const [change, expected] of [
    [{ rollout: {} }, /^TypeError: rollout.name: expected a non-empty string, got nothing/],
    [{ rollout: { name: 'x' } }, /^TypeError: rollout.complete: expected a function/],
    [
      { rollout: { name: 'x', complete: async () => [], release: 1 } },
      /^TypeError: rollout.release: expected a function, got 1/,
    ],
    [{ rollout: vllm(usual), sampling: { topP: 0.9 } }, /^RangeError: sampling.topP: expected no truncation with vllm/],
    [
      { importanceSampling: {} },
      /^TypeError: importanceSampling: expected nothing, because there is no rollout engine/,
    ],
    [
      { rollout: vllm(usual), importanceSampling: { clipMin: 3 } },
      /^RangeError: importanceSampling.clipMin: expected a number below clipMax \(3\)/,
    ],
    [
      { rollout: vllm(usual), importanceSampling: { mode: 'token_truncate', clipMax: null } },
      /^RangeError: importanceSampling.clipMax: expected a bound/,
    ],
    [
      { rollout: vllm(usual), importanceSampling: { mode: 'token' } },
      /^RangeError: importanceSampling.mode: expected one of 'token_truncate'/,
    ],
  ] as const) {
    test(`${expected}`, async () => {
      const options = tinyOptions(change as unknown as Partial<TrainerOptions>);
      await assert.rejects(createTrainer(options), expected);
      (options.policy as LoadedPolicy).dispose();
    });
  }

  test('a policy without an adapter is rejected in the first step', async (t) => {
    const at = await scene(t);
    const trainer = await open(t, at.model, { rollout: vllmOf(at) }, {});
    assert.match(await failure(trainer), /^policy: expected one with an adapter \(lora\)/);
  });

  test('a user-defined engine samples, and a warning says if its log-probs differ', async (t) => {
    const at = await scene(t);
    const own: Completion = { tokens: Int32Array.of(3, 2), logProbs: Float32Array.of(-0.1, -0.2), truncated: false };
    let turn = 0;
    const rollout: RolloutEngine = {
      name: 'mine',
      complete: async (requests) => requests.map(() => ({ ...own, tokens: Int32Array.of(3 + (turn++ % 3), 2) })),
    };
    const trainer = await open(t, at.model, { rollout });
    const [step] = await stepsOf(trainer, 1);
    assertBelow(-step.metrics['sampling/log_prob_difference_max'], -0.1, 'difference');
    assert.equal(step.metrics['health/log_prob_difference'], 1);
    assert.match(
      step.warnings.join('\n'),
      /the rollout engine's log-probs differ .* more than sampling.maxLogProbDifference \(0.1\)/,
    );
  });

  /** Says that every token was more likely by a factor than it was, and is otherwise the policy's own sampler. */
  function shifted(policy: Policy, shift: number): RolloutEngine {
    return {
      name: 'shifted',
      async complete(requests, { onCompletion: _, ...options }) {
        const completions = await policySampler(policy).complete(requests, options);
        return completions.map((completion) => ({
          ...completion,
          logProbs: completion.logProbs.map((p) => p + shift),
        }));
      },
    };
  }

  test("a KL reward is that of the engine's log-probs: at the policy that sampled", async (t) => {
    const at = await scene(t);
    const policy = (await PretrainedPolicy.load(at.model, { lora })) as LoadedPolicy;
    t.after(() => policy.dispose());
    const shift = -0.2;
    const beta = 0.5;
    const change = {
      policy,
      rollout: shifted(policy, shift),
      klReward: { beta, estimator: 'k2' },
      runDir: join(at.parent, 'run'),
    } as const;
    const trainer = await open(t, at.model, change);
    const [first, second] = await stepsOf(trainer, 2);
    const completions = first.groups.flatMap((group) => group.completions);
    for (const { tokens, rewards, reward } of completions) {
      // Before the first update the policy is the reference: what is left is the engine's difference.
      assertBelow(Math.abs(rewards.kl! - (tokens.length * shift ** 2) / 2), 1e-4, 'kl');
      assert.equal(reward, rewards.c! - beta * rewards.kl!);
    }
    assertBelow(Math.abs(first.metrics['sampling/importance_weight_max'] - Math.exp(-shift * 4)), 1e-3, 'weight');
    const base = (await PretrainedPolicy.load(at.model)) as LoadedPolicy;
    t.after(() => base.dispose());
    for (const { prompt, completions: some } of second.groups) {
      const sequences = some.map(({ tokens }) => Int32Array.of(...prompt, ...tokens));
      const known = await tokenLogProbsOf(base, sequences);
      for (const [i, { logProbs, rewards }] of some.entries()) {
        const reference = known[i].subarray(prompt.length - 1);
        const expected = logProbs.reduce((sum, logProb, t) => sum + (reference[t] - logProb) ** 2 / 2, 0);
        assertBelow(Math.abs(rewards.kl! - expected), 1e-4, 'kl');
      }
    }
  });

  test('VESPO takes the weight of a completion as the product over its tokens', async (t) => {
    const at = await scene(t);
    const policy = (await PretrainedPolicy.load(at.model, { lora })) as LoadedPolicy;
    t.after(() => policy.dispose());
    const shift = -0.1;
    const trainer = await open(t, at.model, {
      policy,
      rollout: shifted(policy, shift),
      loss: presets.vespo,
      importanceSampling: { mode: 'token_truncate' },
      hadw: undefined,
      // Samples completions of different lengths.
      seed: 7,
    });
    const [{ groups, metrics }] = await stepsOf(trainer, 1);
    // v = π / μ of the whole completion: exp(−shift) for each of its tokens.
    const phis = groups.flatMap((group) =>
      group.completions.map(({ tokens, advantage }) => {
        const logV = -shift * tokens.length;
        const [k, lambda] = advantage >= 0 ? [2, 3] : [3, 2];
        return Math.exp(lambda + k * logV - lambda * Math.exp(logV));
      }),
    );
    const mean = phis.reduce((a, b) => a + b, 0) / phis.length;
    assert.ok(new Set(groups.flatMap((group) => group.completions.map(({ tokens }) => tokens.length))).size > 1);
    assertBelow(Math.abs(metrics['vespo/phi_seq_mean'] - mean), 1e-3, 'phi');
  });

  test('VESPO with one weight for a completion is refused: all its tokens would multiply it again', async (t) => {
    const at = await scene(t);
    for (const importanceSampling of [undefined, { mode: 'sequence_truncate' }] as const) {
      const change = { rollout: vllmOf(at), loss: presets.vespo, importanceSampling };
      await assert.rejects(
        open(t, at.model, change),
        /^RangeError: importanceSampling\.mode: expected 'token_truncate' or 'token_mask' with the surrogate vespo/,
      );
    }
    const uncorrected = { rollout: vllmOf(at), loss: presets.vespo, importanceSampling: { correction: false } };
    assert.equal((await open(t, at.model, uncorrected)).step, 0);
  });

  test('completions of an engine teach what the same completions of the own sampler do', async (t) => {
    const at = await scene(t);
    const policy = (await PretrainedPolicy.load(at.model, { lora })) as LoadedPolicy;
    t.after(() => policy.dispose());
    const own = await stepsOf(await open(t, at.model, {}), 6);
    const served = await stepsOf(await open(t, at.model, { policy, rollout: shifted(policy, 0) }), 6);
    for (const [i, step] of own.entries()) {
      const tokensOf = ({ groups }: GrpoStep) =>
        groups.map(({ completions }) => completions.map(({ tokens }) => [...tokens]));
      assert.deepEqual(tokensOf(served[i]), tokensOf(step));
      // Importance weights are 1 but for rounding of the log-probs.
      for (const name of ['loss', 'grad_norm', 'reward', 'hadw/anchor']) {
        assertBelow(Math.abs(served[i].metrics[name] - step.metrics[name]), 1e-4, `${name} of step ${i + 1}`);
      }
    }
    assertBelow(-own[5].metrics.grad_norm, 0, 'gradient');
  });

  test('an engine is notified when steps end, in whatever way, and its failure then does not fail the run', async (t) => {
    const at = await scene(t);
    const policy = (await PretrainedPolicy.load(at.model, { lora })) as LoadedPolicy;
    t.after(() => policy.dispose());
    let released = 0;
    const release = () => {
      released++;
      throw new Error('nothing to let go of');
    };
    const rollout = Object.assign(shifted(policy, 0), { release });
    const trainer = await open(t, at.model, { policy, rollout });
    assert.equal((await stepsOf(trainer, 1)).length, 1);
    assert.equal(released, 1);
    for await (const _ of trainer.steps()) break;
    assert.equal(released, 2);
  });

  test('small changes of the weights distinguish a server with old weights from one that computes in low precision', () => {
    const own = { before: [-1, -2, -3, -4], now: [-1.1, -2.05, -2.9, -4.1] };
    const noise = [0.02, -0.01, 0.01, 0.015];
    const noisy = (values: number[]) => values.map((value, i) => value + noise[i]);
    assert.equal(hasStayed({ before: noisy(own.before), now: own.now }, own), false);
    assert.equal(hasStayed({ before: noisy(own.before), now: own.before }, own), true);
    // Too small to decide: neither.
    const still = { before: own.before, now: own.before.map((value) => value - 1e-5) };
    assert.equal(hasStayed({ before: own.before, now: own.before }, still), false);
  });

  test("the mismatch of every step is in a run's metrics", async (t) => {
    const at = await scene(t);
    const runDir = join(at.parent, 'run');
    const importanceSampling = { mode: 'token_truncate', clipMax: 1, clipMin: 0.5 } as const;
    const trainer = await open(t, at.model, { rollout: vllmOf(at), importanceSampling, runDir });
    await trainer.run({ max: 2, ...quiet });
    for (const line of readLines(join(runDir, 'metrics.jsonl'))) {
      if (line.step === 0) continue;
      assertBelow(line['sampling/importance_weight_max'] as number, 1 + 1e-9, 'weight');
    }
  });
});
