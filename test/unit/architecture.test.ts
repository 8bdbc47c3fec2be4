// Configurations of Hugging Face models: what they describe, in either spelling, and what is rejected, with its name.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import fc from 'fast-check';
import {
  type Architecture,
  familyNames,
  modulesOf,
  parameterCount,
  parametersOf,
} from '../../src/model/architecture.js';
import { modulePath, readArchitecture, tensorNames } from '../../src/model/families.js';
import { rotaryFrequencies } from '../../src/model/rotary-frequencies.js';

function golden<T>(name: string): T[] {
  return JSON.parse(fs.readFileSync(join(import.meta.dirname, '../golden', name), 'utf8')).cases;
}

interface RotaryCase {
  name: string;
  config: { model_type: string; num_hidden_layers: number };
  expected: Record<string, { frequencies: number[]; attentionFactor: number; beyond?: number }>;
}

function bitsOf(value: number): number {
  return new Uint32Array(Float32Array.of(value).buffer)[0];
}

test('rotary frequencies equal those of transformers up to the last bit', () => {
  for (const { name, config, expected } of golden<RotaryCase>('rotary.json')) {
    const architecture = readArchitecture(config);
    for (const [kind, { frequencies, attentionFactor, beyond = 0 }] of Object.entries(expected)) {
      const layer = kind === 'full_attention' ? 5 : 0;
      const got = rotaryFrequencies(architecture, layer, kind === 'long' ? beyond + 1 : beyond)!;
      assert.equal(got.frequencies.length, frequencies.length, name);
      for (const [i, frequency] of frequencies.entries()) {
        assert.ok(Math.abs(bitsOf(frequency) - bitsOf(got.frequencies[i])) <= 1, `${name}, ${kind}, frequency ${i}`);
      }
      assert.ok(Math.abs(got.attentionFactor - attentionFactor) < 1e-15, name);
    }
  }
});

test('longrope changes its frequencies for sequences longer than the original context', () => {
  const { config } = golden<RotaryCase>('rotary.json').find(({ name }) => name === 'longrope of phi3')!;
  const architecture = readArchitecture(config);
  const at = (length?: number) => rotaryFrequencies(architecture, 0, length)!.frequencies;
  assert.deepEqual(at(4096), at());
  assert.notDeepEqual(at(4097), at());
  assert.throws(() => rotaryFrequencies(architecture, 6), /layer: expected one of the 6 layers, got 6/);
});

interface ArchitectureCase {
  config: Record<string, unknown>;
  tensors: Record<string, number[]>;
  count: number;
  layers: [window: number | null, rotates: boolean][];
  scale: number;
  softCap: number | null;
  finalSoftCap: number | null;
  epsilon: number;
  activation: string;
  headSize: number;
  endTokens: number | number[] | null;
}

function shapesOf(architecture: Architecture): Map<string, readonly number[]> {
  const { tensors } = tensorNames(architecture);
  return new Map(parametersOf(architecture).map(({ name, shape }) => [tensors.get(name)!, shape]));
}

test('configurations describe the models that transformers builds from them', () => {
  for (const expected of golden<ArchitectureCase>('architectures.json')) {
    const architecture = readArchitecture(expected.config);
    const shapes = shapesOf(architecture);
    const about = JSON.stringify(expected.config);
    assert.equal(shapes.size, expected.count, about);
    for (const [tensor, shape] of Object.entries(expected.tensors)) assert.deepEqual(shapes.get(tensor), shape, about);
    assert.deepEqual(
      architecture.layers.map(({ window, rotary }) => [window, rotary !== null]),
      expected.layers,
      about,
    );
    assert.ok(Math.abs(architecture.attention.scale - expected.scale) < 1e-15, about);
    const { attention, finalSoftCap, norm, activation, headSize, endTokens } = architecture;
    assert.deepEqual(
      [attention.softCap, finalSoftCap, norm.epsilon, activation, headSize],
      [expected.softCap, expected.finalSoftCap, expected.epsilon, expected.activation, expected.headSize],
      about,
    );
    const ids = [expected.endTokens].flat().filter((id) => id !== null && id < 64);
    assert.deepEqual(endTokens, ids, about);
    const isGemma = architecture.family.startsWith('gemma');
    assert.equal(norm.offset, isGemma ? 1 : 0);
    assert.equal(architecture.embeddingScale, isGemma ? Math.sqrt(32) : 1);
  }
});

