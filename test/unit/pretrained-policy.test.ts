// Policies from model folders: options, rejection by name before memory is allocated, prompts, several end tokens, saved files.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { join } from 'node:path';
import test, { before, describe, type TestContext } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { startBackend } from '../../src/backend/backend.js';
import { generate, type PretrainedOptions, PretrainedPolicy, presets, tokenLogProbs } from '../../src/index.js';
import { linearLoss } from '../../src/model/linear-loss.js';
import { tokenLogProbsOf } from '../../src/rollout/generate.js';
import { HuggingFaceTokenizer } from '../../src/text/hugging-face-tokenizer.js';
import { grpoLoss } from '../../src/tfjs/index.js';
import type { FloatType } from '../../src/weights/floats.js';
import { ModelFiles } from '../../src/weights/model-files.js';
import type { LoadedPolicy } from '../../src/weights/pretrained-policy.js';
import { SafetensorsFile } from '../../src/weights/safetensors-file.js';
import { type Arrays, writeArrays } from '../../src/weights/safetensors-writer.js';
import { quickBackend } from '../support/backend.js';
import { tensorsOf, tinyConfig, tinyTokenizer, writeModelFolder } from '../support/model-folder.js';
import { seeded } from '../support/random.js';
import { temporaryFolder, weightsOf } from '../support/trainer.js';

async function load(t: TestContext, folder: string, options: PretrainedOptions = {}): Promise<LoadedPolicy> {
  const policy = (await PretrainedPolicy.load(folder, options)) as LoadedPolicy;
  t.after(() => policy.dispose());
  return policy;
}

function readArrays(path: string): Arrays {
  using file = new SafetensorsFile(path);
  return Object.fromEntries(
    [...file.tensors.values()].map(({ name, shape }) => [name, { shape, values: file.readFloats(name) }]),
  );
}

/** A safetensors file with a header and `length` bytes after it. */
function rawFile(header: object, length: number, stated?: bigint): Buffer {
  const json = Buffer.from(JSON.stringify(header));
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(stated ?? BigInt(json.length));
  return Buffer.concat([size, json, Buffer.alloc(length)]);
}

