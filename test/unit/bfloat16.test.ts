// Frozen weights stored in bfloat16, and products in bfloat16: what is stored, the same numbers as from float32 copies, the same
// bytes when saved, and one precision per policy, forward and backward, whatever the backend's setting.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import fs, { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { after, before, describe, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import * as tf from '@tensorflow/tfjs-core';
import { startBackend } from '../../src/backend/backend.js';
import { generate, type PretrainedOptions, PretrainedPolicy, presets, tokenLogProbs } from '../../src/index.js';
import { linearLoss } from '../../src/model/linear-loss.js';
import { createTransformerPolicy } from '../../src/model/transformer-policy.js';
import { grpoLoss } from '../../src/tfjs/index.js';
import { ModelFiles } from '../../src/weights/model-files.js';
import { PretrainedFolder } from '../../src/weights/pretrained-folder.js';
import { loadModel } from '../../src/weights/pretrained-model.js';
import type { LoadedPolicy } from '../../src/weights/pretrained-policy.js';
import { engine as api, noEngine as skip, useEngine } from '../support/engine.js';
import { tensorsOf, tinyConfig, writeModelFolder } from '../support/model-folder.js';
import { typescript } from '../support/native.js';
import { slowSet } from '../support/sets.js';
import { temporaryFolder } from '../support/trainer.js';

const config = {
  ...tinyConfig,
  hidden_size: 48,
  intermediate_size: 72,
  num_attention_heads: 4,
  num_key_value_heads: 2,
};
const lora = { rank: 3 };

let parent: string;
const folderOf = (type: string, tied = true) => join(parent, `${type}${tied ? '' : '-untied'}`);
before(() => {
  parent = mkdtempSync(join(tmpdir(), 'groupgrad-bfloat16-'));
  for (const tied of [true, false]) {
    for (const type of ['BF16', 'F32', 'F16'] as const) {
      const own = { ...config, tie_word_embeddings: tied };
      writeModelFolder(folderOf(type, tied), { config: own, tensors: tensorsOf(own), type });
    }
  }
});
after(() => rmSync(parent, { recursive: true, force: true }));

async function load(t: TestContext, folder: string, options: PretrainedOptions = {}): Promise<LoadedPolicy> {
  const policy = (await PretrainedPolicy.load(folder, options)) as LoadedPolicy;
  t.after(() => policy.dispose());
  return policy;
}

const bytes = (values: ArrayBufferView) => Buffer.from(values.buffer, values.byteOffset, values.byteLength);
const compressedBytes = () => (tf.memory() as unknown as { compressedBytes: number }).compressedBytes;

const tokens = Int32Array.from({ length: 24 }, (_, i) => (5 * i + 1) % 16);
const batch = { sequences: 2, length: 12, tokens, starts: new Int32Array(2) };
const rows = { shape: { sequences: 2, length: 12 }, tokens, advantages: Float32Array.of(1, -0.5) };

/** A, and a nonzero B, so that no gradient vanishes. */
function moveAdapter({ variables }: LoadedPolicy): void {
  for (const [name, variable] of Object.entries(variables)) {
    if (!name.endsWith('B')) continue;
    const values = Float32Array.from({ length: variable.size }, (_, i) => Math.sin(i) / 10);
    variable.assign(tf.tidy(() => tf.tensor(values, variable.shape)));
  }
}

/** Logits and the gradients of all variables, computed from logits and from final states. */
function numbers(policy: LoadedPolicy): Record<string, Buffer> {
  const logits = tf.tidy(() => policy.logits(batch).dataSync<'float32'>());
  const losses = {
    logits: () => grpoLoss(policy.logits(batch), rows, presets.reinforce) as tf.Scalar,
    hidden: () => linearLoss(policy.hidden!(batch), rows, presets.reinforce),
  };
  const found: Record<string, Buffer> = { logits: bytes(logits) };
  for (const [way, loss] of Object.entries(losses)) {
    const { value, grads } = tf.variableGrads(loss, Object.values(policy.variables));
    for (const [name, variable] of Object.entries(policy.variables)) {
      const gradient = grads[variable.name].dataSync<'float32'>().slice();
      assert.ok(gradient.some((x) => x !== 0));
      found[`${way}: ${name}`] = bytes(gradient);
    }
    tf.dispose([value, grads]);
  }
  return found;
}

