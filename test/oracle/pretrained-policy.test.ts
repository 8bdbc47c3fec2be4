// Pretrained policies in practice, compared with transformers and PEFT: log-probs, greedy completions, a whole story; and
// saved files and the golden vectors themselves, by Python if it has transformers and peft (the Python named by
// GROUPGRAD_TRANSFORMERS_PYTHON).
//
// Bounds: as in pretrained.test.ts.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { join } from 'node:path';
import test, { before, describe, type TestContext } from 'node:test';
import { startBackend } from '../../src/backend/backend.js';
import { generate, type PretrainedOptions, PretrainedPolicy, tokenLogProbs } from '../../src/index.js';
import { ModelFiles } from '../../src/weights/model-files.js';
import type { LoadedPolicy } from '../../src/weights/pretrained-policy.js';
import { repeats } from '../support/sets.js';
import { temporaryFolder } from '../support/trainer.js';

const root = join(import.meta.dirname, '../..');
const folders = join(root, '../shared/golden/hf');
const stories = join(root, '../shared/models/stories260k');
const missing = (folder: string) => (fs.existsSync(folder) ? false : `${folder} is missing`);

function readJson<T>(path: string): T {
  return JSON.parse(fs.readFileSync(path, 'utf8')) as T;
}

const golden = readJson<Record<string, { logProbs: number[][]; greedy: number[][]; adapterLogProbs: number[][] }>>(
  join(root, 'test/golden/pretrained.json'),
);
const sequencesOf = (name: string) =>
  readJson<Record<string, { sequences: number[][] }>>(join(folders, 'expected.json'))[name].sequences.map((ids) =>
    Int32Array.from(ids),
  );

async function load(t: TestContext, folder: string, options: PretrainedOptions = {}): Promise<LoadedPolicy> {
  const policy = (await PretrainedPolicy.load(folder, options)) as LoadedPolicy;
  t.after(() => policy.dispose());
  return policy;
}

function assertClose(actual: readonly Float32Array[], expected: readonly (readonly number[])[], bound = 1e-4): void {
  assert.equal(actual.length, expected.length);
  expected.forEach((row, i) => {
    assert.equal(actual[i].length, row.length);
    row.forEach((value, t) => {
      assert.ok(Math.abs(actual[i][t] - value) <= bound, `sequence ${i}, ${t}: ${actual[i][t]}, expected ${value}`);
    });
  });
}

describe('policies from folders agree with transformers and PEFT', { skip: missing(folders) }, () => {
  before(() => startBackend('wasm'));

  for (const name of Object.keys(golden)) {
    test(name, async (t) => {
      const { logProbs, greedy, adapterLogProbs } = golden[name];
      const sequences = sequencesOf(name);
      const policy = await load(t, join(folders, name));
      assertClose(await tokenLogProbs(policy, sequences), logProbs);
      const prompts = sequences.slice(1).map((ids) => ids.slice(0, 5));
      const completions = await generate(policy, prompts, { maxTokens: 12, temperature: 0 });
      // transformers was configured to continue after an end token.
      const ends = policy.tokenizer.endTokens;
      const expected = greedy.map((ids) => {
        const end = ids.findIndex((id) => ends.includes(id));
        return end < 0 ? ids : ids.slice(0, end + 1);
      });
      assert.deepEqual(
        completions.map(({ tokens }) => [...tokens]),
        expected,
      );
      const adapted = await load(t, join(folders, name), { adapter: join(folders, `${name}-adapter`) });
      assertClose(await tokenLogProbs(adapted, sequences), adapterLogProbs);
      // The reference is the model without its adapter.
      const [own] = await tokenLogProbs(policy, [sequences[2]]);
      const off = {
        ...adapted,
        logits: (...args) => adapted.reference!(() => adapted.logits(...args)),
      } as LoadedPolicy;
      assert.deepEqual((await tokenLogProbs(off, [sequences[2]]))[0], own);
    });
  }

  test('sampled log-probs equal scored ones at temperature 1', async (t) => {
    const policy = await load(t, join(folders, 'qwen2'));
    const sampled = await generate(policy, [Int32Array.of(5, 6, 7), Int32Array.of(9)], {
      maxTokens: 9,
      samples: 3,
      seed: 4,
    });
    const scored = await tokenLogProbs(
      policy,
      sampled.map(({ prompt, tokens }) => Int32Array.of(...prompt, ...tokens)),
    );
    sampled.forEach(({ prompt, logProbs }, i) => {
      const own = scored[i].subarray(prompt.length - 1);
      for (const [t, value] of own.entries()) assert.ok(Math.abs(value - logProbs[t]) < 1e-4);
    });
    assert.equal(new Set(sampled.map(({ tokens }) => tokens.join())).size > 2, true);
  });

  test('a folder that is loaded and saved is unchanged, bit for bit', async (t) => {
    for (const name of Object.keys(golden)) {
      const policy = await load(t, join(folders, name));
      const to = join(temporaryFolder(t), 'saved');
      await policy.save(to);
      using before = new ModelFiles(join(folders, name));
      using after = new ModelFiles(to);
      const names = (files: ModelFiles) => [...files.tensors()].map((tensor) => tensor.name).sort();
      assert.deepEqual(names(after), names(before), name);
      for (const { name: tensor, type } of before.tensors()) {
        assert.equal(after.tensor(tensor).type, type);
        const bytes = (files: ModelFiles) => Buffer.concat([...files.bytePieces(tensor)]);
        assert.deepEqual(bytes(after), bytes(before), `${name}, ${tensor}`);
      }
      for (const file of ['config.json', 'generation_config.json']) {
        assert.deepEqual(fs.readFileSync(join(to, file)), fs.readFileSync(join(folders, name, file)));
      }
    }
  });

  test('an adapter that is loaded and saved computes the same, and can be merged', async (t) => {
    for (const name of Object.keys(golden)) {
      const folder = join(folders, name);
      const sequences = sequencesOf(name);
      const adapted = await load(t, folder, { adapter: join(folders, `${name}-adapter`) });
      const own = await tokenLogProbs(adapted, sequences);
      const to = temporaryFolder(t);
      await adapted.save(join(to, 'adapter'));
      const again = await load(t, folder, { adapter: join(to, 'adapter') });
      assert.deepEqual(await tokenLogProbs(again, sequences), own, name);
      await adapted.save(join(to, 'merged'), { merge: true });
      const merged = await load(t, join(to, 'merged'));
      // The sum is rounded for 16-bit weights.
      const type = adapted.description.dtype ?? [...new ModelFiles(folder).tensors()][0].type;
      if (type === 'F32')
        assertClose(
          await tokenLogProbs(merged, sequences),
          own.map((row) => [...row]),
        );
      const floats = await load(t, folder, { adapter: join(folders, `${name}-adapter`), dtype: 'float32' });
      await floats.save(join(to, 'floats'), { merge: true });
      const exact = await load(t, join(to, 'floats'));
      assertClose(
        await tokenLogProbs(exact, sequences),
        own.map((row) => [...row]),
      );
    }
  });
});