/** A configuration that every family reads. */
const small = {
  hidden_size: 32,
  intermediate_size: 48,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 8,
  vocab_size: 64,
  max_position_embeddings: 128,
};

test('names of parameters and tensors map to each other both ways, in every family', () => {
  for (const model_type of familyNames) {
    const architecture = readArchitecture({ ...small, model_type, attention_bias: true, mlp_bias: true });
    const { tensors, parameters } = tensorNames(architecture);
    const all = parametersOf(architecture);
    assert.equal(tensors.size, all.length);
    assert.equal(parameters.size, all.length);
    for (const { name } of all) assert.equal(parameters.get(tensors.get(name)!), name);
    for (const { name } of modulesOf(architecture)) {
      assert.equal(tensors.get(name), `${modulePath(architecture, name)}.weight`);
    }
    assert.throws(() => modulePath(architecture, 'layers.0.attention'), /module: expected a module of/);
    assert.throws(() => modulePath(architecture, 'constructor'), /module: expected a module of/);
  }
});

test('parameters of published sizes are counted correctly', () => {
  const qwen = readArchitecture({
    model_type: 'qwen2',
    architectures: ['Qwen2ForCausalLM'],
    hidden_size: 896,
    intermediate_size: 4864,
    num_hidden_layers: 24,
    num_attention_heads: 14,
    num_key_value_heads: 2,
    vocab_size: 151936,
    tie_word_embeddings: true,
    eos_token_id: [151645, 151643],
  });
  // Qwen2.5-0.5B: 494,032,768 parameters, 0.49 billion according to its model card.
  assert.equal(parameterCount(qwen), 494_032_768);
  assert.deepEqual(qwen.endTokens, [151645, 151643]);
});

test('null is read like a missing key, except for windows and caps', () => {
  const base = { ...small, model_type: 'mistral' };
  assert.deepEqual(
    readArchitecture({ ...base, rms_norm_eps: null, rope_scaling: null, dtype: null }),
    readArchitecture(base),
  );
  assert.equal(readArchitecture({ ...base, sliding_window: null }).layers[0].window, null);
  assert.equal(readArchitecture(base).layers[0].window, 4096);
  const noCap = readArchitecture({ ...small, model_type: 'gemma2', attn_logit_softcapping: null });
  assert.deepEqual([noCap.attention.softCap, noCap.finalSoftCap], [null, 30]);
});