function assertSame(actual: Record<string, Buffer>, expected: Record<string, Buffer>): void {
  assert.deepEqual(Object.keys(actual), Object.keys(expected));
  for (const [name, values] of Object.entries(expected)) assert.ok(actual[name].equals(values), name);
}

describe('on the backend groupgrad', { skip }, () => {
  useEngine();

  test('frozen bfloat16 matrices take two bytes per weight, and are freed', async () => {
    const cases: [type: string, options: PretrainedOptions, isHeld: boolean][] = [
      ['BF16', { lora }, true],
      ['F32', { lora, dtype: 'bfloat16' }, true],
      ['F16', { lora, dtype: 'bfloat16' }, true],
      ['BF16', { lora, dtype: 'float32' }, false],
      ['F32', { lora }, false],
      ['F16', { lora }, false],
      ['BF16', {}, false],
    ];
    for (const [type, options, isHeld] of cases) {
      for (const tied of [true, false]) {
        const before = [compressedBytes(), tf.memory().numTensors, tf.memory().numBytes];
        const policy = (await PretrainedPolicy.load(folderOf(type, tied), options)) as LoadedPolicy;
        using folder = new PretrainedFolder(folderOf(type, tied));
        const matrices = folder.parameters.filter(({ shape }) => shape.length === 2);
        const size = matrices.reduce((sum, { shape }) => sum + shape[0] * shape[1], 0);
        assert.equal(compressedBytes() - before[0], isHeld ? 2 * size : 0, `${type} ${JSON.stringify(options)}`);
        await tokenLogProbs(policy, [Int32Array.of(1, 2, 3)]);
        policy.dispose();
        assert.deepEqual([compressedBytes(), tf.memory().numTensors, tf.memory().numBytes], before);
      }
    }
  });

  test('a failed load frees its memory', async () => {
    const before = [compressedBytes(), tf.memory().numTensors];
    let calls = 0;
    const onProgress = () => {
      calls++;
      throw new Error('enough');
    };
    await assert.rejects(PretrainedPolicy.load(folderOf('BF16'), { lora, onProgress }), /enough/);
    assert.equal(calls, 1);
    assert.deepEqual([compressedBytes(), tf.memory().numTensors], before);
  });

  test('every operation reads stored weights as their values, which were rounded to nearest even', () => {
    for (const type of ['BF16', 'F32', 'F16'] as const) {
      using folder = new PretrainedFolder(folderOf(type));
      const held = loadModel(folder, { lora, seed: 0, recompute: true, type: 'BF16' });
      const { tensor } = folder.parameters.find(({ name }) => name === 'embedding')!;
      const values = folder.files.readFloats(tensor);
      const words = new Uint32Array(values.buffer);
      for (let i = 0; i < words.length; i++) words[i] = ((words[i] + 0x7fff + ((words[i] >>> 16) & 1)) >>> 16) << 16;
      const embedding = held.model.weights.embedding as tf.Tensor2D;
      const plain = tf.tensor2d(values, embedding.shape);
      assert.ok(api!.isCompressed(embedding));
      const x = tf.randomNormal<tf.Rank.R2>([3, 16]);
      const operations: Record<string, (w: tf.Tensor2D) => tf.Tensor> = {
        values: (w) => w,
        add: (w) => tf.add(w, w),
        slice: (w) => tf.slice(w, [1, 2], [3, 4]),
        transpose: (w) => tf.transpose(w),
        reshape: (w) => tf.reshape(w, [-1]),
        'gather of rows': (w) => tf.gather(w, tf.tensor1d([3, 0, 3], 'int32')),
        'gather of columns': (w) => tf.gather(w, tf.tensor1d([3, 0, 3], 'int32'), 1),
        'right factor': (w) => tf.matMul(x, w),
        'left factor': (w) => tf.matMul(w, w, false, true),
        sum: (w) => tf.sum(w, 0),
        'a kernel of the CPU backend': (w) => tf.cumsum(w, 1),
      };
      for (const [name, operation] of Object.entries(operations)) {
        const [actual, expected] = [embedding, plain].map((w) => tf.tidy(() => operation(w).dataSync()));
        assert.ok(bytes(actual).equals(bytes(expected)), `${type}: ${name}`);
      }
      tf.dispose([plain, x]);
      held.dispose();
    }
  });

  for (const precision of ['float32', 'bfloat16'] as const) {
    for (const recompute of [true, false]) {
      test(`numbers and gradients are those of float32 copies: ${precision}, recompute ${recompute}`, async (t) => {
        for (const tied of [true, false]) {
          // Also the unembedding if it is separate from the embedding.
          const options = { lora: { ...lora, targets: tied ? 'all-linear' : '.*' }, precision, recompute };
          const policies = [
            await load(t, folderOf('BF16', tied), { ...options, dtype: 'float32' }),
            await load(t, folderOf('BF16', tied), options),
          ];
          policies.forEach(moveAdapter);
          api!.configureEngine({ threads: 1 });
          const expected = numbers(policies[0]);
          for (const threads of [1, 2]) {
            api!.configureEngine({ threads });
            assertSame(numbers(policies[1]), expected);
          }
        }
      });
    }
  }

  test('weights in bfloat16 are saved with the bytes that were read', async (t) => {
    const tensors = tensorsOf(config);
    const special = [NaN, -0, 1e-40, -1e-40, Infinity, -Infinity, 3e38];
    tensors['model.layers.0.mlp.down_proj.weight'].values.set(special);
    const words = new Uint32Array(tensors['model.layers.1.mlp.up_proj.weight'].values.buffer);
    words.set([0x7f810000, 0xffc10000, 0x00010000, 0x80000000]);
    const folder = writeModelFolder(join(temporaryFolder(t), 'model'), { config, tensors, type: 'BF16' });
    const policy = await load(t, folder, { lora: { rank: 2, targets: ['q_proj'] }, precision: 'bfloat16' });
    moveAdapter(policy);
    const to = join(temporaryFolder(t), 'merged');
    await policy.save(to, { merge: true });
    using before = new ModelFiles(folder);
    using saved = new ModelFiles(to);
    for (const { name } of before.tensors()) {
      const [own, read] = [before, saved].map((files) => Buffer.concat([...files.bytePieces(name)]));
      assert.equal(own.equals(read), !name.includes('q_proj'), name);
    }
  });

  test('an adapter is merged in float32, whatever the precision', async (t) => {
    const merged = [];
    for (const precision of ['float32', 'bfloat16'] as const) {
      const policy = await load(t, folderOf('F32'), { lora, precision });
      moveAdapter(policy);
      api!.setPrecision(precision);
      const to = join(temporaryFolder(t), 'merged');
      await policy.save(to, { merge: true });
      api!.setPrecision('float32');
      merged.push(fs.readFileSync(join(to, 'model.safetensors')));
    }
    assert.ok(merged[0].equals(merged[1]));
  });

  test('policies keep their precision, forward and backward, next to other policies and whatever the setting', async (t) => {
    const policies = {
      float32: await load(t, folderOf('BF16'), { lora }),
      bfloat16: await load(t, folderOf('BF16'), { lora, precision: 'bfloat16' }),
    };
    Object.values(policies).forEach(moveAdapter);
    const alone = { float32: numbers(policies.float32), bfloat16: numbers(policies.bfloat16) };
    for (const name of Object.keys(alone.float32)) assert.ok(!alone.float32[name].equals(alone.bfloat16[name]), name);
    for (const setting of ['bfloat16', 'float32'] as const) {
      api!.setPrecision(setting);
      for (const precision of ['float32', 'bfloat16'] as const) {
        assertSame(numbers(policies[precision]), alone[precision]);
        assert.equal(api!.getPrecision(), setting);
      }
    }
    // The backward pass of one policy, after the forward pass of the other.
    const all = [...Object.values(policies.float32.variables), ...Object.values(policies.bfloat16.variables)];
    const { value, grads } = tf.variableGrads(() => {
      const [first, second] = [policies.float32, policies.bfloat16].map(
        (policy) => grpoLoss(policy.logits(batch), rows, presets.reinforce) as tf.Scalar,
      );
      return tf.add(first, second) as tf.Scalar;
    }, all);
    for (const precision of ['float32', 'bfloat16'] as const) {
      for (const [name, variable] of Object.entries(policies[precision].variables)) {
        assert.ok(bytes(grads[variable.name].dataSync()).equals(alone[precision][`logits: ${name}`]), name);
      }
    }
    tf.dispose([value, grads]);
  });

  test('without the option a policy uses the setting at its creation, and records it', async (t) => {
    const explicit = await load(t, folderOf('BF16'), { lora, precision: 'bfloat16' });
    api!.setPrecision('bfloat16');
    const given = await load(t, folderOf('BF16'), { lora });
    const own = await createTransformerPolicy({ vocabulary: 'ab', preset: 'nano' });
    api!.setPrecision('float32');
    for (const policy of [explicit, given]) moveAdapter(policy);
    assertSame(numbers(given), numbers(explicit));
    assert.deepEqual(given.description, explicit.description);
    assert.equal(given.description.precision, 'bfloat16');
    assert.equal(own.description.precision, 'bfloat16');
    own.dispose();
    const plain = await load(t, folderOf('BF16'), { lora, precision: 'float32' });
    // As in a run from before the option existed.
    assert.ok(!('precision' in plain.description));
  });

  test('generating changes no setting, even if it fails', async (t) => {
    const policy = await load(t, folderOf('BF16'), { precision: 'bfloat16' });
    await generate(policy, ['a b'], { maxTokens: 3 });
    assert.equal(api!.getPrecision(), 'float32');
    policy.dispose();
    await assert.rejects(generate(policy, ['a b'], { maxTokens: 3 }));
    assert.equal(api!.getPrecision(), 'float32');
  });

  test('loading a BF16 file with LoRA takes about half the memory', {
    skip: slowSet('loads 36 million weights twice'),
  }, async () => {
    const own = { ...tinyConfig, hidden_size: 512, intermediate_size: 1024, vocab_size: 65_536 };
    const tensors = tensorsOf({ ...own, tie_word_embeddings: true });
    const folder = join(parent, 'large');
    writeModelFolder(folder, { config: { ...own, tie_word_embeddings: true }, tensors, type: 'BF16', tokenizer: null });
    const script = fileURLToPath(new URL('../support/peak-of-load.ts', import.meta.url));
    const grown: number[] = [];
    for (const dtype of ['bfloat16', 'float32']) {
      const { stdout } = await promisify(execFile)(process.execPath, [...typescript, script, folder, dtype]);
      grown.push(Number(stdout));
    }
    const weights = Object.values(tensors).reduce((sum, { values }) => sum + values.length, 0);
    // Chunks of a file are at most 16 MiB, and there are other buffers; a float32 copy would take 143 MB.
    assert.ok(grown[0] < 2 * weights + 60e6, `${grown[0]} bytes`);
    assert.ok(grown[1] > 4 * weights, `${grown[1]} bytes in float32`);
  });
});