describe('a small model that writes stories', { skip: missing(stories) }, () => {
  const expected = readJson<{ prompt: number[]; tokens: number[]; text: string }>(
    join(root, 'test/golden/stories260k.json'),
  );
  before(() => startBackend('wasm'));

  test('its story equals that of transformers for 200 tokens', async (t) => {
    const policy = await load(t, stories);
    const [story] = await generate(policy, ['Once upon a time'], { maxTokens: 200, temperature: 0 });
    assert.deepEqual([...story.prompt], expected.prompt);
    assert.deepEqual([...story.tokens], expected.tokens);
    // transformers strips the leading space of a first token.
    assert.equal(story.text.trimStart(), expected.text.trimStart());
    assert.equal(story.truncated, true);
  });
});

const python = process.env.GROUPGRAD_TRANSFORMERS_PYTHON ?? 'python3';
const noPython = () =>
  spawnSync(python, ['-c', 'import torch, transformers, peft']).status === 0
    ? false
    : `${python} has no transformers and peft (GROUPGRAD_TRANSFORMERS_PYTHON names another)`;

describe('with transformers and PEFT themselves', { skip: missing(folders) || noPython() }, () => {
  before(() => startBackend('wasm'));

  const run = <T = number[][]>(args: readonly string[], input = ''): T => {
    const program = join(root, 'test/oracle/pretrained.py');
    const { status, stdout, stderr } = spawnSync(python, [program, ...args], { input, encoding: 'utf8' });
    assert.equal(status, 0, stderr);
    return JSON.parse(stdout) as T;
  };
  const ask = (folder: string, adapter: string | null, sequences: readonly Int32Array[]): number[][] =>
    run(['--log-probs', folder], JSON.stringify({ adapter, sequences: sequences.map((ids) => [...ids]) }));

  test('the golden vectors are what they compute from the weights as stored', () => {
    // Those in F32, BF16 and F16 first.
    const names = [...new Set(['gemma2', 'gemma3', 'phi3', ...Object.keys(golden)])].slice(0, repeats(3, Infinity));
    const computed = run<typeof golden>(names.map((name) => join(folders, name)));
    assert.deepEqual(Object.keys(computed), names);
    for (const name of names) {
      for (const which of ['logProbs', 'adapterLogProbs'] as const) {
        const own = computed[name][which].map((row) => Float32Array.from(row));
        assertClose(own, golden[name][which], 1e-5);
      }
      assert.deepEqual(computed[name].greedy, golden[name].greedy, name);
    }
  });

  test('an adapter of the unembedding that PEFT has created', async (t) => {
    const folder = join(folders, 'qwen2-window');
    const sequences = sequencesOf('qwen2-window');
    const to = temporaryFolder(t);
    const expected = run(['--new-adapter', folder, join(to, 'theirs')]);
    const policy = await load(t, folder, { adapter: join(to, 'theirs'), dtype: 'float32' });
    assert.ok('unembedding.lora_A' in policy.variables);
    const own = await tokenLogProbs(policy, sequences);
    assertClose(own, expected);
    await policy.save(join(to, 'adapter'));
    await policy.save(join(to, 'merged'), { merge: true });
    assertClose(own, ask(folder, join(to, 'adapter'), sequences));
    assertClose(own, ask(join(to, 'merged'), null, sequences));
  });

  for (const name of ['qwen2-window', 'phi3', 'gemma3', 'llama-tied-bias']) {
    test(name, async (t) => {
      const folder = join(folders, name);
      const sequences = sequencesOf(name);
      const policy = await load(t, folder, { adapter: join(folders, `${name}-adapter`), dtype: 'float32' });
      // Slightly trained: values that are in no file.
      for (const variable of Object.values(policy.variables)) {
        const moved = variable.mul(1.25);
        variable.assign(moved);
        moved.dispose();
      }
      const own = await tokenLogProbs(policy, sequences);
      const to = temporaryFolder(t);
      await policy.save(join(to, 'adapter'));
      await policy.save(join(to, 'merged'), { merge: true });
      // Twice the bound: the adapter is twice as large as those of the golden vectors.
      assertClose(own, ask(folder, join(to, 'adapter'), sequences), 2e-4);
      assertClose(own, ask(join(to, 'merged'), null, sequences), 2e-4);
    });
  }
});