test('unsupported settings are rejected by name', () => {
  const llama = { ...small, model_type: 'llama' };
  const rope = (rope_scaling: unknown) => ({ ...llama, rope_scaling });
  const l3 = { rope_type: 'llama3', factor: 8, low_freq_factor: 1, high_freq_factor: 4 };
  const cases: [config: unknown, expected: RegExp][] = [
    [{ ...llama, model_type: 'gpt2' }, /^config.json, model_type: expected one of llama, .*, got "gpt2"/],
    [{ ...llama, model_type: 'constructor' }, /model_type: expected one of/],
    [{}, /model_type: expected one of .*, got nothing/],
    [[], /^config.json: expected an object, got an array/],
    [null, /^config.json: expected an object, got null/],
    [rope({ rope_type: 'dynamic', factor: 2 }), /rope_scaling, rope_type: expected one of default, .*, got "dynamic"/],
    [rope({ type: 'mrope', mrope_section: [1, 2] }), /rope_type: expected one of .*, got "mrope"/],
    [{ ...llama, rope_parameters: { rope_type: 3 } }, /rope_parameters, rope_type: expected a string, got 3/],
    [rope({ type: 'linear' }), /rope_scaling, factor: expected a finite number above 0, got nothing/],
    [rope({ type: 'linear', factor: -1 }), /factor: expected a finite number above 0, got -1/],
    [rope({ ...l3, high_freq_factor: 1 }), /high_freq_factor: expected above 1, got 1/],
    [
      rope({ type: 'longrope', short_factor: [1], long_factor: [1] }),
      /short_factor: expected 4 numbers, got an array of 1/,
    ],
    [
      rope({ type: 'longrope', short_factor: [1, 1, 1, 0], long_factor: [] }),
      /short_factor, number 3: expected .* above 0/,
    ],
    [rope('linear'), /rope_scaling: expected an object, got "linear"/],
    [{ ...llama, partial_rotary_factor: 0.5 }, /partial_rotary_factor: expected 1 in this family, got 0.5/],
    [{ ...llama, head_dim: 7 }, /head_dim: expected a head that holds an even number of rotated values, got 7/],
    [
      { ...llama, quantization_config: { quant_method: 'awq' } },
      /quantization_config: expected .* not quantised, got "awq"/,
    ],
    [
      { ...llama, architectures: ['LlamaForSequenceClassification'] },
      /architectures: expected LlamaForCausalLM, got "Llama/,
    ],
    [{ ...llama, hidden_act: 'gelu' }, /hidden_act: expected one of silu, swish, gelu_pytorch_tanh, got "gelu"/],
    [{ ...llama, hidden_act: 'toString' }, /hidden_act: expected one of/],
    [{ ...llama, num_attention_heads: 5 }, /num_key_value_heads: expected a divisor of the 5 heads, got 2/],
    [{ ...llama, hidden_size: 33, head_dim: null }, /hidden_size: expected a multiple of the 4 heads, got 33/],
    [{ ...llama, num_hidden_layers: 1e9 }, /num_hidden_layers: expected at most 1000, got 1000000000/],
    [{ ...llama, num_hidden_layers: 2.5 }, /num_hidden_layers: expected an integer/],
    [{ ...llama, hidden_size: '32' }, /hidden_size: expected an integer .*, got "32"/],
    [{ ...llama, vocab_size: 0 }, /vocab_size: expected an integer at least 1/],
    [{ ...llama, rms_norm_eps: 0 }, /rms_norm_eps: expected a finite number above 0/],
    [{ ...llama, eos_token_id: 'end' }, /eos_token_id: expected an integer/],
    [{ ...llama, tie_word_embeddings: 'yes' }, /tie_word_embeddings: expected a boolean/],
    [{ ...small, model_type: 'gemma2', use_bidirectional_attention: true }, /expected causal attention, got true/],
    [
      { ...small, model_type: 'gemma2', sliding_window: null },
      /sliding_window: expected a window for the sliding layers/,
    ],
    [{ ...small, model_type: 'qwen2', layer_types: ['chunked'] }, /layer_types: expected at least 4 items, got 1/],
    [
      { ...small, model_type: 'qwen2', layer_types: Array(4).fill('chunked') },
      /layer_types: expected full_attention or/,
    ],
    [
      { ...small, model_type: 'qwen2', layer_types: Array(4).fill('sliding_attention') },
      /sliding_window: expected a window/,
    ],
    [
      { ...small, model_type: 'smollm3', no_rope_layers: [1, 1, 2, 1] },
      /no_rope_layers: expected 1 for each layer with RoPE/,
    ],
    [
      { ...small, model_type: 'gemma3_text', rope_parameters: { rope_type: 'default' } },
      /expected parameters for full_attention/,
    ],
  ];
  for (const [config, expected] of cases) {
    assert.throws(
      () => readArchitecture(config),
      (error: Error) => {
        assert.ok(error instanceof TypeError || error instanceof RangeError, String(error));
        assert.match(error.message, expected);
        return true;
      },
    );
  }
});

test('any configuration is read, or rejected with a reason', () => {
  const keys = [
    ...Object.keys(small),
    'rope_scaling',
    'rope_parameters',
    'layer_types',
    'eos_token_id',
    'sliding_window',
  ];
  fc.assert(
    fc.property(fc.constantFrom(...familyNames), fc.constantFrom(...keys), fc.anything(), (model_type, key, value) => {
      try {
        const architecture = readArchitecture({ ...small, model_type, [key]: value });
        for (let layer = 0; layer < architecture.layers.length; layer++) rotaryFrequencies(architecture, layer);
      } catch (error) {
        assert.ok(error instanceof TypeError || error instanceof RangeError, String(error));
        assert.match((error as Error).message, /^config\.json/);
      }
    }),
    { numRuns: 300 },
  );
});