describe('on other backends', () => {
  for (const backend of ['cpu', 'wasm'] as const) {
    test(`${backend}: bfloat16 products are rejected, with advice; weights are rounded and stored in float32`, async (t) => {
      await startBackend(backend);
      const { numTensors } = tf.memory();
      const message = new RegExp(
        `precision: expected 'float32' on the backend ${backend}, got 'bfloat16', which needs the backend groupgrad`,
      );
      await assert.rejects(PretrainedPolicy.load(folderOf('BF16'), { precision: 'bfloat16' }), (error: Error) => {
        assert.match(error.message, message);
        return error instanceof RangeError;
      });
      await assert.rejects(createTransformerPolicy({ vocabulary: 'ab', precision: 'bfloat16' }), message);
      await assert.rejects(
        PretrainedPolicy.load(folderOf('BF16'), { precision: 'half' as never }),
        /^\w+Error: precision: expected one of 'float32', 'bfloat16', got "half"/,
      );
      assert.equal(tf.memory().numTensors, numTensors);
      const [rounded, exact] = [
        await load(t, folderOf('F32'), { lora, dtype: 'bfloat16', precision: 'float32' }),
        await load(t, folderOf('BF16'), { lora }),
      ];
      for (const policy of [rounded, exact]) moveAdapter(policy);
      assertSame(numbers(rounded), numbers(exact));
    });
  }
});