describe('policies from model folders', () => {
  before(() => startBackend(quickBackend));

  test('a folder is rejected by name, before a tensor is created', async (t) => {
    const parent = temporaryFolder(t);
    let count = 0;
    const refused = async (change: (folder: string) => void, message: RegExp, options: PretrainedOptions = {}) => {
      const folder = writeModelFolder(join(parent, String(count++)));
      change(folder);
      const { numTensors } = tf.memory();
      await assert.rejects(PretrainedPolicy.load(folder, options), (error: Error) => {
        assert.match(error.message, message);
        return error instanceof RangeError || error instanceof TypeError;
      });
      assert.equal(tf.memory().numTensors, numTensors);
    };
    const file = (name: string, content: string | Buffer) => (folder: string) =>
      fs.writeFileSync(join(folder, name), content);
    const json = (name: string, content: object) => file(name, JSON.stringify(content));
    const config = (change: object) => json('config.json', { ...tinyConfig, ...change });
    const weights = (content: Buffer) => file('model.safetensors', content);
    const shards = (map: Record<string, string>) => (folder: string) => {
      fs.renameSync(join(folder, 'model.safetensors'), join(folder, 'one.safetensors'));
      json('model.safetensors.index.json', { metadata: {}, weight_map: map })(folder);
    };
    const inOne = Object.fromEntries(Object.keys(tensorsOf(tinyConfig)).map((name) => [name, 'one.safetensors']));

    // The configuration.
    await refused(
      config({ model_type: 'mamba2' }),
      /config\.json, model_type: expected one of llama, .*, got "mamba2"/,
    );
    await refused(
      config({ rope_scaling: { rope_type: 'spiral', factor: 2 } }),
      /rope_type: expected one of .*"spiral"/,
    );
    await refused(config({ quantization_config: { quant_method: 'gptq' } }), /quantization_config: .*got "gptq"/);
    await refused(config({ vocab_size: 12 }), /shape: expected \[12, 8\] as the configuration says, got \[16, 8\]/);
    await refused(config({ hidden_size: 'eight' }), /hidden_size: expected .*got "eight"/);
    await refused(file('config.json', `${'['.repeat(100_000)}`), /config\.json: expected JSON/);
    await refused(
      file('config.json', '{"vocab_size": 16, "vocab_size": 4}'),
      /config\.json: .*the key "vocab_size" occurs/,
    );
    await refused((folder) => fs.rmSync(join(folder, 'config.json')), /expected a model folder with config\.json/);

    // The weights.
    await refused((folder) => fs.rmSync(join(folder, 'model.safetensors')), /expected model\.safetensors or/);
    await refused(
      (folder) => fs.truncateSync(join(folder, 'model.safetensors'), 3000),
      /model\.safetensors.*truncated/,
    );
    await refused(weights(rawFile({}, 64, 2n ** 31n)), /a header of at most 100000000 bytes, got 2147483648/);
    const entry = (start: number, end: number) => ({
      dtype: 'F32',
      shape: [(end - start) / 4],
      data_offsets: [start, end],
    });
    await refused(weights(rawFile({ a: entry(0, 8), b: entry(4, 12) }, 12)), /"b".*offset|"b".*bytes/);
    await refused(weights(rawFile({ a: entry(0, 16) }, 8)), /model\.safetensors/);
    await refused(shards({ ...inOne, 'model.norm.weight': 'two.safetensors' }), /two\.safetensors/);
    await refused(
      shards({ ...inOne, 'model.norm.weight': '../other/one.safetensors' }),
      /\.\.\/other\/one\.safetensors/,
    );
    await refused((folder) => {
      shards(inOne)(folder);
      fs.truncateSync(join(folder, 'one.safetensors'), 3000);
    }, /one\.safetensors.*truncated/);
    const tensors = tensorsOf(tinyConfig);
    const rewritten = (change: object) => (folder: string) =>
      writeArrays(join(folder, 'model.safetensors'), { ...tensors, ...change }, 'F32');
    const { 'model.norm.weight': norm } = tensors;
    await refused(rewritten({ 'model.norm.bias': norm }), /tensor "model\.norm\.bias": expected a tensor of llama/);
    await refused(
      rewritten({ 'model.norm.weight': { shape: [4], values: new Float32Array(4) } }),
      /"model\.norm\.weight", shape: expected \[8\] as the configuration says, got \[4\]/,
    );

    // The tokenizer.
    const token = (content: string, id: number) => ({
      ...(tinyTokenizer() as { added_tokens: object[] }).added_tokens[0],
      content,
      id,
    });
    await refused(
      json('tokenizer.json', tinyTokenizer({ vocab: { z: 16 } })),
      /ids below the 16 rows of the model \(vocab_size\), got 16, that of "z"/,
    );
    await refused(json('tokenizer.json', tinyTokenizer({ added: [token('<x>', 40)] })), /got 40, that of "<x>"/);
    await refused(file('tokenizer.json', '{'), /tokenizer\.json: expected JSON/);

    // The adapter.
    const adapter = (change: object, shape: [number, number]) => {
      const folder = join(parent, `adapter-${count}`);
      fs.mkdirSync(folder);
      const given = { peft_type: 'LORA', r: 2, lora_alpha: 4, target_modules: ['q_proj'], ...change };
      json('adapter_config.json', given)(folder);
      const [outputs, inputs] = shape;
      const matrices = [0, 1].flatMap((layer) => {
        const name = `base_model.model.model.layers.${layer}.self_attn.q_proj.lora_`;
        return [
          [`${name}A.weight`, { shape: [2, inputs], values: new Float32Array(2 * inputs) }],
          [`${name}B.weight`, { shape: [outputs, 2], values: new Float32Array(2 * outputs) }],
        ];
      });
      writeArrays(join(folder, 'adapter_model.safetensors'), Object.fromEntries(matrices), 'F32');
      return folder;
    };
    const none = () => {};
    await refused(none, /lora_A\.weight", shape: expected \[2, 8\], got \[2, 10\] \(is it for another model\?\)/, {
      adapter: adapter({}, [8, 10]),
    });
    await refused(none, /use_dora: expected a plain LoRA adapter/, { adapter: adapter({ use_dora: true }, [8, 8]) });
    await refused(none, /expected an adapter folder with adapter_config\.json, got none/, { adapter: parent });
    const fine = adapter({}, [8, 8]);
    await refused(none, /lora\.rank: expected that of the adapter, 2 at .*, got 16/, {
      adapter: fine,
      lora: { rank: 16 },
    });
    await refused(none, /lora\.alpha: expected that of the adapter, 4 at .*, got 5/, {
      adapter: fine,
      lora: { rank: 2, alpha: 5 },
    });
    await refused(none, /lora\.targets: expected that of the adapter, without .*v_proj/, {
      adapter: fine,
      lora: { rank: 2, targets: ['q_proj', 'v_proj'] },
    });
    await refused(none, /lora\.targets: expected that of the adapter, with .*q_proj/, {
      adapter: fine,
      lora: { rank: 2, targets: ['v_proj'] },
    });
  });

  test('options are rejected by name', async (t) => {
    const folder = writeModelFolder(join(temporaryFolder(t), 'model'));
    const cases: [options: unknown, message: RegExp][] = [
      [{ lora: 4 }, /^lora: expected an object, got 4/],
      [{ lora: {} }, /^lora\.rank: expected an integer at least 1, got nothing/],
      [{ lora: { rank: 1.5 } }, /^lora\.rank: expected an integer at least 1, got 1\.5/],
      [{ lora: { rank: 2, alpha: 0 } }, /^lora\.alpha: expected a finite number above 0, got 0/],
      [{ lora: { rank: 2, targets: [] } }, /^lora\.targets: expected 'all-linear', .*got an array of 0 values/],
      [{ lora: { rank: 2, targets: ['queries'] } }, /^lora\.targets: expected linear modules of llama .*got "queries"/],
      [{ lora: { rank: 2, targets: 'queries' } }, /a linear map of llama, got "queries"/],
      [{ lora: { rank: 2, dropout: 0.1 } }, /lora\.dropout/],
      [{ adapter: 3 }, /^adapter: expected the path of a PEFT folder, got 3/],
      [{ dtype: 'int8' }, /^dtype: expected one of 'float32', 'bfloat16', 'float16', got "int8"/],
      [{ seed: -1 }, /^seed: expected an integer at least 0, got -1/],
      [{ recompute: 1 }, /^recompute: expected a boolean, got 1/],
      [{ onProgress: true }, /^onProgress: expected a function, got true/],
      [{ quantize: true }, /quantize/],
    ];
    for (const [options, message] of cases) {
      const { numTensors } = tf.memory();
      await assert.rejects(PretrainedPolicy.load(folder, options as PretrainedOptions), (error: Error) => {
        assert.match(error.message, message);
        return true;
      });
      assert.equal(tf.memory().numTensors, numTensors);
    }
    await assert.rejects(PretrainedPolicy.load(join(folder, 'nowhere')), /expected a model folder with config\.json/);
    await assert.rejects(
      PretrainedPolicy.load(7 as never),
      /^TypeError: folder: expected the path of a model folder, got 7/,
    );
  });

  test('tokens for images, which a text model has no row for, are skipped', async (t) => {
    const folder = join(temporaryFolder(t), 'model');
    const image = { content: '<image_soft_token>', id: 16, special: true, normalized: false };
    writeModelFolder(folder, { tokenizer: tinyTokenizer({ added: [image] }) });
    const policy = await load(t, folder);
    assert.equal(policy.tokenizer.vocabularySize, 16);
    await assert.rejects(generate(policy, ['a <image_soft_token>']), /token ids from 0 to 15, got 16/);
  });

  test('a chat template that never ends is stopped when it is used', async (t) => {
    const folder = writeModelFolder(join(temporaryFolder(t), 'model'));
    const endless =
      '{% for i in range(99999) %}{% for j in range(99999) %}{% for k in range(99999) %}{% endfor %}{% endfor %}{% endfor %}';
    fs.writeFileSync(join(folder, 'chat_template.jinja'), endless);
    const { chat } = await HuggingFaceTokenizer.load(folder);
    await assert.rejects(
      chat!.render([[{ role: 'user', content: 'a' }]], { timeLimit: 300 }),
      /RangeError: chat template/,
    );
  });

  test('prompts are strings, chats or ids', async (t) => {
    const folder = writeModelFolder(join(temporaryFolder(t), 'model'));
    fs.writeFileSync(join(folder, 'chat_template.jinja'), '{% for m in messages %}{{ m.content }} {% endfor %}</s>');
    const policy = await load(t, folder);
    const chat = [
      { role: 'user', content: 'b c' },
      { role: 'assistant', content: 'd' },
    ];
    const options = { maxTokens: 3, samples: 2, seed: 5 };
    const all = await generate(policy, ['a b', chat, Int32Array.of(9, 8)], options);
    assert.deepEqual(
      all.map(({ prompt }) => [...prompt]),
      [
        [1, 3, 4],
        [1, 3, 4],
        [4, 5, 6, 2],
        [4, 5, 6, 2],
        [9, 8],
        [9, 8],
      ],
    );
    for (const { tokens, text, truncated, logProbs } of all) {
      assert.ok(tokens.length <= 3 && logProbs.length === tokens.length);
      assert.equal(truncated, tokens.at(-1) !== 2);
      assert.ok(!text.includes('<'));
    }
    const again = await generate(policy, ['a b', chat, Int32Array.of(9, 8)], options);
    assert.deepEqual(again, all);
    const other = await generate(policy, ['a b', chat, Int32Array.of(9, 8)], { ...options, seed: 6 });
    assert.notDeepEqual(other, all);
    await assert.rejects(
      generate(policy, [Int32Array.of(1, 16)]),
      /^RangeError: prompts\[0\]: expected token ids from 0 to 15, got 16/,
    );
    await assert.rejects(
      generate(policy, ['a', 5 as never]),
      /^TypeError: prompts\[1\]: expected a string, an array of messages or an Int32Array, got 5/,
    );
    await assert.rejects(
      generate(policy, [new Int32Array(0)]),
      /^RangeError: prompts\[0\]: expected at least one token/,
    );
    await assert.rejects(generate(policy, ['a'], { temperature: -1 }), /^RangeError: temperature: /);
    await assert.rejects(generate(policy, ['a'], { maxToken: 3 } as never), /maxToken/);
    await assert.rejects(tokenLogProbs(policy, [Int32Array.of(-1)]), /^RangeError: sequences\[0\]: expected token ids/);
    await assert.rejects(generate(policy, ['a'], { signal: AbortSignal.abort(new Error('enough')) }), /enough/);
    assert.deepEqual(await generate(policy, []), []);
  });

  test('truncation, stop texts and stop tokens are those of the sampler', async (t) => {
    const policy = await load(t, writeModelFolder(join(temporaryFolder(t), 'model')));
    const sampled = { maxTokens: 12, samples: 8, seed: 3 };
    const [greedy] = await generate(policy, ['a'], { maxTokens: 12, temperature: 0 });
    for (const cut of [{ topK: 1 }, { topP: 1e-6 }, { minP: 1 }]) {
      for (const { tokens, logProbs } of await generate(policy, ['a'], { ...sampled, ...cut })) {
        assert.deepEqual(tokens, greedy.tokens);
        // Only one token is left after the truncation.
        assert.ok(logProbs.every((value) => value === 0));
      }
    }
    const free = await generate(policy, ['a'], sampled);
    const stop = free.find(({ tokens }) => tokens.length > 2 && tokens[1] > 2)!;
    const again = async (more: object) => (await generate(policy, ['a'], { ...sampled, ...more }))[free.indexOf(stop)];
    const byToken = await again({ stopTokens: [stop.tokens[1]] });
    assert.ok(byToken.tokens.length <= 2 && !byToken.truncated);
    assert.equal(byToken.text, policy.tokenizer.decode(byToken.tokens.slice(0, -1)));
    const word = policy.tokenizer.decode([stop.tokens[1]]);
    const byText = await again({ stopTexts: [word] });
    assert.ok(byText.text.endsWith(word) && byText.tokens.length <= 2);
    await assert.rejects(generate(policy, ['a'], { topP: 0 }), /^RangeError: topP: expected/);
    await assert.rejects(
      generate(policy, ['a'], { stopTexts: [''] }),
      /^RangeError: stopTexts\[0\]: expected a non-empty string/,
    );
    await assert.rejects(
      generate(policy, ['a'], { stopTokens: [99] }),
      /stopTokens\[0\]: expected a token id from 0 to 9, got 99/,
    );
  });

  test('log-probs from final states have the same bits, without all logits in memory', async (t) => {
    await startBackend('groupgrad');
    t.after(() => startBackend(quickBackend));
    const policy = await load(t, writeModelFolder(join(temporaryFolder(t), 'model')));
    const random = seeded(4);
    const sequences = [200, 3, 200, 131].map((length) => Int32Array.from({ length }, () => random.integer(0, 11)));
    const whole = await tokenLogProbs(policy, sequences);
    const logits = t.mock.method(policy, 'logits');
    assert.deepEqual(await tokenLogProbsOf(policy, sequences, 1, 0), whole);
    assert.equal(logits.mock.callCount(), 0);
  });

  test('log-probs agree with float64 loops over the logits, one fewer than tokens in each sequence', async (t) => {
    const policy = await load(t, writeModelFolder(join(temporaryFolder(t), 'model')));
    const sequences = [
      Int32Array.of(1, 3, 4, 9, 2),
      Int32Array.of(7),
      Int32Array.of(1, 3, 4, 9, 5),
      Int32Array.of(2, 11),
    ];
    const found = await tokenLogProbs(policy, sequences);
    assert.deepEqual(
      found.map(({ length }) => length),
      [4, 0, 4, 1],
    );
    sequences.forEach((ids, i) => {
      const tensor = policy.logits({ sequences: 1, length: ids.length, tokens: ids, starts: Int32Array.of(0) });
      const logits = tensor.arraySync();
      tensor.dispose();
      found[i].forEach((value, at) => {
        const expected = logits[at][ids[at + 1]] - Math.log(logits[at].reduce((sum, z) => sum + Math.exp(z), 0));
        assert.ok(Math.abs(value - expected) < 1e-5, `sequence ${i}, ${at}: ${value}, expected ${expected}`);
      });
    });
  });

  test('every end token of tokenizer, configuration and generation configuration ends a completion', async (t) => {
    const folder = writeModelFolder(join(temporaryFolder(t), 'model'), {
      config: { ...tinyConfig, eos_token_id: [5, 2] },
    });
    fs.writeFileSync(join(folder, 'generation_config.json'), '{"eos_token_id": [7, 99]}');
    const { tokenizer } = await load(t, folder);
    assert.deepEqual([...tokenizer.endTokens], [2, 5, 7]);
    assert.equal(tokenizer.endToken, 2);
  });

  test('a folder without a tokenizer works with ids, and says what is missing for text', async (t) => {
    const policy = await load(t, writeModelFolder(join(temporaryFolder(t), 'model'), { tokenizer: null }));
    const [{ text, tokens }] = await generate(policy, [Int32Array.of(1, 3)], { maxTokens: 4, temperature: 0 });
    assert.ok(text === '' && tokens.length > 0);
    await assert.rejects(generate(policy, ['a']), /expected a folder with tokenizer\.json, to read text, got none/);
  });

  test('progress ends with all weights; types are converted and saved', async (t) => {
    const parent = temporaryFolder(t);
    const folder = writeModelFolder(join(parent, 'model'));
    const told: [number, number][] = [];
    const policy = await load(t, folder, { dtype: 'bfloat16', onProgress: (...step) => void told.push(step) });
    assert.deepEqual(told.at(-1), [policy.weightCount, policy.weightCount]);
    assert.equal(policy.trainedCount, policy.weightCount);
    for (const values of Object.values(weightsOf(policy))) {
      const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
      assert.ok(bits.every((value) => (value & 0xffff) === 0));
    }
    await policy.save(join(parent, 'saved'));
    const saved = await load(t, join(parent, 'saved'));
    assert.deepEqual(weightsOf(saved), weightsOf(policy));
    assert.ok(
      fs.statSync(join(parent, 'saved/model.safetensors')).size < fs.statSync(join(folder, 'model.safetensors')).size,
    );
    await assert.rejects(policy.save(folder), /RangeError: folder: expected another folder than the loaded one/);
    await assert.rejects(policy.save(''), /TypeError: folder: expected the path of a folder/);
    await assert.rejects(policy.save(join(parent, 'x'), { merged: true } as never), /merged/);
  });

  test('if a file stores tied embeddings twice, both are saved', async (t) => {
    const parent = temporaryFolder(t);
    const config = { ...tinyConfig, tie_word_embeddings: true };
    const tensors = tensorsOf(config);
    tensors['lm_head.weight'] = tensors['model.embed_tokens.weight'];
    const policy = await load(t, writeModelFolder(join(parent, 'model'), { config, tensors }));
    assert.ok(!('unembedding' in policy.variables));
    await policy.save(join(parent, 'saved'));
    using saved = new ModelFiles(join(parent, 'saved'));
    assert.deepEqual(saved.readFloats('lm_head.weight'), saved.readFloats('model.embed_tokens.weight'));
    assert.equal([...saved.tensors()].length, Object.keys(tensors).length);
  });

  test('with LoRA only A and B are trained, B begins at 0, and the reference is the model without the adapter', async (t) => {
    const parent = temporaryFolder(t);
    const folder = writeModelFolder(join(parent, 'model'));
    const [plain, adapted] = [
      await load(t, folder),
      await load(t, folder, { lora: { rank: 2, targets: ['q_proj', 'down_proj'] } }),
    ];
    assert.deepEqual(Object.keys(adapted.variables).sort(), [
      'layers.0.attention.query.lora_A',
      'layers.0.attention.query.lora_B',
      'layers.0.feedforward.down.lora_A',
      'layers.0.feedforward.down.lora_B',
      'layers.1.attention.query.lora_A',
      'layers.1.attention.query.lora_B',
      'layers.1.feedforward.down.lora_A',
      'layers.1.feedforward.down.lora_B',
    ]);
    assert.equal(adapted.trainedCount, 2 * (2 * (8 + 8) + 2 * (12 + 8)));
    const ids = [Int32Array.of(1, 3, 4, 5)];
    const before = await tokenLogProbs(plain, ids);
    assert.deepEqual(await tokenLogProbs(adapted, ids), before);
    for (const [name, variable] of Object.entries(adapted.variables)) {
      if (name.endsWith('B')) variable.assign(tf.tidy(() => tf.fill(variable.shape, 0.3)));
    }
    assert.notDeepEqual(await tokenLogProbs(adapted, ids), before);
    const off = { ...adapted, logits: (...args) => adapted.reference!(() => adapted.logits(...args)) } as LoadedPolicy;
    assert.deepEqual(await tokenLogProbs(off, ids), before);
    assert.equal(plain.reference, undefined);
    // Saved, and continued with the same A and B.
    await adapted.save(join(parent, 'adapter'));
    const again = await load(t, folder, {
      adapter: join(parent, 'adapter'),
      lora: { rank: 2, targets: ['q_proj', 'down_proj'] },
    });
    assert.deepEqual(weightsOf(again), weightsOf(adapted));
  });

  describe('an adapter of the unembedding', () => {
    const untied = { architectures: ['Gemma2ForCausalLM'], head_dim: 4, tie_word_embeddings: false };
    const gemma = { ...tinyConfig, ...untied, model_type: 'gemma2' };
    const capped = { ...gemma, query_pre_attn_scalar: 4, attn_logit_softcapping: 3, final_logit_softcapping: 2 };
    const lora = { rank: 3, alpha: 5, targets: ['q_proj', 'lm_head'] };
    const values = (folder: string, name: string) => {
      using files = new ModelFiles(folder);
      return files.readFloats(name);
    };
    const random = seeded(6);
    const sequences = 3;
    const length = 50;
    const ids = () => Int32Array.from({ length: sequences * length }, () => random.integer(0, 15));
    const batch = { sequences, length, tokens: ids(), starts: new Int32Array(sequences) };
    const rows = { shape: { sequences, length }, tokens: ids(), advantages: Float32Array.of(1, -0.5, 0.25) };
    const losses = (policy: LoadedPolicy) => ({
      logits: () => grpoLoss(policy.logits(batch), rows, presets.reinforce) as tf.Scalar,
      hidden: () => linearLoss(policy.hidden!(batch), rows, presets.reinforce),
    });
    const gradientsOf = (policy: LoadedPolicy, way: 'logits' | 'hidden') => {
      const { value, grads } = tf.variableGrads(losses(policy)[way], Object.values(policy.variables));
      const gradients = Object.fromEntries(
        Object.entries(policy.variables).map(([name, { name: own }]) => [name, grads[own].arraySync() as number[][]]),
      );
      const loss = value.dataSync()[0];
      tf.dispose([value, grads]);
      return { loss, gradients };
    };
    const product = (a: number[][], b: number[][]) =>
      a.map((row) => b[0].map((_, j) => row.reduce((sum, x, k) => sum + x * b[k][j], 0)));
    const transposed = (a: number[][]) => a[0].map((_, j) => a.map((row) => row[j]));
    const assertNear = (actual: number[][], expected: number[][], label: string) => {
      const [values, wanted] = [actual.flat(), expected.flat()];
      const most = Math.max(...wanted.map(Math.abs));
      assert.ok(most > 1e-4, `${label}: there is a gradient`);
      wanted.forEach((x, i) => {
        assert.ok(Math.abs(values[i] - x) <= 2e-5 * most, `${label}[${i}]: ${values[i]}, not ${x}`);
      });
    };
    async function adapted(t: TestContext, folder: string, own = lora) {
      const policy = await load(t, folder, { lora: own });
      for (const [i, variable] of Object.values(policy.variables).entries()) {
        const shift = Float32Array.from({ length: variable.size }, (_, j) => Math.sin(i + j) / 5);
        variable.assign(tf.tidy(() => tf.add(variable, tf.tensor(shift, variable.shape))));
      }
      return policy;
    }

    for (const [name, config] of Object.entries({ llama: tinyConfig, 'a soft cap': capped })) {
      test(`${name}: computes and trains like the merged weights`, async (t) => {
        const parent = temporaryFolder(t);
        const policy = await adapted(
          t,
          writeModelFolder(join(parent, 'model'), { config, tensors: tensorsOf(config) }),
        );
        await policy.save(join(parent, 'merged'), { merge: true });
        const merged = await load(t, join(parent, 'merged'));
        const [before, after] = ['model', 'merged'].map((folder) => values(join(parent, folder), 'lm_head.weight'));
        assert.ok(before.some((x, i) => Math.abs(x - after[i]) > 0.05));
        const [own, theirs] = [policy, merged].map((each) => tf.tidy(() => each.logits(batch).arraySync()).flat());
        own.forEach((x, i) => {
          assert.ok(Math.abs(x - theirs[i]) < 1e-5, `logit ${i}: ${x}, not ${theirs[i]}`);
        });
        const { loss, gradients } = gradientsOf(merged, 'logits');
        const [a, b] = ['A', 'B'].map((side) => policy.variables[`unembedding.lora_${side}`].arraySync() as number[][]);
        const scale = (x: number[][]) => x.map((row) => row.map((value) => (5 / 3) * value));
        for (const way of ['logits', 'hidden'] as const) {
          const found = gradientsOf(policy, way);
          assert.ok(Math.abs(found.loss - loss) < 1e-6, way);
          const wanted = gradients.unembedding;
          assertNear(found.gradients['unembedding.lora_B'], scale(product(wanted, transposed(a))), `${way}, B`);
          assertNear(found.gradients['unembedding.lora_A'], scale(product(transposed(b), wanted)), `${way}, A`);
          for (const layer of ['layers.0.attention.query', 'layers.1.attention.query']) {
            const [lowA, lowB] = ['A', 'B'].map(
              (side) => policy.variables[`${layer}.lora_${side}`].arraySync() as number[][],
            );
            assertNear(
              found.gradients[`${layer}.lora_B`],
              scale(product(gradients[layer], transposed(lowA))),
              `${way}, ${layer}, B`,
            );
            assertNear(
              found.gradients[`${layer}.lora_A`],
              scale(product(transposed(lowB), gradients[layer])),
              `${way}, ${layer}, A`,
            );
          }
        }
      });
    }

    test('only it is trained if only it is named, and it is off in the reference', async (t) => {
      const folder = writeModelFolder(join(temporaryFolder(t), 'model'));
      const policy = await adapted(t, folder, { ...lora, targets: ['lm_head'] });
      assert.deepEqual(Object.keys(policy.variables), ['unembedding.lora_A', 'unembedding.lora_B']);
      const [whole, chunks] = [gradientsOf(policy, 'logits'), gradientsOf(policy, 'hidden')];
      for (const name of Object.keys(policy.variables)) assertNear(chunks.gradients[name], whole.gradients[name], name);
      const plain = await load(t, folder);
      const logits = (own: () => tf.Tensor) => tf.tidy(() => own().arraySync());
      const off = logits(() => policy.reference!(() => policy.logits(batch)));
      assert.deepEqual(
        off,
        logits(() => plain.logits(batch)),
      );
      assert.notDeepEqual(
        off,
        logits(() => policy.logits(batch)),
      );
      assert.equal(
        policy.reference!(() => tf.tidy(() => policy.hidden!(batch).adapter)),
        undefined,
      );
      const { numTensors } = tf.memory();
      gradientsOf(policy, 'logits');
      gradientsOf(policy, 'hidden');
      await Promise.resolve();
      assert.equal(tf.memory().numTensors, numTensors);
    });

    test('log-probs from final states have the same bits, in samples too', async (t) => {
      await startBackend('groupgrad');
      t.after(() => startBackend(quickBackend));
      const policy = await adapted(t, writeModelFolder(join(temporaryFolder(t), 'model')));
      const sampled = await generate(policy, [Int32Array.of(1, 3), Int32Array.of(4)], {
        maxTokens: 40,
        samples: 4,
        seed: 3,
      });
      const whole = sampled.map(({ prompt, tokens }) => Int32Array.of(...prompt, ...tokens));
      const scored = await tokenLogProbs(policy, whole);
      assert.deepEqual(await tokenLogProbsOf(policy, whole, 1, 0), scored);
      sampled.forEach(({ prompt, logProbs }, i) => {
        assert.deepEqual([...scored[i].subarray(prompt.length - 1)], [...logProbs]);
      });
    });

    test("its files are PEFT's, and are read with the unembedding that PEFT writes with it", async (t) => {
      const parent = temporaryFolder(t);
      const config = { ...tinyConfig, tie_word_embeddings: false };
      const folder = writeModelFolder(join(parent, 'model'), { config });
      const policy = await adapted(t, folder);
      const own = join(parent, 'adapter');
      await policy.save(own);
      const saved = readArrays(join(own, 'adapter_model.safetensors'));
      const [a, b] = ['A', 'B'].map((side) => saved[`base_model.model.lm_head.lora_${side}.weight`].shape);
      assert.deepEqual(
        [a, b],
        [
          [3, 8],
          [16, 3],
        ],
      );
      const given = JSON.parse(fs.readFileSync(join(own, 'adapter_config.json'), 'utf8'));
      assert.deepEqual(given.target_modules, ['lm_head', 'q_proj']);
      assert.deepEqual(weightsOf(await load(t, folder, { adapter: own, lora })), weightsOf(policy));

      const base = 'base_model.model.lm_head.base_layer.weight';
      const head = values(folder, 'lm_head.weight');
      const writeBase = (array: { shape: number[]; values: Float32Array }, type: FloatType = 'F32', name = base) =>
        writeArrays(join(own, 'adapter_model.safetensors'), { ...saved, [name]: array }, type);
      writeBase({ shape: [16, 8], values: head });
      assert.deepEqual(weightsOf(await load(t, folder, { adapter: own })), weightsOf(policy));
      writeBase({ shape: [16, 8], values: head }, 'BF16');
      await load(t, folder, { adapter: own });
      const refused = (message: RegExp) => assert.rejects(PretrainedPolicy.load(folder, { adapter: own }), message);
      writeBase({ shape: [16, 8], values: head.with(127, head[127] + 1e-6) });
      await refused(/lm_head\.base_layer\.weight": expected the weights of the model, got different ones/);
      writeBase({ shape: [17, 8], values: new Float32Array(17 * 8) });
      await refused(/lm_head\.base_layer\.weight", shape: expected \[16, 8\], got \[17, 8\]/);
      writeBase(
        { shape: [8, 8], values: new Float32Array(64) },
        'F32',
        'base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight',
      );
      await refused(/q_proj\.base_layer\.weight": expected a tensor of the modules of llama/);

      // Tied to the embedding.
      const tied = writeModelFolder(join(parent, 'tied'), { config: { ...config, tie_word_embeddings: true } });
      const untiable =
        /target(_module)?s: expected linear modules other than the unembedding, which is tied to the embedding, got "lm_head"/;
      await assert.rejects(PretrainedPolicy.load(tied, { adapter: own }), untiable);
      for (const targets of [['q_proj', 'lm_head'], ['lm_head'], '.*', '.*q_proj|lm_head']) {
        await assert.rejects(PretrainedPolicy.load(tied, { lora: { rank: 2, targets } }), untiable);
      }
      await assert.rejects(
        PretrainedPolicy.load(tied, { lora: { rank: 2, targets: ['head'] } }),
        /\(q_proj, .*, down_proj\), got "head"/,
      );
      const all = await load(t, tied, { lora: { rank: 2, targets: 'all-linear' } });
      assert.ok(!Object.keys(all.variables).some((name) => name.includes('embedding')));
    });
  });

  test('a description distinguishes files and options, but not locations', async (t) => {
    const parent = temporaryFolder(t);
    const folder = writeModelFolder(join(parent, 'model'));
    fs.cpSync(folder, join(parent, 'moved'), { recursive: true });
    const tensors = tensorsOf(tinyConfig);
    tensors['model.norm.weight'].values[0] += 1;
    writeModelFolder(join(parent, 'other'), { tensors });
    const describe = async (name: string, options: PretrainedOptions = {}) => {
      const { folder: _, ...rest } = (await load(t, join(parent, name), options)).description;
      return JSON.stringify(rest);
    };
    const own = await describe('model');
    assert.equal(await describe('moved'), own);
    const others = [
      await describe('other'),
      await describe('model', { lora: { rank: 2 } }),
      await describe('model', { lora: { rank: 2 }, seed: 1 }),
      await describe('model', { lora: { rank: 2, alpha: 3 } }),
      await describe('model', { dtype: 'float16' }),
    ];
    assert.equal(new Set([own, ...others]).size, 6);
  });

  test('loading and disposing leaves no tensor', async (t) => {
    const folder = writeModelFolder(join(temporaryFolder(t), 'model'));
    const { numTensors } = tf.memory();
    for (const options of [{}, { lora: { rank: 2 } }]) {
      const policy = await PretrainedPolicy.load(folder, options);
      await generate(policy, ['a'], { maxTokens: 2 });
      await tokenLogProbs(policy, [Int32Array.of(1, 2, 3)]);
      policy.dispose();
    }
    assert.equal(tf.memory().numTensors, numTensors);
  });
});
